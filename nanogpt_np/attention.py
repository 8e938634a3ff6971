"""Multi-head causal self-attention: the only place where tokens see one another.

Every token asks (query), offers (key) and hands over (value). Its output is an average of the
values at its own and earlier positions, weighted by how well their keys answer its query; the H
heads do this side by side, each on its own D of the C columns.
Source: Vaswani et al. 2017, "Attention Is All You Need", section 3.2. Read next: `mlp.py`.
"""

import math
from dataclasses import dataclass

import numpy as np

from .trace import no_trace

# More scores of a head than those of 512 tokens go through in pieces, of so many queries of one head: they stay in
# the processor's cache, and keys that come after the last of them are not even multiplied. For 1023 tokens that
# saves a fifth of all time; up to 512, less than a tenth, a run takes the same way whether it is watched or not.
LONG, QUERIES = 512, 192


def no_memory(k, v):
    """Return the keys and values of this pass as all there are: the default, without a cache."""
    return k, v


def softmax(x):
    """Turn each row of the last axis into positive weights that sum to 1; same shape."""
    x = np.asarray(x)
    x = x if x.dtype.kind == "f" else x.astype(float)  # whole numbers become floats
    e = x - x.max(axis=-1, keepdims=True)  # exp of what is at most 0 cannot overflow
    np.exp(e, out=e)
    e /= e.sum(axis=-1, keepdims=True)
    return e


def attend(q, keys, values, trace=no_trace):
    """Queries (..., T, D), already scaled, keys and values (..., S, D) -> (..., T, D): what each query finds

    The T queries are those of the last T of the S tokens.
    """
    T, S = q.shape[-2], keys.shape[-2]
    scores = q @ keys.swapaxes(-1, -2)  # (..., T, S)
    if T > 1:  # a single token comes after all others
        later = ~np.tri(T, dtype=bool)
        np.copyto(scores[..., S - T :], -math.inf, where=later)
    pattern = trace("hook_pattern", softmax(trace("hook_attn_scores", scores)))
    return pattern @ values


def in_pieces(q, keys, values, trace=no_trace):
    """The same as `attend`, for `QUERIES` queries of one head at a time."""
    T, S = q.shape[-2], keys.shape[-2]
    z = np.empty_like(q)
    for head in np.ndindex(q.shape[:-2]):
        for start in range(0, T, QUERIES):
            stop = min(start + QUERIES, T)
            seen = S - T + stop
            z[head][start:stop] = attend(q[head][start:stop], keys[head][:seen], values[head][:seen])
    return z


@dataclass(frozen=True, eq=False, repr=False)
class Attention:
    """Let every token take, from itself and the tokens before it, what it looks for."""

    c_attn_weight: np.ndarray  # (C, 3C) queries, keys and values side by side
    c_attn_bias: np.ndarray  # (3C,)
    c_proj_weight: np.ndarray  # (C, C)
    c_proj_bias: np.ndarray  # (C,)
    n_head: int  # H
    scale: float  # 1/sqrt(D); config.json can change it

    def __call__(self, x, remember=no_memory, trace=no_trace):
        """(..., T, C) -> (..., T, C)

        `remember(k, v)` takes this pass's keys and values (..., H, T, D) and gives back those of
        all S tokens so far, oldest first: a layer of a `KVCache`, or nothing but what came in.
        """
        qkv = x @ self.c_attn_weight  # (..., T, 3C)
        qkv += self.c_attn_bias
        heads = trace("hook_qkv", qkv).reshape(*x.shape[:-1], 3, self.n_head, -1)  # (..., T, 3, H, D)
        q = trace("hook_q", heads[..., 0, :, :])  # (..., T, H, D)
        k = trace("hook_k", heads[..., 1, :, :])
        v = trace("hook_v", heads[..., 2, :, :])

        q, k, v = q.swapaxes(-2, -3), k.swapaxes(-2, -3), v.swapaxes(-2, -3)  # (..., H, T, D): one matrix per head
        keys, values = remember(k, v)  # (..., H, S, D)
        T, S = q.shape[-2], keys.shape[-2]
        attended = in_pieces if T * S > LONG * LONG and trace is no_trace else attend  # who watches sees whole tables
        z = attended(q * self.scale, keys, values, trace).swapaxes(-2, -3)
        merged = trace("hook_merged", trace("hook_z", z).reshape(x.shape))  # (..., T, C)
        out = merged @ self.c_proj_weight
        out += self.c_proj_bias
        return out

    def backward(self, d_out, x, tape, trace=no_trace):
        """d_out (..., T, C), x (..., T, C) as it came in -> d_x (..., T, C), gradients by name

        The products as in `mlp.py`. For a row p = softmax(s): d_s = p (d_p - sum(d_p p)), since raising
        one score lowers the share of all others; masked scores have p = 0 and so no gradient.
        """
        C = x.shape[-1]
        q, k, v, pattern = (tape(f"hook_{name}") for name in ("q", "k", "v", "pattern"))
        q, k, v = q.swapaxes(-2, -3), k.swapaxes(-2, -3), v.swapaxes(-2, -3)  # (..., H, T, D)
        d_merged = trace("hook_merged", d_out @ self.c_proj_weight.T)
        d_z = trace("hook_z", d_merged.reshape(*x.shape[:-1], self.n_head, -1))  # (..., T, H, D)
        d_heads = d_z.swapaxes(-2, -3)
        d_pattern = trace("hook_pattern", d_heads @ v.swapaxes(-1, -2))  # (..., H, T, T)
        d_scores = pattern * (d_pattern - (d_pattern * pattern).sum(axis=-1, keepdims=True))
        d_scores = trace("hook_attn_scores", d_scores)

        d_v = trace("hook_v", (pattern.swapaxes(-1, -2) @ d_heads).swapaxes(-2, -3))  # (..., T, H, D)
        d_k = trace("hook_k", (d_scores.swapaxes(-1, -2) @ (q * self.scale)).swapaxes(-2, -3))
        d_q = trace("hook_q", (d_scores @ (k * self.scale)).swapaxes(-2, -3))
        d_qkv = np.stack([d_q, d_k, d_v], axis=-3).reshape(*x.shape[:-1], 3 * C)
        d_qkv = trace("hook_qkv", d_qkv)  # (..., T, 3C)

        rows, out_rows = d_qkv.reshape(-1, 3 * C), d_out.reshape(-1, C)
        return d_qkv @ self.c_attn_weight.T, {
            "c_attn.weight": x.reshape(-1, C).T @ rows,
            "c_attn.bias": rows.sum(axis=0),
            "c_proj.weight": tape("hook_merged").reshape(-1, C).T @ out_rows,
            "c_proj.bias": out_rows.sum(axis=0),
        }
