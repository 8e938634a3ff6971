"""A few rows at once, as in a decoding step of a batch: matrix products in column tiles small enough to run unpacked.

For a product of 2 to 16 rows, OpenBLAS copies ("packs") the whole weight matrix into another layout first, which takes
longer than the product. It skips that for small products. In tiles, 8 rows of gpt2 take about half the time on the two
cores of the machine where it was measured. NumPy itself would multiply the texts of a batch (B, 1, C) one by one, so
the layers here join them to one matrix.
"""

from dataclasses import fields, replace
from typing import Any

import numpy as np

from ..model.attention import Attention
from ..model.gpt2 import GPT2, Block
from ..model.linear import Linear
from ..model.lm_head import LMHead
from ..model.mlp import MLP
from ..model.trace import Array, Trace, no_trace
from . import blas
from .gpt2 import FastLMHead
from .tiles import TiledAttention

SMALL = 1_000_000  # multiplications up to which OpenBLAS packs nothing
WIDEST, NARROWEST = 64, 16  # columns in a tile; narrower ones would be slower than packing
FEW_CORES = 4  # with more, OpenBLAS's own threads share the packing


def product(x: Array, weight: Array) -> Array:
    """(rows, K) @ (K, N) -> (rows, N)"""
    N = weight.shape[-1]
    width = min(WIDEST, 1 << max(SMALL // x.size, 1).bit_length() - 1)
    tiles = N // width
    if len(x) == 1 or width < NARROWEST or not tiles or blas.cores() > FEW_CORES:
        return x @ weight
    out, whole = np.empty((len(x), N), np.result_type(x, weight)), tiles * width
    in_tiles = (a[:, :whole].reshape(-1, tiles, width).swapaxes(0, 1) for a in (weight, out))  # views
    columns, found = in_tiles
    np.matmul(x, columns, out=found)
    out[:, whole:] = x @ weight[:, whole:]
    return out


class FewRowsLinear(Linear):
    """A linear layer that multiplies the rows of all texts of a batch at once."""

    def __call__(self, x: Array, trace: Trace = no_trace) -> Array:
        """(..., n_in) -> (..., n_out)"""
        y = product(x.reshape(-1, x.shape[-1]), self.weight)
        y += self.bias
        return y.reshape(*x.shape[:-1], -1)


class FewRowsLMHead(FastLMHead):
    """The LM head for the last rows of a batch."""

    def __call__(self, x: Array) -> Array:
        """(..., C) -> (..., V)"""
        with blas.products_on_all_cores():
            return product(x.reshape(-1, x.shape[-1]), self.weight.T).reshape(*x.shape[:-1], -1)


def few_rows(model: GPT2) -> GPT2:
    """Return `model` for decoding several texts side by side, with the same arrays; layers of other classes stay."""
    head = model.lm_head
    head = FewRowsLMHead(**_fields(head)) if type(head) in (LMHead, FastLMHead) else head
    return replace(model, h=tuple(map(_block, model.h)), lm_head=head)


def _block(block: Block) -> Block:
    if type(block) is not Block:
        return block
    return replace(block, attn=_with_few_rows(block.attn), mlp=_with_few_rows(block.mlp))


def _with_few_rows(layer: Any) -> Any:
    if type(layer) not in (Attention, TiledAttention, MLP):
        return layer
    return replace(
        layer, **{name: FewRowsLinear(**_fields(x)) for name, x in _fields(layer).items() if type(x) is Linear}
    )


def _fields(layer: Any) -> dict[str, Any]:
    return {field.name: getattr(layer, field.name) for field in fields(layer)}
