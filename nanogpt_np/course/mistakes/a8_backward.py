"""Known mistakes in a backward pass: what assignment a8 can call by its name.

``{function: {words: edits of a right version's source, or a whole wrong version}}``; the words continue "This is what
comes out when ...". Each must fail a check, and the cases must tell it from the right answer and from all the others.
"""

import math

import numpy as np

from ...model.mlp import gelu_slope
from ...model.trace import no_trace
from ..assignments.a8_backward import ASSIGNMENT


def mlp_backward(self, d_out, x, tape, trace=no_trace):
    """`MLP.backward` with the backward of its linear layers written out, for the mistakes that are made in them."""
    C, F = self.c_fc.weight.shape
    d_post = trace("hook_post", d_out @ self.c_proj.weight.T)
    d_pre = trace("hook_pre", d_post * gelu_slope(tape("hook_pre")))
    x, d_rows, out_rows = x.reshape(-1, C), d_pre.reshape(-1, F), d_out.reshape(-1, C)
    return d_pre @ self.c_fc.weight.T, {
        "c_fc.weight": x.T @ d_rows,
        "c_fc.bias": d_rows.sum(axis=0),
        "c_proj.weight": tape("hook_post").reshape(-1, F).T @ out_rows,
        "c_proj.bias": out_rows.sum(axis=0),
    }


def attention_backward(self, d_out, x, tape, trace=no_trace):
    """`Attention.backward`, written out in the same way."""
    C, lead = x.shape[-1], x.shape[:-1]
    q, k, v, pattern = (tape(f"hook_{name}") for name in ("q", "k", "v", "pattern"))
    q, k, v = q.swapaxes(-2, -3), k.swapaxes(-2, -3), v.swapaxes(-2, -3)
    d_merged = trace("hook_merged", d_out @ self.c_proj.weight.T)
    d_z = trace("hook_z", d_merged.reshape(*lead, self.n_head, -1))
    d_heads = d_z.swapaxes(-2, -3)
    d_pattern = trace("hook_pattern", d_heads @ v.swapaxes(-1, -2))
    d_scores = pattern * (d_pattern - (d_pattern * pattern).sum(axis=-1, keepdims=True))
    d_scores = trace("hook_attn_scores", d_scores)

    d_v = trace("hook_v", (pattern.swapaxes(-1, -2) @ d_heads).swapaxes(-2, -3))
    d_k = trace("hook_k", (d_scores.swapaxes(-1, -2) @ (q * self.scale)).swapaxes(-2, -3))
    d_q = trace("hook_q", (d_scores @ (k * self.scale)).swapaxes(-2, -3))
    d_qkv = np.concatenate([d.reshape(*lead, -1) for d in (d_q, d_k, d_v)], axis=-1)
    d_qkv = trace("hook_qkv", d_qkv)

    merged = tape("hook_merged")
    columns, width = d_qkv.shape[-1], merged.shape[-1]
    rows, out_rows = d_qkv.reshape(-1, columns), d_out.reshape(-1, C)
    return d_qkv @ self.c_attn.weight.T, {
        "c_attn.weight": x.reshape(-1, C).T @ rows,
        "c_attn.bias": rows.sum(axis=0),
        "c_proj.weight": merged.reshape(-1, width).T @ out_rows,
        "c_proj.bias": out_rows.sum(axis=0),
    }


ASSIGNMENT.spell_out("MLP.backward", mlp_backward)
ASSIGNMENT.spell_out("Attention.backward", attention_backward)


def slope_of_erf(x):
    """The slope of the exact GELU, x times the normal distribution up to x."""
    below = np.array([0.5 * (1 + math.erf(number / math.sqrt(2))) for number in x.flat], x.dtype).reshape(x.shape)
    return below + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def slope_of_sigmoid(x):
    """The slope of x / (1 + exp(-1.702 x))."""
    share = 0.5 * (1 + np.tanh(0.851 * x))
    return share + 1.702 * x * share * (1 - share)


SHIFT = "p = p - p.max(axis=-1, keepdims=True)"
LOSS = "(np.log(total[rows, 0]) - wanted).sum(dtype=np.float64)"
WTE = 'np.add.at(d_wte, ids.reshape(-1), trace("hook_embed", d_out).reshape(-1, C))'
WPE = 'np.add.at(d_wpe, positions.reshape(-1), trace("hook_pos_embed", d_out).reshape(-1, C))'
SCORES = "pattern * (d_pattern - (d_pattern * pattern).sum(axis=-1, keepdims=True))"
MEAN = " - d_normalized.mean(axis=-1, keepdims=True)"
SCALE = " + normalized * d_scale / d_out.shape[-1]"
D_K, D_Q = "(q * self.scale)", "(k * self.scale)"
JOIN = "np.concatenate([d.reshape(*lead, -1) for d in (d_q, d_k, d_v)], axis=-1)"
D_V = "pattern.swapaxes(-1, -2) @ d_heads"
D_KEYS = "d_scores.swapaxes(-1, -2) @ (q * self.scale)"
TIED = 'grads["wte.weight"] += d_head'
AT_TARGET = "p[rows, targets[rows]] -= 1"
ROWS = "rows = np.flatnonzero(targets != IGNORED)"
GELU = "return 0.5 * (1 + t)"
HEAD = 'grads["lm_head.weight"] = d_head'
UNHEARD = ("trace=no_trace):", "trace=no_trace):\n    told, trace = trace, lambda name, d: (told(name, d), d)[1]")
PLAIN_NORMALIZED = ("d_normalized = trace(", "plain = d_out * self.weight\n    d_normalized = trace(")
PLAIN_Z = (
    "    d_heads = ",
    "    plain = np.swapaxes(d_merged.reshape(*x.shape[:-1], self.n_head, -1), -2, -3)\n    d_heads = ",
)
PLAIN_MID = ('d_x = trace("hook_resid_mid"', 'plain = d_x + d_mid\n    d_x = trace("hook_resid_mid"')
NAMES = 'named({"ln_1": ln_1_grads, "attn": attn_grads, "ln_2": ln_2_grads, "mlp": mlp_grads})'
STORE = 'blocks[f"h.{i}"] = grads'
UNTOLD = ("trace=no_trace):", "trace=no_trace):\n    trace = no_trace")

MISTAKES = {
    "cross_entropy": {
        "the loss is the mean, not the sum": ((LOSS, LOSS.replace("sum", "mean")),),
        "loss and gradient are those of the mean, not of the sum": (
            (LOSS, LOSS.replace("sum", "mean")),
            ("return loss, p", "return loss, p / max(1, len(rows))"),
        ),
        "the softmax is not shifted: exp of a large logit is infinite": ((SHIFT, "p = p.copy()"),),
        "the logarithm is taken of the probability, which may have been rounded to 0": (
            (LOSS, "-np.log(np.exp(wanted) / total[rows, 0]).sum(dtype=np.float64)"),
        ),
        "a small number is added to the probability so that its logarithm is finite: log(p + 1e-9)": (
            (LOSS, "-np.log(np.exp(wanted) / total[rows, 0] + 1e-9).sum(dtype=np.float64)"),
        ),
        "the loss is in bits, not in nats: log2": (("return loss, p", "return loss / np.log(2), p"),),
        "the loss has the wrong sign": (("return loss, p", "return -loss, p"),),
        "1 is not subtracted at the target: d_logits is the softmax": ((AT_TARGET, "pass"),),
        "d_logits has the wrong sign: 1 at the target, less p": (("return loss, p", "return loss, -p"),),
        "1 is subtracted in whole columns: x[:, targets] where x[rows, targets] is meant": (
            (AT_TARGET, "p[:, targets[rows]] -= 1"),
        ),
        "d_logits is that of the targets alone: 0 at all other tokens": (
            (
                AT_TARGET,
                "p, q = np.zeros_like(p), p\n    p[rows, targets[rows]] = q[rows, targets[rows]] - 1",
            ),
        ),
        "the softmax is over all logits, not over each row": (
            ("total = p.sum(axis=-1, keepdims=True)", "total = np.full((len(p), 1), p.sum())"),
        ),
        "rows whose target is -100 keep their gradient": (("p[targets == IGNORED] = 0", "pass"),),
        "a target of -100 counts, as if it were the first token": (
            (
                ROWS,
                "targets = np.where(targets == IGNORED, 0, targets)\n    rows = np.arange(len(p))",
            ),
        ),
        "a target of -100 counts: as an index, the 100th logit from the end": (
            (ROWS, "rows = np.arange(len(p))"),
            ("p[targets == IGNORED] = 0", "pass"),
        ),
        "the offset is forgotten": (("p = logits if offset is None else logits + offset", "p = logits"),),
    },
    "Linear.backward": {
        "the matrix is not transposed in d_x": (("d_out @ self.weight.T", "d_out @ self.weight"),),
        "the matrix's gradient is transposed: (n_out, n_in)": (("rows.T @ d_rows", "d_rows.T @ rows"),),
        "the matrix's gradient is a mean over the tokens, not a sum": (
            ("rows.T @ d_rows", "rows.T @ d_rows / len(rows)"),
        ),
        "the bias's gradient is a mean over the tokens, not a sum": (("sum(axis=0)", "mean(axis=0)"),),
        "the gradients of matrix and bias are means over the tokens, not sums": (
            ("rows.T @ d_rows", "rows.T @ d_rows / len(rows)"),
            ("sum(axis=0)", "mean(axis=0)"),
        ),
        "the bias's gradient is summed over the outputs, not over the tokens": (("sum(axis=0)", "sum(axis=-1)"),),
        "the bias's gradient is summed over the first axis only, so that of a batch keeps an axis": (
            ("d_rows.sum(axis=0)", "d_out.sum(axis=0)"),
        ),
        "the matrix's gradient is summed over the tokens of each prompt only, so that of a batch keeps an axis": (
            ("rows.T @ d_rows", "np.swapaxes(x, -1, -2) @ d_out"),
        ),
        "tokens are summed before the product, not by it": (
            ("rows.T @ d_rows", "np.outer(rows.sum(axis=0), d_rows.sum(axis=0))"),
        ),
        "the matrix's gradient is made with the matrix, not with x": (
            ("rows.T @ d_rows", "self.weight * d_rows.sum(axis=0)"),
        ),
        "the bias has no gradient": ((', "bias": d_rows.sum(axis=0)', ""),),
        "the bias is in d_x: a sum passes its gradient on as it is": (
            ("d_out @ self.weight.T", "(d_out + self.bias) @ self.weight.T"),
        ),
        "the gradients have the names of one layer: here they are weight and bias": (
            ('"weight": rows', '"c_fc.weight": rows'),
            ('"bias": d_rows', '"c_fc.bias": d_rows'),
        ),
        "d_out is added to d_x: the residual path is the block's": (
            ("return d_out @ self.weight.T", "return d_out + d_out @ self.weight.T"),
        ),
    },
    "LMHead.backward": {
        "weight is transposed in d_x": (("d_out @ self.weight", "d_out @ self.weight.T"),),
        "the weight's gradient is transposed: (C, V)": (("d_out.T @ x", "x.T @ d_out"),),
        "the weight's gradient is the mean over the tokens, not their sum": (("d_out.T @ x", "d_out.T @ x / len(x)"),),
        "tokens are summed before the product, not by it": (
            ("d_out.T @ x", "np.outer(d_out.sum(axis=0), x.sum(axis=0))"),
        ),
        "d_x is made with x in place of the weight": (("d_out @ self.weight", "(d_out @ d_out.T) @ x"),),
    },
    "Embedding.backward": {
        "a token that was read twice keeps its last gradient only: += on an index with repeats": (
            (WTE, 'd_wte[ids] += trace("hook_embed", d_out)'),
        ),
        "a position that a batch reads twice keeps its last gradient only: += on an index with repeats": (
            (WPE, 'd_wpe[positions] += trace("hook_pos_embed", d_out)'),
        ),
        "rows that were read twice keep their last gradient only, in both tables: += on an index with repeats": (
            (WTE, 'd_wte[ids] += trace("hook_embed", d_out)'),
            (WPE, 'd_wpe[positions] += trace("hook_pos_embed", d_out)'),
        ),
        "a row that was read twice gets the mean of its gradients": (
            (WTE, WTE + "\n    d_wte /= np.maximum(1, np.bincount(ids.reshape(-1), minlength=len(d_wte)))[:, None]"),
        ),
        "the table of positions is forgotten: its gradient stays 0": ((WPE, 'trace("hook_pos_embed", d_out)'),),
        'the table of positions is forgotten: there is no "wpe.weight"': ((', "wpe.weight": d_wpe', ""),),
        "positions are counted from 0, whatever `positions` says": (
            ("positions.reshape(-1)", "(positions - positions.min()).reshape(-1)"),
        ),
        "ids and positions are exchanged": (
            ("positions.reshape(-1)", "ids.reshape(-1) % len(d_wpe)"),
            ("d_wte, ids.reshape(-1)", "d_wte, positions.reshape(-1) % len(d_wte)"),
        ),
        "the whole table gets the gradient, not only the rows that were read": (
            (WTE, WTE + "\n    d_wte[:] = d_wte.sum(axis=0)"),
        ),
        "what trace returns is not used": (UNHEARD,),
        "nothing is announced: trace is not called": (UNTOLD,),
    },
    "gelu_slope": {
        "it is the slope of the exact GELU, with erf": slope_of_erf,
        "it is the slope of x sigmoid(1.702 x), a cheaper GELU": slope_of_sigmoid,
        "it is the slope of ReLU: 0 or 1": ((GELU, "return (x > 0).astype(x.dtype)\n    return 0.5 * (1 + t)"),),
        "it is gelu itself, not its slope": ((GELU, "return 0.5 * x * (1 + t)\n    return 0.5 * (1 + t)"),),
        "the second term of the product rule is missing": (("0.5 * (1 + t) + 0.5 * x", "0.5 * (1 + t) + 0 * x"),),
        "the first term of the product rule is missing": (("0.5 * (1 + t) + ", ""),),
        "x is missing in the second term": (("+ 0.5 * x * (1 - t * t)", "+ 0.5 * (1 - t * t)"),),
        "the 1/2 is missing in the second term": (("+ 0.5 * x", "+ x"),),
        "the derivative of tanh is taken to be 1 - tanh, not 1 - tanh^2": (("(1 - t * t)", "(1 - t)"),),
        "the derivative of u is forgotten": ((" * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * square)", ""),),
        "sqrt(2 / pi) is forgotten in the derivative of u": (("* math.sqrt(2 / math.pi) * (1", "* (1"),),
        "the derivative of 0.044715 x^3 is forgotten": (("(1 + 3 * 0.044715 * square)", "1"),),
        "the derivative of x^3 is taken to be x^2, not 3 x^2": (("3 * 0.044715", "0.044715"),),
    },
    "MLP.backward": {
        "the slope of the GELU is forgotten": ((' * gelu_slope(tape("hook_pre"))', " * 1"),),
        "the slope is taken at the GELU's output, not at its input": (
            ('gelu_slope(tape("hook_pre"))', 'gelu_slope(tape("hook_post"))'),
        ),
        "d_post is multiplied with gelu(pre), not with its slope": (
            ('gelu_slope(tape("hook_pre"))', 'tape("hook_post")'),
        ),
        "c_proj's gradient is made with hook_pre, not with what c_proj read": (
            ('tape("hook_post").reshape(-1, F)', 'tape("hook_pre").reshape(-1, F)'),
        ),
        "the biases' gradients are means over the tokens, not sums": (
            ("d_rows.sum(axis=0)", "d_rows.mean(axis=0)"),
            ("out_rows.sum(axis=0)", "out_rows.mean(axis=0)"),
        ),
        "the weights' gradients are means over the tokens, not sums": (
            ("x.T @ d_rows", "x.T @ d_rows / len(x)"),
            (".T @ out_rows", ".T @ out_rows / len(x)"),
        ),
        "all parameters' gradients are means over the tokens, not sums": (
            ("d_rows.sum(axis=0)", "d_rows.mean(axis=0)"),
            ("out_rows.sum(axis=0)", "out_rows.mean(axis=0)"),
            ("x.T @ d_rows", "x.T @ d_rows / len(x)"),
            (".T @ out_rows", ".T @ out_rows / len(x)"),
        ),
        "c_fc's gradients are made with d_post: the slope is in d_x only": (
            ("d_pre.reshape(-1, F)", "d_post.reshape(-1, F)"),
        ),
        "the weights' gradients are transposed": (
            ("x.T @ d_rows", "d_rows.T @ x"),
            ('tape("hook_post").reshape(-1, F).T @ out_rows', 'out_rows.T @ tape("hook_post").reshape(-1, F)'),
        ),
        "the parameters' gradients are summed over the first axis only, so those of a batch keep an axis": (
            ("d_pre.reshape(-1, F), d_out.reshape(-1, C)", "d_pre, d_out"),
            ("x.T @ d_rows", "np.swapaxes(x_in, -1, -2) @ d_rows"),
            ("x, d_rows", "x_in, x, d_rows"),
            ("= x.reshape(-1, C)", "= x, x.reshape(-1, C)"),
            ('tape("hook_post").reshape(-1, F).T', 'np.swapaxes(tape("hook_post"), -1, -2)'),
        ),
        "d_out is added to d_x: the residual path is the block's, not the MLP's": (
            ("d_pre @ self.c_fc.weight.T,", "d_pre @ self.c_fc.weight.T + d_out,"),
        ),
        "the gradients of c_fc and c_proj are exchanged": (
            ('"c_fc.weight": x.T', '"c_proj.weight": x.T'),
            ('"c_fc.bias": d_rows', '"c_proj.bias": d_rows'),
            ('"c_proj.weight": tape', '"c_fc.weight": tape'),
            ('"c_proj.bias": out_rows', '"c_fc.bias": out_rows'),
        ),
        "what trace returns is not used": (UNHEARD,),
        "nothing is announced: trace is not called": (UNTOLD,),
    },
    "LayerNorm.backward": {
        "the part through the mean is missing in d_x": ((MEAN, ""),),
        "the part through the scale is missing in d_x": ((SCALE, ""),),
        "the parts through the mean and the scale are missing: d_x is d_normalized / scale": ((MEAN, ""), (SCALE, "")),
        "the mean in d_x is over the tokens, not over the columns": (
            (MEAN, " - d_normalized.mean(axis=0, keepdims=True)"),
        ),
        "the gain is forgotten: d_normalized is d_out * weight": (("d_out * self.weight", "d_out * 1"),),
        "the gain's gradient is made without normalized": (("(d_out * normalized).sum(tokens)", "d_out.sum(tokens)"),),
        "the gain's gradient is made of d_normalized, so with the gain in it": (
            ("(d_out * normalized).sum(tokens)", "(d_normalized * normalized).sum(tokens)"),
        ),
        "gain and bias are summed over the columns, not over the tokens": (
            ("tokens = tuple(range(d_out.ndim - 1))", "tokens = -1"),
        ),
        "gain and bias are summed over one axis only, so those of a batch keep an axis": (
            ("tokens = tuple(range(d_out.ndim - 1))", "tokens = 0"),
        ),
        "gain and bias get the mean over the tokens, not the sum": (
            ("(d_out * normalized).sum(tokens)", "(d_out * normalized).mean(tokens)"),
            ("d_out.sum(tokens)}", "d_out.mean(tokens)}"),
        ),
        "the division by scale is forgotten in d_x": ((MEAN + ") / scale", MEAN + ")"),),
        "the division by scale is forgotten in d_scale": (("keepdims=True) / scale  #", "keepdims=True)  #"),),
        "d_scale has the wrong sign": (("d_scale = -(", "d_scale = ("),),
        "the part through the scale is not divided by C": (("d_scale / d_out.shape[-1]", "d_scale"),),
        "the part through the scale is divided by C - 1, not by C": (("/ d_out.shape[-1]", "/ (d_out.shape[-1] - 1)"),),
        "the sum in d_scale is over all numbers, not over each row": (
            ("(d_normalized * normalized).sum(axis=-1, keepdims=True)", "(d_normalized * normalized).sum()"),
        ),
        "what trace returns for hook_output is not used for the bias": (
            ('d_out = trace("hook_output", d_out)', 'plain, d_out = d_out, trace("hook_output", d_out)'),
            ("d_out.sum(tokens)}", "plain.sum(tokens)}"),
        ),
        "what trace returns for hook_normalized is used for the part through the scale only": (
            PLAIN_NORMALIZED,
            ("(d_normalized - d_normalized.mean(", "(plain - plain.mean("),
        ),
        "what trace returns for hook_normalized is not used for the part through the scale": (
            PLAIN_NORMALIZED,
            ("-(d_normalized * normalized)", "-(plain * normalized)"),
        ),
        "what trace returns is not used": (UNHEARD,),
        "nothing is announced: trace is not called": (UNTOLD,),
    },
    "Attention.backward": {
        "the sum over the row is missing in d_scores: raising one score lowers all other shares": (
            (SCORES, "pattern * d_pattern"),
        ),
        "the sum in d_scores is over the queries, not over the keys": ((SCORES, SCORES.replace("axis=-1", "axis=-2")),),
        "the sum in d_scores is of d_pattern alone, not of d_pattern * pattern": (
            (SCORES, SCORES.replace("(d_pattern * pattern)", "d_pattern")),
        ),
        "the pattern is not multiplied in: d_scores is d_pattern less the row's sum": (
            (SCORES, SCORES.removeprefix("pattern * ")),
        ),
        "the softmax is taken number by number: d_scores is pattern (1 - pattern) d_pattern": (
            (SCORES, "pattern * (1 - pattern) * d_pattern"),
        ),
        "the heads of d_z are C // H wide: values need not be": (
            ("self.n_head, -1))", "self.n_head, C // self.n_head))"),
        ),
        "d_q, d_k and d_v are stacked as if they were equally wide: values may have another width": (
            (JOIN, "np.stack([d_q, d_k, d_v], axis=-3).reshape(*lead, -1)"),
        ),
        "d_qkv is given 3 C columns: heads of another width have others": (
            (JOIN, "np.stack([d_q, d_k, d_v], axis=-3).reshape(*lead, 3 * C)"),
        ),
        "the scale is forgotten in d_q": ((D_Q, "k"),),
        "the scale is forgotten in d_k": ((D_K, "q"),),
        "the scale is forgotten in d_q and d_k": ((D_Q, "k"), (D_K, "q")),
        "the scale is also in d_v": ((D_V, f"self.scale * {D_V}"),),
        "the scale is 1 / sqrt(D), whatever self.scale says": (
            (D_Q, "(k / math.sqrt(k.shape[-1]))"),
            (D_K, "(q / math.sqrt(q.shape[-1]))"),
        ),
        "d_q and d_k are exchanged": ((JOIN, JOIN.replace("d_q, d_k, d_v", "d_k, d_q, d_v")),),
        "d_q, d_k, d_v are put together in another order: v, q, k": (
            (JOIN, JOIN.replace("d_q, d_k, d_v", "d_v, d_q, d_k")),
        ),
        "d_q, d_k, d_v are put together as [H, 3, D], not as [3, H, D]": (
            (JOIN, "np.concatenate([d_q, d_k, d_v], axis=-1).reshape(*lead, -1)"),
        ),
        "the pattern is not transposed in d_v": ((D_V, "pattern @ d_heads"),),
        "d_scores is not transposed in d_k": ((D_KEYS, D_KEYS.replace("d_scores.swapaxes(-1, -2)", "d_scores")),),
        "d_scores is transposed in d_q": (
            ("d_scores @ (k * self.scale)", "d_scores.swapaxes(-1, -2) @ (k * self.scale)"),
        ),
        "d_q is made with q, and d_k with k": (
            (D_KEYS, D_KEYS.replace("q", "k")),
            ("d_scores @ (k * self.scale)", "d_scores @ (q * self.scale)"),
        ),
        "the heads of d_z are cut by a reshape without the swap of axes": (
            ("d_z.swapaxes(-2, -3)", "d_z.reshape(d_z.swapaxes(-2, -3).shape)"),
        ),
        "c_proj.weight is not transposed on the way back": (("self.c_proj.weight.T", "self.c_proj.weight"),),
        "c_proj's gradient is transposed": (
            ("merged.reshape(-1, width).T @ out_rows", "out_rows.T @ merged.reshape(-1, width)"),
        ),
        "c_proj's gradient is made with x, not with the merged heads that c_proj read": (
            ("merged.reshape(-1, width).T", "x.reshape(-1, C).T"),
        ),
        "the biases' gradients are means over the tokens, not sums": (
            ('"c_attn.bias": rows.sum(axis=0)', '"c_attn.bias": rows.mean(axis=0)'),
            ("out_rows.sum(axis=0)", "out_rows.mean(axis=0)"),
        ),
        "what trace returns for hook_z is not used for d_v": (PLAIN_Z, (D_V, D_V.replace("d_heads", "plain"))),
        "what trace returns for hook_z is not used for d_pattern": (
            PLAIN_Z,
            ("d_heads @ v.swapaxes(-1, -2)", "plain @ v.swapaxes(-1, -2)"),
        ),
        "what trace returns for hook_attn_scores is not used for d_k": (
            ("d_scores = trace(", "plain, d_scores = d_scores, trace("),
            (D_KEYS, D_KEYS.replace("d_scores", "plain")),
        ),
        "what trace returns for hook_qkv is not used for the gradient of c_attn's bias": (
            ("d_qkv = trace(", "plain, d_qkv = d_qkv, trace("),
            ('"c_attn.bias": rows.sum(axis=0)', '"c_attn.bias": plain.reshape(-1, columns).sum(axis=0)'),
        ),
        "what trace returns is not used": (UNHEARD,),
        "nothing is announced: trace is not called": (UNTOLD,),
    },
    "Block.backward": {
        "the path along the stream is forgotten past the MLP": (("d_x + d_mid", "d_mid"),),
        "the path along the stream is forgotten past attention": (("d_x + d_pre", "d_pre"),),
        "the path along the stream is forgotten, past both layers": (
            ("d_x + d_mid", "d_mid"),
            ("d_x + d_pre", "d_pre"),
        ),
        "the path through the MLP is forgotten": (("d_x + d_mid", "d_x * 1"),),
        "the path through attention is forgotten": (("d_x + d_pre", "d_x * 1"),),
        "attention gets the gradient of the block's output, not that of the middle": (
            ('trace("hook_attn_out", d_x)', 'trace("hook_attn_out", d_out)'),
        ),
        "the norm before the MLP is left out": (("d_x + d_mid", "d_x + d_mlp_in"),),
        "the norm before attention is left out": (("d_x + d_pre", "d_x + d_attn_in"),),
        "the MLP gets the stream, not the normalized copy that it read": (
            ('tape("ln2.hook_output")', 'tape("hook_resid_mid")'),
        ),
        "attention gets the stream, not the normalized copy that it read": (
            ('tape("ln1.hook_output")', 'tape("hook_resid_pre")'),
        ),
        "each of the two layers gets the other's normalized copy": (
            ('tape("ln2.hook_output")', 'tape("ln1.hook_output")'),
            ('tape("ln1.hook_output"), *attn', 'tape("ln2.hook_output"), *attn'),
        ),
        "the gradients lack the names of their layers": ((NAMES, "ln_1_grads | attn_grads | ln_2_grads | mlp_grads"),),
        "the gradients have the names of the trace, ln1 and ln2": (
            ('{"ln_1": ln_1_grads', '{"ln1": ln_1_grads'),
            ('"ln_2": ln_2_grads', '"ln2": ln_2_grads'),
        ),
        "what trace returns for hook_resid_post goes into the MLP, but not along the stream": (
            ("d_x + d_mid", "d_out + d_mid"),
        ),
        "what trace returns for hook_resid_mid goes along the stream, but not into attention": (
            PLAIN_MID,
            ('trace("hook_attn_out", d_x)', 'trace("hook_attn_out", plain)'),
        ),
        "what trace returns for hook_resid_mid goes into attention, but not along the stream": (
            PLAIN_MID,
            ("d_x + d_pre", "plain + d_pre"),
        ),
        "what trace returns is not used": (UNHEARD,),
        "nothing is announced: trace is not called": (UNTOLD,),
    },
    "GPT2.backward": {
        "the blocks run from the first to the last": (
            ("reversed(list(enumerate(self.h)))", "list(enumerate(self.h))"),
        ),
        "each block gets the gradient that came out of the final norm, not that of the block after it": (
            ("d_x, grads = block.backward(d_x,", "below, grads = block.backward(d_x,"),
            (STORE, f"last = below\n        {STORE}"),
            ("self.embedding.backward(d_x", "self.embedding.backward(last"),
        ),
        "the final norm is left out": (
            ("d_x, final = self.ln_f", "d_x, final = d_out, self.ln_f"),
            ('"ln_final."), scoped(trace, "ln_final."))', '"ln_final."), scoped(trace, "ln_final."))[1]'),
        ),
        "the final norm's gain and bias are forgotten": ((' | named({"ln_f": final})', ""),),
        "the embeddings get the gradient of the last block's output": (
            ("self.embedding.backward(d_x", "self.embedding.backward(top"),
            ("    blocks = {}", "    top, blocks = d_x, {}"),
        ),
        "the blocks' names count from the last": (('f"h.{i}"', 'f"h.{len(self.h) - 1 - i}"'),),
        "the blocks' gradients lack their number, so that one block's overwrite another's": (
            ('blocks[f"h.{i}"]', 'blocks["h"]'),
        ),
        "trace is not passed to the embeddings": (('tape["hook_positions"], trace)', 'tape["hook_positions"])'),),
        "trace is called for everything, but what it returns is discarded": (UNHEARD,),
        "nothing is announced: trace is not passed on": (UNTOLD,),
        "the embeddings are forgotten": (("return ends | named(blocks)", "return named(blocks)"),),
    },
    "loss_and_grads": {
        "the tied matrix gets no gradient as LM head": ((TIED, "pass"),),
        "the tied matrix gets its gradient as LM head only": ((TIED, 'grads["wte.weight"] = d_head'),),
        "the tied matrix gets the mean of its two gradients": (
            (TIED, 'grads["wte.weight"] = (grads["wte.weight"] + d_head) / 2'),
        ),
        "the LM head's gradient has a name of its own even where it is tied": (
            (TIED, 'grads["lm_head.weight"] = d_head'),
        ),
        "the token embedding gets the LM head's gradient even where it is not tied": (
            (
                HEAD,
                'grads["lm_head.weight"] = d_head\n        grads["wte.weight"] += d_head',
            ),
        ),
        "the LM head's gradient is forgotten where it is not tied": ((HEAD, "pass"),),
        "the mean is over all targets, not over those that count": (("int((wanted != IGNORED).sum())", "len(wanted)"),),
        "the gradient is that of the sum, though the loss is the mean": (
            ("np.divide(d_few, count", "np.divide(d_few, 1"),
        ),
        "loss and gradient are sums, not means": (("count = int((wanted != IGNORED).sum())", "count = 1"),),
        "the sum is divided by the number of prompts, not of targets that count": (
            ("count = int((wanted != IGNORED).sum())", "count = int(np.prod(targets.shape[:-1]))"),
        ),
        "the targets are shifted once more: they are the tokens that follow already": (
            (
                "check_targets(model, ids, targets)",
                "np.concatenate([targets[..., 1:], np.full_like(targets[..., :1], IGNORED)], axis=-1)",
            ),
            ("count = int((wanted != IGNORED).sum())", "count = max(1, int((wanted != IGNORED).sum()))"),
        ),
        "the ids are used as targets: what came in, not what follows": (
            ("targets.reshape(-1)", "np.where(targets == IGNORED, IGNORED, ids).reshape(-1)"),
        ),
        "the offset is forgotten": (("wanted[rows][few], offset)", "wanted[rows][few])"),),
        "the offset is subtracted from the logits, not added": (
            ("wanted[rows][few], offset)", "wanted[rows][few], None if offset is None else -offset)"),
        ),
        "the tape keeps what was announced, not what `trace` returned: chain(tape, trace)": (
            ("chain(trace, tape)", "chain(tape, trace)"),
        ),
        "trace is called for everything, but what it returns is discarded": (
            ("chain(trace, tape)", "chain(lambda name, x: (trace(name, x), x)[1], tape)"),
        ),
        "what grad_trace returns for hook_logits is not used for the LM head's own gradient": (
            ("        if grad_trace is not", "        plain = d_logits\n        if grad_trace is not"),
            ('d_head += grads["weight"]', 'd_head += model.lm_head.backward(plain, x[rows])[1]["weight"]'),
        ),
        "what grad_trace returns is used for the logits, and discarded after that": (
            ("tape, grad_trace)", "tape, lambda name, d: (grad_trace(name, d), d)[1])"),
        ),
        "the trace of the forward pass is forgotten": (("chain(trace, tape)", "tape"),),
        "the gradient of the logits is not announced": (("if grad_trace is not no_trace:", "if False:"),),
    },
}

for function, mistakes in MISTAKES.items():
    for words, wrong in mistakes.items():
        if callable(wrong):
            ASSIGNMENT.wrong_version(function, words)(wrong)
        else:
            ASSIGNMENT.mistake(function, words, *wrong)
