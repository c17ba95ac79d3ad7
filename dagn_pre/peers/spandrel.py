"""Checkpoints of other makers: ``spandrel`` recognises the architecture by its keys; padding, tiles and dtype are ours."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dagn_pre.errors import DagnPreError, WeightsError
from dagn_pre.networks.fbcnn import FBCNN
from dagn_pre.protocol import RestorationModel

try:
    import spandrel
    import spandrel_extra_arches
except ImportError as error:
    raise DagnPreError(f'checkpoints of other makers need the peers extra ({error}): pip install "dagn-pre[peers]"') from error

DAMAGED = (zipfile.BadZipFile, SafetensorError)

spandrel_extra_arches.install(ignore_duplicates=True)  # Restormer among them; some are licensed for research alone


def architectures() -> list[str]:
    """What ``spandrel`` can recognise, by its names."""
    return sorted(support.architecture.id for support in spandrel.MAIN_REGISTRY.architectures())


class SpandrelModel(RestorationModel):
    """A network that ``spandrel`` has built, image in, image out.

    A grey network restores R, G and B one by one. Larger images are cut into tiles that see 64 pixels beyond their border,
    more than which these networks do not tell how far they look.
    """

    def __init__(self, descriptor: spandrel.ImageModelDescriptor) -> None:
        super().__init__()
        self.network = descriptor.model
        self._descriptor = descriptor  # pads to what the network asks for, and calls it as it wants to be called
        self.grey = descriptor.input_channels == 1
        self.autocast, self.float16 = descriptor.supports_bfloat16, descriptor.supports_half

    def restore(self, x: Tensor, guidance: None) -> Tensor:
        images = x.flatten(0, 1)[:, None] if self.grey else x
        return torch.cat([self._descriptor(image[None].contiguous()).float() for image in images]).view_as(x)


def read(path: Path) -> dict[str, Tensor]:
    """The state dict in a checkpoint: .safetensors, .npz, or a pickle of plain tensors.

    Raises:
        WeightsError: damaged, or a pickle that would run code.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = f"since it is no pickle of plain tensors and may run code ({str(error).splitlines()[0]})"
        raise WeightsError(f"{path}: refused, {reason}") from error
    except (OSError, RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError, *DAMAGED) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path}: damaged or not a checkpoint ({reason})") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path}: holds a {type(found).__name__}, not a state dict")
    return found


def load(path: Path) -> RestorationModel:
    """The restorer that a checkpoint holds.

    Raises:
        WeightsError: damaged, unsafe, of an architecture that nobody recognises (the known ones are listed), or one that
            changes the image's size or takes other channels than grey or RGB.
    """
    tensors = read(path)
    try:
        descriptor = spandrel.ModelLoader().load_from_state_dict(tensors)
    except spandrel.UnsupportedModelError as error:
        known = ", ".join(architectures())
        raise WeightsError(f"{path}: no known architecture has these keys; known: {known}") from error
    except Exception as error:  # its detection reads numbers and shapes out of whatever the file holds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path}: looks like a known architecture, but does not fit it ({reason})") from error
    found = descriptor.architecture.id
    if not isinstance(descriptor, spandrel.ImageModelDescriptor):
        raise WeightsError(f"{path}: {found} does not take one image")
    channels = descriptor.input_channels, descriptor.output_channels
    if descriptor.scale != 1 or channels not in ((1, 1), (3, 3)):
        change = f"{channels[0]} to {channels[1]} channels at scale {descriptor.scale}"
        raise WeightsError(f"{path}: {found} from {change} is no restorer of images as they are")
    if found == "FBCNN" and channels == (3, 3):
        return FBCNN.around(descriptor.model)
    return SpandrelModel(descriptor)


class ByChannel(nn.Module):
    """A grey network on R, G and B one by one: (B, 3, H, W) -> the same."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.flatten(0, 1)[:, None]).view_as(x)


def published(name: str) -> nn.Module:
    """The network of a paper in its published shape, random weights: "swinir" (colour JPEG), "ipt" (one task) or "dncnn"
    (DnCNN-3, by channel)."""
    if name == "swinir":
        from spandrel.architectures.SwinIR import SwinIR

        options = {"img_size": 126, "window_size": 7, "img_range": 255.0, "mlp_ratio": 2, "upscale": 1, "upsampler": ""}
        return SwinIR(in_chans=3, embed_dim=180, depths=[6] * 6, num_heads=[6] * 6, resi_connection="1conv", **options)
    if name == "ipt":
        from spandrel.architectures.IPT import IPT

        return IPT(scale=[1])
    from spandrel.architectures.DnCNN import DnCNN

    return ByChannel(DnCNN(in_nc=1, out_nc=1, nc=64, nb=20, act_mode="R"))
