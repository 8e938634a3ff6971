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
from ..model.lm_head import LMHead
from ..model.mlp import GELU, MLP
from ..model.trace import Array, Grads, Tape, Trace, no_trace
from .blas import products_on_all_cores
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
    h, head = tuple(map(_fast_block, model.h)), model.lm_head
    head = FastLMHead(**_fields(head)) if type(head) is LMHead else head
    return FastGPT2(**_fields(model) | {"h": h, "lm_head": head})


class FastGPT2(GPT2):
    """A GPT2 that takes shortcuts when no trace is attached."""

    def hidden(self, ids: Ids, *, cache: Cache | None = None, trace: Trace = no_trace) -> Array:
        """ids (..., T) -> (..., T, C): all but the LM head."""
        if trace is not no_trace:
            with products_on_all_cores():
                return super().hidden(ids, cache=cache, trace=trace)
        ids = check_ids(ids, self.config, 0 if cache is None else cache.length)
        return in_segments(self, super().hidden, ids, cache)

    def last_row(self, ids: Ids, *, cache: Cache | None = None, trace: Trace = no_trace) -> Array:
        """ids (..., T) -> (..., C): the last row of `hidden`; without a trace the last block computes only that."""
        model = self
        if trace is no_trace and self.h and type(self.ln_f) is LayerNorm:
            model = replace(self, h=(*self.h[:-1], only_last_row(self.h[-1])))
        return model.hidden(ids, cache=cache, trace=trace)[..., -1, :]

    def backward(self, d_out: Array, tape: Tape, trace: Trace = no_trace) -> Grads:
        """d_out (..., T, C) -> ``{parameter name: gradient}``: that of `GPT2`."""
        with products_on_all_cores():
            return super().backward(d_out, tape, trace)


class FastLMHead(LMHead):
    """The LM head, during which no fork begins (`blas.py`)."""

    def __call__(self, x: Array) -> Array:
        """(..., C) -> (..., V)"""
        with products_on_all_cores():
            return super().__call__(x)

    def backward(self, d_out: Array, x: Array) -> tuple[Array, Grads]:
        """d_out (N, V), the input x (N, C) -> d_x (N, C), {"weight": (V, C)}"""
        with products_on_all_cores():
            return super().backward(d_out, x)


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
