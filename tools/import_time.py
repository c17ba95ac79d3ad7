#!/usr/bin/env python
"""How long ``import dagn_pre`` takes beside ``import torch``: interleaved runs in fresh interpreters, medians, ratio.

    tools/import_time.py [RUNS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys

STATEMENTS = {
    "import torch": "import torch",
    "import dagn_pre": "import dagn_pre",
    "from dagn_pre import Restorer": "from dagn_pre import Restorer",  # what loads torch, Pillow and the networks
}
TIMER = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def seconds(statement: str) -> float:
    """Seconds that ``statement`` takes in an interpreter of its own."""
    run = subprocess.run([sys.executable, "-c", TIMER.format(statement)], capture_output=True, text=True, check=True)
    return float(run.stdout)


def measure(runs: int = 7) -> dict[str, float]:
    """Median seconds of each statement; the statements take turns, so that a busy moment hits them all. A first turn is
    thrown away: it reads the files from disk."""
    turns = [{name: seconds(statement) for name, statement in STATEMENTS.items()} for _ in range(runs + 1)][1:]
    return {name: statistics.median(turn[name] for turn in turns) for name in STATEMENTS}


if __name__ == "__main__":
    medians = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
    for name, median in medians.items():
        print(f"{name:30} {median:7.3f} s   {median / medians['import torch']:5.2f} x torch")
