"""Stages 1a, 1b and 2 (Ma et al., TIP 2024, Sec. III) as models for mmengine's Runner.

    insensitive  1a  AE_ci against the discriminator J, alternating (eq. 3-6)
    sensitive    1b  AE_cs with the quality predictor P_qf          (eq. 7-9)
    dagn         2   DAGN on frozen encoders, L1 on pixels          (eq. 14, 15)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.optim import OptimWrapperDict
from torch import Tensor, nn
from torch.nn import functional as F

from dagn_pre import models, weights
from dagn_pre.errors import UsageError, WeightsError
from dagn_pre.networks.autoencoder import QUALITY_CLASSES, AutoEncoder, Discriminator, QualityPredictor
from dagn_pre.networks.dagn import DAGN, DAGNConfig, Guidance
from dagn_pre.networks.fold import take_folded
from dagn_pre.networks.resnet import ResNetEncoder
from dagn_pre.protocol import ImageInformation, RestorationModel
from dagn_pre.training import checkpoint
from dagn_pre.training.mean_vectors import sensitive_vectors

SETTLE_LR = 1e-3

Losses = tuple[dict[str, Tensor], dict[str, Tensor]]


class PairPreprocessor(BaseDataPreprocessor):
    """uint8 pairs to float32 in [0, 1], on the model's device, in its memory layout."""

    def __init__(self, layout: torch.memory_format) -> None:
        super().__init__(non_blocking=True)
        self.layout = layout

    def forward(self, data: list[Tensor], training: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        compressed, original, quality = self.cast_data(data)
        images = (image.float().div(255).contiguous(memory_format=self.layout) for image in (compressed, original))
        return *images, quality


class Stage(BaseModel):
    """One stage's modules and their loss. Subclasses define ``trainable`` and ``losses``.

    ``forward`` is what distributed data parallel wraps: one forward and one backward pass a step, whatever the number of
    optimisers. ``step`` is the loop's count of those done.
    """

    step = 0

    def __init__(self, modules: dict[str, nn.Module], channels_last: bool = True) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        # oneDNN's channels_last backward of convolutions below 8 channels corrupts the heap (torch 2.11, AVX2); RGB is fine.
        channels = {c for m in self.modules() if isinstance(m, nn.Conv2d) for c in (m.in_channels, m.out_channels)}
        narrow = min(channels - {3}, default=8) < 8
        layout = torch.channels_last if channels_last and not narrow else torch.contiguous_format
        self.to(memory_format=layout)
        self.data_preprocessor = PairPreprocessor(layout)

    def init_weights(self) -> None:
        """Nothing: the modules come initialised."""

    def trainable(self) -> dict[str, list[nn.Parameter]]:
        """Parameters, one list per optimiser."""
        return {"all": [parameter for parameter in self.parameters() if parameter.requires_grad]}

    def losses(self, compressed: Tensor, original: Tensor, quality: Tensor) -> Losses:
        """({name: loss}, {name: figure to log}); the losses' sum is minimised.

        Args:
            compressed, original: (B, 3, H, W) float32, RGB in [0, 1].
            quality: (B,) int64, QF of ``compressed``.
        """
        raise NotImplementedError

    def predict(self, compressed: Tensor, original: Tensor, quality: Tensor) -> Tensor:
        """Restore ``compressed``; arguments as of :meth:`losses`. The original is there for a sender to look at."""
        raise UsageError(f"{type(self).__name__} restores nothing that could be validated")

    def measures(self, compressed: Tensor, original: Tensor, restored: Tensor) -> dict[str, float]:
        """{name: figure} of one validation image beside PSNR; (1, 3, H, W) float32, RGB in [0, 1]. Here none."""
        return {}

    def score(self, metrics: Mapping[str, float]) -> float:
        """A validation's figures in one that rises as the stage gets better: here the mean gain in PSNR."""
        return float(np.mean([value for name, value in metrics.items() if name.startswith("psnr_gain_")]))

    def records(self) -> dict:
        """What a checkpoint's ``history`` says of the stage beside steps, images and configuration; plain values."""
        return {}

    def compiled(self) -> list[tuple[nn.Module, str]]:
        """The methods that ``torch.compile`` replaces."""
        raise NotImplementedError

    def finish(self, photographs: list[np.ndarray], sample: int, steps: int) -> None:
        """Called once after the last step, before the last checkpoint; what it does is :func:`settle`."""

    def forward(self, compressed: Tensor, original: Tensor, quality: Tensor, mode: str = "loss") -> Losses | list[np.ndarray]:
        if mode == "loss":
            return self.losses(compressed, original, quality)
        restored = self.predict(compressed, original, quality).float().clamp(0, 1).mul(255).round().byte()
        return list(restored.permute(0, 2, 3, 1).cpu().numpy())

    def train_step(self, data: list[Tensor], optim_wrapper: OptimWrapperDict, forward: nn.Module | None = None) -> dict:
        """One step of every optimiser; ``forward`` is the wrapped stage under distributed data parallel.

        Raises:
            FloatingPointError: the loss is not finite; no parameter has changed.
        """
        wrappers = list(optim_wrapper.values())
        with wrappers[0].optim_context(self):
            losses, figures = (forward or self)(*self.data_preprocessor(data, True), mode="loss")
        total = sum(losses.values())
        if not math.isfinite(total.item()):
            raise FloatingPointError(f"the loss is {total.item()}")
        total.backward()
        for wrapper in wrappers:
            wrapper.step()
            wrapper.zero_grad()
        return {"loss": total.detach(), **{name: value.detach() for name, value in (losses | figures).items()}}


class InsensitiveStage(Stage):
    """1a: reconstruct both images while J cannot tell their features apart (eq. 3-6).

    L_J = BCE(J(o), 1) + BCE(J(c), 0); the encoder minimises 1/2 [-log J(c) - log(1 - J(o))] (eq. 6 with the sign that makes
    it bounded). Each optimiser is stepped against the other's state before the step: the auto-encoder's loss sees J as a
    constant and J's loss the features as constants, so that one backward pass of the sum holds both gradients.
    """

    def __init__(self, config: DAGNConfig, lambda_ci: float = 1.0, **options) -> None:
        auto_encoder = AutoEncoder(config.encoder_depth, config.encoder_width)
        discriminator = Discriminator(auto_encoder.encoder.out_channels)
        super().__init__({"auto_encoder": auto_encoder, "discriminator": discriminator}, **options)
        self.lambda_ci = lambda_ci

    def trainable(self) -> dict[str, list[nn.Parameter]]:
        return {name: list(getattr(self, name).parameters()) for name in ("auto_encoder", "discriminator")}

    def compiled(self) -> list[tuple[nn.Module, str]]:
        return [(self.auto_encoder, "forward")]

    def losses(self, compressed, original, quality):
        both = torch.cat([compressed, original])
        features, images = self.auto_encoder(both)
        content = F.l1_loss(images.float(), both)
        fooled = torch.ones(len(both), device=both.device)
        fooled[len(compressed) :] = 0
        judge = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        logits = torch.func.functional_call(self.discriminator, judge, features)
        fooling = F.binary_cross_entropy_with_logits(logits.float(), fooled)
        logits = self.discriminator(features.detach()).float()
        discrimination = 2 * F.binary_cross_entropy_with_logits(logits, 1 - fooled)
        accuracy = ((logits > 0) == (fooled == 0)).float().mean()
        losses = {"loss_auto_encoder": content + self.lambda_ci * fooling, "loss_discriminator": discrimination}
        return losses, {"content": content, "fooling": fooling, "J_accuracy": accuracy}


def high_pass_stem(encoder: ResNetEncoder) -> None:
    """Give an encoder's first convolution random 5x5 filters composed with (identity - 3x3 mean), and freeze it.

    Artifacts are a fiftieth of the content's amplitude; filters that pass any of the content never find them (measured: the
    QF error stays at chance, 36, after 400 steps, against 18 after 300 with these).
    """
    weight = encoder.stem.get_parameter("0.weight")
    high_pass = torch.full((1, 1, 3, 3), -1 / 9)
    high_pass[..., 1, 1] += 1
    with torch.no_grad():
        filters = 0.1 * torch.randn(weight.shape[0] * weight.shape[1], 1, 5, 5)
        weight.copy_(F.conv2d(filters, high_pass, padding=2).view_as(weight))
    weight.requires_grad_(False)


def quality_loss(logits: Tensor, quality: Tensor, spread: float = 5.0) -> Tensor:
    """Cross-entropy of P_qf's (B, 100) logits against a distribution that falls off as exp(-|QF difference| / spread).

    In place of eq. 9's L1 on one-hot vectors, which hardly moves at the start of 100 classes: neighbouring qualities teach
    each other.
    """
    distance = (torch.arange(1, QUALITY_CLASSES + 1, device=logits.device) - quality[:, None].float()).abs()
    return F.cross_entropy(logits.float(), torch.softmax(-distance / spread, 1))


def settle(
    predictor: QualityPredictor, encoder: ResNetEncoder, photographs: list[np.ndarray], sample: int, steps: int
) -> None:
    """The last of stage 1b: measure ``predictor.vectors``, and fit P_qf to the vectors they are the means of.

    The encoder stays as it is. A patch has more border and less content than a photograph; on photographs, P_qf as learnt
    from patches reads up to 6 too low between QF 55 and 75 (measured on BSDS500 val: mean absolute error 4.3, then 3.4).
    """
    vectors = sensitive_vectors(encoder, photographs, sample=sample)
    predictor.vectors.copy_(vectors.mean(0))
    device, count = predictor.vectors.device, len(vectors)
    vectors = vectors.flatten(0, 1).to(device)
    qualities = torch.arange(1, QUALITY_CLASSES + 1, device=device).repeat(count)
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(predictor.parameters(), lr=SETTLE_LR)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = SETTLE_LR * (1 - step / steps)
        chosen = torch.randint(len(vectors), (256,), generator=generator).to(device)
        optimiser.zero_grad()
        quality_loss(predictor(vectors[chosen]), qualities[chosen], spread=2.0).backward()
        optimiser.step()


class SensitiveStage(Stage):
    """1b: reconstruct both images while P_qf reads their QF from the features (eq. 7-9).

    The encoder runs in float32 under any autocast: bfloat16's 8 bits of mantissa are as coarse as the artifacts.
    """

    def __init__(self, config: DAGNConfig, lambda_cs: float = 1.0, **options) -> None:
        auto_encoder = AutoEncoder(config.encoder_depth, config.encoder_width)
        high_pass_stem(auto_encoder.encoder)
        predictor = QualityPredictor(auto_encoder.encoder.out_channels)
        super().__init__({"auto_encoder": auto_encoder, "predictor": predictor}, **options)
        self.lambda_cs = lambda_cs

    def compiled(self) -> list[tuple[nn.Module, str]]:
        return [(self.auto_encoder.encoder, "forward"), (self.auto_encoder.decoder, "forward")]

    def losses(self, compressed, original, quality):
        both = torch.cat([compressed, original])
        with torch.autocast(both.device.type, enabled=False):
            features = self.auto_encoder.encoder(both)
        content = F.l1_loss(self.auto_encoder.decoder(features).float(), both)
        vector = features.mean((2, 3))
        known = torch.cat([quality, torch.full_like(quality, QUALITY_CLASSES)])
        awareness = quality_loss(self.predictor(vector), known)
        with torch.no_grad():
            error = (self.predictor.quality(vector)[: len(quality)] - quality).abs().mean()
        return {"loss_auto_encoder": content + self.lambda_cs * awareness}, {
            "content": content,
            "awareness": awareness,
            "QF_error": error,
        }

    def finish(self, photographs: list[np.ndarray], sample: int, steps: int) -> None:
        settle(self.predictor, self.auto_encoder.encoder, photographs, sample, steps)


class RestorationStage(Stage):
    """2: L1 on pixels (eq. 14, 15), the encoders frozen and in eval mode.

    With ``lambda_blocking`` what is left of the grid of blocks is a loss as well (:func:`blocking`), which the paper lacks.
    With ``end_to_end`` the encoders are trained too, from scratch and by the pixels alone: what stage 1 is compared with.
    P_qf then learns from the sensitive vector without a say in it, so that blind quality is there as well.
    """

    def __init__(self, config: DAGNConfig, end_to_end: bool = False, lambda_blocking: float = 0.0, **options) -> None:
        network = DAGN(config)
        modules: dict[str, nn.Module] = {"network": network}
        if config.sensitive:
            modules["predictor"] = QualityPredictor(network.encoder_cs.out_channels)
        super().__init__(modules, **options)
        self.end_to_end, self.lambda_blocking = end_to_end, lambda_blocking
        for module in self.frozen():
            module.requires_grad_(False)

    def encoders(self) -> dict[str, ResNetEncoder]:
        """The encoders that the network has, by the name of the stage that trains them."""
        names = {"insensitive": "encoder_ci", "sensitive": "encoder_cs"}
        return {stage: getattr(self.network, name) for stage, name in names.items() if hasattr(self.network, name)}

    def frozen(self) -> list[nn.Module]:
        if self.end_to_end:
            return []
        return [*self.encoders().values(), *([self.predictor] if self.network.config.sensitive else [])]

    def train(self, mode: bool = True) -> RestorationStage:
        super().train(mode)
        for module in self.frozen():
            module.eval()
        return self

    def take_encoders(self, sources: dict[str, str | Path | None]) -> dict:
        """Copy encoders and P_qf from checkpoints of stage 1 or from trained restorers; return their history.

        Args:
            sources: {stage: a checkpoint of it or its folder, or a restorer by name or weights file (``.safetensors``)}.

        Raises:
            UsageError: a source that is needed is not named.
            WeightsError: a source that is missing, damaged, of another stage, or of another shape.
        """
        history: dict[str, dict] = {}
        for name, encoder in self.encoders().items():
            source = sources.get(name)
            if not source:
                raise UsageError(
                    f"stage dagn needs {name}_from, a checkpoint of stage {name} or a restorer that has its encoder; "
                    "or train joint or end_to_end"
                )
            if str(source) in models.names() or Path(source).suffix == ".safetensors":
                history[name] = {"from": self.take_trained(name, encoder, source)}
                continue
            state = checkpoint.read(source)
            with torch.device("meta"):
                expected = STAGES[name](self.network.config).state_dict()
            found = state["state_dict"]
            weights.check_keys(expected, found, f"{source}: a checkpoint of stage {state['stage']}, for {name}_from,")
            part = "auto_encoder.encoder."
            encoder.load_state_dict({k.removeprefix(part): v for k, v in found.items() if k.startswith(part)})
            if name == "sensitive":
                part = "predictor."
                self.predictor.load_state_dict({k.removeprefix(part): v for k, v in found.items() if k.startswith(part)})
            history |= state["history"]
        return history

    def take_trained(self, name: str, encoder: ResNetEncoder, source: str | Path) -> str:
        """Copy the encoder of stage ``name``, and P_qf where it is the sensitive one, from a restorer; its fingerprint.

        Raises:
            WeightsError: the restorer has no such encoder, or one of another shape.
        """
        donor = models.load(source).model
        network, predictor = getattr(donor, "network", None), getattr(donor, "quality", None)
        found = getattr(network, f"encoder_{'ci' if name == 'insensitive' else 'cs'}", None)
        if not isinstance(found, ResNetEncoder) or (name == "sensitive" and not isinstance(predictor, QualityPredictor)):
            raise WeightsError(f"{source}: has no encoder of stage {name}, for {name}_from")
        try:
            take_folded(encoder, found)
            if isinstance(predictor, QualityPredictor) and name == "sensitive":
                self.predictor.load_state_dict(predictor.state_dict())
        except RuntimeError as error:
            raise WeightsError(f"{source}: its encoder for {name}_from does not fit: {str(error).splitlines()[-1]}") from error
        return models.fingerprint(source)

    def compiled(self) -> list[tuple[nn.Module, str]]:
        return [(self.network, "restore"), *((encoder, "forward") for encoder in self.encoders().values())]

    def guide(self, x: Tensor) -> Guidance:
        """The network's guidance, computed in float32 under any autocast, as in :class:`SensitiveStage`."""
        with torch.autocast(x.device.type, enabled=False):
            return self.network.guide(x)

    def predict(self, compressed: Tensor, original: Tensor, quality: Tensor) -> Tensor:
        x = self.network.pad(compressed)
        return self.network.restore(x, self.guide(x))[..., : compressed.shape[-2], : compressed.shape[-1]]

    def losses(self, compressed, original, quality):
        guidance = self.guide(compressed)
        restored = self.network.restore(compressed, narrowed(guidance, working_dtype(compressed)))
        losses = {"loss_pixels": F.l1_loss(restored.float(), original)}
        if self.lambda_blocking:
            losses["loss_blocking"] = self.lambda_blocking * blocking(restored.float())
        if self.end_to_end and guidance.sensitive_vector is not None:
            losses["loss_quality"] = quality_loss(self.predictor(guidance.sensitive_vector.detach()), quality)
        return losses, {"JPEG_pixels": F.l1_loss(compressed, original)}

    def finish(self, photographs: list[np.ndarray], sample: int, steps: int) -> None:
        if self.end_to_end and self.network.config.sensitive:  # otherwise they came with P_qf
            settle(self.predictor, self.network.encoder_cs, photographs, sample, steps)


def blocking(images: Tensor) -> Tensor:
    """What PSNR-B adds to the error, differentiable: how much larger squared steps of luma are across borders of 8x8 blocks.

    The grid lies where it shows most, in each direction; without any, this is the spread of eight equal means. Source: the
    blocking effect factor of Yim and Bovik, IEEE TIP 2011, with the eta of images of 512 pixels, 1/3.

    Shape:
        input (B, 3, H, W) float, RGB in [0, 1], H and W at least 16; output a scalar, in squared units of [0, 1].
    """
    weights = images.new_tensor([0.299, 0.587, 0.114]) * 219 / 255  # ITU-R BT.601, as the metric's Y
    luma = torch.einsum("bchw,c->bhw", images, weights)
    total = images.new_zeros(())
    for dim in (1, 2):
        steps = luma.diff(dim=dim).square().mean(3 - dim)
        phases = torch.stack([steps[:, phase::8].mean(1) for phase in range(8)], 1)
        largest = phases.amax(1)
        total = total + largest - (phases.sum(1) - largest) / 7
    return total.mean() / 6


def working_dtype(x: Tensor) -> torch.dtype:
    """What convolutions of ``x`` give: autocast's dtype where it is on."""
    return F.linear(x.new_ones(1), x.new_ones(1, 1)).dtype


def narrowed(guidance: Guidance, dtype: torch.dtype) -> Guidance:
    """Guidance in the working type: in float32 it would promote every bfloat16 feature map that it scales."""

    def cast(pairs):
        return pairs and [tuple(tensor.to(dtype) for tensor in pair) for pair in pairs]

    return replace(guidance, sensitive=cast(guidance.sensitive), insensitive=cast(guidance.insensitive))


def guided(model: RestorationModel, x: Tensor, information: Sequence[ImageInformation]) -> Any:
    """A restorer's guidance, computed in float32 under any autocast, and then in the working type."""
    with torch.autocast(x.device.type, enabled=False):
        guidance = model.guide(x, information)
    return narrowed(guidance, working_dtype(x)) if isinstance(guidance, Guidance) else guidance


STAGES: dict[str, type[Stage]] = {
    "insensitive": InsensitiveStage,
    "sensitive": SensitiveStage,
    "dagn": RestorationStage,
}
