"""A long prompt on every core: it is split into segments, which go through the model in parallel.

Matrix products use all cores by themselves; norms, softmax and GELU use one. So each segment runs through the whole
model in its own thread, as if it came after the earlier segments in a KV cache: in every block it waits only for
their keys and values. The model and its layers do not know about it. Meanwhile every matrix product
uses one core (`blas.py`); if that cannot be set, there is one segment. Where no thread can be started, the segments
run one after another. Either way a prompt is cut at the same places and gives the same bits, even beside other passes.
"""

import threading
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import replace

import numpy as np

from ..model.cache import KVCache
from ..model.config import Config
from ..model.embedding import Embedding
from ..model.gpt2 import GPT2, Cache
from ..model.layernorm import LayerNorm
from ..model.trace import Array
from . import blas
from .last_row import LastRow
from .own import is_own_block

SMALLEST = 128  # fewest tokens in a segment; below that, products that use all cores are faster


class Stopped(Exception):
    """Another segment has failed: this one would wait forever."""


class Segment(KVCache):
    """The cache as one segment of a prompt sees it: it waits until the tokens before are computed."""

    def __init__(self, cache: KVCache, start: int, n_layer: int, before: "Segment | None", stop: threading.Event):
        super().__init__(cache.config)
        self.length, self._layers, self.before, self.stop = start, cache._layers, before, stop
        self.stored = [threading.Event() for _ in range(n_layer)]

    def _remember(self, i: int, k: Array, v: Array) -> tuple[Array, Array]:
        if self.before:
            self.before.stored[i].wait()
        if self.stop.is_set():
            raise Stopped
        keys_and_values = super()._remember(i, k, v)
        self.stored[i].set()
        return keys_and_values

    def release(self) -> None:
        """Let no other segment wait for this one: it has ended, or will never begin."""
        for event in self.stored:
            event.set()


def in_segments(model: GPT2, hidden: Callable[..., Array], ids: Array, cache: Cache | None) -> Array:
    """Return what ``hidden(ids, cache=cache)`` returns, (..., T, C), with a segment of the T tokens on each core.

    If the last block computes one row only, it is (..., segments, C): the last row of each, in order.

    hidden : the plain pass, as `GPT2.hidden`. cache : as for the model, or None.
    """
    T, cores = ids.shape[-1], blas.cores()
    cut = 1 < cores <= T // SMALLEST and _is_own(model)
    # Another class of cache may do anything with its arguments, and so may one that has replaced KVCache.
    if not cut or not (cache is None or type(cache) is KVCache) or KVCache is not Segment.__base__:
        with blas.products_on_all_cores():
            return hidden(ids, cache=cache)
    cache = KVCache(replace(model.config, n_positions=T)) if cache is None else cache
    segments: list[tuple[Segment, Array]] = []
    stop, begin = threading.Event(), 0
    for end in shares(model.config, cache.length, T, cores):
        before = segments[-1][0] if segments else None
        segment = Segment(cache, cache.length + begin, len(model.h), before, stop)
        segments.append((segment, ids[..., begin:end]))
        begin = end
    with blas.products_on_one_core():
        x = np.concatenate(_side_by_side(hidden, segments, stop), axis=-2)
    cache.advance(T)
    return x


def _is_own(model: GPT2) -> bool:
    """Return whether all layers are of this package's classes: another one may look at rows of another segment."""
    blocks = [block.block if isinstance(block, LastRow) else block for block in model.h]
    return type(model.embedding) is Embedding and type(model.ln_f) is LayerNorm and all(map(is_own_block, blocks))


def _side_by_side(
    hidden: Callable[..., Array], segments: list[tuple[Segment, Array]], stop: threading.Event
) -> list[Array]:
    """Return each segment's result.

    The last runs in this thread, so Ctrl-C reaches it; the others run in threads of their own. A segment whose thread
    cannot be started runs here before the last, in order, so it finds what earlier segments stored.
    """
    results: dict[int, Array] = {}
    errors: dict[int, BaseException] = {}

    def run(n: int) -> None:
        segment, ids = segments[n]
        try:
            results[n] = hidden(ids, cache=segment)
        except BaseException as error:
            errors[n] = error
            stop.set()
        finally:
            segment.release()

    last, threads = len(segments) - 1, []
    try:
        for n in range(last):
            # In a copy of this context, so that np.errstate holds there too.
            thread = threading.Thread(target=copy_context().run, args=(run, n))
            try:
                thread.start()
            except RuntimeError:  # the system allows no more of them, or none, as in a browser
                break
            threads.append(thread)
        for n in range(len(threads), last + 1):
            run(n)
    except BaseException:  # Ctrl-C between two segments
        stop.set()
        raise
    finally:
        if stop.is_set():
            for segment, _ in segments:
                segment.release()
        for thread in threads:  # after a failure each ends at its next block
            thread.join()
    for n in sorted(errors, key=lambda n: isinstance(errors[n], Stopped)):
        raise errors[n]
    return [results[n] for n in range(len(segments))]


def shares(config: Config, past: int, T: int, cores: int) -> list[int]:
    """Return the ends of `cores` segments of T tokens that take equally long; later tokens see more keys."""
    C, F = config.n_embd, config.mlp_width
    products = C * (4 * C + 2 * F)  # for each token, in multiplications
    for_each_key = 4 * C  # half in products, half in the softmax
    cost = np.cumsum(products + for_each_key * np.arange(past, past + T, dtype=float))
    return [*np.searchsorted(cost, cost[-1] * np.arange(1, cores) / cores).tolist(), T]
