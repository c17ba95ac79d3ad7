"""Compression-aware preprocessing: DAGN restores JPEGs in front of detectors and segmenters."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["Restorer", "__version__"]


def __getattr__(name: str):  # torch is loaded when it is first needed, not at import
    if name == "Restorer":
        from dagn_pre.restorer import Restorer

        return Restorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
