"""Judging: run a check with the student's functions and without, and say what differs.

`judge` runs in the process that calls it; `runner.py` limits time and memory. A check is tried on its cases from the
smallest to the largest, each in float64 and in float32, and ends at the first that fails.
"""

import bdb
import contextlib
import io
import traceback
import warnings
import zlib
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path

import numpy as np

from ..interpret.recorder import Recorder
from . import compare, seams
from .definitions import takes_trace
from .seams import Finding

CORRECT, INCORRECT, INCOMPLETE = "CORRECT", "INCORRECT", "INCOMPLETE"
LONGEST = 500  # characters of an exception's message that are shown


@dataclass
class Result:
    """The outcome of a check; all fields but `status` are text for people."""

    status: str
    problem: str = ""  # what is wrong, in words
    case: str = ""  # the smallest case that shows it
    expected: str = ""
    got: str = ""
    trace: str = ""  # the first trace point that differs
    where: str = ""  # the line of the student's file
    notes: str = ""  # what may explain it
    mistake: str = ""  # the known mistake that behaves so
    printed: str = ""  # what the student's code printed

    def as_dict(self):
        """Return it for JSON."""
        return asdict(self)


@dataclass
class Outcome:
    """The outcome of a run: a value or an error, and the arrays that it announced."""

    value: object = None
    error: BaseException | None = None
    acts: dict | None = None
    notes: tuple[str, ...] = ()


class Watch(Recorder):
    """Keep copies of announced arrays, to detect whether they were written into afterwards."""

    def __init__(self):
        super().__init__()
        self.given = {}

    def __call__(self, name, x):
        if not isinstance(x, np.ndarray):
            raise Finding(f"trace takes a name and an array, not {compare.text(name)} and {compare.text(x)}")
        super().__call__(name, x.copy())
        self.given[name] = x
        return x

    def spoilt(self):
        """Return the name of an array that was changed after it was announced, or None."""
        for name, kept in self.items():
            if kept.tobytes() != self.given[name].tobytes():
                return name
        return None


def judge(check, load, seed=0, *, writes=(), files=()):
    """Return the Result of a check.

    load : () -> ``{where: version}``, the student's functions, made anew each time.
    writes : the functions that may write into their arguments.
    files : the student's; of an error, the line in one of these is shown.
    """
    notes = set()
    try:
        versions = load()
        for number, case, dtype, again in in_turn(check, seed):
            got = run(check, case, versions, writes=writes)
            if unwritten(got, files):
                return Result(INCOMPLETE)
            expected = run(check, case, {})
            if expected.error:
                words = f"after this code has run, the reference fails too ({error_words(expected.error)})"
                raise Finding(f"{words}: does it change NumPy, or another module that others use?")
            result = verdict(check, case, dtype, got, expected, files)
            if (
                result.status == INCORRECT
                and number
                and not got_right(check, case, dtype, expected, load, files, writes)
            ):
                return result
            if result.status == INCORRECT and number:  # a fresh copy of the student's file gets it right
                earlier = "the same call again" if again else "other calls before it"
                result.problem = f"it is right when it is called first, and wrong after {earlier}: what does it keep?"
                result.notes = "global variables, class attributes and mutable defaults live on between calls"
                return result
            if result.status == INCORRECT:
                return result
            notes |= {result.notes}
    except Finding as finding:
        return Result(INCORRECT, str(finding))
    return Result(CORRECT, notes=min(notes - {""}, default=""))  # the note with the fewest digits


def got_right(check, case, dtype, expected, load, files, writes):
    """Return whether the student's code, freshly loaded, gets this case right."""
    got = run(check, case, load(), writes=writes)
    return verdict(check, case, dtype, got, expected, files).status == CORRECT


def in_turn(check, seed):
    """Yield (number, case, dtype, False) of all cases, and then the first again, with True."""
    first = None
    for number, (case, dtype) in enumerate(all_cases(check, seed)):
        first = first or (case, dtype)
        yield number, case, dtype, False
    yield number + 1, *first, True


def all_cases(check, seed):
    """Yield (case, dtype): each in float64 and float32, or once with dtype None if it holds no float64 array."""
    rng = np.random.default_rng([seed, zlib.crc32(check.name.encode())])
    for case in check.cases(rng):
        if has_float64(case):
            yield case, np.dtype(np.float64)
            yield cast(case, np.float32), np.dtype(np.float32)
        else:
            yield case, None


def run(check, case, versions, *, writes=()):
    """Run a check with `versions` in place of the package's functions -> Outcome"""
    notes = set()
    guarded = {
        where: seams.guarded(version, where, writes=where in writes, notes=notes)
        if where in check.functions
        else version
        for where, version in versions.items()
    }
    watch, value, error = Watch(), None, None
    case = cast(case, None)  # copies: whatever happens to them, the next run gets the same
    with (
        warnings.catch_warnings(record=True) as caught,
        np.errstate(),  # what a student's code sets ends here
        np.printoptions(),
        seams.installed(guarded),
    ):
        warnings.simplefilter("always")
        try:
            value = check.run(**case, trace=watch) if takes_trace(check.run) else check.run(**case)
        except BaseException as problem:  # a KeyboardInterrupt too, if a student's code raises it
            error = problem
    if error is None and (name := watch.spoilt()):
        error = Finding(
            f"what was announced as {name} was written into afterwards: whoever kept it has other numbers now"
        )
    notes |= {f"NumPy warned: {w.message}" for w in caught if issubclass(w.category, RuntimeWarning)}
    return Outcome(value, error, dict(watch), tuple(sorted(notes)))


def verdict(check, case, dtype, got, expected, files):
    """Return the Result of one case."""
    notes = "; ".join(got.notes)
    if got.error is not None:
        where = _place(got.error, files)[0]
        return Result(INCORRECT, error_words(got.error), case=_shown(case, dtype), where=where, notes=notes)
    tolerance = tolerated(check, case, dtype, got.value, expected.value)
    different = compare.difference(got.value, expected.value, tolerance=tolerance)
    if different is None:
        digits = compare.digits(got.value, expected.value) if dtype == np.float64 else compare.PLAINLY
        return Result(CORRECT, notes=FEW_DIGITS.format(digits) if digits < compare.PLAINLY else "")
    trace, dtypes = first_difference(got.acts, expected.acts, tolerance), different.pop("dtypes")
    if dtypes and dtypes[0] == "float64":
        notes = "; ".join(filter(None, [notes, FLOAT64]))
    return Result(INCORRECT, case=_shown(case, dtype), trace=trace, notes=notes, **different)


def tolerated(check, case, dtype, got, expected):
    """Return how far numbers of a result may be off: those in float64, those in float32.

    What float32 rounds off is measured only where it matters: for results that are neither right nor far off.
    """
    least, wide = compare.LEAST, compare.WIDE
    if dtype == np.float32:  # all numbers are, also those that were made plain floats on their way
        return wide, wide
    right, near = (compare.difference(got, expected, tolerance=(share, wide)) is None for share in (least, wide))
    if dtype is None or right or not near:
        return least, wide
    return compare.rounding(run(check, cast(case, np.float32), {}).value, expected), wide


def _shown(case, dtype):
    """Return a case in words; this takes longer than many checks, so it is done for failures only."""
    words = "; ".join(f"{name} = {compare.text(value)}" for name, value in case.items())
    return words + (f" ({dtype})" if dtype else "")


def unwritten(got, files):
    """Return whether a run ended at a function that is not written yet."""
    return isinstance(got.error, NotImplementedError) and _place(got.error, files)[1]


FLOAT64 = (
    "float32 came in, so somewhere a float64 got in between: a NumPy scalar such as np.sqrt(64) (use math.sqrt), "
    "or an array made without dtype=x.dtype"
)
FEW_DIGITS = (
    "in float64 it agrees to {} digits only: part of it is computed in float32, a constant in it has too few digits, "
    "or a small number is added where none belongs"
)


def first_difference(acts, expected, tolerance):
    """Say which of the announced arrays is the first to differ; "" if none does."""
    for name, x in expected.items():
        if name in acts and (different := compare.difference(acts[name], x, name, tolerance)):
            expected_, got = different["expected"].replace("\n", " "), different["got"].replace("\n", " ")
            return different["problem"] + (f": expected {expected_}, got {got}" if got else "")
    return ""


def error_words(error):
    """Say what an exception means."""
    if isinstance(error, Finding):
        return str(error)
    if isinstance(error, SystemExit):
        return "it calls exit(): a function returns its result and lets its caller continue"
    if isinstance(error, bdb.BdbQuit):
        return "it stops for the debugger: take breakpoint() out"
    if isinstance(error, RecursionError):
        return "RecursionError: it calls itself endlessly"
    if isinstance(error, MemoryError):
        return f"it asks for more memory than it is given ({str(error) or 'MemoryError'})"
    if isinstance(error, EOFError):
        return "it reads from the keyboard (input): the numbers come as arguments"
    try:
        words = str(error)
    except Exception:
        words = ""
    return f"{type(error).__name__}: {words[:LONGEST]}" if words else type(error).__name__


def _place(error, files):
    """Return (the last line of the student's that an exception passed through, whether it was raised there)."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename in files]
    if not own:
        return "", not files
    line = f"line {own[-1].lineno} of {Path(own[-1].filename).name}: {own[-1].line}"
    return line, frames[-1] is own[-1]


def has_float64(value):
    """Return whether a float64 array is anywhere in a case."""
    if isinstance(value, np.ndarray):
        return value.dtype == np.float64
    if isinstance(value, (tuple, list)):
        return any(map(has_float64, value))
    if isinstance(value, dict):
        return any(map(has_float64, value.values()))
    if is_dataclass(value) and not isinstance(value, type):
        return any(has_float64(getattr(value, part.name)) for part in fields(value))
    return False


def cast(value, dtype, seen=None):
    """Copy a case with its float64 arrays as `dtype` (None: as they are); one array in two places stays one."""
    seen = {} if seen is None else seen
    if id(value) in seen:
        return seen[id(value)][1]
    new = value
    if isinstance(value, np.ndarray):
        new = value.astype(dtype) if dtype is not None and value.dtype == np.float64 else value.copy()
    elif isinstance(value, (tuple, list)):
        new = type(value)(cast(item, dtype, seen) for item in value)
    elif isinstance(value, dict):
        new = {key: cast(item, dtype, seen) for key, item in value.items()}
    elif is_dataclass(value) and not isinstance(value, type):
        new = replace(value, **{part.name: cast(getattr(value, part.name), dtype, seen) for part in fields(value)})
    seen[id(value)] = value, new
    return new


@contextlib.contextmanager
def kept_quiet(write):
    """Pass what is printed in the block to `write` instead of showing it."""

    class Stream(io.TextIOBase):
        def write(self, s):
            write(s)
            return len(s)

        def writable(self):
            return True

    with contextlib.redirect_stdout(Stream()), contextlib.redirect_stderr(Stream()):
        yield
