"""What `diff` found, in words, as a table, and as JSON.

For a learner who looks for a mistake of their own. The first point at which two runs part is where to look, if
what it is made of still agrees; what each point is made of stands in the table in `names/activations.py`. The numbers
come from `diff.py`.
"""

import math
from dataclasses import asdict
from typing import Any

import numpy as np

from ..names import points
from ..names.wording import few

Diff = Any  # `diff.Diff`, whose module imports this one
Row = Any  # `diff.Row`

# What a step reads agrees but for rounding if no number is off by more than so many units in the last place of its own
# size, or of the mean size in its row. Measured as `diff.TOLERANCE` was: up to 66 units in gpt2, 90 in 48 blocks; what
# hides behind one large number of the same row is more.
ROUNDING = 64
READ_THE_CACHE = ("attn.hook_attn_scores", "attn.hook_z")  # the keys and the values of earlier tokens


def report(result: Diff) -> str:
    """Return what a `Diff` says, in sentences: where the runs part, what that is made of, how it goes on."""
    lines = _parting(result) if result.first else _agreement(result)
    notes: dict[str, list[str]] = {}
    for name, row in result.rows.items():
        if row.note:
            notes.setdefault(row.note, []).append(name)
    lines += [f"Taken as the same: {note}, in {few(names)}." for note, names in notes.items()]
    lines += [f"The runs were {result.cut}."] if result.cut else []
    lines += [f"Not compared: {why} {few(names)}." for why, names in result.skipped.items()]
    return "\n".join(lines)


def table(result: Diff) -> list[str]:
    """Return a line for each point that was compared, and one above them."""
    wide = max(map(len, result.rows))
    shape_wide = max(len(str(list(row.shape_a))) for row in result.rows.values())
    lines = [f"{'':{wide}}  {'':{shape_wide}}  {'apart':>8}  {'relative':>8}  {'units':>8}  where"]
    for name, row in result.rows.items():
        if row.relative is None:
            figures = f"another shape: {list(row.given_b)}"
        elif not row.differs:
            figures = f"{'equal':>8}"
        else:
            apart, relative = ("NaN", "") if _nan(row) else (f"{row.absolute:.1e}", f"{row.relative:.1e}")
            figures = f"{apart:>8}  {relative:>8}  {_units(row):>8}  {_place(row)}"
        parts = "   <- parts" if row.mismatch else ""
        lines.append(f"{name:{wide}}  {list(row.shape_a)!s:{shape_wide}}  {figures}{parts}")
    return lines


def as_dict(result: Diff) -> dict[str, Any]:
    """Return a `Diff` as --json prints it; infinity and NaN, which JSON does not know, as words."""

    def plain(x: Any) -> Any:
        return str(x) if isinstance(x, float) and not math.isfinite(x) else x

    rows = [{key: plain(value) for key, value in asdict(row).items()} for row in result.rows.values()]
    start = {"agree": result.first is None, "first": result.first, "first_bit": result.first_bit}
    return start | {"tolerance": result.tolerance, "cut": result.cut, "skipped": result.skipped, "points": rows}


def _agreement(result: Diff) -> list[str]:
    most = max(result.rows.values(), key=lambda row: row.relative)
    if not most.differs:
        return [f"The runs are equal in all {len(result.rows)} points that were compared."]
    return [
        f"The runs agree in all {len(result.rows)} points that were compared, {_digits(most.relative)}.",
        f"They are farthest apart in {most.name}.",
        *(f"  {line}" for line in _figures(most)),
        f"The first to differ at all is {result.first_bit}.",
    ]


def _parting(result: Diff) -> list[str]:
    rows, first = list(result.rows.values()), result.rows[result.first]
    point, at = points.get(first.name), rows.index(first)
    before, after = rows[:at], rows[at + 1 :]
    lines = [f"The runs part at {first.name} {list(first.shape_a)} = {point.equation}   ({point.place})"]
    lines += [f"  {line}" for line in (*_made_of(result, first), *_figures(first), *_spread(first))]
    if before:
        digits = _digits(max(row.relative for row in before))
        at_all = "" if result.first_bit == first.name else f"; the first to differ at all is {result.first_bit}"
        lines.append(f"Before it, {len(before)} points agree, {digits}{at_all}.")
    if after:
        parted, last = sum(row.mismatch for row in after), after[-1]
        lines.append(
            f"After it, {parted} of {len(after)} points part; the last of them all, {last.name}, {_end(last)}."
        )
    return lines


def _end(row: Row) -> str:
    if not row.differs:
        return "is equal"
    if row.relative is None:
        return "has another shape"
    if row.name in points.WHOLE_NUMBERS:
        return "differs"
    return f"is {_nan(row)}" if _nan(row) else f"is off by {row.relative:.1e} of the largest number in a's row"


def _made_of(result: Diff, first: Row) -> list[str]:
    """Say what a step reads, whether that agrees, and so where the difference must come from."""
    agree, missing = _reads(result, first.name)
    if not agree and not missing:
        return ["It is made of nothing else in the pass: the two began with something else."]
    if not agree:
        return [f"It comes from this step or from one before, of which none was compared: {few(missing)}."]
    worst = max(result.rows[name].relative for name in agree)
    lines = [f"It is made of {' and '.join(agree)}: there the runs agree, {_digits(worst)}."]
    lines += [f"What lies between was not compared: {few(missing)}."] if missing else []
    if _only_grew(first, worst, [result.rows[name] for name in agree]):
        return [
            *lines,
            "But it was nearly as far off there: rounding that grew, or a mistake before that is still small.",
        ]
    steps = [points.get(name) for name in (first.name, *missing)]
    weights = [weight for step in steps for weight in step.weights]
    small = [read for read in agree if not _rounded(result.rows[read])]
    causes = ["this step", "one between"] if missing else ["this step"] if small else ["this one step"]
    causes += [f"{' or '.join(small)}, where small numbers already differ"] if small else []
    causes += ["what the cache kept"] if _cached(result) and any(s.name.endswith(READ_THE_CACHE) for s in steps) else []
    tied = ", which is wte.weight where the head is tied" if "lm_head.weight" in weights else ""
    causes += [f"the weights ({few(weights)}{tied})"] if weights else []
    return [*lines, f"So the difference comes from {', or from '.join(causes)}."]


def _rounded(row: Row) -> bool:
    return row.by_mean <= (0 if row.unit is None else ROUNDING * np.finfo(row.unit).eps)


def _only_grew(first: Row, worst: float, rows: list[Row]) -> bool:
    """Return whether what a step reads was off by so much that the step itself may be right."""
    if first.relative is None:
        return False
    # Softmax turns absolute differences into relative ones, and moves no share by more than half of what a score moved.
    softmax = first.name.endswith("hook_pattern") and any(first.absolute <= row.absolute for row in rows)
    return softmax or first.relative < 10 * worst


def _reads(result: Diff, name: str) -> tuple[list[str], list[str]]:
    """Return the compared points that a step is made of, and those on the way to them that were not compared."""
    known = [*result.rows, *(skipped for names in result.skipped.values() for skipped in names)]
    last = max(points.block_of(other) or 0 for other in known)
    agree: list[str] = []
    missing: list[str] = []
    todo = [name]
    while todo:
        for read in points.get(todo.pop(0)).reads:
            read = read.replace("{last}", str(last))
            if read in agree or read in missing:
                continue
            if read in result.rows:
                agree.append(read)
            else:
                missing.append(read)
                todo.append(read)
    return agree, missing


def _cached(result: Diff) -> bool:
    """Return whether a run went on from a cache: there are more keys than queries then."""
    tables = [row.shape_a for name, row in result.rows.items() if points.get(name).axes == "H T S"]
    return any(len(shape) > 1 and shape[-1] > shape[-2] for shape in tables)


def _figures(row: Row) -> list[str]:
    if row.relative is None:
        axes = ", ".join(points.get(row.name).axis_names)
        cut = (row.shape_a, row.shape_b) != (row.given_a, row.given_b)
        compared = f"; {list(row.shape_a)} and {list(row.shape_b)} of them were to be compared" if cut else ""
        shapes = f"{list(row.given_a)} in a and {list(row.given_b)} in b{compared}"
        return [f"Its shape is {shapes}; the axes are [{axes}]."]
    numbers = f"{_number(row.a, row.unit)} in a, {_number(row.b, row.unit)} in b"
    if row.name in points.WHOLE_NUMBERS or not math.isfinite(row.absolute):
        return [f"A difference is at {_place(row)}: {'NaN in both' if _nan(row) == 'NaN in both' else numbers}."]
    ulps = "" if row.ulps is None else f", {_units(row)} units in the last place of {row.unit}"
    return [
        f"The largest difference for its row, {row.absolute:.3g}, is at {_place(row)}: {numbers}.",
        f"That is {row.relative:.1e} of the largest number in a's row{ulps}.",
    ]


def _spread(row: Row) -> list[str]:
    size = math.prod(row.shape_a)
    if row.relative is None or size == 1:
        return []
    by = f" by more than {row.tolerance:.3g} of the largest number in a's row"
    of_a = {axis: " of a" if row.at.get(axis) != row.at_b.get(axis) else "" for axis in row.only}
    places = ", ".join(f"{axis} {' and '.join(map(str, found))}{of_a[axis]}" for axis, found in row.only.items())
    return [
        f"{row.off} of {size} numbers are off{'' if row.name in points.WHOLE_NUMBERS else by}"
        f"{f', all of them at {places}' if places else ''}."
    ]


def _place(row: Row) -> str:
    at = (
        f"{axis} {i}" if i == row.at_b[axis] else f"{axis} {i} of a and {row.at_b[axis]} of b"
        for axis, i in row.at.items()
    )
    return ", ".join(at) or "the one number"


def _nan(row: Row) -> str:
    """Return in which of two numbers there is NaN, in words; nothing where there is none."""
    runs = [run for run, x in (("a", row.a), ("b", row.b)) if x is not None and math.isnan(x)]
    return f"NaN in {'both' if len(runs) == 2 else runs[0]}" if runs else ""


def _number(x: float, unit: str | None) -> str:
    if isinstance(x, float) and math.isnan(x):
        return "NaN"
    return str(x) if isinstance(x, int) else f"{x:.17g}" if unit == "float64" else f"{x:.9g}"


def _units(row: Row) -> str:
    return "" if row.ulps is None else f"{row.ulps:.3g}" if row.ulps < 1000 else f"{row.ulps:,.0f}"


def _digits(relative: float) -> str:
    return "exactly" if relative == 0 else f"to {max(0, math.floor(-math.log10(relative)))} digits"
