"""Layer normalization: bring every token's vector to one scale before a layer reads it.

n = (x - mean(x)) / sqrt(var(x) + eps), y = n * weight + bias. The variance divides by C, not C - 1, and eps is
inside the root. Source: Ba, Kiros, Hinton 2016, "Layer Normalization". Read next: `attention.py`.
"""

from dataclasses import dataclass

import numpy as np

from .trace import Array, Grads, Reader, Trace, no_trace


@dataclass(frozen=True, eq=False, repr=False)
class LayerNorm:
    """Give every token's vector mean 0 and variance 1, then scale and shift it."""

    weight: Array  # (C,) gain
    bias: Array  # (C,)
    eps: float = 1e-5

    def __call__(self, x: Array, trace: Trace = no_trace) -> Array:
        """(..., T, C) -> (..., T, C)"""
        centered = x - x.mean(axis=-1, keepdims=True)
        variance = (centered * centered).mean(axis=-1, keepdims=True)  # (..., T, 1)
        variance = variance + 0 * variance  # inf becomes NaN: x / inf would be 0, and hide that x was too large
        scale = trace("hook_scale", np.sqrt(variance + self.eps))
        normalized = trace("hook_normalized", centered / scale)
        return trace("hook_output", normalized * self.weight + self.bias)

    def backward(self, d_out: Array, tape: Reader, trace: Trace = no_trace) -> tuple[Array, Grads]:
        """d_out (..., T, C) -> d_x (..., T, C), {"weight": (C,), "bias": (C,)}

        With n = (x - mean) / scale: d_scale = -sum(d_n n) / scale. As scale^2 = mean((x - mean)^2) + eps,
        d scale / d x = n / C, so d_x = (d_n - mean(d_n)) / scale + d_scale n / C, with means over C.
        """
        d_out = trace("hook_output", d_out)
        normalized, scale = tape("hook_normalized"), tape("hook_scale")
        d_normalized = trace("hook_normalized", d_out * self.weight)
        d_scale = -(d_normalized * normalized).sum(axis=-1, keepdims=True) / scale  # (..., T, 1)
        d_scale = trace("hook_scale", d_scale)
        d_x = (d_normalized - d_normalized.mean(axis=-1, keepdims=True)) / scale
        d_x = d_x + normalized * d_scale / d_out.shape[-1]
        tokens = tuple(range(d_out.ndim - 1))  # every token uses it, so the gradients add up
        return d_x, {"weight": (d_out * normalized).sum(tokens), "bias": d_out.sum(tokens)}
