"""Layer normalisation: bring every token's vector to one scale before it is read.

Source: Ba, Kiros, Hinton 2016, "Layer Normalization". The variance divides by C, not C - 1,
and epsilon stands inside the root. Read next: `attention.py`.
"""

from dataclasses import dataclass

import numpy as np

from .trace import no_trace


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """Give every token's vector mean 0 and variance 1, then scale and shift it."""

    weight: np.ndarray  # (C,) gain
    bias: np.ndarray  # (C,)
    eps: float = 1e-5

    def __call__(self, x, trace=no_trace):
        """(..., T, C) -> (..., T, C)"""
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)  # (..., T, 1)
        scale = trace("hook_scale", np.sqrt(variance + self.eps))
        normalized = trace("hook_normalized", centred / scale)
        return trace("hook_output", normalized * self.weight + self.bias)
