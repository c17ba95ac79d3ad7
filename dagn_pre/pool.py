"""Processes that share nothing but a list of tasks, and outlive each other.

The pools of the standard library give up, or wait for ever, once one of their processes is killed, as the kernel does when
memory runs out. Here another process takes over what such a one was at, a chunk's tasks one at a time, so that the one that is
to blame is found: a task that was alone with two processes that died is lost, and the others go on.

Each process holds the chunk it works on and one more; a next one is drawn from the list only when one is done.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Protocol, TypeVar

from dagn_pre.errors import DagnPreError

AHEAD = 2  # chunks that a process holds; one fits into a pipe, so that neither end waits for the other
TRIES = 2  # processes that may die of one task alone
STILLBORN = 3  # processes that may die in a row before one is ready
PATIENCE = 10  # seconds in which a process ends when asked to

Task = TypeVar("Task")
TaskIn = TypeVar("TaskIn", contravariant=True)


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Function(Protocol[TaskIn]):
    """What the processes do; it is pickled to them."""

    def prepare(self) -> None:
        """Called once in each process; an exception there ends the whole run."""

    def __call__(self, tasks: Sequence[TaskIn], /) -> Iterator[tuple[int, Any]]:
        """(index of a task, its result), in any order; an exception ends the whole run."""


@dataclass(frozen=True)
class Lost:
    """In place of a result: the processes that tried it have died.

    Attributes:
        reason: how the last one died.
    """

    reason: str


@dataclass
class _Chunk(Generic[Task]):
    tasks: list[Task]
    deaths: int = 0  # of processes that worked on it, where it is one task
    done: set[int] = field(default_factory=set)


class _Worker(Generic[Task]):
    """One process, and the chunks that it holds."""

    def __init__(self, function: Function[Task]) -> None:
        method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
        context: Any = multiprocessing.get_context(method)
        context.set_forkserver_preload(["dagn_pre.restorer"])  # imported once, for all processes
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        self.process.start()
        theirs.close()
        self.chunks: deque[_Chunk[Task]] = deque()
        self.ready = False

    def give(self, chunk: _Chunk[Task]) -> None:
        self.chunks.append(chunk)
        with contextlib.suppress(OSError):  # it has died, which its end of the pipe will say
            self.connection.send(chunk.tasks)

    def death(self) -> str:
        """How it died; waits for it."""
        self.process.join(PATIENCE)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"ended with status {code}"


def unordered(
    chunks: Iterable[Sequence[Task]],
    function: Function[Task],
    count: int,
    say: Callable[[str], None] = lambda text: None,
    left: Callable[[Task], None] = lambda task: None,
) -> Iterator[tuple[Task, Any]]:
    """Yield each task with its result as it is done, or with :class:`Lost`.

    Args:
        chunks: what a process takes at once; drawn as they are needed.
        count: of processes.
        say: gets what a process wrote to its stderr.
        left: called for each task that a process was at when it died or was ended, before anything else is done with it.

    Raises:
        Exception: whatever ``function`` raised; DagnPreError for processes that die before they are ready. All processes are
            ended first, also where the caller stops early.
    """
    source, again = iter(chunks), deque[_Chunk[Task]]()
    workers: list[_Worker[Task]] = []
    stillborn: list[str] = []

    def refill(worker: _Worker[Task]) -> None:
        while len(worker.chunks) < AHEAD:
            if again:
                worker.give(again.popleft())
            elif (tasks := next(source, None)) is not None:
                worker.give(_Chunk(list(tasks)))
            else:
                return

    def buried(worker: _Worker[Task]) -> Iterator[tuple[Task, Lost]]:
        """What is lost with it; the rest of what it held is tried again."""
        how = worker.death()
        worker.connection.close()
        workers.remove(worker)
        if not worker.ready:
            stillborn.append(how)
            if len(stillborn) >= STILLBORN:
                raise DagnPreError(f"{STILLBORN} worker processes ended before they were ready ({how}); try fewer --workers")
        for place, chunk in enumerate(worker.chunks):
            rest = [task for index, task in enumerate(chunk.tasks) if index not in chunk.done]
            if place or not worker.ready:  # it had not begun with this one
                again.append(_Chunk(rest, chunk.deaths))
                continue
            deaths = chunk.deaths + 1 if len(rest) == 1 else 0
            for task in rest:
                left(task)
                if deaths < TRIES:
                    again.append(_Chunk([task], deaths))
                else:
                    yield task, Lost(f"{TRIES} worker processes died of it, the last one {how}")

    try:
        while True:
            while len(workers) < count:
                if not again and (tasks := next(source, None)) is not None:
                    again.append(_Chunk(list(tasks)))
                if not again:
                    break
                workers.append(_Worker(function))
                workers[-1].give(again.popleft())
            for worker in workers:
                refill(worker)
            if not any(worker.chunks for worker in workers):
                return
            by_connection: dict[Any, _Worker[Task]] = {worker.connection: worker for worker in workers}
            for connection in wait(list(by_connection)):
                worker = by_connection[connection]
                try:
                    kind, content = worker.connection.recv()
                except (EOFError, OSError):
                    yield from buried(worker)
                    continue
                if kind == "ready":
                    worker.ready = True
                    stillborn.clear()
                elif kind == "said":
                    say(content)
                elif kind == "failed":
                    raise content
                elif kind == "result":
                    index, result = content
                    chunk = worker.chunks[0]
                    chunk.done.add(index)
                    yield chunk.tasks[index], result
                else:
                    worker.chunks.popleft()
                    refill(worker)
    finally:
        _end(workers, left)


def _end(workers: list[_Worker[Task]], left: Callable[[Task], None]) -> None:
    """Ask all to end, and make those that do not."""
    for worker in workers:
        if worker.chunks and worker.process.is_alive():
            worker.process.terminate()
        worker.connection.close()  # an idle one ends by itself
    for worker in workers:
        worker.process.join(PATIENCE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        for chunk in list(worker.chunks)[:1]:
            for index, task in enumerate(chunk.tasks):
                if index not in chunk.done:
                    left(task)


def _serve(connection: Connection, function: Function) -> None:
    """The life of a process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to all; the parent ends its own
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that no half-written file stays
    errors = io.StringIO()

    def send(kind: str, content: object = None) -> None:
        if text := errors.getvalue():
            errors.seek(0)
            errors.truncate()
            connection.send(("said", text))
        connection.send((kind, content))

    def failed(error: Exception) -> None:
        send("failed", error if isinstance(error, DagnPreError) else DagnPreError(f"{type(error).__name__}: {error}"))

    try:
        with contextlib.redirect_stderr(errors):
            try:
                function.prepare()
            except Exception as error:
                return failed(error)
            send("ready")
            while True:
                try:
                    tasks = connection.recv()
                except EOFError:
                    return
                try:
                    for found in function(tasks):
                        send("result", found)
                except Exception as error:
                    return failed(error)
                send("done")
    except OSError:  # the parent is gone, and its end of the pipe
        os._exit(1)
