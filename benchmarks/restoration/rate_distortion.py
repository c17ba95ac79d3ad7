"""What side information is worth and what it costs: rate-distortion curves, Bjontegaard's numbers, milliseconds.

``dagn-pre bench rate-distortion`` measures JPEG, JPEG restored, and the same with side information. The rate is the size of the
file, side information included.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import bjontegaard
import numpy as np
from matplotlib.figure import Figure
from scipy.interpolate import Akima1DInterpolator

from dagn_pre import codec, metrics, models
from dagn_pre.benchmarks.markdown import aligned
from dagn_pre.benchmarks.restoration import datasets
from dagn_pre.benchmarks.restoration.report import save
from dagn_pre.errors import UsageError
from dagn_pre.files import write_atomic
from dagn_pre.progress import bar
from dagn_pre.restorer import Restorer
from dagn_pre.side_information import SideInformationEncoder, adapter, coder, segment

QUALITIES = (5, 10, 20, 30, 40)
SIDE = 512


@dataclass(frozen=True)
class System:
    """A sender and a receiver; without an encoder the receiver has the JPEG alone, without a restorer it looks at that."""

    name: str
    restorer: Restorer | None = None
    encoder: SideInformationEncoder | None = None


def systems(model: str | Path, pairs: Sequence[tuple[str | Path, str | Path]], dtype: str = "auto") -> list[System]:
    """JPEG, JPEG restored by ``model``, then one for each (model, weights); without any, for each of the shipped weights.

    Raises:
        UsageError: an unknown model, or none is named and none shipped.
        WeightsError: weights that are missing, damaged, or of another model.
    """
    bare = Restorer(model, max_quality=None, dtype=dtype, side_information=False)
    found = [System("JPEG"), System(f"JPEG + {models.get(model).name}", bare)]
    named: list[tuple[str | Path, str | Path]] = list(pairs)
    named = named or [(model, path) for path in sorted(adapter.FOLDER.glob("*.safetensors"))]
    for trained_with, path in named:
        if not pairs and adapter.load(path).trunk != bare.fingerprint:
            continue
        encoder = SideInformationEncoder(trained_with, weights=path)
        restorer = Restorer(trained_with, max_quality=None, dtype=dtype, side_information=path)
        label = f"{models.get(trained_with).name}, lambda {encoder.adapter.lambda_rate:g}"
        if label in {system.name for system in found}:
            raise UsageError(f"{path}: there are two weights for {label}")
        found.append(System(label, restorer, encoder))
    if len(found) == 2:
        raise UsageError(f"no side information for {model} is shipped; name some with --weights NAME FILE")
    return found


def curves(
    folder: str | Path, chosen: Sequence[System], qualities: Sequence[int] = QUALITIES, limit: int | None = None
) -> list[dict]:
    """Rows {"system", "qf", "bpp" (of the file), "psnr" (dB, RGB), "side_bytes" (segments), "estimated_bytes", "n_images"}:
    means over the images. ``estimated_bytes`` are the context model's bits and the segment's fixed bytes.

    Raises:
        UsageError: a QF outside 1..100, a missing or empty folder.
        ImageError: no image can be measured.
    """
    values: dict[tuple[str, int], list[tuple[float, ...]]] = {}
    for path in bar(datasets.scan_all([folder], limit)[0].paths, unit="image"):
        original = datasets.read(path)
        for quality in qualities:
            jpeg = codec.encode(original, quality)
            for system in chosen:
                values.setdefault((system.name, quality), []).append(one(system, original, jpeg))
    rows = []
    for (name, quality), found in values.items():
        bpp, psnr, side, estimated = (round(float(value), 5) for value in np.mean(found, axis=0))
        rows.append(
            {"system": name, "qf": quality, "bpp": bpp, "psnr": psnr, "side_bytes": side, "estimated_bytes": estimated}
            | {"n_images": len(found)}
        )
    return rows


def one(system: System, original: np.ndarray, jpeg: bytes) -> tuple[float, ...]:
    """bpp, PSNR, bytes of side information, and those that were to be expected, of one image through one system."""
    file, side, estimated = jpeg, 0, 0.0
    if system.encoder is not None:
        symbols = system.encoder.symbols(original, codec.decode(jpeg))
        file = segment.embed(jpeg, system.encoder.adapter.message(symbols))
        side = len(file) - len(jpeg)
        estimated = segment.OVERHEAD + coder.estimate(system.encoder.adapter.symbol_model, symbols) / 8
    output = codec.decode(file) if system.restorer is None else system.restorer(file)
    return 8 * len(file) / (original.shape[0] * original.shape[1]), metrics.psnr(output, original), side, estimated


def deltas(rows: Sequence[dict], anchor: str) -> list[dict]:
    """Bjontegaard's rate (%) and PSNR (dB) of each other system against ``anchor``, by Akima interpolation.

    Returns:
        rows {"system", "anchor", "bd_rate", "bd_psnr"}; None where the curves do not overlap.
    """

    def points(name: str) -> tuple[list[float], list[float]]:
        mine = sorted((row["bpp"], row["psnr"]) for row in rows if row["system"] == name)
        return [rate for rate, _ in mine], [psnr for _, psnr in mine]

    found = []
    for name in dict.fromkeys(row["system"] for row in rows):
        if name == anchor:
            continue
        pair = (*points(anchor), *points(name))
        overlap = max(min(pair[1]), min(pair[3])) < min(max(pair[1]), max(pair[3]))
        options = {"method": "akima", "min_overlap": 0}
        rate = round(float(bjontegaard.bd_rate(*pair, **options)), 2) if overlap else None
        side_by_side = max(min(pair[0]), min(pair[2])) < min(max(pair[0]), max(pair[2]))
        psnr = round(float(bjontegaard.bd_psnr(*pair, **options)), 3) if side_by_side else None
        found.append({"system": name, "anchor": anchor, "bd_rate": rate, "bd_psnr": psnr})
    return found


def times(chosen: Sequence[System], side: int = SIDE, runs: int = 7) -> list[dict]:
    """Milliseconds of the sender and the receiver for one square image, medians of ``runs`` after one that is not counted.

    Returns:
        rows {"system", "jpeg_ms" (writing the JPEG alone), "describe_ms" (symbols), "code_ms" (to bytes, into the file),
        "decode_ms" (bytes to symbols), "restore_ms" (all of restoring), "plain_ms" (without side information)}.
    """
    tile = np.random.default_rng(0).normal(128, 40, (side // 8, side // 8, 3)).clip(0, 255).astype(np.uint8)
    image = tile.repeat(8, 0).repeat(8, 1)
    rows = []
    for system in chosen:
        if system.encoder is None or system.restorer is None:
            continue
        weights = system.encoder.adapter
        jpeg = codec.encode(image, 10)
        pixels = codec.decode(jpeg)
        symbols = system.encoder.symbols(image, pixels)
        file = segment.embed(jpeg, weights.message(symbols))
        options = system.restorer.options
        bare = Restorer(options.model, max_quality=None, dtype=options.dtype, side_information=False)
        work = {
            "jpeg_ms": lambda: codec.encode(image, 10),
            "describe_ms": lambda encoder=system.encoder, pixels=pixels: encoder.symbols(image, pixels),
            "code_ms": lambda jpeg=jpeg, weights=weights, symbols=symbols: segment.embed(jpeg, weights.message(symbols)),
            "decode_ms": lambda file=file, weights=weights: adapter.read(file, {weights.identity: weights}, side, side),
            "restore_ms": lambda file=file, restorer=system.restorer: restorer(file),
            "plain_ms": lambda jpeg=jpeg, restorer=bare: restorer(jpeg),
        }
        rows.append({"system": system.name, **{name: milliseconds(call, runs) for name, call in work.items()}})
    return rows


def milliseconds(call, runs: int) -> float:
    call()
    taken = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - start))
    return round(statistics.median(taken), 2)


def markdown(rows: Sequence[dict], compared: Sequence[dict], timed: Sequence[dict]) -> str:
    qualities, names = ([*dict.fromkeys(row[key] for row in rows)] for key in ("qf", "system"))
    cell = {(row["system"], row["qf"]): row for row in rows}
    lines = [["bpp / PSNR (dB)", *(f"QF {quality}" for quality in qualities)]]
    for name in names:
        lines.append([name, *(f"{cell[name, qf]['bpp']:.4f} / {cell[name, qf]['psnr']:.2f}" for qf in qualities)])
    text = [*aligned(lines, numbers_from=1), ""]
    lines = [["bytes of side information, real / estimated", *(f"QF {quality}" for quality in qualities)]]
    for name in names:
        if any(cell[name, qf]["side_bytes"] for qf in qualities):
            here = (cell[name, qf] for qf in qualities)
            lines.append([name, *(f"{one['side_bytes']:.0f} / {one['estimated_bytes']:.0f}" for one in here)])
    text += [*aligned(lines, numbers_from=1), ""]
    lines = [["against", "system", "BD-rate (%)", "BD-PSNR (dB)"]]
    for row in compared:
        rate = "-" if row["bd_rate"] is None else f"{row['bd_rate']:+.2f}"
        psnr = "-" if row["bd_psnr"] is None else f"{row['bd_psnr']:+.3f}"
        lines.append([row["anchor"], row["system"], rate, psnr])
    text += aligned(lines, numbers_from=2)
    if timed:
        lines = [["ms", *(key.removesuffix("_ms") for key in timed[0] if key != "system")]]
        lines += [[row["system"], *(f"{value:.1f}" for key, value in row.items() if key != "system")] for row in timed]
        text += ["", *aligned(lines, numbers_from=1)]
    return "\n".join(text)


def draw(rows: Sequence[dict], title: str, anchor: str) -> Figure:
    """PSNR against bits per pixel, a line per system; below, how far each is above ``anchor`` at the same bits (Akima)."""
    figure = Figure(figsize=(7, 7.5), layout="constrained")
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    of = {name: [row for row in rows if row["system"] == name] for name in dict.fromkeys(row["system"] for row in rows)}
    known = sorted((row["bpp"], row["psnr"]) for row in of[anchor])
    at = Akima1DInterpolator(*zip(*known)) if len(known) > 1 else None
    for name, mine in of.items():
        rates, psnrs = (np.array([row[key] for row in mine]) for key in ("bpp", "psnr"))
        (line,) = above.plot(rates, psnrs, marker="o", markersize=3, label=name)
        if at is not None and name != "JPEG":  # far below
            below.plot(rates, psnrs - at(rates), marker="o", markersize=3, color=line.get_color())  # NaN beyond: a gap
    above.set(ylabel="PSNR, dB (RGB)", title=title)
    below.set(xlabel="bits per pixel, side information included", ylabel=f"dB above {anchor}")
    for axis in (above, below):
        axis.grid(alpha=0.3)
    above.legend()
    return figure


def evaluate(
    folder: str | Path,
    output: str | Path,
    model: str | Path = "dagn-s-psnr",
    weights: Sequence[tuple[str, str]] = (),
    qualities: Sequence[int] = QUALITIES,
    limit: int | None = None,
    dtype: str = "auto",
    timed: bool = False,
) -> str:
    """Measure :func:`curves`, :func:`deltas` and, with ``timed``, :func:`times`; write side.md, side.json and side.png.

    Args:
        folder: originals; see :func:`dagn_pre.benchmarks.restoration.datasets.locate` for the releases it knows.
        output: the folder to write into.
        model: the restorer without side information.
        weights: (model, file of side information's weights), one for each curve; none: all that are shipped for ``model``.

    Returns:
        The tables as Markdown.

    Raises:
        UsageError, ImageError, WeightsError: as of :func:`systems` and :func:`curves`.
    """
    folder, output = Path(folder), Path(output)
    chosen = systems(model, weights, dtype)
    rows = curves(folder, chosen, qualities, limit)
    compared = [row for anchor in chosen[:2] for row in deltas(rows, anchor.name)]
    content = {"curves": rows, "deltas": compared, "times": times(chosen) if timed else []}
    text = markdown(rows, compared, content["times"])
    write_atomic(output / "side.md", (text + "\n").encode())
    write_atomic(output / "side.json", (json.dumps(content, indent=1) + "\n").encode())
    title = f"{datasets.locate(folder)[0]}, {rows[0]['n_images']} images"
    save(draw(rows, title, chosen[1].name), output / "side.png")
    return text
