"""DAGN in OpenMMLab. Importing this registers ``JPEGCompress``, ``DAGNRestore`` and ``DAGNDefer`` (pipeline steps) and
``DAGNDetDataPreprocessor`` and ``DAGNSegDataPreProcessor`` (of models) in mmengine's root registries.

Text-style configs: ``custom_imports = dict(imports=["dagn_pre.integrations.openmmlab"], allow_failed_imports=False)``;
pure-Python configs import the classes from here and use them as ``type``. The preprocessors need their host, mmdet or
mmseg, only once they are asked for, hence not by ``import *``.
"""

from __future__ import annotations

from dagn_pre.integrations.openmmlab.compress import JPEGCompress
from dagn_pre.integrations.openmmlab.deferred import DAGNDefer
from dagn_pre.integrations.openmmlab.preprocessors import HOMES, preprocessor
from dagn_pre.integrations.openmmlab.restore import DAGNRestore

__all__ = ["DAGNDefer", "DAGNRestore", "JPEGCompress"]


def __getattr__(name: str) -> type:
    """The preprocessors, imported with their host."""
    if name in HOMES:
        return preprocessor(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
