"""report.html: one page that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dagn_pre import __version__
from dagn_pre.benchmarks import markdown
from dagn_pre.benchmarks.downstream.panels import HARM_CHECK, HEADINGS, Panel, Run, interval, verdict
from dagn_pre.benchmarks.downstream.report import advice_text, gallery, numbers, palette, svg, text
from dagn_pre.benchmarks.downstream.report.svg import Point, Series

HERE = Path(__file__).parent


def render(run: Run) -> str:
    """The page's text.

    Raises:
        ConfigError: a picture of the gallery is missing or damaged.
    """
    pictures = gallery.prepare(run)
    names = run.restorers
    shown = [
        {"entries": [{key: one[key] for key in one if key != "files"} for one in entries]} for entries in pictures.entries
    ]
    return fill(
        "page.html.j2",
        script=(HERE / "page.js").read_text(encoding="utf-8"),
        run=run,
        names=names,
        gallery=pictures,
        gallery_data={"pictures": pictures.pictures, "panels": shown},
        charts=[dict(charts(panel, names)) for panel in run.panels],
        retrain_charts=[retrain_chart(base, variant, names) for base, variant in run.pairs],
        classes=[list(class_changes(panel)) for panel in run.panels],
    )


def fill(template: str, script: str, **values) -> str:
    """A template with the page's style and a script in it, both named by hash in its policy: no other runs."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )

    def bracketed(ends: tuple[float, float] | None, digits: int = 1, sign: bool = False) -> str:
        return minus(numbers.bracketed(ends, digits, sign).strip())

    environment.filters |= {
        "number": numbers.number,
        "signed": lambda value, digits=2: minus(numbers.signed(value, digits)),
        "interval": bracketed,
    }
    style = palette.css() + (HERE / "page.css").read_text(encoding="utf-8")
    policy = f"default-src 'none'; img-src data:; style-src '{digest(style)}'; base-uri 'none'; form-action 'none'"
    policy += f"; script-src '{digest(script)}'" if script else ""
    shared = {"harm_check": HARM_CHECK, "interval": interval, "verdict": verdict}
    shared |= {"text": text, "advice_text": advice_text, "markdown": markdown, "svg": svg, "palette": palette}
    shared |= {"headings": HEADINGS, "style": Markup(style), "script": Markup(script), "policy": policy, "version": __version__}
    return environment.get_template(template).render(**shared, **values)


def digest(source: str) -> str:
    """How a policy names an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"


def minus(shown: str) -> str:
    """With the typographic sign."""
    return shown.replace("-", "\u2212")


def charts(panel: Panel, names: list[str]) -> Iterator[tuple[str, Markup]]:
    """The charts of one model, by name."""
    about = f"{panel.model}, {panel.dataset}"
    if panel.qualities:
        yield (
            "scores",
            svg.chart(
                [scores(panel, label, names) for label in panel.inputs],
                f"{panel.metric} against JPEG quality factor, {about}",
                "JPEG quality factor",
                f"{panel.metric}, %",
                panel.qualities,
            ),
        )
    if panel.restorers and panel.qualities:
        yield (
            "shares",
            svg.chart(
                [shares(panel, label, names) for label in panel.restorers],
                f"Share of the loss recovered against JPEG quality factor, {about}",
                "JPEG quality factor",
                "loss recovered, %",
                panel.qualities,
                levels=(0, 100),
                limits=(-150, 250),
            ),
        )
    yield (
        "times",
        svg.chart(
            [times(panel, label, names) for label in panel.inputs],
            f"{panel.metric} against milliseconds per image, restoring and model together, {about}",
            "milliseconds per image, restoring + model",
            f"{panel.metric}, %",
        ),
    )


def scores(panel: Panel, label: str, names: list[str], side: str = "", hollow: bool = False) -> Series:
    """Score against QF; the original's is one level."""
    name = f"{side}{HEADINGS.get(label, label)}"
    points = []
    for quality in [panel.qualities[0]] if label == "original" and panel.qualities else panel.qualities:
        if row := panel.cell(label, quality):
            at = "" if label == "original" else f" at QF {quality}"
            tip = f"{name}{at}: {numbers.number(row['value'])}{numbers.bracketed(interval(row), 1)}"
            points.append(Point(quality, row["value"], interval(row), tip))
    style = palette.series(label, names), palette.mark(label, names)
    return Series(name, *style, points, flat=label == "original" and bool(points), hollow=hollow)


def shares(panel: Panel, label: str, names: list[str]) -> Series:
    """Share of the loss recovered against QF."""
    points = []
    for quality in panel.qualities:
        if (share := panel.recovered(label, quality)) is not None:
            ends = panel.share_interval(label, quality)
            points.append(Point(quality, share, ends, f"{label} at QF {quality}: {share:.0f} %{numbers.bracketed(ends, 0)}"))
    return Series(label, palette.series(label, names), palette.mark(label, names), points)


def times(panel: Panel, label: str, names: list[str]) -> Series:
    """Score against milliseconds, a point per QF."""
    points = []
    for quality in [None] if label == "original" else panel.qualities:
        spent, value = panel.milliseconds(label, quality), panel.value(label, quality)
        if spent is not None and value is not None:
            at = "" if quality is None else f" at QF {quality}"
            tip = f"{HEADINGS.get(label, label)}{at}: {value:.2f} in {spent:.1f} ms"
            points.append(Point(spent, value, None, tip, "original" if quality is None else f"QF {quality}"))
    return Series(label, palette.series(label, names), palette.mark(label, names), points, line=False)


def retrain_chart(base: Panel, variant: Panel, names: list[str]) -> Markup:
    """Both models on JPEG and restored images; the fine-tuned one's marks are hollow, its lines dashed."""
    lines = [scores(base, label, names, "as it is, ") for label in base.inputs if label != "original"]
    lines += [scores(variant, label, names, "fine-tuned, ", True) for label in variant.inputs if label != "original"]
    title = f"{base.metric} against JPEG quality factor, {base.model} as it is and fine-tuned on JPEG-augmented images"
    return svg.chart(
        lines, title, "JPEG quality factor", f"{base.metric}, %", sorted({*base.qualities, *variant.qualities})
    )


def class_changes(panel: Panel) -> Iterator[dict]:
    """Per restorer and QF the classes with JPEG's and the restored score, the largest gain first; ``apart`` holds those that
    the score leaves out."""
    original = (panel.cell("original", None) or {}).get("per_class") or {}
    for quality in panel.qualities:
        before = (panel.cell("jpeg", quality) or {}).get("per_class") or {}
        for label in panel.restorers:
            after = (panel.cell(label, quality) or {}).get("per_class") or {}
            rows = [
                {"name": name, "original": original.get(name), "before": before[name], "after": after[name]}
                for name in before
                if before[name] is not None and after.get(name) is not None
            ]
            rows.sort(key=lambda row: row["before"] - row["after"])
            apart = [row for row in rows if row["name"] not in panel.scored]
            rows = [row for row in rows if row["name"] in panel.scored]
            if rows:
                better = sum(row["after"] > row["before"] for row in rows)
                worse = sum(row["after"] < row["before"] for row in rows)
                yield {"restorer": label, "qf": quality, "rows": rows, "apart": apart, "better": better, "worse": worse}
