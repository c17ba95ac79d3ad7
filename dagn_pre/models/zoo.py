"""The models that this package knows by name; importing this registers them."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from dagn_pre import architectures
from dagn_pre.defaults import MODEL
from dagn_pre.models.registry import Model, register
from dagn_pre.networks.arcnn import ARCNNConfig
from dagn_pre.networks.dagn import DAGNConfig
from dagn_pre.networks.dmcnn import DMCNNConfig
from dagn_pre.networks.qgac import QGACConfig
from dagn_pre.protocol import RestorationModel
from dagn_pre.weights import SHIPPED

FOR = {"models": MODEL, "eyes": "dagn-s-psnr"}  # who looks at the restored image -> the model to take

COMPACT = DAGNConfig(
    widths=(32, 64, 96, 128),
    blocks=(1, 2, 2, 2),
    guided_blocks=(2, 2, 1),
    encoder_depth=18,
    encoder_width=16,
    guider_widths=(128, 64),
    residual=True,
)
LEAN = DAGNConfig(
    shuffle=2,
    widths=(32, 48, 80),
    blocks=(1, 1, 1),
    guided_blocks=(1, 1),
    encoder_depth=18,
    encoder_width=8,
    guider_widths=(128, 64),
    insensitive=False,
    fusion=False,
    residual=True,
)


def _fbcnn(values: dict) -> Callable[[], nn.Module]:
    return lambda: architectures.build(architectures.config("fbcnn", values))


def _spandrel(architecture: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from dagn_pre.peers import spandrel

        return spandrel.published(architecture)

    return build


def _classical(kind: str, **options) -> Callable[[], RestorationModel]:
    def build() -> RestorationModel:
        from dagn_pre.peers import classical

        return getattr(classical, kind)(**options)

    return build


def _elsewhere(name: str, description: str, source: str, licence: str, network: Callable[[], nn.Module], **kwargs) -> None:
    """A published network whose weights are not ours to ship."""
    where = f"{description}; its weights are not here"
    register(Model(name, None, SHIPPED / f"{name}.pth", where, source, licence, network=network, **kwargs))


PAPER = "Ma et al., TIP 2024"
register(
    Model(
        "dagn-s",
        COMPACT,
        SHIPPED / "dagn-s.safetensors",
        "compact DAGN for models, nearer to the original's pixels than dagn-xs",
        PAPER,
        "Apache-2.0",
        quality_override=True,
    )
)
register(
    Model(
        "dagn-s-psnr",
        COMPACT,
        SHIPPED / "dagn-s-psnr.safetensors",
        "compact DAGN for eyes: the least pixel error",
        PAPER,
        "Apache-2.0",
        quality_override=True,
    )
)
register(
    Model(
        "dagn-xs",
        LEAN,
        SHIPPED / "dagn-xs.safetensors",
        "lean DAGN for models, the default",
        PAPER,
        "Apache-2.0",
        quality_override=True,
    )
)
register(
    Model(
        "dagn-xs-psnr",
        LEAN,
        SHIPPED / "dagn-xs-psnr.safetensors",
        "lean DAGN for eyes",
        PAPER,
        "Apache-2.0",
        quality_override=True,
    )
)
register(
    Model(
        "dagn",
        DAGNConfig(),
        SHIPPED / "dagn.safetensors",
        "the paper's network; weights are not shipped",
        PAPER,
        quality_override=True,
    )
)
register(
    Model(
        "arcnn",
        ARCNNConfig(residual=True),
        SHIPPED / "arcnn.safetensors",
        "four convolutions, trained here with a skip",
        "Dong et al., ICCV 2015",
        "Apache-2.0",
    )
)
register(
    Model(
        "dmcnn",
        DMCNNConfig(),
        SHIPPED / "dmcnn.safetensors",
        "DCT and pixel branches; train it with peers/dmcnn",
        "Zhang et al., ICIP 2018",
        quality_override=True,
    )
)
register(
    Model(
        "qgac",
        QGACConfig(),
        SHIPPED / "qgac.safetensors",
        "filters made from the file's tables; weights are not shipped",
        "Ehrlich et al., ECCV 2020",
        needs="tables",
        quality_override=True,
    )
)
register(
    Model(
        "qgac-s",
        QGACConfig(features=128, planes=16, manifold=8),
        SHIPPED / "qgac-s.safetensors",
        "QGAC at dagn-s's cost; train it with peers/qgac-s",
        "Ehrlich et al., ECCV 2020",
        needs="tables",
        quality_override=True,
    )
)
_elsewhere(
    "fbcnn",
    "predicts its QF, or takes one: fbcnn_color.pth of github.com/jiaxi-jiang/FBCNN",
    "Jiang et al., ICCV 2021",
    "Apache-2.0",
    _fbcnn({}),
    quality_override=True,
)
_elsewhere(
    "fbcnn-s",
    "FBCNN at dagn-s's cost; train it with peers/fbcnn-s",
    "Jiang et al., ICCV 2021",
    "",
    _fbcnn({"widths": (32, 64, 112, 160), "blocks": 2}),
    quality_override=True,
)
_elsewhere(
    "swinir",
    "one model per QF: 006_colorCAR_DFWB_s126w7_SwinIR-M_jpeg{qf}.pth of github.com/JingyunLiang/SwinIR",
    "Liang et al., ICCVW 2021",
    "Apache-2.0",
    _spandrel("swinir"),
    per_quality=True,
    thop=False,  # it leaves most of the attention out
)
_elsewhere(
    "ipt",
    "a pre-trained transformer; its public weights are not for JPEG: github.com/huawei-noah/Pretrained-IPT",
    "Chen et al., CVPR 2021",
    "BSD-3-Clause",
    _spandrel("ipt"),
    per_quality=True,
    thop=False,
    whole=False,  # patches of 48 pixels
)
_elsewhere(
    "dncnn",
    "DnCNN-3, luma: dncnn3.pth of github.com/cszn/KAIR",
    "Zhang et al., TIP 2017",
    "MIT",
    _spandrel("dncnn"),
)
for _name, _kind, _options, _description, _source, _licence, _needs in (
    ("identity", "Identity", {}, "returns every image as it came: what JPEG alone scores", "", "", "pixels"),
    ("deblock", "Deblock", {}, "FFmpeg's deblock filter, strong", "FFmpeg libavfilter, vf_deblock", "LGPL-2.1", "pixels"),
    ("libjpeg", "LibJPEG", {}, "libjpeg's decoder as it is: fancy upsampling", "libjpeg 6b", "IJG", "file"),
    (
        "libjpeg-plain", "LibJPEG", {"fancy_upsampling": False, "block_smoothing": False},
        "libjpeg's decoder with plain chroma upsampling and without block smoothing", "libjpeg 6b", "IJG", "file",
    ),
    (
        "libjpeg-unsmoothed", "LibJPEG", {"block_smoothing": False},
        "libjpeg's decoder with fancy upsampling, without block smoothing", "libjpeg 6b", "IJG", "file",
    ),
):  # fmt: skip
    register(Model(_name, None, None, _description, _source, _licence, build=_classical(_kind, **_options), needs=_needs))
