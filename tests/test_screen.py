"""What reaches a terminal: nothing from files, names, texts or people that it would obey, or that nobody sees."""

import contextlib
import io
import json
import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from helpers import scripted_model

import nanogpt_np
from nanogpt_np.__main__ import main
from nanogpt_np.commands import shell
from nanogpt_np.commands.screen import GREEN, MARK, RED, Screen, columns, painted, screens, visible
from nanogpt_np.text import Tokenizer
from nanogpt_np.text.display import quoted

ROOT = os.path.dirname(os.path.dirname(nanogpt_np.__file__))
EVIL = {
    "a color": ("\x1b[31m", r"\x1b[31m"),
    "a title": ("\x1b]0;x\x07", r"\x1b]0;x\x07"),
    "a C1 control": ("\x9b2J\x85", r"\x9b2J\x85"),
    "a backspace": ("ok\x08\x08no", r"ok\x08\x08no"),
    "a return": ("a\rb", r"a\rb"),
    "a delete": ("\x7f", r"\x7f"),
    "right to left": ("\u202egnp\u202c", r"\u202egnp\u202c"),
    "isolates": ("\u2066\u2069", r"\u2066\u2069"),
    "marks": ("\u200e\u200f\u061c", r"\u200e\u200f\u061c"),
    "no width": ("a\u200b\u2060\ufeffb", r"a\u200b\u2060\ufeffb"),
    "line ends": ("\u2028\u2029\x0b\x0c", r"\u2028\u2029\x0b\x0c"),
    "half a character": ("\udce9", r"\udce9"),
    "tags": ("\U000e0041", r"\U000e0041"),
}
ALL = "".join(raw for raw, _ in EVIL.values())


def harmless(text):
    """Return whether a terminal shows all of a text and obeys none of it."""
    return not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\n\t" for c in text)


@pytest.mark.parametrize("what", EVIL)
def test_what_acts_on_a_terminal_or_cannot_be_seen_shows_as_codes(what):
    raw, shown = EVIL[what]
    assert not harmless(raw)
    assert visible(f"x{raw}y") == f"x{shown}y"
    assert harmless(visible(raw)) and visible(visible(raw)) == visible(raw)
    quote = quoted(raw)
    assert quote.isprintable() and json.loads(quote) == raw


@pytest.mark.parametrize(
    "text", ["plain", "Zürich 東京 🦄❤️ é e\u0301", "a\u00a0b\u3000c", "one\n\ttwo\n", "", "\ue000"]
)
def test_text_of_any_script_passes_unchanged(text):
    assert visible(text) == text


def test_every_character_passes_or_becomes_ascii():
    for c in map(chr, range(sys.maxunicode + 1)):
        shown = visible(c)
        assert shown == c or (shown.isascii() and shown.isprintable())


class Stream(io.StringIO):
    """A stream that is a terminal, or not, and that can be full."""

    def __init__(self, terminal, error=None):
        super().__init__()
        self.terminal, self.error = terminal, error

    def isatty(self):
        return self.terminal

    def write(self, text):
        if self.error:
            raise self.error
        return super().write(text)


@pytest.fixture
def streams(monkeypatch):
    """Put streams in the place of stdout and stderr; return a function that makes them."""

    def streams(terminal, **errors):
        made = Stream(terminal, errors.get("out")), Stream(terminal, errors.get("err"))
        monkeypatch.setattr(sys, "stdout", made[0])
        monkeypatch.setattr(sys, "stderr", made[1])
        return made

    return streams


@pytest.mark.parametrize("terminal", [True, False])
def test_data_is_changed_on_a_terminal_only_and_messages_always(terminal, streams):
    out, err = streams(terminal)
    with screens():
        print(ALL)
        print("a", ALL, sep="\n", end="", file=sys.stderr)
        sys.stdout.writelines([ALL, "\n"])
        with screens():  # as when a command calls another
            shell.say(f"b{ALL}\nc")
    assert (sys.stdout, sys.stderr) == (out, err)
    assert out.getvalue() == (2 * (visible(ALL) + "\n") if terminal else 2 * (ALL + "\n"))
    assert err.getvalue() == f"a\n{visible(ALL)}b{visible(ALL)}\\nc\n"


def test_a_message_may_write_over_the_line_before_it_and_data_may_not(streams):
    out, err = streams(True)
    with screens():
        for stream in (sys.stdout, sys.stderr):
            print("\rstep 1\rx", end="", file=stream)
            print("", end="", file=stream)
    assert out.getvalue() == "\\rstep 1\\rx"
    assert err.getvalue() == "\rstep 1\\rx"


@pytest.mark.parametrize("message", ["x" * 10**6, "\x1b" * 10**6, "é" * 1001, "\n" + "x" * 5000])
def test_a_message_is_one_bounded_line_that_keeps_its_end(message, streams):
    _, err = streams(False)
    shell.say(f"{message} (see --help)")
    shown = err.getvalue()
    assert shown.endswith(" (see --help)\n") and len(shown) <= shell.LONGEST + 50
    assert shown.count("\n") == 1 + message.startswith("\n") and " characters) ... " in shown


def test_a_message_that_fits_is_not_shortened(streams):
    _, err = streams(False)
    shell.say("x" * shell.LONGEST)
    assert err.getvalue() == "x" * shell.LONGEST + "\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(28, "No space left on device"), 1, "error: standard output: No space left on device\n"),
        (OSError(5, "Input/output error"), 1, "error: standard output: Input/output error\n"),
        (BrokenPipeError(32, "Broken pipe"), 0, ""),
    ],
)
def test_a_stdout_that_is_lost_is_told_once_unless_its_reader_left(error, code, said, streams):
    _, err = streams(False, out=error)
    assert main(["glossary", "keys"]) == code
    assert err.getvalue() == said


def test_a_broken_pipe_that_is_not_stdout_is_an_error(streams):
    _, err = streams(False)

    def run(argv):
        raise BrokenPipeError(32, "Broken pipe")

    assert shell.command(run)([]) == 1
    assert "Broken pipe" in err.getvalue()


@pytest.mark.parametrize("error", [OSError(28, "full"), BrokenPipeError(32, "gone"), OSError(5, "lost")])
def test_a_stderr_that_is_lost_stops_nothing(error, streams):
    out, _ = streams(False, err=error)
    assert main(["glossary", "keys"]) == 0
    assert "hook_k" in out.getvalue()
    assert main(["no such command"]) == 2


def test_a_screen_is_otherwise_the_stream_behind_it():
    stream = Stream(True)
    screen = Screen(stream, shows=True, messages=False)
    assert screen.isatty() and screen.write("\x1b") == 1
    with pytest.raises(AttributeError):
        screen.nothing_of_the_kind  # noqa: B018


# --- the commands, on a terminal -----------------------------------------------------------------


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """A folder with a name and a model of that name whose answer is made of what terminals obey."""
    text = "\x1b[31m\r\x08 \u202ex\u200b\x9b\n\tend"
    name = "m\x1b[2J\x9b\u202e\n\r\u200b"
    folder = tmp_path_factory.mktemp("evil") / name
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system has no such names")
    nanogpt_np.save(scripted_model([*Tokenizer().encode(text), 0]), folder)
    return folder, text


def test_an_answer_passes_through_a_pipe_as_it_is_and_not_on_a_terminal(evil, streams):
    folder, text = evil
    n = str(len(Tokenizer().encode(text)))
    for terminal in (False, True):
        out, err = streams(terminal)
        assert main(["generate", "a", "-n", n, "--model", str(folder)]) == 0
        assert out.getvalue() == (visible(text) if terminal else text) + "\n"
        assert harmless(err.getvalue()) and (terminal or err.getvalue().count("\n") == 1)
        assert r"m\x1b[2J\x9b\u202e\n\r\u200b" in err.getvalue()


def commands(folder):
    model = ["--model", str(folder)]
    return {
        "tables": ["generate", "\x1b", "-n", "2", "--top", "9", "--watch", "\x1b", *model],
        "trace": ["trace", "\x1b\u202e\u200b", *model],
        "json": ["generate", "\x7f\x1b\u202e", "-n", "1", "--json", *model],
        "inventory": ["inventory", str(folder)],
        "course": ["course", "new", f"{folder}/mine\x1b"],
        "glossary": ["glossary", f"keys{ALL}"],
        "model": ["generate", "a", "--model", f"{folder}{ALL}"],
        "flag": ["generate", "a", f"--{ALL}"],
        "choice": ["benchmark", "--rows", ALL],
        "number": ["trace", "a", "--head", ALL],
        "token": ["lens", "a", "--token", f"a{ALL[:-2]}", *model],
        "point": ["explain", "a", f"{ALL[:-2]}[1]", *model],
        "file": ["diff", f"{folder}{ALL}", "b"],
        "text": ["train", f"{folder}/{ALL}.txt", "--out", f"{folder}/out"],
        "command": [ALL],
        "assignment": ["course", "hint", ALL, "1"],
    }


@pytest.mark.parametrize("which", commands(""))
def test_no_command_shows_a_terminal_anything_raw(which, evil, streams):
    out, err = streams(True)
    assert main(commands(evil[0])[which]) in (0, 1, 2)
    for shown in (out.getvalue(), err.getvalue()):
        assert harmless(shown), ascii(shown)
    assert "\\x1b" in out.getvalue() + err.getvalue() or "\\u001b" in out.getvalue()
    if which == "json":
        assert json.loads(out.getvalue())["prompt"] == "\x7f\x1b\u202e"


@pytest.mark.parametrize("variable", ["NANOGPT_NP_HOME", "HF_HUB_CACHE", "HF_HOME"])
def test_a_folder_from_the_environment_is_shown_with_codes(variable, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("NANOGPT_NP_HOME", str(tmp_path))
    monkeypatch.setenv(variable, f"{tmp_path}/\x1b[31m\u202e")
    assert main(["generate", "a", "--model", "gpt2-xl"]) == 1
    err = capsys.readouterr().err
    assert r"\x1b[31m\u202e" in err and harmless(err) and err.count("\n") == 1


def on_a_terminal(*arguments, typed=b"", env=None):
    """Run a command whose three streams are a terminal -> (exit code, what it shows)"""
    pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    screen, inside = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": ROOT, "TERM": "dumb", **(env or {})}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "nanogpt_np", *arguments],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env=environment,
    )
    os.close(inside)
    os.write(screen, typed)
    shown = b""
    with contextlib.suppress(OSError):  # Linux says so when the other side is closed
        while part := os.read(screen, 65536):
            shown += part
    os.close(screen)
    return process.wait(timeout=60), shown.decode("utf-8").replace("\r\n", "\n")


def test_a_real_terminal_gets_codes_and_its_own_line_ends(evil):
    folder, text = evil
    code, shown = on_a_terminal("generate", "a", "-n", "99", "--model", str(folder))
    assert code == 0 and harmless(shown)
    assert visible(text) in shown and r"m\x1b[2J\x9b\u202e\n\r\u200b" in shown


def test_a_walk_in_a_real_terminal_answers_with_codes(evil):
    folder, _ = evil
    typed = b"x\xc2\x9b2J\xe2\x80\xae\nt 3\nq\n"
    code, shown = on_a_terminal("trace", "a", "--step", "--model", str(folder), typed=typed)
    assert code == 0
    assert r"'x\x9b2J\u202e' is not a command" in shown
    answers = [line for line in shown.split("\n") if not line.startswith(("> ", "x"))]  # what is typed is echoed
    assert harmless("\n".join(answers))


def test_progress_in_a_real_terminal_still_writes_over_its_line(tmp_path):
    (tmp_path / "text.txt").write_text("some words to learn\n" * 40, encoding="utf-8")
    sizes = ["--layers", "1", "--heads", "1", "--width", "4", "--context", "8", "--batch-size", "2", "--steps", "3"]
    code, shown = on_a_terminal("train", str(tmp_path / "text.txt"), "--out", str(tmp_path / "out"), *sizes)
    assert code == 0
    assert "\rstep 2/3  loss " in shown and "\\r" not in shown


def test_what_a_student_prints_shows_as_codes_and_the_folder_too(tmp_path):
    pytest.importorskip("pty", reason="no pseudo-terminals on this system")
    folder = tmp_path / "m\x1b[31m\u202eé"
    assert main(["course", "new", str(folder)]) == 0
    stub = (folder / "a4_mlp.py").read_text(encoding="utf-8")
    (folder / "a4_mlp.py").write_text(f"print({ALL!r})\nraise ValueError({ALL!r})\n{stub}", encoding="utf-8")
    code, shown = on_a_terminal("course", "grade", str(folder), "a4")
    assert code == 1 and harmless(shown)
    assert r"\x1b[31m" in shown and r"\u202egnp" in shown
    code, shown = on_a_terminal("course", "grade", str(folder), "a4", "--json")
    assert harmless(shown) and json.loads(shown)["tests"]


def test_numbers_are_not_changed_by_a_screen(streams):
    out, _ = streams(True)
    with screens():
        print(np.float32(1.5), 3, None, "x", sep="|")
    assert out.getvalue() == "1.5|3|None|x\n"


# --- colors and width ----------------------------------------------------------------------------


@pytest.fixture
def colors(monkeypatch):
    """Have terminals that show colors, whatever the tests run in."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("WT_SESSION", "yes")  # Windows
    monkeypatch.delenv("NO_COLOR", raising=False)


PAINTED = {"number": "+1.5", "nothing": "", "two lines": "two\nlines", "all": ALL, "fake": "\x1b[31mfake\x1b[0m"}
PAINTED |= {"start of a mark": MARK[:-2], "end of a mark": MARK[2:]}  # another one in every process


@pytest.mark.parametrize("text", PAINTED.values(), ids=PAINTED)
@pytest.mark.parametrize("style", [RED, GREEN, "30;46"])
def test_only_painted_text_gets_a_color_and_nothing_else_in_it_reaches_the_terminal(text, style, colors, streams):
    out, _ = streams(True)
    with screens():
        print(f"{text}{painted(text, style)}{text}")
        sys.stdout.paint(text, style)
    shown = visible(text)
    colored = f"\x1b[{style}m{shown}\x1b[0m"
    assert out.getvalue() == f"{shown}{colored}{shown}\n{colored}"


@pytest.mark.parametrize(
    ("terminal", "env"),
    [(False, {}), (True, {"NO_COLOR": "1"}), (True, {"NO_COLOR": "0"}), (True, {"TERM": "dumb", "WT_SESSION": None})],
)
def test_a_pipe_no_color_and_a_dumb_terminal_get_no_color(terminal, env, colors, streams, monkeypatch):
    for name, value in env.items():
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name)
    out, err = streams(terminal)
    with screens():
        print(painted("a", RED))
        sys.stdout.paint("b", RED)
        print(painted("c", RED), file=sys.stderr)
    assert (out.getvalue(), err.getvalue()) == ("a\nb", "c\n")


def test_an_empty_no_color_and_no_color_for_a_text(colors, streams, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "")  # https://no-color.org: "when present and not an empty string"
    out, _ = streams(True)
    with screens():
        print(painted("a", RED), painted("b", None))
    assert out.getvalue() == "\x1b[31ma\x1b[0m b\n"
    assert painted("a", RED) == "a"  # outside of a command nothing is painted


@pytest.mark.parametrize(
    ("given", "wide"), [("40", 40), ("80", 80), ("200", 200), ("7", 20), ("0", 80), ("-3", 80), ("x", 80), ("", 80)]
)
def test_columns_holds_without_a_terminal_too(given, wide, monkeypatch):
    monkeypatch.setattr(sys, "__stdout__", Stream(False))
    monkeypatch.setenv("COLUMNS", given)
    assert columns() == wide
    monkeypatch.delenv("COLUMNS")
    assert columns() == 80
