"""Graphs in int8: weights by channel, activations by tensor, chosen after training (NNCF, for OpenVINO).

What activations amount to is read off images that are drawn here, so that nobody has to bring photographs: dead leaves, discs
that lie over each other with radii of a power law, whose edges and spectrum are like photographs' (Lee, Mumford, Huang, IJCV
2001), as JPEGs of all QFs. Ranges come from histograms: means of minima and maxima cost 0.12 dB at QF 40, these 0.01 to 0.09
(docs/engines.md).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dagn_pre import codec
from dagn_pre.protocol import RestorationModel
from dagn_pre.telemetry import untold

if TYPE_CHECKING:
    import openvino

QUALITIES = 5, 10, 15, 20, 30, 40, 50, 60, 75, 85
IMAGES = 20
SIDE = 128
DISCS = 400
CONVOLUTIONS = "Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"


def dead_leaves(rng: np.random.Generator, side: int) -> np.ndarray:
    """Discs of any colour and some grain over each other: (side, side, 3) uint8 RGB."""
    y, x = np.mgrid[:side, :side]
    picture = np.zeros((side, side, 3))
    for _ in range(DISCS):
        radius = min(side, 3 / np.sqrt(rng.random() + 1e-4))
        top, left = rng.uniform(-radius, side + radius, 2)
        inside = (y - top) ** 2 + (x - left) ** 2 < radius**2
        grain = rng.normal(0, rng.uniform(0, 20), (int(inside.sum()), 1))
        picture[inside] = rng.uniform(0, 255, 3) * rng.uniform(0.3, 1) + grain
    return picture.clip(0, 255).astype(np.uint8)


def pictures() -> Iterator[Tensor]:
    """The images that activations are read off, the same each time: (1, 3, SIDE, SIDE) uint8 RGB, once a JPEG."""
    rng = np.random.default_rng(0)
    for index in range(IMAGES):
        picture = codec.compress(dead_leaves(rng, SIDE), QUALITIES[index % len(QUALITIES)])
        yield torch.from_numpy(picture.transpose(2, 0, 1).copy())[None]


@torch.inference_mode()
def examples(model: RestorationModel) -> Iterator[list[Tensor]]:
    """Inputs of a :class:`dagn_pre.graphs.RestoreGraph`: images and their guidance."""
    for picture in pictures():
        image = picture.float() / 255
        yield [image, *(model.pack(model.guide(image, [])) if model.pixel_guidance else [])]


def quantised(graph: openvino.Model, inputs: Iterable[Sequence[Tensor]], float_layers: Sequence[str] = ()) -> openvino.Model:
    """A graph with its convolutions in int8.

    Args:
        inputs: of the graph, in its inputs' order.
        float_layers: names of the operations that stay as they are.
    """
    with untold():
        import nncf
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.ERROR)
    given = [[tensor.numpy() for tensor in tensors] for tensors in inputs]
    return nncf.quantize(
        graph,
        nncf.Dataset(given),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(given),
        ignored_scope=nncf.IgnoredScope(names=list(float_layers)),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            activations_range_estimator_params=RangeEstimatorParametersSet.HISTOGRAM
        ),
    )


def layers(graph: openvino.Model) -> list[str]:
    """Names of the operations that int8 is for."""
    return [operation.get_friendly_name() for operation in graph.get_ordered_ops() if operation.get_type_name() in CONVOLUTIONS]
