"""The notebook runs from top to bottom, on the photos that it makes and weights from PyPI."""

import os
from pathlib import Path

import pytest

# Set by conftest.py for programs that run for a moment.
FOR_TESTS = ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES", "JAX_NUMPY_RANK_PROMOTION")
NOTEBOOK = Path(__file__).parents[1] / "docs/photos_to_model.ipynb"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_notebook_ends_with_a_model_of_its_own_photos(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    for name in FOR_TESTS:
        monkeypatch.delenv(name, raising=False)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # they would grow stale
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ())
    )
    assert "top-1 100.0% of 12 held-out photos" in printed
    assert {"confusion.png", "most_wrong.png"} & set(
        os.listdir(tmp_path / "runs/photos/evaluation")
    )
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 3
