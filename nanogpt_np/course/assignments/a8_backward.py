"""Assignment a8, the backward pass: the loss, the gradient of each layer, and of the whole model.

Each function is judged alone, against the package's gradients and against measured slopes (`../gradients.py`), then
in the gradient of a whole small model; at the end all eleven are installed together. How an assignment is written:
`a2_layernorm.py`.
"""

import math
from dataclasses import replace

import numpy as np

from ...model.attention import Attention
from ...model.embedding import Embedding
from ...model.gpt2 import arrays
from ...model.layernorm import LayerNorm
from ...model.linear import Linear
from ...model.lm_head import LMHead
from ...model.mlp import MLP, gelu, gelu_slope
from ...model.trace import Tape, no_trace
from ...train.loss import IGNORED, cross_entropy, loss_and_grads, mean_loss
from ...weights import assemble
from ..definitions import Assignment, Check
from ..gradients import backward, both, less, less_measured, obeyed, pair, slopes, taped, told, wide
from ..layers import built, changed
from ..numbers import LARGE, ids, plain, small_model

ASSIGNMENT = Assignment(
    "a8_backward",
    "the backward pass: how fast the loss rises with each of the model's numbers",
    {
        "train.loss:cross_entropy": (
            "A row of logits is [0, 0] and the first token came. What is its probability, and how many nats of "
            "surprise is that? Which way must each of the two logits move to make the surprise smaller?",
            "Subtract each row's maximum, and keep these numbers: the loss needs them at the targets, the "
            "softmax needs their exp. The rows that count have targets != -100; pick the target of each of those "
            "with two lists of indices at once, x[rows, targets[rows]], since x[:, targets] is whole columns.",
            "With x the shifted logits and total = exp(x).sum(axis=-1), the loss is the sum over the rows that "
            "count of log(total) - x at the target. d_logits is exp(x) / total; subtract 1 at [rows, "
            "targets[rows]], and set the other rows to 0.",
        ),
        "model.linear:Linear.backward": (
            "x has shape (N, n_in), d_out (N, n_out), weight (n_in, n_out). Which products of two of them have the "
            "shape of x and of weight? And if every token adds the same bias, how fast does the loss rise with it?",
            "The first rule of the file. It wants rows: lay the tokens of all prompts below one another first, with "
            "reshape(-1, n) of x and of d_out, so that one product sums over all of them. d_x keeps d_out's axes.",
            "d_x is d_out times the transposed weight. weight's gradient is the rows of x, transposed, times those of "
            'd_out; the bias\'s is the sum of the rows of d_out over axis 0. Their names are "weight" and "bias".',
        ),
        "model.lm_head:LMHead.backward": (
            "x has shape (N, C), d_out (N, V), weight (V, C). Which product of two of them has the shape of x, "
            "and which has the shape of weight?",
            "d_x mixes the rows of weight, each as much as its logit's gradient says: no transpose is needed. "
            "For the weight, sum over the N tokens.",
            "d_x is d_out @ weight. The weight's is d_out, transposed, times x. Return d_x and a dict with "
            'the key "weight".',
        ),
        "model.embedding:Embedding.backward": (
            'In "the cat and the dog" one row of the token table is read twice. How fast does the loss rise '
            "with that row: as fast as the first place says, the second, or both?",
            "Begin with zeros of the tables' shapes. Adding to table[ids] with += writes a row that is in ids "
            "twice only once: look for the NumPy function that adds at indices, without buffering. A batch "
            "reads each position once for each prompt.",
            "np.add.at(table, rows, vectors), with the rows as one flat list and the vectors as (number of "
            'rows, C): once for positions with what trace returns for "hook_pos_embed", once for ids with '
            '"hook_embed".',
        ),
        "model.mlp:gelu_slope": (
            "gelu is a product: x / 2 times (1 + tanh u). What is the derivative of a product, and what that of "
            "tanh u when u itself depends on x?",
            "Two terms: (1 + t) / 2, and x / 2 times the derivative of t, which is (1 - t * t) times u'. The "
            "constant sqrt(2 / pi) is in u and in u'.",
            "u' is sqrt(2 / pi) * (1 + 3 * 0.044715 * x * x), since the derivative of x^3 is 3 x^2. Use "
            "math.sqrt, not np.sqrt, or float32 becomes float64.",
        ),
        "model.mlp:MLP.backward": (
            "Write the forward pass as three lines. The last is a linear layer: what does its backward need, and what "
            "do you multiply its d_x with to come back through the bend of the GELU?",
            'The slope is that at "hook_pre", which the GELU read; what it returned, "hook_post", is what '
            "c_proj read. The backward of each linear layer gives you two things: d_x to continue with, and a dict "
            "of its own gradients to keep.",
            "self.c_proj.backward of d_out and the tape's hook_post gives d_post; announce it; times gelu_slope of the "
            "tape's hook_pre that is d_pre; announce it; self.c_fc.backward of that and x gives d_x. `named` "
            "joins the two dicts under the layers' names.",
        ),
        "model.layernorm:LayerNorm.backward": (
            "Add 1 to every number of a row: what does the layer norm return? Multiply all by 2: what now? "
            "What must d_x be in these two directions?",
            "The tape has normalized and scale, so you need not compute them again. Sums and means over the C "
            "columns keep their axis (keepdims=True); the sums for gain and bias are over all axes but the "
            "last, of which a batch has two.",
            "d_x has three terms: d_normalized / scale, less its mean over the row / scale, plus normalized * "
            "d_scale / C, where d_scale is what trace returned. The sums for the parameters are over the axes 0 to "
            "d_out.ndim - 2, as a tuple; or over axis 0 of all rows as one (N, C).",
        ),
        "model.attention:Attention.backward": (
            "pattern @ v is a product of two arrays that both depend on x: which two gradients come out of d_z "
            "there? And if one score rises, what happens to the other shares of its row?",
            "Bring q, k, v and d_z from (..., T, H, D) to (..., H, T, D) with np.swapaxes(a, -2, -3), use the "
            "rules for products on the last two axes, and bring d_q, d_k, d_v back. The scale belongs to d_q "
            "and to d_k.",
            "d_scores is pattern * (d_pattern - s), where s is the sum of d_pattern * pattern over the last "
            "axis with keepdims=True. d_k and d_v use d_scores and pattern transposed, d_q does not. Reshape each of "
            "d_q, d_k, d_v to (..., T, -1), and np.concatenate them along the last axis.",
        ),
        "model.gpt2:Block.backward": (
            "mid goes into ln_2, and past it. By how many paths does a change in mid reach the output, and "
            "what does that mean for its gradient?",
            "MLP first, then its norm, then add what came along the stream: that is the gradient of mid. The "
            "same once more for attention, beginning with that sum. Each layer gets its own part of tape and "
            "trace.",
            'The layers\' calls: self.mlp.backward(d, tape("ln2.hook_output"), under(tape, "mlp."), '
            'scoped(trace, "mlp.")) with d what trace returned for "hook_mlp_out"; self.ln_2.backward(what '
            "that gave, ...); d_mid is the sum of both ways. Join the dicts with their prefixes.",
        ),
        "model.gpt2:GPT2.backward": (
            "The blocks ran from 0 up, each on the output of the one before. Whose gradient do you know first, "
            "and what does it pass to the next?",
            "Keep one d_x: the final norm makes it from d_out, each block from the last one's, the embedding takes "
            "it at the end. Blocks in reverse: reversed(list(enumerate(self.h))).",
            "With read for tape.__getitem__, a layer needs under(read, prefix) and scoped(trace, prefix), with "
            '"ln_final." or f"blocks.{i}."; its gradients get the prefix "ln_f." or f"h.{i}.", which `named` '
            "can add. The embedding gets d_x, the two arrays of ids and positions, and trace.",
        ),
        "train.loss:loss_and_grads": (
            "In GPT-2 the same matrix is used at both ends. If you change one number of it, in how many places "
            "does the model change?",
            "Five steps, each a line or two: hidden, logits and cross_entropy, the division, the LM head's "
            "backward, the model's backward. What passes between them has rows (N, C) at the LM head and (..., T, "
            "C) before it.",
            "count is the number of targets that are not -100; loss / count and d_logits / count. After "
            'model.backward, add the LM head\'s gradient to "wte.weight" if model.tied, or else put it under '
            '"lm_head.weight".',
        ),
    },
    may_import=("nanogpt_np.fast.fast",),
)


def prompts(rng):
    """Random models with ids and targets: a prompt; a batch, some of it not counted; more of all, its head untied."""
    yield {"model": small_model(rng, n_layer=1), "ids": np.array([1, 4, 1]), "targets": np.array([4, 1, 7])}
    yield {"model": small_model(rng), "ids": ids(rng, 2, 5), "targets": some_targets(rng, 2, 5)}
    untied = small_model(rng, **LARGE, tie_word_embeddings=False, scale_attn_by_inverse_layer_idx=True)
    yield {"model": untied, "ids": ids(rng, 5, 20), "targets": some_targets(rng, 5, 20)}


def some_targets(rng, *shape):
    """Return random targets, of which the last of each prompt does not count."""
    found = ids(rng, *shape)
    found[..., -1] = IGNORED
    return found


def in_the_model(function):
    """Add the check of a function in the gradient of the whole model."""

    def run(model, ids, targets, trace):
        return gradient(model, ids, targets, trace)

    run.__name__ = f"{function.removesuffix('.backward').lower()}_in_the_model"
    claim = "in the whole model, with ours for everything else, it leads to the same gradient of every parameter"
    ASSIGNMENT.check(function, claim, prompts)(run)


def gradient(model, ids, targets, trace):
    return loss_and_its_gradients(model, ids, targets, grad_trace=told(trace))


def loss_and_its_gradients(model, ids, targets, **options):
    """Return both as one dict."""
    loss, grads = pair(loss_and_grads(model, ids, targets, **options))
    return {"the loss": as_dtype(loss, model.lm_head.weight), **(grads if isinstance(grads, dict) else {})}


def as_dtype(loss, like):
    """Return a loss as a number of an array's dtype, to be compared as closely as that dtype allows."""
    return like.dtype.type(loss) if isinstance(loss, (float, np.floating)) else loss


# --- cross_entropy -------------------------------------------------------------------------------------


def scores(rng):
    """Rows of logits and targets: two logits, three, two rows, many."""
    yield {"logits": np.zeros((1, 2)), "targets": np.array([0])}
    yield {"logits": np.array([[1.0, 2.0, 4.0]]), "targets": np.array([1])}
    yield {"logits": np.array([[1.0, 2.0], [0.0, 4.0]]), "targets": np.array([1, 0])}
    yield {"logits": 2 * plain(rng, 5, 7), "targets": rng.integers(0, 7, 5)}


@ASSIGNMENT.check("cross_entropy", "the loss is the sum over the rows of log(sum(exp(x))) - x[target]", scores)
def entropy_loss(logits, targets):
    return as_dtype(pair(cross_entropy(logits, targets))[0], logits)


@ASSIGNMENT.check("cross_entropy", "d_logits is softmax(logits) with 1 subtracted at each row's target", scores)
def entropy_gradient(logits, targets):
    return pair(cross_entropy(logits, targets))[1]


@ASSIGNMENT.check("cross_entropy", "each row of d_logits sums to 0: raising all logits alike changes nothing", scores)
def entropy_rows(logits, targets):
    return {"sums of the rows of d_logits": pair(cross_entropy(logits, targets))[1].sum(axis=-1)}


@ASSIGNMENT.check("cross_entropy", "d_logits is the slope of the loss, as differences measure it", scores)
def entropy_measured(logits, targets):
    x, rows = wide(logits), np.arange(len(targets))

    def surprise(moved):
        return float(-np.log(np.exp(moved)[rows, targets] / np.exp(moved).sum(axis=-1)).sum())

    slope = slopes(surprise, x)
    return {"d_logits, less what is measured": less(pair(cross_entropy(x, targets))[1], slope)}


def large(rng):
    """Logits that overflow if they are raised to a power as they are, and targets that have no chance."""
    yield {"logits": np.array([[1000.0, 1000.0]]), "targets": np.array([0])}
    yield {"logits": np.array([[0.0, 1000.0]]), "targets": np.array([0])}
    yield {"logits": np.array([[-1000.0, -1000.0, -1002.0]]), "targets": np.array([1])}


@ASSIGNMENT.check("cross_entropy", "with logits of 1000 nothing overflows or is lost: both are right", large)
def entropy_large(logits, targets):
    loss, d_logits = pair(cross_entropy(logits, targets))
    return {"the loss": as_dtype(loss, np.empty(0, np.float32)), "d_logits": d_logits}  # 1000 has few decimals left


def not_counted(rng):
    """Rows beside one another that do and do not count; of the last vocabulary, -100 would be an index."""
    yield {"logits": np.array([[1.0, 3.0]]), "targets": np.array([-100])}
    yield {"logits": np.array([[1.0, 3.0], [2.0, 0.0]]), "targets": np.array([0, -100])}
    yield {"logits": plain(rng, 3, 120), "targets": np.array([7, -100, 119])}


@ASSIGNMENT.check("cross_entropy", "a row of target -100 adds nothing to the loss, and its d_logits is 0", not_counted)
def entropy_not_counted(logits, targets):
    loss, d_logits = pair(cross_entropy(logits, targets))
    without, _ = pair(cross_entropy(logits[targets != IGNORED], targets[targets != IGNORED]))
    return {
        "what the rows of -100 add to the loss": as_dtype(loss - without, logits),
        "their rows of d_logits": d_logits[targets == IGNORED],
    }


def offsets(rng):
    for offset in (math.log(3), -10.0):
        yield {"logits": np.zeros((1, 2)), "targets": np.array([0]), "offset": np.array([0.0, offset])}
    yield {"logits": plain(rng, 3, 5), "targets": np.array([4, -100, 2]), "offset": plain(rng, 5)}


@ASSIGNMENT.check("cross_entropy", "an offset does what it would do if it were in the logits already", offsets)
def entropy_offset(logits, targets, offset):
    loss, d_logits = pair(cross_entropy(logits, targets, offset))
    same_loss, same = pair(cross_entropy(logits + offset, targets))
    return {"losses apart by": as_dtype(loss - same_loss, logits), "d_logits apart by": d_logits - same}


in_the_model("cross_entropy")


# --- Linear --------------------------------------------------------------------------------------------


def products(rng):
    """One token; two outputs for three inputs; two prompts; many tokens."""
    few = {"weight": np.array([[1.0, 0.0], [3.0, 1.0]]), "bias": np.array([0.5, 0.0])}
    yield {"x": np.array([[1.0, 2.0]]), "d_out": np.array([[1.0, -1.0]]), **few}
    yield {"x": np.array([[1.0, 2.0], [0.0, 1.0]]), "d_out": np.array([[1.0, -1.0], [1.0, 0.0]]), **few}
    for *lead, n_in, n_out in ((2, 3, 2), (2, 3, 2, 4)):
        x, d_out = plain(rng, *lead, n_in), plain(rng, *lead, n_out)
        yield {"x": x, "d_out": d_out, "weight": plain(rng, n_in, n_out), "bias": plain(rng, n_out)}


def many_products(rng):
    """Those, and more of everything."""
    yield from products(rng)
    layer = {"weight": plain(rng, 7, 9), "bias": plain(rng, 9)}
    yield {"x": plain(rng, 5, 20, 7), "d_out": plain(rng, 5, 20, 9), **layer}


@ASSIGNMENT.check("Linear.backward", "d_x is d_out back through the matrix, of the shape of x", many_products)
def linear_d_x(x, d_out, **layer):
    return backward(Linear(**layer), x, d_out)[0]


@ASSIGNMENT.check("Linear.backward", "weight and bias get the sum over the tokens of all prompts", many_products)
def linear_parameters(x, d_out, **layer):
    return backward(Linear(**layer), x, d_out)[1]


@ASSIGNMENT.check("Linear.backward", "all are the slopes that differences measure", products)
def linear_measured(x, d_out, **layer):
    return less_measured(Linear(**layer), x, d_out)


@ASSIGNMENT.check(
    "Linear.backward", "d_x is the same for any x and any bias: a linear layer has one slope everywhere", products
)
def linear_anywhere(x, d_out, weight, bias):
    here, there = (backward(Linear(weight, bias + more), x + more, d_out)[0] for more in (0, 1))
    return {"what another x and bias change in d_x": there - here}


def batch_of_products(rng):
    yield list(products(rng))[-1]


@ASSIGNMENT.check(
    "Linear.backward", "two prompts' gradients are those of the one and the other, added", batch_of_products
)
def linear_prompts(x, d_out, **layer):
    whole = backward(Linear(**layer), x, d_out)[1]
    parts = [backward(Linear(**layer), x[i : i + 1], d_out[i : i + 1])[1] for i in range(2)]
    apart = {name: np.abs(whole[name] - parts[0][name] - parts[1][name]).max() for name in whole}
    return {f"{name}, off by up to": off for name, off in apart.items()}


in_the_model("Linear.backward")


# --- LMHead --------------------------------------------------------------------------------------------


def hidden_states(rng):
    yield {"x": np.array([[1.0, 2.0]]), "weight": np.array([[1.0, 0.0], [3.0, 1.0]]), "d_out": np.array([[1.0, -1.0]])}
    yield {"x": plain(rng, 2, 3), "weight": plain(rng, 4, 3), "d_out": plain(rng, 2, 4)}


@ASSIGNMENT.check("LMHead.backward", "d_x is the rows of weight, each times its logit's gradient", hidden_states)
def head_d_x(x, weight, d_out):
    return backward(LMHead(weight), x, d_out)[0]


@ASSIGNMENT.check("LMHead.backward", "the weight's gradient is summed over the rows of x", hidden_states)
def head_weight(x, weight, d_out):
    return backward(LMHead(weight), x, d_out)[1]


@ASSIGNMENT.check("LMHead.backward", "both are the slopes that differences measure", hidden_states)
def head_measured(x, weight, d_out):
    return less_measured(LMHead(weight), x, d_out)


in_the_model("LMHead.backward")


# --- Embedding -----------------------------------------------------------------------------------------


def lookups(rng):
    """One token; a token twice; two prompts, which read the same positions; positions that begin later."""
    tables = {"wte_weight": np.array([[1.0, 2.0], [3.0, 4.0]]), "wpe_weight": np.array([[0.5, 0.0], [0.0, 0.5]])}
    yield {**tables, "ids": np.array([1]), "start": 0, "d_out": np.array([[0.5, -1.0]])}
    yield {**tables, "ids": np.array([1, 1]), "start": 0, "d_out": np.array([[1.0, 2.0], [10.0, 20.0]])}
    yield {**tables, "ids": np.array([[0], [1]]), "start": 0, "d_out": np.array([[[1.0, 2.0]], [[10.0, 20.0]]])}
    tables = {"wte_weight": plain(rng, 6, 3), "wpe_weight": plain(rng, 7, 3)}
    yield {**tables, "ids": np.array([[5, 0, 3, 0], [2, 5, 5, 3]]), "start": 2, "d_out": plain(rng, 2, 4, 3)}


def embedded(ids, start, d_out, trace=no_trace, **tables):
    """Run an embedding forward from position `start` and back."""
    embedding = Embedding(**tables)
    tape = taped(lambda record: embedding(ids, start, record))
    return embedding.backward(d_out, ids, tape["hook_positions"], trace)


def table_of(grads, name):
    return grads[name] if isinstance(grads, dict) and name in grads else grads


@ASSIGNMENT.check("Embedding.backward", "a token's row of wte gets the sum of d_out at all its places", lookups)
def embedding_tokens(ids, start, d_out, trace, **tables):
    return table_of(embedded(ids, start, d_out, told(trace), **tables), "wte.weight")


@ASSIGNMENT.check("Embedding.backward", "a position's row of wpe gets the sum of d_out there, of all prompts", lookups)
def embedding_positions(ids, start, d_out, trace, **tables):
    return table_of(embedded(ids, start, d_out, told(trace), **tables), "wpe.weight")


@ASSIGNMENT.check("Embedding.backward", "nothing is lost: each table's rows sum to what d_out's do", lookups)
def embedding_sums(ids, start, d_out, **tables):
    total, grads = d_out.reshape(-1, d_out.shape[-1]).sum(axis=0), embedded(ids, start, d_out, **tables)
    return {f"sum of the rows of {name}, less that of d_out's": d.sum(axis=0) - total for name, d in grads.items()}


@ASSIGNMENT.check("Embedding.backward", "both are the slopes that differences measure", lookups)
def embedding_measured(ids, start, d_out, **tables):
    tables, d_out = {name: wide(table) for name, table in tables.items()}, wide(d_out)
    grads, found = embedded(ids, start, d_out, **tables), {}
    for field, table in tables.items():
        name = field.replace("_", ".")

        def total(moved, field=field):
            return float((d_out * Embedding(**{**tables, field: moved})(ids, start)).sum())

        found[name] = less(table_of(grads, name), slopes(total, table))
    return found


@ASSIGNMENT.check("Embedding.backward", "announces the gradients of hook_pos_embed and hook_embed", lookups)
def embedding_announced(ids, start, d_out, **tables):
    seen = Tape()
    embedded(ids, start, d_out, seen, **tables)
    return dict(seen)


def embedding_points(rng):
    for case in [next(lookups(rng))]:
        yield {**case, "name": "hook_embed"}
        yield {**case, "name": "hook_pos_embed"}


@ASSIGNMENT.check("Embedding.backward", "continues with what trace returns", embedding_points)
def embedding_obeys(ids, start, d_out, name, **tables):
    return obeyed(lambda trace: embedded(ids, start, d_out, trace, **tables), name)


in_the_model("Embedding.backward")


# --- gelu_slope ----------------------------------------------------------------------------------------


def numbers(rng):
    yield {"x": np.zeros(1)}
    yield {"x": np.ones(1)}
    yield {"x": np.array([-2.0, -0.5, 0.5, 2.0])}
    yield {"x": 1.5 * plain(rng, 2, 3, 4)}


@ASSIGNMENT.check("gelu_slope", "gives (1 + t) / 2 + x (1 - t^2) u' / 2 for each number", numbers)
def slope_formula(x):
    return gelu_slope(x)


@ASSIGNMENT.check("gelu_slope", "is the slope of gelu that differences measure", numbers)
def slope_measured(x):
    x = wide(x)
    slope = slopes(lambda moved: float(gelu(moved).sum()), x)  # each number of x moves one of the sum's terms
    return {"the slope, less what is measured": less(gelu_slope(x), slope)}


def pairs_of_numbers(rng):
    for number in (0.5, 1.0, 3.0):
        yield {"x": np.array([number])}


@ASSIGNMENT.check("gelu_slope", "the slopes at x and at -x sum to 1, as gelu(x) - gelu(-x) is x", pairs_of_numbers)
def slope_pairs(x):
    return {"slope at x plus slope at -x": gelu_slope(x) + gelu_slope(-x)}


def far_numbers(rng):
    yield {"x": np.array([-10.0, 10.0])}
    yield {"x": np.array([-1000.0, 1000.0])}


@ASSIGNMENT.check("gelu_slope", "is 0 far to the left and 1 far to the right", far_numbers)
def slope_far(x):
    return gelu_slope(x)


in_the_model("gelu_slope")


# --- MLP -----------------------------------------------------------------------------------------------


def widened(rng):
    """One token and two neurons; two tokens; a prompt and a batch with more of everything."""
    few = {
        "c_fc.weight": np.array([[1.0, 0.0], [0.0, -1.0]]),
        "c_fc.bias": np.zeros(2),
        "c_proj.weight": np.array([[2.0, 0.0], [1.0, 3.0]]),
        "c_proj.bias": np.zeros(2),
    }
    yield {"x": np.array([[1.0, 2.0]]), "d_out": np.array([[1.0, -1.0]]), **few}
    yield {"x": np.array([[1.0, 2.0], [0.0, 1.0]]), "d_out": np.array([[1.0, -1.0], [1.0, 0.0]]), **few}
    for shape in ((2, 3), (2, 3, 2)):
        C, F = shape[-1], 4
        yield {
            "x": plain(rng, *shape),
            "d_out": plain(rng, *shape),
            "c_fc.weight": plain(rng, C, F),
            "c_fc.bias": plain(rng, F),
            "c_proj.weight": plain(rng, F, C),
            "c_proj.bias": plain(rng, C),
        }


@ASSIGNMENT.check("MLP.backward", "d_x is d_out back through c_proj, the slope of the GELU, and c_fc", widened)
def mlp_d_x(x, d_out, trace, **layer):
    return backward(built(MLP, layer), x, d_out, told(trace))[0]


@ASSIGNMENT.check("MLP.backward", "each parameter's gradient is summed over the tokens of all prompts", widened)
def mlp_parameters(x, d_out, trace, **layer):
    return backward(built(MLP, layer), x, d_out, told(trace))[1]


@ASSIGNMENT.check("MLP.backward", "all are the slopes that differences measure", widened)
def mlp_measured(x, d_out, **layer):
    return less_measured(built(MLP, layer), x, d_out)


def two_prompts(rng):
    yield list(widened(rng))[-1]


@ASSIGNMENT.check("MLP.backward", "two prompts' gradients are those of the one and the other, added", two_prompts)
def mlp_prompts(x, d_out, **layer):
    whole = backward(built(MLP, layer), x, d_out)[1]
    parts = [backward(built(MLP, layer), x[i : i + 1], d_out[i : i + 1])[1] for i in range(2)]
    apart = {name: np.abs(whole[name] - parts[0][name] - parts[1][name]).max() for name in whole}
    return {f"{name}, off by up to": off for name, off in apart.items()}


@ASSIGNMENT.check("MLP.backward", "announces the gradients of hook_post and hook_pre", widened)
def mlp_announced(x, d_out, **layer):
    seen = Tape()
    backward(built(MLP, layer), x, d_out, seen)
    return dict(seen)


def mlp_points(rng):
    for name in ("hook_pre", "hook_post"):
        yield {"name": name, **next(widened(rng))}


@ASSIGNMENT.check("MLP.backward", "continues with what trace returns", mlp_points)
def mlp_obeys(name, x, d_out, **layer):
    return obeyed(lambda trace: both(backward(built(MLP, layer), x, d_out, trace)), name)


in_the_model("MLP.backward")


# --- LayerNorm -----------------------------------------------------------------------------------------


def rows(rng):
    """One row; a gain; two tokens; a batch; a quiet row, where epsilon counts."""
    one, zero = np.ones(3), np.zeros(3)
    yield {"x": np.array([[0.0, 0.0, 3.0]]), "d_out": np.array([[1.0, 0.0, 0.0]]), "weight": one, "bias": zero}
    yield {"x": np.array([[0.0, 0.0, 3.0]]), "d_out": np.array([[1.0, 0.0, 1.0]]), "weight": one * 2, "bias": zero}
    yield {"x": plain(rng, 2, 3), "d_out": plain(rng, 2, 3), "weight": 1 + plain(rng, 3), "bias": plain(rng, 3)}
    yield {"x": plain(rng, 2, 3, 4), "d_out": plain(rng, 2, 3, 4), "weight": plain(rng, 4), "bias": plain(rng, 4)}
    quiet = plain(rng, 2, 3, 5) * np.array([[[0.002], [1.0], [5.0]]])
    yield {"x": quiet, "d_out": plain(rng, 2, 3, 5), "weight": plain(rng, 5), "bias": plain(rng, 5), "eps": 1e-4}


@ASSIGNMENT.check("LayerNorm.backward", "d_x has the three parts: its own place, the mean, the scale", rows)
def norm_d_x(x, d_out, trace, **layer):
    return backward(LayerNorm(**layer), x, d_out, told(trace))[0]


@ASSIGNMENT.check("LayerNorm.backward", "gain and bias get d_out * normalized and d_out, summed over all tokens", rows)
def norm_parameters(x, d_out, trace, **layer):
    return backward(LayerNorm(**layer), x, d_out, told(trace))[1]


@ASSIGNMENT.check("LayerNorm.backward", "all are the slopes that differences measure", rows)
def norm_measured(x, d_out, **layer):
    return less_measured(LayerNorm(**layer), x, d_out)


@ASSIGNMENT.check("LayerNorm.backward", "each row of d_x sums to 0: moving a whole row changes nothing", rows)
def norm_moved(x, d_out, **layer):
    return {"sums of the rows of d_x": backward(LayerNorm(**layer), x, d_out)[0].sum(axis=-1)}


def loud(rng):
    """Rows so loud that epsilon counts for nothing."""
    yield {"x": np.array([[0.0, 0.0, 300.0]]), "d_out": np.array([[100.0, 0.0, 200.0]])}
    yield {"x": 100 * plain(rng, 2, 3, 4), "d_out": 100 * plain(rng, 2, 3, 4)}


@ASSIGNMENT.check("LayerNorm.backward", "d_x has no part along x: a row that is stretched comes out the same", loud)
def norm_stretched(x, d_out):
    C = x.shape[-1]
    d_x = backward(LayerNorm(np.ones(C, x.dtype), np.zeros(C, x.dtype)), x, d_out)[0]
    return {"sum of d_x * (x - mean) of each row": (d_x * (x - x.mean(axis=-1, keepdims=True))).sum(axis=-1) / 100}


@ASSIGNMENT.check("LayerNorm.backward", "announces the gradients of hook_output, hook_normalized, hook_scale", rows)
def norm_announced(x, d_out, **layer):
    seen = Tape()
    backward(LayerNorm(**layer), x, d_out, seen)
    return dict(seen)


def norm_points(rng):
    for name in ("hook_output", "hook_normalized", "hook_scale"):
        yield {"name": name, **next(rows(rng))}


@ASSIGNMENT.check("LayerNorm.backward", "continues with what trace returns", norm_points)
def norm_obeys(name, x, d_out, **layer):
    return obeyed(lambda trace: both(backward(LayerNorm(**layer), x, d_out, trace)), name)


in_the_model("LayerNorm.backward")


# --- Attention -----------------------------------------------------------------------------------------


def attending(rng):
    """Two tokens and one head whose weights pass all on; two heads; a batch, and another scale."""
    same = np.eye(2)
    yield {
        "x": np.array([[1.0, 0.0], [0.0, 2.0]]),
        "d_out": np.array([[0.0, 0.0], [1.0, 0.0]]),
        "c_attn.weight": np.concatenate([same, same, same], axis=1),
        "c_attn.bias": np.zeros(6),
        "c_proj.weight": same,
        "c_proj.bias": np.zeros(2),
        "n_head": 1,
        "head_width": 2,
        "scale": 0.5,
    }
    for shape, H, scale in (((2, 2), 1, math.sqrt(1 / 2)), ((3, 4), 2, math.sqrt(1 / 2)), ((2, 5, 6), 2, 0.25)):
        yield attending_with(rng, shape, H, scale, shape[-1] // H, shape[-1] // H)


def attending_with(rng, shape, H, scale, head_width, value_width):
    """Return a case of random numbers: input, gradient of the output, and the fields of an Attention."""
    C, columns, merged = shape[-1], H * (2 * head_width + value_width), H * value_width
    return {
        "x": plain(rng, *shape),
        "d_out": plain(rng, *shape),
        "c_attn.weight": plain(rng, C, columns),
        "c_attn.bias": plain(rng, columns),
        "c_proj.weight": plain(rng, merged, C),
        "c_proj.bias": plain(rng, C),
        "n_head": H,
        "head_width": head_width,
        "scale": scale,
    }


@ASSIGNMENT.check("Attention.backward", "d_x is d_out back through c_proj, pattern, q, k, v and c_attn", attending)
def attention_d_x(x, d_out, trace, **layer):
    return backward(built(Attention, layer), x, d_out, told(trace))[0]


@ASSIGNMENT.check("Attention.backward", "each parameter's gradient is summed over the tokens of all prompts", attending)
def attention_parameters(x, d_out, trace, **layer):
    return backward(built(Attention, layer), x, d_out, told(trace))[1]


def attending_widths(rng):
    """Heads narrower than C / H, and wider; values wider than keys, and narrower."""
    for shape, H, D, value_width in (((2, 4), 2, 1, 1), ((3, 4), 2, 3, 3), ((2, 4), 2, 1, 2), ((2, 3, 6), 3, 4, 1)):
        yield attending_with(rng, shape, H, 0.5, D, value_width)


@ASSIGNMENT.check(
    "Attention.backward",
    "heads may be of any width, and values of another width than keys",
    attending_widths,
    apart=True,
)
def attention_widths(x, d_out, trace, **layer):
    return both(backward(built(Attention, layer), x, d_out, told(trace)))


@ASSIGNMENT.check("Attention.backward", "all are the slopes that differences measure", attending)
def attention_measured(x, d_out, **layer):
    return less_measured(built(Attention, layer), x, d_out, inputs_only=x.shape[-1] > 2)


@ASSIGNMENT.check("Attention.backward", "the output of the first token has no gradient in later tokens", attending)
def attention_causal(x, d_out, **layer):
    first = np.ones_like(d_out)
    first[..., 1:, :] = 0
    return {"d_x of the later tokens": backward(built(Attention, layer), x, first)[0][..., 1:, :]}


@ASSIGNMENT.check("Attention.backward", "the keys' bias has gradient 0: it raises all scores of a row alike", attending)
def attention_key_bias(x, d_out, **layer):
    C = x.shape[-1]
    return {"gradient of the keys' bias": backward(built(Attention, layer), x, d_out)[1]["c_attn.bias"][C : 2 * C]}


ATTENTION_POINTS = [f"hook_{point}" for point in ("merged", "z", "pattern", "attn_scores", "v", "k", "q", "qkv")]


@ASSIGNMENT.check("Attention.backward", f"announces the gradients of {', '.join(ATTENTION_POINTS)}", attending)
def attention_announced(x, d_out, **layer):
    seen = Tape()
    backward(built(Attention, layer), x, d_out, seen)
    return dict(seen)


def attention_points(rng):
    case = list(attending(rng))[1]
    for name in ATTENTION_POINTS:
        yield {"name": name, **case}


@ASSIGNMENT.check("Attention.backward", "continues with what trace returns", attention_points)
def attention_obeys(name, x, d_out, **layer):
    return obeyed(lambda trace: both(backward(built(Attention, layer), x, d_out, trace)), name)


in_the_model("Attention.backward")


# --- Block ---------------------------------------------------------------------------------------------


def streams(rng):
    """A random block (the first of a small model), with a vector of the stream, a prompt, a batch."""
    for shape, H, F in (((1, 3), 1, 2), ((3, 4), 2, 5), ((2, 4, 6), 2, 9)):
        model = small_model(rng, n_layer=1, n_embd=shape[-1], n_head=H, n_inner=F)
        yield {"model": model, "x": plain(rng, *shape), "d_out": plain(rng, *shape)}


def small_streams(rng):
    """Those that can be measured number by number quickly."""
    return list(streams(rng))[:2]


@ASSIGNMENT.check(
    "Block.backward", "d_x is the sum over all paths back: along the stream, and through each layer", streams
)
def block_d_x(model, x, d_out, trace):
    return backward(model.h[0], x, d_out, told(trace))[0]


@ASSIGNMENT.check("Block.backward", "each layer's parameters get their gradients, under the layer's name", streams)
def block_parameters(model, x, d_out, trace):
    return backward(model.h[0], x, d_out, told(trace))[1]


@ASSIGNMENT.check("Block.backward", "d_x is the slope that differences measure", small_streams)
def block_measured(model, x, d_out):
    return less_measured(model.h[0], x, d_out, inputs_only=True)


@ASSIGNMENT.check("Block.backward", "where both layers write nothing, d_x is d_out: the stream passes it on", streams)
def block_stream(model, x, d_out):
    block = model.h[0]
    for name in ("attn.c_proj.weight", "mlp.c_proj.weight"):
        block = changed(block, name, 0 * arrays(block)[name])
    return {"d_x less d_out": less(backward(block, x, d_out)[0], d_out)}


BLOCK_POINTS = [f"hook_{point}" for point in ("resid_post", "mlp_out", "resid_mid", "attn_out", "resid_pre")]


@ASSIGNMENT.check("Block.backward", f"announces the gradients of {', '.join(BLOCK_POINTS)}", streams)
def block_announced(model, x, d_out):
    seen = Tape()
    backward(model.h[0], x, d_out, seen)
    return dict(seen)


def block_points(rng):
    case = next(streams(rng))
    for name in BLOCK_POINTS:
        yield {"name": name, **case}


@ASSIGNMENT.check("Block.backward", "continues with what trace returns", block_points)
def block_obeys(name, model, x, d_out):
    return obeyed(lambda trace: both(backward(model.h[0], x, d_out, trace)), name)


in_the_model("Block.backward")


# --- GPT2 ----------------------------------------------------------------------------------------------


def last_states(rng):
    """Models of one block, two and three, with the gradient of the last hidden states."""
    for blocks in (1, 2):
        model = small_model(rng, n_layer=blocks, vocab_size=3, n_positions=2, n_embd=3, n_head=1, n_inner=2)
        yield {"model": model, "ids": np.array([2]), "d_out": plain(rng, 1, 3)}
    sizes = {"vocab_size": 7, "n_positions": 5, "n_embd": 4, "n_head": 2, "n_inner": 3}
    model = small_model(rng, n_layer=3, scale_attn_by_inverse_layer_idx=True, **sizes)
    yield {"model": model, "ids": np.array([[1, 4, 4, 2], [6, 6, 0, 1]]), "d_out": plain(rng, 2, 4, 4)}


def gone_back(model, ids, d_out, trace=no_trace):
    """Run the model forward to its last hidden states, and back."""
    return model.backward(d_out, taped(lambda record: model.hidden(ids, trace=record)), trace)


@ASSIGNMENT.check("GPT2.backward", "every parameter but the LM head gets its gradient, under its own name", last_states)
def model_gradients(model, ids, d_out, trace):
    return gone_back(model, ids, d_out, told(trace))


@ASSIGNMENT.check("GPT2.backward", "names each parameter once, and nothing else", last_states)
def model_names(model, ids, d_out):
    return sorted(gone_back(model, ids, d_out))


@ASSIGNMENT.check("GPT2.backward", "announces the gradient of each activation, hook_embed to ln_final", last_states)
def model_announced(model, ids, d_out):
    seen = Tape()
    gone_back(model, ids, d_out, seen)
    return dict(seen)


def model_points(rng):
    """A point of each part of the smallest model."""
    case = next(last_states(rng))
    for name in ("ln_final.hook_output", "blocks.0.hook_resid_post", "blocks.0.attn.hook_z", "hook_embed"):
        yield {"name": name, **case}


@ASSIGNMENT.check("GPT2.backward", "continues with what trace returns: passes it on as it is", model_points)
def model_obeys(name, model, ids, d_out):
    return obeyed(lambda trace: gone_back(model, ids, d_out, trace), name)


@ASSIGNMENT.check("GPT2.backward", "the first block's gain gets the slope that differences measure", last_states)
def model_measured(model, ids, d_out):
    name, params = "h.0.ln_1.weight", {name: wide(array) for name, array in model.params.items()}

    def total(moved):
        return float((wide(d_out) * assemble(model.config, {**params, name: moved}).hidden(ids)).sum())

    grads = gone_back(assemble(model.config, params), ids, wide(d_out))
    return {name: less(table_of(grads, name), slopes(total, params[name]))}


in_the_model("GPT2.backward")


# --- loss_and_grads ------------------------------------------------------------------------------------


def questions(rng):
    """Models so small that their numbers can be read, tied, tied, untied; then one of `prompts`."""
    sizes = {"n_layer": 1, "vocab_size": 3, "n_positions": 2, "n_embd": 3, "n_head": 1, "n_inner": 2}
    model, untied = small_model(rng, **sizes), small_model(rng, **sizes, tie_word_embeddings=False)
    batch = {"ids": np.array([[2, 0], [0, 0]]), "targets": np.array([[1, -100], [-100, 2]])}
    yield {"model": model, "ids": np.array([2]), "targets": np.array([1])}
    yield {"model": model, **batch}
    yield {"model": untied, **batch}
    yield list(prompts(rng))[1]


@ASSIGNMENT.check("loss_and_grads", "the loss is the mean over the targets that count, in nats", questions)
def model_loss(model, ids, targets):
    return as_dtype(pair(loss_and_grads(model, ids, targets))[0], model.lm_head.weight)


@ASSIGNMENT.check("loss_and_grads", "every gradient is that of the mean loss, the token embedding's too", questions)
def model_loss_gradients(model, ids, targets, trace):
    return pair(loss_and_grads(model, ids, targets, grad_trace=told(trace)))[1]


def tied(rng):
    return list(questions(rng))[:2]


@ASSIGNMENT.check("loss_and_grads", "a tied matrix gets what two apart would get, added", tied)
def model_tied(model, ids, targets):
    one, two = LMHead(model.embedding.wte_weight), LMHead(model.embedding.wte_weight.copy())
    tied, apart = (pair(loss_and_grads(replace(model, lm_head=head), ids, targets))[1] for head in (one, two))
    return {"the sum of both, less the one": apart["wte.weight"] + apart["lm_head.weight"] - tied["wte.weight"]}


@ASSIGNMENT.check("loss_and_grads", "there is a gradient for each parameter, and for nothing else", questions)
def model_loss_names(model, ids, targets):
    return sorted(pair(loss_and_grads(model, ids, targets))[1])


def two_words(rng):
    return list(questions(rng))[1:2]


@ASSIGNMENT.check("loss_and_grads", "the token embedding's gradient is the slope of the loss, as measured", two_words)
def model_loss_measured(model, ids, targets):
    params = {name: wide(array) for name, array in model.params.items()}

    def loss(moved):
        return mean_loss(assemble(model.config, {**params, "wte.weight": moved}), ids, targets)

    grads = pair(loss_and_grads(assemble(model.config, params), ids, targets))[1]
    return {"wte.weight": less(table_of(grads, "wte.weight"), slopes(loss, params["wte.weight"]))}


@ASSIGNMENT.check("loss_and_grads", "a prompt of which no target counts changes nothing", questions)
def model_not_counted(model, ids, targets):
    ids, targets = np.atleast_2d(ids), np.atleast_2d(targets)
    more = np.concatenate([ids, ids]), np.concatenate([targets, np.full_like(targets, IGNORED)])
    (loss, grads), (again, same) = pair(loss_and_grads(model, ids, targets)), pair(loss_and_grads(model, *more))
    apart = {f"{name}, less that without": same[name] - grads[name] for name in grads}
    return {"the loss, less that without": as_dtype(again - loss, model.lm_head.weight), **apart}


def model_offsets(rng):
    """A small one, and one so large that it decides."""
    case = next(questions(rng))
    for offset in (math.log(3), 10.0):
        yield {**case, "offset": np.array([0.0, 0.0, offset])}


@ASSIGNMENT.check("loss_and_grads", "loss and gradients are those of logits with the offset added", model_offsets)
def model_offset(model, ids, targets, offset):
    return loss_and_its_gradients(model, ids, targets, offset=offset)


def model_grad_points(rng):
    """The logits, and a point of each part of the smallest model."""
    case = next(questions(rng))
    for name in ("hook_logits", "ln_final.hook_output", "blocks.0.attn.hook_z", "hook_embed"):
        yield {"name": name, **case}


@ASSIGNMENT.check("loss_and_grads", "the backward pass continues with what grad_trace returns", model_grad_points)
def model_grad_trace(name, model, ids, targets):
    return obeyed(lambda trace: loss_and_its_gradients(model, ids, targets, grad_trace=trace), name)


@ASSIGNMENT.check("loss_and_grads", "the gradient of the logits is announced in their shape (..., T, V)", questions)
def model_logits_announced(model, ids, targets):
    seen = Tape()
    loss_and_grads(model, ids, targets, grad_trace=seen)
    return {"the gradient of hook_logits": seen.get("hook_logits")}


@ASSIGNMENT.check("loss_and_grads", "trace is given each activation, hook_tokens to the final norm", tied)
def model_told(model, ids, targets):
    seen = Tape()
    loss_and_grads(model, ids, targets, trace=seen)
    return dict(seen)


def model_forward_points(rng):
    """Activations, most of which the backward pass reads from its tape."""
    case = list(questions(rng))[1]
    for name in ("hook_embed", "blocks.0.attn.hook_v", "blocks.0.mlp.hook_post", "ln_final.hook_output"):
        yield {"name": name, **case}


@ASSIGNMENT.check(
    "loss_and_grads", "the forward pass continues with what trace returns, which the tape keeps", model_forward_points
)
def model_trace(name, model, ids, targets):
    found = loss_and_its_gradients(model, ids, targets, trace=lambda point, x: x * 2 if point == name else x)
    return {f"{key}, where {name} is doubled": value for key, value in found.items()}


# --- and all together --------------------------------------------------------------------------------------

ASSIGNMENT.checks.append(
    Check(
        "together",
        "with all of yours, every parameter gets its gradient",
        tuple(ASSIGNMENT.functions),
        prompts,
        gradient,
    )
)
