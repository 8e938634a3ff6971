"""Every option of every command with odd values, and every command in odd surroundings: an answer or one line."""

import argparse
import errno
import functools
import importlib.util
import io
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import types
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

import nanogpt_np
from nanogpt_np.__main__ import COMMANDS, main
from nanogpt_np.commands import benchmark, shell
from nanogpt_np.course import runner
from nanogpt_np.course.answers import answer
from nanogpt_np.course.assignment import get
from nanogpt_np.model.config import Config
from nanogpt_np.names.parameters import table
from nanogpt_np.text import Tokenizer
from nanogpt_np.weights.assembly import assemble

LINES, BYTES = 3, 5000  # of stderr, for one run
ODD = {
    "two dashes": "--",
    "nothing": "",
    "a dash": "-",
    "a space": " ",
    "long": "x" * 20_000,
    "many words": "a, b\n" * 5_000,
    "controls": "\x1b]0;title\x07\x1b[2J\r\x08\x9b31m\u202e\u2066\u200b\u2028\u061c\x7f",
    "undecodable": "caf\udce9",
    "half a character": "\ud800",
    "combining": "\u0301" * 50 + "\U0001f468\u200d\U0001f469",
    "negative": "-1",
    "zero": "0",
    "NaN": "nan",
    "infinite": "-inf",
    "beyond a float": "1e400",
    "below a float": "1e-400",
    "beyond a machine's integer": "1" + 30 * "0",
    "as long as Python reads": "9" * 4300,
    "longer than Python reads": "9" * 5000,
    "digits of another script": "٣",
}
ENDLESS = {("generate", "--num-samples")}  # as many texts as are asked for, however many
VISIBLE = {"\n", "\t"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A checkpoint with GPT-2's vocabulary, and a recording of a pass through it."""
    config, rng = Config(n_positions=16, n_embd=6, n_head=2, n_layer=2), np.random.default_rng(0)
    params = {name: rng.normal(0, 0.3, p.shape(config)).astype(np.float32) for name, p in table(config).items()}
    folder = tmp_path_factory.mktemp("odd") / "model"
    nanogpt_np.save(assemble(config, params), folder)
    assert main(["trace", "a b", "--model", str(folder), "--save", str(folder.parent / "pass.npz")]) == 0
    return folder


class Once:
    """The tokenizer, made once."""

    from_folder = Tokenizer.from_folder
    made = functools.cache(Tokenizer)

    def __new__(cls):
        return cls.made()


@pytest.fixture
def usual(model, tmp_path, monkeypatch):
    """Return {command: (positional arguments, required flags)} that work, and make each of them quick."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NANOGPT_NP_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr("nanogpt_np.commands.opening.Tokenizer", Once)
    monkeypatch.setattr(benchmark, "measure", lambda *_: iter(()))
    monkeypatch.setattr(benchmark, "write_random", lambda *_: None)
    monkeypatch.setattr("nanogpt_np.commands.course.grade", lambda *_, **__: iter(()))
    monkeypatch.setattr("nanogpt_np.commands.facts.recall_by_relation", lambda *_, **__: defaultdict(lambda: (1.0, 1)))
    recording, folder = str(model.parent / "pass.npz"), str(model)
    with_model = {"--model": folder}
    return {
        "generate": (["a"], with_model | {"-n": "2"}),
        "trace": (["a"], with_model),
        "explain": (["a", "hook_next_logits[7]"], with_model),
        "lens": (["a"], with_model | {"--token": " b"}),
        "diff": ([recording, recording], {}),
        "glossary": (["keys"], {}),
        "train": ([], {"--out": "run"}),  # without a text it ends early
        "facts": (["./none"], {}),
        "course list": ([], {}),
        "course new": (["mine"], {}),
        "course grade": (["."], {}),
        "course hint": (["a2", "1"], {}),
        "course answer": (["a2"], {}),
        "benchmark": ([], with_model),
        "inventory": ([folder], {}),
        "tokens": (["a"], {}),
        "score": (["-"], with_model),
        "convert": (["none.pt", "converted"], {}),
    }


def parsers(monkeypatch):
    """Return {command: its argparse parser}, those of subcommands included."""

    class Found(Exception):
        pass

    def stop(self, argv=None):
        raise Found(self)

    found = {}
    with monkeypatch.context() as patched:
        patched.setattr(shell.Parser, "parse_args", stop)
        for name in COMMANDS:
            with pytest.raises(Found) as caught:
                main([name])
            (found[name],) = caught.value.args
    for name, parser in list(found.items()):
        inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if inner:
            del found[name]
            found |= {f"{name} {sub}": parser for sub, parser in inner[0].choices.items()}
    return found


def lines_to_try(usual, parser, command):
    """Yield (what is odd, arguments): each option with each value, then each positional argument."""
    positional, flags = usual[command]
    for action in parser._actions:
        if not action.option_strings or action.nargs == 0:
            continue
        flag = action.option_strings[-1]
        kept = [f"{name}={value}" for name, value in flags.items() if name not in action.option_strings]
        kept = [text.replace("=", "", 1) if not text.startswith("--") else text for text in kept]
        for what, value in ODD.items():
            if (command, flag) in ENDLESS and value.isdecimal() and int(value[:4000]) > 9:
                continue
            yield f"{flag}, {what}", [*positional, *kept, f"{flag}={value}"]
            if value.startswith("-") or not value.strip():
                yield f"{flag}, {what}, apart", [*positional, *kept, flag, value]
        yield f"{flag} twice", [*positional, *kept, flag, "1", flag, "2"]
        yield f"{flag} without a value", [*positional, *kept, flag]
    given = list(itertools.chain.from_iterable(flags.items()))
    for i in range(max(len(positional), 1)):
        for what, value in ODD.items():
            yield f"argument {i + 1}, {what}", [*given, "--", *positional[:i], value, *positional[i + 1 :]]
    yield "no arguments", []
    yield "one too many", [*positional, *given, "--", "x", "y", "z"]


LONG = ("generate", "trace", "explain", "lens")  # seconds each
ALL = [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in COMMANDS]


@pytest.mark.parametrize("command", ALL)
def test_odd_values_get_an_answer_or_a_bounded_line_and_never_a_traceback(command, usual, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO()))  # for the prompt that is a dash
    tried = 0
    for name, parser in parsers(monkeypatch).items():
        if name.split()[0] != command:
            continue
        for what, arguments in lines_to_try(usual, parser, name):
            code = main([*name.split(), *arguments])
            out, err = capsys.readouterr()
            about = f"{name}: {what}: exit code {code}: {err[:2000]}"
            assert code in (0, 1, 2), about
            assert len(err.encode("utf-8", "backslashreplace")) <= BYTES and err.count("\n") <= LINES, about
            assert all(c.isprintable() or c in VISIBLE for c in err), about
            assert "Traceback" not in err, about
            assert code or out or err, about
            tried += 1
    assert tried > 20


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["generate", "a", "--watch=--"], "watching"),
        (["lens", "a", "--token=--"], "logit"),
        (["trace", "a", "--only=--"], "no word to look up in '--'"),
        (["trace", "a", "--head=--"], "invalid int value: '--'"),
        (["benchmark", "--rows=--"], "invalid choice: '--'"),
        (["benchmark", "--table=--"], "No such file or directory: '--'"),
    ],
)
def test_two_dashes_after_an_equals_sign_are_the_value(arguments, expected, usual, capsys):
    flags = [f"{name}={value}" for name, value in usual[arguments[0]][1].items() if name == "--model"]
    assert main([*arguments, *flags]) in (0, 1, 2)
    out, err = capsys.readouterr()
    assert expected in out + err


def test_two_dashes_apart_end_the_flags_as_ever(usual, capsys):
    assert main(["generate", "-n1", *flags_of(usual["generate"]), "--json", "--", "--"]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "--"


def flags_of(usual):
    return [f"{name}={value}" for name, value in usual[1].items() if name.startswith("--")]


@pytest.mark.parametrize("value", ["x" * 1_000_000, "\x1b[2J" * 250_000, "\u202e" * 1_000_000])
def test_the_name_of_an_unknown_command_is_shown_in_a_bounded_line(value, capsys):
    assert main([value]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and len(err) < BYTES and "there are: generate, trace" in err
    assert all(c.isprintable() or c == "\n" for c in err)


def test_json_is_valid_json_whatever_is_in_it(usual, capsys):
    flags = flags_of(usual["generate"])
    for odd in ("\x7f", "\x1b\x9b", "\u202e\u2028", "a\x00b"):
        assert main(["generate", odd, "-n1", "--json", *flags]) == 0
        out = capsys.readouterr().out
        assert all(c.isprintable() or c == "\n" for c in out) and out.isascii()
        assert json.loads(out)["prompt"] == odd


def test_infinity_and_nan_are_words_in_json(capsys):
    shell.print_json({"a": [1.5, float("-inf"), (float("nan"), "x")], "b": {"c": float("inf")}})
    assert json.loads(capsys.readouterr().out) == {"a": [1.5, "-inf", ["nan", "x"]], "b": {"c": "inf"}}


# --- modules that are missing --------------------------------------------------------------------


def extras():
    """Yield (distribution, extra) of what pyproject.toml lets one install; no extra for what all need."""
    tomllib = pytest.importorskip("tomllib", reason="this Python reads no TOML")
    with open(os.path.join(os.path.dirname(__file__), "..", "pyproject.toml"), "rb") as file:
        project = tomllib.load(file)["project"]
    for extra, lines in {None: project["dependencies"], **project["optional-dependencies"]}.items():
        for line in lines:
            yield line.replace(">", "=").partition("=")[0].strip(), extra


def test_the_remedy_for_a_missing_module_is_the_one_that_installs_it(monkeypatch, capsys):
    for name, extra in extras():
        if extra == "lint":
            continue
        module = name.removeprefix("pytest-")
        error = ModuleNotFoundError(f"No module named {module!r}", name=f"{module}.part")

        def run(argv, error=error):
            raise error

        assert shell.command(run)([]) == 1
        remedy = f"pip install 'nanogpt-np[{extra}]'" if extra else f"pip install {name}"
        assert capsys.readouterr().err == f"error: {module} is not installed: {remedy}\n"


def test_a_part_of_python_that_is_missing_is_not_to_be_installed(capsys):
    def run(argv):
        raise ModuleNotFoundError("No module named '_ctypes'", name="_ctypes")

    assert shell.command(run)([]) == 1
    assert "built without it" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["torch", "transformers"])
def test_a_race_against_what_is_not_installed_is_refused_before_it_starts(missing, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else find("json"))
    assert main(["benchmark", "--against", "transformers", "--model", "gpt2"]) == 1
    assert capsys.readouterr().err == f"error: {missing} is not installed: pip install 'nanogpt-np[reference]'\n"


# --- the surroundings ----------------------------------------------------------------------------

ROOT = os.path.dirname(os.path.dirname(nanogpt_np.__file__))
GENERATE = ["nanogpt_np", "generate", "The capital of France is", "-n", "1", "--model"]


def python(*arguments, shell="", env=None, **more):
    """Run a module in a fresh interpreter, its streams redirected by a shell's words."""
    command = [sys.executable, "-W", "error", "-m", *arguments]
    if shell:
        command = ["/bin/sh", "-c", f'exec "$@" {shell}', "sh", *command]
    environment = {**os.environ, "PYTHONPATH": ROOT, **(env or {})}
    return subprocess.run(command, capture_output=True, timeout=60, check=False, env=environment, **more)


needs_a_shell = pytest.mark.skipif(not os.path.exists("/bin/sh"), reason="there is no shell to redirect streams")
needs_a_full_device = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device here is always full")


@needs_a_shell
@pytest.mark.parametrize(
    ("streams", "code"),
    [
        (">&-", 0),
        ("2>&-", 0),
        (">&- 2>&-", 0),
        ("<&- >&- 2>&-", 0),
        pytest.param(">/dev/full", 1, marks=needs_a_full_device),
        pytest.param("2>/dev/full", 0, marks=needs_a_full_device),
        pytest.param(">/dev/full 2>/dev/full", 1, marks=needs_a_full_device),
        pytest.param(">/dev/full 2>&-", 1, marks=needs_a_full_device),
    ],
)
def test_streams_that_are_closed_or_full_end_in_an_exit_code_and_at_most_a_line(streams, code, model):
    done = python(*GENERATE, str(model), shell=streams)
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.splitlines() if not line.startswith(b"model: ")]
    assert len(errors) == (streams == ">/dev/full"), errors
    assert not errors or errors[0].startswith(b"error: standard output: ")


@needs_a_shell
@needs_a_full_device
@pytest.mark.parametrize("arguments", [[], ["--version"], ["glossary"], ["glossary", "--help"], ["glossary", "--json"]])
def test_a_full_disk_is_told_by_every_way_to_print(arguments):
    done = python("nanogpt_np", *arguments, shell=">/dev/full")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert done.stderr.startswith(b"error: standard output: ")


@needs_a_shell
@needs_a_full_device
def test_diff_keeps_1_for_a_difference_also_on_a_full_disk(model):
    recording = str(model.parent / "pass.npz")
    assert python("nanogpt_np", "diff", recording, recording, shell=">/dev/full").returncode == 2
    assert python("nanogpt_np", "diff", recording, "none.npz").returncode == 2


@needs_a_shell
@pytest.mark.parametrize("streams", ["<&-", "</", "</dev/null"])
def test_a_prompt_from_a_stdin_that_has_none_is_refused_in_a_line(streams, model):
    done = python("nanogpt_np", "generate", "-", "--model", str(model), shell=streams)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") == 1 or b"<stdin> is a directory" in done.stderr  # then Python does not start


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no endless file on this system")
def test_an_endless_prompt_is_refused(model):
    with open("/dev/zero", "rb") as endless:
        done = python("nanogpt_np", "generate", "-", "--model", str(model), stdin=endless)
    assert done.returncode == 1 and b"longer than" in done.stderr and done.stderr.count(b"\n") == 1


PLAIN = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize(
    "env", [PLAIN, {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "utf-16"}, {}]
)
def test_a_prompt_means_the_same_in_any_locale(env, model):
    prompt = "Zürich 東京 🦄"
    done = python("nanogpt_np", "generate", prompt, "-n", "1", "--json", "--model", str(model), env=env)
    assert done.returncode == 0, done.stderr
    encoding = env.get("PYTHONIOENCODING", "utf-8")
    assert json.loads(done.stdout.decode(encoding))["prompt"] == prompt


@pytest.mark.parametrize("columns", ["0", "-1", "1", "7", "abc", str(10**9), "9" * 5000, ""])
def test_any_width_of_the_terminal_will_do_for_help(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
    assert capsys.readouterr().err == ""


@needs_a_shell
@pytest.mark.parametrize(
    ("arguments", "codes"),
    [
        (["glossary", "keys"], (0,)),
        (["generate", "a", "-n", "1", "--model", "facts"], (0,)),
        (["course", "list"], (0,)),
        (["course", "grade", "."], (1, 2)),
        (["trace", "a", "--model", "facts", "--save", "a.npz"], (1,)),
    ],
)
def test_a_working_directory_that_was_deleted_does_not_matter_where_it_is_not_needed(arguments, codes, tmp_path):
    (tmp_path / "gone").mkdir()
    script = 'cd "$0" && rmdir "$0" && exec "$@"'
    command = ["/bin/sh", "-c", script, str(tmp_path / "gone"), sys.executable, "-m", "nanogpt_np", *arguments]
    environment = {**os.environ, "PYTHONPATH": ROOT}
    done = subprocess.run(command, capture_output=True, timeout=60, env=environment, check=False)
    assert done.returncode in codes and b"Traceback" not in done.stderr, done.stderr
    assert codes == (0,) or done.stderr.count(b"\n") <= 2


def test_a_terminal_without_a_name_can_walk(model):
    environment = {name: value for name, value in os.environ.items() if name != "TERM"}
    command = [sys.executable, "-m", "nanogpt_np", "trace", "a", "--step", "--model", str(model)]
    done = subprocess.run(command, input=b"\n\xff\nq\n", capture_output=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0 and b"'\\\\xff' is not a command" in done.stdout


# --- names that have moved -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gpt2", "did you mean nanogpt_np.fast.gpt2 or nanogpt_np.model.gpt2 or nanogpt_np.text.gpt2?"),
        ("attention", "did you mean nanogpt_np.model.attention?"),
        ("sampling", "did you mean nanogpt_np.generate.sampling?"),
        ("Tokeniser", "did you mean Tokenizer?"),
    ],
)
def test_a_name_that_the_package_lacks_gets_a_hint(name, hint):
    with pytest.raises(AttributeError, match=hint.replace("?", r"\?")):
        getattr(nanogpt_np, name)


@pytest.mark.parametrize("name", ["__wrapped__", "_private", "no such name", "**", "zzz"])
def test_other_names_get_none_and_are_looked_for_nowhere(name):
    with pytest.raises(AttributeError, match=r"has no attribute '[^']*'$"):
        getattr(nanogpt_np, name)
    assert not hasattr(nanogpt_np, name)


# --- the course, where names are not ASCII -------------------------------------------------------


ENVIRONMENTS = [{"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "utf-16"}, {}]


@pytest.mark.parametrize("env", [PLAIN, *(pytest.param(env, marks=pytest.mark.slow) for env in ENVIRONMENTS)])
def test_a_folder_of_any_name_is_graded_in_any_locale(env, tmp_path):
    source = answer(get("a4"))
    (statement,) = re.findall(r"^ +minus_2u = ", source, re.M)
    place = f"line {source[: source.index(statement)].count(chr(10)) + 1} of a4_mlp.py"
    abort = statement.replace("minus_2u = ", "import os; os.abort()\n")
    for name, crash in (("東京 \U0001f984 \"x\" 'y'", ""), ("Übung", abort)):
        if os.name == "nt" and '"' in name:
            continue
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a4_mlp.py").write_text(source.replace(statement, crash + statement), encoding="utf-8")
        done = python("nanogpt_np", "course", "grade", str(folder), "a4", env=env)
        shown = done.stdout.decode(env.get("PYTHONIOENCODING", "utf-8"))
        assert (done.returncode, done.stderr) == (bool(crash), b""), shown
        assert (place in shown) == bool(crash) and ("17 CORRECT" in shown) != bool(crash), shown


def test_the_place_of_a_crash_is_found_in_folders_of_any_name():
    for name in ("a", "é", "東 京", "\U0001f984", 'a"b', "a\\x\n", "x" * 50, "caf\udce9", "(.*)[a-z]"):
        folder = Path("/tmp" if os.name != "nt" else "C:/tmp") / name
        for shown in (str(folder), runner.as_dumped(folder)):
            places = [("/lib/os.py", 9), (f"{shown}{os.sep}a4_mlp.py", 12), (f"{shown}{os.sep}a2_layernorm.py", 30)]
            dump = "".join(f'  File "{file}", line {line} in f\n' for file, line in places)
            assert runner.end_in_words(1, dump, 3, folder).where == "line 12 of a4_mlp.py"
        assert runner.end_in_words(1, f'  File "{folder}2{os.sep}a4_mlp.py", line 12 in f', 3, folder).where == ""


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EINVAL])
def test_a_worker_that_ended_before_its_job_came_is_ignored_and_other_errors_are_not(number):
    with runner.ended_quietly():
        raise OSError(number, "gone")
    for other in (errno.ENOSPC, errno.EIO, errno.EBADF):
        with pytest.raises(OSError, match="kept"), runner.ended_quietly():
            raise OSError(other, "kept")


def test_a_grader_that_cannot_start_is_an_error_in_a_line(tmp_path, monkeypatch, capsys):
    assert main(["course", "new", str(tmp_path)]) == 0
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr("sys.executable", shutil.which("false") or pytest.skip("there is no program called false"))
        assert main(["course", "grade", str(tmp_path), "a4"]) == 1
    assert capsys.readouterr().err == "error: the grader's own process did not start: it said nothing\n"

    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    assert main(["course", "grade", str(tmp_path), "a4"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "can't start new thread" in err


@pytest.mark.parametrize("name", ["", " ", "\t"])
@pytest.mark.parametrize("command", ["new", "grade"])
def test_a_folder_of_the_course_has_a_name(command, name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["course", command, name]) == 2
    assert "the name of the folder is empty" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
