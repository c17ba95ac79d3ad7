"""Checkpoints of the hosts' models: found on disk or fetched once, read without running code, fitted to the model."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlparse

import torch

from dagn_pre.errors import ConfigError, WeightsError
from dagn_pre.integrations.openmmlab import unpickler


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


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of a model: its weights, and the classes it was trained on where the file names them."""

    state: dict[str, torch.Tensor]
    classes: tuple[str, ...] | None


def read(path: Path) -> Checkpoint:
    """The weights in a checkpoint, on the CPU: the file's ``state_dict`` if it has one (OpenMMLab's), else the whole of it
    (torchvision's); and the classes in its ``meta``.

    Raises:
        WeightsError: not a checkpoint, damaged, without tensors, or one that would need unpickling of other code.
    """
    try:
        content = load_safely(path)
    except unpickler.Refused as error:
        raise WeightsError(
            f"checkpoint {path} is not only weights ({error}): it is refused, since loading it could run any code; "
            "save its state_dict alone"
        ) from error
    except Exception as error:  # a damaged pickle can fail in any way
        raise WeightsError(f"checkpoint {path} cannot be read ({error}): it is damaged or of another kind") from error
    content = content if isinstance(content, dict) else {}
    state = content.get("state_dict", content)
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"checkpoint {path} holds no state dict of tensors: save model.state_dict()")
    if all(name.startswith("module.") for name in state):  # saved from a DistributedDataParallel wrapper
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return Checkpoint(state, classes_in(content.get("meta")))


def load_safely(path: Path):
    """``torch.load`` that runs nothing of what the file names; raises ``unpickler.Refused`` where it would have to."""
    if not hasattr(torch.serialization, "safe_globals"):  # torch before 2.4
        return torch.load(path, map_location="cpu", pickle_module=unpickler, weights_only=False)
    try:
        with torch.serialization.safe_globals(unpickler.stand_ins()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        called = re.search(r"GLOBAL (\S+) (?:was not an allowed|whose module)", str(error))
        if called:
            raise unpickler.Refused(f"it would call {called[1]}") from error
        raise


def classes_in(meta) -> tuple[str, ...] | None:
    """The class names in a checkpoint's ``meta``, as mmengine's hosts and those before them write it."""
    meta = meta if isinstance(meta, dict) else {}
    own = meta.get("dataset_meta")
    found = (own.get("classes", own.get("CLASSES")) if isinstance(own, dict) else None) or meta.get("CLASSES")
    if isinstance(found, (list, tuple)) and all(isinstance(name, str) for name in found):
        return tuple(found) or None
    return None


def load(model: torch.nn.Module, path: Path, classes: Sequence[str] | None = None) -> None:
    """Fill ``model`` from a checkpoint; entries the model has no use for (EMA copies, say) are left aside.

    Args:
        classes: of the data that the model is to be tested on, in order; None where they are not known.

    Raises:
        WeightsError: see :func:`read`; weights of the model are missing or of another shape (the first keys of each kind
            are named); or the checkpoint's classes are not ``classes``.
    """
    checkpoint = read(path)
    wanted, found = model.state_dict(), checkpoint.state
    shapes = [key for key in wanted if key in found and wanted[key].shape != found[key].shape]
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    if classes and checkpoint.classes and (reason := other_classes(checkpoint.classes, classes)):
        raise WeightsError(f"checkpoint {path} is of other classes: {reason}")
    if missing or shapes:
        unexpected = [key for key in found if key not in wanted and not key.startswith("ema_")]
        parts = [first("missing", missing), first("unexpected", unexpected)]
        parts.append(first("of other shapes", [shape(key, found[key], wanted[key]) for key in shapes]))
        words = "it is of another model"
        if classes and not missing and (count := head_classes(found, wanted, shapes, len(classes))):
            words = f"the checkpoint knows {count} classes, the config {len(classes)}"
        raise WeightsError(
            f"checkpoint {path} does not fit {type(model).__name__}: {words} ({'; '.join(filter(None, parts))}); "
            "give the config it was trained with"
        )
    model.load_state_dict(found, strict=False)


def first(kind: str, keys: Sequence[str], shown: int = 3) -> str:
    """The first keys of one kind, and how many more there are; nothing for none."""
    more = f" and {len(keys) - shown} more" if len(keys) > shown else ""
    return f"{kind}: {', '.join(keys[:shown])}{more}" if keys else ""


def shape(key: str, found: torch.Tensor, wanted: torch.Tensor) -> str:
    """A key with both its shapes."""
    return f"{key} {list(found.shape)} instead of {list(wanted.shape)}"


def other_classes(known: Sequence[str], wanted: Sequence[str]) -> str:
    """In which way the classes a checkpoint knows are not the wanted ones; "" where they are, up to spelling."""
    if len(known) != len(wanted):
        return (
            f"the checkpoint knows {len(known)} classes ({first_names(known)}), the config {len(wanted)} "
            f"({first_names(wanted)}); set metainfo and num_classes to the checkpoint's"
        )
    differ = [(old, new) for old, new in zip(known, wanted, strict=True) if plain(old) != plain(new)]
    if not differ:
        return ""
    pairs = ", ".join(f"{old} is {new} in the config" for old, new in differ[:3])
    order = "in another order" if sorted(map(plain, known)) == sorted(map(plain, wanted)) else "of other names"
    return (
        f"{len(differ)} of {len(known)} are {order} ({pairs}); set metainfo to the checkpoint's, or save its state_dict "
        "alone if they mean the same"
    )


def first_names(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def plain(name: str) -> str:
    """A class name without case and separators: "Dining_Table" is "diningtable"."""
    return re.sub(r"[\W_]", "", name).lower()


def head_classes(found: dict, wanted: dict, keys: Sequence[str], count: int) -> int | None:
    """For how many classes the file's head is, if that alone explains why the shapes of ``keys`` differ.

    A head has k rows for each class (anchors, box sides), of which one may stand for the background, beyond ``count``.
    """
    explanations = None
    for key in keys:
        (theirs, *rest), (ours, *same) = found[key].shape or (0,), wanted[key].shape or (0,)
        if rest != same:
            return None
        numbers = {
            theirs * (count + background) // ours - background
            for background in (0, 1)
            if ours and ours % (count + background) == 0 and theirs * (count + background) % ours == 0
        }
        explanations = numbers if explanations is None else explanations & numbers
    return min(explanations - {count}, default=None) if explanations else None
