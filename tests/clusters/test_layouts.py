"""Trees, shards and Parquet files: what comes out has the form of what went in, and the pixels of each image restored alone."""

from __future__ import annotations

import io
import json
import posixpath
import subprocess
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import webdataset
from PIL import Image

from dagn_pre import Restorer, codec
from dagn_pre.errors import DagnPreError, UsageError
from dagn_pre.layouts import LAYOUTS, layout_of
from dagn_pre.layouts.containers import BATCH
from dagn_pre.restored_files import restore_files
from dagn_pre.storage import Store
from tests.support import photograph


@pytest.fixture(scope="module")
def restorer(tiny_weights):
    return Restorer(tiny_weights, device="cpu", dtype="float32")


def jpeg(seed: int, quality: int = 20, height: int = 32) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(photograph(height, 48, seed)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def mask(seed: int, mode: str = "P") -> bytes:
    """Labels, as VOC has them."""
    image = Image.fromarray(np.random.default_rng(seed).integers(0, 21, (32, 48), np.uint8))
    if mode == "P":
        image.putpalette([7 * i % 256 for i in range(768)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def run(name: str, source: Path | str, target: Path | str, restorer: Restorer, **more):
    """All rows of a layout's restoring, in this process."""
    layout = LAYOUTS[name](Store(source), Store(target), **more)
    layout.check()
    restoring = partial(restore_files, restorer, keep_untouched=layout.keep_untouched)
    return [row for parts in layout.folders() for row in layout.restore(parts, restoring)]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_a_voc_tree_comes_out_as_one(tmp_path, restorer):
    annotation = b"<annotation><filename>1.jpg</filename></annotation>"
    files = {
        "JPEGImages/1.jpg": jpeg(1),
        "JPEGImages/2.jpg": jpeg(2, quality=95),
        "SegmentationClass/1.png": mask(1),
        "SegmentationObject/1.png": mask(2, "L"),
        "Annotations/1.xml": annotation,
        "ImageSets/Main/train.txt": b"1\n2\n",
    }
    source = written(tmp_path / "voc", files)
    rows = run("tree", source, tmp_path / "out", restorer, format="same")
    found = {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    assert set(found) == set(files)
    assert {name for name in files if found[name] != files[name]} == {"JPEGImages/1.jpg"}
    expected = restorer(files["JPEGImages/1.jpg"])
    assert np.array_equal(pixels(found["JPEGImages/1.jpg"]), codec.decode(_saved(expected)))
    states = {row.output: row.state for row in rows}
    assert states.pop("JPEGImages/1.jpg") == "restored" and set(states.values()) == {"untouched"}


def _saved(rgb: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def test_a_coco_trees_annotations_find_their_images(tmp_path, restorer):
    names = [f"{i:012}.jpg" for i in range(3)]
    told = json.dumps({"images": [{"id": i, "file_name": name} for i, name in enumerate(names)]}).encode()
    depth = io.BytesIO()
    Image.fromarray(np.arange(32 * 48, dtype=np.uint16).reshape(32, 48)).save(depth, "PNG")  # 16 bits: refused
    files = {f"train2017/{name}": jpeg(i) for i, name in enumerate(names)} | {"depth/0.png": depth.getvalue()}
    source = written(tmp_path / "coco", files | {"annotations/instances.json": told})
    rows = run("tree", source, tmp_path / "out", restorer, format="same", jpeg_only=True)
    for image in json.loads((tmp_path / "out/annotations/instances.json").read_bytes())["images"]:
        assert Image.open(tmp_path / "out/train2017" / image["file_name"]).size == (48, 32)
    assert (tmp_path / "out/depth/0.png").read_bytes() == depth.getvalue()
    assert [row.state for row in rows] == ["restored"] * 3


def test_a_bad_file_and_one_that_cannot_be_written_are_rows(tmp_path, restorer, monkeypatch):
    source = written(tmp_path / "in", {"a.jpg": jpeg(1), "bad.jpg": b"no image", "c.jpg": jpeg(2), "gone.jpg": jpeg(3)})
    layout = LAYOUTS["tree"](Store(source), Store(tmp_path / "out"))
    (parts,) = layout.folders()
    (source / "gone.jpg").unlink()
    (tmp_path / "out/c.png").mkdir(parents=True)
    rows = {Path(row.source).name: row for row in layout.restore(parts, partial(restore_files, restorer))}
    assert {name: row.state for name, row in rows.items()} == {
        "a.jpg": "restored", "bad.jpg": "failed", "c.jpg": "failed", "gone.jpg": "failed"
    }  # fmt: skip
    for name in ("bad.jpg", "c.jpg", "gone.jpg"):
        assert rows[name].output is None and str(tmp_path) in rows[name].reason
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out/a.png")), restorer(jpeg(1)))


def test_two_inputs_of_one_output_are_refused_with_the_remedy(tmp_path, restorer):
    source = written(tmp_path / "in", {"x/a.jpg": jpeg(1), "x/a.png": mask(1)})
    with pytest.raises(UsageError, match=r"a\.jpg and .*a\.png would both be written to x/a\.png: .* or give --full-names"):
        run("tree", source, tmp_path / "out", restorer)
    assert len(run("tree", source, tmp_path / "out", restorer, full_names=True)) == 2
    assert {path.name for path in (tmp_path / "out/x").iterdir()} == {"a.jpg.png", "a.png.png"}


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path, restorer):
    source = written(tmp_path / "in", {"x/a.jpg": jpeg(1), "x/b.jpg": jpeg(2)})
    left = {"x/.a-abcdefgh.png", "x/.a-abcdefgh.jpg", "x/.other-abcdefgh.png", "x/a.png", "x/.a-abc.png"}
    target = written(tmp_path / "out", dict.fromkeys(left, b""))
    layout = LAYOUTS["tree"](Store(source), Store(target))
    for parts in layout.folders():
        layout.remove_temporary(parts)
    found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert found == left - {"x/.a-abcdefgh.png"}


def test_a_target_inside_the_source_is_no_input(tmp_path, restorer):
    source = written(tmp_path / "in", {"a.jpg": jpeg(1)})
    for _ in range(2):
        assert len(run("tree", source, source / "out", restorer)) == 1


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_without_what_the_layout_needs(tmp_path, restorer, name):
    source = written(tmp_path / "in", {"a.txt": b""})
    with pytest.raises(UsageError, match=r"in: no .* in it.*--layout"):
        run(name, source, tmp_path / "out", restorer)


def test_a_single_files_suffix_tells_the_layout(tmp_path):
    assert [layout_of(Store(tmp_path / name), None) for name in ("a.tar", "a.parquet", "a.jpg", "a")] == [
        "shards", "parquet", "tree", "tree"
    ]  # fmt: skip


# -- shards ------------------------------------------------------------------------------------------------------------


def write_shard(path: Path, count: int, bad: tuple[int, ...] = ()) -> dict[str, bytes]:
    """Samples of an image, a class and a mask, as WebDataset's own writer lays them; the images' bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = {}
    with webdataset.TarWriter(str(path)) as writer:
        for i in range(count):
            images[f"{i:04}"] = b"no image" if i in bad else jpeg(i, height=32 + 16 * (i % 2))
            writer.write({"__key__": f"{i:04}", "jpg": images[f"{i:04}"], "cls": i, "seg.png": mask(i)})
    return images


def read_shard(path: Path) -> dict[str, dict]:
    dataset = webdataset.WebDataset(str(path), shardshuffle=False)
    return {sample["__key__"]: sample for sample in dataset}


def test_shards_come_out_as_shards(tmp_path, restorer):
    images = write_shard(tmp_path / "in/00.tar", BATCH // 2 + 3)
    (tmp_path / "in/dataset.json").write_text("{}")
    rows = run("shards", tmp_path / "in", tmp_path / "out", restorer)
    found = read_shard(tmp_path / "out/00.tar")
    assert list(found) == list(images)
    for i, (key, data) in enumerate(images.items()):
        assert np.array_equal(pixels(found[key]["png"]), restorer(data))
        assert found[key]["cls"] == str(i).encode() and np.array_equal(pixels(found[key]["seg.png"]), _as_colour(mask(i)))
    assert (tmp_path / "out/dataset.json").read_text() == "{}"
    assert len(rows) == 2 * len(images) and rows[0].source == f"{tmp_path}/in/00.tar#0000.jpg"
    assert {row.output for row in rows} >= {"00.tar#0000.png", "00.tar#0000.seg.png"}


def _as_colour(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_a_bad_image_takes_its_sample_along(tmp_path, restorer):
    write_shard(tmp_path / "in/00.tar", 4, bad=(2,))
    rows = run("shards", tmp_path / "in/00.tar", tmp_path / "out", restorer, format="same")
    found = read_shard(tmp_path / "out/00.tar")
    assert list(found) == ["0000", "0001", "0003"] and set(found["0000"]) >= {"jpg", "cls", "seg.png"}
    assert found["0001"]["seg.png"] == mask(1)  # byte for byte
    assert [row.source.rpartition("#")[2] for row in rows if row.state == "failed"] == ["0002.jpg", "0002.seg.png"]


def test_what_macos_puts_into_archives_is_no_image(tmp_path, restorer):
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in/00.tar", "w") as archive:
        for name, data in {"._a.jpg": b"\0\5\x16\7", "a.jpg": jpeg(0)}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    (row,) = run("shards", tmp_path / "in/00.tar", tmp_path / "out", restorer)
    with tarfile.open(tmp_path / "out/00.tar") as archive:
        assert archive.getnames() == ["._a.jpg", "a.png"] and row.state == "restored"
        assert archive.extractfile("._a.jpg").read() == b"\0\5\x16\7"


def test_a_link_follows_its_image(tmp_path, restorer):
    """A hard link's target has another name in the output, or is not there."""
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in/00.tar", "w") as archive:
        for name, data in {"a.jpg": jpeg(0), "b.jpg": "a.jpg", "c.jpg": b"no image", "d.jpg": "c.jpg"}.items():
            member = tarfile.TarInfo(name)
            if isinstance(data, str):
                member.type, member.linkname = tarfile.LNKTYPE, data
                archive.addfile(member)
            else:
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    rows = run("shards", tmp_path / "in/00.tar", tmp_path / "out", restorer)
    with tarfile.open(tmp_path / "out/00.tar") as archive:
        assert archive.getnames() == ["a.png", "b.png"]
        assert archive.extractfile("b.png").read() == archive.extractfile("a.png").read()
    assert [(row.source.rpartition("#")[2], row.state) for row in rows] == [
        ("a.jpg", "restored"), ("c.jpg", "failed"), ("d.jpg", "failed")
    ]  # fmt: skip


HARD, SOFT = tarfile.LNKTYPE, tarfile.SYMTYPE


def write_tar(path: Path, members: list[tuple[str, bytes | tuple[bytes, str] | None]]) -> Path:
    """Files, links (type and target) and folders (None)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            if isinstance(data, bytes):
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            else:
                member.type, member.linkname = data or (tarfile.DIRTYPE, "")
                archive.addfile(member)
    return path


@pytest.mark.parametrize(
    ("image", "link", "kind", "target"),
    [
        ("a.jpg", "b.jpg", HARD, "a.jpg"),
        ("a.jpg", "b.jpg", SOFT, "a.jpg"),
        ("./x/a.jpg", "x/b.jpg", HARD, "x/a.jpg"),
        ("x/a.jpg", "y/b.jpg", SOFT, "../x/./a.jpg"),
        ("a.jpg", "b.txt", HARD, "a.cls"),
    ],
)
def test_a_link_to_what_is_left_out_takes_its_sample_along(tmp_path, restorer, image, link, kind, target):
    """However its target is spelt, and whether or not it is an image; links to it as well."""
    (first, _), (second, end) = posixpath.splitext(image), posixpath.splitext(link)
    members = [(image, b"no image"), (f"{first}.cls", b"1"), (f"{second}.cls", b"2"), (link, (kind, target))]
    members += [(f"{second}.seg.png", mask(1)), (f"c{end}", (HARD, link)), ("c.cls", b"3"), ("d.jpg", jpeg(1))]
    path = write_tar(tmp_path / "in/00.tar", members)
    rows = {row.source.rpartition("#")[2]: row for row in run("shards", path, tmp_path / "out", restorer)}
    with tarfile.open(tmp_path / "out/00.tar") as archive:
        assert archive.getnames() == ["d.png"]
    failed = {name for name, row in rows.items() if row.state == "failed"}
    assert failed == {image, link, f"{second}.seg.png", f"c{end}"} and set(rows) == failed | {"d.jpg"}
    assert f"a link to {target}, which is left out" in rows[link].reason


def test_folders_in_shards_may_come_again_and_keep_their_names(tmp_path, restorer):
    """As tar -r leaves them."""
    folders = [("x.jpg", None), ("x.jpg/0.jpg", jpeg(0)), ("x.jpg", None), ("x.jpg/1.jpg", jpeg(1)), ("x.png", None)]
    path = write_tar(tmp_path / "in/00.tar", folders)
    assert [row.state for row in run("shards", path, tmp_path / "out", restorer)] == ["restored"] * 2
    with tarfile.open(tmp_path / "out/00.tar") as archive:
        assert archive.getnames() == ["x.jpg", "x.jpg/0.png", "x.jpg", "x.jpg/1.png", "x.png"]


@pytest.mark.parametrize("kind", ["gnu", "pax", "unknown"])
def test_sparse_members_and_those_of_unknown_type_come_out_whole(tmp_path, restorer, kind):
    holed, path = bytes(1 << 16) + b"end", tmp_path / "in/00.tar"
    if kind == "unknown":
        write_tar(path, [("0.dat", holed), ("1.jpg", jpeg(1))])
        with tarfile.open(path) as archive, open(path, "r+b") as file:
            header = bytearray(file.read(512))
            header[148:157] = b"%06o\0 Q" % (archive.getmember("0.dat").chksum + ord("Q") - ord("0"))
            file.seek(0)
            file.write(header)
    else:
        folder = written(tmp_path / "made", {"1.jpg": jpeg(1), "0.dat": b""})
        with open(folder / "0.dat", "wb") as file:
            file.seek(1 << 16)
            file.write(b"end")
        path.parent.mkdir()
        made = ["tar", "-C", folder, "--sparse", "--hole-detection=raw", f"--format={kind}", "-cf", path, "0.dat", "1.jpg"]
        subprocess.run(made, check=True)
        with tarfile.open(path) as archive:
            assert archive.getmember("0.dat").issparse()
    (row,) = run("shards", path, tmp_path / "out", restorer)
    with tarfile.open(tmp_path / "out/00.tar") as archive:
        assert archive.getnames() == ["0.dat", "1.png"] and row.state == "restored"
        assert archive.extractfile("0.dat").read() == holed and not archive.getmember("0.dat").issparse()
        assert np.array_equal(pixels(archive.extractfile("1.png").read()), restorer(jpeg(1)))


@pytest.mark.parametrize("fault", ["header", "end mark within", "cut behind zeros", "half an end mark"])
def test_a_shard_of_which_members_would_be_lost_fails(tmp_path, restorer, fault):
    """Where tarfile takes what it finds for all there is."""
    path = write_tar(tmp_path / "in/00.tar", [("0.jpg", jpeg(0)), ("0.npy", bytes(4096)), ("1.jpg", jpeg(1))])
    with tarfile.open(path) as archive:
        last, end = archive.getmember("1.jpg").offset, archive.offset
    data = path.read_bytes()
    path.write_bytes(
        {
            "header": data[: last + 150] + b"?" + data[last + 151 :],
            "end mark within": data + data,
            "cut behind zeros": data[:last],
            "half an end mark": data[: end + 512],
        }[fault]
    )
    (row,) = run("shards", path, tmp_path / "out", restorer)
    assert row.state == "failed" and "00.tar: cut short" in row.reason and "get it again" in row.reason
    assert not (tmp_path / "out/00.tar").exists()


@pytest.mark.parametrize("cut", ["half", "member"])
def test_a_shard_cut_short_is_one_failed_row_and_no_output(tmp_path, restorer, cut):
    """In the middle of a member, and between two, where tar files can be read as if nothing were missing."""
    path = tmp_path / "in/00.tar"
    write_shard(path, 4)
    write_shard(tmp_path / "in/01.tar", 2)
    with tarfile.open(path) as archive:
        end = archive.getmembers()[6].offset
    path.write_bytes(path.read_bytes()[: end + 700 if cut == "half" else end])
    rows = run("shards", tmp_path / "in", tmp_path / "out", restorer)
    failed = [row for row in rows if row.state == "failed"]
    assert len(failed) == 1 and "00.tar: cut short" in failed[0].reason and "get it again" in failed[0].reason
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"01.tar"} and len(rows) == 5


def test_members_that_would_become_one_are_told(tmp_path, restorer):
    path = written(tmp_path / "in", {"x.tar": b""}) / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in (("a.jpg", jpeg(1)), ("a.png", mask(1))):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    (row,) = run("shards", path, tmp_path / "out", restorer)
    assert "a.jpg and a.png in it would both become a.png" in row.reason
    twice = write_tar(tmp_path / "twice/x.tar", [("a.jpg", jpeg(1)), ("a.jpg", jpeg(2))])
    (row,) = run("shards", twice, tmp_path / "out", restorer)
    assert "a.jpg is in it more than once; unpack it and pack it anew" in row.reason
    (path.parent / "a#b.tar").write_bytes(path.read_bytes())
    with pytest.raises(UsageError, match="rename the file"):
        run("shards", path.parent, tmp_path / "out", restorer)


# -- Parquet -----------------------------------------------------------------------------------------------------------


def write_parquet(path: Path, values: list, kind: pa.DataType, name: str = "image") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"id": list(range(len(values))), name: pa.array(values, kind), "text": ["t"] * len(values)})
    parquet.write_table(table.replace_schema_metadata({"huggingface": "{}"}), path, row_group_size=3, compression="gzip")


STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), STRUCT], ids=str)
def test_parquet_comes_out_as_parquet(tmp_path, restorer, kind):
    data = [jpeg(i) for i in range(5)]
    values = [{"bytes": one, "path": f"{i}.jpg"} for i, one in enumerate(data)] if kind == STRUCT else list(data)
    values[2] = None
    values[3] = {"bytes": b"no image", "path": None} if kind == STRUCT else b"no image"
    write_parquet(tmp_path / "in/part.parquet", values, kind)
    rows = run("parquet", tmp_path / "in", tmp_path / "out", restorer)
    table = parquet.read_table(tmp_path / "out/part.parquet")
    assert table.schema == parquet.read_schema(tmp_path / "in/part.parquet")
    assert table.schema.metadata[b"huggingface"] == b"{}"
    assert table["id"].to_pylist() == [0, 1, 2, 3, 4] and table["text"].to_pylist() == ["t"] * 5
    found = table["image"].to_pylist()
    assert found[2] is None and found[3] is None
    for i in (0, 1, 4):
        value = found[i]
        if kind == STRUCT:
            assert value["path"] == f"{i}.png"
            value = value["bytes"]
        assert np.array_equal(pixels(value), restorer(data[i]))
    assert [row.source.rpartition("#")[2] for row in rows] == ["0", "1", "3", "4"]
    assert [row.state for row in rows] == ["restored", "restored", "failed", "restored"]
    assert "part.parquet#3" in rows[2].reason


CODECS = {"image.bytes": "NONE", "image.path": "ZSTD", "tags.list.element": "GZIP", "id": "SNAPPY"}


@pytest.mark.parametrize("compliant", [True, False])  # how elements of lists are called: list.element, list.item
def test_each_parquet_column_keeps_its_compression(tmp_path, restorer, compliant):
    """Hugging Face's own files leave images as they are, and compress the rest."""
    table = pa.table({"image": pa.array([{"bytes": jpeg(1), "path": "a.jpg"}], STRUCT), "tags": [["x"]], "id": [1]})
    codecs = {name if compliant else name.replace("element", "item"): codec for name, codec in CODECS.items()}
    path = tmp_path / "in/a.parquet"
    path.parent.mkdir()
    parquet.write_table(table, path, compression=codecs, use_compliant_nested_type=compliant)
    (row,) = run("parquet", path, tmp_path / "out", restorer)
    group = parquet.read_metadata(tmp_path / "out/a.parquet").row_group(0)
    found = {column.path_in_schema: column.compression for column in map(group.column, range(group.num_columns))}
    assert found == CODECS | {"image.bytes": "UNCOMPRESSED"} and row.state == "restored"


@pytest.mark.parametrize("kind", [pa.binary(), STRUCT], ids=str)
def test_a_parquet_column_that_was_not_to_be_null_is_taken(tmp_path, restorer, kind):
    data = [jpeg(1), b"no image"]
    field = pa.field("image", kind, nullable=False, metadata={"a": "b"})
    values = pa.array([{"bytes": one, "path": None} for one in data] if kind == STRUCT else data, kind)
    path = tmp_path / "in/a.parquet"
    path.parent.mkdir()
    parquet.write_table(pa.table([values, [1, 2]], schema=pa.schema([field, pa.field("id", pa.int64(), False)])), path)
    rows = run("parquet", path, tmp_path / "out", restorer)
    table = parquet.read_table(tmp_path / "out/a.parquet")
    assert [row.state for row in rows] == ["restored", "failed"] and table["image"].null_count == 1
    given = parquet.read_schema(path)
    assert table.schema.equals(given.set(0, given.field(0).with_nullable(True)), check_metadata=True)


def test_parquet_keeps_its_groups_of_rows(tmp_path, restorer):
    path, count = tmp_path / "in/a.parquet", 2 * BATCH
    path.parent.mkdir()
    table = pa.table({"image": pa.array([jpeg(1)] + [None] * (count - 1), pa.binary()), "id": range(count)})
    parquet.write_table(table, path, row_group_size=BATCH + 10)
    parquet.write_table(table[:0], path.with_name("b.parquet"))
    assert len(run("parquet", tmp_path / "in", tmp_path / "out", restorer)) == 1
    for name in ("a", "b"):
        given, found = (parquet.read_metadata(tmp_path / f"{folder}/{name}.parquet") for folder in ("in", "out"))
        groups = [[one.row_group(i).num_rows for i in range(one.num_row_groups)] for one in (given, found)]
        assert groups[0] == groups[1]
    assert parquet.read_table(tmp_path / "out/a.parquet")["id"].to_pylist() == list(range(count))


def test_a_parquet_row_without_bytes_is_of_the_file_at_its_path(tmp_path, restorer):
    """As RestoreActor and Hugging Face have it."""
    folder = written(tmp_path / "files", {"a.jpg": jpeg(1), "empty.jpg": b""})
    paths = [f"{folder}/a.jpg", f"{folder}/gone.jpg", f"{folder}/empty.jpg", "http://host/a.jpg", str(folder)]
    values = [{"bytes": None, "path": path} for path in [*paths, None]] + [{"bytes": jpeg(2), "path": "gone.jpg"}]
    write_parquet(tmp_path / "in/a.parquet", values, STRUCT)
    rows = run("parquet", tmp_path / "in", tmp_path / "out", restorer)
    found = parquet.read_table(tmp_path / "out/a.parquet")["image"].to_pylist()
    assert [row.state for row in rows] == ["restored"] + ["failed"] * 5 + ["restored"]
    assert np.array_equal(pixels(found[0]["bytes"]), restorer(jpeg(1))) and found[0]["path"] == f"{folder}/a.png"
    assert np.array_equal(pixels(found[6]["bytes"]), restorer(jpeg(2))) and found[1:6] == [None] * 5
    for i, path in enumerate(paths[1:], 1):
        assert f"a.parquet#{i}: {path}: " in rows[i].reason
    assert "is a URL" in rows[3].reason and "the file is empty" in rows[5].reason


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_jpeg_of_another_name_under_the_format_same(tmp_path, restorer, name):
    """A path in a Parquet file says less than a file's name."""
    if name == "tree":
        source = written(tmp_path / "in", {"a.gif": jpeg(1)})
    elif name == "shards":
        source = write_tar(tmp_path / "in/00.tar", [("a.gif", jpeg(1))])
    else:
        source = tmp_path / "in/a.parquet"
        write_parquet(source, [{"bytes": jpeg(1), "path": "a.gif"}], STRUCT)
    (row,) = run(name, source, tmp_path / "out", restorer, format="same")
    if name == "parquet":
        (value,) = parquet.read_table(tmp_path / "out/a.parquet")["image"].to_pylist()
        assert row.state == "restored" and value["path"] == "a.gif" and value["bytes"].startswith(b"\xff\xd8")
    else:
        assert row.state == "failed" and ".gif cannot be written" in row.reason


def test_parquet_without_the_column_is_told(tmp_path, restorer):
    write_parquet(tmp_path / "in/a.parquet", [jpeg(1)], pa.binary(), name="photo")
    with pytest.raises(UsageError, match="no column 'image'; it has id, photo, text: name one by --column"):
        run("parquet", tmp_path / "in", tmp_path / "out", restorer)
    with pytest.raises(UsageError, match="column 'text' is of string, not of bytes"):
        run("parquet", tmp_path / "in", tmp_path / "out", restorer, column="text")
    with pytest.raises(UsageError, match="more than one column 'id'"):
        parquet.write_table(pa.table([[1], [2]], names=["id", "id"]), tmp_path / "twice.parquet")
        run("parquet", tmp_path / "twice.parquet", tmp_path / "out", restorer, column="id")
    write_parquet(tmp_path / "in/b.parquet", [jpeg(1)], pa.binary(), name="other")  # only a later one lacks it
    rows = run("parquet", tmp_path / "in", tmp_path / "out", restorer, column="photo")
    assert [row.state for row in rows] == ["restored", "failed"] and "no column 'photo'" in rows[1].reason


def test_a_parquet_file_cut_short_is_told(tmp_path, restorer):
    write_parquet(tmp_path / "in/a.parquet", [jpeg(1)], pa.binary())
    data = (tmp_path / "in/a.parquet").read_bytes()
    (tmp_path / "in/b.parquet").write_bytes(data[: len(data) // 2])
    rows = run("parquet", tmp_path / "in", tmp_path / "out", restorer)
    assert [row.state for row in rows] == ["restored", "failed"] and "b.parquet: damaged or cut short" in rows[1].reason
    with pytest.raises(DagnPreError, match="cut short"):
        run("parquet", tmp_path / "in/b.parquet", tmp_path / "out", restorer)
