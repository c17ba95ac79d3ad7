"""What the commands share that measure once and make one table of it."""

from __future__ import annotations

import json
from pathlib import Path


def show(found: object, table: str, name: str, folder: Path | None) -> int:
    """Print the table, and where a folder is asked for write NAME.json and NAME.md there; returns 0."""
    from dagn_pre.files import write_atomic

    print(table)
    if folder:
        write_atomic(folder / f"{name}.json", (json.dumps(found, indent=1) + "\n").encode())
        write_atomic(folder / f"{name}.md", (table + "\n").encode())
    return 0
