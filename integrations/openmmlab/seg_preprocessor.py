"""mmseg's preprocessor with restoring; apart from mmdet's, since either host may be missing."""

from __future__ import annotations

from mmengine.registry import MODELS
from mmseg.models.data_preprocessor import SegDataPreProcessor

from dagn_pre.integrations.openmmlab.preprocessors import Restoring


@MODELS.register_module(force=True)  # takes the place of its stand-in
class DAGNSegDataPreProcessor(Restoring, SegDataPreProcessor):
    """mmseg's ``SegDataPreProcessor``, restoring first; its arguments, and ``restorer``: see :class:`Restoring`."""
