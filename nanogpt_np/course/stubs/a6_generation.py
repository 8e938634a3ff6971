"""a6: from vectors to text. Write `LMHead.__call__`, `probabilities`, `draw`, `next_logits` and `generate`.

After the last block every token has a vector. The LM head turns the last token's into a score (a "logit") for each
token that could come next, sampling turns the scores into one id, and generation does that again and again.
Each function is graded on its own, with the reference's model and its version of the others in this file.
What is imported from nanogpt_np here is given; at the end your own softmax (a3) and KVCache (a7) replace those two.
Grade it with: python -m nanogpt_np course grade DIR a6. Hints: python -m nanogpt_np course hint a6 1
"""

import math
from dataclasses import dataclass

import numpy as np

from nanogpt_np.fast import fast
from nanogpt_np.model.attention import softmax
from nanogpt_np.model.cache import KVCache
from nanogpt_np.model.ids import check_ids
from nanogpt_np.model.trace import no_trace


@dataclass(frozen=True, eq=False, repr=False)
class LMHead:
    """Compare a hidden state with every token's row."""

    weight: np.ndarray  # (V, C)

    def __call__(self, x):
        """(..., C) -> (..., V)

        x : a vector of C numbers for each token, (T, C) or (B, T, C); or just one, (C,).

        `weight` has a row of C numbers for each of the V tokens that exist: in GPT-2 it is the embedding table
        itself, the rows that represent the tokens at the input. The score of token v as the next one is the dot
        product of x with row v:

            logits[..., v] = sum over c of x[..., c] * weight[v, c]

        Scores are any numbers, large and small. They become probabilities later, in `probabilities`.
        """
        raise NotImplementedError


def check_sampling(temperature, top_k, top_p):
    """Raise ValueError for invalid settings."""
    if not (isinstance(temperature, int | float | np.integer | np.floating) and 0 <= temperature < math.inf):
        raise ValueError(f"temperature must be 0 (greedy) or above, not {repr(temperature)[:60]}")
    if top_k is not None and not (isinstance(top_k, int | np.integer) and top_k >= 1):
        raise ValueError(f"top_k must be 1 or more tokens, not {repr(top_k)[:60]}")
    if top_p is not None and not (isinstance(top_p, int | float | np.integer | np.floating) and 0 < top_p <= 1):
        raise ValueError(f"top_p must be above 0 and at most 1, not {repr(top_p)[:60]}")


def probabilities(logits, temperature=1.0, top_k=None, top_p=None):
    """(V,) logits -> (V,) float64 probabilities of being chosen; temperature 0 gives 1 to the likeliest.

    Invalid settings raise ValueError: `check_sampling`, which is given, does that. Then, in this order:

    1. temperature : p = softmax(logits / temperature). Below 1 it makes the likely tokens likelier, above 1 it
       evens them out. It cannot divide by 0: temperature 0 means 1 for the largest logit, 0 for all others.
    2. top_k : exactly the k likeliest tokens stay, all others get probability 0. None, or more than V: all stay.
    3. top_p : of the tokens that are left, scaled to sum 1, take the likeliest, the next, and so on, until their sum
       reaches top_p. The token that reaches it stays; those after it get 0. None or 1: all stay.
    4. What stays is scaled to sum 1; ids keep their places.

    Ties go to the lower id. Do not write into `logits`. Compute in float64, whatever comes in: a sum of 50,257 small
    numbers needs the digits.
    """
    raise NotImplementedError


def draw(p, rng):
    """Return an id drawn with the probabilities `p` (V,).

    p : sums to 1; id i is drawn with probability p[i], never if p[i] is 0.
    rng : a numpy.random.Generator. All randomness comes from it and from nowhere else, so that a seed repeats a text.

    One way that needs nothing but a random number u between 0 and 1: lay the probabilities side by side from 0 to 1,
    and take the id of the piece u is in.
    """
    raise NotImplementedError


def next_logits(model, ids, *, cache=None, trace=no_trace):
    """ids (T,) -> (V,): the logits of the next token.

    ``model.hidden(ids, cache=cache, trace=trace)`` returns a vector for each of the T tokens, (T, C): the whole model
    but its LM head. ``model.lm_head`` is an `LMHead`.

    Every row has seen the tokens up to its own, so the last row alone knows the whole text; only that row goes through
    the LM head, since with 50,257 tokens that is no small product. Announce the row as "hook_last_row" (C,), and
    the scores as "hook_next_logits" (V,): ``x = trace(name, x)``, as ever.

    (``fast(model)``, which is given, is the same model made faster, and its ``last_row(...)`` is that row alone. You
    may use them; you need not.)
    """
    raise NotImplementedError


def generate(
    model,
    ids,
    n_new,
    *,
    temperature=0.0,
    top_k=None,
    top_p=None,
    rng=None,
    stop=None,
    use_cache=True,
    trace=no_trace,
):
    """Return an iterator over up to `n_new` ids that follow the prompt `ids` (T,), each as soon as it is known.

    For each new id, run the model, choose, `yield` the id, and continue with it:

        logits = what `next_logits` returns for this step's ids, with `cache` and `trace`
        id     = the one with the largest logit if temperature is 0,
                 else one drawn with `rng` from probabilities(logits, temperature, top_k, top_p)

    ids : the caller's array or list: leave it unchanged. `check_ids`, which is given, copies it to an array,
        or says what is wrong with it; its second argument is ``model.config``.
    rng : a numpy.random.Generator; a fresh one, ``np.random.default_rng()``, if None.
    stop : ids that end the text; they are not yielded. None means ``model.config.eos_token_ids``: (50256,) in GPT-2,
        <|endoftext|>, which it learned to emit where a text ends.
    use_cache : True keeps a ``KVCache(model.config)`` for all steps. The prompt goes through the model first, then
        only what the cache does not hold yet: the one new id. It counts the positions itself.
        False passes cache=None, and all ids so far at every step: the same text, slowly.
    trace : passed to `next_logits`.

    The text also ends when the context is full: ``model.config.n_positions`` positions hold the prompt and the new
    ids that went through the model. The last new id is never fed back and needs no position, so there are at
    most n_positions - T + 1 new ones.
    """
    raise NotImplementedError
