"""Files and trees: which input becomes which output, and one loop that survives bad files."""

from __future__ import annotations

import argparse
import contextlib
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from dagn_pre.errors import ImageWarning, UsageError, printable
from dagn_pre.images import KEPT_SUFFIXES, SUFFIXES, report_failure, search, told_with_examples

Pairs = list[tuple[Path, Path]]


def add_arguments(parser: argparse.ArgumentParser, new_suffix: bool = True) -> None:
    """The arguments that every command from files to files has; ``new_suffix``: of those that write another format."""
    parser.add_argument("sources", nargs="+", type=place, metavar="SRC", help="images and folders")
    parser.add_argument("target", type=place, metavar="DST", help="a file if SRC is one, else a folder; sub-folders are kept")
    parser.add_argument("--overwrite", action="store_true", help="write outputs that exist already anew")
    parser.add_argument("--workers", type=int)  # TODO merge
    if new_suffix:
        parser.add_argument("--full-names", action="store_true", help="in a folder, a.jpg becomes a.jpg.png, not a.png")
        parser.add_argument("--strict-files", action="store_true", help="refuse JPEGs that lack nothing but their end marker")


def place(text: str) -> Path | str:
    """A path, or a URL, which a path would spoil."""
    return text if "://" in text else Path(text)


@dataclass(frozen=True)
class Batch:
    """What a command is going to do: (input, output) pairs, and what of the folder it leaves out, by reason."""

    pairs: Pairs
    left_out: dict[str, tuple[Path, ...]] = field(default_factory=dict)


def exchanged(suffix: str, full_names: bool) -> Callable[[Path], str]:
    """How outputs of that suffix are named: a.jpg becomes a.png, a.heic becomes a.heic.png, and so all with ``full_names``."""

    def name(path: Path) -> str:
        return (path.name if full_names or path.suffix.lower() in KEPT_SUFFIXES else path.stem) + suffix

    return name


def plan(
    sources: Sequence[Path],
    target: Path,
    name: Callable[[Path], str],
    writable: tuple[str, ...],
    readable: frozenset[str] = SUFFIXES,
) -> Batch:
    """Every output, known and checked before anything is written.

    Args:
        sources: images and folders; those that a folder holds keep their place below it.
        target: a file, where the one source is one; else a folder.
        name: of an output in a folder, by its input alone: which other files are there does not matter.
        writable: the suffixes that a single output may have.
        readable: suffixes of a folder's inputs.

    Raises:
        UsageError: no such input, a folder without images, a target of the other kind or of a suffix not in ``writable``, two
            inputs with one output, an output that would replace an input or be an input of the next run.
    """
    for given in (*sources, target):
        if isinstance(given, str):
            raise UsageError(f"{given}: dagn-pre restore goes to storage with --cluster, and no other command does")
    for source in sources:
        if not source.is_file() and not source.is_dir():
            raise UsageError(f"{source}: no such file or folder")
    several = len(sources) > 1
    if not several and sources[0].is_file() and not target.is_dir():
        if target.suffix.lower() not in writable:
            raise UsageError(f"{target}: give a folder that exists, or a file ending in {', '.join(writable)}")
        return Batch(_checked([(sources[0], target)]))
    if several and not target.is_dir() and (target.exists() or target.suffix.lower() in writable):
        raise UsageError(f"{target}: several inputs need a folder, as the last argument")
    if target.is_file():
        raise UsageError(f"{target} is a file, but {sources[0]} is a folder")
    pairs: Pairs = []
    left_out: defaultdict[str, tuple[Path, ...]] = defaultdict(tuple)
    others: dict[Path, Path] = {}  # folders of inputs in which no output may lie
    for source in sources:
        if source.is_file():
            pairs.append((source, target / name(source)))
            continue
        found = search(source, readable)
        inputs = list(found.paths)
        if source.resolve() in target.resolve().parents:  # what an earlier run wrote is no input
            inputs = [path for path in found.paths if target.resolve() not in path.resolve().parents]
        else:
            others[source.resolve()] = source
        if not inputs:
            raise UsageError(f"{source}: no images in it ({', '.join(sorted(readable))})")
        pairs += [(path, target / path.parent.relative_to(source) / name(path)) for path in inputs]
        for reason, paths in found.left_out.items():
            left_out[reason] += paths
    for path, output in pairs:
        for root in _resolved(output).parents:
            if root in others:
                raise UsageError(
                    f"{path} would be written to {output}, among the inputs of {others[root]}: choose a folder outside it"
                )
    return Batch(_checked(pairs), dict(left_out))


def _resolved(path: Path) -> Path:
    """By its folder: a link in its place would be replaced, not followed."""
    return path.parent.resolve() / path.name


def _checked(pairs: Pairs) -> Pairs:
    """The pairs, if each output is one input's alone, and no input; an input that was given twice is one."""
    owners: dict[Path, Path] = {}
    once: Pairs = []
    for source, target in pairs:
        if target.exists() and os.path.samefile(source, target):
            raise UsageError(f"{source}: input and output are the same file")
        if target.is_dir():
            raise UsageError(f"{source} would be written to {target}, which is a folder")
        other = owners.setdefault(_resolved(target), source)
        if other is source:
            once.append((source, target))
        elif _resolved(other) != _resolved(source):
            remedy = "rename one" if other.name == source.name else "rename one, or give --full-names"
            raise UsageError(f"{other} and {source} would both be written to {target}: {remedy}")
    inputs = {_resolved(source): source for source, _ in pairs}
    for target, source in owners.items():
        if target in inputs:
            raise UsageError(f"{source} would be written over {inputs[target]}, which is an input too")
        for folder in target.parents:
            if folder in owners:
                raise UsageError(f"{owners[folder]} would be written to {folder}, where {source} needs a folder")
    return once


@dataclass(frozen=True)
class Done:
    """What became of one input: how it is counted, the names of metadata that could not be kept, and why its pixels were."""

    counted: str = "written"
    lost: tuple[str, ...] = ()
    untouched: str | None = None


def run(planned: Batch, work: Callable[[Path, Path], Done], overwrite: bool) -> int:
    """Call ``work(input, output)`` for each pair, skipping outputs that exist; a bad file is reported and the others go on.

    What was left untouched, what could not be kept, and what was left out, is said in the summary, once.

    Returns:
        1 if any file failed, else 0.

    Raises:
        UsageError: from ``work``, which would be so for every file.
    """
    counts: Counter[str] = Counter()
    lost: defaultdict[str, list[Path]] = defaultdict(list)
    untouched: defaultdict[str, list[Path]] = defaultdict(list)
    for source, target in tqdm(planned.pairs, unit="image", disable=len(planned.pairs) == 1):
        if target.exists() and not overwrite:
            counts["skipped (exists already; --overwrite to redo)"] += 1
            continue
        try:
            with told_warnings(source):
                done = work(source, target)
        except UsageError:
            raise
        except Exception as error:  # whatever a decoder or a writer runs into
            report_failure(source, error)
            counts["failed"] += 1
        else:
            counts[done.counted] += 1
            for name in done.lost:
                lost[name].append(source)
            if done.untouched:
                untouched[done.untouched].append(source)
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    if untouched:
        print(printable(told_with_examples("left as they are", untouched)))
    if lost:
        print(printable(told_with_examples("metadata not kept", lost)))
    if planned.left_out:
        print(printable(told_with_examples("left out", planned.left_out)))
    return 1 if counts["failed"] else 0


@contextlib.contextmanager
def told_warnings(source: Path) -> Iterator[None]:
    """Say each warning about an image in one line that names the file."""
    usual = warnings.formatwarning

    def line(message, category, *where, **more) -> str:
        if not issubclass(category, ImageWarning):
            return usual(message, category, *where, **more)
        text = str(message) if str(source) in str(message) else f"{source}: {message}"
        return printable(f"warning: {text}") + "\n"

    with warnings.catch_warnings():
        warnings.simplefilter("once", ImageWarning)
        warnings.formatwarning = line
        try:
            yield
        finally:
            warnings.formatwarning = usual
