"""AdamW: each parameter moves against its smoothed gradient, divided by the gradient's usual size.

Source: Kingma and Ba 2015, "Adam"; Loshchilov and Hutter 2019, "Decoupled Weight Decay
Regularization" (the decay acts on the parameter itself, not through the gradient).
"""

import math
from collections.abc import Callable

import numpy as np

from ..model.trace import Array, Grads

# Elements per chunk: for 32,768 parameters, all that one step reads and writes stays in the
# processor's L2 cache; whole tensors would go through main memory ten times.
ELEMENTS = 1 << 15


class AdamW:
    """The optimizer's state for ``{name: array}``; `step` changes the arrays in place.

    decayed : function of a name and an array that says whether it decays. Default: matrices do
        (embeddings too), biases and LayerNorms do not.
    """

    def __init__(
        self,
        params: dict[str, Array],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.1,
        decayed: Callable[[str, Array], bool] | None = None,
    ):
        if not (0 <= betas[0] < 1 and 0 <= betas[1] < 1 and 0 < eps < math.inf):
            raise ValueError(f"betas must be from 0 to below 1, and eps above 0, not {betas} and {eps}")
        for name, array in params.items():
            if not (array.flags.c_contiguous and array.flags.writeable):
                raise ValueError(
                    f"{name} must be writeable and in C order; what `load` returns is not: take array.copy()"
                )
        self.params = params
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.decayed = decayed or (lambda name, array: array.ndim > 1)
        self.steps = 0
        self.mean = {name: np.zeros(array.shape, array.dtype) for name, array in params.items()}  # of gradients
        self.square = {name: np.zeros(array.shape, array.dtype) for name, array in params.items()}  # of their squares

    def step(self, grads: Grads, lr: float) -> None:
        """Move every parameter by its gradient in `grads`, at learning rate `lr`.

        Raises ValueError at the first gradient that is not finite or whose square is not.
        """
        self.steps += 1
        b1, b2 = self.betas
        # Bias correction: both averages start at 0, which would make them too small in the first steps.
        step, root = lr / (1 - b1**self.steps), math.sqrt(1 - b2**self.steps)
        for name, array in self.params.items():
            keep = 1 - lr * self.weight_decay if self.decayed(name, array) else 1.0
            flat = [a.reshape(-1) for a in (array, grads[name], self.mean[name], self.square[name])]
            for start in range(0, array.size, ELEMENTS):
                p, g, m, v = (a[start : start + ELEMENTS] for a in flat)
                m += (1 - b1) * (g - m)
                v += (1 - b2) * (g * g - v)
                if not v.max() < math.inf:  # over the root of inf, the mean would move nothing, and nobody would know
                    raise ValueError(f"the gradient of {name} is not finite, or its square overflows: clip it")
                p *= keep
                p -= step * m / (np.sqrt(v) / root + self.eps)


def clip_by_global_norm(grads: Grads, limit: float) -> float:
    """Scale all gradients in place so that their global norm is at most `limit`; return it as it was.

    Computed in float64, where no square of a float32 overflows or becomes 0. A norm that is not finite scales nothing.
    """
    norm = math.sqrt(sum(float(np.einsum("i,i", g.ravel(), g.ravel(), dtype=np.float64)) for g in grads.values()))
    if limit < norm < math.inf:
        for g in grads.values():
            g *= np.float64(limit / norm)  # a float64, since in float32 it could be too small
    return norm


def learning_rate(step: int, *, peak: float, final: float, warmup: int, steps: int) -> float:
    """Rise linearly to `peak` over `warmup` steps, then fall along half a cosine to `final` at `steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return final + 0.5 * (peak - final) * (1 + math.cos(math.pi * done))
