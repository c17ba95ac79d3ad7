from __future__ import annotations

import json

import numpy as np
import pytest

from dagn_pre import codec, metrics, models
from dagn_pre.cli.main import main
from dagn_pre.training.configuration import CONFIGS
from dagn_pre.training.data import load_photographs
from tests.training import runs


def test_ablation_trains_measures_and_keeps_every_row(photos, tmp_path, capsys):
    values = {**runs.SMALL, **{f"stages.{s}.steps": 2 for s in ("insensitive", "sensitive", "dagn")}}
    values |= {f"network.{key}": value for key, value in runs.TINY.to_dict().items()}
    values |= {f"stages.{s}.patch": 32 for s in ("insensitive", "sensitive", "dagn")}
    values |= {"data": [str(photos)], "evaluation": str(photos), "evaluation_qualities": [10, 40]}
    del values["steps"]
    options = [f"{key}={value}" for key, value in values.items()]
    config = tmp_path / "short.py"
    config.write_text(
        f"_base_ = {str(CONFIGS / 'dagn-s' / 'ablation.py')!r}\n"
        "stages = {name: dict(config=f'dagn-s/{name}') for name in ('insensitive', 'sensitive', 'dagn')}\n"
        "rows = {'end to end': {'stages.dagn.steps': 4}}\n"
    )
    arguments = ["train", str(config), "--work-dir", str(tmp_path), "--cfg-options", *options]
    assert main(arguments) == 0
    content = json.loads((tmp_path / "table.json").read_text())
    rows = {row["name"]: row for row in content["rows"]}
    assert len(rows) == 11 and content["n_images"] == 3 and rows["baseline"]["steps"] == [2, 2, 2]
    images = load_photographs([photos], 16)[0]
    expected = np.mean([metrics.psnr(codec.compress(image, 40), image) for image in images])
    assert rows["JPEG"]["results"]["40"][0] == pytest.approx(expected)

    folders = {stage: sorted(tmp_path.glob(f"{stage}-*")) for stage in ("insensitive", "sensitive", "dagn")}
    assert [len(found) for found in folders.values()] == [3, 3, 10]  # what rows share is trained once
    shapes = [models.load(folder / "weights.safetensors").model.config for folder in folders["dagn"]]
    assert sorted((c.insensitive, c.sensitive, c.fusion) for c in shapes) == sorted(
        [(False,) * 3, (True, False, False), (False, True, False), (False, False, True)] + 6 * [(True,) * 3]
    )
    page = (tmp_path / "table.md").read_text()
    assert page.count("\n| ") == 12 and "lambda_cs 10" in page and str(tmp_path / "table.md") in capsys.readouterr().out

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pth")}
    assert main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pth")} == before
    assert json.loads((tmp_path / "table.json").read_text()) == content
