"""The training of one stage, or of several in a row, each on the encoders of those before it."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config
from mmengine.dist import barrier

from dagn_pre.errors import TrainingError
from dagn_pre.training import checkpoint
from dagn_pre.training.data import load_photographs, patch_schedule
from dagn_pre.training.processes import join_processes
from dagn_pre.training.runner import StageRunner

RESTORING = ("dagn", "peer", "side", "semantic")  # the stages whose result is a restorer, or a part of one


def train_stage(config: Config, work_dir: Path, resume: bool = False, launcher: str = "none") -> Path:
    """Train one stage; return its last checkpoint. A stage that is finished is left as it is where ``resume`` is set.

    Raises:
        UsageError, ConfigError, WeightsError, TrainingError: see :class:`StageRunner` and :class:`StepLoop`.
    """
    join_processes(launcher)
    found = checkpoint.latest(work_dir)
    if resume and found and checkpoint.step_of(found) >= config.steps:
        return found
    largest = max(side for _, side in patch_schedule(config.patch))
    photographs, skipped = load_photographs([config.data] if isinstance(config.data, str) else config.data, largest)
    held_out: list = []
    if config.stage in RESTORING and config.validation_images:
        held_out = load_photographs([config.validation], 16)[0][: config.validation_images]
    runner = StageRunner(config, work_dir, photographs, held_out, resume, launcher)
    runner.logger.info(f"{len(photographs)} images, {len(skipped)} left out")
    for line in skipped:
        runner.logger.info(f"left out: {line}")
    runner.train()
    barrier()  # the others wait until the first process has written
    done = checkpoint.latest(work_dir)
    if done is None:
        raise TrainingError(f"{work_dir}: the training has ended, and there is no checkpoint of it")
    return done


def train_stages(stages: dict[str, Config], folders: dict[str, Path], resume: bool = False, launcher: str = "none") -> Path:
    """Train stages in their order, each on the encoders of those before it; return the last one's last checkpoint."""
    for folder, config in stages.items():
        done = train_stage(config, folders[folder], resume, launcher)
        for later in stages.values():
            source = f"{config.stage}_from"
            if source in later and not later[source]:
                later[source] = str(done)
    return done
