"""The Recorder: a dict of every activation of the last pass, that understands other names too and prints as a table.

It is a tape like any other: a name that is in it costs what it costs in a dict. Only a word that is not there is
looked up (`names/resolve.py`). What a notebook shows: `page/recorder.py`.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from ..model.gpt2 import GPT2
from ..model.trace import Array, Tape
from ..names import points
from ..names.wording import one_line, screen

Acts = Mapping[str, Array]  # activations by trace point: a Recorder, or what else holds a pass
Line = tuple[str, str, str]  # name, shape, equation

LINE = 120  # characters of a line of the table
ALIKE = 3  # so many blocks with the same points and shapes, and the ones in the middle print as one line


class Recorder(Tape):
    """Keep every array of a pass under its name: ``acts["blocks.0.attn.hook_pattern"]``. A new pass starts over.

    Any other name of a tensor will do where it means one array: ``acts["ln_f"]``, ``acts["blocks.0.keys"]`` or, as
    in TransformerLens, ``acts["pattern", 0]``. Otherwise the KeyError lists the candidates. ``in`` and ``get`` agree
    with that; setting, deleting and iterating know the names of trace points only.

    model : the `GPT2` that is recorded, if known: it provides weights, and sizes that no activation shows.
    acts : arrays to begin with, by name.

    Raises ValueError for a model that is not a GPT2.
    """

    def __init__(self, model: GPT2 | None = None, acts: Acts | Iterable[tuple[str, Array]] = ()):
        if model is not None and not isinstance(model, GPT2):
            raise ValueError(f"a Recorder takes the model that load returns, not {model!r:.60}; see `acts`")
        super().__init__(acts)
        self.model = model

    def __call__(self, name: str, x: Array) -> Array:
        if name == points.BEGINS:
            self.clear()
        return super().__call__(name, x)

    if TYPE_CHECKING:

        def __getitem__(self, key: str | tuple[str, int]) -> Array: ...

    def __missing__(self, key: Any) -> Array:
        from ..names.resolve import UnknownName, resolve  # here, since a tape does without

        word, names = self._among(key)
        if not isinstance(word, str):
            raise UnknownName(f"a Recorder is read by name, or by name and block, not by {key!r:.60}")
        where = "in this Recorder" if len(names) == len(self) else f"in block {key[1]} of this Recorder"
        return self[resolve(word, names, where if self else "in this Recorder, which is empty", self._config)]

    def __contains__(self, key: object) -> bool:
        if super().__contains__(key):
            return True
        word, names = self._among(key)
        if not isinstance(word, str) or not names or points.is_point(word):
            return isinstance(word, str) and word in names
        from ..names.resolve import candidates

        return len(candidates(word, names, self._config)) == 1

    def get(self, key: Any, default: Any = None) -> Any:
        """Return ``self[key]``, or `default` where that raises KeyError."""
        try:
            return self[key]
        except KeyError:
            return default

    @property
    def _config(self) -> Any:
        return None if self.model is None else self.model.config

    def _among(self, key: object) -> tuple[object, list[str]]:
        """Return (a word, the names that it may mean): of a pair of a word and a block, those of that block."""
        names = [name for name in self if isinstance(name, str)]
        if not (isinstance(key, tuple) and len(key) == 2 and isinstance(key[1], int | np.integer)):
            return key, names
        blocks = {i for i in map(points.block_of, names) if i is not None}
        block = key[1] + max(blocks, default=0) + 1 if key[1] < 0 else key[1]
        return key[0], [name for name in names if points.block_of(name) == block]

    def __repr__(self) -> str:
        return "\n".join(screen([f"{type(self).__name__} of {len(self)} arrays", *table(self)]))


def table(acts: Mapping[Any, Any]) -> list[str]:
    """Return a line for each array: name, shape, equation; blocks like the ones around them share one line."""
    rows = [_line(name, x) for name, x in acts.items()]
    wide, shape_wide = (max((len(row[i]) for row in rows), default=0) for i in (0, 1))
    lines: list[str] = []
    for shown in _folded(list(zip(acts, rows, strict=True))):
        if isinstance(shown, str):
            lines.append(shown)
        else:
            name, shape, equation = shown
            lines.append(one_line(f"{name:{wide}}  {shape:{shape_wide}}  {equation}", LINE))
    return lines


def _line(name: Any, x: Any) -> Line:
    shape = str(list(x.shape)) if hasattr(x, "shape") else type(x).__name__
    equation = f"= {points.get(name).equation}" if points.is_point(name) else ""
    return one_line(name, 80), shape, equation


def _folded(named: list[tuple[Any, Line]]) -> Iterator[Line | str]:
    """Yield the rows, with one line in place of the blocks in the middle of a run of blocks that are alike."""
    blocks = [(i, list(rows)) for i, rows in groupby(named, lambda row: _block_of(row[0]))]

    def kind(block: tuple[int | None, list[tuple[Any, Line]]]) -> Any:
        i, rows = block
        return i is not None and [(points.BLOCK_NUMBER.sub("", row[0]), row[1][1]) for row in rows]

    for alike, group in groupby(blocks, kind):
        run = list(group)
        middle = run[1:-1] if alike and len(run) >= ALIKE else []
        for _, rows in run[:1] if middle else run:
            yield from (line for _, line in rows)
        if middle:
            numbers = f"block {middle[0][0]}" if len(middle) == 1 else f"blocks {middle[0][0]} to {middle[-1][0]}"
            yield f"... {numbers} likewise ..."
            yield from (line for _, line in run[-1][1])


def _block_of(name: Any) -> int | None:
    return points.block_of(name) if isinstance(name, str) else None
