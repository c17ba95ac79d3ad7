"""Files with side information, from the sender to restored pixels: library, command line, pipelines, damage."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import warnings

import fuzz_side_information
import numpy as np
import pytest
import torch
from PIL import Image

from dagn_pre import Restorer, codec, metrics, models, weights
from dagn_pre.cli.main import main
from dagn_pre.errors import ImageError, UsageError, WeightsError
from dagn_pre.networks.side_information import SideInformation, SideInformationConfig, conditioned, one_hot, quantised, window
from dagn_pre.side_information import SideInformationEncoder, adapter, coder, segment
from tests.support import photograph, save_adapter

IMAGE = photograph(70, 90)


@pytest.fixture(scope="module")
def restorer(tiny_weights, side_weights) -> Restorer:
    return Restorer(tiny_weights, "cpu", side_information=side_weights)


@pytest.fixture(scope="module")
def plain(tiny_weights) -> Restorer:
    return Restorer(tiny_weights, "cpu", side_information=False)


@pytest.fixture(scope="module")
def carrier(encoder) -> bytes:
    return encoder.encode(IMAGE, 20)


def quietly(function, *arguments, **options):
    """Call without any warning, which would be an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return function(*arguments, **options)


# -- the network ----------------------------------------------------------------------------------------------------------


def test_quantisation_is_hard_forward_and_soft_backward():
    torch.manual_seed(0)
    logits = torch.randn(2, 16, 3, 3, requires_grad=True)
    chosen = quantised(torch.log_softmax(logits, 1), sigma=2.0)
    assert ((chosen == 0) | (chosen == 1)).all() and (chosen.sum(1) == 1).all()
    assert (chosen.argmax(1) == logits.argmax(1)).all()
    factors = torch.randn(chosen.shape)
    (chosen * factors).sum().backward()
    hard_gradient, logits.grad = logits.grad, None
    (torch.softmax(2 * torch.log_softmax(logits, 1), 1) * factors).sum().backward()
    assert torch.allclose(hard_gradient, logits.grad)


def test_bits_are_those_of_the_chosen_symbol():
    torch.manual_seed(0)
    network = SideInformation(SideInformationConfig(channels=(4,)))
    symbols = torch.randint(0, 16, (1, 4, 5))
    probabilities = network.context(one_hot(symbols)).exp()
    bits = network.context.bits(one_hot(symbols))
    assert torch.allclose(bits, -torch.log2(probabilities.gather(1, symbols[:, None])[:, 0]))


def test_maps_of_a_crop_are_those_of_the_whole_but_at_its_border():
    torch.manual_seed(0)
    network = SideInformation(SideInformationConfig(channels=(4, 3), shift=True))
    maps = network.maps(torch.randint(0, 16, (1, 6, 7)))
    x = torch.rand(1, 4, 96, 112)
    whole = conditioned(x, maps[0])
    crop = conditioned(x[..., 16:80, 32:96], window(maps, 16, 32, 64, 64)[0])
    assert torch.allclose(crop[..., 4:-4, 4:-4], whole[..., 20:76, 36:92], atol=1e-6)
    assert not torch.allclose(crop, whole[..., 16:80, 32:96])
    half = conditioned(torch.ones(1, 3, 48, 56), maps[1])  # a layer at half the resolution
    assert half.shape == (1, 3, 48, 56)


# -- restoring ------------------------------------------------------------------------------------------------------------


def test_the_picture_is_that_of_the_plain_jpeg_and_restores_otherwise(carrier, restorer, plain):
    assert (codec.decode(carrier) == codec.compress(IMAGE, 20)).all()
    with_it, without = quietly(restorer, carrier), quietly(plain, carrier)
    assert (with_it != without).any()
    assert (quietly(restorer, segment.strip(carrier)) == without).all()


def test_path_bytes_pil_and_array_with_its_file_restore_alike(carrier, restorer, tmp_path):
    (tmp_path / "a.jpg").write_bytes(carrier)
    expected = restorer(carrier)
    opened = Image.open(tmp_path / "a.jpg")
    assert (np.asarray(quietly(restorer, opened)) == expected).all()
    assert (quietly(restorer, tmp_path / "a.jpg") == expected).all()
    pixels = codec.decode(carrier)
    assert (quietly(restorer, pixels, quality=20, data=carrier) == expected).all()
    bgr = quietly(restorer, pixels[..., ::-1], quality=20, data=carrier, channel_order="bgr")
    assert (bgr[..., ::-1] == expected).all()
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    assert (quietly(restorer, tensor, quality=20, data=carrier).permute(1, 2, 0).numpy() == expected).all()


def test_a_batch_may_mix_files_with_and_without(carrier, restorer):
    files = [carrier, segment.strip(carrier), carrier]
    together = quietly(restorer, files)
    for file, image in zip(files, together):
        assert np.abs(restorer(file).astype(int) - image).max() <= 1
    assert (together[0] != together[1]).any()


def test_tiles_see_their_part_of_the_symbols(encoder, tiny_weights, side_weights):
    image = encoder.encode(photograph(200, 260), 15)
    whole = Restorer(tiny_weights, "cpu", side_information=side_weights, tile=0)(image)
    tiled = Restorer(tiny_weights, "cpu", side_information=side_weights, tile=64)(image)
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def test_skipping_and_strength_come_first(carrier, tiny_weights, side_weights):
    skipping = Restorer(tiny_weights, "cpu", max_quality=20, side_information=side_weights)
    assert (quietly(skipping, carrier) == codec.decode(carrier)).all()
    nothing = Restorer(tiny_weights, "cpu", strength=0, side_information=side_weights)
    assert (quietly(nothing, carrier) == codec.decode(carrier)).all()


def test_what_cannot_be_used_is_named_and_left_out(carrier, restorer, plain, tiny_weights, tmp_path):
    expected = plain(carrier)
    place = carrier.index(b"DAGN\0") + 5
    unknown = carrier[:place] + b"\x09" + carrier[place + 1 :]
    damaged = carrier[: place + 20] + bytes([carrier[place + 20] ^ 1]) + carrier[place + 21 :]
    other = SideInformationEncoder(tiny_weights, weights=save_adapter(tmp_path / "o.safetensors", tiny_weights, seed=5))
    foreign = other.encode(IMAGE, 20)
    larger = SideInformationEncoder.encode(other, photograph(120, 90), 20)
    message = segment.Layout.of(carrier).message()
    lying = segment.embed(segment.strip(larger), message)
    for file, reason in (
        (unknown, "version 9"),
        (damaged, "damaged, or of another picture"),
        (foreign, "which are not here"),
        (lying, "6x5 symbols, where 90x120 pixels need 6x8"),
    ):
        (tmp_path / "file.jpg").write_bytes(file)
        with pytest.warns(RuntimeWarning, match=rf"file.jpg: .*{reason}.*; restored without it"):
            found = restorer(tmp_path / "file.jpg")
        assert (found == (plain(file) if file is lying else expected)).all()


def test_an_array_that_was_turned_is_not_what_the_symbols_are_of(encoder, restorer, plain):
    exif = Image.Exif()
    exif[0x0112] = 3
    file = encoder.encode(IMAGE, 20, exif=exif)
    pixels = codec.decode(file)
    exif[0x0112] = 0  # turns nothing
    quietly(restorer, pixels, quality=20, data=encoder.encode(IMAGE, 20, exif=exif))
    assert (quietly(restorer, file) != plain(file)).any()  # a file is restored as stored, then turned
    with pytest.warns(RuntimeWarning, match="EXIF turns"):
        assert (restorer(pixels, quality=20, data=file) == plain(pixels, quality=20)).all()


def test_the_receiver_that_expects_it_names_files_without(carrier, tiny_weights, side_weights, tmp_path):
    receiver = Restorer(tiny_weights, "cpu", side_information=side_weights, expect_side_information=True)
    quietly(receiver, carrier)
    (tmp_path / "bare.jpg").write_bytes(segment.strip(carrier))
    with pytest.warns(RuntimeWarning, match="bare.jpg: has no side information"):
        receiver(tmp_path / "bare.jpg")


def test_a_pil_image_that_is_no_longer_its_file_is_restored_without(carrier, restorer, plain, tmp_path):
    (tmp_path / "a.jpg").write_bytes(carrier)
    opened = Image.open(tmp_path / "a.jpg")
    opened.thumbnail((48, 48))
    in_memory = Image.open(io.BytesIO(carrier))
    for image in (opened, in_memory):
        with pytest.warns(RuntimeWarning, match="not at hand, or has changed"):
            found = restorer(image)
        assert (np.asarray(found) == np.asarray(plain(image))).all()


def test_models_that_cannot_use_it_say_so(carrier, tmp_path):
    (tmp_path / "a.jpg").write_bytes(carrier)
    for restorer in (Restorer("arcnn", "cpu"), Restorer("arcnn", "cpu", expect_side_information=True)):
        with pytest.warns(RuntimeWarning, match="a.jpg: side information for weights .*, which are not here"):
            restorer(tmp_path / "a.jpg")
    quietly(Restorer("arcnn", "cpu", side_information=False), carrier)


def test_bad_bytes_beside_a_good_array_do_not_stop_it(carrier, restorer, plain):
    place = carrier.index(b"\xff\xc0")
    huge = carrier[: place + 5] + b"\xea\x60\xea\x60" + carrier[place + 9 :]
    for data in (huge, carrier[:40] + b"DAGN\0", b"\xff\xd8DAGN\0"):
        with pytest.warns(RuntimeWarning, match="frame 7: .*; restored without it"):
            found = restorer(IMAGE, quality=20, data=data, name="frame 7")
        assert (found == plain(IMAGE, quality=20)).all()
    assert (quietly(restorer, IMAGE, quality=20, data=b"\x89PNG DAGN\0") == plain(IMAGE, quality=20)).all()


def test_large_images_are_described_in_tiles(encoder):
    image = photograph(200, 300)
    jpeg = codec.compress(image, 10)
    whole = encoder.symbols(image, jpeg)
    assert len(np.unique(whole)) > 2
    for tile in (64, 128):
        assert (encoder.symbols(image, jpeg, tile) == whole).all()


def test_restore_decodes_it_once(carrier, tiny_weights, side_weights, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.jpg").write_bytes(carrier)
    decode, calls = coder.decode, []
    monkeypatch.setattr(coder, "decode", lambda *given: calls.append(given) or decode(*given))
    words = ["restore", str(tmp_path / "a.jpg"), str(tmp_path / "a.png"), "--model", str(tiny_weights), "--device", "cpu"]
    assert main([*words, "--side-weights", str(side_weights)]) == 0
    assert "1 written with side information" in capsys.readouterr().out and len(calls) == 1


def test_side_information_inside_another_segment_is_none(carrier, restorer, tmp_path):
    """Pillow finds what lies behind a marker that it does not know; we do not."""
    start = carrier.index(b"\xff\xef")
    stop = start + 2 + int.from_bytes(carrier[start + 2 : start + 4], "big")
    hidden = b"\xff\xf0" + (stop - start + 2).to_bytes(2, "big") + carrier[start:stop]
    (tmp_path / "a.jpg").write_bytes(carrier[:start] + hidden + carrier[stop:])
    row = adapter.describe(Image.open(tmp_path / "a.jpg"), tmp_path / "a.jpg", restorer.adapters)
    assert row is None or row["error"]


def test_grey_and_odd_sizes(encoder, restorer):
    for image in (IMAGE[..., 0], photograph(1, 1), photograph(17, 33), photograph(16, 16)):
        file = encoder.encode(image, 30)
        assert quietly(restorer, file).shape[:2] == image.shape[:2]
        assert segment.Layout.of(file).message().rows == -(-image.shape[0] // 16)


def test_encoders_and_restorers_refuse_what_does_not_belong(tiny_weights, side_weights, encoder, tmp_path):
    with pytest.raises(UsageError, match="no side information for model"):
        SideInformationEncoder(tiny_weights)
    with pytest.raises(WeightsError, match="for another restorer than 'dagn-s'"):
        SideInformationEncoder("dagn-s", weights=side_weights)
    with pytest.raises(WeightsError, match="for another restorer"):
        Restorer("dagn-s", side_information=side_weights)
    with pytest.raises(WeightsError, match="weights of a restorer, not of side information"):
        SideInformationEncoder(tiny_weights, weights=tiny_weights)
    with pytest.raises(UsageError, match="holds side information and no restorer"):
        Restorer(side_weights)
    with pytest.raises(WeightsError, match="for another restorer than 'arcnn'"):
        Restorer("arcnn", side_information=side_weights)
    with pytest.raises(UsageError, match="and weights are given"):
        SideInformationEncoder(tiny_weights, 1.0, side_weights)
    weights.save(tmp_path / "bare.safetensors", encoder.adapter.network, None, {"trunk": "x", "lambda_rate": 0})
    with pytest.raises(WeightsError, match="does not say for which restorer and lambda"):
        adapter.load(tmp_path / "bare.safetensors")
    with pytest.raises(UsageError, match="side_information must be"):
        Restorer(tiny_weights, side_information=3)
    with pytest.raises(WeightsError, match="no such weights file"):
        Restorer(tiny_weights, side_information=tmp_path / "none.safetensors")
    with pytest.raises(ImageError, match="is not of an original of"):
        encoder.add(IMAGE, codec.encode(IMAGE[:32], 20))
    with pytest.raises(ImageError, match="cannot decode"):
        encoder.add(IMAGE, b"no JPEG")


def test_a_list_has_no_one_file(restorer, carrier):
    for image, data in (([IMAGE], carrier), (carrier, carrier), (IMAGE, "a.jpg")):
        with pytest.raises(UsageError, match="data are the bytes of the file"):
            restorer(image, data=data)
    with pytest.raises(UsageError, match="name is of one image"):
        restorer([IMAGE], name="a")


# -- what is shipped -----------------------------------------------------------------------------------------------------


def test_shipped_weights_win_back_more_than_they_cost(real_data):
    """On three crops of LIVE1 at QF 10: more dB than the bytes would have bought by a higher QF, 0.03 dB a percent."""
    plain, restorer = (Restorer("dagn-s-psnr", "cpu", side_information=value) for value in (False, True))
    encoder = SideInformationEncoder()
    assert encoder.adapter.lambda_rate == 0.002
    gains, shares = [], []
    for path in sorted((real_data / "LIVE1").glob("*.png"))[:3]:
        original = np.asarray(Image.open(path).convert("RGB"))[:256, :256]
        jpeg = codec.encode(original, 10)
        file = encoder.add(original, jpeg)
        gains.append(metrics.psnr(quietly(restorer, file), original) - metrics.psnr(plain(jpeg), original))
        shares.append(100 * (len(file) / len(jpeg) - 1))
    assert min(gains) > 0 and np.mean(gains) > 0.1 and np.mean(gains) > 0.03 * np.mean(shares)


def test_every_shipped_weights_file_is_for_a_shipped_restorer():
    files = sorted(adapter.FOLDER.glob("*.safetensors"))
    assert len(files) >= 3 and {adapter.load(path).trunk for path in files} == {models.fingerprint(adapter.TRUNK)}
    assert adapter.TRUNK == models.FOR["eyes"]
    assert len({adapter.load(path).identity for path in files}) == len(files)


def test_another_restorer_names_the_one_that_shipped_side_information_is_for():
    file = SideInformationEncoder().encode(IMAGE, 20)
    with pytest.warns(RuntimeWarning, match="side information for dagn-s-psnr, another restorer"):
        Restorer("dagn-s", "cpu")(file)


# -- two machines ---------------------------------------------------------------------------------------------------------

READ = """
import json, sys, torch
from dagn_pre.side_information import adapter
torch.set_num_threads(int(sys.argv[3]))
known = adapter.load(sys.argv[2])
data = open(sys.argv[1], "rb").read()
_, symbols = adapter.read(data, {known.identity: known}, 700, 900)
print(json.dumps(symbols.tolist()))
"""


@pytest.mark.slow
def test_processes_with_other_thread_counts_read_the_same_symbols(encoder, side_weights, tmp_path):
    image = photograph(700, 900)
    file = encoder.encode(image, 10)
    (tmp_path / "a.jpg").write_bytes(file)
    sent = encoder.symbols(image, codec.decode(file)).tolist()
    assert len({symbol for row in sent for symbol in row}) > 2
    for threads in (1, 2, 3):
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        arguments = [sys.executable, "-c", READ, str(tmp_path / "a.jpg"), str(side_weights), str(threads)]
        read = subprocess.run(arguments, capture_output=True, text=True, env=environment)
        assert read.returncode == 0, read.stderr
        assert json.loads(read.stdout) == sent


# -- damage ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_mutated_files_are_at_worst_those_of_the_plain_restorer(restorer, plain, carrier):
    """A share of ``tools/fuzz_side_information.py``, which does 10,000."""
    outcomes = fuzz_side_information.check(restorer, plain, carrier, 300)
    assert outcomes["refused"] and outcomes["plain"] > outcomes["used"], outcomes


# -- command line ---------------------------------------------------------------------------------------------------------


def test_compress_restore_inspect_and_strip(tmp_path, tiny_weights, side_weights, capsys):
    originals, jpegs = tmp_path / "in", tmp_path / "jpeg"
    originals.mkdir()
    for seed in (0, 1):
        Image.fromarray(photograph(70, 90, seed)).save(originals / f"{seed}.png")
    chosen = ["--model", str(tiny_weights), "--side-weights", str(side_weights)]
    assert main(["compress", str(originals), str(jpegs), "--qf", "20", "--side-information", *chosen]) == 0
    assert main(["compress", str(originals / "0.png"), str(jpegs / "bare.jpg"), "--qf", "20"]) == 0
    place = (jpegs / "1.jpg").read_bytes().index(b"DAGN\0") + 5
    damaged = bytearray((jpegs / "1.jpg").read_bytes())
    damaged[place + 20] ^= 1
    (jpegs / "1.jpg").write_bytes(damaged)

    capsys.readouterr()
    with pytest.warns(RuntimeWarning, match="1.jpg: side information that is damaged"):
        assert main(["restore", str(jpegs), str(tmp_path / "out"), "--device", "cpu", *chosen]) == 0
    printed = capsys.readouterr().out
    for part in ("1 written with side information", "1 written without the side information it has", "1 written"):
        assert part in printed.strip().split(", ")
    assert (tmp_path / "out" / "0.png").read_bytes() != (tmp_path / "out" / "bare.png").read_bytes()
    assert main(["restore", str(jpegs), str(tmp_path / "off"), "--model", str(tiny_weights), "--no-side-information"]) == 0
    assert (tmp_path / "off" / "0.png").read_bytes() == (tmp_path / "out" / "bare.png").read_bytes()

    capsys.readouterr()
    assert main(["inspect", str(jpegs), "--json", *chosen]) == 0
    rows = {os.path.basename(row["file"]): row["side_information"] for row in json.loads(capsys.readouterr().out)}
    assert rows["bare.jpg"] is None and "damaged" in rows["1.jpg"]["error"]
    assert rows["0.jpg"]["version"] == 1 and (rows["0.jpg"]["rows"], rows["0.jpg"]["columns"]) == (5, 6)
    size = (jpegs / "0.jpg").stat().st_size - (jpegs / "bare.jpg").stat().st_size
    assert rows["0.jpg"]["bytes"] == size and rows["0.jpg"]["error"] is None
    assert main(["inspect", str(jpegs / "0.jpg"), *chosen]) == 0
    assert f"side information of {size} bytes, version 1 (weights " in capsys.readouterr().out
    assert main(["inspect", str(jpegs / "1.jpg"), *chosen]) == 0
    assert "blind QF" in (line := capsys.readouterr().out) and "side information that is damaged" in line

    (jpegs / "broken.jpg").write_bytes(b"no JPEG")
    (jpegs / "0.png").write_bytes(b"of another format: nothing to strip")
    (jpegs / "0.JPEG").write_bytes((jpegs / "0.jpg").read_bytes())
    assert main(["strip", str(jpegs), str(tmp_path / "stripped")]) == 1
    assert "broken.jpg: is no JPEG" in capsys.readouterr().err
    assert (tmp_path / "stripped" / "0.jpg").read_bytes() == (jpegs / "bare.jpg").read_bytes()
    assert {path.name for path in (tmp_path / "stripped").iterdir()} == {"0.jpg", "0.JPEG", "1.jpg", "bare.jpg"}


def test_options_without_side_info_are_refused(tmp_path, capsys):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    assert main(["compress", str(tmp_path / "a.png"), str(tmp_path / "a.jpg"), "--qf", "20", "--lambda", "1"]) == 2
    assert "--side-information, which is not given" in capsys.readouterr().err


def test_of_several_lambdas_the_nearest_is_taken(tiny_weights, tmp_path, monkeypatch):
    monkeypatch.setattr(adapter, "FOLDER", tmp_path)
    for index, value in enumerate((4.0, 0.25, 1.0)):
        save_adapter(tmp_path / f"{index}.safetensors", tiny_weights, index, lambda_rate=value)
    asked = {None: 1.0, 0.1: 0.25, 0.6: 1.0, 3: 4.0}
    assert {key: SideInformationEncoder(tiny_weights, key).adapter.lambda_rate for key in asked} == asked
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="lambda must be positive"):
            SideInformationEncoder(tiny_weights, wrong)
    restorer = Restorer(tiny_weights, "cpu")  # knows all that are shipped for its model
    assert len(restorer.adapters) == 3
    quietly(restorer, [SideInformationEncoder(tiny_weights, value).encode(IMAGE, 20) for value in (4, 0.25)])
