"""a3: attention. Write `softmax`, `attend` and `Attention.__call__`.

Here, and nowhere else in GPT-2, tokens see one another. Every token asks (a query), offers (a key) and hands
over (a value); it gets an average of the values at its own and earlier places, weighted by how well their keys
answer its query. H heads do this side by side, each with D = C / H columns of its own.
Judge it with: python -m nanogpt_np course grade DIR a3. Hints: python -m nanogpt_np course hint a3 1
"""

import math
from dataclasses import dataclass

import numpy as np

from nanogpt_np.trace import no_trace


def no_memory(k, v):
    """Return the keys and values of this pass as all there are. This one is given: nothing is to be written."""
    return k, v


def softmax(x):
    """Turn each row of the last axis into positive weights that sum to 1; same shape.

    x : (..., N) any numbers, some of them perhaps -inf; at least one of a row is not.

    For each row:  weight of i = exp(x_i) / (exp(x_1) + ... + exp(x_N)); that of -inf is exactly 0.

    exp(1000) is more than a float can hold. The same number may be taken off a whole row without changing its
    weights, since exp(x_i - m) = exp(x_i) / exp(m) and exp(m) cancels: choose m so that no exp can be too large
    and that not every exp of a row becomes 0. Do not write into x.
    """
    raise NotImplementedError


def attend(q, keys, values, trace=no_trace):
    """Queries (..., T, D), already scaled, keys and values (..., S, D) -> (..., T, D): what each query finds

    The T queries are those of the last T of the S tokens: query t stands at place S - T + t. Without a cache
    T = S; with one, the first S - T tokens came in earlier passes. What stands in front, ..., may be nothing,
    heads, or prompts and heads.

        scores  = dot product of each query with each key     (..., T, S)
                  and -inf (-math.inf) where the key stands at a later place than the query
        pattern = softmax of each row of scores               (..., T, S)
        found   = for each query, the values times its row of pattern, summed     (..., T, D)

    Why -inf: exp(-inf) = 0, so a later token gets nothing, and the rest of the row still sums to 1.
    With T = 2 and S = 4, where x marks what is allowed:      x x x .
                                                              x x x x
    Announce two of them, as they are used: ``scores = trace("hook_attn_scores", scores)`` and "hook_pattern".
    Do not write into q, keys, values or into an array that was announced.
    """
    raise NotImplementedError


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

        x : a vector for each of T new tokens; a batch of prompts has one more axis in front.
        remember : takes this pass's keys and values, each (..., H, T, D), and gives back (keys, values) of all
            S tokens so far, each (..., H, S, D). Call it once, and attend to what it gives back: this is all
            that attention knows of a cache.

            qkv     = x @ c_attn_weight + c_attn_bias       (..., T, 3C): C columns of q, then C of k, then C of v
            q, k, v = each cut into heads                   (..., T, H, D): head h has columns h D to (h + 1) D
            then one matrix for each head                   (..., H, T, D): the axes T and H change places
            found   = attend(q * scale, all keys, all values)     (..., H, T, D)
            z       = found with T before H again           (..., T, H, D)
            merged  = the heads of each token side by side  (..., T, C)
            output  = merged @ c_proj_weight + c_proj_bias

        Why the scale: a dot product of D numbers grows like sqrt(D), and softmax of large numbers is all or
        nothing. Take `self.scale`, not 1/sqrt(D): a config.json can ask for another.

        Announce "hook_qkv", "hook_q", "hook_k", "hook_v" (as (..., T, H, D), q before the scale), "hook_z" and
        "hook_merged", each as ``x = trace(name, x)``, and hand `trace` on to `attend`.
        (The answer has `in_pieces` too: the same in less time for prompts of more than 512 tokens. You need none.)
        """
        raise NotImplementedError
