"""A long prompt on every core: parts of it go through the model side by side, each on a core of its own.

Matrix products use all cores by themselves; norms, softmax and GELU use one. So each part runs the whole
model in its own thread, as if it came after the parts before it in a KV cache: in every block it waits for
their keys and values, and for nothing else. Neither model nor layers know of it. The library behind the
products must meanwhile keep to one core for each; where it cannot be told to, there is one part.
Read next: `cache.py`.
"""

import ctypes
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path

import numpy as np

from .cache import KVCache

SMALLEST = 192  # tokens of a part at least: with more cores than such parts, products divide better by themselves
_alone = threading.Lock()  # held by whoever has changed the number of threads


class Part(KVCache):
    """The cache as one part of a prompt sees it: the tokens before it are there, once they are computed."""

    def __init__(self, cache, start, before):
        super().__init__(cache.config)
        self.length, self._layers, self.before = start, cache._layers, before
        self.stored = [threading.Event() for _ in range(cache.config.n_layer)]

    def _remember(self, i, k, v):
        if self.before:
            self.before.stored[i].wait()
        keys_and_values = super()._remember(i, k, v)
        self.stored[i].set()
        return keys_and_values


def in_parts(run, ids, cache):
    """Return ``run(ids, cache)`` (..., T, C), a part of the T tokens on each core

    run : the model's pass, which starts after the tokens that the cache holds, and adds to it.
    """
    past, T, cores = cache.length, ids.shape[-1], _cores()
    if not 1 < cores <= T // SMALLEST or not _alone.acquire(blocking=False):
        return run(ids, cache)
    ends = shares(cache.config, past, T, cores)
    starts, parts = [0, *ends[:-1]], [None]
    for start in starts:
        parts.append(Part(cache, past + start, before=parts[-1]))

    def run_part(part, start, end):
        try:
            return run(ids[..., start:end], part)
        finally:  # after a failure nobody waits for what will not come
            for event in part.stored:
                event.set()

    try:
        with products_on_one_core(), ThreadPoolExecutor(cores) as pool:
            running = [
                pool.submit(copy_context().run, run_part, *span)  # in this context, so that np.errstate holds there too
                for span in zip(parts[1:], starts, ends, strict=True)
            ]
        x = np.concatenate([part.result() for part in running], axis=-2)  # the first that failed raises here
    finally:
        _alone.release()
    cache.advance(T)
    return x


def shares(config, past, T, cores):
    """Return where each of `cores` parts of T tokens ends, so that all take as long; later tokens see more keys."""
    C, F = config.n_embd, config.mlp_width
    products = C * (4 * C + 2 * F)  # for each token, in multiplications
    for_each_key = 4 * C  # half of it in products, as much again for the softmax
    cost = np.cumsum(products + for_each_key * np.arange(past, past + T, dtype=float))
    return [*np.searchsorted(cost, cost[-1] * np.arange(1, cores) / cores).tolist(), T]


@contextmanager
def products_on_one_core():
    """Keep every matrix product to the core that asks for it."""
    get, put = _threads()
    before = get()
    put(1)
    try:
        yield
    finally:
        put(before)


def _cores():
    """Return the number of cores that matrix products use, or 1 if they cannot be told to use one."""
    return _threads()[0]() if _threads() else 1


@functools.cache
def _threads():
    """Return what reads and what sets the number of threads of OpenBLAS, as NumPy's wheels carry it; or None."""
    home = Path(np.__file__).parent
    for file in [*home.parent.glob("numpy.libs/*openblas*"), *home.glob(".dylibs/*openblas*")]:
        library = ctypes.CDLL(str(file))  # it is in memory already: this only looks it up
        names = ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_")
        if all(hasattr(library, name) for name in names):
            return [getattr(library, name) for name in names]
    return None
