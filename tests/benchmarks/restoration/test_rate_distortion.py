"""The rate-distortion curves of side information, on small images."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dagn_pre import codec
from dagn_pre.benchmarks.restoration import rate_distortion
from dagn_pre.cli.main import main
from dagn_pre.errors import UsageError
from dagn_pre.side_information import adapter
from tests.support import photograph, save_adapter


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    for seed in range(2):
        Image.fromarray(photograph(64, 96, seed)).save(root / f"{seed}.png")
    return root


@pytest.fixture(scope="module")
def side(tiny_weights, tmp_path_factory):
    return save_adapter(tmp_path_factory.mktemp("side") / "own.safetensors", tiny_weights, lambda_rate=0.5)


def test_rows_are_of_real_files(folder, tiny_weights, side):
    chosen = rate_distortion.systems(tiny_weights, [(str(tiny_weights), str(side))])
    names = ["JPEG", "JPEG + tiny", "tiny, lambda 0.5"]
    assert [system.name for system in chosen] == names
    rows = {(row["system"], row["qf"]): row for row in rate_distortion.curves(folder, chosen, (10, 30))}
    bytes_ = [len(codec.encode(photograph(64, 96, seed), 10)) for seed in range(2)]
    assert rows["JPEG", 10]["bpp"] == pytest.approx(8 * np.mean(bytes_) / (64 * 96), abs=1e-4)
    assert rows["JPEG", 10]["bpp"] == rows["JPEG + tiny", 10]["bpp"] and rows["JPEG", 10]["side_bytes"] == 0
    added = rows[names[2], 10]["bpp"] - rows["JPEG", 10]["bpp"]
    assert added == pytest.approx(8 * rows[names[2], 10]["side_bytes"] / (64 * 96), abs=1e-4)
    assert 0 <= rows[names[2], 10]["side_bytes"] - rows[names[2], 10]["estimated_bytes"] < 8  # the coder's last word


def test_bjontegaard_of_a_curve_shifted_by_a_known_amount():
    base = [{"system": "a", "qf": qf, "bpp": qf / 40, "psnr": 20 + 10 * np.log10(qf)} for qf in (5, 10, 20, 30, 40)]
    moved = [{**row, "system": "b", "bpp": 0.9 * row["bpp"]} for row in base]
    better = [{**row, "system": "c", "psnr": row["psnr"] + 0.5} for row in base]
    found = {row["system"]: row for row in rate_distortion.deltas([*base, *moved, *better], "a")}
    assert found["b"]["bd_rate"] == pytest.approx(-10, abs=0.1) and found["b"]["bd_psnr"] > 0
    assert found["c"]["bd_psnr"] == pytest.approx(0.5, abs=0.01) and found["c"]["bd_rate"] < 0
    apart = [{**row, "system": "d", "psnr": row["psnr"] + 90} for row in base]
    assert rate_distortion.deltas([*base, *apart], "a")[0]["bd_rate"] is None


def test_the_command_writes_table_plot_and_rows(folder, tiny_weights, side, tmp_path, capsys):
    command = ["bench", "rate-distortion", str(folder)]
    words = ["--model", str(tiny_weights), "--weights", str(tiny_weights), str(side), "--qf", "10", "30", "50"]
    assert main([*command, *words, "--times", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for part in ("tiny, lambda 0.5", "BD-rate (%)", "real / estimated", "| describe |"):
        assert part in printed
    assert {path.name for path in tmp_path.iterdir()} == {"side.md", "side.json", "side.png"}
    assert main([*command, "--weights", "dagn-s", str(side), "--output", str(tmp_path / "none")]) == 1
    assert "for another restorer than 'dagn-s'" in capsys.readouterr().err


def test_shipped_weights_are_the_default(tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(adapter, "FOLDER", tmp_path)
    with pytest.raises(UsageError, match="no side information for .* is shipped"):
        rate_distortion.systems(tiny_weights, [])
    save_adapter(tmp_path / "a.safetensors", tiny_weights, lambda_rate=2)
    assert [system.name for system in rate_distortion.systems(tiny_weights, [])][2:] == ["tiny, lambda 2"]
