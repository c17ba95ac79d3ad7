"""Costs: counts against the design's and the network's own; speed is measured, never asserted."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from dagn_pre import models
from dagn_pre.benchmarks.restoration import cost
from dagn_pre.errors import UsageError, WeightsError
from dagn_pre.networks.dagn import DAGN
from dagn_pre.networks.fold import fold_batch_norm
from tests.support import TINY


@pytest.mark.slow
def test_rows_of_a_model(tiny_weights):
    rows = cost.measure([tiny_weights], [64, 96], "cpu", "float32", runs=1)
    mine = [row for row in rows if not row["quoted"]]
    network = fold_batch_norm(DAGN(TINY))
    assert [(row["method"], row["side"], row["dtype"]) for row in mine] == [("tiny", side, "float32") for side in (64, 96)]
    assert mine[0]["parameters"] == sum(parameter.numel() for parameter in network.parameters())
    assert mine[1]["macs"] == models.cost(TINY, 96)[1]
    assert mine[0]["thop_macs"] > mine[0]["macs"]  # thop adds batch norm
    assert all(row["ms"] > 0 and row["peak_bytes"] > 0 and row["threads"] == 1 for row in mine)
    table = cost.markdown(rows)
    assert f"| tiny    | 64x64   | {mine[0]['device']}, 1 threads, float32 |" in table


def test_the_papers_network_counts_as_its_own_row():
    """The registered shape, without weights: what thop counts here is what Table III prints, within its fusion's saving."""
    printed = next(row for row in cost.PUBLISHED if row[0] == "DAGN")
    parameters, macs = models.cost("dagn")
    assert parameters / 1e6 == pytest.approx(printed[1], rel=1e-3)
    assert models.thop_macs("dagn", 512) / 1e9 == pytest.approx(printed[2], rel=2e-3)
    assert macs / 1e9 == pytest.approx(930.7, rel=1e-3)  # design/dagn.md, true and pooled first


def test_published_rows_are_marked_as_quoted(tiny_weights):
    rows = cost.measure([tiny_weights], [32], "cpu", runs=1)
    fbcnn = next(row for row in rows if row["method"] == "FBCNN")
    assert fbcnn["quoted"] and fbcnn["parameters"] == pytest.approx(71.9e6) and fbcnn["macs"] is None
    assert "| FBCNN*  | 512x512 | Tesla P100" in cost.markdown(rows)


@pytest.mark.slow
def test_memory_grows_with_what_is_held():
    """A pass at 512 pixels holds a map of 64 channels in float32 at least: 64 MiB; at 64 pixels, 1 MiB."""
    config = models.get("dagn-s").config
    small, large = (cost.peak_bytes(config, side, torch.device("cpu"), torch.float32) for side in (64, 512))
    weights = 4 * models.cost(config)[0]
    assert large - small > config.widths[0] * 512 * 512 * 4
    assert large > weights


def test_without_thop_its_column_is_empty_and_says_why(tiny_weights, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "thop" else found(name, *rest))
    rows = cost.measure([tiny_weights], [32], "cpu", runs=1)
    assert rows[0]["thop_macs"] is None and "thop is not installed" in cost.markdown(rows)


def test_bad_values_are_refused(tmp_path):
    with pytest.raises(UsageError, match="multiple of 16, not 100"):
        cost.measure(["dagn-s"], [100])
    with pytest.raises(UsageError, match="unknown model"):
        cost.measure(["nobody"], [32])
    with pytest.raises(UsageError, match="ipt takes patches"):
        cost.measure(["ipt"], [32])
    with pytest.raises(UsageError, match="runs must be at least 1"):
        cost.measure(["dagn-s"], [32], runs=0)
    with pytest.raises(WeightsError, match="no such weights file"):
        cost.measure([tmp_path / "none.safetensors"], [32])


def test_models_are_timed_in_turns_against_the_first(tiny_weights, monkeypatch):
    """Also those without weights, and those that decode a file; ratios are of the same round."""
    order, forward = [], cost.forward
    monkeypatch.setattr(cost, "forward", lambda network, *rest: order.append(type(network).__name__) or forward(network, *rest))
    monkeypatch.setattr(cost, "peak_bytes", lambda *rest: None)
    rows = cost.measure([tiny_weights, "identity", "libjpeg-plain", "arcnn"], [32], "cpu", "float32", runs=2)
    assert order == ["DAGN", "Identity", "LibJPEG", "ARCNN"] * 3
    mine = {row["method"]: row for row in rows if not row["quoted"]}
    assert mine["tiny"]["ratio"] == 1 and mine["identity"]["ratio"] < 1
    assert (mine["identity"]["parameters"], mine["identity"]["macs"], mine["identity"]["thop_macs"]) == (0, 0, None)
    assert "thop is not installed" not in cost.markdown(rows)
    assert "| ratio |" in cost.markdown(rows)
