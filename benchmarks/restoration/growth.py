"""How the cost of restoring grows: time and memory by pixels, batch and threads, beside what the CPU can do at most.

Each cell is measured in a process of its own, so that its peak memory is its own; cells take turns, several rounds of them, and
the median counts. In the same process a large matrix product tells what multiply-accumulates per second are to be had.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from matplotlib.figure import Figure

from dagn_pre import models
from dagn_pre.benchmarks import environment
from dagn_pre.benchmarks.markdown import aligned, facts
from dagn_pre.benchmarks.restoration.cost import peak_resident, scaled
from dagn_pre.benchmarks.restoration.report import panels, save
from dagn_pre.benchmarks.results import Results
from dagn_pre.errors import DagnPreError, UsageError
from dagn_pre.files import write_atomic
from dagn_pre.options import DTYPES, STRIDE, Options
from dagn_pre.pool import cores
from dagn_pre.progress import bar
from dagn_pre.restorer import Restorer

MEGAPIXELS = (0.1, 0.3072, 1.0, 3.0, 6.0, 12.0, 24.0, 50.0)  # 4:3, so 640x480 and 4000x3000 are among them
BATCHES = (1, 4, 16)
THREADS = (1, 2)
ROUNDS = 3
PACKAGES = ("dagn_pre", "torch", "numpy", "openvino", "onnxruntime")
SETTINGS = ("versions", "device", "platform", "cores", "model", "weights", "engine", "dtype")
MIB = 2**20
QUALITY = 10  # told with each image; the pixels are noise, which changes no time
SECONDS = 10.0  # a cell calls the restorer until these have passed
CALLS = 10  # or it has called it so often, warm
PRODUCT = 2048  # side of the matrices
START = 1.0  # what a process costs before it restores, as so many megapixels; for the estimate of the time left alone
PROGRESS = "{desc} {percentage:3.0f}% [{elapsed}, {remaining} left]"
NOTES = (
    "Array to array through the public Restorer, QF known; above 4 megapixels it cuts images into tiles, and on a GPU "
    "images of one size share a batch up to 1 megapixel.",
    "ms: of the whole batch, warm; a call that takes more than {seconds:g} s is measured once and counts cold. GMAC/s: the "
    "multiply-accumulates of the padded image, by ms; what tiles compute twice is not among them.",
    "product: GMAC/s of a {side}x{side} matrix product in the same process, threads and precision; share: of it, median over "
    "rounds.",
    "memory: how far the process's peak resident size grew over what it was before the restorer was loaded, weights and "
    "outputs included, inputs not.",
)


@dataclass(frozen=True)
class Cell:
    """What is measured: so many images of one size, restored in one call by so many threads."""

    height: int
    width: int
    batch: int
    threads: int

    @property
    def megapixels(self) -> float:
        """Of one image."""
        return self.height * self.width / 1e6

    def __str__(self) -> str:
        return f"{self.width}x{self.height}, batch {self.batch}, {self.threads} thread(s)"


def size(megapixels: float) -> tuple[int, int]:
    """Height and width of an image of 4:3 with about so many megapixels."""
    width = round(math.sqrt(megapixels * 1e6 * 4 / 3))
    return round(megapixels * 1e6 / width), width


def cells(megapixels: Sequence[float], batches: Sequence[int], threads: Sequence[int]) -> list[Cell]:
    """Every size alone, the smallest in batches, each with every number of threads."""
    sizes = sorted(map(size, megapixels))
    single = [Cell(*one, 1, count) for count in threads for one in sizes]
    return list(dict.fromkeys([*single, *(Cell(*sizes[0], batch, count) for count in threads for batch in batches)]))


def evaluate(
    output: str | Path,
    model: str | Path = Options.model,
    megapixels: Sequence[float] = MEGAPIXELS,
    batches: Sequence[int] = BATCHES,
    threads: Sequence[int] = THREADS,
    engine: str = "torch",
    dtype: str = "float32",
    rounds: int = ROUNDS,
    overwrite: bool = False,
) -> str:
    """Measure what ``output`` lacks, on the CPU; write results.json with each cell, then growth.md and growth.png.

    Args:
        model: a name, or a checkpoint file.
        megapixels: sizes of images.
        batches: numbers of images of the smallest size in one call.
        threads: numbers of threads.
        engine: of :data:`dagn_pre.engines.ENGINES`.
        dtype: "float32" or "bfloat16".
        rounds: of which medians count.
        overwrite: throw away what ``output`` has of other settings.

    Returns:
        What growth.md holds. A cell that could not be run is a row with its reason.

    Raises:
        UsageError: a number below its least, a dtype, model or engine that this cannot measure, an ``output`` of other
            settings.
        WeightsError: weights that are missing or damaged.
        DagnPreError: not one cell could be run.
    """
    if rounds < 1 or any(number < 1 for number in (*batches, *threads)):
        raise UsageError("numbers of images, threads and rounds must be 1 or more")
    if not megapixels or not threads or min(megapixels) < 0.0001:
        raise UsageError("there must be a number of threads, and an image of at least 0.0001 megapixels")
    if dtype not in ("float32", "bfloat16"):
        raise UsageError(f"dtype must be float32 or bfloat16, not {dtype}")
    options = Options(model, "cpu", max_quality=None, engine=engine, dtype=dtype)
    known = models.get(model)
    if options.needs_file or not known.whole:
        raise UsageError(f"{known.name} takes {'JPEG files' if options.needs_file else 'patches'}, no images of any size")
    surroundings = environment.describe("cpu", PACKAGES)
    del surroundings["threads"]  # a column of the table
    surroundings |= {"cores": cores(), "model": known.name, "weights": models.fingerprint(model)[:16]}
    surroundings |= {"engine": options.resolved_engine(torch.device("cpu")), "dtype": dtype}
    output = Path(output)
    results = Results(output / "results.json", surroundings, SETTINGS, overwrite=overwrite)
    measure(results, cells(megapixels, batches, threads), options, rounds)
    return write(results.content, output)


def measure(results: Results, chosen: Sequence[Cell], options: Options, rounds: int) -> None:
    """Add every round of every cell that ``results`` lacks; a cell that could not be run is tried once."""
    pending = [
        (number, cell)
        for number, cell in itertools.product(range(rounds), chosen)
        if not results.holds(**asdict(cell), round=number)
    ]
    # The bar counts what a turn should cost, so that the time left is not told by the small ones that come first.
    weights = [START + cell.megapixels * cell.batch / cell.threads for _, cell in pending]
    with bar(total=sum(weights), bar_format=PROGRESS, smoothing=0, disable=not pending) as progress:
        for (number, cell), weight in zip(pending, weights):
            progress.set_description(f"round {number + 1}: {cell}")
            if not any(row["reason"] for row in results.content["rows"] if results.same(row, **asdict(cell))):
                results.add(rows=[{**asdict(cell), "megapixels": cell.megapixels, "round": number, **turn(cell, options)}])
            progress.update(weight)


def turn(cell: Cell, options: Options) -> dict:
    """One measurement, in a fresh process: {"ms", "calls", "macs", "gmacs" (per second), "product" (the same of the matrix
    product), "before_bytes", "peak_bytes" (grown by; None where the system does not tell), "reason"}; all but the last None
    where it could not be run."""
    free = free_memory()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            found = pool.submit(restored, cell, options, free).result()
        except BrokenProcessPool:
            reason = "its process was killed, as the system does where memory runs out"
        except (MemoryError, RuntimeError) as error:  # a RuntimeError is what torch makes of it
            told = (str(error).splitlines() or [type(error).__name__])[0]
            reason = f"with {free // MIB} MiB free: {told.rpartition('Allocator: ')[2]}"
        else:
            return {**found, "reason": None}
    empty = dict.fromkeys(("ms", "calls", "macs", "gmacs", "product", "before_bytes", "peak_bytes"))
    return {**empty, "reason": reason}


def free_memory() -> int:
    """Bytes that a process may take without harm to others."""
    return psutil.virtual_memory().available


def restored(cell: Cell, options: Options, free: int) -> dict:
    """Measure a cell in this process."""
    spare_others(free)
    torch.set_num_threads(cell.threads)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (cell.height, cell.width, 3), np.uint8) for _ in range(cell.batch)]
    before, times = peak_resident(), list[float]()
    restorer = Restorer(**asdict(options))
    while not times or (sum(times) < SECONDS and len(times) <= CALLS):
        start = time.perf_counter()
        restorer(images, quality=QUALITY)
        times.append(time.perf_counter() - start)
    after = peak_resident()
    seconds = statistics.median(times[1:] or times)
    height, width = (-(-side // STRIDE) * STRIDE for side in (cell.height, cell.width))
    macs = cell.batch * models.cost(options.model, (height, width))[1]
    return {
        "ms": 1000 * seconds,
        "calls": len(times[1:] or times),
        "macs": macs,
        "gmacs": macs / seconds / 1e9,
        "product": product(DTYPES[options.dtype]) / 1e9,
        "before_bytes": before,
        "peak_bytes": None if before is None or after is None else after - before,
    }


def spare_others(free: int) -> None:
    """Let this process fail rather than others suffer where memory is short: it may take ``free`` bytes more, and the system
    kills it before all others. Linux alone has such means."""
    if sys.platform == "linux":
        import resource

        taken = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData:"))
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        wanted = 1024 * int(taken.split()[1]) + free
        resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
        with contextlib.suppress(OSError):  # not every sandbox lets it be
            Path("/proc/self/oom_score_adj").write_text("1000")


def product(dtype: torch.dtype, side: int = PRODUCT, runs: int = 5) -> float:
    """Multiply-accumulates per second of a matrix product, by the median of its times; one before is not counted."""
    matrix, times = torch.rand(side, side).to(dtype), []
    for _ in range(1 + runs):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return side**3 / statistics.median(times[1:])


def medians(content: dict) -> list[dict]:
    """One row per cell, by threads, size and batch: medians over its rounds, of memory the largest; "share": of the matrix
    product's speed, in the same round."""
    found: dict[Cell, list[dict]] = {}
    for row in content["rows"]:
        found.setdefault(Cell(row["height"], row["width"], row["batch"], row["threads"]), []).append(row)
    rows = []
    for cell in sorted(found, key=lambda cell: (cell.threads, cell.megapixels, cell.batch)):
        known = [row for row in found[cell] if row["reason"] is None]
        values: dict = dict.fromkeys(("ms", "gmacs", "product", "share", "peak_bytes"))
        if known:
            values = {key: statistics.median(row[key] for row in known) for key in ("ms", "gmacs", "product")}
            values["share"] = statistics.median(row["gmacs"] / row["product"] for row in known)
            values["peak_bytes"] = max((row["peak_bytes"] for row in known if row["peak_bytes"] is not None), default=None)
        reason = next((row["reason"] for row in found[cell] if row["reason"]), None)
        about = {"cell": str(cell), **asdict(cell), "megapixels": cell.megapixels}
        rows.append({**about, **values, "rounds": len(known), "reason": reason})
    return rows


def write(content: dict, folder: Path) -> str:
    """Write growth.md and growth.png from what results.json holds; returns the text of the first.

    Raises:
        DagnPreError: not one cell could be run.
    """
    rows = medians(content)
    if all(row["ms"] is None for row in rows):
        raise DagnPreError(f"no cell could be run; the first: {rows[0]['reason']}")
    text = markdown(content)
    write_atomic(folder / "growth.md", (text + "\n").encode())
    save(draw(rows, content["environment"]), folder / "growth.png")
    return text


def markdown(content: dict) -> str:
    """The text of growth.md, without the last line's end."""
    rows = medians(content)
    head = ["image", "megapixels", "batch", "threads", "ms", "ms / megapixel", "GMAC/s", "product", "share (%)", "memory (MiB)"]
    lines = [head]
    for row in rows:
        ms, pixels = row["ms"], row["megapixels"] * row["batch"]
        cells = [f"{row['width']}x{row['height']}", f"{row['megapixels']:.2f}", str(row["batch"]), str(row["threads"])]
        cells += [scaled(ms, 1, 1), "-" if ms is None else f"{ms / pixels:.0f}"]
        cells += [scaled(row["gmacs"], 1, 1), scaled(row["product"], 1, 1), scaled(row["share"], 0.01, 0)]
        lines.append([*cells, scaled(row["peak_bytes"], MIB, 0)])
    notes = [note.format(seconds=SECONDS, side=PRODUCT) for note in NOTES]
    notes.append(f"Medians of {max(row['rounds'] for row in rows)} round(s).")
    notes += [f"Not run: {row['cell']}: {row['reason']}" for row in rows if row["reason"]]
    parts = ["# How cost grows", "\n".join(aligned(lines, numbers_from=1)), "\n".join(f"- {note}" for note in notes)]
    return "\n\n".join([*parts, "## Measured with", "\n".join(facts(content))])


def draw(rows: list[dict], settings: dict) -> Figure:
    """Time and memory of one image by its megapixels, and time per image by batch; dashed: at the matrix product's speed."""
    figure, (time_axis, memory_axis, batch_axis) = panels(3)
    known = [row for row in rows if row["ms"] is not None]
    smallest = min(row["megapixels"] for row in rows)
    for index, count in enumerate(dict.fromkeys(row["threads"] for row in known)):
        style = {"color": f"C{index}", "marker": "o", "label": f"{count} thread{'s' * (count > 1)}"}
        mine = [row for row in known if row["threads"] == count]
        single = [row for row in mine if row["batch"] == 1]
        across = [row["megapixels"] for row in single]
        time_axis.plot(across, [row["ms"] / 1000 for row in single], **style)
        floor = [row["ms"] * row["share"] / 1000 or math.nan for row in single]  # without operations there is none
        time_axis.plot(across, floor, color=style["color"], linestyle="--", linewidth=1)
        memory_axis.plot(across, [(row["peak_bytes"] or math.nan) / MIB for row in single], **style)
        batched = [row for row in mine if row["megapixels"] == smallest]
        batch_axis.plot([row["batch"] for row in batched], [row["ms"] / row["batch"] for row in batched], **style)
    title = f"{settings['model']}, {settings['engine']}, {settings['dtype']}"
    for axis, label in ((time_axis, "s; dashed: matrix product"), (memory_axis, "memory, MiB")):
        axis.set(title=title, xlabel="megapixels", ylabel=label, xscale="log", yscale="log")
    batch_axis.set(title=f"images of {smallest:.2g} megapixels", xlabel="batch", ylabel="ms per image", ylim=(0, None))
    for axis in (time_axis, memory_axis, batch_axis):
        if axis.get_legend_handles_labels()[0]:
            axis.legend()
    return figure
