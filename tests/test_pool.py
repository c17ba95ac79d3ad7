"""Pools: tasks outlive the processes that die under them, and nothing is drawn, done or left too much."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from dagn_pre import pool
from dagn_pre.errors import DagnPreError, UsageError


class Doubled:
    """Doubles strings; some words kill the process, for ever or once."""

    def __init__(self, folder: Path, prepared: str = "") -> None:
        self.folder, self.prepared = folder, prepared

    def prepare(self) -> None:
        if self.prepared:
            self.one(self.prepared)

    def __call__(self, tasks):
        for index, task in enumerate(tasks):
            yield index, self.one(task)

    def one(self, task: str) -> str:
        if task.startswith("once"):
            try:
                (self.folder / task).touch(exist_ok=False)
            except FileExistsError:
                return task * 2
        if task.startswith(("once", "kill")):
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "wrong":
            raise UsageError("wrong for all")
        print(task, file=sys.stderr)
        return task * 2


def no_child() -> bool:
    return not multiprocessing.active_children()


def test_what_dies_is_tried_once_more_and_the_others_are_done(tmp_path):
    chunks = [["a", "once 1", "b"], ["c", "kill 1", "d"], ["kill 2"], ["once 2"], ["e", "f"]]
    said, left = [], []
    found = list(pool.unordered(chunks, Doubled(tmp_path), 2, said.append, left.append))
    assert Counter(task for task, _ in found) == Counter(task for chunk in chunks for task in chunk)  # each exactly once
    lost = {task: result.reason for task, result in found if isinstance(result, pool.Lost)}
    assert set(lost) == {"kill 1", "kill 2"} and all("SIGKILL" in reason for reason in lost.values())
    assert all(result == task * 2 for task, result in found if task not in lost)
    times = Counter(left)
    assert times["kill 1"] == 3 and times["kill 2"] == 2 and times["once 1"] == times["once 2"] == 1
    assert set("".join(said).split("\n")) >= set("abcdef") and no_child()


def test_the_list_is_drawn_as_it_is_done(tmp_path):
    drawn = []

    def chunks():
        for number in range(10_000):
            drawn.append(number)
            yield [str(number)]

    results = pool.unordered(chunks(), Doubled(tmp_path), 2)
    for count in range(1, 6):
        next(results)
        assert len(drawn) <= count + 2 * pool.AHEAD
    results.close()
    assert no_child()


def test_an_exception_ends_all(tmp_path):
    with pytest.raises(UsageError, match="wrong for all"):
        list(pool.unordered([["a"], ["wrong"], ["b"]] * 20, Doubled(tmp_path), 2))
    with pytest.raises(UsageError, match="wrong for all"):
        list(pool.unordered([["a"]], Doubled(tmp_path, "wrong"), 2))
    assert no_child()


def test_processes_that_never_begin_end_the_run(tmp_path):
    with pytest.raises(DagnPreError, match="3 worker processes ended before they were ready .*SIGKILL"):
        list(pool.unordered([["a"], ["b"]], Doubled(tmp_path, "kill"), 2))
    assert dict(pool.unordered([["a"], ["b"]], Doubled(tmp_path, "once"), 2)) == {"a": "aa", "b": "bb"} and no_child()
