#!/usr/bin/env python
"""``dagn-pre restore --cluster`` under fire: a cluster of processes, a bucket over HTTP, and kills at random points.

    tools/kill_cluster.py --kills 200 --seed 1

Worker processes, nodes and the command itself are killed by SIGKILL, and the bucket answers 503 for a while; the command is run
again until it ends by itself. Then every input must have one output whose pixels are those of ``dagn-pre restore`` in one
process, or one failed row, and there must be nothing else. So it goes on, from one empty bucket to the next, until all kills
are spent. The last line counts what was done.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import fsspec
import numpy as np
import psutil
from local_s3 import LocalS3
from PIL import Image

from dagn_pre.cli.main import main as dagn_pre
from dagn_pre.manifest import FOLDER, Manifest

KINDS = {"worker": 0.7, "node": 0.15, "driver": 0.05, "bucket": 0.1}
OPTIONS = ["--model", "dagn-xs", "--device", "cpu", "--dtype", "float32"]
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
# Nodes that died are noticed within seconds, also on a busy machine.
SYSTEM = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 2000, "health_check_failure_threshold": 5}
WORKER = re.compile("ray::(?!DashboardAgent|RuntimeEnvAgent)|default_worker.py")  # a raylet ends with its agents
STILL = 40  # seconds without progress after which something is killed all the same
PATIENCE = 300  # seconds without any progress after which something hangs
DIED = "its worker died"


def start_cluster(nodes: int):
    """A cluster of Ray: a head without CPUs, and so many nodes of one."""
    from ray.cluster_utils import Cluster

    logging.getLogger("ray").setLevel(logging.ERROR)
    head = {**NODE, "num_cpus": 0, "include_dashboard": False, "_system_config": SYSTEM}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(nodes):
        add_node(cluster)
    return cluster


def add_node(cluster) -> None:
    """One more; Ray gives up after 30 s, in which a busy machine may not start one."""
    for left in reversed(range(5)):
        try:
            cluster.add_node(**NODE)
            return
        except Exception as error:  # it raises no other
            if "timed out during startup" not in str(error) or not left:
                raise


def workers_of(node) -> list[psutil.Process]:
    """The processes of a node that run tasks and actors."""
    found = []
    for info in node.all_processes.get("raylet", ()):
        try:
            children = psutil.Process(info.process.pid).children()
            found += [child for child in children if WORKER.search(" ".join(child.cmdline()))]
        except psutil.Error:
            continue
    return found


def kill_node(cluster, node) -> None:
    """As a machine dies: its raylet and its workers at once."""
    for worker in workers_of(node):
        kill(worker)
    cluster.remove_node(node, allow_graceful=False)


def kill(process: psutil.Process) -> bool:
    """SIGKILL; whether it was alive."""
    try:
        process.kill()
        return True
    except psutil.NoSuchProcess:
        return False


class Scene:
    """Images in a bucket, what one process makes of them, and a cluster.

    Args:
        folder: for local files.
        s3, cluster: running.
        images: how many, with one that is no image, one that needs nothing, and a text file.
    """

    def __init__(self, folder: Path, s3: LocalS3, cluster, images: int, seed: int) -> None:
        self.folder, self.s3, self.cluster = folder, s3, cluster
        self.fs = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
        self.random = random.Random(seed)
        source = folder / "source"
        make_images(source, images, seed)
        if dagn_pre(["restore", str(source), str(folder / "expected"), *OPTIONS]) != 1:
            raise SystemExit("the file that is no image should have failed")
        expected = folder / "expected"
        self.expected = {path.relative_to(expected).as_posix(): path for path in expected.rglob("*.png")}
        self.inputs = sorted(path.relative_to(source).as_posix() for path in source.rglob("*.jpg"))
        self.fs.mkdir("source")
        self.fs.put(f"{source}/", "source/photos", recursive=True)
        self.rounds = 0

    def target(self) -> str:
        """An empty bucket."""
        self.rounds += 1
        self.fs.mkdir(f"target-{self.rounds}")
        return f"s3://target-{self.rounds}/restored"

    def start(self, target: str, *more: str, block: int = 2) -> subprocess.Popen:
        """The command, as a process."""
        command = [sys.executable, "-m", "dagn_pre.cli.main", "restore", "s3://source/photos", target, *OPTIONS]
        command += ["--cluster", self.cluster.address, "--block", str(block), *more]
        log = open(self.folder / "driver.log", "w")
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def log(self) -> str:
        """What the last command said."""
        return (self.folder / "driver.log").read_text()

    def parts(self, target: str) -> int:
        """How many parts the manifest has."""
        self.fs.invalidate_cache()
        return len(self.fs.glob(f"{target.removeprefix('s3://')}/{FOLDER}/manifest*.jsonl"))

    def verify(self, target: str) -> Counter[str]:
        """Raises AssertionError for an input without its one output or its row, other pixels, or anything else there."""
        states: Counter[str] = Counter()
        root = target.removeprefix("s3://")
        latest = Manifest(target).latest()
        rows = {row.source.removeprefix("s3://source/photos/"): row for row in latest}
        assert sorted(rows) == self.inputs, sorted(set(rows) ^ set(self.inputs))
        outputs = {}
        for name, row in rows.items():
            states[row.state] += 1
            if row.state == "failed":
                assert row.output is None and row.reason and ("bad.jpg" in name or DIED in row.reason), row
                continue
            outputs[row.output] = name
            found = np.asarray(Image.open(io.BytesIO(self.fs.cat_file(f"{root}/{row.output}"))))
            assert np.array_equal(found, np.asarray(Image.open(self.expected[row.output]))), row
        there = {path.removeprefix(f"{root}/") for path in self.fs.find(root)} - {"notes.txt"}
        beside = {path for path in there if not path.startswith(FOLDER)} - set(outputs)
        # An image whose worker died after its output was written, and again, is failed and has one.
        allowed = {name.replace(".jpg", ".png") for name, row in rows.items() if DIED in (row.reason or "")}
        assert beside <= allowed and set(outputs) <= there, beside
        return states


def make_images(folder: Path, count: int, seed: int) -> None:
    """Small JPEGs of QF 20 in two folders, a good one, one that is no image, and a text file."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        height, width = rng.choice([32, 48, 64], 2)
        waves = np.add.outer(np.sin(np.arange(height) / rng.uniform(2, 9)), np.cos(np.arange(width) / rng.uniform(2, 9)))
        pixels = (waves[..., None] * rng.uniform(20, 60, 3) + 128).clip(0, 255).astype(np.uint8)
        path = folder / ("a" if i % 3 else "b/c") / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=95 if i == 1 else 20)
    (folder / "bad.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("kept")


def rounds(scene: Scene, kinds: Sequence[str], say: Callable[[str], None]) -> Counter[str]:
    """Until all kills are spent, and the last round has ended; counts of what was done and found."""
    counts: Counter[str] = Counter()
    begun = time.monotonic()
    while counts["kills"] < len(kinds) or not counts["rounds"]:
        target, driver = scene.target(), None
        while True:
            if driver is None:
                driver = scene.start(target, "--workers", "2")
                counts["commands"] += 1
            spend = counts["kills"] < len(kinds)
            moved = _wait_for_progress(scene, target, driver, spend)
            if driver.poll() is not None:
                ended, driver = driver.returncode, None
                said = scene.log()
                if re.search(r"^\d+ .*(restored|done before)", said, re.M):
                    break
                if ended not in (0, 1) or "Traceback" in said:
                    raise SystemExit(f"ended by itself with status {ended}:\n{said}")
                # It said so, or Ray ended it since the node that it had joined is dead.
                counts["given up"] += 1
                say(f"gave up: {said.strip().splitlines()[-1][:300]}")
                continue
            if not spend:
                continue
            if moved:
                time.sleep(scene.random.uniform(0, 1.5))
            kind = kinds[counts["kills"]]
            if strike(scene, kind, driver):
                counts["kills"] += 1
                counts[kind] += 1
                say(f"{time.monotonic() - begun:.0f} s, {scene.parts(target)} parts: kill {counts['kills']}, a {kind}")
                if kind == "driver":
                    driver.wait()
                    driver = None
        counts["rounds"] += 1
        found = scene.verify(target)
        counts += found
        say(f"round {counts['rounds']}: {dict(found)}; so far {json.dumps(counts)}")
    return counts


def _wait_for_progress(scene: Scene, target: str, driver: subprocess.Popen, spend: bool) -> bool:
    """Until a part of the manifest is written, STILL seconds have passed (with no kills to spend: never), or it ended."""
    begun, before = time.monotonic(), scene.parts(target)
    while driver.poll() is None:
        time.sleep(0.2)
        if scene.parts(target) > before and spend:
            return True
        if spend and time.monotonic() - begun > STILL:
            return False
        if time.monotonic() - begun > PATIENCE:
            driver.kill()
            raise SystemExit(f"no end after {PATIENCE} s:\n{scene.log()}")
    return False


def strike(scene: Scene, kind: str, driver: subprocess.Popen) -> bool:
    """Kill one of a kind; whether there was one."""
    cluster = scene.cluster
    if kind == "worker":
        alive = [worker for node in (cluster.head_node, *cluster.worker_nodes) for worker in workers_of(node)]
        return bool(alive) and kill(scene.random.choice(alive))
    if kind == "node":
        kill_node(cluster, scene.random.choice(list(cluster.worker_nodes)))
        add_node(cluster)
    elif kind == "driver":
        driver.kill()
    else:
        with scene.s3.breaking(scene.s3.broken):
            time.sleep(scene.random.uniform(1, 6))
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--nodes", type=int, default=3)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder, LocalS3() as s3:
        cluster = start_cluster(options.nodes)
        try:
            scene = Scene(Path(folder), s3, cluster, options.images, options.seed)
            begun = time.monotonic()
            kinds = random.Random(options.seed).choices(list(KINDS), list(KINDS.values()), k=options.kills)
            counts = rounds(scene, kinds, lambda text: print(text, flush=True))
            print(json.dumps(counts | {"seconds": round(time.monotonic() - begun)}))
        finally:
            cluster.shutdown()


if __name__ == "__main__":
    main()
