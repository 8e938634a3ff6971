"""The LM head: one score (logit) for every token that could come next.

logits = x W^T. In GPT-2 the matrix is the token embedding itself ("tied"): a token's logit is the dot product of
the last hidden state with the row that would represent that token at the input.
Source: Press and Wolf 2017, "Using the Output Embedding to Improve Language Models".
Read next: `gpt2.py`.
"""

from dataclasses import dataclass

from .trace import Array, Grads


@dataclass(frozen=True, eq=False, repr=False)
class LMHead:
    """Compare a hidden state with every token's row."""

    weight: Array  # (V, C)

    def __call__(self, x: Array) -> Array:
        """(..., C) -> (..., V)"""
        return x @ self.weight.T

    def backward(self, d_out: Array, x: Array) -> tuple[Array, Grads]:
        """d_out (N, V), the input x (N, C) -> d_x (N, C), {"weight": (V, C)}

        As for any y = x W^T: d_x = d_y W and d_W = d_y^T x.
        """
        return d_out @ self.weight, {"weight": d_out.T @ x}
