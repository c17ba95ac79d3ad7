"""The registry: which models there are by name, by file and from other packages, and how they are loaded and told apart."""

from __future__ import annotations

import functools
import hashlib
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path

from torch import nn

from dagn_pre import __version__, architectures, weights
from dagn_pre.errors import DagnPreError, UsageError, WeightsError
from dagn_pre.forks import mind_fork
from dagn_pre.models.quality_files import has_quality, quality_files
from dagn_pre.networks.config import NetworkConfig
from dagn_pre.protocol import RestorationModel

GROUP = "dagn_pre.models"
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".pkl", ".npz", ".bin", ".safetensors")


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
        quality_override: whether a QF can be set by hand; None where only its weights tell.
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
    quality_override: bool | None = False
    per_quality: bool = False
    thop: bool = True
    whole: bool = True
    version: str = __version__

    def files(self) -> list[Path]:
        """The weights that are here."""
        if self.weights is None:
            return []
        if has_quality(self.weights):
            return list(quality_files(self.weights).values())
        return [self.weights] if self.weights.is_file() else []

    @property
    def file(self) -> Path:
        """The weights; raises WeightsError for a model without."""
        if self.weights is None:
            raise WeightsError(f"model {self.name!r} has no weights file")
        return self.weights

    def built(self) -> RestorationModel:
        """What ``build`` makes; raises TypeError where there is none."""
        if self.build is None:
            raise TypeError("it has neither config nor build")
        mind_fork()  # here, since somebody else's code may not
        return self.build()

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
    if not isinstance(model, (str, Path)):
        raise UsageError(f"model must be a name or the path of a checkpoint, not {model!r}")
    _plugins()
    if str(model) in _registry:
        return _registry[str(model)]
    path = Path(model)
    if path.suffix not in CHECKPOINT_SUFFIXES:
        known = ", ".join(names())
        suffixes = ", ".join(CHECKPOINT_SUFFIXES)
        raise UsageError(f"unknown model {str(model)!r}; known: {known}, or the path of a checkpoint ({suffixes})")
    if has_quality(path):
        if not quality_files(path):
            raise WeightsError(f"{path}: no such weights files; {{qf}} stands for the quality factor in their names")
        what = "a checkpoint per QF, given by path"
        build = functools.partial(_per_quality, path)
        return Model(path.stem, None, path, what, build=build, needs="tables", quality_override=True, per_quality=True)
    if path.suffix == ".safetensors" and weights.format_of(path).startswith("dagn-pre"):
        config = weights.read_metadata(path).config
        if config.architecture == "side_information":
            raise UsageError(f"{path}: holds side information and no restorer; give it as side_information (--side-weights)")
        needs = getattr(architectures.ARCHITECTURES[config.architecture].model, "needs", "pixels")
        return Model(path.stem, config, path, "weights given by path", needs=needs, quality_override=config.quality_override)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; train it with dagn-pre train, or pass the path of one")
    return Model(path.stem, None, path, "a checkpoint given by path", build=lambda: _by_spandrel(path), quality_override=None)


def _by_spandrel(path: Path) -> RestorationModel:
    from dagn_pre.peers import spandrel

    return spandrel.load(path)


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
        found, metadata = weights.load(known.file)
        assert isinstance(found, RestorationModel)  # `get` refuses side information
        return Loaded(found, metadata.card)
    known.check_ready()
    try:
        built = known.built()
        if not isinstance(built, RestorationModel):
            raise TypeError(f"its build gives a {type(built).__name__}, not a RestorationModel")
        if (built.needs == "file") != (known.needs == "file"):
            raise ValueError(f"it needs {built.needs!r}, and is registered as one that needs {known.needs!r}")
    except DagnPreError:
        raise
    except Exception as error:  # somebody else's code: anything may be wrong with it
        raise WeightsError(f"model {known.name!r} cannot be built: {type(error).__name__}: {error}") from error
    return Loaded(built.eval().requires_grad_(False))


def fingerprint(model: str | Path) -> str:
    """SHA-256, hexadecimal, that tells results of different models and weights apart.

    Raises:
        WeightsError: weights that are missing or damaged.
    """
    known = get(model)
    if known.config is not None:
        weights.read_metadata(known.file)
        return _sha256(known.file)
    known.check_ready()
    if str(model) in _registry:
        parts = [known.name, known.version, *map(_sha256, known.files())]
    elif known.per_quality:
        parts = ["per QF", *(f"{quality}: {_sha256(path)}" for quality, path in quality_files(known.file).items())]
    else:
        parts = ["of another maker", _sha256(known.file)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
