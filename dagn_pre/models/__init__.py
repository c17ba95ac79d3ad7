"""The registry: names that ``Restorer``, ``DAGNRestore``, ``evaluate`` and ``bench`` accept, and files that they accept too.

===========================  ===========================================================================================
a name                       registered here, or by another package through an entry point (below)
``FILE.safetensors``         weights that ``dagn-pre train`` or ``export`` wrote (:mod:`dagn_pre.weights`)
another checkpoint           .pth, .pt, .ckpt, .safetensors, .npz: recognised by ``spandrel`` (extra ``peers``)
a path with ``{qf}`` in it   one checkpoint per QF, such as ``swinir_jpeg{qf}.pth``
===========================  ===========================================================================================

A package adds its own by an entry point in the group ``dagn_pre.models`` that names a :class:`Model`, or a function without
arguments that returns one::

    [project.entry-points."dagn_pre.models"]
    mine = "my_package.restorers:mine"      # mine = Model("mine", build=MyRestorationModel, description="...")
"""

from __future__ import annotations

from dagn_pre.models.counting import cost, network, thop_macs
from dagn_pre.models.registry import CHECKPOINT_SUFFIXES, GROUP, Loaded, Model, fingerprint, get, load, names, register
from dagn_pre.models.zoo import FOR

__all__ = [
    "FOR",
    "CHECKPOINT_SUFFIXES",
    "GROUP",
    "Loaded",
    "Model",
    "cost",
    "fingerprint",
    "get",
    "load",
    "names",
    "network",
    "register",
    "thop_macs",
]
