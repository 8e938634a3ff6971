"""The notebooks run from top to bottom, and are committed without outputs."""

import contextlib
import io
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_without_weights_and_has_no_outputs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("NANOGPT_NP_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    assert cells
    names = {}
    for cell in cells:
        assert cell["outputs"] == [] and cell["execution_count"] is None
        with contextlib.redirect_stdout(io.StringIO()):
            exec("".join(cell["source"]), names)
