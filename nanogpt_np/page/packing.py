"""Numbers for the page: as text, rounded and cut down where they are too many, and never without a mark.

Of an array stay either the recorded bits in base64 ("f4", "f8"), or three significant digits of each number as a
decimal in 16 bits ("d3"): so what the page shows is what ``f"{x:.2e}"`` says of the recorded number, in every case.
What is cut is cut alike everywhere: the first columns of every head, the first neurons. The sums along the
residual stream can then still be followed from step to step.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..model.trace import Array

CUTS = (2, 3, 4, 6, 8, 12, 16)  # how many times fewer columns are kept; with less there is nothing to see
DIGITS = {"f4": 5, "f8": 5, "d3": 3}  # significant digits that the page shows
BYTES = {"f4": 4, "f8": 8, "d3": 2}
LOWEST = -22  # the power of ten of the last digit for which the code of "d3" is 0
INFINITY, NOT_A_NUMBER, NEARLY_ZERO, TOO_LARGE = 1001, 1002, 1003, 1004  # in place of three digits


@dataclass(frozen=True)
class Plan:
    """How the numbers of a page are written, and which of them are kept."""

    format: str  # "f4", "f8" or "d3"
    D: int  # columns in each head
    F: int  # neurons in each MLP
    kept_D: int  # how many of them stay, counted from the first
    kept_F: int

    @property
    def cut(self) -> bool:
        """True where some columns are left out."""
        return (self.kept_D, self.kept_F) != (self.D, self.F)

    def columns(self, letter: str, size: int) -> Array:
        """Return the numbers of the columns that stay of an axis, ascending."""
        if letter == "F":
            return np.arange(min(size, self.kept_F))
        if letter in ("C", "3C", "D"):
            return (np.arange(0, size, self.D)[:, None] + np.arange(self.kept_D)).reshape(-1)
        return np.arange(size)

    def keep(self, x: Array, axes: str) -> Array:
        """Return what stays of an array whose axes are these letters."""
        letters = axes.split()
        if not self.cut or not letters:
            return x
        return np.take(x, self.columns(letters[-1], x.shape[-1]), axis=-1)

    def characters(self, axes: str, shape: Sequence[int]) -> int:
        """Return how long the text of such an array will be."""
        *rest, last = [*zip(axes.split(), shape, strict=True)] or [("1", 1)]
        count = math.prod(size for _, size in rest) * len(self.columns(*last))
        return 4 * math.ceil(count * BYTES[self.format] / 3)


def plan(arrays: Sequence[tuple[str, Sequence[int], np.dtype[Any]]], D: int, F: int, budget: int) -> Plan:
    """Return the most truthful `Plan` for which the text of all `arrays` is at most `budget` characters.

    arrays : (axes, shape, dtype) of each.

    Raises ValueError if there is none.
    """
    exact = "f8" if any(dtype == np.float64 for _, _, dtype in arrays) else "f4"
    plans = [Plan(exact, D, F, D, F), Plan("d3", D, F, D, F)]
    plans += [Plan("d3", D, F, math.ceil(D / n), math.ceil(F / n)) for n in CUTS]
    for found in plans:
        size = sum(found.characters(axes, shape) for axes, shape, _ in arrays)
        if size <= budget:
            return found
    raise ValueError(
        f"the page would be of {size / 1e6:.0f} MB or more, and holds {budget / 1e6:.0f}: shorten the text"
    )


def pack(x: Any, format: str) -> str:
    """Return the numbers of an array as base64 text, in C order."""
    x = np.asarray(x)
    if format == "d3":
        return _text(three_digits(x))
    return _text(x.astype({"f4": "<f4", "f8": "<f8"}[format]))


def three_digits(x: Any) -> Array:
    """Return each number rounded to three significant digits, as uint16: sign, 10 bits of digits, 5 of the power.

    |x| = digits * 10**(power + LOWEST). Numbers below 1e-20 become NEARLY_ZERO, above 9.99e11 TOO_LARGE.
    """
    x = np.asarray(x, np.float64)
    size = np.abs(x)
    usual = (size >= 1e-20) & np.isfinite(size)
    some = np.where(usual, size, 1)
    power = np.floor(np.log10(some)).astype(int) - 2
    power -= _digits(some, power) < 100  # log10 of a number just below a power of ten may round up to it
    digits = _digits(some, power)
    power += digits == 1000
    digits = np.where(digits == 1000, 100, digits)
    too_large = usual & (power - LOWEST > 31)
    digits = np.select(
        [np.isnan(x), np.isinf(x), too_large, size == 0, ~usual],
        [NOT_A_NUMBER, INFINITY, TOO_LARGE, 0, NEARLY_ZERO],
        digits,
    )
    power = np.where(usual & ~too_large, power - LOWEST, 0)
    return (np.signbit(x).astype("<u2") << 15) | (power.astype("<u2") << 10) | digits.astype("<u2")


def _digits(size: Array, power: Array) -> Array:
    """Round half to even, as Python prints; powers of ten up to 22 are exact, so it is they that multiply or divide."""
    scaled = np.where(power < 0, size * 10.0 ** np.maximum(-power, 0), size / 10.0 ** np.maximum(power, 0))
    return np.rint(scaled).astype(int)


def _text(x: Array) -> str:
    return base64.b64encode(np.ascontiguousarray(x).tobytes()).decode("ascii")
