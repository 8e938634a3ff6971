"""Which blocks consist of this package's own layers: only they are known to look at no other row than they announce.

A layer of another class may take anything from the rows before it, or from all of them. A Linear, whatever its class,
maps each row by itself.
"""

from ..model.attention import Attention
from ..model.gpt2 import Block
from ..model.layernorm import LayerNorm
from ..model.mlp import GELU, MLP
from .tiles import TiledAttention, TiledGELU


def is_own_block(block: object) -> bool:
    """Return whether a block and the layers in it are of this package's classes."""
    if type(block) is not Block:
        return False
    kinds = [(block.ln_1, LayerNorm), (block.attn, Attention, TiledAttention), (block.ln_2, LayerNorm)]
    ours = all(type(layer) in own for layer, *own in kinds)
    return ours and type(block.mlp) is MLP and type(block.mlp.act) in (GELU, TiledGELU)
