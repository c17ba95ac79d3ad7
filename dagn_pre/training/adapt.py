"""``dagn-pre adapt``: a restorer is trained on for one frozen model, from unlabelled images of its domain (stage "semantic").

What the model itself sees in the originals is the target, so no labels are needed. Some images are held out; the figure on
them is the agreement, per QF,

    1 - D(restored) / D(JPEG)

with D the distance to the original in the model's features (:func:`dagn_pre.training.teachers.distance`): 0 where the model
sees the restored image as far from the original as the JPEG, 1 where it sees the original, negative where restoring leads
away from it. The mean over the images is taken, and over the QFs for the one number that decides when the run ends and which
weights are kept. Where the model has class scores of its own, their agreement with those on the original is told as well
(:func:`dagn_pre.training.teachers.same`).
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from torch import Tensor

from dagn_pre import folders
from dagn_pre.defaults import MODEL
from dagn_pre.errors import ConfigError, ImageError, UsageError
from dagn_pre.images import open_image
from dagn_pre.training import checkpoint
from dagn_pre.training.configuration import CONFIGS, check_config, read_config
from dagn_pre.training.data import BLOCK, quality_recipe, read_photographs
from dagn_pre.training.export import export
from dagn_pre.training.loops import ROUNDS, WARMUP, KeepBest
from dagn_pre.training.runner import StageRunner
from dagn_pre.training.teachers import describe

NAME = "model"  # the teacher's, in figures and errors
PATCHES = (96, 80, 64, 48)  # the first that fits
LARGEST = 192  # patch, for a model that is shown images reduced
LEAST = 8  # usable images
SHARE, FEWEST, MOST, SIDE = 0.1, 4, 12, 256  # of the images, how many are held out, and the side of what is looked at
MEMORY = 2 << 30  # bytes of images that are read
TOLD = 10  # images that are left out, by name
LADDER = (5, 10, 20, 40, 75)  # QFs of the held-out figures
LABELS = frozenset({".json", ".xml", ".txt", ".csv", ".yaml", ".yml", ".mat"})
STEPS = 1_000_000  # of a run that time ends
FIRST = ("teachers", "qualities")  # named first, where these and what follows from them differ
LOOSE = ("minutes", "amp", "workers", "patience", "log_every", "keep", "tensorboard")  # may differ on resuming


Scale = Callable[[Sequence[tuple[int, int]]], float]


@dataclass(frozen=True)
class Material:
    """What a folder gives to learn from.

    Attributes:
        photographs: (H, W, 3) uint8 RGB each, to learn from.
        held_out: the same, of at most :data:`SIDE` pixels a side, to look at.
        scale: by how much the model's images are resized.
        patch: side of the pairs, in pixels.
        notes: what was left out, a line each.
    """

    photographs: list[np.ndarray]
    held_out: list[np.ndarray]
    scale: float
    patch: int
    notes: list[str]


@dataclass(frozen=True)
class Adapted:
    """What came out.

    Attributes:
        output: the weights file.
        qualities: QFs of the held-out figures.
        before, after: those figures, of the restorer it started from and of the best, which was written.
        steps, best: how many there were, and after how many the best was found.
        minutes: of all starts together.
        ended: why it ended.
    """

    output: Path
    qualities: list[int]
    before: dict[str, float]
    after: dict[str, float]
    steps: int
    best: int
    minutes: float
    ended: str


def adapt(
    teacher: Mapping,
    images: str | Path,
    output: str | Path,
    *,
    model: str = MODEL,
    qualities: tuple[int, int] = (10, 90),
    minutes: float = 20.0,
    steps: int | None = None,
    work_dir: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    amp: str = "auto",
    scale: Scale | None = None,
    options: Mapping | None = None,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> Adapted:
    """Train a restorer on for a frozen model, and write its weights.

    Args:
        teacher: what :func:`dagn_pre.training.teachers.build` takes.
        images: a folder, searched with its sub-folders.
        output: the ``.safetensors`` file to write.
        model: the restorer to start from, a name or weights of ours.
        qualities: lowest and highest QF to expect; low ones are drawn more often.
        minutes: from the first step, over all starts.
        steps: so many instead, for runs that shall be the same everywhere.
        work_dir: for the run's state; beside the output by default, as ``NAME.adapt``.
        resume: continue what is in the work dir, if anything is.
        overwrite: replace the output; unless ``resume``, what is in the work dir too.
        amp: "bf16", "none", or "auto" for bfloat16 where the device has instructions for it.
        scale: tells the teacher's ``scale`` from the images' sizes, (height, width) each.
        options: keys of ``training/configs/base.py`` to override.
        tell: takes a line of text on what happens.

    Raises:
        UsageError: an output that exists or is no ``.safetensors``, images too few or too small, another run in the work dir,
            or a value outside its range.
        ConfigError: see :func:`dagn_pre.training.teachers.build`.
        WeightsError: a checkpoint or weights that are missing or do not fit.
        TrainingError: the run had to stop, such as at a NaN; the work dir holds its state.
    """
    output = Path(output)
    work_dir = Path(work_dir) if work_dir else output.with_suffix(".adapt")
    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: the output must end in .safetensors")
    found = checkpoint.latest(work_dir)
    if output.exists() and not overwrite:
        raise UsageError(f"{output} exists already; choose another file, or replace it with --overwrite")
    if found and not resume and not overwrite:
        raise UsageError(
            f"{work_dir} holds a run; continue it with --resume, start anew with --overwrite, or name another --work-dir"
        )
    if amp not in ("auto", "bf16", "none"):
        raise UsageError(f"amp must be auto, bf16 or none, not {amp!r}")
    low, high = qualities
    config = settings(teacher, model, (low, high), minutes, steps, amp, options or {})
    known = float(teacher.get("scale", 1.0))
    material = gather(Path(images), config.patch, config.seed, scale or (lambda sizes: known))
    if scale is not None:
        config.teachers[NAME]["scale"] = material.scale
    config.batch = max(1, min(config.batch, round(config.batch * (config.patch / material.patch) ** 2)))  # as many pixels
    config.patch, config.data = material.patch, [str(images)]
    for note in material.notes:
        tell(note)
    if found:
        state = own(found, config)
    if found and resume:
        check_same(found, state, config, material)
    if found and not resume:
        for old in checkpoint.checkpoints(work_dir):
            old.unlink()
    progress = Progress(tell)
    runner = StageRunner(config, work_dir, material.photographs, material.held_out, resume, hooks=[progress])
    if amp == "auto" and config.amp:
        try:
            runner.stage.check_teachers(torch.bfloat16)
        except ConfigError as error:
            tell(f"float32, since the model does not work in bfloat16: {error}")
            runner.cfg.amp = None
    tell(
        f"{len(material.photographs) + len(material.held_out)} images, {len(material.held_out)} of them held out; "
        f"patches of {config.patch} pixels, QF {low} to {high}; {runner.cfg.amp or 'float32'} on {get_device()}"
    )
    runner.train()
    export(work_dir, output)
    return result(output, config, checkpoint.read(work_dir))


def settings(
    teacher: Mapping, model: str, qualities: tuple[int, int], minutes: float, steps: int | None, amp: str, options: Mapping
) -> Config:
    """The run's configuration.

    Raises:
        UsageError: QFs that are none or do not rise, or steps or patience that are not positive.
        ConfigError: an unknown key among ``options``.
    """
    low, high = qualities
    quality_recipe(f"{low}..{high}")
    length: dict = {"steps": STEPS, "minutes": float(minutes)}
    if steps is not None:
        if steps < 1:
            raise UsageError(f"steps must be positive, not {steps}")
        every = max(1, steps // ROUNDS)
        length = {"steps": steps, "warmup": round(WARMUP * steps), "validate_every": every, "save_every": min(every, 100)}
    ladder = [quality for quality in LADDER if low <= quality <= high]
    config = read_config(CONFIGS / "base.py")[0]
    config.merge_from_dict(
        {
            "name": "adapted",
            "stage": "semantic",
            "trunk": str(model),
            "teachers": {NAME: dict(teacher)},
            "lambda_pixels": 0.5,
            "qualities": f"{low}..{high}",
            "validation_qualities": ladder if len(ladder) > 1 else sorted({low, high}),
            "validation_size": SIDE,
            "turns": False,  # the model has seen the world upright
            "patch": PATCHES[0],
            **length,
            "patience": 3,
            "lr": 3e-4,
            "ema_decay": 0.999,
            "amp": "bf16" if amp == "bf16" or (amp == "auto" and fast_bfloat16(get_device())) else None,
            "keep": 1,
            "tensorboard": False,
            **options,
        }
    )
    if not isinstance(config.patience, int) or config.patience < 1:
        raise UsageError(f"patience must be a number of validations, not {config.patience!r}")
    return check_config(config, "adapt")


def fast_bfloat16(device: str) -> bool:
    """Whether a device multiplies matrices of bfloat16 faster than those of float32: CUDA from 8.0 on; CPUs with AMX or
    AVX512-BF16."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_capability()[0] >= 8
    if device != "cpu":
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def gather(folder: Path, patch: int = PATCHES[0], seed: int = 0, scale: Scale = lambda sizes: 1.0) -> Material:
    """Read a folder's images, in an order drawn by ``seed``, until they fill :data:`MEMORY`; hold some out.

    Annotation files are passed over, and so are masks: pictures without colours that have the name of a picture with them.

    Args:
        patch: the side of what the model should see of a pair. Where it is shown images reduced, pairs are larger, up to
            :data:`LARGEST`; where that fits in fewer than half of the images, smaller, as in :data:`PATCHES`.
        scale: as of :func:`adapt`.

    Raises:
        UsageError: no such folder, or fewer than :data:`LEAST` images that can be read and hold the smallest patch.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder of images")
    found = folders.search(folder)
    masks = masks_of(found.paths)
    labels = [path for paths in found.left_out.values() for path in paths if path.suffix.lower() in LABELS]
    paths = [path for path in found.paths if path not in masks]
    order = np.random.default_rng(seed).permutation(len(paths))
    usable, notes, bad, size = [], [], [], 0
    if masks or labels:
        kinds = {"annotation files": labels, "masks": sorted(masks)}
        told = folders.told_with_examples("no labels are needed, so these are ignored", {k: v for k, v in kinds.items() if v})
        notes.append(told)
    for path, image in read_photographs((paths[index] for index in order), min(patch, *PATCHES)):
        if isinstance(image, str):
            bad.append(f"left out: {path}: {image}")
            continue
        usable.append((path, image))
        size += image.nbytes
        if size > MEMORY:
            notes.append(f"{len(usable)} images are taken, which fill {MEMORY >> 30} GiB, of {len(paths)} that there are")
            break
    notes += bad[:TOLD] + [f"left out: {len(bad) - TOLD} more"] * (len(bad) > TOLD)
    if len(usable) < LEAST:
        why = f"; {bad[0]}" if bad else ""
        raise UsageError(f"{folder}: {len(usable)} usable images, and {LEAST} are the least{why}")
    factor = round(float(scale([image.shape[:2] for _, image in usable])), 4)
    wanted = patch if factor >= 1 else max(patch, min(LARGEST, math.ceil(patch / factor / 16) * 16))
    sides = [wanted, *(side for side in (patch, *PATCHES) if side < wanted)]
    fits = {side: [one for one in usable if min(one[1].shape[:2]) >= side + BLOCK] for side in sides}
    side = next((side for side in fits if len(fits[side]) >= max(LEAST, len(usable) / 2)), min(fits))
    left = [path for path, image in usable if min(image.shape[:2]) < side + BLOCK]
    if left:
        notes.append(folders.told_with_examples("left out", {f"images smaller than {side + BLOCK} pixels": left}))
    chosen = [image for _, image in fits[side]]
    count = min(max(FEWEST, round(SHARE * len(chosen))), MOST)
    return Material(chosen[count:], [window(image, seed) for image in chosen[:count]], factor, side, notes)


def masks_of(paths: Sequence[Path]) -> set[Path]:
    """Pictures of one channel that have the name of one in colours, up to folder and suffix."""
    by_stem: dict[str, list[Path]] = {}
    for path in paths:
        by_stem.setdefault(path.stem, []).append(path)
    masks = set()
    for same in by_stem.values():
        if len(same) < 2:
            continue
        plain = {path for path in same if mode(path)[:1] in ("1", "L", "P", "I", "F")}
        if len(plain) < len(same):
            masks |= plain
    return masks


def mode(path: Path) -> str:
    """A picture's mode in Pillow; "" where it cannot be read, which is told elsewhere."""
    try:
        return open_image(path).mode
    except ImageError:
        return ""


def window(image: np.ndarray, seed: int) -> np.ndarray:
    """A crop of at most :data:`SIDE` pixels a side, somewhere."""
    rng = np.random.default_rng((seed, *image.shape[:2]))
    top, left = (int(rng.integers(0, max(0, side - SIDE) + 1)) for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + SIDE, left : left + SIDE])


def own(found: Path, config: Config) -> dict:
    """A checkpoint's contents; raises UsageError unless it is of an adaptation."""
    state = checkpoint.read(found)
    if state["stage"] != config.stage or json.loads(state["config"])["name"] != config.name:
        raise UsageError(f"{found.parent} holds a run of dagn-pre train; name another --work-dir")
    return state


def check_same(found: Path, state: dict, config: Config, material: Material) -> None:
    """Raise UsageError unless a checkpoint is of a run with these settings on as many images."""
    old, new = checkpoint.settings(state["config"]), checkpoint.settings(json.dumps(config.to_dict()))
    differ = [key for key in (*FIRST, *new) if key not in LOOSE and old.get(key) != new[key]]
    if differ:
        key = differ[0]
        raise UsageError(
            f"{found.parent} holds a run with {key} = {old.get(key)!r}, not {new[key]!r}; continue it with the command that "
            "started it, or name another --work-dir"
        )
    made, now = state["history"][config.stage], len(material.photographs)
    if made["images"] != now:
        raise UsageError(f"{found.parent} holds a run on {made['images']} images, not {now}; name another --work-dir")
    if made["teachers"] != {name: describe(spec) for name, spec in config.teachers.items()}:
        raise UsageError(f"{found.parent} holds a run for a model whose files were others; name another --work-dir")


class Progress(Hook):
    """A line on how far the run is: one that is written over on a terminal, else one at each validation."""

    priority = "LOWEST"

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell, self.shown = tell, 0.0
        self.first: float | None = None
        self.last: float | None = None
        self.loss: float | None = None

    def before_train(self, runner: StageRunner) -> None:
        kept = next(hook for hook in runner.hooks if isinstance(hook, KeepBest))
        if kept.first is not None and kept.best is not None:  # a run that is continued
            self.first, self.last = runner.stage.score(kept.first), kept.best["score"]

    def line(self, runner: StageRunner) -> str:
        loop = runner.train_loop
        parts = [f"step {loop.iter}"]
        if runner.cfg.minutes is not None:
            parts.append(f"{max(0.0, loop.limit - loop.seconds) / 60:.1f} min left")
        elif loop.iter:
            parts[0] += f" of {loop.max_iters}"
            parts.append(f"{loop.seconds / loop.iter * (loop.max_iters - loop.iter) / 60:.1f} min left")
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        if self.last is not None:
            parts.append(f"held-out agreement {self.last:.1%} ({self.first:.1%} at first)")
        return ", ".join(parts)

    def after_train_iter(self, runner: StageRunner, batch_idx: int, data_batch: Sequence[Tensor], outputs: dict) -> None:
        loss = outputs["loss"].item()
        self.loss = loss if self.loss is None else 0.95 * self.loss + 0.05 * loss
        if sys.stderr.isatty() and time.monotonic() - self.shown > 1:
            self.shown = time.monotonic()
            print(f"\r{self.line(runner)}\033[K", end="", file=sys.stderr, flush=True)

    def after_val_epoch(self, runner: StageRunner, metrics: dict[str, float]) -> None:
        self.last = runner.stage.score(metrics)
        self.first = self.last if self.first is None else self.first
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
        self.tell(self.line(runner))


def result(output: Path, config: Config, state: dict) -> Adapted:
    best, seconds = state["best"], state["seconds"]
    ended = "the time is over"
    if best["stale"] >= config.patience:
        ended = f"the agreement has not risen for {best['stale']} validations"
    elif state["step"] >= config.steps:
        ended = "all steps are done"
    return Adapted(
        output,
        list(config.validation_qualities),
        state["first"],
        best["metrics"],
        state["step"],
        best["step"],
        seconds / 60,
        ended,
    )
