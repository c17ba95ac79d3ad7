"""The report: drawn from results.json alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from dagn_pre.benchmarks import report
from dagn_pre.errors import ConfigError

GOLDEN = Path(__file__).parent / "golden_results.md"


def row(task: str, label: str, qf: int | None, value: float) -> dict:
    model, dataset, metric = {
        "object detection": ("Faster R-CNN", "COCO val2017", "bbox_mAP"),
        "semantic segmentation": ("PSPNet", "demo", "mIoU"),
    }[task]
    head = {
        "task": task,
        "model": model,
        "dataset": dataset,
        "input": label,
        "qf": qf,
        "metric": metric,
        "value": value,
    }
    restoring = 0.0 if label in ("original", "jpeg") else 40.0 + (qf or 0)
    return {**head, "n_images": 60, "restore_ms_per_image": restoring, "model_ms_per_image": 12.5}


@pytest.fixture
def results() -> dict:
    """Two tasks; a cell that is missing, one where restoring hurts, one where JPEG costs nothing."""
    detection, segmentation = "object detection", "semantic segmentation"
    rows = [
        row(detection, "original", None, 30.75),
        row(detection, "jpeg", 10, 21.84),
        row(detection, "jpeg", 20, 29.16),
        row(detection, "dagn-s", 10, 28.18),
        row(segmentation, "original", None, 70.0),
        row(segmentation, "jpeg", 10, 60.0),
        row(segmentation, "jpeg", 20, 70.5),
        row(segmentation, "jpeg", 30, 66.0),
        row(segmentation, "dagn-s", 10, 55.0),
        row(segmentation, "dagn-s", 20, 70.25),
        row(segmentation, "dagn-s", 30, 70.0),
    ]
    environment = {
        "versions": {"python": "3.11.7", "torch": "2.11.0"},
        "decoder": {"pillow": "13.0.0, libjpeg-turbo 3.2.0"},
        "threads": 2,
        "device": "CPU (some)",
        "platform": "Linux x86_64",
        "commit": None,
        "limit": 60,
        "models": {"Faster R-CNN, COCO val2017": {"checkpoint": "a.pth", "annotations_sha256": ["12", "34"]}},
        "restorers": {"dagn-s": "0123"},
    }
    return {"rows": rows, "environment": environment}


def test_the_page_is_as_it_was_agreed(results, tmp_path):
    """UPDATE_GOLDEN=1 writes the page anew; then read it before committing it."""
    (tmp_path / "results.json").write_text(json.dumps(results))
    report.write(tmp_path)
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(page, encoding="utf-8")
    assert page == GOLDEN.read_text(encoding="utf-8")


def test_the_share_won_back(results):
    detection, segmentation = report.panels(results)
    assert detection.recovered("dagn-s", 10) == pytest.approx(100 * (28.18 - 21.84) / (30.75 - 21.84))
    assert detection.recovered("dagn-s", 20) is None  # not measured
    assert segmentation.recovered("dagn-s", 10) == pytest.approx(-50)
    assert segmentation.recovered("dagn-s", 20) is None  # JPEG costs nothing there
    assert segmentation.recovered("dagn-s", 30) == pytest.approx(100)


def test_the_picture_has_a_panel_per_task_and_a_line_per_input(results, tmp_path):
    figure = report.draw(results)
    detection, segmentation = figure.axes
    assert [line.get_label() for line in segmentation.lines] == ["original", "JPEG", "dagn-s"]
    assert list(segmentation.lines[1].get_xdata()) == [10, 20, 30]
    assert list(segmentation.lines[2].get_ydata()) == [55.0, 70.25, 70.0]
    assert set(detection.lines[0].get_ydata()) == {30.75} and detection.lines[0].get_linestyle() == "--"
    (tmp_path / "results.json").write_text(json.dumps(results))
    report.write(tmp_path)
    with Image.open(tmp_path / "results.png") as image:
        assert image.format == "PNG" and image.width > image.height > 300


def test_only_photographs_are_called_jpeg_already(results):
    assert "images of COCO val2017 are JPEG" in report.markdown(results)
    results["rows"] = [one for one in results["rows"] if one["dataset"] == "demo"]
    assert "are JPEG" not in report.markdown(results)


def test_a_table_without_restorers_or_without_qualities(results):
    results["rows"] = [row("object detection", "original", None, 30.75)]
    assert "| Object detection " in report.markdown(results) and "30.75" in report.markdown(results)
    results["rows"].append(row("object detection", "jpeg", 10, 21.84))
    assert "**" not in report.markdown(results) and "In brackets" not in report.markdown(results)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"rows": [{}], "environment": {}}'])
def test_no_results(content, tmp_path):
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(ConfigError, match="results.json.*run dagn-pre bench"):
        report.write(tmp_path)
    assert not (tmp_path / "results.md").exists()
