"""What a restorer decides before any network is loaded: skipping, side information, the key in a cache."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from dagn_pre import Restorer, codec, images
from dagn_pre.cache import Cache, to_png
from dagn_pre.codec import RESTORED
from dagn_pre.errors import ImageError, UsageError
from tests.support import photograph, save_adapter

IMAGE = photograph(50, 70)
JPEG = codec.encode(IMAGE, 30)
PIXELS = codec.decode(JPEG)


def refused(restorer: Restorer):
    raise AssertionError("the networks were asked for")


@pytest.fixture
def lazy(tiny_weights, tmp_path, monkeypatch):
    """Makes restorers that must not load their networks."""
    monkeypatch.setattr(Restorer, "inference", property(refused))
    return lambda **options: Restorer(tiny_weights, "cpu", cache_dir=tmp_path / "cache", **options)


def test_skipping_has_a_reason(lazy, tmp_path):
    images.save(Image.fromarray(IMAGE), tmp_path / "a.png", mark=True)
    images.save(Image.fromarray(IMAGE), tmp_path / "a.jpg", mark=True)
    marked, marked_jpeg = ((tmp_path / f"a.{kind}").read_bytes() for kind in ("png", "jpg"))
    cases = [
        (dict(max_quality=30), dict(image=JPEG), "its QF is 30, and max_quality 30"),
        (dict(max_quality=31), dict(image=JPEG), None),
        (dict(max_quality=31), dict(image=JPEG, quality=31), "its QF is 31, and max_quality 31"),
        (dict(max_quality=30), dict(image=PIXELS), None),
        (dict(max_quality=30), dict(image=PIXELS, data=JPEG), "its QF is 30, and max_quality 30"),
        (dict(max_quality=30), dict(image=PIXELS[:40], data=JPEG), None),  # not that file's pixels
        (dict(max_quality=None), dict(image=codec.encode(IMAGE, 100)), None),
        (dict(strength=0), dict(image=JPEG), "strength is 0"),
        (dict(max_quality=None), dict(image=marked), "dagn-pre has restored it before"),
        (dict(max_quality=None), dict(image=IMAGE, data=marked), "dagn-pre has restored it before"),
        (dict(max_quality=None), dict(image=IMAGE, data=marked, quality=10), "dagn-pre has restored it before"),
        (dict(max_quality=None), dict(image=IMAGE[::-1].copy(), data=marked), None),
        (dict(max_quality=None), dict(image=IMAGE, quality=RESTORED), "dagn-pre has restored it before"),
        (dict(max_quality=None, again=True), dict(image=marked), None),
        (dict(again=True), dict(image=marked_jpeg), "its QF is 95, and max_quality 85"),
        (dict(again=True), dict(image=codec.decode(marked_jpeg), data=marked_jpeg), "its QF is 95, and max_quality 85"),
        (dict(again=True), dict(image=IMAGE, quality=RESTORED), "no 8x8 grid in the pixels"),
        (dict(again=True, restore_lossless="always"), dict(image=IMAGE, quality=RESTORED), None),
    ]
    for options, call, reason in cases:
        plan = lazy(**options).plan(**call)
        assert (plan.skip, plan.key is None) == (reason, reason is not None), (options, call.keys())
    tensor = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)
    assert lazy(max_quality=30).plan(tensor, data=JPEG).skip == "its QF is 30, and max_quality 30"


def test_one_key_for_one_result_whatever_it_comes_as(lazy, tmp_path):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    restorer, tensor = lazy(), torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)
    ways = [
        dict(image=JPEG),
        dict(image=tmp_path / "a.jpg"),
        dict(image=Image.open(tmp_path / "a.jpg")),
        dict(image=PIXELS, data=JPEG),
        dict(image=PIXELS[..., ::-1], data=JPEG, channel_order="bgr"),
        dict(image=tensor, data=JPEG),
        dict(image=tensor.flip(0), data=JPEG, channel_order="bgr"),
    ]
    keys = {restorer.plan(**way).key for way in ways}
    others = [restorer.plan(PIXELS).key, restorer.plan(PIXELS, quality=40).key, lazy(strength=0.5).plan(JPEG).key]
    assert len(keys) == 1 and len(keys | set(others)) == 4
    assert lazy(strict_files=True, cache_size="1GB").plan(JPEG).key in keys


def test_side_information_is_decoded_and_part_of_the_key(lazy, tiny_weights, tmp_path):
    from dagn_pre.side_information import SideInformationEncoder

    side = save_adapter(tmp_path / "side.safetensors", tiny_weights)
    encoder = SideInformationEncoder(tiny_weights, weights=side)
    file = encoder.add(IMAGE, JPEG)
    used, ignored = (lazy(side_information=value).plan(file) for value in (side, False))
    assert np.array_equal(used.side[1], encoder.symbols(IMAGE, PIXELS)) and used.notes == ()
    assert ignored.side is None and used.key != ignored.key == lazy(side_information=side).plan(JPEG).key
    (note,) = lazy(side_information=side).plan(file + b"\0").notes
    assert "damaged, or of another picture; restored without it" in note
    assert lazy(side_information=side, expect_side_information=True).plan(JPEG).notes[0].startswith("image: has no side")


def test_models_of_files_get_the_file(tmp_path):
    restorer = Restorer("libjpeg-plain", "cpu", max_quality=None, cache_dir=tmp_path / "cache")
    expected = restorer(JPEG)
    assert (expected != PIXELS).any()
    tensor = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)
    for order in ("rgb", "bgr"):
        step = 1 if order == "rgb" else -1
        found = restorer(PIXELS[..., ::step], data=JPEG, channel_order=order)
        assert np.array_equal(found[..., ::step], expected) and found.flags.c_contiguous
        found = restorer(tensor.flip(0) if order == "bgr" else tensor, data=JPEG, channel_order=order)
        assert np.array_equal(found.permute(1, 2, 0).numpy()[..., ::step], expected)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = codec.encode(IMAGE, 30, exif=exif)
    upright = restorer(turned)
    assert upright.shape == (70, 50, 3) and np.array_equal(restorer(np.zeros_like(upright), data=turned), upright)
    with pytest.raises(ImageError, match="b: model 'libjpeg-plain' decodes the file itself, and upright it is 50x70"):
        restorer(IMAGE, data=turned, name="b")
    with pytest.raises(ImageError, match="works on JPEG files, and there is none"):
        restorer(IMAGE, data=to_png(IMAGE))


# -- the cache of a restorer -----------------------------------------------------------------------------------------------


def test_every_way_in_is_read_from_the_cache(tiny_weights, tmp_path, monkeypatch):
    options = dict(model=tiny_weights, device="cpu", max_quality=None)
    tensor = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)
    plain = Restorer(**options)
    known = dict(quality=plain.estimate_quality(JPEG))
    expected = [plain(one, **known) for one in (JPEG, PIXELS, tensor, Image.fromarray(PIXELS))]
    cached = Restorer(**options, cache_dir=tmp_path / "cache")
    cached(JPEG, **known)
    monkeypatch.setattr(Restorer, "inference", property(refused))
    again = Restorer(**options, cache_dir=tmp_path / "cache")
    outcomes = [again.restore(one, **known) for one in (JPEG, PIXELS, tensor, Image.fromarray(PIXELS))]
    same_file, *others = outcomes
    assert same_file.cached and same_file.restored and np.array_equal(same_file.image, expected[0])
    for outcome, wanted in zip(others, expected[1:]):
        assert outcome.cached and type(outcome.image) is type(wanted)
        assert np.array_equal(np.asarray(outcome.image), np.asarray(wanted))
    assert outcomes[1].image.flags.writeable


def test_a_list_takes_what_is_there_and_restores_the_rest(tiny_weights, tmp_path):
    restorer = Restorer(tiny_weights, "cpu", max_quality=50, cache_dir=tmp_path / "cache")
    first, second = photograph(40, 56, 1), photograph(40, 56, 2)
    restorer(first, quality=20)
    outcomes = restorer.restore([first, second, second], quality=[20, 20, 60])
    assert [(one.cached, one.restored) for one in outcomes] == [(True, True), (False, True), (False, False)]
    assert outcomes[2].image is second
    assert [one.cached for one in restorer.restore([first, second], quality=20)] == [True, True]
    assert sorted(entry.kind for entry in Cache(tmp_path / "cache").entries()) == ["png", "png"]


def test_a_cache_folder_is_checked_and_made_late(tiny_weights, tmp_path):
    from dagn_pre.options import check_options

    check_options(cache_dir=tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "photo.png").touch()
    for build in (check_options, Restorer):
        with pytest.raises(UsageError, match="holds other things"):
            build(model=tiny_weights, cache_dir=tmp_path)
