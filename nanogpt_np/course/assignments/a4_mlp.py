"""Assignment a4, the MLP: GELU and the two matrices around it."""

import numpy as np

from ... import mlp
from ...mlp import MLP
from ...trace import Recorder
from ..assignment import Assignment
from ..numbers import ids, plain, small_model
from ..runs import announced, counted

ASSIGNMENT = Assignment(
    "the MLP: every token's vector widened, bent and narrowed again",
    {
        "mlp:gelu": (
            "What does the formula give for 0, for 100 and for -100? If a few lines cannot tell you, draw tanh: where "
            "is it -1, where 1, where between? What is then left of x?",
            "Two steps: u from x, then the result from x and u. The root stands over 2/pi only, and the whole sum "
            "x + 0.044715 x^3 is multiplied by it; only x is cubed. np.tanh bends, math.sqrt and math.pi are plain "
            "numbers that leave float32 as it is.",
            "u is the root (math.sqrt) of two by pi, times the bracket, in which the cube may be written x * x * x; "
            "then comes half of x, times one plus np.tanh of u.",
        ),
        "mlp:MLP.__call__": (
            "x is (T, C) and the output too: which of the two matrices turns C columns into F, and how wide is the "
            "array that GELU gets?",
            "Three lines, in the order of the formula: product and bias, gelu, product and bias. A bias of (F,) lines "
            "up with (..., T, F) by itself. Both announcements belong around gelu: what goes in and what comes out.",
            "x @ the first weight plus the first bias goes through trace as hook_pre; gelu of what comes back, as "
            "hook_post; of what comes back then, @ the second weight plus the second bias is the output.",
        ),
    },
)


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


@ASSIGNMENT.check("gelu", "what it lets through of x and what it holds back of -x are x together", numbers)
def both_sides(x):
    return {"gelu(x) - gelu(-x)": mlp.gelu(x) - mlp.gelu(-x)}


def fine_steps(rng):
    """The numbers from -3 to 0, in steps of a thousandth."""
    yield {"x": np.arange(-3000, 1) / 1000}


@ASSIGNMENT.check("gelu", "its lowest value is -0.17004; the form with erf has -0.16997", fine_steps)
def lowest(x):
    return {"the lowest value": mlp.gelu(x).min()}


def prompts(rng):
    """A small random model and ids for it: one token, a prompt, a batch."""
    for shape in ((1,), (4,), (2, 5)):
        yield {"model": small_model(rng), "ids": ids(rng, *shape)}


@ASSIGNMENT.check("gelu", "in the whole model, in place of ours, it leads to the same logits", prompts)
def gelu_in_the_model(model, ids, trace):
    return model(ids, trace=trace)


# --- MLP ----------------------------------------------------------------------------------------------------


def by_hand(fc_bias=(0.0, 0.0), proj_bias=0.0):
    """Return the fields of an MLP from one column to two neurons and back."""
    return {
        "c_fc_weight": np.array([[1.0, -1.0]]),
        "c_fc_bias": np.array(fc_bias),
        "c_proj_weight": np.array([[1.0], [3.0]]),
        "c_proj_bias": np.array([proj_bias]),
    }


def weights(rng, C, F):
    """Return the fields of an MLP, of random numbers."""
    sizes = {"c_fc_weight": (C, F), "c_fc_bias": (F,), "c_proj_weight": (F, C), "c_proj_bias": (C,)}
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


@ASSIGNMENT.check("MLP.__call__", "gives gelu(x @ c_fc_weight + c_fc_bias) @ c_proj_weight + c_proj_bias", layers)
def output(x, trace, **fields):
    return MLP(**fields)(x, trace)


def two_rows(rng):
    """A token, and others that may stand beside it."""
    yield {"x": np.array([[1.0]]), "others": np.array([[-3.0], [5.0]]), **by_hand(fc_bias=(0.5, 2.0))}
    yield {"x": plain(rng, 2, 3), "others": plain(rng, 3, 3), **weights(rng, 3, 5)}


@ASSIGNMENT.check("MLP.__call__", "a token's result does not depend on the tokens beside it", two_rows)
def alone(x, others, **fields):
    layer = MLP(**fields)
    return {"what the others change in it": layer(np.concatenate([x, others]))[: len(x)] - layer(x)}


def asleep(rng):
    """Layers in which every neuron gets far less than 0."""
    yield {"x": np.array([[1.0]]), **by_hand(fc_bias=(-50.0, -50.0), proj_bias=4.0)}
    yield {"x": plain(rng, 2, 3), **weights(rng, 3, 5), "c_fc_bias": np.full(5, -100.0)}


@ASSIGNMENT.check("MLP.__call__", "where GELU holds every neuron back, only c_proj_bias comes out", asleep)
def held_back(x, **fields):
    return MLP(**fields)(x)


@ASSIGNMENT.check("MLP.__call__", "announces pre, with its bias, and post, each (..., T, F)", layers)
def announced_arrays(x, **fields):
    acts = Recorder()
    MLP(**fields)(x, acts)
    return announced(acts, ["hook_pre", "hook_post"])


def on_their_way(rng):
    """Each of the announced tensors, to be changed on its way."""
    for name in ("hook_pre", "hook_post"):
        yield {"x": np.array([[1.0]]), "name": name, **by_hand(fc_bias=(0.5, 2.0), proj_bias=4.0)}


@ASSIGNMENT.check("MLP.__call__", "makes the rest of what trace gives back: x = trace(name, x)", on_their_way)
def patched(x, name, **fields):
    return counted(lambda trace: MLP(**fields)(x, trace), name)


@ASSIGNMENT.check("MLP.__call__", "in the whole model, in place of ours, it leads to the same logits", prompts)
def in_the_model(model, ids, trace):
    return model(ids, trace=trace)
