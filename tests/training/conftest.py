from __future__ import annotations

import pytest
import torch

from tests.training import runs


@pytest.fixture(autouse=True)
def one_thread():
    """Sums over several threads differ in their last digits from run to run, and training makes that visible."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def encoders(photos, tmp_path_factory) -> dict:
    """Options that name the checkpoints of a short stage 1."""
    folder = tmp_path_factory.mktemp("stage1")
    return {f"{name}_from": str(runs.train(name, photos, folder / name, steps=2)) for name in ("insensitive", "sensitive")}
