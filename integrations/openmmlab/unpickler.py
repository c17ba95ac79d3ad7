"""What checkpoints of OpenMMLab hold besides weights, and how loading passes over it without running it.

They keep log histories, NumPy scalars and optimiser state, so ``torch.load(..., weights_only=True)`` refuses them, and the
hosts' own lists of safe names contain ``getattr``. Here names known from training records (``RECORDS``) stand for something
inert instead: :func:`stand_ins` are such classes for ``torch.serialization.safe_globals``. torch before 2.4 has
``weights_only`` but no such list, and the upstream OpenMMLab packages run on 2.1: for it alone this module is a
``pickle_module`` that rebuilds tensors (``REBUILT``), passes over records and stops at any other name. No other code runs,
with any version of torch.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pickle import UnpicklingError
from typing import Any

import torch

REBUILT = {
    "collections": {"OrderedDict"},
    "torch": {"Size", "device", *(name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype))},
    "torch._utils": {"_rebuild_parameter", "_rebuild_tensor", "_rebuild_tensor_v2"},
    "torch.nn.parameter": {"Parameter"},
    "torch.serialization": {"_get_layout"},
    "torch.storage": {"TypedStorage", "UntypedStorage"},
}
RECORDS = {
    "_codecs": {"encode"},
    "__builtin__": {"getattr", "set", "slice"},  # as protocol 2, torch.save's, spells it
    "builtins": {"getattr", "set", "slice"},
    "mmengine.logging.history_buffer": {"HistoryBuffer"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
}


class Refused(UnpicklingError):
    """The pickle names something that is neither a tensor's part nor a known record; its loading would run it."""


class Ignored:
    """Stands for an object of a training record: accepts what the pickle does to it and keeps nothing."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


def stand_ins() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """An inert class for each name of ``RECORDS``, called as it is: torch goes by ``__module__`` and ``__qualname__``."""
    return [type(name, (Ignored,), {"__module__": module}) for module, names in RECORDS.items() for name in names]


class Unpickler(pickle.Unpickler):
    """Rebuilds tensors and containers of them; raises Refused at any name that is in neither list above."""

    def find_class(self, module: str, name: str):
        if name in RECORDS.get(module, ()):
            return Ignored
        if name in REBUILT.get(module, ()) or (module == "torch" and name.endswith("Storage") and "." not in name):
            return super().find_class(module, name)
        raise Refused(f"it would call {module}.{name}")


def load(file, **options):
    """What ``torch.load`` calls for the parts of the older file format that are not in a zip."""
    return Unpickler(file, **options).load()
