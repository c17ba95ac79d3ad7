"""What lets two CPU cores train host models in an hour: mmengine hooks that the configs of ``benchmarks/configs`` name.

Both change how a model is trained, not what it is: their state dicts stay those of the hosts' own classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn


@HOOKS.register_module()
class BFloat16Modules(Hook):
    """Runs the named modules of the model under autocast to bfloat16 and gives their outputs on in float32.

    For detectors, whose heads cannot all take bfloat16 (the NMS of mmcv does not on a CPU).
    """

    def __init__(self, modules: list[str]) -> None:
        self.modules = modules

    def before_train(self, runner: Runner) -> None:
        for name in self.modules:
            module = runner.model.get_submodule(name)
            module.forward = _in_bfloat16(module.forward)


def _in_bfloat16(forward):
    def run(*inputs):
        with torch.autocast(get_device(), torch.bfloat16):
            outputs = forward(*inputs)
        return tuple(output.float().contiguous() for output in outputs)  # mmcv's RoIAlign on CPUs misreads channels_last

    return run


@HOOKS.register_module()
class FixedDepthwise(Hook):
    """Leaves the filters of the depthwise convolutions as they are, so that training does not need their gradients.

    On CPUs these take more than half of a MobileNetV2's step, and so does the gradient of such a convolution's input, which a
    convolution with the turned filter gives eight times as fast (:class:`DepthwiseInputGradient`).
    """

    def before_train(self, runner: Runner) -> None:
        runner.model.to(memory_format=torch.channels_last)  # as oneDNN computes these convolutions
        for module in runner.model.modules():
            if isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1:
                module.weight.requires_grad_(False)
                if module.stride == (1, 1):
                    module.forward = _depthwise(module)  # type: ignore[method-assign]


def _depthwise(module: nn.Conv2d):
    return lambda x: DepthwiseInputGradient.apply(x, module.weight, module.padding, module.dilation)


class DepthwiseInputGradient(torch.autograd.Function):
    """A depthwise convolution of stride 1 that keeps the size, with a gradient for its input (N, C, H, W) alone."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, padding: tuple, dilation: tuple) -> torch.Tensor:
        weight = weight.to(x.dtype)
        ctx.save_for_backward(weight)
        ctx.options = dict(padding=padding, dilation=dilation, groups=len(weight))
        return F.conv2d(x, weight, **ctx.options)

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx, grad: torch.Tensor):
        (weight,) = ctx.saved_tensors
        return F.conv2d(grad, weight.flip(2, 3), **ctx.options), None, None, None
