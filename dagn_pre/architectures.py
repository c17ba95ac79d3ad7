"""The networks that ``dagn-pre train`` trains and whose weights files it writes, by name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from torch import nn

from dagn_pre.networks.config import NetworkConfig
from dagn_pre.protocol import RestorationModel


@dataclass(frozen=True)
class Architecture:
    """Where an architecture lies; its module is imported when it is needed.

    Attributes:
        module: import path.
        config: name of its :class:`NetworkConfig` there.
        model: name of its :class:`RestorationModel` there, made from a config; of ``side_information`` it is not one, but
            what conditions one.
    """

    module: str
    config: str
    model: str

    def config_type(self) -> type[NetworkConfig]:
        return getattr(importlib.import_module(self.module), self.config)

    def build(self, config: NetworkConfig) -> RestorationModel:
        """The restorer, random weights."""
        return getattr(importlib.import_module(self.module), self.model)(config)


ARCHITECTURES = {
    "dagn": Architecture("dagn_pre.networks.blind_dagn", "DAGNConfig", "BlindDAGN"),
    "arcnn": Architecture("dagn_pre.networks.arcnn", "ARCNNConfig", "ARCNN"),
    "dmcnn": Architecture("dagn_pre.networks.dmcnn", "DMCNNConfig", "DMCNN"),
    "qgac": Architecture("dagn_pre.networks.qgac", "QGACConfig", "QGAC"),
    "edsr": Architecture("dagn_pre.networks.edsr", "EDSRConfig", "EDSR"),
    "side_information": Architecture("dagn_pre.networks.side_information", "SideInformationConfig", "SideInformation"),
    "fbcnn": Architecture("dagn_pre.peers.fbcnn", "FBCNNConfig", "FBCNN"),
}


def config(architecture: str, values: dict) -> NetworkConfig:
    """The configuration of that architecture with those values.

    Raises:
        ValueError: an unknown architecture, or values that it does not have.
        DagnPreError: it needs a package that is not installed.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[architecture].config_type().from_dict(values)


def build(config: NetworkConfig) -> RestorationModel:
    """A restorer of that shape with random weights."""
    return ARCHITECTURES[config.architecture].build(config)


def counted(config: NetworkConfig) -> nn.Module:
    """What a cost is counted of: Table III leaves P_qf out, and has batch norm where a network has it."""
    if config.architecture == "dagn":
        from dagn_pre.networks.dagn import DAGN

        return DAGN(config)
    return build(config)
