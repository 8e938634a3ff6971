"""The KV cache: keys and values of the tokens so far, so that a new token need not compute them again.

A key or value depends on its own token and those before it only, so what was computed once stays
right. The model runs the same code with and without a cache: attention hands over its new keys and
values and takes back all of them (`attention.no_memory` is the version that remembers nothing).
"""

from functools import partial

import numpy as np

from .attention import no_memory


class NoCache:
    """Every pass is the first: what the model uses when no cache is given."""

    length = 0  # tokens so far

    def layer(self, i):
        return no_memory

    def advance(self, T):
        pass


class KVCache:
    """Keys and values of all blocks for up to `config.n_positions` tokens.

    ``model(ids, cache=cache)`` continues after the `length` tokens that it holds. It takes the
    batch shape and the dtype of the first pass. A pass that fails in a block leaves it as it was.
    """

    def __init__(self, config):
        self.config = config
        self.length = 0  # tokens so far
        # Block index -> (keys, values), each (..., H, n_positions, D). Heads stand before tokens so
        # that a head's keys lie side by side in memory. Untouched pages cost nothing.
        self._layers = {}

    def layer(self, i):
        """Return ``remember(k, v)`` for block `i`, as `Attention` takes it."""
        return partial(self._remember, i)

    def advance(self, T):
        """Count `T` more tokens, when every block has stored them."""
        self.length += T

    @property
    def nbytes(self):
        """Bytes in use by the tokens so far."""
        full = sum(keys.nbytes + values.nbytes for keys, values in self._layers.values())
        return full * self.length // self.config.n_positions

    def _remember(self, i, k, v):
        """(..., H, T, D) of this pass -> (..., H, S, D) of all passes"""
        *batch, H, T, D = k.shape
        S, longest = self.length + T, self.config.n_positions
        if S > longest:
            raise ValueError(f"{self.length} cached + {T} tokens are more than this cache holds: {longest}")
        shape = (*batch, H, longest, D)
        if not self.length:
            self._layers[i] = np.empty(shape, k.dtype), np.empty(shape, v.dtype)
        keys, values = self._layers[i]
        if (keys.shape, keys.dtype) != (shape, k.dtype):
            raise ValueError(f"this cache holds {keys.dtype} keys of shape {keys.shape}, not {k.dtype} of {shape}")
        keys[..., self.length : S, :] = k
        values[..., self.length : S, :] = v
        return keys[..., :S, :], values[..., :S, :]
