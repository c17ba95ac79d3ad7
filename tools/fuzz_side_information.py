#!/usr/bin/env python
"""Mutated files with side information: none may crash, and none may restore worse than without it
(tools/fuzz.py asks of any image file that it ends nothing).

    tools/fuzz_side_information.py --count 10000
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from dataclasses import replace

import numpy as np
from tqdm import trange

from dagn_pre.errors import DagnPreError
from dagn_pre.restorer import Restorer
from dagn_pre.side_information import SideInformationEncoder, adapter, segment


def mutated(file: bytes, rng: np.random.Generator) -> bytes:
    """One of: bits flipped anywhere or in our segment, a piece cut out or doubled, a length or size that lies, the end cut."""
    data = bytearray(file)
    start = file.index(segment.IDENTIFIER) - 4
    stop = start + 2 + int.from_bytes(file[start + 2 : start + 4], "big")
    kind = rng.integers(7)
    if kind == 6:
        return _forged(file, rng)
    if kind <= 1:
        first, last = (0, len(data)) if kind == 0 else (start, stop)
        for place in rng.integers(first, last, rng.integers(1, 6)):
            data[place] ^= 1 << rng.integers(8)
    elif kind == 2:
        first, last = sorted(rng.integers(start, stop, 2))
        del data[first:last]
    elif kind == 3:
        first, last = sorted(rng.integers(start, stop, 2))
        data[first:first] = data[first:last]
    elif kind == 4:
        place = start + (2 if rng.random() < 0.5 else rng.integers(9, 20))
        data[place : place + 2] = rng.bytes(2)
    else:
        del data[rng.integers(2, len(data)) :]
    return bytes(data)


def _forged(file: bytes, rng: np.random.Generator) -> bytes:
    """Another message with a right checksum: other weights, a size that lies, other symbols, more or fewer bytes of them."""
    message = segment.Layout.of(file).message()
    changes = (
        {"model": rng.bytes(4)},
        {"rows": int(rng.integers(65536)), "columns": int(rng.integers(65536))},
        {"coded": rng.bytes(len(message.coded))},
        {"coded": rng.bytes(int(rng.integers(100_000)))},
        {"coded": b"\xff" * len(message.coded)},
    )
    return segment.embed(file, replace(message, **changes[rng.integers(len(changes))]))


def check(restorer: Restorer, plain: Restorer, carrier: bytes, count: int, seed: int = 0) -> dict[str, int]:
    """Restore ``count`` mutated files with and without regard to their side information.

    Returns:
        how many were {"refused" (by both), "plain" (the same pixels from both), "used" (the side information could be)}.

    Raises:
        AssertionError: a file that only one of them refuses, or other pixels although the side information is of no use.
    """
    rng = np.random.default_rng(seed)
    outcomes = dict.fromkeys(("refused", "plain", "used"), 0)
    for number in trange(count, disable=count < 1000):
        file = mutated(carrier, rng)
        found, expected = outcome(restorer, file), outcome(plain, file)
        if isinstance(found, str) or isinstance(expected, str):
            same = isinstance(found, str) and isinstance(expected, str) and found == expected
            assert same, f"mutation {number}: {found!r}, without side information {expected!r}"
            outcomes["refused"] += 1
            continue
        try:
            usable = adapter.read(file, restorer.adapters, *found.shape[:2]) is not None
        except segment.SegmentError:
            usable = False
        assert usable or np.array_equal(found, expected), f"mutation {number}: other pixels"
        outcomes["used" if usable else "plain"] += 1
    return outcomes


def outcome(restorer: Restorer, file: bytes) -> np.ndarray | str:
    """Restored pixels, or the error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            return restorer(file)
        except DagnPreError as error:
            return str(error)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--model", default="dagn-s-psnr")
    parser.add_argument("--side-weights", help="of side information; default: the shipped ones")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        encoder = SideInformationEncoder(options.model, weights=options.side_weights)
        restorer = Restorer(options.model, side_information=options.side_weights or True)
    except DagnPreError as error:
        print(error, file=sys.stderr)
        return 1
    plain = Restorer(options.model, side_information=False)
    image = np.random.default_rng(0).normal(128, 40, (6, 8, 3)).clip(0, 255).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    print(json.dumps(check(restorer, plain, encoder.encode(image, 20), options.count, options.seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
