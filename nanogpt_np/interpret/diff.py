"""Where two runs part, and by how much: `diff(acts_a, acts_b)`.

For a learner whose own layer is wrong: compare your dict of activations with a `Recorder`'s, and read at
which step the two part. Just as well for two prompts, two sets of weights, a pass with a cache and one
without, float32 and float64, or a dump from PyTorch. No weights are needed: what is said of a step comes
from the table in `names/activations.py`. Which rows belong together: `align.py`. Read next: `diff_words.py`.
"""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ..names import points
from ..names.resolve import Named, UnknownName, resolve_in_any_model
from ..names.wording import few, one_line, screen
from .align import ALL, NEXT, Side, align, axes, letters, match_logits
from .diff_words import report, table

if TYPE_CHECKING:  # two dicts are compared without the model
    from ..model.trace import Array

# Between rounding and mistakes, as a part of the largest number in the row of a token. Rounding, measured with and
# without a cache, and in float32 and float64: up to 2e-6 on the bundled model, 3e-6 on a random gpt2, 5e-6 on models
# of 3 to 48 blocks with sharp attention (scores of 15); scores of 40 make it grow to 2e-4 in 24 blocks, and then the
# report says that it grew. Mistakes: the exact GELU moves hook_post by 1e-4, epsilon 1e-6 for 1e-5 moves the hook_scale
# of the bundled model by 3.5e-5, a dropped bias its tensor by 3e-2 and more.
TOLERANCE = 1e-5
UNITS_OF_HALF = 4  # float16 has a spacing of 1e-3: it cannot be held to TOLERANCE, but to so many units
MASKED = -1e4  # scores no greater than this are masked: where we write -inf, others write -1e4, -1e10 or -3.4e38
TABLE = 60  # lines of the table that a Diff shows
FEW = 3  # so many heads, positions ... may be listed as the only ones that are off


@dataclass(frozen=True)
class Row:
    """One trace point of both runs; the figures are those of the two numbers that are farthest apart.

    How far is measured by the row of a token: all its heads and columns, and of a query all its heads and keys.
    So a token with numbers in the thousands, as the first one has in GPT-2, hides nothing at the others.
    """

    name: str
    shape_a: tuple[int, ...]  # of what was compared
    shape_b: tuple[int, ...]
    given_a: tuple[int, ...]  # of the whole array, as it was given
    given_b: tuple[int, ...]
    differs: bool  # in any number at all; 0 and -0 are the same number
    mismatch: bool  # by more than the tolerance, or in shape
    tolerance: float = 0.0  # 0 for whole numbers, and never less than float16 can hold
    absolute: float | None = None  # infinite where one is NaN or they are not the same infinity; None if shapes differ
    relative: float | None = None  # that as a part of the largest finite number in a's row
    ulps: float | None = None  # that in units in the last place, see `spacing`; None for whole numbers, NaN, infinity
    unit: str | None = None  # the dtype that they are the last place of: the coarser of the two
    by_mean: float | None = None  # at most, of any number: as a part of its own size or of the mean size in a's row
    at: dict[str, int] = field(default_factory=dict)  # by the axes: {"head": 3, "query": 4, "key": 2}
    at_b: dict[str, int] = field(default_factory=dict)  # other than `at` only in positions, see `Diff.cut`
    index_a: tuple[int, ...] = ()  # acts_a[name][index_a] is `a`, or of the name that `note` says is meant
    index_b: tuple[int, ...] = ()
    a: float | None = None
    b: float | None = None
    off: int = 0  # how many numbers are off by more than the tolerance
    only: dict[str, list[int]] = field(default_factory=dict)  # where all of these are: {"head": [1, 3]}
    note: str = ""  # what was taken as another way to write the same


@dataclass(frozen=True, repr=False)
class Diff:
    """What `diff` found: ``print`` it for a report in words; in a prompt or notebook it shows the table too."""

    rows: dict[str, Row]  # of every trace point that was compared, in order; other names lead to them too
    skipped: dict[str, list[str]]  # why not compared -> names
    tolerance: float
    cut: str  # which positions were compared, where only one of the runs has some

    @property
    def first(self) -> str | None:
        """The first trace point at which the runs differ by more than the tolerance, or None."""
        return next((name for name, row in self.rows.items() if row.mismatch), None)

    @property
    def first_bit(self) -> str | None:
        """The first trace point at which any number differs at all, or None."""
        return next((name for name, row in self.rows.items() if row.differs), None)

    def __str__(self) -> str:
        return report(self)

    def __repr__(self) -> str:
        return "\n".join(screen([*screen(table(self), TABLE), "", *report(self).split("\n")]))


def diff(acts_a: Mapping[Any, Any], acts_b: Mapping[Any, Any], *, tolerance: float = TOLERANCE) -> Diff:
    """Compare two runs, each a mapping of trace points to arrays, and return a `Diff`.

    acts_a : the run to measure by: a `Recorder`, a dict, or what `numpy.load` makes of an .npz.
    acts_b : the other run. Names that only one of them has are listed, not compared.
    tolerance : by how much of the largest number in a's row the two may differ; a row is what one token has in
        a tensor, see `Row`. Whole numbers (tokens, positions) must be equal. -inf equals -inf; NaN, also on both
        sides, is a difference. For float16 it is at least 4 units in the last place, unless it is 0.

    A leading batch axis of 1 is taken off. Runs of equally many rows are compared row by row. Of others (a pass
    after a cache and a whole one, or two prompts of different length) the rows of those positions are compared that
    both have: by hook_positions or, where a run has none, by its T rows being the last of its S keys. Of
    the keys, those are compared that both have; for these rows the others are masked. What follows
    the last token is then compared only if both runs end at the same position.

    Other ways to write the same are noted and not counted as parting: masking scores with -1e4 or less in the place
    of -inf; calling the output after gain and bias hook_normalized, as TransformerLens does with raw weights; queries,
    keys, values and z with the axis of heads before that of tokens, as Hugging Face has them. And where one run has
    hook_logits and the other hook_next_logits, the last row of the one is compared with the other.

    Raises ValueError where there is nothing to compare, and for what is not an array of real numbers.
    """
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be a number from 0 on, not {tolerance}")
    a, b = Side(acts_a), Side(acts_b)
    whose = match_logits(a, b)
    common = [name for name in a.arrays if name in b.arrays]
    if not common:
        raise ValueError(f"no trace point is in both: a has {few(acts_a)}; b has {few(acts_b)}{_meant(acts_a, acts_b)}")
    cut, elsewhere = align(a, b), []
    if not (a.ends() and b.ends()):
        ends = {point.name for point in points.NEXT_TOKEN}
        elsewhere = [name for name in common if name in ends]
    names = sorted((name for name in common if name not in elsewhere), key=_moment)
    if not names:
        raise ValueError(f"the two end at different positions, and have nothing else in common: {few(elsewhere)}")
    matched = () if whose is None else (ALL, NEXT)
    skipped = {
        "only a has": [name for name in acts_a if name not in acts_b and name not in matched],
        "only b has": [name for name in acts_b if name not in acts_a and name not in matched],
        "no trace points are": [name for name in acts_a if name in acts_b and not points.is_point(name)],
        "of another position are": elsewhere,
    }
    rows = {name: _row(name, a, b, tolerance) for name in names}
    if whose is not None and NEXT in rows:
        rows[NEXT] = _noted(rows[NEXT], f"the last row of {whose}'s hook_logits is the other's hook_next_logits")
    return Diff(Named(rows), {why: [*map(str, found)] for why, found in skipped.items() if found}, tolerance, cut)


def spacing(x: float, dtype: Any) -> float:
    """Return the unit in the last place of `x` in a float dtype: how far apart numbers of its size are.

    For 2**e <= abs(x) < 2**(e + 1) that is 2**(e - p), with p = 23 in float32 and 52 in float64; below the
    smallest normal number it shrinks no more.
    """
    info = np.finfo(dtype)
    exponent = math.frexp(x)[1] - 1
    return math.ldexp(1.0, max(exponent, int(info.minexp)) - int(info.nmant))


# ---- The comparison ----


def _meant(acts_a: Mapping[Any, Any], acts_b: Mapping[Any, Any]) -> str:
    """Return what the first names in another dialect would be here, in words."""
    found: list[str] = []
    for name in [*islice(acts_b, 10), *islice(acts_a, 10)]:
        if isinstance(name, str) and not points.is_point(name):
            with contextlib.suppress(UnknownName):  # it means nothing, or several points
                found.append(f"{one_line(name)} is {resolve_in_any_model(name)} here")
    return "".join(f"; {words}" for words in found[:3])


def _moment(name: str) -> tuple[float, int]:
    """Return what sorts trace points into the order in which they happen."""
    i = points.block_of(name)
    place = list(points.TEMPLATES).index(name if i is None else name.replace(f".{i}.", ".{i}.", 1))
    return (-1 if place < len(points.START) else math.inf) if i is None else i, place


def _row(name: str, a: Side, b: Side, tolerance: float) -> Row:
    """Compare one trace point; where it parts for its name or its layout only, compare what is meant."""
    row = _compare(name, a, name, b, name, tolerance)
    if row.mismatch and name.endswith("hook_normalized"):
        output = name.replace("hook_normalized", "hook_output")
        for name_a, name_b, whose, other in ((output, name, "b", "a"), (name, output, "a", "b")):
            if name_a in a.arrays and name_b in b.arrays:
                meant = _compare(name, a, name_a, b, name_b, tolerance)
                if not meant.mismatch:
                    return _noted(meant, f"the hook_normalized of {whose} is the hook_output of {other}")
    if row.mismatch and letters(name) == ["T", "H", "D"] and min(run.arrays[name].ndim for run in (a, b)) > 2:
        # First the one that is not of as many rows as its run; b if that is both or neither.
        for run in sorted((b, a), key=lambda run: run.axis_of_rows(name) is not None):
            run.swap_heads(name)
            meant = _compare(name, a, name, b, name, tolerance)
            if not meant.mismatch or (row.absolute is None and meant.absolute is not None):
                return _noted(meant, "tokens before heads in one run, heads before tokens in the other")
            run.swap_heads(name)
    return row


def _noted(row: Row, note: str) -> Row:
    return replace(row, note=" and ".join(filter(None, (note, row.note))))


def _compare(name: str, run_a: Side, name_a: str, run_b: Side, name_b: str, tolerance: float) -> Row:
    a, b = run_a.compared(name_a), run_b.compared(name_b)
    shapes: dict[str, Any] = {"given_a": run_a.given[name_a], "given_b": run_b.given[name_b]}
    if a.shape != b.shape:
        return Row(name, a.shape, b.shape, **shapes, differs=True, mismatch=True)
    whole = name in points.WHOLE_NUMBERS
    floats = [] if whole else [x.dtype for x in (a, b) if x.dtype.kind == "f"]
    unit = max(floats, key=lambda dtype: np.finfo(dtype).eps, default=None)
    (x, note_a), (y, note_b) = (_values(name, array, run) for array, run in ((a, "a"), (b, "b")))
    named = axes(name, a.ndim)

    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(x - y)
    apart = np.where(x == y, 0, np.where(np.isnan(apart), math.inf, apart))  # x == y: inf - inf is NaN
    finite = np.isfinite(x)
    size = np.where(finite, np.abs(x), 0)
    in_row = tuple(
        axis for axis, counts in named if counts not in ("position", "query") and axis >= -len(letters(name))
    )
    largest = size.max(axis=in_row, keepdims=True)
    mean = size.sum(axis=in_row, keepdims=True) / np.maximum(finite.sum(axis=in_row, keepdims=True), 1)
    relative, by_mean = _part(apart, largest), _part(apart, np.maximum(size, mean))

    asked = 0 if whole else tolerance
    # Nobody can ask of float16 what it cannot hold; 0 still asks for the same numbers.
    allowed = max(asked, UNITS_OF_HALF * float(np.finfo(unit).eps)) if asked and unit == np.float16 else asked
    off = apart > allowed * largest
    notes = [note_a or note_b]
    if ((apart > asked * largest) & ~off).any():
        notes.append(f"float16 is off by up to {allowed:.2g} of the largest number in a's row")
    index = tuple(map(int, np.unravel_index(relative.argmax(), apart.shape)))
    absolute = float(apart[index])
    row = Row(
        name,
        a.shape,
        b.shape,
        **shapes,
        differs=absolute > 0,
        mismatch=bool(off.any()),
        tolerance=allowed,
        absolute=absolute,
        relative=float(relative[index]),
        by_mean=float(by_mean.max()),
        unit=None if unit is None else unit.name,
        off=int(off.sum()),
        note=" and ".join(filter(None, notes)),
    )
    if not row.differs:
        return row
    biggest = max(abs(float(x[index])), abs(float(y[index])))
    at, at_b = (
        {counts: run.called(own, axis, index[axis]) for axis, counts in named if counts != "one"}
        for run, own in ((run_a, name_a), (run_b, name_b))
    )
    return replace(
        row,
        ulps=absolute / spacing(biggest, unit) if unit is not None and math.isfinite(absolute) else None,
        at=at,
        at_b=at_b,
        index_a=run_a.index(name_a, index),
        index_b=run_b.index(name_b, index),
        a=a[index].item(),
        b=b[index].item(),
        only={counts: found for axis, counts in named if (found := _few_along(axis, off, run_a, name_a))},
    )


def _part(x: "Array", whole: "Array") -> "Array":
    """Return `x` as a part of something; of nothing, any number but 0 is an infinite part."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(x == 0, 0, x / whole)


def _values(name: str, x: "Array", whose: str) -> "tuple[Array, str]":
    """Return an array in float64, masked scores as -inf, and a note if they were written otherwise."""
    x = x.astype(np.float64)
    if not name.endswith("hook_attn_scores"):
        return x, ""
    masked = x <= MASKED
    written = x[masked & (x > -math.inf)]
    note = f"{whose} masks scores with {written[0]:g} for -inf" if written.size else ""
    return np.where(masked, -math.inf, x), note


def _few_along(axis: int, off: "Array", run: Side, name: str) -> list[int]:
    """Return what those are called along an axis that hold all numbers that are off; nothing if they are many."""
    found: Array = np.flatnonzero(off.any(axis=tuple(k for k in range(-off.ndim, 0) if k != axis)))
    return [run.called(name, axis, i) for i in found] if len(found) <= FEW and len(found) < off.shape[axis] else []
