"""Table V and Fig. 13 of Ma et al., TIP 2024: one training per row at one equal budget and seed, measured on test images.

    dagn-pre train dagn-s/ablation --work-dir work_dirs/ablation

An ablation's config is a joint config with ``rows``, {name: {key: value}}, and what to measure on. Stages that rows have in
common are trained once; a folder is named by the hash of its stage's settings and of the stages before it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.config import Config

from dagn_pre import codec, metrics
from dagn_pre.files import write_atomic
from dagn_pre.restorer import Restorer
from dagn_pre.training import checkpoint
from dagn_pre.training.configuration import read_config, split
from dagn_pre.training.data import load_photographs
from dagn_pre.training.export import export
from dagn_pre.training.sequence import train_stages

OWN_KEYS = ("rows", "evaluation", "evaluation_qualities", "evaluation_images")


def measure(restorer: Restorer | None, images: Sequence[np.ndarray], qualities: Sequence[int]) -> dict[str, list[float]]:
    """{QF: [mean PSNR, mean PSNR-B]} in dB of JPEG 4:2:0, restored unless ``restorer`` is None."""
    means = {}
    for quality in qualities:
        figures = []
        for image in images:
            output = codec.compress(image, quality)
            output = output if restorer is None else restorer(output)
            figures.append((metrics.psnr(output, image), metrics.psnr_b(output, image)))
        means[str(quality)] = np.mean(figures, axis=0).tolist()
    return means


def table(rows: list[dict], images: int) -> str:
    """Markdown: a line per row, PSNR / PSNR-B per QF."""
    qualities = list(rows[0]["results"])
    lines = [f"PSNR / PSNR-B in dB, mean over {images} images; steps of the three stages.", ""]
    lines += ["| | steps | " + " | ".join(f"QF {quality}" for quality in qualities) + " |"]
    lines += ["|---|---|" + "---|" * len(qualities)]
    for row in rows:
        cells = [f"{psnr:.2f} / {psnr_b:.2f}" for psnr, psnr_b in row["results"].values()]
        lines.append(f"| {row['name']} | {' + '.join(map(str, row['steps']))} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def ablation(name: str | Path, work_dir: str | Path, options: dict | None = None) -> Path:
    """Train and measure every row that ``work_dir/table.json`` does not hold yet; rewrite it and ``table.md`` after each.

    Returns:
        ``work_dir/table.md``.

    Raises:
        UsageError, ConfigError, WeightsError, TrainingError: as :func:`dagn_pre.training.run.train`; finished rows are kept.
    """
    work_dir = Path(work_dir)
    config, path = read_config(name)
    config.merge_from_dict(options or {})
    rows, folder, qualities, limit = (config.pop(key) for key in OWN_KEYS)
    images = load_photographs([folder], 16)[0][:limit]
    data = hashlib.sha256(b"".join(image.tobytes() for image in images)).hexdigest()
    file, page = work_dir / "table.json", work_dir / "table.md"
    known = {row["hash"]: row for row in json.loads(file.read_text())["rows"]} if file.is_file() else {}
    done: list[dict] = []

    def keep(name: str, key: str, steps: list[int], work: Callable[[], Restorer | None]) -> None:
        key = hashlib.sha256(f"{key} {data} {qualities}".encode()).hexdigest()
        if key not in known:
            started = time.monotonic()
            restorer = work()
            minutes = (time.monotonic() - started) / 60
            known[key] = {"hash": key, "steps": steps, "minutes": minutes, "results": measure(restorer, images, qualities)}
        done.append({"name": name, **known[key]})
        rest = [row for key, row in known.items() if key not in {row["hash"] for row in done}]  # of an earlier, longer run
        write_atomic(file, json.dumps({"n_images": len(images), "rows": done + rest}, indent=1).encode())
        write_atomic(page, table(done, len(images)).encode())

    keep("JPEG", "", [], lambda: None)
    for row, changes in rows.items():
        own = copy.deepcopy(config)
        own.merge_from_dict(dict(changes))
        stages = split(own, path)
        folders, before = {}, ""
        for stage, settings in stages.items():
            digest = checkpoint.config_hash(json.dumps(settings.to_dict()))
            if settings.stage == "dagn":  # the encoders do not depend on each other
                digest = hashlib.sha256((before + digest).encode()).hexdigest()
            before += digest
            folders[stage] = work_dir / f"{stage}-{digest[:12]}"
        keep(row, digest, [settings.steps for settings in stages.values()], partial(trained, stages, folders))
    return page


def trained(stages: dict[str, Config], folders: dict[str, Path]) -> Restorer:
    """Train what is not there yet; the result restores whatever it is given."""
    last = train_stages(stages, folders, resume=True)
    return Restorer(str(export(last, last.parent / "weights.safetensors")), max_quality=None)
