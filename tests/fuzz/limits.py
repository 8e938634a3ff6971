"""One case in a forked child: limits on its time and memory, its output, and the verdict on it.

The child inherits everything that is imported, so it costs milliseconds. What counts is processor time and memory
beyond what the child began with; the machine may be busy.
"""

import contextlib
import faulthandler
import json
import os
import re
import resource
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

SECONDS = 5  # of processor time; also of waiting without using any
ALLOWED = 200 << 20  # bytes that a case may allocate, besides twice the size of its files
SPARE = 1 << 30  # bytes above that before the system refuses: the rest of the machine is in use
LINE = 2000  # bytes of a line on stderr
CODES = (0, 1, 2, 130)
NO_MEMORY = ("MemoryError", "Unable to allocate", "Cannot allocate memory")  # how a refused allocation reads
KINDS = ("accepted", "refused", "traceback", "slow", "hang", "crash", "memory", "long line", "raw characters",
         "exit code", "wrong numbers", "not finite", "hidden", "contradiction", "other end", "bad JSON")  # fmt: skip


class Fault(Exception):
    """What must not happen. `kind` is one of `KINDS`; `where` groups faults of one cause."""

    def __init__(self, kind: str, detail: str, where: str = ""):
        super().__init__(detail)
        self.kind, self.detail, self.where = kind, detail, where


@dataclass
class Case:
    """One case: what was changed, the size of its files in bytes, and what to do with them in the child.

    run : gets a `Child`; returns "accepted" or "refused", or raises `Fault`.
    mapped : address space counts as memory; otherwise only what is resident (a dry run maps zeros by the gigabyte).
    """

    changed: str
    size: int
    run: Callable[["Child"], str]
    mapped: bool = True


@dataclass
class Verdict:
    """What became of a case."""

    outcome: str
    detail: str = ""
    where: str = ""
    seconds: float = 0.0  # of processor time
    memory: int = 0  # bytes beyond what the child began with
    note: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether it is neither accepted nor refused."""
        return self.outcome not in ("accepted", "refused")


class Child:
    """The child's side: it runs commands in this process, and measures what the package used."""

    def __init__(self, io: Path):
        self.io, self.note = io, ""
        self._began, self._used = _memory(), None
        self._read = {1: 0, 2: 0}

    def told(self, call):
        """Return (what `call` returns, None), or (None, its message) if it refuses in the way the package does."""
        try:
            return call(), None
        except (ValueError, OSError) as error:
            message = str(error)
            if len(message.encode("utf-8", "surrogatepass")) > LINE:
                raise Fault("long line", f"{len(message):,} characters: {message[:200]!r}", place(error)) from None
            if any(words in message for words in NO_MEMORY):
                raise Fault("memory", message[:300], place(error)) from None
            return None, message

    def command(self, argv, stdin=b""):
        """Run ``python -m nanogpt_np`` in this process; return (exit code, stdout). `stdin` None closes it."""
        from nanogpt_np.__main__ import main

        if stdin is None:
            sys.stdin = None
        else:
            (self.io / "stdin").write_bytes(stdin)
            with (self.io / "stdin").open("rb") as file:
                os.dup2(file.fileno(), 0)
            sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115
        code = main(argv)
        sys.stdout.flush(), sys.stderr.flush()
        out, err = self._new(1), self._new(2)
        if code not in CODES:
            raise Fault("exit code", f"{code} of {argv!r:.300}", str(code))
        check_stderr(err)
        if code and not err.strip() and code != 130 and argv[:1] not in (["diff"], ["course"]):
            raise Fault("exit code", f"{code} of {argv!r:.300}, with nothing said", "silent")
        return code, out

    def measure(self):
        """Take the measurements now: what follows is the judge's own work."""
        if self._used is None:
            now = _memory()
            usage = resource.getrusage(resource.RUSAGE_SELF)
            self._used = {
                "seconds": usage.ru_utime + usage.ru_stime,
                "mapped": now["VmPeak"] - self._began["VmSize"],
                "resident": now["VmHWM"] - self._began["VmRSS"],
            }
        return self._used

    def _new(self, fd):
        """Return what was written to a stream since the last call."""
        with (self.io / str(fd)).open("rb") as file:
            file.seek(self._read[fd])
            new = file.read()
        self._read[fd] += len(new)
        return new


def check_stderr(err: bytes) -> None:
    """Raise `Fault` for a traceback, an endless line, or characters that a terminal would obey."""
    text = err.decode("utf-8", "surrogateescape")
    if "Traceback (most recent call last)" in text:
        raise Fault("traceback", text[-1500:], text.strip().rpartition("\n")[2][:80])
    if any(words in text for words in NO_MEMORY):
        raise Fault("memory", text[:300], "a refused allocation")
    for line in text.split("\n"):
        size = len(line.encode("utf-8", "surrogateescape"))
        if size > LINE:
            raise Fault("long line", f"{size:,} bytes: {line[:200]!r}", cause(line))
        raw = [c for c in line if not c.isprintable() and c not in "\t\r"]
        if raw:
            raise Fault("raw characters", f"{raw[:5]!r} in {line[:300]!r}", cause(line))


def cause(line: str) -> str:
    """Return what lines of one cause have in common: the words before the first quote or digit."""
    return re.split(r"['\"\d]| --", line.removeprefix("python -m nanogpt_np "))[0][:60].strip()


def place(error: BaseException) -> str:
    """Return the type of an error and the last place in the package that it went through."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "nanogpt_np" in f.filename]
    ours = [f for f in frames if f"{os.sep}tests{os.sep}" not in f.filename] or frames
    where = f"{ours[-1].filename.rpartition('nanogpt_np' + os.sep)[2]}:{ours[-1].name}" if ours else "?"
    return f"{type(error).__name__} in {where}"


def run_case(case: Case, folder: Path, io: Path, seconds: float = SECONDS) -> Verdict:
    """Run a case in a child whose working folder is `folder`; its streams are files in `io`."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 on: the process may have threads of BLAS
        pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(read)
            verdict = _in_child(case, folder, io, seconds)
            with os.fdopen(write, "w") as pipe:
                json.dump(asdict(verdict), pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    raw, hung = _watch(pid, read, seconds)
    os.close(read)
    _, status, usage = os.wait4(pid, 0)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)  # what it started itself
    spent = usage.ru_utime + usage.ru_stime
    where = _dumped(io)
    if hung:
        return Verdict("hang", f"waited {seconds} s without working, or never ended", where, spent)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        kind = "slow" if number == signal.SIGXCPU or spent > seconds else "crash"
        return Verdict(kind, f"{signal.Signals(number).name} after {spent:.1f} s of work", where, spent)
    if not raw:
        return Verdict("crash", f"exit code {os.WEXITSTATUS(status)}, nothing said", where, spent)
    return Verdict(**json.loads(raw))


def _in_child(case: Case, folder: Path, io: Path, seconds: float) -> Verdict:
    os.setsid()
    os.chdir(folder)
    for fd in (1, 2):
        file = os.open(io / str(fd), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, fd), os.close(file)
    sys.stdout, sys.stderr = (open(fd, "w", encoding="utf-8", closefd=False) for fd in (1, 2))  # noqa: SIM115
    dump = (io / "where").open("w")
    faulthandler.enable(dump)
    for number in (signal.SIGXCPU, signal.SIGUSR1):
        faulthandler.register(number, dump, all_threads=False, chain=number == signal.SIGXCPU)
    most = int(seconds) + 1  # whole seconds; the exact time is looked at below
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    child = Child(io)
    bound = 2 * case.size + ALLOWED
    limit = child._began["VmSize"] + bound + SPARE + (0 if case.mapped else 4 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        outcome, detail, where = case.run(child), "", ""
    except Fault as fault:
        outcome, detail, where = fault.kind, fault.detail, fault.where
    except MemoryError as error:
        outcome, detail, where = "memory", f"an allocation was refused: {error}", place(error)
    except Exception as error:
        lines = traceback.format_exception(error)
        outcome, detail, where = "traceback", "".join(lines)[-1500:], place(error)
    used = child.measure()
    memory = used["mapped" if case.mapped else "resident"]
    if outcome in ("accepted", "refused"):
        if memory > bound:
            outcome, detail = "memory", f"{memory >> 20} MB for {case.size:,} bytes of files ({outcome})"
        elif used["seconds"] > seconds:
            outcome, detail = "slow", f"{used['seconds']:.1f} s of work ({outcome})"
    return Verdict(outcome, detail, where, round(used["seconds"], 3), memory, child.note)


def _memory() -> dict[str, int]:
    """Return the sizes in /proc/self/status, in bytes; a fork begins its peaks anew."""
    rows = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) << 10 for row in rows if row[0].startswith("Vm")}


def _watch(pid: int, read: int, seconds: float) -> tuple[bytes, bool]:
    """Return (what the child sent, whether it had to be killed): it is if it waits, or takes far too long."""
    raw, began, idle, before = b"", time.monotonic(), time.monotonic(), -1
    while True:
        if select.select([read], [], [], 0.2)[0]:
            part = os.read(read, 1 << 16)
            if not part:
                return raw, False
            raw += part
            continue
        now = time.monotonic()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        if ticks != before or fields[0] in "RD":
            before, idle = ticks, now
        if now - idle > seconds or now - began > 30 * seconds:
            os.kill(pid, signal.SIGUSR1)
            time.sleep(0.2)
            os.kill(pid, signal.SIGKILL)
            return raw, True


def _dumped(io: Path) -> str:
    """Return where the child was when a signal came: the innermost line in the package."""
    try:
        lines = (io / "where").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    ours = [line.strip() for line in lines if "/nanogpt_np/" in line and "/tests/" not in line]
    return ours[0].rpartition("/nanogpt_np/")[2].replace('"', "") if ours else "".join(lines[1:2]).strip()
