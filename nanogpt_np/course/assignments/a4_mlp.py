"""Assignment a4, the MLP: the linear layer, GELU, and two linear layers with a GELU between them."""

import numpy as np

from ...model import mlp
from ...model.linear import Linear
from ...model.mlp import MLP
from ...model.trace import Tape
from ..definitions import Assignment
from ..layers import built
from ..numbers import ids, plain, small_model
from ..runs import announced, counted

ASSIGNMENT = Assignment(
    "a4_mlp",
    "the linear layer and the MLP: every token's vector widened, bent and narrowed again",
    {
        "model.linear:Linear.__call__": (
            "x is [1, 2] and W is [[1, 0], [3, 1]]. Multiply them on paper: which numbers of W does the first output "
            "use, a row of them or a column? How many outputs does a W of shape (2, 3) give?",
            "One matrix product and one sum. `@` sums over the last axis on its left and the first of "
            "(n_in, n_out) on its right, and leaves all axes in front of it alone, so a batch needs nothing extra.",
            "x goes on the left of @, weight on the right as it is stored. The bias, (n_out,), lines up with "
            "(..., n_out) by itself; add it after the product.",
        ),
        "model.mlp:gelu": (
            "What does the formula give for 0, for 100 and for -100? If a few lines cannot tell you, draw tanh: where "
            "is it -1, where 1, where between? What is then left of x?",
            "Two steps: u from x, then the result from x and u. The root is over 2/pi only, and the whole sum "
            "x + 0.044715 x^3 is multiplied by it; only x is cubed. np.tanh bends, math.sqrt and math.pi are plain "
            "numbers that leave float32 as it is.",
            "u is the root (math.sqrt) of two by pi, times the bracket, in which the cube may be written x * x * x; "
            "then comes half of x, times one plus np.tanh of u.",
        ),
        "model.mlp:MLP.__call__": (
            "x is (T, C) and so is the output: which of the two linear layers turns C columns into F, and how wide is "
            "the array that GELU gets?",
            "Three lines, in the order of the formula: a linear layer, gelu, a linear layer. Both announcements belong "
            "around gelu: what goes in and what comes out.",
            "self.c_fc(x) goes through trace as hook_pre; gelu of what that returns, as hook_post; what that returns "
            "goes into self.c_proj, and what comes out is the output.",
        ),
    },
)

# --- Linear -------------------------------------------------------------------------------------------------


def products(rng):
    """By hand, without a bias and with; two inputs and three outputs; a single vector; a batch; many."""
    few = {"x": np.array([[1.0, 2.0]]), "weight": np.array([[1.0, 0.0], [3.0, 1.0]])}
    yield {**few, "bias": np.zeros(2)}
    yield {**few, "bias": np.array([0.5, -1.0])}
    yield {"x": np.array([[1.0, 2.0]]), "weight": np.array([[1.0, 0.0, 2.0], [3.0, 1.0, 0.0]]), "bias": np.zeros(3)}
    yield {"x": plain(rng, 3), "weight": plain(rng, 3, 2), "bias": plain(rng, 2)}
    yield {"x": plain(rng, 4, 3), "weight": plain(rng, 3, 3), "bias": plain(rng, 3)}
    yield {"x": plain(rng, 2, 4, 3), "weight": plain(rng, 3, 5), "bias": plain(rng, 5)}
    yield {"x": plain(rng, 5, 20, 7), "weight": plain(rng, 7, 30), "bias": plain(rng, 30)}


@ASSIGNMENT.check("Linear.__call__", "gives x @ weight + bias", products)
def weighted_sums(x, weight, bias):
    return Linear(weight, bias)(x)


@ASSIGNMENT.check("Linear.__call__", "where x is 0, only the bias comes out", products)
def only_the_bias(x, weight, bias):
    return Linear(weight, bias)(0 * x)


@ASSIGNMENT.check("Linear.__call__", "twice the x lies twice as far from the bias", products)
def twice_as_far(x, weight, bias):
    layer = Linear(weight, bias)
    return {"twice x less the bias, less twice (x less the bias)": layer(2 * x) - bias - 2 * (layer(x) - bias)}


def two_vectors(rng):
    """A token, and others that may stand beside it."""
    few = {"weight": np.array([[1.0, 0.0], [3.0, 1.0]]), "bias": np.array([0.5, -1.0])}
    yield {"x": np.array([[1.0, 2.0]]), "others": np.array([[-3.0, 5.0]]), **few}
    yield {"x": plain(rng, 2, 3), "others": plain(rng, 3, 3), "weight": plain(rng, 3, 5), "bias": plain(rng, 5)}


@ASSIGNMENT.check("Linear.__call__", "a token's result does not depend on the tokens beside it", two_vectors)
def linear_alone(x, others, weight, bias):
    layer = Linear(weight, bias)
    return {"what the others change in it": layer(np.concatenate([x, others]))[: len(x)] - layer(x)}


@ASSIGNMENT.check("Linear.__call__", "announces nothing: `trace` is for layers that are used in its place", products)
def announces_nothing(x, weight, bias):
    acts = Tape()
    Linear(weight, bias)(x, acts)
    return {"arrays that it announces": len(acts)}


def prompts(rng):
    """A small random model and ids for it: one token, a prompt, a batch."""
    for shape in ((1,), (4,), (2, 5)):
        yield {"model": small_model(rng), "ids": ids(rng, *shape)}


@ASSIGNMENT.check("Linear.__call__", "in the whole model, in place of ours, it leads to the same logits", prompts)
def linear_in_the_model(model, ids, trace):
    return model(ids, trace=trace)


# --- gelu ---------------------------------------------------------------------------------------------------


def numbers(rng):
    """One number, a few, far ones, and arrays of more axes."""
    yield {"x": np.array([1.0])}
    yield {"x": np.array([-2.0, -0.5, 0.0, 0.5, 2.0])}
    yield {"x": plain(rng, 2, 3)}
    yield {"x": 3 * plain(rng, 2, 3, 4)}


@ASSIGNMENT.check("gelu", "gives 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))", numbers)
def bent(x):
    return mlp.gelu(x)


def far_numbers(rng):
    """Numbers at which tanh is 1 or -1."""
    yield {"x": np.array([20.0, -20.0])}
    yield {"x": np.array([1000.0, -1000.0])}
    yield {"x": np.array([1e5, -1e5])}


@ASSIGNMENT.check("gelu", "far above 0 it lets x through whole, far below it lets nothing through", far_numbers)
def far(x):
    return mlp.gelu(x)


@ASSIGNMENT.check("gelu", "gelu(x) - gelu(-x) is x", numbers)
def both_sides(x):
    return {"gelu(x) - gelu(-x)": mlp.gelu(x) - mlp.gelu(-x)}


def fine_steps(rng):
    """The numbers from -3 to 0, in steps of a thousandth."""
    yield {"x": np.arange(-3000, 1) / 1000}


@ASSIGNMENT.check("gelu", "its lowest value is -0.17004; the form with erf has -0.16997", fine_steps)
def lowest(x):
    return {"the lowest value": mlp.gelu(x).min()}


@ASSIGNMENT.check("gelu", "in the whole model, in place of ours, it leads to the same logits", prompts)
def gelu_in_the_model(model, ids, trace):
    return model(ids, trace=trace)


# --- MLP ----------------------------------------------------------------------------------------------------


def by_hand(fc_bias=(0.0, 0.0), proj_bias=0.0):
    """Return the fields of an MLP from one column to two neurons and back."""
    return {
        "c_fc.weight": np.array([[1.0, -1.0]]),
        "c_fc.bias": np.array(fc_bias),
        "c_proj.weight": np.array([[1.0], [3.0]]),
        "c_proj.bias": np.array([proj_bias]),
    }


def weights(rng, C, F):
    """Return the fields of an MLP, of random numbers."""
    sizes = {"c_fc.weight": (C, F), "c_fc.bias": (F,), "c_proj.weight": (F, C), "c_proj.bias": (C,)}
    return {name: plain(rng, *size) for name, size in sizes.items()}


def layers(rng):
    """By hand, without biases and with; sizes that all differ; a batch; narrower inside than outside; many."""
    yield {"x": np.array([[1.0]]), **by_hand()}
    yield {"x": np.array([[1.0]]), **by_hand(fc_bias=(0.5, 2.0))}
    yield {"x": np.array([[1.0]]), **by_hand(proj_bias=4.0)}
    yield {"x": plain(rng, 2, 3), **weights(rng, 3, 5)}
    yield {"x": plain(rng, 2, 4, 3), **weights(rng, 3, 7)}
    yield {"x": plain(rng, 3, 4), **weights(rng, 4, 2)}
    yield {"x": plain(rng, 5, 20, 7) / 2, **weights(rng, 7, 30)}


@ASSIGNMENT.check("MLP.__call__", "gives c_proj(gelu(c_fc(x)))", layers)
def output(x, trace, **fields):
    return built(MLP, fields)(x, trace)


def two_rows(rng):
    """A token, and others that may stand beside it."""
    yield {"x": np.array([[1.0]]), "others": np.array([[-3.0], [5.0]]), **by_hand(fc_bias=(0.5, 2.0))}
    yield {"x": plain(rng, 2, 3), "others": plain(rng, 3, 3), **weights(rng, 3, 5)}


@ASSIGNMENT.check("MLP.__call__", "a token's result does not depend on the tokens beside it", two_rows)
def alone(x, others, **fields):
    layer = built(MLP, fields)
    return {"what the others change in it": layer(np.concatenate([x, others]))[: len(x)] - layer(x)}


def asleep(rng):
    """Layers in which every neuron gets far less than 0."""
    yield {"x": np.array([[1.0]]), **by_hand(fc_bias=(-50.0, -50.0), proj_bias=4.0)}
    yield {"x": plain(rng, 2, 3), **weights(rng, 3, 5), "c_fc.bias": np.full(5, -100.0)}


@ASSIGNMENT.check("MLP.__call__", "where GELU lets nothing through, only the bias of c_proj comes out", asleep)
def held_back(x, **fields):
    return built(MLP, fields)(x)


@ASSIGNMENT.check("MLP.__call__", "announces pre, with its bias, and post, each (..., T, F)", layers)
def announced_arrays(x, **fields):
    acts = Tape()
    built(MLP, fields)(x, acts)
    return announced(acts, ["hook_pre", "hook_post"])


def on_their_way(rng):
    """Each of the announced tensors, to be changed on its way."""
    for name in ("hook_pre", "hook_post"):
        yield {"x": np.array([[1.0]]), "name": name, **by_hand(fc_bias=(0.5, 2.0), proj_bias=4.0)}


@ASSIGNMENT.check("MLP.__call__", "continues with what trace returns: x = trace(name, x)", on_their_way)
def patched(x, name, **fields):
    layer = built(MLP, fields)
    return counted(lambda trace: layer(x, trace), name)


@ASSIGNMENT.check("MLP.__call__", "in the whole model, in place of ours, it leads to the same logits", prompts)
def in_the_model(model, ids, trace):
    return model(ids, trace=trace)
