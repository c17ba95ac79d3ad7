"""Markdown of all reports: tables, and the environment that numbers were measured in."""

from __future__ import annotations

from collections.abc import Iterator


def aligned(lines: list[list[str]], numbers_from: int) -> Iterator[str]:
    """A Markdown table with columns padded, so that it also reads in a terminal; numbers stand right.

    A bar or a line break in a cell, as the name of a file may have one, is escaped: it would end the cell.
    """
    lines = [[" ".join(text.replace("|", r"\|").splitlines()) for text in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = ["-" * (width - 1) + (":" if index >= numbers_from else "-") for index, width in enumerate(widths)]
    for line in (lines[0], rule, *lines[1:]):
        pairs = enumerate(zip(line, widths, strict=True))
        padded = [text.rjust(width) if index >= numbers_from else text.ljust(width) for index, (text, width) in pairs]
        yield f"| {' | '.join(padded)} |"


def facts(content: dict) -> Iterator[str]:
    """The environment, one line per entry."""
    for key, value in fact_pairs(content["environment"]):
        yield f"- {key}: {value}"


def fact_pairs(environment: dict) -> Iterator[tuple[str, str]]:
    """The environment as names and texts."""
    for key, value in environment.items():
        if key in ("models", "restorers"):
            yield from ((name, flat(settings)) for name, settings in value.items())
        elif key == "max_quality" and value is None:
            yield key, "none: restored at every QF"
        elif value is not None:
            yield key, flat(value)


def flat(value) -> str:
    """A JSON value in one line of text; of a long list, such as the images of a subset, how long it is."""
    if isinstance(value, dict):
        return "; ".join(f"{key} {flat(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(flat, value)) if len(value) <= 10 else f"{len(value)} in results.json"
    return str(value)
