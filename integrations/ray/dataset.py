"""From storage to storage: what there is to do, block by block, and what earlier runs have done.

A block of names is what travels to an actor: pixels never pass through Ray.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dagn_pre import models
from dagn_pre.errors import UsageError, printable
from dagn_pre.integrations.ray.blocks import Summary, Task
from dagn_pre.integrations.ray.cluster import check_room, connected, ray_data, run_blocks
from dagn_pre.layouts import LAYOUTS, MARK, SAME, Layout, Parquet, Part, Tree, layout_of
from dagn_pre.manifest import FOLDER, Header, Manifest, Rows
from dagn_pre.options import DECISIVE, check_options
from dagn_pre.progress import bar
from dagn_pre.storage import Entry, NotThereError, Store

BLOCK = 64  # images that a worker takes at a time
WAVE = 2048  # blocks that are listed at a time


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
            earlier run, two inputs of one output, an output among the inputs, a worker that fits on no machine.
        DagnPreError: a missing extra, no rights, storage that cannot be reached; what was finished is kept.
    """
    ray = ray_data()
    plan = _planned(source, target, layout, format, full_names, column, options)
    check_options(**options)
    for name, value in (("workers", workers), ("block", block), ("item_timeout", item_timeout)):
        if value is not None and not value > 0:
            raise UsageError(f"{name} must be above 0, not {value}")
    for name, share in (("cpus", cpus), ("gpus", gpus)):
        if share is not None and not (0 <= share <= 1 or float(share).is_integer() and share > 1):
            raise UsageError(f"{name} per worker must be a share from 0 to 1, or a whole number, not {share:g}")
    manifest = Manifest(plan.target)
    decides = _decides(plan, options)
    with connected(cluster):
        room = ray.cluster_resources()
        if gpus is None:
            gpus = float(options.get("device", "auto") != "cpu" and room.get("GPU", 0) > 0)
        check_room([node["Resources"] for node in ray.nodes() if node["Alive"]], cpus, gpus)
        header, run = Header.now(decides, overwrite), f"{int(time.time())}-{uuid.uuid4().hex[:6]}"
        _begin(plan, manifest, run, header)
        if workers is None:
            workers = int(max(1, room.get("GPU", 0) // gpus if gpus else room.get("CPU", 1) // (cpus or 1)))
        task = Task(plan, {"device": "auto", **options}, header, run, item_timeout)
        total = Summary()
        missing = _missing(plan, manifest, total)
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
    if before.place() == after.place():
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


def _begin(plan: Layout, manifest: Manifest, run: str, header: Header) -> None:
    """Begin a run, in a target of earlier ones or an empty one.

    Raises:
        UsageError: they had other options; it holds files of others.
    """
    target = plan.target
    try:
        if header.overwrite:
            manifest.begin_anew(header.options)
        manifest.check(header.options)
        if manifest.last is None and any(target.folder()):
            raise UsageError(f"{target}: holds files, and no manifest of an earlier run; give an empty folder, or --overwrite")
        manifest.write_part(run, 0, header, [])  # which shows that it can be written to
    except NotThereError as error:
        raise UsageError(f"{target}: no such bucket; make it first") from error


def _missing(plan: Layout, manifest: Manifest, total: Summary) -> Iterator[list[Part]]:
    """What no earlier run has done, folder by folder; what one has is counted."""
    rows = manifest.latest()
    containers = _containers(plan, manifest) if len(rows) and not isinstance(plan, Tree) else {}
    for parts in plan.folders():
        if not len(rows):
            yield parts
            continue
        there: dict[str, Entry] = {}
        for folder in {part.output.rpartition("/")[0] for part in parts}:
            there |= {entry.path: entry for entry in plan.target.folder(folder)[1]}
        left = [part for part in parts if not _is_done(part, plan, rows, containers, there)]
        plan.remove_temporary(left)
        total.skipped += len(parts) - len(left)
        yield left


def _containers(plan: Layout, manifest: Manifest) -> dict[str, float | None]:
    """When each container had been written that a run has rows of; the latest run's, which has a row of every image in it."""
    start = len(plan.source.url())  # in what is above it a mark is none
    found: dict[str, tuple[float, float | None]] = {}

    def read() -> None:
        for header, row in manifest.read():
            end = -1 if row is None else row.source.find(MARK, start)
            if row is not None and end >= 0 and header.begun >= found.get(row.source[:end], (0.0,))[0]:
                found[row.source[:end]] = header.begun, row.modified

    manifest.store.kept(FOLDER, read)
    return {container: modified for container, (_, modified) in found.items()}


def _is_done(part: Part, plan: Layout, rows: Rows, containers: Mapping[str, float | None], there: Mapping[str, Entry]) -> bool:
    output = there.get(part.output)
    if output is None:
        return False
    before, after = part.entry.modified, output.modified
    if not part.is_image:  # has no row
        return output.size == part.entry.size and (before is None or after is None or before <= after)
    url = plan.source.url(part.entry.path)
    if not isinstance(plan, Tree):
        return url in containers and containers[url] == before
    row = rows.get(url)
    return row is not None and row.state != "failed" and (row.bytes, row.modified) == (part.entry.size, before)


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
