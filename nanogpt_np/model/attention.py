"""Multi-head causal self-attention: the only place where tokens see one another.

softmax(q K^T / sqrt(D) + mask) V in each head: every token has a query, is found by its key and passes on its value.
Its output is the average of the values at its own and earlier positions, weighted by how well their keys match the
query. H heads do this side by side, each with its own columns.
Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2. Read next: `mlp.py`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .linear import Linear
from .trace import Array, Grads, Reader, Trace, named, no_trace, scoped, under

Remember = Callable[[Array, Array], tuple[Array, Array]]  # this pass's keys and values -> those of all passes


def no_cache(k: Array, v: Array) -> tuple[Array, Array]:
    """Return the keys and values of this pass unchanged: the default, without a cache."""
    return k, v


def softmax(x: Array) -> Array:
    """Turn each row of the last axis into positive weights that sum to 1; same shape.

    e^x_i / sum_j e^x_j, which stays the same when one number is subtracted from the whole row.
    """
    x = np.asarray(x)
    x = x if x.dtype.kind == "f" else x.astype(float)  # integers become floats
    with np.errstate(over="ignore"):  # a difference too large for the dtype is -inf, and its weight 0
        e = x - x.max(axis=-1, keepdims=True)  # exp of at most 0 cannot overflow
    np.exp(e, out=e)
    e /= e.sum(axis=-1, keepdims=True)
    return e


@dataclass(frozen=True, eq=False, repr=False)
class Attention:
    """Let every token gather what it looks for from itself and the tokens before it."""

    c_attn: Linear  # C -> 3C: queries, keys and values of all heads, side by side
    c_proj: Linear  # C -> C
    n_head: int  # H
    head_width: int  # D, columns of a query and of a key; values may have another width
    scale: float  # 1/sqrt(D), unless config.json changes it

    def __call__(self, x: Array, remember: Remember = no_cache, trace: Trace = no_trace) -> Array:
        """(..., T, C) -> (..., T, C)

        `remember(k, v)` takes this pass's keys and values (..., H, T, D) and returns those of all S tokens so far,
        oldest first: one layer of a `KVCache`, or `no_cache`.
        """
        H, width = self.n_head, self.n_head * self.head_width
        qkv = trace("hook_qkv", self.c_attn(x, scoped(trace, "c_attn.")))  # (..., T, 3C)
        heads = (*x.shape[:-1], H, -1)
        q = trace("hook_q", qkv[..., :width].reshape(heads))  # (..., T, H, D)
        k = trace("hook_k", qkv[..., width : 2 * width].reshape(heads))
        v = trace("hook_v", qkv[..., 2 * width :].reshape(heads))

        q, k, v = q.swapaxes(-2, -3), k.swapaxes(-2, -3), v.swapaxes(-2, -3)  # (..., H, T, D): one matrix per head
        keys, values = remember(k, v)  # (..., H, S, D)
        z = self.attend(q * self.scale, keys, values, trace).swapaxes(-2, -3)
        z = trace("hook_z", z)  # (..., T, H, D)
        merged = trace("hook_merged", z.reshape(*x.shape[:-1], -1))  # (..., T, C)
        return self.c_proj(merged, scoped(trace, "c_proj."))

    def attend(self, q: Array, keys: Array, values: Array, trace: Trace = no_trace) -> Array:
        """Scaled queries (..., T, D) of the last T of S tokens, keys and values (..., S, D) -> (..., T, D)"""
        T, S = q.shape[-2], keys.shape[-2]
        scores = q @ keys.swapaxes(-1, -2)  # (..., T, S)
        if T > 1:  # a single token comes after all others
            later = ~np.tri(T, dtype=bool)
            np.copyto(scores[..., S - T :], -math.inf, where=later)
        pattern = trace("hook_pattern", softmax(trace("hook_attn_scores", scores)))
        return pattern @ values

    def backward(self, d_out: Array, x: Array, tape: Reader, trace: Trace = no_trace) -> tuple[Array, Grads]:
        """d_out (..., T, C), the input x (..., T, C) -> d_x (..., T, C), gradients by name

        For a row p = softmax(s): d_s = p (d_p - sum(d_p p)), since raising one score lowers the share of all
        others; masked scores have p = 0 and so no gradient.
        """
        q, k, v, pattern = (tape(f"hook_{name}") for name in ("q", "k", "v", "pattern"))
        q, k, v = q.swapaxes(-2, -3), k.swapaxes(-2, -3), v.swapaxes(-2, -3)  # (..., H, T, D)
        c_attn, c_proj = ((under(tape, p), scoped(trace, p)) for p in ("c_attn.", "c_proj."))
        d_merged, proj_grads = self.c_proj.backward(d_out, tape("hook_merged"), *c_proj)
        d_merged = trace("hook_merged", d_merged)
        d_z = trace("hook_z", d_merged.reshape(*x.shape[:-1], self.n_head, -1))  # (..., T, H, D)
        d_heads = d_z.swapaxes(-2, -3)
        d_pattern = trace("hook_pattern", d_heads @ v.swapaxes(-1, -2))  # (..., H, T, T)
        d_scores = pattern * (d_pattern - (d_pattern * pattern).sum(axis=-1, keepdims=True))
        d_scores = trace("hook_attn_scores", d_scores)

        d_v = trace("hook_v", (pattern.swapaxes(-1, -2) @ d_heads).swapaxes(-2, -3))  # (..., T, H, D)
        d_k = trace("hook_k", (d_scores.swapaxes(-1, -2) @ (q * self.scale)).swapaxes(-2, -3))
        d_q = trace("hook_q", (d_scores @ (k * self.scale)).swapaxes(-2, -3))
        d_qkv = np.concatenate([d.reshape(*x.shape[:-1], -1) for d in (d_q, d_k, d_v)], axis=-1)  # (..., T, 3C)
        d_x, attn_grads = self.c_attn.backward(trace("hook_qkv", d_qkv), x, *c_attn)
        return d_x, named({"c_attn": attn_grads, "c_proj": proj_grads})
