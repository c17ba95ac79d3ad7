"""JPEG's arithmetic on tensors, against scipy and against what libjpeg reads from files."""

from __future__ import annotations

import jpeglib
import numpy as np
import pytest
import scipy.fft
import torch
from PIL import Image

from dagn_pre import codec
from dagn_pre.networks import dct
from tests.support import photograph


def test_every_block_gets_the_orthonormal_transform():
    planes = torch.rand(2, 3, 16, 24)
    block = planes[1, 2, 8:16, 16:24].numpy()
    found = dct.dct(planes)
    assert np.allclose(found[1, 2, 8:16, 16:24], scipy.fft.dctn(block, norm="ortho"), atol=1e-6)
    assert torch.allclose(dct.idct(found), planes, atol=1e-5)


def test_colour_is_jfifs_and_comes_back():
    image = photograph()
    rgb = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    ycbcr = dct.to_ycbcr(rgb)
    pillow = np.asarray(Image.fromarray(image).convert("YCbCr")).astype(float)
    assert np.abs(ycbcr[0].permute(1, 2, 0).numpy() * 255 + 128 - pillow).max() < 1.01  # Pillow rounds
    assert torch.allclose(dct.to_rgb(ycbcr), rgb, atol=1e-6)


def test_autocast_leaves_it_in_full_precision():
    rgb = torch.rand(1, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(dct.to_rgb(dct.idct(dct.dct(dct.to_ycbcr(rgb)))), dct.to_rgb(dct.idct(dct.dct(dct.to_ycbcr(rgb)))))
        assert dct.dct(rgb).dtype == torch.float32
        assert torch.allclose(dct.idct(dct.dct(rgb)), rgb, atol=1e-5)


@pytest.mark.parametrize("quality, luma, chroma", [(10, 1e-3, 1e-3), (30, 1e-3, 1e-3), (75, 0.02, 0.01), (90, 0.04, 0.02)])
def test_the_files_coefficients_come_back_from_its_pixels(tmp_path, quality, luma, chroma):
    """The share of coefficients that differ from those in the file: next to none, but at high QF, where steps are as small as
    the decoder's rounding."""
    data = codec.encode(photograph(160, 192, noise=3), quality)
    (tmp_path / "a.jpg").write_bytes(data)
    stored = jpeglib.read_dct(str(tmp_path / "a.jpg"))
    tables = torch.from_numpy(codec.standard_tables()[quality - 1].astype(np.float32))
    ycbcr = dct.to_ycbcr(torch.from_numpy(codec.decode(data).copy()).permute(2, 0, 1)[None] / 255)
    for found, table, expected, share in (
        (dct.dct(ycbcr[:, :1]), tables[:1], stored.Y, luma),
        (dct.dct(dct.halved(ycbcr[:, 1:2])), tables[1:], stored.Cb, chroma),
    ):
        levels = dct.dequantised(found, table) / dct.steps(table, found)
        blocks = levels[0, 0].unflatten(1, (-1, 8)).unflatten(0, (-1, 8)).transpose(1, 2).round().numpy()
        assert (blocks != expected).mean() <= share
        assert (blocks != 0).any()
