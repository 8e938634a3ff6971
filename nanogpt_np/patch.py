"""Change an activation on its way, and see what follows.

A `Patch` is a trace like any other: ``model(ids, trace=Patch({name: edit}))``. The layers know
nothing of it. Several compose with `trace.chain`, first to last: what stands after a patch sees what
it made, so ``chain(patch, recorder)`` records the changed run. Below it, the edits that are made most
often; they count positions in the text, so with a KV cache they mean the same as without.
"""

from fnmatch import fnmatchcase

import numpy as np

from . import points
from .trace import chain

TO_COME = [point.name for point in (*points.FINAL, *points.LOGITS, *points.NEXT_TOKEN)]  # when the blocks are done


class Patch:
    """A trace that changes some activations.

    edits : ``{name: edit}``; a name is that of a trace point, or a pattern such as
        ``blocks.*.attn.hook_z``. An edit is an array to put in place, or a function ``x -> array``:
        it may write into its `x`, a copy, and must return what to go on with, in the same shape and dtype.

    Raises ValueError for a name that no model has at once; for one that this model has not, and for
    an edit of the wrong shape or dtype, when the pass gets there.
    """

    def __init__(self, edits):
        self.edits = dict(edits)
        self._met = set()  # edits that had their turn in this pass
        for name, edit in self.edits.items():
            if not any(c in name for c in "*?["):
                points.get(name)
            if not callable(edit) and not isinstance(edit, np.ndarray):
                raise ValueError(f"{name}: an edit is an array, or a function from array to array, not {edit!r}")

    def __call__(self, name, x):
        if name == "hook_tokens":
            self._met.clear()
        for key, edit in self.edits.items():
            if fnmatchcase(name, key):
                self._met.add(key)
                x = _edited(name, x, edit)
        if name == TO_COME[0]:
            for key in self.edits.keys() - self._met:
                if not any(fnmatchcase(later, key) for later in TO_COME):
                    raise ValueError(f"nothing to patch: this model has no trace point {key!r}")
        return x


def _edited(name, x, edit):
    new = edit(x.copy()) if callable(edit) else edit
    axes = " ".join(points.get(name).axis_names)
    wanted = f"{x.dtype} of shape {list(x.shape)}" + (f" ({axes})" if axes else "")
    if not isinstance(new, np.ndarray | np.generic):
        raise ValueError(f"{name}: the patch gave back {type(new).__name__}, expected an array: {wanted}")
    if (new.shape, new.dtype) != (x.shape, x.dtype):
        raise ValueError(f"{name}: the patch gave back {new.dtype} of shape {list(new.shape)}, expected {wanted}")
    return new


def ablate_head(block, head, value=0.0):
    """Return a patch that puts `value` (a number, or (D,) such as a mean) for one head's output at every position."""
    name = f"blocks.{block}.attn.hook_z"

    def edit(z):  # (..., T, H, D)
        z[..., _head(name, head, z.shape[-2]), :] = value
        return z

    return Patch({name: edit})


def ablate_attention(block):
    """Return a patch after which the attention of a block adds nothing to the residual stream."""
    return Patch({f"blocks.{block}.hook_attn_out": np.zeros_like})


def ablate_mlp(block):
    """Return a patch after which the MLP of a block adds nothing to the residual stream."""
    return Patch({f"blocks.{block}.hook_mlp_out": np.zeros_like})


def steer(name, vector, position=None):
    """Return a trace that adds `vector` (C,) to `name` (..., T, C) at one position, or at every one."""
    if points.get(name).axes != "T C":
        raise ValueError(f"{name} has axes {points.get(name).axes}: a vector can be added where they are T C")
    where = _Positions()

    def edit(x):
        if np.shape(vector) != x.shape[-1:]:
            raise ValueError(f"{name}: the vector has shape {list(np.shape(vector))}, expected {list(x.shape[-1:])}")
        rows = slice(None) if position is None else where.now == position
        x[..., rows, :] += vector
        return x

    return chain(where, Patch({name: edit}))


def transplant(name, acts, *, position=None, head=None):
    """Return a trace that puts in place of `name` what another run had there ("activation patching").

    acts : that run's `Recorder`, of one prompt and without a cache.
    position : only this place in the text; else every place where both runs have a token.
    head : only this head.
    """
    axes = points.get(name).axes.split()
    if "T" not in axes or name in points.WHOLE_NUMBERS:
        raise ValueError(f"{name} is no vector for each token: give Patch an array, or change the prompt")
    if head is not None and "H" not in axes:
        raise ValueError(f"{name} has no heads")
    for needed in (name, "hook_positions"):
        if needed not in acts:
            raise ValueError(f"the other run has not recorded {needed}")
    source = acts[name]
    if source.ndim != len(axes):
        raise ValueError(f"{name}: the other run has shape {list(source.shape)}, expected one prompt, without a batch")
    if position is not None and position not in acts["hook_positions"]:
        raise ValueError(f"the other run has no position {position}: its last is {acts['hook_positions'][-1]}")
    where = _Positions()

    def edit(x):
        here, there = x.shape[-len(axes) :], source.shape
        if x.dtype != source.dtype or any(
            a != b for a, b, letter in zip(here, there, axes, strict=True) if letter != "T"
        ):
            raise ValueError(
                f"{name}: the other run has {source.dtype} of shape {list(there)}, this one {x.dtype} of {list(here)}"
            )
        if head is not None:
            _head(name, head, here[axes.index("H")])
        both = [p for p in where.now if p in acts["hook_positions"] and position in (None, p)]
        x[rows(where.now, both)] = source[rows(acts["hook_positions"], both)]
        return x

    def rows(positions, wanted):
        """Return the index of the rows of the `wanted` positions."""
        index = [slice(None)] * len(axes)
        index[axes.index("T")] = np.searchsorted(positions, wanted)
        if head is not None:
            index[axes.index("H")] = head
        return (..., *index)

    return chain(where, Patch({name: edit}))


def sweep(model, ids, acts, names, measure):
    """Transplant every single position of every point in turn: where does the other run's answer come from?

    ids (T,) is the prompt that is changed, `acts` the other run's, with the same number of tokens;
    `measure` makes a number of the logits (V,) after the last token. Returns (len(names), T).
    """
    runs = ((name, position) for name in names for position in range(len(ids)))
    found = [measure(model(ids, trace=transplant(name, acts, position=p))[-1]) for name, p in runs]
    return np.array(found).reshape(len(names), len(ids))


class _Positions:
    """A trace that remembers the places in the text of this pass's tokens."""

    now = None  # (T,)

    def __call__(self, name, x):
        if name == "hook_positions":
            self.now = x.reshape(-1, x.shape[-1])[0]  # the same in every row of a batch
        return x


def _head(name, head, H):
    if not 0 <= head < H:
        raise ValueError(f"{name}: no head {head}, there are 0 to {H - 1}")
    return head
