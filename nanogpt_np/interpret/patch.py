"""Change an activation mid-pass, and see the effect.

A `Patch` is a trace like any other: ``model(ids, trace=Patch({name: edit}))``. The layers know
nothing about it. `trace.chain` composes several, first to last: a trace after a patch sees its
result, so ``chain(patch, recorder)`` records the changed run. Below `Patch` are the usual edits; they
count positions in the text, so they mean the same with and without a KV cache.
"""

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from ..model.gpt2 import GPT2, Ids
from ..model.trace import Array, Trace, chain
from ..names import points
from ..names.resolve import resolve, resolve_in_any_model
from ..names.wording import one_line
from .recorder import Acts

Edit = Array | Callable[[Array], Array]

TO_COME = [point.name for point in (*points.FINAL, *points.LOGITS, *points.NEXT_TOKEN)]  # when the blocks are done
ALL_ROWS, LAST_ROW = points.ENDS
NEXT_LOGITS, PROBABILITIES = (point.name for point in points.NEXT_TOKEN[1:3])
INSTEAD = {  # how a pass ends: (the other end, which then never comes; what to patch instead)
    LAST_ROW: (ALL_ROWS, f"generation scores the last row only: patch {NEXT_LOGITS}"),
    ALL_ROWS: (LAST_ROW, f"a pass without generation scores every row: patch {ALL_ROWS}"),
}


class Patch:
    """A trace that changes some activations.

    edits : ``{name: edit}``; a name is that of a trace point, a pattern such as ``blocks.*.attn.hook_z``, or any
        other name of one point, such as "ln_f" or "blocks.0.keys". An edit is a replacement array, or a function
        ``x -> array``: it may write into its `x`, a copy, and must return an array of the same shape and dtype.

    Raises ValueError at once for a name that no model has or that means several points; during the pass for a name
    that this model lacks, and for an edit of the wrong shape or dtype.
    """

    def __init__(self, edits: Mapping[str, Edit]):
        self.edits: dict[str, Edit] = {}
        self._met: set[str] | None = None  # edits applied in this pass; None outside a whole pass
        for word, edit in edits.items():
            name = _key(word)
            if name in self.edits:
                raise ValueError(f"{one_line(word)} means {name}, which has an edit already: give one of them")
            self.edits[name] = edit
            if name == PROBABILITIES:
                raise ValueError(f"{PROBABILITIES} are read-only: patch {NEXT_LOGITS}")
            if not callable(edit) and not isinstance(edit, np.ndarray):
                raise ValueError(f"{name}: an edit is an array, or a function from array to array, not {edit!r}")

    def __call__(self, name: str, x: Array) -> Array:
        if name == points.BEGINS:
            self._met = set()
        for key, edit in self.edits.items():
            if fnmatchcase(name, key):
                if self._met is not None:
                    self._met.add(key)
                x = _edited(name, x, edit)
        if self._met is not None:
            self._check_met(name)
        return x

    def _check_met(self, name: str) -> None:
        """Raise ValueError, as early as possible, for edits whose point this pass does not have."""
        if name in INSTEAD:
            other, instead = INSTEAD[name]
            if other in self.edits or (name == ALL_ROWS and NEXT_LOGITS in self.edits):
                raise ValueError(f"nothing to patch: {instead}")
            self._met = None
        elif name == TO_COME[0] and self._met is not None:
            for key in self.edits.keys() - self._met:
                if not any(fnmatchcase(later, key) for later in TO_COME):
                    raise ValueError(f"nothing to patch: this model has no trace point {key!r}")


def _key(word: str) -> str:
    """Return the trace point, or the pattern of several, that a key of the edits means."""
    if not isinstance(word, str):
        raise ValueError(f"edits go by the names of trace points, not by {word!r:.60}")
    if any(c in word for c in "*?"):
        return word
    some = (name.replace("{i}", str(i)) for name in points.TEMPLATES for i in range(100))
    if "[" in word and any(fnmatchcase(name, word) for name in some):
        return word  # a pattern, blocks.[01].hook_mlp_out; not a number in brackets, attentions[1]
    return resolve_in_any_model(word)


def _edited(name: str, x: Array, edit: Edit) -> Array:
    new = edit(x.copy()) if callable(edit) else edit
    axes = " ".join(points.get(name).axis_names)
    wanted = f"{x.dtype} of shape {list(x.shape)}" + (f" ({axes})" if axes else "")
    if not isinstance(new, np.ndarray | np.generic):
        raise ValueError(f"{name}: the patch returned {type(new).__name__}, expected an array: {wanted}")
    if (new.shape, new.dtype) != (x.shape, x.dtype):
        raise ValueError(f"{name}: the patch returned {new.dtype} of shape {list(new.shape)}, expected {wanted}")
    return new


def ablate_head(block: int, head: int, value: float | Array = 0.0, *, position: int | None = None) -> Trace:
    """Return a trace that sets one head's output to `value`: a number, or a vector (D,) such as a mean.

    position : only at this place in the text; None for all.
    """
    name = f"blocks.{block}.attn.hook_z"
    where = _Positions(position)

    def edit(z: Array) -> Array:  # (..., T, H, D)
        if np.shape(value) not in ((), z.shape[-1:]):
            raise ValueError(
                f"{name}: the value has shape {list(np.shape(value))}, expected a number or {[z.shape[-1]]}"
            )
        z[..., where.rows(), _head(name, head, z.shape[-2]), :] = value
        return z

    return chain(where, Patch({name: edit}))


def ablate_attention(block: int, *, position: int | None = None) -> Trace:
    """Return a trace that makes a block's attention add nothing to the residual stream."""
    return _nothing(f"blocks.{block}.hook_attn_out", position)


def ablate_mlp(block: int, *, position: int | None = None) -> Trace:
    """Return a trace that makes a block's MLP add nothing to the residual stream."""
    return _nothing(f"blocks.{block}.hook_mlp_out", position)


def _nothing(name: str, position: int | None) -> Trace:
    where = _Positions(position)

    def edit(x: Array) -> Array:  # (..., T, C)
        x[..., where.rows(), :] = 0
        return x

    return chain(where, Patch({name: edit}))


def steer(name: str, vector: Any, *, position: int | None = None) -> Trace:
    """Return a trace that adds `vector` (C,) to `name` (..., T, C) at one position, or at every one."""
    name = resolve_in_any_model(name)
    if points.get(name).axes != "T C":
        raise ValueError(f"{name} has axes {points.get(name).axes}: a vector can be added where they are T C")
    where, vector = _Positions(position), np.array(vector)

    def edit(x: Array) -> Array:
        if vector.shape != x.shape[-1:] or not np.can_cast(vector.dtype, x.dtype, "same_kind"):
            raise ValueError(
                f"{name}: the vector is {vector.dtype} of shape {list(vector.shape)}, "
                f"expected {x.dtype} of {list(x.shape[-1:])}"
            )
        x[..., where.rows(), :] += vector
        return x

    return chain(where, Patch({name: edit}))


def transplant(name: str, acts: Acts, *, position: int | None = None, head: int | None = None) -> Trace:
    """Return a trace that replaces `name` with its value in another run ("activation patching").

    name : of a trace point, or another of its names where that run has one such point.
    acts : that run's `Recorder`, of one prompt and without a cache.
    position : only this place in the text; None for every place where both have a token.
    head : only this head.
    """
    if not points.is_point(name):
        name = resolve(name, list(acts), "in the other run")
    axes = points.get(name).axes.split()
    if "T" not in axes or name in points.WHOLE_NUMBERS:
        raise ValueError(f"{name} is not a vector per token: give Patch an array, or change the prompt")
    if head is not None and "H" not in axes:
        raise ValueError(f"{name} has no heads")
    for needed in (name, "hook_positions"):
        if needed not in acts:
            raise ValueError(f"the other run has not recorded {needed}")
    where, source, there = _Positions(position), acts[name], acts["hook_positions"]
    if source.ndim != len(axes):
        raise ValueError(f"{name}: the other run has shape {list(source.shape)}, expected one prompt, without a batch")
    if position is not None and position not in there:
        raise ValueError(f"the other run has no position {position}: its last is {there[-1]}")

    def edit(x: Array) -> Array:
        sizes, others = (dict(zip(axes, shape, strict=True)) for shape in (x.shape[-len(axes) :], source.shape))
        if x.dtype != source.dtype or any(sizes[a] != others[a] for a in axes if a not in "TS"):
            raise ValueError(
                f"{name}: the other run has {source.dtype} of shape {list(source.shape)}, "
                f"this one {x.dtype} of {list(x.shape)}"
            )
        if head is not None:
            _head(name, head, sizes["H"])
        _, here, rows = np.intersect1d(where.now, there, return_indices=True)
        wanted = np.isin(where.now[here], where.now[where.rows()])
        # A row sees no key after its own position, so where one run has more keys than the other they are masked.
        keys = slice(min(sizes["S"], others["S"])) if "S" in axes else None
        x[_index(axes, here[wanted], head, keys)] = source[_index(axes, rows[wanted], head, keys)]
        return x

    return chain(where, Patch({name: edit}))


def _index(axes: list[str], rows: Array, head: int | None, keys: slice | None) -> tuple[Any, ...]:
    """Return the index of some rows, of one head or all, and of the first keys."""
    along = {"T": rows, "H": slice(None) if head is None else head, "S": keys}
    return (..., *(along.get(axis, slice(None)) for axis in axes))


def sweep(
    model: GPT2,
    ids: Ids,
    acts: Acts,
    names: str | Iterable[str],
    measure: Callable[[Array], float],
    *,
    head: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Array:
    """Transplant every single position of every point in turn: where does the other run's answer come from?

    ids (T,) is the prompt that is changed, `acts` the other run's, with the same number of tokens;
    `measure` maps the logits (V,) after the last token to a number. Returns (len(names), T).

    report : called after each pass with the number done and the total.
    """
    names = [names] if isinstance(names, str) else list(names)
    T: Any = len(acts["hook_positions"]) if "hook_positions" in acts else None
    if np.shape(ids) != (T,):
        raise ValueError(f"ids have shape {list(np.shape(ids))}, but the other run has {T} tokens: give as many")
    runs = [(name, position) for name in names for position in range(T)]
    found = []
    for name, position in runs:
        trace = transplant(name, acts, position=position, head=head)
        found.append(float(measure(model(ids, trace=trace)[-1])))
        if report:
            report(len(found), len(runs))
    return np.array(found).reshape(len(names), T)


class _Positions:
    """A trace that remembers the positions of this pass's tokens."""

    def __init__(self, wanted: int | None):
        if wanted is not None and (not isinstance(wanted, int | np.integer) or wanted < 0):
            raise ValueError(f"position must be a whole number, 0 at the start of the text, not {wanted!r}")
        self.wanted = wanted
        self.now: Any = None  # (T,)

    def __call__(self, name: str, x: Array) -> Array:
        if name == "hook_positions":
            self.now = x.reshape(-1, x.shape[-1])[0].copy()  # the same in every row of a batch
        return x

    def rows(self) -> Array:
        """Return the rows of this pass that are wanted."""
        every = np.arange(len(self.now))
        return every if self.wanted is None else every[self.now == self.wanted]


def _head(name: str, head: int, H: int) -> int:
    if not isinstance(head, int | np.integer) or not 0 <= head < H:
        raise ValueError(f"{name}: no head {head}, there are 0 to {H - 1}")
    return head
