"""The notebooks teach (checked here from their JSON), and every cell of them runs.

pip install -e ".[test,notebooks]" && pytest -m notebooks    # runs them: 3 minutes, 0.6 GB of disk

By default only what can be read off the files is checked: running needs Jupyter's kernel and matplotlib.
"""

import ast
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import random_parameter

import nanogpt_np
from nanogpt_np.names.parameters import table
from nanogpt_np.names.sizes import published

ROOT = Path(__file__).parent.parent
PACKAGE = Path(nanogpt_np.__file__).parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# What a learner writes in a course: not to be found written out in a notebook.
LEARNED = {
    "model": ("linear", "embedding", "layernorm", "attention", "mlp", "lm_head", "gpt2", "cache"),
    "generate": ("sampling", "loop"),
    "train": ("loss", "adamw"),
    "text": ("tokenizer",),
}
DEFINITIONS = (ast.FunctionDef, ast.ClassDef)
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def cells_of(path, kind):
    return ["".join(cell["source"]) for cell in read(path)["cells"] if cell["cell_type"] == kind]


def test_the_docs_name_every_notebook_in_order():
    page = (ROOT / "docs/seeing.md").read_text(encoding="utf-8")
    titles = [cells_of(path, "markdown")[0].split("\n")[0].removeprefix("# ") for path in NOTEBOOKS]
    assert titles
    places = [page.find(f"| {title} |") for title in titles]
    assert -1 not in places and places == sorted(places), dict(zip(titles, places, strict=True))


@every_notebook
def test_a_notebook_is_committed_without_outputs_and_with_names_for_its_cells(path):
    notebook = read(path)
    for cell in notebook["cells"]:
        assert re.fullmatch("[a-z][a-z0-9-]*", cell["id"]) and not cell["metadata"], cell["id"]
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, cell["id"]
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    # No version of anything: running a notebook on another machine changes no line of the file.
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    assert notebook["metadata"] == {"kernelspec": kernel, "language_info": {"name": "python"}}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)


@every_notebook
def test_a_notebook_opens_with_what_one_will_know_and_ends_with_three_exercises(path):
    opening, *_, last = cells_of(path, "markdown")
    assert re.match(r"# \S", opening) and re.search(r"^At the end you can\n\n- ", opening, re.MULTILINE)
    assert read(path)["cells"][-1]["cell_type"] == "markdown" and last.startswith("## Exercises\n")
    assert re.findall(r"^(\d+)\. ", last, re.MULTILINE) == ["1", "2", "3"]


@every_notebook
def test_a_notebook_asks_for_a_prediction_before_it_shows(path):
    cells = read(path)["cells"]
    asks = ["**Predict" in "".join(c["source"]) and c["cell_type"] == "markdown" for c in cells[1:]]
    assert sum(asks) >= 5
    for i, ask in enumerate(asks, 1):
        assert not ask or cells[i + 1]["cell_type"] == "code", cells[i]["id"]


@every_notebook
def test_every_link_of_a_notebook_leads_somewhere(path):
    for text in cells_of(path, "markdown"):
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert link.startswith("https://") or (path.parent / link).exists(), link


@every_notebook
def test_a_notebook_calls_the_package_and_repeats_none_of_it(path):
    """No cell defines what a file of the model defines, or holds two statements of one of its functions."""
    cells = [ast.parse(source) for source in cells_of(path, "code")]
    theirs = {node.name for cell in cells for node in ast.walk(cell) if isinstance(node, DEFINITIONS)}
    statements = {ast.dump(node) for cell in cells for node in ast.walk(cell) if isinstance(node, ast.stmt)}
    for module in (f"{room}/{file}.py" for room, files in LEARNED.items() for file in files):
        for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
            if isinstance(node, DEFINITIONS):
                assert node.name not in theirs or node.name.startswith("__"), f"{module}: {node.name}"
                found = [ast.unparse(part) for part in node.body if ast.dump(part) in statements]
                assert len(found) < 2, (f"{module}: {node.name}", found)


# --- running them --------------------------------------------------------------------------------


# What a notebook must not need: the network, and warnings that nobody sees. Imported before that: matplotlib, for
# warnings of its own at import, and the list of fonts that it makes on a new machine.
FIRST_CELL = """
import socket, sys, warnings
import matplotlib.pyplot
def refuse(*args):
    raise OSError("a notebook must run offline")
socket.socket.connect = socket.getaddrinfo = refuse
warnings.simplefilter("error")
warnings.filterwarnings("default", module="ipykernel|jupyter|tornado|zmq")
from nanogpt_np.weights.places import default_model
assert (sys.prefix, default_model()) == ({prefix!r}, {model!r}), (sys.prefix, default_model())
"""


@pytest.fixture(scope="module")
def home_of_gpt2(tmp_path_factory):
    """A folder for NANOGPT_NP_HOME with random weights of gpt2's shape.

    The file is laid out as the published one: names without a prefix, and a causal mask in every block.
    """
    from safetensors.numpy import save_file

    home, config, rng = tmp_path_factory.mktemp("home"), published("gpt2"), np.random.default_rng(0)
    tensors = {name: random_parameter(name, p.shape(config), rng) for name, p in table(config).items()}
    P = config.n_positions
    mask = np.tri(P, dtype=np.float32).reshape(1, 1, P, P)
    tensors |= {f"h.{i}.attn.bias": mask for i in range(config.n_layer)}
    (home / "gpt2").mkdir()
    save_file(tensors, home / "gpt2" / "model.safetensors", metadata={"format": "pt"})
    (home / "gpt2" / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    yield home
    shutil.rmtree(home)  # pytest keeps the folders of three sessions


@pytest.mark.notebooks
# Of the machinery that runs notebooks, not of the notebooks: their warnings are errors in FIRST_CELL.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("model", ["facts", "gpt2"])
@every_notebook
def test_a_notebook_runs_offline_without_warnings(path, model, request, tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="pip install -e '.[notebooks]'")
    nbclient = pytest.importorskip("nbclient", reason="pip install -e '.[notebooks]'")
    home = request.getfixturevalue("home_of_gpt2") if model == "gpt2" else tmp_path
    monkeypatch.setenv("NANOGPT_NP_HOME", str(home))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))  # whatever the user has told IPython to do at every start
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = nbformat.read(path, as_version=4)
    first = FIRST_CELL.format(prefix=sys.prefix, model=model)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(first))
    folder = {"metadata": {"path": str(path.parent)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=folder).execute()

    outputs = [out for cell in notebook.cells[1:] if cell.cell_type == "code" for out in cell.outputs]
    complaints = [out.text for out in outputs if out.output_type == "stream" and out.name == "stderr"]
    assert not complaints
    assert any("image/png" in out.get("data", {}) for out in outputs)
