"""Scores, differences and intervals as text, the same in tables, charts and pages."""

from __future__ import annotations

from dagn_pre.benchmarks.downstream.panels import interval


def number(value: float | None, digits: int = 2) -> str:
    """A score with the two decimals that a difference needs, or a dash for what is not measured."""
    return "-" if value is None else f"{value:.{digits}f}"


def signed(value: float, digits: int = 2) -> str:
    """A difference; one that rounds to nothing has no sign."""
    return f"{value:+.{digits}f}" if round(value, digits) else f"{0:.{digits}f}"


def bracketed(ends: tuple[float, float] | None, digits: int, sign: bool = False) -> str:
    """An interval, after a space; nothing where there is none."""
    show = signed if sign else number
    return f" [{show(ends[0], digits)}, {show(ends[1], digits)}]" if ends else ""


def bounded(value: float | None, ends: tuple[float, float] | None) -> str:
    """A difference and its interval."""
    return "-" if value is None else signed(value) + bracketed(ends, 2, sign=True)


def scored(row: dict | None, bold: bool = False) -> str:
    """A score and its interval, with one decimal: it is not known better."""
    if row is None:
        return "-"
    value = f"**{number(row['value'])}**" if bold else number(row["value"])
    return value + bracketed(interval(row), 1)
