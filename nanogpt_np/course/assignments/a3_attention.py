"""Assignment a3, attention: softmax, the masked average, and the heads around it."""

import numpy as np

from ...model import attention
from ...model.attention import Attention
from ...model.trace import Tape
from ..definitions import Assignment
from ..layers import built
from ..numbers import ids, plain, small_model
from ..runs import announced, counted, in_two

ASSIGNMENT = Assignment(
    "a3_attention",
    "attention: every token gathers from itself and the tokens before it",
    {
        "model.attention:softmax": (
            "What are exp(0), exp(1) and their shares of the sum of both? And what does NumPy say to np.exp(1000.0)? "
            "Which number could you subtract from both 1000 and 1001 so that the shares stay the same?",
            "Each row stands alone: subtract its own largest number first, so that the largest exp is exp(0) = 1. "
            "Both the largest number and the sum are over the last axis, and keepdims=True keeps them as (..., 1).",
            "Three lines: x minus x.max over axis=-1 with keepdims=True, as a new array; np.exp of that; and that "
            "divided by its own sum over the same axis, again with keepdims=True.",
        ),
        "model.attention:Attention.attend": (
            "With 2 queries and 4 keys, draw the table of scores: which position does the first query stand at, and "
            "which keys may it see? What must you write in the other places so that softmax makes them 0?",
            "scores is one matrix product of q and the keys with their last two axes exchanged (np.swapaxes, "
            "not .T, which reverses all axes). The first S - T columns are open to every query; the last T "
            "columns are a square with its upper right corner closed. np.tri(T, S, k=...) draws both at once.",
            "np.tri(T, S, S - T, dtype=bool) is True where a query may look; np.where puts -math.inf elsewhere. Then "
            "announce, softmax, announce, and one more matrix product: the pattern with the values.",
        ),
        "model.attention:Attention.__call__": (
            "What shape does c_attn(x) have, and which of its columns belong to the key of head 1 if H = 2 and D = 3? "
            "Which axis must come before which so that `@` treats each head's (T, D) as a matrix of its own?",
            "Cut twice: slices of the last axis give q, k and v (up to H D, up to 2 H D, the rest), and a reshape of "
            "each to (..., T, H, -1) gives the heads. A reshape only cuts, it never moves: to bring H before T, use "
            "np.swapaxes(q, -2, -3), and on the way back the same again before a reshape can join the heads.",
            "In order: c_attn, announce; cut into three, announce each; swap axes of each; one call of `remember` with "
            "k and v; self.attend of q times self.scale, what `remember` returned, and trace; swap back, announce as "
            "hook_z; reshape to (..., T, -1), announce as hook_merged; c_proj.",
        ),
    },
)

# --- softmax ------------------------------------------------------------------------------------------------


def tables(rng):
    """A row, a table in which rows and columns tell apart, what is masked, what is far apart, and more axes."""
    yield {"x": np.array([[0.0, 1.0]])}
    yield {"x": np.array([[1.0, 2.0, 4.0], [5.0, 3.0, 0.5]])}
    yield {"x": np.array([[2.0, -np.inf], [1.0, 2.0]])}
    yield {"x": np.array([[0.0, 1000.0]])}
    yield {"x": plain(rng, 4)}
    yield {"x": plain(rng, 2, 3, 4) * 3}


@ASSIGNMENT.check("softmax", "gives exp(x) / (the sum of exp(x) over its row)", tables)
def shares(x):
    return attention.softmax(x)


@ASSIGNMENT.check("softmax", "each row of the last axis sums to 1, and no weight is below 0", tables)
def rows_sum_to_1(x):
    weights = attention.softmax(x)
    return {"sum of each row": weights.sum(axis=-1), "weights below 0": int((weights < 0).sum())}


def masked(rng):
    """Rows in which some numbers are -inf: one of two, and all that are later than the row."""
    yield {"x": np.array([[0.0, -np.inf]])}
    yield {"x": np.where(np.tri(4, dtype=bool), plain(rng, 2, 4, 4), -np.inf)}


@ASSIGNMENT.check("softmax", "the weight of -inf is exactly 0, not merely small", masked)
def exactly_0(x):
    return {"weights of -inf that are not 0": int((attention.softmax(x)[x == -np.inf] != 0).sum())}


def distances(rng):
    """Rows whose numbers are some way apart."""
    yield {"x": np.array([[0.0, -30.0]])}
    yield {"x": 10 * plain(rng, 2, 3)}


@ASSIGNMENT.check(
    "softmax", "one number above another by d has e^d times its weight, even if the two are 30 apart", distances
)
def ratios(x):
    logs = np.log(attention.softmax(x))
    return {"the logarithm of each weight, less that of the row's first": logs - logs[..., :1]}


def shifts(rng):
    """Rows of quarters, which stay exact in float32 when 1000 is added."""
    for by in (1000.0, -1000.0):
        yield {"x": np.array([[0.0, 1.0]]), "added": by}
        yield {"x": np.round(4 * plain(rng, 3, 4)) / 4, "added": by}


@ASSIGNMENT.check("softmax", "the same number added to a whole row changes nothing, even 1000 or -1000", shifts)
def shifted(x, added):
    return {"what it changes": attention.softmax(x + added) - attention.softmax(x)}


def far_apart(rng):
    """A row, and others with numbers so large that exp of the distance is 0."""
    yield {"x": np.array([[0.0, 1.0]]), "others": np.array([[2000.0, 2001.0]])}
    yield {"x": plain(rng, 2, 3), "others": np.array([[-3000.0, 0.0, 3000.0]])}


@ASSIGNMENT.check("softmax", "a row's weights do not depend on the rows beside it", far_apart)
def rows_alone(x, others):
    beside = attention.softmax(np.concatenate([x, others]))[: len(x)]
    return {"what the others change in it": beside - attention.softmax(x)}


def prompts(rng):
    """A small random model and ids for it: one token, a prompt, a batch."""
    for shape in ((1,), (4,), (2, 5)):
        yield {"model": small_model(rng, scale_attn_by_inverse_layer_idx=len(shape) == 2), "ids": ids(rng, *shape)}


@ASSIGNMENT.check("softmax", "in the whole model, in place of ours, it leads to the same logits", prompts)
def softmax_in_the_model(model, ids, trace):
    return model(ids, trace=trace)


# --- attend -------------------------------------------------------------------------------------------------


def attend(q, keys, values, *trace):
    """Call the method, on a layer whose fields it has no use for."""
    layer = Attention(c_attn=None, c_proj=None, n_head=1, head_width=q.shape[-1], scale=0.3)
    return layer.attend(q, keys, values, *trace)


def lookups(rng):
    """By hand; a token after two that a cache holds; all at once; two after a cache; heads; prompts and heads; many."""
    ones = np.ones((2, 1))
    yield {"q": ones, "keys": np.array([[0.0], [1.0]]), "values": np.array([[10.0], [20.0]])}
    yield {"q": ones[:1], "keys": np.array([[1.0], [0.0], [2.0]]), "values": np.array([[10.0], [20.0], [40.0]])}
    yield {"q": 2 * ones, "keys": np.array([[1.0], [0.0], [2.0]]), "values": np.array([[10.0], [20.0], [40.0]])}
    for *heads, T, S, D in ((3, 3, 2), (3, 5, 4), (2, 3, 3, 4), (2, 3, 2, 5, 4), (5, 20, 24, 7)):
        yield {"q": plain(rng, *heads, T, D), "keys": plain(rng, *heads, S, D), "values": plain(rng, *heads, S, D)}


@ASSIGNMENT.check("Attention.attend", "gives softmax(q @ keys.T, later keys at -inf) @ values", lookups)
def found(q, keys, values, trace):
    return attend(q, keys, values, trace)


def other_widths(rng):
    """Values that are wider than the keys, and narrower."""
    yield {"q": np.ones((1, 1)), "keys": np.array([[3.0]]), "values": np.array([[10.0, 20.0]])}
    yield {"q": plain(rng, 2, 3, 2), "keys": plain(rng, 2, 3, 2), "values": plain(rng, 2, 3, 4)}
    yield {"q": plain(rng, 2, 3, 4), "keys": plain(rng, 2, 3, 4), "values": plain(rng, 2, 3, 1)}


@ASSIGNMENT.check(
    "Attention.attend",
    "values may have another width than keys; each query finds one as wide",
    other_widths,
    apart=True,
)
def values_of_another_width(q, keys, values, trace):
    return attend(q, keys, values, trace)


def futures(rng):
    """Two queries, of which the first may not see the last key; scores so low that no mask but -inf is lower."""
    few = {"q": np.ones((2, 1)), "keys": np.array([[0.0], [1.0]]), "values": np.array([[10.0], [20.0]])}
    yield {**few, "key": np.array([5.0]), "value": np.array([90.0])}
    low = {"q": np.array([[-1e6], [-1e6]]), "keys": np.array([[1e6], [0.0]]), "values": np.array([[1.0], [2.0]])}
    yield {**low, "key": np.array([0.0]), "value": np.array([90.0])}
    some = {"q": plain(rng, 3, 2), "keys": plain(rng, 5, 2), "values": plain(rng, 5, 2)}
    yield {**some, "key": np.array([9.0, -9.0]), "value": np.array([50.0, -50.0])}


@ASSIGNMENT.check(
    "Attention.attend", "another key and value of the last token change nothing for the queries before it", futures
)
def no_future(q, keys, values, key, value):
    others = [np.concatenate([a[:-1], new[None]]) for a, new in ((keys, key), (values, value))]
    before, after = attend(q, keys, values), attend(q, *others)
    return {"what they change for the queries before": (after - before)[:-1]}


def starts(rng):
    """Prompts without a cache."""
    yield {"q": np.ones((1, 1)), "keys": np.array([[3.0]]), "values": np.array([[10.0]])}
    yield {"q": np.ones((2, 1)), "keys": np.array([[3.0], [4.0]]), "values": np.array([[10.0], [20.0]])}
    yield {"q": plain(rng, 2, 3, 4), "keys": plain(rng, 2, 3, 4), "values": plain(rng, 2, 3, 4)}


@ASSIGNMENT.check(
    "Attention.attend", "the very first token finds its own value, whole: there is nothing else it may see", starts
)
def the_first(q, keys, values):
    return {"what the first query finds": attend(q, keys, values)[..., 0, :]}


def equal_values(rng):
    """Any queries and keys, and one and the same value everywhere."""
    yield {"q": np.ones((2, 1)), "keys": np.array([[1.0], [2.0]]), "value": 7.0}
    yield {"q": plain(rng, 2, 3, 4), "keys": plain(rng, 2, 5, 4), "value": -3.0}


@ASSIGNMENT.check(
    "Attention.attend", "it is an average: where all values are equal, every query finds just that value", equal_values
)
def an_average(q, keys, value):
    return attend(q, keys, np.full_like(keys, value))


def passes(rng):
    """A whole pass, of which the last T queries are asked again."""
    yield {"q": np.ones((2, 1)), "keys": np.array([[0.0], [1.0]]), "values": np.array([[10.0], [20.0]]), "T": 1}
    yield {"q": np.ones((3, 1)), "keys": np.array([[0.0], [1.0], [2.0]]), "values": np.eye(3)[:, 1:2] * 10, "T": 2}
    yield {"q": plain(rng, 2, 5, 3), "keys": plain(rng, 2, 5, 3), "values": plain(rng, 2, 5, 3), "T": 3}


@ASSIGNMENT.check(
    "Attention.attend", "the last T queries alone, as with a cache, find what they find among all S", passes
)
def after_a_cache(q, keys, values, T):
    alone = attend(q[..., -T:, :], keys, values)
    return {"alone, less the same rows of all": alone - attend(q, keys, values)[..., -T:, :]}


@ASSIGNMENT.check("Attention.attend", "announces the scores, -inf where a key is later, and the pattern", lookups)
def announced_tables(q, keys, values):
    acts = Tape()
    attend(q, keys, values, acts)
    if "hook_attn_scores" in acts:  # the lowest number there is does as well as -inf; a merely low one does not
        scores = np.asarray(acts["hook_attn_scores"])
        acts["hook_attn_scores"] = np.where(scores < -1e30, -np.inf, np.maximum(scores, -1000))
    return announced(acts, ["hook_attn_scores", "hook_pattern"])


def changes(rng):
    """A small lookup, and each of the two tables, to be changed on its way."""
    for name in ("hook_attn_scores", "hook_pattern"):
        few = {"q": np.ones((2, 1)), "keys": np.array([[0.0], [1.0]]), "values": np.array([[10.0], [20.0]])}
        yield {**few, "name": name}


@ASSIGNMENT.check("Attention.attend", "continues with what trace returns: x = trace(name, x)", changes)
def patched_tables(q, keys, values, name):
    return counted(lambda trace: attend(q, keys, values, trace), name)


@ASSIGNMENT.check("Attention.attend", "in the whole model, in place of ours, it leads to the same logits", prompts)
def attend_in_the_model(model, ids, trace):
    return model(ids, trace=trace)


def cut_prompts(rng):
    """A small random model, ids for it, and where they are cut into two passes with a cache."""
    for shape, cut in (((2,), 1), ((5,), 3), ((2, 5), 2)):
        yield {"model": small_model(rng), "ids": ids(rng, *shape), "cut": cut}


@ASSIGNMENT.check(
    "Attention.attend", "with a KV cache, a prompt in two parts gives the logits of the whole", cut_prompts
)
def attend_with_a_cache(model, ids, cut):
    return in_two(model, ids, cut)


# --- Attention ----------------------------------------------------------------------------------------------


def weights(rng, C, n_head, scale, *, head_width=None, value_width=None):
    """Return the fields of an Attention, of random numbers; D and the width of values are C / H if not given."""
    D = C // n_head if head_width is None else head_width
    width, merged = n_head * D, n_head * (D if value_width is None else value_width)
    columns = 2 * width + merged
    sizes = {
        "c_attn.weight": (C, columns),
        "c_attn.bias": (columns,),
        "c_proj.weight": (merged, C),
        "c_proj.bias": (C,),
    }
    arrays = {name: plain(rng, *size) for name, size in sizes.items()}
    return {**arrays, "n_head": n_head, "head_width": D, "scale": scale}


def one_column(bias=(0.0, 0.0, 0.0), proj=1.0, proj_bias=0.0):
    """Return the fields of an Attention with C = 1, in which q = x, k = 2x and v = 10x, and the biases."""
    return {
        "c_attn.weight": np.array([[1.0, 2.0, 10.0]]),
        "c_attn.bias": np.array(bias),
        "c_proj.weight": np.array([[proj]]),
        "c_proj.bias": np.array([proj_bias]),
        "n_head": 1,
        "head_width": 1,
        "scale": 0.5,
    }


def layers(rng):
    """By hand with one column; two heads of one column; sizes that all differ; a batch; five heads, many tokens."""
    yield {"x": np.array([[1.0]]), **one_column()}
    yield {"x": np.array([[1.0], [2.0]]), **one_column()}
    yield {"x": np.array([[1.0], [2.0]]), **one_column(bias=(1.0, 0.5, 3.0))}
    yield {"x": np.array([[1.0], [2.0]]), **one_column(proj=3.0)}
    yield {"x": np.array([[1.0], [2.0]]), **one_column(proj_bias=4.0)}
    yield {"x": plain(rng, 2, 2), **weights(rng, 2, 2, 1.0)}
    yield {"x": plain(rng, 4, 6), **weights(rng, 6, 2, 0.4)}
    yield {"x": plain(rng, 2, 5, 6), **weights(rng, 6, 3, 0.7)}
    yield {"x": plain(rng, 2, 20, 15) / 4, **weights(rng, 15, 5, 0.6)}


@ASSIGNMENT.check("Attention.__call__", "gives c_proj of what the heads find, side by side", layers)
def output(x, trace, **fields):
    return built(Attention, fields)(x, trace=trace)


def widths(rng):
    """Heads that are narrower than C / H, and wider; values that are wider than keys, and narrower."""
    yield {"x": plain(rng, 2, 4), **weights(rng, 4, 2, 0.6, head_width=1)}
    yield {"x": plain(rng, 3, 4), **weights(rng, 4, 2, 0.6, head_width=3)}
    yield {"x": plain(rng, 2, 3, 4), **weights(rng, 4, 2, 0.6, head_width=1, value_width=2)}
    yield {"x": plain(rng, 2, 3, 6), **weights(rng, 6, 3, 0.4, head_width=4, value_width=2)}


@ASSIGNMENT.check(
    "Attention.__call__",
    "a head's width is head_width, whatever C / H is; values may have another width",
    widths,
    apart=True,
)
def of_any_width(x, trace, **fields):
    return built(Attention, fields)(x, trace=trace)


def last_tokens(rng):
    """A prompt and another last token for it."""
    yield {"x": np.array([[1.0], [2.0]]), "token": np.array([-7.0]), **one_column()}
    yield {"x": plain(rng, 4, 6), "token": 5 * plain(rng, 6), **weights(rng, 6, 2, 0.4)}


@ASSIGNMENT.check("Attention.__call__", "a later token does not change an earlier one's output", last_tokens)
def causal(x, token, **fields):
    layer = built(Attention, fields)
    change = layer(np.concatenate([x[:-1], token[None]])) - layer(x)
    return {"what another last token changes in those before": change[:-1]}


def heads(rng):
    """Layers whose output projection changes nothing, and the head whose values are raised."""
    for C, n_head, head in ((2, 2, 0), (6, 2, 1), (6, 3, 1)):
        same = {"c_proj.weight": np.eye(C), "c_proj.bias": np.zeros(C)}
        yield {"x": plain(rng, 3, C), "head": head, **weights(rng, C, n_head, 0.4), **same}


@ASSIGNMENT.check(
    "Attention.__call__",
    "a head's values raised by 1 raise that head's D columns of merged by 1, and no others",
    heads,
)
def heads_apart(x, head, **fields):
    C, D = x.shape[-1], fields["head_width"]
    columns = np.arange(3 * C)
    raised = (columns >= 2 * C + head * D) & (columns < 2 * C + (head + 1) * D)
    bias = fields["c_attn.bias"]
    higher = {**fields, "c_attn.bias": bias + raised.astype(bias.dtype)}
    return {f"what head {head} changes in the output": built(Attention, higher)(x) - built(Attention, fields)(x)}


def passed_on(layer, x, remember):
    """Run a layer with a `remember` and return (output, what that was given as (k, v), once for each call)."""
    given = []

    def watched(k, v):
        given.append((k, v))
        return remember(k, v)

    return layer(x, watched), given


def small_prompts(rng):
    """With C = 1, where keys are 2x and values 10x."""
    yield {"x": np.array([[1.0]]), **one_column()}
    yield {"x": np.array([[1.0], [2.0]]), **one_column()}


@ASSIGNMENT.check("Attention.__call__", "passes this pass's keys, then its values, to remember, once", small_prompts)
def remembers(x, **fields):
    _, given = passed_on(built(Attention, fields), x, attention.no_cache)
    return {"calls": len(given), **{f"{name} of call 1": a for (k, v) in given[:1] for name, a in (("k", k), ("v", v))}}


def cut_inputs(rng):
    """Prompts that come in two parts."""
    yield {"x": np.array([[1.0], [2.0]]), "cut": 1, **one_column()}
    yield {"x": plain(rng, 5, 6), "cut": 2, **weights(rng, 6, 2, 0.4)}
    yield {"x": plain(rng, 2, 7, 6), "cut": 5, **weights(rng, 6, 3, 0.4)}


@ASSIGNMENT.check(
    "Attention.__call__",
    "attends to all that remember returns, k and v as (..., H, S, D): two parts find what the whole finds",
    cut_inputs,
)
def in_two_parts(x, cut, **fields):
    layer = built(Attention, fields)
    whole, (first, second) = layer(x), (x[..., :cut, :], x[..., cut:, :])
    _, given = passed_on(layer, first, attention.no_cache)
    H, T, D = fields["n_head"], cut, fields["head_width"]
    shapes = {str(list(a.shape)) for pair in given for a in pair}
    if shapes != {str([*x.shape[:-2], H, T, D])}:
        return {"the shapes that remember got": sorted(shapes)}
    out, _ = passed_on(
        layer, second, lambda k, v: [np.concatenate(p, axis=-2) for p in zip(given[0], (k, v), strict=True)]
    )
    shown = {"the second part's output less the same rows of the whole": out - whole[..., cut:, :]}
    return {"the shapes that remember got": sorted(shapes), **shown}


@ASSIGNMENT.check("Attention.__call__", "announces qkv, q, k, v, z and merged as they are, and attend's tables", layers)
def announced_arrays(x, **fields):
    acts = Tape()
    built(Attention, fields)(x, trace=acts)
    names = ("qkv", "q", "k", "v", "attn_scores", "pattern", "z", "merged")
    return announced(acts, [f"hook_{name}" for name in names])


def on_their_way(rng):
    """Each of the announced tensors, to be changed on its way."""
    for name in ("qkv", "q", "k", "v", "z", "merged"):
        yield {
            "x": np.array([[1.0], [2.0]]),
            "name": f"hook_{name}",
            **one_column(bias=(1.0, 0.5, 3.0), proj_bias=4.0),
        }


@ASSIGNMENT.check("Attention.__call__", "continues with what trace returns: x = trace(name, x)", on_their_way)
def patched(x, name, **fields):
    layer = built(Attention, fields)
    return counted(lambda trace: layer(x, trace=trace), name)


@ASSIGNMENT.check("Attention.__call__", "in the whole model, in place of ours, it leads to the same logits", prompts)
def in_the_model(model, ids, trace):
    return model(ids, trace=trace)


@ASSIGNMENT.check(
    "Attention.__call__", "with a KV cache, a prompt in two parts gives the logits of the whole", cut_prompts
)
def with_a_cache(model, ids, cut):
    return in_two(model, ids, cut)
