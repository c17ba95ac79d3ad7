"""What a network costs: the paper's Table III for the models of this package, with the peers' figures as printed there."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import nn

from dagn_pre import codec, models
from dagn_pre.benchmarks import environment
from dagn_pre.benchmarks.markdown import aligned
from dagn_pre.errors import UsageError
from dagn_pre.networks.config import NetworkConfig
from dagn_pre.networks.fold import fold_batch_norm
from dagn_pre.options import STRIDE, Options
from dagn_pre.protocol import ImageInformation

SIDES = (256, 512)
RUNS = 7
PUBLISHED = (  # Table III at 512x512: million parameters, GMAC as thop counts, milliseconds
    ("DMCNN", 4.7, 687.1, 31.3),
    ("IPT", 114.2, 70243.5, 5413.7),
    ("SwinIR", 11.5, 50768.5, 3643.4),
    ("QGAC", 0.0, 249.9, 113.1),  # printed so
    ("FBCNN", 71.9, 728.9, 13.0),
    ("DAGN", 109.9, 952.8, 29.7),
)
NOTES = (
    "thop: multiply-accumulates as `thop` 0.1.1 counts them, with batch norm, which is what the paper's column holds.",
    "GMAC: multiply-accumulates of convolutions and matrix products, batch norm folded.",
    "ms: one image, network alone, warm and synchronised, median; ratio: to the first model's, median over rounds.",
    "memory: peak of weights and activations together; on the CPU how far the process's peak resident size grew.",
    "*: quoted from Table III of Ma et al., TIP 2024 (Tesla P100), not measured here. Its milliseconds cannot be had from "
    "such a GPU at its operations and say little.",
)


def measure(
    chosen: Sequence[str | Path], sides: Sequence[int] = SIDES, device: str = "auto", dtype: str = "auto", runs: int = RUNS
) -> list[dict]:
    """One row per model and side, then the published ones.

    Models need no weights for this: where the file is missing, the registered shape is measured with random ones.

    Args:
        chosen: models' names or checkpoint files.
        sides: of the square images, in pixels; multiples of 16.
        device, dtype: as of :class:`dagn_pre.restorer.Restorer`.
        runs: timed calls of each, in turns, of which the median counts.

    Returns:
        rows {"method", "side", "parameters", "thop_macs" (None without thop), "macs", "ms", "ratio" (to the first model's),
        "peak_bytes" (None where the system does not tell), "device", "threads", "dtype", "quoted"}; None for what the paper
        does not print.

    Raises:
        UsageError: an unknown model, one that takes no whole images, a side that is no multiple of 16, no run, a
            device or dtype that is not there.
        WeightsError: a given file that is missing or damaged.
    """
    for side in sides:
        if side < STRIDE or side % STRIDE:
            raise UsageError(f"side must be a multiple of {STRIDE}, not {side}")
    if runs < 1:
        raise UsageError(f"runs must be at least 1, not {runs}")
    known = [models.get(model) for model in chosen]
    for one in known:
        if not one.whole:
            raise UsageError(f"{one.name} takes patches, no whole images, so its cost at a size cannot be measured")
    options = [Options(model, device, dtype=dtype) for model in chosen]
    place = options[0].resolved_device()
    precision = options[0].resolved_dtype(place)
    surroundings = {"device": environment.describe(place.type, ())["device"], "threads": torch.get_num_threads()}
    surroundings |= {"dtype": str(precision).removeprefix("torch."), "quoted": False}
    rows = []
    for side in sides:
        times = rounds(chosen, side, place, precision, runs)
        for model, one, own in zip(chosen, known, times):
            parameters, macs = models.cost(model, side)
            counted = {"parameters": parameters, "thop_macs": models.thop_macs(model, side), "macs": macs}
            ratio = statistics.median(mine / first for mine, first in zip(own, times[0]))
            timed = {"ms": round(statistics.median(own), 2), "ratio": round(ratio, 3)}
            memory = {"peak_bytes": peak_bytes(model, side, place, precision)}
            rows.append({"method": one.name, "side": side, **counted, **timed, **memory, **surroundings})
    rows.sort(key=lambda row: [one.name for one in known].index(row["method"]))
    empty = dict.fromkeys(rows[0]) | {"side": 512, "device": "Tesla P100-SXM2-16 GB", "quoted": True}
    for name, millions, thop, ms in PUBLISHED:
        rows.append({**empty, "method": name, "parameters": millions * 1e6, "thop_macs": thop * 1e9, "ms": ms})
    return rows


def build(model: str | Path | NetworkConfig, side: int, device: torch.device) -> tuple[nn.Module, tuple]:
    """The network as the restorer runs it, with random weights, and its arguments: an image and, where it needs one, a file."""
    network = fold_batch_norm(models.network(model))
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    image = (torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255).to(device, memory_format=torch.channels_last)
    if getattr(network, "needs", None) != "file":
        return network, (image,)
    return network, (image, [ImageInformation(codec.given_quality(50), data=codec.encode(pixels, 50))])


@torch.inference_mode()
def forward(network: nn.Module, arguments: tuple, dtype: torch.dtype) -> None:
    """One call, complete on return."""
    device = arguments[0].device
    full = dtype == torch.float32 or not getattr(network, "autocast", True)
    with contextlib.nullcontext() if full else torch.autocast(device.type, dtype):
        network(*arguments)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rounds(
    chosen: Sequence[str | Path], side: int, device: torch.device, dtype: torch.dtype, runs: int
) -> list[list[float]]:
    """Milliseconds of one image, ``runs`` times for each model; they take turns, so that what slows the machine for a while
    slows them all. One turn before is not counted."""
    built = [build(model, side, device) for model in chosen]
    times: list[list[float]] = [[] for _ in built]
    for _ in range(1 + runs):
        for (network, arguments), own in zip(built, times):
            start = time.perf_counter()
            forward(network, arguments, dtype)
            own.append(1000 * (time.perf_counter() - start))
    return [own[1:] for own in times]


def peak_bytes(model: str | Path | NetworkConfig, side: int, device: torch.device, dtype: torch.dtype) -> int | None:
    """Peak memory of building the network and restoring one image; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        forward(*build(model, side, device), dtype)
        return torch.cuda.max_memory_allocated(device) - before
    # A fresh process: this one's peak lies behind it.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(grown, model, side, dtype, torch.get_num_threads()).result()


def grown(model: str | Path | NetworkConfig, side: int, dtype: torch.dtype, threads: int) -> int | None:
    """By how many bytes the peak of this process's resident memory grows."""
    torch.set_num_threads(threads)
    before = peak_resident()
    forward(*build(model, side, torch.device("cpu")), dtype)
    after = peak_resident()
    return None if before is None or after is None else after - before


def peak_resident() -> int | None:
    """Peak resident memory of this process in bytes, as Linux tells it; not getrusage's, which starts at the parent's."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), None)


def markdown(rows: list[dict]) -> str:
    """The rows as a table, laid out like Table III."""
    lines = [["Method", "image", "on", "parameters (M)", "thop (G)", "GMAC", "ms", "ratio", "memory (MB)"]]
    for row in rows:
        about = row["device"] if row["quoted"] else f"{row['device']}, {row['threads']} threads, {row['dtype']}"
        cells = [scaled(row["parameters"], 1e6, 1 if row["quoted"] else 2), scaled(row["thop_macs"], 1e9, 1)]
        cells += [scaled(row["macs"], 1e9, 1), scaled(row["ms"], 1, 1), scaled(row["ratio"], 1, 2)]
        cells += [scaled(row["peak_bytes"], 1e6, 0)]
        lines.append([row["method"] + "*" * row["quoted"], f"{row['side']}x{row['side']}", about, *cells])
    notes = list(NOTES)
    if any(row["thop_macs"] is None for row in rows if not row["quoted"]):
        missing = importlib.util.find_spec("thop") is None
        notes.append(
            "thop is not installed: pip install thop fills its column."
            if missing
            else "thop: - where there is nothing to count, or where it leaves out most of it (attention)."
        )
    return "\n".join([*aligned(lines, numbers_from=3), "", *(f"- {note}" for note in notes)])


def scaled(value: float | None, unit: float, decimals: int) -> str:
    return "-" if value is None else f"{value / unit:.{decimals}f}"
