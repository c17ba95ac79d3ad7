"""Cells: a case's test on one input at one QF. Which there are, their rows in results.json and their files in ``cells/``.

A file holds what the score is made of (:mod:`dagn_pre.benchmarks.downstream.scores`) and its bootstrap samples: comparisons
follow from these, and are made anew when the next cell comes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dagn_pre.benchmarks.downstream import bootstrap
from dagn_pre.benchmarks.downstream.cases import Case
from dagn_pre.benchmarks.downstream.hosts import configs
from dagn_pre.benchmarks.downstream.hosts.runner import Measured
from dagn_pre.benchmarks.downstream.scores import Areas, Detections, Scores
from dagn_pre.benchmarks.results import Results, rounded
from dagn_pre.errors import ConfigError
from dagn_pre.files import write_atomic

Cell = tuple[str, int | None]  # an input's name and QF; the original has none


def plan(inputs: Sequence[str], restorers: Iterable[str], qualities: list[int]) -> Iterator[Cell]:
    """Cells in the order of the table: input and QF, the original once and without."""
    if "original" in inputs:
        yield "original", None
    for label in (*(["jpeg"] if "jpeg" in inputs else []), *restorers):
        yield from ((label, quality) for quality in qualities)


def name(label: str, quality: int | None) -> str:
    """What a cell is called."""
    return label if quality is None else f"{label}-qf{quality}"


def file_name(case: Case, label: str, quality: int | None) -> str:
    """The name of a cell's files."""
    return f"{configs.name(case.cfg)}-{name(label, quality)}"


def path(case: Case, label: str, quality: int | None, work_dir: Path) -> Path:
    """The file in ``cells/``."""
    return work_dir / "cells" / f"{file_name(case, label, quality)}.npz"


def complete(case: Case, cell: Cell, results: Results, work_dir: Path) -> bool:
    """Whether a cell is there: its row and its file."""
    return results.holds(**case.key(*cell)) and path(case, *cell, work_dir).is_file()


def row(case: Case, label: str, quality: int | None, measured: Measured, samples: np.ndarray) -> dict:
    """A row of results.json; ``samples`` are bootstrap samples of the score."""
    scores = measured.scores
    assert scores is not None  # of the first process
    return {
        **case.key(label, quality),
        "metric": case.metric,
        "value": rounded(scores.value()),
        **bounds(samples),
        "n_images": measured.n_images,
        "bytes_per_image": rounded(measured.file_bytes, 1),
        "restore_ms_per_image": rounded(measured.restore_ms),
        "model_ms_per_image": rounded(measured.model_ms),
        "per_class": {name: rounded(value) for name, value in scores.per_class().items()},
        **({} if scores.scored == scores.classes else {"scored": scores.scored}),
    }


def bounds(samples: np.ndarray) -> dict[str, float | None]:
    """The interval of a score in its row."""
    return dict(zip(("low", "high"), map(rounded, bootstrap.interval(samples)), strict=True))


def write(file: Path, scores: Scores, samples: np.ndarray, halves: np.ndarray | None = None) -> None:
    """Keep a cell beside results.json: what its score is made of, its bootstrap samples, and those of each half of the images,
    (2, resamples), where they are known."""
    data = io.BytesIO()
    halves = np.zeros((2, 0)) if halves is None else halves
    names = {"kind": scores.kind, "images": scores.images, "classes": scores.classes, "scored": scores.scored}
    content: dict[str, Any] = {key: np.array(value) for key, value in names.items()} | scores.arrays()
    np.savez_compressed(data, samples=samples, halves=halves, **content)
    write_atomic(file, data.getvalue())


def read(file: Path) -> tuple[Scores, np.ndarray]:
    """What :func:`write` kept, but for the halves.

    Raises:
        ConfigError: the file is missing or damaged.
    """
    try:
        with np.load(file, allow_pickle=False) as held:
            content: dict[str, Any] = {key: held[key] for key in held.files if key != "halves"}
        content.setdefault("scored", content["classes"])  # of before a config could choose
        kind = {one.kind: one for one in (Areas, Detections)}[str(content.pop("kind"))]
        samples = content.pop("samples")
        names: dict[str, Any] = {key: [str(item) for item in content.pop(key)] for key in ("images", "classes", "scored")}
        return kind(**names, **content), samples
    except Exception as error:  # a damaged archive can fail in any way
        raise ConfigError(f"{file} cannot be read ({error}): remove it, and the same command measures it again") from error


def read_halves(file: Path) -> np.ndarray | None:
    """The halves that :func:`write` kept beside what :func:`read` gives; None for none."""
    with np.load(file, allow_pickle=False) as held:
        halves = held["halves"] if "halves" in held.files else np.zeros((2, 0))
    return halves if halves.size else None
