"""The embedded benchmark: a data set rendered from a seed, and a Faster R-CNN and a PSPNet trained on it from scratch.

``prepare(root)`` renders the data; the checkpoints named by ``benchmarks/configs/demo_*.py`` lie in ``CHECKPOINTS``;
``python -m dagn_pre.benchmarks.train`` makes them again. DATA_CARD.md says what it all is.
"""

from __future__ import annotations

from pathlib import Path

from dagn_pre.benchmarks.demo.render import CLASSES, PALETTE, prepare

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"

__all__ = ["CHECKPOINTS", "CLASSES", "PALETTE", "prepare"]
