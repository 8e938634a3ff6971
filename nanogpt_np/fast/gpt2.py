"""The fast model: GPT-2 with some layers replaced by faster ones that share its arrays.

A trace gets every value as the plain model announces it: GELU in tiles computes the same numbers, and what would
leave values out or cut them up (attention in tiles, segments, the last row) is used only when no trace is attached.
A layer of another class than this package's own stays where it is, and every row goes through it in one pass: it may
read what these would leave out (`own.py`).
"""

from dataclasses import fields, replace
from typing import Any

from ..model.attention import Attention
from ..model.gpt2 import GPT2, Block, Cache, Ids
from ..model.ids import check_ids
from ..model.layernorm import LayerNorm
from ..model.mlp import GELU, MLP
from ..model.trace import Array, Trace, no_trace
from .last_row import only_last_row
from .memory import USUAL, keep_freed_memory
from .segments import in_segments
from .tiles import TiledAttention, TiledGELU


def fast(model: GPT2) -> GPT2:
    """Return a faster model, called like `model` and sharing its arrays; models of other classes are returned as is.

    It has this process keep some of the memory that it frees (`memory.py`).
    """
    if type(model) is not GPT2:
        return model
    keep_freed_memory(USUAL)
    h = tuple(map(_fast_block, model.h))
    return FastGPT2(**_fields(model) | {"h": h})


class FastGPT2(GPT2):
    """A GPT2 that takes shortcuts when no trace is attached."""

    def hidden(self, ids: Ids, *, cache: Cache | None = None, trace: Trace = no_trace) -> Array:
        """ids (..., T) -> (..., T, C): all but the LM head."""
        if trace is not no_trace:
            return super().hidden(ids, cache=cache, trace=trace)
        ids = check_ids(ids, self.config, 0 if cache is None else cache.length)
        return in_segments(self, super().hidden, ids, cache)

    def last_row(self, ids: Ids, *, cache: Cache | None = None, trace: Trace = no_trace) -> Array:
        """ids (..., T) -> (..., C): the last row of `hidden`; without a trace the last block computes only that."""
        model = self
        if trace is no_trace and self.h and type(self.ln_f) is LayerNorm:
            model = replace(self, h=(*self.h[:-1], only_last_row(self.h[-1])))
        return model.hidden(ids, cache=cache, trace=trace)[..., -1, :]


def _fast_block(block: Block) -> Block:
    if type(block) is not Block:
        return block
    attn, mlp = block.attn, block.mlp
    if type(attn) is Attention:
        attn = TiledAttention(**_fields(attn))
    if type(mlp) is MLP and type(mlp.act) is GELU:
        mlp = replace(mlp, act=TiledGELU())
    return replace(block, attn=attn, mlp=mlp)


def _fields(layer: Any) -> dict[str, Any]:
    return {field.name: getattr(layer, field.name) for field in fields(layer)}
