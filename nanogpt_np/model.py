"""GPT-2, composed of its layers: this file reads as the diagram of the model does.

Tokens become vectors (the residual stream); each block adds to them what attention gathered from
other tokens and what the MLP made of each; the last norm and the LM head turn them into logits.
Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
Read next: `generate.py` for how logits become text, `weights.py` for where the arrays come from.
"""

from dataclasses import dataclass, fields, replace

import numpy as np

from .attention import LONG, Attention, no_memory
from .cache import NoCache
from .config import Config
from .cores import in_parts
from .embedding import Embedding
from .last_row import LastRow
from .layernorm import LayerNorm
from .lm_head import LMHead
from .memory import USUAL, keep_freed_memory
from .mlp import MLP
from .trace import no_trace, scoped, under

keep_freed_memory(USUAL)


@dataclass(frozen=True, eq=False, repr=False)
class Block:
    """Attention, then the MLP, each reading a normalised copy and adding to the residual stream."""

    ln_1: LayerNorm
    attn: Attention
    ln_2: LayerNorm
    mlp: MLP

    def __call__(self, x, remember=no_memory, trace=no_trace):
        """(..., T, C) -> (..., T, C)"""
        x = trace("hook_resid_pre", x)
        attn_in = self.ln_1(x, scoped(trace, "ln1."))
        x = x + trace("hook_attn_out", self.attn(attn_in, remember, scoped(trace, "attn.")))
        x = trace("hook_resid_mid", x)
        mlp_in = self.ln_2(x, scoped(trace, "ln2."))
        x = x + trace("hook_mlp_out", self.mlp(mlp_in, scoped(trace, "mlp.")))
        return trace("hook_resid_post", x)

    def backward(self, d_out, tape, trace=no_trace):
        """d_out (..., T, C) -> d_x (..., T, C), gradients by name

        A sum passes its gradient on to both of its parts: along the stream, and into the layer.
        """
        ln1, attn, ln2, mlp = ((under(tape, p), scoped(trace, p)) for p in ("ln1.", "attn.", "ln2.", "mlp."))
        d_x = trace("hook_resid_post", d_out)
        d_mlp_in, mlp_grads = self.mlp.backward(trace("hook_mlp_out", d_x), tape("ln2.hook_output"), *mlp)
        d_mid, ln_2_grads = self.ln_2.backward(d_mlp_in, *ln2)
        d_x = trace("hook_resid_mid", d_x + d_mid)
        d_attn_in, attn_grads = self.attn.backward(trace("hook_attn_out", d_x), tape("ln1.hook_output"), *attn)
        d_pre, ln_1_grads = self.ln_1.backward(d_attn_in, *ln1)
        parts = {"ln_1.": ln_1_grads, "attn.": attn_grads, "ln_2.": ln_2_grads, "mlp.": mlp_grads}
        grads = {part + name: d for part, layer in parts.items() for name, d in layer.items()}
        return trace("hook_resid_pre", d_x + d_pre), grads


@dataclass(frozen=True, eq=False, repr=False)
class GPT2:
    """The whole model. Build it with `nanogpt_np.load`, or from arrays with `parameters.assemble`."""

    config: Config
    embedding: Embedding
    h: tuple[Block, ...]
    ln_f: LayerNorm
    lm_head: LMHead

    def __call__(self, ids, *, cache=None, trace=no_trace):
        """ids (..., T) -> logits (..., T, V): row t scores what follows token t.

        ids : integers in [0, V); one prompt (T,) or a batch of equal length (B, T).
        cache : a `KVCache` to continue from and add to.
        trace : any callable ``(name, array) -> array``; the names are those of `activations.py`.

        Raises ValueError for ids that are not integers, out of range, none at all, or more than
        the context can hold.
        """
        return trace("hook_logits", self.lm_head(self.hidden(ids, cache=cache, trace=trace)))

    def hidden(self, ids, *, cache=None, trace=no_trace):
        """ids (..., T) -> (..., T, C): all but the LM head."""
        past = 0 if cache is None else cache.length
        ids = trace("hook_tokens", check_ids(ids, self.config, past))
        if ids is None:
            raise ValueError("the trace gave back None: it must return the array that the model goes on with")
        ids = check_ids(ids, self.config, past)  # again: a trace may change them
        if ids.shape[-1] > LONG and trace is no_trace:  # whoever watches sees all tokens at once
            return in_parts(self, ids, cache)
        return self._run(ids, NoCache() if cache is None else cache, trace)

    def last_row(self, ids, *, cache=None, trace=no_trace):
        """ids (..., T) -> (..., C): the last row of `hidden`, by a shorter way if T is large and nobody watches."""
        model = self
        if np.shape(ids)[-1:] > (LONG,) and trace is no_trace and self._is_as_written():  # T > LONG
            model = replace(self, h=(*self.h[:-1], LastRow(self.h[-1])))
        return model.hidden(ids, cache=cache, trace=trace)[..., -1, :]

    def _run(self, ids, cache, trace=no_trace):
        x = self.embedding(ids, cache.length, trace)
        for i, block in enumerate(self.h):
            x = block(x, cache.layer(i), scoped(trace, f"blocks.{i}."))
        x = self.ln_f(x, scoped(trace, "ln_final."))
        cache.advance(ids.shape[-1])
        return x

    def _is_as_written(self):
        """True if model, last norm and last block with its layers are this package's: one's own may look at any row."""
        last = self.h[-1] if self.h else None
        parts = [(self, GPT2), (self.ln_f, LayerNorm), (last, Block)]
        parts += [(getattr(last, field.name, None), field.type) for field in fields(Block)]
        return all(type(part) is kind for part, kind in parts)

    def backward(self, d_out, tape, trace=no_trace):
        """d_out (..., T, C), the gradient of what `hidden` returned -> ``{parameter name: gradient}``

        tape : the `Recorder` that traced `hidden`; the first pass of a prompt, without a cache.
        trace : is told the gradient of every trace point, last to first, under the point's own name.
        """
        read = tape.__getitem__
        d_x, final = self.ln_f.backward(d_out, under(read, "ln_final."), scoped(trace, "ln_final."))
        blocks = {}
        for i, block in reversed(list(enumerate(self.h))):
            d_x, grads = block.backward(d_x, under(read, f"blocks.{i}."), scoped(trace, f"blocks.{i}."))
            blocks |= {f"h.{i}.{name}": d for name, d in grads.items()}
        ends = self.embedding.backward(d_x, tape["hook_tokens"], tape["hook_positions"], trace)
        return ends | blocks | {f"ln_f.{name}": d for name, d in final.items()}

    def __repr__(self):
        return f"<GPT2 of {sum(a.size for a in self.params.values()):,} parameters: {self.config}>"

    @property
    def tied(self):
        """True if the LM head is the token embedding: one matrix, one parameter."""
        return self.lm_head.weight is self.embedding.wte_weight

    @property
    def params(self):
        """Every stored array under its checkpoint name, in the order of use; no copies."""
        found = dict(_arrays("", self.embedding))
        for i, block in enumerate(self.h):
            for part in fields(block):
                found.update(_arrays(f"h.{i}.{part.name}.", getattr(block, part.name)))
        found.update(_arrays("ln_f.", self.ln_f))
        if not self.tied:
            found["lm_head.weight"] = self.lm_head.weight
        return found


def check_ids(ids, config, past=0):
    """Return a copy of `ids` as integers, or raise ValueError if no model can read them after `past` tokens."""
    ids = np.asarray(ids)
    V, longest = config.vocab_size, config.n_positions
    if ids.ndim == 0 or ids.size == 0:
        words = "; encode text first: Tokenizer().encode(...)" if ids.dtype.kind == "U" else ""
        raise ValueError(f"no token ids: got an array of shape {ids.shape}, need (T,) or (B, T) with T >= 1{words}")
    if ids.dtype.kind not in "iu":
        raise ValueError(f"token ids must be integers, not {ids.dtype}")
    if ids.min() < 0 or ids.max() >= V:
        bad = ids[(ids < 0) | (ids >= V)][0]
        raise ValueError(f"token id {bad} is out of range: this model knows ids 0 to {V - 1}")
    T = ids.shape[-1]
    if past + T > longest:
        before = f"{past} cached + " if past else ""
        raise ValueError(f"{before}{T} tokens are more than this model's context of {longest} tokens")
    return ids.astype(np.int64)


def _arrays(prefix, layer):
    """Yield (checkpoint name, array): the field ``c_attn_weight`` is stored as ``c_attn.weight``."""
    for field in fields(layer):
        value = getattr(layer, field.name)
        if isinstance(value, np.ndarray):
            stem, _, last = field.name.rpartition("_")
            yield prefix + (f"{stem}.{last}" if stem else last), value
