"""Every error a user can cause: one sentence that names the file or key, the reason and, where there is one, the remedy."""

from __future__ import annotations


class DagnPreError(Exception):
    """Base of all errors that dagn-pre raises on purpose; the CLI prints it without a traceback and exits with 1."""


class UsageError(DagnPreError, ValueError):
    """A value the caller chose is outside its range or contradicts another; the CLI exits with 2."""


class ImageError(DagnPreError, ValueError):
    """An image that cannot be read, or whose kind is refused by name."""


class WeightsError(DagnPreError):
    """Weights that are missing, unsafe to load, or do not fit the network."""


class ConfigError(DagnPreError, ValueError):
    """A host config that lacks what is needed (a loading step, a data root, a checkpoint)."""


class TrainingError(DagnPreError):
    """A training run that had to stop; its last checkpoint stays."""
