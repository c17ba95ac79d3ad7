"""How far a batch is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time

from tqdm import tqdm

SECONDS = 10  # between two lines


class Progress:
    """Counts images; ``with`` it. Says nothing of a single one."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.skipped = total, 0, 0
        self._begun = self._told = time.monotonic()
        self._bar = tqdm(total=total, unit="image", smoothing=0, disable=total <= 1) if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._told > self._begun:
            self._line()

    def skip(self) -> None:
        """One that needed nothing: it does not count as speed."""
        self.skipped += 1
        if self._bar is not None:
            self._bar.initial += 1
            self._bar.n += 1
        self._tell()

    def step(self) -> None:
        """One is done."""
        self.done += 1
        if self._bar is not None:
            self._bar.update()
        self._tell()

    def _tell(self) -> None:
        if self._bar is None and self.total > 1 and time.monotonic() - self._told >= SECONDS:
            self._line()

    def _line(self) -> None:
        self._told = time.monotonic()
        passed = self.done + self.skipped
        rate = self.done / (self._told - self._begun)
        left = f", {tqdm.format_interval((self.total - passed) / rate)} left" if rate else ""
        print(f"{passed} of {self.total} images, {rate:.2f} images/s{left}", file=sys.stderr, flush=True)
