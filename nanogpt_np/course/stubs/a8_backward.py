"""a8: the backward pass. Write `cross_entropy`, the `backward` of each layer, and `loss_and_grads`.

The loss is one number that says how wrong the model is. Its gradient with respect to an array says, for each number
in it, how fast the loss rises when that number rises. ``d_y`` is always the gradient with respect to ``y``, and has
the shape of ``y``. A layer's `backward` takes d_out, the gradient with respect to the layer's output, and returns
d_x, the gradient with respect to its input, and those of its own parameters, by name. So the gradient passes through
the model from the loss to the tokens, the last layer first. Four rules are all you need:

    y = x @ W + b    d_x = d_y @ W.T,  d_W = x.T @ d_y,  d_b = the sum of d_y's rows
    y = f(x)         number by number: d_x = d_y * f'(x)
    y = a + b        d_a = d_y and d_b = d_y
    used twice       what is used in several places (or for several tokens) gets the sum of its gradients

Two arguments appear in each layer:
    tape(name)    returns the array that the forward pass announced under that name; do not write into it
    trace         receives gradients as it received activations before: ``d_y = trace("hook_y", d_y)``,
                  the last point first; continue with the array that it returns

float32 in, float32 out. Write them in any order: each function is graded with correct code for all others.
Grade it with: python -m nanogpt_np course grade DIR a8. Hints: python -m nanogpt_np course hint a8 1
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nanogpt_np.fast import fast
from nanogpt_np.model.config import Config
from nanogpt_np.model.trace import Tape, chain, no_trace, scoped, under

IGNORED = -100  # a target that does not count


def named(layers):
    """Join the gradients of several layers: {"c_fc": {"weight": d}} -> {"c_fc.weight": d}. This one is given."""
    return {f"{layer}.{name}": d for layer, grads in layers.items() for name, d in grads.items()}


def cross_entropy(logits, targets, offset=None):
    """logits (N, V), targets (N,) -> the sum of the losses in nats, and d_logits (N, V), the gradient of that sum

    targets : the id of the actual token, for each of N rows; or -100 to ignore the row.
    offset : None, or (V,) to be added to every row of logits before all else (a row of the model that stands for
        n tokens gets log(n)).

    With p = softmax(x) of a row x of logits, the loss is -log(p[target]): how surprised the model is by it.
    A small p would round to 0, and exp(x) can overflow, so first subtract the row's maximum from x; p stays:

        loss     = log(sum(exp(x))) - x[target]
        d_logits = p, less 1 at the target

    Raising a logit raises the loss, at the rate p; raising the target's also lowers it, at rate 1.
    A row that does not count adds nothing to the loss, and its row of d_logits is 0. The result is a sum: a caller
    who wants the mean divides.
    """
    raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class Linear:
    """Multiply by a matrix and add a bias: x @ weight + bias"""

    weight: np.ndarray  # (n_in, n_out)
    bias: np.ndarray  # (n_out,)

    def backward(self, d_out, x, tape=None, trace=no_trace):
        """d_out (..., n_out), the input x (..., n_in) -> d_x (..., n_in), {"weight": ..., "bias": ...}

        The first rule, with W = weight and b = bias. The parameters serve every token, so their gradients are summed
        over all tokens of all prompts. This layer announces nothing and needs neither `tape` nor `trace`.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class LMHead:
    """Compare a hidden state with every token's row: x @ weight.T"""

    weight: np.ndarray  # (V, C)

    def backward(self, d_out, x):
        """d_out (N, V), the input x (N, C) -> d_x (N, C), {"weight": (V, C)}

        The first rule, for the matrix W = weight.T: if y = x @ W, d_x = d_y @ W.T and d_W = x.T @ d_y.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class Embedding:
    """Look up each token and each position in a table, and add the two rows."""

    wte_weight: np.ndarray  # (V, C) a row per token
    wpe_weight: np.ndarray  # (n_positions, C) a row per position

    def backward(self, d_out, ids, positions, trace=no_trace):
        """d_out (..., T, C) -> {"wte.weight": (V, C), "wpe.weight": (n_positions, C)}

        ids, positions : (..., T) integers, the rows that were read. The forward pass returned
            wte_weight[ids] + wpe_weight[positions], announced as "hook_embed" and "hook_pos_embed".

        A sum passes its gradient to both of its terms: announce d_out under both names, "hook_pos_embed" first.
        Both begin with d_out itself, and what `trace` returns for a name goes into that name's table only. There each
        token's gradient vector goes to the row that was read for it. A row that was read twice gets the
        sum, and a row that was not read gets 0. The ids have no gradient, so there is no d_x.
        """
        raise NotImplementedError


def gelu_slope(x):
    """Return the derivative of GPT-2's GELU at each x: same shape

        gelu(x) = x (1 + tanh u) / 2    with u = sqrt(2 / pi) (x + 0.044715 x^3)

    The product rule, with t = tanh u, whose derivative is (1 - t^2) u':

        slope = (1 + t) / 2 + x (1 - t^2) u' / 2
        u'    = sqrt(2 / pi) (1 + 3 * 0.044715 x^2)

    It is 0 far to the left, 1/2 at 0, and 1 far to the right.
    """
    raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class MLP:
    """Two linear layers with a GELU between them."""

    c_fc: Linear  # C -> F
    c_proj: Linear  # F -> C
    act: Callable  # the GELU; act.backward(d_y, x) is d_y * gelu_slope(x): use either

    def backward(self, d_out, x, tape, trace=no_trace):
        """d_out (..., T, C), the input x (..., T, C) -> d_x (..., T, C), gradients by name

        The forward pass was
            pre  = c_fc(x)        (..., T, F), on the tape as "hook_pre"
            post = gelu(pre)      (..., T, F), on the tape as "hook_post"
            out  = c_proj(post)   (..., T, C)

        In reverse: d_post and the gradients of c_proj, d_pre = d_post * gelu_slope(pre), d_x and the
        gradients of c_fc. A linear layer does its part itself: self.c_proj.backward(d_y, what it read) returns what
        you make it return above. Announce d_post as "hook_post" and d_pre as "hook_pre". `named` makes the names:
        {"c_fc.weight": (C, F), "c_fc.bias": (F,), "c_proj.weight": (F, C), "c_proj.bias": (C,)}.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class LayerNorm:
    """Give every token's vector mean 0 and variance 1, then scale and shift it."""

    weight: np.ndarray  # (C,) gain
    bias: np.ndarray  # (C,)
    eps: float = 1e-5

    def backward(self, d_out, tape, trace=no_trace):
        """d_out (..., T, C) -> d_x (..., T, C), {"weight": (C,), "bias": (C,)}

        The forward pass was, with means over the C numbers of a row:
            scale      = sqrt(mean((x - mean)^2) + eps)  (..., T, 1), on the tape as "hook_scale"
            normalized = (x - mean) / scale              (..., T, C), on the tape as "hook_normalized"
            output     = normalized * weight + bias      "hook_output"

        A number of x counts three times: by itself, in the mean, in the scale. Each contributes to d_x:
            d_normalized = d_out * weight
            d_scale      = -sum(d_normalized * normalized) / scale      the sum over C: (..., T, 1)
            d_x          = (d_normalized - mean(d_normalized)) / scale + d_scale * normalized / C

        Announce d_out as "hook_output", then "hook_normalized", then "hook_scale". The gain's gradient is
        d_out * normalized, the bias's is d_out, each summed over all tokens of all prompts.
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class Attention:
    """Let every token gather what it looks for from itself and the tokens before it."""

    c_attn: Linear  # C -> 3C: queries, keys and values of all heads, side by side
    c_proj: Linear  # C -> C
    n_head: int  # H
    head_width: int  # D, columns of a query and of a key; values may have another width
    scale: float  # 1/sqrt(D), unless config.json changes it

    def backward(self, d_out, x, tape, trace=no_trace):
        """d_out (..., T, C), the input x (..., T, C) -> d_x (..., T, C), gradients by name

        The forward pass was (in products, the head axis comes before the last two):
            qkv     = c_attn(x)                 (..., T, 3C), cut at H D and 2 H D into
            q, k, v                             (..., T, H, D), on the tape as "hook_q", "hook_k", "hook_v"
            scores  = scale * q @ k.T, masked   (..., H, T, T), "hook_attn_scores"
            pattern = softmax(scores)           (..., H, T, T), on the tape as "hook_pattern"
            z       = pattern @ v               (..., T, H, D), "hook_z"
            merged  = z, its heads side by side (..., T, C), on the tape as "hook_merged"
            out     = c_proj(merged)            (..., T, C)

        In reverse, for each head:
            d_merged  by c_proj's backward, and d_z is its view as [T, H, D]
            d_pattern = d_z @ v.T,  d_v = pattern.T @ d_z
            d_scores  = pattern * (d_pattern - sum(d_pattern * pattern))     the sum over each row, its S keys
            d_k       = d_scores.T @ (scale * q),  d_q = d_scores @ (scale * k)
            d_qkv     d_q, d_k and d_v side by side, then d_x by c_attn's backward
        Raising one score lowers the share of all others in its row: hence the sum. Where masked, the pattern is 0,
        and so is d_scores. Values may differ in width from queries and keys: let reshape infer it, with -1.

        Announce, each in its activation's shape: "hook_merged", "hook_z", "hook_pattern", "hook_attn_scores",
        "hook_v", "hook_k", "hook_q", "hook_qkv". The gradients' names are "c_attn.weight", "c_attn.bias",
        "c_proj.weight" and "c_proj.bias".
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class Block:
    """Attention, then the MLP: each reads a normalized copy and adds to the residual stream."""

    ln_1: LayerNorm
    attn: Attention
    ln_2: LayerNorm
    mlp: MLP

    def backward(self, d_out, tape, trace=no_trace):
        """d_out (..., T, C) -> d_x (..., T, C), gradients by name

        The forward pass was
            mid = x + attn(ln_1(x))         x is "hook_resid_pre", mid "hook_resid_mid"
            out = mid + mlp(ln_2(mid))      out is "hook_resid_post"; what is added is "hook_attn_out", "hook_mlp_out"

        Each sum passes its gradient on twice: along the stream, and through the layer. Where the two paths split in the
        forward pass, their gradients meet here and are added.

        The layers' own backward needs the arrays that the layers read, "ln1.hook_output" and "ln2.hook_output" of
        the tape, and a tape and a trace that know their names: under(tape, "mlp.") and scoped(trace, "mlp."); the
        prefixes are "ln1.", "attn.", "ln2.", "mlp.". Announce "hook_resid_post", "hook_mlp_out", "hook_resid_mid",
        "hook_attn_out", "hook_resid_pre". The parameters keep the names that their layers give them, after the
        layer's field and a dot (`named` does that): "ln_1.weight", "attn.c_attn.weight", "mlp.c_proj.bias".
        """
        raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class GPT2:
    """The whole model."""

    config: Config
    embedding: Embedding
    h: tuple[Block, ...]
    ln_f: LayerNorm
    lm_head: LMHead

    def backward(self, d_out, tape, trace=no_trace):
        """d_out (..., T, C), the gradient of what `hidden` returned -> {parameter name: gradient}

        tape : a `Tape`, the dict of all that `hidden` announced: tape["blocks.0.hook_resid_pre"].

        `hidden` is all but the LM head: the embedding, the blocks h[0], h[1], ..., the final norm. Go through them
        in reverse order, each taking what the one after it returned. The final norm's prefix is "ln_final." and a
        block's is "blocks.0.", for tape and trace; the tape that a layer needs is a function, tape.__getitem__.
        The embedding needs tape["hook_tokens"] and tape["hook_positions"], and the trace as it is.

        Names: "wte.weight" and "wpe.weight" as they come; "h.0." before those of block 0; "ln_f." before those of
        the final norm. The LM head's gradient is not among them.
        """
        raise NotImplementedError


def loss_and_grads(model, ids, targets, *, trace=no_trace, grad_trace=no_trace, offset=None):
    """Return the mean cross-entropy in nats per token, and {parameter name: gradient}

    ids : (..., T); targets : the same shape, the token that follows each, or -100 to ignore.
    trace : for the forward pass; grad_trace : for the backward pass. offset : for `cross_entropy`.

    1. Run ``model.hidden(ids, trace=...)`` -> (..., T, C), with a trace that feeds `trace` and a tape:
       ``tape = Tape()``, and ``chain(trace, tape)`` calls both, the tape with what `trace` returned.
    2. Score it: the rows of all prompts as one (N, C), ``model.lm_head(x)`` -> (N, V), `cross_entropy`.
       The mean is over the targets that count, and so is its gradient: divide both by their number.
    3. Announce the gradient of the logits to grad_trace, as "hook_logits" and in their shape (..., T, V).
    4. Back through ``model.lm_head.backward(d_logits, x)``, then ``model.backward(d_hidden, tape, grad_trace)``.
    5. If ``model.tied``, the LM head's matrix is the token embedding: one array in two places, so "wte.weight" gets
       the sum of both gradients. If not, "lm_head.weight" gets its own.

    ``fast(model)``, which is given, returns the same model made faster. You may use it; you need not.
    """
    raise NotImplementedError
