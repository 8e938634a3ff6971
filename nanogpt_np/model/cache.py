"""The KV cache: keys and values of the tokens so far, so that no new token computes them again.

A key or value depends only on its own token and those before it, so once computed it stays valid. The model
runs the same code with and without a cache: attention passes its new keys and values to `remember`, and uses
what it returns (`attention.no_cache` returns them unchanged).
"""

from functools import partial

import numpy as np

from .attention import Remember, no_cache
from .config import Config
from .trace import Array


class NoCache:
    """Treat every pass as the first: the default when no cache is given."""

    length = 0  # tokens so far

    def layer(self, i: int) -> Remember:
        """Return ``remember(k, v)`` for block `i`, as `Attention` takes it."""
        return no_cache

    def advance(self, T: int) -> None:
        """Count `T` more tokens: nothing to do, since nothing is kept."""


class KVCache:
    """Keys and values of all blocks for up to `config.n_positions` tokens.

    ``model(ids, cache=cache)`` continues after the `length` tokens in it. Its batch shape and dtype are those of the
    first pass. A pass that fails in a block leaves the cache unchanged.
    """

    def __init__(self, config: Config):
        if not hasattr(config, "n_positions"):
            raise ValueError(f"a cache takes a Config, as KVCache(model.config), not a {type(config).__name__}")
        self.config = config
        self.length = 0  # tokens so far
        # Block index -> (keys, values), each (..., H, n_positions, D). Heads come before tokens, so
        # that each head's keys are one matrix.
        self._layers: dict[int, tuple[Array, Array]] = {}

    def layer(self, i: int) -> Remember:
        """Return ``remember(k, v)`` for block `i`, as `Attention` takes it."""
        return partial(self._remember, i)

    def advance(self, T: int) -> None:
        """Count `T` more tokens, when every block has stored them."""
        self.length += T

    @property
    def nbytes(self) -> int:
        """Bytes in use by the tokens so far."""
        full = sum(keys.nbytes + values.nbytes for keys, values in self._layers.values())
        return full * self.length // self.config.n_positions

    def _remember(self, i: int, k: Array, v: Array) -> tuple[Array, Array]:
        """(..., H, T, D) of this pass -> (..., H, S, D) of all passes"""
        T, longest = k.shape[-2], self.config.n_positions
        S = self.length + T
        if S > longest:
            raise ValueError(f"{self.length} cached + {T} tokens are more than this cache holds: {longest}")
        if not self.length:
            keys, values = (np.empty((*x.shape[:-2], longest, x.shape[-1]), x.dtype) for x in (k, v))
            self._layers[i] = keys, values
        for name, stored, x in zip(("keys", "values"), self._layers[i], (k, v), strict=True):
            shape = (*x.shape[:-2], longest, x.shape[-1])
            if (stored.shape, stored.dtype) != (shape, x.dtype):
                raise ValueError(
                    f"this cache holds {stored.dtype} {name} of shape {stored.shape}, not {x.dtype} of {shape}"
                )
            stored[..., self.length : S, :] = x
        keys, values = self._layers[i]
        return keys[..., :S, :], values[..., :S, :]
