"""How long restoring takes beside a model's step: that everything is timed and told; times are never asserted."""

from __future__ import annotations

import json

import pytest

from dagn_pre.benchmarks.downstream import speed
from dagn_pre.cli.main import main
from dagn_pre.errors import UsageError

pytestmark = pytest.mark.slow


def test_each_restorer_on_each_engine_stands_beside_each_host(tiny_weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["bench", "speed", "demo_pspnet", "demo_faster_rcnn", "--model", str(tiny_weights), "arcnn", "--engine", "torch"]
    words += ["openvino", "--size", "96", "128", "--rounds", "2", "--output", str(tmp_path / "out")]
    assert main(words) == 0
    found = json.loads((tmp_path / "out" / "speed.json").read_text())
    rows = {(row["restorer"], row["engine"]): row for row in found["rows"]}
    assert set(rows) == {(name, engine) for name in ("tiny", "arcnn") for engine in ("torch", "openvino")}
    assert set(found["hosts"]) == {"demo_pspnet", "demo_faster_rcnn"} and min(found["hosts"].values()) > 0
    for row in rows.values():
        assert row["ms"] > 0 and set(row["beside"]) == set(found["hosts"]) and min(row["beside"].values()) > 0
    table = capsys.readouterr().out
    assert table.endswith((tmp_path / "out" / "speed.md").read_text())  # after what the hosts print
    assert "demo_pspnet, its own step" in table and "128x96, median of 2" in table


def test_a_host_takes_half_precision_too(tiny_weights):
    found = speed.compare(["demo_pspnet"], [tiny_weights], dtype="bfloat16", size=(64, 64), rounds=1)
    assert found["settings"]["dtype"] == "bfloat16" and found["hosts"]["demo_pspnet"] > 0


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"dtype": "float16"}, "dtype must be one of float32, bfloat16, int8"),
        ({"sources": ["nothing"]}, "nothing"),
        ({"engines": ["tensorflow"]}, "engine must be one of"),
    ],
)
def test_what_cannot_be_timed_is_refused(options, reason, tiny_weights):
    with pytest.raises(UsageError, match=reason):
        speed.compare(**{"sources": ["demo_pspnet"], "restorers": [tiny_weights], "size": (64, 64), "rounds": 1, **options})
