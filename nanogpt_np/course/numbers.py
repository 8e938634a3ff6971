"""Numbers for checks that can tell right from wrong: a small random GPT-2, and arrays with traps in them.

All sizes differ, so that no swapped axis passes; biases are not 0 and gains are not 1, so that leaving one out shows;
one token is so quiet that epsilon counts.
"""

import math

import numpy as np

from ..model.config import Config
from ..names import parameters
from ..weights import assemble

SIZES = {"vocab_size": 13, "n_positions": 11, "n_embd": 6, "n_head": 2, "n_layer": 2, "n_inner": 10}  # D = 3
# For a last case: some mistakes show only with more than a few tokens, heads, columns or blocks.
LARGE = {"n_positions": 24, "n_embd": 35, "n_head": 5, "n_layer": 6}  # D = 7
QUIET = 1  # the token whose vector at position 0 has a variance near 1e-5


def small_model(rng, **sizes):
    """Return a random GPT-2 in float64, of `SIZES` or others by the names of `Config`."""
    config = Config(**{**SIZES, **sizes})
    table = parameters.table(config)
    return assemble(config, {name: _parameter(name, p.shape(config), rng) for name, p in table.items()})


def _parameter(name, shape, rng):
    noise = rng.standard_normal(shape)
    layer, kind = name.split(".")[-2:]
    if layer.startswith("ln_"):
        return 0.3 * noise + (kind == "weight")
    if kind == "bias":
        return 0.3 * noise
    if layer.startswith("w"):
        noise[QUIET if layer == "wte" else 0] *= 0.002
        return noise
    return noise * 1.5 / math.sqrt(shape[0] if layer.startswith("c_") else shape[1])


def ids(rng, *shape, config=None):
    """Return random token ids with a quiet one at the front of each prompt."""
    found = rng.integers(0, SIZES["vocab_size"] if config is None else config.vocab_size, shape)
    found[..., 0] = QUIET
    return found


def plain(rng, *shape):
    """Return normal random numbers rounded to two decimals, which a reader can compute with."""
    return np.round(rng.standard_normal(shape), 2)
