"""Two runs side by side: the cells that both have, what their settings differ in, and what only one has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dagn_pre.benchmarks.downstream.panels import HEADINGS, IDENTITY, Run, interval, load
from dagn_pre.benchmarks.downstream.report.numbers import bracketed, number, signed
from dagn_pre.benchmarks.markdown import aligned, flat
from dagn_pre.errors import UsageError
from dagn_pre.files import write_atomic

IMAGES = ("limit", "subset", "seed")  # with the annotations, what decides which images are tested


@dataclass(frozen=True)
class Cell:
    """A score in both runs; ``overlap``: whether their intervals share a value, None where one has no interval."""

    first: dict
    second: dict

    @property
    def difference(self) -> float:
        return self.second["value"] - self.first["value"]

    @property
    def overlap(self) -> bool | None:
        one, other = interval(self.first), interval(self.second)
        return None if one is None or other is None else one[0] <= other[1] and other[0] <= one[1]


@dataclass(frozen=True)
class Comparison:
    """What ``compare`` found.

    Attributes:
        names: of the two runs, their folders.
        cells: that both have, in A's order.
        alone: rows that only A has, and only B.
        settings: (name, A's, B's) of what differs, as text.
        notes: how far the scores can be compared.
    """

    names: tuple[str, str]
    cells: list[Cell]
    alone: tuple[list[dict], list[dict]]
    settings: list[tuple[str, str, str]]
    notes: list[str]


def compare(first: str | Path, second: str | Path) -> Comparison:
    """Read two runs, folders or results.json files, and set them side by side.

    Raises:
        ConfigError: a results.json is missing or damaged.
        UsageError: both are the same file.
    """
    runs = load(first), load(second)
    if Path(first).resolve() == Path(second).resolve():
        raise UsageError(f"{first} and {second} are the same run: name two")
    tables = [{tuple(row[part] for part in IDENTITY): row for row in run.content["rows"]} for run in runs]
    cells = [Cell(row, tables[1][key]) for key, row in tables[0].items() if key in tables[1]]
    mine, others = ([row for key, row in one.items() if key not in other] for one, other in (tables, tables[::-1]))
    return Comparison((str(first), str(second)), cells, (mine, others), list(differing(*runs)), list(notes(*runs, cells)))


def leaves(value, name: str = "") -> Iterator[tuple[str, object]]:
    """The innermost values in nested mappings, by names joined with a colon."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{name}: {key}" if name else key)
    else:
        yield name, value


def differing(first: Run, second: Run) -> Iterator[tuple[str, str, str]]:
    """Settings that are not the same, of what both runs hold; a model or restorer of one run alone is no setting."""
    environments = [dict(run.environment) for run in (first, second)]
    for part in ("models", "restorers"):
        mine, other = (environment.get(part, {}) for environment in environments)
        both = mine.keys() & other.keys()
        for environment in environments:
            environment[part] = {name: value for name, value in environment.get(part, {}).items() if name in both}
    one, other = (dict(leaves(environment)) for environment in environments)
    for name in dict.fromkeys((*one, *other)):
        if one.get(name) != other.get(name):
            mine, others = ("-" if held.get(name) is None else flat(held[name]) for held in (one, other))
            yield name, mine, others


def notes(first: Run, second: Run, cells: list[Cell]) -> Iterator[str]:
    """Whether the same images were tested, and what overlapping intervals do and do not say."""
    if not cells:
        yield "The runs share no cell: no task, model, data set, input and QF is in both."
        return
    if same_images(first, second, cells):
        yield (
            "Both runs tested the same images, but the intervals are of each run alone, not of the difference: where they are "
            "apart the runs differ; where they overlap the runs may differ all the same."
        )
    else:
        yield (
            "The runs tested different images (or do not say which): the intervals compared are unpaired, and a difference can "
            "come from the images alone."
        )
    if any(cell.overlap is None for cell in cells):
        yield "Cells without intervals, of an older results.json or of fewer than two images, say nothing about chance."


def same_images(first: Run, second: Run, cells: list[Cell]) -> bool:
    """Whether annotations, limit, subset and seed of all cells agree; False where the runs do not say."""
    if any(first.environment.get(key) != second.environment.get(key) for key in IMAGES):
        return False
    for cell in cells:
        title = f"{cell.first['model']}, {cell.first['dataset']}"
        digests = [run.environment.get("models", {}).get(title, {}).get("annotations_sha256") for run in (first, second)]
        if digests[0] is None or digests[0] != digests[1] or cell.first["n_images"] != cell.second["n_images"]:
            return False
    return True


def lines(comparison: Comparison) -> Iterator[list[str]]:
    """The table of the cells, heading first."""
    yield ["Model", "Input", "QF", "A", "B", "B - A", "intervals"]
    for cell in comparison.cells:
        row = cell.first
        values = [number(one["value"]) + bracketed(interval(one), 1) for one in (cell.first, cell.second)]
        overlap = {None: "-", True: "overlap", False: "apart"}[cell.overlap]
        yield [f"{row['model']}, {row['dataset']}", *named(row), *values, signed(cell.difference), overlap]


def named(row: dict) -> tuple[str, str]:
    """Input and QF."""
    return HEADINGS.get(row["input"], row["input"]), "-" if row["qf"] is None else str(row["qf"])


def markdown(comparison: Comparison) -> str:
    """The comparison as Markdown, also for the terminal."""
    first, second = comparison.names
    parts = ["# Two runs side by side", f"- A: {first}\n- B: {second}"]
    if comparison.cells:
        parts.append("\n".join(aligned(list(lines(comparison)), numbers_from=2)))
    parts.append("\n".join(f"- {note}" for note in comparison.notes))
    parts.append("## Settings that differ")
    table = [["Setting", "A", "B"], *map(list, comparison.settings)]
    parts.append("\n".join(aligned(table, numbers_from=3)) if comparison.settings else "None.")
    for side, rows in zip("AB", comparison.alone):
        if rows:
            parts.append(f"## Only in {side}")
            parts.append("\n".join(f"- {text}" for text in map(lone, rows)))
    return "\n\n".join(parts) + "\n"


def lone(row: dict) -> str:
    """A row of one run alone."""
    label, quality = named(row)
    at = "" if row["qf"] is None else f" at QF {quality}"
    return f"{row['model']}, {row['dataset']}: {label}{at}, {number(row['value'])}"


def write(comparison: Comparison, output: Path) -> list[Path]:
    """Write a .md or .html file, or both into a folder; returns what was written.

    Raises:
        UsageError: the file has another suffix.
    """
    if output.suffix and not output.is_dir() and output.suffix not in (".md", ".html"):
        raise UsageError(f"cannot write a comparison to {output}: name a .md or .html file, or a folder")
    paths = [output] if output.suffix in (".md", ".html") else [output / "compare.md", output / "compare.html"]
    for path in paths:
        write_atomic(path, (html(comparison) if path.suffix == ".html" else markdown(comparison)).encode())
    return paths


def html(comparison: Comparison) -> str:
    """The comparison as a page in the report's style."""
    from dagn_pre.benchmarks.downstream.report.page import fill

    header, *rows = lines(comparison)
    return fill("compare.html.j2", script="", comparison=comparison, header=header, rows=rows, lone=lone)
