"""Running a layer or a model as several assignments do: with a trace that changes a tensor, or in two parts."""

import numpy as np

from ..model.cache import KVCache


def counting(name):
    """Return a trace that replaces one tensor with 3, 4, 5 and so on.

    The output then does not depend on the tensor's own value. If a layer still uses the old array in one place of
    several, or half of it, that shows; a mistake made before that tensor does not.
    """
    return lambda n, a: np.arange(3, 3 + a.size, dtype=a.dtype).reshape(a.shape) if n == name else a


def counted(run, name):
    """Return the result of ``run(trace)`` where a tensor holds 3, 4, 5 and so on, under a label that says it."""
    return {f"the output with 3, 4, 5 and so on as {name}": run(counting(name))}


def announced(acts, names):
    """Return what was announced under the names; the comparison says which are missing."""
    return {name: acts[name] for name in names if name in acts}


def in_two(model, ids, cut):
    """Return by how much the logits of a prompt that is read in two parts, with a cache, differ from the whole's."""
    cache = KVCache(model.config)
    parts = [model(ids[..., :cut], cache=cache), model(ids[..., cut:], cache=cache)]
    return {"the parts' logits less those of the whole": np.concatenate(parts, axis=ids.ndim - 1) - model(ids)}
