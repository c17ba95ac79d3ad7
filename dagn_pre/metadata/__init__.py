"""What a picture carries beside its pixels: read from any format, and kept in any other as far as that has a place for it.

============  ============================================================================================================
EXIF          byte for byte but for the orientation, so that maker's notes and odd tags stay; TIFF has tags of its own, which
              take those that describe the picture
ICC profile   unless the colours change kind (CMYK), or it is one of other colours than the picture has
resolution    in dots per inch, where the file tells it, in EXIF also; WebP has it there alone. Without a unit it is the aspect
              of the pixels, which TIFF keeps
XMP           in all formats but BMP
comments      of JPEG, GIF, JPEG 2000 and PNG; PNG, JPEG and TIFF (as its description) hold them
IPTC          JPEG, TIFF and PNG (as the profile that ImageMagick and ExifTool know) hold it
text, gamma   of PNG alone, with the chunks that tell its colours
============  ============================================================================================================

What cannot be read, or has no place, is left out and named. No picture is refused for its metadata.

A restored picture is marked in its XMP with a digest of its pixels (:func:`is_marked`): a mark that other software carries on
to other pixels counts for nothing. BMP has no place for it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from dagn_pre import codec
from dagn_pre.metadata import exif, xmp
from dagn_pre.metadata.marks import digest, is_marked
from dagn_pre.metadata.reading import IPTC_RESOURCE, NAMES, OTHER_PROFILE, READERS, left_turned, orientation, read_more, unread
from dagn_pre.metadata.writing import LESS, joined, save_options, ways_of

__all__ = ["Metadata", "digest", "is_marked", "left_turned", "orientation", "read_more"]


@dataclass(frozen=True)
class Metadata:
    """A picture's metadata, independent of formats; what it has not is None or empty.

    Attributes:
        exif: begins with ``Exif\\0\\0``.
        xmp: the packet.
        icc_profile: as it is.
        dpi: across and down, finite and positive.
        aspect: the same where no unit is known, if pixels are no squares.
        comments: in the file's order.
        iptc: records of IPTC-IIM.
        text: of a PNG, by keyword.
        gamma: of a PNG.
        chunks: of a PNG, those that say its colours, by name: gAMA, cHRM, sRGB, cICP.
        mark: the digest of a restored picture, to be written; what is read from a file is no part of this.
        lost: names of what was there, but cannot be read or does not fit the restored picture.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None
    aspect: tuple[float, float] | None = None
    comments: tuple[bytes, ...] = ()
    iptc: bytes | None = None
    text: dict[str, str] = field(default_factory=dict)
    gamma: float | None = None
    chunks: dict[str, bytes] = field(default_factory=dict)
    mark: str | None = None
    lost: tuple[str, ...] = ()

    @classmethod
    def of(cls, image: Image.Image) -> Metadata:
        """The metadata of an opened image whose pixels have been decoded (a PNG's text may follow them). Never raises."""
        found, lost = {}, ["metadata"] if getattr(image, "bare", False) else []
        for name, read in READERS.items():
            try:
                with codec.hushed():
                    value = read(image)
            except Exception:  # whatever a parser stumbles over
                lost.append(NAMES[name])
            else:
                if value:
                    found[name] = value
        if image.mode == "CMYK" and found.pop("icc_profile", None):
            lost.append(OTHER_PROFILE)
        return cls(**found, lost=(*lost, *unread(image)))

    def upright(self) -> Metadata:
        """That of the same picture once its pixels are turned upright."""
        return replace(self, exif=self.exif and exif.turned(self.exif), xmp=self.xmp and xmp.turned(self.xmp))

    def info(self) -> dict[str | tuple[int, int], Any]:
        """Entries of ``PIL.Image.Image.info``, by the names that Pillow gives them; a PNG's text is left out."""
        named = {name: getattr(self, name) for name in ("exif", "xmp", "icc_profile", "dpi", "aspect", "gamma")}
        named |= {"comment": b"\n".join(self.comments), "photoshop": self.iptc and {IPTC_RESOURCE: self.iptc}}
        return {name: value for name, value in named.items() if value}

    def settings(self, format: str, mode: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """(options for Pillow's ``save`` of a picture of this mode as PNG, JPEG, TIFF, WEBP or BMP, names of what is lost).

        Each part is tried on a picture of one pixel first, since writers refuse some: tags of a wrong type, or too long ones.
        """
        accepted: dict[str, Any] = {}
        lost = list(self.lost)
        with codec.hushed():  # what is lost is named
            for name, ways in ways_of(self, format, mode):
                for number, way in enumerate(ways):
                    try:
                        wanted = joined(accepted, way())
                        Image.new(mode, (1, 1)).save(io.BytesIO(), format, **save_options(wanted))
                    except Exception:
                        continue
                    accepted = wanted
                    if number:
                        lost.append(LESS[name])
                    break
                else:
                    lost.append(name)
            return save_options(accepted), tuple(dict.fromkeys(lost))
