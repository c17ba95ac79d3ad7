"""The MobileNetV2 inside a published DeepLabV3 (int8, TFLite), for mmseg's ``MobileNetV2``: what ``pspnet_voc`` is trained on.

    pip install tflite
    python tools/mobilenet_v2_of_deeplab.py deeplabv3_mnv2_pascal_quant.tflite -o mobilenet_v2_deeplabv3_mmseg.pth

The file lies in the public repository google-coral/test_data (Apache-2.0); the network was taught by COCO and VOC 2012. Its
weights come dequantised, batch norm folded into the convolutions, RGB with mean and std of 127.5.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tflite
import torch
from mmengine.registry import MODELS
from mmseg.utils import register_all_modules

from dagn_pre.files import atomic_path

EPSILON = 1e-5  # of mmseg's batch norm
TYPES = {tflite.TensorType.UINT8: np.uint8, tflite.TensorType.INT8: np.int8, tflite.TensorType.INT32: np.int32}
CONVOLUTIONS = tflite.BuiltinOperator.CONV_2D, tflite.BuiltinOperator.DEPTHWISE_CONV_2D


def dequantised(model: tflite.Model, graph: tflite.SubGraph, index: int) -> np.ndarray:
    """A constant tensor of one scale, as float32."""
    tensor = graph.Tensors(index)
    stored = model.Buffers(tensor.Buffer()).DataAsNumpy().tobytes()
    values = np.frombuffer(stored, TYPES[tensor.Type()]).reshape(tensor.ShapeAsNumpy())
    quantised = tensor.Quantization()
    return ((values.astype(np.float64) - quantised.ZeroPoint(0)) * quantised.Scale(0)).astype(np.float32)


def convolutions(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(weight, bias) of each convolution in the file's order, in PyTorch's layout."""
    model = tflite.Model.GetRootAsModel(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # old files hold the second alone
        if kind in CONVOLUTIONS:
            weight, bias = (dequantised(model, graph, operator.Inputs(place)) for place in (1, 2))
            yield weight.transpose((0, 3, 1, 2) if kind == CONVOLUTIONS[0] else (3, 0, 1, 2)), bias


def state_dict(path: Path) -> dict[str, torch.Tensor]:
    """That of mmseg's MobileNetV2; what the file has beyond it (the head) is left aside.

    Raises:
        SystemExit: a convolution of another shape.
    """
    register_all_modules(init_default_scope=False)
    wanted = MODELS.build({"type": "mmseg.MobileNetV2"}).state_dict()
    names = [name.removesuffix(".conv.weight") for name in wanted if name.endswith(".conv.weight")]
    state = {}
    for name, (weight, bias) in zip(names, convolutions(path)):
        if wanted[f"{name}.conv.weight"].shape != weight.shape:
            raise SystemExit(f"{path}: {name} has another shape, {weight.shape}: not a MobileNetV2 of width 1")
        ones, zeros = np.ones_like(bias), np.zeros_like(bias)
        norm = {"weight": ones, "bias": bias, "running_mean": zeros, "running_var": ones - EPSILON}
        for key, value in {"conv.weight": weight, **{f"bn.{key}": value for key, value in norm.items()}}.items():
            state[f"{name}.{key}"] = torch.from_numpy(np.ascontiguousarray(value))
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    state = state_dict(args.file)
    with atomic_path(args.output) as temporary:
        torch.save(state, temporary)


if __name__ == "__main__":
    main()
