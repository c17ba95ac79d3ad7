"""JPEG through Pillow's libjpeg-turbo: encode, decode, and the quality factor (QF) that a header's tables stand for.

Arrays are (H, W, 3) uint8 in RGB order, or (H, W) uint8 for grayscale. QF is the IJG scale of 1 (worst) to 100 (best).
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass, field, replace

import numpy as np
import PIL
from PIL import Image, JpegImagePlugin, features

from dagn_pre.errors import ImageError, UsageError

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")  # Pillow's codes 0, 1, 2

# ITU-T T.81, Annex K, Tables K.1 and K.2, row by row: what QF 50 means.
LUMINANCE = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"
)
CHROMINANCE = (
    "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99 " + "99 " * 32
)


@dataclass(frozen=True)
class Quality:
    """A quality factor and where it is from.

    Attributes:
        value: QF, 1..100.
        source: "header" (quantisation tables), "blind" (P_qf on the pixels) or "given" (told by the caller).
        standard: whether the tables are IJG's own for this QF; False for the nearest QF and for blind estimates.
        tables: the file's own, (luminance, chrominance) of 64 steps each, row by row; None where only the QF is known.
        subsampling: of the file's chroma, such as "4:2:0"; None where that is unknown. Neither is compared or shown.
    """

    value: int
    source: str
    standard: bool = False
    tables: tuple[tuple[int, ...], tuple[int, ...]] | None = field(default=None, repr=False, compare=False)
    subsampling: str | None = field(default=None, repr=False, compare=False)


def check_quality(quality: int) -> int:
    """Return ``quality``; raise UsageError unless it is an integer of 1..100."""
    if isinstance(quality, bool) or not isinstance(quality, (int, np.integer)) or not 1 <= quality <= 100:
        raise UsageError(f"quality must be an integer from 1 to 100, not {quality!r}")
    return int(quality)


def check_subsampling(subsampling: str) -> str:
    """Return ``subsampling``; raise UsageError unless it is one of SUBSAMPLINGS."""
    if subsampling not in SUBSAMPLINGS:
        raise UsageError(f"subsampling must be one of {', '.join(SUBSAMPLINGS)}, not {subsampling!r}")
    return subsampling


def encode(image: np.ndarray, quality: int, subsampling: str = "4:2:0", **options) -> bytes:
    """Compress (H, W, 3) RGB or (H, W) gray uint8 to the bytes of a baseline JPEG.

    ``options`` go to Pillow's JPEG writer (``exif``, ``icc_profile``, ``progressive``).

    Raises:
        UsageError: quality or subsampling outside their range.
        ImageError: an array of another shape or type, or without pixels, or larger than JPEG's 65535 pixels a side.
    """
    code = SUBSAMPLINGS.index(check_subsampling(subsampling))
    quality = check_quality(quality)
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ImageError(f"JPEG needs a (H, W, 3) or (H, W) uint8 array, not {image.dtype} of shape {image.shape}")
    if not image.size or max(image.shape[:2]) > 65535:
        raise ImageError(f"JPEG holds 1 to 65535 pixels a side, not {image.shape[1]}x{image.shape[0]}")
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=code, **options)
    return buffer.getvalue()


def encoder() -> str:
    """What :func:`encode` writes with: another version may give other bytes."""
    turbo = features.version_feature("libjpeg_turbo")
    return f"Pillow {PIL.__version__}, libjpeg{f'-turbo {turbo}' if turbo else ' ' + features.version_codec('jpg')}"


def decode(data: bytes) -> np.ndarray:
    """Decode an image file's bytes to (H, W, 3) RGB uint8, pixels as stored (no EXIF rotation).

    Raises:
        ImageError: the bytes are no image Pillow reads, or end too early.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"cannot decode the image: {error}") from error


def compress(image: np.ndarray, quality: int, subsampling: str = "4:2:0") -> np.ndarray:
    """:func:`encode`, then :func:`decode`; grayscale stays (H, W)."""
    decoded = decode(encode(image, quality, subsampling))
    return decoded[..., 0] if image.ndim == 2 else decoded


@functools.lru_cache(maxsize=1)
def standard_tables() -> np.ndarray:
    """IJG's tables for QF 1..100: (100, 2, 64) uint8, luminance and chrominance, row by row, baseline (1..255)."""
    base = np.array([LUMINANCE.split(), CHROMINANCE.split()], dtype=np.int64)
    quality = np.arange(1, 101)[:, None, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return ((base * scale + 50) // 100).clip(1, 255).astype(np.uint8)


def quality_from_tables(tables: dict[int, list[int]] | list[list[int]]) -> Quality:
    """QF of a JPEG's quantisation tables, as ``PIL.Image.Image.quantization`` holds them (row by row).

    IJG's tables give their QF exactly, for each of 1..100; others the QF with the nearest tables (mean absolute difference
    of logarithms) and ``standard=False``. A file with one table (grayscale) is judged by its luminance alone.
    """
    values = list(tables.values()) if isinstance(tables, dict) else list(tables)
    found = np.array(values[:2], dtype=np.int64)
    known = standard_tables()[:, : len(found)].astype(np.int64)
    distance = np.abs(np.log(known) - np.log(found.clip(1))).mean((1, 2))
    nearest = int(distance.argmin())
    both = tuple(tuple(map(int, table)) for table in (found[0], found[-1]))
    return Quality(nearest + 1, "header", bool((known[nearest] == found).all()), both)


def given_quality(quality: int, subsampling: str | None = None) -> Quality:
    """What is known of a JPEG that was written at this QF with IJG's tables; raises UsageError outside 1..100."""
    luminance, chrominance = (tuple(map(int, table)) for table in standard_tables()[check_quality(quality) - 1])
    return Quality(int(quality), "given", True, (luminance, chrominance), subsampling)


def header_quality(image: Image.Image) -> Quality | None:
    """QF from the header of an opened image; None unless it is a JPEG with quantisation tables."""
    tables = getattr(image, "quantization", None)
    return replace(quality_from_tables(tables), subsampling=header_subsampling(image)) if tables else None


def header_subsampling(image: Image.Image) -> str | None:
    """Chroma subsampling of an opened JPEG, such as "4:2:0"; None for grayscale, rare layouts and other formats."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    code = JpegImagePlugin.get_sampling(image)
    return SUBSAMPLINGS[code] if 0 <= code < len(SUBSAMPLINGS) and image.mode != "L" else None
