"""The receiver's side, where every image is expected to come with side information."""

from __future__ import annotations

import warnings

import numpy as np

from dagn_pre.restorer import Restorer, _Item
from dagn_pre.side_information.adapter import Adapter


class SideInformationRestorer(Restorer):
    """A :class:`dagn_pre.Restorer` that also names, in a warning, each image that it restores without side information.

    Arguments, results and errors are the restorer's, which uses side information as well, but takes its absence for granted.
    """

    def _side(self, item: _Item) -> tuple[Adapter, np.ndarray] | None:
        found = super()._side(item)
        if found is None and item.data is None:
            warnings.warn(f"{item.name}: has no side information; restored without it", RuntimeWarning, stacklevel=4)
        return found
