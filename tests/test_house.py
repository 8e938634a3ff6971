"""The package's layout: folders on floors, imports that only go down, a model that imports no others."""

import ast
import functools
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import nanogpt_np
from nanogpt_np import __main__ as commands_table

PACKAGE = Path(nanogpt_np.__file__).parent
FLOORS = [  # an import goes to a lower floor, or stays in its folder
    {"model", "text"},
    {"names"},
    {"fast", "weights"},
    {"generate"},
    {"train"},
    {"interpret"},
    {"lab", "page", "bench"},
    {"course"},
    {"commands"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "stubs" not in path.parts  # files for students to fill in, which nothing imports
}
STARTERS = [name for name in MODULES if name.split(".")[-1] == "__main__"]
PLAIN = [name for name in MODULES if name not in STARTERS and name != "__init__"]
FORWARD = ("gpt2", "linear", "embedding", "layernorm", "attention", "mlp", "lm_head")


@functools.cache
def tree(name):
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def room(name):
    """``"model.gpt2"`` -> ``"model"``; the package's own files are in none."""
    return name.partition(".")[0] if "." in name else ""


@functools.cache
def imported(name):
    """Return the modules of this package that a module imports, imports inside functions included."""
    package = ["nanogpt_np", *name.split(".")[:-1]]
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (*package[: len(package) - node.level + 1], *(node.module or "").split(".")) if node.level else ()
            base = tuple(filter(None, base)) or tuple(node.module.split("."))
            found |= {(*base, alias.name) for alias in node.names}
    inside = [parts[1:] for parts in found if parts[0] == "nanogpt_np"]
    return {module_of(parts) for parts in inside}


def module_of(parts):
    """Return the module that a dotted name is, or is in."""
    for end in (len(parts), len(parts) - 1):
        for candidate in (".".join(parts[:end]), ".".join([*parts[:end], "__init__"])):
            if candidate in MODULES:
                return candidate
    raise AssertionError(f"{'.'.join(parts)} is not a module here")


def calls(name, *functions):
    """Return the lines on which a module calls one of these functions, by their last name."""
    nodes = [node for node in ast.walk(tree(name)) if isinstance(node, ast.Call)]
    named = [(getattr(node.func, "attr", None) or getattr(node.func, "id", None), node.lineno) for node in nodes]
    return [line for called, line in named if called in functions]


# --- floors --------------------------------------------------------------------------------------


def test_every_folder_is_on_a_floor():
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders <= set(FLOOR)
    assert folders >= set(FLOOR) - {"lab"}


@pytest.mark.parametrize("name", PLAIN)
def test_imports_go_down_a_floor_or_stay_in_the_folder(name):
    for other in imported(name):
        assert room(other) == room(name) or FLOOR[room(other)] < FLOOR[room(name)], f"{name} imports {other}"


def test_no_module_imports_the_package_itself():
    assert [name for name in PLAIN if "__init__" in imported(name)] == []


def test_no_imports_are_circular():
    done, way = set(), []

    def visit(name):
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            way.append(name)
            for other in sorted(imported(name)):
                visit(other)
            done.add(way.pop())

    for name in MODULES:
        visit(name)
    assert done == set(MODULES)


@pytest.mark.parametrize("name", PLAIN)
def test_only_files_that_start_a_program_import_the_commands(name):
    assert room(name) == "commands" or not [other for other in imported(name) if room(other) == "commands"]


@pytest.mark.parametrize("name", MODULES)
def test_only_the_package_and_its_main_file_import_modules_by_string(name):
    by_string = calls(name, "import_module", "__import__")
    assert not by_string or name in ("__init__", "__main__"), f"{name}, lines {by_string}"


def test_the_tables_of_lazy_imports_name_modules_that_exist():
    assert {module_of(tuple(home.split("."))) for home in nanogpt_np._HOMES.values()} <= set(MODULES)
    assert {f"commands.{name}" for name in commands_table.COMMANDS} <= set(MODULES)


# --- rooms ---------------------------------------------------------------------------------------


def entries(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != "__pycache__")


def test_the_package_has_at_most_16_entries():
    assert len(entries(PACKAGE)) <= 16, entries(PACKAGE)


@pytest.mark.parametrize("name", sorted(set(FLOOR) - {"commands", "course", "lab"}))
def test_a_folder_has_at_most_18_entries_and_a_docstring(name):
    assert len(entries(PACKAGE / name)) <= 18, entries(PACKAGE / name)
    assert ast.get_docstring(tree(f"{name}.__init__")).count("\n") >= 2


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) != "course"])
def test_no_file_has_more_than_310_lines(name):
    assert MODULES[name].read_text(encoding="utf-8").count("\n") <= 310


@pytest.mark.parametrize("name", [name for name in PLAIN if room(name) != "commands"])
def test_a_library_module_never_prints_exits_or_parses_a_command_line(name):
    assert calls(name, "exit", "_exit", "parse_args") == [] or name == "course.worker", name
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert "argparse" not in ast.unparse(node)
        elif isinstance(node, ast.Name):  # also where it is passed on
            assert node.id not in ("print", "SystemExit") or room(name) == "course", f"{name}, line {node.lineno}"
        elif isinstance(node, ast.Attribute):
            written = node.attr in ("write", "writelines") and ast.unparse(node.value) in ("sys.stdout", "sys.stderr")
            assert not written, f"{name}, line {node.lineno}"
        elif isinstance(node, ast.FunctionDef):
            given = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
            assert "args" not in given, f"{name}.{node.name}"


def test_importing_every_module_leaves_the_process_unchanged():
    """No memory setting, no number of threads, no signal handler, no environment variable."""
    script = """
import ctypes, importlib, os, signal, sys
from pathlib import Path
import numpy
files = [*Path(numpy.__file__).parent.parent.glob("numpy.libs/*openblas*")]
threads = getattr(ctypes.CDLL(str(files[0])), "scipy_openblas_get_num_threads64_") if files else lambda: None
def state():
    return threads(), signal.getsignal(signal.SIGINT), dict(os.environ), numpy.geterr(), numpy.get_printoptions()
before = repr(state())
for name in sys.argv[1:]:
    importlib.import_module("nanogpt_np." + name)
from nanogpt_np.fast import memory
assert repr(state()) == before and memory._kept["bytes"] == 0
"""
    names = [name.removesuffix(".__init__") for name in PLAIN]
    subprocess.run([sys.executable, "-W", "error", "-c", script, *names], check=True, timeout=60)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is(name):
    assert ast.get_docstring(tree(name))


# --- the model -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) == "model"])
def test_the_model_imports_numpy_the_standard_library_and_itself(name):
    for node in ast.walk(tree(name)):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module]
        for module in modules:
            assert module == "numpy" or module.partition(".")[0] in sys.stdlib_module_names
    assert {room(other) for other in imported(name)} <= {"model"}


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) == "model"])
def test_the_model_says_nothing_about_cores_tiles_or_the_machines_memory(name):
    words = r"\b(cores?|threads?|tiles?|chunks?|memory|malloc\w*|blas|processors?|parallel|faster|slower|quick\w*)\b"
    text = MODULES[name].read_text(encoding="utf-8")

    assert re.findall(words, text, re.IGNORECASE) == []


@pytest.mark.parametrize("name", ["attention", "mlp"])
def test_attention_and_mlp_call_their_linears_and_never_read_a_weight(name):
    reads = [node for node in ast.walk(tree(f"model.{name}")) if isinstance(node, ast.Attribute)]
    assert [node.attr for node in reads if node.attr in ("weight", "bias")] == []


def test_the_forward_pass_can_be_read_in_one_sitting():
    """Without the derivatives, which come after each forward and are read later."""
    code, lines = 0, 0
    for name in FORWARD:
        text, module = MODULES[f"model.{name}"].read_text(encoding="utf-8"), tree(f"model.{name}")
        backward, words = set(), set()
        for node in ast.walk(module):
            if isinstance(node, ast.FunctionDef) and node.name in ("backward", "gelu_slope"):
                backward |= set(range(node.lineno, node.end_lineno + 1))
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
                words |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
        no_code = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        tokens = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.string and t.type not in no_code]
        written = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
        code += len(written - words - backward)
        lines += text.count("\n") - len(backward)
    assert 100 < code <= 195 and 200 < lines <= 360, (code, lines)
