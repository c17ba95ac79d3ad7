"""Names of inputs: ``dagn-s``, ``dagn-s+side`` (its JPEGs carry side information), ``dagn-s@0.5`` (half its correction)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dagn_pre import models
from dagn_pre.errors import UsageError
from dagn_pre.side_information import SideInformationEncoder

SIDE = "+side"  # behind a restorer's name: the sender adds side information to the JPEG


@dataclass(frozen=True)
class RestoredInput:
    """Compressed and restored images: the restorer's name or weights file, whether the sender helps it by side information,
    and the strength of the correction, above 0 and up to 1."""

    model: str
    side_information: bool = False
    strength: float = 1.0

    @classmethod
    def parse(cls, name: str) -> RestoredInput:
        """Out of the name of an input; raises UsageError for a strength outside its range, and for none."""
        match = re.fullmatch(rf"(.+?)({re.escape(SIDE)})?(?:@(\d*\.?\d+))?", name, re.DOTALL)
        if match is None:
            raise UsageError("an input needs a name")
        model, side, strength = match.groups()
        found = cls(model, side is not None, 1.0 if strength is None else float(strength))
        if not 0 < found.strength <= 1:
            raise UsageError(f"the strength of input {name} must lie above 0 and up to 1, not {strength}")
        return found

    def __str__(self) -> str:
        strength = "" if self.strength == 1 else f"@{self.strength:g}"
        return f"{self.model}{SIDE if self.side_information else ''}{strength}"

    def fingerprint(self) -> str:
        """What tells weights from others: the restorer's, and side information's."""
        found = models.fingerprint(self.model)[:16]
        return f"{found}+{SideInformationEncoder(self.model).adapter.identity.hex()}" if self.side_information else found


def restored_inputs(names: Sequence[str]) -> dict[str, RestoredInput]:
    """Those of the inputs that are restored, by their names in the results, which have a file's stem in place of its path.

    Raises:
        UsageError: an unknown restorer, a strength outside its range, two inputs of one name, side information that has no
            weights.
    """
    found: dict[str, RestoredInput] = {}
    files: dict[str, str] = {}
    for given in names:
        if given in ("original", "jpeg"):
            continue
        restored = RestoredInput.parse(given)
        name = restored.model
        if Path(name).suffix in models.CHECKPOINT_SUFFIXES:
            name = Path(name).stem
            if name in ("original", "jpeg") or RestoredInput.parse(name).model != name:
                raise UsageError(
                    f"{restored.model} would be called {name} in the results, which is another input: rename the file"
                )
        elif name not in models.names():
            known = ", ".join(("original", "jpeg", *models.names()))
            raise UsageError(f"unknown input {given}: give one of {known}, or a checkpoint file")
        if files.setdefault(name, restored.model) != restored.model:
            raise UsageError(f"two inputs are both called {name}: rename one of the files")
        if restored.side_information:
            SideInformationEncoder(restored.model)  # says now if there is none for it
        found[str(replace(restored, model=name))] = restored
    return found
