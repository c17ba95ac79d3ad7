"""What tests of several rooms share: pictures, tiny networks and their weights, a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dagn_pre import codec, models, weights
from dagn_pre.networks.dagn import DAGNConfig
from dagn_pre.networks.side_information import SideInformation, SideInformationConfig

TINY = DAGNConfig(
    widths=(4, 8, 8, 8),
    blocks=(1, 1, 1, 1),
    guided_blocks=(1, 1, 1),
    encoder_depth=18,
    encoder_width=2,
    guider_widths=(8, 8),
    residual=True,
)
HOSTS = {"mmcv", "mmdet", "mmseg", "mmengine", "cv2"}
EXTRAS = {"spandrel", "spandrel_extra_arches", "jpeglib", "av", "pillow_heif"}
BLOCK_HOSTS = f"""
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(HOSTS | EXTRAS)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, NotInstalled())
"""


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


def write_photographs(folder: Path, count: int, noise: float) -> Path:
    """So many small photographs as PNG files; returns the folder."""
    for seed in range(count):
        Image.fromarray(photograph(64, 80, seed, noise=noise)).save(folder / f"{seed}.png")
    return folder


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


def python(code: str, *arguments: str, cwd: Path) -> str:
    """Run code in a fresh interpreter, outside the checkout, and return what it prints."""
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=cwd)
    assert run.returncode == 0, run.stderr
    return run.stdout
