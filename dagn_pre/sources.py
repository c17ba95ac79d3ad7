"""Images as callers give them, and as they get them back: paths, bytes, PIL images, arrays, tensors."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from dagn_pre import codec, evidence, images
from dagn_pre.codec import RESTORED, Quality
from dagn_pre.errors import ImageError, UsageError
from dagn_pre.evidence import Evidence
from dagn_pre.metadata import Metadata, is_marked, orientation

ImageLike = str | Path | bytes | Image.Image | np.ndarray | Tensor
Images = list[Any] | tuple[Any, ...]  # of ImageLike; a Sequence could be a path or bytes
Hint = int | Quality | None


@dataclass
class Source:
    """One image on its way through a restorer.

    Attributes:
        given: what came in.
        rgb: its pixels, (H, W, 3) uint8 RGB; where a tensor came in (3, H, W), on its own device.
        name: for messages.
        channel_order: "rgb" or "bgr", of arrays and tensors.
        quality: what is known of it.
        marked: whether dagn-pre has restored it before, as its file or the caller says.
        data: bytes of the JPEG that an array or a tensor was decoded from, where the caller has them.
        opened: the file, where there is one.
        pixels: what else the opened file's image holds.
        blind: what the restorer that opened it has read from its pixels, once it was asked.
        turned: the orientation, 1..8, by which an array or a tensor has been turned since its file was decoded; ``rgb`` is
            turned back, as stored, so that the grid of blocks lies as the file has it.
    """

    given: ImageLike
    rgb: np.ndarray | Tensor
    name: str
    channel_order: str
    quality: Quality | None
    marked: bool = False
    data: bytes | None = None
    opened: Image.Image | None = None
    pixels: images.Pixels | None = None
    blind: Quality | None = None
    turned: int = 1

    @classmethod
    def of(
        cls,
        given: ImageLike,
        hint: Hint = None,
        channel_order: str = "rgb",
        data: bytes | None = None,
        name: str | None = None,
        strict_files: bool = False,
    ) -> Source:
        """Open an image; ``hint``, ``channel_order``, ``data`` and ``name`` as of :meth:`dagn_pre.Restorer.restore`.

        Raises:
            ImageError: it cannot be read or is refused.
            UsageError: a hint outside 1..100.
        """
        name = name or own_name(given) or "image"
        known = _hinted(hint, name)
        marked = known == RESTORED
        known = None if marked else known
        if isinstance(given, (np.ndarray, Tensor)):
            rgb, turn = _checked(given, name), 1
            if channel_order == "bgr":
                rgb = rgb.flip(0) if isinstance(rgb, Tensor) else rgb[..., ::-1]
            if data is not None:
                array = rgb.permute(1, 2, 0).cpu().numpy() if isinstance(rgb, Tensor) else rgb
                file = _file(data)
                turn = _turn(file, data, array)
                rgb, array = _turned(rgb, turn, back=True), _turned(array, turn, back=True)
                marked |= images.is_restored(data, array)
                known = _settled(known, _header_quality(file, array))
            return cls(given, rgb, name, channel_order, known, marked, data, turned=turn)
        if isinstance(given, Image.Image):
            opened = given
        elif isinstance(given, (str, Path, bytes)):
            opened = images.open_image(given, name)
        else:
            kinds = "a path, bytes, a PIL image, an array or a tensor"
            raise ImageError(f"{name}: an image must be {kinds}, not {type(given).__name__}")
        with codec.reading(name):
            told = codec.header_quality(opened)
        pixels = images.Pixels.of(opened, name, strict_files)
        marked |= is_marked(opened, pixels.rgb)
        return cls(given, pixels.rgb, name, channel_order, _settled(known, told), marked, None, opened, pixels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, as stored."""
        height, width = self.rgb.shape[1:] if isinstance(self.rgb, Tensor) else self.rgb.shape[:2]
        return height, width

    @property
    def notes(self) -> tuple[str, ...]:
        """What the owner of its file should know."""
        return self.pixels.notes if self.pixels else ()

    @cached_property
    def evidence(self) -> Evidence:
        """Whether its pixels show that they were a JPEG; a tensor's are copied to the CPU."""
        return evidence.of(as_array(self.rgb))

    def file(self) -> bytes | None:
        """The bytes of the JPEG behind the image; None where there is none.

        Raises:
            ImageError: a PIL image that is not, or no longer, what the file holds that it was opened from.
        """
        if self.opened is None or self.data is not None:
            return self.data
        path = self.given if isinstance(self.given, (str, Path)) else getattr(self.given, "filename", None)
        if not isinstance(self.opened, JpegImageFile):
            return None
        if isinstance(self.given, bytes):
            return self.given
        if not path:
            return None
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise ImageError(f"{self.name}: {error.strerror or error}") from error
        if isinstance(self.given, Image.Image) and not np.array_equal(codec.decode(data), self.rgb):
            raise ImageError(
                f"{self.name}: has been changed since it was opened, and this model works on the file; give the path"
            )
        return data

    def reopened(self, model: str, strict_files: bool) -> Source:
        """The same with the pixels that its file holds, as stored, for a model of that name, which decodes the file itself.

        Raises:
            ImageError: it has no JPEG file, or one of another size than the array or tensor that is said to be from it.
        """
        data = self.file()
        found = self if data is None or self.opened is not None else Source.of(data, name=self.name, strict_files=strict_files)
        if data is None or not isinstance(found.opened, JpegImageFile):
            raise ImageError(
                f"{self.name}: model {model!r} works on JPEG files, and there is none; give it the path or the bytes of one"
            )
        if found is not self and self.turned == 1:
            (height, width), size = images.upright_size(found.opened), self.size
            if (height, width) != size:
                raise ImageError(
                    f"{self.name}: model {model!r} decodes the file itself, and upright it is {width}x{height}, "
                    f"not {size[1]}x{size[0]} as loaded"
                )
        return replace(self, rgb=found.rgb, opened=found.opened, pixels=found.pixels, data=data)

    def result(self, restored: Tensor | None) -> ImageLike:
        """What the caller gets: as it came in, with ``restored`` pixels, (3, H, W) uint8 RGB; None for untouched."""
        as_given = isinstance(self.given, (np.ndarray, Tensor, Image.Image))
        if restored is None:
            return self.given if as_given else copied(self._upright(self.rgb))  # which may be read-only
        if isinstance(self.given, Image.Image):
            assert self.pixels is not None  # as of every file
            rebuilt = self.pixels.rebuild(as_array(restored))
            rebuilt.info = Metadata.of(self.given).info()
            return rebuilt
        if isinstance(self.given, Tensor):  # its pixels never leave the device that restored them
            # Copied, since autograd refuses what was made in inference mode.
            restored = _turned(restored.to(self.given.device), self.turned)
            return restored.flip(0) if self.channel_order == "bgr" else restored.clone()
        rgb = self._upright(restored)
        if isinstance(self.given, np.ndarray) and self.channel_order == "bgr":
            return copied(rgb[..., ::-1])
        return rgb

    def _upright(self, rgb: np.ndarray | Tensor) -> np.ndarray:
        """A file's or an array's pixels as they are given back."""
        turn = self.turned if self.opened is None or isinstance(self.given, np.ndarray) else orientation(self.opened)
        return as_array(_turned(rgb, turn))


def own_name(given: object) -> str | None:
    """What an image is called by where nobody names it: its path; None where it has none."""
    path = given if isinstance(given, (str, Path)) else getattr(given, "filename", None)
    return str(path) if path else None


def told_by(data: bytes, rgb: np.ndarray) -> Quality | None:
    """What a file of any kind tells of pixels that were decoded from it, (H, W, 3) uint8 RGB: :data:`dagn_pre.codec.RESTORED`
    where dagn-pre made it, else a JPEG's header; None where it tells nothing, or is of another size. Never raises."""
    return RESTORED if images.is_restored(data, rgb) else _header_quality(_file(data), rgb)


def _file(data: bytes) -> Image.Image | None:
    with contextlib.suppress(ImageError):  # damaged, or of no format that is read: the pixels may be from elsewhere
        return images.open_image(data)
    return None


def _header_quality(file: Image.Image | None, rgb: np.ndarray) -> Quality | None:
    if file is not None and sorted(file.size) == sorted(rgb.shape[:2]):  # EXIF may have turned the pixels
        with contextlib.suppress(ImageError), codec.reading("image"):
            return codec.header_quality(file)
    return None


def _turn(file: Image.Image | None, data: bytes, rgb: np.ndarray) -> int:
    """The orientation, 1..8, by which pixels that were decoded from a file, (H, W, 3) uint8 RGB, have been turned since; 1
    where they are as stored. Never raises."""
    turn = 1 if file is None else orientation(file)
    if file is None or turn == 1 or images.upright_size(file) != rgb.shape[:2]:
        return 1
    if (file.height, file.width) != rgb.shape[:2]:
        return turn
    try:
        decoded = codec.decode(data).astype(np.int16)  # by its size it may be either
    except ImageError:  # damaged: the pixels may be from elsewhere
        return 1
    return turn if np.abs(_turned(decoded, turn) - rgb).sum() <= np.abs(decoded - rgb).sum() else 1


def _turned(rgb: Any, orientation: int, back: bool = False) -> Any:
    """An (H, W, 3) array or a (3, H, W) tensor upright, where 1..8 is the orientation it is stored in; or ``back``. A view."""
    if orientation == 1:
        return rgb
    rows, columns = (1, 2) if isinstance(rgb, Tensor) else (0, 1)
    flipped = [axis for axis, turns in ((rows, (3, 4, 7, 8)), (columns, (2, 3, 6, 7))) if orientation in turns]
    if orientation >= 5 and not back:
        rgb = rgb.swapaxes(rows, columns)
    rgb = rgb.flip(flipped) if isinstance(rgb, Tensor) else np.flip(rgb, flipped)
    return rgb.swapaxes(rows, columns) if orientation >= 5 and back else rgb


def as_array(rgb: np.ndarray | Tensor) -> np.ndarray:
    """(3, H, W) uint8 tensor, or (H, W, 3) uint8 array -> such an array, contiguous."""
    return np.ascontiguousarray(rgb.permute(1, 2, 0).cpu().numpy() if isinstance(rgb, Tensor) else rgb)


def copied(rgb: np.ndarray) -> np.ndarray:
    """A contiguous, writable copy of (H, W, 3) pixels. A view of reversed channels is copied by channel: NumPy would go through
    it value by value, which takes five times as long."""
    if rgb.flags.c_contiguous:
        return rgb.copy()
    copy = np.empty(rgb.shape, rgb.dtype)
    for channel in range(rgb.shape[2]):
        copy[..., channel] = rgb[..., channel]
    return copy


def _settled(hint: Quality | None, told: Quality | None) -> Quality | None:
    """A hint knows better how good the image is, the file how it was written."""
    if hint is None or told is None:
        return hint or told
    return replace(hint, tables=told.tables, subsampling=told.subsampling)


def _hinted(hint: Hint, name: str) -> Quality | None:
    """What the caller knows; raises UsageError for a QF outside 1..100."""
    try:
        if isinstance(hint, Quality):
            codec.check_quality(hint.value)
            return hint
        return None if hint is None else codec.given_quality(hint)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error


def _checked(image: np.ndarray | Tensor, name: str) -> np.ndarray | Tensor:
    if isinstance(image, Tensor):
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or not image.numel():
            found = f"{image.dtype} of shape {tuple(image.shape)}"
            raise ImageError(f"{name}: a tensor must be (3, H, W) uint8 with pixels, not {found}")
        if image.layout != torch.strided or image.is_meta:
            kind = "one on the device meta, which has none" if image.is_meta else image.layout
            raise ImageError(f"{name}: a tensor must be dense, its pixels in memory, not {kind}")
    elif image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ImageError(f"{name}: an array must be (H, W, 3) uint8 with pixels, not {image.dtype} of shape {image.shape}")
    return image
