"""docs/tutorial.ipynb, run from its first cell to its last."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from dagn_pre.files import write_atomic

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


def scores(notebook: nbformat.NotebookNode) -> dict[str, dict[str, float]]:
    """What the cell that ends in ``scores`` shows: metric -> input -> score."""
    (cell,) = (cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.endswith("\nscores"))
    return ast.literal_eval(cell.outputs[-1].data["text/plain"])


def pictures(notebook: nbformat.NotebookNode) -> int:
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return sum("image/jpeg" in output.get("data", {}) for output in outputs)


def kept(notebook: nbformat.NotebookNode) -> str:
    """The notebook as it is committed: without progress, warnings, times and counts."""
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                output.pop("execution_count", None)
                if output.output_type == "execute_result":
                    output.execution_count = None
    return nbformat.writes(notebook) + "\n"


@pytest.mark.slow
@pytest.mark.openmmlab
def test_the_tutorial_runs_and_shows_what_it_says(tmp_path, monkeypatch):
    """JPEG costs both models, restoring wins some of that back, and the committed outputs are those of this code.

    UPDATE_GOLDEN=1 writes the outputs into the notebook."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    committed = nbformat.read(NOTEBOOK, as_version=4)
    executed = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(executed, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    found = scores(executed)
    for row in found.values():
        assert row["JPEG at QF 10"] + 5 < row["restored"] < row["original"]
    if os.environ.get("UPDATE_GOLDEN"):
        write_atomic(NOTEBOOK, kept(executed).encode())
        return
    assert pictures(executed) == pictures(committed) == 3
    for metric, row in scores(committed).items():
        assert found[metric] == pytest.approx(row, abs=1.0), "the outputs are of other code; UPDATE_GOLDEN=1 writes them anew"
    assert NOTEBOOK.stat().st_size < 400_000
