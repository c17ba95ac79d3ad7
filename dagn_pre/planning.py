"""The one place that decides what a restorer does with an image, before any network is loaded."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np

from dagn_pre import __version__, cache, codec
from dagn_pre.errors import ImageError
from dagn_pre.options import Options
from dagn_pre.side_information import adapter as side_information_files
from dagn_pre.side_information.adapter import Adapter, Known
from dagn_pre.side_information.segment import SegmentError
from dagn_pre.sources import Source, as_array

# Options that decide no pixels by themselves: the key has the weights' fingerprint and the symbols that were found.
NOT_IN_KEYS = (
    "model", "side_information", "expect_side_information", "strict_files", "again", "restore_lossless", "cache_dir",
    "cache_size",
)  # fmt: skip

Symbols = tuple[Adapter, np.ndarray]  # side information: its weights, and (rows, columns) uint8


@dataclass(frozen=True)
class Plan:
    """What is to be done with one image.

    Attributes:
        skip: why it is returned as it came; None: it is restored, unless the model's blind estimate of its QF spares it.
        side: the side information that its file holds, decoded.
        key: of the result in a cache; None without one, and for what is skipped.
        notes: what its owner should know, as a warning each.
    """

    skip: str | None = None
    side: Symbols | None = None
    key: str | None = None
    notes: tuple[str, ...] = ()


def skip(source: Source, options: Options) -> str | None:
    """Why an image is returned as it came, by what is known of it now; None: it is not, or the blind estimate is to tell."""
    if options.strength == 0:
        return "strength is 0"
    if source.marked and not options.again:
        return "dagn-pre has restored it before"
    if options.assume_quality is not None:
        return None
    if source.quality is None:
        reason = _lossless(source, options)
        if reason is not None or source.quality is None:
            return reason
    known = source.quality.value
    if options.max_quality is not None and known >= options.max_quality:
        return f"its QF is {known}, and max_quality {options.max_quality}"
    return None


def _lossless(source: Source, options: Options) -> str | None:
    """The same of an image that nothing but its pixels can tell to have been a JPEG, which may tell its QF as well."""
    if options.restore_lossless == "never":
        return "nothing says that it was a JPEG, and restore_lossless is never"
    if options.restore_lossless == "always" or options.max_quality is None or options.refuses_pixels:
        return None
    told = source.evidence
    if told.quality is not None and told.quality < options.max_quality:  # a better one may hide a worse one before it
        source.quality = replace(codec.given_quality(told.quality), source="pixels")
    return None if told.found else told.reason


def plan(source: Source, options: Options, fingerprint: str, known: Callable[[], Known]) -> Plan:
    """What a restorer with these options and weights of that fingerprint is to do; ``known`` gives the weights of side
    information, and is asked where a file seems to have some.

    Raises:
        ImageError: the image has not what the model works on.
    """
    reason = skip(source, options)
    if reason is not None:
        return Plan(reason, notes=source.notes)
    side, notes = side_information(source, options, known)
    kept = None if options.cache_dir is None else key(source, options, fingerprint, side)
    return Plan(None, side, kept, (*source.notes, *notes))


def side_information(
    source: Source, options: Options, known: Callable[[], Known]
) -> tuple[Symbols | None, tuple[str, ...]]:
    """The side information that an image's file holds, decoded, or None; and notes on what cannot be used."""
    if options.side_information is False:
        return None, ()
    found = None
    try:
        if source.opened is None:
            if source.data is not None and side_information_files.may_carry(source.data):
                found = side_information_files.read_for_array(source.data, known(), *source.size)
        elif side_information_files.carries(source.opened):
            found = side_information_files.read(_file(source), known(), *source.size)
    except SegmentError as error:
        return None, (f"{source.name}: {error}; restored without it",)
    if found is None and options.expect_side_information:
        return None, (f"{source.name}: has no side information; restored without it",)
    return found, ()


def _file(source: Source) -> bytes:
    with contextlib.suppress(ImageError):  # the file has changed or gone
        if (data := source.file()) is not None:
            return data
    raise SegmentError("side information in a file that is not at hand, or has changed; give its path")


def key(source: Source, options: Options, fingerprint: str, side: Symbols | None) -> str:
    """What the result is kept under in a cache: all that decides its pixels."""
    device = options.resolved_device()
    decides = {name: value for name, value in asdict(options).items() if name not in NOT_IN_KEYS}
    decides |= {"device": device.type, "dtype": str(options.resolved_dtype(device)), "engine": options.resolved_engine(device)}
    decides |= {"version": __version__, "weights": fingerprint}
    known = source.quality
    decides["known"] = None if known is None else [known.value, known.tables, known.subsampling]
    if side is not None:  # the very symbols: not every file of the same bytes can use them, nor with other weights at hand
        decides["side"] = [side[0].identity.hex(), hashlib.sha256(side[1].tobytes()).hexdigest()]
    if options.needs_file:
        decides["file"] = hashlib.sha256(source.file() or b"").hexdigest()
    return cache.digest(as_array(source.rgb), **decides)
