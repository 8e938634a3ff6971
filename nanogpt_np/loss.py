"""The loss that language models are trained on, and the gradient of every parameter.

The cross-entropy of a token is minus the logarithm of the probability that the model gave to the
token that came: 0 nats for a sure hit, log(50257) = 10.8 nats for a model that knows nothing.
Read next: `adamw.py`, then `train.py`.
"""

import numpy as np

from .attention import softmax
from .trace import Recorder, no_trace

IGNORED = -100  # a target that does not count, as in PyTorch
# Logits at a time. 4 million are 16 MB, and the softmax over them mostly runs in the processor's cache;
# 32 million are 128 MB, and products that deep add up the gradient of the LM head at full speed. All of a
# batch at once would be 200 KB for each token.
IN_CACHE, AT_ONCE = 1 << 22, 1 << 25


def cross_entropy(logits, targets, offset=None):
    """logits (N, V), targets (N,) -> sum of the losses in nats, d_logits (N, V) of that sum

    targets : ids, or -100 where a token does not count.
    offset : (V,) added to the logits, for a row that stands for several tokens (see `vocabulary.py`).

    For p = softmax(logits) and loss = -log p[target]: d_logits = p - 1 at the target, p elsewhere.
    """
    p = softmax(logits if offset is None else logits + offset)
    rows = np.flatnonzero(targets != IGNORED)
    hits = p[rows, targets[rows]]
    tiny = np.finfo(p.dtype).tiny  # below it a probability is 0 in this dtype, and its logarithm infinite
    loss = -np.log(np.maximum(hits, tiny)).sum(dtype=np.float64)
    p[rows, targets[rows]] -= 1
    p[targets == IGNORED] = 0
    return loss, p


def loss_and_grads(model, ids, targets, *, trace=no_trace, offset=None):
    """Return the mean cross-entropy in nats per token, and ``{parameter name: gradient}``.

    ids : (..., T) integers; targets : the same shape, the token that follows each, or -100 to ignore.
    trace : is told the gradient of every trace point, last to first, under the point's own name.
    offset : as for `cross_entropy`.

    The tied embedding gets the sum of its gradients as embedding and as LM head. Raises ValueError
    for targets of another shape or out of range, or all of them ignored.
    """
    targets = check_targets(model, ids, targets)
    tape = Recorder()
    hidden = model.hidden(ids, trace=tape)
    x, wanted = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    count = int((wanted != IGNORED).sum())

    loss, d_x, d_head, seen = 0.0, np.empty_like(x), np.zeros_like(model.lm_head.weight), []
    for rows in _parts(len(x), AT_ONCE // model.config.vocab_size):
        d_logits = np.empty((len(x[rows]), model.config.vocab_size), x.dtype)
        for few in _parts(len(d_logits), IN_CACHE // model.config.vocab_size):
            part, d_few = cross_entropy(model.lm_head(x[rows][few]), wanted[rows][few], offset)
            loss += part / count
            np.divide(d_few, count, out=d_logits[few])
        d_x[rows], grads = model.lm_head.backward(d_logits, x[rows])
        d_head += grads["weight"]
        if trace is not no_trace:  # kept for who watches only: 200 KB for each token
            seen.append(d_logits)
    if seen:
        trace("hook_logits", np.concatenate(seen).reshape(*targets.shape, -1))

    grads = model.backward(d_x.reshape(hidden.shape), tape, trace)
    if model.config.tie_word_embeddings:
        grads["wte.weight"] += d_head
    else:
        grads["lm_head.weight"] = d_head
    return loss, grads


def mean_loss(model, ids, targets, *, offset=None):
    """Return the mean cross-entropy in nats per token; arguments as for `loss_and_grads`."""
    targets = check_targets(model, ids, targets)
    x, wanted = model.hidden(ids), targets.reshape(-1)
    x = x.reshape(-1, x.shape[-1])
    parts = _parts(len(x), IN_CACHE // model.config.vocab_size)
    total = sum(cross_entropy(model.lm_head(x[rows]), wanted[rows], offset)[0] for rows in parts)
    return total / int((wanted != IGNORED).sum())


def _parts(N, step):
    """Return slices that cut N rows into parts of `step`, or of 1 if that is 0."""
    return [slice(start, start + max(1, step)) for start in range(0, N, max(1, step))]


def check_targets(model, ids, targets):
    """Return `targets` as an array, or raise ValueError."""
    ids, targets = np.asarray(ids), np.asarray(targets)
    if targets.shape != ids.shape or targets.dtype.kind not in "iu":
        raise ValueError(f"targets must be integers of the ids' shape {ids.shape}, not {targets.dtype} {targets.shape}")
    counted = targets[targets != IGNORED]
    if not counted.size:
        raise ValueError("every target is -100: there is nothing to learn from")
    if counted.min() < 0 or counted.max() >= model.config.vocab_size:
        raise ValueError(f"targets must be ids from 0 to {model.config.vocab_size - 1}, or {IGNORED}")
    return targets
