"""The embedded benchmark: a data set rendered from a seed, and a Faster R-CNN and a PSPNet trained on it from scratch.

``prepare(root)`` renders the data; the configs are ``benchmarks/configs/demo_*.py``, the checkpoints in ``benchmarks/weights``;
``dagn-pre bench train`` makes them again. DATA_CARD.md says what it all is.
"""

from __future__ import annotations

from dagn_pre.benchmarks.demo.render import CLASSES, PALETTE, prepare

__all__ = ["CLASSES", "PALETTE", "prepare"]
