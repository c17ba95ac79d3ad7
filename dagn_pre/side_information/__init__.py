"""Side information: a few bits that the sender adds to a JPEG, from which the restorer knows what the compression took away.

    coder     symbols to bytes and back: the context model in integers, a range coder
    segment   bytes in a JPEG file and out of it
    adapter   weights: for which restorer, under which name
    encoder   :class:`SideInformationEncoder`, the sender; the receiver is :class:`dagn_pre.Restorer`

``docs/side-information.md`` specifies the bytes. Source: Ma, Liu et al., 2020.
"""

from __future__ import annotations

__all__ = ["SideInformationEncoder"]


def __getattr__(name: str):  # the encoder asks the registry, which the other modules do not know
    if name == "SideInformationEncoder":
        from dagn_pre.side_information.encoder import SideInformationEncoder

        return SideInformationEncoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
