"""mmdet's preprocessor with restoring; apart from mmseg's, since either host may be missing."""

from __future__ import annotations

from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmengine.registry import MODELS

from dagn_pre.integrations.openmmlab.preprocessors import Restoring


@MODELS.register_module(force=True)  # takes the place of its stand-in
class DAGNDetDataPreprocessor(Restoring, DetDataPreprocessor):
    """mmdet's ``DetDataPreprocessor``, restoring first; its arguments, and ``restorer``: see :class:`Restoring`."""
