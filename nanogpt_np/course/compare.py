"""Whether two results are the same, and if not, in words: kind, shape, dtype, then the numbers.

Tolerances are shares of the largest expected number (or of 1), and nothing is added to them. Where float64 comes in
and goes out, a right answer that stays in float64 is off by 1e-12: it is right to 1e-9, right with a note (`digits`)
up to what a right answer in float32 may be off (`rounding`: mostly 1e-6), and wrong beyond. A float32 result is right
to 2e-4, with the same note if float64 came in. The float64 run tells right from wrong; the float32 run shows a dtype
that spreads, and overflow.
"""

import numpy as np

LEAST = 8 * float(np.finfo(np.float32).eps)  # 9.5e-7: eight units in the last place that float32 has
WIDE = 2e-4
ALIKE = 4e-6, WIDE  # between two wrong answers
PLAINLY = 9  # digits to which a float64 result agrees that is right without a note
FEW = 24  # numbers that are printed whole
SHOWN = {"max_line_width": 100, "threshold": 60, "suppress_small": True}


def difference(got, expected, label="the result", tolerance=(LEAST, WIDE)):
    """Return None if `got` is as `expected`, else {"problem": words, "expected": text, "got": text}.

    tolerance : of numbers that are float64, and of those where one of the two is float32.
    """
    if isinstance(expected, (np.ndarray, np.generic)):
        return _of_arrays(got, np.asarray(expected), label, tolerance)
    if isinstance(expected, dict):
        if not isinstance(got, dict):
            return _said(f"{label} must be a dict, not {_kind(got)}")
        if missing := [key for key in expected if key not in got]:
            return _said(f"{label} lacks {missing[0]!r}", f"the names {list(expected)}", f"the names {list(got)}")
        return _first(difference(got[key], expected[key], f"{key}", tolerance) for key in expected)
    if isinstance(expected, (tuple, list)):
        simple = all(isinstance(x, (int, str, bytes)) for x in expected)  # ids, or tokens
        if not isinstance(got, (tuple, list)) or (len(got) != len(expected) and not simple):
            length = f" of {len(got)}" if isinstance(got, (tuple, list)) else ""
            words = f"{label} must be a {type(expected).__name__} of {len(expected)}, not {_kind(got)}{length}"
            return _said(words, text(expected), text(got))
        if simple:
            return None if _equal(list(got), list(expected)) else _said("", text(expected), text(got))
        items = enumerate(zip(got, expected, strict=True))
        return _first(difference(g, e, f"part {i} of {label}", tolerance) for i, (g, e) in items)
    if isinstance(expected, float):
        if not isinstance(got, (int, float, np.number)) or isinstance(got, bool):
            return _said(f"{label} must be a number, not {_kind(got)}", text(expected), text(got))
        return _of_numbers(np.float64(got), np.float64(expected), label, tolerance)
    if type(got) is not type(expected) and not (isinstance(expected, int) and isinstance(got, np.integer)):
        return _said(f"{label} must be {_kind(expected)}, not {_kind(got)}", text(expected), text(got))
    return None if got == expected else _said("", text(expected), text(got))


def digits(got, expected):
    """Return to how many digits two results agree in which `difference` finds no difference: 9 is all."""
    return next(
        (d for d in range(PLAINLY, 3, -1) if difference(got, expected, tolerance=(10.0**-d, 10.0**-d)) is None), 3
    )


def rounding(rounded, expected):
    """Return the tolerance of a case: four times what the package's own float32 result is off, at least `LEAST`.

    Where a row is quiet or the model deep, a few units in the last place grow, in any right answer.
    """
    shares = [LEAST * 2**doubled for doubled in range(7)]
    enough = (share for share in shares if difference(rounded, expected, tolerance=(share / 4, share / 4)) is None)
    return next(enough, WIDE)


def same(got, expected):
    """Return whether two outcomes of wrong versions are the same, for the naming of mistakes."""
    try:
        return difference(got, expected, tolerance=ALIKE) is None
    except Exception:
        return False


def _of_arrays(got, expected, label, tolerance):
    if isinstance(got, (int, float, np.generic)) and not expected.ndim and not isinstance(got, bool):
        got = np.asarray(got, expected.dtype if isinstance(got, (int, float)) else None)
    if not isinstance(got, np.ndarray):
        return _said(f"{label} must be an array of shape {list(expected.shape)}, not {_kind(got)}", text(expected))
    if got.shape != expected.shape:
        words = f"{label} has shape {list(got.shape)}, not {list(expected.shape)}"
        return _said(words, text(expected), text(got))
    if got.dtype != expected.dtype:
        lost = (got.dtype, expected.dtype) == (np.float32, np.float64)  # float32 inside, whatever comes in: allowed
        if not lost and (got.dtype.kind != expected.dtype.kind or got.dtype.kind == "f"):
            return _said(f"{label} is {got.dtype}, not {expected.dtype}", dtypes=(got.dtype, expected.dtype))
    if expected.dtype.kind != "f":
        return None if np.array_equal(got, expected) else _numbers(got, expected, got != expected, label)
    return _of_numbers(got, expected, label, tolerance)


def _of_numbers(got, expected, label, tolerance):
    share = tolerance[np.float32 in (got.dtype, expected.dtype)]
    finite = np.abs(expected[np.isfinite(expected)])
    size = max(1.0, float(finite.max())) if finite.size else 1.0
    with np.errstate(all="ignore"):
        far = ~(np.abs(got - expected) <= share * size)  # of NaN and of infinities too, so far
    if not far.any():
        return None
    far &= ~((got == expected) | (np.isnan(got) & np.isnan(expected)))
    return _numbers(got, expected, far, label) if far.any() else None


def _numbers(got, expected, far, label):
    """Show both arrays whole if they are small, else where they differ most."""
    got, expected, far = map(np.asarray, (got, expected, far))
    if expected.size <= FEW:
        return _said(f"{label} is wrong" if label != "the result" else "", *_both(expected, got))
    with np.errstate(all="ignore"):
        off = np.where(far, np.abs(got.astype(np.float64) - expected), -1)
    off[np.isnan(off)] = np.inf
    at = np.unravel_index(off.argmax(), off.shape)
    place = f"[{', '.join(map(str, at))}]"
    words = f"{int(far.sum())} of {far.size} numbers of {label}, of shape {list(far.shape)}, differ"
    here, there = _both(expected[at], got[at])
    return _said(words, f"{here} at {place}", f"{there} at {place}, where it is furthest off")


def _both(expected, got):
    """Return both as text, with as many digits as it takes to see the difference."""
    for digits in (4, 8, 17):
        texts = tuple(np.array2string(np.asarray(a), precision=digits, **SHOWN) for a in (expected, got))
        if texts[0] != texts[1]:
            break
    return texts


def text(value):
    """Return a value as a reader wants to see it: short."""
    if isinstance(value, np.ndarray):
        shown = np.array2string(value, precision=6, **SHOWN)
        return shown if value.size <= FEW else f"{value.dtype} of shape {list(value.shape)}"
    try:
        shown = repr(value)
    except Exception:
        shown = f"{_kind(value)} that cannot be shown"
    return shown if len(shown) <= 200 else shown[:200] + " ..."


def _equal(got, expected):
    try:
        return bool(got == expected)
    except Exception:  # an array among the ids
        return False


def _kind(value):
    if value is None:
        return "None"
    if isinstance(value, np.ndarray):
        return f"an array of shape {list(value.shape)}"
    article = "an" if type(value).__name__[0] in "aeiou" else "a"
    return f"{article} {type(value).__name__}"


def _first(differences):
    return next((d for d in differences if d), None)


def _said(problem, expected="", got="", dtypes=()):
    return {"problem": problem, "expected": expected, "got": got, "dtypes": tuple(map(str, dtypes))}
