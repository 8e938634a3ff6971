"""The last block for one row: what generation needs of a long prompt, and no more.

What follows a prompt is read off its last token. Of the tokens before it the last block has to give keys and values,
which the last token looks at, but no queries, no averages and nothing from the MLP: nobody reads them. Ten twelfths of
a block's products with weights are left out and nearly all with keys and values; of gpt2's 12 blocks this is one. No
layer knows of it: it stands in the place of the last block while nobody watches (`GPT2.last_row`), and a trace sees
every row. Three lines of `Attention` stand here again, keys and values without queries; a test holds the two together.
"""

from dataclasses import dataclass

import numpy as np

from .attention import no_memory
from .trace import no_trace


@dataclass(frozen=True, eq=False, repr=False)
class LastRow:
    """A block that gives its last row only."""

    block: object  # the `Block` of which it is the last row

    def __call__(self, x, remember=no_memory, trace=no_trace):
        """(..., T, C) -> (..., 1, C)"""
        if x.shape[-2] == 1:
            return self.block(x, remember, trace)
        attn, C = self.block.attn, x.shape[-1]
        earlier = self.block.ln_1(x[..., :-1, :]) @ attn.c_attn_weight[:, C:]  # (..., T-1, 2C)
        earlier += attn.c_attn_bias[C:]
        heads = earlier.reshape(*earlier.shape[:-1], 2, attn.n_head, -1)  # (..., T-1, 2, H, D)
        keys, values = (heads[..., i, :, :].swapaxes(-2, -3) for i in range(2))  # (..., H, T-1, D)

        def remember_all(k, v):
            """(..., H, 1, D) of the last token -> (..., H, S, D) of all"""
            return remember(np.concatenate([keys, k], axis=-2), np.concatenate([values, v], axis=-2))

        return self.block(x[..., -1:, :], remember_all, trace)
