"""Shared fixtures, and marks by what a test needs. Nothing is downloaded; real data lie in the folder DAGN_PRE_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from dagn_pre import weights
from dagn_pre.networks.autoencoder import QualityPredictor
from dagn_pre.networks.dagn import DAGN, DAGNConfig
from tests.hosts import need_hosts

TINY = DAGNConfig(
    widths=(4, 8, 8, 8),
    blocks=(1, 1, 1, 1),
    guided_blocks=(1, 1, 1),
    encoder_depth=18,
    encoder_width=2,
    guider_widths=(8, 8),
    residual=True,
)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where tests that need OpenMMLab are deselected, their files are not even imported: it need not be installed."""
    return True if "not openmmlab" in config.option.markexpr and need_hosts(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark ``openmmlab`` and ``data``, so that no list of them can be out of date; ``slow`` is written at the tests."""
    for item in items:
        if need_hosts(item.path):
            item.add_marker("openmmlab")
        if isinstance(item, pytest.Function) and "real_data" in item.fixturenames:
            item.add_marker("data")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; tests that ask for it are marked ``data``, and fail where there is none."""
    root = os.environ.get("DAGN_PRE_DATA")
    if not root:
        pytest.fail("set DAGN_PRE_DATA to the folder that holds LIVE1, COCO, ..., or leave these tests out: -m 'not data'")
    assert (Path(root) / "LIVE1").is_dir(), f"DAGN_PRE_DATA={root} holds no LIVE1"
    return Path(root)


def photograph(height: int = 64, width: int = 96, seed: int = 0, noise: float = 6) -> np.ndarray:
    """A smooth colour image with some grain: (height, width, 3) uint8 RGB."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [128 + 80 * np.sin(x / (9 + c) + c) * np.cos(y / (13 - c)) for c in range(3)]
    return (np.stack(waves, axis=2) + rng.normal(0, noise, (height, width, 3))).clip(0, 255).astype(np.uint8)


def randomised(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every zero-initialised parameter and every running statistic a value, so that nothing is neutral."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and (not tensor.any() or "running" in name):
                noise = 0.1 * torch.randn(tensor.shape, generator=generator)
                tensor.copy_(noise.abs() + 0.5 if "running_var" in name else noise)
    return network


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory) -> Path:
    """A weights file of a tiny DAGN that visibly changes its input."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    network = randomised(DAGN(TINY))
    weights.save(path, network, QualityPredictor(network.encoder_cs.out_channels), {"name": "tiny"}, torch.float32)
    return path
