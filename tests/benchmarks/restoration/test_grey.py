from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from dagn_pre import codec
from dagn_pre.benchmarks.restoration import grey
from dagn_pre.cli.main import main
from tests.support import photograph


def test_luma_is_matlabs():
    corners = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert grey.luma(corners).tolist() == [[16, 235, 81, 145, 41]]


def test_rows_and_table(tmp_path):
    image = photograph()
    Image.fromarray(image).save(tmp_path / "a.png")
    rows = grey.measure(tmp_path, ["identity"], [10, 40], "cpu")
    y = grey.luma(image)
    error = np.square(codec.compress(y, 10).astype(float) - y).mean()
    expected = pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)
    assert rows[0] == {"method": "jpeg", "qf": 10, "psnr": expected, "n_images": 1}
    assert [(row["method"], row["qf"]) for row in rows] == [("jpeg", 10), ("identity", 10), ("jpeg", 40), ("identity", 40)]
    assert rows[1]["psnr"] == rows[0]["psnr"] < rows[2]["psnr"]
    assert "| identity" in grey.markdown(rows)


def test_the_command(tmp_path, capsys):
    Image.fromarray(photograph()).save(tmp_path / "a.png")
    target = tmp_path / "rows.json"
    words = ["bench", "grey", str(tmp_path), "--model", "identity", "--qf", "10", "--device", "cpu", "--json", str(target)]
    assert main(words) == 0
    assert "| identity" in capsys.readouterr().out
    assert json.loads(target.read_text()) == grey.measure(tmp_path, ["identity"], [10], "cpu")
    assert main(["bench", "grey", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"dagn-pre bench grey: {tmp_path / 'none'}: no such folder"
