#!/usr/bin/env python
"""Mutated image files through ``dagn-pre restore``, ``inspect`` and ``DAGNRestore``, in processes of their own.

    tools/fuzz.py --count 100000 --seed 1 --processes 2

Every file is made from a seed: number N of seed S is always the same one, and ``--only N`` makes and runs it alone. What
must not happen is an exception that leaves a command or is no ImageError, a crash, more than 20 seconds or 2 GB for a file, an
output that is not whole, and anything beside outputs in their folder. Pictures that claim more than 4 megapixels are refused
here, so that a mutated size is not taken for a hang.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import io
import json
import multiprocessing
import struct
import sys
import tempfile
import time
import traceback
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

SECONDS = 20
MEMORY = 2 * 1024**3
PIXELS = 4_000_000
PER_TASK = 50
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta>'


@functools.lru_cache
def seeds() -> dict[str, bytes]:
    """A small picture in every format, by suffix and kind, with all the metadata that Pillow writes there."""
    y, x = np.mgrid[:32, :48]
    rgb = np.stack([128 + 90 * np.sin(x / 5), 128 + 90 * np.cos(y / 4), (x * y) % 200], 2)
    noise = np.random.default_rng(0).normal(0, 9, rgb.shape)
    picture = Image.fromarray((rgb + noise).clip(0, 255).astype(np.uint8))
    exif = Image.Exif()
    exif.update(
        {0x0112: 6, 0x010F: "Maker", 0x0110: "Model", 0x011A: 300.0, 0x011B: 300.0, 0x0128: 2, 0x0132: "2024:01:01 00:00:00"}
    )
    exif.get_ifd(0x8769).update({0x829A: 0.01, 0x927C: bytes(64), 0x9286: b"ASCII\0\0\0comment"})
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 0.0)})
    shared = {"exif": exif.tobytes(), "icc_profile": bytes(range(128)) * 3}
    text = PngImagePlugin.PngInfo()
    text.add_text("Title", "a title")
    text.add_text("Comment", "a comment", zip=True)
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    for name, data in (
        (b"gAMA", struct.pack(">L", 45455)),
        (b"cHRM", struct.pack(">8L", *[31270, 32900] * 4)),
        (b"sRGB", b"\0"),
    ):
        text.add(name, data)
    iptc = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\x0a" + b"\x1c\x02\x78\0\x05hello"
    extra = b"\xff\xed" + struct.pack(">H", len(iptc) + 2) + iptc
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.update({270: "description", 700: XMP, 33723: b"\x1c\x02\x78\0\x05hello"})
    alpha, palette = picture.convert("RGBA"), picture.quantize(16)
    alpha.putalpha(99)
    made = {
        "jpg baseline": (
            picture,
            {"quality": 20, "xmp": XMP, "comment": b"hello", "dpi": (300, 300), "extra": extra, **shared},
        ),
        "jpg progressive": (picture, {"quality": 20, "progressive": True, "xmp": XMP, **shared}),
        "jpg gray": (picture.convert("L"), {"quality": 20, "restart_marker_rows": 1}),
        "png": (picture, {"pnginfo": text, "dpi": (72, 72), **shared}),
        "png palette": (palette, {"transparency": 3, "pnginfo": text}),
        "png alpha": (alpha, {"exif": shared["exif"]}),
        "webp": (picture, {"quality": 30, "xmp": XMP, **shared}),
        "webp lossless": (alpha, {"lossless": True, "xmp": XMP, **shared}),
        "tif": (picture, {"tiffinfo": tags, "dpi": (300, 300)}),
        "tif deflate": (alpha, {"compression": "tiff_adobe_deflate", "icc_profile": shared["icc_profile"]}),
        "tif jpeg": (picture, {"compression": "jpeg", "quality": 30}),
        "gif": (palette, {"comment": b"hello", "transparency": 2}),
        "avif": (picture, {"quality": 30, "speed": 10, "xmp": XMP, **shared}),
    }
    found = {}
    for name, (image, options) in made.items():
        buffer = io.BytesIO()
        image.save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(name[:3], name.split()[0]), **options)
        found[name] = buffer.getvalue()
    return found


def mutated(seed: int, number: int) -> tuple[str, bytes]:
    """(kind, bytes) of one file: always the same for the same numbers."""
    rng = np.random.default_rng([seed, number])
    kinds = sorted(seeds())
    kind = kinds[rng.integers(len(kinds))]
    data = bytearray(seeds()[kind])
    # Half of them within what comes first: headers and metadata, of which most formats' failures are.
    reach = min(len(data), 1500) if rng.random() < 0.5 else len(data)
    for _ in range(int(rng.geometric(0.35))):
        place, length = int(rng.integers(reach)), int(rng.geometric(0.1))
        match rng.integers(8):
            case 0:
                data[place] ^= 1 << int(rng.integers(8))
            case 1:
                data[place] = rng.integers(256)
            case 2:
                data[place : place + length] = rng.bytes(len(data[place : place + length]))
            case 3:
                del data[place : place + length]
            case 4:
                data[place:place] = rng.bytes(length)
            case 5:
                data[place:place] = data[place : place + length]
            case 6:  # numbers that parsers stumble over
                size, order = int(rng.choice([1, 2, 4])), str(rng.choice(["big", "little"]))
                data[place : place + size] = int(rng.choice([0, 1, 127, 128, 255, 65535, 2**31 - 1, 2**32 - 1])).to_bytes(
                    8, order
                )[-size:]
            case 7:
                if rng.random() < 0.3:
                    del data[place:]
        reach = max(1, min(reach, len(data)))
        if not data:
            break
    if kind.startswith("png") and rng.random() < 0.7:
        data = mended(bytes(data))
    return kind, bytes(data)


def mended(png: bytes) -> bytes:
    """With right checksums, so that decoders look further."""
    parts, position = [png[:8]], 8
    while position + 12 <= len(png):
        length = int.from_bytes(png[position : position + 4], "big")
        content = png[position + 4 : position + 8 + length]
        parts.append(png[position : position + 4] + content + struct.pack(">L", zlib.crc32(content)))
        position += 12 + length
    return b"".join([*parts, png[position:]])


def check(numbers: range, seed: int, current, folder: Path) -> dict:
    """Run some files; {"failures": [...], "counts": {...}}. ``current``: what the watchdog reads, (number, its start)."""
    from dagn_pre import images
    from dagn_pre.cli.main import main
    from dagn_pre.errors import ImageError

    images.MAX_PIXELS = PIXELS
    counts: collections.Counter[str] = collections.Counter()
    failures = []
    step = _transform()
    for number in numbers:
        current[0], current[1] = number, time.time()
        forget_peak_memory()
        kind, data = mutated(seed, number)
        place = folder / str(number)
        source, target = place / "in", place / "out"
        source.mkdir(parents=True)
        path = source / f"{number}.{kind.split()[0]}"
        path.write_bytes(data)
        told, peak = io.StringIO(), 0
        try:
            with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
                status = main(["restore", str(source), str(target), "--device", "cpu", "--max-quality", "none"])
                main(["inspect", str(path), "--json", "--device", "cpu"])
                outputs = [one for one in target.iterdir() if one.is_file()] if target.is_dir() else []  # not the manifest
                if status == 0 and [one.name for one in outputs] != [output_name(path)]:
                    failures.append((number, kind, f"written, but there are {outputs}"))
                if status == 1 and (outputs or "failed: " not in told.getvalue()):
                    failures.append((number, kind, f"failed, but there are {outputs}: {told.getvalue()}"))
                if status not in (0, 1):
                    failures.append((number, kind, f"status {status}: {told.getvalue()}"))
                for output in outputs:
                    Image.open(output).load()
                counts[f"{kind.split()[0]} {'restored' if status == 0 else 'refused'}"] += 1
                peak = peak_memory()
                try:
                    step(path, data)
                except ImageError:
                    counts["transform refused"] += 1
        except BaseException:
            failures.append((number, kind, traceback.format_exc()))
        if max(peak, peak_memory()) > MEMORY:
            failures.append((number, kind, f"{max(peak, peak_memory()) / 1024**3:.1f} GB"))
        for one in sorted(place.rglob("*"), reverse=True):
            one.unlink() if one.is_file() else one.rmdir()
        place.rmdir()
    current[0] = -1
    return {"failures": failures, "counts": dict(counts)}


def peak_memory() -> int:
    """Bytes that this process has held at most, since :func:`forget_peak_memory`."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def forget_peak_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def output_name(path: Path) -> str:
    """How ``restore`` names the output of an input."""
    from dagn_pre.cli.listing import exchanged

    return exchanged(".png", False)(path)


def _transform():
    """A function that runs DAGNRestore as a pipeline would, on what OpenCV makes of the file, or on pixels from elsewhere."""
    import cv2

    from dagn_pre.integrations.openmmlab import DAGNRestore

    restore = DAGNRestore(max_quality=None)

    def run(path: Path, data: bytes) -> None:
        image = None
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
        forget_peak_memory()  # OpenCV's: it believes a PNG's chunk that claims gigabytes
        if image is None or image.size > 3 * PIXELS:
            image = np.zeros((32, 48, 3), np.uint8)
        restore({"img": image, "img_path": str(path), "img_shape": image.shape[:2], "ori_shape": image.shape[:2]})

    return run


def work(seed: int, tasks, results, current) -> None:
    """A process: takes ranges of numbers until there are none."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        while (numbers := tasks.get()) is not None:
            results.put(check(numbers, seed, current, Path(folder)))


def run(count: int, seed: int, processes: int, start: int = 0) -> tuple[dict[str, int], list[tuple[int, str, str]]]:
    """So many files: (how many there were of each kind and outcome, failures as (number, kind, what happened))."""
    context = multiprocessing.get_context("spawn")
    tasks, results = context.Queue(), context.Queue()
    waiting = [range(first, min(first + PER_TASK, start + count)) for first in range(start, start + count, PER_TASK)]
    for numbers in waiting:
        tasks.put(numbers)
    for _ in range(processes):
        tasks.put(None)

    def begin():
        current = context.Array("d", [-1, time.time()])
        process = context.Process(target=work, args=(seed, tasks, results, current))
        process.start()
        return process, current

    crew = [begin() for _ in range(processes)]
    counts: collections.Counter[str] = collections.Counter()
    failures: list = []
    done = 0
    while any(process.is_alive() for process, _ in crew) or not results.empty():
        with contextlib.suppress(Exception):
            found = results.get(timeout=1)
            counts.update(found["counts"])
            failures += found["failures"]
            done += 1
            print(f"{done}/{len(waiting)} tasks, {len(failures)} failures", file=sys.stderr, end="\r")
        for index, (process, current) in enumerate(crew):
            number, since = int(current[0]), current[1]
            hangs = number >= 0 and process.is_alive() and time.time() - since > SECONDS
            if hangs:
                process.kill()
                process.join()
            if hangs or (process.exitcode not in (None, 0)):
                failures.append((number, mutated(seed, number)[0], "hangs" if hangs else f"ended with {process.exitcode}"))
                crew[index] = begin()
    return dict(counts), failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="number of the first file")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", type=int, metavar="N", help="write file N to the current folder, and run it")
    options = parser.parse_args()
    if options.only is not None:
        kind, data = mutated(options.seed, options.only)
        path = Path(f"fuzz-{options.seed}-{options.only}.{kind.split()[0]}")
        path.write_bytes(data)
        print(path, kind)
        options.start, options.count = options.only, 1
    counts, failures = run(options.count, options.seed, options.processes, options.start)
    print(json.dumps({"seed": options.seed, "count": options.count, "counts": dict(sorted(counts.items()))}, indent=1))
    for number, kind, reason in failures:
        print(f"failure: {number} ({kind}): {reason}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
