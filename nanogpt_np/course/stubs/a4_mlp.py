"""a4: the MLP. Write `gelu` and `MLP.__call__`.

Attention has brought together what tokens know of one another; the MLP works on each token's vector alone. One
matrix widens it from C to F numbers (F = 4 C in GPT-2), GELU bends each of them, a second matrix narrows them again.
Without the bend, two matrices in a row would be no more than one.
Judge it with: python -m nanogpt_np course grade DIR a4. Hints: python -m nanogpt_np course hint a4 1
"""

import math
from dataclasses import dataclass

import numpy as np

from nanogpt_np.trace import no_trace


def gelu(x):
    """Let large values through, hold small ones back, and bend smoothly between; same shape.

    x : an array of any shape; each number is bent on its own.

        u    = sqrt(2/pi) (x + 0.044715 x^3)
        gelu = 0.5 x (1 + tanh(u))

    The factor 0.5 (1 + tanh u) goes from 0, far below 0, to 1, far above: how much of x is let through. This is
    the form that GPT-2 was trained with ("gelu_new"). The other one, with erf, is close but not the same, and a model
    computes with the one that it was trained with. Do not write into x; float32 in, float32 out.
    """
    raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class MLP:
    """Two matrices with a GELU between them."""

    c_fc_weight: np.ndarray  # (C, F)
    c_fc_bias: np.ndarray  # (F,)
    c_proj_weight: np.ndarray  # (F, C)
    c_proj_bias: np.ndarray  # (C,)

    def __call__(self, x, trace=no_trace):
        """(..., T, C) -> (..., T, C)

        x : a vector of C numbers for each of T tokens; a batch of prompts has one more axis in front.

            pre    = x @ c_fc_weight + c_fc_bias          (..., T, F)
            post   = gelu(pre)                            (..., T, F)
            output = post @ c_proj_weight + c_proj_bias   (..., T, C)

        Announce two of them: ``pre = trace("hook_pre", pre)`` and "hook_post". `trace` gives back the array to go
        on with. Do not write into x, into a weight or into an array that was announced.
        """
        raise NotImplementedError
