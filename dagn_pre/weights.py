"""The weights format, and the networks it holds.

A weights file is safetensors. Tensors: the restorer's state dict; of a DAGN ``network.*`` (batch norm folded) and
``quality.*`` (P_qf and its table of mean vectors, where the network has a compression-sensitive encoder). Metadata, all
strings:

    format         "dagn-pre-weights-2"; 1 had no table of mean vectors
    architecture   a name in :data:`dagn_pre.architectures.ARCHITECTURES`
    config         JSON of the architecture's configuration
    card           JSON: how it was trained and what it scores; free keys
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dagn_pre import architectures
from dagn_pre.errors import WeightsError
from dagn_pre.files import atomic_path
from dagn_pre.forks import mind_fork
from dagn_pre.networks.autoencoder import QualityPredictor
from dagn_pre.networks.blind_dagn import BlindDAGN
from dagn_pre.networks.config import NetworkConfig
from dagn_pre.networks.dagn import DAGN
from dagn_pre.networks.side_information import SideInformation
from dagn_pre.protocol import RestorationModel

FORMAT = "dagn-pre-weights-2"
SHIPPED = Path(__file__).parent / "weights"  # those that come with this package


@dataclass(frozen=True)
class Metadata:
    """What a weights file says of itself."""

    config: NetworkConfig
    card: dict


def format_of(path: Path) -> str:
    """The ``format`` in a safetensors file's metadata, "" for a file of other makers.

    Raises:
        WeightsError: missing, or no safetensors file.
    """
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; train it with dagn-pre train, or pass the path of one")
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format", "")
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: damaged or not a safetensors file ({error})") from error


def read_metadata(path: Path) -> Metadata:
    """A weights file's metadata, without its tensors.

    Raises:
        WeightsError: missing, damaged, or of another format.
    """
    found = format_of(path)
    if found != FORMAT:
        if found.startswith(FORMAT.rstrip("0123456789")):
            raise WeightsError(
                f"{path}: is of format {found}, and this version reads {FORMAT}; export it again with dagn-pre export"
            )
        raise WeightsError(f"{path}: not a dagn-pre weights file (format {found!r}, not {FORMAT!r})")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    try:
        config = architectures.config(metadata.get("architecture", "dagn"), json.loads(metadata["config"]))
        return Metadata(config, json.loads(metadata["card"]))
    except LookupError as error:
        raise WeightsError(f"{path}: damaged ({error} is missing in its metadata)") from error
    except (TypeError, ValueError) as error:  # of the JSON, or an option that this version does not know
        raise WeightsError(f"{path}: its configuration cannot be read ({error})") from error


def load(path: Path) -> tuple[RestorationModel | SideInformation, Metadata]:
    """The network of a weights file: float32, on the CPU, in eval mode, without gradients.

    Raises:
        WeightsError: missing or damaged, or tensors that do not fit; the first keys that differ are named.
    """
    metadata = read_metadata(path)
    mind_fork()
    model = architectures.build(metadata.config)
    with safe_open(path, framework="pt") as file:
        found = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118, not a dict
    check_keys(model.state_dict(), found, str(path))
    model.load_state_dict(found)
    return model.eval().requires_grad_(False), metadata


def check_keys(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], source: str) -> None:
    """Raise WeightsError, naming the first keys that differ, unless both hold the same keys and shapes."""
    wrong = sorted(set(expected) ^ set(found))
    wrong += [key for key in expected if key in found and expected[key].shape != found[key].shape]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise WeightsError(f"{source} does not fit; these keys differ: {', '.join(wrong[:3])}{more}")


def save(
    path: str | Path,
    model: RestorationModel | SideInformation | DAGN,
    predictor: QualityPredictor | None = None,
    card: dict | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a weights file, whole or not at all; a DAGN is folded in place, and ``predictor`` is its P_qf."""
    if isinstance(model, DAGN):
        model = BlindDAGN(model, predictor)
    config = model.config
    if not isinstance(config, NetworkConfig):
        raise TypeError(f"{type(model).__name__} is not one of our networks")
    tensors = {key: value.to(dtype).contiguous() for key, value in model.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "architecture": config.architecture,
        "config": json.dumps(config.to_dict()),
        "card": json.dumps(card or {}),
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata)
