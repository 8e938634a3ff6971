"""The MLP: widen each token's vector, apply GELU, and narrow it again.

gelu(x W_fc + b_fc) W_proj + b_proj. GPT-2's GELU is the tanh form ("gelu_new"), not the exact one with erf: the two
differ by up to 5e-4, enough to move the logits by 1e-3.
Source: Hendrycks and Gimpel 2016, "Gaussian Error Linear Units". Read next: `lm_head.py`.
"""

import math
from dataclasses import dataclass

import numpy as np

from .linear import Linear
from .trace import Array, Grads, Reader, Trace, named, no_trace, scoped, under


def gelu(x: Array) -> Array:
    """Let large values through and suppress small ones, smoothly between; same shape.

    0.5 x (1 + tanh u) with u = sqrt(2/pi) (x + 0.044715 x^3), which equals x / (1 + exp(-2u)).
    """
    x = x if x.dtype.kind == "f" else x.astype(float)  # integers become floats
    with np.errstate(over="ignore"):  # far from 0 x * x or exp may be inf, and the quotient is right: x / 1 or x / inf
        # x * x, not x**3: NumPy's power function takes some 30 times as long. exp takes half as long as tanh.
        minus_2u = -2 * math.sqrt(2 / math.pi) * x * (1 + 0.044715 * (x * x))
        return x / (1 + np.exp(minus_2u))


def gelu_slope(x: Array) -> Array:
    """Return gelu'(x) = (1 + tanh u) / 2 + x (1 - tanh^2 u) u' / 2, with u = sqrt(2/pi) (x + 0.044715 x^3)."""
    x = np.clip(x, -10, 10)  # beyond, the slope is 0 or 1 to the last digit, and a square too large would make it NaN
    square = x * x
    t = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * square * x))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * square)


@dataclass(frozen=True)
class GELU:
    """The activation function as a layer: it has no parameters."""

    def __call__(self, x: Array) -> Array:
        """Any shape; same shape"""
        return gelu(x)

    def backward(self, d_out: Array, x: Array) -> Array:
        """d_out, the input x -> d_x: elementwise, d_out times the slope at x"""
        return d_out * gelu_slope(x)


@dataclass(frozen=True, eq=False, repr=False)
class MLP:
    """Two matrices with a GELU between them."""

    c_fc: Linear  # C -> F
    c_proj: Linear  # F -> C
    act: GELU = GELU()

    def __call__(self, x: Array, trace: Trace = no_trace) -> Array:
        """(..., T, C) -> (..., T, C)"""
        pre = trace("hook_pre", self.c_fc(x, scoped(trace, "c_fc.")))  # (..., T, F)
        post = trace("hook_post", self.act(pre))
        return self.c_proj(post, scoped(trace, "c_proj."))

    def backward(self, d_out: Array, x: Array, tape: Reader, trace: Trace = no_trace) -> tuple[Array, Grads]:
        """d_out (..., T, C), the input x (..., T, C) -> d_x (..., T, C), gradients by name

        In reverse order: c_proj, GELU, c_fc. For y = f(x), elementwise, d_x = d_y f'(x).
        """
        c_fc, c_proj = ((under(tape, p), scoped(trace, p)) for p in ("c_fc.", "c_proj."))
        d_post, proj_grads = self.c_proj.backward(d_out, tape("hook_post"), *c_proj)
        d_pre = self.act.backward(trace("hook_post", d_post), tape("hook_pre"))
        d_x, fc_grads = self.c_fc.backward(trace("hook_pre", d_pre), x, *c_fc)
        return d_x, named({"c_fc": fc_grads, "c_proj": proj_grads})
