"""``dagn-pre cache``."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path

HELP = "Look at a cache of images (cache_dir of the pipeline steps), shrink it, or read all of it for damage."
EXAMPLE = "dagn-pre cache prune work_dirs/cache --size 5GB --older-than 30d"

SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (
        ("info", "show how many entries of which kind there are, their bytes, the bound, and when they were last used"),
        ("prune", "remove entries, those least recently used first, and what killed writers left"),
        ("verify", "read every entry and remove the damaged; exit status 1 if there were any"),
    ):
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        action.add_argument("folder", type=Path, metavar="DIR", help="the cache")
        action.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error")
        if name == "info":
            action.add_argument("--json", action="store_true", help="print a JSON object")
        if name == "prune":
            action.add_argument("--size", help="what may stay, in bytes or like 5GB or 500MB")
            action.add_argument("--older-than", metavar="AGE", help="remove what was not used for so long: 90m, 12h, 30d, 8w")
            action.add_argument("--all", action="store_true", help="remove every entry")
            action.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def run(options: argparse.Namespace) -> int:
    from dagn_pre.cache import Cache

    return {"info": _info, "prune": _prune, "verify": _verify}[options.action](Cache.existing(options.folder), options)


def _info(cache, options: argparse.Namespace) -> int:
    from datetime import datetime

    from dagn_pre.cache import KINDS

    entries = list(cache.entries())
    used = [datetime.fromtimestamp(when).isoformat(" ", "seconds") for when in sorted(entry.used for entry in entries)]
    kinds = {kind: [entry.size for entry in entries if entry.kind == kind] for kind in KINDS}
    found = {
        "folder": str(cache.folder),
        "entries": len(entries),
        "bytes": sum(entry.size for entry in entries),
        "bound": cache.bound(),
        "kinds": {kind: {"entries": len(sizes), "bytes": sum(sizes)} for kind, sizes in kinds.items()},
        "oldest_use": used[0] if used else None,
        "newest_use": used[-1] if used else None,
    }
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    bound = f"of at most {_bytes(found['bound'])}" if found["bound"] else "(no bound yet: nothing was written)"
    print(f"{cache.folder}: {len(entries)} entries, {_bytes(found['bytes'])} {bound}")
    for kind, sizes in kinds.items():
        print(f"  {kind:10} {len(sizes):8} entries {_bytes(sum(sizes)):>10}")
    if used:
        print(f"  last used between {used[0]} and {used[-1]}")
    return 0


def _prune(cache, options: argparse.Namespace) -> int:
    from dagn_pre.cache import parse_size
    from dagn_pre.errors import UsageError

    if not options.all and options.size is None and options.older_than is None:
        raise UsageError("say what to remove: --size, --older-than or --all")
    size = options.size
    if size is not None:
        size = parse_size(int(size) if re.fullmatch("[0-9]{1,18}", size) else size)
    age = _age(options.older_than) if options.older_than is not None else None
    if options.all and (size is not None or age is not None):
        raise UsageError("--all removes every entry, whatever --size and --older-than say: give it alone")
    failures: list[str] = []
    gone = cache.prune(0 if options.all else size, age, options.dry_run, _failing(failures))
    paths = {entry.path for entry in gone}
    left = [entry for entry in cache.entries() if entry.path not in paths]
    would = "would remove" if options.dry_run else "removed"
    print(
        f"{cache.folder}: {would} {len(gone)} entries, {_bytes(sum(entry.size for entry in gone))}; "
        f"{len(left)} stay, {_bytes(sum(entry.size for entry in left))}"
    )
    return 1 if failures else 0


def _verify(cache, options: argparse.Namespace) -> int:
    failures: list[str] = []
    whole, damaged, leftovers = cache.verify(_failing(failures))
    for path in damaged:
        print(f"damaged, removed: {path}")
    print(f"{cache.folder}: {whole} entries are whole, {len(damaged)} were damaged")
    if leftovers:
        print(f"leftovers of killed writers, removed: {len(leftovers)}")
    return 1 if damaged or failures else 0


def _failing(failures: list[str]) -> Callable[[Path, OSError], None]:
    """What names a file that fails, and adds it to ``failures``."""
    from dagn_pre.progress import report_failure

    return lambda path, error: failures.append(report_failure(path, error))


def _age(text: str) -> float:
    from dagn_pre.errors import UsageError

    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([mhdw])\s*", text)
    if not match:
        raise UsageError(f"--older-than takes a number of minutes, hours, days or weeks like 90m, 12h, 30d or 8w, not {text!r}")
    return float(match[1]) * SECONDS[match[2]]


def _bytes(count: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("KB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"
