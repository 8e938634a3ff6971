"""Runs that people watch: the opening line, lines in time, the log of every step, its curve."""

import io
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from nanogpt_np.__main__ import main
from nanogpt_np.model.config import Config
from nanogpt_np.train import curve, loop, progress
from nanogpt_np.train.log import LOG, Log, read_log
from nanogpt_np.train.progress import Plan, Progress
from nanogpt_np.train.settings import Settings
from nanogpt_np.train.state import STATE, read_state
from nanogpt_np.train.trainer import Trainer

TEXT = "".join(f"The number after {n} is {n + 1}. " for n in range(200))
TINY = ["--layers", "1", "--heads", "2", "--width", "6", "--context", "8", "--batch-size", "3", "--share-unseen"]
SETTINGS = {"steps": 12, "batch_size": 3, "context": 8, "warmup": 2, "share_unseen": True, "eval_every": 4}


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def new_trainer(text_file, **settings):
    s = Settings(**{**SETTINGS, "source": {"texts": [str(text_file)]}, **settings})
    return Trainer.from_scratch(Config(n_positions=8, n_embd=6, n_head=2, n_layer=1), loop.make_data(s), s)


def steps_of(folder):
    return [record["step"] for record in read_log(folder)]


def a_step(step, seconds, *, steps=1000, notes=None, loss=1.5, first=0):
    left = (steps - step) * seconds / max(1, step)
    return Progress(step, steps, loss, 1e-3, 100.0, seconds, left, None, notes, Plan(first, steps, 1234, 0, 5678))


# --- lines ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_seconds", [0.01, 0.3, 1.7, 4.0, 6.0, 7.5, 9.9])
@pytest.mark.parametrize("every", [10.0, 20.0])
def test_whole_lines_come_at_least_every_ten_seconds(step_seconds, every):
    file = io.StringIO()
    show, printed, shown = progress.lines(file, every), [0.0], 0
    for step in range(1, int(100 / step_seconds)):
        show(a_step(step, step * step_seconds))
        if len(file.getvalue()) > shown:
            shown = len(file.getvalue())
            printed.append(step * step_seconds)
    printed.append(100 - step_seconds)
    assert max(np.diff(printed)) <= every + 1e-9
    assert file.getvalue().count("\n") <= 4 + 100 / (every - step_seconds)
    assert "\r" not in file.getvalue() and file.getvalue().endswith("\n")


def test_a_step_that_takes_a_minute_gets_a_line_when_it_is_done():
    file = io.StringIO()
    show = progress.lines(file)
    for step in (1, 2, 3):
        show(a_step(step, 60.0 * step, steps=5))
        assert file.getvalue().count("\n") == 1 + step
    assert "step 3/5  loss 1.5000 nats/token  100 tokens/s  2:00 left" in file.getvalue()


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ({"seconds": 0.5, "notes": ("x",)}, "1,234 parameters, 5,678 tokens of text, 1,000 steps, 100 tokens/s"),
        ({"seconds": 1.5}, "1,234 parameters"),
        ({"seconds": 4000.0, "step": 500}, "2:13:20 in all"),
        ({"seconds": 2.0, "step": 900, "first": 800}, "steps 801 to 1,000,"),
    ],
)
def test_one_opening_line_says_what_the_run_will_do(at, words):
    file = io.StringIO()
    show = progress.lines(file)
    show(a_step(**{"step": 5, **at}))
    show(a_step(**{**at, "step": 999, "seconds": at["seconds"] + 100}))
    first, *rest = file.getvalue().splitlines()
    assert words in first and rest and not any("parameters" in line for line in rest)


def test_nothing_is_said_of_a_speed_that_was_not_measured_yet():
    file = io.StringIO()
    show = progress.lines(file)
    for step in range(1, 9):
        show(a_step(step, step / 10))
    assert file.getvalue() == ""


def test_a_terminal_keeps_the_opening_line_and_the_evaluations():
    file = io.StringIO()
    show = progress.live(file)
    for step in range(1, 41):
        show(a_step(step, step / 10, notes=("held-out loss 2",) if step == 20 else None))
    show.end()
    show.end()
    kept = [line.split("\r")[-1] for line in file.getvalue().split("\n")]
    assert kept[0].startswith("1,234 parameters") and kept[1].startswith("step 20/") and "held-out loss 2" in kept[2]
    assert kept[3].startswith("step 40/") and kept[4] == "" and len(kept) == 5
    columns = [len(part) for part in file.getvalue().replace("\n", "\r").split("\r")[1:] if part.startswith("step")]
    assert max(columns) < 80 and len(columns) == 40


class Closed(io.StringIO):
    def flush(self):
        raise BrokenPipeError


class Latin(io.StringIO):
    encoding = "latin-1"


@pytest.mark.parametrize("file", [Closed(), Latin(), io.StringIO(), None])
def test_a_stream_that_cannot_show_a_note_does_not_stop_the_run(file, text_file, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)  # as in a program without a console
    one = new_trainer(text_file)
    one.data.evaluate = lambda trainer: ["a note ⟨日本⟩"]
    assert loop.run(one, tmp_path / "out", report=progress.lines(file)) is True
    if isinstance(file, Latin):
        assert r"\u65e5" in file.getvalue()


def test_a_library_run_prints_only_with_a_printer_and_then_to_its_file(text_file, tmp_path, capsys):
    file = io.StringIO()
    loop.run(new_trainer(text_file), tmp_path / "a")
    loop.run(new_trainer(text_file), tmp_path / "b", report=progress.lines(file))
    assert capsys.readouterr() == ("", "")
    assert file.getvalue().count("held-out loss") == 3
    loop.run(new_trainer(text_file), tmp_path / "c", report=progress.lines())
    assert capsys.readouterr().err.count("held-out loss") == 3


def test_the_numbers_of_parameters_are_those_that_train_and_those_that_do_not(text_file, tmp_path):
    for freeze in ((), ("w*",), ("h.*", "ln_f.*")):
        told, one = [], new_trainer(text_file, freeze=freeze, steps=1)
        loop.run(one, tmp_path / f"run{len(freeze)}{len(told)}{freeze[:1]}".replace("*", ""), report=told.append)
        plan = told[0].plan
        assert plan.trained + plan.frozen == sum(a.size for a in one.params.values())
        assert plan.trained == sum(a.size for n, a in one.params.items() if n in one.optimizer.params)
        assert (plan.frozen > 0) == bool(freeze) and plan.text_tokens == len(one.data.train) + len(one.data.tail)


# --- the log -------------------------------------------------------------------------------------


def test_the_log_holds_every_step_with_its_loss_and_rate(text_file, tmp_path):
    told, one = [], new_trainer(text_file)
    loop.run(one, tmp_path, report=told.append)
    records = read_log(tmp_path)
    assert [(r["step"], r["loss"], r["lr"]) for r in records] == [(p.step, p.loss, p.lr) for p in told]
    assert [r["lr"] for r in records] == [one.learning_rate(n) for n in range(12)]
    assert [r["step"] for r in records if "held_out_loss" in r] == [4, 8, 12]
    assert records[-1]["held_out_loss"] == one.held_out_loss() == told[-1].held_out_loss
    assert all(r["tokens_per_second"] > 0 for r in records)
    lines = (tmp_path / LOG).read_text().splitlines()
    assert [json.loads(line) for line in lines] == records


def test_a_step_in_which_nothing_counted_is_null_in_the_log_and_absent_from_the_curve(text_file, tmp_path):
    one = new_trainer(text_file)
    real = one.step

    def step():
        loss, counted = real()
        return (math.nan, 0) if one.step_number % 3 == 0 else (loss, counted)

    one.step = step
    loop.run(one, tmp_path)
    assert [r["step"] for r in read_log(tmp_path) if r["loss"] is None] == [3, 6, 9, 12]
    assert "NaN" not in (tmp_path / LOG).read_text()
    assert list(curve.points(read_log(tmp_path))[0]) == [1, 2, 4, 5, 7, 8, 10, 11]


def lines_up_to(last, start=1):
    return b"".join(b'{"step": %d, "loss": 1.5}\n' % n for n in range(start, last + 1))


@pytest.mark.parametrize(
    ("tail", "kept"),
    [
        (b"", 7),
        (b'{"step": 8, "lo', 7),
        (b'{"step": 8, "loss": 1.25, "lr": 0.1', 7),
        (b'{"step": 8, "loss": 1.25}', 8),  # only the end of the line is missing
        (b"{", 7),
        (b"\x00" * 300, 7),
        (b'{"step": 8, "loss": 1.25}\n{"st', 8),
        (b'{"step": 8, "loss": null}\n' + lines_up_to(40, 9), 9),
        (lines_up_to(9, 8), 9),
        (lines_up_to(9, 8) + b'{"step": 10, "loss": 1.25}', 9),
    ],
)
def test_a_log_is_cut_back_to_the_steps_that_were_saved(tail, kept, tmp_path):
    (tmp_path / LOG).write_bytes(lines_up_to(7) + tail)
    with Log(tmp_path, 9) as log:
        assert steps_of(tmp_path) == list(range(1, kept + 1))
        log.add(a_step(10, 3.0))
    data = (tmp_path / LOG).read_bytes()
    assert steps_of(tmp_path) == [*range(1, kept + 1), 10] and data.endswith(b"\n") and data.count(b"\n") == kept + 1


FOREIGN = [
    b"hello\n",
    b"\n",
    b"[]\n",
    b'{"step": 0, "loss": 1}\n',
    b'{"step": true, "loss": 1}\n',
    b'{"step": "1", "loss": 1}\n',
    b'{"step": 1}\n',
    b'{"step": 1, "loss": "x"}\n',
    b'{"step": 1, "loss": NaN}\n',
    b'{"step": 1, "loss": 1' + b"0" * 400 + b"}\n",
    b'{"step": 1' + b"0" * 400 + b', "loss": 1}\n',
    b"[" * 900 + b"\n",
    b"\xff\xfe\n",
    b"x" * 5000,
    lines_up_to(2) + lines_up_to(2),
    lines_up_to(2) + b"mine\n" + lines_up_to(5, 3),
    b'{"step": 1, "lo' + lines_up_to(3),
]


@pytest.mark.parametrize("content", FOREIGN)
def test_a_file_that_is_not_a_log_is_refused_before_the_first_step_and_stays(content, text_file, tmp_path, capsys):
    out = tmp_path / "run"
    new_trainer(text_file).save(out)
    before = (out / STATE).read_bytes()
    (out / LOG).write_bytes(content)
    assert main(["train", "--resume", str(out)]) == 1
    err = capsys.readouterr().err
    assert "is not the log of a run" in err and "move the file away" in err and err.count("\n") == 1 and len(err) < 600
    assert (out / LOG).read_bytes() == content and (out / STATE).read_bytes() == before
    read_log(out)  # the curve of what there is
    (out / LOG).rename(tmp_path / "away")
    assert main(["train", "--resume", str(out)]) == 0 and steps_of(out) == list(range(1, 13))


@pytest.mark.parametrize("kind", ["folder", "dangling link"])
def test_a_log_that_cannot_be_a_file_is_refused(kind, text_file, tmp_path):
    new_trainer(text_file).save(tmp_path / "run")
    if kind == "folder":
        (tmp_path / "run" / LOG).mkdir()
    else:
        try:
            (tmp_path / "run" / LOG).symlink_to(tmp_path / "nowhere")
        except OSError:
            pytest.skip("no right to make links here")
    with pytest.raises(ValueError, match="not a regular file"):
        loop.run(Trainer.resume(tmp_path / "run", loop.make_data), tmp_path / "run")


def test_a_new_run_does_not_touch_a_log_that_is_not_its_own(text_file, tmp_path):
    for content in (b"", b"mine\n", lines_up_to(3)):
        (tmp_path / LOG).write_bytes(content)
        with pytest.raises(ValueError, match=r"holds log\.jsonl but no run"):
            loop.run(new_trainer(text_file), tmp_path)
        assert (tmp_path / LOG).read_bytes() == content and not (tmp_path / STATE).exists()


def test_a_log_that_was_moved_away_is_begun_anew(text_file, tmp_path):
    loop.run(new_trainer(text_file), tmp_path, stop=stop_after(5, tmp_path))
    (tmp_path / LOG).unlink()
    loop.run(Trainer.resume(tmp_path, loop.make_data), tmp_path)
    assert steps_of(tmp_path) == list(range(6, 13))


def stop_after(steps, folder):
    """Return a `stop` that is True as soon as so many steps are in the log."""
    return lambda: len(read_log(folder)) >= steps


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", range(1, 13))
def test_a_run_killed_after_any_step_has_each_step_once_in_its_log(moment, text_file, tmp_path):
    def kill(told):
        if told.step == moment:
            raise Killed

    whole, out = tmp_path / "whole", tmp_path / "out"
    loop.run(new_trainer(text_file, save_every=5), whole)
    with pytest.raises(Killed):
        loop.run(new_trainer(text_file, save_every=5), out, report=kill)
    assert steps_of(out) == list(range(1, moment + 1)) and read_state(out).about["steps"] in (0, 5, 10, 12)
    resumed = Trainer.resume(out, loop.make_data)
    loop.run(resumed, out)
    same = [{k: v for k, v in r.items() if k != "tokens_per_second"} for r in read_log(out)]
    assert same == [{k: v for k, v in r.items() if k != "tokens_per_second"} for r in read_log(whole)]
    for name in ("config.json", "model.safetensors", STATE):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


# --- when it is saved ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("minutes", "every", "saves"),
    [(5, None, [0, 5, 10, 12]), (2.5, None, [0, 3, 6, 9, 12]), (1e6, None, [0, 12]), (1e6, 5, [0, 5, 10, 12]),
     (0.5, None, list(range(13))), (5, 4, [0, 4, 8, 12]), (5, 7, [0, 5, 7, 12])],
)  # fmt: skip
def test_a_run_is_saved_after_so_many_minutes_and_after_so_many_steps(
    minutes, every, saves, text_file, tmp_path, monkeypatch
):
    """Each step takes a minute."""
    one, saved = new_trainer(text_file, save_minutes=minutes, save_every=every), []
    monkeypatch.setattr(loop.time, "perf_counter", lambda: 60.0 * one.step_number)
    save = one.save
    one.save = lambda out: (saved.append(one.step_number), save(out))
    loop.run(one, tmp_path / "out")
    assert saved == saves
    plain = new_trainer(text_file, save_minutes=minutes, save_every=every)
    for _ in range(12):
        plain.step()
    for name, array in plain.params.items():
        np.testing.assert_array_equal(array, one.params[name])


# --- the curve -----------------------------------------------------------------------------------


def records_of(losses, held=()):
    records = [{"step": n, "loss": loss} for n, loss in enumerate(losses, 1)]
    for step, loss in held:
        records[step - 1]["held_out_loss"] = loss
    return records


def heights(lines, sign):
    """Return {column: row from the top} of a sign."""
    rows = [line for line in lines if "|" in line]
    left = rows[0].index("|") + 1
    return {x - left: y for y, row in enumerate(rows) for x, c in enumerate(row) if c == sign and x >= left}


@pytest.mark.parametrize("width", [42, 60, 79, 80, 200])
@pytest.mark.parametrize("count", [1, 2, 7, 80, 5000])
def test_the_curve_fits_its_width_and_falls_as_the_loss_does(width, count):
    losses = list(np.geomspace(10.8, 0.5, count))
    lines = curve.text_plot(records_of(losses), width, curve.ASCII)
    assert max(map(len, lines)) <= min(width, 80) and len(lines) <= 13
    found = heights(lines, "*")
    assert len(found) == min(count, len(found)) >= min(count, 10)
    rows = [found[column] for column in sorted(found)]
    assert rows == sorted(rows) and rows[0] == 0 and (count == 1 or rows[-1] == 9)
    assert f"step {count}" in lines[-1]


@pytest.mark.parametrize(
    ("losses", "label"),
    [
        ([1.0] * 30, "1.00"),
        ([3e-4, 2e-4], "2.0e-04"),
        ([1e30, 1.0], "1.0e+30"),
        ([0.0, 5.0], "0.00"),
        ([-2.0, 7.5], "-2.00"),
    ],
)
def test_the_axis_shows_the_largest_and_the_smallest_loss(losses, label):
    lines = curve.text_plot(records_of(losses), 60, curve.ASCII)
    assert any(line.split(" |")[0].strip() == label for line in lines) and max(map(len, lines)) <= 60
    assert heights(lines, "*")


def test_a_column_is_the_mean_of_its_steps_and_held_out_losses_have_their_own_sign():
    lines = curve.text_plot(records_of([0.0, 4.0] * 500, [(1000, 4.0)]), 60, curve.ASCII)
    assert set(heights(lines, "*").values()) <= {8, 9}  # 2, the lowest; a column of an odd number of steps is near it
    assert list(heights(lines, "o").values()) == [0] and "held out" in lines[0]
    assert "held out" not in curve.text_plot(records_of([1.0, 2.0]))[0]


@pytest.mark.parametrize("records", [[], [{"step": 1, "loss": None}], [{"step": 1, "loss": math.nan}]])
def test_where_there_is_no_loss_there_is_no_curve(records):
    assert curve.text_plot(records) == []


@pytest.mark.parametrize(
    ("encoding", "signs"),
    [
        *((encoding, curve.SIGNS) for encoding in ("utf-8", "UTF-16", "gb18030")),
        *((encoding, curve.ASCII) for encoding in ("ascii", "latin-1", "cp1252", None, "no such")),
    ],
)
def test_a_terminal_gets_signs_that_it_has(encoding, signs):
    assert curve.signs_for(encoding) == signs
    "".join(curve.text_plot(records_of([2.0, 1.0]), signs=signs)).encode(encoding if signs == curve.SIGNS else "ascii")


def test_the_command_ends_with_the_curve_of_the_whole_run(text_file, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["train", str(text_file), "--out", out, *TINY, "--steps", "6"]) == 0
    first = capsys.readouterr().err.splitlines()
    assert "parameters" in first[0] and "tokens/s expected" in first[0] and first[-1] == f"saved in {out}"
    assert "step 6" in first[-2] and any(line.startswith("loss in nats/token") for line in first)
    assert main(["train", "--resume", out]) == 0
    said = f"saved in {out}: all 6 steps were done; for more, give --resume {out} --steps N\n"
    assert capsys.readouterr().err == said
    assert main(["train", "--resume", out, "--steps", "9"]) == 0
    last = capsys.readouterr().err.splitlines()
    assert "steps 7 to 9" in last[0] and last[-2].split() == [last[-2].split()[0], "1", "step", "9"][1:]


def test_a_pipe_of_ascii_gets_an_ascii_curve(text_file, tmp_path):
    flags = [str(text_file), "--out", str(tmp_path / "out"), *TINY, "--steps", "3"]
    done = subprocess.run(
        [sys.executable, "-m", "nanogpt_np", "train", *flags],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "60"},
        timeout=60,
    )
    err = done.stderr.decode("ascii")
    assert done.returncode == 0 and "* training" in err and "\\u" not in err
    assert max(len(line) for line in err.splitlines() if "|" in line or "---" in line) == 60


# --- a plot as PNG -------------------------------------------------------------------------------


def test_without_matplotlib_a_plot_is_refused_before_the_training(text_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = tmp_path / "out"
    for flags in (
        [str(text_file), "--out", str(out), *TINY],
        ["--resume", str(out)],
        ["--recipe", "facts", "--out", str(out)],
    ):
        assert main(["train", *flags, "--plot", str(tmp_path / "a.png")]) == 1
        err = capsys.readouterr().err
        assert "nanogpt-np[notebooks]" in err and "matplotlib" in err and err.count("\n") == 1
        assert not out.exists() and not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("name", ["a.jpg", "a", "there/is/none.png", "", "folder.png"])
def test_a_plot_that_could_not_be_written_is_refused_before_the_run(name, text_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", sys)  # any module will do
    (tmp_path / "folder.png").mkdir()
    out = tmp_path / "out"
    assert main(["train", str(text_file), "--out", str(out), *TINY, f"--plot={tmp_path}/{name}"]) == 1
    err = capsys.readouterr().err
    assert "plot" in err and err.count("\n") == 1 and not out.exists()


def test_a_plot_is_a_png_of_the_whole_run(text_file, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    for name in ("loss.png", "out/loss.PNG"):
        steps = ["--steps", "5"] if name == "loss.png" else ["--steps", "8", "--resume", str(out)]
        new = [str(text_file), "--out", str(out), *TINY] if name == "loss.png" else []
        assert main(["train", *new, *steps, "--plot", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG") and str(tmp_path / name) in capsys.readouterr().err


# --- longer than planned -------------------------------------------------------------------------


def extended(folder, *steps_and_rates, text_file, kill=()):
    """Run 12 steps, then go on to each (steps, rate); kill and resume at the given steps. Return the trainer."""

    def report(told):
        if told.step in kill and told.step not in killed:
            killed.append(told.step)
            raise Killed

    killed = []
    trainer = new_trainer(text_file, save_every=2)
    for steps, rate in [(12, None), *steps_and_rates]:
        if steps != 12:
            trainer = Trainer.resume(folder, loop.make_data)
            trainer.extend(steps, rate)
        while True:
            try:
                assert loop.run(trainer, folder, report=report)
                break
            except Killed:
                trainer = Trainer.resume(folder, loop.make_data)
                if trainer.settings.steps != steps:  # killed before the first save
                    trainer.extend(steps, rate)
    return trainer


def test_a_longer_run_keeps_the_part_that_is_done_and_holds_the_last_rate(text_file, tmp_path):
    planned = new_trainer(text_file)
    trainer = extended(tmp_path / "a", (20, None), text_file=text_file)
    rates = [record["lr"] for record in read_log(tmp_path / "a")]
    assert rates[:12] == [planned.learning_rate(n) for n in range(12)]
    assert rates[12:] == [planned.settings.final_lr] * 8 and trainer.step_number == 20


@pytest.mark.parametrize(
    ("more", "rates"),
    [
        ([(15, 1e-3)], [1e-3] * 3),
        ([(15, 1e-3), (18, None)], [1e-3] * 6),
        ([(15, 1e-3), (18, 2e-3), (19, None)], [1e-3] * 3 + [2e-3] * 4),
        ([(14, None), (16, 5e-4)], [6e-5] * 2 + [5e-4] * 2),
        ([(14, None), (16, None)], [6e-5] * 4),
    ],
)
@pytest.mark.parametrize("kill", [(13,), pytest.param((7, 14, 15), marks=pytest.mark.slow)])
def test_a_longer_run_that_was_killed_ends_as_one_that_was_not(more, rates, kill, text_file, tmp_path):
    extended(tmp_path / "whole", *more, text_file=text_file)
    extended(tmp_path / "cut", *more, text_file=text_file, kill=kill)
    assert [record["lr"] for record in read_log(tmp_path / "cut")][12:] == rates
    for name in ("config.json", "model.safetensors", STATE):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    same = [[(r["step"], r["loss"]) for r in read_log(tmp_path / name)] for name in ("cut", "whole")]
    assert same[0] == same[1]


def test_the_command_that_extends_may_be_repeated_after_a_kill(text_file, tmp_path, capsys):
    for name, commands in (
        ("whole", [["--steps", "12", "--lr", "1e-3"]]),
        ("cut", [["--steps", "9", "--lr", "1e-3"], ["--steps", "12", "--lr", "1e-3"]]),
        ("again", [["--steps", "10", "--lr", "1e-3"], ["--steps", "12"]]),
    ):
        out = str(tmp_path / name)
        assert main(["train", str(text_file), "--out", out, *TINY, "--steps", "6"]) == 0
        for command in commands:
            assert main(["train", "--resume", out, *command]) == 0
        assert (tmp_path / name / STATE).read_bytes() == (tmp_path / "whole" / STATE).read_bytes()
    capsys.readouterr()


@pytest.mark.parametrize("done", [0, 1, 5, 11])
def test_an_unfinished_run_that_is_extended_to_its_own_length_is_the_run_as_it_was(done, text_file, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    loop.run(new_trainer(text_file), whole)
    one = new_trainer(text_file)
    loop.run(one, cut, stop=lambda: one.step_number == done)
    resumed = Trainer.resume(cut, loop.make_data)
    resumed.extend(30)
    resumed.extend(12)
    loop.run(resumed, cut)
    assert (cut / STATE).read_bytes() == (whole / STATE).read_bytes()


@pytest.mark.parametrize("steps", [12, 11, 1])
def test_a_run_is_not_extended_to_steps_that_are_done(steps, text_file, tmp_path, capsys):
    out = tmp_path / "out"
    loop.run(new_trainer(text_file), out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main(["train", "--resume", str(out), "--steps", str(steps)]) == 1
    err = capsys.readouterr().err
    assert "12 steps are done" in err and f"not {steps}" in err and err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("lr", ["0", "-1", "nan", "inf"])
def test_a_longer_run_needs_a_rate_that_is_one(lr, text_file, tmp_path, capsys):
    out = tmp_path / "out"
    loop.run(new_trainer(text_file), out)
    assert main(["train", "--resume", str(out), "--steps", "20", f"--lr={lr}"]) == 1
    err = capsys.readouterr().err
    assert "held_lr must be a number above 0" in err and err.count("\n") == 1
    assert read_state(out).about["settings"]["steps"] == 12


@pytest.mark.parametrize(("warmup", "rate"), [(100, 6e-4 * 13 / 100), (12, 6e-4), (11, 6e-5)])
def test_a_run_that_ended_in_its_warm_up_holds_the_rate_that_it_had_reached(warmup, rate, text_file):
    one = new_trainer(text_file, warmup=warmup)
    one.extend(500)
    assert [one.learning_rate(n) for n in (12, 13, 100, 499)] == [pytest.approx(rate)] * 4
