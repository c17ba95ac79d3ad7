"""results.json as the report reads it: checked once, and sorted by model."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dagn_pre.errors import ConfigError

METRICS = {"bbox_mAP": "bbox mAP", "segm_mAP": "mask mAP", "mIoU": "mean IoU"}
HEADINGS = {"original": "original", "jpeg": "JPEG"}
JPEG_DATASETS = ("COCO", "VOC")
IDENTITY = ("task", "model", "dataset", "input", "qf")
ADVICE = ("decision", "images", "restorer", "max_quality", "strength", "qualities", "inputs", "unconfirmed", "following",
          "alternatives", "restore_ms_per_image", "model_ms_per_image")  # fmt: skip
HARM_CHECK = (75, 90)  # where JPEG costs little, so that restoring has more to lose than to win
HELPS, UNDECIDED, HURTS = "helps", "no difference shown", "hurts"
RESTORE, LEAVE, UNCONFIRMED, FEW = "restore", "leave alone", "not confirmed", "too few images"  # the advice
LEAST = 20  # images to advise from


@dataclass(frozen=True)
class Panel:
    """All about one task, model and data set.

    Attributes:
        rows: results.json's, in the order they were measured.
        comparisons: of restorers with JPEG, by (restorer, QF).
        equal_size: of inputs with side information with others of as many bytes: results.json's entries.
        gallery: results.json's entries.
        halves: of restorers with JPEG on each half of the images, by (input, QF).
        advice: results.json's entry; empty in an older one, and where no restorer was compared.
        borrowed: milliseconds of restoring by (restorer, QF), where this model's images came from a cache: those of the same
            images as another model restored them.
        variant_of: the model that this one is, fine-tuned on JPEG-augmented images; None for a model as it is.
    """

    task: str
    model: str
    dataset: str
    rows: list[dict]
    comparisons: dict[tuple[str, int], dict] = field(default_factory=dict)
    equal_size: list[dict] = field(default_factory=list)
    gallery: list[dict] = field(default_factory=list)
    halves: dict[tuple[str, int], dict] = field(default_factory=dict)
    advice: dict = field(default_factory=dict)
    borrowed: dict[tuple[str, int | None], float] = field(default_factory=dict)
    variant_of: str | None = None

    @cached_property
    def cells(self) -> dict[tuple[str, int | None], dict]:
        """The rows by (input, QF)."""
        return {(row["input"], row["qf"]): row for row in self.rows}

    @property
    def title(self) -> str:
        """What results.json's environment calls it."""
        return f"{self.model}, {self.dataset}"

    @property
    def metric(self) -> str:
        return METRICS.get(self.rows[0]["metric"], self.rows[0]["metric"])

    @property
    def images(self) -> int:
        return self.rows[0]["n_images"]

    @property
    def classes(self) -> list[str]:
        return list(self.rows[0].get("per_class") or {})

    @property
    def scored(self) -> list[str]:
        """The classes that the score is the mean of."""
        return self.rows[0].get("scored", self.classes)

    @property
    def inputs(self) -> list[str]:
        """Original, JPEG, then the restorers, as far as they were measured."""
        found = dict.fromkeys(row["input"] for row in self.rows)
        return [name for name in HEADINGS if name in found] + [name for name in found if name not in HEADINGS]

    @property
    def restorers(self) -> list[str]:
        return [name for name in self.inputs if name not in HEADINGS]

    @property
    def qualities(self) -> list[int]:
        return sorted({row["qf"] for row in self.rows if row["qf"] is not None})

    def cell(self, label: str, quality: int | None) -> dict | None:
        """The row of an input at a QF; the original's is the same at all of them."""
        return self.cells.get((label, None if label == "original" else quality))

    def value(self, label: str, quality: int | None) -> float | None:
        """The score in percent, None where it is not measured."""
        row = self.cell(label, quality)
        return None if row is None else row["value"]

    def recovered(self, restorer: str, quality: int) -> float | None:
        """Share of what JPEG costs at this QF that the restorer wins back, in percent; None where it costs none."""
        original, jpeg, restored = (self.value(label, quality) for label in ("original", "jpeg", restorer))
        if original is None or jpeg is None or restored is None or original <= jpeg:
            return None
        return 100 * (restored - jpeg) / (original - jpeg)

    def share_interval(self, restorer: str, quality: int) -> tuple[float, float] | None:
        """The 95 % interval of :meth:`recovered`; None where there is none."""
        found = self.comparisons.get((restorer, quality), {})
        return interval(found, "share_low", "share_high")

    def milliseconds(self, label: str, quality: int | None) -> float | None:
        """Restoring and model together, per image; None where no model's run restored these images."""
        row = self.cell(label, quality)
        if row is None:
            return None
        restoring = self.restoring(label, quality)
        return None if restoring is None else restoring + row["model_ms_per_image"]

    def restoring(self, label: str, quality: int | None) -> float | None:
        """Milliseconds of restoring an image, of a cell that is there; None where no model's run restored these images."""
        restoring = 0.0 if label in HEADINGS else self.cells[label, quality]["restore_ms_per_image"]
        return self.borrowed.get((label, quality)) if restoring is None else restoring

    def cost(self, cells: Iterable[tuple[str, int | None]]) -> float | None:
        """Milliseconds of restoring an image, averaged over cells of which they are known; None if they are of none."""
        return mean(self.restoring(*cell) for cell in cells)

    def judged(self, restorer: str) -> dict[str, list[int]]:
        """Verdict -> the QFs it holds at."""
        found: dict[str, list[int]] = {HELPS: [], UNDECIDED: [], HURTS: []}
        for quality in self.qualities:
            if kind := verdict(self.comparisons.get((restorer, quality))):
                found[kind].append(quality)
        return found


@dataclass(frozen=True)
class Run:
    """One results.json.

    Attributes:
        folder: where it lies; paths in the gallery start there.
        content: as parsed.
        panels: by task, model and data set, in the order they were measured.
    """

    folder: Path
    content: dict
    panels: list[Panel]

    @property
    def environment(self) -> dict:
        return self.content["environment"]

    @property
    def restorers(self) -> list[str]:
        """Of all panels, in the order they were measured: a restorer keeps its colour throughout a report."""
        return list(dict.fromkeys(name for panel in self.panels for name in panel.restorers))

    @property
    def pairs(self) -> Iterator[tuple[Panel, Panel]]:
        """A model as it is, and the same fine-tuned on JPEG-augmented images."""
        for variant in self.panels:
            for base in self.panels:
                if (base.model, base.dataset, base.task) == (variant.variant_of, variant.dataset, variant.task):
                    yield base, variant


def verdict(comparison: dict | None, low: str = "low", high: str = "high") -> str | None:
    """What the paired interval of (restored - JPEG) says; None without one."""
    ends = None if comparison is None else interval(comparison, low, high)
    return None if ends is None else HURTS if ends[1] < 0 else HELPS if ends[0] > 0 else UNDECIDED


def interval(row: dict, low: str = "low", high: str = "high") -> tuple[float, float] | None:
    """The two ends, or None where there is no interval."""
    first, last = row.get(low), row.get(high)
    return None if first is None or last is None else (first, last)


def mean(values: Iterable[float | None]) -> float | None:
    """Of those that are there."""
    measured = [value for value in values if value is not None]
    return sum(measured) / len(measured) if measured else None


def load(source: str | Path) -> Run:
    """Read a folder's results.json, or the file itself.

    Raises:
        ConfigError: it is missing, is not JSON, or lacks what the report needs; the message names what.
    """
    path = Path(source)
    path = path if path.suffix == ".json" else path / "results.json"
    if not path.is_file():
        raise ConfigError(f"there are no results in {path}: run dagn-pre bench run first, or name another folder")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        check(content)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"cannot read results from {path} ({error}): run dagn-pre bench run --overwrite") from error
    return Run(path.parent, content, list(sort(content)))


def check(content: dict) -> None:
    """Raise ValueError where a key that the report reads is missing or of another type."""
    if not isinstance(content, dict) or not isinstance(content.get("environment"), dict):
        raise ValueError("no `environment`")
    needs = {
        "rows": (*IDENTITY, "metric", "value", "n_images", "restore_ms_per_image", "model_ms_per_image"),
        "comparisons": (*IDENTITY, "difference", "low", "high", "share", "images_better", "images_worse"),
        "equal_size": (*IDENTITY, "against", "bytes", "value", "against_value", "difference", "low", "high"),
        "halves": (*IDENTITY, "first", "first_low", "first_high", "second", "second_low", "second_high"),
        "advice": (*IDENTITY[:3], *ADVICE),
        "gallery": (*IDENTITY, "kind", "image", "size", "scores", "files", "truth", "predictions"),
    }
    for table, keys in needs.items():
        entries = content.get(table, None if table == "rows" else [])
        if not isinstance(entries, list):
            raise ValueError(f"no list `{table}`")
        for index, entry in enumerate(entries):
            missing = [key for key in keys if not isinstance(entry, dict) or key not in entry]
            if missing:
                raise ValueError(f"{table}[{index}] lacks {', '.join(missing)}")
    for index, row in enumerate(content["rows"]):
        if not isinstance(row["value"], int | float):
            raise ValueError(f"rows[{index}] has the value {row['value']!r}, not a number")
    if not content["rows"]:
        raise ValueError("no rows: nothing was measured yet")


def sort(content: dict) -> Iterator[Panel]:
    """The content by task, model and data set."""
    groups: dict[tuple[str, str, str], Panel] = {}
    settings = content["environment"].get("models", {})
    for row in content["rows"]:
        task, model, dataset = key = tuple(row[part] for part in IDENTITY[:3])
        variant_of = settings.get(f"{row['model']}, {row['dataset']}", {}).get("variant_of")
        groups.setdefault(key, Panel(task, model, dataset, [], variant_of=variant_of)).rows.append(row)
    for table in ("comparisons", "equal_size", "halves", "advice", "gallery"):
        for index, entry in enumerate(content.get(table, [])):
            panel = groups.get(tuple(entry[part] for part in IDENTITY[:3]))
            if panel is None:
                raise ConfigError(f"results.json is damaged: {table}[{index}] is of {entry['model']}, which has no rows")
            if table in ("comparisons", "halves"):
                getattr(panel, table)[entry["input"], entry["qf"]] = entry
            elif table == "advice":
                panel.advice.update(entry)
            else:
                getattr(panel, table).append(entry)
    lend(list(groups.values()))
    yield from groups.values()


def lend(panels: list[Panel]) -> None:
    """Fill ``borrowed``: restoring takes as long for the same images, whichever model comes after it."""
    for panel in panels:
        for row in panel.rows:
            for other in panels:
                same = (other.dataset, other.images) == (panel.dataset, panel.images)
                lent = other.cells.get((row["input"], row["qf"])) if same else None
                if row["restore_ms_per_image"] is None and lent and lent["restore_ms_per_image"] is not None:
                    panel.borrowed[row["input"], row["qf"]] = lent["restore_ms_per_image"]
