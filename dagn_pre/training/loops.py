"""The loops of a run: so many steps, or as many as fit in a time; and the hook that keeps the best weights and ends a run
that no longer gets better. What mmengine's hooks see is an ``IterBasedTrainLoop``, which would decode all data already seen
to resume."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop
from torch import nn
from torch.utils.data import DataLoader

from dagn_pre import pool
from dagn_pre.errors import TrainingError
from dagn_pre.training import checkpoint

if TYPE_CHECKING:
    from dagn_pre.training.runner import StageRunner

ROUNDS = 10  # validations of a timed run
WARMUP = 0.03  # of a timed run: until its rate is at the peak
VALIDATION = 1 / 7  # at most, of a timed run's time
SAVE_SECONDS = 60.0
RISE = 0.001  # of the score: less is none


class StepLoop(BaseLoop):
    """Steps from where the checkpoint left off to ``max_iters``; validates, then saves; measures its wait for data.

    Args:
        validate_first: whether to validate before the first step as well.

    Attributes:
        stop_training: set by a hook to end the run after this step.
    """

    max_epochs, epoch, val_begin = 1, 0, 1

    def __init__(
        self,
        runner: StageRunner,
        dataloader: DataLoader,
        max_iters: int,
        val_interval: int,
        save_interval: int,
        validate_first: bool = False,
    ) -> None:
        super().__init__(runner, dataloader)
        self.max_iters, self.val_interval, self.save_interval = max_iters, val_interval, save_interval
        self.validate_first, self.stop_training = validate_first, False
        self._iter = self._epoch = 0
        self.spent = 0.0  # seconds, of earlier starts
        self.started = time.monotonic()

    @property
    def iter(self) -> int:
        return self._iter

    @property
    def seconds(self) -> float:
        """What the run has taken until now, over all its starts."""
        return self.spent + time.monotonic() - self.started

    def resume(self, step: int, seconds: float) -> None:
        """Continue behind a step that was reached after so many seconds."""
        self._iter, self.spent = step, seconds

    def run(self) -> nn.Module:
        """Train.

        Raises:
            TrainingError: a loss or gradient is not finite, a data worker died, or a checkpoint cannot be written.
        """
        runner = self.runner
        for hook in ("before_train", "before_train_epoch"):
            runner.call_hook(hook)
        self.dataloader.batch_sampler.first_step = self._iter
        self.started = time.monotonic()
        try:
            if self.validate_first and not self._iter:
                self._validate()
            self._steps()
        except FloatingPointError as error:
            raise self._stopped(error) from error
        except RuntimeError as error:
            if "DataLoader worker" in str(error):
                raise self._stopped(f"a data worker died ({str(error).splitlines()[0]})") from error
            if "non-finite" in str(error):
                raise self._stopped("a gradient is not finite") from error
            raise
        for hook in ("after_train_epoch", "after_train"):
            runner.call_hook(hook)
        return runner.model

    def finished(self) -> bool:
        return self.stop_training or self._iter >= self.max_iters

    def _stopped(self, reason: object) -> TrainingError:
        found = checkpoint.latest(Path(self.runner.work_dir))
        kept = f"{found} holds the last good state, --resume continues from it" if found else "there is no checkpoint yet"
        return TrainingError(f"stopped at step {self._iter}: {reason}; {kept}")

    def _steps(self) -> None:
        runner, hub = self.runner, self.runner.message_hub
        cores = min(pool.cores(), runner.world_size * (torch.get_num_threads() + self.dataloader.num_workers))
        patches = runner.world_size * self.dataloader.batch_sampler.batch
        seconds, waited, first = 0.0, 0.0, self._iter
        batches = iter(self.dataloader)
        while not self.finished():
            runner.model.train()
            started = time.perf_counter()
            batch = next(batches)
            wait = time.perf_counter() - started
            runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=batch)
            self._before_step()
            outputs = runner.model.train_step(batch, optim_wrapper=runner.optim_wrapper)
            spent = time.perf_counter() - started
            hub.update_scalar("train/data_wait", wait / spent)
            hub.update_scalar("train/patches_per_core_second", patches / spent / cores)
            seconds, waited = seconds + spent, waited + wait
            runner.call_hook("after_train_iter", batch_idx=self._iter, data_batch=batch, outputs=outputs)
            self._iter += 1
            self._after_step()
        if self._iter > first:  # validating and saving are left out
            rate = patches * (self._iter - first) / seconds
            runner.logger.info(
                f"{self._iter - first} steps in {seconds / 60:.1f} min: {rate:.1f} patches per second, {rate / cores:.1f} per "
                f"core ({cores} cores), {waited / seconds:.1%} of the time waiting for data"
            )

    def _before_step(self) -> None:
        self.runner.stage.step = self._iter

    def _after_step(self) -> None:
        runner = self.runner
        if runner.val_loop is not None and (self.finished() or self._validation_due()):
            self._validate()  # a hook may end the run on what it finds
        if self.finished():
            with runner.averaged():
                runner.stage.finish(runner.photographs, runner.cfg.vector_images, runner.cfg.settle_steps)
        if self.finished() or self._save_due():
            runner.save()

    def _validate(self) -> None:
        self.runner.metrics = self.runner.val_loop.run()

    def _validation_due(self) -> bool:
        return self._iter % self.val_interval == 0

    def _save_due(self) -> bool:
        return self._iter % self.save_interval == 0


class TimedLoop(StepLoop):
    """Steps until a time is over; the rate follows the share of it that is over.

    It validates :data:`ROUNDS` times, less often where that would take more than :data:`VALIDATION` of the time, and leaves
    time for the last one, at the precision of the steps. It saves after each and every :data:`SAVE_SECONDS`. The time is that
    of all starts together.
    """

    def __init__(self, runner: StageRunner, dataloader: DataLoader, max_iters: int, minutes: float, **options) -> None:
        super().__init__(runner, dataloader, max_iters, 0, 0, **options)
        self.limit, self.validation = 60 * minutes, 0.0
        self.next_round, self.next_save = 0.0, 0.0

    @property
    def share(self) -> float:
        """How much of the run is over; 1 at its end."""
        return self.seconds / max(self.limit - self.validation, 1e-9)

    def finished(self) -> bool:
        return self.stop_training or (self._iter > 0 and self.share >= 1)  # a step at least, so that there is something to keep

    def _steps(self) -> None:
        self.next_save = self.seconds + SAVE_SECONDS
        self._plan()
        super()._steps()

    def _plan(self) -> None:
        """When to validate next."""
        earliest = self.share + self.validation / VALIDATION / self.limit
        self.next_round = max(math.ceil(earliest * ROUNDS), math.floor(self.share * ROUNDS) + 1) / ROUNDS

    def _before_step(self) -> None:
        super()._before_step()
        self.max_iters = math.ceil(self._iter / max(self.share, 1e-9)) + 1  # as it seems: for the log's ETA
        for wrapper in self.runner.optim_wrapper.values():
            for group in wrapper.optimizer.param_groups:
                group["lr"] = self.runner.cfg.lr * rate(self.share)

    def _validate(self) -> None:
        started = time.monotonic()
        with torch.autocast(get_device(), torch.bfloat16) if self.runner.cfg.amp == "bf16" else nullcontext():
            super()._validate()
        self.validation = time.monotonic() - started
        self._plan()
        self.next_save = 0.0  # now

    def _validation_due(self) -> bool:
        return self.share >= self.next_round

    def _save_due(self) -> bool:
        due = self.seconds >= self.next_save
        if due:
            self.next_save = self.seconds + SAVE_SECONDS
        return due


def rate(share: float) -> float:
    """Of the peak rate, where that share of a timed run is over: up within :data:`WARMUP`, then a cosine to zero."""
    up = min(1.0, 0.1 + share / WARMUP)
    return up * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, share - WARMUP) / (1 - WARMUP))))


class KeepBest(Hook):
    """Keeps the weights of the validation with the highest ``Stage.score``, and ends a run that no longer rises.

    Args:
        patience: validations without a rise of :data:`RISE` after which the run ends.

    Attributes:
        first: figures of the first validation.
        best: {"step", "score", "metrics", "state_dict"} of the best; a checkpoint's "best" holds it.
    """

    priority = "ABOVE_NORMAL"  # before EMAHook takes the averaged weights out of the stage again

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.first: dict | None = None
        self.best: dict | None = None
        self.mark, self.stale = -math.inf, 0  # the score to be exceeded, after steps, and for how many validations it was not

    def before_train(self, runner: StageRunner) -> None:
        self._end(runner)  # a run that had ended is continued

    def after_val_epoch(self, runner: StageRunner, metrics: dict[str, float]) -> None:
        score = runner.stage.score(metrics)
        if self.best is None or score > self.best["score"]:
            state = {name: tensor.detach().cpu().clone() for name, tensor in runner.stage.state_dict().items()}
            self.best = {"step": runner.iter, "score": score, "metrics": dict(metrics), "state_dict": state}
        if self.first is None:
            self.first = dict(metrics)  # no mark to exceed: a good start is left before it is surpassed
            return
        rises = score > self.mark + RISE
        self.mark, self.stale = (score, 0) if rises else (self.mark, self.stale + 1)
        self._end(runner)

    def _end(self, runner: StageRunner) -> None:
        if self.stale >= self.patience:
            runner.train_loop.stop_training = True

    def before_save_checkpoint(self, runner: StageRunner, checkpoint: dict) -> None:
        if self.best is not None:
            checkpoint["first"] = self.first
            checkpoint["best"] = {**self.best, "mark": self.mark, "stale": self.stale}

    def after_load_checkpoint(self, runner: StageRunner, checkpoint: dict) -> None:
        if "best" in checkpoint and runner._resume:
            self.first, self.best = checkpoint["first"], dict(checkpoint["best"])
            self.mark, self.stale = self.best.pop("mark"), self.best.pop("stale")
