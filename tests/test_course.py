"""The course: the grader is graded here. Every assignment is held to the same rules, wherever it was written."""

import ast
import functools
import inspect
import io
import json
import os
import re
import subprocess
import sys
import textwrap
import time
from dataclasses import is_dataclass
from pathlib import Path

import numpy as np
import pytest
from course_helpers import graded, graded_version, statuses, with_body

from nanogpt_np.commands.course import main
from nanogpt_np.course import compare, report, runner, seams, sources, student
from nanogpt_np.course.answers import answer, definition
from nanogpt_np.course.assignment import assignments, get
from nanogpt_np.course.assignments import whole
from nanogpt_np.course.definitions import Mistake
from nanogpt_np.course.judge import cast, judge
from nanogpt_np.course.naming import name_mistake
from nanogpt_np.course.runner import grade
from nanogpt_np.model.trace import no_trace

WRITTEN = {name: a for name, a in assignments().items() if a.functions}
MISTAKES = [(name, m) for name, a in WRITTEN.items() for m in a.mistakes]
CALL = "LayerNorm.__call__"


# --- the rules for every assignment ----------------------------------------------------------------


@pytest.mark.parametrize("name", WRITTEN)
def test_the_packages_own_functions_pass_every_check(name, tmp_path):
    for seed in (0, 1):
        results = graded(name, tmp_path, answer(WRITTEN[name]), seed=seed)
        assert statuses(results) == {"CORRECT"}, {n: r for n, r in results.items() if r.status != "CORRECT"}


@pytest.mark.parametrize("name", WRITTEN)
def test_an_answers_imports_stand_in_order_and_right_above_its_constants(name):
    lines = answer(WRITTEN[name]).splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith(("import ", "from ")))
    block = lines[first : lines.index("", first)]
    assert block == sorted(block, key=lambda line: (line.startswith("from "), line))
    last = max(at for at, line in enumerate(lines) if line.startswith(("import ", "from ")))
    assert lines[last + 1] == "" and (lines[last + 2] == "") == lines[last + 3].startswith(("def ", "class ", "@"))


@pytest.mark.parametrize("name", WRITTEN)
def test_every_check_of_a_stub_is_incomplete(name, tmp_path):
    assert statuses(graded(name, tmp_path)) == {"INCOMPLETE"}


@pytest.mark.parametrize("folder", ["assignments", "mistakes", "stubs"])
def test_every_file_of_the_course_is_listed_and_found_by_its_name(folder):
    files = Path(seams.__file__).parent.joinpath(folder).glob("[!_]*.py")
    both = {"training", "whole"} if folder == "assignments" else set()
    assert {file.stem for file in files} == {a.stem for a in WRITTEN.values()} | both
    assert list(assignments()) == [*(f"a{n}" for n in range(1, 10)), "training", "whole"]
    for name, assignment in assignments().items():
        assert get(name) is get(assignment.stem) is get(assignment.file) is assignment


def test_importing_the_package_loads_none_of_the_course():
    script = "import nanogpt_np, sys; nanogpt_np.load; print([m for m in sys.modules if 'course' in m])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


SPELLED_OUT = [(name, where) for name, a in WRITTEN.items() for where in a.spelled_out]


@pytest.mark.parametrize(("name", "where"), SPELLED_OUT)
def test_a_function_that_is_spelled_out_for_its_mistakes_is_right(name, where):
    for seed in (0, 1):
        version = WRITTEN[name].spelled_out[where]
        results, _ = graded_version(WRITTEN[name], where, version, seed=seed, named=False)
        assert statuses(results) == {"CORRECT"}, {n: r for n, r in results.items() if r.status != "CORRECT"}


@pytest.mark.parametrize("name", WRITTEN)
def test_every_known_mistake_is_an_edit_that_its_source_still_takes(name):
    for mistake in WRITTEN[name].mistakes:
        assert callable(mistake.version()), mistake.words


@functools.cache
def graded_mistake(mistake, name):
    return graded_version(WRITTEN[name], mistake.function, mistake.version())


def together(values, name, label=None):
    """Return a parameter whose tests run in one process (--dist loadgroup), where each mistake is graded once."""
    return pytest.param(*values, id=label, marks=pytest.mark.xdist_group(name))


each_mistake = pytest.mark.parametrize(
    ("name", "mistake"), [together((n, m), n, f"{n}: {m.words}") for n, m in MISTAKES]
)


@pytest.mark.catalogue
@each_mistake
def test_every_known_mistake_fails(name, mistake):
    results, _ = graded_mistake(mistake, name)
    assert "INCORRECT" in statuses(results)
    assert all(result.problem or result.got for result in results.values() if result.status == "INCORRECT")


@pytest.mark.catalogue
@pytest.mark.parametrize("name", [together((n,), n) for n in WRITTEN])
def test_four_in_five_known_mistakes_are_called_by_their_name(name):
    mistakes = WRITTEN[name].mistakes
    called = {m.words: graded_mistake(m, name)[1] for m in mistakes}
    wrong = {words: name for words, name in called.items() if name != words}
    assert len(wrong) <= len(mistakes) / 5, wrong


def in_float32(version):
    """Return the function with its floats as float32, which is allowed and has the widest tolerance."""

    @functools.wraps(version)
    def call(*args, **kwargs):
        return cast(version(*args, **kwargs), np.float32)

    return call


@pytest.mark.catalogue
@each_mistake
def test_no_known_mistake_hides_in_the_tolerance_of_float32(name, mistake):
    results, _ = graded_mistake(mistake, name)
    wrong = [result for result in results.values() if result.status == "INCORRECT"]
    version = mistake.version()
    if inspect.isclass(version) or all(" not float32" in result.problem for result in wrong):
        return  # what is wrong is the dtype
    narrow, _ = graded_version(WRITTEN[name], mistake.function, in_float32(version), named=False, whole=False)
    assert "INCORRECT" in statuses(narrow)


@pytest.mark.parametrize("name", WRITTEN)
def test_every_function_has_checks_three_hints_and_three_known_mistakes(name):
    for where, hints in WRITTEN[name].functions.items():
        assert any(where in check.functions for check in WRITTEN[name].checks), where
        assert len(hints) == 3 and all(hints), where
        assert sum(m.function == where for m in WRITTEN[name].mistakes) >= 3, where


def shown(function):
    """Return the signature with the names of functions that are defaults, which a stub may have its own copy of."""
    return re.sub(r"<function (\w+) at \w+>", r"\1", str(sources.signature(function)))


@pytest.mark.parametrize("name", WRITTEN)
def test_a_stub_has_the_packages_signatures_and_classes(name, tmp_path):
    (tmp_path / WRITTEN[name].file).write_text(WRITTEN[name].stub.read_text("utf-8"), "utf-8")
    stub = student.load(tmp_path / WRITTEN[name].file)
    for where in WRITTEN[name].functions:
        *outer, last = seams.short(where).split(".")
        ours, theirs = seams.own(where), vars(stub)[outer[0]].__dict__[last] if outer else vars(stub)[last]
        assert shown(theirs) == shown(ours), where
        if outer:
            owner = seams.find(where)[0]
            assert list(vars(stub)[outer[0]].__annotations__) == list(owner.__annotations__), where


def test_the_whole_model_is_made_of_every_function_and_says_paris():
    (check,) = assignments()["whole"].checks
    parts = {where for name, a in WRITTEN.items() if name <= "a7" for where in a.functions}
    assert set(check.functions) == parts >= {"course.bpe:encode_piece", "model.linear:Linear.__call__"}
    assert len(whole.PARTS) == 7
    (case,) = check.cases(np.random.default_rng(0))
    assert (b"".join(case["pieces"]), check.run(**case)) == (b"The capital of France is", " Paris")


def test_the_whole_model_runs_the_students_functions_also_where_generation_is_fast():
    """All but those that greedy generation has no use for."""
    (check,), called = assignments()["whole"].checks, set()

    def watched(where):
        def call(*args, **kwargs):
            called.add(where)
            return ours(*args, **kwargs)

        ours = seams.own(where)
        return functools.wraps(ours)(call) if inspect.isfunction(ours) else ours

    (case,) = check.cases(np.random.default_rng(0))
    with seams.installed({where: watched(where) for where in check.functions}):
        assert check.run(**case) == " Paris"
    idle = {"generate.sampling:probabilities", "generate.sampling:draw", "model.gpt2:GPT2.__call__"}
    assert called == set(check.functions) - idle - {"model.cache:KVCache"}


@pytest.mark.parametrize("name", WRITTEN)
def test_no_stub_holds_an_answer(name):
    """What is to be written is a docstring and one line; no line of the answer's code stands in the stub."""
    source = WRITTEN[name].stub.read_text("utf-8")
    for where in WRITTEN[name].functions:
        node = definition(ast.parse(source), seams.short(where))
        for body in [node] if isinstance(node, ast.FunctionDef) else [f for f in node.body if hasattr(f, "args")]:
            assert len(body.body) == 2 and ast.get_docstring(body), where
            assert isinstance(body.body[1], ast.Raise) and ast.unparse(body.body[1]) == "raise NotImplementedError"


# What a docstring or a third hint is meant to give: part of the formula, a function that is there, idioms of NumPy.
GIVEN = {
    "math.sqrt(2 / math.pi)",
    "check_sampling(temperature, top_k, top_p)",
    "check_ids(ids, model.config)",
    "np.argsort(-logits, kind='stable')",
    "tuple(range(d_out.ndim - 1))",
    "raise NotImplementedError",
}


def told_by_the_answer(where):
    """Yield the statements of the answer and what they assign or give back, where longer than 20 characters."""
    module = ast.parse(sources.source(inspect.getmodule(seams.own(where))))
    for node in ast.walk(definition(module, seams.short(where))):
        parts = [node] if isinstance(node, (ast.Assign, ast.AugAssign, ast.Return, ast.Expr)) else []
        parts += [node.value] if isinstance(node, (ast.Assign, ast.AugAssign, ast.Return)) and node.value else []
        for line in map(ast.unparse, parts):
            if len(line) > 20 and line not in GIVEN and not ast.get_docstring(ast.parse(line)):
                yield line


def bare(text):
    """Return a text without spaces and with one kind of quote: a line stays itself where it is wrapped."""
    return re.sub(r"\s", "", text).replace('"', "'")


@pytest.mark.parametrize("name", WRITTEN)
def test_no_hint_is_the_answer(name):
    for where, hints in WRITTEN[name].functions.items():
        assert not [line for line in told_by_the_answer(where) if bare(line) in bare(" ".join(hints))], where


@pytest.mark.parametrize("name", WRITTEN)
def test_no_docstring_is_the_answer(name):
    """No more than `GIVEN` and how functions are called, so that what is copied out of the stub is not the function."""
    stub = bare(re.sub(r"^ *def .*$", "", WRITTEN[name].stub.read_text("utf-8"), flags=re.MULTILINE))
    for where in WRITTEN[name].functions:
        assert not [line for line in told_by_the_answer(where) if bare(line) in stub], where


# --- what a student's code may do, each caught and said ------------------------------------------------

CAUGHT = {
    "None": ("self.weight", "returned None"),
    "the argument": ("return x", "returned its argument x itself"),
    "a list": ("return x.tolist()", "must be an array of shape [1, 2], not a list"),
    "another shape": ("return x[0]", "has shape [2], not [1, 2]"),
    "float64": ("return np.float64(1) * x", ""),
    "float16": ("return x.astype(np.float16)", "is float16, not float64"),
    "complex": ("return x.astype(complex)", "is complex128, not float64"),
    "objects": ("return x.astype(object)", "is object, not float64"),
    "yield": ("yield x", "must be an array of shape [1, 2], not a generator"),
    "what cannot be shown": ("return type('R', (), {'__repr__': None})()", "must be an array of shape [1, 2], not a R"),
    "an exception": ("return x + np.zeros(17)", "ValueError: operands could not be broadcast"),
    "one without words": ("raise type('Odd', (Exception,), {'__str__': None})", "Odd"),
    "one of many words": ("raise ValueError('why ' * 1000)", "ValueError: why why"),
    "Ctrl-C": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "a debugger": ("import bdb\nraise bdb.BdbQuit", "take breakpoint() out"),
    "trace the wrong way round": ("return trace(x, 'hook_scale')", "trace takes a name and an array, not"),
    "recursion": ("return self(x)", "calls itself endlessly"),
    "exit": ("raise SystemExit", "it calls exit()"),
    "written into": ("x -= x.mean()\nreturn x", "writes into its argument x"),
    "weights written into": ("self.weight[:] = 0\nreturn x", "writes into its argument self.weight"),
    "memory": ("return np.empty(1 << 58)", "more memory than it is given"),
    "input": ("return input()", "it reads from the keyboard"),
}


@pytest.mark.parametrize("what", CAUGHT)
def test_what_goes_wrong_is_said(what, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    body, words = CAUGHT[what]
    found = graded("a2", tmp_path, with_body("a2", CALL, body))["formula"]
    assert found.status == "INCORRECT"
    assert words in found.problem + found.notes
    assert len(found.problem) < 1000


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("ranks[b'zz'] = 0", "writes into its argument ranks"),
        ("del ranks[b'b']", "writes into its argument ranks"),
        ("return [np.zeros(2), 3]", ""),
        ("return iter([0])", "the result must be a list of 1, not a list_iterator"),
        ("return {0: 1}", "the result must be a list of 1, not a dict"),
    ],
)
def test_what_goes_wrong_with_dicts_and_lists_is_said(line, words, tmp_path):
    source = answer(assignments()["a1"]).replace("    parts = ", f"    {line}\n    parts = ")
    found = graded("a1", tmp_path, source)["lowest_first"]
    assert (found.status, words in found.problem) == ("INCORRECT", True), found


def test_an_exception_is_told_with_the_students_line(tmp_path):
    found = graded("a2", tmp_path, with_body("a2", CALL, "return x + np.zeros(17)"))["formula"]
    assert "of a2_layernorm.py: return x + np.zeros(17)" in found.where


OUTPUT = "normalized * self.weight + self.bias"


def right(**changed):
    """Return the answer with some of its text changed."""
    source = answer(assignments()["a2"])
    for old, new in changed.values():
        assert source.count(old) == 1
        source = source.replace(old, new)
    return source


def test_float64_that_spreads_is_told_with_where_it_began(tmp_path):
    source = right(a=("variance + self.eps)", "variance + self.eps).astype(np.float64)"))
    found = graded("a2", tmp_path, source)["formula"]
    assert found.problem == "the result is float64, not float32"
    assert found.trace.startswith("hook_scale is float64") and "math.sqrt" in found.notes


def test_an_announced_array_that_is_written_into_is_found(tmp_path):
    source = right(a=("normalized * self.weight", "normalized.__imul__(self.weight)"))
    assert "announced as hook_normalized was written into" in graded("a2", tmp_path, source)["formula"].problem


@pytest.mark.parametrize("keep", ["if not kept: kept.append(x.mean(axis=-1, keepdims=True))", "kept.append(0)"])
def test_state_that_is_kept_between_calls_is_found(keep, tmp_path):
    use = "kept[0]" if "mean" in keep else "x.mean(axis=-1, keepdims=True) - 0.1 * (len(kept) > 8)"
    source = right(a=("centered = x - x.mean(axis=-1, keepdims=True)", f"{keep}\n        centered = x - {use}"))
    source = source.replace("@dataclass", "kept = []\n\n\n@dataclass", 1)
    results = graded("a2", tmp_path, source)
    assert any("right when it is called first" in result.problem for result in results.values())


@pytest.mark.parametrize(
    ("off", "status", "note"),
    [
        (1e-12, "CORRECT", ""),
        (3e-10, "CORRECT", ""),
        (3e-8, "CORRECT", "it agrees to 7 digits only"),
        (6e-7, "CORRECT", "it agrees to 6 digits only"),
        (2e-6, "INCORRECT", ""),
        (1e-5, "INCORRECT", ""),
    ],
)
def test_float64_is_right_to_nine_digits_and_with_a_note_to_those_of_float32(off, status, note, tmp_path):
    source = right(a=(OUTPUT, f"({OUTPUT}) * x.dtype.type(1 + {off})"))
    found = graded("a2", tmp_path, source)["formula"]
    assert found.status == status
    assert note in found.notes if note else not found.notes


ALMOST = {
    "a small number in the norm": ("a2", "np.sqrt(variance + self.eps)", "np.sqrt(variance + self.eps) + 1e-8"),
    "a small number in the softmax": ("a3", "e.sum(axis=-1, keepdims=True)", "(e.sum(axis=-1, keepdims=True) + 1e-6)"),
    "five digits of a constant": ("a4", "math.sqrt(2 / math.pi)", "0.79788"),
}


@pytest.mark.parametrize("what", ALMOST)
def test_what_is_off_by_more_than_float32_rounds_is_wrong(what, tmp_path):
    name, old, new = ALMOST[what]
    source = answer(assignments()[name])
    assert source.count(old) == 1
    assert "INCORRECT" in statuses(graded(name, tmp_path, source.replace(old, new)))


def test_a_small_number_beside_a_large_one_is_held_to_what_float32_rounds_of_the_large_one():
    expected = np.array([1000.0, 1.0])
    assert compare.difference(np.array([1000.0, 1.0005]), expected) is None
    assert compare.difference(np.array([1000.0, 1.002]), expected)


def rounded(version):
    """Return the function as it is if all that it is given is float32: right, whatever comes in."""

    def narrow(value):
        return value if callable(value) and not is_dataclass(value) else cast(value, np.float32)

    @functools.wraps(version)
    def call(*args, **kwargs):
        return version(*map(narrow, args), **{name: narrow(value) for name, value in kwargs.items()})

    return call


LAYERS = [
    (name, where)
    for name, assignment in WRITTEN.items()
    for where in assignment.functions
    if inspect.isfunction(seams.own(where))
    and not {"model", "grads"} & inspect.signature(seams.own(where)).parameters.keys()
]


@pytest.mark.catalogue
@pytest.mark.parametrize("seed", [0, 2])  # with 2 a quiet row in the model makes much of what float32 rounds
@pytest.mark.parametrize(("name", "where"), LAYERS)
def test_a_function_that_calculates_in_float32_is_right(name, where, seed):
    results, _ = graded_version(WRITTEN[name], where, rounded(seams.own(where)), seed=seed, named=False)
    assert statuses(results) == {"CORRECT"}, {n: r for n, r in results.items() if r.status != "CORRECT"}


def test_float32_inside_is_noted_once_and_only_where_nothing_is_wrong(folder):
    inside = ("x - x.mean(axis=-1, keepdims=True)", "(x - x.mean(axis=-1, keepdims=True)).astype(np.float32)")
    (folder / "a2_layernorm.py").write_text(right(a=inside))
    (done,) = grade(folder, ["a2"])
    assert {result.status for _, result in done.results} == {"CORRECT"}
    text = "\n".join(report.lines(done))
    assert text.count("note  in float64 it agrees to") == 1 and "float32" in text
    (folder / "a2_layernorm.py").write_text(right(a=inside, b=("    return trace(", "    trace(")))
    (done,) = grade(folder, ["a2"])
    assert not [result for _, result in done.results if result.status == "CORRECT" and result.notes]


FINE = {
    "CRLF": (b"\n", b"\r\n"),
    "a byte order mark": (b'"""a2', b'\xef\xbb\xbf"""a2'),
    "annotations as text": (b"from dataclasses", b"from __future__ import annotations\n\nfrom dataclasses"),
    "slots": (b"repr=False)", b"repr=False, slots=True)"),
    "a plain class": (b"@dataclass(frozen=True, eq=False, repr=False)\n", b""),
    "NumPy's errors raised": (b"@dataclass", b"np.seterr(all='raise')\n\n\n@dataclass"),
    "warnings raised": (b"@dataclass", b"import warnings\nwarnings.simplefilter('error')\n\n\n@dataclass"),
}


@pytest.mark.parametrize("what", FINE)
def test_what_does_not_make_it_wrong_passes(what, tmp_path):
    source = answer(assignments()["a2"]).encode()
    assert FINE[what][0] in source
    state = np.geterr()
    path = tmp_path / "a2_layernorm.py"
    path.write_bytes(source.replace(*FINE[what]))
    for check in assignments()["a2"].checks:
        result = judge(check, lambda check=check: student.versions(tmp_path, check), files=(str(path),))
        assert result.status == "CORRECT", result
    assert np.geterr() == state


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('"""caf\xe9"""\n'.encode("latin-1"), "is not valid Python: invalid or missing encoding declaration"),
        ("x = 1\n".encode("utf-16"), "save it as UTF-8"),
        (b"x = 1\0\n", "null byte"),
        (b"x = " + b"(" * 1000 + b")" * 1000, "too many nested parentheses"),
        (b"x = " + b"-" * 100_000 + b"1", "its brackets are too deep"),
        (b"#" * 1_000_001, "has 1,000,001 bytes, more than the 1,000,000 that are read"),
        (b"x = 0x" + b"f" * 10_000 + b"\n", "has no class LayerNorm"),
        (b"import " + b"a" * 400 + b"\n", "fails on import, line 1: ModuleNotFoundError"),
        (b"", "has no class LayerNorm"),
        (b"x = 1 / 0\n", "fails on import, line 1: ZeroDivisionError: division by zero"),
        (b"\nexit()\n", "fails on import, line 2: it calls exit()"),
        (b"raise KeyboardInterrupt\n", "fails on import, line 1: KeyboardInterrupt"),
        (b"import numpy as np\nclass LayerNorm:\n    __call__ = classmethod(len)\n", "LayerNorm.__call__"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_with_the_reason(source, words, tmp_path):
    path = tmp_path / "a2_layernorm.py"
    path.write_bytes(source)
    check = assignments()["a2"].checks[0]
    found = judge(check, lambda: student.versions(tmp_path, check), files=(str(path),))
    assert (found.status, words in found.problem) == ("INCORRECT", True), found


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_or_a_device_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a2_layernorm.py")
    (tmp_path / "zero.py").symlink_to("/dev/zero")
    for name, kind in (("a2_layernorm.py", "a pipe"), ("zero.py", "a device")):
        with pytest.raises(seams.Finding, match=f"{name} cannot be read: .* is not a regular file but {kind}"):
            student.read(tmp_path / name)


def test_files_that_all_import_one_another_are_searched_once_each(tmp_path):
    names = [f"part_{i}" for i in range(30)]  # they have more ways through all of them than could be walked
    for name in names:
        (tmp_path / f"{name}.py").write_text("".join(f"import {other}\n" for other in names))
    student.refuse_the_reference(tmp_path / "part_0.py")
    (tmp_path / "part_29.py").write_text("import torch\n")
    with pytest.raises(seams.Finding, match=r"part_29\.py uses torch in line 1"):
        student.refuse_the_reference(tmp_path / "part_0.py")


def test_a_long_chain_of_files_is_searched_to_its_end(tmp_path):
    for i in range(1_200):
        (tmp_path / f"part_{i}.py").write_text(f"import part_{i + 1}\n")
    (tmp_path / "part_1200.py").write_text("import torch\n")
    with pytest.raises(seams.Finding, match=r"part_1200\.py uses torch in line 1"):
        student.refuse_the_reference(tmp_path / "part_0.py")


def test_a_missing_class_a_missing_function_and_other_parameters_are_told(tmp_path):
    source = answer(assignments()["a2"])
    for old, new, words in (
        ("class LayerNorm", "class Norm", "a2_layernorm.py has no class LayerNorm"),
        ("def __call__", "def call", "a2_layernorm.py has no function LayerNorm.__call__"),
        ("(self, x, trace=no_trace)", "(self, x)", "the parameters of LayerNorm.__call__ must stay"),
    ):
        found = graded("a2", tmp_path, source.replace(old, new))["formula"]
        assert (found.status, words in found.problem) == ("INCORRECT", True), found.problem


def test_helper_methods_and_further_parameters_are_welcome(tmp_path):
    source = right(
        a=("x - x.mean(axis=-1, keepdims=True)", "self.without_mean(x)"),
        b=(
            "    def __call__",
            "    def without_mean(self, x):\n        return x - x.mean(-1, keepdims=True)\n\n    def __call__",
        ),
        c=("trace=no_trace)", "trace=no_trace, verbose=False)"),
    )
    assert statuses(graded("a2", tmp_path, source)) == {"CORRECT"}


@pytest.mark.parametrize(
    "line",
    [
        "import nanogpt_np",
        "import nanogpt_np.model.trace; ours = nanogpt_np.model.layernorm.LayerNorm",
        "import nanogpt_np.model.trace; ours = nanogpt_np.model",
        "import tokenizers",
        "from nanogpt_np.model.layernorm import LayerNorm as Ours",
        "from nanogpt_np.model import layernorm",
        "import torch.nn",
        "import importlib; ours = importlib.import_module('nanogpt_np.model.layernorm')",
        "import helper_of_mine",
    ],
)
def test_a_file_that_uses_the_reference_is_refused(line, tmp_path):
    (tmp_path / "helper_of_mine.py").write_text("import transformers\n")
    found = graded("a2", tmp_path, answer(assignments()["a2"]) + line + "\n")["formula"]
    assert found.status == "INCORRECT"
    assert " uses " in found.problem and "write this yourself, don't import it" in found.problem


def test_trace_and_config_may_be_imported(tmp_path):
    lines = "from nanogpt_np.model import trace", "import nanogpt_np.model.trace as t"
    whole = (
        "from nanogpt_np.model.config import Config",
        "import nanogpt_np.model.trace",
        "nanogpt_np.model.trace.no_trace",
    )
    source = "\n".join([answer(assignments()["a2"]), *lines, *whole, ""])
    assert statuses(graded("a2", tmp_path, source)) == {"CORRECT"}


def test_the_package_is_itself_again_after_a_student_stood_in(tmp_path):
    ours = seams.own("model.layernorm:LayerNorm.__call__")
    before = dict(vars(seams.find("model.layernorm:LayerNorm.__call__")[0]))
    graded("a2", tmp_path, with_body("a2", CALL, "raise ValueError"))
    after = vars(seams.find("model.layernorm:LayerNorm.__call__")[0])
    assert after["__call__"] is ours and before.keys() == after.keys()


def named(version):
    """Return what known mistake a version of `AdamW.step` or, if it has three parameters, of the layer norm is."""
    name, where = (
        ("a9", "train.adamw:AdamW.step")
        if "grads" in version.__code__.co_varnames
        else ("a2", f"model.layernorm:{CALL}")
    )
    check = next(check for check in WRITTEN[name].checks if check.functions == (where,))
    return name_mistake(check, WRITTEN[name], lambda: {where: version}, 0)


def test_a_mistake_that_the_packages_source_no_longer_takes_costs_its_name_only(monkeypatch):
    assignment = WRITTEN["a2"]
    stale = Mistake(
        "it is stale", f"model.layernorm:{CALL}", lambda: seams.edited(f"model.layernorm:{CALL}", [("no such", "")])
    )
    monkeypatch.setattr(assignment, "mistakes", [stale, *assignment.mistakes])

    def version(self, x, trace=no_trace):
        centered = x - x.mean(-1, keepdims=True)
        scale = trace("hook_scale", x.std(-1, keepdims=True) + self.eps)
        return trace("hook_output", trace("hook_normalized", centered / scale) * self.weight + self.bias)

    assert named(version).startswith("the epsilon is outside the root")


def test_an_exception_is_no_known_mistake_because_one_raises_the_same_kind():
    def version(self, grads, lr):
        raise ZeroDivisionError("of my own")

    assert named(version) == ""


# --- in a process of its own ---------------------------------------------------------------------------


def course(*arguments, timeout=60):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "nanogpt_np", "course", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture
def folder(tmp_path, capsys):
    assert main(["new", str(tmp_path / "work")]) == 0
    capsys.readouterr()
    return tmp_path / "work"


def test_new_writes_every_stub_and_a_second_time_overwrites_nothing(folder, capsys):
    assert {p.name for p in folder.iterdir()} == {"README.md", *(a.file for a in WRITTEN.values())}
    (folder / "a2_layernorm.py").write_text("mine")
    (folder / "README.md").unlink()
    assert main(["new", str(folder)]) == 0
    assert (folder / "a2_layernorm.py").read_text() == "mine"
    out = capsys.readouterr().out
    assert f"left  {folder / 'a2_layernorm.py'} as it is" in out and f"wrote {folder / 'README.md'}" in out


def test_grading_empty_stubs_takes_seconds_and_everything_is_incomplete(folder):
    before = os.times()
    done = course("grade", folder, timeout=100)
    after = os.times()
    # The time of the processor, since another's work may keep it waiting.
    assert after.children_user + after.children_system - before.children_user - before.children_system < 10
    assert done.returncode == 1 and done.stderr == ""
    count = sum(len(a.checks) for a in assignments().values())
    assert done.stdout.endswith(f"{count} checks: 0 CORRECT, 0 INCORRECT, {count} INCOMPLETE\n")


def test_grading_the_packages_own_functions_is_all_correct(folder):
    for assignment in WRITTEN.values():
        (folder / assignment.file).write_text(answer(assignment), "utf-8")
    done = course("grade", folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "0 INCORRECT, 0 INCOMPLETE" in done.stdout


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("while True: pass", "not done after 3 seconds"),
        ("import os; os._exit(0)", "its process ended early"),
        ("import os; os.abort()", "it crashed Python: Aborted"),
        ("import ctypes; ctypes.string_at(0)", "it crashed Python: Segmentation fault"),
        ("return np.ones((1 << 32,))", "more memory than it is given"),
    ],
)
def test_what_ends_or_stops_the_process_is_told_and_the_rest_is_graded(body, words, folder):
    begin = "centered = x - x.mean(axis=-1, keepdims=True)"
    source = right(a=(begin, f"if np.shape(x) == (4, 4):\n            {body}\n        {begin}"))
    (folder / "a2_layernorm.py").write_text(source)
    (done,) = grade(folder, ["a2"], seconds=3)
    results = {check.name: result for check, result in done.results}
    failed = {name for name, result in results.items() if result.status != "CORRECT"}
    assert failed == {"alone"}  # the check that has a prompt of that shape
    assert words in results["alone"].problem
    line = source[: source.index(body)].count("\n") + 1
    assert f"line {line} of a2_layernorm.py" in results["alone"].where or "_exit" in body


def test_a_loop_that_is_met_while_a_mistake_is_named_is_run_into_once(folder):
    """It is wrong everywhere, so every check but the first could try a naming, which runs all of them."""
    begin = "centered = x - x.mean(axis=-1, keepdims=True)"
    body = (
        "if np.shape(x) == (4, 4):\n"
        "            print('a loop', file=open('loops', 'a'))\n"
        "            while True: pass\n"
    )
    source = right(a=(begin, f"{body}        {begin}"), b=(OUTPUT, f"{OUTPUT} + 1"))
    (folder / "a2_layernorm.py").write_text(source)
    (done,) = grade(folder, ["a2"], seconds=2)
    assert (folder / "loops").read_text().count("a loop") == 2  # of the naming, and of the check that has that shape
    results = {check.name: result for check, result in done.results}
    assert "not done after 2 seconds" in results["alone"].problem
    assert results["formula"].got and results["in_the_model"].got


@pytest.mark.parametrize("line", ["np.sqrt = None", "np.isclose = np.abs = None", "np.float64 = np.float32"])
def test_code_that_changes_numpy_costs_its_own_marks_only(line, folder):
    for name, other in (("a2", f"{line}\nreturn x"), ("a4", None)):
        source = answer(WRITTEN[name]) if other is None else with_body(name, CALL, other)
        (folder / WRITTEN[name].file).write_text(source)
    changed, other = grade(folder, ["a2", "a4"])
    assert {result.status for _, result in changed.results} == {"INCORRECT"}
    assert {result.status for _, result in other.results} == {"CORRECT"}


def test_what_is_printed_while_a_mistake_is_named_is_not_shown(folder):
    (folder / "a2_layernorm.py").write_text(with_body("a2", CALL, "print('here')\nreturn x"))
    (done,) = grade(folder, ["a2"])
    assert done.results[0][1].printed == "here\n"  # it stops at its first case


def test_prints_of_later_checks_are_shown_whole_and_under_their_label(folder):
    (folder / "a2_layernorm.py").write_text(with_body("a2", CALL, "print('one\\ntwo')\nreturn x * 2"))
    text = "\n".join(report.lines(*grade(folder, ["a2"])))
    assert text.count("printed          one\n") == text.count("INCORRECT") >= 2


def test_of_later_checks_it_is_told_if_something_else_is_wrong(folder):
    (folder / "a2_layernorm.py").write_text(
        right(a=("centered = x - x", "x = np.asarray(x, np.float64)\n        centered = x - x"))
    )
    text = "\n".join(report.lines(*grade(folder, ["a2"])))
    assert text.count("the result is float64, not float32") == 1
    assert "mean of each row is float64, not float32" in text


def test_words_about_a_time_out_are_none(folder):
    body = "import os\nos.write(2, b'Timeout (0:00:10)!')\nos._exit(3)"
    (folder / "a2_layernorm.py").write_text(with_body("a2", CALL, body))
    (done,) = grade(folder, ["a2"])
    assert "its process ended early, with exit code 3" in done.results[0][1].problem


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_copy_of_the_process_does_not_grade_too(folder):
    begin = "        centered = x - x.mean"
    (folder / "a2_layernorm.py").write_text(right(a=(begin, f"        import os\n        os.fork()\n{begin}")))
    began = time.monotonic()
    (done,) = grade(folder, ["a2"], seconds=30)
    assert {result.status for _, result in done.results} == {"CORRECT"}
    assert time.monotonic() - began < 30


def test_a_missing_file_is_told_once(folder):
    (folder / "a2_layernorm.py").unlink()
    assert "\n".join(report.lines(*grade(folder, ["a2"]))).count("is missing") == 1


def test_two_functions_that_hang_are_each_told_with_their_line(folder):
    source = answer(assignments()["a4"])
    for line in ("        minus_2u = ", "        pre = "):
        assert source.count(line) == 1, line
        source = source.replace(line, f"{line.partition(line.strip())[0]}while True: pass\n{line}")
    (folder / "a4_mlp.py").write_text(source)
    text = "\n".join(report.lines(*grade(folder, ["a4"], seconds=1)))
    assert text.count("your code") == 2, text


def test_what_a_students_code_starts_ends_with_it(folder):
    """A thread without end and another process hold up neither the grader nor the machine."""
    start = (
        "import subprocess, threading, time\n"
        "        if np.shape(x) == (4, 4):\n"
        "            threading.Thread(target=time.sleep, args=(100,)).start()\n"
        "            open('pid', 'w').write(str(subprocess.Popen(['sleep', '100']).pid))\n"
    )
    begin = "        centered = x - x.mean"
    (folder / "a2_layernorm.py").write_text(right(a=(begin, f"        {start}{begin}")))
    began = time.monotonic()
    (done,) = grade(folder, ["a2"])
    assert {result.status for _, result in done.results} == {"CORRECT"}
    assert time.monotonic() - began < 30
    if not Path("/proc/self/stat").exists():
        pytest.skip("whether another process goes on is read from /proc, which is not here")
    stat = Path("/proc", (folder / "pid").read_text(), "stat")
    for _ in range(100):
        if not stat.exists() or ") Z " in stat.read_text():
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the other process goes on")


def test_a_process_that_is_silent_is_ended_from_outside(folder, monkeypatch):
    monkeypatch.setattr(runner, "SILENT", 1)
    begin = "        centered = x - x.mean"
    stop = "import faulthandler, time\n        faulthandler.cancel_dump_traceback_later()\n        time.sleep(60)\n"
    (folder / "a2_layernorm.py").write_text(right(a=(begin, f"        {stop}{begin}")))
    (done,) = grade(folder, ["a2"], seconds=2)
    first, second, *rest = [result.problem for _, result in done.results]
    assert first == second == "it was not done after 2 seconds: is there an endless loop?"
    assert set(rest) == {"not tried: two checks of it did not finish"}


def test_a_file_may_import_another_of_its_folder_and_is_incomplete_while_that_is(folder):
    (folder / "parts.py").write_text("def centre(x):\n    raise NotImplementedError\n")
    source = right(a=("x - x.mean(axis=-1, keepdims=True)", "parts.centre(x)"))
    (folder / "a2_layernorm.py").write_text(source.replace("import numpy", "import parts\nimport numpy"))
    (done,) = grade(folder, ["a2"])
    assert {result.status for _, result in done.results} == {"INCOMPLETE"}
    (folder / "parts.py").write_text("def centre(x):\n    return x - x.mean(axis=-1, keepdims=True)\n")
    (done,) = grade(folder, ["a2"])
    assert {result.status for _, result in done.results} == {"CORRECT"}


def test_a_terminal_is_shown_no_control_characters(folder):
    (folder / "a2_layernorm.py").write_text(with_body("a2", CALL, "raise ValueError('\\x1b[31mred\\udcff')"))
    out = course("grade", folder, "a2").stdout
    assert "ValueError: \\x1b[31mred\\udcff" in out and "\x1b" not in out


def test_a_loop_when_the_file_is_read_is_told_once(folder):
    (folder / "a2_layernorm.py").write_text("while True: pass\n")
    (done,) = grade(folder, ["a2"], seconds=1)
    assert {r.problem for _, r in done.results} == {"it was not done after 1 seconds: is there an endless loop?"}
    assert done.results[0][1].where == "line 1 of a2_layernorm.py"


def test_prints_are_shown_apart_and_do_not_spoil_the_json(folder):
    body = (
        "import os, sys\nprint('in my function', x.shape)\nos.write(1, b'to the pipe')\n"
        "sys.__stdout__.write('and here')\nsys.__stderr__.write('and there')\nreturn x"
    )
    (folder / "a2_layernorm.py").write_text(with_body("a2", CALL, body))
    done = course("grade", folder, "a2", "--json")
    assert done.stderr == ""
    test = json.loads(done.stdout)["tests"][0]
    assert test["extra_data"]["printed"].startswith("in my function (1, 2)\n")
    assert "printed          in my function (1, 2)" in course("grade", folder, "a2").stdout


def test_the_json_is_what_gradescope_reads(folder):
    (folder / "a2_layernorm.py").write_text(with_body("a2", CALL, "return x"))
    done = course("grade", folder, "a2", "--json")
    results = json.loads(done.stdout)
    assert done.returncode == 1
    assert results["score"] == sum(test["score"] for test in results["tests"])
    assert results["output"].startswith("6 checks:") and results["execution_time"] > 0
    for test in results["tests"]:
        assert test["status"] in ("passed", "failed") and test["score"] <= test["max_score"] == 1
        assert test["name"].startswith("a2 LayerNorm.__call__: ") and test["output"]


def test_a_mistake_is_named_in_the_report(folder):
    source = right(a=("np.sqrt(variance + self.eps)", "np.sqrt(variance) + self.eps"))
    (folder / "a2_layernorm.py").write_text(source)
    done = course("grade", folder, "a2")
    assert done.returncode == 1
    assert "This is what comes out when the epsilon is outside the root" in done.stdout


def test_a_syntax_error_is_told_once_with_its_line(folder):
    (folder / "a2_layernorm.py").write_text("x = 1\ndef f(:\n")
    out = " ".join(course("grade", folder, "a2").stdout.split())
    assert out.count("a2_layernorm.py is not valid Python: invalid syntax, line 2: def f(:") == 1


def test_another_seed_draws_other_numbers_and_the_same_seed_the_same(folder):
    source = right(a=(OUTPUT, f"{OUTPUT} * (x.shape[-1] < 4)"))
    (folder / "a2_layernorm.py").write_text(source)
    texts = [course("grade", folder, "a2", "--seed", seed).stdout for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_wrong_usage_is_told_in_one_line_with_exit_code_2(folder, capsys):
    for arguments, words in (
        (["grade", str(folder), "a22"], "no assignment 'a22' (did you mean a2?)"),
        (["grade", str(folder / "none")], "there is no folder"),
        (["grade", str(folder / "a2_layernorm.py")], "is a file; give the folder that it is in"),
        (["new", str(folder / "a2_layernorm.py")], "is a file; give the folder"),
        (["grade", str(folder), "--seed", "-1"], "--seed must be 0 or more"),
        (["hint", "a2", "4"], "invalid choice: 4"),
        (["hint", "a2", "1", "gelu"], "has no function 'gelu'; there are: LayerNorm.__call__"),
        ([], "required: COMMAND"),
    ):
        assert main(arguments) == 2
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1, err


def test_an_assignments_name_may_be_in_capitals(capsys):
    assert main(["hint", "A2", "1"]) == 0
    assert "LayerNorm.__call__: Take one" in capsys.readouterr().out


def test_hints_have_three_rungs_and_answers_want_to_be_asked_for_twice(capsys):
    hints = []
    for rung in "123":
        assert main(["hint", "a2", rung]) == 0
        hints.append(capsys.readouterr().out)
    assert len(set(hints)) == 3
    assert main(["answer", "a2"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "hint a2 1" in err and "--yes" in err
    assert main(["answer", "a2", "--yes"]) == 0
    assert capsys.readouterr().out == answer(assignments()["a2"])


def test_lines_of_a_report_are_not_too_long(folder):
    (folder / "a2_layernorm.py").write_text(with_body("a2", CALL, "return x * 2"))
    for done in grade(folder):
        assert max(map(len, report.lines(done))) <= 130


ANNOTATED = '''
def one(a: int, b: "dict[str, int]" = {}, *c: int, d: list[int] | None = None, **e: int) -> "str":
    """Words -> stay: as they are."""
    x: int = a  # a comment
    y: int
    return x


class Two:
    z: int = 3

    def three(
        self, long: int, trace: Trace = no_trace
    ) -> tuple[int, int]:
        return lambda q: q
'''
PLAIN = '''
def one(a, b={}, *c, d=None, **e):
    """Words -> stay: as they are."""
    x = a  # a comment
    y: int
    return x


class Two:
    z: int = 3

    def three(self, long, trace=no_trace):
        return lambda q: q
'''


def test_annotations_of_functions_are_taken_out_of_the_source_and_nothing_else():
    assert sources.without_annotations(ANNOTATED) == PLAIN
    assert sources.without_annotations(PLAIN) == PLAIN


def test_every_function_to_write_is_the_same_code_without_its_annotations():
    """Without types both trees are equal, so no edit of the text hit anything else."""

    class Bare(ast.NodeTransformer):
        def visit_arg(self, node):
            return ast.arg(node.arg)

        def visit_FunctionDef(self, node):
            node.returns = None
            return self.generic_visit(node)

        def visit_AnnAssign(self, node):
            if not node.value:
                return node
            return ast.Assign([node.target], node.value, lineno=node.lineno)

    for where in {where for a in WRITTEN.values() for where in a.functions}:
        if not inspect.isclass(seams.own(where)):
            text = textwrap.dedent(inspect.getsource(seams.own(where)))
            assert ast.dump(Bare().visit(ast.parse(text))) == ast.dump(ast.parse(sources.source(seams.own(where))))


@pytest.mark.parametrize("held", [["notes.txt"], ["README.md"], ["src/"], ["a.py", "b.py"], [".git/", "x"]])
def test_new_refuses_a_folder_that_holds_something_else_and_leaves_it(held, tmp_path, capsys):
    for name in held:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text("mine", encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    assert main(["new", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "holds something else: give an empty folder" in err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("held", [[], [".git/"], ["a4_mlp.py"], ["a4_mlp.py", "notes.txt"]])
def test_new_fills_an_empty_folder_and_completes_one_of_the_course(held, tmp_path, capsys):
    for name in held:
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text("mine", encoding="utf-8")
    assert main(["new", str(tmp_path)]) == 0
    assert main(["new", str(tmp_path)]) == 0
    assert {"a1_embedding.py", "a4_mlp.py", "README.md"} <= {path.name for path in tmp_path.iterdir()}
    if "a4_mlp.py" in held:
        assert (tmp_path / "a4_mlp.py").read_text(encoding="utf-8") == "mine"
