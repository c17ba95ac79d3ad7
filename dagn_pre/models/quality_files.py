"""Checkpoints with one file per QF, named by a path with ``{qf}`` in it."""

from __future__ import annotations

import re
from pathlib import Path

from dagn_pre.errors import WeightsError


def has_quality(path: Path) -> bool:
    """Whether a path stands for one file per QF."""
    return "{qf}" in path.name


def quality_files(template: Path) -> dict[int, Path]:
    """{QF: file} of the files that a path with ``{qf}`` in its name stands for, by rising QF; WeightsError for two of one."""
    pattern = re.compile(r"(\d{1,3})".join(map(re.escape, template.name.split("{qf}", 1))))
    found: dict[int, Path] = {}
    for path in template.parent.glob("*") if template.parent.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match and 1 <= int(match[1]) <= 100:
            if int(match[1]) in found:
                raise WeightsError(f"{path} and {found[int(match[1])].name} are both for QF {int(match[1])}: keep one")
            found[int(match[1])] = path
    return dict(sorted(found.items()))
