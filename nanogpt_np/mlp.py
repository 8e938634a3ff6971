"""The MLP: each token's vector on its own, widened, bent and narrowed again.

GPT-2's GELU is the tanh form ("gelu_new"), not the exact one with erf: the two differ by up to
5e-4, enough to move the logits by 1e-3. Source: Hendrycks and Gimpel 2016, "Gaussian Error
Linear Units". Read next: `lm_head.py`.
"""

import math
from dataclasses import dataclass

import numpy as np

from .trace import no_trace

# Numbers bent at a time. The formulas make some ten arrays on their way; of 16,384 float32 each they
# stay in the processor's cache, which makes them three times faster than whole tensors in main memory.
CHUNK = 1 << 14


def in_blocks(formula, x):
    """Apply an elementwise `formula` to `x`, `CHUNK` numbers at a time; same shape."""
    x = np.asarray(x)
    x = x if x.dtype.kind == "f" else x.astype(float)  # whole numbers become floats
    if x.size <= CHUNK:
        return formula(x)
    out = np.empty(x.shape, x.dtype)
    flat_x, flat_out = x.reshape(-1), out.reshape(-1)
    for start in range(0, x.size, CHUNK):
        flat_out[start : start + CHUNK] = formula(flat_x[start : start + CHUNK])
    return out


def gelu(x):
    """Let large values through, hold small ones back, and bend smoothly between; same shape.

    0.5 x (1 + tanh u) with u = sqrt(2/pi) (x + 0.044715 x^3), written as what it equals: x / (1 + exp(-2u)).
    """
    # x * x, not x**3: NumPy's power function takes some 30 times as long. exp takes half as long as tanh.
    minus_2u = -2 * math.sqrt(2 / math.pi) * x * (1 + 0.044715 * (x * x))
    # exp of more than 88 overflows. x / exp(80) is as good as 0: for |x| below 1e30 it is below 2e-5, up to 1e13
    # (beyond, x * x * x leaves float32, with a warning but the same result) below 2e-22.
    return x / (1 + np.exp(np.minimum(minus_2u, 80)))


def gelu_slope(x):
    """The derivative of `gelu`: with u = sqrt(2/pi) (x + 0.044715 x^3), (1 + tanh u) / 2 + x (1 - tanh^2 u) u' / 2."""
    square = x * x
    t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * square * x))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * square)


@dataclass(frozen=True, eq=False, repr=False)
class MLP:
    """Two matrices with a GELU between them."""

    c_fc_weight: np.ndarray  # (C, F)
    c_fc_bias: np.ndarray  # (F,)
    c_proj_weight: np.ndarray  # (F, C)
    c_proj_bias: np.ndarray  # (C,)

    def __call__(self, x, trace=no_trace):
        """(..., T, C) -> (..., T, C)"""
        pre = x @ self.c_fc_weight  # (..., T, F)
        pre += self.c_fc_bias
        post = trace("hook_post", in_blocks(gelu, trace("hook_pre", pre)))
        out = post @ self.c_proj_weight  # (..., T, C)
        out += self.c_proj_bias
        return out

    def backward(self, d_out, x, tape, trace=no_trace):
        """d_out (..., T, C), x (..., T, C) as it came in -> d_x (..., T, C), gradients by name

        For y = x @ W + b: d_x = d_y @ W.T, d_W = x.T @ d_y and d_b = d_y, both summed over tokens.
        """
        C, F = self.c_fc_weight.shape
        d_post = trace("hook_post", d_out @ self.c_proj_weight.T)
        d_pre = trace("hook_pre", d_post * in_blocks(gelu_slope, tape("hook_pre")))
        x, d_rows, out_rows = x.reshape(-1, C), d_pre.reshape(-1, F), d_out.reshape(-1, C)
        return d_pre @ self.c_fc_weight.T, {
            "c_fc.weight": x.T @ d_rows,
            "c_fc.bias": d_rows.sum(axis=0),
            "c_proj.weight": tape("hook_post").reshape(-1, F).T @ out_rows,
            "c_proj.bias": out_rows.sum(axis=0),
        }
