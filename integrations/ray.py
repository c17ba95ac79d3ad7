"""Whole data sets on a cluster: ``RestoreActor`` for Ray Data and for Hugging Face's ``datasets``, and what ``dagn-pre restore
--cluster`` does with it.

    dataset = ray.data.read_binary_files("s3://bucket/photos", include_paths=True)
    dataset.map_batches(RestoreActor, fn_constructor_kwargs={"format": "png"}, concurrency=8, num_gpus=0.5, batch_size=64)

    datasets.load_dataset("imagefolder", data_dir="photos").map(RestoreActor(), batched=True, batch_size=64)

:func:`restore_dataset` goes from storage to storage. A block of names is what travels to an actor, which reads, restores and
writes its images, and then writes their rows into the manifest: pixels never pass through Ray. Whatever dies, Ray gives its
blocks to others; a block done twice writes the same outputs and the same part of the manifest. A block whose worker died is
taken image by image, so that one that takes its worker along, or too long, becomes a failed row.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import socket
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from tqdm import tqdm

from dagn_pre import models
from dagn_pre.errors import DagnPreError, UsageError, failure, printable
from dagn_pre.integrations.workers import RestoringStep
from dagn_pre.layouts import LAYOUTS, MARK, SAME, Layout, Parquet, Part, Tree, layout_of, suffix_of
from dagn_pre.manifest import FOLDER, Header, Manifest, Row, Rows
from dagn_pre.options import DECISIVE, Options, check_options
from dagn_pre.progress import bar
from dagn_pre.restored_files import InputFile, RestoredFile, restore_each, restore_files
from dagn_pre.restorer import Restorer, restorer_on
from dagn_pre.sources import ImageLike, Source
from dagn_pre.storage import NotThereError, Store

BLOCK = 64  # images that a worker takes at a time
OBJECTS = 256 * 2**20  # bytes of memory for what passes through a cluster of this machine alone: names, not pixels
WAVE = 2048  # blocks that are listed at a time
DEATHS = 2  # of its workers, after which an image is a failed row
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

    Images of one padded size share batches. The weights are loaded once per process, when the first batch comes; until then the
    object is a few hundred bytes. In Ray an actor without a GPU of its own works on the CPU.

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
        hints = [_hint(one) for one in batch[self.quality]] if self.quality in batch else [None] * len(values)
        files: dict[int, bytes] = {}
        results: dict[int, _Result] = {}
        for i, value in enumerate(values):
            try:
                if (data := _file_of(value)) is not None:
                    files[i] = data
            except OSError as error:
                image = NOTHING if self.format is None else value
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
        opening = [(names[i], partial(_opened, given[i], hints[i], names[i], self.checked.strict_files)) for i in others]
        for i, found in zip(others, restore_each(self.restorer(), opening)):
            results[i] = _Result.of(found, given[i])
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
    def of(cls, found: Any, given: Any) -> _Result:
        """Of what :func:`restore_each` gives."""
        if isinstance(found, str):
            return cls(NOTHING if isinstance(given, bytes) else given, "failed", found, None)
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


def _hint(value: Any) -> int | None:
    return None if value is None or value != value or not value else int(value)  # NaN is not itself


def _output(format: str | None, data: bytes) -> str:
    return f"image{suffix_of(data)}" if format == SAME else f"image.{format}"


def _opened(value: ImageLike, hint: int | None, name: str, strict_files: bool) -> Source:
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


# -- from storage to storage ------------------------------------------------------------------------------------------------


@dataclass
class Summary:
    """What a run has done.

    Attributes:
        states: how many images are restored, untouched, failed.
        copied: how many other files were copied.
        skipped: how many files earlier runs had done.
        untouched: how many were left untouched for each reason.
        failures: the first reasons, each of which names its image.
    """

    states: Counter[str] = field(default_factory=Counter)
    copied: int = 0
    skipped: int = 0
    untouched: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class Ledger:
    """What is known of blocks whose workers died; one for a run, as an actor of Ray beside the driver."""

    def __init__(self, deaths: int) -> None:
        self.allowed = deaths
        self.begun: Counter[int] = Counter()
        self.current: dict[int, str] = {}
        self.deaths: Counter[str] = Counter()
        self.verdicts: dict[str, str] = {}

    def begin(self, block: int) -> int:
        """A worker begins a block; how often that has happened, this time included."""
        suspect = self.current.pop(block, None)
        if suspect is not None:
            self.deaths[suspect] += 1
            if self.deaths[suspect] >= self.allowed:
                self.verdicts[suspect] = f"{suspect}: its worker died while restoring it, {self.deaths[suspect]} times"
        self.begun[block] += 1
        return self.begun[block]

    def at(self, block: int, image: str | None) -> str | None:
        """A worker is about to restore an image, alone; why it must not, or None."""
        self.current.pop(block, None)
        if image is not None and image not in self.verdicts:
            self.current[block] = image
        return self.verdicts.get(image or "")

    def too_long(self, block: int, image: str, seconds: float) -> None:
        """An image has taken too long, alone."""
        self.current.pop(block, None)
        self.verdicts[image] = f"{image}: took longer than {seconds:g} s"

    def end(self, block: int) -> None:
        """Its rows are written."""
        self.current.pop(block, None)
        del self.begun[block]


@dataclass(frozen=True)
class Task:
    """What the workers of a run have in common.

    Attributes:
        layout: where from, where to, and how.
        options: of the restorer, by name.
        header: of the manifest's parts.
        run: their name.
        item_timeout: seconds that one image may take; None: any.
    """

    layout: Layout
    options: dict[str, Any]
    header: Header
    run: str
    item_timeout: float | None = None


class BlockActor:
    """Restores blocks of a data set: a callable class for ``map_batches``, from rows ``number``, ``parts`` to what is told."""

    def __init__(self, task: Task, ledger: Any) -> None:
        self.task, self.ledger = task, ledger
        self.manifest = Manifest(task.layout.target.fs, task.layout.target.root)
        options = dict(task.options)
        self.restorer = Restorer(device=device_here(options.pop("device")), **options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Restore one block, or more."""
        told = [self.block(int(number), pickle.loads(parts)) for number, parts in zip(batch["number"], batch["parts"])]
        return {"told": np.array([pickle.dumps(one) for one in told], object)}

    def block(self, number: int, parts: list[Part]) -> Summary:
        """Outputs first, then their rows."""
        task = self.task
        attempt = self._ask("begin", number)
        restoring = partial(self._together, number) if attempt == 1 else partial(self._one_by_one, number)
        if attempt > 1:
            task.layout.remove_temporary(parts)
        rows = task.layout.restore(parts, restoring)
        if rows:
            task.layout.target.kept(FOLDER, self.manifest.write_part, task.run, number, task.header, rows)
        self._ask("end", number)
        return summary_of(rows, sum(not part.is_image for part in parts))

    def _ask(self, method: str, *arguments: Any) -> Any:
        import ray

        return ray.get(getattr(self.ledger, method).remote(*arguments))

    def _together(self, number: int, inputs: Sequence[InputFile]) -> list[RestoredFile]:
        with self._limited(max(1, len(inputs)), lambda seconds: None):
            return restore_files(self.restorer, inputs, self.task.layout.keep_untouched)

    def _one_by_one(self, number: int, inputs: Sequence[InputFile]) -> list[RestoredFile]:
        results = []
        for one in inputs:
            reason = self._ask("at", number, one.name)
            if reason is not None:
                results.append(RestoredFile("failed", None, reason))
                continue
            with self._limited(1, partial(self._ask, "too_long", number, one.name)):
                results += restore_files(self.restorer, [one], self.task.layout.keep_untouched)
        self._ask("at", number, None)
        return results

    @contextlib.contextmanager
    def _limited(self, images: int, expired: Callable[[float], Any]) -> Iterator[None]:
        """End this process, so that Ray starts another, where the body takes longer than so many images may: what hangs in a
        library cannot be ended otherwise."""
        if self.task.item_timeout is None:
            yield
            return
        seconds = self.task.item_timeout

        def end() -> None:
            expired(seconds)
            os._exit(1)

        timer = threading.Timer(images * seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def summary_of(rows: Sequence[Row], copied: int) -> Summary:
    """Of one block."""
    return Summary(
        Counter(row.state for row in rows),
        copied,
        0,
        Counter(row.reason or "" for row in rows if row.state == "untouched"),
        [row.reason or row.source for row in rows if row.state == "failed"],
    )


def restore_dataset(
    source: str | os.PathLike,
    target: str | os.PathLike,
    cluster: str = "auto",
    *,
    layout: str | None = None,
    format: str = "png",
    full_names: bool = False,
    column: str | None = None,
    workers: int | None = None,
    cpus: float = 1,
    gpus: float | None = None,
    block: int = BLOCK,
    item_timeout: float | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Summary:
    """Restore a data set on a cluster of Ray, from storage to storage; what earlier runs have done is left alone.

    Args:
        source: a folder, a shard or a Parquet file: a local path, which all machines must see, or a URL that fsspec knows.
        target: a folder.
        cluster: "local" (this machine alone), "auto" (the cluster that this machine belongs to), or an address: HOST:PORT or
            ray://HOST:PORT. Where ``ray.init`` has been called already, that cluster is taken.
        layout: "tree", "shards" or "parquet"; None: by the suffix of a single file, else a tree.
        format: "png", "webp", "tiff", "jpg", or "same" as each input.
        full_names: a.jpg becomes a.jpg.png, not a.png.
        column: of a Parquet file's images; None is "image".
        workers: actors, each with a model; None: as many as the cluster has room for.
        cpus, gpus: of each; ``gpus`` None: one where the cluster has some and ``device`` is not the CPU, else none.
        block: images that a worker takes at a time.
        item_timeout: seconds that reading its pixels, restoring and encoding may take for one image; None: any.
        overwrite: begin anew, whatever earlier runs did.
        options: of the restorer, as :class:`dagn_pre.options.Options` has them.

    Raises:
        UsageError: no such source or bucket, a cluster that is not there, options that contradict each other or those of an
            earlier run, two inputs of one output.
        DagnPreError: a missing extra, no rights, storage that cannot be reached; what was finished is kept.
    """
    ray = _ray()
    plan = _planned(source, target, layout, format, full_names, column, options)
    check_options(**options)
    for name, value in (("workers", workers), ("block", block), ("item_timeout", item_timeout)):
        if value is not None and not value > 0:
            raise UsageError(f"{name} must be above 0, not {value}")
    manifest = Manifest(plan.target.fs, plan.target.root)
    decides = _decides(plan, options)
    with connected(cluster):
        header, run = Header.now(decides, overwrite), f"{int(time.time())}-{uuid.uuid4().hex[:6]}"
        rows = _begun(plan, manifest, run, header)
        if gpus is None:
            gpus = float(options.get("device", "auto") != "cpu" and ray.cluster_resources().get("GPU", 0) > 0)
        if workers is None:
            room = ray.cluster_resources()
            workers = int(max(1, room.get("GPU", 0) // gpus if gpus else room.get("CPU", 1) // cpus))
        task = Task(plan, {"device": "auto", **options}, header, run, item_timeout)
        total = Summary()
        missing = _missing(plan, rows, total)
        numbered = enumerate(_blocks(missing, block if isinstance(plan, Tree) else 1), 1)
        with bar(unit="image") as shown:
            while wave := list(islice(numbered, WAVE)):
                run_blocks(wave, task, workers, cpus, gpus, lambda one: _add(total, one, shown))
    return total


def _add(total: Summary, one: Summary, shown: tqdm) -> None:
    total.states += one.states
    total.copied += one.copied
    total.untouched += one.untouched
    for reason in one.failures:
        tqdm.write(printable(f"failed: {reason}"), file=sys.stderr)
        if len(total.failures) < 10:
            total.failures.append(reason)
    shown.update(sum(one.states.values()))


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DagnPreError(f'clusters need Ray ({error}): pip install "dagn-pre[ray]"') from error
    return ray


def _planned(
    source: str | os.PathLike,
    target: str | os.PathLike,
    layout: str | None,
    format: str,
    full_names: bool,
    column: str | None,
    options: Mapping[str, Any],
) -> Layout:
    """What lies where; raises UsageError where that cannot be."""
    before, after = Store(source), Store(target)
    for store in (before, after):
        if store.location.startswith("memory://"):
            raise UsageError(f"{store}: the memory of one process, which others do not see; choose another place")
    if before.kind() is None:
        raise UsageError(f"{before}: no such file, folder or bucket")
    if after.kind() == "file":
        raise UsageError(f"{after} is a file; give a folder")
    if before.url() == after.url():
        raise UsageError(f"{before}: input and output are the same folder")
    name = layout_of(before, layout)
    if name not in LAYOUTS:
        raise UsageError(f"layout must be {', '.join(LAYOUTS)}, not {name!r}")
    if column is not None and name != "parquet":
        raise UsageError("a column is of Parquet files: --layout parquet")
    more = {"column": column} if column is not None else {}
    jpeg_only = format == SAME and options.get("restore_lossless") == "never"
    plan = LAYOUTS[name](before, after, format, full_names, jpeg_only, **more)
    plan.check()
    return plan


def _decides(plan: Layout, options: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides what outputs are, for the manifest; of a tree as ``dagn-pre restore`` has it on one machine, so that one
    can go on where the other stopped."""
    checked = asdict(check_options(**options))
    decides: dict[str, Any] = {"command": "restore", "format": plan.format}
    decides |= {name: checked[name] for name in DECISIVE} | {"model": models.fingerprint(checked["model"])}
    if isinstance(decides["side_information"], Path):
        decides["side_information"] = str(decides["side_information"])
    if checked["overlap"] is not None:
        decides["overlap"] = checked["overlap"]
    if not isinstance(plan, Tree):
        decides["layout"] = type(plan).__name__.lower()
    return decides | ({"column": plan.column} if isinstance(plan, Parquet) else {})


def _begun(plan: Layout, manifest: Manifest, run: str, header: Header) -> Rows:
    """Begin a run, in a target of earlier ones or an empty one; the rows that earlier ones have left.

    Raises:
        UsageError: they had other options; it holds files of others.
    """
    target = plan.target
    try:
        if header.overwrite:
            target.kept(FOLDER, manifest.begin_anew, header.options)
        target.kept(FOLDER, manifest.check, header.options)
        if manifest.last is None and any(target.folder()):
            raise UsageError(f"{target}: holds files, and no manifest of an earlier run; give an empty folder, or --overwrite")
        target.kept(FOLDER, manifest.write_part, run, 0, header, [])  # which shows that it can be written to
    except NotThereError as error:
        raise UsageError(f"{target}: no such bucket; make it first") from error
    return manifest.latest()


def _missing(plan: Layout, rows: Rows, total: Summary) -> Iterator[list[Part]]:
    """What no earlier run has done, folder by folder; what one has is counted."""
    containers: dict[str, float | None] = {}
    if not isinstance(plan, Tree):
        containers = {row.source.partition(MARK)[0]: row.modified for row in rows if MARK in row.source}
    for parts in plan.folders():
        if not len(rows):
            yield parts
            continue
        there: dict[str, int] = {}
        for folder in {part.output.rpartition("/")[0] for part in parts}:
            there |= {entry.path: entry.size for entry in plan.target.folder(folder)[1]}
        left = [part for part in parts if not _is_done(part, plan, rows, containers, there)]
        plan.remove_temporary(left)
        total.skipped += len(parts) - len(left)
        yield left


def _is_done(part: Part, plan: Layout, rows: Rows, containers: Mapping[str, float | None], there: Mapping[str, int]) -> bool:
    if part.output not in there:
        return False
    if not part.is_image:
        return there[part.output] == part.entry.size
    url = plan.source.url(part.entry.path)
    if not isinstance(plan, Tree):
        return url in containers and containers[url] == part.entry.modified
    row = rows.get(url)
    return row is not None and row.state != "failed" and (row.bytes, row.modified) == (part.entry.size, part.entry.modified)


def _blocks(folders: Iterator[list[Part]], size: int) -> Iterator[list[Part]]:
    """Blocks of so many images, across folders; of one container each."""
    waiting: list[Part] = []
    for parts in folders:
        for part in parts:
            waiting.append(part)
            if len(waiting) >= size:
                yield waiting
                waiting = []
    if waiting:
        yield waiting


def run_blocks(
    wave: Sequence[tuple[int, list[Part]]],
    task: Task,
    workers: int,
    cpus: float,
    gpus: float,
    told: Callable[[Summary], None],
) -> None:
    """Restore numbered blocks on the cluster that this process has joined; ``told`` gets what each came to, as it ends.

    Raises:
        DagnPreError: what a worker raised, or a cluster that gave up.
    """
    ray = _ray()
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    ledger = ray.remote(Ledger).options(
        num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
    ).remote(DEATHS)  # fmt: skip
    items = [{"number": number, "parts": pickle.dumps(parts)} for number, parts in wave]
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        BlockActor,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(items)), max_tasks_in_flight_per_actor=2),
        fn_constructor_kwargs={"task": task, "ledger": ledger},
        num_cpus=cpus,
        num_gpus=gpus or None,
    )
    try:
        for batch in dataset.iter_batches(batch_size=1, prefetch_batches=0):
            told(pickle.loads(batch["told"][0]))
    except ray.exceptions.RayError as error:
        raise _as_ours(error) from error


def _as_ours(error: BaseException) -> DagnPreError:
    """What a worker raised, or what became of the cluster."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, DagnPreError):
            return type(found)(f"{found}; what was finished is kept: run the same command again")
        found = getattr(found, "cause", None) or found.__cause__
    last = str(error).strip().splitlines()[-1]
    told = f"the cluster gave up ({type(error).__name__}: {last})"
    return DagnPreError(f"{told}; what was finished is kept: run the same command again")


@contextlib.contextmanager
def connected(cluster: str) -> Iterator[None]:
    """Joined to a cluster for as long as the body lasts; to one that this process has joined already, also afterwards.

    Raises:
        UsageError: there is none.
    """
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    remedy = "start one (ray start --head), or --cluster local for this machine alone"
    if cluster not in ("local", "auto"):
        host, _, port = cluster.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, ValueError, OverflowError) as error:
            raise UsageError(f"{cluster}: no cluster of Ray there ({error}): give HOST:PORT, {remedy}") from error
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        if cluster == "local":
            ray.init(address="local", include_dashboard=False, object_store_memory=OBJECTS, **quiet)
        else:
            ray.init(address=cluster, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{cluster}: no cluster of Ray there ({str(error).splitlines()[0]}): {remedy}") from error
    try:
        yield
    finally:
        ray.shutdown()
