"""GPT-2, composed of its layers: this file reads like the diagram of the model.

Tokens become vectors (the residual stream); each block adds what attention gathered from other tokens, and then
what the MLP computes; the last norm and the LM head turn the vectors into logits.
Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
Read next: `cache.py`, then `generate/loop.py` for how logits become text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from .attention import Attention, Remember, no_cache
from .cache import KVCache, NoCache
from .config import Config
from .embedding import Embedding
from .ids import check_ids
from .layernorm import LayerNorm
from .lm_head import LMHead
from .mlp import MLP
from .trace import Array, Grads, Params, Reader, Tape, Trace, named, no_trace, scoped, under

Ids = Array | Sequence[int] | Sequence[Sequence[int]]
Cache = KVCache | NoCache


@dataclass(frozen=True, eq=False, repr=False)
class Block:
    """x = x + attn(ln_1(x)), then x = x + mlp(ln_2(x)): each layer reads a normalized copy and adds to the stream."""

    ln_1: LayerNorm
    attn: Attention
    ln_2: LayerNorm
    mlp: MLP

    def __call__(self, x: Array, remember: Remember = no_cache, trace: Trace = no_trace) -> Array:
        """(..., T, C) -> (..., T, C)"""
        x = trace("hook_resid_pre", x)
        attn_in = self.ln_1(x, scoped(trace, "ln1."))
        x = x + trace("hook_attn_out", self.attn(attn_in, remember, scoped(trace, "attn.")))
        x = trace("hook_resid_mid", x)
        mlp_in = self.ln_2(x, scoped(trace, "ln2."))
        x = x + trace("hook_mlp_out", self.mlp(mlp_in, scoped(trace, "mlp.")))
        return trace("hook_resid_post", x)

    def backward(self, d_out: Array, tape: Reader, trace: Trace = no_trace) -> tuple[Array, Grads]:
        """d_out (..., T, C) -> d_x (..., T, C), gradients by name

        A sum passes its gradient to both of its terms: along the stream, and into the layer.
        """
        ln1, attn, ln2, mlp = ((under(tape, p), scoped(trace, p)) for p in ("ln1.", "attn.", "ln2.", "mlp."))
        d_x = trace("hook_resid_post", d_out)
        d_mlp_in, mlp_grads = self.mlp.backward(trace("hook_mlp_out", d_x), tape("ln2.hook_output"), *mlp)
        d_mid, ln_2_grads = self.ln_2.backward(d_mlp_in, *ln2)
        d_x = trace("hook_resid_mid", d_x + d_mid)
        d_attn_in, attn_grads = self.attn.backward(trace("hook_attn_out", d_x), tape("ln1.hook_output"), *attn)
        d_pre, ln_1_grads = self.ln_1.backward(d_attn_in, *ln1)
        grads = named({"ln_1": ln_1_grads, "attn": attn_grads, "ln_2": ln_2_grads, "mlp": mlp_grads})
        return trace("hook_resid_pre", d_x + d_pre), grads


@dataclass(frozen=True, eq=False, repr=False)
class GPT2:
    """The whole model: `nanogpt_np.load` builds one from a checkpoint, `weights.assemble` from arrays."""

    config: Config
    embedding: Embedding
    h: tuple[Block, ...]
    ln_f: LayerNorm
    lm_head: LMHead

    def __call__(self, ids: Ids, *, cache: Cache | None = None, trace: Trace = no_trace) -> Array:
        """ids (..., T) -> logits (..., T, V): row t scores what follows token t.

        ids : integers in [0, V); one prompt (T,) or a batch of prompts of one length (B, T).
        cache : a `KVCache` to continue from and add to.
        trace : any callable ``(name, array) -> array``; the names are those of `names/activations.py`.

        Raises ValueError for ids the model cannot read, see `ids.py`.
        """
        return trace("hook_logits", self.lm_head(self.hidden(ids, cache=cache, trace=trace)))

    def hidden(self, ids: Ids, *, cache: Cache | None = None, trace: Trace = no_trace) -> Array:
        """ids (..., T) -> (..., T, C): all but the LM head."""
        cache = NoCache() if cache is None else cache
        ids = trace("hook_tokens", check_ids(ids, self.config, cache.length))
        return self._run(check_ids(ids, self.config, cache.length), cache, trace)  # again: a trace may change them

    def last_row(self, ids: Ids, *, cache: Cache | None = None, trace: Trace = no_trace) -> Array:
        """ids (..., T) -> (..., C): the last row of `hidden`, which is all that the next token depends on."""
        return self.hidden(ids, cache=cache, trace=trace)[..., -1, :]

    def _run(self, ids: Array, cache: Cache, trace: Trace = no_trace) -> Array:
        """ids (..., T), checked -> (..., T, C): the pass itself"""
        x = self.embedding(ids, cache.length, trace)
        for i, block in enumerate(self.h):
            x = block(x, cache.layer(i), scoped(trace, f"blocks.{i}."))
        x = self.ln_f(x, scoped(trace, "ln_final."))
        cache.advance(ids.shape[-1])
        return x

    def backward(self, d_out: Array, tape: Tape, trace: Trace = no_trace) -> Grads:
        """d_out (..., T, C), the gradient of what `hidden` returned -> ``{parameter name: gradient}``

        tape : the `Tape` that traced `hidden`, over a whole prompt without a cache.
        trace : receives the gradient of every trace point, last to first, under the point's own name.
        """
        read = tape.__getitem__
        d_x, final = self.ln_f.backward(d_out, under(read, "ln_final."), scoped(trace, "ln_final."))
        blocks = {}
        for i, block in reversed(list(enumerate(self.h))):
            d_x, grads = block.backward(d_x, under(read, f"blocks.{i}."), scoped(trace, f"blocks.{i}."))
            blocks[f"h.{i}"] = grads
        ends = self.embedding.backward(d_x, tape["hook_tokens"], tape["hook_positions"], trace)
        return ends | named(blocks) | named({"ln_f": final})

    def __repr__(self) -> str:
        return f"<GPT2 of {sum(a.size for a in self.params.values()):,} parameters: {self.config}>"

    @property
    def tied(self) -> bool:
        """True if the LM head is the token embedding: one matrix, one parameter."""
        return getattr(self.lm_head, "weight", None) is self.embedding.wte_weight

    @property
    def params(self) -> Params:
        """Every stored array under its checkpoint name, in the order of use; no copies."""
        found = {"wte.weight": self.embedding.wte_weight, "wpe.weight": self.embedding.wpe_weight}
        for i, block in enumerate(self.h):
            found |= arrays(block, f"h.{i}.")
        found |= arrays(self.ln_f, "ln_f.")
        return Params(found if self.tied else found | arrays(self.lm_head, "lm_head."))


def arrays(layer: Any, prefix: str = "") -> dict[str, Array]:
    """Return ``{"attn.c_attn.weight": array}`` of a layer and its sublayers, named by field."""
    found = {}
    for field in fields(layer) if is_dataclass(layer) else ():  # a layer of another kind may be anything
        value = getattr(layer, field.name)
        if isinstance(value, np.ndarray):
            found[prefix + field.name] = value
        elif is_dataclass(value):
            found |= arrays(value, f"{prefix}{field.name}.")
    return found
