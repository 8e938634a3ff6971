"""a3: attention. Write `softmax`, `Attention.attend` and `Attention.__call__`.

Attention is the only place in GPT-2 where tokens see one another. Every token has a query, is found by its key
and passes on its value. It gets an average of the values at its own and earlier positions, weighted by how well their
keys match its query. H heads do this side by side, each with D columns of its own.
Grade it with: python -m nanogpt_np course grade DIR a3. Hints: python -m nanogpt_np course hint a3 1
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nanogpt_np.model.trace import no_trace, scoped


def no_cache(k, v):
    """Return the keys and values of this pass unchanged. This one is given: there is nothing to write."""
    return k, v


def softmax(x):
    """Turn each row of the last axis into positive weights that sum to 1; same shape.

    x : (..., N) any numbers, some of them perhaps -inf; in each row at least one is not.

    For each row:  weight of i = exp(x_i) / (exp(x_1) + ... + exp(x_N)); that of -inf is exactly 0.

    exp(1000) is more than a float can hold. You may subtract the same number from a whole row without changing its
    weights, since exp(x_i - m) = exp(x_i) / exp(m) and exp(m) cancels: choose m so that no exp can be too large
    and not every exp of a row becomes 0. Do not write into x.
    """
    raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class Attention:
    """Let every token gather what it looks for from itself and the tokens before it.

    The two linear layers are given; you write one in a4. `c_attn(x)` returns x @ c_attn.weight + c_attn.bias, and you
    may read c_attn.weight and c_attn.bias too.
    """

    c_attn: Callable  # C -> 3C: queries, keys and values of all heads, side by side
    c_proj: Callable  # C -> C
    n_head: int  # H
    head_width: int  # D
    scale: float  # 1/sqrt(D), unless config.json changes it

    def attend(self, q, keys, values, trace=no_trace):
        """Scaled queries (..., T, D), keys and values (..., S, D) -> (..., T, D): what each query finds

        The T queries are those of the last T of the S tokens: query t is at position S - T + t. Without a cache
        T = S; with one, the first S - T tokens came in earlier passes. The axes in front, ..., may be none, heads, or
        prompts and heads. Values may differ in width from queries and keys; then the output has theirs.

            scores  = dot product of each query with each key     (..., T, S)
                      and -inf (-math.inf) where the key comes later than the query
            pattern = softmax of each row of scores               (..., T, S)
            found   = for each query, the values times its row of pattern, summed     (..., T, D)

        Why -inf: exp(-inf) = 0, so a later token gets nothing, and the rest of the row still sums to 1.
        With T = 2 and S = 4, where x marks what is allowed:      x x x .
                                                                  x x x x
        Announce two of them and use what `trace` returns: ``scores = trace("hook_attn_scores", scores)`` and
        "hook_pattern". Do not write into q, keys, values or into an array that was announced.
        """
        raise NotImplementedError

    def __call__(self, x, remember=no_cache, trace=no_trace):
        """(..., T, C) -> (..., T, C)

        x : a vector for each of T new tokens; a batch of prompts has one more axis in front.
        remember : takes this pass's keys and values, each (..., H, T, D), and returns (keys, values) of all S tokens
            so far, each (..., H, S, D). Call it once and attend to what it returns: attention knows nothing else about
            a cache.

            qkv     = c_attn(x)                             (..., T, 3C): H D columns of q, then H D of k, the rest is v
            q, k, v = each cut into heads                   (..., T, H, D): head h has columns h D to (h + 1) D
            then one matrix for each head                   (..., H, T, D): the axes T and H swapped
            found   = attend(q * scale, all keys, all values)     (..., H, T, D)
            z       = found with T before H again           (..., T, H, D)
            merged  = the heads of each token side by side  (..., T, C)
            output  = c_proj(merged)                        (..., T, C)

        D is `self.head_width`. In GPT-2 H D = C, and values are as wide as keys. Still cut by H and D, never by C,
        and divide the columns of v equally among the heads: then heads and values of any width work.

        Why the scale: a dot product of D numbers grows like sqrt(D), and softmax of large numbers is all or
        nothing. Use `self.scale`, not 1/sqrt(D): a config.json can ask for another.

        Announce "hook_qkv", "hook_q", "hook_k", "hook_v" (as (..., T, H, D), q before the scale), "hook_z" and
        "hook_merged", each as ``x = trace(name, x)``, and pass `trace` to `attend`. A linear layer takes a trace as
        its second argument, ``scoped(trace, "c_attn.")``; you may leave it out, since these two announce nothing.
        """
        raise NotImplementedError
