"""results.csv and comparisons.csv: for spreadsheets and data frames."""

from __future__ import annotations

import csv
import io

from dagn_pre.benchmarks.downstream.panels import IDENTITY, Run, verdict


def rows(run: Run) -> str:
    """One line per row of results.json with all its single values; per-class scores stay in results.json."""
    return text(run.content["rows"])


def comparisons(run: Run) -> str:
    """One line per comparison of a restorer with JPEG, with the harm check's verdict; the header alone where there is none."""
    found = [{**entry, "verdict": verdict(entry)} for entry in run.content.get("comparisons", [])]
    return text(found, IDENTITY)


def text(entries: list[dict], always: tuple[str, ...] = ()) -> str:
    """Entries as CSV; columns are the keys with single values, in the order they come."""
    flat = [{key: value for key, value in entry.items() if not isinstance(value, dict | list)} for entry in entries]
    columns = list(dict.fromkeys([*always, *(key for entry in flat for key in entry)]))
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()
