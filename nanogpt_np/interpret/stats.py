"""Summary statistics of an array, and the number of tokens in a recorded pass."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..model.trace import Array
from ..names import points

AT_ONCE = 1 << 16  # numbers that are converted to float64 at a time: a matrix may have gigabytes


def stats(x: Array) -> dict[str, Any]:
    """Return mean, RMS, min and max of an array, in float64, and how many masked numbers (-inf) were left out.

    If all are masked, all four are NaN.
    """
    flat = np.reshape(x, -1)  # the same order of summation in any memory layout
    total, square, low, high, seen = 0.0, 0.0, math.inf, -math.inf, 0
    for i in range(0, flat.size, AT_ONCE):
        some = flat[i : i + AT_ONCE].astype(np.float64)
        some = some[some != -math.inf]
        if not some.size:
            continue
        total, square = total + some.sum(), square + (some * some).sum()
        low, high = np.minimum(low, some.min()), np.maximum(high, some.max())  # NaN if either is NaN
        seen += some.size
    if not seen:
        return dict.fromkeys(("mean", "rms", "min", "max"), math.nan) | {"masked": flat.size}
    return {
        "mean": float(total / seen),
        "rms": math.sqrt(square / seen),
        "min": float(low),
        "max": float(high),
        "masked": flat.size - seen,
    }


def stats_line(row: Mapping[str, Any]) -> str:
    """Return `stats` as text."""
    shown = (f"{label} {row[label.lower()]:<11.5g}" for label in ("mean", "RMS", "min", "max"))
    return ("  ".join(shown) + (f"  {row['masked']} masked" if row["masked"] else "")).rstrip()


def lengths(acts: Mapping[str, Array]) -> tuple[int, int]:
    """Return (T, S) of a recorded pass: new tokens, and all that they can see.

    If no array has a key axis, S is the last position + 1, or else T. Raises ValueError if none has a row for
    each token.
    """
    sizes: dict[str, int] = {}
    for name, x in acts.items():
        sizes |= zip(points.get(name).axes.split(), np.shape(x), strict=True)
    if "T" not in sizes:
        raise ValueError("the recording has no array with a row for each token")
    places = acts.get("hook_positions")
    last = sizes["T"] if places is None else max(sizes["T"], int(places[-1]) + 1)
    return sizes["T"], sizes.get("S", last)
