"""One loop over files and trees (:mod:`dagn_pre.cli.listing`) that survives bad files and dying processes.

The rows of a tree's manifest are held in no memory: they are in a temporary database on disk, as the list is.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from dagn_pre import files, pool, progress
from dagn_pre.cli.listing import Batch, Pair
from dagn_pre.cli.warned import told_warnings
from dagn_pre.errors import DagnPreError, UsageError, printable
from dagn_pre.folders import Examples, told_with_examples
from dagn_pre.images import SUFFIXES

if TYPE_CHECKING:
    from dagn_pre.manifest import Row, Rows  # imported where they are needed, since fsspec takes a while

CHUNK = 16  # images that a process takes at once
CHUNK_BYTES = 256 * 1024  # of its files together: larger images come alone, so that all processes end at about the same time
CHUNK_NAMES = 16 * 1024  # bytes of its paths: a pipe holds them
FEW = 32  # images below which starting processes takes longer than it saves
EXISTS = "skipped (exists already; --overwrite to redo)"


def add_arguments(parser: argparse.ArgumentParser, manifest: str | None = None) -> None:
    """The arguments that every command from files to files has; ``manifest``: its name, of those that write another format."""
    parser.add_argument("sources", nargs="+", type=location, metavar="SRC", help="images and folders")
    told = "a file if SRC is one, else a folder; sub-folders are kept"
    parser.add_argument("target", type=location, metavar="DST", help=told)
    parser.add_argument("--overwrite", action="store_true", help="write outputs that exist already anew")
    if manifest:
        parser.add_argument("--full-names", action="store_true", help="in a folder, a.jpg becomes a.jpg.png, not a.png")
        parser.add_argument("--strict-files", action="store_true", help="refuse JPEGs that lack nothing but their end marker")
        add_workers(parser)
        told = "print what the manifest in DST adds up to, and exit"
        parser.add_argument("--report", type=location, nargs=1, action=_Report, const=manifest, metavar="DST", help=told)


def add_workers(parser: argparse.ArgumentParser) -> None:
    """The argument of every command that can use several processes."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help=f"processes (default: one for each core from {FEW} images on, but one on a GPU; 1 works in this process)",
    )


class _Report(argparse.Action):
    """Like --version: prints and exits, whatever other arguments are missing."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        from dagn_pre.manifest import Manifest

        try:
            text = Manifest(values[0], self.const).summary().text()
        except DagnPreError as error:
            parser.exit(2 if isinstance(error, UsageError) else 1, f"{parser.prog}: {printable(str(error))}\n")
        print(printable_lines(text), flush=True)
        parser.exit()


def printable_lines(text: str) -> str:
    """:func:`printable`, line by line."""
    return "\n".join(map(printable, text.split("\n")))


def location(text: str) -> Path | str:
    """A path, or a URL, which a path would spoil; raises ArgumentTypeError for an image's name with "/" behind it."""
    if "://" in text:
        return text
    path = Path(text)
    if text.endswith("/") and path.suffix.lower() in SUFFIXES and not path.is_dir():  # which the path has not
        raise argparse.ArgumentTypeError(f"{printable(text)}: no such folder; make it, or leave out the / if a file is meant")
    return path


@dataclass(frozen=True)
class Done:
    """What became of one input.

    Attributes:
        counted: how it is counted.
        lost: names of the metadata that could not be kept.
        untouched: why its pixels were left as they are.
        state, quality, quality_source: as a row of the manifest has them.
        reason: more for the row.
    """

    counted: str = "written"
    lost: tuple[str, ...] = ()
    untouched: str | None = None
    state: Any = "restored"
    quality: int | None = None
    quality_source: str | None = None
    reason: str | None = None


class Work:
    """What a command does with files, in an object that is pickled to processes."""

    parallel = True  # whether more processes than one are worth it where nobody asks

    def prepare(self) -> None:
        """Load what all files need, in the process where it is needed."""

    def __call__(self, source: Path, target: Path) -> Any:
        """Write one output and give a :class:`Done`; any exception is that file's, but a UsageError all files'."""
        raise NotImplementedError

    def found(self, target: Path) -> Done:
        """What an output is that was there already, and of which no row tells."""
        raise NotImplementedError

    def each(self, pairs: Sequence[Pair]) -> Iterator[list[tuple[int, Any]]]:
        """Write several, in groups, each of which comes as (index of the pair, what became of it)."""
        for index, pair in enumerate(pairs):
            try:
                with told_warnings(pair[0]):
                    done = self(*pair)
            except UsageError:
                raise
            except Exception as error:  # whatever a decoder or a writer runs into
                done = error
            yield [(index, done)]


class _Simple(Work):
    """A function as such."""

    def __init__(self, function: Callable[[Path, Path], Done]) -> None:
        self.function = function

    def __call__(self, source: Path, target: Path) -> Done:
        return self.function(source, target)


@dataclass(frozen=True)
class Task:
    """One input.

    Attributes:
        there: its output exists already, and no row tells of it.
        refused: why nothing is written: its output would replace another input's.
    """

    source: Path
    target: Path
    there: bool = False
    refused: str | None = None


@dataclass(frozen=True)
class Result:
    """What became of one input, with what a manifest wants to know of it.

    Attributes:
        done: what the work gave, a :class:`Done` where it writes files; None where it failed.
        failed: why.
    """

    done: Any
    failed: str | None
    bytes: int = 0
    digest: str = ""
    modified: float | None = None
    milliseconds: float = 0.0


@dataclass
class Worker:
    """A function of :mod:`dagn_pre.pool`, which also runs in this process.

    Attributes:
        work: of the command.
        told: whether results say what a manifest wants to know.
        threads: of torch; None leaves them.
    """

    work: Work
    told: bool
    threads: int | None = None

    def prepare(self) -> None:
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)
        self.work.prepare()

    def __call__(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        before = [_status(task.source) if self.told else None for task in tasks]
        new = [index for index, task in enumerate(tasks) if not (task.there or task.refused)]
        groups = self.work.each([(tasks[index].source, tasks[index].target) for index in new])
        while True:
            begun = time.perf_counter()
            group = next(groups, None)
            if group is None:
                break
            milliseconds = (time.perf_counter() - begun) * 1000 / len(group)
            for place, done in group:
                index = new[place]
                yield index, self.result(tasks[index].source, done, milliseconds, before[index])
        for index, task in enumerate(tasks):
            if task.refused:
                yield index, self.result(task.source, DagnPreError(task.refused), 0.0, before[index])
            elif task.there:
                yield index, self.result(task.source, self.work.found(task.target), 0.0, before[index])

    def result(self, source: Path, done: Any, milliseconds: float, before: os.stat_result | None) -> Result:
        """``before``: the input's status when work on it began, if a manifest wants to know it and there is one."""
        failed = progress.report_failure(source, done) if isinstance(done, Exception) else None
        result = Result(None if isinstance(done, Exception) else done, failed, milliseconds=milliseconds)
        if before is None:
            return result
        result = replace(result, bytes=before.st_size, modified=before.st_mtime)
        with contextlib.suppress(OSError):  # it has failed, and has no digest
            found = digest(source)
            if _same(before, source.stat()):  # else what was read is gone, and the next run does it again
                return replace(result, digest=found)
        return result


def _status(source: Path) -> os.stat_result | None:
    """None where it cannot be told; the work will say why."""
    try:
        return source.stat()
    except OSError:
        return None


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether nobody has written to the file, or put another in its place."""
    return all(getattr(before, name) == getattr(after, name) for name in ("st_ino", "st_size", "st_mtime_ns", "st_ctime_ns"))


def digest(source: Path) -> str:
    """SHA-256 of a file's bytes; raises OSError."""
    return hashlib.sha256(source.read_bytes()).hexdigest()


def run(
    planned: Batch,
    work: Work | Callable[[Path, Path], Done],
    overwrite: bool,
    options: Mapping[str, Any] | None = None,
    workers: int | None = 1,
    name: str = "manifest",
) -> int:
    """Do the work for each pair, skipping what is done; a bad file is reported and the others go on.

    What was left untouched, what could not be kept, and what was left out, is said in the summary, once.

    Args:
        overwrite: also do again what is done.
        options: all that decides what outputs are; with these, a folder gets a manifest, and what it tells of is done. Without,
            an output that exists is.
        workers: processes; 1 works in this one, None chooses.
        name: of the manifest.

    Returns:
        1 if any file failed, else 0.

    Raises:
        UsageError: from ``work``, which would be so for every file; a manifest of other options.
    """
    work = work if isinstance(work, Work) else _Simple(work)
    count = processes(workers, len(planned.pairs), work)
    counts: Counter[str] = Counter()
    lost: defaultdict[str, Examples] = defaultdict(Examples)
    untouched: defaultdict[str, Examples] = defaultdict(Examples)
    with contextlib.ExitStack() as stack:
        log = None
        decide = functools.partial(_task, anew=overwrite)
        if options is not None and planned.folder is not None:
            from dagn_pre.manifest import Manifest

            manifest = Manifest(planned.folder, name)
            log = stack.enter_context(manifest.append_to(options, overwrite))
            if not overwrite:
                # Outputs without a row are former ones, where a run that was to write all anew was cut short.
                unfinished = manifest.last is not None and manifest.last.overwrite
                known = manifest.latest()
                decide = functools.partial(_told_task, folder=planned.folder, known=known, unfinished=unfinished)
        total = len(planned.pairs)
        shown = stack.enter_context(progress.bar(total=total, unit="image", smoothing=0, disable=total <= 1))

        def tasks() -> Iterator[Task]:
            for pair in planned.pairs:
                task = decide(*pair)
                if task is None:
                    counts[EXISTS] += 1
                    progress.skip(shown)
                else:
                    yield task

        ended = stack.enter_context(contextlib.closing(results(tasks(), work, log is not None, count)))
        for task, result in ended:
            if log is not None and planned.folder is not None:
                log.append(_row(task, result, planned.folder))
            shown.update()
            done = result.done
            if done is None:
                counts["failed"] += 1
                continue
            counts[EXISTS if task.there else done.counted] += 1
            for kind in done.lost:
                lost[kind].add(task.source)
            if done.untouched and not task.there:
                untouched[done.untouched].add(task.source)
        if log is not None:
            log.finish()
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    if untouched:
        print(printable(told_with_examples("left as they are", untouched)))
    if lost:
        print(printable(told_with_examples("metadata not kept", lost)))
    if planned.left_out:
        print(printable(told_with_examples("left out", planned.left_out)))
    return 1 if counts["failed"] else 0


def processes(asked: int | None, count: int, work: Work) -> int:
    """How many for so many images; raises UsageError for less than one."""
    if asked is not None and asked < 1:
        raise UsageError(f"--workers must be 1 or more, not {asked}")
    if asked is None and (count < FEW or not work.parallel):
        return 1
    return max(1, min(asked or pool.cores(), count))


def _task(source: Path, target: Path, anew: bool) -> Task | None:
    """What is to be done for a pair, None for nothing: without a manifest."""
    return Task(source, target) if anew or not os.path.exists(target) else None


def _told_task(source: Path, target: Path, folder: Path, known: Rows, unfinished: bool) -> Task | None:
    """The same with what a manifest tells: an input that has changed since, or failed, is done again; no other's output is
    taken for its own, or replaced."""
    if not os.path.exists(target):
        return Task(source, target)
    name, found = os.path.abspath(source), known.owner(target.relative_to(folder).as_posix())
    if found is None:  # nobody's, unless this one's row says that it failed, or has another output
        anew = unfinished or known.get(name) is not None
        return Task(source, target, there=not anew)
    row, outdated = found
    if row.source == name:
        done = not outdated and row == known.get(name) and _is_of(row, source)
        return None if done else Task(source, target)
    if outdated and unfinished:
        return Task(source, target)
    if _is_of(row, source, moved=True):  # the same bytes at another place
        return Task(source, target, there=not outdated)
    remedy = "give another folder, or --overwrite to replace it"
    if Path(row.source).name != source.name:
        remedy = "give another folder, --full-names, or --overwrite to replace it"
    return Task(source, target, refused=f"{source}: {target} is the output of {row.source}: {remedy}")


def _is_of(row: Row, source: Path, moved: bool = False) -> bool:
    """Whether a row tells of these bytes; the time of a file says so as well, unless it has ``moved``."""
    try:
        found = source.stat()
        return row.bytes == found.st_size and ((row.modified == found.st_mtime and not moved) or row.digest == digest(source))
    except OSError:  # the work will say so
        return False


def _chunks(tasks: Iterator[Task]) -> Iterator[list[Task]]:
    """What a process takes at once."""
    chunk: list[Task] = []
    size = names = 0
    for task in tasks:
        with contextlib.suppress(OSError):
            size += os.stat(task.source).st_size
        names += len(os.fsencode(task.source)) + len(os.fsencode(task.target))
        chunk.append(task)
        if len(chunk) == CHUNK or size >= CHUNK_BYTES or names >= CHUNK_NAMES:
            yield chunk
            chunk, size, names = [], 0, 0
    if chunk:
        yield chunk


def results(tasks: Iterator[Task], work: Work, told: bool, count: int) -> Generator[tuple[Task, Result], None, None]:
    """Each task as it is done, in this process or in so many others."""
    if count == 1:
        here = Worker(work, told)
        for number, chunk in enumerate(_chunks(tasks)):
            if not number:
                here.prepare()
            for index, result in here(chunk):
                yield chunk[index], result
        return
    there = Worker(work, told, threads=max(1, pool.cores() // count))
    for task, result in pool.unordered(_chunks(tasks), there, count, say, lambda task: files.remove_temporary(task.target)):
        if isinstance(result, pool.Lost):
            lost = DagnPreError(f"{task.source}: {result.reason}")
            yield task, there.result(task.source, lost, 0.0, _status(task.source) if told else None)
        else:
            yield task, result


def say(text: str) -> None:
    """What a process wrote to its stderr, beside the bar."""
    tqdm.write(text, file=sys.stderr, end="")


def _row(task: Task, result: Result, folder: Path) -> Row:
    from dagn_pre.manifest import Row

    done = result.done
    return Row(
        source=os.path.abspath(task.source),
        output=task.target.relative_to(folder).as_posix() if done else None,
        bytes=result.bytes,
        digest=result.digest,
        quality=done.quality if done else None,
        quality_source=done.quality_source if done else None,
        state=done.state if done else "failed",
        reason=(done.untouched or done.reason) if done else result.failed,
        milliseconds=result.milliseconds,
        modified=result.modified,
    )
