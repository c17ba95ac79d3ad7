"""JPEG through Pillow's libjpeg-turbo: encode, decode, and the quality factor (QF) that a header's tables stand for.

Arrays are (H, W, 3) uint8 in RGB order, or (H, W) uint8 for grayscale. QF is the IJG scale of 1 (worst) to 100 (best).
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import PIL
from PIL import Image, JpegImagePlugin, UnidentifiedImageError, features

from dagn_pre.errors import ImageError, UsageError

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")  # that can be written; Pillow's codes 0, 1, 2
LARGEST = 65500  # pixels a side: libjpeg's limit, below the format's 65535
# How many luminance samples share a chroma sample, across and down -> the name.
LAYOUTS = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (4, 1): "4:1:1", (1, 2): "4:4:0", (4, 2): "4:1:0"}

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
        source: "header" (quantisation tables), "blind" (P_qf on the pixels), "pixels" (the steps that they show,
            :mod:`dagn_pre.evidence`), "given" (told by the caller) or "restored" (of :data:`RESTORED`).
        standard: whether the tables are IJG's own for this QF; False for the nearest QF and for blind estimates.
        tables: the file's own, (luminance, chrominance) of 64 steps each, row by row; None where only the QF is known.
        subsampling: of the file's chroma, such as "4:2:0"; None where that is unknown.
        distance: of the tables to IJG's for this QF: the mean absolute difference of logarithms, so that 0.1 means steps that
            are 10 % larger or smaller; None without tables. Neither of these three is compared or shown.
    """

    value: int
    source: str
    standard: bool = False
    tables: tuple[tuple[int, ...], tuple[int, ...]] | None = field(default=None, repr=False, compare=False)
    subsampling: str | None = field(default=None, repr=False, compare=False)
    distance: float | None = field(default=None, repr=False, compare=False)


RESTORED = Quality(100, "restored")  # of an image that dagn-pre has restored before: nobody knows its QF, and it needs nothing


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
        ImageError: an array of another shape or type, or without pixels, or larger than the 65500 pixels a side of libjpeg.
    """
    code = SUBSAMPLINGS.index(check_subsampling(subsampling))
    quality = check_quality(quality)
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ImageError(f"JPEG needs a (H, W, 3) or (H, W) uint8 array, not {image.dtype} of shape {image.shape}")
    if not image.size or max(image.shape[:2]) > LARGEST:
        raise ImageError(f"JPEG holds 1 to {LARGEST} pixels a side, not {image.shape[1]}x{image.shape[0]}")
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=code, **options)
    return buffer.getvalue()


def encoder() -> str:
    """What :func:`encode` writes with: another version may give other bytes."""
    turbo = features.version_feature("libjpeg_turbo")
    return f"Pillow {PIL.__version__}, " + (f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {features.version_codec('jpg')}")


HUSH = r"PIL\b(?#while dagn-pre reads)"  # no one else's filter is the same
_hush, _hushing = threading.Lock(), 0
_hushed_filters: Any = []  # a list, which others may replace meanwhile


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Pillow's warnings are ignored while any thread is in here. ``warnings.catch_warnings`` is no help: it puts back what
    another thread has put in."""
    global _hushing, _hushed_filters
    with _hush:
        if not _hushing:
            warnings.filterwarnings("ignore", module=HUSH)
            _hushed_filters = warnings.filters
        _hushing += 1
    try:
        yield
    finally:
        with _hush:
            _hushing -= 1
            if not _hushing:
                now: Any = warnings.filters
                for filters in (_hushed_filters, now):
                    with contextlib.suppress(ValueError):  # not there, or no more
                        filters.remove(("ignore", None, Warning, re.compile(HUSH), 0))


def _hush_anew() -> None:
    """In a forked process, in which the other threads are no more."""
    global _hushing
    _hushing = 0
    _hush.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hush.acquire, after_in_parent=_hush.release, after_in_child=_hush_anew)


@contextlib.contextmanager
def reading(name: str) -> Iterator[None]:
    """The one place where whatever a decoder raises becomes an ImageError: ``name``, and why it cannot be read.

    Decoders raise what their parsers run into, KeyError and struct.error as well as OSError. What they only warn of, broken
    metadata mostly, is no matter here: the picture is read.
    """
    try:
        with hushed():
            yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not an image in a format that Pillow reads") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name}: more pixels than the limit ({error})") from error
    except MemoryError as error:
        raise ImageError(f"{name}: does not fit into memory") from error
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:  # of the system, not of a decoder
            raise ImageError(f"{name}: {error.strerror}") from error
        told = str(error) if isinstance(error, (OSError, SyntaxError, ValueError)) else f"{type(error).__name__}: {error}"
        raise ImageError(f"{name}: damaged or cut short ({told or type(error).__name__})") from error


def decode(data: bytes) -> np.ndarray:
    """Decode an image file's bytes to (H, W, 3) RGB uint8, pixels as stored (no EXIF rotation).

    Raises:
        ImageError: the bytes are no image Pillow reads, or end too early.
    """
    with reading("cannot decode the image"):
        try:
            return _rgb(data)
        except OSError:
            whole = completed(data)
            if whole is None:
                raise
            return _rgb(whole)


def _rgb(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def compress(image: np.ndarray, quality: int, subsampling: str = "4:2:0") -> np.ndarray:
    """:func:`encode`, then :func:`decode`; grayscale stays (H, W)."""
    decoded = decode(encode(image, quality, subsampling))
    return decoded[..., 0] if image.ndim == 2 else decoded


def _scaled_tables(largest: int) -> np.ndarray:
    base = np.array([LUMINANCE.split(), CHROMINANCE.split()], dtype=np.int64)
    quality = np.arange(1, 101)[:, None, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return ((base * scale + 50) // 100).clip(1, largest)


@functools.lru_cache(maxsize=1)
def standard_tables() -> np.ndarray:
    """IJG's tables for QF 1..100: (100, 2, 64) uint8, luminance and chrominance, row by row, baseline (1..255)."""
    return _scaled_tables(255).astype(np.uint8)


@functools.lru_cache(maxsize=1)
def _known_tables() -> np.ndarray:
    """What IJG's tables for QF 1..100 may be: (2, 100, 2, 64) int64, as baseline, and as 16 bits hold them, where the steps of
    low QFs go beyond 255 (``cjpeg`` without ``-baseline``)."""
    return np.stack([_scaled_tables(255), _scaled_tables(32767)])


@functools.lru_cache(maxsize=1)
def _logs_of_known_tables() -> np.ndarray:
    return np.log(_known_tables())


def quality_from_tables(tables: dict[int, list[int]] | list[list[int]]) -> Quality:
    """QF of a JPEG's quantisation tables, luminance first, then chrominance, 64 steps each, row by row.

    IJG's tables give their QF exactly, for each of 1..100; others the QF with the nearest tables (``Quality.distance``) and
    ``standard=False``. A file with one table (grayscale) is judged by its luminance alone.
    """
    values = list(tables.values()) if isinstance(tables, dict) else list(tables)
    found = np.array(values[:2], dtype=np.int64)
    known, logs = (tables[:, :, : len(found)] for tables in (_known_tables(), _logs_of_known_tables()))
    distance = np.abs(logs - np.log(found.clip(1))).mean((2, 3)).min(0)
    nearest = int(distance.argmin())
    standard = bool((known[:, nearest] == found).all((1, 2)).any())
    luminance, chrominance = (tuple(map(int, table)) for table in (found[0], found[-1]))
    return Quality(nearest + 1, "header", standard, (luminance, chrominance), distance=float(distance[nearest]))


def given_quality(quality: int, subsampling: str | None = None) -> Quality:
    """What is known of a JPEG that was written at this QF with IJG's tables; raises UsageError outside 1..100."""
    luminance, chrominance = (tuple(map(int, table)) for table in standard_tables()[check_quality(quality) - 1])
    return Quality(int(quality), "given", True, (luminance, chrominance), subsampling)


def header_quality(image: Image.Image) -> Quality | None:
    """QF from the header of an opened image; None unless it is a JPEG with quantisation tables.

    The tables are those that the first two components use: a file may hold others, in any order.
    """
    tables, layers = getattr(image, "quantization", None), getattr(image, "layer", ())
    used = dict.fromkeys(table for *_, table in layers[:2])  # one where both share it; in the components' order
    if not tables or not used or not all(len(tables.get(table, ())) == 64 for table in used):
        return None
    found = quality_from_tables([tables[table] for table in used])
    return replace(found, subsampling=header_subsampling(image))


def header_subsampling(image: Image.Image) -> str | None:
    """Chroma subsampling of an opened JPEG, such as "4:2:0"; None for grayscale, CMYK, nameless layouts and other formats."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or len(image.layer) != 3:
        return None
    (_, *luminance, _), (_, *blue, _), (_, *red, _) = image.layer
    if blue != red or not all(blue) or any(whole % part for whole, part in zip(luminance, blue)):
        return None
    across, down = (whole // part for whole, part in zip(luminance, blue))
    return LAYOUTS.get((across, down))


# -- the bytes of a JPEG --------------------------------------------------------------------------------------------------

SOI, EOI, SOS, APP0, APP14, APP15, COM, TEM = 0xD8, 0xD9, 0xDA, 0xE0, 0xEE, 0xEF, 0xFE, 0x01
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..SOF15; the others there are DHT, JPG and DAC
PROGRESSIVE = (0xC2, 0xCA)  # Huffman- and arithmetic-coded
DRI = 0xDD
BETWEEN_SCANS = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # markers, but for restarts
RESTARTS = re.compile(rb"\xff[\xd0-\xd7]")
ZEROS = 2  # as many zero bytes may end a scan's data; more are padding, as where the end of a file was never written


@dataclass(frozen=True)
class Segment:
    """One marker segment: where it starts (at its 0xFF) and ends, its marker's second byte, and its data after the length."""

    start: int
    stop: int
    marker: int
    data: bytes

    @property
    def metadata(self) -> bool:
        """APPn and COM: no part of the picture."""
        return APP0 <= self.marker <= APP15 or self.marker == COM


def segments(jpeg: bytes) -> Iterator[Segment]:
    """The marker segments between SOI and the first scan.

    Raises:
        ImageError: no JPEG, or a length that leads out of the file; the message is a reason, to follow a file's name.
    """
    if jpeg[:2] != bytes((0xFF, SOI)):
        raise ImageError("is no JPEG")
    position = 2
    while True:
        start = position
        while jpeg[position : position + 1] == b"\xff":  # fill bytes
            position += 1
        if position == start or position + 3 > len(jpeg):
            raise ImageError("its JPEG header is damaged")
        marker = jpeg[position]
        position += 1
        if marker == SOS:
            return
        if marker in (SOI, EOI, TEM) or 0xD0 <= marker <= 0xD7:
            raise ImageError("its JPEG header is damaged")
        length = int.from_bytes(jpeg[position : position + 2], "big")
        if length < 2 or position + length > len(jpeg):
            raise ImageError("its JPEG header is damaged")
        yield Segment(start, position + length, marker, jpeg[position + 2 : position + length])
        position += length


def end(jpeg: bytes) -> int | None:
    """Where the picture ends, behind its end marker; None where it has none."""
    try:
        position = max((segment.stop for segment in segments(jpeg)), default=2)
    except ImageError:
        return None
    while (found := BETWEEN_SCANS.search(jpeg, position)) is not None:
        position = found.end()
        if jpeg[position - 1] == EOI:
            return position
        position += int.from_bytes(jpeg[position : position + 2], "big")  # a scan's header, or a table
    return None


def unended(jpeg: bytes) -> bool:
    """Whether no end marker follows a header that can be read."""
    if jpeg.endswith(bytes((0xFF, EOI))):
        return False
    try:
        list(segments(jpeg))
    except ImageError:
        return False
    return end(jpeg) is None


def completed(jpeg: bytes) -> bytes | None:
    """A JPEG that lacks nothing but its end marker, with that marker; None for every other file, damaged ones too.

    Nothing of the picture is missing if its scans have all components and restart intervals, and its pixels are the same
    whatever bits follow. Padding is cut off first, since a decoder takes it for data.
    """
    jpeg = jpeg.rstrip(b"\xff")  # half a marker
    bare = jpeg.rstrip(b"\0")
    if len(jpeg) - len(bare) > ZEROS:
        jpeg = bare + b"\0" if bare.endswith(b"\xff") else bare  # 0xFF in data has a zero behind it
    return jpeg + bytes((0xFF, EOI)) if _lacks_nothing(jpeg) else None


def _lacks_nothing(jpeg: bytes) -> bool:
    """Whether a JPEG that ends with its last scan's data has all of the picture."""
    try:
        if not _all_scans(jpeg, list(segments(jpeg))):
            return False
        first, second = (_rgb(jpeg + filler * 64 + b"\xff\xd9") for filler in (b"\x55", b"\xaa"))
    except Exception:  # whatever the decoder says, there is more missing
        return False
    return np.array_equal(first, second)


def _all_scans(jpeg: bytes, header: list[Segment]) -> bool:
    """Whether a JPEG's scans bring each component, a progressive one's all 64 coefficients to their last bit, and have as many
    restart markers as their intervals need."""
    (frame,) = (segment for segment in header if segment.marker in FRAMES)
    height, width = (int.from_bytes(frame.data[start : start + 2], "big") for start in (1, 3))
    samplings = {number: (factors >> 4, factors & 15) for number, factors in zip(frame.data[6::3], frame.data[7::3])}
    missing = {component: set(range(64)) for component in samplings}
    interval = next((int.from_bytes(segment.data, "big") for segment in reversed(header) if segment.marker == DRI), 0)
    position = header[-1].stop
    while (found := BETWEEN_SCANS.search(jpeg, position)) is not None:
        length = int.from_bytes(jpeg[found.end() : found.end() + 2], "big")
        content, position = jpeg[found.end() + 2 : found.end() + length], found.end() + length
        if found[0][1] == DRI:
            interval = int.from_bytes(content, "big")
        if found[0][1] != SOS:
            continue
        following = BETWEEN_SCANS.search(jpeg, position)
        stop = len(jpeg) if following is None else following.start()
        components = content[1 : 1 + 2 * content[0] : 2]
        units = _units(height, width, samplings, components)
        if interval and len(RESTARTS.findall(jpeg, position, stop)) < -(-units // interval) - 1:
            return False
        first, last, bits = content[-3:] if frame.marker in PROGRESSIVE else (0, 63, 0)
        if bits & 15 == 0:
            for component in components:
                missing[component] -= set(range(first, last + 1))
    return not any(missing.values())


def _units(height: int, width: int, samplings: dict[int, tuple[int, int]], components: bytes) -> int:
    """How many units (MCUs) a scan of these components has."""
    across, down = (max(factors) for factors in zip(*samplings.values()))
    if len(components) > 1:
        return -(-width // (8 * across)) * -(-height // (8 * down))
    own_across, own_down = samplings[components[0]]
    return -(-width * own_across // (8 * across)) * -(-height * own_down // (8 * down))
