"""From logits to the next token: temperature, top-k and top-p; a penalty before them, min-p after.

Greedy decoding (temperature 0) takes the likeliest token. Otherwise the logits are divided by the
temperature, all but the k likeliest tokens are dropped, then all but the smallest set whose
probabilities reach p (Holtzman et al. 2019, "The Curious Case of Neural Text Degeneration"; the
token that crosses p stays), and one of the rest is drawn. Computed in float64: a sum of
50,257 small numbers needs the digits. `Choice` adds a repetition penalty (Keskar et al. 2019, "CTRL",
section 4.1) and min-p (Nguyen et al. 2024, "Turning Up the Heat"), in the order of transformers:
penalty, temperature, top-k, top-p, min-p.
"""

import math
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Choice:
    """The settings by which each next token is chosen; ValueError for invalid ones.

    min_p : drops tokens less likely than `min_p` times the likeliest, after all other settings.
    repetition_penalty : above 1 makes tokens of the text so far less likely, below 1 likelier; greedily too.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        check_sampling(self.temperature, self.top_k, self.top_p)
        number, min_p, penalty = int | float | np.integer | np.floating, self.min_p, self.repetition_penalty
        if min_p is not None and not (isinstance(min_p, number) and 0 <= min_p <= 1):
            raise ValueError(f"min_p must be 0 to 1, not {repr(min_p)[:60]}")
        if not (isinstance(penalty, number) and 0 < penalty < math.inf):
            raise ValueError(f"repetition_penalty must be above 0 (1 changes nothing), not {repr(penalty)[:60]}")

    def probabilities(self, logits: Array, ids: Array) -> Array:
        """(V,) logits of what follows `ids` (T,) -> (V,) float64 probabilities of being chosen."""
        p = probabilities(penalized(logits, ids, self.repetition_penalty), self.temperature, self.top_k, self.top_p)
        return p if self.min_p is None else above_min_p(p, self.min_p)

    def __call__(self, logits: Array, ids: Array, rng: "np.random.Generator") -> int:
        """Return the id that follows `ids` (T,), by its logits (V,); greedy draws nothing from `rng`."""
        if self.temperature == 0:
            return int(penalized(logits, ids, self.repetition_penalty).argmax())
        return draw(self.probabilities(logits, ids), rng)


def penalized(logits: Array, ids: Array, penalty: float) -> Array:
    """(V,) logits -> (V,), those of the tokens in `ids` divided by `penalty` if positive, multiplied if negative.

    A token is penalized once, however often it occurs.
    """
    if penalty == 1:
        return logits
    logits = np.array(logits, np.float64)
    with np.errstate(over="ignore"):
        logits[ids] = np.where(logits[ids] < 0, logits[ids] * penalty, logits[ids] / penalty)
    return logits


def above_min_p(p: Array, min_p: float) -> Array:
    """(V,) probabilities -> (V,): those below `min_p` times the largest become 0, the others are scaled to sum 1."""
    p = np.where(p < min_p * p.max(), 0, p)
    return p / p.sum()


def log_probability(logits: Array, token: int) -> float:
    """Return the natural logarithm of a token's probability by the model itself, whatever the sampling settings."""
    logits = np.asarray(logits, np.float64)
    largest = logits.max()
    return float(logits[token] - largest - np.log(np.exp(logits - largest).sum()))
