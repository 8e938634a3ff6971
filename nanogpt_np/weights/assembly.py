"""From arrays to a model: each parameter goes to the layer in its name.

The arrays are used as they are. Read next: `checkpoint.py`, which reads them from files.
"""

from typing import Any

import numpy as np

from ..model.attention import Attention
from ..model.config import Config
from ..model.embedding import Embedding
from ..model.gpt2 import GPT2, Block
from ..model.layernorm import LayerNorm
from ..model.linear import Linear
from ..model.lm_head import LMHead
from ..model.mlp import MLP
from ..model.trace import Array
from ..names.parameters import table


def assemble(config: Config, params: dict[str, Array]) -> GPT2:
    """Build the model from ``{name: array}``, with the names and shapes of `names.parameters.table`.

    The arrays are used as they are, not copied; all are float32, or all float64.
    """

    def linear(name: str) -> Linear:
        return Linear(params[name + ".weight"], params[name + ".bias"])

    def layer_norm(name: str) -> LayerNorm:
        return LayerNorm(params[name + ".weight"], params[name + ".bias"], config.layer_norm_epsilon)

    def block(i: int) -> Block:
        heads: Any = {"n_head": config.n_head, "head_width": config.head_width, "scale": config.attention_scale(i)}
        return Block(
            ln_1=layer_norm(f"h.{i}.ln_1"),
            attn=Attention(linear(f"h.{i}.attn.c_attn"), linear(f"h.{i}.attn.c_proj"), **heads),
            ln_2=layer_norm(f"h.{i}.ln_2"),
            mlp=MLP(linear(f"h.{i}.mlp.c_fc"), linear(f"h.{i}.mlp.c_proj")),
        )

    return GPT2(
        config=config,
        embedding=Embedding(params["wte.weight"], params["wpe.weight"]),
        h=tuple(block(i) for i in range(config.n_layer)),
        ln_f=layer_norm("ln_f"),
        lm_head=LMHead(params["wte.weight" if config.tie_word_embeddings else "lm_head.weight"]),
    )


def zeros(config: Config) -> GPT2:
    """Build a model with all weights 0, for its shapes: memory that is never written costs almost nothing."""
    return assemble(config, {name: np.zeros(p.shape(config), np.float32) for name, p in table(config).items()})
