"""Runs that are killed, ended, interrupted: nothing is lost, and the end is that of a run that was left alone.

NANOGPT_NP_KILLS and NANOGPT_NP_TERMS set how many (default: 8 and 4), NANOGPT_NP_SEED the moments.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import nanogpt_np
from nanogpt_np.__main__ import main
from nanogpt_np.commands import train as command
from nanogpt_np.train.folder import LOCK
from nanogpt_np.train.log import LOG, read_log
from nanogpt_np.train.progress import Printer
from nanogpt_np.train.state import STATE, read_state

TEXT = "".join(f"The number after {n} is {n + 1}. " for n in range(400))
TINY = ["--layers", "2", "--heads", "2", "--width", "12", "--context", "16", "--batch-size", "3", "--share-unseen"]
BESIDE = ["generation_config.json", "tokenizer.json", "tokenizer_config.json"]
FILES = sorted(["config.json", LOG, "model.safetensors", STATE, *BESIDE])
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it")


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def start(*flags):
    return subprocess.Popen(
        [sys.executable, "-m", "nanogpt_np.train", *flags],
        stderr=subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        text=True,
    )


def contents(folder):
    """Return the files of a folder; of the log, what does not depend on the clock or on when a run was stopped."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    if LOG in found:
        found[LOG] = [(r["step"], r["loss"], r["lr"]) for r in map(json.loads, found[LOG].splitlines())]
    return found


def held_out(folder):
    """Return {step: held-out loss} of a log."""
    return {r["step"]: r["held_out_loss"] for r in read_log(folder) if "held_out_loss" in r}


def check_log(folder, whole, last, stopped=()):
    """Check that the log holds every step once, and the held-out losses but for those of steps that were stopped."""
    assert [record["step"] for record in read_log(folder)] == list(range(1, last + 1))
    assert held_out(folder).items() <= held_out(whole).items()
    assert held_out(whole).keys() - held_out(folder).keys() <= set(stopped)


def start_or_resume(out, flags):
    return start("--resume", str(out)) if (out / STATE).exists() else start(*flags, "--out", str(out))


def wait_for(process, path, stamp):
    """Wait until `path` was written anew, or until the process has ended."""
    while process.poll() is None and not (path.exists() and path.stat().st_mtime_ns != stamp):
        time.sleep(0.002)


def steps_in(out):
    return read_state(out).about["steps"] if (out / STATE).exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize(("number", "count"), [(9, "NANOGPT_NP_KILLS"), (15, "NANOGPT_NP_TERMS")])
@POSIX
def test_a_run_that_was_ended_many_times_ends_as_one_that_was_left_alone(number, count, text_file, tmp_path):
    """Ended at random moments of its start, its steps and its saves, of which there is one after every other step."""
    seed = int(os.environ.get("NANOGPT_NP_SEED") or np.random.SeedSequence().entropy % 2**32)
    print(f"NANOGPT_NP_SEED={seed}")
    rng = np.random.default_rng(seed)
    times = int(os.environ.get(count) or {9: 8, 15: 4}[number])
    last = 100 + 20 * times
    flags = [text_file, *TINY, "--steps", str(last), "--save-every", "2", "--eval-every", "10"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    with start(*flags, "--out", str(whole)) as process:
        process.stderr.read()
    assert process.returncode == 0
    ended, steps, left, early, without_model, stopped = 0, 0, 0, 0, 0, set()
    while ended < times:
        stamp = (out / STATE).stat().st_mtime_ns if (out / STATE).exists() else None
        with start_or_resume(out, flags) as process:
            if rng.random() < 0.1:
                time.sleep(float(rng.uniform(0, 1)))  # while it starts
            else:
                wait_for(process, out / STATE, stamp)
                time.sleep(float(rng.uniform(0, 0.3)))
            process.send_signal(number)
            err = process.stderr.read()
        assert "Traceback" not in err and process.returncode in (-number, 128 + number), (process.returncode, err)
        ended += 1
        now = steps_in(out)  # reads the whole state, and compares its checksum
        assert now >= steps, "a step that was saved is lost"
        steps = now
        if process.returncode == 143:
            assert f"stopped after step {now}: saved in {out}" in err
            assert sorted({*contents(out), LOG}) == FILES  # a run that is stopped before its first step has no log
            stopped.add(now)
        assert len(read_log(out)) >= now
        early += process.returncode == -15
        others = {path.name for path in out.glob("*")} - {*FILES, LOCK}
        assert all(name.startswith(".") and name.endswith(".partial") for name in others), others
        left += bool(others)
        without_model += (out / STATE).exists() and not (out / "model.safetensors").exists()
        if (out / "model.safetensors").exists():
            assert np.isfinite(nanogpt_np.load(out).params["wpe.weight"]).all()
    assert 0 < steps < last
    with start_or_resume(out, flags) as process:
        process.stderr.read()
    assert process.returncode == 0
    assert contents(out) == contents(whole)
    check_log(out, whole, last, stopped)
    print(
        f"{ended} times signal {number}, the last at step {steps}; {left} left a temporary file, {early} before the "
        f"handler was there, {without_model} between the first state and the first model"
    )


@POSIX
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_the_step_and_says_how_to_go_on(number, code, text_file, tmp_path):
    out = tmp_path / "run"
    flags = ["--steps", "100000", "--eval-every", "1", "--save-every", "100000"]
    with start(text_file, "--out", str(out), *TINY, *flags) as process:
        for line in process.stderr:
            if line.startswith("step 3/"):
                break
        process.send_signal(number)
        err = process.stderr.read()
    assert process.returncode == code
    assert f"continue with --resume {out}" in err and "Traceback" not in err
    assert steps_in(out) == int(err.split("stopped after step ")[1].split(":")[0]) >= 3
    assert sorted(contents(out)) == FILES


@POSIX
def test_a_second_command_in_a_folder_is_refused_and_the_first_continues(text_file, tmp_path, capsys):
    out = tmp_path / "run"
    with start(text_file, "--out", str(out), *TINY, "--steps", "100000", "--eval-every", "1") as process:
        for line in process.stderr:
            if line.startswith("step 1/"):
                break
        for number in (1, 2, 3):
            assert main(["train", "--resume", str(out)]) == 1
            err = capsys.readouterr().err
            assert f"another run (process {process.pid}) is training in {out}" in err and err.count("\n") == 1, number
        process.kill()
        process.stderr.read()
    assert (out / LOCK).exists()  # of no consequence
    with start("--resume", str(out)) as process:
        time.sleep(0.2)
        while not process.stderr.readline().startswith("step "):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
    assert process.returncode == 143 and sorted(contents(out)) == FILES


# Moments, chosen: in one process, with a signal from inside


TINY_RUN = [*TINY, "--steps", "6", "--eval-every", "2", "--save-every", "2"]


@POSIX
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("where", "call", "steps"),
    [("save", 1, 0), ("save", 2, 2), ("step", 1, 1), ("step", 4, 4), ("evaluate", 1, 2), ("report", 3, 3)],
)
def test_a_signal_at_any_moment_saves_what_was_done(
    where, call, steps, number, text_file, tmp_path, monkeypatch, capsys
):
    out, whole, calls = tmp_path / "run", tmp_path / "whole", []
    assert main(["train", text_file, "--out", str(whole), *TINY_RUN]) == 0
    owner, name = {
        "save": (command.Trainer, "save"),
        "step": (command.Trainer, "step"),
        "evaluate": (command.Trainer, "held_out_loss"),
        "report": (Printer, "__call__"),
    }[where]
    real = getattr(owner, name)

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(number)
        return real(*arguments)

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        assert main(["train", text_file, "--out", str(out), *TINY_RUN]) == 128 + number
    assert f"stopped after step {steps}: saved in" in capsys.readouterr().err
    assert steps_in(out) == steps
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert main(["train", "--resume", str(out)]) == 0
    assert contents(out) == contents(whole)
    check_log(out, whole, 6, {steps})


@POSIX
@pytest.mark.parametrize(("first", "second", "code"), [(2, 2, 130), (15, 15, 143), (15, 2, 130), (2, 15, 143)])
def test_a_second_signal_ends_at_once_and_keeps_the_last_checkpoint(
    first, second, code, text_file, tmp_path, monkeypatch, capsys
):
    out, real = tmp_path / "run", command.Trainer.step

    def twice(trainer):
        if trainer.step_number == 3:
            signal.raise_signal(first)
            signal.raise_signal(second)
        return real(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(command.Trainer, "step", twice)
        assert main(["train", text_file, "--out", str(out), *TINY_RUN]) == code
    assert "stopped" not in capsys.readouterr().err
    assert steps_in(out) == 2 and sorted(contents(out)) == FILES
    assert main(["train", "--resume", str(out)]) == 0


def test_the_command_trains_in_a_thread_that_gets_no_signals(text_file, tmp_path):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    codes = []
    for n in (1, 2, 3):
        flags = ["train", text_file, "--out", str(tmp_path / f"run{n}"), *TINY_RUN]
        thread = threading.Thread(target=lambda flags=flags: codes.append(main(flags)))
        thread.start()
        thread.join()
    assert codes == [0, 0, 0]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
