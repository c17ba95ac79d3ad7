"""The report: drawn from results.json and the gallery's pictures alone."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dagn_pre.benchmarks.downstream import panels, report
from dagn_pre.benchmarks.downstream.report import compare, gallery, page, plot, svg, tables, text
from dagn_pre.cli.main import main
from dagn_pre.errors import ConfigError, UsageError
from tests.benchmarks.downstream import report_runs

GOLDEN = Path(__file__).parent / "golden_results.md"
GALLERY_FILE = "gallery/1gain-qf10-restored-mask.png"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """A folder with the made-up run and its report; not to be changed."""
    folder = tmp_path_factory.mktemp("run")
    report_runs.make(folder)
    report.write(folder)
    return folder


def loaded(folder: Path, results: dict) -> panels.Run:
    (folder / "results.json").write_text(json.dumps(results))
    return panels.load(folder)


def older(results: dict) -> dict:
    """As before there were intervals, comparisons and pictures."""
    new = ("low", "high", "per_class")
    rows = [{key: value for key, value in row.items() if key not in new} for row in results["rows"]]
    return {"rows": rows, "environment": results["environment"]}


def test_the_text_is_as_it_was_agreed(drawn):
    """UPDATE_GOLDEN=1 writes it anew; then read it before committing it."""
    written = (drawn / "results.md").read_text(encoding="utf-8")
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(written, encoding="utf-8")
    assert written == GOLDEN.read_text(encoding="utf-8")


def test_the_share_won_back(tmp_path):
    results = report_runs.content()
    values = {("original", None): 70.0, ("jpeg", 10): 60.0, ("jpeg", 20): 70.5, ("jpeg", 40): 66.0}
    values |= {("dagn-s", 10): 55.0, ("dagn-s", 20): 70.25, ("dagn-s", 40): 70.0}
    head = {key: results["rows"][0][key] for key in ("task", "model", "dataset", "metric", "n_images", "model_ms_per_image")}
    results["rows"] = [
        {**head, "input": label, "qf": quality, "value": value, "restore_ms_per_image": 0.0}
        for (label, quality), value in values.items()
    ]
    results |= {table: [] for table in ("comparisons", "equal_size", "halves", "advice")}
    panel = loaded(tmp_path, results).panels[0]
    assert panel.recovered("dagn-s", 10) == pytest.approx(-50)
    assert panel.recovered("dagn-s", 20) is None  # JPEG costs nothing there
    assert panel.recovered("dagn-s", 30) is None  # not measured
    assert panel.recovered("dagn-s", 40) == pytest.approx(100)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.1, 2.0, "helps"), (-2.0, -0.1, "hurts"), (-0.1, 0.1, "no difference shown"), (0.0, 0.0, "no difference shown"),
     (None, None, None)],
)  # fmt: skip
def test_verdicts(low, high, said):
    assert panels.verdict({"low": low, "high": high}) == said


def test_the_picture_has_a_column_per_model_and_a_line_per_input(drawn):
    run = panels.load(drawn)
    figure = plot.draw(run)
    assert len(figure.axes) == 2 * len(run.panels)
    scores, shares = figure.axes[0], figure.axes[len(run.panels)]
    assert [line.get_label() for line in scores.lines] == ["original", "JPEG", "dagn-s", "other"]
    assert list(scores.lines[2].get_xdata()) == list(report_runs.QUALITIES)
    assert scores.lines[2].get_ydata()[0] == run.panels[0].value("dagn-s", 10)
    assert set(scores.lines[0].get_ydata()) == {30.75} and scores.lines[0].get_linestyle() == "--"
    assert len(scores.collections) == 3  # a band for each but the original
    assert [line.get_label() for line in shares.lines[2:]] == ["dagn-s", "other"]
    with Image.open(drawn / "results.png") as image:
        assert image.format == "PNG" and image.width > image.height > 300


def test_tables_for_spreadsheets(drawn):
    results = json.loads((drawn / "results.json").read_text())
    rows = list(csv.DictReader(io.StringIO((drawn / "results.csv").read_text())))
    assert len(rows) == len(results["rows"]) and "per_class" not in rows[0]
    for line, row in zip(rows, results["rows"], strict=True):
        plain = {key: "" if value is None else str(value) for key, value in row.items() if key != "per_class"}
        assert line == plain
    compared = list(csv.DictReader(io.StringIO((drawn / "comparisons.csv").read_text())))
    assert len(compared) == len(results["comparisons"]) == 30
    assert {(line["input"], line["qf"]): line["verdict"] for line in compared}["other", "90"] == "hurts"


def test_only_photographs_are_called_jpeg_already(tmp_path):
    results = older(report_runs.content())
    assert "images of COCO val2017 are JPEG" in text.markdown(loaded(tmp_path, results))
    results["rows"] = [row for row in results["rows"] if row["dataset"] == "CamVid"]
    assert "are JPEG" not in text.markdown(loaded(tmp_path, results))


def test_an_older_file_shows_dashes_and_says_so(tmp_path):
    run = loaded(tmp_path, older(report_runs.content()))
    written = text.markdown(run)
    assert re.search(r"\| +30.75 \|", written) and "28.95** (80 %)" in written and "No intervals" in written
    assert text.UNPAIRED in written and "helps" not in written
    report.write(tmp_path)
    shown = (tmp_path / "report.html").read_text()
    assert "No intervals" in shown and text.UNPAIRED in shown and "No gallery" in shown
    assert len((tmp_path / "comparisons.csv").read_text().splitlines()) == 1


def test_few_cells(tmp_path):
    """An original alone; with one QF of JPEG; a restorer whose images all came from a cache."""
    results = older(report_runs.content())
    rows = [row for row in results["rows"] if row["model"] == "Faster R-CNN"]
    results["rows"] = rows[:1]
    report.write(loaded(tmp_path, results).folder)
    assert "30.75" in (tmp_path / "results.md").read_text()
    results["rows"] = rows[:2]
    report.write(loaded(tmp_path, results).folder)
    written = (tmp_path / "results.md").read_text()
    assert "**" not in written and "In round brackets" not in written and "hurt" not in written
    results["rows"] = [*rows[:2], {**rows[6], "restore_ms_per_image": None}]
    report.write(loaded(tmp_path, results).folder)
    written = (tmp_path / "results.md").read_text()
    assert re.search(r"dagn-s +\| +- \| +62\.0", written) and "1 cells found all restored images in the cache" in written


def test_times_of_a_cache_are_those_of_the_same_images(tmp_path):
    results = report_runs.content()
    for row in results["rows"]:
        if row["model"] == "PSPNet, JPEG-augmented" or row["task"] == "object detection":
            row["restore_ms_per_image"] = None
    detector, plain, variant = loaded(tmp_path, results).panels
    assert plain.milliseconds("dagn-s", 10) == variant.milliseconds("dagn-s", 10) == 41.5 + 62
    assert detector.milliseconds("dagn-s", 10) is None and detector.milliseconds("jpeg", 10) == 62


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"rows": [{}], "environment": {}}', '{"rows": [], "environment": {}}'])
def test_no_results(content, tmp_path):
    with pytest.raises(ConfigError, match="no results in .*results.json: run dagn-pre bench run"):
        report.write(tmp_path)
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ConfigError, match="results.json.*run dagn-pre bench run"):
        report.write(tmp_path)
    assert not (tmp_path / "results.md").exists()


def lose(folder: Path) -> None:
    (folder / GALLERY_FILE).unlink()


def cut(folder: Path) -> None:
    path = folder / GALLERY_FILE
    path.write_bytes(path.read_bytes()[:60])


def shrink(folder: Path) -> None:
    Image.new("RGB", (4, 4)).save(folder / GALLERY_FILE)


@pytest.mark.parametrize(("damage", "reason"), [(lose, "is missing"), (cut, "is damaged"), (shrink, "is damaged: 4x4 pixels")])
def test_a_picture_that_is_gone_or_broken_is_named(damage, reason, drawn, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(drawn, folder, ignore=shutil.ignore_patterns("report.html", "results.md"))
    damage(folder)
    assert main(["bench", "report", str(folder)]) == 1
    said = capsys.readouterr().err
    assert f"{folder / GALLERY_FILE} {reason}" in said and "run dagn-pre bench run again" in said
    assert not (folder / "report.html").exists() and not (folder / "results.md").exists()


def test_no_file_outside_the_folder_is_read(drawn, tmp_path):
    results = json.loads((drawn / "results.json").read_text())
    results["gallery"][0]["files"]["original"] = "../secret.png"
    Image.new("RGB", (128, 96)).save(tmp_path / "secret.png")
    shutil.copytree(drawn, tmp_path / "run")
    with pytest.raises(ConfigError, match="secret.png, which lies outside"):
        page.render(loaded(tmp_path / "run", results))


# ---- the page, as text; test_report_page.py looks at it in a browser


def uris(drawn: Path) -> tuple[dict, dict]:
    """The page's gallery data: pictures as (kind, bytes), and the panels."""
    shown = (drawn / "report.html").read_text()
    found = json.loads(re.search(r'id="gallery-data">(.*?)</script>', shown, re.DOTALL)[1])
    decode = re.compile(r"data:image/(\w+);base64,(.*)").fullmatch
    pictures = {name: ((m := decode(uri))[1], base64.b64decode(m[2])) for name, uri in found["pictures"].items()}
    return pictures, found["panels"]


def test_the_page_holds_the_scored_jpegs_and_lossless_pictures_once_each(drawn):
    pictures, panels = uris(drawn)
    results = json.loads((drawn / "results.json").read_text())
    for panel in panels:
        assert len(panel["entries"]) == 8
        for one in panel["entries"]:
            index = next(
                n for n, found in enumerate(results["gallery"])
                if (found["image"], found["qf"], found["input"]) == (one["image"], one["qf"], one["restorer"])
            )  # fmt: skip
            files = results["gallery"][index]["files"]
            assert pictures[one["shown"]["jpeg"]] == ("jpeg", (drawn / files["jpeg"]).read_bytes())
            for view in ("original", "restored"):
                kind, encoded = pictures[one["shown"][view]]
                with Image.open(io.BytesIO(encoded)) as shown, Image.open(drawn / files[view]) as stored:
                    assert kind == "webp" and np.array_equal(np.array(shown.convert("RGB")), np.array(stored.convert("RGB")))
    used = {name for panel in panels for one in panel["entries"] for name in one["shown"].values()}
    assert used == set(pictures)


def test_names_are_text_and_not_markup(drawn):
    shown = (drawn / "report.html").read_text()
    assert "<b>" not in shown and "gain \\u0026 \\u003cb\\u003e0" in shown


def test_a_large_gallery_is_stored_with_loss_then_shortened(drawn, monkeypatch):
    run = panels.load(drawn)
    whole = gallery.prepare(run)
    size = sum(len(uri) * 3 // 4 for uri in whole.pictures.values())
    assert whole.encoding == "lossless WebP" and not whole.left_out
    monkeypatch.setattr(gallery, "BUDGET", int(0.7 * size))
    lossy = gallery.prepare(run)
    assert lossy.encoding.startswith("WebP quality") and not lossy.left_out
    monkeypatch.setattr(gallery, "BUDGET", size // 40)
    short = gallery.prepare(run)
    assert short.left_out > 0 and all(short.entries)
    assert {one["kind"] for one in short.entries[0]} == {"gain"}  # the larger change stays
    assert f"{short.left_out} entries are left out" in page.render(run)


def test_boxes_agree_with_the_truth_once_each():
    truth = [{"box": [0, 0, 10, 10], "label": "cat"}, {"box": [20, 0, 30, 10], "label": "cat"}]
    boxes = [
        {"box": [0, 0, 10, 9], "label": "cat", "score": 0.5},
        {"box": [0, 0, 10, 10], "label": "cat", "score": 0.9},
        {"box": [20, 0, 30, 10], "label": "dog", "score": 0.8},
        {"box": [24, 0, 34, 10], "label": "cat", "score": 0.4},
    ]
    assert [(box["score"], box["right"]) for box in gallery.judge(boxes, truth)] == [
        (0.9, True), (0.8, False), (0.5, False), (0.4, False),
    ]  # fmt: skip
    assert gallery.iou([0, 0, 10, 10], [5, 0, 15, 10]) == pytest.approx(50 / 150)


def test_crops_show_the_largest_change():
    changes = np.zeros((100, 200))
    changes[70:80, 150:160] = 9
    wide, high = gallery.window(200, 100)
    assert (wide, high) == (64, 48)
    left, top, *_ = gallery.crop_around(gallery.busiest(changes, wide, high), 200, 100)
    assert left <= 150 and left + wide >= 160 and top <= 70 and top + high >= 80
    assert gallery.crop_around((199, 0), 200, 100) == [136, 0, 64, 48]
    lost = {"jpeg": [], "restored": [{"box": [10, 10, 30, 50], "label": "cat", "score": 0.6, "right": True}]}
    assert gallery.changed_box(lost) == (20, 30)
    assert gallery.changed_box({"jpeg": lost["restored"], "restored": lost["restored"]}) is None


def test_a_chart_puts_points_where_their_values_are():
    """In an SVG's coordinates y grows downwards; labels are escaped."""
    points = [svg.Point(10, 20.0, (15.0, 25.0), "a < b"), svg.Point(90, 40.0)]
    drawn = str(svg.chart([svg.Series("x", "s-0", "o", points)], "t & t", "x", "y", [10, 90]))
    (x0, y0), (x1, y1) = (map(float, pair) for pair in re.findall(r'transform="translate\(([\d.]+) ([\d.]+)\)"', drawn)[-2:])
    ticks = {int(value): float(y) - 4 for y, value in re.findall(r'y="([\d.]+)" text-anchor="end">(\d+)<', drawn)}
    assert x0 < x1 and y0 == pytest.approx(ticks[20], abs=0.2) and y1 == pytest.approx(ticks[40], abs=0.2)
    assert 'data-tip="a &lt; b"' in drawn and 'aria-label="t &amp; t"' in drawn
    bar = re.search(r'class="bar s-0" d="M[\d.]+ ([\d.]+)V([\d.]+)', drawn)
    assert float(bar[1]) == pytest.approx((ticks[10] + ticks[20]) / 2 if 10 in ticks else ticks[15], abs=0.2)
    assert float(bar[1]) > y0 > float(bar[2])


def test_classes_are_sorted_by_change(tmp_path):
    results = report_runs.content()
    for row in results["rows"]:
        if row["input"] == "dagn-s":
            row["per_class"] |= {"sky": 1.0, "car": 99.0, "bus": 5.0}
    first = next(page.class_changes(loaded(tmp_path, results).panels[0]))
    assert [row["name"] for row in first["rows"]] == ["car", "road", "sky"]  # tram has no truth, bus no JPEG score
    assert (first["better"], first["worse"]) == (2, 1)


# ---- two runs


def other_run(folder: Path, **environment) -> dict:
    """The run again with JPEG 3 points worse, dagn-s gone and another restorer."""
    results = report_runs.make(folder, gallery=False)
    for row in results["rows"]:
        if row["input"] == "jpeg":
            row |= {key: row[key] - 6 for key in ("value", "low", "high")}
    results["rows"] = [row for row in results["rows"] if row["input"] != "dagn-s"]
    results["environment"] |= environment
    return results


def with_annotations(results: dict) -> dict:
    for settings in results["environment"]["models"].values():
        settings["annotations_sha256"] = ["12"]
    return results


def test_two_runs_side_by_side(tmp_path, capsys):
    folders = [tmp_path / name for name in "ab"]
    for folder, results in zip(folders, (report_runs.make(folders[0], gallery=False), other_run(folders[1], threads=4))):
        loaded(folder, with_annotations(results))
    assert main(["bench", "compare", *map(str, folders), "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    lines = [re.split(r" *\| *", line.strip("| ")) for line in said.splitlines() if line.startswith("| Faster")]
    cells = {(label, quality): rest for _, label, quality, *rest in lines}
    assert cells["JPEG", "10"] == ["21.75 [19.4, 24.4]", "15.75 [13.4, 18.4]", "-6.00", "apart"]
    assert cells["original", "-"][2:] == ["0.00", "overlap"] and ("dagn-s", "10") not in cells
    assert "Only in A" in said and "Faster R-CNN, COCO val2017: dagn-s at QF 10, 28.95" in said and "Only in B" not in said
    assert re.search(r"\| threads +\| 2 +\| 4 +\|", said) and "tested the same images" in said
    assert said.startswith((tmp_path / "out" / "compare.md").read_text())
    shown = (tmp_path / "out" / "compare.html").read_text()
    assert "apart" in shown and "script-src" not in shown and "<script" not in shown


def test_other_images_are_told(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        loaded(tmp_path / name, with_annotations(other_run(tmp_path / name, seed=seed)))
    found = compare.compare(tmp_path / "a", tmp_path / "b")
    assert any("different images" in note for note in found.notes) and ("seed", "0", "1") in found.settings
    assert {cell.difference for cell in found.cells} == {0.0}


def test_comparisons_that_cannot_be(tmp_path, capsys):
    report_runs.make(tmp_path / "a", gallery=False)
    loaded(tmp_path / "b", other_run(tmp_path / "b"))
    with pytest.raises(UsageError, match="same run"):
        compare.compare(tmp_path / "a", tmp_path / "a")
    assert main(["bench", "compare", str(tmp_path / "a"), str(tmp_path / "none")]) == 1
    assert "none/results.json" in capsys.readouterr().err
    assert main(["bench", "compare", str(tmp_path / "a"), str(tmp_path / "b"), "-o", "x.pdf"]) == 2
    results = older(report_runs.content())
    results["rows"] = [{**row, "model": "another"} for row in results["rows"]]
    loaded(tmp_path / "b", results)
    assert "share no cell" in compare.markdown(compare.compare(tmp_path / "a", tmp_path / "b"))


def test_without_results_there_are_no_tables():
    assert tables.text([], ("a", "b")) == "a,b\n"
