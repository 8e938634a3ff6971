"""Derive any one number of a pass from those before it, in float64, down to weights and token ids.

`explain` takes one number of a recorded pass apart into the terms that make it: the products of a
dot product, the exponentials of a softmax, the two parts of a sum. The terms are read from the
recording and the weights, not from the model's code, so this is also a second way to compute
every step: each explanation says to how many digits the two agree. `trail` goes on from the largest
term to the number that it was read from, and so on, until nothing is left but weights and token ids.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..model.gpt2 import GPT2
from ..model.trace import Array
from ..names import points
from ..names.resolve import resolve
from ..names.trace_point import Point
from ..names.wording import nearest
from .derivations import KINDS, SMALLEST, Cell, Index, Source
from .recorder import Acts

SHOWN = 5  # terms that are written out, largest first
DISAGREE = 1e-3  # as a part of the terms: rounding stays below 1e-5, other numbers are nowhere near


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """One number and the terms that make it; it prints as its largest terms."""

    point: Point
    index: tuple[int, ...]
    recorded: float  # what the pass had there
    value: float  # the same in float64, from what the point reads
    how: str  # how it follows from the terms
    amounts: Array  # (n,) float64
    label: Callable[[int], str]  # a term's number -> its text: names, indices and values of what it reads
    source: Callable[[int], Cell | None]  # a term's number -> (name, index) of the activation in it, if there is one
    follow: int | None = None  # the term in which a trail goes on; None means the largest
    size: float | None = None  # what rounding errors are parts of; None means the sizes of the terms added up

    @property
    def name(self) -> str:
        """The number's own name: ``blocks.3.attn.hook_attn_scores[5, 4, 2]``."""
        return self.point.name + (str(list(self.index)) if self.index else "")

    @property
    def error(self) -> float:
        """How far recorded and derived number are apart, as a part of the derived one."""
        return self._apart(abs(self.value))

    @property
    def rounding(self) -> float:
        """The same as a part of the terms' sizes: of terms that cancel, float32 keeps no more digits than that."""
        size = float(np.abs(self.amounts).sum()) if self.size is None else self.size
        return self._apart(max(size, SMALLEST))  # numbers below keep fewer digits, down to none

    def _apart(self, size: float) -> float:
        if self.recorded == self.value:  # -inf too
            return 0.0
        return abs(self.recorded - self.value) / size if size else math.inf

    @property
    def agreement(self) -> str:
        """To how many digits recorded and derived number agree, in words."""
        if self.error == 0:
            return "they are equal"
        if math.isnan(self.value) and math.isnan(self.recorded):
            return "both are NaN: it came in with what this reads"
        if not math.isfinite(self.recorded):
            other = "" if math.isfinite(self.value) else ", nor has float64"
            return f"the pass has no finite number here{other}: one of this size overflowed, or a patch put it there"
        whole = self.point.name in points.WHOLE_NUMBERS
        if whole or not self.rounding < DISAGREE:
            return "they DISAGREE: not this equation made it, but a patch, a draw, other weights or a layer of your own"
        words = f"they agree to {max(0, -math.log10(self.error)):.1f} digits"
        if self.rounding < 0.1 * self.error:
            words += f", {-math.log10(self.rounding):.1f} of the terms, which cancel"
        return words

    @property
    def order(self) -> Array:
        """The numbers of the terms, largest first."""
        return np.argsort(-np.abs(self.amounts), kind="stable")

    @property
    def leading(self) -> int | None:
        """The number of the term in which a trail goes on, or None where it ends."""
        if self.follow is not None:
            return self.follow
        return next((j for j in self.order if self.source(j)), None)

    def __repr__(self) -> str:
        axes = ", ".join(f"{axis} {i}" for axis, i in zip(self.point.axis_names, self.index, strict=True))
        shown = self.order[:SHOWN]
        rows = [(self.label(j), self.amounts[j]) for j in shown]
        if len(self.amounts) > len(shown):
            rows.append((f"{len(self.amounts) - len(shown)} smaller ones", np.delete(self.amounts, shown).sum()))
        wide = max((len(text) for text, _ in rows), default=0)
        return "\n".join(
            [
                f"{self.name} = {self.recorded:.7g}" + (f"   ({axes})" if axes else ""),
                f"  {self.point.equation}",
                f"  {self.how}",
                *(f"    {text:{wide}}  {amount:+.6g}" for text, amount in rows),
                f"  in float64 {self.value:.10g}, recorded {self.recorded:.10g}: {self.agreement}",
            ]
        )


def explain(
    acts: Acts, model: GPT2, name: str, index: Index | list[int] | int | None = None, /, **axes: int
) -> Explanation:
    """Return the `Explanation` of one number.

    acts : the `Recorder` of one prompt, without a batch axis.
    name : of a trace point, or any other name that means one recorded point: "blocks.2.pattern".
    index : a tuple, or keywords by what the axes count: ``head=5, query=4, key=2``. Negative ones count from the end.

    Raises ValueError for names and indices that do not exist, and where the recording lacks what the
    number is made of: a part that was not recorded, keys and values that a KV cache held, or the weights of a layer
    that is not this package's own.
    """
    source = Source(acts, model)
    if not points.is_point(name):
        name = resolve(name, list(filter(points.is_point, acts)), "in this recording", model.config)
    point = points.get(name, model.config)
    index = _checked_index(point, source.array(name), index, axes)
    kind = KINDS[points.BLOCK_NUMBER.sub("", name, count=1)]
    return Explanation(point, index, float(source.array(name)[index]), **kind(source, point, *index))


def trail(
    acts: Acts, model: GPT2, name: str, index: Index | list[int] | int | None = None, /, **axes: int
) -> Iterator[Explanation]:
    """Yield the explanation of a number, then that of the number in its largest term, and so on to the start."""
    while True:
        found = explain(acts, model, name, index, **axes)
        yield found
        origin = None if found.leading is None else found.source(found.leading)
        if origin is None:
            return
        (name, index), axes = origin, {}


def _checked_index(point: Point, array: Array, index: Any, axes: dict[str, int]) -> Index:
    """Return an index as a tuple of numbers from 0 on; an axis of length 1 ("one") needs none."""
    names = point.axis_names
    if index is not None and axes:
        raise ValueError(f"{point.name}: give the index as a tuple or by keywords, not both")
    if index is None:
        for axis in axes:
            if axis not in names:
                raise ValueError(f"{point.name} has no axis {axis!r}{nearest(axis, names)}: {wants(names)}")
        index = [axes[axis] for axis in names if axis in axes]
    index = list(index) if isinstance(index, tuple | list) else [index]
    if names and names[-1] == "one" and len(index) == len(names) - 1:
        index.append(0)
    if len(index) != len(names):
        raise ValueError(f"{point.name}: {wants(names)}, not {tuple(index)}")
    for place, (i, axis, size) in enumerate(zip(index, names, array.shape, strict=True)):
        if not isinstance(i, int | np.integer) or isinstance(i, bool) or not -size <= i < size:
            raise ValueError(f"{point.name}: {axis} must be a whole number from 0 to {size - 1}, not {i!r}")
        index[place] = int(i) % size
    return tuple(index)


def wants(names: tuple[str, ...]) -> str:
    return f"an index counts ({', '.join(names)})" if names else "it is a single number and has no index"
