"""Where the time of ``DAGNRestore.transform`` goes: Python's own profiler around its steps, on image files."""

from __future__ import annotations

import cProfile
import inspect
import pstats
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from mmcv.transforms import LoadImageFromFile

from dagn_pre.benchmarks import environment
from dagn_pre.benchmarks.markdown import aligned
from dagn_pre.defaults import MODEL
from dagn_pre.errors import UsageError
from dagn_pre.inference import Inference
from dagn_pre.integrations.openmmlab import results
from dagn_pre.integrations.openmmlab.restore import DAGNRestore
from dagn_pre.restorer import Restorer
from dagn_pre.sources import Source

TRANSFORM, NETWORK, REST = "DAGNRestore.transform", "network", "rest"
STEPS: dict[str, tuple[Callable, ...]] = {  # none is called by another
    "the file's bytes": (results.source_file,),
    "what file and pixels tell": (Restorer._open, Restorer._planned),
    "pixels to tensor": (Inference.tensor,),
    NETWORK: (Inference.guide, Inference.blind_quality, Inference.tiled),
    "tensor to pixels": (Restorer._to_pixels, Source.result),
}
NOTES = (
    "Times by cProfile, medians over runs; shares of the transform, of the same run. Loading (mmcv's LoadImageFromFile) comes "
    "before it.",
    "What file and pixels tell: QF, side information, whether it was restored before, and of an image without a JPEG's header "
    "whether its pixels show that it was one.",
)


def profile(
    files: Sequence[str | Path], model: str | Path = MODEL, engine: str = "torch", dtype: str = "float32", runs: int = 15
) -> dict:
    """Split the time of the transform on each file, on the CPU; all else is as a config's ``dict(type="DAGNRestore")`` has it.

    Args:
        files: images; a JPEG is told by its header, others by their pixels.
        model, engine, dtype: as of :class:`dagn_pre.options.Options`.
        runs: in turns, of which medians are taken; two before are not counted.

    Returns:
        {"rows": [{"file", "height", "width", "step", "ms", "share"}], "settings", "environment"}: a row for each of
        :data:`STEPS`, for :data:`REST`, all outside the network, :data:`TRANSFORM`, and loading. Share: of the transform, 0..1.

    Raises:
        UsageError: no run, two files of one name, an option of a wrong value, a file that is not restored.
        ImageError, OSError: a file that cannot be read.
    """
    if runs < 1:
        raise UsageError(f"runs must be at least 1, not {runs}")
    paths = [Path(file) for file in files]
    if len({path.name for path in paths}) < len(paths):
        raise UsageError("files of one name cannot be told apart in a table")
    load, restore = LoadImageFromFile(), DAGNRestore(model, engine=engine, dtype=dtype)
    found: dict[Path, list[dict[str, float]]] = {path: [] for path in paths}
    sizes = {}
    for turn in range(2 + runs):
        for path in paths:
            profiler = cProfile.Profile(builtins=False)
            with profiler:
                done = restore.transform(load.transform({"img_path": str(path)}))
            if not done["dagn_restored"]:
                raise UsageError(f"{path}: is not restored, so there is nothing to measure: {done['dagn_reason']}")
            sizes[path] = done["img"].shape[:2]
            if turn > 1:
                found[path].append(split(pstats.Stats(profiler)))
    rows = []
    for path, times in found.items():
        for step in times[0]:
            share = statistics.median(time[step] / time[TRANSFORM] for time in times)
            about = {"file": path.name, "height": sizes[path][0], "width": sizes[path][1]}
            rows.append({**about, "step": step, "ms": 1000 * statistics.median(time[step] for time in times), "share": share})
    settings = {"model": str(model), "engine": restore.restorer().engine, "dtype": dtype, "runs": runs}
    settings["threads"] = torch.get_num_threads()
    return {"rows": rows, "settings": settings, "environment": environment.describe("cpu")}


def split(stats: pstats.Stats) -> dict[str, float]:
    """Seconds of each step in one run."""
    timings = stats.stats  # type: ignore[attr-defined]  # {(file, line, name): (..., own, cumulative seconds, callers)}

    def seconds(function: Callable) -> float:
        code = inspect.unwrap(function).__code__
        timing = timings.get((code.co_filename, code.co_firstlineno, code.co_name))
        return 0.0 if timing is None else timing[3]

    whole = seconds(DAGNRestore.transform)
    steps = {step: sum(map(seconds, functions)) for step, functions in STEPS.items()}
    rest = whole - sum(steps.values())
    outside = {"all outside the network": whole - steps[NETWORK]}
    return {**steps, REST: rest, **outside, TRANSFORM: whole, "loading, before it": seconds(LoadImageFromFile.transform)}


def markdown(found: dict) -> str:
    """The result as a table, a pair of columns for each file."""
    files = list(dict.fromkeys(row["file"] for row in found["rows"]))
    cells = {(row["file"], row["step"]): row for row in found["rows"]}
    lines = [["step", *(text for file in files for text in (f"{file}: ms", "%"))]]
    for step in dict.fromkeys(row["step"] for row in found["rows"]):
        mine = [cells[file, step] for file in files]
        lines.append([step, *(text for row in mine for text in (f"{row['ms']:.2f}", f"{100 * row['share']:.1f}"))])
    settings = found["settings"]
    sizes = ", ".join(f"{row['file']} {row['width']}x{row['height']}" for row in (cells[file, TRANSFORM] for file in files))
    about = f"{settings['model']}, {settings['engine']}, {settings['dtype']}, {found['environment']['device']}, "
    about += f"{settings['threads']} thread(s), {settings['runs']} runs; {sizes}."
    return "\n".join([*aligned(lines, numbers_from=1), "", *(f"- {note}" for note in (about, *NOTES))])
