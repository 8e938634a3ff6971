"""a5: the block and the model. Write `Block.__call__`, `GPT2._run` and `GPT2.__call__`.

All layers are there; here you put them together. One idea connects them: the residual stream, a vector for each token
that is passed from block to block. No layer replaces it: each reads a normalized copy of it and adds what it found.
Grade it with: python -m nanogpt_np course grade DIR a5. Hints: python -m nanogpt_np course hint a5 1
"""

from collections.abc import Callable
from dataclasses import dataclass

from nanogpt_np.model.config import Config
from nanogpt_np.model.trace import no_trace, scoped


def no_cache(k, v):
    """Return the keys and values of this pass unchanged. This one is given: there is nothing to write."""
    return k, v


@dataclass(frozen=True, eq=False, repr=False)
class Block:
    """Attention, then the MLP: each reads a normalized copy and adds to the residual stream."""

    ln_1: Callable  # ln_1(x, trace), the LayerNorm of a2: (..., T, C) -> (..., T, C), like all four
    attn: Callable  # attn(x, remember, trace), the Attention of a3
    ln_2: Callable  # ln_2(x, trace)
    mlp: Callable  # mlp(x, trace), the MLP of a4

    def __call__(self, x, remember=no_cache, trace=no_trace):
        """(..., T, C) -> (..., T, C)

        x : the residual stream as it comes in.
        remember : where attention gets keys and values from; pass it on.

            mid = x + attn(ln_1(x))
            out = mid + mlp(ln_2(mid))

        Why a sum: whatever a block does, what earlier blocks wrote stays in the stream, and in training the
        gradient flows back along the same sum. Why the norm comes before the layer ("pre-norm") and not
        after the sum: that way it never touches the stream itself.

        Announce five of them as ``x = trace(name, x)``, in this order: "hook_resid_pre" (x),
        "hook_attn_out" (what attention adds), "hook_resid_mid" (mid), "hook_mlp_out" (what the MLP adds) and
        "hook_resid_post" (out). The four layers announce arrays of their own: give them ``scoped(trace, "ln1.")``,
        "attn.", "ln2." and "mlp.", which adds that prefix to their names. Do not write into x: no +=.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class GPT2:
    """The whole model. Its method `hidden` is given, in the package: it checks the ids and calls your `_run`."""

    config: Config
    embedding: Callable  # embedding(ids, start, trace), the Embedding of a1: ids (..., T) -> (..., T, C)
    h: tuple[Callable, ...]  # the Blocks: block(x, remember, trace)
    ln_f: Callable  # ln_f(x, trace), the last LayerNorm
    lm_head: Callable  # lm_head(x), the LMHead of a6: (..., T, C) -> (..., T, V)

    def __call__(self, ids, *, cache=None, trace=no_trace):
        """ids (..., T) -> logits (..., T, V): row t scores what follows token t.

        ids : the tokens of a prompt (T,) or of a batch (B, T), as the user gave them.
        cache, trace : pass them to `hidden`.

        ``self.hidden(ids, cache=cache, trace=trace)``, which is given, turns the ids into (..., T, C). Apply the LM
        head to that, announce "hook_logits" as ``x = trace(name, x)`` and return it: scores, not probabilities.
        """
        raise NotImplementedError

    def _run(self, ids, cache, trace=no_trace):
        """ids (..., T) -> (..., T, C): the pass itself, all but the LM head

        ids : integers, checked.
        cache : holds the tokens of earlier passes, or none. `hidden` always passes one, though it may keep
            nothing. cache.length is the number of tokens before these; cache.layer(i) is the `remember` for block i;
            cache.advance(T), at the very end, counts the T tokens of this pass.

            x = embedding(ids), the first of them at position cache.length
            x = block(x) for every block of h, in order, each with the `remember` of its own layer
            x = ln_f(x)

        Give every part its trace: the embedding `trace` as it is, block i ``scoped(trace, "blocks.0.")`` with its
        own number, ln_f ``scoped(trace, "ln_final.")``. Announce nothing here.
        """
        raise NotImplementedError
