"""Restoration tables on toy folders whose scores are computed the other way, and JPEG's on LIVE1, which the paper prints."""

from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from dagn_pre import codec, metrics
from dagn_pre.benchmarks.restoration import datasets, evaluation, report
from dagn_pre.benchmarks.restoration.evaluation import TABLES, evaluate
from dagn_pre.benchmarks.results import Results
from dagn_pre.errors import ConfigError, ImageError, UsageError
from dagn_pre.networks.autoencoder import QualityPredictor
from dagn_pre.networks.dagn import DAGN
from dagn_pre.restorer import Restorer
from dagn_pre.weights import save
from tests.support import TINY, photograph, randomised

# Ma et al., TIP 2024, Table I, JPEG on LIVE1: PSNR, SSIM, PSNR-B as printed.
PAPER = {10: (25.69, 0.743, 24.20), 20: (28.06, 0.826, 26.49), 30: (29.37, 0.861, 27.84), 40: (30.28, 0.882, 28.84)}


def originals() -> list[np.ndarray]:
    return [photograph(40 + 8 * seed, 56, seed) for seed in range(3)]


@pytest.fixture
def folder(tmp_path):
    """A flat folder "toys" of three lossless images, 0.png to 2.png."""
    root = tmp_path / "toys"
    root.mkdir()
    for index, image in enumerate(originals()):
        Image.fromarray(image).save(root / f"{index}.png")
    return root


def test_rows_and_per_image_values(folder, tmp_path, tiny_weights):
    content, failures = evaluate([folder], [tiny_weights], [40, 10], tmp_path / "out", device="cpu")
    assert [(r["dataset"], r["qf"], r["method"], r["n_images"]) for r in content["rows"]] == [
        ("toys", qf, method, 3) for qf in (10, 40) for method in ("jpeg", "tiny")
    ]
    assert not failures and json.loads((tmp_path / "out" / "results.json").read_text()) == content
    restorer = Restorer(tiny_weights, "cpu", max_quality=None)
    compressed = [codec.compress(image, 10) for image in originals()]
    blind = [restorer.estimate_quality(image).value for image in compressed]
    for row, images in zip(content["rows"], (compressed, [restorer(image) for image in compressed])):
        for key, metric in (("psnr", metrics.psnr), ("ssim", metrics.ssim), ("psnrb", metrics.psnr_b)):
            expected = np.mean([metric(*pair) for pair in zip(images, originals())])
            assert row[key] == pytest.approx(expected, abs=1e-4)
    assert content["rows"][0]["blind_qf_error"] is None
    assert content["rows"][1]["blind_qf_error"] == pytest.approx(np.mean([abs(value - 10) for value in blind]), abs=1e-3)

    lines = list(csv.DictReader(io.StringIO((tmp_path / "out" / "results.csv").read_text())))
    assert len(lines) == 12
    line = next(x for x in lines if (x["image"], x["qf"], x["method"]) == ("1.png", "10", "tiny"))
    gain = metrics.psnr(restorer(compressed[1]), originals()[1]) - metrics.psnr(compressed[1], originals()[1])
    assert float(line["psnr_gain"]) == pytest.approx(gain, abs=1e-4)
    assert float(line["bpp"]) == pytest.approx(8 * len(codec.encode(originals()[1], 10)) / (48 * 56), abs=1e-5)
    assert int(line["blind_qf"]) == blind[1]


def test_the_report_and_its_pictures(folder, tmp_path, tiny_weights):
    out = tmp_path / "out"
    content, _ = evaluate([folder], [tiny_weights], [10], out, device="cpu")
    names = {"results.json", "results.csv", "results.md", "rate.png", "blind.png", "crops-toys.png"}
    assert {path.name for path in out.iterdir()} == names
    for name in ("rate.png", "blind.png", "crops-toys.png"):
        assert min(Image.open(out / name).size) > 200
    text = (out / "results.md").read_text()
    jpeg, tiny = content["rows"]
    header, _, first, second, third = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:7]]
    assert header == ["Data", "QF", "Metric", "JPEG", "tiny"]
    assert first == ["toys", "10", "PSNR", f"{jpeg['psnr']:.2f}", f"{tiny['psnr']:.2f}"]
    assert second == ["", "", "SSIM", f"{jpeg['ssim']:.3f}", f"{tiny['ssim']:.3f}"]
    assert third == ["", "", "PSNR-B", f"{jpeg['psnrb']:.2f}", f"{tiny['psnrb']:.2f}"]
    assert str(tmp_path) not in text + (out / "results.json").read_text()


def test_published_columns_stand_beside_whole_data_sets_alone(tmp_path, tiny_weights):
    root = tmp_path / "LIVE1"
    root.mkdir()
    Image.fromarray(photograph()).save(root / "a.png")
    content, _ = evaluate([root], [tiny_weights], [10, 50], crops=0, device="cpu")
    text = report.markdown(content)
    cells = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()[2:10]]
    assert cells[0][-4:-1] == ["ARCNN*", "FBCNN*", "DAGN*"] and "quoted from Tables I and II" in text
    assert cells[2][-4:-1] == ["26.43", "27.77", "27.95"]
    assert cells[5][-4:-1] == ["-", "-", "-"]  # the paper has no QF 50
    content["environment"]["limit"] = 1
    assert "FBCNN" not in report.markdown(content)


@pytest.fixture
def scored(monkeypatch):
    """The (method is a model, QF, image) of each score; raises KeyboardInterrupt before the one whose index is set."""
    calls, true_score = [], evaluation.score
    calls_stop = {"at": None}

    def spy(path, qf, restorer):
        if len(calls) == calls_stop["at"]:
            raise KeyboardInterrupt
        calls.append((restorer is not None, qf, path.name))
        return true_score(path, qf, restorer)

    monkeypatch.setattr(evaluation, "score", spy)
    return calls, calls_stop


def test_an_interrupted_run_keeps_its_rows_and_goes_on(folder, tmp_path, tiny_weights, scored):
    calls, stop = scored
    whole, _ = evaluate([folder], [tiny_weights], [10, 20], tmp_path / "whole", device="cpu")
    calls.clear()
    stop["at"] = 7  # two cells of three images are complete
    with pytest.raises(KeyboardInterrupt):
        evaluate([folder], [tiny_weights], [10, 20], tmp_path / "parts", device="cpu")
    assert len(json.loads((tmp_path / "parts" / "results.json").read_text())["rows"]) == 2
    calls.clear()
    stop["at"] = None
    parts, _ = evaluate([folder], [tiny_weights], [10, 20], tmp_path / "parts", device="cpu")
    assert {qf for _, qf, _ in calls} == {20}
    assert parts["rows"] == whole["rows"] and parts["images"] == whole["images"]


def test_results_of_other_data_weights_and_limits_are_not_mixed(folder, tmp_path, tiny_weights):
    weights = shutil.copy(tiny_weights, tmp_path / "mine.safetensors")
    out = tmp_path / "out"

    def again(**settings):
        return evaluate([folder], [weights], [10], out, device="cpu", crops=0, **settings)

    first, _ = again()
    with pytest.raises(UsageError, match=r"other settings \(limit None, now 2; toys images 3, now 2.*--overwrite"):
        again(limit=2)
    network = randomised(DAGN(TINY), seed=1)
    save(weights, network, QualityPredictor(network.encoder_cs.out_channels))
    with pytest.raises(UsageError, match="other settings .*mine"):
        again()
    Image.fromarray(photograph(seed=9)).save(folder / "0.png")
    with pytest.raises(UsageError, match="toys sha256"):
        again()
    second, _ = again(overwrite=True)
    assert second["rows"][0]["psnr"] != first["rows"][0]["psnr"]
    (out / "results.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"results\.json cannot be read.*--overwrite"):
        again()


def test_bad_files_are_named_and_left_out(folder, tmp_path, tiny_weights, capsys):
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:300])
    Image.fromarray(photograph(8, 8)).save(folder / "small.png")
    content, failures = evaluate([folder], [tiny_weights], [10], device="cpu")
    assert {row["n_images"] for row in content["rows"]} == {3}
    assert "broken.png: damaged or cut short" in failures[0] and "small.png: 8x8 pixels" in failures[1]
    assert all(f"failed: {failure}" in capsys.readouterr().err.replace("\r", "\n") for failure in failures[:1])
    for path in folder.glob("[012].png"):
        path.unlink()
    with pytest.raises(ImageError, match="none of its 2 images"):
        evaluate([folder], [tiny_weights], [10], device="cpu")


def test_values_outside_their_range_are_refused(folder, tmp_path, tiny_weights):
    def refused(match, folders=(folder,), chosen=(tiny_weights,), qualities=(10,), **settings):
        with pytest.raises(UsageError, match=match):
            evaluate(folders, chosen, qualities, device="cpu", **settings)

    (tmp_path / "empty").mkdir()
    refused("empty: no images", folders=[tmp_path / "empty"])
    refused("none: no such folder", folders=[tmp_path / "none"])
    refused("two of the folders are both called toys", folders=[folder, folder])
    refused("unknown model 'nobody'", chosen=["nobody"])
    refused("two restorers are both called tiny", chosen=[tiny_weights, tiny_weights])
    refused("quality must be an integer from 1 to 100", qualities=[10, 101])
    refused("limit must be at least 1", limit=0)
    refused("crops must be at least 0", crops=-1)


def test_equal_images_score_a_finite_ceiling(tmp_path, tiny_weights):
    """JPEG leaves mid-gray as it is; an infinite mean would be no valid JSON."""
    root = tmp_path / "gray"
    root.mkdir()
    Image.new("RGB", (32, 32), (128, 128, 128)).save(root / "a.png")
    content, _ = evaluate([root], [tiny_weights], [50], tmp_path / "out", device="cpu")
    assert content["rows"][0]["psnr"] == content["rows"][0]["psnrb"] == evaluation.CEILING
    json.loads((tmp_path / "out" / "results.json").read_text(), parse_constant=pytest.fail)


def test_originals_that_are_jpegs_are_told(folder, tiny_weights):
    Image.fromarray(photograph()).save(folder / "z.jpg", quality=95)
    content, _ = evaluate([folder], [tiny_weights], [10], device="cpu")
    assert content["environment"]["data"]["toys"]["jpeg_originals"] == 1
    assert "1 of the originals of toys are JPEG files themselves" in report.markdown(content)


def test_blind_sweep(folder, tmp_path, tiny_weights):
    content, _ = evaluate([folder], [tiny_weights], [10], tmp_path, limit=2, blind_sweep=True, device="cpu")
    restorer = Restorer(tiny_weights, "cpu")
    errors = []
    for qf, row in zip(range(5, 100, 5), content["blind"]):
        predicted = [restorer.estimate_quality(codec.compress(image, qf)).value for image in originals()[:2]]
        errors.append(np.mean([abs(value - qf) for value in predicted]))
        assert (row["qf"], row["n_images"]) == (qf, 2)
        assert row["error"] == pytest.approx(errors[-1], abs=1e-3)
        assert row["mean"] == pytest.approx(np.mean(predicted), abs=1e-3)
    overall = content["blind"][-1]
    assert len(content["blind"]) == 20 and overall["qf"] is None
    assert overall["error"] == pytest.approx(np.mean(errors), abs=1e-3)
    line = next(x for x in (tmp_path / "results.md").read_text().splitlines() if "all of these" in x)
    assert float(line.split("|")[4]) == pytest.approx(overall["error"], abs=0.011)
    again, _ = evaluate([folder], [tiny_weights], [10], tmp_path, limit=2, blind_sweep=True, device="cpu")
    assert again["blind"] == content["blind"]


def test_a_crop_sheet_goes_from_the_worst_to_the_best(folder, tiny_weights):
    data = datasets.scan(folder)
    restorers = evaluation.load([tiny_weights], "cpu", "auto")
    results = Results(None, {}, tables=TABLES)
    evaluation.measure(results, [data], [10], restorers)
    rows = evaluation.sheet(results.content["images"], data, 10, restorers, 3)
    psnr = {(row["image"], row["method"]): row["psnr"] for row in results.content["images"]}
    gains = {name: psnr[name, "tiny"] - psnr[name, "jpeg"] for name in ("0.png", "1.png", "2.png")}
    assert [row[0][0].partition(",")[0] for row in rows] == sorted(gains, key=gains.get)
    assert len(evaluation.sheet(results.content["images"], data, 10, restorers, 2)) == 2
    name, (original, jpeg, restored) = rows[0][0][0][0], (crop for _, crop in rows[0])
    whole = originals()[int(name)]
    places = [(y, x) for y in range(whole.shape[0]) for x in range(whole.shape[1])]
    height, width = original.shape[:2]
    top, left = next((y, x) for y, x in places if np.array_equal(whole[y : y + height, x : x + width], original))
    cut = slice(top, top + height), slice(left, left + width)
    assert np.array_equal(jpeg, codec.compress(whole, 10)[cut])
    assert np.array_equal(restored, restorers["tiny"](codec.compress(whole, 10))[cut])


def test_busiest_window_is_the_one_with_the_largest_sum():
    harm = np.random.default_rng(0).random((23, 31))
    best = max((harm[y : y + 7, x : x + 7].sum(), y, x) for y in range(17) for x in range(25))
    assert report.busiest(harm, 7) == (slice(best[1], best[1] + 7), slice(best[2], best[2] + 7))
    assert harm[report.busiest(harm, 64)].shape == harm.shape


@pytest.mark.parametrize(
    "given, made, name",
    [
        ("live", "databaserelease2/refimgs", "LIVE1"),
        ("LIVE1", "refimgs", "LIVE1"),
        ("BSR", "BSDS500/data/images/test", "BSD500"),
        ("x/BSDS500", "data/images/test", "BSD500"),
        ("BSR/BSDS500/data/images", "test", "BSD500"),
        ("BSDS500", "", "BSD500"),
        ("LIU4K", "valid", "LIU4K"),
        ("sets", "LIU4K/valid", "LIU4K"),
        ("sets", "DIV2K/DIV2K_valid_HR", "DIV2K"),
        ("DIV2K", "DIV2K_valid_HR", "DIV2K"),
        ("DIV2K_valid_HR", "", "DIV2K"),
    ],
)
def test_release_layouts(tmp_path, given, made, name):
    """From any folder on the way, the test images alone are found."""
    root, wanted = tmp_path / given, tmp_path / given / made
    (wanted / "sub").mkdir(parents=True)
    Image.fromarray(photograph()).save(wanted / "sub" / "a.png")
    if made:
        (wanted.parent / "train").mkdir()
        Image.fromarray(photograph(seed=1)).save(wanted.parent / "train" / "b.png")
    data = datasets.scan(root)
    assert data.name == name and [data.label(path) for path in data.paths] == ["sub/a.png"]


def test_other_folders_are_taken_as_they_are(tmp_path):
    """A "valid" or a LIVE1 inside some other folder is no reason to leave out the rest."""
    for inner in ("valid", "LIVE1"):
        (tmp_path / "mine" / inner).mkdir(parents=True)
    assert datasets.locate(tmp_path / "mine") == ("mine", tmp_path / "mine")


def test_jpeg_rows_of_live1_are_the_papers(real_data):
    results = Results(None, {}, tables=TABLES)
    evaluation.measure(results, [datasets.scan(real_data / "LIVE1")], list(PAPER), {})
    rows = results.content["rows"]
    assert [(row["dataset"], row["method"], row["n_images"]) for row in rows] == [("LIVE1", "jpeg", 29)] * 4
    assert {row["qf"]: (round(row["psnr"], 2), round(row["ssim"], 3)) for row in rows} == {qf: PAPER[qf][:2] for qf in PAPER}
    for row in rows:
        assert row["psnrb"] == pytest.approx(PAPER[row["qf"]][2], abs=0.0085)  # QF 40 is 28.832 here and 28.84 there
