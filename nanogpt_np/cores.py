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
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path

import numpy as np

from .cache import KVCache, NoCache

SMALLEST = 192  # tokens of a part at least; with more cores than such parts, products are left to divide themselves
_alone = threading.Lock()  # held by whoever has changed the number of threads


class Stopped(Exception):
    """Another part has failed: what this one waits for will not come."""


class Part(KVCache):
    """The cache as one part of a prompt sees it: the tokens before it are there, once they are computed."""

    def __init__(self, cache, start, n_layer, before, stop):
        super().__init__(cache.config)
        self.length, self._layers, self.before, self.stop = start, cache._layers, before, stop
        self.stored = [threading.Event() for _ in range(n_layer)]

    def _remember(self, i, k, v):
        if self.before:
            self.before.stored[i].wait()
        if self.stop.is_set():
            raise Stopped
        keys_and_values = super()._remember(i, k, v)
        self.stored[i].set()
        return keys_and_values


def in_parts(model, ids, cache):
    """Return the model's last hidden states (..., T, C) for ids (..., T), a part of the tokens on each core

    If the last block gives one row only, (..., parts, C): the last row of each part, the prompt's own last.

    cache : as for the model, None included.
    """
    T, cores = ids.shape[-1], _cores()
    known = cache is None or type(cache) is KVCache  # another kind may do anything with what it is given
    if not known or not 1 < cores <= T // SMALLEST or not _alone.acquire(blocking=False):
        return model._run(ids, NoCache() if cache is None else cache)
    try:
        cache = KVCache(model.config) if cache is None else cache
        stop, parts, begin = threading.Event(), [], 0
        for end in shares(model.config, cache.length, T, cores):
            before = parts[-1][0] if parts else None
            part = Part(cache, cache.length + begin, len(model.h), before, stop)
            parts.append((part, ids[..., begin:end]))
            begin = end
        with products_on_one_core():
            x = np.concatenate(_side_by_side(model._run, parts, stop), axis=-2)
        cache.advance(T)
        return x
    finally:
        _alone.release()


def _side_by_side(run, parts, stop):
    """Return what each part gave: the last runs in this thread, so that Ctrl-C reaches it, each other in its own."""
    results, errors = {}, {}

    def run_part(n):
        part, ids = parts[n]
        try:
            results[n] = run(ids, part)
        except BaseException as error:
            errors[n] = error
            stop.set()
        finally:  # nobody waits for what will not come
            for event in part.stored:
                event.set()

    last = len(parts) - 1
    # In copies of this context, so that np.errstate holds there too.
    threads = [threading.Thread(target=copy_context().run, args=(run_part, n)) for n in range(last)]
    for thread in threads:
        thread.start()
    try:
        run_part(last)
    finally:
        for thread in threads:  # after a failure each ends at its next block
            thread.join()
    for n in sorted(errors, key=lambda n: isinstance(errors[n], Stopped)):
        raise errors[n]
    return [results[n] for n in range(len(parts))]


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
