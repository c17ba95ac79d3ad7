"""What the networks' configurations have in common: plain values, to JSON and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar


class NetworkConfig:
    """Base of the frozen dataclasses that say a network's shape; ``architecture`` is its name in weights files.

    ``free`` names the tuples whose length is not fixed; ``quality_override`` and ``blind`` are the model's; ``tables``
    says whether quantisation tables change what it does.
    """

    architecture: ClassVar[str]
    free: ClassVar[tuple[str, ...]] = ()
    quality_override: ClassVar[bool] = False
    blind: ClassVar[bool] = False
    tables: ClassVar[bool] = False

    @classmethod
    def from_dict(cls, values: dict) -> Any:
        """Inverse of :meth:`to_dict`; raises ValueError for unknown keys and for lists of a wrong length."""
        fields = cls.__dataclass_fields__
        unknown = set(values) - set(fields)
        if unknown:
            raise ValueError(f"unknown {cls.architecture} option(s): {', '.join(sorted(unknown))}")
        for key, field in fields.items():
            if key in values and key not in cls.free and isinstance(field.default, tuple):
                if len(values[key]) != len(field.default):
                    raise ValueError(f"{key} needs {len(field.default)} numbers, not {values[key]!r}")
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})

    def to_dict(self) -> dict:
        return asdict(self)
