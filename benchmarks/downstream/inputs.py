"""Names of inputs: ``dagn-s``, ``dagn-s+side`` (its JPEGs carry side information), ``dagn-s@0.5`` (half its correction)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dagn_pre.errors import UsageError

SIDE = "+side"  # behind a restorer's name: the sender adds side information to the JPEG


@dataclass(frozen=True)
class Restoring:
    """What undoes the compression: a restorer's name or weights file, whether the sender helps it by side information, and the
    strength of the correction, above 0 and up to 1."""

    model: str
    side_information: bool = False
    strength: float = 1.0

    @classmethod
    def parse(cls, name: str) -> Restoring:
        """Out of the name of an input; raises UsageError for a strength outside its range."""
        model, side, strength = re.fullmatch(rf"(.+?)({re.escape(SIDE)})?(?:@(\d*\.?\d+))?", name, re.DOTALL).groups()
        found = cls(model, side is not None, 1.0 if strength is None else float(strength))
        if not 0 < found.strength <= 1:
            raise UsageError(f"the strength of input {name} must lie above 0 and up to 1, not {strength}")
        return found

    def __str__(self) -> str:
        strength = "" if self.strength == 1 else f"@{self.strength:g}"
        return f"{self.model}{SIDE if self.side_information else ''}{strength}"
