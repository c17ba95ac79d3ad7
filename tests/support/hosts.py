"""Which test files need OpenMMLab: those whose imports, direct or through our own modules, reach one of its packages."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = {"mmcv", "mmdet", "mmseg", "mmengine"}


@functools.cache
def need_hosts(path: Path) -> bool:
    """Whether a test file, or the conftest.py of a folder between it and ``tests/``, cannot be imported without the hosts.

    A folder needs them where its own conftest.py does. Imports within functions do not count: tests that get to those are
    marked one by one.
    """
    folders = [parent for parent in (path, *path.parents) if (ROOT / "tests") in parent.parents]
    files = [*(folder / "conftest.py" for folder in folders), *([path] if path.suffix == ".py" else [])]
    return any(_reach_hosts(file) for file in files if file.is_file())


@functools.cache
def _reach_hosts(start: Path) -> bool:
    seen, waiting = set(), [start]
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for name in _imported(file):
            parts = name.split(".")
            if parts[0] in PACKAGES:
                return True
            modules = (ROOT.joinpath(*parts[:count]) for count in range(1, len(parts) + 1))
            candidates = (each for module in modules for each in (module / "__init__.py", module.with_suffix(".py")))
            waiting += [candidate for candidate in candidates if candidate.is_file()]
    return False


@functools.cache
def _imported(file: Path) -> frozenset[str]:
    """Dotted names that a file imports when it is imported itself, names from modules included."""
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)
