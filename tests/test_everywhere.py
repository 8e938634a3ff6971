"""What differs between systems: modules that Windows lacks, encodings, how its files and clocks behave.

These tests imitate another system on this one. What they cannot imitate was read through only.
"""

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

import nanogpt_np
from nanogpt_np.weights.places import find, hub_folder

ROOT = Path(__file__).parent.parent
PACKAGE = Path(nanogpt_np.__file__).parent
PROMPT = "The capital of France is"
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if "stubs" not in path.parts
)
WITHOUT_POSIX = """
    import os, signal, sys
    import numpy  # asks for os.uname where it was built for Linux
    for name in ("fcntl", "grp", "posix_ipc", "pwd", "readline", "resource", "syslog", "termios", "tty"):
        sys.modules[name] = None  # importing it raises ModuleNotFoundError
    for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "SIGWINCH", "alarm", "setitimer"):
        if hasattr(signal, name):
            delattr(signal, name)
    for name in ("fork", "geteuid", "getpgid", "getuid", "killpg", "mkfifo", "register_at_fork", "setsid",
                 "sched_getaffinity", "uname"):
        if hasattr(os, name):
            delattr(os, name)
"""


def python(*arguments, code=None, **environment):
    """Run Python in the repository; return the finished process. Bytes that are not UTF-8 become U+FFFD."""
    command = [sys.executable, *arguments, *(["-c", textwrap.dedent(code)] if code else [])]
    how = {"capture_output": True, "encoding": "utf-8", "errors": "replace", "timeout": 120}
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, **how)


def test_every_module_imports_without_the_modules_and_functions_that_windows_lacks():
    imports = "\n".join(f"import {name}" for name in MODULES if not name.endswith("__main__"))
    done = python(code=textwrap.dedent(WITHOUT_POSIX) + imports)
    assert done.returncode == 0, done.stderr
    assert len(MODULES) > 100


@pytest.mark.parametrize(
    "command",
    [
        ["generate", PROMPT, "--model", "facts"],
        ["trace", PROMPT, "--model", "facts", "--only", "attn", "--block", "1"],
        ["lens", PROMPT, "--model", "facts", "--token", " Paris"],
        ["inventory", "facts"],
        ["glossary", "keys"],
    ],
    ids=lambda command: command[0],
)
def test_a_command_runs_without_what_windows_lacks(command):
    code = textwrap.dedent(WITHOUT_POSIX) + textwrap.dedent(
        f"""
        from nanogpt_np.__main__ import main
        sys.exit(main({command!r}))
        """
    )
    done = python(code=code)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize(
    "command",
    [
        ["generate", PROMPT, "--model", "facts"],
        ["trace", PROMPT, "--model", "facts", "--html", "{tmp}/page.html", "--save", "{tmp}/acts.npz"],
        ["explain", PROMPT, "blocks.2.attn.hook_pattern[3, 4, 3]", "--model", "facts"],
        ["inventory", "facts"],
        ["train", "{tmp}/text.txt", "--out", "{tmp}/out", "--steps", "2", "--context", "8", "--width", "8"],
        ["course", "new", "{tmp}/mine"],
    ],
    ids=lambda command: command[0],
)
def test_no_file_is_opened_in_the_encoding_of_the_system(command, tmp_path):
    (tmp_path / "text.txt").write_text("Größe und Maß. " * 40, encoding="utf-8")
    command = [word.format(tmp=tmp_path) for word in command]
    strict = ["-X", "warn_default_encoding", "-W", "error::EncodingWarning:nanogpt_np"]
    done = python(*strict, "-m", "nanogpt_np", *command)
    assert "EncodingWarning" not in done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "latin-1"])
def test_a_console_of_few_letters_shows_the_others_escaped(encoding):
    command = ["-m", "nanogpt_np", "trace", "naïve 東京 😀", "--model", "facts", "--only", "embed"]
    done = python(*command, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_in_the_cache_of_a_hub_without_links_is_found(tmp_path, monkeypatch):
    # Where links are not allowed, as on most Windows machines, the snapshot holds the files themselves.
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("NANOGPT_NP_HOME", str(tmp_path / "none"))
    revision = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
    snapshot = tmp_path / "models--openai-community--gpt2" / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(revision, encoding="utf-8")
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_bytes(b"{}")
    assert hub_folder() == tmp_path
    assert find("gpt2") == snapshot
    assert find("openai-community/gpt2") == snapshot


def test_the_lowest_versions_are_plain_and_the_highest_python_is_open():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires-python = ">=3.10"' in text  # and no upper bound: newer ones have wheels of all three
    (line,) = [line for line in text.splitlines() if line.startswith("dependencies = ")]
    wanted = [part.strip(' "') for part in line.partition("[")[2].rstrip("]").split(",")]
    assert [part.partition(">=")[0] for part in wanted] == ["numpy", "safetensors", "tiktoken"]
    assert not [part for part in wanted if any(sign in part for sign in ("<", "==", "~=", "!="))]


def test_shell_scripts_keep_their_line_ends_in_a_checkout_on_windows():
    attributes = (ROOT / ".gitattributes").read_text(encoding="utf-8").split("\n")
    assert "* text=auto eol=lf" in attributes
    checked = subprocess.run(
        ["git", "check-attr", "text", "eol", "--", "weights.sh", "nanogpt_np/weights/models/facts/model.safetensors"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if checked.returncode:
        pytest.skip("not in a git checkout")
    lines = checked.stdout.splitlines()
    assert "weights.sh: eol: lf" in lines
    assert "nanogpt_np/weights/models/facts/model.safetensors: text: unset" in lines


def test_no_path_of_the_repository_is_refused_by_windows():
    names = [path.relative_to(ROOT).as_posix() for folder in ("nanogpt_np", "tests", "docs", "notebooks") for path in
             (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]  # fmt: skip
    reserved = {"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(1, 10))}
    assert len(names) > 200
    for name in names:
        assert not set('<>:"|?*\\') & set(name), name
        assert not reserved & {part.partition(".")[0].lower() for part in name.split("/")}, name
        assert len(name) < 120, name
    assert len({name.lower() for name in names}) == len(names)  # two names that differ in case are one file there


def test_a_recording_is_the_same_zip_file_on_every_system(tmp_path):
    done = python("-m", "nanogpt_np", "trace", PROMPT, "--model", "facts", "--save", str(tmp_path / "acts.npz"))
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(tmp_path / "acts.npz") as file:
        assert all("\\" not in name for name in file.namelist())
