"""The report of ``dagn-pre bench``, drawn from results.json and the gallery's pictures beside it, and from nothing else."""

from __future__ import annotations

from pathlib import Path

from dagn_pre.benchmarks.report.data import load
from dagn_pre.benchmarks.report.text import aligned, facts, markdown
from dagn_pre.files import atomic_path, write_atomic

__all__ = ["FILES", "aligned", "facts", "write"]

FILES = ("results.md", "results.csv", "comparisons.csv", "results.png", "report.html")


def write(work_dir: str | Path) -> None:
    """Write all of :data:`FILES` beside the results.json in ``work_dir``; each whole or not at all, none if one cannot be made.

    A results.json of before intervals and comparisons were kept gives a report that shows dashes in their places and says so.

    Raises:
        ConfigError: results.json, or a picture that its gallery names, is missing or damaged.
    """
    from dagn_pre.benchmarks.report import page, plot, tables

    run = load(work_dir)
    texts = {
        "results.md": markdown(run),
        "results.csv": tables.rows(run),
        "comparisons.csv": tables.comparisons(run),
        "report.html": page.render(run),
    }
    figure = plot.draw(run)
    for name, text in texts.items():
        write_atomic(run.folder / name, text.encode())
    with atomic_path(run.folder / "results.png") as temporary:
        figure.savefig(temporary, dpi=150)
