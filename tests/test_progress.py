"""A command that works for long says how far it is: on a terminal on one line, elsewhere every few seconds."""

import sys

import pytest

from nanogpt_np.__main__ import main
from nanogpt_np.commands import progress
from nanogpt_np.commands.progress import Progress
from nanogpt_np.train import facts


class Clock:
    """A clock that goes on when it is told to."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.mark.parametrize("seconds", [0.1, 1, 4, 30])
def test_without_a_terminal_a_line_comes_every_few_seconds_and_not_more_often(seconds, clock, capsys):
    shown = Progress("questions", 100)
    report = shown.part()
    for done in range(1, 101):
        clock.now += seconds
        report(done, 100)
    shown.end()
    lines = capsys.readouterr().err.splitlines()
    most = min(100, 100 * seconds / progress.EVERY)
    assert most / 2 - 1 <= len(lines) <= most
    assert all(" of 100 questions, " in line and "\r" not in line for line in lines)


def test_parts_of_the_work_are_counted_together(clock, capsys):
    shown = Progress("questions", 60)
    for part in (10, 20, 30):
        report = shown.part()
        clock.now += 10
        report(part, part)
    counts = [line.split()[0] for line in capsys.readouterr().err.splitlines()]
    assert counts == ["10", "30", "60"]


def test_on_a_terminal_one_line_is_written_over_and_then_removed(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = Progress("questions", 3)
    shown.begin("preparing the questions, which is a long line")
    report = shown.part()
    for done in (1, 2, 3):
        clock.now += 1
        report(done, 3)
    shown.end()
    shown.end()
    err = capsys.readouterr().err
    assert "\n" not in err and err.count("\r") == 6 and err.endswith("\r")
    assert err.split("\r")[2].rstrip() == "1 of 3 questions, 0:02 left"
    assert len(err.split("\r")[2]) >= len("preparing the questions, which is a long line")


@pytest.fixture
def few(monkeypatch):
    """Ask few of the questions."""
    questions = facts.FactsData.questions
    monkeypatch.setattr(facts.FactsData, "questions", lambda self, which: questions(self, which)[::50])


def test_facts_speaks_while_it_works_and_its_table_is_alone_on_stdout(few, capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0)
    assert main(["facts", "--model", "facts"]) == 0
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert lines[0] == "preparing the questions" and lines[-1].endswith(" questions, 0:00 left")
    done, _, total = lines[-1].split()[:3]
    assert done == total and len(lines) >= 4
    assert out.startswith("templates:") and len(out.splitlines()) == 8 and '" Paris" with probability 0.98' in out


@pytest.mark.parametrize("parameters", [10**6, 10**8, 10**9, 10**12])
def test_the_questions_of_a_batch_are_fewer_for_a_larger_model(parameters):
    rows = facts.rows_at_once(parameters, 20)
    assert 1 <= rows <= 128
    assert rows == 1 or 2 * parameters * 20 * rows <= facts.WORK
    assert rows == 128 or 2 * parameters * 20 * (rows + 1) > facts.WORK
