"""What an actor does with a block of a data set: it reads, restores and writes the images, then writes their rows.

A block that is done twice writes the same outputs and the same part of the manifest. A block whose worker died is taken image
by image, so that one that takes its worker along, or too long, becomes a failed row.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from dagn_pre.integrations.ray.actor import device_here
from dagn_pre.layouts import Layout, Part
from dagn_pre.manifest import Header, Manifest, Row
from dagn_pre.restored_files import InputFile, RestoredFile, restore_files
from dagn_pre.restorer import Restorer

DEATHS = 2  # of its workers, after which an image is a failed row


@dataclass
class Summary:
    """What a run has done.

    Attributes:
        states: how many images are restored, untouched, failed.
        copied: how many other files were copied.
        skipped: how many files earlier runs had done.
        untouched: how many were left untouched for each reason.
        failures: the first reasons, each of which names its image.
    """

    states: Counter[str] = field(default_factory=Counter)
    copied: int = 0
    skipped: int = 0
    untouched: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class Ledger:
    """What is known of blocks whose workers died; one for a run, as an actor of Ray beside the driver."""

    def __init__(self, deaths: int) -> None:
        self.allowed = deaths
        self.begun: Counter[int] = Counter()
        self.current: dict[int, str] = {}
        self.deaths: Counter[str] = Counter()
        self.verdicts: dict[str, str] = {}

    def begin(self, block: int) -> int:
        """A worker begins a block; how often that has happened, this time included."""
        suspect = self.current.pop(block, None)
        if suspect is not None:
            self.deaths[suspect] += 1
            if self.deaths[suspect] >= self.allowed:
                self.verdicts[suspect] = f"{suspect}: its worker died while restoring it, {self.deaths[suspect]} times"
        self.begun[block] += 1
        return self.begun[block]

    def at(self, block: int, image: str | None) -> str | None:
        """A worker is about to restore an image, alone; why it must not, or None."""
        self.current.pop(block, None)
        if image is not None and image not in self.verdicts:
            self.current[block] = image
        return self.verdicts.get(image or "")

    def too_long(self, block: int, image: str, seconds: float) -> None:
        """An image has taken too long, alone."""
        self.current.pop(block, None)
        self.verdicts[image] = f"{image}: took longer than {seconds:g} s"

    def end(self, block: int) -> None:
        """Its rows are written."""
        self.current.pop(block, None)
        del self.begun[block]


@dataclass(frozen=True)
class Task:
    """What the workers of a run have in common.

    Attributes:
        layout: where from, where to, and how.
        options: of the restorer, by name.
        header: of the manifest's parts.
        run: their name.
        item_timeout: seconds that one image may take; None: any.
    """

    layout: Layout
    options: dict[str, Any]
    header: Header
    run: str
    item_timeout: float | None = None


class BlockActor:
    """Restores blocks of a data set: a callable class for ``map_batches``, from rows ``number``, ``parts`` to what is told."""

    def __init__(self, task: Task, ledger: Any) -> None:
        self.task, self.ledger = task, ledger
        self.manifest = Manifest(task.layout.target)
        options = dict(task.options)
        self.restorer = Restorer(device=device_here(options.pop("device")), **options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Restore one block, or more."""
        told = [self.block(int(number), pickle.loads(parts)) for number, parts in zip(batch["number"], batch["parts"])]
        return {"told": np.array([pickle.dumps(one) for one in told], object)}

    def block(self, number: int, parts: list[Part]) -> Summary:
        """Outputs first, then their rows."""
        task = self.task
        attempt = self._ask("begin", number)
        restoring = partial(self._together, number) if attempt == 1 else partial(self._one_by_one, number)
        if attempt > 1:
            task.layout.remove_temporary(parts)
        rows = task.layout.restore(parts, restoring)
        if rows:
            self.manifest.write_part(task.run, number, task.header, rows)
        self._ask("end", number)
        return summary_of(rows, sum(not part.is_image for part in parts))

    def _ask(self, method: str, *arguments: Any) -> Any:
        import ray

        return ray.get(getattr(self.ledger, method).remote(*arguments))

    def _together(self, number: int, inputs: Sequence[InputFile]) -> list[RestoredFile]:
        with self._limited(max(1, len(inputs)), lambda seconds: None):
            return restore_files(self.restorer, inputs, self.task.layout.keep_untouched)

    def _one_by_one(self, number: int, inputs: Sequence[InputFile]) -> list[RestoredFile]:
        results = []
        for one in inputs:
            reason = self._ask("at", number, one.name)
            if reason is not None:
                results.append(RestoredFile("failed", None, reason))
                continue
            with self._limited(1, partial(self._ask, "too_long", number, one.name)):
                results += restore_files(self.restorer, [one], self.task.layout.keep_untouched)
        self._ask("at", number, None)
        return results

    @contextlib.contextmanager
    def _limited(self, images: int, expired: Callable[[float], Any]) -> Iterator[None]:
        """End this process, so that Ray starts another, where the body takes longer than so many images may: what hangs in a
        library cannot be ended otherwise."""
        if self.task.item_timeout is None:
            yield
            return
        seconds = self.task.item_timeout

        def end() -> None:
            expired(seconds)
            os._exit(1)

        timer = threading.Timer(images * seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def summary_of(rows: Sequence[Row], copied: int) -> Summary:
    """Of one block."""
    return Summary(
        Counter(row.state for row in rows),
        copied,
        0,
        Counter(row.reason or "" for row in rows if row.state == "untouched"),
        [row.reason or row.source for row in rows if row.state == "failed"],
    )
