"""a9: AdamW and a training step. Write `AdamW.step`, `clip_by_global_norm`, `learning_rate` and `train_step`.

The gradient says which way the loss falls; the optimizer says how far to go. One training step is: the loss and its
gradient on a few texts, the gradient clipped to a safe length, the step of the optimizer, at a learning rate
that first rises and then falls.
Write them in any order: each function is graded with correct code for all others.
Grade it with: python -m nanogpt_np course grade DIR a9. Hints: python -m nanogpt_np course hint a9 1
"""

import math

import numpy as np

IGNORED = -100  # a target that does not count


class AdamW:
    """The optimizer's state for ``{name: array}``; `step` changes the arrays in place.

    `__init__` is given, and the grader uses it unchanged: write `step`.
    decayed : function of a name and an array that says whether it decays. Default: matrices do
        (embeddings too), biases and LayerNorms do not.
    """

    def __init__(self, params, *, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1, decayed=None):
        self.params = params
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.decayed = decayed or (lambda name, array: array.ndim > 1)
        self.steps = 0
        self.mean = {name: np.zeros_like(array) for name, array in params.items()}  # of gradients
        self.square = {name: np.zeros_like(array) for name, array in params.items()}  # of their squares

    def step(self, grads, lr):
        """Move every parameter of self.params by its gradient in `grads`, at learning rate `lr`

        grads : {name: gradient}, of the parameter's shape. Do not write into them. There may be gradients of parameters
            that are not in self.params: those do not move.

        A gradient of a few texts is noisy. So each number of each parameter has two running averages,
        of its gradients g and of their squares. With b1, b2 = self.betas, and t the number of this step,
        from 1:

            mean   = b1 * mean   + (1 - b1) * g
            square = b2 * square + (1 - b2) * g^2

        Both began at 0, so at first they are too small, by the factor 1 - b^t. Divide by that factor:

            m = mean / (1 - b1^t)
            v = square / (1 - b2^t)

        and move by their ratio, which is about 1 where all gradients point the same way, however small they are,
        and near 0 where they change sign from step to step:

            p = p - lr * m / (sqrt(v) + eps) - lr * weight_decay * p      (p on the right: as it was before)

        The last term, the decay, shrinks numbers that no gradient keeps up. It applies only to parameters for
        which self.decayed(name, array) is true. It acts on the parameter itself and not through the gradient, which
        would be divided by its size: that is the W in AdamW.

        self.steps counts the steps, and self.mean and self.square keep the averages for the next one. Change the
        arrays of self.params themselves (p -= ...): the model holds the same arrays, and would not see new ones.
        Return nothing.
        """
        raise NotImplementedError


def clip_by_global_norm(grads, limit):
    """Scale all gradients in place so that their global norm is at most `limit`; return it as it was

    grads : {name: gradient}, arrays of any shapes.

    Laid end to end, all gradients are one long vector; its length is

        norm = sqrt(the sum of the squares of all numbers in all arrays)

    One odd batch can make it very long, and a step that long undoes what was learned. So if norm is more than limit,
    multiply every array by limit / norm, the same factor for all: the direction stays. Otherwise leave them as
    they are. Write into the arrays themselves (g *= ...): others hold them too.
    """
    raise NotImplementedError


def learning_rate(step, *, peak, final, warmup, steps):
    """Rise linearly to `peak` over `warmup` steps, then fall along half a cosine to `final` at `steps`

    step : the number of this step, from 0.

    The averages of the optimizer are unreliable at first, so the first steps are short:

        while step < warmup:   (step + 1) / warmup of peak     peak / warmup at step 0, peak at step warmup - 1

    Later the steps become shorter again, so that the model can settle:

        done = (step - warmup) / (steps - warmup)              0 at the end of the rise, 1 at `steps`
        final + (peak - final) * (1 + cos(pi * done)) / 2      `peak` where done is 0, `final` where it is 1

    After `steps` it stays at `final`. With warmup 0 there is no rise.
    """
    raise NotImplementedError


def train_step(loss_and_grads, optimizer, batches, lr, limit=1.0):
    """Take one step on `batches`, as if they were one; return the mean loss in nats per token, before the step

    loss_and_grads : a function of ids and targets -> the mean loss over the targets that count, and {name: gradient}
        of that mean.
    optimizer : optimizer.params is {name: array} of what moves; its `step` takes gradients and a learning rate.
    batches : list of (ids, targets); a target of -100 does not count.
    lr : the learning rate. limit : the gradient of all that moves is clipped to this length.

    Large batches do not fit into memory, so their gradient is made in parts. The mean over all tokens is not the mean
    of the parts' means if they count different numbers of tokens: each part weighs

        share = (its targets that count) / (those of all batches)

    1. loss and gradients, each the sum of share * (that of the part)
    2. the gradients of what is in optimizer.params, clipped all together; others (frozen ones) do not count
    3. one step of the optimizer
    """
    raise NotImplementedError
