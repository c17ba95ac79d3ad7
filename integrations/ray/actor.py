"""``RestoreActor``: the images of a batch of Ray Data or of Hugging Face's ``datasets``, in columns."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from dagn_pre.codec import given_quality
from dagn_pre.errors import ImageError, UsageError, failure
from dagn_pre.integrations.workers import RestoringStep
from dagn_pre.layouts import SAME, suffix_of
from dagn_pre.options import Options
from dagn_pre.restored_files import InputFile, restore_each, restore_files
from dagn_pre.restorer import Restorer, restorer_on
from dagn_pre.sources import Hint, ImageLike, Source

ADDED = ("dagn_state", "dagn_restored", "dagn_reason", "dagn_quality", "dagn_quality_source")
NOTHING = np.zeros((0, 0, 3), np.uint8)  # in the place of an array that there is none of


class RestoreActor(RestoringStep):
    """Restore the images of a batch, given and returned as columns: a callable class for Ray Data's ``Dataset.map_batches``, an
    object for ``Dataset.map(..., batched=True)`` of ``datasets``.

    Columns in, by name: ``bytes`` (files) or ``image`` (PIL images, (H, W, 3) uint8 RGB arrays, files' bytes, or
    ``{"bytes", "path"}``, of which one may be None); if they are there, ``quality`` (what is known of the QF: 1..100, or
    nothing) and ``path`` (for messages).

    Columns out: all that came in; the images are restored, or as they came where that is not needed. Files become arrays in
    ``image``, upright, or with ``format`` files again, where they came from. Added are ``dagn_state`` (restored, untouched or
    failed), ``dagn_restored`` (bool), ``dagn_reason`` (why not; "" where it was), ``dagn_quality`` (the QF that was gone by; 0
    where none was known or needed) and ``dagn_quality_source`` (as the source of :class:`dagn_pre.codec.Quality`, or "").

    A bad image raises nothing: its state is failed, the reason says why, and it is as it came; a file among those that become
    arrays as one of (0, 0, 3). None stays None, but among such files.

    On a GPU images of one padded size share batches. The weights are loaded once per process, when the first batch comes;
    until then the object is a few hundred bytes. In Ray an actor without a GPU of its own works on the CPU.

    Args:
        model: as :class:`dagn_pre.options.Options` has it.
        format: of files' outputs: None (arrays), "png", "webp", "tiff", "jpg", or "same" as the input (JPEGs at QF 95), then
            with untouched ones byte for byte.
        column: of the images; None: ``bytes`` where there is one, else ``image``.
        quality, path: names of these columns.
        options: all others of :class:`dagn_pre.options.Options`; ``device`` is "auto" unless given.

    Raises:
        UsageError: an option outside its range or of another name, an unknown model (at construction); no such column.
    """

    def __init__(
        self,
        model: str | Path = Options.model,
        format: str | None = None,
        column: str | None = None,
        quality: str = "quality",
        path: str = "path",
        **options: Any,
    ) -> None:
        if format not in (None, SAME, "png", "webp", "tiff", "jpg"):
            raise UsageError(f"format must be png, webp, tiff, jpg, same or None, not {format!r}")
        self.format, self.column, self.quality, self.path = format, column, quality, path
        self.set_options(model, {"device": "auto", **options})

    def restorer(self) -> Restorer:
        """The one of this process."""
        return restorer_on(device_here(self.checked.device), self.checked)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Restore a batch; each column is an array or a list."""
        column = self.column or ("bytes" if "bytes" in batch else "image")
        if column not in batch:
            raise UsageError(f"no column {column!r} with images; there are {', '.join(batch)}: name it by column=")
        values: list[Any] = [bytes(value) if isinstance(value, (bytearray, memoryview)) else value for value in batch[column]]
        paths = batch[self.path] if self.path in batch else [None] * len(values)
        names = [_name_of(value, path) or f"image {i}" for i, (value, path) in enumerate(zip(values, paths, strict=True))]
        qualities = list(batch[self.quality]) if self.quality in batch else [None] * len(values)
        hints: dict[int, Hint] = {}
        files: dict[int, bytes] = {}
        results: dict[int, _Result] = {}
        become_arrays = self.format is None and _are_files(values, column == "bytes" or not isinstance(batch[column], list))
        bad = [NOTHING if become_arrays and _is_file(value) else value for value in values]
        for i, (value, quality) in enumerate(zip(values, qualities, strict=True)):
            try:
                hints[i] = _hint(quality, names[i])
                if (data := _file_of(value)) is not None:
                    files[i] = data
            except Exception as error:  # of whatever lies in a table
                results[i] = _Result(bad[i], "failed", failure(names[i], error), None)
        given: list[Any] = list(values)
        if self.format is None:
            given = [files.get(i, value) for i, value in enumerate(values)]
            files = {}
        inputs = {i: InputFile(data, names[i], _output(self.format, data), hints[i]) for i, data in files.items()}
        restored = restore_files(self.restorer(), list(inputs.values()), self.format == SAME)
        for i, result in zip(inputs, restored):
            image = values[i] | {"bytes": result.data} if isinstance(values[i], dict) else result.data
            results[i] = _Result(bad[i] if result.data is None else image, result.state, result.reason, result.quality)
        others = [i for i in range(len(values)) if i not in results]
        opening = [partial(_opened, given[i], hints[i], names[i], self.checked.strict_files) for i in others]
        for i, found in zip(others, restore_each(self.restorer(), opening)):
            results[i] = _Result.of(found, bad[i], names[i])
        done = [results[i] for i in range(len(values))]
        target = "image" if become_arrays else column
        return dict(batch) | {target: _column([one.image for one in done])} | _told(done)


@dataclass(frozen=True)
class _Result:
    image: Any
    state: str
    reason: str | None
    quality: Any

    @classmethod
    def of(cls, found: Any, bad: Any, name: str) -> _Result:
        """Of what :func:`restore_each` gives; ``bad`` is what a failed image becomes."""
        if isinstance(found, Exception):
            return cls(bad, "failed", failure(name, found), None)
        _, outcome = found
        return cls(outcome.image, "restored" if outcome.restored else "untouched", outcome.reason, outcome.quality)


def _told(done: Sequence[_Result]) -> dict[str, np.ndarray]:
    columns = (
        np.array([one.state for one in done], object),
        np.array([one.state == "restored" for one in done], bool),
        np.array([one.reason or "" for one in done], object),
        np.array([one.quality.value if one.quality else 0 for one in done], np.int32),
        np.array([one.quality.source if one.quality else "" for one in done], object),
    )
    return dict(zip(ADDED, columns))


def _column(images: list[Any]) -> Any:
    """As Ray takes them: of arrays an array of objects, since their shapes differ."""
    if any(isinstance(one, PIL.Image.Image) for one in images):
        return images
    column = np.empty(len(images), object)
    for i, image in enumerate(images):
        column[i] = image
    return column


def _is_file(value: Any) -> bool:
    return isinstance(value, (bytes, dict)) or value is None


def _are_files(values: Sequence[Any], otherwise: bool) -> bool:
    """Whether a column holds files, rather than pictures or arrays; ``otherwise``: what is said where it holds nothing."""
    some = [value for value in values if value is not None]
    return any(map(_is_file, some)) if some else otherwise


def _file_of(value: Any) -> bytes | None:
    """The bytes of a file, where a value is one; b"" where there should be some. Raises OSError for one that is only named."""
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
        if data is None:
            return Path(path).read_bytes() if path else b""
        return data if isinstance(data, bytes) else memoryview(data).tobytes()
    return b"" if value is None else value if isinstance(value, bytes) else None


def _name_of(value: Any, path: Any) -> str | None:
    """What messages call an image: what it says itself, else its row's path."""
    own = value.get("path") if isinstance(value, dict) else getattr(value, "filename", None)
    return next((str(one) for one in (own, path) if not _is_nothing(one) and str(one)), None)


def _is_nothing(value: Any) -> bool:
    """Whether a cell is empty: None, NaN, or pandas' NA, which has no truth."""
    return value is None or type(value).__name__ == "NAType" or isinstance(value, (float, np.floating)) and np.isnan(value)


def _hint(value: Any, name: str) -> Hint:
    """What a row says of its QF; raises ImageError for what is none, since it is one row's fault."""
    try:
        if _is_nothing(value) or not value:
            return None
        whole = isinstance(value, (float, np.floating)) and value.is_integer()  # where one row has none, all are floats
        return given_quality(int(value) if whole else value)
    except (UsageError, ValueError) as error:  # an array has no truth
        raise ImageError(f"{name}: {error}") from error


def _output(format: str | None, data: bytes) -> str:
    return f"image{suffix_of(data)}" if format == SAME else f"image.{format}"


def _opened(value: ImageLike, hint: Hint, name: str, strict_files: bool) -> Source:
    image = np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value
    return Source.of(image, hint, name=name, strict_files=strict_files)


def device_here(device: str) -> str:
    """``device`` as this process may use it: in an actor of Ray that was given no GPU, "auto" is "cpu"."""
    if device != "auto":
        return device
    with contextlib.suppress(ImportError):
        import ray

        if ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.WORKER_MODE:
            return device if ray.get_gpu_ids() else "cpu"
    return device
