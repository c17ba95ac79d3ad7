"""results.png: score against QF, and below it the share of the loss recovered."""

from __future__ import annotations

from matplotlib.figure import Figure

from dagn_pre.benchmarks.downstream.panels import HEADINGS, Panel, Run, interval
from dagn_pre.benchmarks.downstream.report import palette


def draw(run: Run) -> Figure:
    """A column per model; above a line per input with its 95 % interval as a band, below the share if anything restores."""
    restorers = run.restorers
    height = 2 if restorers else 1
    figure = Figure(figsize=(5.5 * len(run.panels), 1 + 3.4 * height), layout="constrained")
    axes = figure.subplots(height, len(run.panels), squeeze=False)
    for column, panel in enumerate(run.panels):
        draw_scores(axes[0][column], panel, restorers)
        if restorers:
            draw_shares(axes[1][column], panel, restorers)
    return figure


def draw_scores(axis, panel: Panel, restorers: list[str]) -> None:
    """Score against QF."""
    for label in panel.inputs:
        style = {"color": palette.colour(label, restorers), "label": HEADINGS.get(label, label)}
        cells = {quality: row for quality in panel.qualities if (row := panel.cell(label, quality))}
        if label == "original":
            axis.axhline(panel.value(label, None), linestyle="--", linewidth=1, **style)
        elif cells:
            values = [row["value"] for row in cells.values()]
            axis.plot(list(cells), values, marker=palette.mark(label, restorers), **style)
            band(axis, {quality: interval(row) for quality, row in cells.items()}, style["color"])
    axis.set(title=f"{panel.model}\n{panel.dataset}", ylabel=f"{panel.metric}, %")
    finish(axis, panel)


def draw_shares(axis, panel: Panel, restorers: list[str]) -> None:
    """Share of the loss recovered against QF."""
    for level in (0, 100):
        axis.axhline(level, color="0.5", linewidth=0.8, linestyle=":")
    for label in panel.restorers:
        shares = {quality: share for quality in panel.qualities if (share := panel.recovered(label, quality)) is not None}
        style = {"color": palette.colour(label, restorers), "label": label}
        if shares:
            axis.plot(list(shares), list(shares.values()), marker=palette.mark(label, restorers), **style)
            band(axis, {quality: panel.share_interval(label, quality) for quality in shares}, style["color"])
    low, high = axis.get_ylim()
    axis.set(ylabel="share of the loss recovered, %", ylim=(max(low, -150), min(high, 250)))
    finish(axis, panel)


def band(axis, ends: dict[int, tuple[float, float] | None], colour: str) -> None:
    """The intervals there are, joined."""
    found = {quality: pair for quality, pair in ends.items() if pair}
    if found:
        lows, highs = zip(*found.values())
        axis.fill_between(list(found), lows, highs, color=colour, alpha=0.15, linewidth=0)


def finish(axis, panel: Panel) -> None:
    axis.set_xlabel("JPEG quality factor")
    axis.set_xticks(panel.qualities)
    axis.grid(alpha=0.3)
    if axis.get_legend_handles_labels()[0]:
        axis.legend()
