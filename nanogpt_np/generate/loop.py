"""From a prompt to new ids: run the model, score what could follow the last token, choose, append, repeat.

With the KV cache (`model/cache.py`) only the new token goes through the model. Choosing: `sampling.py`.
"""

import math
from collections.abc import Container, Iterator

import numpy as np

from ..fast import fast
from ..model.attention import softmax
from ..model.cache import KVCache
from ..model.gpt2 import GPT2, Cache, Ids
from ..model.ids import check_ids
from ..model.trace import Array, Trace, no_trace
from .sampling import check_logits, check_sampling, draw, probabilities


def generate(
    model: GPT2,
    ids: Ids,
    n_new: int,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    rng: "np.random.Generator | None" = None,
    stop: Container[int] | None = None,
    use_cache: bool = True,
    trace: Trace = no_trace,
) -> Iterator[int]:
    """Return an iterator over up to `n_new` ids that follow the prompt `ids` (T,), each as soon as it is known.

    model : a `GPT2`; it runs as `fast(model)`.
    temperature : 0 takes the likeliest token each time; above 0 draws, with `rng`
        (a numpy Generator; a fresh one if None) from the tokens that `top_k` and `top_p` leave.
    stop : ids that end the text; they are not yielded. None: the model's own, `Config.eos_token_ids`.
    use_cache : False runs all tokens through the model at every step: the same ids, slowly.
    trace : as for the model, at every step; `NEXT_TOKEN` of names/activations.py follows the model's own points.

    It also ends when the context is full: after n_positions - T + 1 tokens, since the last one needs no position.
    Raises ValueError for bad arguments at once, and for logits that are not finite when they occur.
    """
    check_sampling(temperature, top_k, top_p)
    model = fast(model)
    ids = check_ids(ids, model.config)
    if ids.ndim != 1:
        raise ValueError(f"one prompt at a time: ids must have shape (T,), not {ids.shape}")
    if not (isinstance(n_new, int | np.integer) and n_new >= 0):
        raise ValueError(f"the number of new tokens must be 0 or more, not {repr(n_new)[:60]}")
    if not (rng is None or hasattr(rng, "choice")):
        raise ValueError(f"rng must be a generator, as numpy.random.default_rng(seed) makes, not {repr(rng)[:60]}")
    stop = model.config.eos_token_ids if stop is None else stop
    room = model.config.n_positions - len(ids) + 1
    rng = np.random.default_rng() if rng is None else rng

    def choose(logits: Array) -> int | np.intp:
        if temperature == 0:
            return logits.argmax()
        return draw(probabilities(logits, temperature, top_k, top_p), rng)

    def steps(ids: Array) -> Iterator[int]:
        cache = KVCache(model.config) if use_cache else None
        for _ in range(min(n_new, room)):
            logits = next_logits(model, ids, cache=cache, trace=trace)
            trace("hook_probabilities", softmax(logits))
            token = int(trace("hook_next_token", np.asarray(choose(logits))))
            if token in stop:
                return
            yield token
            ids = np.array([token]) if use_cache else np.append(ids, token)

    return steps(ids)


def next_logits(model: GPT2, ids: Ids, *, cache: Cache | None = None, trace: Trace = no_trace) -> Array:
    """ids (T,) -> (V,): the logits of the next token; ValueError if any is NaN or infinite."""
    model = fast(model)
    with np.errstate(all="ignore"):  # an overflow is found below, and reported once
        last_row = trace("hook_last_row", model.last_row(ids, cache=cache, trace=trace))
        logits = model.lm_head(last_row)
    if not np.isfinite(logits).all():
        raise ValueError(f"the logits hold NaN or inf, so there is no next token: {cause(model)}")
    logits = trace("hook_next_logits", logits)
    check_logits(logits)  # again: a trace may change them
    return logits


def cause(model: GPT2) -> str:
    """Return what made a pass overflow: the tensor that is not finite, or else the one with the largest number."""
    largest = {name: float(np.abs(array).max()) for name, array in model.params.items()}
    for name, size in largest.items():
        if not math.isfinite(size):
            return f"tensor {name} holds NaN or inf"
    name = max(largest, key=largest.__getitem__)
    return f"the weights are finite, an activation overflowed; the largest weight is {largest[name]:.3g}, in {name}"
