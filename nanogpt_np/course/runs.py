"""Running a layer or a model as several assignments do: watched, with other numbers on its way, or in two parts."""

import numpy as np

from ..cache import KVCache


def counting(name):
    """Return a trace that puts 3, 4, 5 and so on in the place of one tensor.

    What comes out then has forgotten what stood there. If the old array is used in one place of several, or half of
    it, that is seen, and a mistake on the way to it is not.
    """
    return lambda n, a: np.arange(3, 3 + a.size, dtype=a.dtype).reshape(a.shape) if n == name else a


def counted(run, name):
    """Return the result of ``run(trace)`` where a tensor holds 3, 4, 5 and so on, under a label that says it."""
    return {f"the output with 3, 4, 5 and so on as {name}": run(counting(name))}


def announced(acts, names):
    """Return what was announced under the names; which are missing is for the comparison to say."""
    return {name: acts[name] for name in names if name in acts}


def in_two(model, ids, cut):
    """Return by how much a prompt that is read in two parts, with a cache, leads to other logits than the whole."""
    cache = KVCache(model.config)
    parts = [model(ids[..., :cut], cache=cache), model(ids[..., cut:], cache=cache)]
    return {"the parts' logits less those of the whole": np.concatenate(parts, axis=ids.ndim - 1) - model(ids)}
