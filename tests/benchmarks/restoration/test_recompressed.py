"""PSNR of what was compressed more than once, or resized."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from dagn_pre import codec, metrics
from dagn_pre.benchmarks.restoration import recompressed
from dagn_pre.benchmarks.restoration.recompressed import Chain
from dagn_pre.cli.main import main
from tests.support import photograph


def test_every_chain_once_and_by_name():
    names = [str(chain) for chain in recompressed.chains([10, 30])]
    assert names[:2] == ["QF 10", "QF 30"] and len(names) == len(set(names)) == 2 + 2 * 4 + 2 + 6
    assert {"QF 30 > QF 10", "QF 10 > QF 30, shifted", "QF 30, 4:4:4", "QF 30 > x0.75", "QF 30 > x1.5 > QF 30"} <= set(names)


def test_chains_do_what_their_names_say():
    image = photograph()
    height, width = image.shape[:2]
    once, same = Chain(10)(image)
    assert once == codec.encode(image, 10) and same is image
    twice, _ = Chain(10, 40)(image)
    assert twice == codec.encode(codec.compress(image, 10), 40)
    shifted, cut = Chain(10, 40, shifted=True)(image)
    assert np.array_equal(cut, image[4:, 4:])
    assert shifted == codec.encode(np.ascontiguousarray(codec.compress(image, 10)[4:, 4:]), 40)
    pixels, small = Chain(10, scale=0.5)(image)
    assert pixels.shape == small.shape == (round(height / 2), round(width / 2), 3)
    again, _ = Chain(10, 40, scale=0.5)(image)
    assert again == codec.encode(pixels, 40)


def test_rows_and_the_command(tmp_path, capsys):
    image = photograph()
    Image.fromarray(image).save(tmp_path / "a.png")
    target = tmp_path / "rows.json"
    words = ["bench", "recompressed", str(tmp_path), "--model", "identity", "--qf", "10", "40", "--device", "cpu"]
    assert main([*words, "--json", str(target)]) == 0
    rows = json.loads(target.read_text())
    psnr = {(row["method"], row["chain"]): row["psnr"] for row in rows}
    assert psnr["input", "QF 10"] == pytest.approx(metrics.psnr(codec.compress(image, 10), image), abs=1e-3)
    assert psnr["identity", "QF 10 > QF 40"] == psnr["input", "QF 10 > QF 40"] < psnr["input", "QF 40"]
    assert "| QF 40 > x0.5 " in capsys.readouterr().out
    assert main(["bench", "recompressed", str(tmp_path), "--qf", "0"]) == 2
    assert "quality must be an integer from 1 to 100" in capsys.readouterr().err
