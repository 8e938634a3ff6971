"""Where two runs part, and by how much: `diff(acts_a, acts_b)`, and ``python -m nanogpt_np diff A.npz B.npz``.

For a learner whose own layer is wrong: compare your dict of activations with a `Recorder`'s, and read at
which step the two part. Just as well for two prompts, two sets of weights, a pass with a cache and one
without, float32 and float64, or a dump from PyTorch. No weights are needed: what is said of a step comes
from the table in `points.py`. The words: `diff_report.py`; the files: `recording.py`.
"""

import json
import math
import sys
from dataclasses import dataclass, field, replace

import numpy as np

from . import points
from .cli import Parser, command, one_line, say
from .diff_report import as_dict, few, report, table
from .recording import read_arrays

# Between rounding and mistakes, as a part of the largest number of a tensor. Rounding, measured with and without a
# cache, in float32 and float64, here and in transformers: up to 2e-6 on the bundled model and on a random gpt2, up to
# 7e-6 on models of 3 to 48 blocks with sharp attention (scores of 15); scores of 70 make it grow to 1e-2 in 24 blocks,
# and then the report says that it grew. Mistakes: the exact GELU moves hook_post by 1e-4, epsilon 1e-6 for 1e-5 moves
# the hook_scale of the bundled model by 3.5e-5, a dropped bias its tensor by 3e-2 and more.
TOLERANCE = 1e-5
MASKED = -1e4  # scores no greater than this are masked: where we write -inf, others write -1e4, -1e10 or -3.4e38
FEW = 3  # so many heads, positions ... may be listed as the only ones that are off


@dataclass(frozen=True)
class Row:
    """One trace point of both runs; the figures are those of the two numbers that are farthest apart."""

    name: str
    shape_a: tuple[int, ...]  # of what was compared
    shape_b: tuple[int, ...]
    differs: bool  # in any number at all; 0 and -0 are the same number
    parts: bool  # by more than the tolerance, or in shape
    absolute: float | None = None  # infinite where one is NaN or they are not the same infinity; None if shapes differ
    relative: float | None = None  # that as a part of the largest finite number in a's tensor
    ulps: float | None = None  # that in units in the last place, see `spacing`; None for whole numbers, NaN, infinity
    unit: str | None = None  # the dtype that they are the last place of: the coarser of the two
    at: dict[str, int] = field(default_factory=dict)  # by the axes: {"head": 3, "query": 4, "key": 2}
    index_a: tuple[int, ...] = ()  # acts_a[name][index_a] is `a`
    index_b: tuple[int, ...] = ()
    a: float | None = None
    b: float | None = None
    off: int = 0  # how many numbers are off by more than the tolerance
    only: dict[str, list[int]] = field(default_factory=dict)  # where all of these are: {"head": [1, 3]}
    note: str = ""  # what was taken as another way to write the same


@dataclass(frozen=True)
class Diff:
    """What `diff` found: ``print`` it for a report in words."""

    rows: dict[str, Row]  # of every trace point that was compared, in the order in which they happen
    skipped: dict[str, list[str]]  # why not compared -> names
    tolerance: float
    cut: str  # which positions were compared, where only one of the runs has some

    @property
    def first(self):
        """The first trace point at which the runs differ by more than the tolerance, or None."""
        return next((name for name, row in self.rows.items() if row.parts), None)

    @property
    def first_bit(self):
        """The first trace point at which any number differs at all, or None."""
        return next((name for name, row in self.rows.items() if row.differs), None)

    def __str__(self):
        return report(self)


def diff(acts_a, acts_b, *, tolerance=TOLERANCE):
    """Compare two runs, each a mapping of trace points to arrays, and return a `Diff`.

    acts_a : the run to measure by: a `Recorder`, a dict, or what `numpy.load` makes of an .npz.
    acts_b : the other run. Names that only one of them has are listed, not compared.
    tolerance : by how much of the largest number in a's tensor the two may differ. Whole numbers (tokens,
        positions) must be equal. -inf equals -inf; NaN, also on both sides, is a difference.

    A leading batch axis of 1 is taken off. Runs of equally many rows are compared as they are. Of others (a pass
    after a cache and a whole one, or two prompts of different length) the rows of those positions are compared that
    both have: by hook_positions or, where a run has none, by its T rows being the last of its S keys. Of
    the keys, those are compared that both have; for these rows the others are masked. What follows
    the last token is then compared only if both runs end at the same position.

    Two other ways to write the same are noted and not counted as parting: masking scores with -1e4 or less in the
    place of -inf, and calling the output after gain and bias hook_normalized, as TransformerLens does with raw weights.

    Raises ValueError where there is nothing to compare, and for what is not an array of real numbers.
    """
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be a number from 0 on, not {tolerance}")
    common = [name for name in acts_a if name in acts_b and _is_point(name)]
    if not common:
        raise ValueError(f"no trace point is in both: a has {few(acts_a)}; b has {few(acts_b)}")
    a, b = _Run(acts_a), _Run(acts_b)
    cut, elsewhere = _align(a, b), []
    if cut and a.positions[-1] != b.positions[-1]:
        ends = {point.name for point in points.NEXT_TOKEN}
        elsewhere = [name for name in common if name in ends]
    names = sorted((name for name in common if name not in elsewhere), key=_moment)
    if not names:
        raise ValueError(f"the two end at different positions, and have nothing else in common: {few(elsewhere)}")
    skipped = {
        "only a has": [name for name in acts_a if name not in acts_b],
        "only b has": [name for name in acts_b if name not in acts_a],
        "no trace points are": [name for name in acts_a if name in acts_b and not _is_point(name)],
        "of another position are": elsewhere,
    }
    rows = {name: _row(name, a, b, tolerance) for name in names}
    return Diff(rows, {why: [*map(str, found)] for why, found in skipped.items() if found}, tolerance, cut)


def spacing(x, dtype):
    """Return the unit in the last place of `x` in a float dtype: how far apart numbers of its size are.

    For 2**e <= abs(x) < 2**(e + 1) that is 2**(e - p), with p = 23 in float32 and 52 in float64; below the
    smallest normal number it shrinks no more.
    """
    info = np.finfo(dtype)
    exponent = math.frexp(x)[1] - 1
    return math.ldexp(1.0, max(exponent, int(info.minexp)) - int(info.nmant))


# ---- One run, and which part of it is compared ----


class _Run:
    """The arrays of a run without batch axes of 1, and which of their rows and keys are compared."""

    def __init__(self, acts):
        self.arrays, self.dropped = {}, {}  # by name; the second says how many axes were taken off
        for name in filter(_is_point, acts):
            x = _numbers(name, acts[name])
            surplus = x.shape[: max(0, x.ndim - len(_letters(name)))]
            ones = next((axis for axis, size in enumerate(surplus) if size != 1), len(surplus))
            self.arrays[name], self.dropped[name] = x.reshape(x.shape[ones:]), ones
        self.positions = _positions(self.arrays)
        self.rows, self.keys = np.arange(len(self.positions)), None  # all of them

    def axis_of_rows(self, name):
        """Return the axis of an array that has the rows of this run, counted from the last; None without one."""
        x, letters = self.arrays[name], _letters(name)
        axis = letters.index("T") - len(letters) if "T" in letters and x.ndim >= len(letters) else None
        return None if axis is None or x.shape[axis] != len(self.positions) else axis

    def compared(self, name):
        """Return the part of an array that is compared."""
        x, axis = self.arrays[name], self.axis_of_rows(name)
        if "S" in _letters(name):
            x = x[..., : self.keys]
        return x if axis is None or len(self.rows) == len(self.positions) else x.take(self.rows, axis)

    def index(self, name, index):
        """Return where a number of what is compared stands in the array as it was given."""
        rows = self.axis_of_rows(name)
        own = [self.rows[i] if axis == rows else i for axis, i in enumerate(index, -len(index))]
        return (0,) * self.dropped[name] + tuple(map(int, own))

    def called(self, name, axis, i):
        """Return what the `i`-th along an axis of what is compared is called: of rows, the position in the text."""
        return int(self.positions[self.rows[i]] if axis == self.axis_of_rows(name) else i)


def _is_point(name):
    try:
        points.get(name)
    except (ValueError, TypeError):  # TypeError: a name that is no text
        return False
    return True


def _letters(name):
    return points.get(name).axes.split()


def _axes(name, ndim):
    """Return (axis counted from the last, what an index along it counts) for an array of `ndim` axes."""
    names = list(points.get(name).axis_names)
    batch = ndim - len(names)
    names = [*(["prompt"] if batch == 1 else [f"batch axis {k}" for k in range(batch)]), *names][-ndim or len(names) :]
    return list(enumerate(names, -ndim))


def _numbers(name, x):
    try:
        x = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a PyTorch tensor that wants .detach()
        raise ValueError(f"{name} is no array of numbers: {error}") from None
    if x.dtype.kind not in "iuf" or not x.size:
        raise ValueError(f"{name} must hold real numbers, not {x.dtype} of shape {list(x.shape)}")
    return x.astype(np.float64) if x.dtype.itemsize > 8 else x


def _positions(arrays):
    """Return the positions of a run's rows in the text, (T,)."""
    given = arrays.get("hook_positions")
    if given is not None and given.ndim and (np.diff(given) == 1).all():
        return given.reshape(-1, given.shape[-1])[0].astype(int)  # the same for every prompt of a batch
    sizes = {}
    for name, x in arrays.items():
        for letter, size in zip(reversed(_letters(name)), reversed(x.shape), strict=False):
            sizes.setdefault(letter, size)
    T = sizes.get("T", 0)
    S = max(T, sizes.get("S", T))
    return np.arange(S - T, S)


def _align(a, b):
    """Keep the rows and keys that both runs have, and say which; say nothing where they have equally many rows."""
    if len(a.positions) == len(b.positions) or not (len(a.positions) and len(b.positions)):
        return ""
    shared, a.rows, b.rows = np.intersect1d(a.positions, b.positions, return_indices=True)
    has = " and ".join(f"{s.positions[0]} to {s.positions[-1]} in {n}" for n, s in (("a", a), ("b", b)))
    if not len(shared):
        raise ValueError(f"the two runs have no position in common: {has}")
    a.keys = b.keys = 1 + min(a.positions[-1], b.positions[-1])
    return f"compared at positions {shared[0]} to {shared[-1]}, of {has}"


def _moment(name):
    """Return what sorts trace points into the order in which they happen."""
    i = points.block_of(name)
    place = list(points.TEMPLATES).index(name if i is None else name.replace(f".{i}.", ".{i}.", 1))
    return (-1 if place < len(points.START) else math.inf) if i is None else i, place


# ---- The comparison ----


def _row(name, a, b, tolerance):
    """Compare one trace point; where it parts for its name only, compare what is meant."""
    row = _compare(name, a, name, b, name, tolerance)
    if row.parts and name.endswith("hook_normalized"):
        output = name.replace("hook_normalized", "hook_output")
        for name_a, name_b, whose, other in ((output, name, "b", "a"), (name, output, "a", "b")):
            if name_a in a.arrays and name_b in b.arrays:
                meant = _compare(name, a, name_a, b, name_b, tolerance)
                if not meant.parts:
                    return replace(meant, note=f"the hook_normalized of {whose} is the hook_output of {other}")
    return row


def _compare(name, run_a, name_a, run_b, name_b, tolerance):
    a, b = run_a.compared(name_a), run_b.compared(name_b)
    if a.shape != b.shape:
        return Row(name, a.shape, b.shape, differs=True, parts=True)
    whole = name in points.WHOLE_NUMBERS
    floats = [] if whole else [x.dtype for x in (a, b) if x.dtype.kind == "f"]
    unit = max(floats, key=lambda dtype: np.finfo(dtype).eps, default=None)
    (x, note_a), (y, note_b) = (_values(name, array, run) for array, run in ((a, "a"), (b, "b")))

    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(x - y)
    apart = np.where(x == y, 0, np.where(np.isnan(apart), math.inf, apart))  # x == y: inf - inf is NaN
    largest = float(np.abs(x[np.isfinite(x)]).max(initial=0))
    off = apart > (0 if whole else tolerance * largest)
    index = tuple(map(int, np.unravel_index(apart.argmax(), apart.shape)))
    absolute = float(apart[index])
    row = Row(
        name,
        a.shape,
        b.shape,
        differs=absolute > 0,
        parts=bool(off.any()),
        absolute=absolute,
        relative=absolute / largest if largest else (math.inf if absolute else 0.0),
        unit=None if unit is None else unit.name,
        off=int(off.sum()),
        note=note_a or note_b,
    )
    if not row.differs:
        return row
    axes = _axes(name, a.ndim)
    biggest = max(abs(float(x[index])), abs(float(y[index])))
    return replace(
        row,
        ulps=absolute / spacing(biggest, unit) if unit is not None and math.isfinite(absolute) else None,
        at={counts: run_a.called(name_a, axis, index[axis]) for axis, counts in axes if counts != "one"},
        index_a=run_a.index(name_a, index),
        index_b=run_b.index(name_b, index),
        a=a[index].item(),
        b=b[index].item(),
        only={counts: found for axis, counts in axes if (found := _few_along(axis, off, run_a, name_a))},
    )


def _values(name, x, whose):
    """Return an array in float64, masked scores as -inf, and a note if they were written otherwise."""
    x = x.astype(np.float64)
    if not name.endswith("hook_attn_scores"):
        return x, ""
    masked = x <= MASKED
    written = x[masked & (x > -math.inf)]
    note = f"{whose} masks scores with {written[0]:g} for -inf" if written.size else ""
    return np.where(masked, -math.inf, x), note


def _few_along(axis, off, run, name):
    """Return what those are called along an axis that hold all numbers that are off; nothing if they are many."""
    found = np.flatnonzero(off.any(axis=tuple(k for k in range(-off.ndim, 0) if k != axis)))
    return [run.called(name, axis, i) for i in found] if len(found) <= FEW and len(found) < off.shape[axis] else []


# ---- The command ----


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code: 2 for trouble, since 1 says that the runs part."""
    parser = Parser(
        "diff",
        "Say where two saved passes part, and by how much. They are files that python -m nanogpt_np trace PROMPT\n"
        "--save FILE.npz wrote, or numpy.savez with arrays of the same names, such as a dump from PyTorch.",
        epilog="Exit code: 0 if they agree within the tolerance, 1 if they part, 2 for trouble, as of diff(1).",
    )
    add = parser.add_argument
    add("a", metavar="A.npz", help="the pass to measure by")
    add("b", metavar="B.npz", help="the other pass")
    add("--tolerance", type=float, default=TOLERANCE, metavar="X", help="by how much of the largest number in A's "
        f"tensor the two may differ (default: {TOLERANCE:g})")  # fmt: skip
    add("--all", action="store_true", help="print a line for each point that was compared")
    add("--json", action="store_true", help="print one JSON object, with all points")
    args = parser.parse_args(argv)

    try:
        (acts_a, about_a), (acts_b, about_b) = read_arrays(args.a), read_arrays(args.b)
        result = diff(acts_a, acts_b, tolerance=args.tolerance)
    except (ValueError, OSError, MemoryError) as error:
        say(f"error: {one_line(error) or type(error).__name__}")
        return 2
    if args.json:
        files = {"a": {"file": args.a, "about": about_a}, "b": {"file": args.b, "about": about_b}}
        print(json.dumps(files | as_dict(result), indent=1))
    else:
        print(one_line(f"a: {args.a}{_whose(about_a)}"))
        print(one_line(f"b: {args.b}{_whose(about_b)}"))
        for line in [*(table(result) if args.all else []), *str(result).split("\n")]:
            print(line)
    return 0 if result.first is None else 1


def _whose(about):
    """Say what a recording knows of itself: nothing of it was checked."""
    model = about.get("model") if about else None
    origin = f", {model['origin']}" if isinstance(model, dict) and "origin" in model else ""
    return f"   {json.dumps(about['prompt'])}{origin}" if about and "prompt" in about else origin


if __name__ == "__main__":
    sys.exit(main())
