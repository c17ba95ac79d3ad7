"""What the documents say of the code, where it can be held against it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dagn_pre import models

ROOT = Path(__file__).parents[1]


def zoo() -> dict[str, list[str]]:
    """The rows of docs/zoo.md by the model's name, without their first cell."""
    rows = {}
    for line in (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if found := re.match(r"\[?`([^`]+)`", cells[0]):
            rows[found[1]] = cells[1:]
    return rows


def test_the_zoo_lists_each_model_with_its_licence():
    assert {name: row[-1] for name, row in zoo().items()} == {name: models.get(name).licence or "-" for name in models.names()}


@pytest.mark.parametrize("name", ["dagn-s", "dagn-s-psnr", "dagn-xs", "dagn-xs-psnr", "arcnn", "dmcnn", "fbcnn-s"])
def test_the_zoo_counts_as_the_package_does(name):
    """Parameters and multiply-accumulates at 512x512, batch norm folded."""
    parameters, gmac = (float(cell) for cell in zoo()[name][:2])
    counted, operations = models.cost(name, 512)
    assert counted / 1e6 == pytest.approx(parameters, abs=0.006) and operations / 1e9 == pytest.approx(gmac, abs=0.06)


def test_the_readme_keeps_its_length():
    """Short enough to be read: fewer than 150 lines, none above 120 characters."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 150 and max(map(len, lines)) <= 120
