"""``dagn-pre models``."""

from __future__ import annotations

import argparse
import json
import sys

HELP = "List the models: source, parameters, cost, weights, and what each is told about the quality (--json: with their cards)."
EXAMPLE = "dagn-pre models --json"
QUALITY = {  # (blind, told)
    (False, False): "one for all",
    (True, False): "blind",
    (False, True): "one for all, told",
    (True, True): "blind or told",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON list, one object per model")


def run(options: argparse.Namespace) -> int:
    from dagn_pre import models

    rows = [row(name) for name in models.names()]
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    head = ("name", "parameters", "thop (G)", "quality", "needs", "weights", "licence", "source", "")
    lines = [head, *(cells(one) for one in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    for line in lines:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(line, widths)), line[-1]]).rstrip())
    return 0


def row(name: str) -> dict:
    """All that is known of a model; None for what cannot be told here."""
    import torch

    from dagn_pre import models, weights
    from dagn_pre.errors import DagnPreError

    model = models.get(name)
    files = model.files()
    found = {
        "name": name,
        "description": model.description,
        "source": model.source or None,
        "parameters": None,
        "thop_macs_512": None,
        "blind": None,
        "told": model.quality_override,
        "per_qf": model.per_quality,
        "needs": model.needs,
        "licence": model.licence or None,
        "weights": [path.name for path in files] or None,
        "weights_mb": round(sum(path.stat().st_size for path in files) / 1e6, 1) if files else None,
        "ready": model.ready(),
        "card": weights.read_metadata(files[0]).card if model.config is not None and files else None,
    }
    try:
        with torch.device("meta"):
            network = models.network(name)
        found["parameters"] = sum(parameter.numel() for parameter in network.parameters())
        found["blind"] = model.config.blind if model.config is not None else bool(getattr(network, "blind", False))
        if found["parameters"] and model.thop:
            found["thop_macs_512"] = models.thop_macs(name)
    except DagnPreError:  # an extra is missing; the row says so by what it lacks
        pass
    except Exception as error:  # another package's model
        print(f"warning: model {name!r} cannot be built: {type(error).__name__}: {error}", file=sys.stderr)
    return found


def cells(found: dict) -> tuple[str, ...]:
    size, macs = found["parameters"], found["thop_macs_512"]
    quality = "one per QF" if found["per_qf"] else QUALITY[bool(found["blind"]), bool(found["told"])]
    if found["weights"]:
        weights = f"{found['weights_mb']} MB"
    else:
        weights = "none needed" if found["ready"] else "not here"
    return (
        found["name"],
        "?" if size is None else f"{size / 1e6:.2f} M" if size else "-",
        f"{macs / 1e9:.1f}" if macs else "-",
        quality,
        found["needs"],
        weights,
        found["licence"] or "-",
        found["source"] or "-",
        found["description"],
    )
