"""Entrants without weights, one model per QF, tables that are missing, models of other packages."""

from __future__ import annotations

import warnings
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from PIL import Image

from dagn_pre import Restorer, codec, models
from dagn_pre.cli.main import main
from dagn_pre.errors import ImageError, UsageError, WeightsError
from dagn_pre.models import registry
from dagn_pre.networks.arcnn import ARCNN, ARCNNConfig
from dagn_pre.networks.qgac import QGAC, QGACConfig
from dagn_pre.protocol import RestorationModel
from dagn_pre.weights import save
from tests.support import photograph, randomised


class Brighter(RestorationModel):
    """A model of another package: adds a constant."""

    stride = 1

    def __init__(self, by: float = 0.1) -> None:
        super().__init__()
        self.by = by

    def restore(self, x, guidance):
        return x + self.by


def png(tmp_path, image: np.ndarray):
    Image.fromarray(image).save(tmp_path / "image.png")
    return tmp_path / "image.png"


# -- without weights ---------------------------------------------------------------------------------------------------


def test_identity_changes_nothing():
    image = photograph()
    assert np.array_equal(Restorer("identity", device="cpu", max_quality=None)(image), image)


def test_deblock_evens_out_borders_of_blocks():
    image = codec.compress(photograph(96, 96, noise=0), 5)
    output = Restorer("deblock", device="cpu", max_quality=None)(image)
    steps = [np.abs(np.diff(one.astype(int), axis=1))[:, 7::8].mean() for one in (image, output)]
    assert output.shape == image.shape and steps[1] < 0.9 * steps[0]


def test_libjpegs_switches(tmp_path):
    image = photograph(64, 96)
    data = codec.encode(image, 30)
    names = ("libjpeg", "libjpeg-unsmoothed", "libjpeg-plain")
    fancy, unsmoothed, plain = (Restorer(name, device="cpu", max_quality=None)(data) for name in names)
    assert np.array_equal(fancy, codec.decode(data))  # the library decodes as Pillow does
    assert np.array_equal(unsmoothed, fancy)  # block smoothing acts on files that are cut short alone
    assert (plain != fancy).any()
    full = codec.encode(image, 30, "4:4:4")
    assert np.array_equal(Restorer("libjpeg-plain", device="cpu", max_quality=None)(full), codec.decode(full))
    grey = codec.encode(image[..., 0], 30)
    assert np.array_equal(Restorer("libjpeg-plain", device="cpu", max_quality=None)(grey), codec.decode(grey))


def test_libjpeg_wants_a_file(tmp_path):
    restorer = Restorer("libjpeg-plain", device="cpu")
    with pytest.raises(ImageError, match="works on JPEG files"):
        restorer(photograph())
    with pytest.raises(ImageError, match=r"image\.png.*works on JPEG files"):
        restorer(png(tmp_path, photograph()))
    path = tmp_path / "a.jpg"
    path.write_bytes(codec.encode(photograph(), 30))
    with Image.open(path) as opened:  # Pillow knows where it is from
        assert np.array_equal(np.asarray(restorer(opened)), restorer(path))
        opened.putpixel((0, 0), (255, 0, 0))
        with pytest.raises(ImageError, match=r"a\.jpg: has been changed since"):
            restorer(opened)
    opened = Image.open(path)
    opened.load()
    path.unlink()
    with pytest.raises(ImageError, match=r"a\.jpg: No such file"):
        restorer(opened)


def test_cmyk_is_refused_by_name(tmp_path):
    path = tmp_path / "print.jpg"
    Image.fromarray(photograph()).convert("CMYK").save(path, quality=30)
    with pytest.raises(ImageError, match=r"print\.jpg: libjpeg entrants decode"):
        Restorer("libjpeg", device="cpu")(path)


def test_a_batch_goes_on_after_a_file_without_tables(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.fromarray(photograph()).save(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.jpg").write_bytes(codec.encode(photograph(), 30))
    assert main(["restore", str(tmp_path / "in"), str(tmp_path / "out"), "--model", "libjpeg-plain"]) == 1
    assert "a.png: model 'libjpeg-plain' works on JPEG files" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".dagn-pre", "b.png"]


# -- tables --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def qgac(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("qgac") / "qgac.safetensors"
    save(path, randomised(QGAC(QGACConfig(8, 2, 2, 8, 4))), dtype=torch.float32)
    return path


def test_a_png_has_no_tables(qgac, tmp_path):
    image = codec.compress(photograph(64, 64), 20)
    path = png(tmp_path, image)
    with pytest.raises(ImageError, match=r"image\.png: no JPEG, so it has no quantisation tables"):
        Restorer(qgac, device="cpu")(path)
    assumed = Restorer(qgac, device="cpu", assume_tables=True, max_quality=None)
    estimate = Restorer("dagn-xs", device="cpu").estimate_quality(image, blind=True).value
    told = Restorer(qgac, device="cpu", max_quality=None)(image, quality=estimate)
    assert np.array_equal(assumed(path), told)
    assert np.array_equal(Restorer(qgac, device="cpu", assume_quality=estimate)(path), told)


def test_a_jpegs_own_tables_and_subsampling_are_used(qgac, tmp_path):
    path = tmp_path / "own.jpg"
    tables = [[step + 3 for step in table] for table in codec.given_quality(20).tables]
    Image.fromarray(photograph(64, 64)).save(path, qtables=tables, subsampling=0)
    restorer = Restorer(qgac, device="cpu", max_quality=None)
    known = restorer.estimate_quality(path)
    assert known.tables == tuple(map(tuple, tables)) and known.subsampling == "4:4:4"
    pixels = codec.decode(path.read_bytes())
    assert np.array_equal(restorer(path), restorer(pixels, quality=known))
    assert (restorer(path) != restorer(pixels, quality=known.value)).any()
    assert np.array_equal(restorer(path, quality=60), restorer(path))  # a hint decides about skipping alone


# -- one model per QF ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def per_quality(tmp_path_factory):
    folder = tmp_path_factory.mktemp("per_quality")
    for quality in (10, 40):
        network = ARCNN(ARCNNConfig((1, 1, 1, 1), (2, 2, 2), residual=True))
        torch.nn.init.constant_(network.layers[-1].bias, quality / 255)
        save(folder / f"arcnn_q{quality}.safetensors", network, dtype=torch.float32)
    (folder / "arcnn_q999.safetensors").write_bytes(b"")  # no QF
    return folder / "arcnn_q{qf}.safetensors"


def test_each_image_goes_to_the_model_of_its_qf(per_quality):
    restorer = Restorer(per_quality, device="cpu", max_quality=None)
    grey = np.full((16, 16, 3), 100, np.uint8)
    assert restorer.model.qualities == (10, 40)
    low, high = restorer([grey, grey], quality=[10, 40])
    assert (low == 110).all() and (high == 140).all()
    assert (Restorer(per_quality, device="cpu", assume_quality=40)(grey) == 140).all()


def test_another_qf_takes_the_nearest_with_a_warning_or_is_refused(per_quality):
    grey = np.full((16, 16, 3), 100, np.uint8)
    restorer = Restorer(per_quality, device="cpu", max_quality=None)
    with pytest.warns(RuntimeWarning, match=r"was trained for QF 10, 40, not 30; the one for 40 is taken"):
        assert (restorer(grey, quality=30) == 140).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restorer(grey, quality=30)  # said once
    with pytest.warns(RuntimeWarning, match="the one for 10 is taken"):
        assert (restorer(grey, quality=25) == 110).all()  # the lower of two
    with pytest.raises(ImageError, match=r"was trained for QF 10, 40, not 30$"):
        Restorer(per_quality, device="cpu", max_quality=None, strict=True)(grey, quality=30)
    with pytest.raises(ImageError, match="tell its quality"):
        restorer(grey)


def test_which_file_is_for_which_qf_is_told_apart(per_quality, tmp_path):
    files = {quality: tmp_path / f"m{quality}.safetensors" for quality in (10, 40, 50)}
    for quality in (10, 40):
        files[quality].write_bytes((per_quality.parent / f"arcnn_q{quality}.safetensors").read_bytes())
    template, grey = tmp_path / "m{qf}.safetensors", np.full((16, 16, 3), 100, np.uint8)
    before = Restorer(template, device="cpu", max_quality=None)
    alone = Restorer(files[40], device="cpu", max_quality=None)
    files[40].rename(files[50])
    files[10].rename(files[40])
    after = Restorer(template, device="cpu", max_quality=None)
    assert len({before.fingerprint, after.fingerprint, alone.fingerprint}) == 3
    assert after.model.qualities == (40, 50) and (after(grey, quality=50) == 140).all()
    (tmp_path / "m040.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"m0?40\.safetensors.* both for QF 40"):
        Restorer(template, device="cpu")


def test_no_file_for_any_qf(tmp_path):
    with pytest.raises(WeightsError, match=r"swinir_\{qf\}\.pth: no such weights files"):
        Restorer(tmp_path / "swinir_{qf}.pth", device="cpu")


def test_names_without_weights_say_where_they_are():
    with pytest.raises(WeightsError, match=r"fbcnn: .*fbcnn_color\.pth.*pass the path"):
        Restorer("fbcnn", device="cpu")


# -- other packages ------------------------------------------------------------------------------------------------------


@pytest.fixture
def entry_points(monkeypatch):
    """What installed packages offer, for one test."""

    def offer(*found: EntryPoint) -> None:
        monkeypatch.setattr(registry, "entry_points", lambda group: found)
        monkeypatch.setattr(registry, "_registry", dict(registry._registry))
        monkeypatch.setattr(registry, "_asked", False)

    yield offer


def brighter() -> models.Model:
    return models.Model("brighter", build=Brighter, description="adds a tenth")


def curious() -> models.Model:
    assert models.get("arcnn").config is not None
    return models.Model("curious", build=lambda: float("no number"))


def fails() -> models.Model:
    raise OSError("the plugin's own trouble")


def entry(name: str, function: str) -> EntryPoint:
    return EntryPoint(name, f"{__name__}:{function}", models.GROUP)


def test_a_package_adds_a_model(entry_points):
    entry_points(entry("brighter", "brighter"))
    assert "brighter" in models.names()
    grey = np.full((16, 16, 3), 100, np.uint8)
    assert (Restorer("brighter", device="cpu", max_quality=None)(grey) == 126).all()
    with pytest.raises(UsageError, match="no effect"):
        Restorer("brighter", device="cpu", assume_quality=10)


@pytest.mark.slow
def test_a_package_may_look_at_the_registry_and_fail_later(entry_points, capsys):
    entry_points(entry("curious", "curious"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert models.names().count("curious") == 1
    with pytest.raises(WeightsError, match="'curious' cannot be built: ValueError: could not convert"):
        Restorer("curious", device="cpu")
    assert main(["models"]) == 0
    captured = capsys.readouterr()
    assert "model 'curious' cannot be built" in captured.err and "dagn-s" in captured.out


def test_a_broken_package_is_named_and_left_out(entry_points):
    entry_points(entry("bad", "fails"), entry("odd", "photograph"), entry("brighter", "brighter"))
    with pytest.warns(RuntimeWarning) as caught:
        assert "brighter" in models.names() and "bad" not in models.names()
    text = " ".join(str(one.message) for one in caught)
    assert "the model 'bad' of entry point" in text and "the plugin's own trouble" in text and "'odd'" in text
