"""a7: the KV cache. Write the class `KVCache`.

A token's key and value in a block depend only on that token and those before it, so they stay the same when the text
grows. With a cache that keeps them, only the new token goes through the model: a text of n tokens costs n rows, not
1 + 2 + ... + n.
Grade it with: python -m nanogpt_np course grade DIR a7. Hints: python -m nanogpt_np course hint a7 1
"""

import numpy as np


class KVCache:
    """Keys and values of all blocks for up to `config.n_positions` tokens.

    What a model with n_layer blocks does with it in a pass over T new tokens:

        start = cache.length                       # their positions are start, start + 1, ...
        for block i:
            keys, values = cache.layer(i)(k, v)    # in its attention: k, v of the T new tokens, (..., H, T, D)
        cache.advance(T)

    How it stores them is up to you: one array for each block that grows, or one that has room for n_positions tokens
    from the start. The batch axes (...) and the dtype are those of the first pass, whatever they are.
    """

    def __init__(self, config):
        """Begin with nothing: `length`, the number of tokens so far, is 0.

        config : the sizes of the model; there will be at most `config.n_positions` tokens.
        """
        raise NotImplementedError

    def layer(self, i):
        """Return the function ``remember(k, v)`` of block `i`.

        remember(k, v) takes the keys and values of this pass, both (..., H, T, D), appends them to those of the
        passes before, and returns both, each (..., H, S, D) for all S = length + T tokens so far, oldest first.

        Each block has keys and values of its own. Do not change k and v, nor the arrays that were returned
        before: their owners may still read them.
        """
        raise NotImplementedError

    def advance(self, T):
        """Count `T` more tokens: `length` grows by T. Called once for each pass, after the last block."""
        raise NotImplementedError
