"""Train a model from folders of photographs to a weights file: stages 1a, 1b and 2, each resumed where it stopped.

    python -m dagn_pre.training --data PHOTOS... --validation PHOTOS --work-dir work_dirs/dagn-s --model dagn-s
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dagn_pre import __version__, codec, metrics, models
from dagn_pre.errors import DagnPreError, UsageError
from dagn_pre.files import write_atomic
from dagn_pre.networks.dagn import DAGN
from dagn_pre.training.data import load_photographs
from dagn_pre.training.stages import InsensitiveStage, RestorationStage, Schedule, SensitiveStage, Stage

VALIDATION_QUALITIES = (10, 20, 30, 40)


def restore(network: DAGN, image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 through a network in eval mode."""
    x = torch.tensor(image.copy()).permute(2, 0, 1)[None] / 255
    return network(x)[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()


@torch.no_grad()
def validate(stage: Stage, photographs: list[np.ndarray]) -> str:
    """PSNR gain over the JPEG in dB at each of VALIDATION_QUALITIES, by the averaged weights."""
    network = stage.modules["average"].eval()
    gains = []
    for quality in VALIDATION_QUALITIES:
        gain = 0.0
        for original in photographs:
            compressed = codec.compress(original, quality)
            gain += metrics.psnr(restore(network, compressed), original) - metrics.psnr(compressed, original)
        gains.append(f"{gain / len(photographs):.3f}")
    return f"gain {'/'.join(gains)} dB"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m dagn_pre.training", description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", type=Path, required=True, metavar="DIR", help="folders of photographs")
    parser.add_argument("--validation", type=Path, required=True, metavar="DIR", help="photographs to watch progress on")
    parser.add_argument("--work-dir", type=Path, required=True, help="checkpoints and log; an existing one is resumed")
    parser.add_argument("--model", default="dagn-s", choices=models.names())
    parser.add_argument("--steps", nargs=3, type=int, default=(2500, 4000, 30000), metavar=("1A", "1B", "2"))
    parser.add_argument("--minutes", nargs=3, type=float, default=(5, 10, 75), metavar=("1A", "1B", "2"))
    parser.add_argument("--batch", nargs=3, type=int, default=(8, 8, 8), metavar=("1A", "1B", "2"))
    parser.add_argument("--patch", nargs=3, type=int, default=(64, 96, 64), metavar=("1A", "1B", "2"))
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=1, help="processes that cut and compress patches")
    parser.add_argument("--validate-images", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="weights file; default WORK_DIR/MODEL.safetensors")
    options = parser.parse_args(arguments)
    torch.manual_seed(options.seed)
    config = models.get(options.model).config
    photographs, skipped = load_photographs(options.data, max(options.patch))
    held_out, _ = load_photographs([options.validation], 16)
    held_out = [image[:256, :256] for image in held_out[: options.validate_images]]
    options.work_dir.mkdir(parents=True, exist_ok=True)
    log_file = options.work_dir / "log.txt"

    def log(line: str) -> None:
        tqdm.write(line)
        with log_file.open("a") as file:
            file.write(line + "\n")

    for line in skipped:
        log(f"left out: {line}")
    schedules = [
        Schedule(steps, minutes, batch, patch, options.lr, workers=options.workers)
        for steps, minutes, batch, patch in zip(options.steps, options.minutes, options.batch, options.patch)
    ]
    # Stage 1 is watched by its losses alone: its images and its restorations are not what it is for.
    encoders: list[Stage] = []
    for name, stage_type, schedule in zip(("1a", "1b"), (InsensitiveStage, SensitiveStage), schedules):
        stage = stage_type(config)
        stage.run(photographs, schedule, options.work_dir / f"{name}.pth", lambda line, name=name: log(f"{name} {line}"))
        encoders.append(stage)
    insensitive, sensitive = (stage.modules["auto_encoder"].encoder for stage in encoders)

    torch.manual_seed(options.seed + 1)  # stage 2 starts alike, whether or not stage 1 was resumed
    network = DAGN(config)
    if hasattr(network, "encoder_ci"):
        network.encoder_ci.load_state_dict(insensitive.state_dict())
    if hasattr(network, "encoder_cs"):
        network.encoder_cs.load_state_dict(sensitive.state_dict())
    restoration = RestorationStage(network)
    schedule = replace(schedules[2], save_every=1000)
    restoration.run(
        photographs,
        schedule,
        options.work_dir / "2.pth",
        lambda line: log(f"2 {line}"),
        partial(validate, photographs=held_out),
    )
    average = restoration.modules["average"].eval()
    card = {
        "name": options.model,
        "version": __version__,
        "training": [asdict(schedule) for schedule in schedules],
        "images": len(photographs),
        "validation": validate(restoration, held_out),
    }
    output = options.output or options.work_dir / f"{options.model}.safetensors"
    predictor = encoders[1].modules["predictor"].eval() if config.sensitive else None
    models.save(output, average, predictor, card)
    write_atomic(options.work_dir / "card.json", json.dumps(card, indent=1).encode())
    log(f"wrote {output}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DagnPreError as error:
        print(f"dagn_pre.training: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
