"""The report of ``dagn-pre bench run``, drawn from results.json and the gallery's pictures beside it, and from nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dagn_pre.benchmarks.downstream.panels import RESTORE, load
from dagn_pre.benchmarks.downstream.report.advice_text import recommendation
from dagn_pre.benchmarks.downstream.report.text import markdown
from dagn_pre.files import atomic_path, write_atomic

__all__ = ["FILES", "advice", "write"]

FILES = ("results.md", "results.csv", "comparisons.csv", "results.png", "report.html")


def write(work_dir: str | Path) -> None:
    """Write all of :data:`FILES` beside the results.json in ``work_dir``; each whole or not at all, none if one cannot be made.

    A results.json of before intervals and comparisons were kept gives a report that shows dashes in their places and says so.

    Raises:
        ConfigError: results.json, or a picture that its gallery names, is missing or damaged.
    """
    from dagn_pre.benchmarks.downstream.report import page, plot, tables

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


def advice(work_dir: str | Path) -> Iterator[str]:
    """What to do in front of each model of a work dir, a line each, and the command that does it."""
    run = load(work_dir)
    for panel in run.panels:
        if panel.advice:
            yield f"{panel.title}: {recommendation(panel)}"
    if any(panel.advice.get("decision") == RESTORE for panel in run.panels):
        yield f"To do so: dagn-pre insert CONFIG --advice {work_dir} -o OUT.py"
