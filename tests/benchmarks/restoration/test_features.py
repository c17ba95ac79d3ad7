from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from dagn_pre import codec, models, weights
from dagn_pre.benchmarks.restoration import features
from dagn_pre.cli.main import main
from dagn_pre.errors import UsageError
from dagn_pre.networks.dagn import DAGN
from tests.support import TINY, photograph

# Sides are multiples of 16, so that nothing is padded.
PICTURES = [photograph(48, 64), 255 - photograph(48, 64)[::-1], photograph(48, 64, noise=40)[..., ::-1] // 2]


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    for index, picture in enumerate(PICTURES):
        Image.fromarray(picture).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def rows(tiny_weights, originals):
    return features.feature_distances(tiny_weights, originals, (10, 60), device="cpu")


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine distance, the plain way."""
    return 1 - a @ b / np.sqrt((a @ a) * (b @ b))


def test_rows_follow_the_definitions(rows, tiny_weights):
    network = models.load(tiny_weights).model.network
    for row in rows:
        encoder = network.encoder_ci if row["features"] == "insensitive" else network.encoder_cs
        maps = [
            [encoder(torch.from_numpy(version.copy()).permute(2, 0, 1)[None] / 255)[0].double().numpy() for version in pair]
            for pair in ((picture, codec.compress(picture, row["qf"])) for picture in PICTURES)
        ]
        means = np.array([[m.mean((1, 2)) for m in pair] for pair in maps])
        centred = means - means.mean((0, 1))
        local = [[angle(a[:, y, x], b[:, y, x]) for y in range(3) for x in range(4)] for a, b in maps]
        pairs = [(0, 1), (0, 2), (1, 2)]
        expected = {
            "global": np.mean([angle(*pair) for pair in means]),
            "local": np.mean(local),
            "centred": np.mean([angle(*pair) for pair in centred]),
            "others": np.mean([angle(means[i, 0], means[j, 0]) for i, j in pairs]),
            "others_centred": np.mean([angle(centred[i, 0], centred[j, 0]) for i, j in pairs]),
        }
        # centring takes most of these alike features away and leaves more of the rounding
        assert {key: row[key] for key in expected} == pytest.approx(expected, rel=1e-3, abs=2e-5)


def test_rows_name_what_they_are_of(rows, originals):
    assert [(row["qf"], row["features"]) for row in rows] == [
        (quality, name) for quality in (10, 60) for name in ("insensitive", "sensitive")
    ]
    assert all(row["n_images"] == 3 and row["dataset"] == originals.name for row in rows)
    lines = features.markdown(rows).splitlines()
    assert len(lines) == 2 + len(rows) and len({len(line) for line in lines}) == 1


def test_one_image_has_no_others(tiny_weights, tmp_path):
    Image.fromarray(photograph()).save(tmp_path / "a.png")
    rows = features.feature_distances(tiny_weights, tmp_path, (10,), device="cpu")
    assert all(row["others"] is None and row["others_centred"] is None for row in rows)
    assert features.markdown(rows)


def test_an_ablation_has_nothing_to_compare(tmp_path, originals):
    path = tmp_path / "ablation.safetensors"
    weights.save(path, DAGN(replace(TINY, sensitive=False)))
    with pytest.raises(UsageError, match=r"ablation\.safetensors.*lacks one of the two encoders"):
        features.feature_distances(path, originals)


def test_inspect_draws_each_file(tiny_weights, originals, tmp_path, capsys):
    (tmp_path / "0.jpg").write_bytes(codec.encode(photograph(50, 70), 40))
    out = tmp_path / "out"
    files = [str(tmp_path / "0.jpg"), str(originals / "0.png")]
    arguments = ["inspect", *files, "--features", "--qf", "20", "-o", str(out), "--model", str(tiny_weights)]
    assert main([*arguments, "--json"]) == 0
    drawn = [row["features"] for row in json.loads(capsys.readouterr().out)]
    assert sorted(drawn) == sorted(str(path) for path in out.iterdir()) and len(drawn) == 2
    first, second = (np.asarray(Image.open(path).convert("RGB")) for path in drawn)
    assert first.std() > 10 and first.shape[1] == second.shape[1] == 900


def test_inspect_refuses_a_quality_out_of_range(tiny_weights, originals, capsys):
    assert main(["inspect", str(originals), "--features", "--qf", "0", "--model", str(tiny_weights)]) == 2
    assert "1 to 100" in capsys.readouterr().err


def test_shipped_weights_keep_the_insensitive_features_and_move_the_sensitive(real_data, tmp_path):
    for path in sorted((real_data / "LIVE1").glob("*.png"))[:4]:
        Image.open(path).crop((0, 0, 256, 256)).save(tmp_path / path.name)
    close, apart = features.feature_distances("dagn-s", tmp_path, (10,), device="cpu")
    assert close["global"] < close["others"] / 4 and apart["global"] > 4 * apart["others"]
    assert apart["global"] > 10 * close["global"] and apart["local"] > 10 * close["local"]
