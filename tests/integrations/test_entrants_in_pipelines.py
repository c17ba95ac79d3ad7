"""Models that need more than pixels, in a pipeline: they get what JPEGCompress noted, or the file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mmcv.transforms import LoadImageFromFile

from dagn_pre import Restorer, codec
from dagn_pre.errors import ImageError, UsageError
from dagn_pre.integrations.openmmlab import DAGNRestore, JPEGCompress
from dagn_pre.integrations.openmmlab.insert.plan import check_restorer
from dagn_pre.integrations.openmmlab.preprocessors import preprocessor
from dagn_pre.networks.qgac import QGAC, QGACConfig
from dagn_pre.weights import save
from tests.support import photograph, randomised


@pytest.fixture(scope="module")
def qgac(tmp_path_factory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("qgac") / "qgac.safetensors"
    save(path, randomised(QGAC(QGACConfig(8, 2, 2, 8, 4))), dtype=torch.float32)
    return str(path)


def compressed(subsampling: str = "4:2:0") -> tuple[dict, bytes]:
    image = photograph()
    results = JPEGCompress(quality=20, subsampling=subsampling)({"img": image[..., ::-1].copy()})
    return results, codec.encode(image, 20, subsampling)


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_tables_and_subsampling_reach_the_model(qgac, subsampling, tmp_path):
    results, data = compressed(subsampling)
    expected = Restorer(qgac, device="cpu")(data)
    cached = {"cache_dir": str(tmp_path / "cache")}
    for step in (DAGNRestore(qgac), DAGNRestore(qgac, **cached), DAGNRestore(qgac, **cached)):
        output = step(dict(results))
        assert np.array_equal(output["img"][..., ::-1], expected) and output["dagn_restored"]
    assert output["dagn_cached"]


def test_the_file_reaches_a_decoder(tmp_path):
    results, data = compressed()
    expected = Restorer("libjpeg-plain", device="cpu")(data)
    output = DAGNRestore("libjpeg-plain")(dict(results))
    assert np.array_equal(output["img"][..., ::-1], expected) and output["dagn_restored"]
    assert DAGNRestore("libjpeg-plain", max_quality=20)(dict(results))["img"] is results["img"]
    (tmp_path / "a.jpg").write_bytes(data)
    loaded = LoadImageFromFile()({"img_path": str(tmp_path / "a.jpg")})
    assert np.array_equal(DAGNRestore("libjpeg-plain")(loaded)["img"][..., ::-1], expected)
    always = DAGNRestore("libjpeg-plain", restore_lossless="always")
    with pytest.raises(ImageError, match="works on JPEG files, and there is none"):
        always({"img": photograph()})
    with pytest.raises(ImageError, match="upright it is 96x64, not 32x32 as loaded"):
        always({"img": photograph(32, 32), "img_path": str(tmp_path / "a.jpg")})
    gone = {"img": photograph(), "img_path": str(tmp_path / "gone.jpg")}
    assert DAGNRestore("libjpeg-plain", on_error="pass", restore_lossless="always")(gone)["dagn_restored"] is False
    assert DAGNRestore("libjpeg-plain", strength=0)(dict(results))["img"] is results["img"]


def test_a_preprocessor_has_no_files():
    with pytest.raises(UsageError, match="works on files, and a preprocessor has tensors"):
        check_restorer("libjpeg", {})
    with pytest.raises(UsageError, match="works on files, and a preprocessor has tensors"):
        preprocessor("DAGNDetDataPreprocessor")(restorer={"model": "libjpeg"})


def test_pictures_without_tables_are_named_passed_or_assumed(qgac):
    results = {"img": photograph(), "img_path": "frame.png"}
    with pytest.raises(ImageError, match=r"frame\.png.*no quantisation tables"):
        DAGNRestore(qgac, restore_lossless="always")(dict(results))
    passed = DAGNRestore(qgac, on_error="pass", restore_lossless="always")(dict(results))
    assert passed["img"] is results["img"] and not passed["dagn_restored"]
    assert DAGNRestore(qgac, assume_tables=True, max_quality=None)(dict(results))["dagn_restored"]
