"""Which numbers of two runs belong together: rows of the same position, keys that both have, the same axes.

What `diff` compares is what `Side.compared` returns after `align`; here no activation is compared. Rows
go by hook_positions or, without it, by the T rows of a run being the last of its S keys.
"""

from collections.abc import Mapping
from statistics import mode
from typing import TYPE_CHECKING, Any

import numpy as np

from ..names import points

if TYPE_CHECKING:  # two dicts are compared without the model
    from ..model.trace import Array

NEXT, ALL = "hook_next_logits", "hook_logits"  # of the last token, as generation makes them, and of all tokens


class Side:
    """The arrays of a run without batch axes of 1, and which of their rows and keys are compared."""

    arrays: "dict[str, Array]"
    given: dict[str, tuple[int, ...]]
    dropped: dict[str, int]
    keys: int | None
    swapped: set[str]
    last_row: int | None

    def __init__(self, acts: Mapping[Any, Any]):
        if not isinstance(acts, Mapping):
            raise ValueError(
                f"expected a mapping of trace points to arrays, not {acts!r:.60}; recording.read_arrays reads a file"
            )
        self.arrays, self.given, self.dropped = {}, {}, {}  # by name; shapes as given; how many axes were taken off
        for name in filter(points.is_point, acts):
            x = _numbers(name, acts[name])
            surplus = x.shape[: max(0, x.ndim - len(letters(name)))]
            ones = next((axis for axis, size in enumerate(surplus) if size != 1), len(surplus))
            self.given[name], self.dropped[name] = x.shape, ones
            self.arrays[name] = x.reshape(x.shape[ones:])
        self.positions, self.known = np.arange(0), False  # of the rows in the text; False where they are guessed
        self.rows, self.keys = np.arange(0), None  # which of the rows, and how many of the keys, are compared
        self.swapped, self.last_row = set(), None  # see `swap_heads` and `take_last_row`

    def place(self, other: "Side") -> None:
        """Find out at which positions of the text the rows of this run stand."""
        self.positions, self.known = _positions(self.arrays, other.arrays)
        self.rows = np.arange(len(self.positions))

    def swap_heads(self, name: str) -> None:
        """Exchange the axes of heads and tokens of an array; a second call undoes it."""
        self.arrays[name] = np.swapaxes(self.arrays[name], -3, -2)
        self.swapped ^= {name}

    def take_last_row(self) -> None:
        """Take the last row of hook_logits as hook_next_logits."""
        x, self.given[NEXT], self.dropped[NEXT] = self.arrays[ALL], self.given[ALL], self.dropped[ALL]
        self.arrays[NEXT], self.last_row = (x[..., -1, :], x.shape[-2] - 1) if x.ndim > 1 else (x, None)

    def axis_of_rows(self, name: str) -> int | None:
        """Return the axis of an array that has the rows of this run, counted from the last; None without one."""
        x, axes_of_x = self.arrays[name], letters(name)
        axis = axes_of_x.index("T") - len(axes_of_x) if "T" in axes_of_x and x.ndim >= len(axes_of_x) else None
        return None if axis is None or x.shape[axis] != len(self.positions) else axis

    def compared(self, name: str) -> "Array":
        """Return the part of an array that is compared."""
        x, axis = self.arrays[name], self.axis_of_rows(name)
        if "S" in letters(name):
            x = x[..., : self.keys]
        return x if axis is None or len(self.rows) == len(self.positions) else x.take(self.rows, axis)

    def ends(self) -> bool:
        """Return whether the last row of this run is compared."""
        return not len(self.rows) or self.rows[-1] == len(self.positions) - 1

    def index(self, name: str, index: tuple[int, ...]) -> tuple[int, ...]:
        """Return where a number of what is compared stands in the array as it was given."""
        rows = self.axis_of_rows(name)
        own = [self.rows[i] if axis == rows else i for axis, i in enumerate(index, -len(index))]
        if name in self.swapped:
            own[-3], own[-2] = own[-2], own[-3]
        if name == NEXT and self.last_row is not None:
            own.insert(-1, self.last_row)
        return (0,) * self.dropped[name] + tuple(map(int, own))

    def called(self, name: str, axis: int, i: int) -> int:
        """Return what the `i`-th along an axis of what is compared is called: of rows, the position in the text."""
        return int(self.positions[self.rows[i]] if axis == self.axis_of_rows(name) else i)


def align(a: Side, b: Side) -> str:
    """Keep the rows and keys that both runs have, and say which; say nothing where they have the same.

    Runs of equally many rows are compared row by row, also where their positions differ: wrong positions
    are a mistake to be found, and to be found at hook_positions.

    Raises ValueError for runs that have no position in common.
    """
    a.place(b)
    b.place(a)
    if not (len(a.positions) and len(b.positions)):
        return ""
    (a_has, b_has) = (f"{run.positions[0]} to {run.positions[-1]}" for run in (a, b))
    if len(a.positions) == len(b.positions):
        if not (a.known and b.known):  # what one does not say is as the other says
            a.positions = b.positions = a.positions if a.known else b.positions
        elif a.positions[0] != b.positions[0]:
            return f"compared row by row: positions {a_has} of a with {b_has} of b"
        return ""
    shared, a.rows, b.rows = np.intersect1d(a.positions, b.positions, return_indices=True)
    if not len(shared):
        raise ValueError(f"the two runs have no position in common: {a_has} in a and {b_has} in b")
    a.keys = b.keys = 1 + min(a.positions[-1], b.positions[-1])
    return f"compared at positions {shared[0]} to {shared[-1]}, of {a_has} in a and {b_has} in b"


def match_logits(a: Side, b: Side) -> str | None:
    """Where one run has logits of all tokens and the other of the last one only, take the last row; say of which."""
    for run, other, whose in ((a, b, "a"), (b, a, "b")):
        if ALL in run.arrays and NEXT in other.arrays and NEXT not in run.arrays and ALL not in other.arrays:
            run.take_last_row()
            return whose
    return None


def letters(name: str) -> list[str]:
    """Return the axes of a trace point: ``["T", "H", "D"]``."""
    return points.get(name).axes.split()


def axes(name: str, ndim: int) -> list[tuple[int, str]]:
    """Return (axis counted from the last, what an index along it counts) for an array of `ndim` axes."""
    names = list(points.get(name).axis_names)
    batch = ndim - len(names)
    names = [*(["prompt"] if batch == 1 else [f"batch axis {k}" for k in range(batch)]), *names][-ndim or len(names) :]
    return list(enumerate(names, -ndim))


def _numbers(name: str, x: Any) -> "Array":
    try:
        x = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a PyTorch tensor that wants .detach()
        raise ValueError(f"{name} is not an array of numbers: {error}") from None
    if x.dtype.kind not in "iuf" or not x.size:
        raise ValueError(f"{name} must hold real numbers, not {x.dtype} of shape {list(x.shape)}")
    return x.astype(np.float64) if x.dtype.itemsize > 8 else x


def _positions(arrays: "dict[str, Array]", others: "dict[str, Array]") -> "tuple[Array, bool]":
    """Return the positions of a run's rows in the text, (T,), and whether the run says so."""
    given = arrays.get("hook_positions")
    if given is not None and given.ndim and (np.diff(given) == 1).all():
        return given.reshape(-1, given.shape[-1])[0].astype(int), True  # the same for every prompt of a batch
    sizes: dict[str, list[int]] = {"T": [], "S": []}
    for name, x in arrays.items():
        mine, theirs = (_sizes(name, y) for y in (x, others.get(name, x)))
        if all(mine[a] == theirs[a] for a in mine.keys() & theirs.keys() - {"T", "S"}):  # else its axes are others
            for letter in mine.keys() & {"T", "S"}:
                sizes[letter].append(mine[letter])
    T = mode(sizes["T"] or [0])
    S = max(T, mode(sizes["S"] or [T]))
    return np.arange(S - T, S), bool(sizes["S"])


def _sizes(name: str, x: "Array") -> dict[str, int]:
    return dict(zip(reversed(letters(name)), reversed(x.shape), strict=False))
