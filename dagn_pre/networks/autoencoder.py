"""What surrounds an encoder while it learns: the decoder of the auto-encoders, the discriminator J and the predictor P_qf.

Of these only P_qf outlives training: it gives the blind quality. Source: Ma et al., TIP 2024, Sec. III-A.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dagn_pre.networks.resnet import ResNetEncoder

QUALITY_CLASSES = 100


class ImageDecoder(nn.Module):
    """The 15-layer decoder: five 3x3 convolutions, (convolution, transposed convolution) x 4, and two to the image.

    Args:
        features: channels of the encoder's output; the first convolution reduces them to a quarter (2048 -> 512), and
            each transposed convolution halves them.
        min_width: channels never fall below this, so that compact encoders still get a usable reconstruction.

    Shape:
        input (B, features, h, w); output (B, 3, 16 h, 16 w), RGB, nominally in [0, 1] but not clipped.
    """

    def __init__(self, features: int = 2048, min_width: int = 8) -> None:
        super().__init__()
        width = max(features // 4, min_width)
        layers: list[nn.Module] = [nn.Conv2d(features, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(4):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(4):
            narrower = max(width // 2, min_width)
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose2d(width, narrower, 2, stride=2), nn.ReLU(inplace=True)]
            width = narrower
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(width, 3, 3, stride=1, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return self.layers(features)


def _head(features: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(features, features), nn.ReLU(inplace=True), nn.Linear(features, outputs))


class Discriminator(nn.Module):
    """J, a 2048 x 2048 x 1 MLP: the logit that globally averaged features come from an original image.

    Shape:
        input (B, features, h, w); output (B,) logits.
    """

    def __init__(self, features: int = 2048) -> None:
        super().__init__()
        self.mlp = _head(features, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.mlp(features.mean((2, 3))).squeeze(1)


class QualityPredictor(nn.Module):
    """P_qf, a 2048 x 2048 x 100 MLP over the globally averaged compression-sensitive features.

    Class i stands for QF i + 1; an original (uncompressed) image is class QF 100.

    Attributes:
        vectors: buffer (100, features); row i is the mean input over the training set at QF i + 1, with which an image's own
            vector is replaced where its quality is set by hand. Zeros until :func:`dagn_pre.training.mean_vectors.mean_vectors`
            has measured it.

    Shape:
        input (B, features), the spatial mean of E_cs; output (B, 100) logits.
    """

    vectors: Tensor

    def __init__(self, features: int = 2048) -> None:
        super().__init__()
        self.mlp = _head(features, QUALITY_CLASSES)
        self.register_buffer("vectors", torch.zeros(QUALITY_CLASSES, features))

    def forward(self, vector: Tensor) -> Tensor:
        return self.mlp(vector)

    def quality(self, vector: Tensor) -> Tensor:
        """The median of the predicted distribution: (B, features) -> (B,) float QF in 1..100.

        The median minimises the expected absolute error and, unlike the mean, is not dragged along by a second mode.
        """
        cumulative = self(vector).float().softmax(1).cumsum(1)
        return (cumulative < 0.5).sum(1).clamp(max=QUALITY_CLASSES - 1).float() + 1


class AutoEncoder(nn.Module):
    """One of the two auto-encoders of stage 1: encoder, then image decoder.

    Shape:
        input (B, 3, H, W), RGB in [0, 1], multiples of 16; output (features (B, C, H / 16, W / 16), image (B, 3, H, W)).
    """

    def __init__(self, depth: int = 50, width: int = 64) -> None:
        super().__init__()
        self.encoder = ResNetEncoder(depth, width)
        self.decoder = ImageDecoder(self.encoder.out_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x)
        return features, self.decoder(features)


__all__ = ["QUALITY_CLASSES", "AutoEncoder", "Discriminator", "ImageDecoder", "QualityPredictor"]
