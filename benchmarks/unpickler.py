"""A pickle module that can only rebuild tensors; ``torch.load(..., pickle_module=this)`` reads checkpoints with it.

Checkpoints of OpenMMLab hold more than weights: log histories, NumPy scalars, optimiser state. ``weights_only=True``
refuses those before torch 2.4, and the hosts' own lists of safe names for later ones contain ``getattr``. Here a name
either is needed for tensors (``REBUILT``), or is known from training records and replaced by something inert
(``IGNORED``), or stops the loading. No other code runs, with any version of torch.
"""

from __future__ import annotations

import pickle
from pickle import UnpicklingError

import torch

REBUILT = {
    "collections": {"OrderedDict"},
    "torch": {"Size", "device", *(name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype))},
    "torch._utils": {"_rebuild_parameter", "_rebuild_tensor", "_rebuild_tensor_v2"},
    "torch.nn.parameter": {"Parameter"},
    "torch.serialization": {"_get_layout"},
    "torch.storage": {"TypedStorage", "UntypedStorage"},
}
IGNORED = {
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


class Unpickler(pickle.Unpickler):
    """Rebuilds tensors and containers of them; raises Refused at any name that is in neither list above."""

    def find_class(self, module: str, name: str):
        if name in IGNORED.get(module, ()):
            return Ignored
        if name in REBUILT.get(module, ()) or (module == "torch" and name.endswith("Storage") and "." not in name):
            return super().find_class(module, name)
        raise Refused(f"it would call {module}.{name}")


def load(file, **options):
    """What ``torch.load`` calls for the parts of the older file format that are not in a zip."""
    return Unpickler(file, **options).load()
