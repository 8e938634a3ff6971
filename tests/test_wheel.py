"""The wheel holds what it needs: installed into an empty environment, it works from another directory."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from nanogpt_np.page.document import SCRIPTS

ROOT = Path(__file__).parent.parent
PROMPT = "The capital of France is"

pytestmark = pytest.mark.wheel


def run(*command, cwd):
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, ROOT, cwd=out)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The folder of the executables of an environment with the wheel and its dependencies, nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    scripts = folder / ("Scripts" if sys.platform == "win32" else "bin")
    run(scripts / "python", "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return scripts


def test_the_wheel_holds_the_data_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    data = ("text/r50k_base.tiktoken", "text/NOTICE", "train/countries.csv", "train/templates.txt", "py.typed")
    data += ("page/page.html", "page/page.css", *(f"page/js/{name}.js" for name in SCRIPTS))
    for needed in (f"nanogpt_np/{name}" for name in data):
        assert needed in names
    stubs = sorted(path.name for path in (ROOT / "nanogpt_np" / "course" / "stubs").glob("*.py"))
    assert stubs and stubs == sorted(Path(n).name for n in names if n.startswith("nanogpt_np/course/stubs/"))
    assert sum(name.endswith(("licenses/LICENSE", "licenses/nanogpt_np/text/NOTICE")) for name in names) == 2
    weights = [name for name in names if name.endswith(".safetensors")]
    assert weights == ["nanogpt_np/weights/models/facts/model.safetensors"]
    assert not [name for name in names if not name.startswith(("nanogpt_np/", "nanogpt_np-", "nanogpt_np_"))]


def test_the_wheel_holds_every_file_of_the_package_and_no_other(wheel):
    written = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "nanogpt_np").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {n for n in zipfile.ZipFile(wheel).namelist() if n.startswith("nanogpt_np/")} == written


def test_an_installed_wheel_generates_from_another_directory(environment, tmp_path):
    trace = run(environment / "python", "-m", "nanogpt_np.generate", "--dry-run", "gpt2", PROMPT, cwd=tmp_path).stdout
    assert "blocks.11.attn.hook_pattern      [12, 5, 5]" in trace
    done = run(environment / "nanogpt-np", "generate", PROMPT, "--model", "facts", cwd=tmp_path)
    assert done.stdout == " Paris.\n" and done.stderr.startswith("model: facts (bundled")
    make = (
        "import numpy as np, nanogpt_np\n"
        "from nanogpt_np.names.parameters import table\n"
        "from nanogpt_np.weights import assemble\n"
        "config = nanogpt_np.Config(n_positions=32, n_embd=8, n_head=2, n_layer=1)\n"
        "rng = np.random.default_rng(0)\n"
        "params = {n: rng.normal(size=p.shape(config)).astype('f4') for n, p in table(config).items()}\n"
        "nanogpt_np.save(assemble(config, params), 'small')\n"
    )
    run(environment / "python", "-c", make, cwd=tmp_path)
    done = run(environment / "nanogpt-np", "generate", PROMPT, "-n", "3", "--model", "small", cwd=tmp_path)
    assert done.stdout.strip() and done.stderr.startswith("model: small (local checkpoint")


def test_an_installed_wheel_hands_out_the_course_and_grades_it(environment, tmp_path):
    run(environment / "nanogpt-np", "course", "new", "mine", cwd=tmp_path)
    answer = run(environment / "python", "-m", "nanogpt_np", "course", "answer", "a2", "--yes", cwd=tmp_path).stdout
    (tmp_path / "mine" / "a2_layernorm.py").write_text(answer, encoding="utf-8")
    out = run(environment / "nanogpt-np", "course", "grade", "mine", "a2", cwd=tmp_path).stdout
    assert "0 INCORRECT, 0 INCOMPLETE" in out


def test_the_wheel_brings_numpy_safetensors_and_tiktoken_and_nothing_that_trains(environment, tmp_path):
    listed = run(environment / "python", "-m", "pip", "list", "--format=freeze", cwd=tmp_path).stdout
    names = {line.split("==")[0] for line in listed.split()}
    assert {"nanogpt-np", "numpy", "safetensors", "tiktoken"} <= names
    assert not names & {"torch", "transformers", "jax", "tensorflow", "matplotlib"}
