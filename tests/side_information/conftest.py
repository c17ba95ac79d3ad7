from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dagn_pre import codec, models, weights
from dagn_pre.networks.side_information import SideInformation, SideInformationConfig
from dagn_pre.side_information import SideInformationEncoder
from tests.conftest import TINY, photograph, randomised


def save_adapter(path: Path, trunk: Path, seed: int = 0, lambda_rate: float = 1.0, **config) -> Path:
    """Weights of side information for a tiny DAGN, untrained but far from neutral."""
    torch.manual_seed(seed)
    shape = {"channels": TINY.widths[2::-1], "extractor": (4, 4, 8), "context": 8, "mapping": 8, "shift": True}
    network = SideInformation(SideInformationConfig(**{**shape, **config}))
    randomised(network)
    with torch.no_grad():
        for parameter in network.context.parameters():
            parameter.mul_(3)
        image = photograph(160, 160)
        pair = [torch.from_numpy(one).permute(2, 0, 1)[None] / 255 for one in (image, codec.compress(image, 20))]
        last = network.extractor.describe[-1]
        last.weight.mul_(40)
        last.bias.sub_(network.extractor(*pair).mean((0, 2, 3)))  # several symbols, not one
    weights.save(path, network, None, {"trunk": models.fingerprint(trunk), "lambda_rate": lambda_rate})
    return path


@pytest.fixture(scope="session")
def side_weights(tiny_weights, tmp_path_factory) -> Path:
    return save_adapter(tmp_path_factory.mktemp("side") / "side.safetensors", tiny_weights)


@pytest.fixture(scope="session")
def encoder(tiny_weights, side_weights) -> SideInformationEncoder:
    return SideInformationEncoder(tiny_weights, weights=side_weights)
