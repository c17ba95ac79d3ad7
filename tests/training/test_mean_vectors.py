from __future__ import annotations

import numpy as np
import pytest
import torch

from dagn_pre import codec
from dagn_pre.errors import UsageError
from dagn_pre.networks.resnet import ResNetEncoder
from dagn_pre.training.mean_vectors import mean_vectors
from tests.support import photograph, randomised


@pytest.fixture(scope="module")
def encoder() -> ResNetEncoder:
    torch.manual_seed(0)
    return randomised(ResNetEncoder(18, 2))


def test_a_row_is_the_mean_over_photographs_of_the_features_spatial_mean(encoder):
    photographs = [photograph(32, 48, 0), photograph(64, 32, 1)]  # sides are multiples of 16: the crop is the photograph
    qualities = [10, 50, 100]
    encoder.train()
    vectors = mean_vectors(encoder, photographs, qualities)
    assert encoder.training
    encoder.eval()
    for row, quality in zip(vectors, qualities):
        expected = []
        for image in photographs:
            version = image if quality == 100 else codec.compress(image, quality)  # QF 100: originals
            with torch.no_grad():
                features = encoder(torch.from_numpy(version.copy()).permute(2, 0, 1)[None] / 255)
            expected.append(features.mean((0, 2, 3)))
        assert torch.allclose(row, sum(expected) / 2, atol=1e-5)


def test_the_table_depends_on_the_seed_alone_and_has_a_row_per_quality(encoder):
    photographs = [photograph(50, 70, seed) for seed in range(4)]
    first, again, other = (mean_vectors(encoder, photographs, seed=seed, sample=2, side=32) for seed in (0, 0, 1))
    assert first.shape == (100, encoder.out_channels) and first.dtype == torch.float32
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("photographs", [[], [np.zeros((15, 40, 3), np.uint8)]])
def test_nothing_to_measure_on_is_refused(encoder, photographs):
    with pytest.raises(UsageError, match="at least 16 pixels"):
        mean_vectors(encoder, photographs)
