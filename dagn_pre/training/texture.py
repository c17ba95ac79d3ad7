"""The teacher that lives on fine texture: a small ResNet, trained from nothing to tell which photograph a crop is of
(``dagn-pre train-data texture``).

ImageNet's networks and detectors look past fine texture; models that were trained on a narrow domain may live on it. A crop of
64 pixels has little else that tells photographs apart: light, contrast and colour are drawn anew for each. The left 70 % of a
photograph teach, the rest measures. In a config of stage "semantic": ``dict(kind="texture", weights=..., layers=[...])``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from dagn_pre.errors import UsageError, WeightsError
from dagn_pre.files import atomic_path
from dagn_pre.networks.resnet import ResNetEncoder, conv_bn
from dagn_pre.progress import bar
from dagn_pre.training.teachers import Teacher
from dagn_pre.weights import check_keys

WIDTH = 24
CROP, SMALLEST = 64, 96  # sides in pixels of a crop, and of a photograph
BATCH = 64
SHARE = 0.7  # of a photograph's width, from the left: what teaches
NOISE = 1.5  # of a camera, in levels of 0..255: what texture has to be told from
MEAN, STD = 127.5, 63.75


def encoder() -> ResNetEncoder:
    """ResNet-18 of 24 channels whose stem looks closely: 3x3 filters and no pooling; stride 8."""
    network = ResNetEncoder(18, WIDTH)
    network.stem = nn.Sequential(*conv_bn(3, WIDTH, 3, 2), nn.ReLU(), *conv_bn(WIDTH, WIDTH, 3), nn.ReLU())
    return network


class Crops:
    """Draws crops of photographs: :meth:`taught` from the parts that teach, varied; :meth:`held_out` from the others, plain."""

    def __init__(self, photographs: Sequence[np.ndarray], seed: int = 0) -> None:
        self.photographs, self.rng = photographs, np.random.default_rng(seed)

    def _crop(self, index: int, first: float, last: float) -> np.ndarray:
        image = self.photographs[index]
        height, width = image.shape[:2]
        low = min(int(first * width), width - CROP)
        x = int(self.rng.integers(low, max(int(last * width) - CROP, low) + 1))
        y = int(self.rng.integers(0, height - CROP + 1))
        crop = image[y : y + CROP, x : x + CROP].astype(np.float32)
        return crop - crop.mean((0, 1))

    def _batch(self, crops: list[np.ndarray], labels: np.ndarray) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()
        return ((images - MEAN) / STD).contiguous(memory_format=torch.channels_last), torch.from_numpy(labels)

    def taught(self, count: int) -> tuple[Tensor, Tensor]:
        """((count, 3, 64, 64) float32, normalised; (count,) int64, which photograph)."""
        labels = self.rng.integers(0, len(self.photographs), count)
        crops = []
        for index in labels:
            crop = self._crop(index, 0.0, SHARE)
            crop = crop[:, ::-1] if self.rng.random() < 0.5 else crop
            light = MEAN + self.rng.uniform(-40, 40) + self.rng.normal(0, 10, 3)
            crops.append(crop * self.rng.uniform(0.6, 1.2) + light + self.rng.normal(0, NOISE, crop.shape))
        return self._batch(crops, labels)

    def held_out(self, count: int) -> tuple[Tensor, Tensor]:
        """As :meth:`taught`, of the right parts."""
        labels = self.rng.integers(0, len(self.photographs), count)
        return self._batch([self._crop(index, SHARE, 1.0) + MEAN for index in labels], labels)


def train(photographs: Sequence[np.ndarray], steps: int, seed: int = 0, progress: bool = False) -> tuple[ResNetEncoder, float]:
    """Train on (H, W, 3) uint8 RGB photographs of at least 96 pixels a side.

    Returns:
        The encoder in eval mode, and the share of held-out crops whose photograph is told, 0..1.

    Raises:
        UsageError: fewer than two photographs.
    """
    if len(photographs) < 2:
        raise UsageError(f"texture is learnt from two photographs or more, not {len(photographs)}")
    torch.manual_seed(seed)
    crops, network = Crops(photographs, seed), encoder()
    classifier = nn.Sequential(
        network, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(network.out_channels, len(photographs))
    )
    classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # which torch's types lack
    optimiser = torch.optim.AdamW(classifier.parameters(), 2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps, pct_start=0.06)
    for _ in bar(range(steps), desc="texture", unit="step", disable=not progress):
        images, labels = crops.taught(BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            logits = classifier(images)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    classifier.eval()
    with torch.no_grad():
        told = [
            (classifier(images).argmax(1) == labels).float().mean()
            for images, labels in (crops.held_out(100) for _ in range(10))
        ]
    return network, torch.stack(told).mean().item()


def save(network: ResNetEncoder, path: str | Path) -> None:
    """Write the weights, float16, whole or not at all."""
    state = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file({key: value.contiguous() for key, value in state.items()}, temporary)


def teacher(weights: str | Path, layers: Sequence[str] = ("stem", "stages.0", "stages.1", "stages.2")) -> Teacher:
    """The teacher of a file that this module wrote.

    Raises:
        WeightsError: missing, damaged, or of another network.
    """
    network = encoder()
    try:
        state = load_file(weights)
    except Exception as error:  # safetensors' own kinds, and the system's
        raise WeightsError(f"{weights}: cannot be read ({error}); dagn-pre train-data texture makes one") from error
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    check_keys(network.state_dict(), state, str(weights))
    network.load_state_dict(state)
    return Teacher(network, layers, [MEAN] * 3, [STD] * 3)
