"""Ray: a cluster of three nodes as processes and a bucket over HTTP. Whatever dies, each input has one output or a row."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
import tarfile
import threading
import time
import uuid
from functools import partial
from pathlib import Path

import fsspec
import kill_cluster
import numpy as np
import pandas
import pytest
import ray
from local_s3 import LocalS3
from PIL import Image

import dagn_pre.integrations.ray.cluster as cluster_module
import dagn_pre.integrations.ray.dataset as integration
from dagn_pre import Restorer
from dagn_pre.benchmarks.restoration.ray_overhead import ray_overhead
from dagn_pre.cli.main import main
from dagn_pre.errors import UsageError
from dagn_pre.integrations.ray import RestoreActor, restore_dataset
from dagn_pre.integrations.ray.blocks import Ledger, Summary
from dagn_pre.manifest import FOLDER, Header, Manifest
from dagn_pre.restored_files import restore_files
from tests.support import BLOCK_HOSTS, photograph, python

OPTIONS = {"model": "dagn-xs", "device": "cpu", "dtype": "float32"}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def s3():
    with LocalS3() as server:
        yield server


@pytest.fixture(scope="module")
def cluster():
    # Workers import this checkout, and set torch to one thread.
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", paths)
        patch.setenv("OMP_NUM_THREADS", "1")
        running = kill_cluster.start_cluster(3)
        yield running
        ray.shutdown()
        running.shutdown()


@pytest.fixture(scope="module")
def scene(tmp_path_factory, s3, cluster):
    return kill_cluster.Scene(tmp_path_factory.mktemp("scene"), s3, cluster, 14, seed=3)


def jpeg(seed: int, quality: int = 20, size: int = 32) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photograph(size, 48, seed)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def folder_of(path: Path, count: int) -> Path:
    path.mkdir(parents=True)
    for i in range(count):
        (path / f"{i}.jpg").write_bytes(jpeg(i))
    return path


@pytest.fixture(scope="module")
def restorer():
    return Restorer(**OPTIONS)


def check_outputs(source: Path, target: Path, restorer: Restorer, failed: tuple[str, ...] = ()) -> dict[str, str | None]:
    """Each input has its one output or its failed row, and there is nothing else; the reasons by name."""
    rows = {Path(row.source).name: row for row in Manifest(target).latest()}
    names = sorted(path.name for path in source.iterdir())
    assert sorted(rows) == names
    expected = {Path(name).with_suffix(".png").name: restorer(str(source / name)) for name in names if name not in failed}
    assert {path.name for path in target.iterdir()} == set(expected) | {FOLDER}
    for name, pixels in expected.items():
        assert np.array_equal(np.asarray(Image.open(target / name)), pixels)
    assert {name for name, row in rows.items() if row.state == "failed"} == set(failed)
    return {name: row.reason for name, row in rows.items()}


@pytest.mark.slow
def test_nothing_is_lost_when_workers_nodes_the_driver_or_the_bucket_fail(scene, capsys):
    """A share of tools/kill_cluster.py, which checks every output and row itself."""
    told: list[str] = []
    counts = kill_cluster.rounds(scene, ["worker", "node", "driver", "bucket"], told.append)
    assert counts["kills"] == 4 and counts["commands"] >= 2, told
    assert counts["restored"] + counts["untouched"] + counts["failed"] == 15 * counts["rounds"]
    target = f"s3://target-{scene.rounds}/restored"
    with scene.start(target, "--workers", "1") as again:
        assert again.wait(kill_cluster.PATIENCE) == 1  # the file that is no image
    assert f"{15 - 1 + 1} done before" in scene.log(), scene.log()
    scene.verify(target)
    with pytest.raises(SystemExit) as ended:
        main(["restore", "--report", target])
    assert not ended.value.code and "15 inputs" in capsys.readouterr().out


def poison() -> None:
    """Runs in each worker as it starts: images of these names hang, or end their process as a decoder's bug does."""
    import dagn_pre.integrations.ray.blocks as module

    healthy = module.restore_files

    def restore_files(restorer, inputs, keep_untouched=False):
        for one in inputs:
            if one.name.endswith("/1.jpg"):
                time.sleep(100)
            if one.name.endswith("/2.jpg"):
                os._exit(139)
        return healthy(restorer, inputs, keep_untouched)

    module.restore_files = restore_files


@pytest.mark.slow
def test_images_that_hang_or_kill_are_rows(tmp_path, cluster, restorer, monkeypatch):
    monkeypatch.setattr(cluster_module, "DEATHS", 1)  # each takes a worker to start
    source = folder_of(tmp_path / "in", 4)
    ray.cloudpickle.register_pickle_by_value(__import__(__name__))
    ray.init(cluster.address, log_to_driver=False, runtime_env={"worker_process_setup_hook": poison})
    try:
        done = restore_dataset(source, tmp_path / "out", block=4, workers=1, item_timeout=2, **OPTIONS)
    finally:
        ray.shutdown()
    assert done.states == {"restored": 2, "failed": 2}
    reasons = check_outputs(source, tmp_path / "out", restorer, ("1.jpg", "2.jpg"))
    assert "took longer than 2 s" in reasons["1.jpg"] and "its worker died while restoring it, 1 times" in reasons["2.jpg"]


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_room_completes_it(tmp_path, cluster, restorer, full_disk):
    source = folder_of(tmp_path / "in", 10)
    arguments = ["restore", str(source), str(full_disk.path / "out"), "--cluster", cluster.address, "--block", "2"]
    arguments += ["--workers", "1"] + [text for name, value in OPTIONS.items() for text in (f"--{name}", value)]
    assert main(arguments) == 1
    assert len(list((full_disk.path / "out").glob("*.png"))) < 10
    for path in (full_disk.path / "out").glob("*.png"):
        assert np.array_equal(np.asarray(Image.open(path)), restorer(str(source / f"{path.stem}.jpg")))  # whole
    full_disk.make_room()
    assert main(arguments) == 0
    check_outputs(source, full_disk.path / "out", restorer)


class Disk:
    """A folder for so many bytes, until there is room: writers get what a full disk gives them."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size, self.room = path, size, path.with_name("room")

    def make_room(self) -> None:
        self.room.touch()

    def fill(self) -> None:
        """Runs in each worker as it starts."""
        import dagn_pre.files as module

        healthy = module.write_atomic

        def used():
            for one in self.path.rglob("*"):
                with contextlib.suppress(FileNotFoundError):  # other threads' temporary files come and go
                    yield one.stat().st_size if one.is_file() else 0

        def write_atomic(path, data):
            if not self.room.exists() and sum(used()) + len(data) > self.size:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            healthy(path, data)

        module.write_atomic = write_atomic


@pytest.fixture
def full_disk(tmp_path, cluster):
    (tmp_path / "disk").mkdir()
    disk = Disk(tmp_path / "disk", 16_000)
    ray.cloudpickle.register_pickle_by_value(__import__(__name__))
    ray.init(cluster.address, log_to_driver=False, runtime_env={"worker_process_setup_hook": disk.fill})
    yield disk
    ray.shutdown()


@pytest.mark.slow
def test_the_actor_in_a_pipeline_of_ones_own(tmp_path, cluster, restorer):
    source = folder_of(tmp_path / "in", 5)
    (source / "3.jpg").write_bytes(jpeg(3, size=48))
    (source / "bad.jpg").write_bytes(b"no image")
    ray.init(cluster.address, log_to_driver=False)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        files = ray.data.read_binary_files(str(source), include_paths=True)
        here = {"model": "dagn-xs", "dtype": "float32"}  # the device of an actor without a GPU
        actor = {"fn_constructor_kwargs": here, "compute": ray.data.ActorPoolStrategy(size=1), "batch_size": 4}
        rows = {Path(row["path"]).name: row for row in files.map_batches(RestoreActor, **actor).take_all()}
    finally:
        ray.shutdown()
    assert rows["bad.jpg"]["dagn_state"] == "failed" and "bad.jpg" in rows["bad.jpg"]["dagn_reason"]
    for i in range(5):
        row = rows[f"{i}.jpg"]
        assert np.array_equal(row["image"], restorer(str(source / f"{i}.jpg"))) and row["dagn_restored"]
        assert (row["dagn_quality"], row["dagn_quality_source"], row["dagn_reason"]) == (20, "header", "")


@pytest.mark.slow
def test_the_overhead_is_measured_against_the_same_calls_in_this_process(cluster):
    (found,) = ray_overhead(cluster.address, blocks=(2,), count=3)
    assert found.block == 2 and found.cluster > 0 and found.alone > 0


# -- without a cluster -------------------------------------------------------------------------------------------------------


def test_columns_in_and_out(restorer):
    rgb, good = photograph(32, 48, 1), jpeg(2, quality=95)
    actor = RestoreActor(**OPTIONS)
    told = actor({"image": [rgb, rgb], "quality": np.array([20, np.nan]), "path": ["a", "b"], "label": [1, 2]})
    assert np.array_equal(told["image"][0], restorer(rgb, quality=20)) and told["label"] == [1, 2]
    assert list(told["dagn_state"]) == ["restored", "untouched"] and told["image"][1] is not None
    assert list(told["dagn_quality"]) == [20, 0] and list(told["dagn_quality_source"]) == ["given", ""]

    data = jpeg(1)
    told = RestoreActor(format="png", **OPTIONS)({"bytes": [data, good, b"junk", None]})
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(told["bytes"][0]))), restorer(data))
    assert list(told["dagn_state"]) == ["restored", "untouched", "failed", "failed"] and told["bytes"][2] == b"junk"
    assert "image 2: not an image" in told["dagn_reason"][2] and "image 3: the file is empty" in told["dagn_reason"][3]

    told = RestoreActor(format="same", **OPTIONS)({"bytes": [data, good]})
    assert Image.open(io.BytesIO(told["bytes"][0])).format == "JPEG" and told["bytes"][1] == good

    missing = {"bytes": None, "path": "/missing.jpg"}
    told = actor({"image": [{"bytes": data, "path": "x.jpg"}, {"bytes": b"junk", "path": "y.jpg"}, missing]})
    assert np.array_equal(told["image"][0], restorer(data)) and told["image"][1].shape == told["image"][2].shape == (0, 0, 3)
    assert "y.jpg: not an image" in told["dagn_reason"][1]
    assert told["dagn_reason"][2] == "/missing.jpg: No such file or directory"
    told = actor({"image": [rgb, rgb, rgb, data], "quality": ["high", 20.0, np.int64(150), b"\xff"], "path": list("abcd")})
    assert list(told["dagn_state"]) == ["failed", "restored", "failed", "failed"]  # a row's fault is that row's
    assert "a: " in told["dagn_reason"][0] and "150" in told["dagn_reason"][2] and told["image"][0] is rgb
    with pytest.raises(UsageError, match="no column 'image' with images; there are x: name it by column="):
        actor({"x": [rgb]})
    with pytest.raises(UsageError, match="format must be"):
        RestoreActor(format="gif")
    with pytest.raises(UsageError, match="strenght"):
        RestoreActor(strenght=1)


@pytest.mark.parametrize(
    "value, reason",
    [
        ({"path": "a\0b"}, "embedded null byte"),
        ({"path": 5}, "5: TypeError"),
        ({"bytes": "text"}, "image 0: TypeError"),
        ({"bytes": None, "path": None}, "image 0: the file is empty"),
        (None, "image 0: the file is empty"),
        (bytearray(b"junk"), "image 0: not an image"),
    ],
)
def test_what_is_no_image_fails_alone_and_stays_as_it_came(value, reason):
    for format in (None, "png"):
        told = RestoreActor(format=format, **OPTIONS)({"image": [value, jpeg(1)]})
        assert list(told["dagn_state"]) == ["failed", "restored"] and reason in told["dagn_reason"][0]
        assert told["image"][0] == value if format else told["image"][0].shape == (0, 0, 3)


def test_files_come_in_any_kind_of_bytes_and_empty_cells_say_nothing(restorer):
    data = jpeg(1)
    kinds = [bytearray(data), memoryview(data), {"bytes": bytearray(data)}, {"bytes": np.frombuffer(data, np.uint8)}]
    qualities = [pandas.NA, None, np.float32("nan"), 20]
    told = RestoreActor(**OPTIONS)({"bytes": kinds, "quality": qualities, "path": [pandas.NA, np.nan, None, "x"]})
    assert list(told["dagn_state"]) == ["restored"] * 4
    for image in told["image"]:
        assert np.array_equal(image, restorer(data))
    with pytest.raises(ValueError, match="shorter"):
        RestoreActor(**OPTIONS)({"bytes": kinds, "quality": [20]})


def test_none_stays_none_where_files_do_not_become_arrays():
    picture, array = Image.open(io.BytesIO(jpeg(1))), photograph(32, 48, 1)
    actor = RestoreActor(column="photo", **OPTIONS)
    for values in ([picture, None], [None, None], [array, None]):
        told = actor({"photo": values})
        assert told["photo"][1] is None and told["dagn_state"][1] == "failed" and "image" not in told
    told = actor({"photo": np.array([None, None])})  # as of Ray's files
    assert [image.shape for image in told["image"]] == [(0, 0, 3)] * 2


def step(source, target, restorer, layout=None, format="png", overwrite=False) -> list[str]:
    """What a run does, without a cluster: names of what it took, copied files among them."""
    plan = integration._planned(source, target, layout, format, False, None, OPTIONS)
    manifest, run = Manifest(plan.target), uuid.uuid4().hex
    header = Header.now(integration._decides(plan, OPTIONS), overwrite)
    integration._begin(plan, manifest, run, header)
    taken = []
    for number, parts in enumerate(integration._missing(plan, manifest, Summary()), 1):
        rows = plan.restore(parts, partial(restore_files, restorer, keep_untouched=plan.keep_untouched))
        taken += [plan.name(part) for part in parts]
        if rows:
            manifest.write_part(run, number, header, rows)
    return taken


def shard_of(path: Path, *members: str, modified: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for i, name in enumerate(members):
            member = tarfile.TarInfo(name)
            member.size = len(data := jpeg(i))
            archive.addfile(member, io.BytesIO(data))
    os.utime(path, (modified, modified))


def test_a_shard_is_done_when_the_latest_run_has_rows_of_it_as_it_is(tmp_path, restorer):
    """The folder's name holds the mark of rows; images that are gone from a shard have rows as well."""
    source, target = tmp_path / "run#3", tmp_path / "out"
    again = partial(step, source, target, restorer, "shards")
    shard_of(source / "a.tar", "0.jpg", "9.jpg", modified=1000)
    assert again() == ["a.tar"] and again() == []
    shard_of(source / "a.tar", "0.jpg", modified=2000)
    assert again() == ["a.tar"] and again() == []
    shard_of(source / "a.tar", "0.jpg", "9.jpg", modified=1000)  # an older one is put back
    assert again() == ["a.tar"] and again() == []
    assert step(source / "a.tar", target, restorer) == []  # the same shard, given alone


def test_a_copied_file_that_changed_is_copied_again(tmp_path, restorer):
    source, target = folder_of(tmp_path / "in", 1), tmp_path / "out"
    (source / "labels.txt").write_text("cat")
    assert step(source, target, restorer) == ["0.jpg", "labels.txt"] and step(source, target, restorer) == []
    (source / "labels.txt").write_text("dog")
    later = (target / "labels.txt").stat().st_mtime + 1
    os.utime(source / "labels.txt", (later, later))
    assert step(source, target, restorer) == ["labels.txt"]
    assert (target / "labels.txt").read_text() == "dog"


@pytest.mark.parametrize(
    "source, target, linked, reason",
    [
        ("in/0.jpg", "in", None, "would be replaced by an output in"),
        ("in/a.tar", "in", None, "would be replaced by an output in"),
        ("in/0.jpg", "link", ("link", "in"), "would be replaced by an output in"),
        ("link.jpg", "in", ("link.jpg", "in/0.jpg"), None),  # is written to in/link.jpg
        ("other/0.jpg", "in", ("other/0.jpg", "../in/0.jpg"), "would be replaced by an output in"),
        ("in/1.jpg", "in", ("in/1.jpg", "../0.jpg"), "would be replaced by an output in"),
        ("other", "in", ("other/1.jpg", "../in/0.jpg"), "would be replaced by an output in"),
        ("in", "link", ("link", "in"), "input and output are the same folder"),
        ("in", "out", ("out/sub", "../in/sub"), "among the inputs of"),
        ("in/sub", "in", None, "among the inputs of"),
        ("in", "in/out", None, None),
        ("in/sub", "in/out", None, None),
    ],
)
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_no_input_is_replaced(tmp_path, restorer, source, target, linked, reason, scheme):
    for name in ("in/0.jpg", "in/sub/1.jpg", "in/sub/sub/1.jpg", "other/0.jpg", "0.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(jpeg(len(name)))
    shard_of(tmp_path / "in/a.tar", "0.jpg", modified=1000)
    if linked:
        (tmp_path / linked[0]).unlink(missing_ok=True)
        (tmp_path / linked[0]).parent.mkdir(exist_ok=True)
        (tmp_path / linked[0]).symlink_to(linked[1])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    run = partial(step, tmp_path / source, f"{scheme}{tmp_path / target}", restorer, None, "same")
    if reason is None:
        assert run(overwrite=True) and run() == []
    else:
        with pytest.raises(UsageError, match=reason):
            run(overwrite=True)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("cpus, gpus", [(1, 0.5), (1, 2), (4, 1), (0, 1), (8, 0)])
def test_workers_that_fit_on_a_machine(cpus, gpus):
    cluster_module.check_room([{"CPU": 8}, {"CPU": 4, "GPU": 2}, {}], cpus, gpus)


@pytest.mark.parametrize("cpus, gpus", [(1, 3), (8, 1), (9, 0)])
def test_a_worker_that_fits_on_no_machine_is_not_waited_for(cpus, gpus):
    with pytest.raises(UsageError, match=f"no machine of the cluster has {cpus} CPU .*for a worker: ask for fewer"):
        cluster_module.check_room([{"CPU": 8}, {"CPU": 4, "GPU": 2}, {}], cpus, gpus)


def test_an_image_is_blamed_after_its_workers_died_alone_with_it():
    ledger = Ledger(deaths=2)
    assert ledger.begin(1) == 1 and ledger.begin(1) == 2  # died in a batch: nobody is to blame
    assert ledger.at(1, "a") is None and ledger.at(1, "b") is None
    assert ledger.begin(1) == 3 and ledger.at(1, "a") is None and ledger.at(1, "b") is None
    assert ledger.begin(1) == 4 and ledger.at(1, "a") is None
    assert ledger.at(1, "b") == "b: its worker died while restoring it, 2 times"
    assert ledger.at(1, "c") is None
    ledger.too_long(1, "c", 2.5)
    assert ledger.begin(1) == 5 and ledger.at(1, "c") == "c: took longer than 2.5 s"
    ledger.end(1)
    assert ledger.begin(2) == 1


# -- bad input -----------------------------------------------------------------------------------------------------------------


def told(capsys, *arguments: object, status: int) -> str:
    assert main(["restore", *map(str, arguments)]) == status
    return capsys.readouterr().err.strip().splitlines()[-1]


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_places_that_do_not_exist(tmp_path, s3, capsys, monkeypatch):
    monkeypatch.setattr(integration, "connected", lambda cluster: pytest.fail("before a cluster is asked"))
    source = folder_of(tmp_path / "in", 1)
    to = ["--cluster", "auto"]
    assert "s3://nowhere/x: no such file, folder or bucket" in told(capsys, "s3://nowhere/x", tmp_path / "out", *to, status=2)
    assert "missing: no such file" in told(capsys, tmp_path / "missing", tmp_path / "out", *to, status=2)
    assert "nonsense" in told(capsys, "nonsense://x", tmp_path / "out", *to, status=2)
    assert "input and output are the same" in told(capsys, source, source, *to, status=2)
    assert "is a file; give a folder" in told(capsys, source, source / "0.jpg", *to, status=2)
    assert "memory of one process" in told(capsys, source, "memory://x", *to, status=2)
    fsspec.filesystem("s3").mkdir("locked")
    with s3.breaking(s3.denied):
        assert "no rights" in told(capsys, "s3://locked/x", tmp_path / "out", *to, status=1)
    assert not (tmp_path / "out").exists()


def test_places_that_cannot_be_written_to(tmp_path, s3, capsys, cluster):
    source = folder_of(tmp_path / "in", 1)
    line = told(capsys, source, "s3://nowhere/x", "--cluster", cluster.address, status=2)
    assert "s3://nowhere/x: no such bucket; make it first" in line
    (tmp_path / "out").mkdir()
    (tmp_path / "out/else.txt").write_text("")
    line = told(capsys, source, tmp_path / "out", "--cluster", cluster.address, status=2)
    assert "holds files, and no manifest of an earlier run; give an empty folder, or --overwrite" in line
    arguments = (source, tmp_path / "before", "--cluster", cluster.address)
    Manifest(tmp_path / "before").write_part("run", 0, Header.now({"command": "restore", "format": "webp"}), [])
    line = told(capsys, *arguments, status=2)
    assert "before/.dagn-pre" in line and ": written with " in line and "give another folder, or --overwrite" in line
    line = told(capsys, source, tmp_path / "new", "--cluster", cluster.address, "--gpus-per-worker", "1", status=2)
    assert "no machine of the cluster has 1 CPU and 1 GPU for a worker" in line and not (tmp_path / "new").exists()
    (source / "0.png").write_bytes(b"")
    line = told(capsys, source, tmp_path / "new", "--cluster", cluster.address, status=2)
    assert "would both be written to 0.png: rename one, or give --full-names" in line
    assert not list((tmp_path / "new").glob("*.png"))


def test_an_address_where_no_cluster_is(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    source, address = folder_of(tmp_path / "in", 1), f"127.0.0.1:{closed_port()}"
    for given in (address, f"ray://{address}", "nonsense"):
        line = told(capsys, source, tmp_path / "out", "--cluster", given, status=2)
        assert f"{given}: no cluster of Ray there" in line and "--cluster local" in line


def test_what_belongs_to_clusters_alone(tmp_path, capsys):
    source = folder_of(tmp_path / "in", 1)
    assert "--block is for clusters" in told(capsys, source, tmp_path / "out", "--block", "3", status=2)
    assert "--format same is for clusters" in told(capsys, source, tmp_path / "out", "--format", "same", status=2)
    assert "goes to storage with --cluster" in told(capsys, "s3://bucket/x", tmp_path / "out", status=2)
    assert main(["compress", "s3://bucket/x", str(tmp_path / "out"), "--qf", "20"]) == 2
    assert "takes one SRC, not 2" in told(capsys, source, source, tmp_path / "out", "--cluster", "local", status=2)
    assert "block must be above 0" in told(capsys, source, tmp_path / "out", "--cluster", "local", "--block", "0", status=2)
    for gpus in ("-1", "1.5", "nan"):
        line = told(capsys, source, tmp_path / "out", "--cluster", "local", f"--gpus-per-worker={gpus}", status=2)
        assert f"gpus per worker must be a share from 0 to 1, or a whole number, not {gpus}" in line
    assert "a column is of Parquet" in told(capsys, source, tmp_path / "out", "--cluster", "local", "--column", "x", status=2)


def test_missing_extras_are_named(tmp_path):
    block = BLOCK_HOSTS.replace("sorted(", "(").replace("in [", "in ['ray', 's3fs', ")
    code = block + (
        "from dagn_pre.cli.main import main\n"
        "from dagn_pre.storage import Store\n"
        "print(main(['restore', '.', 'out', '--cluster', 'local']))\n"
        "try:\n    Store('s3://bucket/x')\nexcept Exception as error:\n    print(error)\n"
    )
    printed = python(code.replace("import sys\n", "import sys\nsys.stderr = sys.stdout\n", 1), cwd=tmp_path)
    assert 'pip install "dagn-pre[ray]"' in printed and 'pip install "dagn-pre[s3]"' in printed and "\n1\n" in printed


def test_threads_that_hang_do_not_outlive_the_test():
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
