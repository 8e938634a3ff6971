"""The loss that language models are trained on, and the gradient of every parameter.

The cross-entropy of a token is minus the logarithm of the probability that the model gave to the
actual token: 0 nats if it was certain, log(50257) = 10.8 nats for a model that knows nothing.
Read next: `adamw.py`, then `trainer.py`.
"""

from typing import Any

import numpy as np

from ..fast import fast
from ..model.gpt2 import GPT2, Ids
from ..model.trace import Array, Grads, Tape, Trace, chain, no_trace

IGNORED = -100  # a target that does not count, as in PyTorch
# Logits at a time. 4 million are 16 MB, and the softmax over them mostly runs in the processor's cache;
# 32 million are 128 MB, enough for the products that make the LM head's gradient to run at full speed. A
# whole batch at once would be 200 KB per token.
IN_CACHE, AT_ONCE = 1 << 22, 1 << 25


def cross_entropy(logits: Array, targets: Array, offset: Array | None = None) -> tuple[float, Array]:
    """logits (N, V), targets (N,) -> sum of the losses in nats, d_logits (N, V) of that sum

    targets : ids, or -100 to ignore a token.
    offset : (V,) added to the logits, for a row that stands for several tokens (see `shared_rows.py`).

    The loss is log(sum(exp(x))) - x[target], for logits x minus their maximum, so that nothing overflows
    and no small p rounds to 0. With p = softmax(x): d_logits = p, minus 1 at the target.
    """
    p = logits if offset is None else logits + offset
    p = p - p.max(axis=-1, keepdims=True)
    rows = np.flatnonzero(targets != IGNORED)
    wanted = p[rows, targets[rows]]
    np.exp(p, out=p)
    total = p.sum(axis=-1, keepdims=True)
    loss = (np.log(total[rows, 0]) - wanted).sum(dtype=np.float64)
    p /= total
    p[rows, targets[rows]] -= 1
    p[targets == IGNORED] = 0
    return loss, p


def loss_and_grads(
    model: GPT2,
    ids: Ids,
    targets: Ids,
    *,
    trace: Trace = no_trace,
    grad_trace: Trace = no_trace,
    offset: Array | None = None,
) -> tuple[float, Grads]:
    """Return the mean cross-entropy in nats per token, and ``{parameter name: gradient}``.

    ids : (..., T) integers; targets : the same shape, the token that follows each, or -100 to ignore.
    trace : receives every activation of the forward pass up to the last norm, and may change it; the
        logits are made in chunks.
    grad_trace : receives the gradient of every trace point, last to first, under the point's own name,
        and may change what flows back to earlier points.
    offset : as for `cross_entropy`.

    The tied embedding gets the sum of its gradients as embedding and as LM head. Raises ValueError
    for targets of the wrong shape or range, or if all are ignored.
    """
    targets, model = check_targets(model, ids, targets), fast(model)
    tape = Tape()
    hidden = model.hidden(ids, trace=chain(trace, tape))
    x, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    count = int((wanted != IGNORED).sum())

    loss, d_x, d_head = 0.0, np.empty_like(x), np.zeros_like(model.lm_head.weight)
    # A gradient trace gets those of the logits in one piece.
    at_once = AT_ONCE // model.config.vocab_size if grad_trace is no_trace else len(x)
    for rows in _slices(len(x), at_once):
        d_logits: Array = np.empty((len(x[rows]), model.config.vocab_size), x.dtype)
        for few in _slices(len(d_logits), IN_CACHE // model.config.vocab_size):
            few_losses, d_few = cross_entropy(model.lm_head(x[rows][few]), wanted[rows][few], offset)
            loss += few_losses / count
            np.divide(d_few, count, out=d_logits[few])
        if grad_trace is not no_trace:
            d_logits = grad_trace("hook_logits", d_logits.reshape(*targets.shape, -1)).reshape(d_logits.shape)
        d_x[rows], grads = model.lm_head.backward(d_logits, x[rows])
        d_head += grads["weight"]

    grads = model.backward(d_x.reshape(hidden.shape), tape, grad_trace)
    if model.tied:
        grads["wte.weight"] += d_head
    else:
        grads["lm_head.weight"] = d_head
    return loss, grads


def mean_loss(model: GPT2, ids: Ids, targets: Ids, *, offset: Array | None = None) -> float:
    """Return the mean cross-entropy in nats per token; arguments as for `loss_and_grads`."""
    targets, model = check_targets(model, ids, targets), fast(model)
    x, wanted = model.hidden(ids), targets.reshape(-1)
    x = x.reshape(-1, x.shape[-1])
    slices = _slices(len(x), IN_CACHE // model.config.vocab_size)
    total = sum(cross_entropy(model.lm_head(x[rows]), wanted[rows], offset)[0] for rows in slices)
    return total / int((wanted != IGNORED).sum())


def _slices(N: int, step: int) -> list[slice]:
    """Return slices that cut N rows into chunks of `step`, or of 1 if it is 0."""
    return [slice(start, start + max(1, step)) for start in range(0, N, max(1, step))]


def check_targets(model: GPT2, ids: Ids, targets: Ids) -> Array:
    """Return `targets` as an array, or raise ValueError."""
    ids, targets = _integers(ids, "token ids"), _integers(targets, "targets")
    if targets.shape != ids.shape:
        raise ValueError(f"targets must be integers of the ids' shape {ids.shape}, not of {targets.shape}")
    counted = targets[targets != IGNORED]
    if not counted.size:
        raise ValueError("every target is -100: there is nothing to learn from")
    if counted.min() < 0 or counted.max() >= model.config.vocab_size:
        raise ValueError(f"targets must be ids from 0 to {model.config.vocab_size - 1}, or {IGNORED}")
    return targets


def _integers(values: Any, name: str) -> Array:
    """Return `values` as an array of integers, or raise ValueError."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RecursionError):  # NumPy's words for rows of different lengths name nothing
        array = np.asarray(None)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, in rows of one length, not {array.dtype}")
    return array
