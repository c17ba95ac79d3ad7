"""Stage "semantic": a trained restorer learns to keep what frozen networks see, so that other models see it too.

    L = lambda_pixels * L1(restored, original) + sum_t w_t D_t(restored, original) / sum_t w_t

with D_t the distance in teacher t's features (:func:`dagn_pre.training.teachers.distance`). No labels are used. It is the
paper's compression-insensitive guidance turned into a loss on the output: what compression must not change, it must not
change there. Related: feature losses through a task's network, Ehrlich et al. (arXiv 2011.08932), SR4IR (CVPR 2024), FDSR
(arXiv 2004.00554).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dagn_pre import codec, models
from dagn_pre.errors import ConfigError, UsageError
from dagn_pre.networks.config import NetworkConfig
from dagn_pre.protocol import ImageInformation
from dagn_pre.training import teachers as making
from dagn_pre.training.stages import Losses, Stage, guided

ENCODERS = ("network.encoder_ci", "network.encoder_cs", "quality")  # of a DAGN: stage 1's, and P_qf reads one of them


class Frozen(dict):
    """The teachers, which an average of the stage's weights shares instead of copying them."""

    def __deepcopy__(self, memo: dict) -> Frozen:
        return self


class SemanticStage(Stage):
    """A restorer that learns under pixels and teachers; its batch norm is folded, its encoders and P_qf stay (``frozen``).

    Args:
        config: unused; the trunk brings its own.
        trunk: the restorer to start from, a name or the path of weights of ours.
        teachers: {name: what :func:`dagn_pre.training.teachers.build` takes, and ``weight``, 1 by default}.
        lambda_pixels: weight of the anchor, L1 on pixels in [0, 1].
        power, by_channel: of the distance in features.
        per_step: how many of the teachers, drawn by the step's number, have a say in a step; None for all. Each costs about a
            third of dagn-s's own step.
        judges: those of the teachers that only measure in validation, for a leave-one-out run.
        frozen: prefixes of parameter names that do not learn.

    Raises:
        UsageError: no trunk, no teachers, or a trunk that is not one of our networks.
        ConfigError: a teacher that cannot be made, a weight that is not positive, judges that are no teachers or all of them,
            or prefixes that name nothing.
    """

    def __init__(
        self,
        config: NetworkConfig,
        trunk: str,
        teachers: Mapping[str, Mapping],
        lambda_pixels: float = 1.0,
        power: int = 2,
        by_channel: bool = False,
        per_step: int | None = None,
        judges: Sequence[str] = (),
        frozen: Sequence[str] = ENCODERS,
        **options,
    ) -> None:
        if not trunk:
            raise UsageError("stage semantic needs trunk, the name or the weights of the restorer to start from")
        model = models.load(trunk).model
        if not isinstance(getattr(model, "config", None), NetworkConfig):
            raise UsageError(f"{trunk} is not one of our networks, so it cannot be trained on")
        everyone = making.names(teachers)
        shares = {name: float(spec.get("weight", 1.0)) for name, spec in teachers.items()}
        wrong = [name for name, weight in shares.items() if not weight > 0]
        if wrong:
            raise ConfigError(f"teacher {wrong[0]}: weight must be positive, not {shares[wrong[0]]}")
        if unknown := set(judges) - set(everyone):
            raise ConfigError(f"judges: {', '.join(sorted(unknown))} is none of the teachers {', '.join(everyone)}")
        teaching = [name for name in everyone if name not in judges]
        if not teaching:
            raise ConfigError("judges: all of the teachers are, so that none teaches")
        if per_step is not None and not 1 <= per_step <= len(teaching):
            raise ConfigError(f"per_step must lie in 1..{len(teaching)}, the teachers' number, or be None, not {per_step!r}")
        made = {name: making.build(name, teachers[name]) for name in everyone}
        parameters = dict(model.named_parameters())
        held = {name for name in parameters if name.startswith(tuple(frozen))}
        if len(held) == len(parameters):
            raise ConfigError(f"frozen leaves nothing to learn: {', '.join(frozen)}")
        for name, parameter in parameters.items():
            parameter.requires_grad_(name not in held)
        super().__init__({"model": model}, **options)
        # Not among the stage's modules: checkpoints hold what learns, and the teachers are files of their own.
        for teacher in made.values():
            teacher.to(memory_format=self.data_preprocessor.layout)  # type: ignore[call-overload]  # which torch's types lack
        self._teachers = Frozen(made)
        self._described = {name: making.describe(spec) for name, spec in teachers.items()}
        self.weights, self.teaching = shares, teaching
        self.lambda_pixels, self.power, self.by_channel, self.per_step = lambda_pixels, power, by_channel, per_step

    def _apply(self, fn, recurse: bool = True) -> nn.Module:
        for teacher in getattr(self, "_teachers", {}).values():
            teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def check_teachers(self, dtype: torch.dtype) -> None:
        """Raise ConfigError unless all teachers work, and let gradients through, under autocast to ``dtype``."""
        with torch.autocast(next(self.parameters()).device.type, dtype):
            for teacher in self._teachers.values():
                making.check_gradients(teacher)

    def train(self, mode: bool = True) -> SemanticStage:
        super().train(mode)
        self.model.eval()  # its batch norm is folded
        return self

    def compiled(self):
        return [(self.model, "restore")]

    def restored(self, compressed: Tensor, quality: Tensor) -> Tensor:
        """(B, 3, H, W) padded -> the same, restored, float32; guidance in float32 under any autocast."""
        information = [ImageInformation(codec.given_quality(value)) for value in quality.tolist()]
        return self.model.restore(compressed, guided(self.model, compressed, information)).float()

    def distance(self, name: str, found: Mapping[str, Tensor], aim: Mapping[str, Tensor]) -> Tensor:
        """How far a teacher's features of an image are from those of its original.

        Raises:
            FloatingPointError: not finite; the teacher and the layer are named.
        """
        value = making.distance(found, aim, self.power, self.by_channel)
        if not value.isfinite():
            at_fault = {"an original": making.not_finite(aim), "its JPEG or what was restored": making.not_finite(found)}
            told = [f"layer {layer!r} for {what}" for what, layer in at_fault.items() if layer is not None]
            raise FloatingPointError(f"teacher {name} gives NaN or infinity in {(told or ['its distances'])[0]}")
        return value

    def distances(self, images: Tensor, original: Tensor, names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """{teacher: distance of ``images`` from ``original`` in its features}, float32 scalars; of those named, or of all.

        Raises:
            FloatingPointError: see :meth:`distance`.
        """
        found = {}
        for name in names or self._teachers:
            with torch.no_grad():
                aim = self._teachers[name](original)
            found[name] = self.distance(name, self._teachers[name](images), aim)
        return found

    def losses(self, compressed: Tensor, original: Tensor, quality: Tensor) -> Losses:
        output = self.restored(compressed, quality)
        pixels = F.l1_loss(output, original)
        if not pixels.isfinite():  # or a teacher would take the blame
            raise FloatingPointError("the restored image is not finite")
        asked = random.Random(self.step).sample(self.teaching, self.per_step) if self.per_step else self.teaching
        found = self.distances(output, original, asked)
        total = sum(self.weights[name] for name in asked)
        losses = {f"loss_{name}": self.weights[name] / total * value for name, value in found.items()}
        return losses | {"loss_pixels": self.lambda_pixels * pixels}, {"JPEG_pixels": F.l1_loss(compressed, original)}

    def predict(self, compressed: Tensor, original: Tensor, quality: Tensor) -> Tensor:
        padded = self.model.pad(compressed)
        return self.restored(padded, quality)[..., : compressed.shape[-2], : compressed.shape[-1]]

    @torch.no_grad()
    def measures(self, compressed: Tensor, original: Tensor, restored: Tensor) -> dict[str, float]:
        """What the teachers see in one image, padded to the stride: {"distance_TEACHER": the restored image's distance as a
        share of the JPEG's, and "same_TEACHER", "same_JPEG_TEACHER": :func:`dagn_pre.training.teachers.same` of the restored
        image and of the JPEG, where the teacher has class scores}."""
        device, measured = next(self.parameters()).device, {}
        seen = [self.model.pad(image.to(device)) for image in (original, compressed, restored)]
        for name, teacher in self._teachers.items():
            aim, jpeg, output = map(teacher, seen)
            before, after = (self.distance(name, found, aim) for found in (jpeg, output))
            measured[f"distance_{name}"] = (after / before.clamp_min(1e-12)).item()
            for whose, found in (("", output), ("JPEG_", jpeg)):
                if (agreement := making.same(teacher, found, aim)) is not None:
                    measured[f"same_{whose}{name}"] = agreement.item()
        return measured

    def score(self, metrics: Mapping[str, float]) -> float:
        """The agreement, 1 - distance, over all teachers and QFs."""
        found = [value for name, value in metrics.items() if name.startswith("distance_")]
        return 1 - sum(found) / len(found)

    def records(self) -> dict:
        return {"teachers": self._described}
