"""Tables of results.json that follow from a case's cells: comparisons with JPEG, equal file size, halves and advice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from dagn_pre.benchmarks.downstream import advice, bootstrap, cells, panels
from dagn_pre.benchmarks.downstream.cases import Case
from dagn_pre.benchmarks.downstream.cells import Cell
from dagn_pre.benchmarks.downstream.inputs import RestoredInput
from dagn_pre.benchmarks.downstream.scores import Scores
from dagn_pre.benchmarks.results import Results, rounded

Scored = dict[Cell, tuple[Scores, np.ndarray]]  # what each cell's score is made of, and its bootstrap samples


def update(case: Case, results: Results, work_dir: Path, resamples: int) -> None:
    """Make the derived tables of a case anew from the cells that are there."""
    scored = read_cells(case, results, work_dir, resamples)
    results.replace("comparisons", list(comparisons(case, scored)), **case.identity)
    results.replace("equal_size", list(equal_size(case, results, scored)), **case.identity)
    add_advice(case, results, scored, work_dir, resamples)


def read_cells(case: Case, results: Results, work_dir: Path, resamples: int) -> Scored:
    """The case's cells; those that were measured with another number of ``resamples`` are resampled anew."""
    scored: Scored = {}
    for row in results.content["rows"]:
        if results.same(row, **case.identity):
            path = cells.path(case, row["input"], row["qf"], work_dir)
            found, samples = cells.read(path)
            if len(samples) not in (0, resamples):
                samples = bootstrap.resampled(found, resamples)
                cells.write(path, found, samples)
            row |= cells.bounds(samples)
            scored[row["input"], row["qf"]] = found, samples
    return scored


def comparisons(case: Case, scored: Scored) -> Iterator[dict]:
    """Each restorer against JPEG at each QF that both are measured at."""
    for (label, quality), cell in scored.items():
        if label not in ("original", "jpeg") and ("jpeg", quality) in scored:
            found = bootstrap.comparison(scored["jpeg", quality], cell, scored.get(("original", None)))
            yield {**case.key(label, quality), "against": "jpeg", **found}


def equal_size(case: Case, results: Results, scored: Scored) -> Iterator[dict]:
    """What side information is worth: each cell with it against JPEG, and against the restorer without it, of as many bytes.

    Cells without bytes are of an older version, and left out; so are those beyond the largest file of the other input.
    """
    curves: dict[str, dict[int, tuple]] = {}  # by input and QF: bytes, score, its samples
    for row in results.content["rows"]:
        if results.same(row, **case.identity) and row.get("bytes_per_image") is not None:
            found, samples = scored[row["input"], row["qf"]]
            curves.setdefault(row["input"], {})[row["qf"]] = row["bytes_per_image"], found.value(), samples
    for label in (label for label in curves if RestoredInput.parse(label).side_information):
        without = str(replace(RestoredInput.parse(label), side_information=False))
        for quality, (size, value, samples) in curves[label].items():
            for against in ("jpeg", without):
                if (there := bootstrap.at_size(curves.get(against, {}).values(), size)) is not None:
                    low, high = bootstrap.interval(samples - there[1])
                    yield {
                        **case.key(label, quality),
                        "against": against,
                        "bytes": size,
                        "value": rounded(value),
                        "against_value": rounded(there[0]),
                        "difference": rounded(value - there[0]),
                        "low": rounded(low),
                        "high": rounded(high),
                    }


def add_advice(case: Case, results: Results, scored: Scored, work_dir: Path, resamples: int) -> None:
    """What to put in front of the model, and the figures on each half of the images that say so."""

    def halves(cell: Cell) -> tuple:
        (known, samples), path = scored[cell], cells.path(case, *cell, work_dir)
        kept = cells.read_halves(path)
        first, second = advice.on_halves(known, resamples, kept)
        if kept is None and len(first.samples) == len(second.samples):
            cells.write(path, known, samples, np.stack([first.samples, second.samples]))
        return first, second

    found = advice.gains(scored, halves)
    results.replace("halves", [case.identity | row for row in advice.rows(found)], **case.identity)
    rows = []
    if found:
        images = next(known.images for known, _ in scored.values())
        first, second = advice.split(images)
        row = advice.decide(found, (len(first), len(second))).row()
        chosen = list(zip(row["inputs"], row["qualities"]))
        panel = next(one for one in panels.sort(results.content) if results.same(vars(one), **case.identity))
        costs = panel.cost(chosen), panels.mean(panel.cells[cell]["model_ms_per_image"] for cell in chosen)
        row |= dict(zip(("restore_ms_per_image", "model_ms_per_image"), map(rounded, costs)))
        rows = [case.identity | row]
    results.replace("advice", rows, **case.identity)
