from __future__ import annotations

import gc
import io
import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from dagn_pre import Restorer, codec, models, restorer, weights
from dagn_pre.codec import Quality
from dagn_pre.defaults import MODEL
from dagn_pre.errors import ImageError, UsageError, WeightsError
from dagn_pre.networks.dagn import DAGN
from dagn_pre.options import check_options
from dagn_pre.protocol import ImageInformation
from tests.support import TINY, photograph


@pytest.fixture(scope="module")
def tiny(tiny_weights) -> Restorer:
    return Restorer(tiny_weights, device="cpu", max_quality=None)


@pytest.fixture(scope="module")
def override_weights(tiny_weights, tmp_path_factory):
    """The tiny weights with a table of mean vectors whose rows grow with the QF."""
    loaded = models.load(tiny_weights)
    features = loaded.model.quality.vectors.shape[1]
    loaded.model.quality.vectors.copy_(torch.arange(1, 101)[:, None] / 10 * torch.linspace(-1, 1, features))
    path = tmp_path_factory.mktemp("weights") / "override.safetensors"
    weights.save(path, loaded.model.network, loaded.model.quality, dtype=torch.float32)
    return path


def jpeg(quality: int, height: int = 50, width: int = 70, seed: int = 0) -> bytes:
    return codec.encode(photograph(height, width, seed), quality)


def test_every_way_in_gives_its_way_out(tiny, tmp_path):
    data = jpeg(20)
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    array = codec.decode(data)
    expected = tiny(array)
    assert expected.dtype == np.uint8 and expected.shape == array.shape and (expected != array).any()
    for source in (data, path, str(path)):
        assert np.array_equal(tiny(source), expected)
    image = tiny(Image.open(io.BytesIO(data)))
    assert isinstance(image, Image.Image) and np.array_equal(np.asarray(image), expected)


def test_bgr_is_rgb_reversed(tiny):
    array = photograph()
    assert np.array_equal(tiny(array[..., ::-1], channel_order="bgr"), tiny(array)[..., ::-1])


def test_tensors_are_restored_as_arrays_are(tiny):
    arrays = [photograph(50, 70, 0), photograph(33, 41, 1)]
    tensors = [torch.from_numpy(array).permute(2, 0, 1) for array in arrays]
    for order in ("rgb", "bgr"):
        for after, expected in zip(tiny(tensors, channel_order=order), tiny(arrays, channel_order=order)):
            assert after.dtype == torch.uint8 and not after.is_inference()  # autograd may use it
            assert np.array_equal(after.permute(1, 2, 0).numpy(), expected)
    skipped, restored = Restorer(tiny.options.model, device="cpu")(tensors, quality=[95, 10])
    assert skipped is tensors[0] and not torch.equal(restored, tensors[1])
    for wrong in (tensors[0].float(), tensors[0][:1], tensors[0][None], tensors[0][:, :0]):
        with pytest.raises(ImageError, match=r"\(3, H, W\) uint8"):
            tiny(wrong)


def test_the_callers_autocast_changes_nothing(tiny):
    with torch.autocast("cpu", torch.bfloat16):
        inside = tiny(photograph())
    assert np.array_equal(inside, tiny(photograph()))


def test_a_list_gives_what_single_calls_give(tiny):
    sources = [photograph(50, 70, 0), photograph(33, 41, 1), jpeg(20, 50, 70, 2), photograph(50, 66, 3)]
    together = tiny(sources)
    for source, restored in zip(sources, together):
        assert np.abs(restored.astype(int) - tiny(source)).max() <= 1  # batched sums round differently


@pytest.mark.parametrize("height, width", [(1, 1), (3, 200), (16, 16), (17, 15)])
def test_any_size(tiny, height, width):
    assert tiny(photograph(height, width)).shape == (height, width, 3)


def test_the_header_decides_first(tiny_weights):
    skipping = Restorer(tiny_weights, device="cpu", max_quality=50)
    for quality in (49, 50, 51):
        data = jpeg(quality)
        untouched = np.array_equal(skipping(data), codec.decode(data))
        assert untouched == (quality >= 50)


def test_a_hint_overrides_the_header(tiny_weights):
    skipping = Restorer(tiny_weights, device="cpu", max_quality=50)
    data = jpeg(20)
    assert np.array_equal(skipping(data, quality=80), codec.decode(data))
    array = codec.decode(data)
    assert skipping(array, quality=Quality(80, "header")) is array
    first, second = skipping([array, array], quality=[80, 20])
    assert first is array and (second != array).any()


def test_without_header_the_blind_estimate_decides(tiny_weights):
    array = codec.decode(jpeg(30))
    estimate = Restorer(tiny_weights, device="cpu").estimate_quality(array)
    assert estimate.source == "blind" and 1 <= estimate.value <= 100
    always = dict(device="cpu", restore_lossless="always")
    assert Restorer(tiny_weights, **always, max_quality=estimate.value)(array) is array
    if estimate.value < 100:
        assert (Restorer(tiny_weights, **always, max_quality=estimate.value + 1)(array) != array).any()


def test_quality_from_header_and_blind(tiny):
    assert tiny.estimate_quality(jpeg(37)) == Quality(37, "header", standard=True)
    assert tiny.estimate_quality(jpeg(37), blind=True).source == "blind"


def test_strength_zero_is_the_input_and_half_is_half(tiny_weights):
    array = photograph()
    whole, half, none = (
        Restorer(tiny_weights, device="cpu", max_quality=None, strength=s)(array).astype(int) for s in (1.0, 0.5, 0)
    )
    assert np.array_equal(none, array)
    inside = (whole > 0) & (whole < 255)  # elsewhere clipping comes in between
    assert np.abs(half - (array + whole) / 2)[inside].max() <= 1.01


def test_strength_by_quality_is_linear_in_between_and_constant_beyond(tiny_weights, override_weights):
    array = photograph()
    by_quality = Restorer(tiny_weights, device="cpu", max_quality=None, strength={40: 0.5, 10: 1.0})
    hints = [5, 10, 25, 40, 99]
    for image, share in zip(by_quality([array] * 5, quality=hints), (1, 1, 0.75, 0.5, 0.5)):
        plain = Restorer(tiny_weights, device="cpu", max_quality=None, strength=share)
        assert np.abs(image.astype(int) - plain(array)).max() <= 1  # of a batch, and alone
    assumed = Restorer(override_weights, device="cpu", assume_quality=40, strength=[(40, 0.0), (50, 1.0)])
    assert np.array_equal(assumed(array, quality=10), array)
    blind = by_quality.estimate_quality(array).value  # of pixels alone it is read from them
    expected = Restorer(tiny_weights, device="cpu", max_quality=None, strength=float(np.interp(blind, (10, 40), (1, 0.5))))
    assert np.array_equal(by_quality(array), expected(array))


def test_strength_by_quality_in_any_spelling_is_one_restorer(tiny_weights):
    assert Restorer(tiny_weights, device="cpu", strength=np.float32(0.5)).options.strength == 0.5
    spellings = ({10: 1, 40: 0.5}, [[40, 0.5], [10, 1.0]], ((10, 1.0), (40, 0.5)))
    first, *others = (restorer.shared_restorer(model=tiny_weights, device="cpu", strength=one) for one in spellings)
    assert all(other is first for other in others) and first.options.strength == ((10, 1.0), (40, 0.5))


def test_strength_by_quality_needs_a_quality():
    """The model makes no estimate of its own."""
    by_quality = Restorer("arcnn", device="cpu", strength={10: 1.0, 40: 0.5}, restore_lossless="always")
    with pytest.raises(ImageError, match="image: its quality is not known, and model 'arcnn' does not estimate it"):
        by_quality(Image.fromarray(photograph()))
    assert (by_quality(photograph(), quality=30) != photograph()).any() and (by_quality(jpeg(30)) != 0).any()


def test_tiled_equals_untiled(tiny_weights):
    array = photograph(400, 330)
    whole = Restorer(tiny_weights, device="cpu", max_quality=None, tile=0)
    tiled = Restorer(tiny_weights, device="cpu", max_quality=None, tile=64)
    assert whole.inference.overlap >= whole.model.receptive_radius
    assert np.abs(whole(array).astype(int) - tiled(array)).max() <= 1


def test_a_short_overlap_shows_that_the_radius_is_needed(tiny_weights):
    array = photograph(200, 200)
    x = torch.from_numpy(array).permute(2, 0, 1)[None] / 255
    cut = Restorer(tiny_weights, device="cpu", tile=64, overlap=0)
    with torch.no_grad():
        x = cut.model.pad(x)
        guidance = cut.model.guide(x, [ImageInformation()])
        whole = cut.model.restore(x, guidance)
        assert (cut.inference.tiled(x, guidance) - whole).abs().max() > 1e-3
        cut.inference.overlap = -(-cut.model.receptive_radius // 16) * 16
        assert (cut.inference.tiled(x, guidance) - whole).abs().max() < 1e-5


def test_low_precision_stays_close(tiny_weights):
    array = photograph()
    exact = Restorer(tiny_weights, device="cpu", max_quality=None)(array).astype(int)
    low = Restorer(tiny_weights, device="cpu", max_quality=None, dtype="bfloat16")(array)
    assert np.abs(exact - low).mean() < 1


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK", "YCbCr"])
def test_kinds_of_images_that_work(tiny, mode):
    base = Image.fromarray(photograph())
    alpha = Image.fromarray(photograph(seed=5)[..., 0])
    if mode in ("LA", "RGBA"):
        image = base.convert(mode[:-1])
        image.putalpha(alpha)
    else:
        image = base.convert(mode)
    restored = tiny(image)
    assert restored.mode == {"1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}.get(mode, mode)
    assert restored.size == image.size
    if mode in ("LA", "RGBA"):
        assert np.array_equal(np.asarray(restored.getchannel("A")), np.asarray(alpha))


def test_shortcuts_change_no_pixel(tiny_weights):
    """Against the plain steps: any layout of the pixels, alone and together, padded or not, at two strengths."""
    restorer = Restorer(tiny_weights, device="cpu", max_quality=None)
    for height, width in ((48, 64), (37, 53)):
        rgb = photograph(height, width)
        grey = np.repeat(rgb[..., :1], 3, 2)
        tall = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
        still = rgb.copy()
        still.flags.writeable = False
        turned = torch.from_numpy(rgb.copy()).permute(2, 0, 1)
        shapes = (still, rgb[..., ::-1].copy()[..., ::-1], np.asfortranarray(rgb), tall, turned)
        for given in (*([one] for one in shapes), [rgb, grey], [tall, still, grey]):
            arrays = [one.permute(1, 2, 0).numpy() if isinstance(one, torch.Tensor) else one for one in given]
            plain = torch.stack([torch.tensor(one.copy()).permute(2, 0, 1) / 255 for one in arrays])
            plain = restorer.model.pad(plain).contiguous(memory_format=torch.channels_last)
            x = restorer.inference.tensor(given)
            assert torch.equal(x, plain) and x.stride() == plain.stride()  # by which torch chooses how to compute
        for strength in (1.0, 0.5):
            restorer = Restorer(tiny_weights, device="cpu", max_quality=None, strength=strength)
            with torch.inference_mode():
                alone = [restorer.model.restore(one, restorer.model.guide(one, [ImageInformation()])) for one in x.split(1)]
                output = torch.lerp(x, torch.cat(alone), strength)
            output = output.clamp(0, 1).mul(255).round()[:, :, :height, :width].permute(0, 2, 3, 1)
            output[2] = output[2].mean(2, keepdim=True).round()
            found = restorer([one[..., ::-1] for one in arrays], channel_order="bgr")
            for one, expected in zip(found, output.to(torch.uint8).numpy()):
                assert np.array_equal(one[..., ::-1], expected) and one.flags.c_contiguous and one.flags.writeable


def test_a_picture_whose_colour_is_small_is_not_taken_for_gray(tiny):
    rgb = np.repeat(photograph(48, 64)[..., :1], 3, 2)
    rgb[5, 7] = (200, 20, 20)  # between the pixels that are looked at first
    restored = tiny(rgb)
    assert not (restored == restored[..., :1]).all()


def test_gray_files_stay_gray(tiny, tmp_path):
    path = tmp_path / "gray.jpg"
    path.write_bytes(codec.encode(photograph()[..., 0], 20))
    restored = tiny(path)
    assert (restored[..., 0] == restored[..., 1]).all() and (restored[..., 0] == restored[..., 2]).all()


def test_transparent_palette_keeps_its_alpha(tiny):
    image = Image.fromarray(photograph()).convert("P")
    image.info["transparency"] = 0
    assert tiny(image).mode == "RGBA"


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_deep_images_are_refused_by_name(tiny, mode, tmp_path):
    with pytest.raises(ImageError, match=mode):
        tiny(Image.new(mode, (20, 20)))


def test_animations_are_refused_by_name(tiny, tmp_path):
    frames = [Image.fromarray(photograph(seed=seed)) for seed in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match=r"moving\.gif: has 3 frames"):
        tiny(tmp_path / "moving.gif")


def test_sixteen_bit_colour_is_refused_by_name(tiny, tmp_path):
    import cv2

    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), photograph().astype(np.uint16) * 257)
    with pytest.raises(ImageError, match="deep.png: 16 bits"):
        tiny(path)


def test_exif_orientation_turns_arrays_upright_and_stays_on_pil_images(tiny):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    data = codec.encode(photograph(40, 60), 20, exif=exif.tobytes())
    assert tiny(data).shape == (60, 40, 3)
    image = tiny(Image.open(io.BytesIO(data)))
    assert image.size == (60, 40) and image.getexif()[0x0112] == 6


@pytest.mark.parametrize("size", [(40, 60), (48, 48)])
@pytest.mark.parametrize("turn", range(1, 9))
def test_what_exif_turns_is_restored_as_its_file_is(tiny, turn, size):
    """An array as OpenCV decodes it, upright, and one as stored, with the file's bytes: the blocks lie as in the file."""
    exif = Image.Exif()
    exif[0x0112] = turn
    data = codec.encode(photograph(*size), 20, exif=exif.tobytes())
    expected, stored = tiny(data), codec.decode(data)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    tensor = torch.tensor(upright).permute(2, 0, 1)
    assert expected.flags.writeable and np.array_equal(tiny(upright, data=data), expected)
    assert np.array_equal(tiny(upright[..., ::-1], channel_order="bgr", data=data), expected[..., ::-1])
    assert np.array_equal(tiny(tensor, data=data).permute(1, 2, 0), expected)
    assert np.array_equal(tiny(tensor.flip(0), channel_order="bgr", data=data).flip(0).permute(1, 2, 0), expected)
    assert np.array_equal(tiny(stored, data=data), tiny(Image.open(io.BytesIO(data))))


def test_arrays_are_the_callers_to_write_in(tiny, tmp_path):
    """Also what is skipped, and what is asked for twice."""
    exif = Image.Exif()
    exif[0x0112] = 3
    for data in (jpeg(20), codec.encode(photograph(), 20, exif=exif.tobytes())):
        (tmp_path / "a.jpg").write_bytes(data)
        for given in (data, tmp_path / "a.jpg", tiny.open(data)):
            for strength in (0, 1):
                restorer = Restorer(tiny.options.model, device="cpu", max_quality=None, strength=strength)
                first = restorer(given)
                kept = first.copy()
                first[:] = 0
                assert np.array_equal(restorer(given), kept)


@pytest.mark.parametrize(
    "content, reason",
    [(b"", "empty"), (b"hello", "not an image"), (jpeg(50)[:300], "damaged"), (jpeg(50)[:-300], "damaged"), (None, "No such")],
)
def test_bad_files_are_named_with_the_reason(tiny, tmp_path, content, reason):
    path = tmp_path / "bad.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageError, match=rf"bad\.jpg.*{reason}"):
        tiny(path)


def test_absurdly_large_files_are_refused_before_decoding(tiny, tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (30_000, 30_000)).save(path)
    with pytest.raises(ImageError, match=r"bomb\.png.*limit"):
        tiny(path)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 5, 3), np.uint8), np.zeros((4, 4, 4), np.uint8)],
)
def test_arrays_that_are_no_image_are_refused(tiny, array):
    with pytest.raises(ImageError, match=r"\(H, W, 3\) uint8"):
        tiny(array)


def test_other_objects_are_refused(tiny):
    with pytest.raises(ImageError, match="not int"):
        tiny(5)


@pytest.mark.parametrize("moved", [torch.Tensor.to_sparse, partial(torch.Tensor.to, device="meta")])
def test_tensors_without_their_pixels_are_refused(tiny, moved):
    tensor = moved(torch.zeros(3, 9, 9, dtype=torch.uint8))
    with pytest.raises(ImageError, match="a.png: a tensor must be dense, its pixels in memory"):
        tiny(tensor, name="a.png")


@pytest.mark.parametrize("bad", [photograph()[..., 0], torch.zeros(3, 9, 9), b"junk", 5.0])
def test_errors_say_which_image(tiny, bad, tmp_path):
    with pytest.raises(ImageError, match="^of camera 7: "):
        tiny(bad, name="of camera 7")
    with pytest.raises(ImageError, match="^image 2: "):
        tiny([photograph(), jpeg(20), bad])
    with pytest.raises(UsageError, match="^image 1: quality must be an integer from 1 to 100, not 0"):
        tiny([photograph(), photograph()], quality=[20, 0])
    with pytest.raises(ImageError, match=rf"^{tmp_path / 'a.png'}: No such file"):
        tiny([photograph(), tmp_path / "a.png"])


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"model": "dagn-xl"}, "dagn-s"),
        ({"max_quality": 0}, "max_quality"),
        ({"max_quality": 101}, "1 to 100, or None to restore every image, not 101"),
        ({"cache_size": "10 apples"}, "cache's size"),
        ({"maxquality": 80}, "no option 'maxquality'; did you mean max_quality"),
        ({"x": 1}, "no option 'x'; known: model, device, max_quality"),
        ({"strength": 1.5}, "strength"),
        ({"strength": {}}, "strength"),
        ({"strength": {10: 2}}, "strength must lie in 0..1, or be such by QF"),
        ({"strength": {"10": 1}}, "strength"),
        ({"strength": [(10, 1), (10, 0.5)]}, "strength"),
        ({"strength": [(0, 1)]}, "strength"),
        ({"strength": [(10, None)]}, "strength"),
        ({"strength": "strong"}, "strength"),
        ({"tile": 100}, "multiple of 16"),
        ({"tile": -16}, "tile"),
        ({"overlap": 2.5}, "overlap"),
        ({"dtype": "float8"}, "dtype"),
        ({"device": "abacus"}, "device"),
        ({"device": "mps"}, "device"),
        ({"assume_quality": 0}, "quality"),
        ({"assume_quality": 101}, "quality"),
        ({"assume_quality": "30"}, "quality"),
        ({"model": None}, "model must be a name or the path of a checkpoint, not None"),
        ({"model": 4}, "model must be a name or the path of a checkpoint, not 4"),
        ({"cache_dir": 5}, "cache_dir must be None or a folder, not 5"),
        ({"cache_dir": b"x"}, "cache_dir must be None or a folder"),
    ],
)
def test_bad_options_are_refused_without_loading(options, reason):
    with pytest.raises(UsageError, match=reason):
        check_options(**options)


def test_a_dtype_that_this_torch_cannot_do_is_refused(tiny_weights, monkeypatch):
    def refuse(*arguments, **options):
        raise RuntimeError("only bfloat16 is supported")

    monkeypatch.setattr(torch, "autocast", refuse)
    with pytest.raises(UsageError, match="'float16' is not possible on cpu: only bfloat16"):
        Restorer(tiny_weights, device="cpu", dtype="float16")


def test_bad_calls_are_refused(tiny):
    with pytest.raises(UsageError, match="channel_order"):
        tiny(photograph(), channel_order="grb")
    with pytest.raises(UsageError, match="2 quality hints"):
        tiny([photograph()], quality=[10, 20])
    with pytest.raises(UsageError, match="1 to 100"):
        tiny(photograph(), quality=0)
    for quality in ("30", Quality(300, "given"), Quality(0, "given"), Quality(-5, "given"), Quality("x", "given")):
        with pytest.raises(UsageError, match="1 to 100"):
            tiny(photograph(), quality=quality)


def test_full_model_says_that_its_weights_are_not_shipped():
    with pytest.raises(WeightsError, match=r"dagn\.safetensors"):
        Restorer("dagn")


def test_one_restorer_per_options_and_one_copy_of_the_networks(tiny_weights, tmp_path):
    first = restorer.shared_restorer(model=tiny_weights, device="cpu")
    assert restorer.shared_restorer(model=tiny_weights, device="cpu") is first
    other = restorer.shared_restorer(model=tiny_weights, device="cpu", strength=0.5)
    assert other is not first and other.options.strength == 0.5
    assert other.model is first.model
    assert Restorer("dagn-s", device="cpu").model is not first.model


def test_other_weights_at_the_same_path_are_loaded_anew_and_the_old_ones_freed(tiny_weights, override_weights, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(override_weights.read_bytes())
    first = Restorer(path, device="cpu")
    path.write_bytes(tiny_weights.read_bytes())
    assert not Restorer(path, device="cpu").model.quality.vectors.any() and first.model.quality.vectors.any()
    old = weakref.ref(first.model)
    del first
    gc.collect()
    assert old() is None


def test_the_assumed_quality_replaces_the_sensitive_vector(override_weights):
    array = photograph()
    plain = Restorer(override_weights, device="cpu", max_quality=None)
    with torch.inference_mode():
        x = plain.inference.tensor([array])
        guidance = plain.model.network.guide(x)
        guidance.sensitive = plain.model.network.guider_cs(plain.model.quality.vectors[29:30])
        expected = (plain.model.network.restore(x, guidance)[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    assumed = Restorer(override_weights, device="cpu", assume_quality=30)
    assert np.abs(assumed(array) - expected[: array.shape[0], : array.shape[1]]).max() <= 1
    assert (assumed(array) != plain(array)).any()
    other = Restorer(override_weights, device="cpu", assume_quality=80)
    assert all(np.array_equal(a, other(b)) for a, b in zip(other([array, array]), [array, array]))
    assert (other(array) != assumed(array)).any()


def test_with_the_assumed_quality_nothing_is_skipped(override_weights):
    data = jpeg(97)
    assert np.array_equal(Restorer(override_weights, device="cpu", max_quality=50)(data), codec.decode(data))
    for quality in (10, 99):
        assumed = Restorer(override_weights, device="cpu", max_quality=50, assume_quality=quality)
        assert (assumed(data) != codec.decode(data)).any()
        assert np.array_equal(assumed(data, quality=99), assumed(data))


def test_the_assumed_quality_needs_what_it_turns(tiny_weights, tmp_path):
    with pytest.raises(UsageError, match=r"tiny\.safetensors.*no mean vectors"):
        Restorer(tiny_weights, device="cpu", assume_quality=30)
    ablation = tmp_path / "ablation.safetensors"
    weights.save(ablation, DAGN(replace(TINY, sensitive=False)))
    with pytest.raises(UsageError, match=r"has no effect on model .*ablation\.safetensors"):
        Restorer(ablation, device="cpu", assume_quality=30)


@pytest.mark.parametrize(("name", "least"), [(MODEL, 1.1), ("dagn-s", 1.2)])
def test_shipped_weights_help_on_real_images_and_know_their_quality(real_data, name, least):
    shipped = Restorer(name, device="cpu")
    gains, errors = [], []
    for path in sorted((real_data / "LIVE1").glob("*.png"))[:4]:
        original = codec.decode(path.read_bytes())[:320, :320]
        for quality in (10, 40, 80):
            compressed = codec.compress(original, quality)
            errors.append(abs(shipped.estimate_quality(compressed).value - quality))
            if quality == 10:
                mse = [((x.astype(float) - original) ** 2).mean() for x in (compressed, shipped(compressed))]
                gains.append(10 * np.log10(mse[0] / mse[1]))
    assert np.mean(gains) > least
    assert np.mean(errors) < 6


@pytest.mark.parametrize(  # dagn-s's is the weakest
    "name, last, share", [("dagn-s-psnr", 90, 0.8), ("dagn-s", 60, 0.91), ("dagn-xs", 80, 0.7)]
)
def test_the_assumed_quality_corrects_less_the_higher_its_quality(real_data, name, last, share):
    qualities = range(10, last + 1, 10)
    assumed = [Restorer(name, device="cpu", assume_quality=quality) for quality in qualities]
    for path in sorted((real_data / "LIVE1").glob("*.png"))[:3]:
        compressed = codec.compress(codec.decode(path.read_bytes())[:256, :256], 20)
        corrections = [np.abs(restore(compressed).astype(float) - compressed).mean() for restore in assumed]
        assert all(np.diff(corrections) < 0)
        assert corrections[-1] < share * corrections[0]
