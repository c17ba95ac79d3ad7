"""Shared fixtures, and marks by what a test needs. Nothing is downloaded; real data lie in the folder DAGN_PRE_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from dagn_pre import weights
from dagn_pre.networks.autoencoder import QualityPredictor
from dagn_pre.networks.dagn import DAGN
from tests.support import TINY, randomised, write_photographs
from tests.support.hosts import need_hosts

# Files that load inference engines, and the folder of clusters and what comes with them: by mark.
APART = {"engines": {"test_engines.py", "test_speed.py"}, "ray": {"clusters"}}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What is deselected because it needs OpenMMLab, an engine or Ray is not even imported: it need not be installed, and
    engines and clusters have a process of their own. Twice in whole runs the one that had loaded OpenVINO died of a
    segmentation fault, whose cause is not found; it did not come again under a debugger."""
    marks = config.option.markexpr
    needs_hosts = "not openmmlab" in marks and need_hosts(collection_path)
    deselected = any(f"not {mark}" in marks and collection_path.name in names for mark, names in APART.items())
    return True if needs_hosts or deselected else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark ``openmmlab``, ``engines``, ``ray`` and ``data``, so that no list can be out of date; ``slow`` stands at tests."""
    for item in items:
        if need_hosts(item.path):
            item.add_marker("openmmlab")
        for mark, names in APART.items():
            if names & {item.path.name, item.path.parent.name}:
                item.add_marker(mark)
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


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory) -> Path:
    """A weights file of a tiny DAGN that visibly changes its input."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    network = randomised(DAGN(TINY))
    weights.save(path, network, QualityPredictor(network.encoder_cs.out_channels), {"name": "tiny"}, torch.float32)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """A folder of three small photographs."""
    return write_photographs(tmp_path_factory.mktemp("photos"), 3, noise=2)
