from __future__ import annotations

from pathlib import Path

import pytest

from dagn_pre.side_information import SideInformationEncoder
from tests.support import save_adapter


@pytest.fixture(scope="session")
def side_weights(tiny_weights, tmp_path_factory) -> Path:
    return save_adapter(tmp_path_factory.mktemp("side") / "side.safetensors", tiny_weights)


@pytest.fixture(scope="session")
def encoder(tiny_weights, side_weights) -> SideInformationEncoder:
    return SideInformationEncoder(tiny_weights, weights=side_weights)
