"""Grading a folder: each file in a process of its own, with limits of time and memory.

This keeps a student's mistakes from harming the grader: endless loops, crashes, prints, memory. It is no sandbox
against malice: the code runs with the rights of whoever grades.
"""

import contextlib
import errno
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from .assignment import assignments
from .definitions import Assignment, Check
from .judge import CORRECT, INCOMPLETE, INCORRECT, Result

SECONDS = 10  # for a check
START = 120  # seconds that Python and NumPy may take to start on a busy machine
SILENT = 10  # seconds after its time is up in which a process should have ended itself
BUG = "the grader itself failed here ({}): does your code change NumPy, or another module that it needs?"
LAST_WORDS = 100_000  # bytes of a process's standard error that are read when it ends too soon


@dataclass
class Graded:
    """An assignment and the results of its checks, in their order."""

    assignment: Assignment
    results: list[tuple[Check, Result]]


def grade(folder, names=(), *, seed=0, seconds=SECONDS):
    """Yield the Graded of each assignment in `names` (all, if there are none), as soon as it is done."""
    for name, assignment in assignments().items():
        if not names or name in names:
            yield Graded(assignment, grade_one(Path(folder).resolve(), assignment, seed, seconds))


def grade_one(folder, assignment, seed, seconds):
    """Return [(check, result)] of an assignment."""
    checks = assignment.checks
    missing = [name for name in files_of(assignment) if not (folder / name).is_file()]
    if missing:
        return [(c, Result(INCOMPLETE, f"{missing[0]} is missing; `new` writes it")) for c in checks]
    results, left, died, unnamed = {}, list(range(len(checks))), [], []
    while left:
        job = {
            "folder": str(folder),
            "assignment": assignment.name,
            "files": files_of(assignment),
            "checks": left,
            "seed": seed,
            "seconds": seconds,
            "unnamed": unnamed,
        }
        new, died_at, why = work(job, folder)
        results |= new
        if died_at is None and why:
            return [(check, why) for check in checks]
        if why:  # naming runs every check of the functions, and would end at the same place
            unnamed.append(checks[died_at].functions)
        if why and died_at not in results:
            results[died_at] = why
            died.append(checks[died_at].functions)
            if died.count(died[-1]) == 2:  # trying again would only use up the time again
                same = [i for i in left if i not in results and checks[i].functions == died[-1]]
                results |= {i: Result(INCORRECT, "not tried: two checks of it did not finish") for i in same}
        left = [i for i in left if i not in results]
    wrong = {check.functions for i, check in enumerate(checks) if results[i].status != CORRECT}
    for i, check in enumerate(checks):
        if check.functions in wrong and results[i].status == CORRECT:
            results[i].notes = ""  # about digits: where another check fails, that explains them
    return [(check, results[i]) for i, check in enumerate(checks)]


def files_of(assignment):
    """Return the student's files that an assignment judges."""
    judged = {where for check in assignment.checks for where in check.functions}
    return [a.file for a in assignments().values() if judged & a.functions.keys()]


def work(job, folder):
    """Run a worker to its end -> ({check: result}, the check it died in or None, the Result that says why)"""
    results, printed, begun, why, whole, started, silent, bug = {}, {}, None, None, False, False, False, ""
    with tempfile.TemporaryFile() as errors:
        process = start(job, errors)
        for message in messages(process, job["seconds"] + SILENT):
            if "begin" in message:
                begun, started = message["begin"], True
            elif "printed" in message:
                printed[message["check"]] = printed.get(message["check"], "") + message["printed"]
            elif "end" in message:
                whole = True
            elif "silent" in message:
                silent = True
            elif "bug" in message:
                bug = message["bug"].strip().rpartition("\n")[2]
            elif "all" in message:
                begun, why = None, Result(**message["all"])
            else:
                begun = message["check"]
                results[begun] = Result(**message["result"])
        if not whole:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - LAST_WORDS))
            last = errors.read().decode("utf-8", "replace")
            if not started:
                *_, why = last.strip().split("\n")
                raise OSError(f"the grader's own process did not start: {why or 'it said nothing'}")
            why = end_in_words(process.returncode, last, job["seconds"], folder, silent)
        if bug:
            why = Result(INCORRECT, BUG.format(bug))
    for index, text in printed.items():
        for result in [results[index]] if index in results else [why] if why and index == begun else []:
            result.printed = text
    return results, begun, why


def start(job, errors):
    """Start a worker and send it its job."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.worker"],
        cwd=Path(__file__).parent.parent.parent,  # where this package is, and no file of the student's
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
        start_new_session=True,  # so that its own children end with it, and Ctrl-C reaches this process only
    )
    with ended_quietly():  # if it has ended already, it sends nothing, which is noticed
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
    with ended_quietly():
        process.stdin.close()
    return process


@contextlib.contextmanager
def ended_quietly():
    """Ignore the error of a pipe whose reader is gone: EPIPE, or EINVAL on Windows."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EINVAL):
            raise


def messages(process, limit):
    """Yield what a worker sends until it ends or is silent for `limit` seconds; then kill it and what it started."""
    lines = queue.Queue()

    def read():
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    reader = threading.Thread(target=read, daemon=True)
    try:
        reader.start()
    except RuntimeError as error:
        end(process)
        process.stdout.close()
        raise OSError(f"the grader needs a thread to read what its process sends: {error}") from None
    try:
        line = lines.get(timeout=START)
        while line is not None:
            yield (message := json.loads(line))
            if "end" in message:  # whatever a student's threads may still do
                return
            line = lines.get(timeout=limit)
        process.wait(timeout=limit)
    except (queue.Empty, subprocess.TimeoutExpired):
        yield {"silent": True}
    finally:
        end(process)
        reader.join(timeout=1)
        if not reader.is_alive():
            process.stdout.close()


def end(process):
    """End a process and those that it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def end_in_words(code, errors, seconds, folder, silent=False):
    """Return a Result that says why a worker ended early, and in which line of the student's."""
    ours = "|".join({re.escape(str(folder)), re.escape(as_dumped(folder))})
    place = re.search(rf'File "(?:{ours})[/\\]([^"/\\]+)", line (\d+)', errors)  # most recent call first
    line = f"line {place[2]} of {place[1]}" if place else ""
    if silent or (code == 1 and re.search(r"^Timeout \(\d", errors, re.M)):  # faulthandler's words and exit code
        words = f"it was not done after {seconds} seconds: is there an endless loop?"
    elif "Fatal Python error" in errors:
        words = f"it crashed Python: {re.search('Fatal Python error: (.*)', errors)[1]}"
    elif code < 0:
        words = f"its process was killed by signal {-code}: did it ask for too much memory?"
    else:
        words = f"its process ended early, with exit code {code}: a function returns its result instead"
    return Result(INCORRECT, words, where=line)


def as_dumped(path):
    """Return a path as faulthandler writes it: in ASCII, anything else as its code."""
    return "".join(
        c if " " <= c <= "~" else f"\\x{ord(c):02x}" if c <= "\xff" else c.encode("unicode_escape").decode()
        for c in str(path)
    )
