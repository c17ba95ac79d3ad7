"""results.md: the paper's Table IV, what the intervals say, the harm check, and what one must know to read them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from dagn_pre.benchmarks.downstream.panels import (
    HARM_CHECK,
    HEADINGS,
    HELPS,
    HURTS,
    JPEG_DATASETS,
    UNDECIDED,
    Panel,
    Run,
    interval,
    mean,
    verdict,
)
from dagn_pre.benchmarks.downstream.report.advice_text import outcome, recommendation
from dagn_pre.benchmarks.downstream.report.numbers import bounded, bracketed, number, scored, signed
from dagn_pre.benchmarks.markdown import aligned, facts

PAIRED = (
    "Restored and JPEG images are compared in pairs: the same images are drawn again and again for both, so these intervals "
    "(95 %, bootstrap over images) are of the difference itself. Helps: all of the interval is above 0; hurts: all of it is "
    "below; else no difference is shown. At 95 % about one verdict in twenty is chance where there is no difference."
)
SIZED = (
    "Side information makes files larger, and a higher QF would too: here the other input is of as many bytes (means over the "
    "images), its score read between the two QFs around that size, linear in the logarithm. Intervals are of the difference, "
    "paired as above; where the other's largest files are smaller, nothing is said."
)
HALVES = (
    "Restored minus JPEG in points, on each half of the images, dealt out by a hash of their names; intervals as below. A "
    "restorer is chosen on the first half, from the lowest measured QF on for as long as all of the interval is above 0, and "
    "the second half has to confirm each QF in the same way; of those that are left, it is the one that gains most on both. "
    "Half as many images give wider intervals: more images may show more."
)
UNADVISED = (
    "This results.json holds no advice: no restorer was compared with JPEG, or an older dagn-pre wrote it. Run dagn-pre bench "
    "run again: what is measured already is kept."
)
UNPAIRED = (
    "This results.json holds no paired comparisons: JPEG was not measured, or an older dagn-pre wrote it. For a harm check, "
    "run dagn-pre bench run again."
)


def markdown(run: Run) -> str:
    """The text of results.md."""
    names = run.restorers
    parts = ["# What JPEG costs, and what restoring wins back", "\n".join(score_table(run.panels, names))]
    parts.append(" ".join(legend(run)))
    if known := list(remarks(run)):
        parts.append("\n".join(f"- {remark}" for remark in known))
    if names:
        parts += ["## What to do", *advice(run)]
        parts += ["## Does restoring ever hurt?", *harm_check(run)]
    if any(panel.equal_size for panel in run.panels):
        parts += ["## At equal file size", "\n".join(size_table(run.panels)), SIZED]
    for base, variant in run.pairs:
        if "## Restore or retrain?" not in parts:
            parts.append("## Restore or retrain?")
        parts += [retraining(base, variant), "\n".join(retrain_table(base, variant))]
    parts += ["## Milliseconds per image", "\n".join(time_table(run.panels))]
    parts += ["## Measured with", "\n".join(facts(run.content))]
    return "\n\n".join(parts) + "\n"


def legend(run: Run) -> Iterator[str]:
    """How to read the table of scores."""
    if any(interval(row) for panel in run.panels for row in panel.rows):
        yield "In square brackets: the 95 % interval of a score, by bootstrap over the images."
    else:
        yield "No intervals: there are none in this results.json, or there were fewer than two images."
    if run.restorers:
        yield (
            "In round brackets: the share of the loss (original minus JPEG) that the restorer wins back; negative where it "
            "hurts, absent where JPEG costs nothing. Bold: the best at this QF."
        )


def score_table(found: list[Panel], names: list[str]) -> Iterator[str]:
    """Laid out like the paper's Table IV, with the original's score beside JPEG's."""
    lines = [["Task", "Metric", "QF", "original", "JPEG", *names]]
    for panel in found:
        about = [panel.task.capitalize(), panel.model, f"{panel.dataset}, {panel.images} images"]
        for index, (text, quality) in enumerate(zip_longest(about, panel.qualities)):
            cells = [""] * (2 + len(names)) if quality is None else list(score_cells(panel, quality, names))
            if not index:
                cells[0] = scored(panel.cell("original", None))
            lines.append([text or "", "" if index else panel.metric, str(quality or ""), *cells])
    yield from aligned(lines, numbers_from=2)


def score_cells(panel: Panel, quality: int, names: list[str]) -> Iterator[str]:
    """Original, JPEG and restorers at one QF; the best of JPEG and restorers in bold, if there is a choice."""
    top = best(panel.value(label, quality) for label in ("jpeg", *names))
    yield scored(panel.cell("original", None))
    for label in ("jpeg", *names):
        row = panel.cell(label, quality)
        share = panel.recovered(label, quality) if label in names else None
        text = scored(row, bold=row is not None and row["value"] == top)
        yield text if share is None else f"{text} ({share:.0f} %)"


def best(values) -> float | None:
    """The highest score, if there is more than one."""
    measured = [value for value in values if value is not None]
    return max(measured) if len(measured) > 1 else None


def advice(run: Run) -> Iterator[str]:
    """In words for each model, then the figures on both halves of the images."""
    advised = [panel for panel in run.panels if panel.advice]
    if not advised:
        yield UNADVISED
        return
    yield "\n".join(f"- {panel.title}: {recommendation(panel)}" for panel in advised)
    lines = [["Model", "Restorer", "QF", "first half", "second half", "result"]]
    for panel in advised:
        for (label, quality), found in panel.halves.items():
            halves = [bounded(found[half], interval(found, f"{half}_low", f"{half}_high")) for half in ("first", "second")]
            lines.append([panel.model, label, str(quality), *halves, outcome(panel, label, quality)])
    yield "\n".join(aligned(lines, numbers_from=2))
    yield HALVES


def harm_check(run: Run) -> Iterator[str]:
    """In words per model and restorer, then the figures behind them."""
    compared = [panel for panel in run.panels if panel.comparisons]
    if not compared:
        yield UNPAIRED
        return
    yield "\n".join(f"- {sentence}" for panel in compared for sentence in harm_sentences(panel))
    lines = [["Model", "Restorer", "QF", "minus JPEG", "recovered", "better / worse", "restoring"]]
    for panel in compared:
        for (label, quality), found in panel.comparisons.items():
            share = f"{panel.recovered(label, quality):.0f} %" if panel.recovered(label, quality) is not None else "-"
            share += bracketed(panel.share_interval(label, quality), 0)
            counts = f"{found['images_better']} / {found['images_worse']}"
            difference = bounded(found["difference"], interval(found))
            lines.append([panel.model, label, str(quality), difference, share, counts, verdict(found) or "-"])
    yield "\n".join(aligned(lines, numbers_from=2))
    yield PAIRED


def harm_sentences(panel: Panel) -> Iterator[str]:
    """One per restorer: at which QFs it helps, hurts, or shows no difference, with the figures at the high ones."""
    for label in panel.restorers:
        judged = panel.judged(label)
        said = [f"{kind} at QF {', '.join(map(str, judged[kind]))}" for kind in (HELPS, UNDECIDED, HURTS) if judged[kind]]
        if not said:
            continue
        said += [] if judged[HURTS] else ["hurts at none"]
        high = [
            f"{signed(found['difference'])}{bracketed(interval(found), 2, sign=True)} points at QF {quality}"
            for quality in HARM_CHECK
            if (found := panel.comparisons.get((label, quality)))
        ]
        yield f"{panel.model}, {panel.dataset}, {label}: {'; '.join(said)}{'. ' if high else ''}{', '.join(high)}."


def size_table(found: list[Panel]) -> Iterator[str]:
    """Inputs with side information beside others of as many bytes."""
    lines = [["Model", "Input", "Against", "QF", "bytes", "score", "the other's", "difference"]]
    for panel in found:
        for entry in panel.equal_size:
            difference = bounded(entry["difference"], interval(entry))
            names = panel.model, entry["input"], HEADINGS.get(entry["against"], entry["against"])
            values = number(entry["value"]), number(entry["against_value"]), difference
            lines.append([*names, str(entry["qf"]), f"{entry['bytes']:.0f}", *values])
    yield from aligned(lines, numbers_from=3)


def retraining(base: Panel, variant: Panel) -> str:
    """What the table of a model and its variant compares."""
    return (
        f"{variant.model} is {base.model}, fine-tuned on JPEG-augmented images. {base.metric} in percent, {base.dataset}, "
        f"{base.images} images; bold: the best at this QF."
    )


def retrain_table(base: Panel, variant: Panel) -> Iterator[str]:
    """Plain and fine-tuned model, each on JPEG and restored images; the last line is what fine-tuning costs on originals."""
    columns, rows = retrain_cells(base, variant)
    lines = [["QF", *(f"{model}, {HEADINGS.get(label, label)}" for model, label in columns)]]
    for quality, values in rows:
        top = best(values)
        lines.append([quality, *(f"**{number(v)}**" if v is not None and v == top else number(v) for v in values)])
    yield from aligned(lines, numbers_from=0)


def retrain_cells(base: Panel, variant: Panel) -> tuple[list[tuple[str, str]], list[tuple[str, list[float | None]]]]:
    """Columns (as it is or fine-tuned, input) and lines (QF, scores); the last line's inputs are originals."""
    inputs = [label for label in dict.fromkeys((*base.inputs, *variant.inputs)) if label != "original"]
    sides = {"as it is": base, "fine-tuned": variant}
    columns = [(side, label) for side in sides for label in inputs]
    qualities = sorted({*base.qualities, *variant.qualities})
    rows = [(str(quality), [sides[side].value(label, quality) for side, label in columns]) for quality in qualities]
    untouched = [sides[side].value("original", None) if label == inputs[0] else None for side, label in columns]
    return columns, [*rows, ("original", untouched)] if inputs else rows


def time_table(found: list[Panel]) -> Iterator[str]:
    """Restoring and the model's own step, each averaged over the QFs; a dash where all restored images came from a cache."""
    lines = [["Model", "Input", "restoring", "model"]]
    for panel in found:
        for label in panel.inputs:
            rows = [row for row in panel.rows if row["input"] == label]
            restoring = None if label in HEADINGS else mean(row["restore_ms_per_image"] for row in rows)
            model = mean(row["model_ms_per_image"] for row in rows)
            lines.append([panel.model, HEADINGS.get(label, label), number(restoring, 1), number(model, 1)])
    yield from aligned(lines, numbers_from=2)


def remarks(run: Run) -> Iterator[str]:
    """What a reader must know beside the figures."""
    for dataset in dict.fromkeys(panel.dataset for panel in run.panels):
        if any(name in dataset.upper() for name in JPEG_DATASETS):
            yield (
                f"The images of {dataset} are JPEG files already: the original is as published, its pixels untouched, and JPEG "
                "at a QF is a second compression."
            )
    for panel in run.panels:
        if panel.scored != panel.classes:
            yield (
                f"{panel.model}, {panel.dataset}: the score is the mean over {len(panel.scored)} of {len(panel.classes)} "
                f"classes ({', '.join(panel.scored)}); the others have too few images, and stand apart in report.html."
            )
    few = "not to be compared with published scores"
    if run.environment.get("limit"):
        yield f"Only the first {run.environment['limit']} images were tested: {few}."
    if run.environment.get("subset"):
        size, seed = run.environment["subset"], run.environment.get("seed")
        yield f"A stratified sample of {size} images was tested (seed {seed}): {few}."
    if untimed := sum(row["restore_ms_per_image"] is None for panel in run.panels for row in panel.rows):
        yield f"{untimed} cells found all restored images in the cache, or had workers restore: they have no time of restoring."
