"""The receiver's side, where every image is expected to come with side information."""

from __future__ import annotations

from dagn_pre.restorer import Restorer


class SideInformationRestorer(Restorer):
    """A :class:`dagn_pre.Restorer` that also names, in a warning, each image that comes without side information.

    Arguments, results and errors are the restorer's, which uses side information as well, but takes its absence for granted.
    """

    expects_side_information = True
