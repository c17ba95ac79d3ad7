from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dagn_pre import codec
from dagn_pre.cli.main import main
from dagn_pre.errors import ImageError, UsageError
from dagn_pre.training.leakage import BITS, compare, orientations


def scene(seed: int, height: int = 96, width: int = 128) -> Image.Image:
    """Overlapping discs of random places, sizes and shades: as unlike each other as photographs."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.full((height, width, 3), rng.integers(0, 256, 3))
    for _ in range(60):
        inside = np.hypot(y - rng.integers(height), x - rng.integers(width)) < rng.integers(5, 30)
        image[inside] = rng.integers(0, 256, 3)
    return Image.fromarray(image.astype(np.uint8))


def folder(root, name: str, pictures: list[Image.Image]):
    (root / name).mkdir()
    for index, picture in enumerate(pictures):
        picture.save(root / name / f"{index}.png")
    return root / name


@pytest.fixture
def test_set(tmp_path):
    return folder(tmp_path, "test", [scene(seed) for seed in range(3)])


def test_unrelated_images_are_clean(test_set, tmp_path, capsys):
    train = folder(tmp_path, "train", [scene(seed) for seed in range(10, 20)])
    assert main(["train-data", "leakage", "--train", str(train), "--test", str(test_set)]) == 0
    line = capsys.readouterr().out
    assert line.startswith("Data leakage: of 10 training images against test (3), no pair is within 64 of 256 bits")
    assert compare([train], [test_set]).nearest.distance > 64


@pytest.mark.parametrize("orientation", range(8))
def test_a_copy_is_found_in_every_orientation(test_set, tmp_path, orientation):
    small = orientations(scene(1))[orientation].resize((70, 60))
    copy = Image.fromarray(codec.compress(np.asarray(small), 20))
    train = folder(tmp_path, "train", [scene(10), copy, scene(11)])
    (match,) = compare([train], [test_set]).matches
    assert (match.train.name, match.test.name) == ("1.png", "1.png") and match.distance < BITS / 8


def test_the_orientations_differ():
    assert len({image.tobytes() + bytes(image.size) for image in orientations(scene(0))}) == 8


def test_matches_are_listed_and_the_status_says_so(test_set, tmp_path, capsys):
    train = folder(tmp_path, "train", [scene(10), scene(2)])
    assert main(["train-data", "leakage", "--train", str(train), "--test", str(test_set)]) == 1
    first, line = capsys.readouterr().out.splitlines()
    assert first == f"{train / '1.png'} resembles {test_set / '2.png'}: 0 of 256 bits differ"
    assert "1 pairs" not in line and "1 pair is within" in line


def test_bad_files(test_set, tmp_path, capsys):
    train = folder(tmp_path, "train", [scene(10)])
    (train / "bad.jpg").write_bytes(b"no image")
    assert compare([train], [test_set]).n_train == 1
    assert "left out" in capsys.readouterr().err
    (train / "0.png").unlink()
    with pytest.raises(UsageError, match="no training image"):
        compare([train], [test_set])
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        compare([test_set], [train])  # a test image that was not compared proves nothing


def test_wrong_usage(test_set, tmp_path):
    with pytest.raises(UsageError, match="gone: no images"):
        compare([tmp_path / "gone"], [test_set])
    with pytest.raises(UsageError, match=r"0\.\.256"):
        compare([test_set], [test_set], threshold=300)
