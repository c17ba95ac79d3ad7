"""Restoring where the model runs: ``DAGNDetDataPreprocessor`` (mmdet) and ``DAGNSegDataPreProcessor`` (mmseg).

Each derives from its host's own preprocessor and takes all of its arguments. They are registered in mmengine's root
``MODELS``, so that the configs of both hosts find them, and a host is imported when its class is asked for.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, cast

import torch
from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import Tensor, nn

from dagn_pre.errors import UsageError
from dagn_pre.integrations.openmmlab.deferred import KEY, replay
from dagn_pre.options import check_options
from dagn_pre.restorer import Outcome, restorer_on

if TYPE_CHECKING:
    from mmengine.model import BaseDataPreprocessor as _Host
else:
    _Host = object

HOMES = {"DAGNDetDataPreprocessor": "det_preprocessor", "DAGNSegDataPreProcessor": "seg_preprocessor"}


class Restoring(_Host):
    """What both add to their host's preprocessor, which stands behind this class among their bases.

    Images that the pipeline hands over by :class:`DAGNDefer` steps, (3, H, W) uint8 BGR at original resolution, are restored
    together on the model's device; then the pixels are resized, flipped and padded there as the pipeline noted, and the host
    normalises, pads and stacks them. Other images pass as they came: so a training pipeline without DAGNDefer trains as
    before. Each such sample's metainfo gains ``dagn_restored``, False where the image was left untouched, and
    ``dagn_reason``, why, else None.

    The networks are the process's shared ones, of :func:`dagn_pre.restorer.restorer_on`: no part of the model, its
    parameters, state dict or copies.
    """

    def __init__(self, *args, restorer: dict | None = None, **kwargs) -> None:
        """``restorer``: those of :class:`dagn_pre.options.Options` without ``device``, which is the model's; the rest is the
        host's. Raises UsageError for an option outside its range, and for what works on files: a preprocessor has tensors."""
        super().__init__(*args, **kwargs)
        self.restorer_options = dict(restorer or {})
        if "device" in self.restorer_options:
            raise UsageError("restorer takes no device in a preprocessor: it restores where the model is; leave it out")
        if not isinstance(self.restorer_options.get("side_information", True), bool):
            raise UsageError("side information is in files, and a preprocessor has tensors: use the transform")
        self.checked = check_options(**self.restorer_options)
        if self.checked.needs_file:
            name = str(self.checked.model)
            raise UsageError(f"model {name!r} works on files, and a preprocessor has tensors: use the transform")
        self.last: tuple[list[Tensor], list, list[Outcome]] | None = None  # images, hints, what became of them
        self.warned = False

    def forward(self, data: dict, training: bool = False) -> dict:
        """A batch as the pipeline packed it -> what the host's preprocessor makes of it once restored."""
        return super().forward(self.prepared(self.cast_data(data), training), training)

    def prepared(self, data: dict, training: bool) -> dict:
        """The batch, on the device, as the pipeline would have packed it had it restored, resized, flipped and padded."""
        samples = data.get("data_samples") or []
        deferred = {index: sample.get(KEY) for index, sample in enumerate(samples) if sample.get(KEY) is not None}
        if not deferred:
            self.warn(training)
            return data
        inputs = list(data["inputs"])
        hints = [note.quality for note in deferred.values()]
        for index, found in zip(deferred, self.restored([inputs[index] for index in deferred], hints, training)):
            samples[index].set_metainfo({"dagn_restored": found.restored, "dagn_reason": found.reason})
            samples[index].pop(KEY)
            inputs[index] = replay(cast(Tensor, found.image), deferred[index].steps)
        return {**data, "inputs": inputs, "data_samples": samples}

    def restored(self, images: list[Tensor], hints: list, training: bool) -> list[Outcome]:
        """What becomes of the images. Test-time augmentation brings the same ones again and again: the last batch is kept."""
        if self.last is not None:
            before, known, outcomes = self.last
            same = known == hints and [one.device for one in before] == [one.device for one in images]
            if same and all(map(torch.equal, before, images)):
                return outcomes
        restorer = restorer_on(str(images[0].device), self.checked)
        outcomes = restorer.restore(images, quality=hints, channel_order="bgr")
        for note in dict.fromkeys(note for one in outcomes for note in one.notes):
            print_log(f"{type(self).__name__}: {note}", "current", logging.WARNING)
        self.last = None if training else (images, hints, outcomes)
        return outcomes

    def warn(self, training: bool) -> None:
        """Say once that a test pipeline hands nothing over."""
        if not training and not self.warned:
            self.warned = True
            print_log(
                f"{type(self).__name__} restores nothing: the pipeline has no DAGNDefer around its Resize, Pad, RandomFlip "
                "and Pack steps (`dagn-pre insert --where preprocessor` writes them)",
                "current",
                logging.WARNING,
            )


def preprocessor(name: str) -> type[nn.Module]:
    """The class of that name; importing it imports its host."""
    return getattr(importlib.import_module(f"dagn_pre.integrations.openmmlab.{HOMES[name]}"), name)


def register_until_needed(name: str) -> None:
    """Stand in for the class in the registry, until its module is imported and registers the class itself."""

    def build(*args, **kwargs):
        return preprocessor(name)(*args, **kwargs)

    MODELS.register_module(name=name, module=build)


for _name in HOMES:
    register_until_needed(_name)
