"""``dagn-pre models``."""

from __future__ import annotations

import argparse
import json

HELP = "List the models: parameters, cost, and whether their weights are here (--json: with their cards)."
EXAMPLE = "dagn-pre models --json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON list, one object per model")


def run(options: argparse.Namespace) -> int:
    from dagn_pre import models

    rows = []
    for name in models.names():
        model = models.get(name)
        here = model.weights.is_file()
        parameters, macs = models.cost(model.config)
        rows.append(
            {
                "name": name,
                "description": model.description,
                "parameters": parameters,
                "gmac_512": round(macs / 1e9, 1),
                "weights": model.weights.name if here else None,
                "weights_mb": round(model.weights.stat().st_size / 1e6, 1) if here else None,
                "card": models.read_metadata(model.weights)["card"] if here else None,
            }
        )
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        weights = f"{row['weights_mb']} MB" if row["weights"] else "no weights here"
        size = f"{row['parameters'] / 1e6:.1f} M parameters, {row['gmac_512']} GMAC at 512x512"
        print(f"{row['name']:10} {size}, {weights}; {row['description']}")
    return 0
