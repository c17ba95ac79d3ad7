"""JPEGCompress and DAGNRestore on toy result dicts."""

from __future__ import annotations

import logging
import pickle

import numpy as np
import pytest
import torch
from mmcv.transforms import TRANSFORMS as MMCV_TRANSFORMS
from mmcv.transforms import LoadImageFromFile
from mmcv.transforms.utils import cache_random_params
from mmdet.registry import TRANSFORMS as MMDET_TRANSFORMS
from mmengine import fileio
from mmengine.fileio import LocalBackend
from mmengine.registry import TRANSFORMS
from mmseg.registry import TRANSFORMS as MMSEG_TRANSFORMS
from openmmlab_toys import SIZE, picture
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from dagn_pre import codec, images, models
from dagn_pre.errors import ConfigError, ImageError, UsageError, WeightsError
from dagn_pre.integrations import workers
from dagn_pre.integrations.openmmlab import DAGNDefer, DAGNRestore, JPEGCompress, restore
from dagn_pre.integrations.openmmlab import results as steps
from dagn_pre.restorer import shared_restorer
from dagn_pre.sources import told_by
from tests.support import odd_files


def toy(seed: int = 0, **more) -> dict:
    """What a loading step leaves behind for an image that came as an array."""
    image = np.ascontiguousarray(picture(seed)[..., ::-1])
    return {"img": image, "img_path": None, "img_shape": SIZE, "ori_shape": SIZE, **more}


@pytest.mark.parametrize("registry", [TRANSFORMS, MMCV_TRANSFORMS, MMDET_TRANSFORMS, MMSEG_TRANSFORMS])
def test_one_registration_serves_every_host(registry):
    assert registry.get("JPEGCompress") is JPEGCompress
    assert registry.get("DAGNRestore") is DAGNRestore
    assert isinstance(registry.build(dict(type="JPEGCompress", quality=10)), JPEGCompress)


# -- JPEGCompress ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subsampling", codec.SUBSAMPLINGS)
def test_compress_is_the_codec_on_rgb(subsampling):
    results = JPEGCompress(30, subsampling)(toy())
    expected = codec.compress(picture(0), 30, subsampling)
    np.testing.assert_array_equal(results["img"][..., ::-1], expected)
    assert results["img"].flags.c_contiguous and results["jpeg_quality"] == 30


def test_compress_draws_from_the_range_with_numpys_seed():
    step = JPEGCompress((10, 12))
    np.random.seed(3)
    first = [step(toy())["jpeg_quality"] for _ in range(60)]
    np.random.seed(3)
    assert first == [step(toy())["jpeg_quality"] for _ in range(60)]
    assert set(first) == {10, 11, 12}


def test_compress_with_probability():
    np.random.seed(0)
    results = [JPEGCompress(10, prob=0.5)(toy()) for _ in range(60)]
    compressed = [result for result in results if "jpeg_quality" in result]
    assert 15 < len(compressed) < 45
    for result in results:
        assert ("jpeg_quality" in result) == (result["img"].tobytes() != toy()["img"].tobytes())
    assert "jpeg_quality" not in JPEGCompress(10, prob=0)(toy())


def test_compress_shares_its_draw_where_the_host_asks():
    step = JPEGCompress((1, 100))
    with cache_random_params(step):
        assert len({step(toy())["jpeg_quality"] for _ in range(8)}) == 1


@pytest.mark.parametrize(
    "arguments",
    [dict(quality=0), dict(quality=101), dict(quality=10.0), dict(quality=True), dict(quality="10")]
    + [dict(quality=(40, 10)), dict(quality=(10, 20, 30)), dict(quality=(0, 10)), dict(quality=[])]
    + [dict(quality=10, subsampling="4:1:1"), dict(quality=10, prob=1.5), dict(quality=10, prob=None)],
)
def test_compress_refuses_bad_values_when_built(arguments):
    with pytest.raises(UsageError):
        JPEGCompress(**arguments)


# -- where the steps may stand -----------------------------------------------------------------------------------------


@pytest.fixture(params=["compress", "restore", "restore, passing"])
def step(request, weights):
    if request.param == "compress":
        return JPEGCompress(10)
    return DAGNRestore(weights, on_error="pass" if "passing" in request.param else "raise")


@pytest.mark.parametrize(
    "later",
    [
        dict(type="mmdet.Resize", scale=(96, 64), keep_ratio=True),  # changes no pixel
        dict(type="mmdet.Resize", scale_factor=0.5),
        dict(type="mmdet.RandomFlip", prob=0.0),  # nor does this
        dict(type="mmdet.Pad", size_divisor=32),
        dict(type="mmseg.Resize", scale=(48, 32), keep_ratio=True),
        dict(type="mmseg.RandomCrop", crop_size=(32, 32)),
        dict(type="mmcv.CenterCrop", crop_size=(40, 40)),
    ],
    ids=lambda later: later["type"],
)
def test_placed_after_a_geometric_step(step, later):
    results = toy(gt_seg_map=np.zeros(SIZE, np.uint8), seg_fields=["gt_seg_map"])
    registry = MMSEG_TRANSFORMS if later["type"].startswith("mmseg") else MMDET_TRANSFORMS
    kind = later["type"].removeprefix("mmcv.")
    results = registry.build({**later, "type": kind})(results)
    with pytest.raises(ConfigError, match=r"right after the step that loads.*8x8 blocks"):
        step(results)


def test_float_images_are_a_config_error(step):
    results = toy()
    results["img"] = results["img"].astype(np.float32)
    with pytest.raises(ConfigError, match="to_float32=False"):
        step(results)


# -- DAGNRestore -------------------------------------------------------------------------------------------------------


def test_restore_is_the_restorer_on_bgr(weights):
    results = DAGNRestore(weights, restore_lossless="always")(toy())
    expected = shared_restorer(model=weights, device="cpu", restore_lossless="always")(picture(0))
    np.testing.assert_array_equal(results["img"][..., ::-1], expected)
    assert results["dagn_restored"] is True and results["img"].dtype == np.uint8
    assert (expected != picture(0)).any()


def test_the_reason_for_leaving_an_image_is_noted(weights):
    """A picture that was never a JPEG, one whose quality is known, and one that is restored."""
    for results, reason in (
        (toy(), "no 8x8 grid in the pixels"),
        (toy(jpeg_quality=90), "its QF is 90, and max_quality 85"),
        (toy(jpeg_quality=10), None),
    ):
        before = results["img"]
        found = DAGNRestore(weights)(results)
        assert found["dagn_reason"] == reason and found["dagn_restored"] is (reason is None)
        assert (found["img"] is before) == (reason is not None)


def test_strength_zero_and_high_quality_leave_the_image(weights):
    for step, results in ((DAGNRestore(weights, strength=0), toy()), (DAGNRestore(weights), toy(jpeg_quality=90))):
        before = results["img"]
        assert step(results)["img"] is before and results["dagn_restored"] is False


def test_quality_is_the_note_then_the_header_then_unknown(data):
    def load(name: str) -> dict:
        return LoadImageFromFile()(dict(img_path=str(data / "JPEGImages" / name)))

    def known(results: dict) -> codec.Quality | None:
        noted, data = steps.noted_quality(results), steps.source_file(results, None)
        return noted if noted is not None or data is None else told_by(data, results["img"][..., ::-1])

    noted = known({**load("q40.jpg"), "jpeg_quality": 20, "jpeg_subsampling": "4:4:4"})
    assert (noted.value, noted.source, noted.subsampling) == (20, "given", "4:4:4")
    assert noted.tables == tuple(tuple(map(int, table)) for table in codec.standard_tables()[19])
    assert known(load("q40.jpg")) == codec.Quality(40, "header", standard=True)
    assert known(load("lossless.png")) is None
    assert known(toy()) is None
    assert known(toy(img_path="frame-17")) is None  # a name, not a file
    resized = load("q40.jpg")
    resized["img"] = resized["img"][:32]
    assert known(resized) is None  # the pixels are not that file's


def test_quality_of_a_file_that_exif_turns(weights, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "turned.jpg").write_bytes(codec.encode(picture(0), 95, exif=exif))
    results = LoadImageFromFile()(dict(img_path=str(tmp_path / "turned.jpg")))
    assert results["img"].shape[:2] == SIZE[::-1]
    assert DAGNRestore(weights)(results)["dagn_restored"] is False


def test_header_through_any_file_backend(weights, data):
    class Shelf(LocalBackend):
        """Files known by a name of its own."""

        def __init__(self, root: str) -> None:
            self.root = root

        def get(self, filepath):
            return super().get(f"{self.root}/{str(filepath).removeprefix('shelf://')}")

    fileio.register_backend("shelf", Shelf, force=True)
    backend = dict(backend="shelf", root=str(data / "JPEGImages"))
    results = LoadImageFromFile(backend_args=backend)(dict(img_path="shelf://q95.jpg"))
    assert DAGNRestore(weights, backend_args=backend)(results)["dagn_restored"] is False


def test_blind_estimate_where_nothing_is_known(monkeypatch):
    """The shipped model has P_qf: what it estimates decides."""
    restorer = shared_restorer(model="dagn-s", device="cpu", restore_lossless="always")
    for value, restored in ((84, True), (85, False)):
        monkeypatch.setattr(restorer.model.quality, "quality", lambda vector, value=value: torch.tensor([value]))
        assert DAGNRestore("dagn-s", restore_lossless="always")(toy())["dagn_restored"] is restored


def test_one_model_per_process_loaded_at_the_first_image(weights, monkeypatch):
    calls, load = [], models.load
    monkeypatch.setattr(models, "load", lambda model: calls.append(model) or load(model))
    steps = [DAGNRestore(weights) for _ in range(5)]
    assert calls == []
    for step in steps:
        step(toy())
    assert calls == [weights]


def test_pickle_stays_small_after_use(weights):
    step = DAGNRestore(weights)
    expected = step(toy())["img"]
    data = pickle.dumps(step)
    assert len(data) < 10_000
    np.testing.assert_array_equal(pickle.loads(data)(toy())["img"], expected)


@pytest.mark.parametrize(
    "arguments",
    [dict(model="dagn-xxl"), dict(device="tpu!"), dict(max_quality=0), dict(strength=2), dict(tile=100)]
    + [dict(dtype="int8"), dict(on_error="ignore")],
)
def test_restore_refuses_bad_values_when_built(arguments):
    with pytest.raises(UsageError) as error:
        DAGNRestore(**arguments)
    assert repr(next(iter(arguments.values()))) in str(error.value) or str(arguments.get("tile")) in str(error.value)


def test_unknown_model_lists_the_known_and_pickled_weights_are_refused(tmp_path):
    with pytest.raises(UsageError, match="known: .*dagn-s"):
        DAGNRestore("nope")
    with pytest.raises(WeightsError, match=r"model\.pth: no such weights file"):
        DAGNRestore(str(tmp_path / "model.pth"))
    (tmp_path / "model.pth").write_bytes(pickle.dumps({"x": print}))
    with pytest.raises(WeightsError, match=r"model\.pth: refused"):
        DAGNRestore(str(tmp_path / "model.pth")).transform(toy())
    with pytest.raises(WeightsError, match="missing.safetensors"):
        DAGNRestore(str(tmp_path / "missing.safetensors"))


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 4), (0, 8, 3)])
def test_on_error_decides_about_images_that_cannot_be_restored(weights, shape, monkeypatch):
    results = dict(img=np.zeros(shape, np.uint8), img_path="strange.tif")
    with pytest.raises(ImageError, match="strange.tif"):
        DAGNRestore(weights, on_error="raise")(dict(results))
    logged = []
    monkeypatch.setattr(restore, "print_log", lambda *arguments: logged.append(arguments))
    passed = DAGNRestore(weights, on_error="pass")(dict(results))
    assert passed["img"] is results["img"] and passed["dagn_restored"] is False
    ((message, logger, level),) = logged
    assert "strange.tif" in message and logger == "current" and level == logging.WARNING


def test_strength_by_quality(weights, tmp_path):
    """As a config's JSON has it; from a cache as well."""
    points, options = [[10, 1.0], [40, 0.5]], dict(model=weights, max_quality=None)
    step = TRANSFORMS.build(dict(type="DAGNRestore", strength=points, cache_dir=str(tmp_path / "cache"), **options))
    plain = DAGNRestore(**options, strength=0.75)
    for cached in (False, True):
        found = step(toy(jpeg_quality=25))
        assert np.abs(found["img"].astype(int) - plain(toy(jpeg_quality=25))["img"]).max() <= 1
        assert found["dagn_cached"] is cached
    again = eval(repr(step))
    assert again.options["strength"] == points and pickle.loads(pickle.dumps(step)).options == step.options


def test_repr_shows_the_options():
    assert repr(JPEGCompress((10, 40))) == "JPEGCompress(quality=(10, 40), subsampling='4:2:0', prob=1.0)"
    again = eval(repr(DAGNRestore("dagn-s", strength=0.5, assume_quality=30)))
    assert again.options["strength"] == 0.5 and again.options["assume_quality"] == 30


# -- inside DataLoader workers -----------------------------------------------------------------------------------------


class Threads(Dataset):
    """One image, restored; tells how many threads torch keeps to afterwards."""

    def __init__(self, step: DAGNRestore) -> None:
        self.step = step

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        torch.set_num_threads(2)
        assert self.step(toy(jpeg_quality=10))["dagn_restored"]
        return torch.get_num_threads()


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_workers_keep_to_one_thread(weights, device):
    assert [int(n) for n in DataLoader(Threads(DAGNRestore(weights, device=device)), num_workers=1)] == [1]


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_cuda_in_a_forked_worker_is_refused_before_it_is_touched(weights, device):
    loader = DataLoader(Threads(DAGNRestore(weights, device=device)), num_workers=1, multiprocessing_context="fork")
    with pytest.raises(UsageError, match=r'mp_start_method="spawn".*num_workers=0.*device="cpu"'):
        list(loader)


def test_cuda_in_a_spawned_worker_is_the_restorers_business(monkeypatch):
    monkeypatch.setattr(workers, "get_worker_info", lambda: object())
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    for method, device in (("spawn", "cuda"), ("forkserver", "auto")):
        monkeypatch.setattr(workers.multiprocessing, "get_start_method", lambda method=method: method)
        assert workers.usable_device(device) == device


# -- files as they are found -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_what_was_restored_before_is_left_alone_unless_told_otherwise(weights, tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    images.save(Image.fromarray(picture(0)), path, mark=True)
    load = LoadImageFromFile(imdecode_backend="cv2")
    results = load(dict(img_path=str(path)))
    before = results["img"]
    assert DAGNRestore(weights, max_quality=None)(dict(results))["img"] is before
    assert DAGNRestore(weights, max_quality=None, again=True)(dict(results))["dagn_restored"] is True
    other = dict(results, img=before[::-1].copy())  # whose pixels are not that file's
    assert DAGNRestore(weights, max_quality=None)(other)["dagn_restored"] is True
    compressed = JPEGCompress(10)(dict(results))
    assert DAGNRestore(weights, max_quality=None)(compressed)["dagn_restored"] is True
    deferred = DAGNDefer(dict(type="RandomFlip", prob=0.0))(dict(results))["dagn_deferred"]
    assert shared_restorer(model=weights, device="cpu", max_quality=None)(before, quality=deferred.quality) is before


def test_gray_stays_gray(weights):
    grey = odd_files.grey_levels(96, 64)
    results = DAGNRestore(weights, max_quality=None)(toy(img=grey, ori_shape=grey.shape[:2]))
    assert results["dagn_restored"] and (results["img"][..., :1] == results["img"]).all()


@pytest.mark.parametrize("name", odd_files.damaged())
def test_a_damaged_file_beside_good_pixels_is_no_matter(weights, tmp_path, name):
    """The loader may have read what Pillow does not, or have got its pixels elsewhere."""
    (tmp_path / name).write_bytes(odd_files.damaged()[name])
    results = DAGNRestore(weights, max_quality=None)(toy(img_path=str(tmp_path / name)))
    expected = DAGNRestore(weights, max_quality=None)(toy())
    np.testing.assert_array_equal(results["img"], expected["img"])


@pytest.mark.parametrize("kind", [*odd_files.ODD_EXIF, *odd_files.UNREADABLE_EXIF])
def test_exif_of_any_kind_does_not_hide_the_quality(weights, tmp_path, kind):
    exif = {**odd_files.ODD_EXIF, **odd_files.UNREADABLE_EXIF}[kind]
    (tmp_path / "a.jpg").write_bytes(odd_files.jpeg(95, exif=exif))
    results = LoadImageFromFile()(dict(img_path=str(tmp_path / "a.jpg")))
    assert DAGNRestore(weights)(results)["dagn_restored"] is False


def test_the_quality_is_of_the_tables_that_the_components_use(weights, tmp_path):
    (tmp_path / "a.jpg").write_bytes(odd_files.with_tables(odd_files.jpeg(20), (3, [1] * 64)))
    results = LoadImageFromFile()(dict(img_path=str(tmp_path / "a.jpg")))
    assert told_by(steps.source_file(results, None), results["img"][..., ::-1]).value == 20
