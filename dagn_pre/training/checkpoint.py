"""Checkpoints of a training run: files that hold plain types and tensors alone, each written whole or not at all.

    format      "dagn-pre-checkpoint-1"
    stage       insensitive, sensitive or dagn
    step        optimiser steps done
    network     DAGNConfig as a dictionary
    config      the run's configuration as JSON
    metrics     the last validation's figures
    history     what made it: {stage: {"steps", "images", "minutes", "config_sha256"}}; of stage semantic also "teachers"
    state_dict  the weights to use: the average where one is kept
    best        where a run keeps its best weights: {"step", "metrics", "state_dict", ...} of those to use instead
    first       the figures before the first step, where they are measured
    and, for --resume: ema_state_dict, optimizer, param_schedulers, rng, seconds
"""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path, PurePath

import torch

from dagn_pre.errors import TrainingError, WeightsError
from dagn_pre.files import atomic_path

FORMAT = "dagn-pre-checkpoint-1"
PATHS = ("data", "validation", "insensitive_from", "sensitive_from", "load_from", "trunk")  # name places, not settings
TEACHER_PATHS = ("config", "checkpoint", "weights")  # of a teacher: files, whose names are settings and whose folders are not


def settings(config: str) -> dict:
    """A configuration (JSON) without what names places: alike on every machine."""
    values = {key: value for key, value in json.loads(config).items() if key not in PATHS}
    for spec in values.get("teachers", {}).values():
        for key in TEACHER_PATHS:
            if isinstance(spec.get(key), str) and "::" not in spec[key]:  # mmdet::... is of the host
                spec[key] = PurePath(spec[key]).name
    return values


def config_hash(config: str) -> str:
    """SHA-256 of a configuration's :func:`settings`."""
    return hashlib.sha256(json.dumps(settings(config), sort_keys=True).encode()).hexdigest()


def step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))


def checkpoints(folder: Path) -> list[Path]:
    """A run's checkpoints, the oldest first."""
    return sorted(folder.glob("step_*.pth"), key=step_of)


def latest(folder: Path) -> Path | None:
    """The newest checkpoint in a folder, or None."""
    found = checkpoints(folder)
    return found[-1] if found else None


def write(folder: Path, state: dict, keep: int) -> Path:
    """Write ``state`` as ``folder/step_N.pth``, then remove all but the newest ``keep``.

    Raises:
        TrainingError: the file cannot be written, as on a full disk; older checkpoints are untouched.
    """
    path = folder / f"step_{state['step']:07d}.pth"
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch's writer turns some of a full disk's errors into RuntimeError
        # torch raises a worker's death wherever the process happens to be; its writer, cut off by it, then complains as well
        cause: BaseException | None = error
        while cause is not None:
            if "DataLoader worker" in str(cause):
                raise cause from None
            cause = cause.__context__
        previous = latest(folder)
        kept = f"{previous} is the last good checkpoint" if previous else "there is no earlier checkpoint"
        raise TrainingError(f"{path}: cannot be written ({error}); {kept}") from error
    for old in checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def load(path: Path, kind: str, content: str) -> object:
    """What ``torch.load`` gives of a file without running code, tensors on the CPU; ``kind`` and ``content`` are for messages.

    Raises:
        WeightsError: missing, damaged, or not plain types and tensors alone.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such {kind}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path}: damaged or not {content} ({str(error).splitlines()[0]})") from error


def read(source: str | Path) -> dict:
    """A checkpoint's contents, tensors on the CPU; of a folder, its newest.

    Raises:
        WeightsError: missing, damaged, or not a checkpoint of ours.
    """
    path = Path(source)
    if path.is_dir():
        path = latest(path) or path / "step_*.pth"
    state = load(path, "checkpoint", "a checkpoint of plain tensors")
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise WeightsError(f"{path}: not a checkpoint of dagn-pre train (no format {FORMAT!r})")
    return state
