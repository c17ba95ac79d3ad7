"""Pictures without originals."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dagn_pre import codec, metrics
from dagn_pre.benchmarks.restoration.real_world import examine, multiply_compressed
from dagn_pre.errors import ImageError, UsageError
from dagn_pre.images import header, open_image
from dagn_pre.restorer import Restorer
from tests.support import photograph


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "web"
    folder.mkdir()
    for seed in range(2):
        data = multiply_compressed(photograph(120, 160, seed), np.random.default_rng(seed))
        (folder / f"{seed}.jpg").write_bytes(data)
    Image.fromarray(photograph()).save(folder / "shot.png")
    return folder


def test_multiply_compressed_pictures_hide_their_first_quality():
    image = photograph(120, 160)
    for seed in range(5):
        data = multiply_compressed(image, np.random.default_rng(seed))
        info = header(data)
        assert 70 <= info.quality.value <= 90 and info.subsampling == "4:2:0"
        assert 0.6 * 160 - 1 <= info.width <= 0.9 * 160 + 1
        assert info.height / info.width == pytest.approx(120 / 160, abs=0.02)
        resized = np.asarray(Image.fromarray(image).resize((info.width, info.height), Image.Resampling.BICUBIC))
        once = codec.compress(resized, info.quality.value)
        error, explained = (abs(metrics.luma(picture) - metrics.luma(resized)).mean() for picture in (codec.decode(data), once))
        assert error > 1.2 * explained  # the header's QF alone does not tell the damage
    assert data == multiply_compressed(image, np.random.default_rng(4))
    assert header(multiply_compressed(photograph(1, 1), np.random.default_rng(0))).width == 1


def test_both_qualities_and_the_change(pictures, tmp_path, tiny_weights):
    rows, failures = examine(pictures, [tiny_weights], tmp_path / "out", device="cpu")
    assert [row["image"] for row in rows] == ["0.jpg", "1.jpg", "shot.png"] and not failures
    restorer = Restorer(tiny_weights, "cpu", max_quality=None)
    for row in rows:
        path = pictures / row["image"]
        pixels = np.asarray(open_image(path).convert("RGB"))
        assert row["blind_qf"] == restorer.estimate_quality(path, blind=True).value
        assert row["change"] == pytest.approx(abs(restorer(pixels).astype(float) - pixels).mean(), abs=1e-3)
    assert rows[0]["header_qf"] == header(pictures / "0.jpg").quality.value and rows[2]["header_qf"] is None
    assert (tmp_path / "out" / "real-world.md").read_text().count("\n") == 5
    assert min(Image.open(tmp_path / "out" / "real-world.png").size) > 200


def test_bad_pictures(pictures, tmp_path, tiny_weights):
    (pictures / "bad.jpg").write_bytes(b"no image")
    rows, failures = examine(pictures, [tiny_weights], device="cpu")
    assert len(rows) == 3 and "bad.jpg: not an image" in failures[0]
    lone = tmp_path / "lone"
    lone.mkdir()
    with pytest.raises(UsageError, match="lone: no images"):
        examine(lone, [tiny_weights])
    with pytest.raises(UsageError, match="none: no such folder"):
        examine(tmp_path / "none", [tiny_weights])
    (lone / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match="none of its 1 images"):
        examine(lone, [tiny_weights], device="cpu")
