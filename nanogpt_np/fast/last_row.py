"""The last block, for the last row only: all that generation needs.

The next token depends only on the last row. For earlier tokens the last block only produces keys and values;
nothing reads their queries, attention output or MLP output. Skipping these saves ten twelfths of the weight products
of the last of gpt2's 12 blocks. A few lines of `Attention` are repeated here, for keys and values without
queries; a test compares the two.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..model.attention import Remember, no_cache
from ..model.gpt2 import Block
from ..model.linear import Linear
from ..model.trace import Array, Trace, no_trace
from .own import is_own_block


def only_last_row(block: Block) -> Any:
    """Return `block` as a `LastRow`, or unchanged if it has a layer from outside, which may need every row."""
    return LastRow(block) if is_own_block(block) and type(block.attn.c_attn) is Linear else block


@dataclass(frozen=True, eq=False, repr=False)
class LastRow:
    """A block that computes its last row only."""

    block: Block

    def __call__(self, x: Array, remember: Remember = no_cache, trace: Trace = no_trace) -> Array:
        """(..., T, C) -> (..., 1, C)"""
        if x.shape[-2] == 1:
            return self.block(x, remember, trace)
        attn, width = self.block.attn, self.block.attn.n_head * self.block.attn.head_width
        keys_and_values = Linear(attn.c_attn.weight[:, width:], attn.c_attn.bias[width:])
        kv = keys_and_values(self.block.ln_1(x[..., :-1, :]))  # (..., T-1, 2C)
        heads = (*kv.shape[:-1], attn.n_head, -1)
        keys, values = (a.reshape(heads).swapaxes(-2, -3) for a in (kv[..., :width], kv[..., width:]))

        def remember_all(k: Array, v: Array) -> tuple[Array, Array]:
            """(..., H, 1, D) of the last token -> (..., H, S, D) of all"""
            return remember(np.concatenate([keys, k], axis=-2), np.concatenate([values, v], axis=-2))

        return self.block(x[..., -1:, :], remember_all, trace)
