"""What to put in front of a model: which restorer, up to which QF, how strongly, or nothing. docs/benchmark.md states the rule.

It is chosen on one half of the images and has to be confirmed on the other. :func:`gains` looks at the cells, :func:`decide` is
the rule, :func:`arguments` hands what results.json holds of it to a config.
"""

from __future__ import annotations

import functools
import hashlib
import os.path
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import numpy as np

from dagn_pre import models
from dagn_pre.benchmarks.downstream import bootstrap
from dagn_pre.benchmarks.downstream.inputs import RestoredInput
from dagn_pre.benchmarks.downstream.panels import FEW, HEADINGS, LEAST, LEAVE, RESTORE, UNCONFIRMED, Panel, Run, load
from dagn_pre.benchmarks.downstream.report.advice_text import recommendation
from dagn_pre.benchmarks.downstream.scores import Scores
from dagn_pre.benchmarks.results import rounded
from dagn_pre.errors import ConfigError, UsageError, WeightsError


@dataclass(frozen=True)
class Gain:
    """Restored minus JPEG over one half of the images, in points: the difference, and that of each paired bootstrap sample.

    Also a score itself over one half, from which the differences are taken.
    """

    value: float
    samples: np.ndarray

    @functools.cached_property
    def ends(self) -> tuple[float | None, float | None]:
        """The paired 95 % interval; (None, None) where there is none."""
        return bootstrap.interval(self.samples)

    @property
    def helps(self) -> bool:
        """Whether all of the interval is above zero."""
        low = self.ends[0]
        return low is not None and low > 0

    def __sub__(self, other: Gain) -> Gain:
        return Gain(self.value - other.value, self.samples - other.samples)


Cell = tuple[str, int | None]  # input and QF
Gains = dict[tuple[str, int], tuple[Gain, Gain]]  # over the first half of the images, over the second
Plan = dict[int, str]  # QF -> the input that it is restored as
FIRST, SECOND = 0, 1


@dataclass(frozen=True)
class Advice:
    """What :func:`decide` found.

    Attributes:
        decision: RESTORE, LEAVE, UNCONFIRMED or FEW.
        images: how many there are in each half.
        plan: by ascending QF the inputs of one restorer that both halves show to help, from the lowest measured QF on without a
            gap; empty unless the decision is RESTORE.
        restorer: its name; without a plan the one that is best on the first half, None where none helps there.
        unconfirmed: QFs where the first half alone shows that it helps, above the plan.
        following: the lowest QF that was measured above the plan, None where there is none.
        alternatives: inputs of other restorers, with a plan that is confirmed as well, and not shown to gain less.
    """

    decision: str
    images: tuple[int, int]
    plan: Plan = field(default_factory=dict)
    restorer: str | None = None
    unconfirmed: list[int] = field(default_factory=list)
    following: int | None = None
    alternatives: list[str] = field(default_factory=list)

    @property
    def max_quality(self) -> int | None:
        """Images of the highest QF that is shown to gain are restored, and better ones are not; None beyond 100."""
        above = max(self.plan, default=100) + 1
        return above if above <= 100 else None

    @property
    def strength(self) -> float | list[list[float]] | None:
        """One for all, or pairs of QF and strength, as a config's JSON keeps them."""
        points = [[quality, RestoredInput.parse(label).strength] for quality, label in self.plan.items()]
        same = len({strength for _, strength in points}) == 1
        return (points[0][1] if same else points) if points else None

    def row(self) -> dict:
        """Its part of results.json; docs/benchmark.md has the keys."""
        return {
            "decision": self.decision,
            "images": list(self.images),
            "restorer": self.restorer,
            "max_quality": self.max_quality,
            "strength": self.strength,
            "qualities": list(self.plan),
            "inputs": list(self.plan.values()),
            "unconfirmed": self.unconfirmed,
            "following": self.following,
            "alternatives": self.alternatives,
        }


def split(images: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the first and the second half of images, ascending; the first has one more where their number is odd.

    The order of a hash of their names decides: it knows nothing of how a data set is sorted, nor of left and right cameras.
    """
    order = sorted(range(len(images)), key=lambda index: (hashlib.sha256(images[index].encode()).digest(), index))
    middle = (len(order) + 1) // 2
    return np.array(sorted(order[:middle]), int), np.array(sorted(order[middle:]), int)


def on_halves(cell: Scores, resamples: int, kept: Iterable[np.ndarray] | None = None) -> tuple[Gain, Gain]:
    """A cell's score over both halves of its images, with as many bootstrap samples, or with those that were ``kept``."""
    parts = [cell.part(half) for half in split(cell.images)]
    samples = [bootstrap.resampled(part, resamples) for part in parts] if kept is None else kept
    first, second = (Gain(part.value(), one) for part, one in zip(parts, samples))
    return first, second


def gains(cells: Iterable[Cell], halves: Callable[[Cell], tuple[Gain, Gain]]) -> Gains:
    """Each restorer against JPEG at each QF that both are measured at.

    Args:
        cells: what is measured, all of the same images. Inputs with side information stay out: whether the sender adds it is
            nothing that whoever restores can choose.
        halves: gives the score of a cell, as :func:`on_halves` does.
    """
    cells, halves = list(cells), functools.cache(halves)
    found: Gains = {}
    for label, quality in cells:
        if quality is None or label in HEADINGS or ("jpeg", quality) not in cells:
            continue
        if not RestoredInput.parse(label).side_information:
            (first, second), (jpeg_first, jpeg_second) = halves((label, quality)), halves(("jpeg", quality))
            found[label, quality] = first - jpeg_first, second - jpeg_second
    return found


def rows(found: Gains) -> Iterator[dict]:
    """The gains' part of results.json, a row for each input and QF."""
    for (label, quality), halves in found.items():
        row: dict = {"input": label, "qf": quality}
        for name, gain in zip(("first", "second"), halves):
            values = (gain.value, *gain.ends)
            row |= dict(zip((name, f"{name}_low", f"{name}_high"), map(rounded, values)))
        yield row


def decide(found: Gains, images: tuple[int, int]) -> Advice:
    """The rule, on what :func:`gains` found and the number of images in each half."""
    if sum(images) < LEAST:
        return Advice(FEW, images)
    inputs: dict[str, list[str]] = {}  # of each restorer
    for label in dict.fromkeys(label for label, _ in found):
        inputs.setdefault(RestoredInput.parse(label).model, []).append(label)
    plans = {name: plan for name, labels in inputs.items() if (plan := chosen(labels, found))}
    if not plans:
        return Advice(LEAVE, images)
    kept = {name: part for name, plan in plans.items() if (part := confirmed(plan, found))}
    if not kept:
        promising = max(plans, key=lambda name: total(plans[name], found, FIRST).value)
        return Advice(UNCONFIRMED, images, restorer=promising, unconfirmed=list(plans[promising]))
    gained = {name: total(plan, found, FIRST, SECOND) for name, plan in kept.items()}
    best = max(gained, key=lambda name: gained[name].value)
    rivals = [name for name in kept if name != best and not (gained[best] - gained[name]).helps]
    higher = [quality for label, quality in found if label in inputs[best] and quality > max(kept[best])]
    return Advice(
        RESTORE,
        images,
        kept[best],
        best,
        unconfirmed=[quality for quality in plans[best] if quality not in kept[best]],
        following=min(higher, default=None),
        alternatives=[kept[name][min(kept[name])] for name in rivals],
    )


def chosen(labels: list[str], found: Gains) -> Plan:
    """The plan for the inputs of one restorer, which differ in strength; {} where none helps at the lowest QF.

    One strength for all QFs, the best over the first half; or one by QF, where the best falls as QF rises and the second half
    shows that this gains more.
    """
    constant = max((reach([label], found) for label in labels), key=lambda plan: total(plan, found, FIRST).value)
    by_quality = reach(labels, found)
    strengths = [RestoredInput.parse(label).strength for label in by_quality.values()]
    if len(set(strengths)) > 1 and strengths == sorted(strengths, reverse=True):
        if (total(by_quality, found, SECOND) - total(constant, found, SECOND)).helps:
            return by_quality
    return constant


def reach(labels: list[str], found: Gains) -> Plan:
    """From the lowest QF on, without a gap, where any of the inputs helps on the first half: the best of those that do."""
    plan: Plan = {}
    for quality in sorted({quality for label, quality in found if label in labels}):
        helping = [label for label in labels if (label, quality) in found and found[label, quality][FIRST].helps]
        if not helping:
            break
        plan[quality] = max(helping, key=lambda label: found[label, quality][FIRST].value)
    return plan


def confirmed(plan: Plan, found: Gains) -> Plan:
    """As much of a plan, from the lowest QF on, as helps on the second half too."""
    return {quality: plan[quality] for quality in takewhile(lambda one: found[plan[one], one][SECOND].helps, plan)}


def total(plan: Plan, found: Gains, *halves: int) -> Gain:
    """What a plan gains, summed over the QFs, nothing where it does not restore; the mean of these halves."""
    parts = [found[label, quality][half] for quality, label in plan.items() for half in halves]
    samples = sum((part.samples for part in parts), np.zeros(1))
    return Gain(sum(part.value for part in parts) / len(halves), samples / len(halves))


def arguments(work_dir: str | Path, config: str, name: str | None = None, model: str | None = None) -> dict:
    """DAGNRestore's arguments that the advice in a work dir of the benchmark gives for a config.

    Args:
        work_dir: or the path of its results.json.
        config: a config's path or name. It chooses among several models: the one whose config has the same file name.
        name: chooses instead: the model as the results call it, with or without the data set, or its config's file name.
        model: a restorer to take in place of the advised one.

    Returns:
        {"model", "max_quality"}, and "strength" where it is not 1.

    Raises:
        ConfigError: there are no results, or they hold no advice.
        UsageError: restoring is not shown to help; no model or several are meant; the restorer is another than was measured.
        WeightsError: its file is missing or damaged.
    """
    run = load(work_dir)
    panel = panel_of(run, config, name)
    if not panel.advice:
        remedy = "run dagn-pre bench run again, with jpeg and a restorer"
        raise ConfigError(f"{work_dir} holds no advice for {panel.title}: {remedy}")
    if panel.advice["decision"] != RESTORE:
        said = recommendation(panel).rstrip(".")
        raise UsageError(f"restoring is not shown to help {panel.title}: {said}; to insert it all the same, leave out --advice")
    found = {"model": model or restorer(run, panel.advice), "max_quality": panel.advice["max_quality"]}
    strength = panel.advice["strength"]
    return found if strength == 1 else {**found, "strength": strength}


def panel_of(run: Run, config: str, name: str | None) -> Panel:
    """The model that is meant; raises UsageError for none and for several."""
    configs = {title: known.get("config") for title, known in run.environment.get("models", {}).items()}
    known = ", ".join(repr(panel.title) for panel in run.panels)
    if name is not None:
        found = [panel for panel in run.panels if name in (panel.title, panel.model, configs.get(panel.title))]
        problem = f"{run.folder} holds {'several models' if found else 'no model'} called {name!r}"
    else:
        same = [panel for panel in run.panels if configs.get(panel.title) == Path(config).stem]
        found = run.panels if len(run.panels) == 1 else same
        problem = f"{run.folder} holds {'several models' if found else 'none'} of a config called {Path(config).stem}"
    if len(found) != 1:
        raise UsageError(f"{problem}: choose one with --advice-for {known}")
    return found[0]


def restorer(run: Run, row: dict) -> str:
    """The advised restorer as DAGNRestore's ``model``: a name, or the path of its file."""
    files = {known["input"]: known["file"] for known in run.content.get("files", [])}
    model = row["restorer"]
    if model in files:
        model = os.path.normpath(run.folder / files[model])
    try:
        weights = models.fingerprint(model)[:16]
    except (UsageError, WeightsError) as error:
        raise WeightsError(f"the advised restorer cannot be used ({error}): give it, or another, with --model") from error
    if weights != run.environment.get("restorers", {}).get(row["inputs"][0]):
        raise UsageError(
            f"{model} holds other weights now than when {run.folder} was measured: run dagn-pre bench run in a new folder, or "
            "give the restorer with --model"
        )
    return model
