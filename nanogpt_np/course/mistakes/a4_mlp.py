"""Known mistakes in the linear layer, GELU and the MLP: what assignment a4 can call by its name."""

import math

import numpy as np

from ...model.mlp import gelu
from ...model.trace import no_trace
from ..assignments.a4_mlp import ASSIGNMENT

# --- Linear -------------------------------------------------------------------------------------------------


def linear(words, *edits):
    ASSIGNMENT.mistake("Linear.__call__", words, *edits)


PRODUCT, BIAS = "x @ self.weight", "    y += self.bias\n"
linear("the bias is forgotten", (BIAS, ""))
linear("the bias is subtracted, not added", ("y += self.bias", "y -= self.bias"))
linear(
    "the bias is added before the product: (x + bias) @ weight", (PRODUCT, "(x + self.bias) @ self.weight"), (BIAS, "")
)
linear("the matrix is transposed: W is stored [in, out]", (PRODUCT, "x @ self.weight.T"))
linear("the product is the other way round, weight @ x", (PRODUCT, "self.weight @ x"))
linear("x and weight are multiplied number by number, with * in place of @", (PRODUCT, "x * self.weight"))
linear("the weighted sums are divided by how many inputs there are", (PRODUCT, "x @ self.weight / x.shape[-1]"))
linear("x is added to the output: the residual is the block's", ("return y", "return x + y"))
linear(
    "only the last token gets an output", (PRODUCT, "x[..., -1:, :] @ self.weight if x.ndim > 1 else x @ self.weight")
)
linear("it announces its output: only the layers that use it do", ("return y", 'return trace("hook_output", y)'))


@ASSIGNMENT.wrong_version(
    "Linear.__call__", "GELU is applied to the output: the MLP does that, between two linear layers"
)
def bent(self, x, trace=no_trace):
    return gelu(x @ self.weight + self.bias)


# --- gelu ---------------------------------------------------------------------------------------------------

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
    "this is ReLU, which has a kink where GELU bends": lambda x: np.maximum(x, 0),
    "this is SiLU, x times the sigmoid of x": lambda x: x * sigmoid(x),
    "the sigmoid gets u, not 2 u: 0.5 (1 + tanh u) = sigmoid(2 u)": lambda x: x * sigmoid(ROOT * (x + cube(x))),
    "the cube is forgotten: x + 0.044715 x^3": lambda x: half(x, ROOT * x),
    "sqrt(2/pi) is forgotten": lambda x: half(x, x + cube(x)),
    "2/pi has lost its root": lambda x: half(x, 2 / math.pi * (x + cube(x))),
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
    "the cube is subtracted, not added": lambda x: half(x, ROOT * (x - cube(x))),
    "the half is forgotten: 0.5 x (1 + tanh u)": lambda x: 2 * half(x, ROOT * (x + cube(x))),
    "the half is of tanh u only: 0.5 x (1 + tanh u)": lambda x: x * (1 + 0.5 * np.tanh(ROOT * (x + cube(x)))),
    "the 1 is forgotten: 0.5 x (1 + tanh u)": lambda x: 0.5 * x * np.tanh(ROOT * (x + cube(x))),
    "x in front is forgotten: 0.5 x (1 + tanh u)": lambda x: 0.5 * (1 + np.tanh(ROOT * (x + cube(x)))),
    "half of 1 + tanh u multiplies u, not x": lambda x: half(ROOT * (x + cube(x)), ROOT * (x + cube(x))),
    "tanh is computed from exp(u) and exp(-u), and exp of a large number overflows": (
        lambda x: 0.5 * x * (1 + tanh_by_exp(ROOT * (x + cube(x))))
    ),
    "its slope is returned, not its value": slope,
}
for words, version in OTHER_BENDS.items():
    ASSIGNMENT.wrong_version("gelu", words)(version)


# --- MLP ----------------------------------------------------------------------------------------------------


def forward(self, x, trace=no_trace):
    """The MLP with its products and sums written out, for the mistakes that are made in them."""
    pre = x @ self.c_fc.weight
    pre += self.c_fc.bias
    post = trace("hook_post", gelu(trace("hook_pre", pre)))
    out = post @ self.c_proj.weight
    out += self.c_proj.bias
    return out


ASSIGNMENT.spell_out("MLP.__call__", forward)


def wrong(words, *edits):
    ASSIGNMENT.mistake("MLP.__call__", words, *edits)


GELU = 'gelu(trace("hook_pre", pre))'
POST = f'trace("hook_post", {GELU})'
FC_BIAS, PROJ_BIAS = "    pre += self.c_fc.bias\n", "    out += self.c_proj.bias\n"
wrong("there is no GELU: two matrices in a row are no more than one", ("gelu(trace(", "(trace("))
wrong(
    "GELU comes after the second product, not between the two",
    ("gelu(trace(", "(trace("),
    ("return out", "return gelu(out)"),
)
wrong("GELU bends the output too: it belongs between the two products only", ("return out", "return gelu(out)"))
wrong("GELU is applied twice in a row", (GELU, f"gelu({GELU})"))
wrong("GELU bends x itself, before the first product", ("x @", "gelu(x) @"), ("gelu(trace(", "(trace("))
wrong("ReLU is used in place of GELU", ("gelu(trace(", "np.maximum(0, trace("))
wrong("the first bias is forgotten: c_fc.bias", (FC_BIAS, ""))
wrong("the second bias is forgotten: c_proj.bias", (PROJ_BIAS, ""))
wrong("both biases are forgotten", (FC_BIAS, ""), (PROJ_BIAS, ""))
wrong(
    "the first bias is added after GELU, not before",
    (FC_BIAS, ""),
    (GELU, f"{GELU} + self.c_fc.bias"),
)
wrong("the first bias is subtracted, not added", ("pre +=", "pre -="))
wrong("the residual is added here: x + ... is the block's", ("return out", "return x + out"))
wrong(
    "hook_pre is announced before the bias is added",
    ('trace("hook_pre", pre)', "pre"),
    (FC_BIAS, '    pre = trace("hook_pre", pre) + self.c_fc.bias\n'),
)
wrong(
    "hook_pre and hook_post are exchanged",
    ('trace("hook_post", gelu', 'trace("hook_pre", gelu'),
    ('trace("hook_pre", pre)', 'trace("hook_post", pre)'),
)
wrong("nothing is announced", (POST, "gelu(pre)"))
wrong(
    "what trace returns is not used: x = trace(name, x)",
    (POST, 'gelu(pre)\n    trace("hook_pre", pre)\n    trace("hook_post", post)'),
)
wrong(
    "what trace returns as hook_pre is not used: GELU gets the old array",
    (f"    post = {POST}", '    trace("hook_pre", pre)\n    post = trace("hook_post", gelu(pre))'),
)
wrong(
    "what trace returns as hook_post is not used: the second product gets the old array",
    (POST, f'{GELU}\n    trace("hook_post", post)'),
)
