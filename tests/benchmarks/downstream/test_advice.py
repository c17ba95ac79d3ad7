"""What to put in front of a model: the rule on made-up differences, the whole way on toys, and into a config."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from dagn_pre import models
from dagn_pre.benchmarks.downstream import advice, bootstrap, panels, report, run, scores
from dagn_pre.benchmarks.downstream.advice import Gain
from dagn_pre.benchmarks.downstream.cases import prepare
from dagn_pre.benchmarks.downstream.cells import read
from dagn_pre.benchmarks.downstream.inputs import RestoredInput, restored_inputs
from dagn_pre.benchmarks.downstream.report import text
from dagn_pre.benchmarks.downstream.report.advice_text import recommendation
from dagn_pre.cli.main import main
from dagn_pre.errors import ConfigError, UsageError, WeightsError
from tests.benchmarks.downstream import bench_toys, report_runs

COUNT = 24
ARCNN = models.get("arcnn").weights  # ships, and helps on noise


@pytest.fixture(autouse=True)
def fresh():
    """No scope of an earlier test's host."""
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()


# ---- the rule


def gain(value: float, seed: int = 0, width: float = 0.5) -> Gain:
    """A difference whose interval is about ``width`` to both sides."""
    noise = np.random.default_rng(seed).normal(0, width / 1.96, 2000)
    return Gain(value, value + noise - noise.mean())


def decided(images: tuple[int, int] = (50, 50), **restorers: dict[int, float | tuple[float, float]]) -> advice.Advice:
    """The advice where a restorer gains so many points at a QF, on both halves of the images or on each; "_" stands for "@"."""
    found = {}
    for number, (label, by_quality) in enumerate(restorers.items()):
        for quality, values in by_quality.items():
            halves = values if isinstance(values, tuple) else (values, values)
            pair = tuple(gain(value, 100 * number + 2 * quality + half) for half, value in enumerate(halves))
            found[label.replace("_", "@0."), quality] = pair
    return advice.decide(found, images)


def test_restored_up_to_the_highest_qf_that_is_shown_to_gain():
    found = decided(a={10: 5, 20: 2, 40: 0.1, 75: 0})
    assert (found.decision, found.restorer, found.max_quality, found.strength) == ("restore", "a", 21, 1)
    assert found.plan == {10: "a", 20: "a"} and found.following == 40 and not found.unconfirmed and not found.alternatives
    assert decided(a={10: 5, 20: 2}).following is None
    everything = decided(a={10: 5, 100: 2})
    assert everything.decision == "restore" and everything.max_quality is None


@pytest.mark.parametrize("between", [-3, 0.1])
def test_nothing_is_restored_beyond_a_qf_where_it_harms_or_is_not_shown(between):
    assert decided(a={10: 5, 20: between, 30: 4}).max_quality == 11


def test_a_model_that_restoring_cannot_help_is_left_alone():
    for by_quality in ({10: -2, 20: -1}, {10: 0.0, 20: 0.0}, {10: 0.1, 20: 3}):
        found = decided(a=by_quality)
        assert found.decision == "leave alone" and not found.plan
        assert found.max_quality is found.strength is found.restorer is None
    assert advice.decide({("a", 10): (Gain(0.0, np.zeros(9)),) * 2}, (50, 50)).decision == "leave alone"
    none = Gain(float("nan"), np.full(9, np.nan))  # a half without any truth
    assert advice.decide({("a", 10): (none, gain(5))}, (50, 50)).decision == "leave alone"


def test_what_the_first_half_alone_shows_is_not_confirmed():
    found = decided(a={10: (5, 0.1), 20: (3, 3)})
    assert found.decision == "not confirmed" and found.restorer == "a" and found.unconfirmed == [10, 20] and not found.plan
    shrunk = decided(a={10: 5, 20: 3, 30: (2, -1), 40: 2})
    assert shrunk.plan == {10: "a", 20: "a"} and shrunk.unconfirmed == [30, 40] and shrunk.following == 30
    assert decided(a={10: (0.1, 5)}).decision == "leave alone"  # the second half does not choose


def test_few_images():
    assert decided(images=(10, 9), a={10: 5}).decision == "too few images"
    assert decided(images=(10, 10), a={10: 5}).decision == "restore"


def test_the_restorer_that_gains_most_over_all_qfs():
    """Not the one with the largest gain where it helps: b helps at one QF only."""
    found = decided(b={10: 6, 20: 0, 30: 0}, a={10: 5, 20: 3, 30: 2})
    assert found.restorer == "a" and found.max_quality == 31 and found.alternatives == []
    assert decided(a={10: (9, 0), 20: 9}, b={10: 2, 20: 1}).restorer == "b"  # a is not confirmed


def test_one_that_may_do_as_well_is_named():
    found = decided(a={10: 5, 20: 3}, b={10: 4.9, 20: 3}, c={10: 3, 20: 3}, d={10: (5, 0), 20: 3})
    assert found.restorer == "a" and found.alternatives == ["b"]


def test_one_strength_for_all_where_the_best_does_not_fall():
    found = decided(a={10: 3, 20: 2, 40: -1}, a_5={10: 4, 20: 3, 40: 2})
    assert found.strength == 0.5 and found.max_quality == 41 and found.plan == dict.fromkeys((10, 20, 40), "a@0.5")
    assert decided(a={10: 3, 20: 3}, a_5={10: 4, 20: 2.5}).strength == 0.5  # the best rises with QF


def test_a_strength_by_qf_where_the_best_falls():
    strong, weak = {10: 6, 20: 3, 40: -1}, {10: 3, 20: 2.9, 40: 2}
    found = decided(a=strong, a_5=weak)
    assert found.strength == [[10, 1.0], [20, 1.0], [40, 0.5]] and found.max_quality == 41
    assert list(found.plan.values()) == ["a", "a", "a@0.5"]
    unsure = decided(a={10: 6, 20: 3}, a_5={10: 5, 20: (3.5, 2.5)})
    assert unsure.strength == 1  # the second half does not show that the curve gains more
    shrunk = decided(a=strong, a_5={**weak, 40: (2, 1e-3)}, a_2={40: 0})
    assert shrunk.strength == 1 and shrunk.max_quality == 21


def test_names_of_inputs():
    for name, parts in {
        "dagn-s": ("dagn-s", False, 1),
        "dagn-s@0.5": ("dagn-s", False, 0.5),
        "dagn-s@.25": ("dagn-s", False, 0.25),
        "dagn-s+side@0.75": ("dagn-s", True, 0.75),
        "a/b@home.pth": ("a/b@home.pth", False, 1),
        "a/b@2.pth@1": ("a/b@2.pth", False, 1),
    }.items():
        found = RestoredInput.parse(name)
        assert (found.model, found.side_information, found.strength) == parts and RestoredInput.parse(str(found)) == found
    for name in ("dagn-s@0", "dagn-s@1.5"):
        with pytest.raises(UsageError, match=r"strength of input dagn-s@.* must lie above 0 and up to 1"):
            RestoredInput.parse(name)


# ---- the halves


def test_halves_do_not_depend_on_the_order():
    names = [f"{index}.png" for index in range(101)]
    first, second = advice.split(names)
    assert len(first) == 51 and sorted([*first, *second]) == list(range(101))
    again = advice.split(names[::-1])
    assert {names[::-1][index] for index in again[0]} == {names[index] for index in first}
    assert 15 < sum(index % 2 for index in first) < 36 and 15 < sum(index < 50 for index in first) < 36
    assert [len(half) for half in advice.split(["same"] * 4)] == [2, 2]


def cell(shares: np.ndarray) -> scores.Areas:
    """One class of a hundred pixels in each image, so many of them found."""
    names = [f"{index}.png" for index in range(len(shares))]
    return scores.Areas(names, ["thing"], 100 * shares[:, None], np.full((len(shares), 1), 100))


def test_gains_are_paired_differences_on_each_half():
    rng = np.random.default_rng(0)
    jpeg, change = rng.uniform(0.2, 0.6, 40), rng.normal(0.1, 0.02, 40)
    cells = {("original", None): cell(np.ones(40)), ("jpeg", 10): cell(jpeg), ("a", 10): cell(jpeg + change)}
    cells |= {("a+side", 10): cell(jpeg), ("a", 20): cell(jpeg)}  # with side information, and without its JPEG: left out
    found = advice.gains(cells, lambda one: advice.on_halves(cells[one], 300))
    assert list(found) == [("a", 10)]
    for half, one in zip(advice.split(cells["a", 10].images), found["a", 10]):
        assert one.value == pytest.approx(100 * change[half].mean())
        error = 196 * change[half].std() / np.sqrt(len(half))  # of the differences alone: the JPEGs' spread is ten times that
        assert one.ends == pytest.approx((one.value - error, one.value + error), abs=0.3)
    (row,) = advice.rows(found)
    assert row["first"] == pytest.approx(found["a", 10][0].value, abs=1e-3) and row["second_low"] > 0


# ---- in words


def panel(tmp_path: Path, **changes) -> panels.Panel:
    """The made-up run's first model with other advice."""
    results = report_runs.content()
    results["advice"][0] |= changes
    (tmp_path / "results.json").write_text(json.dumps(results))
    return panels.load(tmp_path).panels[0]


def test_in_words(tmp_path):
    said = recommendation(panel(tmp_path))
    assert said.startswith("restore up to QF 40 with dagn-s: max_quality 41, strength 1. Both halves of the images show that")
    assert "At QF 75, the next that was measured, no help is shown." in said
    assert said.endswith("It costs 41.5 ms per image, 0.67 times the model's own 62.0 ms.")
    said = recommendation(panel(tmp_path, strength=[[10, 1.0], [40, 0.5]], following=None, restore_ms_per_image=None))
    assert "strength 1 at QF 10, 0.5 at QF 40, linear in between" in said and "No higher QF was measured" in said
    assert "What it costs is not known" in said
    empty = {"qualities": [], "inputs": [], "max_quality": None, "strength": None}
    said = recommendation(panel(tmp_path, decision="too few images", images=[2, 2], **empty))
    assert said == "no advice: 4 images are too few, 20 are the least."
    said = recommendation(panel(tmp_path, decision="not confirmed", unconfirmed=[10, 20], **empty))
    assert said.startswith("leave it alone. On the first half of the images dagn-s helps at QF 10 and 20, which the second ")


def test_an_older_file_says_how_to_get_advice(tmp_path):
    results = report_runs.content()
    results = {key: results[key] for key in ("rows", "comparisons", "environment")}
    (tmp_path / "results.json").write_text(json.dumps(results))
    report.write(tmp_path)
    for name in ("results.md", "report.html"):
        assert text.UNADVISED in (tmp_path / name).read_text()
    assert list(report.advice(tmp_path)) == []


# ---- the whole way


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """The toy world, and a restorer as a file."""
    folder = bench_toys.make(tmp_path_factory.mktemp("toy"), bench_toys.toy_images(COUNT))
    shutil.copy(ARCNN, folder / "mine.safetensors")
    return folder


@pytest.fixture(scope="module")
def measured(toy, tmp_path_factory) -> Path:
    """A work dir of both toy models, restored by the file at two strengths."""
    work_dir = tmp_path_factory.mktemp("measured") / "out"
    mine = str(toy / "mine.safetensors")
    options = {"inputs": ("jpeg", mine, f"{mine}@0.5"), "device": "cpu", "resamples": 200}
    run.run([str(toy / "segment.py")], work_dir, qualities=(5, 20), **options)
    run.run([str(toy / "detect.py")], work_dir, qualities=(5,), **options)
    return work_dir


def test_a_model_that_is_helped_is_told_how(toy, measured):
    results = json.loads((measured / "results.json").read_text())
    found = {one["model"]: one for one in results["advice"]}["Toy segmenter"]
    assert {key: found[key] for key in ("decision", "restorer", "max_quality", "strength", "qualities", "inputs")} == {
        "decision": "restore", "restorer": "mine", "max_quality": 21, "strength": 1.0, "qualities": [5, 20],
        "inputs": ["mine", "mine"],
    }  # fmt: skip
    assert found["images"] == [12, 12] and found["following"] is None and found["restore_ms_per_image"] > 0
    assert results["files"] == [{"input": "mine", "file": f"../../{toy.name}/mine.safetensors"}]

    # each half's difference, from the kept cells and by hand
    kept = {name: read(measured / "cells" / f"segment-{name}-qf5.npz")[0] for name in ("jpeg", "mine", "mine@0.5")}
    rows = {(row["input"], row["qf"]): row for row in results["halves"] if row["model"] == "Toy segmenter"}
    assert list(rows) == [("mine", 5), ("mine@0.5", 5), ("mine", 20), ("mine@0.5", 20)]
    for half, chosen in zip(("first", "second"), advice.split(kept["jpeg"].images)):
        value = {name: 100 * np.mean(one.intersection[chosen].sum(0) / one.union[chosen].sum(0)) for name, one in kept.items()}
        for label in ("mine", "mine@0.5"):
            row = rows[label, 5]
            assert row[half] == pytest.approx(value[label] - value["jpeg"], abs=2e-3)
            assert 0 < row[f"{half}_low"] < row[half] < row[f"{half}_high"]
    assert 0 < rows["mine@0.5", 5]["first"] < rows["mine", 5]["first"]


def test_strength_is_what_the_step_is_given(toy, measured):
    """The scored images of "@0.5" are halfway between JPEG's and the restored ones: so are the cells' pixels that were seen."""
    case, mine = prepare(str(toy / "segment.py"), None, None), str(toy / "mine.safetensors")
    host = run.LazyHost(case, None, "cpu", measured).get()
    views = [host.predict(0, 5, one and RestoredInput(mine, strength=one)).image for one in (None, 1.0, 0.5)]
    jpeg, whole, half = (view.astype(int) for view in views)
    assert np.abs(whole - jpeg).max() > 10 and np.abs(half - (jpeg + whole) / 2).max() <= 1


def test_it_stands_in_every_report_and_can_be_drawn_again(measured, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(measured, folder, ignore=shutil.ignore_patterns("cells", "cache", "*.md", "*.html"))
    assert main(["bench", "report", str(folder)]) == 0
    for name in ("results.md", "report.html"):
        shown = (folder / name).read_text()
        assert "restore up to QF 20 with mine: max_quality 21, strength 1." in shown and "mine@0.5" in shown
    assert (folder / "results.md").read_text() == (measured / "results.md").read_text()


def test_a_finished_run_gives_the_same_advice_again(toy, measured, tmp_path, monkeypatch):
    folder = tmp_path / "again" / "out"  # as deep as the other
    shutil.copytree(measured, folder)
    before = json.loads((folder / "results.json").read_text())
    cut = {key: before[key] for key in before if key not in ("halves", "advice")}  # of a version that gave none
    (folder / "results.json").write_text(json.dumps(cut))
    options = {"inputs": ("jpeg",), "qualities": (5,), "device": "cpu"}
    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "resampled", None)  # those of the halves are kept, too
        again = run.run([str(toy / "segment.py")], folder, resamples=200, **options)
    for table in ("halves", "advice"):
        assert again[table] == [one for one in before[table] if one["model"] == "Toy segmenter"]
    assert again["files"] == before["files"]
    other = run.run([str(toy / "segment.py")], folder, resamples=300, **options)["halves"]
    assert [one["first_low"] for one in other] != [one["first_low"] for one in again["halves"]]
    cells = {one: read(folder / "cells" / f"segment-{one}-qf5.npz")[0] for one in ("jpeg", "mine")}
    fresh = advice.gains([("jpeg", 5), ("mine", 5)], lambda one: advice.on_halves(cells[one[0]], 300))
    assert other[0].items() >= next(advice.rows(fresh)).items()


def test_a_model_that_restoring_cannot_help_is_left_alone_on_the_command_line(toy, tmp_path, capsys):
    """It sees nothing red, whatever it is shown."""
    torch.save({"threshold": torch.tensor(300.0)}, tmp_path / "blind.pth")
    words = ["bench", "run", str(toy / "segment.py"), "--checkpoint", str(tmp_path / "blind.pth")]
    words += ["--work-dir", str(tmp_path / "out")]
    assert main([*words, "--inputs", "jpeg", "arcnn", "--qf", "5", "--device", "cpu", "--resamples", "200"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("Toy segmenter, toy: leave it alone. On the first half of the images no restorer is shown to help")
    out = tmp_path / "out.py"
    assert main(["insert", str(toy / "segment.py"), "-o", str(out), "--advice", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "restoring is not shown to help Toy segmenter, toy: leave it alone." in said and "leave out --advice" in said
    assert len(said.splitlines()) == 1 and not out.exists()


def test_few_images_give_no_advice(toy, tmp_path, capsys):
    options = {"inputs": ("jpeg", "arcnn"), "qualities": (5,), "device": "cpu", "resamples": 100, "limit": 4}
    results = run.run([str(toy / "segment.py")], tmp_path / "out", **options)
    assert results["advice"][0]["decision"] == "too few images" and results["advice"][0]["images"] == [2, 2]
    assert "no advice: 4 images are too few, 20 are the least." in (tmp_path / "out" / "results.md").read_text()
    assert main(["insert", str(toy / "segment.py"), "-o", str(tmp_path / "o.py"), "--advice", str(tmp_path / "out")]) == 2
    assert "4 images are too few" in capsys.readouterr().err


def test_without_a_restorer_there_is_nothing_to_advise(toy, tmp_path):
    results = run.run([str(toy / "segment.py")], tmp_path, inputs=("jpeg",), qualities=(5,), device="cpu")
    assert results["advice"] == results["halves"] == results["files"] == []
    with pytest.raises(ConfigError, match="holds no advice for Toy segmenter, toy: run dagn-pre bench run again, with jpeg"):
        advice.arguments(tmp_path, "segment.py")


def test_inputs_that_contradict_each_other(toy, tmp_path):
    (tmp_path / "mine.safetensors").write_bytes((toy / "mine.safetensors").read_bytes())
    (tmp_path / "half@0.5.pth").touch()
    two = (str(toy / "mine.safetensors"), f"{tmp_path / 'mine.safetensors'}@0.5")
    for inputs, message in (
        (two, "two inputs are both called mine"),
        ((f"{tmp_path}/half@0.5.pth",), r"would be called half@0\.5 in the results.*rename the file"),
        (("arcnn@0",), "strength of input arcnn@0 must lie above 0"),
        (("arcnn@half",), "unknown input arcnn@half"),
        (("jpeg@0.5",), "unknown input jpeg@0.5"),
    ):
        with pytest.raises(UsageError, match=message):
            restored_inputs(inputs)
    assert list(restored_inputs(("arcnn", "arcnn@1", "arcnn@.5"))) == ["arcnn", "arcnn@0.5"]


def test_other_weights_of_the_same_name_are_not_mixed(toy, measured, tmp_path, tiny_weights):
    folder = tmp_path / "out"
    shutil.copytree(measured, folder, ignore=shutil.ignore_patterns("cache"))
    shutil.copy(tiny_weights, tmp_path / "mine.safetensors")
    options = {"inputs": (f"{tmp_path / 'mine.safetensors'}@0.25",), "qualities": (5,), "device": "cpu"}
    with pytest.raises(UsageError, match=r"mine@0\.25 is of other weights than mine"):
        run.run([str(toy / "segment.py")], folder, **options)


# ---- into a config


def steps(path: Path) -> list[dict]:
    """DAGNRestore in the test pipeline of a written config."""
    found = Config.fromfile(path).test_dataloader.dataset.pipeline
    return [dict(step) for step in found if step["type"] == "DAGNRestore"]


def test_the_advice_is_written_into_the_config(toy, measured, tmp_path, capsys):
    out, words = tmp_path / "out.py", ["insert", str(toy / "segment.py"), "--advice", str(measured), "--overwrite"]
    assert main([*words, "-o", str(out)]) == 0
    restoring = {"type": "DAGNRestore", "model": str(toy / "mine.safetensors"), "max_quality": 21}
    assert steps(out) == [restoring] and "max_quality=21" in capsys.readouterr().out
    assert main([*words, "-o", str(out), "--model", "arcnn", "--max-quality", "50", "--strength", "0.25"]) == 0
    assert steps(out) == [{"type": "DAGNRestore", "model": "arcnn", "max_quality": 50, "strength": 0.25}]
    assert main([*words, "-o", str(out), "--advice-for", "Toy segmenter", "--where", "transform"]) == 0
    assert steps(out) == [restoring]


def advised(folder: Path, measured: Path, *, models: int = 1, **changes) -> Path:
    """The measured run's results alone, of its first model or of both, with other advice."""
    results = json.loads((measured / "results.json").read_text())
    if models == 1:
        for table in run.TABLES:
            results[table] = [row for row in results[table] if row.get("model", "Toy segmenter") == "Toy segmenter"]
    for one in results["advice"]:
        one |= changes
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_a_strength_by_qf_is_written_and_read_again(toy, measured, tmp_path):
    curve = [[5, 1.0], [20, 0.5]]
    folder = advised(tmp_path / "run", measured, strength=curve, restorer="arcnn", inputs=["arcnn", "arcnn"])
    results = json.loads((folder / "results.json").read_text())
    results["environment"]["restorers"]["arcnn"] = models.fingerprint("arcnn")[:16]
    (folder / "results.json").write_text(json.dumps(results))
    out = tmp_path / "out.py"
    assert main(["insert", str(toy / "segment.py"), "-o", str(out), "--advice", str(folder)]) == 0
    assert steps(out) == [{"type": "DAGNRestore", "model": "arcnn", "max_quality": 21, "strength": curve}]
    for kind in ("json", "py"):  # as the host's runner dumps it
        dumped = tmp_path / f"dumped.{kind}"
        Config.fromfile(out).dump(dumped)
        assert steps(dumped)[0]["strength"] == curve


def test_one_model_of_several_is_chosen(toy, measured, tmp_path, capsys):
    other = tmp_path / "other.py"
    other.write_text((toy / "segment.py").read_text())
    assert main(["insert", str(other), "-o", str(tmp_path / "o.py"), "--advice", str(measured)]) == 2
    said = capsys.readouterr().err
    assert "holds none of a config called other: choose one with --advice-for 'Toy segmenter, toy', 'Toy detector, toy'" in said
    for name in ("Toy segmenter", "Toy segmenter, toy", "segment"):
        assert advice.arguments(measured, str(other), name)["max_quality"] == 21
    with pytest.raises(UsageError, match="holds no model called 'nobody': choose one with"):
        advice.arguments(measured, str(other), "nobody")
    assert advice.arguments(advised(tmp_path / "one", measured), str(other))["max_quality"] == 21  # there is one alone


def test_the_advised_weights_must_be_those_that_were_measured(toy, measured, tmp_path, tiny_weights):
    folder = advised(tmp_path / "a" / "out", measured)  # the file is seen from here in vain
    with pytest.raises(WeightsError, match=r"the advised restorer cannot be used \(.*no such weights file.*with --model"):
        advice.arguments(folder, "segment.py")
    moved = tmp_path / "a" / ".." / toy.name / "mine.safetensors"
    moved.parent.mkdir()
    shutil.copy(tiny_weights, moved)
    with pytest.raises(UsageError, match=r"mine\.safetensors holds other weights now than when .*out was measured"):
        advice.arguments(folder, "segment.py")
    assert advice.arguments(folder, "segment.py", model="arcnn") == {"model": "arcnn", "max_quality": 21}
    shutil.copy(toy / "mine.safetensors", moved)
    assert Path(advice.arguments(folder, "segment.py")["model"]) == tmp_path / toy.name / "mine.safetensors"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--advice", "{none}"], 1, "there are no results in"),
        (["--advice-for", "x"], 2, "give that, too"),
        (["--advice", "{run}", "--no-restore", "--compress", "10"], 2, "--no-restore inserts none"),
        (["--advice", "{run}", "--assume-quality", "10"], 2, "--assume-quality restores every image"),
        (["--advice", "{unsure}"], 2, "not shown to help Toy segmenter, toy: leave it alone."),
    ],
)
def test_bad_use_of_advice_is_one_line(words, status, message, toy, measured, tmp_path, capsys):
    empty = {"qualities": [], "inputs": [], "max_quality": None, "strength": None}
    unsure = advised(tmp_path / "unsure", measured, decision="not confirmed", unconfirmed=[5], **empty)
    places = {"none": tmp_path / "none", "run": measured, "unsure": unsure}
    words = [word.format(**places) for word in words]
    assert main(["insert", str(toy / "segment.py"), "-o", str(tmp_path / "out.py"), *words]) == status
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1 and not (tmp_path / "out.py").exists()
