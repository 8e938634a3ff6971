"""From token ids to vectors: one row for the token, plus one row for its position.

x_t = wte[id_t] + wpe[t]. Read next: `layernorm.py`.
"""

from dataclasses import dataclass

import numpy as np

from .trace import Array, Grads, Trace, no_trace


@dataclass(frozen=True, eq=False, repr=False)
class Embedding:
    """Look up each token and each position in a table, and add the two rows."""

    wte_weight: Array  # (V, C) a row per token
    wpe_weight: Array  # (n_positions, C) a row per position

    def __call__(self, ids: Array, start: int = 0, trace: Trace = no_trace) -> Array:
        """ids (..., T), the first at position `start` -> (..., T, C)"""
        T = ids.shape[-1]
        # (..., T), the same for every prompt of a batch
        positions = trace("hook_positions", np.broadcast_to(np.arange(start, start + T), ids.shape))
        lowest, highest = positions.min(), positions.max()
        if lowest < 0 or highest >= len(self.wpe_weight):
            raise ValueError(f"positions must be 0 to {len(self.wpe_weight) - 1}, not {lowest} to {highest}")
        tokens = trace("hook_embed", self.wte_weight[ids])  # (..., T, C)
        return tokens + trace("hook_pos_embed", self.wpe_weight[positions])

    def backward(self, d_out: Array, ids: Array, positions: Array, trace: Trace = no_trace) -> Grads:
        """d_out (..., T, C) -> {"wte.weight": (V, C), "wpe.weight": (n_positions, C)}

        Looking up a row is a product with a one-hot matrix; its gradient adds each token's vector to the row
        that was read. A row that was read twice gets the sum.
        """
        C = d_out.shape[-1]
        d_wte, d_wpe = np.zeros_like(self.wte_weight), np.zeros_like(self.wpe_weight)
        np.add.at(d_wpe, positions.reshape(-1), trace("hook_pos_embed", d_out).reshape(-1, C))
        np.add.at(d_wte, ids.reshape(-1), trace("hook_embed", d_out).reshape(-1, C))
        return {"wte.weight": d_wte, "wpe.weight": d_wpe}
