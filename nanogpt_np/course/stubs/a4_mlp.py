"""a4: the linear layer and the MLP. Write `Linear.__call__`, `gelu` and `MLP.__call__`.

Attention moves information between tokens; the MLP works on each token's vector alone. A linear layer
widens it from C to F numbers (F = 4 C in GPT-2), GELU changes each of them, and a second linear layer narrows them
again. Without the nonlinearity, two linear layers in a row would be no more than one.
Grade it with: python -m nanogpt_np course grade DIR a4. Hints: python -m nanogpt_np course hint a4 1
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nanogpt_np.model.trace import no_trace, scoped


@dataclass(frozen=True, eq=False, repr=False)
class Linear:
    """Multiply by a matrix and add a bias. All matrices of attention and the MLP are in layers like this one."""

    weight: np.ndarray  # (n_in, n_out)
    bias: np.ndarray  # (n_out,)

    def __call__(self, x, trace=no_trace):
        """(..., n_in) -> (..., n_out)

        x : a vector of n_in numbers for each token; the axes in front, ..., may be none, T, or B and T.

            y = x W + b:    y_j = x_1 W_1j + x_2 W_2j + ... + b_j

        Each output is a weighted sum of all inputs, plus a bias; every token gets the same treatment. The matrix is
        stored as [in, out], so nothing needs to be transposed. Announce nothing: `trace` is for layers that
        replace this one. Do not write into x or into the parameters; float32 in, float32 out.
        """
        raise NotImplementedError


def gelu(x):
    """Let large values through and suppress small ones, smoothly between; same shape.

    x : an array of any shape; each number is separate.

        u    = sqrt(2/pi) (x + 0.044715 x^3)
        gelu = 0.5 x (1 + tanh(u))

    The factor 0.5 (1 + tanh u) rises from 0 for very negative x to 1 for large x: the share that passes. This
    is the form that GPT-2 was trained with ("gelu_new"). The one with erf is close but not the same, and a model
    needs the one that it was trained with. Do not write into x; float32 in, float32 out.
    """
    raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class MLP:
    """Two linear layers with a GELU between them."""

    c_fc: Linear  # C -> F
    c_proj: Linear  # F -> C
    act: Callable = gelu  # act(x) is gelu(x): call it by either name

    def __call__(self, x, trace=no_trace):
        """(..., T, C) -> (..., T, C)

        x : a vector of C numbers for each of T tokens; a batch of prompts has one more axis in front.

            pre    = c_fc(x)        (..., T, F)
            post   = gelu(pre)      (..., T, F)
            output = c_proj(post)   (..., T, C)

        Announce two of them: ``pre = trace("hook_pre", pre)`` and "hook_post", and continue with what `trace` returns.
        A linear layer takes a trace too, ``scoped(trace, "c_fc.")``; you may leave it out, since yours announces
        nothing. Do not write into x, into a weight or into an array that was announced.
        """
        raise NotImplementedError
