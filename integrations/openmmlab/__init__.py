"""DAGN in OpenMMLab pipelines. Importing this registers ``JPEGCompress`` and ``DAGNRestore`` in mmengine's root.

Text-style configs: ``custom_imports = dict(imports=["dagn_pre.integrations.openmmlab"], allow_failed_imports=False)``;
pure-Python configs import the classes from here and use them as ``type``.
"""

from __future__ import annotations

from dagn_pre.integrations.openmmlab.transforms import DAGNRestore, JPEGCompress

__all__ = ["DAGNRestore", "JPEGCompress"]
