"""Whether pixels alone tell that they were a JPEG, on content of each kind, and what a restorer makes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from dagn_pre import Restorer, codec, evidence
from dagn_pre.errors import UsageError
from tests.support import TINY, randomised
from tests.support.content import LOSSLESS, cells, interface, line_art, pixel_art, textured


@pytest.mark.parametrize("kind", LOSSLESS)
def test_what_was_never_a_jpeg_is_not_taken_for_one(kind):
    found = evidence.of(LOSSLESS[kind])
    assert not found.found, found


@pytest.mark.parametrize("quality", [5, 10, 20, 30, 50, 70, 80])
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:2:2", "4:4:4"])
def test_jpegs_are_told(quality, subsampling):
    decoded = codec.compress(textured(), quality, subsampling)
    found = evidence.of(decoded)
    assert found.found and found.reason.startswith("an 8x8 grid from (0, 0), by "), found
    corner = evidence.of(np.ascontiguousarray(decoded[3:150, 6:140]))
    assert corner.found and corner.reason.startswith("an 8x8 grid from (2, 5), by "), corner
    grey = np.repeat(decoded[..., 1:2], 3, 2)
    assert quality < 20 or subsampling != "4:4:4" or evidence.of(codec.compress(grey, quality)).found


@pytest.mark.parametrize("quality", [*range(1, 93, 7), 80, 84, 90, 95])
def test_the_steps_tell_the_quality(quality):
    decoded = codec.compress(textured(), quality)
    assert evidence.of(decoded).quality in (quality, None if quality < 10 else quality)
    shifted = evidence.of(np.ascontiguousarray(decoded[3:, 6:]))
    assert shifted.quality in (quality, None if quality < 10 else quality)


def test_steps_of_other_tables_tell_no_quality(tmp_path):
    rng = np.random.default_rng(0)
    tables = [[int(q) for q in rng.integers(9, 60, 64)] for _ in range(2)]
    Image.fromarray(textured()).save(tmp_path / "a.jpg", qtables=tables)
    found = evidence.of(codec.decode((tmp_path / "a.jpg").read_bytes()))
    assert found.found and found.quality is None


def test_a_low_quality_that_the_steps_tell_outranks_the_estimate(tiny_weights):
    """The tiny model's own is 50. A high one does not: behind the last compression there may have been a worse one."""
    for quality, largest, reason in ((30, 40, None), (45, 40, "its QF is 50, and max_quality 40"), (90, 85, None)):
        outcome = Restorer(tiny_weights, "cpu", max_quality=largest).restore(codec.compress(textured(), quality))
        assert (outcome.restored, outcome.reason) == (reason is None, reason)
    by_quality = Restorer("arcnn", "cpu", strength={10: 1.0, 40: 0.5})  # which makes no estimate
    assert by_quality.restore(codec.compress(textured(), 25)).restored


def test_jpegs_of_drawn_pictures_and_within_a_page_are_told():
    for draw in (interface, line_art):
        assert evidence.of(codec.compress((draw() * 0.8 + 20).astype(np.uint8), 30)).found
    page = np.full((500, 600, 3), 255, np.uint8)
    page[101:357, 203:459] = codec.compress(textured(), 40)
    assert evidence.of(page).reason.startswith("an 8x8 grid from (3, 5)")


@pytest.mark.parametrize("height, width", [(1, 1), (7, 900), (14, 300), (15, 40), (22, 30)])
def test_small_pictures_do_not_tell(height, width):
    decoded = codec.compress(textured(height, width), 20)
    assert evidence.of(decoded) == evidence.Evidence(False, f"too small to tell: {width} x {height}")


def test_reasons_are_plain():
    cases = {
        "all but flat, so nothing tells what it was": np.full((90, 90, 3), 77, np.uint8),
        "drawn, not photographed: 4 colours": pixel_art(8, 4),
        "no 8x8 grid in the pixels": textured(),
        "an 8x8 grid, but of cells that are drawn alike": cells("lamps"),
    }
    for reason, pixels in cases.items():
        assert evidence.of(pixels) == evidence.Evidence(False, reason)


def test_the_pixels_are_left_as_they_are_and_large_ones_are_sampled():
    decoded = codec.compress(textured(1200, 1200), 50)
    before = decoded.copy()
    assert evidence.of(decoded).found and np.array_equal(decoded, before)
    votes = int(evidence.of(decoded).reason.split()[-2])
    assert evidence.PLACES // 2 < votes <= evidence.PLACES


# -- what a restorer makes of it -------------------------------------------------------------------------------------------


def test_a_restorer_asks_where_nothing_else_tells(tiny_weights):
    """The tiny model estimates QF 50 whatever it sees, so the evidence alone decides."""
    never, once = textured(64, 96), codec.compress(textured(64, 96), 30)
    for mode, restored in {"always": (True, True), "blind": (False, True), "never": (False, False)}.items():
        restorer = Restorer(tiny_weights, "cpu", restore_lossless=mode)
        tensors = [torch.from_numpy(one.transpose(2, 0, 1).copy()) for one in (never, once)]
        for given in ([never, once], [never[..., ::-1], once], [Image.fromarray(never), Image.fromarray(once)], tensors):
            outcomes = restorer.restore(given)
            assert tuple(one.restored for one in outcomes) == restored
            for one, image in zip(outcomes, given):
                assert (one.image is image) == (not one.restored) == (one.reason is not None)
    reasons = [Restorer(tiny_weights, "cpu", restore_lossless=mode).restore(never).reason for mode in ("blind", "never")]
    assert reasons == ["no 8x8 grid in the pixels", "nothing says that it was a JPEG, and restore_lossless is never"]


@pytest.mark.parametrize("mode", ["always", "blind", "never"])
def test_what_is_known_to_be_a_jpeg_is_restored_whatever_the_pixels_show(tiny_weights, mode):
    never = textured(64, 96)
    restorer = Restorer(tiny_weights, "cpu", restore_lossless=mode)
    assert restorer.restore(never, quality=30).restored
    assert restorer.restore(codec.encode(np.full((64, 64, 3), 9, np.uint8), 30)).restored  # by its header
    assert restorer.restore(never, data=codec.encode(never, 30)).restored
    everything = Restorer(tiny_weights, "cpu", restore_lossless=mode, max_quality=None).restore(never)
    assert everything.restored == (mode != "never")


def test_the_assumed_quality_restores_whatever_the_pixels_show(tmp_path):
    from dagn_pre import weights
    from dagn_pre.networks.autoencoder import QualityPredictor
    from dagn_pre.networks.dagn import DAGN

    network = randomised(DAGN(TINY))
    quality = QualityPredictor(network.encoder_cs.out_channels)
    quality.vectors.normal_()
    weights.save(tmp_path / "w.safetensors", network, quality, {"name": "w"}, torch.float32)
    for mode in ("always", "blind", "never"):
        assumed = Restorer(tmp_path / "w.safetensors", "cpu", restore_lossless=mode, assume_quality=20)
        assert assumed.restore(textured(64, 96)).restored


def test_models_without_an_estimate_go_by_the_evidence_alone():
    restorer = Restorer("arcnn", "cpu")
    never, once = restorer.restore([textured(64, 96), codec.compress(textured(64, 96), 30)])
    assert (never.restored, never.reason, once.restored, once.reason) == (False, "no 8x8 grid in the pixels", True, None)
    assert Restorer("arcnn", "cpu", restore_lossless="always").restore(textured(64, 96)).restored


def test_the_reason_of_a_blind_estimate_is_told_also_from_a_cache(tiny_weights, tmp_path):
    once = codec.compress(textured(64, 96), 30)
    value = Restorer(tiny_weights, "cpu").estimate_quality(once).value
    for cached in (False, True):
        restorer = Restorer(tiny_weights, "cpu", max_quality=value, cache_dir=tmp_path / "cache", restore_lossless="always")
        outcome = restorer.restore(once)
        assert (outcome.restored, outcome.cached) == (False, cached)
        assert outcome.reason == f"its QF is {value}, and max_quality {value}"


@pytest.mark.parametrize("restored", [True, False])
def test_the_blind_quality_is_told_also_from_a_cache(tiny_weights, tmp_path, restored):
    options = dict(restore_lossless="always", cache_dir=tmp_path / "cache", max_quality=None if restored else 1)
    outcomes = [Restorer(tiny_weights, "cpu", **options).restore(textured(64, 96)) for _ in range(2)]
    assert [(one.cached, one.restored) for one in outcomes] == [(False, restored), (True, restored)]
    assert outcomes[0].quality == outcomes[1].quality and outcomes[1].quality.source == "blind"


def test_what_is_asked_first_changes_no_answer(tiny_weights):
    restorer, once = Restorer(tiny_weights, "cpu"), codec.compress(textured(), 30)
    source = restorer.open(once)
    asked = [restorer.estimate_quality(source), restorer.skipped(source), restorer.restore(source).quality]
    assert [one if one is None else one.source for one in asked] == ["blind", None, "pixels"]
    assert restorer.estimate_quality(source) == asked[0] == restorer.estimate_quality(once)
    assert Restorer(tiny_weights, "cpu", restore_lossless="never").skipped(source) is not None


def test_one_cache_serves_every_mode(tiny_weights, tmp_path):
    """What the pixels tell of the QF is part of the key; what is not restored is never looked up."""
    never, once = textured(64, 96), codec.compress(textured(64, 96), 30)
    make = {mode: Restorer(tiny_weights, "cpu", cache_dir=tmp_path / "cache", restore_lossless=mode) for mode in
            ("always", "blind", "never")}  # fmt: skip
    first = make["always"].restore([never, once])
    steps = ("blind", True, False), ("blind", True, True), ("never", False, False), ("always", True, True)
    for mode, restored, cached in steps:
        outcomes = make[mode].restore([never, once])
        assert [one.restored for one in outcomes] == [mode == "always", restored]
        assert [one.cached for one in outcomes] == [mode == "always", cached]
        assert (outcomes[0].image is never) == (mode != "always")
    assert np.array_equal(make["blind"](once), first[1].image)


def test_the_option_is_checked():
    with pytest.raises(UsageError, match="restore_lossless must be always, blind, never, not 'sometimes'"):
        Restorer(restore_lossless="sometimes")


# -- real pictures ---------------------------------------------------------------------------------------------------------


def test_real_photographs_are_told_apart(real_data):
    """Those of CamVid are lossless; decoded from JPEGs of each QF they are told."""
    paths = sorted((real_data / "CamVid" / "val").iterdir())[::6]
    for index, path in enumerate(paths):
        original = np.asarray(Image.open(path).convert("RGB"))
        assert not evidence.of(original).found, path
        quality = (5, 10, 20, 30, 40, 50, 60, 70, 75, 80)[index % 10]
        for pixels in (original, np.ascontiguousarray(original[100:228, 60:188])):
            found = evidence.of(codec.compress(pixels, quality, ("4:2:0", "4:4:4", "4:2:2")[index % 3]))
            assert found.found, (path, quality, pixels.shape, found)
