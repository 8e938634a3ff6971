"""What the pages show is what happens: every command and every line of Python in README.md and docs/ runs here.

A page runs from top to bottom in one folder: its ``console`` commands in a shell, its ``python`` blocks as one session.
Shown output is compared, where ``...`` stands for anything. What cannot run here is in `NOT_RUN`, each with its reason
and with what is checked instead. docs/points.md is made by a command (test_glossary.py); the commands of COURSE.md run
in test_course_page.py.
"""

import argparse
import ast
import contextlib
import importlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import nanogpt_np
from nanogpt_np.__main__ import COMMANDS, main
from nanogpt_np.bench.report import markdown, sizes
from nanogpt_np.generate.loop import generate
from nanogpt_np.model.config import Config
from nanogpt_np.names.parameters import count, table
from nanogpt_np.names.sizes import PUBLISHED
from nanogpt_np.weights.assembly import assemble
from nanogpt_np.weights.pins import PINS

ROOT = Path(__file__).parent.parent
MADE = ROOT / "docs" / "points.md"  # by a command, and tested with it
DOCS = sorted(set(ROOT.glob("docs/*.md")) - {MADE})
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in [ROOT / "README.md", *DOCS]}
PAGES["CONTRIBUTING.md"] = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
LINKED = PAGES | {"COURSE.md": (ROOT / "COURSE.md").read_text("utf-8")}
README, PERFORMANCE, MAP = (PAGES[name] for name in ("README.md", "docs/performance.md", "docs/map.md"))
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
every_page = pytest.mark.parametrize("page", PAGES)
LONGEST = 8000  # bytes of the README
needs_a_shell = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def blocks(page):
    """Return (language, text) of every code block of a page, in order."""
    return FENCE.findall(PAGES[page])


def transcripts(block):
    """Yield (command, lines shown under it) for every ``$`` line of a console block."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *lines = part.rstrip("\n").split("\n")
        yield command, lines


COMMAND_LINES = [
    (page, command, lines)
    for page in PAGES
    for language, block in blocks(page)
    if language == "console"
    for command, lines in transcripts(block)
]


# --- commands that are not run -------------------------------------------------------------------


class Parsed(BaseException):
    """Raised once a command line is parsed, before anything is done with it; no command catches it."""


@contextlib.contextmanager
def instead_of_parsing(monkeypatch, what):
    with monkeypatch.context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_args", what)
        yield


def words_of(command):
    """Return the words of one command: no assignments in front, nothing from a pipe or a redirection on."""
    words = shlex.split(re.split(r"\s(?:2?>|\|)", command)[0])
    while "=" in words[0]:
        words.pop(0)
    return words


def arguments_of(command):
    """Return the arguments for `main` of a ``python -m nanogpt_np`` command."""
    words = words_of(command)
    assert words[0] in ("python", "python3", "py") and words[1] == "-m", command
    package, _, name = words[2].partition(".")
    assert package == "nanogpt_np", command
    return [*([name] if name else []), *words[3:]]


def parses(command, monkeypatch):
    """Check that a command of the package has a valid command line."""
    real = argparse.ArgumentParser.parse_args

    def parse_and_stop(self, args=None, namespace=None):
        real(self, args, namespace)
        raise Parsed

    with instead_of_parsing(monkeypatch, parse_and_stop), pytest.raises(Parsed):
        main(arguments_of(command))


def names_extras(command, monkeypatch):
    """Check that the extras that are installed exist, and the files."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    for extra in re.findall(r"\.\[([\w,]+)\]", command):
        for one in extra.split(","):
            assert re.search(rf"^{one} = \[", project, re.MULTILINE), f"{command}: there is no extra {one}"


def names_models(command, monkeypatch):
    """Check that what is downloaded is pinned."""
    known = {*PINS, *(pin.repo for pin in PINS.values())}
    named = [word for word in words_of(command) if re.search("gpt2", word)]
    assert named and set(named) <= known, command


def names_files(command, monkeypatch):
    """Check that the files and folders exist that a command is given."""
    for word in words_of(command):
        if re.fullmatch(r"(tests|nanogpt_np|notebooks|\.ci)[\w./]*|[\w./]+\.sh", word):
            assert (ROOT / word).exists(), f"{command}: there is no {word}"


def names_markers(command, monkeypatch):
    """Check that the markers exist that tests are chosen by, and the files."""
    names_files(command, monkeypatch)
    for marker in re.findall(r"-m \"?([\w ]+)", command):
        assert set(re.split(" or ", marker.strip())) <= set(markers()), command


def anything(command, monkeypatch):
    """Check nothing: the command is not ours."""


def markers():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    return re.findall(r'^  "(\w+): ', project.partition("markers = [")[2].partition("]\n")[0], re.MULTILINE)


@dataclass(frozen=True)
class NotRun:
    """Commands that are not run here."""

    pattern: str  # of the beginning of the command
    reason: str
    check: Callable  # (command, monkeypatch): what is checked instead


OURS = r"(\w+=\w+ )?python3? -m nanogpt_np[ .]"
GPT2 = "needs the weights of gpt2; pytest -m weights runs it"
NOT_RUN = [
    NotRun(r"(sudo )?apt(-get)? ", "installs", anything),
    NotRun(r"(\S*python3?|py) -m venv |\. \S*activate|\S*Activate\.ps1", "sets up an environment", anything),
    NotRun(r"((\S*python3?|py) -m )?pip install ", "installs", names_extras),
    NotRun(r"git ", "changes a repository", anything),
    NotRun(r"cd ", "goes into a folder that is not there", anything),
    NotRun(r"\./weights\.sh \w", "downloads", names_models),
    NotRun(r"hf download ", "downloads", names_models),
    NotRun(r"jupyter ", "opens a browser", names_files),
    NotRun(r"chromium ", "needs a browser", anything),
    NotRun(r"pre-commit ", "needs pre-commit", anything),
    NotRun(r"pytest\b", "runs the tests, of which this is one", names_markers),
    NotRun(r"(ruff|shellcheck|mypy) ", "runs in another step of .ci/run", names_files),
    NotRun(r"\.ci/", "runs the tests, of which this is one", names_files),
    NotRun(OURS + r"benchmark (?!--table)", "takes minutes", parses),
    NotRun(OURS + r"train .*my-text\.txt", "there is no such text", parses),
    NotRun(OURS + r"train --recipe", "takes a quarter of an hour", parses),
    NotRun(OURS + r".*--model gpt2( |$)", GPT2, parses),
]


def not_run(command):
    """Return the entry of `NOT_RUN` that a command belongs to, or None if it is run."""
    return next((entry for entry in NOT_RUN if re.match(entry.pattern, command)), None)


# --- comparing what is shown with what is printed ------------------------------------------------

NUMBER = r"-?\d+\.\d+(?:e[-+]?\d+)?"


def near(a, b, relative=1e-4, absolute=2e-4):
    return abs(float(a) - float(b)) <= relative * abs(float(a)) + absolute


def alike(shown, printed):
    """Compare two lines: words exactly, numbers up to the rounding of another processor, ``...`` with anything."""
    for kind in TRAINING:
        if (a := re.fullmatch(kind, shown)) and (b := re.fullmatch(kind, printed)):
            losses = ("loss" in name and near(a[name], b[name], 0.2, 0.15) for name in a.groupdict())
            return a[1] == b[1] and all(losses)
    shown, printed = (re.sub(r"they agree to [\d.]+ digits", "they agree", line) for line in (shown, printed))
    if re.sub(NUMBER, "#", shown).split() == re.sub(NUMBER, "#", printed).split():
        pairs = zip(re.findall(NUMBER, shown), re.findall(NUMBER, printed), strict=True)
        return all(near(a, b) for a, b in pairs)
    return "..." in shown and re.fullmatch(".*".join(map(re.escape, shown.split("..."))), printed) is not None


TRAINING = [  # what another processor, another load of the machine or another kind of rounding changes
    r"(step \d+/\d+)  loss (?P<loss>[\d.]+) nats/token  [\d,]+ tokens/s  \d+:\d\d left",
    r"(  held-out) loss (?P<loss>[\d.]+) nats/token",
    r"([\d,]+ parameters, .*), [\d,]+ tokens/s expected, \d+:\d\d in all",
    r"( *)(?P<loss>\d+\.\d\d) ┤.*",  # its curve
    r"( *│).*",
    r'(\{"step": \d+), "loss": (?P<loss>[\d.]+), "lr": [\d.e-]+, "tokens_per_second": [\d.]+, '
    r'"held_out_loss": (?P<held_out_loss>[\d.]+)\}',
    r"(  \"Beautiful is).*",  # a sample on the way
]


def mismatch(shown, printed):
    """Return the first run of shown lines that is not among the printed ones, or None; ``...`` is any lines."""
    runs, at = [[]], 0
    for line in shown:
        if line == "...":
            runs.append([])
        else:
            runs[-1].append(line)
    for n, run in enumerate(runs):
        first, last = n == 0, n == len(runs) - 1
        places = range(at, len(printed) - len(run) + 1)
        if first:
            places = [0] if len(printed) >= len(run) else []
        if last:  # it ends where the output does
            places = [place for place in places if not run or place + len(run) == len(printed)]
            places = places if len(runs) > 1 or len(run) == len(printed) else []
        for place in places:
            if all(alike(a, b) for a, b in zip(run, printed[place : place + len(run)], strict=True)):
                at = place + len(run)
                break
        else:
            return run
    return None


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a b", "a b", True),
        ("a\n...\nd", "a\nb\nc\nd", True),
        ("a\n...\nc", "a\nb\nc\nd", False),
        ("...\nc\n...", "a\nb\nc\nd", True),
        ("...\nc\nb\n...", "a\nb\nc\nd", False),
        ("a\n...", "b\na", False),
        ("a", "a\nb", False),
        ("", "a", False),
        ("...", "", True),
        ("x 1.0001", "x  1.0002", True),
        ("x 1.01", "x 1.02", False),
        ("a (in ...): b", "a (in c): b", True),
        ("a ... b", "a c", False),
        ("step 5/9  loss 4.00 nats/token  9 tokens/s  0:01 left", "step 5/9  loss 4.10 nats/token  1,000 tokens/s  "
         "1:00 left", True),
        ("step 5/9  loss 4.00 nats/token  9 tokens/s  0:01 left", "step 5/9  loss 8.00 nats/token  9 tokens/s  "
         "0:01 left", False),
        ("step 5/9  loss 4.00 nats/token  9 tokens/s  0:01 left", "step 6/9  loss 4.00 nats/token  9 tokens/s  "
         "0:01 left", False),
    ],
)  # fmt: skip
def test_shown_lines_are_compared_as_said(shown, printed, same):
    assert (mismatch(shown.splitlines(), printed.splitlines()) is None) == same


# --- running a page ------------------------------------------------------------------------------


class Desk:
    """A folder in which a page runs, with what a clone has that its commands use."""

    def __init__(self, folder):
        self.folder, programs = folder / "page", folder / "programs"
        self.folder.mkdir()
        programs.mkdir()
        for name in ("python", "python3"):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
            (programs / name).chmod(0o755)
        shutil.copytree(ROOT / "docs", self.folder / "docs")  # a copy: a page may write into it
        shutil.copy(ROOT / "weights.sh", self.folder)
        (folder / "no-models").mkdir()
        self.environment = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "NANOGPT_NP_HOME": str(folder / "no-models"),
            "HF_HUB_CACHE": str(folder / "no-models"),
            "OPENBLAS_NUM_THREADS": "1",
        }

    def shell(self, command, lines):
        """Run a command and compare what it prints, if that is shown: on stdout, or on both streams."""
        options = {"capture_output": True, "text": True, "timeout": 100, "encoding": "utf-8"}
        done = subprocess.run(["bash", "-c", command], cwd=self.folder, env=self.environment, check=False, **options)
        assert done.returncode in (0, 1) and "Traceback" not in done.stderr, (command, done.stderr)
        assert "error:" not in done.stderr or "error:" in "\n".join(lines), (command, done.stderr)
        printed = [text.splitlines() for text in (done.stdout, done.stderr + done.stdout)]
        wrong = [mismatch([line.rstrip() for line in lines], [line.rstrip() for line in text]) for text in printed]
        for name in re.findall(r"--html (\S+)", command):
            assert (self.folder / name).read_text("utf-8").startswith("<!DOCTYPE html>"), command
        if lines and None not in wrong:
            pytest.fail(f"$ {command}\nshown:\n{chr(10).join(wrong[0])}\nprinted:\n{done.stderr}{done.stdout}")


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def stand_in(folder):
    """Write a small GPT-2 that stands in for gpt2: its vocabulary, context, 12 heads; 24 columns, 2 blocks."""
    config = Config(n_embd=24, n_layer=2)
    rng = np.random.default_rng(0)
    params = {name: rng.normal(0, 0.1, p.shape(config)).astype(np.float32) for name, p in table(config).items()}
    nanogpt_np.save(assemble(config, params), folder / "gpt2")


WIDTHS = {24: 768, 48: 1536, 72: 2304, 96: 3072}  # of the stand-in and of gpt2
VALUE = re.compile(r"# *(\([^()]*\)|\[[^\[\]]*\]|\"[^\"]*\"|-?[\d,]+(?:\.\d+)?|True|False|None)(?=[\s;,.:]|$)")


def python(code, names):
    """Run a block statement by statement; a comment that begins with a value says what the statement gives.

    Of an array a tuple is the shape. Return how many such comments were checked.
    """
    comments = {t.start[0]: t.string for t in tokenize.generate_tokens(io.StringIO(code).readline)
                if t.type == tokenize.COMMENT}  # fmt: skip
    checked = 0
    for node in ast.parse(code).body:
        value = None
        if isinstance(node, ast.Expr):
            value = eval(compile(ast.Expression(node.value), "page", "eval"), names)
        else:
            exec(compile(ast.Module([node], []), "page", "exec"), names)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                value = names[node.targets[0].id]
        found = VALUE.match(comments.get(node.end_lineno, ""))
        if found and value is not None:
            claim = ast.literal_eval(found[1].replace(",", "") if found[1][0] in "-0123456789" else found[1])
            assert says(claim, value), f"{ast.unparse(node)} gives {getattr(value, 'shape', value)}, not {claim}"
            checked += 1
    return checked


def says(claim, value):
    """Return whether a value is what a comment claims."""
    if isinstance(value, np.ndarray) and isinstance(claim, tuple):
        shape = tuple(value.shape)
        return claim in (shape, tuple(WIDTHS.get(n, n) for n in shape))
    if isinstance(claim, float):
        return near(claim, value, 1e-3, 1e-4)
    return value == claim


@needs_a_shell
@every_page
def test_a_page_does_what_it_shows(page, desk, tmp_path, monkeypatch):
    home = tmp_path / "models"
    if any(language == "python" and '"gpt2"' in code for language, code in blocks(page)):
        stand_in(home)
    monkeypatch.setenv("NANOGPT_NP_HOME", str(home))
    monkeypatch.setenv("HF_HUB_CACHE", str(home))
    monkeypatch.chdir(desk.folder)
    names, printed, checked = {"__name__": "page"}, None, 0
    for language, block in blocks(page):
        if language == "console":
            for command, lines in transcripts(block):
                run_what_can_be(command, lines, desk, monkeypatch)
        elif language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                checked += python(block, names)
            printed = stream.getvalue()
        elif language == "text":
            assert printed is not None, f"{page}: what printed this?\n{block}"
            wrong = mismatch(block.splitlines(), printed.splitlines())
            assert wrong is None, (page, wrong, printed)
            printed = None
        else:
            assert language == "powershell", f"{page}: no block is of {language or 'no language'}"
            for command in re.split(r";|\n", block):
                if re.search(r"-m nanogpt_np", command):
                    parses(re.sub(r"^\s*\S+", "python", command.strip()), monkeypatch)
    assert checked or not [code for language, code in blocks(page) if language == "python" and "# " in code]


def run_what_can_be(command, lines, desk, monkeypatch):
    """Run a command, but for those of its parts, joined by ``&&``, that `NOT_RUN` has; check those otherwise."""
    run = []
    for part in command.split(" && "):
        entry = not_run(part)
        if entry:
            entry.check(part, monkeypatch)
        else:
            run.append(part)
    if run:
        desk.shell(" && ".join(run), lines)


def test_every_reason_not_to_run_a_command_is_needed():
    """But for those that only the README, rewritten more often, may have."""
    used = {not_run(part) for _, command, _ in COMMAND_LINES for part in command.split(" && ")}
    often = ("apt", "venv", "git", "cd ", "my-text")
    unused = [e.pattern for e in NOT_RUN if e not in used and not any(word in e.pattern for word in often)]
    assert unused == []


@pytest.mark.weights
def test_gpt2_says_what_the_pages_show():
    shown = [(command, lines) for _, command, lines in COMMAND_LINES if lines and (e := not_run(command)) and
             e.reason == GPT2]  # fmt: skip
    assert shown
    try:
        model = nanogpt_np.load("gpt2")
    except ValueError as error:
        pytest.skip(str(error))
    tok = nanogpt_np.Tokenizer()
    for command, lines in shown:
        name, *words = arguments_of(command)
        assert (name, words[:2]) == ("generate", ["--model", "gpt2"]) and len(words) == 3, command
        assert tok.decode(generate(model, tok.encode(words[2]), 20)).splitlines() == lines


# --- what the text names -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flags():
    """``{command: its flags}``, those of subcommands among them."""
    found = {}

    def look(self, args=None, namespace=None):
        for name in list(waiting):
            found[name] = set(_flags(self))
        raise Parsed

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(argparse.ArgumentParser, "parse_args", look)
        for name in COMMANDS:
            waiting = [name]
            with contextlib.suppress(Parsed):
                main([name])
    assert found.keys() == COMMANDS.keys()
    return found


def _flags(parser):
    yield from parser._option_string_actions
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _flags(sub)


FOREIGN = {"--dist", "--cov", "--fix", "--check", "--version"}  # of pytest, ruff and of the package itself


def prose(text):
    """Return a page without its code blocks and comments."""
    return FENCE.sub("", re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL))


def in_code(text):
    """Return what stands in backticks in the text of a page."""
    return re.findall(r"`([^`\n]+)`", prose(text))


@every_page
def test_every_flag_that_a_page_names_exists(page, flags):
    weights = set(re.findall(r"--[a-z]+", (ROOT / "weights.sh").read_text("utf-8").partition("END")[2][:700]))
    every = set().union(*flags.values(), weights, FOREIGN)
    for span in in_code(PAGES[page]):
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span):
            name = re.sub(r"^python3? -m nanogpt_np[ .]", "", span).split()[0]
            assert flag in flags.get(name, every), f"{page}: `{span}`"


@every_page
def test_every_name_of_the_package_that_a_page_names_exists(page):
    for span in in_code(PAGES[page]):
        for dotted in re.findall(r"(?<![\w/-])nanogpt_np(?:\.[a-zA-Z_]\w*)+", span):
            found, parts = nanogpt_np, dotted.split(".")[1:]
            for n, part in enumerate(parts, 1):
                if not hasattr(found, part):
                    importlib.import_module(".".join(["nanogpt_np", *parts[:n]]))
                found = getattr(found, part)


@every_page
def test_every_file_that_a_page_names_exists(page):
    for span in in_code(PAGES[page]):
        if re.fullmatch(r"[\w./-]+\.(py|md|sh|toml|cff|yaml)", span) and "N" not in span and "NAME" not in span:
            folders = (ROOT, ROOT / "nanogpt_np", ROOT / "tests", ROOT / "nanogpt_np" / "course", (ROOT / page).parent)
            assert any((folder / span).exists() for folder in folders), f"{page}: `{span}`"


def anchors(text):
    """Return the anchors of a page: those of its headings, as GitHub makes them, and those that it sets itself."""
    found = set(re.findall(r'<a id="(.*?)"', text))
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return found


@pytest.mark.parametrize("page", ["COURSE.md", *PAGES])
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", LINKED[page]))
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        if link.startswith("https://"):
            continue
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        assert not anchor or anchor in anchors(target.read_text("utf-8")), f"{page}: {link}"


def test_every_page_is_in_the_index_and_the_index_in_the_readme():
    index = set(re.findall(r"\]\(([^)#]+)\)", PAGES["docs/README.md"]))
    assert index >= {path.name for path in [*DOCS, MADE] if path.name != "README.md"} | {"../COURSE.md"}
    assert "](docs/README.md)" in README or "](docs)" in README or len(README.encode()) > LONGEST


def test_every_picture_has_its_command():
    commands = " ".join(command for _, command, _ in COMMAND_LINES)
    for page, text in PAGES.items():
        for picture in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text):
            assert (ROOT / page).parent.joinpath(picture).is_file() and Path(picture).name in commands, picture


# --- how it is said ------------------------------------------------------------------------------


def sentences(text):
    """Return the sentences of a page; code counts as one word, tables, headings and printed blocks not at all."""
    text = re.sub(r"<!-- printed by: .*?<!-- end -->", "", text, flags=re.DOTALL)
    text = re.sub(r"^(#|\|).*$", "", prose(text), flags=re.MULTILINE)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]+`", "CODE", text)
    for paragraph in re.split(r"\n\s*\n|^\s*(?:[-*]|\d+\.) ", text, flags=re.MULTILINE):
        yield from re.split(r"(?<=[.!?])[\"')*]*\s+(?=[\"'(*]*[A-Z0-9])", " ".join(paragraph.split()))


def test_sentences_are_told_apart():
    text = "# No\n\nOne `a. b. c` is [two three](x.md). Three\nfour!\n\n- Five: six\n- Seven.\n\n| no |\n"
    text += "```text\nno\n```\n"
    assert [s for s in sentences(text) if s] == ["One CODE is two three.", "Three four!", "Five: six", "Seven."]


@every_page
def test_no_sentence_has_more_than_30_words(page):
    long = [sentence for sentence in sentences(PAGES[page]) if len(sentence.split()) > 30]
    assert long == []


def test_the_readme_has_at_most_8000_bytes():
    assert len(PAGES["README.md"].encode()) <= LONGEST


# --- figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "command", "shown"),
    [
        (page, *found)
        for page, text in PAGES.items()
        for found in re.findall(r"<!-- printed by: (.*?) -->\n\n(.*?)\n\n<!-- end -->", text, re.DOTALL)
    ],
)
def test_a_table_is_what_its_command_prints(page, command, shown, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert main(arguments_of(command)) == 0
    assert capsys.readouterr().out == shown + "\n", f"{page}: print it again with {command}"


def test_the_page_on_performance_has_the_tables_of_what_was_measured():
    files = {path.stem: path for path in (ROOT / "docs" / "benchmark").glob("*.json")}
    results = {name: json.loads(path.read_text("utf-8")) for name, path in files.items()}
    assert set(results) == {"gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"}
    assert markdown(results["gpt2"]) in PERFORMANCE
    assert sizes([results[name] for name in PUBLISHED if name in results]) in PERFORMANCE


def test_the_figures_about_gpt2_are_the_published_ones():
    published = json.loads((ROOT / "tests" / "reference" / "gpt2_published.json").read_text("utf-8"))
    france, shot = published["capital_of_france"], published["few_shot"]
    (second,) = re.findall(r"says \" Paris\" with ([\d.]+) %", " ".join(PAGES["docs/weights.md"].split()))
    (first,) = re.findall(r"ranks \" Paris\" fifth, at ([\d.]+) %", " ".join(PAGES["docs/weights.md"].split()))
    assert france["paris"]["rank_counting_from_1"] == 5
    assert float(first) == round(100 * france["paris"]["probability"], 1)
    assert second in {f"{100 * p:.1f}" for p in numbers_in(shot)}
    assert nanogpt_np.Tokenizer().encode("The capital of France is") == france["ids"] == [464, 3139, 286, 4881, 318]
    names = ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")
    tensors = [len(table(PUBLISHED[name])) for name in names]
    assert "{}, {}, {} and {} tensors".format(*tensors) in PAGES["docs/weights.md"]
    assert all(len(table(PUBLISHED[n])) == 12 * PUBLISHED[n].n_layer + 4 for n in names)
    assert PUBLISHED["gpt2"].head_width == 64 and PUBLISHED["gpt2"].n_head == 12
    assert count(PUBLISHED["gpt2"]) == 124_439_808
    for page in ("README.md", "docs/weights.md"):  # the README may repeat some of them
        about = " ".join(line for line in PAGES[page].splitlines() if '" Paris"' in line and "98." not in line)
        assert set(re.findall(r"([\d.]+) %", about)) <= {first, second, "70"}, about


def numbers_in(data):
    """Yield every number in nested lists and dicts."""
    if isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from numbers_in(value)
    elif isinstance(data, float):
        yield data


# --- the map, and the files beside it ------------------------------------------------------------


def test_every_room_of_the_package_is_in_the_map_in_the_order_of_its_docstring():
    rooms = re.findall(r"^\| \[(\w+)/\]\(\.\./nanogpt_np/(\w+)\) \| .+ \|$", MAP, re.MULTILINE)
    assert all(shown == linked for shown, linked in rooms)
    names = [name for name, _ in rooms]
    assert sorted(names) == sorted(path.parent.name for path in (ROOT / "nanogpt_np").glob("*/__init__.py"))
    in_docstring = re.findall(r"(?:^ {4}|\S {2,})([a-z]+) {2,}(?=\S)", nanogpt_np.__doc__, re.MULTILINE)
    assert names == in_docstring


def test_the_floors_of_the_map_are_those_that_are_tested():
    from test_house import FLOOR

    floors = re.findall(r"^\| \[(\w+)/\].* \| (\d+) \|$", MAP, re.MULTILINE)
    numbered = {floor: n for n, floor in enumerate(sorted({FLOOR[name] for name, _ in floors}), 1)}
    assert {name: int(n) for name, n in floors} == {name: numbered[FLOOR[name]] for name, _ in floors}


def test_every_file_of_the_model_is_in_the_reading_order():
    linked = re.findall(r"^(?:\d+\. )?\[(\w+)\]\(\.\./nanogpt_np/model/(\w+)\.py\)", MAP, re.MULTILINE)
    assert all(shown == file for shown, file in linked)
    files = [file for _, file in linked]
    assert sorted(files) == sorted(
        path.stem for path in (ROOT / "nanogpt_np/model").glob("*.py") if path.stem[0] != "_"
    )
    assert files == re.findall(r"`([a-z0-9_]+)`", nanogpt_np.model.__doc__)


def test_the_page_for_contributors_names_every_kind_of_test():
    for marker in markers():
        assert f"-m {marker}" in PAGES["CONTRIBUTING.md"], marker


def test_the_citation_has_the_version_and_invents_nobody():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    fields = dict(re.findall(r"^([a-z-]+): *\"?(.*?)\"?$", citation, re.MULTILINE))
    assert fields["cff-version"] == "1.2.0" and fields["license"] == "MIT"
    assert fields["version"] == nanogpt_np.__version__
    released = re.findall(rf"^## \[?{re.escape(nanogpt_np.__version__)}\]? - (\S+)$",
                          (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)  # fmt: skip
    assert released == [fields[name] for name in ("date-released",) if name in fields]
    assert re.findall(r"^  - (.*)$", citation, re.MULTILINE)[0] == 'name: "The nanogpt_np contributors"'
    assert not re.search(r"https?:|doi|@|orcid", citation)


def test_the_hooks_before_a_commit_are_local_and_run_what_is_there():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    assert re.findall(r"^ *- repo: (.*)$", hooks, re.MULTILINE) == ["local"]
    entries = re.findall(r"^ *entry: (.*)$", hooks, re.MULTILINE)
    assert [entry.split()[0] for entry in entries] == ["ruff", "ruff", "shellcheck", ".ci/lint-js", "pytest"]
    for word in " ".join(entries).split():
        assert "/" not in word or (ROOT / word).exists(), word
