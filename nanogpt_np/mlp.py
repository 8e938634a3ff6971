"""The MLP: each token's vector on its own, widened, bent and narrowed again.

GPT-2's GELU is the tanh form ("gelu_new"), not the exact one with erf: the two differ by up to
5e-4, enough to move the logits by 1e-3. Source: Hendrycks and Gimpel 2016, "Gaussian Error
Linear Units". Read next: `lm_head.py`.
"""

import math
from dataclasses import dataclass

import numpy as np

from .trace import no_trace


def gelu(x):
    """Let large values through, hold small ones back, and bend smoothly between; same shape."""
    # x * x * x: NumPy's x**3 calls the general power function, some 30 times slower.
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


@dataclass(frozen=True, eq=False)
class MLP:
    """Two matrices with a GELU between them."""

    c_fc_weight: np.ndarray  # (C, F)
    c_fc_bias: np.ndarray  # (F,)
    c_proj_weight: np.ndarray  # (F, C)
    c_proj_bias: np.ndarray  # (C,)

    def __call__(self, x, trace=no_trace):
        """(..., T, C) -> (..., T, C)"""
        pre = trace("hook_pre", x @ self.c_fc_weight + self.c_fc_bias)  # (..., T, F)
        post = trace("hook_post", gelu(pre))
        return post @ self.c_proj_weight + self.c_proj_bias
