"""What COURSE.md shows of the course is what happens: each command is run in a shell."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nanogpt_np.course import runner, worker
from nanogpt_np.course.answers import answer
from nanogpt_np.course.assignment import assignments
from nanogpt_np.course.student import FORBIDDEN

ROOT = Path(__file__).parent.parent
COURSE = (ROOT / "COURSE.md").read_text(encoding="utf-8")
needs_a_shell = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def shell(script, folder):
    """Run a script of bash in `folder`, with this Python as ``python`` and ``python3``."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for name in ("python", "python3"):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (programs / name).chmod(0o755)
    paths = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    options = {"capture_output": True, "text": True, "timeout": 100, "check": False}
    return subprocess.run(["bash", "-c", script], cwd=folder, env={**os.environ, **paths}, **options)


def fits(shown, printed):
    """Return whether the lines are those that are shown, where ``...`` stands for any."""
    if not shown:
        return not printed
    if shown[0] == "...":
        return any(fits(shown[1:], printed[at:]) for at in range(len(printed) + 1))
    return bool(printed) and shown[0].rstrip() == printed[0].rstrip() and fits(shown[1:], printed[1:])


@needs_a_shell
def test_the_commands_of_the_course_print_what_is_shown(tmp_path):
    text = "\n".join(re.findall(r"```console\n(.*?)```", COURSE, re.DOTALL))
    parts = [part.rstrip("\n").split("\n") for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]]
    parts = [(command, lines) for command, *lines in parts if command.startswith("python -m nanogpt_np course ")]
    assert len(parts) >= 3
    for command, lines in parts:
        done = shell(command, tmp_path)
        assert done.stderr == ""
        assert fits(lines, done.stdout.splitlines()), (command, done.stdout)


def block(language, start):
    """Return the block of COURSE.md that begins so."""
    (found,) = [b for b in re.findall(rf"```{language}\n(.*?)```", COURSE, re.DOTALL) if b.startswith(start)]
    return found


@needs_a_shell
def test_the_loop_over_a_class_grades_each_folder(tmp_path):
    a2 = assignments()["a2"]
    for who, source in (("ada", answer(a2)), ("bob", a2.stub.read_text("utf-8"))):
        (tmp_path / "submissions" / who).mkdir(parents=True)
        (tmp_path / "submissions" / who / a2.file).write_text(source, "utf-8")
    done = shell(block("sh", "for"), tmp_path)
    assert (done.stdout, done.stderr) == (block("text", "submissions"), "")
    scores = [json.loads((tmp_path / "submissions" / f"{who}.json").read_text())["score"] for who in ("ada", "bob")]
    assert scores == [6, 0]


@needs_a_shell
@pytest.mark.parametrize(("source", "code", "score"), [("x = 1\n", 0, 0), (None, 0, 6), ("", 2, None)])
def test_the_script_for_gradescope_writes_results_and_fails_only_if_the_grader_does(source, code, score, tmp_path):
    a2 = assignments()["a2"]
    (tmp_path / "results").mkdir()
    if code != 2:
        (tmp_path / "submission").mkdir()
        (tmp_path / "submission" / a2.file).write_text(answer(a2) if source is None else source, "utf-8")
    done = shell(block("sh", "#!").replace("/autograder", str(tmp_path)), tmp_path)
    written = (tmp_path / "results" / "results.json").read_text()
    assert (done.returncode != 0) == (code != 0), done.stderr
    assert json.loads(written)["score"] == score if code == 0 else written == ""


def test_the_limits_that_the_page_names_are_those_of_the_grader():
    (seconds, gib) = re.search(r"(\d+) seconds for a check, and on Linux (\d+) GiB", COURSE).groups()
    assert (int(seconds), int(gib) << 30) == (runner.SECONDS, worker.MEMORY)
    for name in re.findall(r"this package, (.*?) or (\w+): each", COURSE)[0]:
        for package in name.lower().replace("pytorch", "torch").split(", "):
            assert package in FORBIDDEN


def test_every_link_of_the_page_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)", COURSE)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
