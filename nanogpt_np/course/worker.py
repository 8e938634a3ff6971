"""The grader's child process: it runs a student's code and sends its parent the result of each check.

``python -m nanogpt_np.course.worker``, with a job as JSON on its standard input; `runner.py` starts it. Its messages
are lines of JSON on what was standard output before the student's code came; what that code prints goes elsewhere.
"""

import contextlib
import faulthandler
import json
import os
import sys
import traceback
from pathlib import Path

from . import student
from .assignment import get
from .judge import INCORRECT, Result, judge, kept_quiet
from .naming import name_mistake
from .seams import Finding

PRINTED = 2000  # characters of a check that are kept
MEMORY = 2 << 30  # bytes that a student's code may allocate, besides what Python and NumPy hold


def main():
    """Do the job and return the exit code."""
    job = json.loads(sys.stdin.buffer.readline())  # bytes, as the channel is UTF-8 whatever the locale says
    with os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n") as channel:

        def send(**message):
            channel.write(json.dumps(message) + "\n")
            channel.flush()

        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0), os.dup2(nowhere, 1)
        try:
            grade(job, send)
            send(end=True)
        except BaseException:
            send(bug=traceback.format_exc())
            return 1
    return 0


def grade(job, send):
    """Send the result of every check that the job asks for."""
    folder, seed, seconds = Path(job["folder"]), job["seed"], job["seconds"]
    assignment = get(job["assignment"])
    os.chdir(folder)
    sys.path.append(str(folder))  # for other files of the student's; last, so that they hide no module
    sys.dont_write_bytecode = True
    sys.stdin = open(os.devnull)  # noqa: SIM115
    limit_memory()
    faulthandler.enable(file=2)
    if hasattr(os, "register_at_fork"):  # a forked copy would continue grading, and fork again at the next call
        os.register_at_fork(after_in_child=lambda: os._exit(0))
    files, writes = tuple(map(str, folder.glob("*.py"))), assignment.writes  # one may import another

    with watched(send, None, seconds, forward(send, None)):
        try:
            for name in job["files"]:
                student.load(folder / name)
        except Finding as finding:
            send(all=Result(INCORRECT, str(finding)).as_dict())
            return
    names = {tuple(functions): "" for functions in job["unnamed"]}  # the known mistakes that functions behave like
    for index in job["checks"]:
        check = assignment.checks[index]

        def load(check=check):
            return student.versions(folder, check)

        with watched(send, index, seconds, forward(send, index)):
            result = judge(check, load, seed, writes=writes, files=files)
        send(check=index, result=result.as_dict())
        if result.status == INCORRECT:
            if check.functions not in names:
                with watched(send, index, seconds, dropped):
                    names[check.functions] = name_mistake(check, assignment, load, seed, writes=writes)
            result.mistake = names[check.functions]
            send(check=index, result=result.as_dict())


@contextlib.contextmanager
def watched(send, index, seconds, printed):
    """Announce which check begins; end the process when its time is up, with the student's line on standard error.

    printed : called with what is printed meanwhile.
    """
    send(begin=index)
    faulthandler.dump_traceback_later(seconds, exit=True, file=2)
    try:
        with kept_quiet(printed):
            yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def forward(send, index):
    """Return a function that sends what is printed in a check, up to `PRINTED` characters."""
    left = PRINTED

    def printed(s):
        nonlocal left
        if left > 0:
            send(printed=s[:left], check=index)
        left -= len(s)

    return printed


def dropped(s):
    """Discard what is printed while a mistake is named: the check's own prints were sent before."""


def limit_memory():
    """Let this process allocate `MEMORY` bytes more than it has, where the platform can enforce that."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + MEMORY
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard == resource.RLIM_INFINITY or limit <= hard:
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


if __name__ == "__main__":
    sys.exit(main())
