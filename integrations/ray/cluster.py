"""A cluster of Ray: joining it, and handing blocks to its workers; whatever dies, Ray gives its blocks to others."""

from __future__ import annotations

import contextlib
import logging
import pickle
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dagn_pre.errors import DagnPreError, UsageError
from dagn_pre.integrations.ray.blocks import DEATHS, BlockActor, Ledger, Summary, Task
from dagn_pre.layouts import Part

OBJECTS = 256 * 2**20  # bytes of memory for what passes through a cluster of this machine alone: names, not pixels


def ray_data() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DagnPreError(f'clusters need Ray ({error}): pip install "dagn-pre[ray]"') from error
    return ray


@contextlib.contextmanager
def connected(cluster: str) -> Iterator[None]:
    """Joined to a cluster for as long as the body lasts; to one that this process has joined already, also afterwards.

    Raises:
        UsageError: there is none.
    """
    ray = ray_data()
    if ray.is_initialized():
        yield
        return
    remedy = "start one (ray start --head), or --cluster local for this machine alone"
    if cluster not in ("local", "auto"):
        host, _, port = cluster.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, ValueError, OverflowError) as error:
            raise UsageError(f"{cluster}: no cluster of Ray there ({error}): give HOST:PORT, {remedy}") from error
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    try:
        if cluster == "local":
            ray.init(address="local", include_dashboard=False, object_store_memory=OBJECTS, **quiet)
        else:
            ray.init(address=cluster, **quiet)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{cluster}: no cluster of Ray there ({str(error).splitlines()[0]}): {remedy}") from error
    try:
        yield
    finally:
        ray.shutdown()


def check_room(nodes: Sequence[Mapping[str, float]], cpus: float, gpus: float) -> None:
    """Raises UsageError where a worker, which Ray would wait for, fits on none of the nodes, each given by its resources."""
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        each = f"{cpus:g} CPU and {gpus:g} GPU" if gpus else f"{cpus:g} CPU"
        raise UsageError(f"no machine of the cluster has {each} for a worker: ask for fewer, or add one that has them")


def run_blocks(
    wave: Sequence[tuple[int, list[Part]]],
    task: Task,
    workers: int,
    cpus: float,
    gpus: float,
    told: Callable[[Summary], None],
) -> None:
    """Restore numbered blocks on the cluster that this process has joined; ``told`` gets what each came to, as it ends.

    Raises:
        DagnPreError: what a worker raised, or a cluster that gave up.
    """
    ray = ray_data()
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    ledger = ray.remote(Ledger).options(
        num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
    ).remote(DEATHS)  # fmt: skip
    items = [{"number": number, "parts": pickle.dumps(parts)} for number, parts in wave]
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        BlockActor,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(items)), max_tasks_in_flight_per_actor=2),
        fn_constructor_kwargs={"task": task, "ledger": ledger},
        num_cpus=cpus,
        num_gpus=gpus or None,
    )
    try:
        for batch in dataset.iter_batches(batch_size=1, prefetch_batches=0):
            told(pickle.loads(batch["told"][0]))
    except ray.exceptions.RayError as error:
        raise _as_ours(error) from error


def _as_ours(error: BaseException) -> DagnPreError:
    """What a worker raised, or what became of the cluster."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, DagnPreError):
            return type(found)(f"{found}; what was finished is kept: run the same command again")
        found = getattr(found, "cause", None) or found.__cause__
    last = str(error).strip().splitlines()[-1]
    told = f"the cluster gave up ({type(error).__name__}: {last})"
    return DagnPreError(f"{told}; what was finished is kept: run the same command again")
