"""The matrix products of a pass alone, and plain reading of the same memory: the baselines of the racers.

The products are those of the same pass, one after another, each on all cores, and nothing else: no norms, no softmax,
no GELU, no sums, and nothing is stored. That is a baseline, not a bound: products that run in parallel may be faster,
and so may matrices in another memory layout than a checkpoint's, which one per block has
(`weights/checkpoint.py`). So decoding is compared with both: the products of matrices as a checkpoint has them, and
those of the arrays that the model multiplies.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..fast.tiles import LONG, QUERIES
from ..weights import assemble, open_checkpoint

DECODED = 8  # tokens that one timing of decoding covers


class Products:
    """The matrix products of the pass alone, with every matrix laid out as a checkpoint has it: by row, [in, out]."""

    name = "products alone"

    def __init__(self, directory):
        model = open_checkpoint(directory).model
        self.model = assemble(model.config, {name: np.ascontiguousarray(a) for name, a in model.params.items()})

    def prompt(self, ids):
        return _products(self.model, len(ids), [len(ids)])

    def decode(self, ids):
        return decoding_products(self.model, len(ids))


def _products(model, T, contexts):
    """Return a function that runs the products of T tokens that see S, on noise, for each S of `contexts` in turn."""
    c, longest = model.config, max(contexts)
    rows = {n: _noise(T, n) for n in {c.n_embd, c.mlp_width}}
    q, scores, last = _noise(c.n_head, T, c.head_width), _noise(c.n_head, T, longest), _noise(c.n_embd)
    # One pair per block, read from memory: one pair for all would stay in the processor's cache.
    keys_and_values = [[_noise(c.n_head, longest, c.head_width) for _ in range(2)] for _ in model.h]

    def block_products(i, n, S):
        attn, mlp, (keys, values) = model.h[i].attn, model.h[i].mlp, keys_and_values[i]
        for linear in (attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj):
            rows[len(linear.weight)][:n] @ linear.weight
        in_tiles = n * S > LONG  # as in `TiledAttention`
        step, heads = (QUERIES, range(c.n_head)) if in_tiles else (n, [slice(None)])
        for head, start in itertools.product(heads, range(0, n, step)):
            stop = min(start + step, n)
            seen = S - n + stop
            q[head, ..., start:stop, :] @ keys[head, ..., :seen, :].swapaxes(-1, -2)
            scores[head, ..., start:stop, :seen] @ values[head, ..., :seen, :]

    def run():
        final = len(model.h) - 1
        for S in contexts:
            for i in range(final):
                block_products(i, T, S)
            if T > 1:  # as in `LastRow`
                rows[c.n_embd][1:] @ model.h[final].attn.c_attn.weight[:, c.n_embd :]
            block_products(final, 1, S)
            logits = model.lm_head(last)
        return logits

    return run


def decoding_products(model, n):
    """Return a function that runs the products of `DECODED` tokens, one at a time, after n."""
    return _products(model, 1, range(n + 1, n + 1 + DECODED))


class Reading:
    """Reading the weights, the keys and the values once for each token, half on each of two threads, and nothing else.

    Not a bound either: products read several rows at a time and so get more bandwidth than a plain read does.
    """

    name = "plain reading"

    def __init__(self, directory):
        model = open_checkpoint(directory).model
        self.config, self.pool = model.config, ThreadPoolExecutor(2)
        self.flat = [a.ravel("K") for name, a in model.params.items() if name != "wpe.weight"]  # no copies

    def decode(self, ids):
        c = self.config
        keys_and_values = np.ones(2 * c.n_layer * c.n_embd * len(ids), np.float32)
        halves = zip(*[np.array_split(a, 2) for a in [*self.flat, keys_and_values]], strict=True)
        halves = [list(half) for half in halves]

        def run():
            for _ in range(DECODED):
                list(self.pool.map(lambda half: [np.maximum.reduce(a) for a in half], halves))

        return run


class KeysAndValues:
    """Reading keys and values once, half on each of two threads, and nothing else."""

    name = "keys and values"

    def __init__(self, directory):
        self.config, self.pool = open_checkpoint(directory).config, ThreadPoolExecutor(2)

    def read(self, n):
        """Return a function that reads those of n tokens, in all blocks."""
        c = self.config
        halves = np.array_split(np.ones(2 * c.n_layer * c.n_embd * n, np.float32), 2)
        return lambda: list(self.pool.map(np.maximum.reduce, halves))


def _noise(*shape):
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
