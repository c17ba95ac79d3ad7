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

    A bad image raises nothing: its state is failed, the reason says why, and it is as it came; as an array (0, 0, 3).

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
        values = list(batch[column])
        paths = batch[self.path] if self.path in batch else [None] * len(values)
        names = [str(_name_of(value) or path or f"image {i}") for i, (value, path) in enumerate(zip(values, paths))]
        qualities = list(batch[self.quality]) if self.quality in batch else [None] * len(values)
        hints: dict[int, Hint] = {}
        files: dict[int, bytes] = {}
        results: dict[int, _Result] = {}
        for i, value in enumerate(values):
            try:
                hints[i] = _hint(qualities[i])
                if (data := _file_of(value)) is not None:
                    files[i] = data
            except (ImageError, OSError) as error:
                image = NOTHING if self.format is None and _is_file(value) else value
                results[i] = _Result(image, "failed", failure(names[i], error), None)
        given: list[Any] = list(values)
        if self.format is None:
            given = [files.get(i, value) for i, value in enumerate(values)]
            files = {}
        inputs = {i: InputFile(data, names[i], _output(self.format, data), hints[i]) for i, data in files.items()}
        restored = restore_files(self.restorer(), list(inputs.values()), self.format == SAME)
        for (i, one), result in zip(inputs.items(), restored):
            data = one.data if result.data is None else result.data
            image = values[i] | {"bytes": data} if isinstance(values[i], dict) else data
            results[i] = _Result(image, result.state, result.reason, result.quality)
        others = [i for i in range(len(values)) if i not in results]
        opening = [partial(_opened, given[i], hints[i], names[i], self.checked.strict_files) for i in others]
        for i, found in zip(others, restore_each(self.restorer(), opening)):
            results[i] = _Result.of(found, given[i], names[i])
        done = [results[i] for i in range(len(values))]
        target = column if self.format is not None or not any(map(_is_file, values)) else "image"
        return dict(batch) | {target: _column([one.image for one in done])} | _told(done)


@dataclass(frozen=True)
class _Result:
    image: Any
    state: str
    reason: str | None
    quality: Any

    @classmethod
    def of(cls, found: Any, given: Any, name: str) -> _Result:
        """Of what :func:`restore_each` gives."""
        if isinstance(found, Exception):
            return cls(NOTHING if isinstance(given, bytes) else given, "failed", failure(name, found), None)
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


def _file_of(value: Any) -> bytes | None:
    """The bytes of a file, where a value is one; b"" where there should be some. Raises OSError for one that is only named."""
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
        return Path(path).read_bytes() if data is None and path else data or b""
    return b"" if value is None else value if isinstance(value, bytes) else None


def _name_of(value: Any) -> str | None:
    return value.get("path") if isinstance(value, dict) else getattr(value, "filename", None)


def _hint(value: Any) -> Hint:
    """What a row says of its QF; raises ImageError for what is none, since it is one row's fault."""
    try:
        if value is None or value != value or not value:  # NaN is not itself
            return None
        whole = isinstance(value, (float, np.floating)) and value.is_integer()  # where one row has none, all are floats
        return given_quality(int(value) if whole else value)
    except (UsageError, ValueError) as error:  # an array has no truth
        raise ImageError(str(error)) from error


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
