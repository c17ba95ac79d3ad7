"""mmengine's Runner for one stage: its hooks, optimiser wrappers, schedules, loggers and distributed data parallel; the loop
and the checkpoints are ours, so that a run continues at any step from files that are whole and hold plain types alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.device import get_device
from mmengine.dist import get_dist_info
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import EMAHook, Hook
from mmengine.model import MMDistributedDataParallel, is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from dagn_pre import architectures, metrics, weights
from dagn_pre.errors import UsageError
from dagn_pre.files import write_atomic
from dagn_pre.training import checkpoint
from dagn_pre.training.data import JPEGPairs, StepBatches, ValidationPairs, channels_first, loader, quality_recipe
from dagn_pre.training.loops import KeepBest, StepLoop, TimedLoop
from dagn_pre.training.peers import PeerStage
from dagn_pre.training.processes import join_processes
from dagn_pre.training.semantic import SemanticStage
from dagn_pre.training.side_information import SideInformationStage
from dagn_pre.training.stages import STAGES as DAGN_STAGES
from dagn_pre.training.stages import Stage

STAGES: dict[str, type[Stage]] = {**DAGN_STAGES, "peer": PeerStage, "side": SideInformationStage, "semantic": SemanticStage}
AMP = (None, "bf16")


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Forward passes under autocast to bfloat16, on whatever device; no loss scaling, which bfloat16 does not need."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast(get_device(), torch.bfloat16):
            yield


class StageParallel(MMDistributedDataParallel):
    """Distributed data parallel around a stage's forward; its step is the stage's own."""

    def train_step(self, data, optim_wrapper):
        return self.module.train_step(data, optim_wrapper, forward=self)


class GainMetric(BaseMetric):
    """Mean gain of PSNR and PSNR-B over the JPEG in dB, per QF: {"psnr_gain_10": ..., "psnrb_gain_10": ..., ...}.

    What the stage itself measures of its output (``Stage.measures``) is there under its own names, per QF too.
    """

    default_prefix = ""  # None would be warned of

    def __init__(self, stage: Callable[[], Stage]) -> None:
        super().__init__()
        self.stage = stage

    def process(self, data_batch, data_samples) -> None:
        compressed, original, quality = data_batch
        for jpeg, target, qf, restored in zip(compressed, original, quality.tolist(), data_samples):
            found = self.stage().measures(*(tensor[None].float() / 255 for tensor in (jpeg, target, channels_first(restored))))
            jpeg, target = (image.permute(1, 2, 0).numpy() for image in (jpeg, target))
            for name, measure in {"psnr_gain": metrics.psnr, "psnrb_gain": metrics.psnr_b}.items():
                found[name] = measure(restored, target) - measure(jpeg, target)
            self.results.append({f"{name}_{qf}": value for name, value in found.items()})

    def compute_metrics(self, results: list) -> dict[str, float]:
        values: dict[str, list[float]] = {}
        for name, gain in (item for gains in results for item in gains.items()):
            values.setdefault(name, []).append(gain)
        return {name: float(np.mean(gains)) for name, gains in values.items()}


class StageRunner(Runner):
    """One stage from its configuration (``configs/base.py`` lists the keys).

    Args:
        photographs, held_out: (H, W, 3) uint8 RGB, to learn from and to validate on.
        resume: continue from the newest checkpoint in ``work_dir``, where there is one.
        launcher: none, pytorch (torchrun) or slurm.
        hooks: mmengine's, beside those of the configuration.

    Raises:
        UsageError: ``work_dir`` holds another run, or a key has a value that it cannot have.
        WeightsError: a checkpoint that does not fit.
    """

    def __init__(
        self,
        config: Config,
        work_dir: Path,
        photographs: list[np.ndarray],
        held_out: list[np.ndarray],
        resume: bool = False,
        launcher: str = "none",
        hooks: Sequence[Hook] = (),
    ) -> None:
        if config.amp not in AMP:
            raise UsageError(f"amp must be one of {AMP}, not {config.amp!r}")
        if config.minutes is not None and (not config.minutes > 0 or launcher != "none"):
            raise UsageError("minutes must be positive, and bound a run of one process alone: clocks differ")
        if config.patience is not None and not held_out:
            raise UsageError("patience needs images to validate on")
        if not resume and checkpoint.latest(work_dir):
            raise UsageError(f"{work_dir} holds checkpoints of another run; continue it with --resume or choose another folder")
        self.photographs = photographs
        self.metrics: dict[str, float] = {}
        self.history: dict[str, dict] = {}
        join_processes(launcher)
        rank, processes = get_dist_info()
        group = config.batch * processes
        pairs = JPEGPairs(
            photographs,
            config.patch,
            config.steps * group,
            quality_recipe(config.qualities),
            config.seed,
            group,
            **{key: config[key] for key in ("p_444", "p_422", "p_second", "p_resized", "aligned", "turns")},
        )
        batches = StepBatches(config.steps, config.batch, rank, processes)
        stage = STAGES[config.stage]
        options = {key: config[key] for key in STAGE_KEYS[config.stage]}
        validation = {}
        if held_out:
            items = ValidationPairs(held_out, config.validation_qualities, config.validation_size)
            validation = {
                "val_dataloader": DataLoader(items, batch_size=1, sampler=DefaultSampler(items, shuffle=False)),
                "val_evaluator": Evaluator(GainMetric(lambda: self.stage)),
                "val_cfg": {"type": "ValLoop"},
            }
        backends = [{"type": "LocalVisBackend"}] + [{"type": "TensorboardVisBackend"}] * bool(config.tensorboard)
        average = [] if config.ema_decay is None else [self._average(config.ema_decay)]
        best = [] if config.patience is None else [KeepBest(config.patience)]
        loop = {"max_iters": config.steps, "validate_first": config.patience is not None}
        if config.minutes is None:
            loop |= {"type": StepLoop, "val_interval": config.validate_every, "save_interval": config.save_every}
        else:
            loop |= {"type": TimedLoop, "minutes": config.minutes}
        super().__init__(
            model={"type": stage, "config": architectures.config(config.architecture, config.network.to_dict()), **options},
            work_dir=str(work_dir),
            train_dataloader=loader(pairs, batches, config.workers),
            train_cfg=loop,
            optim_wrapper={"type": "OptimWrapper", "optimizer": {"type": "Adam"}},  # build_optim_wrapper makes them
            param_scheduler=schedule(config.steps, config.warmup) if config.minutes is None else [],
            default_hooks={
                "checkpoint": None,
                "sampler_seed": None,
                "logger": {"type": "LoggerHook", "interval": config.log_every},
            },
            custom_hooks=[*average, *best, *hooks],
            resume=resume,
            load_from=config.load_from,
            launcher=launcher,
            env_cfg={"dist_cfg": {"backend": "nccl"}, "cudnn_benchmark": True},
            log_processor={"by_epoch": False, "window_size": config.log_every},
            visualizer={"type": "Visualizer", "vis_backends": backends},
            randomness={"seed": config.seed},
            experiment_name=f"{config.stage}-{time.time_ns()}",  # mmengine shares what has one name within a process
            cfg=config,
            **validation,
        )

    @staticmethod
    def _average(decay: float) -> EMAHook:
        # momentum max(1 - decay, 10 / (10 + step)): a short memory at first, when weights move fast
        return EMAHook("MomentumAnnealingEMA", strict_load=True, momentum=1 - decay, gamma=10, update_buffers=True)

    @property
    def stage(self) -> Stage:
        return self.model.module if is_model_wrapper(self.model) else self.model

    @cached_property
    def config_json(self) -> str:
        return json.dumps(self.cfg.to_dict(), sort_keys=True)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The stage holds its averaged weights inside, where an average is kept."""
        hooks = [hook for hook in self.hooks if isinstance(hook, EMAHook)]
        for hook in hooks:
            hook._swap_ema_parameters()
        yield
        for hook in hooks:
            hook._swap_ema_parameters()

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        model = model.to(get_device())
        if not self.distributed:
            return model
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else None
        return StageParallel(model, device_ids=devices)

    def build_optim_wrapper(self, optim_wrapper: dict) -> OptimWrapperDict:
        wrapper = BFloat16OptimWrapper if self.cfg.amp == "bf16" else OptimWrapper
        clip = {"max_norm": self.cfg.clip, "error_if_nonfinite": True}
        optimisers = {name: torch.optim.Adam(group, lr=self.cfg.lr) for name, group in self.stage.trainable().items()}
        return OptimWrapperDict(
            **{name: wrapper(optimizer=optimiser, clip_grad=dict(clip)) for name, optimiser in optimisers.items()}
        )

    def _maybe_compile(self, target: str) -> None:
        """``compile``: True, or the name of one of torch.compile's backends; the networks alone, not mmengine's step."""
        if self.cfg.compile:
            backend = "inductor" if self.cfg.compile is True else self.cfg.compile
            for module, method in self.stage.compiled():
                setattr(module, method, torch.compile(getattr(module, method), backend=backend))

    def _log_env(self, env_cfg: dict) -> None:
        self.logger.info(f"torch {torch.__version__}, {get_device()}, {self.world_size} process(es)\n{self.cfg.pretty_text}")

    def get_hooks_info(self) -> str:
        return ", ".join(type(hook).__name__ for hook in self.hooks)

    def dump_config(self) -> None:
        if self.rank == 0:
            write_atomic(Path(self.work_dir) / "config.py", self.cfg.pretty_text.encode())

    def save(self) -> None:
        """Write this step's checkpoint (the first process alone)."""
        if self.rank != 0:
            return
        step, seconds = self.iter, self.train_loop.seconds
        made = {"steps": step, "images": len(self.photographs), "minutes": round(seconds / 60, 2)}
        made |= {"config_sha256": checkpoint.config_hash(self.config_json), **self.stage.records()}
        state = {
            "format": checkpoint.FORMAT,
            "stage": self.cfg.stage,
            "step": step,
            "seconds": seconds,
            "architecture": self.cfg.architecture,
            "network": self.cfg.network.to_dict(),
            "config": self.config_json,
            "metrics": dict(self.metrics),
            "history": {**self.history, self.cfg.stage: made},
            "state_dict": dict(self.stage.state_dict()),
            "optimizer": self.optim_wrapper.state_dict(),
            "param_schedulers": {
                name: [scheduler.state_dict() for scheduler in schedulers] for name, schedulers in self.param_schedulers.items()
            },
            "rng": {
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            },
        }
        self.call_hook("before_save_checkpoint", checkpoint=state)
        path = checkpoint.write(Path(self.work_dir), state, self.cfg.keep)
        self.logger.info(f"wrote {path}")

    _has_loaded: bool  # mmengine's
    _resume: bool

    def load_or_resume(self) -> None:
        if self._has_loaded:
            return
        found = checkpoint.latest(Path(self.work_dir)) if self._resume else None
        if found:
            self.resume(found)
        elif self._load_from:
            self._resume = False
            self._load(Path(self._load_from))
        else:
            self._resume = False
            self._take_encoders()
        self._has_loaded = True

    def _take_encoders(self) -> None:
        if self.cfg.stage == "dagn" and not self.cfg.end_to_end:
            sources = {name: self.cfg[f"{name}_from"] for name in ("insensitive", "sensitive")}
            self.history = self.stage.take_encoders(sources)
            self.call_hook("after_load_checkpoint", checkpoint={"state_dict": self.stage.state_dict()})  # the average too

    def _load(self, path: Path) -> dict:
        state = checkpoint.read(path)
        name = f"{path}: a checkpoint of stage {state['stage']}, for stage {self.cfg.stage},"
        weights.check_keys(self.stage.state_dict(), state["state_dict"], name)
        self.call_hook("after_load_checkpoint", checkpoint=state)
        self.stage.load_state_dict(state["state_dict"])
        self.history = {key: value for key, value in state["history"].items() if key != self.cfg.stage}
        return state

    def resume(self, path: Path) -> None:
        """Continue a run: weights, average, optimisers, schedules, random numbers, step, and with it the data's position."""
        state = self._load(path)
        self.optim_wrapper.load_state_dict(state["optimizer"])
        for name, schedulers in self.param_schedulers.items():
            for scheduler, values in zip(schedulers, state["param_schedulers"][name]):
                scheduler.load_state_dict(values)
        torch.set_rng_state(state["rng"]["cpu"])
        if torch.cuda.is_available() and state["rng"]["cuda"]:
            torch.cuda.set_rng_state_all(state["rng"]["cuda"])
        self.metrics = state["metrics"]
        self.train_loop.resume(state["step"], state.get("seconds", 0.0))
        self.logger.info(f"continuing {path} at step {state['step']} of {self.cfg.steps}")


STAGE_KEYS = {
    "insensitive": ("channels_last", "lambda_ci"),
    "sensitive": ("channels_last", "lambda_cs"),
    "dagn": ("channels_last", "end_to_end", "lambda_blocking"),
    "peer": ("channels_last",),
    "side": ("channels_last", "trunk", "train_trunk", "relative", "lambda_rate", "sigma", "rate_warmup", "usage"),
    "semantic": ("channels_last", "trunk", "teachers", "lambda_pixels", "power", "by_channel", "per_step", "judges", "frozen"),
}  # what a stage's class takes of the configuration


def schedule(steps: int, warmup: int) -> list[dict]:
    """Linear warm-up, then a cosine to zero."""
    warmup = min(warmup, steps // 2)
    warmup = warmup if warmup > 1 else 0
    cosine = {"type": "CosineAnnealingLR", "begin": warmup, "end": steps, "T_max": steps - warmup, "eta_min": 0.0}
    linear = {"type": "LinearLR", "begin": 0, "end": warmup, "start_factor": 1 / max(warmup, 1)}
    return [{**part, "by_epoch": False} for part in ([linear, cosine] if warmup else [cosine])]
