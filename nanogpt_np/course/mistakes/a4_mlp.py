"""Known mistakes in GELU and the MLP: what assignment a4 can call by its name."""

import math

import numpy as np

from ..assignments.a4_mlp import ASSIGNMENT

ROOT = math.sqrt(2 / math.pi)


def cube(x):
    return 0.044715 * x * x * x


def half(x, u):
    return 0.5 * x * (1 + np.tanh(u))


def sigmoid(x):
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def tanh_by_exp(u):
    with np.errstate(all="ignore"):
        return (np.exp(u) - np.exp(-u)) / (np.exp(u) + np.exp(-u))


def erf(x):
    return np.array([math.erf(a) for a in x.reshape(-1)], x.dtype).reshape(x.shape)


def slope(x):
    t = np.tanh(ROOT * (x + cube(x)))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * ROOT * (1 + 3 * 0.044715 * x * x)


OTHER_BENDS = {
    "this is the other GELU, with erf: GPT-2 was trained with the tanh form": (
        lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2)))
    ),
    "this is the quick form, x times the sigmoid of 1.702 x": lambda x: x * sigmoid(1.702 * x),
    "this is ReLU, which does not bend but break": lambda x: np.maximum(x, 0),
    "this is SiLU, x times the sigmoid of x": lambda x: x * sigmoid(x),
    "the sigmoid gets u, not 2 u: 0.5 (1 + tanh u) = sigmoid(2 u)": lambda x: x * sigmoid(ROOT * (x + cube(x))),
    "the cube is forgotten: x + 0.044715 x^3": lambda x: half(x, ROOT * x),
    "sqrt(2/pi) is forgotten": lambda x: half(x, x + cube(x)),
    "2/pi stands without its root": lambda x: half(x, 2 / math.pi * (x + cube(x))),
    "the root is over pi/2, not over 2/pi": lambda x: half(x, math.sqrt(math.pi / 2) * (x + cube(x))),
    "the root is over 2 only: sqrt(2) / pi": lambda x: half(x, math.sqrt(2) / math.pi * (x + cube(x))),
    "the root is over 2 pi, not over 2/pi": lambda x: half(x, math.sqrt(2 * math.pi) * (x + cube(x))),
    "sqrt(2/pi) multiplies x only, not the cube": lambda x: half(x, ROOT * x + cube(x)),
    "x is squared, not cubed": lambda x: half(x, ROOT * (x + 0.044715 * x * x)),
    "the whole bracket is cubed: only x is": lambda x: half(x, ROOT * (x + 0.044715 * x) ** 3),
    "0.044715 is cubed with x: only x is": lambda x: half(x, ROOT * (x + (0.044715 * x) ** 3)),
    "the cube's coefficient is 0.44715: it is 0.044715": lambda x: half(x, ROOT * (x + 10 * cube(x))),
    "the cube's coefficient is 0.0044715: it is 0.044715": lambda x: half(x, ROOT * (x + cube(x) / 10)),
    "the cube's coefficient is 0.04715: it is 0.044715": lambda x: half(x, ROOT * (x + 0.04715 * x * x * x)),
    "the cube is taken off, not added": lambda x: half(x, ROOT * (x - cube(x))),
    "the half is forgotten: 0.5 x (1 + tanh u)": lambda x: 2 * half(x, ROOT * (x + cube(x))),
    "the half is of tanh u only: 0.5 x (1 + tanh u)": lambda x: x * (1 + 0.5 * np.tanh(ROOT * (x + cube(x)))),
    "the 1 is forgotten: 0.5 x (1 + tanh u)": lambda x: 0.5 * x * np.tanh(ROOT * (x + cube(x))),
    "x in front is forgotten: 0.5 x (1 + tanh u)": lambda x: 0.5 * (1 + np.tanh(ROOT * (x + cube(x)))),
    "half of 1 + tanh u multiplies u, not x": lambda x: half(ROOT * (x + cube(x)), ROOT * (x + cube(x))),
    "tanh is made of exp(u) and exp(-u), and exp of much overflows": (
        lambda x: 0.5 * x * (1 + tanh_by_exp(ROOT * (x + cube(x))))
    ),
    "its slope comes out, not its value": slope,
}
for words, version in OTHER_BENDS.items():
    ASSIGNMENT.wrong_version("gelu", words)(version)


def wrong(words, *edits):
    ASSIGNMENT.mistake("MLP.__call__", words, *edits)


GELU = 'in_blocks(gelu, trace("hook_pre", pre))'
POST = f'trace("hook_post", {GELU})'
FC_BIAS, PROJ_BIAS = "    pre += self.c_fc_bias\n", "    out += self.c_proj_bias\n"
wrong("there is no GELU: two matrices in a row are no more than one", ("in_blocks(gelu, trace(", "(trace("))
wrong(
    "GELU stands after the second product, not between the two",
    ("in_blocks(gelu, trace(", "(trace("),
    ("return out", "return gelu(out)"),
)
wrong("GELU bends the output too: it belongs between the two products only", ("return out", "return gelu(out)"))
wrong("GELU is applied twice in a row", ("in_blocks(gelu, trace(", "in_blocks(lambda x: gelu(gelu(x)), trace("))
wrong("GELU bends x itself, before the first product", ("x @", "gelu(x) @"), ("in_blocks(gelu, trace(", "(trace("))
wrong("ReLU stands in GELU's place", ("in_blocks(gelu,", "np.maximum(0,"))
wrong("the first bias is forgotten: c_fc_bias", (FC_BIAS, ""))
wrong("the second bias is forgotten: c_proj_bias", (PROJ_BIAS, ""))
wrong("both biases are forgotten", (FC_BIAS, ""), (PROJ_BIAS, ""))
wrong(
    "the first bias is added after GELU, not before",
    (FC_BIAS, ""),
    (GELU, f"{GELU} + self.c_fc_bias"),
)
wrong("the first bias is taken off, not added", ("pre +=", "pre -="))
wrong("the residual is added here: x + ... is the block's", ("return out", "return x + out"))
wrong(
    "hook_pre is announced before the bias is added",
    ('trace("hook_pre", pre)', "pre"),
    (FC_BIAS, '    pre = trace("hook_pre", pre) + self.c_fc_bias\n'),
)
wrong(
    "hook_pre and hook_post are exchanged",
    ('trace("hook_post", in', 'trace("hook_pre", in'),
    ('trace("hook_pre", pre)', 'trace("hook_post", pre)'),
)
wrong("nothing is announced", (POST, "in_blocks(gelu, pre)"))
wrong(
    "what trace gives back is not used: x = trace(name, x)",
    (POST, 'in_blocks(gelu, pre)\n    trace("hook_pre", pre)\n    trace("hook_post", post)'),
)
wrong(
    "what trace gives back as hook_pre is not used: GELU gets the old array",
    (f"    post = {POST}", '    trace("hook_pre", pre)\n    post = trace("hook_post", in_blocks(gelu, pre))'),
)
wrong(
    "what trace gives back as hook_post is not used: the second product gets the old array",
    (POST, f'{GELU}\n    trace("hook_post", post)'),
)
