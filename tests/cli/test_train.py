from __future__ import annotations

import pytest

from dagn_pre import models
from dagn_pre.cli.main import main
from tests.training.runs import command


def test_joint_runs_all_stages_to_a_weights_file_and_skips_what_is_finished(photos, tmp_path, capsys):
    options = {"steps": 2, "validation_images": 1, "validation_size": 48}
    arguments = command("dagn-s/joint", photos, tmp_path, "--amp", "bf16", **options)
    arguments = [argument for argument in arguments if argument != "amp=None"]
    assert main(arguments) == 0
    output = tmp_path / "dagn-s-psnr.safetensors"
    assert capsys.readouterr().out.splitlines()[-1] == str(output)
    loaded = models.load(output)
    assert loaded.model.quality is not None and set(loaded.card["training"]) == {"insensitive", "sensitive", "dagn"}
    assert loaded.card["training"]["dagn"]["images"] == 3 and "psnr_gain_10" in loaded.card["metrics"]
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pth")}
    assert main(arguments) == 2 and "--resume" in capsys.readouterr().err
    assert main([*arguments[:-1], arguments[-1], "--resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pth")} == times
    assert main(["export", str(tmp_path / "dagn"), "-o", str(tmp_path / "b.safetensors"), "--dtype", "bfloat16"]) == 0
    assert models.load(tmp_path / "b.safetensors").card["dtype"] == "bfloat16"


@pytest.mark.parametrize("launcher", ["pytorch", "slurm"])
def test_a_launcher_without_its_environment_is_one_sentence(launcher, tmp_path, capsys, monkeypatch):
    for name in ("LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert main(["train", "dagn-s/dagn", "--work-dir", str(tmp_path), "--launcher", launcher]) == 2
    assert "torchrun or srun" in capsys.readouterr().err
