"""What a network costs: the paper's Table III for the models of this package, with the peers' figures as printed there."""

from __future__ import annotations

import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from torch import nn

from dagn_pre import models
from dagn_pre.benchmarks import environment
from dagn_pre.benchmarks.report import aligned
from dagn_pre.errors import UsageError
from dagn_pre.networks.config import NetworkConfig
from dagn_pre.networks.fold import fold_batch_norm
from dagn_pre.restorer import STRIDE, Options

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
    "ms: one image, network alone, warm and synchronised, median.",
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
        runs: timed calls, of which the median counts.

    Returns:
        rows {"method", "side", "parameters", "thop_macs" (None without thop), "macs", "ms", "peak_bytes" (None where the
        system does not tell), "device", "threads", "dtype", "quoted"}; None for what the paper does not print.

    Raises:
        UsageError: an unknown model, a side that is no multiple of 16, a device or dtype that is not there.
        WeightsError: a given file that is missing or damaged.
    """
    for side in sides:
        if side < STRIDE or side % STRIDE:
            raise UsageError(f"side must be a multiple of {STRIDE}, not {side}")
    rows = []
    for model in chosen:
        options = Options(model, device, dtype=dtype)
        place = options.resolved_device()
        precision = options.resolved_dtype(place)
        name = models.get(model).name
        for side in sides:
            parameters, macs = models.cost(model, side)
            rows.append(
                {
                    "method": name,
                    "side": side,
                    "parameters": parameters,
                    "thop_macs": models.thop_macs(model, side),
                    "macs": macs,
                    "ms": round(milliseconds(model, side, place, precision, runs), 2),
                    "peak_bytes": peak_bytes(model, side, place, precision),
                    "device": environment.describe(place.type, ())["device"],
                    "threads": torch.get_num_threads(),
                    "dtype": str(precision).removeprefix("torch."),
                    "quoted": False,
                }
            )
    empty = dict.fromkeys(rows[0]) | {"side": 512, "device": "Tesla P100-SXM2-16 GB", "quoted": True}
    for name, parameters, thop, ms in PUBLISHED:
        rows.append({**empty, "method": name, "parameters": parameters * 1e6, "thop_macs": thop * 1e9, "ms": ms})
    return rows


def build(model: str | Path | NetworkConfig, side: int, device: torch.device) -> tuple[nn.Module, torch.Tensor]:
    """The network as the restorer runs it, with random weights, and an image."""
    network = fold_batch_norm(models.network(model)).to(device, memory_format=torch.channels_last)
    image = torch.rand(1, 3, side, side, device=device).contiguous(memory_format=torch.channels_last)
    return network, image


@torch.inference_mode()
def forward(network: nn.Module, image: torch.Tensor, dtype: torch.dtype) -> None:
    """One call, complete on return."""
    full = dtype == torch.float32
    with contextlib.nullcontext() if full else torch.autocast(image.device.type, dtype):
        network(image)
    if image.device.type == "cuda":
        torch.cuda.synchronize(image.device)


def milliseconds(model: str | Path | NetworkConfig, side: int, device: torch.device, dtype: torch.dtype, runs: int) -> float:
    """Median time of one image, after two calls that are not counted."""
    network, image = build(model, side, device)
    times = []
    for _ in range(2 + runs):
        start = time.perf_counter()
        forward(network, image, dtype)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[2:])


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
    lines = [["Method", "image", "on", "parameters (M)", "thop (G)", "GMAC", "ms", "memory (MB)"]]
    for row in rows:
        about = row["device"] if row["quoted"] else f"{row['device']}, {row['threads']} threads, {row['dtype']}"
        cells = [scaled(row["parameters"], 1e6, 1 if row["quoted"] else 2), scaled(row["thop_macs"], 1e9, 1)]
        cells += [scaled(row["macs"], 1e9, 1), scaled(row["ms"], 1, 1), scaled(row["peak_bytes"], 1e6, 0)]
        lines.append([row["method"] + "*" * row["quoted"], f"{row['side']}x{row['side']}", about, *cells])
    notes = list(NOTES)
    if any(row["thop_macs"] is None for row in rows if not row["quoted"]):
        notes.append("thop is not installed: pip install thop fills its column.")
    return "\n".join([*aligned(lines, numbers_from=3), "", *(f"- {note}" for note in notes)])


def scaled(value: float | None, unit: float, decimals: int) -> str:
    return "-" if value is None else f"{value / unit:.{decimals}f}"
