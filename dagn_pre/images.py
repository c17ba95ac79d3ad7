"""Image files and PIL images, in and out: which kinds work, which are refused by name, and what is kept.

===================  ==================================================================================================
RGB, CMYK, YCbCr     work; CMYK and YCbCr come out as RGB
gray (L, 1)          works; restored as RGB and reduced to its mean again, so no colour appears; PIL "1" comes out as L
alpha (LA, RGBA)     works; alpha is kept for PIL images and by the CLI, left out of the (H, W, 3) array of a path or bytes
palette (P, PA)      works as RGB or RGBA
EXIF orientation     pixels are restored as stored, where JPEG's grid is; arrays and CLI outputs are then turned upright
many frames          refused (animations, multi-page TIFF)
16-bit, float, I     refused: JPEG holds 8 bits, so such an image has never been a JPEG
===================  ==================================================================================================
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from dagn_pre import codec
from dagn_pre.codec import Quality
from dagn_pre.errors import ImageError

MAX_PIXELS = 178_956_970  # where Pillow itself suspects a decompression bomb
SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm"})
JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
WRITABLE_SUFFIXES = (".png", ".webp", ".tif", ".tiff", ".bmp", *JPEG_SUFFIXES)
COLOUR_OF_MODE = {
    "1": "L", "L": "L", "LA": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB"
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What a file says of itself before its pixels are decoded; ``quality`` and ``subsampling`` are None unless it is JPEG."""

    format: str
    width: int
    height: int
    mode: str
    subsampling: str | None
    quality: Quality | None


def label(source: object) -> str:
    return str(source) if isinstance(source, (str, Path)) else "image"


def open_image(source: str | Path | bytes) -> Image.Image:
    """Open a file or its bytes; pixels are decoded on first use.

    Raises:
        ImageError: no such file, empty, no image Pillow knows, or more than MAX_PIXELS; the message names the file.
    """
    name = label(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        if not data:
            raise ImageError(f"{name}: the file is empty")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit follows
            image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise ImageError(f"{name}: not an image in a format that Pillow reads") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, ImageError):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"damaged or cut short ({error})"
        raise ImageError(f"{name}: {reason}") from error
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(f"{name}: {image.width}x{image.height} pixels are more than the limit of {MAX_PIXELS}")
    return image


def find_images(folder: Path) -> list[Path]:
    """Files below ``folder`` whose suffix is an image's, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def header(source: str | Path | bytes) -> Header:
    """Read a file's header; its pixels are not decoded.

    Raises:
        ImageError: as :func:`open_image`.
    """
    image = open_image(source)
    return Header(
        format=image.format or "?",
        width=image.width,
        height=image.height,
        mode=image.mode,
        subsampling=codec.header_subsampling(image),
        quality=codec.header_quality(image),
    )


@dataclass
class Pixels:
    """A PIL image taken apart for a restorer.

    Attributes:
        rgb: (H, W, 3) uint8, as stored.
        colour: the PIL mode to put together again: L, LA, RGB or RGBA.
        alpha: (H, W) uint8, or None.
    """

    rgb: np.ndarray
    colour: str
    alpha: np.ndarray | None

    @classmethod
    def of(cls, image: Image.Image, name: str = "image") -> Pixels:
        """Decode ``image``.

        Raises:
            ImageError: no pixels, a refused mode, or data that ends too early; ``name`` is named.
        """
        if not image.width or not image.height:
            raise ImageError(f"{name}: {image.width}x{image.height} pixels; an image needs at least one")
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # an MPO's other frames are previews
            raise ImageError(f"{name}: has {image.n_frames} frames or pages, which would be lost; split it first")
        colour = COLOUR_OF_MODE.get(image.mode)
        deep = any(";16" in str(argument) for tile in getattr(image, "tile", ()) for argument in tile[3:])
        if colour is None or deep:
            kind = "16 bits per channel" if deep else f"mode {image.mode!r}"
            raise ImageError(f"{name}: {kind} is refused, since a JPEG holds 8 bits; convert to 8-bit gray or RGB first")
        if image.mode == "P" and "transparency" in image.info:
            colour = "RGBA"
        try:
            converted = image.convert(colour)
        except (OSError, SyntaxError, ValueError) as error:
            raise ImageError(f"{name}: damaged or cut short ({error})") from error
        alpha = np.asarray(converted.getchannel("A")) if colour.endswith("A") else None
        return cls(np.asarray(converted.convert("RGB")), colour, alpha)

    def rebuild(self, rgb: np.ndarray) -> Image.Image:
        """Put a restored (H, W, 3) uint8 array back into the original's kind, with its alpha."""
        if self.colour.startswith("L"):
            rebuilt = Image.fromarray(grey(rgb)[..., 0])
        else:
            rebuilt = Image.fromarray(rgb)
        if self.alpha is not None:
            rebuilt.putalpha(Image.fromarray(self.alpha))
        return rebuilt


def writer_options(path: Path) -> dict:
    """Settings for PIL's ``save`` that lose nothing, or, for a JPEG, as little as is sensible."""
    suffix = path.suffix.lower()
    if suffix in JPEG_SUFFIXES:
        return {"quality": 95, "subsampling": 0}
    return {"lossless": True} if suffix == ".webp" else {}


def metadata(image: Image.Image) -> dict:
    """What a restored image keeps beside its pixels: EXIF, resolution, and the ICC profile unless the colours change kind."""
    profile = () if image.mode in ("CMYK", "YCbCr") else ("icc_profile",)
    return {key: image.info[key] for key in ("exif", "dpi", *profile) if image.info.get(key)}


def grey(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> its channel mean, three times."""
    mean = rgb.mean(axis=2).round().astype(np.uint8)
    return np.repeat(mean[..., None], 3, axis=2)


def is_turned(image: Image.Image) -> bool:
    """Whether ``image``'s EXIF orientation says that its pixels are not stored upright."""
    return image.getexif().get(0x0112, 1) in range(2, 9)


def upright(rgb: np.ndarray, image: Image.Image) -> np.ndarray:
    """Turn an array as ``image``'s EXIF orientation says."""
    if not is_turned(image):
        return rgb
    turned = Image.fromarray(rgb)
    turned.getexif()[0x0112] = image.getexif()[0x0112]
    return np.asarray(ImageOps.exif_transpose(turned))
