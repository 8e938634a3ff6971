"""Small random models for tests that can tell right from wrong.

With zero biases a dropped bias passes; with flat attention a wrong scale passes; with equal sizes a
swapped axis passes. So here all sizes differ, biases are not 0, LayerNorm gains are not 1, attention
is sharp, and one token at one position has a variance so small that epsilon matters.
"""

import functools
import math

import numpy as np

from nanogpt_np.generate.loop import generate
from nanogpt_np.model.config import Config
from nanogpt_np.model.trace import ShapeLog
from nanogpt_np.names import parameters
from nanogpt_np.weights import assembly

# V, n_positions, C, H, n_layer, F; then D = 6 and 3C = 90. Left for tests: B = 2 or 4, T = 7, S = 11, and the like.
SIZES = {"vocab_size": 97, "n_positions": 23, "n_embd": 30, "n_head": 5, "n_layer": 3, "n_inner": 52}
QUIET_TOKEN = 1  # at any of these positions the embedding has a variance of about 2e-5: epsilon is 1e-5
QUIET_POSITIONS = (0, 4)


def random_model(seed=0, *, dtype=np.float32, **config_fields):
    """Build a random GPT-2 of `SIZES`, or of other `config_fields`; one seed gives one model in every dtype."""
    config = Config(**{**SIZES, **config_fields})
    rng = np.random.default_rng(seed)
    shapes = {name: parameter.shape(config) for name, parameter in parameters.table(config).items()}
    params = {name: random_parameter(name, shape, rng).astype(dtype) for name, shape in shapes.items()}
    return assembly.assemble(config, params)


def random_parameter(name, shape, rng):
    """Return float32 values for the parameter of this name (checkpoint name, without prefix).

    Sized so that residual stream, attention scores and logits stay of the order of 1 to 10 at any width.
    """
    noise = rng.standard_normal(shape, dtype=np.float32)
    layer, kind = name.split(".")[-2:]
    if layer.startswith("ln_"):
        return 0.2 * noise + (1 if kind == "weight" else 0)
    if kind == "bias":
        return 0.2 * noise
    if layer == "wpe":
        noise *= 0.3
        for position in QUIET_POSITIONS:
            noise[position : position + 1] *= 0.01  # a slice: a context may be shorter
        return noise
    # From inputs of size 1: scores of size 3, logits of size 3, MLP inputs of size 1.5, outputs of size 1.
    size = {"c_attn": math.sqrt(3), "wte": 3, "lm_head": 3, "c_fc": 1.5, "c_proj": 1}[layer]
    noise *= size / math.sqrt(shape[0] if layer.startswith("c_") else shape[1])
    if layer == "wte":
        noise[QUIET_TOKEN] *= 0.003 / noise[QUIET_TOKEN].std()
    return noise


@functools.cache  # gpt2-xl takes two seconds
def announced(config, T):
    """Return ``{trace point: shape}`` of a pass of `T` tokens, and of a step of generation, on zero-filled weights."""
    model, log, ids = assembly.zeros(config), ShapeLog(), np.arange(T)
    model(ids, trace=log)
    list(generate(model, ids, 1, stop=(), trace=log))
    return {name: shape for name, shape, _ in log}


def scripted_model(ids, n_positions=None):
    """Return a GPT-2 whose greedy answer at position t is ``ids[t]``, whatever it read.

    Its blocks do nothing; the position alone says what comes, through an LM head of its own.
    """
    P = len(ids) if n_positions is None else n_positions
    config = Config(n_positions=P, n_embd=P, n_head=1, n_layer=1, n_inner=1, tie_word_embeddings=False)
    params = {name: np.zeros(p.shape(config), np.float32) for name, p in parameters.table(config).items()}
    params["wpe.weight"][:] = np.eye(P)
    params["ln_f.weight"][:] = 1
    for position, i in enumerate(ids):
        params["lm_head.weight"][i, position] = 1
    return assembly.assemble(config, params)
