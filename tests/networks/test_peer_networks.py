"""ARCNN, DMCNN and QGAC: counted as the papers count them, and what is special about each."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from dagn_pre import codec, models
from dagn_pre.benchmarks.restoration import cost
from dagn_pre.codec import Quality
from dagn_pre.errors import ImageError
from dagn_pre.networks import dct
from dagn_pre.networks.arcnn import ARCNN, ARCNNConfig
from dagn_pre.networks.dmcnn import DMCNN, DMCNNConfig
from dagn_pre.networks.fbcnn import FBCNN, FBCNNConfig
from dagn_pre.networks.qgac import QGAC, QGACConfig, by_frequency, by_plane
from dagn_pre.protocol import ImageInformation
from tests.support import photograph, randomised

SMALL = {
    "arcnn": lambda: ARCNN(ARCNNConfig((5, 3, 1, 3), (8, 8, 8))),
    "dmcnn": lambda: DMCNN(DMCNNConfig((8, 8, 8), (2, 4))),
    "qgac": lambda: QGAC(QGACConfig(8, 2, 2, 8, 4)),
    "fbcnn": lambda: FBCNN(FBCNNConfig((8, 8, 8, 16), 1)),
}


def tensor(image) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255


@pytest.mark.parametrize("name", ["dmcnn", "fbcnn", "dagn"])
def test_rows_of_table_iii(name):
    """Parameters and operations as printed, by the counter that printed them."""
    method, parameters, macs, _ = next(row for row in cost.PUBLISHED if row[0].lower() == name)
    assert round(models.cost(name)[0] / 1e6, 1) == parameters, method
    assert models.thop_macs(name) / 1e9 == pytest.approx(macs, rel=2e-3)


def test_parameters_of_the_transformers():
    counts = {name: sum(parameter.numel() for parameter in models.network(name).parameters()) for name in ("swinir", "ipt")}
    assert round(counts["swinir"] / 1e6, 1) == 11.5
    assert counts["ipt"] / 1e6 == pytest.approx(114.2, rel=0.01)  # 115.3 with one task's head and tail


def test_qgacs_operations():
    """Table III prints 249.9 G, which are its true multiply-accumulates, and 0.0 M parameters; FBCNN's paper gives 259.4 M."""
    parameters, macs = models.cost("qgac")
    assert round(macs / 1e9, 1) == 249.9
    assert parameters / 1e6 == pytest.approx(259.4, rel=0.02)


@pytest.mark.parametrize("name", SMALL)
def test_any_size_and_no_seam(name):
    """What lies farther than the receptive radius does not matter: the tiles' promise."""
    torch.manual_seed(0)
    model = randomised(SMALL[name]()).eval()
    radius = -(-model.receptive_radius // 16) * 16
    x = torch.rand(1, 3, 32, radius + 48)
    other = x.clone()
    other[..., 32 + radius :] = torch.rand(1, 3, 32, 16)
    information = [ImageInformation(assumed=30)]
    with torch.no_grad():
        assert model(x[..., :27, :41], information).shape == (1, 3, 27, 41)
        guidance = model.guide(x, information)
        difference = (model.restore(x, guidance) - model.restore(other, guidance)).abs()
    assert difference[..., :32].max() < 1e-5
    assert difference[..., 32 + radius :].max() > 1e-3


def test_arcnn_with_a_skip_starts_close_to_the_identity_and_blind_to_the_mean():
    torch.manual_seed(0)
    x = torch.rand(1, 3, 24, 24)
    network = ARCNN(ARCNNConfig(residual=True))
    assert 0 < (network(x) - x).abs().max() < 0.1
    first = network.layers[0]
    assert first(torch.full((1, 3, 24, 24), 0.7))[..., 4:-4, 4:-4].abs().max() < 1e-5
    assert (ARCNN()(x) - x).abs().max() > 0.1


def test_dmcnns_rectify_unit_keeps_luma_within_half_a_step():
    torch.manual_seed(0)
    model = DMCNN(DMCNNConfig((8, 8, 8), (2, 4))).eval()
    x = tensor(codec.compress(photograph(), 20))
    information = ImageInformation(codec.given_quality(20))
    with torch.no_grad():
        for layer in model.dct_branch.layers[-1:]:
            layer.bias.fill_(3.0)  # far beyond any step
        for one, bounded in ((information, True), (ImageInformation(), False)):
            estimate, _ = model.scales(x, model.guide(x, [one]))
            moved = dct.dct(estimate - dct.to_ycbcr(x)).abs()
            step = dct.steps(torch.from_numpy(information.tables[:1]), x)
            assert bool((moved[:, :1] <= step / 2 + 1e-5).all()) is bounded
            assert moved[:, 1:].min() > 2  # chroma is not the file's


def test_qgac_goes_by_the_files_tables():
    torch.manual_seed(0)
    model = randomised(QGAC(QGACConfig(8, 2, 2, 8, 4))).eval()
    data = codec.encode(photograph(64, 64), 20)
    x = tensor(codec.decode(data))
    own = codec.given_quality(20, "4:2:0")
    coarser = dataclasses.replace(own, tables=tuple(tuple(2 * step for step in table) for table in own.tables))
    with torch.no_grad():
        told, twice, whole = (
            model(x, [ImageInformation(known)]) for known in (own, coarser, dataclasses.replace(own, subsampling="4:4:4"))
        )
        assert torch.equal(model(x, [ImageInformation(Quality(20, "blind"))]), told)  # IJG's tables stand in
    assert (told - twice).abs().max() > 1e-3
    assert (told - whole).abs().max() > 1e-5
    with pytest.raises(ImageError, match=r"a\.png: no quantisation tables"):
        model.guide(x, [ImageInformation(name="a.png")])


def test_an_untrained_qgac_gives_the_decoded_image():
    """Its last layers start close to nothing, and what the file holds passes through exactly."""
    model = QGAC(QGACConfig(8, 2, 2, 8, 4)).eval()
    image = codec.compress(photograph(64, 64), 20)
    with torch.no_grad():
        output = model(tensor(image), [ImageInformation(codec.given_quality(20))])
    assert (output - tensor(image)).abs().max() < 0.02


def test_frequencies_and_planes_are_inverse():
    planes = torch.rand(2, 3, 16, 24)
    by = by_frequency(planes)
    assert by.shape == (2, 192, 2, 3)
    assert torch.equal(by[:, 3 * 9 : 3 * 9 + 3], planes[..., 1::8, 1::8])  # frequency 9 is (1, 1): 3 neighbours
    assert torch.equal(by_plane(by), planes)


def test_what_was_first_made_while_restoring_can_be_trained_with():
    for cached in (dct._basis, dct._colour, dct._inverse_colour):
        cached.cache_clear()
    model = DMCNN(DMCNNConfig((8, 8, 8), (2,)))
    with torch.inference_mode():
        model(torch.rand(1, 3, 16, 16))
    model(torch.rand(1, 3, 16, 16)).sum().backward()


def test_a_narrow_panorama_tells_its_qf_by_its_centre(monkeypatch):
    model, seen = FBCNN(FBCNNConfig((8, 8, 8, 16), 1)).eval(), []
    monkeypatch.setattr(model, "predict", lambda x, quality=None: seen.append(x.shape[-2:]) or (x, torch.zeros(1, 1)))
    for shape in ((1000, 5000), (3000, 2000)):
        model.guide(torch.empty(1, 3, 1, 1).expand(1, 3, *shape), [ImageInformation()])
    assert [tuple(shape) for shape in seen] == [(1000, 1024), (1024, 1024)]


def test_fbcnn_predicts_takes_and_keeps_its_qf():
    torch.manual_seed(0)
    model = randomised(FBCNN(FBCNNConfig((8, 8, 8, 16), 1))).eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        blind = model.guide(x, [ImageInformation(), ImageInformation()])
        quality = model.blind_quality(blind)
        assert quality.shape == (2,) and 1 <= quality.min() <= quality.max() <= 100
        assert torch.equal(model.restore(x, blind), model.network(x)[0])
        low, high = (model(x, [ImageInformation(assumed=value)] * 2) for value in (10, 90))
        part = model.restore(x[..., :16], blind)  # a tile goes by the whole image's QF
        assert torch.equal(part, model.network(x[..., :16].contiguous(), blind.quality)[0])
    assert (low - high).abs().max() > 1e-4
