"""Known mistakes in the KV cache: what assignment a7 can call by its name."""

from functools import partial

import numpy as np

from ..assignments.a7_cache import ASSIGNMENT


class Cache:
    """A KV cache with a line for the keys and one for the values, for the mistakes that are made in them."""

    def __init__(self, config):
        self.config = config
        self.length = 0
        self._layers = {}

    def layer(self, i):
        return partial(self._remember, i)

    def advance(self, T):
        self.length += T

    def _remember(self, i, k, v):
        T, longest = k.shape[-2], self.config.n_positions
        S = self.length + T
        if not self.length:
            self._layers[i] = tuple(np.empty((*x.shape[:-2], longest, x.shape[-1]), x.dtype) for x in (k, v))
        keys, values = self._layers[i]
        keys[..., self.length : S, :] = k
        values[..., self.length : S, :] = v
        return keys[..., :S, :], values[..., :S, :]


ASSIGNMENT.spell_out("KVCache", Cache)


def mistake(words, *edits):
    ASSIGNMENT.mistake("KVCache", words, *edits)


COUNT = "self.length += T"
KEEP_KEYS = "keys[..., self.length : S, :] = k"
KEEP_VALUES = "values[..., self.length : S, :] = v"
GIVE = "return keys[..., :S, :], values[..., :S, :]"
ROOM_OF_ZEROS = ("np.empty(", "np.zeros(")

mistake("advance does not count: what is kept, and the positions, start over in every pass", (COUNT, "pass"))
mistake("only the new keys and values are returned", (GIVE, "return k, v"))
mistake("keys and values are swapped in what is returned", (GIVE, "return values[..., :S, :], keys[..., :S, :]"))
mistake("the keys are kept as values, too", (KEEP_VALUES, "values[..., self.length : S, :] = k"))
mistake("the values are kept as keys, too", (KEEP_KEYS, "keys[..., self.length : S, :] = v"))
mistake("all blocks share one store", ("partial(self._remember, i)", "partial(self._remember, 0)"))
mistake(
    "all caches share one store: it belongs to the class, not to self",
    ("        self._layers = {}\n", ""),
    ("    def __init__", "    _layers = {}\n\n    def __init__"),
)
mistake(
    "layer keeps i in the cache, so that the block that was asked for last counts",
    ("return partial(self._remember, i)", "self.i = i\n        return lambda k, v: self._remember(self.i, k, v)"),
)
mistake("the whole room is returned, also what holds no token yet", ROOM_OF_ZEROS, (GIVE, "return keys, values"))
mistake(
    "of each pass only the last token is kept",
    (KEEP_KEYS, "keys[..., self.length : S, :] = k[..., -1:, :]"),
    (KEEP_VALUES, "values[..., self.length : S, :] = v[..., -1:, :]"),
)
mistake(
    "the new keys and values are written over the first ones, not behind the last",
    ROOM_OF_ZEROS,
    (KEEP_KEYS, "keys[..., :T, :] = k"),
    (KEEP_VALUES, "values[..., :T, :] = v"),
)
mistake(
    "what was returned before changes: older tokens are moved in the array that it shows",
    (
        f"        {KEEP_KEYS}\n        {KEEP_VALUES}\n        {GIVE}",
        "        for kept, new in ((keys, k), (values, v)):\n"
        "            kept[..., : longest - T, :] = kept[..., T:, :].copy()\n"
        "            kept[..., longest - T :, :] = new\n"
        "        return keys[..., longest - S :, :], values[..., longest - S :, :]",
    ),
)


def along(axis):
    """Return how old and new ones are joined along an axis; there are no old ones in the first pass."""
    return lambda old, new: new.copy() if old is None else np.concatenate([old, new], axis=axis)


BEHIND = along(-2)


def joined(words, join=BEHIND, *, advance=lambda length, T: length + T, remember=lambda length, T: length):
    """Add a wrong cache without room from the start: how it joins, and what becomes of length in both functions."""

    class Joined:
        def __init__(self, config):
            self.length, self.kept = 0, {}

        def layer(self, i):
            def remember_in_block(k, v):
                self.length = remember(self.length, k.shape[-2])
                old = self.kept.get(i, (None, None))
                self.kept[i] = tuple(join(o, n) for o, n in zip(old, (k, v), strict=True))
                return self.kept[i]

            return remember_in_block

        def advance(self, T):
            self.length = advance(self.length, T)

    ASSIGNMENT.wrong_version("KVCache", words)(Joined)


joined("the newest come first", lambda old, new: new.copy() if old is None else np.concatenate([new, old], axis=-2))
joined("the batch axis is forgotten: axis 1 is that of the tokens for a single prompt only", along(1))
joined("the heads are joined, not the tokens: axis -3", along(-3))
joined("the columns are joined, not the tokens: axis -1", along(-1))
joined("the first pass is kept, but none after it", lambda old, new: new.copy() if old is None else old)
joined("advance does not count: the positions begin at 0 again in every pass", advance=lambda length, T: length)
joined("advance counts a pass, not its T tokens", advance=lambda length, T: length + 1)
joined("advance sets length to T, and does not add it", advance=lambda length, T: T)
joined(
    "the tokens are counted in every block, not once for each pass",
    advance=lambda length, T: length,
    remember=lambda length, T: length + T,
)
joined("the tokens are counted in every block, and in advance, too", remember=lambda length, T: length + T)
