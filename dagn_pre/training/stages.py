"""Stages 1a, 1b and 2 (Ma et al., TIP 2024, Sec. III): the plainest loop that trains all parts on one machine.

    1a  AE_ci against the discriminator J, alternating (eq. 3-6)
    1b  AE_cs with the quality predictor P_qf          (eq. 7-9)
    2   DAGN on frozen encoders, L1 on pixels          (eq. 14, 15)

The paper gives no learning rate, batch or patch; see :class:`Schedule` for ours.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dagn_pre.errors import DagnPreError
from dagn_pre.files import atomic_path
from dagn_pre.networks.autoencoder import QUALITY_CLASSES, AutoEncoder, Discriminator, QualityPredictor
from dagn_pre.networks.dagn import DAGN, DAGNConfig
from dagn_pre.networks.resnet import ResNetEncoder
from dagn_pre.training.data import JPEGPairs, loader, restoration_quality, uniform_quality

LAMBDA_CI = LAMBDA_CS = 1.0  # Fig. 13: the best of the paper's sweep


@dataclass(frozen=True)
class Schedule:
    """How long and how fast one stage learns.

    Attributes:
        steps: optimiser steps; the cosine ends there.
        minutes: a wall-clock limit; the cosine follows whichever of steps and minutes is further along, so that a run on a
            slow machine still ends annealed.
        batch, patch: images per step and their side in pixels, a multiple of 16.
        lr: Adam's peak learning rate, reached after ``warmup`` steps.
    """

    steps: int
    minutes: float = math.inf
    batch: int = 8
    patch: int = 64
    lr: float = 1e-3
    warmup: int = 200
    workers: int = 1
    save_every: int = 500

    def rate(self, step: int, seconds: float) -> float:
        progress = min(max(step / self.steps, seconds / 60 / self.minutes), 1.0)
        return self.lr * min(1.0, (step + 1) / self.warmup) * 0.5 * (1 + math.cos(math.pi * progress))


class Stage:
    """One stage's modules, their loss, and what of it is kept. Subclasses define ``quality`` and ``losses``.

    Checkpoints hold all modules, the optimisers and the step; samples depend on the step alone, so a resumed run sees what
    an uninterrupted one would have seen.
    """

    quality: Callable[[np.random.Generator], int] = staticmethod(restoration_quality)

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.modules = nn.ModuleDict(modules)
        # oneDNN's channels_last backward of convolutions below 8 channels corrupts the heap (torch 2.11, AVX2); RGB is fine.
        channels = {c for m in self.modules.modules() if isinstance(m, nn.Conv2d) for c in (m.in_channels, m.out_channels)}
        narrow = min(channels - {3}) < 8
        self.layout = torch.contiguous_format if narrow else torch.channels_last
        self.modules.to(memory_format=self.layout)

    def trainable(self) -> list[list[nn.Parameter]]:
        """Parameters, one list per optimiser."""
        return [[p for p in self.modules.parameters() if p.requires_grad]]

    def losses(self, compressed: Tensor, original: Tensor, quality: Tensor) -> Iterator[tuple[Tensor, dict[str, float]]]:
        """Yield (loss, figures to log) once per optimiser, in their order; each is stepped before the next is computed."""
        raise NotImplementedError

    def run(
        self,
        photographs: list[np.ndarray],
        schedule: Schedule,
        checkpoint: Path,
        log: Callable[[str], None] = print,
        validate: Callable[[Stage], str] | None = None,
        seed: int = 0,
    ) -> None:
        """Train to the end of ``schedule``; continue from ``checkpoint`` where it exists.

        Raises:
            DagnPreError: a loss is not finite; the last good checkpoint stays.
        """
        optimisers = [torch.optim.Adam(parameters) for parameters in self.trainable()]
        first, spent = 0, 0.0
        if checkpoint.exists():
            state = torch.load(checkpoint, weights_only=True)
            self.modules.load_state_dict(state["modules"])
            for optimiser, values in zip(optimisers, state["optimisers"]):
                optimiser.load_state_dict(values)
            first, spent = state["step"], state["seconds"]
            if first >= schedule.steps or spent / 60 >= schedule.minutes:
                return  # ended before, by steps or by the clock
        pairs = JPEGPairs(photographs, schedule.patch, schedule.steps * schedule.batch, self.quality, seed)
        batches = loader(pairs, schedule.batch, first, schedule.steps, schedule.workers)
        started, sums, count = time.monotonic() - spent, {}, 0
        self.modules.train()
        for step, (compressed, original, quality) in enumerate(batches, start=first):
            seconds = time.monotonic() - started
            rate = schedule.rate(step, seconds)
            compressed, original = (
                image.float().div(255).contiguous(memory_format=self.layout) for image in (compressed, original)
            )
            for optimiser, (loss, figures) in zip(optimisers, self.losses(compressed, original, quality)):
                if not math.isfinite(loss.item()):
                    raise DagnPreError(f"the loss is {loss.item()} at step {step}; {checkpoint} holds the last good state")
                optimiser.param_groups[0]["lr"] = rate
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], 1.0)
                optimiser.step()
                for name, value in figures.items():
                    sums[name] = sums.get(name, 0.0) + value
            self.after_step(step)
            count += 1
            done = step + 1 == schedule.steps or seconds / 60 >= schedule.minutes
            if (step + 1) % schedule.save_every == 0 or done:
                state = {
                    "modules": self.modules.state_dict(),
                    "optimisers": [optimiser.state_dict() for optimiser in optimisers],
                    "step": step + 1,
                    "seconds": time.monotonic() - started,
                }
                with atomic_path(checkpoint) as path:
                    torch.save(state, path)
                means = ", ".join(f"{name} {value / count:.4f}" for name, value in sums.items())
                extra = f", {validate(self)}" if validate else ""
                log(f"step {step + 1}/{schedule.steps}, {state['seconds'] / 60:.1f} min, lr {rate:.2e}, {means}{extra}")
                sums, count = {}, 0
                self.modules.train()
            if done:
                break

    def after_step(self, step: int) -> None:
        """Called after each step's optimisers."""


class InsensitiveStage(Stage):
    """1a: reconstruct both images while J cannot tell their features apart (eq. 3-6).

    L_J = BCE(J(o), 1) + BCE(J(c), 0); the encoder minimises 1/2 [-log J(c) - log(1 - J(o))] (eq. 6 with the sign that makes
    it bounded).
    """

    def __init__(self, config: DAGNConfig) -> None:
        auto_encoder = AutoEncoder(config.encoder_depth, config.encoder_width)
        discriminator = Discriminator(auto_encoder.encoder.out_channels)
        super().__init__({"auto_encoder": auto_encoder, "discriminator": discriminator})

    def trainable(self) -> list[list[nn.Parameter]]:
        return [list(self.modules[name].parameters()) for name in ("auto_encoder", "discriminator")]

    def losses(self, compressed, original, quality):
        both = torch.cat([compressed, original])
        features, images = self.modules["auto_encoder"](both)
        content = F.l1_loss(images, both)
        fooled = torch.ones(len(both))
        fooled[len(compressed) :] = 0
        logits = self.modules["discriminator"](features)
        fooling = F.binary_cross_entropy_with_logits(logits, fooled)
        yield content + LAMBDA_CI * fooling, {"content": content.item(), "fooling": fooling.item()}
        logits = self.modules["discriminator"](features.detach())
        discrimination = 2 * F.binary_cross_entropy_with_logits(logits, 1 - fooled)
        accuracy = ((logits > 0) == (fooled == 0)).float().mean()
        yield discrimination, {"discrimination": discrimination.item(), "J accuracy": accuracy.item()}


def high_pass_stem(encoder: ResNetEncoder) -> None:
    """Give an encoder's first convolution random 5x5 filters composed with (identity - 3x3 mean), and freeze it.

    Artifacts are a fiftieth of the content's amplitude; filters that pass any of the content never find them (measured: the
    QF error stays at chance, 36, after 400 steps, against 18 after 300 with these).
    """
    weight = encoder.stem[0].weight
    high_pass = torch.full((1, 1, 3, 3), -1 / 9)
    high_pass[..., 1, 1] += 1
    with torch.no_grad():
        filters = 0.1 * torch.randn(weight.shape[0] * weight.shape[1], 1, 5, 5)
        weight.copy_(F.conv2d(filters, high_pass, padding=2).view_as(weight))
    weight.requires_grad_(False)


class SensitiveStage(Stage):
    """1b: reconstruct both images while P_qf reads their QF from the features (eq. 7-9).

    In place of eq. 9's L1 on one-hot vectors, which hardly moves at the start of 100 classes: cross-entropy against a
    distribution that falls off as exp(-|QF difference| / 5), so that neighbouring qualities teach each other.
    """

    quality = staticmethod(uniform_quality)
    spread = 5.0

    def __init__(self, config: DAGNConfig) -> None:
        auto_encoder = AutoEncoder(config.encoder_depth, config.encoder_width)
        high_pass_stem(auto_encoder.encoder)
        predictor = QualityPredictor(auto_encoder.encoder.out_channels)
        super().__init__({"auto_encoder": auto_encoder, "predictor": predictor})

    def losses(self, compressed, original, quality):
        both = torch.cat([compressed, original])
        features, images = self.modules["auto_encoder"](both)
        content = F.l1_loss(images, both)
        vector = features.mean((2, 3))
        known = torch.cat([quality, torch.full_like(quality, QUALITY_CLASSES)]).float()
        distance = (torch.arange(1, QUALITY_CLASSES + 1) - known[:, None]).abs()
        awareness = F.cross_entropy(self.modules["predictor"](vector), torch.softmax(-distance / self.spread, 1))
        with torch.no_grad():
            error = (self.modules["predictor"].quality(vector)[: len(quality)] - quality).abs().mean()
        yield content + LAMBDA_CS * awareness, {
            "content": content.item(),
            "awareness": awareness.item(),
            "QF error": error.item(),
        }


class RestorationStage(Stage):
    """2: the encoders frozen and in eval mode, L1 on pixels for the rest (eq. 14, 15); an average of the weights is kept."""

    decay = 0.999

    def __init__(self, network: DAGN) -> None:
        self.encoders = [m for name, m in network.named_children() if name.startswith("encoder_")]
        for encoder in self.encoders:
            encoder.requires_grad_(False)
        super().__init__({"network": network, "average": copy.deepcopy(network)})
        self.modules["average"].requires_grad_(False)

    def losses(self, compressed, original, quality):
        for encoder in self.encoders:
            encoder.eval()
        loss = F.l1_loss(self.modules["network"](compressed), original)
        before = F.l1_loss(compressed, original).item()
        yield loss, {"L1 x1000": 1000 * loss.item(), "JPEG's": 1000 * before}

    def after_step(self, step: int) -> None:
        weight = 1 - min(self.decay, (step + 1) / (step + 11))  # a short memory at first, when weights move fast
        with torch.no_grad():
            states = (self.modules[name].state_dict().values() for name in ("average", "network"))
            for mean, value in zip(*states):
                if mean.is_floating_point():
                    mean.lerp_(value, weight)
                else:
                    mean.copy_(value)
