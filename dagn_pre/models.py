"""The model registry (name -> shape, weights, card) and the weights format.

A weights file is safetensors. Tensors: ``network.*`` (a DAGN with batch norm folded) and ``quality.*`` (P_qf and its table
of mean vectors, where the network has a compression-sensitive encoder). Metadata, all strings:

    format         "dagn-pre-weights-2"; 1 had no table of mean vectors
    architecture   "dagn"
    config         JSON of DAGNConfig
    card           JSON: how it was trained and what it scores; free keys
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dagn_pre.errors import UsageError, WeightsError
from dagn_pre.files import atomic_path
from dagn_pre.networks.autoencoder import QualityPredictor
from dagn_pre.networks.dagn import DAGN, DAGNConfig
from dagn_pre.networks.fold import fold_batch_norm

FORMAT = "dagn-pre-weights-2"
SHIPPED = Path(__file__).parent / "weights"

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
        weights: the safetensors file, whether or not it is here.
    """

    name: str
    config: DAGNConfig
    weights: Path
    description: str


@dataclass
class Loaded:
    """Networks ready for inference: float32, on the CPU, batch norm folded, eval mode; ``predictor`` is P_qf or None."""

    network: DAGN
    predictor: QualityPredictor | None
    card: dict = field(default_factory=dict)


_registry: dict[str, Model] = {}


def register(model: Model) -> Model:
    """Add a model; raises UsageError, and changes nothing, if the name is taken."""
    if model.name in _registry:
        raise UsageError(f"a model named {model.name!r} is registered already")
    _registry[model.name] = model
    return model


def names() -> list[str]:
    """Registered names, in order of registration."""
    return list(_registry)


def get(model: str | Path) -> Model:
    """A registered model, or one for the path of a ``.safetensors`` file.

    Raises:
        UsageError: neither; the known names are listed.
        WeightsError: the file is missing or not a weights file of ours.
    """
    if str(model) in _registry:
        return _registry[str(model)]
    path = Path(model)
    if path.suffix == ".safetensors":
        metadata = read_metadata(path)
        return Model(path.stem, metadata["config"], path, "weights given by path")
    if path.suffix in {".pth", ".pt", ".ckpt", ".pkl", ".bin"}:
        raise WeightsError(f"{path}: refused, since unpickling a checkpoint can run code; dagn-pre loads .safetensors only")
    raise UsageError(f"unknown model {str(model)!r}; known: {', '.join(names())}, or the path of a .safetensors file")


def read_metadata(path: Path) -> dict:
    """{"config": DAGNConfig, "card": dict} of a weights file, without its tensors.

    Raises:
        WeightsError: missing, damaged, or of another format.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; train it with dagn-pre train, or pass the path of one")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        found = metadata.get("format", "")
        if found != FORMAT:
            if found.startswith(FORMAT.rstrip("0123456789")):
                raise WeightsError(
                    f"{path}: is of format {found}, and this version reads {FORMAT}; export it again with dagn-pre export"
                )
            raise WeightsError(f"{path}: not a dagn-pre weights file (format {found!r}, not {FORMAT!r})")
        config = DAGNConfig.from_dict(json.loads(metadata["config"]))
        return {"config": config, "card": json.loads(metadata["card"])}
    except (SafetensorError, LookupError, OSError) as error:
        raise WeightsError(f"{path}: damaged or not a safetensors file ({error})") from error
    except (TypeError, ValueError) as error:  # of the JSON, or an option that this version does not know
        raise WeightsError(f"{path}: its configuration cannot be read ({error})") from error


def load(model: str | Path) -> Loaded:
    """Build a model and load its weights.

    Raises:
        UsageError: unknown name.
        WeightsError: missing or damaged weights, or weights that do not fit; the first keys that differ are named.
    """
    known = get(model)
    metadata = read_metadata(known.weights)
    config = metadata["config"]
    modules = nn.ModuleDict({"network": fold_batch_norm(DAGN(config))})
    if config.sensitive:
        modules["quality"] = QualityPredictor(modules["network"].encoder_cs.out_channels).eval()
    with safe_open(known.weights, framework="pt") as file:
        found = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118, not a dict
    check_keys(modules.state_dict(), found, str(known.weights))
    modules.load_state_dict(found)
    modules.requires_grad_(False)
    return Loaded(modules["network"], modules["quality"] if config.sensitive else None, metadata["card"])


def check_keys(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], source: str) -> None:
    """Raise WeightsError, naming the first keys that differ, unless both hold the same keys and shapes."""
    wrong = sorted(set(expected) ^ set(found))
    wrong += [key for key in expected if key in found and expected[key].shape != found[key].shape]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise WeightsError(f"{source} does not fit; these keys differ: {', '.join(wrong[:3])}{more}")


def save(
    path: str | Path,
    network: DAGN,
    predictor: QualityPredictor | None = None,
    card: dict | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Fold ``network`` in place and write a weights file, whole or not at all."""
    modules = nn.ModuleDict({"network": fold_batch_norm(network)})
    if predictor is not None:
        modules["quality"] = predictor
    tensors = {key: value.to(dtype).contiguous() for key, value in modules.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "architecture": "dagn",
        "config": json.dumps(network.config.to_dict()),
        "card": json.dumps(card or {}),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata)


def cost(config: DAGNConfig, side: int = 512) -> tuple[int, int]:
    """(parameters, multiply-accumulates of one image of ``side`` pixels squared), batch norm folded; nothing is computed."""
    from torch.utils.flop_counter import FlopCounterMode  # it imports triton, which takes a second

    with torch.device("meta"):
        network = fold_batch_norm(DAGN(config))
        image = torch.empty(1, 3, side, side)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops() // 2


def fingerprint(model: str | Path) -> str:
    """SHA-256 of a model's weights file, hexadecimal: tells results of different weights apart."""
    weights = get(model).weights
    read_metadata(weights)
    return hashlib.sha256(weights.read_bytes()).hexdigest()


register(Model("dagn-s", COMPACT, SHIPPED / "dagn-s.safetensors", "compact DAGN, the default"))
register(Model("dagn", DAGNConfig(), SHIPPED / "dagn.safetensors", "the paper's network; weights are not shipped"))
