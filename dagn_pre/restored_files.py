"""Whole files through a restorer: bytes of image files in, bytes of restored ones out, in batches that bad ones do not harm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from PIL.Image import Image
from PIL.JpegImagePlugin import JpegImageFile

from dagn_pre import images
from dagn_pre.codec import Quality
from dagn_pre.errors import ImageError, UsageError, failure
from dagn_pre.manifest import State
from dagn_pre.metadata import Metadata, orientation
from dagn_pre.restorer import Outcome, Restorer
from dagn_pre.sources import Hint, Source

Given = TypeVar("Given")


@dataclass(frozen=True)
class InputFile:
    """An image file to be restored.

    Attributes:
        data: its bytes.
        name: what messages call it.
        output: a name whose suffix tells how the restored image is written.
        quality: what the caller knows of its QF; None: its header or its pixels tell.
    """

    data: bytes
    name: str
    output: str
    quality: Hint = None


@dataclass(frozen=True)
class RestoredFile:
    """What became of one.

    Attributes:
        state: restored, untouched or failed.
        data: the bytes of the output; None where it failed.
        reason: why it was left untouched or failed; None where it was restored.
        quality: the QF that was gone by; None where none was known or needed.
        side: whether side information was used.
        lost: names of the metadata that the output's format could not hold.
        notes: what there is to say of it besides.
    """

    state: State
    data: bytes | None
    reason: str | None = None
    quality: Quality | None = None
    side: bool = False
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def restore_files(restorer: Restorer, inputs: Sequence[InputFile], keep_untouched: bool = False) -> list[RestoredFile]:
    """Restore image files; those of one padded size share batches, and a bad one does not take others along.

    Args:
        keep_untouched: give what is not restored with its bytes as they are; otherwise it is written anew, in the kind that a
            restored one would have.

    Raises:
        UsageError: what would be so for every file.
    """
    strict = restorer.options.strict_files
    done = []
    for one, result in zip(inputs, restore_each(restorer, [partial(_open, one, strict) for one in inputs])):
        written = result if isinstance(result, Exception) else attempt(partial(_written, one, *result, keep_untouched))
        if isinstance(written, Exception):
            written = RestoredFile("failed", None, failure(one.name, written))
        done.append(written)
    return done


def restore_each(restorer: Restorer, opening: Sequence[Callable[[], Source]]) -> list[tuple[Source, Outcome] | Exception]:
    """Restore images, each given by what opens it; one that fails gives the reason, and does not take others along.

    Raises:
        UsageError: what would be so for every image.
    """
    opened = [attempt(call) for call in opening]
    found = iter(_outcomes(restorer, [one for one in opened if isinstance(one, Source)]))
    results: list[tuple[Source, Outcome] | Exception] = []
    for one in opened:
        outcome = next(found) if isinstance(one, Source) else one
        results.append((one, outcome) if isinstance(one, Source) and isinstance(outcome, Outcome) else cast(Exception, outcome))
    return results


def attempt(call: Callable[[], Given]) -> Given | Exception:
    """What a call gives, or why it failed; raises UsageError, which would be so for every image."""
    try:
        return call()
    except UsageError:
        raise
    except Exception as error:  # whatever a decoder, a network or a writer runs into
        return error


def _outcomes(restorer: Restorer, sources: list[Source]) -> list[Outcome | Exception]:
    """Restore opened images by one call, or, where that fails for one of them, by one call each."""
    if not sources:
        return []
    done = attempt(lambda: restorer.restore(sources))
    if not isinstance(done, Exception):
        return [*done]
    if len(sources) == 1:
        return [done]
    return [outcome for one in sources for outcome in _outcomes(restorer, [one])]  # or all together, as when memory runs out


def rebuilt(source: Source, outcome: Outcome, output: str | Path) -> tuple[Image, Metadata, bool]:
    """What is written of a file's image: upright, its metadata, and whether it is to be marked as restored. What was left
    untouched gets the kind that a restored one would have.

    Args:
        output: its suffix tells the format.

    Raises:
        ImageError: the format cannot be written, or cannot hold the image.
    """
    assert source.opened is not None and source.pixels is not None  # as of every file
    suffix = Path(output).suffix.lower()
    if suffix not in images.FORMATS:
        raise ImageError(f"{source.name}: {suffix or 'no suffix'} cannot be written; choose another format")
    picture: Any = outcome.image if outcome.restored else source.pixels.rebuild(source.pixels.rgb)
    if "A" in picture.mode and images.FORMATS[suffix] in images.OPAQUE:
        raise ImageError(f"{source.name}: has an alpha channel, which {suffix} cannot hold; choose another format")
    marked = outcome.restored or source.marked
    return images.turned(picture, orientation(source.opened)), Metadata.of(source.opened).upright(), marked


def _open(one: InputFile, strict: bool) -> Source:
    image = images.open_image(one.data, one.name)
    source = Source.of(image, one.quality, name=one.name, strict_files=strict)
    return replace(source, data=one.data) if isinstance(image, JpegImageFile) else source  # for side information


def _written(one: InputFile, source: Source, outcome: Outcome, keep_untouched: bool) -> RestoredFile:
    side, notes = outcome.side is not None, outcome.notes
    told = partial(RestoredFile, reason=outcome.reason, quality=outcome.quality, side=side, notes=notes)
    if not outcome.restored and keep_untouched:
        return told("untouched", one.data)
    picture, metadata, mark = rebuilt(source, outcome, one.output)
    data, lost = images.encode(picture, one.output, metadata, mark)
    return told("restored" if outcome.restored else "untouched", data, lost=lost)
