"""What the networks' configurations have in common: plain values, to JSON and back."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from typing_extensions import Self  # of typing from Python 3.11 on


@dataclass(frozen=True)
class NetworkConfig:
    """Base of the frozen dataclasses that say a network's shape; ``architecture`` is its name in weights files.

    ``free`` names the tuples whose length is not fixed; ``quality_override`` and ``blind`` are the model's; ``tables``
    says whether quantisation tables change what it does.
    """

    architecture: ClassVar[str]
    free: ClassVar[tuple[str, ...]] = ()
    tables: ClassVar[bool] = False

    @property
    def quality_override(self) -> bool:
        return False

    @property
    def blind(self) -> bool:
        return False

    @classmethod
    def from_dict(cls, values: dict) -> Self:
        """Inverse of :meth:`to_dict`; raises ValueError for unknown keys and for lists of a wrong length."""
        known = {field.name: field for field in fields(cls)}
        unknown = set(values) - set(known)
        if unknown:
            raise ValueError(f"unknown {cls.architecture} option(s): {', '.join(sorted(unknown))}")
        for key, field in known.items():
            if key in values and key not in cls.free and isinstance(field.default, tuple):
                if len(values[key]) != len(field.default):
                    raise ValueError(f"{key} needs {len(field.default)} numbers, not {values[key]!r}")
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

    def to_dict(self) -> dict:
        return asdict(self)
