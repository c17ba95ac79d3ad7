"""The networks that ``dagn-pre train`` trains and whose weights files it writes, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from dagn_pre.networks.arcnn import ARCNN, ARCNNConfig
from dagn_pre.networks.blind_dagn import BlindDAGN
from dagn_pre.networks.config import NetworkConfig
from dagn_pre.networks.dagn import DAGN, DAGNConfig
from dagn_pre.networks.dmcnn import DMCNN, DMCNNConfig
from dagn_pre.networks.edsr import EDSR, EDSRConfig
from dagn_pre.networks.fbcnn import FBCNN, FBCNNConfig
from dagn_pre.networks.qgac import QGAC, QGACConfig
from dagn_pre.networks.side_information import SideInformation, SideInformationConfig
from dagn_pre.protocol import RestorationModel


@dataclass(frozen=True)
class Architecture:
    """A configuration and what is made from it: a restorer, or with ``SideInformation`` what conditions one."""

    config: type[NetworkConfig]
    model: Callable[..., RestorationModel | SideInformation]


ARCHITECTURES = {
    kind.config.architecture: kind
    for kind in (
        Architecture(DAGNConfig, BlindDAGN),
        Architecture(ARCNNConfig, ARCNN),
        Architecture(DMCNNConfig, DMCNN),
        Architecture(QGACConfig, QGAC),
        Architecture(EDSRConfig, EDSR),
        Architecture(SideInformationConfig, SideInformation),
        Architecture(FBCNNConfig, FBCNN),
    )
}


def config(architecture: str, values: dict) -> NetworkConfig:
    """The configuration of that architecture with those values.

    Raises:
        ValueError: an unknown architecture, or values that it does not have.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[architecture].config.from_dict(values)


def build(config: NetworkConfig) -> RestorationModel | SideInformation:
    """A network of that shape with random weights; raises DagnPreError where it needs an extra that is not installed."""
    return ARCHITECTURES[config.architecture].model(config)


def counted(config: NetworkConfig) -> nn.Module:
    """What a cost is counted of: Table III leaves P_qf out, and has batch norm where a network has it."""
    return DAGN(config) if isinstance(config, DAGNConfig) else build(config)
