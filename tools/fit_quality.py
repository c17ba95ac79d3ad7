"""P_qf of a trained DAGN fitted anew, its encoder as it is: to small, resized, drawn and lossless pictures too.

    DAGN_PRE_DATA=... python tools/fit_quality.py dagn-xs -o dagn-xs.safetensors

``dagn-pre train`` fits it to crops of photographs, of 256 pixels, each at every QF (stage 1b). Here half of the pictures are
such, but of any size from 32 pixels and in part reduced; the others are what tools/lossless.py draws, from seeds that it does
not report. Of both one in five was never a JPEG, which is class 100 as QF 100 is. Only P_qf changes: the restored pixels of an
image whose QF is known stay as they were. Prints the mean absolute error of both P_qf on other pictures, which choose nothing.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import lossless as drawing
import numpy as np
import torch
from PIL import Image

from dagn_pre import models, weights
from dagn_pre.networks.autoencoder import QUALITY_CLASSES, QualityPredictor
from dagn_pre.networks.blind_dagn import BlindDAGN
from dagn_pre.training.data import channels_first, load_photographs
from dagn_pre.training.stages import quality_loss

TRAINED = ("BSDS500-train", "T91", "Urban100", "McMaster")  # what the encoder has learnt from; below restoration/
HELD_OUT = "BSDS500-val"
SIDES = (32, 48, 64, 96, 128, 192, 256)
LOSSLESS, DRAWN, REDUCED = 0.2, 0.5, 0.3  # shares: of all, of all, of the photographs
LEARNING_RATE, BATCH, SPREAD = 1e-3, 256, 2.0
SEED = 1000  # tools/lossless.py reports those from 0 on


def pictures(photographs: list[np.ndarray], rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, int]]:
    """Without end: (kind, (H, W, 3) uint8 RGB, QF), QF 100 for what never was a JPEG."""
    while True:
        side, lossless = int(rng.choice(SIDES)), rng.random() < LOSSLESS
        if rng.random() < DRAWN:
            kind = str(rng.choice(list(drawing.DRAWING)))
            size = drawing.DRAWN_SIZES[rng.integers(len(drawing.DRAWN_SIZES))]
            pixels = drawing.crop(np.asarray(drawing.DRAWING[kind](rng, size)), max(side, 96), rng)
        else:
            kind, pixels = "photograph", photographs[rng.integers(len(photographs))]
            if lossless or rng.random() < REDUCED:  # the photographs were JPEGs of high QF, which reducing takes away
                pixels = np.asarray(Image.fromarray(pixels).reduce(int(rng.integers(2, 4))))
            pixels = drawing.crop(pixels, side, rng)
        if pixels is None:
            continue
        if lossless:
            yield f"{kind}, lossless", pixels, QUALITY_CLASSES
        else:
            quality = int(rng.integers(1, QUALITY_CLASSES))
            yield kind, drawing.compressed(pixels, quality, bool(rng.random() < 0.2 and side > 32), rng), quality


@torch.inference_mode()
def vectors(
    model: BlindDAGN, photographs: list[np.ndarray], count: int, seed: int
) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Of so many pictures: kinds, (count, features) compression-sensitive vectors, (count,) QFs."""
    kinds, found, qualities = [], [], []
    for (kind, pixels, quality), _ in zip(pictures(photographs, np.random.default_rng(seed)), range(count)):
        x = model.pad(channels_first(np.ascontiguousarray(pixels))[None].float() / 255)
        kinds.append(kind)
        found.append(model.network.encoder_cs(x).mean((2, 3))[0])
        qualities.append(quality)
    return kinds, torch.stack(found), torch.tensor(qualities)


def fit(predictor: QualityPredictor, inputs: torch.Tensor, qualities: torch.Tensor, steps: int) -> None:
    """Train P_qf, in place, on vectors and their QFs."""
    predictor.requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(predictor.mlp.parameters(), lr=LEARNING_RATE)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
        chosen = torch.randint(len(inputs), (BATCH,), generator=generator)
        optimiser.zero_grad()
        quality_loss(predictor(inputs[chosen]), qualities[chosen], spread=SPREAD).backward()
        optimiser.step()
    predictor.requires_grad_(False)


def errors(predictor: QualityPredictor, kinds: list[str], inputs: torch.Tensor, qualities: torch.Tensor) -> dict[str, float]:
    """Mean absolute error of the QF by kind."""
    wrong = (predictor.quality(inputs) - qualities).abs()
    return {kind: wrong[torch.tensor([one == kind for one in kinds])].mean().item() for kind in sorted(set(kinds))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a DAGN by name, or a weights file")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24000, help="pictures to learn from (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=2000, help="pictures to measure on (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=6000, help="default: %(default)s")
    options = parser.parse_args()
    root = Path(os.environ["DAGN_PRE_DATA"], "restoration")
    loaded = models.load(options.model)
    learnt, _ = load_photographs([root / name for name in TRAINED], min(SIDES))
    others, _ = load_photographs([root / HELD_OUT], min(SIDES))
    judge = vectors(loaded.model, others, options.held_out, SEED + 1)
    before = errors(loaded.model.quality, *judge)
    _, inputs, qualities = vectors(loaded.model, learnt, options.count, SEED)
    fit(loaded.model.quality, inputs, qualities, options.steps)
    after = errors(loaded.model.quality, *judge)
    print("| pictures | mean absolute error before | after |\n|---|---:|---:|")
    print(*(f"| {kind} | {before[kind]:.1f} | {after[kind]:.1f} |" for kind in before), sep="\n")
    card = {**loaded.card, "quality": {"pictures": options.count, "steps": options.steps}}
    weights.save(options.output, loaded.model, card=card)


if __name__ == "__main__":
    main()
