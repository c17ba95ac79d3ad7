"""The ResNet of both auto-encoders: stride 16, no pooling, no classifier.

Source: Ma et al., TIP 2024, Sec. III-A.1 ("a modified ResNet-50 encoder whose average-pooling layers are removed, and the
last stride 2 convolution is replaced with stride 1"); the residual stages follow He et al., CVPR 2016.
"""

from __future__ import annotations

from torch import Tensor, nn

STAGES = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Bias-free convolution followed by batch norm, same padding."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class ResidualUnit(nn.Module):
    """ReLU(shortcut(x) + branch(x)); a basic unit (two 3x3) or, with ``bottleneck``, 1x1 - 3x3 - 1x1."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            layers = [conv_bn(inputs, width, 1), conv_bn(width, width, 3, stride), conv_bn(width, outputs, 1)]
        else:
            layers = [conv_bn(inputs, width, 3, stride), conv_bn(width, outputs, 3)]
        branch: list[nn.Module] = []
        for layer in layers:
            branch += [layer, nn.ReLU(inplace=True)]
        self.branch = nn.Sequential(*branch[:-1])
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else conv_bn(inputs, outputs, 1, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.branch(x) + self.shortcut(x))


class ResNetEncoder(nn.Module):
    """Features at 1/16 of the resolution; the compression-insensitive and the compression-sensitive encoder are each one.

    Args:
        depth: 50 (bottleneck units, the paper's) or 18 (basic units, for compact models).
        width: channels of the first stage; 64 is the paper's. Output channels are ``32 * width`` at depth 50 and
            ``8 * width`` at depth 18.

    Shape:
        input (B, 3, H, W) float, RGB in [0, 1], H and W multiples of 16; output (B, out_channels, H / 16, W / 16).

    Raises:
        ValueError: for another depth.
    """

    stride = 16

    def __init__(self, depth: int = 50, width: int = 64) -> None:
        super().__init__()
        if depth not in STAGES:
            raise ValueError(f"encoder depth {depth} is unknown; choose one of {sorted(STAGES)}")
        bottleneck = depth >= 50
        channels = width
        self.stem = nn.Sequential(
            *conv_bn(3, channels, 7, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, stride=2, padding=1)
        )
        stages = []
        for index, units in enumerate(STAGES[depth]):
            stage_width = width * 2**index
            stride = 2 if index in (1, 2) else 1  # the last stage keeps 1/16: its 3x3 and its shortcut at stride 1
            units_of_stage = []
            for unit in range(units):
                units_of_stage.append(ResidualUnit(channels, stage_width, stride if unit == 0 else 1, bottleneck))
                channels = 4 * stage_width if bottleneck else stage_width
            stages.append(nn.Sequential(*units_of_stage))
        self.stages = nn.Sequential(*stages)
        self.out_channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(self.stem(x))
