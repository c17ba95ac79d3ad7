"""The registry: names that ``Restorer``, ``DAGNRestore``, ``evaluate`` and ``bench`` accept, and files that they accept too.

===========================  ===========================================================================================
a name                       registered here, or by another package through an entry point (below)
``FILE.safetensors``         weights that ``dagn-pre train`` or ``export`` wrote (:mod:`dagn_pre.weights`)
another checkpoint           .pth, .pt, .ckpt, .safetensors, .npz: recognised by ``spandrel`` (extra ``peers``)
a path with ``{qf}`` in it   one checkpoint per QF, such as ``swinir_jpeg{qf}.pth``
===========================  ===========================================================================================

A package adds its own by an entry point in the group ``dagn_pre.models`` that names a :class:`Model`, or a function without
arguments that returns one::

    [project.entry-points."dagn_pre.models"]
    mine = "my_package.restorers:mine"      # mine = Model("mine", build=MyRestorationModel, description="...")
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

import torch
from torch import nn

from dagn_pre import __version__, architectures, weights
from dagn_pre.errors import DagnPreError, UsageError, WeightsError
from dagn_pre.networks.arcnn import ARCNNConfig
from dagn_pre.networks.config import NetworkConfig
from dagn_pre.networks.dagn import DAGNConfig
from dagn_pre.networks.dmcnn import DMCNNConfig
from dagn_pre.networks.fold import fold_batch_norm
from dagn_pre.networks.qgac import QGACConfig
from dagn_pre.protocol import RestorationModel
from dagn_pre.weights import SHIPPED

GROUP = "dagn_pre.models"
FOREIGN = (".pth", ".pt", ".ckpt", ".pkl", ".npz", ".bin", ".safetensors")

FOR = {"models": "dagn-s", "eyes": "dagn-s-psnr"}  # who looks at the restored image -> the model to take

COMPACT = DAGNConfig(
    widths=(32, 64, 96, 128),
    blocks=(1, 2, 2, 2),
    guided_blocks=(2, 2, 1),
    encoder_depth=18,
    encoder_width=16,
    guider_widths=(128, 64),
    residual=True,
)


@dataclass(frozen=True)
class Model:
    """A name that ``Restorer(model=...)`` accepts.

    Attributes:
        config: shape of a network of ours; None for other models.
        weights: the file or, with ``{qf}`` in its name, the files; they may be missing. None for a model without weights.
        description: one line.
        source: the paper.
        licence: of the weights, or of the library where there are none.
        build: makes the restorer of a model without ``config``, weights loaded.
        network: the bare network, for counting, where ``build`` needs weights that may be missing.
        needs: as of :class:`dagn_pre.protocol.RestorationModel`.
        dial: whether a QF can be set by hand; None where only its weights tell.
        per_quality: whether the method has one model per QF.
        thop: whether thop counts its operations rightly.
        whole: whether the network takes whole images.
        version: of the model, where ``weights`` names no file: results and caches tell versions apart.
    """

    name: str
    config: NetworkConfig | None = None
    weights: Path | None = None
    description: str = ""
    source: str = ""
    licence: str = ""
    build: Callable[[], RestorationModel] | None = None
    network: Callable[[], nn.Module] | None = None
    needs: str = "pixels"
    dial: bool | None = False
    per_quality: bool = False
    thop: bool = True
    whole: bool = True
    version: str = __version__

    def files(self) -> list[Path]:
        """The weights that are here."""
        if self.weights is None:
            return []
        if "{qf}" in self.weights.name:
            return list(quality_files(self.weights).values())
        return [self.weights] if self.weights.is_file() else []

    def ready(self) -> bool:
        """Whether it can restore now: its weights are here, or it needs none."""
        return self.weights is None or bool(self.files())

    def check_ready(self) -> None:
        """Raise WeightsError, saying where the weights are, unless ready."""
        if not self.ready():
            raise WeightsError(f"{self.name}: {self.description}; pass the path of the weights instead of the name")


@dataclass
class Loaded:
    """A restorer ready for inference: float32, on the CPU, in eval mode; and its card."""

    model: RestorationModel
    card: dict = field(default_factory=dict)


_registry: dict[str, Model] = {}
_asked = False  # other packages, for their models
_lock = threading.RLock()


def register(model: Model) -> Model:
    """Add a model; raises UsageError, and changes nothing, if the name is taken."""
    if model.name in _registry:
        raise UsageError(f"a model named {model.name!r} is registered already")
    _registry[model.name] = model
    return model


def _plugins() -> None:
    """Register what other packages offer, once; one that fails is named in a warning and left out."""
    global _asked
    with _lock:  # the same thread may come back: a package may look at the registry
        if _asked:
            return
        _asked = True
        _register_plugins()


def _register_plugins() -> None:
    for entry in entry_points(group=GROUP):
        try:
            found = entry.load()
            model = found if isinstance(found, Model) else found()
            if not isinstance(model, Model):
                raise TypeError(f"{entry.value} gives a {type(model).__name__}, not a dagn_pre.models.Model")
            register(model)
        except Exception as error:  # somebody else's code: anything may be wrong with it
            message = f"the model {entry.name!r} of entry point {entry.value} is left out: {type(error).__name__}: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=3)


def names() -> list[str]:
    """Registered names, in order of registration."""
    _plugins()
    return list(_registry)


def get(model: str | Path) -> Model:
    """A registered model, or one for the path of a checkpoint.

    Raises:
        UsageError: neither; the known names are listed.
        WeightsError: the file is missing or damaged.
    """
    _plugins()
    if str(model) in _registry:
        return _registry[str(model)]
    path = Path(model)
    if path.suffix not in FOREIGN:
        known = ", ".join(names())
        raise UsageError(f"unknown model {str(model)!r}; known: {known}, or the path of a checkpoint ({', '.join(FOREIGN)})")
    if "{qf}" in path.name:
        if not quality_files(path):
            raise WeightsError(f"{path}: no such weights files; {{qf}} stands for the quality factor in their names")
        what = "a checkpoint per QF, given by path"
        return Model(path.stem, None, path, what, build=lambda: _per_quality(path), dial=True, per_quality=True)
    if path.suffix == ".safetensors" and weights.format_of(path).startswith("dagn-pre"):
        config = weights.read_metadata(path).config
        if config.architecture == "side_information":
            raise UsageError(f"{path}: holds side information and no restorer; give it as side_information (--side-weights)")
        return Model(path.stem, config, path, "weights given by path", dial=config.dial)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; train it with dagn-pre train, or pass the path of one")
    return Model(path.stem, None, path, "a checkpoint given by path", build=lambda: _foreign(path), dial=None)


def quality_files(template: Path) -> dict[int, Path]:
    """{QF: file} of the files that a path with ``{qf}`` in its name stands for, by rising QF; WeightsError for two of one."""
    pattern = re.compile(r"(\d{1,3})".join(map(re.escape, template.name.split("{qf}", 1))))
    found = {}
    for path in template.parent.glob("*") if template.parent.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match and 1 <= int(match[1]) <= 100:
            if int(match[1]) in found:
                raise WeightsError(f"{path} and {found[int(match[1])].name} are both for QF {int(match[1])}: keep one")
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def _foreign(path: Path) -> RestorationModel:
    from dagn_pre.peers import foreign

    return foreign.load(path)


def _per_quality(template: Path) -> RestorationModel:
    from dagn_pre.peers.per_quality import PerQuality

    return PerQuality({quality: load(path).model for quality, path in quality_files(template).items()})


def load(model: str | Path) -> Loaded:
    """Build a model and load its weights.

    Raises:
        UsageError: unknown name.
        WeightsError: missing or damaged weights, or weights that do not fit.
        DagnPreError: an extra that it needs is not installed.
    """
    known = get(model)
    if known.config is not None:
        found, metadata = weights.load(known.weights)
        return Loaded(found, metadata.card)
    known.check_ready()
    try:
        built = known.build()
        if not isinstance(built, RestorationModel):
            raise TypeError(f"its build gives a {type(built).__name__}, not a RestorationModel")
        if (built.needs == "file") != (known.needs == "file"):
            raise ValueError(f"it needs {built.needs!r}, and is registered as one that needs {known.needs!r}")
    except DagnPreError:
        raise
    except Exception as error:  # somebody else's code: anything may be wrong with it
        raise WeightsError(f"model {known.name!r} cannot be built: {type(error).__name__}: {error}") from error
    return Loaded(built.eval().requires_grad_(False))


def network(model: str | Path | NetworkConfig) -> nn.Module:
    """The network of a model, random weights, for counting and timing; on the current default device, or on the CPU.

    Raises:
        UsageError: an unknown name.
        DagnPreError: an extra that it needs is not installed.
    """
    if isinstance(model, NetworkConfig):
        return architectures.counted(model)
    known = get(model)
    config = known.config
    if config is not None and known.weights.is_file():
        config = weights.read_metadata(known.weights).config
    if config is not None:
        return architectures.counted(config)
    with torch.device("cpu"):  # other makers' constructors and loaders read numbers out of tensors
        return (known.network or known.build)()


def cost(model: str | Path | NetworkConfig, side: int = 512) -> tuple[int, int]:
    """(parameters, multiply-accumulates of one image of ``side`` pixels squared), batch norm folded; nothing is computed."""
    from torch.utils.flop_counter import FlopCounterMode  # it imports triton, which takes a second

    with torch.device("meta"):
        counted = fold_batch_norm(network(model)).to("meta")
        image = torch.empty(1, 3, side, side)
    if not any(True for _ in counted.parameters()):
        return 0, 0
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        counted(image)
    return sum(parameter.numel() for parameter in counted.parameters()), counter.get_total_flops() // 2


def thop_macs(model: str | Path | NetworkConfig, side: int = 512) -> int | None:
    """Multiply-accumulates as the paper's Table III counts them, by ``thop``; None if that is missing or miscounts it."""
    known = model if isinstance(model, NetworkConfig) else get(model)
    if importlib.util.find_spec("thop") is None or not getattr(known, "thop", True):
        return None
    from thop import profile

    with torch.device("meta"):  # shapes are enough for counting
        counted, image = network(model).eval().to("meta"), torch.empty(1, 3, side, side)
    if not any(True for _ in counted.parameters()):
        return None
    return int(profile(counted, (image,), verbose=False)[0])


def fingerprint(model: str | Path) -> str:
    """SHA-256, hexadecimal, that tells results of different models and weights apart.

    Raises:
        WeightsError: weights that are missing or damaged.
    """
    known = get(model)
    if known.config is not None:
        weights.read_metadata(known.weights)
        return _sha256(known.weights)
    known.check_ready()
    if str(model) in _registry:
        parts = [known.name, known.version, *map(_sha256, known.files())]
    elif known.per_quality:
        parts = ["per QF", *(f"{quality}: {_sha256(path)}" for quality, path in quality_files(known.weights).items())]
    else:
        parts = ["of another maker", _sha256(known.weights)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _fbcnn(values: dict) -> Callable[[], nn.Module]:
    return lambda: architectures.build(architectures.config("fbcnn", values))


def _spandrel(architecture: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from dagn_pre.peers import foreign

        return foreign.published(architecture)

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
        "compact DAGN for models, the default",
        PAPER,
        "Apache-2.0",
        dial=True,
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
        dial=True,
    )
)
register(
    Model("dagn", DAGNConfig(), SHIPPED / "dagn.safetensors", "the paper's network; weights are not shipped", PAPER, dial=True)
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
        dial=True,
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
        dial=True,
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
        dial=True,
    )
)
_elsewhere(
    "fbcnn",
    "predicts its QF, or takes one: fbcnn_color.pth of github.com/jiaxi-jiang/FBCNN",
    "Jiang et al., ICCV 2021",
    "Apache-2.0",
    _fbcnn({}),
    dial=True,
)
_elsewhere(
    "fbcnn-s",
    "FBCNN at dagn-s's cost; train it with peers/fbcnn-s",
    "Jiang et al., ICCV 2021",
    "",
    _fbcnn({"widths": (32, 64, 112, 160), "blocks": 2}),
    dial=True,
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
    register(
        Model(_name, None, None, _description, _source, _licence, build=_classical(_kind, **_options), needs=_needs)
    )
