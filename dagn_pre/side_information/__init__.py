"""Side information: a few bits that the sender adds to a JPEG, from which the restorer knows what the compression took away.

    coder     symbols to bytes and back: the context model in integers, a range coder
    segment   bytes in a JPEG file and out of it
    adapter   weights: for which restorer, under which name
    encoder   :class:`SideInformationEncoder`, the sender
    restorer  :class:`SideInformationRestorer`, the receiver (:class:`dagn_pre.Restorer` uses what it finds as well)

``docs/side-information.md`` specifies the bytes. Source: Ma, Liu et al., 2020.
"""

from __future__ import annotations

import importlib

_MODULES = {"SideInformationEncoder": "encoder", "SideInformationRestorer": "restorer"}
__all__ = list(_MODULES)


def __getattr__(name: str):  # networks are loaded when they are first needed
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
