"""The advice in words: what to put in front of a model, why, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable

from dagn_pre.benchmarks.downstream.panels import FEW, HELPS, HURTS, LEAST, LEAVE, RESTORE, UNCONFIRMED, Panel, verdict
from dagn_pre.benchmarks.downstream.report.numbers import number


def recommendation(panel: Panel) -> str:
    """What to do in front of a model, why, and what it costs; one line."""
    found = panel.advice
    name, promised = found["restorer"], listed(found["unconfirmed"])
    if found["decision"] == FEW:
        return f"no advice: {sum(found['images'])} images are too few, {LEAST} are the least."
    if found["decision"] == LEAVE:
        why = "leave it alone. On the first half of the images no restorer is shown to help at the lowest QF that was measured."
        return f"{why}{beyond(panel)}"
    if found["decision"] == UNCONFIRMED:
        why = f"leave it alone. On the first half of the images {name} helps at QF {promised}, which the second half"
        return f"{why} does not confirm; more images may."
    parts = [
        f"restore up to QF {max(found['qualities'])} with {name}: max_quality {found['max_quality']}, strength "
        f"{strength_text(found['strength'])}.",
        f"Both halves of the images show that it helps at QF {listed(found['qualities'])}.",
    ]
    if promised:
        parts.append(f"At QF {promised} the first half shows so too, but the second does not confirm it.")
    elif found["following"] is None:
        parts.append("No higher QF was measured; there it may help as well.")
    else:
        parts.append(f"At QF {found['following']}, the next that was measured, no help is shown.")
    if found["alternatives"]:
        rivals = listed(rival(panel, label) for label in found["alternatives"])
        return " ".join([*parts, price(found), f"Not shown to gain less: {rivals}."])
    return " ".join([*parts, price(found)])


def beyond(panel: Panel) -> str:
    """After a space, which restorers help on the first half, but only above a QF where they are not shown to."""
    where: dict[str, list[int]] = {}
    for (label, quality), found in panel.halves.items():
        if helps(found, "first"):
            where.setdefault(label, []).append(quality)
    said = listed(f"{label} at QF {listed(qualities)}" for label, qualities in where.items())
    return f" Shown to help at higher QFs alone: {said}; max_quality cannot leave out what lies below." if where else ""


def price(found: dict) -> str:
    """What the advised restoring costs, in milliseconds and beside the model."""
    restoring, model = found["restore_ms_per_image"], found["model_ms_per_image"]
    if restoring is None:
        return "What it costs is not known here: all restored images came from the cache."
    beside = f"{number(restoring / model)} times the model's own {number(model, 1)} ms"
    return f"It costs {number(restoring, 1)} ms per image, {beside}."


def rival(panel: Panel, label: str) -> str:
    """A restorer that may do as well, with what it costs."""
    spent = panel.cost(cell for cell in panel.cells if cell[0] == label)
    return label if spent is None else f"{label} ({number(spent, 1)} ms)"


def outcome(panel: Panel, label: str, quality: int) -> str:
    """What both halves together say of a restorer at a QF: "restore" where that is advised."""
    found = panel.halves[label, quality]
    if dict(zip(panel.advice["qualities"], panel.advice["inputs"])).get(quality) == label:
        return RESTORE
    first, second = (verdict(found, f"{half}_low", f"{half}_high") for half in ("first", "second"))
    if HURTS in (first, second):
        return HURTS
    return UNCONFIRMED if first == HELPS != second else first or "-"


def helps(found: dict, half: str) -> bool:
    """Whether one half of the images shows a gain."""
    return verdict(found, f"{half}_low", f"{half}_high") == HELPS


def strength_text(strength: float | list) -> str:
    """A strength, or one by QF."""
    if not isinstance(strength, list):
        return f"{strength:g}"
    return ", ".join(f"{value:g} at QF {quality}" for quality, value in strength) + ", linear in between"


def listed(values: Iterable) -> str:
    """Numbers or names in words."""
    *most, last = [str(value) for value in values] or [""]
    return f"{', '.join(most)} and {last}" if most else last
