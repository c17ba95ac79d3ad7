"""What ``dagn-pre train`` does: one stage, several in a row, or an ablation."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import get_rank

from dagn_pre.errors import UsageError
from dagn_pre.training.ablation import ablation
from dagn_pre.training.configuration import load_stages, read_config
from dagn_pre.training.export import export
from dagn_pre.training.sequence import RESTORING, train_stages


def train(
    name: str | Path, work_dir: str | Path, options: dict | None = None, resume: bool = False, launcher: str = "none"
) -> Path:
    """Train what a config says: one stage in ``work_dir``, or several, each in its own folder below and on the encoders of
    those before it. Where the last is stage dagn, it is exported to ``work_dir/NAME.safetensors``. An ablation (a config
    with ``rows``) goes to :func:`dagn_pre.training.ablation.ablation`, which always continues.

    Returns:
        The weights file; the last checkpoint where a config ends before stage dagn; an ablation's table.

    Raises:
        UsageError, ConfigError, WeightsError, TrainingError: see :func:`train_stage`.
    """
    if "rows" in read_config(name)[0]:
        if launcher != "none":
            raise UsageError("an ablation runs in one process; leave --launcher out")
        return ablation(name, work_dir, options)
    work_dir = Path(work_dir)
    stages = load_stages(name, options)
    folders = {folder: work_dir / folder if len(stages) > 1 else work_dir for folder in stages}
    last = train_stages(stages, folders, resume, launcher)
    config = list(stages.values())[-1]
    if config.stage not in RESTORING:
        return last
    output = work_dir / f"{config.name}.safetensors"
    if get_rank() == 0:
        export(last, output)
    return output
