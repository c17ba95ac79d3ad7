"""results.md and results.png, drawn from results.json alone: the paper's Table IV, and score against QF."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from matplotlib.figure import Figure

from dagn_pre.errors import ConfigError
from dagn_pre.files import atomic_path, write_atomic

METRICS = {"bbox_mAP": "bbox mAP", "mIoU": "mean IoU"}
HEADINGS = {"original": "original", "jpeg": "JPEG"}
JPEG_DATASETS = ("COCO", "VOC")


@dataclass(frozen=True)
class Panel:
    """The rows of one task, model and data set; ``scores`` maps (input, QF) to a score in percent."""

    task: str
    model: str
    dataset: str
    rows: list[dict]

    @property
    def scores(self) -> dict[tuple[str, int | None], float]:
        return {(row["input"], row["qf"]): row["value"] for row in self.rows}

    @property
    def metric(self) -> str:
        return METRICS[self.rows[0]["metric"]]

    @property
    def images(self) -> int:
        return self.rows[0]["n_images"]

    def recovered(self, restorer: str, quality: int) -> float | None:
        """Share of what JPEG costs at this QF that the restorer wins back, in percent; None where it costs none."""
        original, jpeg = self.scores.get(("original", None)), self.scores.get(("jpeg", quality))
        restored = self.scores.get((restorer, quality))
        if original is None or jpeg is None or restored is None or original <= jpeg:
            return None
        return 100 * (restored - jpeg) / (original - jpeg)


def write(work_dir: str | Path) -> None:
    """Write results.md and results.png beside the results.json in ``work_dir``.

    Raises:
        ConfigError: results.json is missing or not one of ours.
    """
    path = Path(work_dir) / "results.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
        text = markdown(results)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigError(f"cannot read results from {path} ({error}): run dagn-pre bench first") from error
    write_atomic(path.with_suffix(".md"), text.encode())
    with atomic_path(path.with_suffix(".png")) as temporary:
        draw(results).savefig(temporary, dpi=150)


def panels(results: dict) -> list[Panel]:
    """The results by task, model and data set, in the order they were measured."""
    groups: dict[tuple[str, str, str], list[dict]] = {}
    for row in results["rows"]:
        groups.setdefault((row["task"], row["model"], row["dataset"]), []).append(row)
    return [Panel(*key, rows) for key, rows in groups.items()]


def restorers(found: list[Panel]) -> list[str]:
    """Names of the restorers in the results."""
    return list(dict.fromkeys(row["input"] for panel in found for row in panel.rows if row["input"] not in HEADINGS))


def qualities(panel: Panel) -> list[int]:
    """The QFs a panel has results for."""
    return sorted({row["qf"] for row in panel.rows if row["qf"] is not None})


def markdown(results: dict) -> str:
    """The text of results.md: scores, times, and what one must know to read them."""
    found = panels(results)
    names = restorers(found)
    parts = ["# What JPEG costs, and what restoring wins back", "\n".join(score_table(found, names))]
    if names:
        parts.append(
            "In brackets: the share of the loss (original minus JPEG) that the restorer wins back; negative where it "
            "hurts, absent where JPEG costs nothing. Bold: the best at this QF."
        )
    if known := list(remarks(found, results["environment"])):
        parts.append("\n".join(f"- {remark}" for remark in known))
    parts += ["## Milliseconds per image", "\n".join(time_table(found)), "## Measured with", "\n".join(facts(results))]
    return "\n\n".join(parts) + "\n"


def score_table(found: list[Panel], names: list[str]) -> Iterator[str]:
    """Laid out like the paper's Table IV, with the original's score beside JPEG's."""
    lines = [["Task", "Metric", "QF", "original", "JPEG", *names]]
    for panel in found:
        about = [panel.task.capitalize(), panel.model, f"{panel.dataset}, {panel.images} images"]
        for index, (text, quality) in enumerate(zip_longest(about, qualities(panel))):
            cells = [""] * (2 + len(names)) if quality is None else list(score_cells(panel, quality, names))
            if not index:
                cells[0] = number(panel.scores.get(("original", None)))
            lines.append([text or "", "" if index else panel.metric, str(quality or ""), *cells])
    yield from aligned(lines, numbers_from=2)


def score_cells(panel: Panel, quality: int, names: list[str]) -> Iterator[str]:
    """Original, JPEG and restorers at one QF; the best of JPEG and restorers in bold, if there is a choice."""
    values = [panel.scores.get((label, quality)) for label in ("jpeg", *names)]
    measured = [value for value in values if value is not None]
    best = max(measured) if len(measured) > 1 else None
    yield number(panel.scores.get(("original", None)))
    for label, value in zip(("jpeg", *names), values, strict=True):
        share = panel.recovered(label, quality) if label in names else None
        text = f"**{number(value)}**" if value is not None and value == best else number(value)
        yield text if share is None else f"{text} ({share:.0f} %)"


def time_table(found: list[Panel]) -> Iterator[str]:
    """Restoring and the model's own step, each averaged over the QFs."""
    lines = [["Model", "Input", "restoring", "model"]]
    for panel in found:
        for label in dict.fromkeys(row["input"] for row in panel.rows):
            rows = [row for row in panel.rows if row["input"] == label]
            restoring = sum(row["restore_ms_per_image"] for row in rows) / len(rows)
            model = sum(row["model_ms_per_image"] for row in rows) / len(rows)
            shown = "-" if label in HEADINGS else f"{restoring:.1f}"
            lines.append([panel.model, HEADINGS.get(label, label), shown, f"{model:.1f}"])
    yield from aligned(lines, numbers_from=2)


def remarks(found: list[Panel], environment: dict) -> Iterator[str]:
    """What a reader must know beside the figures."""
    for dataset in dict.fromkeys(panel.dataset for panel in found):
        if any(name in dataset.upper() for name in JPEG_DATASETS):
            yield (
                f"The images of {dataset} are JPEG files already: the original is as published, and JPEG at a QF is a "
                "second compression."
            )
    if environment.get("limit"):
        yield f"Only the first {environment['limit']} images were tested: too few to compare with published scores."


def facts(results: dict) -> Iterator[str]:
    """The environment, one line per entry."""
    for key, value in results["environment"].items():
        if key in ("models", "restorers"):
            for name, settings in value.items():
                yield f"- {name}: {flat(settings)}"
        elif value is not None:
            yield f"- {key}: {flat(value)}"


def flat(value) -> str:
    """A JSON value in one line of text."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {flat(item)}" for key, item in value.items())
    return ", ".join(map(flat, value)) if isinstance(value, list) else str(value)


def number(value: float | None) -> str:
    """A score with the two decimals that a difference needs, or a dash for a cell that is not measured."""
    return "-" if value is None else f"{value:.2f}"


def aligned(lines: list[list[str]], numbers_from: int) -> Iterator[str]:
    """A Markdown table with columns padded, so that it also reads in a terminal; numbers stand right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * (width - 1) + (":" if index >= numbers_from else "-") for index, width in enumerate(widths)]
    for line in (lines[0], rule, *lines[1:]):
        pairs = enumerate(zip(line, widths, strict=True))
        padded = [text.rjust(width) if index >= numbers_from else text.ljust(width) for index, (text, width) in pairs]
        yield f"| {' | '.join(padded)} |"


def draw(results: dict) -> Figure:
    """Score against QF: a panel per task, a line per input, the original's score as a dashed line."""
    found = panels(results)
    figure = Figure(figsize=(5.5 * max(1, len(found)), 4.2), layout="constrained")
    axes = figure.subplots(1, max(1, len(found)), squeeze=False)[0]
    labels = ["jpeg", *restorers(found)]
    colours = {"jpeg": "0.45", **{name: f"C{index}" for index, name in enumerate(labels[1:])}}
    for axis, panel in zip(axes, found, strict=False):
        scores = panel.scores
        if ("original", None) in scores:
            axis.axhline(scores["original", None], color="black", linestyle="--", linewidth=1, label="original")
        for label in labels:
            points = [(quality, scores[label, quality]) for quality in qualities(panel) if (label, quality) in scores]
            if points:
                style = {"marker": "o", "color": colours[label], "label": HEADINGS.get(label, label)}
                axis.plot(*zip(*points, strict=True), **style)
        axis.set(title=f"{panel.model}\n{panel.dataset}", xlabel="JPEG quality factor", ylabel=f"{panel.metric}, %")
        axis.set_xticks(qualities(panel))
        axis.grid(alpha=0.3)
        axis.legend()
    return figure
