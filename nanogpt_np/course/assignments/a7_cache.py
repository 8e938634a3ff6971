"""Assignment a7, the KV cache: the class `KVCache`, its fields and private methods the student's own.

How it stores what it is given does not matter: a growing array and one with room from the start are both right. The
checks look at what `remember` returns, at `length`, and at what the model makes of them.
"""

import numpy as np

from ...generate import generate
from ...model.cache import KVCache
from ...model.config import Config
from ..definitions import Assignment
from ..numbers import LARGE, ids, plain, small_model

ASSIGNMENT = Assignment(
    "a7_cache",
    "the KV cache: what was computed once is kept",
    {
        "model.cache:KVCache": (
            "Write down what block 0 is given and returns in two passes, of two tokens and of one: k and v with their "
            "shapes. What must be there when the second begins? And block 1: may it see what block 0 keeps?",
            "A dict from the block's number to its keys and values is all you need to keep. remember(k, v) appends k "
            "to the keys that are there, along the axis of tokens, which is the last but one, and v to the values; the "
            "first pass finds nothing there. Only advance changes length.",
            "np.concatenate([old, new], axis=-2) makes a new array, and so leaves alone whatever was returned before. "
            "layer(i) must return a function that knows its i: functools.partial of a method that takes i first, or "
            "a def inside layer.",
        )
    },
)


def cuts_of(T, passes):
    """Yield (number of the pass, slice) for passes of so many tokens each."""
    ends = np.cumsum(passes)
    assert ends[-1] == T
    yield from enumerate(slice(end - n, end) for n, end in zip(passes, ends, strict=True))


def config_for(k):
    """Return the Config of a model whose blocks have keys k (blocks, ..., H, T, D), with room for one token more."""
    blocks, H, T, D = k.shape[0], *k.shape[-3:]
    return Config(vocab_size=5, n_positions=T + 1, n_embd=H * D, n_layer=blocks, n_head=H)


def in_blocks(k):
    """Give keys or values the axes (blocks, ..., H, T, D): a case with one block and one head does not show them."""
    return k.reshape(1, 1, *k.shape) if k.ndim == 2 else k[:, None] if k.ndim == 3 else k


def in_passes(cache, k, v, passes, look):
    """Send k and v (blocks, ..., H, T, D) through a cache as the model does -> what was returned, by name."""
    given = {}
    for number, part in cuts_of(k.shape[-2], passes):
        for i in range(len(k)):
            keys, values = cache.layer(i)(k[i][..., part, :], v[i][..., part, :])
            given[f"keys of block {i} in pass {number + 1}"] = look(keys)
            given[f"values of block {i} in pass {number + 1}"] = look(values)
        cache.advance(part.stop - part.start)
    return given


def one_block(rng):
    """A number for each token: one at a time, a prompt and one, one and several; then heads and columns."""
    k, v = np.array([[1.0], [2.0], [3.0]]), np.array([[10.0], [20.0], [30.0]])
    for passes in ((1,), (1, 1), (2, 1), (1, 2), (1, 1, 1)):
        T = sum(passes)
        yield {"k": k[:T], "v": v[:T], "passes": passes}
    yield {"k": plain(rng, 1, 2, 5, 3), "v": plain(rng, 1, 2, 5, 3), "passes": (2, 2, 1)}


@ASSIGNMENT.check("KVCache", "remember returns the keys and values of all passes so far, oldest first", one_block)
def remembered(k, v, passes):
    k, v = in_blocks(k), in_blocks(v)
    return in_passes(KVCache(config_for(k)), k, v, passes, np.copy)


def several_blocks(rng):
    """Two blocks, then three."""
    k = np.array([[[1.0], [2.0]], [[5.0], [6.0]]])  # block, token, column
    yield {"k": k, "v": 10 * k, "passes": (1, 1)}
    yield {"k": plain(rng, 3, 2, 4, 3), "v": plain(rng, 3, 2, 4, 3), "passes": (2, 1, 1)}


@ASSIGNMENT.check("KVCache", "every block has keys and values of its own", several_blocks)
def blocks_apart(k, v, passes):
    k, v = in_blocks(k), in_blocks(v)
    return in_passes(KVCache(config_for(k)), k, v, passes, np.copy)


@ASSIGNMENT.check(
    "KVCache", "layer(i) belongs to block i, also if all are asked for before one is called", several_blocks
)
def asked_for_first(k, v, passes):
    k, v = in_blocks(k), in_blocks(v)
    cache = KVCache(config_for(k))
    layers, given = [cache.layer(i) for i in range(len(k))], {}
    for number, part in cuts_of(k.shape[-2], passes):
        for i, remember in enumerate(layers):
            keys, _ = remember(k[i][..., part, :], v[i][..., part, :])
            given[f"keys of block {i} in pass {number + 1}"] = np.copy(keys)
        cache.advance(part.stop - part.start)
    return given


def counted(rng):
    """Passes of one token and of several, through one block and two."""
    for blocks, passes in ((1, (1, 1)), (1, (2, 1)), (2, (2, 1, 3)), (6, (20, 1, 3))):
        yield {"blocks": blocks, "passes": passes}


@ASSIGNMENT.check("KVCache", "length is 0 at first, and grows by T in advance, once for each pass", counted)
def length(blocks, passes):
    k = np.ones((blocks, 1, sum(passes), 1))
    cache = KVCache(config_for(k))
    lengths = {"length at first": cache.length}
    for number, part in cuts_of(k.shape[-2], passes):
        for i in range(len(k)):
            cache.layer(i)(k[i][..., part, :], k[i][..., part, :])
        lengths[f"length after the blocks of pass {number + 1}, before advance"] = cache.length
        cache.advance(part.stop - part.start)
        lengths[f"length after advance({part.stop - part.start}) in pass {number + 1}"] = cache.length
    return lengths


def batches(rng):
    """Two prompts side by side; two axes of them; more of everything."""
    k = np.array([[[[[1.0], [2.0]]], [[[5.0], [6.0]]]]])  # (1, 2, 1, 2, 1): block, batch, head, token, column
    yield {"k": k, "v": 10 * k, "passes": (1, 1)}
    yield {"k": plain(rng, 2, 3, 2, 4, 3), "v": plain(rng, 2, 3, 2, 4, 3), "passes": (2, 1, 1)}
    yield {"k": plain(rng, 1, 2, 3, 2, 4, 2), "v": plain(rng, 1, 2, 3, 2, 4, 2), "passes": (3, 1)}
    yield {"k": plain(rng, 6, 5, 5, 24, 7), "v": plain(rng, 6, 5, 5, 24, 7), "passes": (20, 1, 3)}


@ASSIGNMENT.check("KVCache", "any batch axes in front stay: (..., H, T, D) -> (..., H, S, D)", batches)
def of_a_batch(k, v, passes):
    return in_passes(KVCache(config_for(k)), k, v, passes, np.copy)


@ASSIGNMENT.check(
    "KVCache", "a later pass does not change what an earlier one returned, nor what it was given", one_block
)
def left_alone(k, v, passes):
    """All is looked at after the last pass."""
    given = in_passes(KVCache(config_for(in_blocks(k))), in_blocks(k), in_blocks(v), passes, lambda array: array)
    return {**given, "k that was passed in": k, "v that was passed in": v}


def two_texts(rng):
    """The keys of two texts, two tokens each."""
    yield {"k": np.array([[1.0], [2.0]]), "k_of_another": np.array([[7.0], [8.0]])}


@ASSIGNMENT.check("KVCache", "two caches share nothing", two_texts)
def two_caches(k, k_of_another):
    """A token of the one text, a token of the other, and so on."""
    config = config_for(in_blocks(k))
    caches, given = (KVCache(config), KVCache(config)), {}
    for t in range(2):
        for which, cache, text in zip(("one", "the other"), caches, (k, k_of_another), strict=True):
            keys, _ = cache.layer(0)(text[None, t : t + 1], text[None, t : t + 1])
            cache.advance(1)
            given[f"keys of {which} after {t + 1} of its tokens"] = np.copy(keys)
    return given


def cut_prompts(rng):
    """A small random model and ids, cut into passes; a batch; more of everything."""
    for shape, passes in (((2,), (1, 1)), ((5,), (3, 1, 1)), ((2, 5), (2, 3))):
        yield {"model": small_model(rng), "ids": ids(rng, *shape), "passes": passes}
    yield {"model": small_model(rng, **LARGE), "ids": ids(rng, 5, 24), "passes": (20, 1, 3)}


@ASSIGNMENT.check("KVCache", "a text in several passes has the logits of one whole pass", cut_prompts)
def in_the_model(model, ids, passes, trace):
    cache, rows = KVCache(model.config), []
    for _, part in cuts_of(ids.shape[-1], passes):
        rows.append(model(ids[..., part], cache=cache, trace=trace))
    return np.concatenate(rows, axis=-2)


def prompts(rng):
    """A small random model, and a text to be continued until its context is full."""
    model = small_model(rng)
    yield {"model": model, "prompt": ids(rng, 3), "n_new": model.config.n_positions - 2}


@ASSIGNMENT.check("KVCache", "generation with it gives the same ids as without", prompts)
def in_generation(model, prompt, n_new):
    return list(generate(model, prompt, n_new, stop=()))
