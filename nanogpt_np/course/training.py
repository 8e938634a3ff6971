"""One training step as a function: the last that assignment a9 asks for.

The package's own is `Trainer.step`, which belongs to a run: data, settings, a random state. This is the same step
without them, as an exercise.
"""

import numpy as np

from ..train.adamw import clip_by_global_norm
from ..train.loss import IGNORED


def train_step(loss_and_grads, optimizer, batches, lr, limit=1.0):
    """Take one step on `batches`, as if they were one; return the mean loss in nats per token, before the step.

    loss_and_grads : function of ids and targets -> the mean loss over the targets that count, {name: gradient}.
    optimizer : an `AdamW`, or what has its `params` and `step`; only its `params` move.
    batches : list of (ids, targets); a target of -100 does not count.
    lr : the learning rate. limit : the gradient of all that moves is clipped to this length.
    """
    counts = [int((targets != IGNORED).sum()) for _, targets in batches]
    total, grads = 0.0, {name: np.zeros_like(array) for name, array in optimizer.params.items()}
    for (ids, targets), count in zip(batches, counts, strict=True):
        loss, new = loss_and_grads(ids, targets)
        share = count / sum(counts)  # a batch weighs as much as the tokens that count in it
        total += share * loss
        for name in grads:
            grads[name] += share * new[name]
    clip_by_global_norm(grads, limit)
    optimizer.step(grads, lr)
    return total
