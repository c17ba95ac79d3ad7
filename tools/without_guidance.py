"""A trained DAGN without one of its guidances, to be trained on: what the guidance is worth in front of models.

    python tools/without_guidance.py dagn-s-psnr insensitive|sensitive|fusion -o trunk.safetensors --data PHOTOS...
    dagn-pre train dagn-s/semantic --cfg-options trunk=trunk.safetensors ...

The scale and shift that a guidance gives each block are replaced by their means over compressed photographs, folded into the
block's last convolution: the network starts where it stood, and what it lost is only that they follow the image. The fusion
module (CFM) is left out, which has no such mean.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dagn_pre import codec, models, weights
from dagn_pre.networks.blind_dagn import BlindDAGN
from dagn_pre.networks.dagn import DAGN, ResidualBlock
from dagn_pre.training.data import channels_first, load_photographs, restoration_quality

PHOTOGRAPHS = 100  # of which the means are
SIDE = 192  # of their corners, in pixels


@torch.no_grad()
def means(network: DAGN, part: str, photographs: list[np.ndarray]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The mean (scale, shift), (C,) tensors, that a guidance gives each DAGB, over photographs at the training mix of QFs."""
    rng = np.random.default_rng(0)
    found = []
    for image in photographs:
        compressed = codec.compress(np.ascontiguousarray(image[:SIDE, :SIDE]), restoration_quality(rng))
        found.append(getattr(network.guide(network.pad(channels_first(compressed)[None] / 255)), part))
    return [
        tuple(torch.stack([guidance[block][which].flatten() for guidance in found]).mean(0) for which in (0, 1))
        for block in range(len(found[0]))
    ]


def fold(block: ResidualBlock, scale: torch.Tensor, shift: torch.Tensor) -> None:
    """Make x + branch(x) what x + scale * branch(x) + shift was."""
    last = block.branch[-1]
    last.weight.data.mul_(scale[:, None, None, None])
    last.bias.data.mul_(scale).add_(shift)


def without(model: BlindDAGN, part: str, photographs: list[np.ndarray]) -> BlindDAGN:
    """A copy of the restorer whose configuration lacks the part, in eval mode."""
    network = model.network
    if part != "fusion":
        for guided, (scale, shift) in zip(network.guided, means(network, part, photographs)):
            for block in getattr(guided, part):
                fold(block, scale, shift)
    made = BlindDAGN(replace(model.config, **{part: False}))
    kept = {name: value for name, value in model.state_dict().items() if name in made.state_dict()}
    made.load_state_dict(kept)
    return made.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("part", choices=("insensitive", "sensitive", "fusion"))
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--data", nargs="+", required=True, metavar="DIR", help="photographs")
    options = parser.parse_args()
    photographs = load_photographs(options.data, SIDE)[0][:PHOTOGRAPHS]
    made = without(models.load(options.model).model, options.part, photographs)
    weights.save(options.output, made, card={"trunk": f"{options.model} without {options.part}"}, dtype=torch.float32)


if __name__ == "__main__":
    main()
