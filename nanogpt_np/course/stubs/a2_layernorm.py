"""a2: layer normalization. Write `LayerNorm.__call__`.

Every layer of GPT-2 reads vectors that were first brought to one scale: each token's vector, on its own, gets
mean 0 and variance 1, and is then scaled and shifted by two learned vectors.
Grade it with: python -m nanogpt_np course grade DIR a2. Hints: python -m nanogpt_np course hint a2 1
"""

from dataclasses import dataclass

import numpy as np

from nanogpt_np.model.trace import no_trace


@dataclass(frozen=True, eq=False, repr=False)
class LayerNorm:
    """Give every token's vector mean 0 and variance 1, then scale and shift it."""

    weight: np.ndarray  # (C,) gain
    bias: np.ndarray  # (C,)
    eps: float = 1e-5

    def __call__(self, x, trace=no_trace):
        """(..., T, C) -> (..., T, C)

        x : a vector of C numbers for each of T tokens; a batch of prompts has one more axis in front.

        For each row, with means over its C numbers:

            mean       = mean of x
            variance   = mean of (x - mean)^2
            scale      = sqrt(variance + eps)
            normalized = (x - mean) / scale
            output     = normalized * weight + bias

        Announce three of them, so that a trace can see or change them: ``scale = trace("hook_scale", scale)``
        of shape (..., T, 1), "hook_normalized" and "hook_output", both (..., T, C). Continue with the array that
        `trace` returns. Do not write into x or into an array that was announced; float32 in, float32 out.
        """
        raise NotImplementedError
