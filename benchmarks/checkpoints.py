"""Checkpoints of the hosts' models: found on disk or fetched once, read without running code, fitted to the model."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse

import torch

from dagn_pre.benchmarks import unpickler
from dagn_pre.errors import ConfigError, WeightsError


def find(source: str, folders: tuple[Path, ...] = ()) -> Path:
    """The file behind ``source``: a URL (kept in torch's hub folder), a path, or a name within one of ``folders``.

    Raises:
        ConfigError: no such file, or the URL cannot be fetched.
    """
    if source.startswith(("http://", "https://")):
        return fetch(source)
    for folder in (Path(), *folders):
        path = folder / Path(source).expanduser()
        if path.is_file():
            return path
    raise ConfigError(f"checkpoint {source} does not exist: give an existing file or a URL with --checkpoint")


def fetch(url: str) -> Path:
    """Download ``url`` unless it is there already; official names end in the start of the SHA-256, which is checked."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = re.search(r"-([0-9a-f]{8,64})\.\w+$", path.name)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digest and digest[1])
        except (URLError, OSError, RuntimeError) as error:
            raise ConfigError(f"cannot fetch checkpoint {url} ({error}): download it and give --checkpoint") from error
    return path


def digest(path: Path) -> str:
    """The start of the file's SHA-256, in hexadecimal: which bytes, wherever they lie."""
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum.update(block)
    return checksum.hexdigest()[:16]


def read(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint, on the CPU: the file's ``state_dict`` if it has one, else the whole of it.

    Raises:
        WeightsError: not a checkpoint, damaged, without tensors, or one that would need unpickling of other code.
    """
    try:
        content = torch.load(path, map_location="cpu", pickle_module=unpickler, weights_only=False)
    except unpickler.Refused as error:
        raise WeightsError(
            f"checkpoint {path} is not only weights ({error}): it is refused, since loading it could run any code; "
            "save its state_dict alone"
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise WeightsError(f"checkpoint {path} cannot be read ({error}): it is damaged or of another kind") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"checkpoint {path} holds no state dict of tensors: save model.state_dict()")
    if all(name.startswith("module.") for name in state):  # saved from a DistributedDataParallel wrapper
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def load(model: torch.nn.Module, path: Path) -> None:
    """Fill ``model`` from a checkpoint; entries the model has no use for (EMA copies, say) are left aside.

    Raises:
        WeightsError: see :func:`read`; or weights of the model are missing, or of another shape.
    """
    try:
        missing = model.load_state_dict(read(path), strict=False).missing_keys
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise WeightsError(
            f"checkpoint {path} does not fit {type(model).__name__} ({reason}): give the config it was trained with"
        ) from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing:
        raise WeightsError(
            f"checkpoint {path} does not fit {type(model).__name__}: {len(missing)} weights are missing, first "
            f"{missing[0]}; give the config it was trained with"
        )
