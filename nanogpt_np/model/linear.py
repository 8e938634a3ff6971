"""The linear layer: each output is a weighted sum of all inputs, plus a bias.

y = x W + b, with W stored [in, out] as the checkpoint has it (Hugging Face calls that Conv1D), so nothing is
transposed. Attention and the MLP are made of these. Whatever maps each row by itself and has these two methods can
take the place of one: an adapter, packed weights, a smaller matrix. Read next: `embedding.py`.
"""

from dataclasses import dataclass

from .trace import Array, Grads, Reader, Trace, no_trace


@dataclass(frozen=True, eq=False, repr=False)  # == on arrays has no single answer, and their repr is long
class Linear:
    """Multiply by a matrix and add a bias."""

    weight: Array  # (n_in, n_out)
    bias: Array  # (n_out,)

    def __call__(self, x: Array, trace: Trace = no_trace) -> Array:
        """(..., n_in) -> (..., n_out); it announces nothing to `trace`, but its replacement may."""
        y = x @ self.weight
        y += self.bias
        return y

    def backward(
        self, d_out: Array, x: Array, tape: Reader | None = None, trace: Trace = no_trace
    ) -> tuple[Array, Grads]:
        """d_out (..., n_out), the input x (..., n_in) -> d_x (..., n_in), gradients by name

        d_x = d_y W^T; d_W = x^T d_y and d_b = d_y, both summed over all tokens.
        """
        rows, d_rows = x.reshape(-1, x.shape[-1]), d_out.reshape(-1, d_out.shape[-1])
        return d_out @ self.weight.T, {"weight": rows.T @ d_rows, "bias": d_rows.sum(axis=0)}
