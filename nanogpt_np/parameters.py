"""The parameters of GPT-2: one ordered table of names, shapes and purposes.

The loader checks files against it, `inventory` prints it, and a dry run makes its zeros from it.
Linear layers are stored [in, out], as y = x @ W + b reads (Hugging Face calls that Conv1D).
"""

import math
from dataclasses import dataclass

import numpy as np

from .attention import Attention
from .embedding import Embedding
from .layernorm import LayerNorm
from .lm_head import LMHead
from .mlp import MLP
from .model import GPT2, Block


@dataclass(frozen=True)
class Parameter:
    """One stored tensor, or the same one of every block where the name holds ``{i}``."""

    name: str
    axes: str  # letters as in README.md: "C 3C" is [768, 2304] in gpt2
    part: str
    purpose: str
    by_column: bool = False  # `load` lays it out in memory column by column, where a file goes row by row

    def shape(self, config):
        """Its shape in a model of these sizes."""
        return tuple(axis_size(axis, config.sizes) for axis in self.axes.split())


def axis_size(axis, sizes):
    """Return the length of an axis written as a letter, a multiple such as ``3C``, or a number."""
    if axis in sizes:
        return sizes[axis]
    digits = axis.rstrip("CHDFVTSB")
    return int(digits) * sizes.get(axis[len(digits) :], 1)


PARTS = (
    "token embedding",
    "position embedding",
    "layer norms",
    "attention QKV",
    "attention output",
    "MLP",
    "LM head",
)
EMBEDDINGS = (
    Parameter("wte.weight", "V C", PARTS[0], "a row per token; also the LM head where tied"),
    Parameter("wpe.weight", "n_positions C", PARTS[1], "a row per position"),
)
BLOCK = (
    Parameter("h.{i}.ln_1.weight", "C", PARTS[2], "gain before attention"),
    Parameter("h.{i}.ln_1.bias", "C", PARTS[2], "shift before attention"),
    Parameter("h.{i}.attn.c_attn.weight", "C 3C", PARTS[3], "to queries, keys, values"),
    Parameter("h.{i}.attn.c_attn.bias", "3C", PARTS[3], "their biases"),
    Parameter("h.{i}.attn.c_proj.weight", "C C", PARTS[4], "from the merged heads"),
    Parameter("h.{i}.attn.c_proj.bias", "C", PARTS[4], "its bias"),
    Parameter("h.{i}.ln_2.weight", "C", PARTS[2], "gain before the MLP"),
    Parameter("h.{i}.ln_2.bias", "C", PARTS[2], "shift before the MLP"),
    Parameter("h.{i}.mlp.c_fc.weight", "C F", PARTS[5], "widen"),
    Parameter("h.{i}.mlp.c_fc.bias", "F", PARTS[5], "its bias"),
    # A column makes one output. With each in one piece of memory, a core reads far ahead in this tall matrix, where
    # rows are short: all products of a token of gpt2 take nine tenths of the time ("as loaded" in README.md). The other
    # matrices would gain next to nothing.
    Parameter("h.{i}.mlp.c_proj.weight", "F C", PARTS[5], "narrow again", by_column=True),
    Parameter("h.{i}.mlp.c_proj.bias", "C", PARTS[5], "its bias"),
)
FINAL = (
    Parameter("ln_f.weight", "C", PARTS[2], "gain before the LM head"),
    Parameter("ln_f.bias", "C", PARTS[2], "shift before the LM head"),
)
LM_HEAD = Parameter("lm_head.weight", "V C", PARTS[6], "a row per token, where not tied to wte")


def table(config):
    """Return ``{name: Parameter}`` for every tensor of a model, in the order of use."""
    entries = {p.name: p for p in EMBEDDINGS}
    entries |= {p.name.format(i=i): p for i in range(config.n_layer) for p in BLOCK}
    entries |= {p.name: p for p in FINAL}
    if not config.tie_word_embeddings:
        entries[LM_HEAD.name] = LM_HEAD
    return entries


def count(config):
    """Return how many parameters a model has: 124,439,808 for gpt2."""
    return sum(math.prod(p.shape(config)) for p in table(config).values())


def assemble(config, params):
    """Build the model from ``{name: array}``, whose names and shapes are those of `table`.

    The arrays are used as they are, not copied; all are float32, or all float64.
    """

    def layer_norm(name):
        return LayerNorm(params[name + ".weight"], params[name + ".bias"], config.layer_norm_epsilon)

    def block(i):
        attn = (
            params[f"h.{i}.attn.{name}"] for name in ("c_attn.weight", "c_attn.bias", "c_proj.weight", "c_proj.bias")
        )
        mlp = (params[f"h.{i}.mlp.{name}"] for name in ("c_fc.weight", "c_fc.bias", "c_proj.weight", "c_proj.bias"))
        return Block(
            ln_1=layer_norm(f"h.{i}.ln_1"),
            attn=Attention(*attn, n_head=config.n_head, scale=config.attention_scale(i)),
            ln_2=layer_norm(f"h.{i}.ln_2"),
            mlp=MLP(*mlp),
        )

    return GPT2(
        config=config,
        embedding=Embedding(params["wte.weight"], params["wpe.weight"]),
        h=tuple(block(i) for i in range(config.n_layer)),
        ln_f=layer_norm("ln_f"),
        lm_head=LMHead(params["wte.weight" if config.tie_word_embeddings else "lm_head.weight"]),
    )


def zeros(config):
    """Build a model whose weights are all 0, for its shapes: memory never written to costs nearly nothing."""
    return assemble(config, {name: np.zeros(p.shape(config), np.float32) for name, p in table(config).items()})
