"""Photographs reduced for training."""

from __future__ import annotations

import numpy as np
from PIL import Image

from dagn_pre.cli.main import main
from tests.support import photograph


def test_reduced_without_loss_and_bad_files_named(tmp_path, capsys):
    source = tmp_path / "photos"
    (source / "more").mkdir(parents=True)
    picture = Image.fromarray(photograph(40, 60))
    picture.save(source / "a.png")
    picture.save(source / "more" / "a.jpg")
    (source / "cut.jpg").write_bytes((source / "more" / "a.jpg").read_bytes()[:50])
    assert main(["train-data", "photographs", str(source), str(tmp_path / "out"), "--by", "2"]) == 1
    captured = capsys.readouterr()
    assert "2 of 3 photographs" in captured.out and "cut.jpg" in captured.err
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.webp"))
    assert found == ["photos/a.png.webp", "photos/more/a.jpg.webp"]
    wanted = picture.resize((30, 20), Image.Resampling.LANCZOS)
    assert np.array_equal(Image.open(tmp_path / "out" / found[0]), wanted)


def test_wrong_usage_is_refused(tmp_path, capsys):
    assert main(["train-data", "photographs", str(tmp_path), str(tmp_path / "out")]) == 2
    assert main(["train-data", "photographs", str(tmp_path), str(tmp_path / "out"), "--by", "0.5"]) == 2
    assert "no images in" in (error := capsys.readouterr().err) and "--by must be 1 or more, not 0.5" in error
