"""From logits to the next token: temperature, top-k and top-p.

Greedy decoding (temperature 0) takes the likeliest token. Otherwise the logits are divided by the
temperature, all but the k likeliest tokens are dropped, then all but the smallest set whose
probabilities reach p (Holtzman et al. 2019, "The Curious Case of Neural Text Degeneration"; the
token that crosses p stays), and one of the rest is drawn. Computed in float64: a sum of
50,257 small numbers needs the digits.
"""

import math

import numpy as np

from ..model.attention import softmax
from ..model.trace import Array


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raise ValueError for invalid settings."""
    if not (isinstance(temperature, int | float | np.integer | np.floating) and 0 <= temperature < math.inf):
        raise ValueError(f"temperature must be 0 (greedy) or above, not {repr(temperature)[:60]}")
    if top_k is not None and not (isinstance(top_k, int | np.integer) and top_k >= 1):
        raise ValueError(f"top_k must be 1 or more tokens, not {repr(top_k)[:60]}")
    if top_p is not None and not (isinstance(top_p, int | float | np.integer | np.floating) and 0 < top_p <= 1):
        raise ValueError(f"top_p must be above 0 and at most 1, not {repr(top_p)[:60]}")


def check_logits(logits: Array) -> None:
    """Raise ValueError for logits (V,) from which no token can be chosen; -inf may rule out some, but not all."""
    if not np.isfinite(logits.max()):  # NaN if any is
        raise ValueError("logits without a finite maximum give no next token: a weight or a trace made them NaN or inf")


def probabilities(
    logits: Array, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Array:
    """(V,) logits -> (V,) float64 probabilities of being chosen; temperature 0 gives 1 to the likeliest.

    Ties go to the lower id. A logit of -inf rules a token out; ValueError for NaN and inf.
    """
    check_sampling(temperature, top_k, top_p)
    logits = np.asarray(logits, np.float64)
    check_logits(logits)
    if temperature == 0:
        p = np.zeros(len(logits))
        p[logits.argmax()] = 1
        return p
    # Subtract the maximum first: a tiny temperature then gives -inf and 0, never inf - inf.
    with np.errstate(over="ignore"):
        p = softmax((logits - logits.max()) / temperature)
    if top_p == 1:  # all of them, however unlikely
        top_p = None
    if top_k is None and top_p is None:
        return p
    order = np.argsort(-logits, kind="stable")
    keep = len(p) if top_k is None else min(top_k, len(p))
    if top_p is not None:
        # Tokens needed until their sum reaches p, among the keep likeliest scaled to sum 1.
        so_far = np.cumsum(p[order[:keep]])
        keep = min(keep, 1 + int(np.searchsorted(so_far, top_p * so_far[-1])))
    p[order[keep:]] = 0
    p /= p.sum()
    return p


def draw(p: Array, rng: "np.random.Generator") -> int:
    """Return an id drawn with the probabilities `p` (V,)."""
    return int(rng.choice(len(p), p=p))
