"""Colours and marks of the inputs, the same in every chart; told apart by colour-blind readers, and by marks without colour."""

from __future__ import annotations

# After Okabe and Ito; the second of each pair is lighter, for dark backgrounds.
RESTORERS = (
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#ff9348"),
    ("#009e73", "#3fd0a4"),
    ("#a8447c", "#e79ac2"),
    ("#8a6d00", "#f0c541"),
)
JPEG = ("#6b7280", "#a3abb8")
ORIGINAL = ("#1c2430", "#e8ecf2")
MARKS = ("s", "^", "D", "v", "P")  # matplotlib's names


def css() -> str:
    """The colours as custom properties, for light and for dark."""
    names = {"original": ORIGINAL, "jpeg": JPEG, **{str(index): pair for index, pair in enumerate(RESTORERS)}}
    light, dark = ("".join(f"--s-{name}:{pair[side]};" for name, pair in names.items()) for side in (0, 1))
    uses = "".join(f".s-{name}{{--c:var(--s-{name})}}" for name in names)
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}{uses}"


def series(label: str, restorers: list[str]) -> str:
    """The CSS class of an input."""
    return f"s-{label}" if label in ("original", "jpeg") else f"s-{restorers.index(label) % len(RESTORERS)}"


def mark(label: str, restorers: list[str]) -> str:
    """The mark of an input."""
    return "o" if label in ("original", "jpeg") else MARKS[restorers.index(label) % len(MARKS)]


def colour(label: str, restorers: list[str]) -> str:
    """The colour of an input on white."""
    named = {"original": ORIGINAL, "jpeg": JPEG}
    return (named.get(label) or RESTORERS[restorers.index(label) % len(RESTORERS)])[0]
