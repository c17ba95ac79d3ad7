from __future__ import annotations

import json

import pytest
from PIL import Image

from dagn_pre import codec, metrics
from dagn_pre.benchmarks.restoration import main
from tests.conftest import photograph


def test_rows_and_table(tmp_path, tiny_weights, capsys):
    folder = tmp_path / "set"
    folder.mkdir()
    originals = [photograph(40, 50, seed) for seed in range(2)]
    for index, image in enumerate(originals):
        Image.fromarray(image).save(folder / f"{index}.png")
    arguments = [str(folder), "--model", str(tiny_weights), "--qf", "10", "40", "--json", str(tmp_path / "t.json")]
    assert main([*arguments, "--device", "cpu"]) == 0
    rows = json.loads((tmp_path / "t.json").read_text())
    assert [(row["qf"], row["method"]) for row in rows] == [(q, m) for q in (10, 40) for m in ("jpeg", str(tiny_weights))]
    expected = sum(metrics.psnr(codec.compress(image, 10), image) for image in originals) / 2
    assert rows[0]["psnr"] == pytest.approx(expected, abs=1e-4)
    assert rows[0]["n_images"] == 2 and rows[0]["blind_qf_error"] is None and rows[1]["blind_qf_error"] >= 0
    assert f"| set | 10 | jpeg | {expected:.2f} |" in capsys.readouterr().out
