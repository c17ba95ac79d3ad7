"""How long restoring one picture takes beside a host model's own step: models and engines take turns with it in one process."""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope

from dagn_pre import Restorer, models
from dagn_pre.benchmarks import environment
from dagn_pre.benchmarks.downstream.hosts import configs
from dagn_pre.benchmarks.markdown import aligned
from dagn_pre.defaults import MODEL
from dagn_pre.errors import ConfigError, UsageError
from dagn_pre.integrations.openmmlab.deferred import type_name
from dagn_pre.integrations.openmmlab.insert.plan import pipelines
from dagn_pre.integrations.openmmlab.teachers import build, scope_of

SIZE = (480, 640)  # height, width
NOTES = (
    "Restoring: one picture, array to array, QF known, warm; a step: the host's test_step on the same picture after its own "
    "pipeline, random weights. Threads and precision are the same for both; all take turns, and ratios are medians over turns.",
)
DTYPES = "float32", "bfloat16", "int8"


def compare(
    sources: Sequence[str],
    restorers: Sequence[str | Path] = (MODEL,),
    engines: Sequence[str] = ("torch",),
    dtype: str = "float32",
    size: tuple[int, int] = SIZE,
    rounds: int = 7,
) -> dict:
    """Time each restorer on each engine, and each host's step, on the CPU.

    Args:
        sources: configs, as of ``bench run``.
        restorers: models' names or weights files.
        engines: of :data:`dagn_pre.engines.ENGINES`.
        dtype: "float32" or "bfloat16", of restorers and, by autocast, of hosts; or "int8" of restorers, hosts in float32.
        size: height and width of the picture in pixels.
        rounds: turns, after one that is not counted.

    Returns:
        {"rows": [{"restorer", "engine", "ms", "beside": {host: ratio of its step}}], "hosts": {host: ms of its step},
        "float32": the hosts that cannot do with half precision, "settings", "environment"}.

    Raises:
        UsageError: an unknown config, model or engine, an engine that is not installed or cannot run a model, no round.
        ConfigError: a config that cannot be read, or has no test pipeline.
        WeightsError: weights that are missing or damaged.
    """
    if rounds < 1:
        raise UsageError(f"rounds must be at least 1, not {rounds}")
    if dtype not in DTYPES:
        raise UsageError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype}")
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    calls: dict[tuple[str, ...], Callable[[], object]] = {}
    whole: list[str] = []
    for source in sources:
        calls["host", source], half = step(source, image, dtype)
        if dtype != "float32" and not half:
            whole.append(source)
    for restorer, engine in itertools.product(restorers, engines):
        calls["restorer", models.get(restorer).name, engine] = restoring(restorer, engine, image, dtype)
    times: dict[tuple[str, ...], list[float]] = {key: [] for key in calls}
    for turn in range(1 + rounds):
        for key, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                times[key].append(1000 * (time.perf_counter() - start))
    rows = []
    for key, own in times.items():
        if key[0] == "host":
            continue
        beside = {
            source: round(statistics.median(mine / its for mine, its in zip(own, times["host", source])), 3)
            for source in sources
        }
        rows.append({"restorer": key[1], "engine": key[2], "ms": round(statistics.median(own), 1), "beside": beside})
    hosts = {source: round(statistics.median(times["host", source]), 1) for source in sources}
    settings = {"dtype": dtype, "size": list(size), "rounds": rounds, "threads": torch.get_num_threads()}
    found = {"rows": rows, "hosts": hosts, "float32": whole, "settings": settings}
    return {**found, "environment": environment.describe("cpu")}


def restoring(model: str | Path, engine: str, image: np.ndarray, dtype: str) -> Callable[[], object]:
    restorer = Restorer(model, "cpu", max_quality=None, engine=engine, dtype=dtype)
    return lambda: restorer(image, quality=10)


def step(source: str, image: np.ndarray, dtype: str) -> tuple[Callable[[], object], bool]:
    """A host's ``test_step`` on a picture, which its pipeline has prepared; and whether it is in half precision: some hosts'
    operations, such as mmcv's RoIAlign on the CPU, have none.

    Raises:
        UsageError, ConfigError: as :func:`compare`.
    """
    cfg = configs.load(source)
    scope = scope_of(cfg)
    found = [steps for _, steps, _ in pipelines(cfg, "test")]
    if not found:
        raise ConfigError(f"{source}: has no test pipeline")
    with DefaultScope.overwrite_default_scope(scope):
        model = build(cfg).eval()
        prepare = Compose([one for one in found[0] if not type_name(one).startswith("Load")])
        given = {"img": image[..., ::-1].copy(), "img_path": "picture.png", "img_id": 0, "seg_fields": []}
        given |= {"img_shape": image.shape[:2], "ori_shape": image.shape[:2], "reduce_zero_label": False}
        data = prepare(given)
    if data is None:
        raise ConfigError(f"{source}: its pipeline leaves nothing of a picture of {image.shape[1]}x{image.shape[0]}")
    batch, test_step = pseudo_collate([data]), cast(Callable, model.test_step)

    def run(half: bool) -> object:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            return test_step(batch)

    half = dtype == "bfloat16"
    if half:
        try:
            run(half)
        except RuntimeError:
            half = False
    return functools.partial(run, half), half


def markdown(found: dict) -> str:
    """The result as a table."""
    hosts, settings = found["hosts"], found["settings"]
    lines = [["restorer", "engine", "ms", *(f"of {host}'s step" for host in hosts)]]
    for row in found["rows"]:
        lines.append([row["restorer"], row["engine"], f"{row['ms']:.0f}", *(f"{row['beside'][host]:.2f}" for host in hosts)])
    for host, ms in hosts.items():
        name = f"{host}, its own step" + ", float32" * (host in found["float32"])
        lines.append([name, "torch", f"{ms:.0f}", *("-" for _ in hosts)])
    height, width = settings["size"]
    surroundings = f"{found['environment']['device']}, {settings['threads']} thread(s), {settings['dtype']}, {width}x{height}, "
    notes = [surroundings + f"median of {settings['rounds']}.", *NOTES]
    return "\n".join([*aligned(lines, numbers_from=2), "", *(f"- {note}" for note in notes)])
