"""How each kind of trace point follows from those that it reads: one function for each, in float64.

Each takes the run, the point and an index, and returns the fields of an `explain.Explanation`: the
value, and the terms that make it with their texts and where each was read. The point's own recorded
number is not among what they read. Read first: `explain.py`.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..model.gpt2 import GPT2
from ..model.trace import Array
from ..names import points
from ..names.trace_point import Point
from .recorder import Acts
from .recording import recorded
from .stored import Stored

Index = tuple[int, ...]
Cell = tuple[str, Index]  # where a number stands: a trace point and an index
Column = Callable[[int], Index]  # a term's number -> the index of a weight
Fields = dict[str, Any]  # of an `explain.Explanation`

SMALLEST = 1e4 * float(np.finfo(np.float32).tiny)  # about 1e-34


class Source:
    """A recording and its model, as the derivations read them: in float64."""

    def __init__(self, acts: Acts, model: GPT2):
        self.acts, self.config, self._stored = acts, model.config, Stored(model)

    def array(self, name: str) -> Array:
        return recorded(self.acts, name, self.config)

    def read(self, name: str, *index: Any) -> Array:
        return self.array(name)[index].astype(np.float64)

    def weight(self, name: str, *index: Any) -> Array:
        return self._stored[name][index].astype(np.float64)

    def row_of_key(self, name: str, key: int) -> int:
        """The row in which this pass computed the key or value of a token, counted as attention counts."""
        T, S = self.array(name.rpartition(".")[0] + ".hook_attn_scores").shape[-2:]
        if key < S - T:
            raise ValueError(
                f"token {key} was computed in an earlier pass, and a KV cache held its {name.rpartition('_')[2]}: "
                "record the whole prompt in one pass to explain this"
            )
        return key - (S - T)


def _text(name: str, *index: int) -> str:
    """Name a number as short as its block allows: ``ln1.output[4, 17]``, ``c_attn.weight[17, 3]``."""
    short = points.BLOCK_NUMBER.sub("", name).replace("hook_", "")
    if name.startswith("h."):
        short = ".".join(name.split(".")[-2:])
    return short + str([int(i) for i in index])


def _given(run: Source, point: Point, t: int) -> Fields:
    how = "given by the text" if point.name == "hook_tokens" else "counted, from 0 at the start of the text"
    return _without_terms(float(run.read(point.name, t)), how)


def _without_terms(value: float, how: str) -> Fields:
    return {"value": value, "how": how, "amounts": np.empty(0), "label": str, "source": lambda j: None}


def _looked_up(run: Source, point: Point, t: int, c: int) -> Fields:
    (ids,), (weight,) = point.reads, point.weights
    row = int(run.read(ids, t))
    value = float(run.weight(weight, row, c))
    return {
        "value": value,
        "how": f"row {row} of {weight}, as {_text(ids, t)} = {row}",
        "amounts": np.array([value]),
        "label": lambda j: _text(weight, row, c),
        "source": lambda j: (ids, (t,)),
    }


def _sum(run: Source, point: Point, *index: int) -> Fields:
    """The numbers at the same index of all that the point reads, added."""
    return _copies(run, *((name, index) for name in point.reads))


def _copies(run: Source, *cells: Cell) -> Fields:
    amounts = np.array([float(run.read(name, *index)) for name, index in cells])
    return {
        "value": amounts.sum(),
        "how": "the same number, from where it stood before" if len(cells) == 1 else f"sum of {len(cells)} numbers",
        "amounts": amounts,
        "label": lambda j: _text(cells[j][0], *cells[j][1]),
        "source": lambda j: cells[j],
    }


def _scale(run: Source, point: Point, t: int, one: int) -> Fields:
    (stream,) = point.reads
    x = run.read(stream, t)  # (C,)
    eps, C = run.config.layer_norm_epsilon, len(x)
    amounts = np.append((x - x.mean()) ** 2 / C, eps)
    return {
        "value": math.sqrt(amounts.sum()),
        "how": f"root of a sum: {C} squared distances from the mean {x.mean():.5g}, each divided by {C}, and eps",
        "amounts": amounts,
        "label": lambda j: "eps" if j == C else f"({_text(stream, t, j)} = {x[j]:.5g}, less the mean)^2 / {C}",
        "source": lambda j: None if j == C else (stream, (t, j)),
        "size": math.sqrt(amounts.sum()),
    }


def _normalized(run: Source, point: Point, t: int, c: int) -> Fields:
    stream, scale_name = point.reads
    x, scale = run.read(stream, t), float(run.read(scale_name, t, 0))
    amounts = np.array([x[c], -x.mean()]) / scale
    return {
        "value": amounts.sum(),
        "how": f"difference of two numbers, each divided by {_text(scale_name, t, 0)} {scale:.5g}",
        "amounts": amounts,
        "label": lambda j: (
            f"{_text(stream, t, c)} = {x[c]:.5g} / scale" if j == 0 else f"-mean = {-x.mean():.5g} / scale"
        ),
        "source": lambda j: (stream, (t, c)) if j == 0 else None,
        "follow": 0,
    }


def _gain_and_bias(run: Source, point: Point, t: int, c: int) -> Fields:
    (normalized,), (weight, bias) = point.reads, point.weights
    n, g, b = (float(a) for a in (run.read(normalized, t, c), run.weight(weight, c), run.weight(bias, c)))
    first = f"{_text(normalized, t, c)} {n:.5g} * {_text(weight, c)} {g:.5g}"
    return {
        "value": n * g + b,
        "how": "a product and the bias",
        "amounts": np.array([n * g, b]),
        "label": lambda j: _text(bias, c) if j else first,
        "source": lambda j: None if j else (normalized, (t, c)),
        "follow": 0,
    }


def _dot(
    run: Source, name: str, at: Index, weight: str, column: Column, w: Array, bias: tuple[str, float] | None = None
) -> Fields:
    """The dot product of a row of an activation with `w` of a weight, and a bias where there is one.

    name[at] is the row, (n,); `column` gives the index in the weight of its j-th number.
    """
    x = run.read(name, *at)
    amounts, products = x * w, f"sum of {len(x)} products"
    if bias:
        amounts, products = np.append(amounts, bias[1]), products + " and the bias"

    def label(j: int) -> str:
        if bias and j == len(x):
            return bias[0]
        return f"{_text(name, *at, j)} {x[j]:.5g} * {_text(weight, *column(j))} {w[j]:.5g}"

    return {
        "value": amounts.sum(),
        "how": products,
        "amounts": amounts,
        "label": label,
        "source": lambda j: None if j == len(x) else (name, (*at, j)),
    }


def _linear(run: Source, point: Point, t: int, c: int) -> Fields:
    (name,), (weight, bias) = point.reads, point.weights
    b = _text(bias, c), float(run.weight(bias, c))
    return _dot(run, name, (t,), weight, lambda j: (j, c), run.weight(weight, slice(None), c), b)


def _logit(run: Source, point: Point, *index: int) -> Fields:
    (name,), (weight,), (*at, token) = point.reads, point.weights, index
    return _dot(run, name, tuple(at), weight, lambda j: (token, j), run.weight(weight, token))


def _cut(run: Source, point: Point, t: int, h: int, d: int) -> Fields:
    """q, k or v: C columns each of qkv, D of them for each head."""
    (qkv,), config = point.reads, run.config
    which = "qkv".index(point.name[-1])
    return _copies(run, (qkv, (t, which * config.n_embd + h * config.head_width + d)))


def _merged(run: Source, point: Point, t: int, c: int) -> Fields:
    (z,) = point.reads
    return _copies(run, (z, (t, *divmod(c, run.config.head_width))))


def _last_row(run: Source, point: Point, c: int) -> Fields:
    (name,) = point.reads
    return _copies(run, (name, (len(run.array(name)) - 1, c)))


def _score(run: Source, point: Point, h: int, t: int, s: int) -> Fields:
    q_name, k_name = point.reads
    T, S = run.array(point.name).shape[-2:]
    if s > S - T + t:
        how = f"masked: of the {S} tokens, this query is token {S - T + t} and sees none after itself"
        return _without_terms(-math.inf, how)
    row = run.row_of_key(k_name, s)
    q, k = run.read(q_name, t, h), run.read(k_name, row, h)  # (D,)
    scale = run.config.attention_scale(points.block_of(point.name) or 0)
    return {
        "value": float((q * k).sum() * scale),
        "how": f"sum of {len(q)} products, each times the scale {scale:.6g}",
        "amounts": q * k * scale,
        "label": lambda j: f"{_text(q_name, t, h, j)} {q[j]:.5g} * {_text(k_name, row, h, j)} {k[j]:.5g} * scale",
        "source": lambda j: (q_name, (t, h, j)) if abs(q[j]) >= abs(k[j]) else (k_name, (row, h, j)),
    }


def _softmax(run: Source, point: Point, *index: int) -> Fields:
    (name,), (*row, own) = point.reads, index
    x = run.read(name, *row)
    amounts = np.exp(x - x.max())
    value = float(amounts[own] / amounts.sum())
    return {
        "value": value,
        "how": f"its share of the sum: exp({x[own]:.5g} less the largest, {x.max():.5g}) / {amounts.sum():.6g}",
        "amounts": amounts,
        "label": lambda j: f"exp of {_text(name, *row, j)} = {x[j]:.5g}, less the largest",
        "source": lambda j: (name, (*row, j)),
        "follow": own,
        "size": value,
    }


def _average(run: Source, point: Point, t: int, h: int, d: int) -> Fields:
    pattern, v_name = point.reads
    p = run.read(pattern, h, t)  # (S,)
    first = run.row_of_key(v_name, 0)
    v = run.read(v_name, slice(None), h, d)
    return {
        "value": float((p * v).sum()),
        "how": f"sum over {len(p)} tokens of pattern times value",
        "amounts": p * v,
        "label": lambda j: f"{_text(pattern, h, t, j)} {p[j]:.5g} * {_text(v_name, first + j, h, d)} {v[j]:.5g}",
        "source": lambda j: (v_name, (first + j, h, d)),
    }


def _gelu(run: Source, point: Point, t: int, f: int) -> Fields:
    (pre,) = point.reads
    x = float(run.read(pre, t, f))
    bent = math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))  # of floats, x**3 is an error, not inf
    return {
        "value": 0.5 * x + 0.5 * x * bent,
        "how": f"gelu of {_text(pre, t, f)} {x:.5g}: 0.5 x + 0.5 x tanh(sqrt(2/pi) (x + 0.044715 x^3))",
        "amounts": np.array([0.5 * x, 0.5 * x * bent]),
        "label": lambda j: ("0.5 * x", f"0.5 * x * tanh {bent:.5g}")[j],
        "source": lambda j: (pre, (t, f)),
    }


def _likeliest(run: Source, point: Point) -> Fields:
    (name,) = point.reads
    x = run.read(name)
    best = np.argsort(-x, kind="stable")[:5]
    return {
        "value": int(best[0]),
        "how": f"the number of the largest of {len(x)} logits, of which the first are",
        "amounts": x[best],
        "label": lambda j: _text(name, int(best[j])),
        "source": lambda j: (name, (int(best[j]),)),
        "follow": 0,
    }


_NORMS: list[tuple[str, Callable[..., Fields]]] = [
    (prefix + name, kind)
    for prefix in ("ln1.", "ln2.", "ln_final.")
    for name, kind in (("hook_scale", _scale), ("hook_normalized", _normalized), ("hook_output", _gain_and_bias))
]
KINDS: dict[str, Callable[..., Fields]] = {
    "hook_tokens": _given,
    "hook_positions": _given,
    "hook_embed": _looked_up,
    "hook_pos_embed": _looked_up,
    "hook_resid_pre": _sum,
    **dict(_NORMS),
    "attn.hook_qkv": _linear,
    "attn.hook_q": _cut,
    "attn.hook_k": _cut,
    "attn.hook_v": _cut,
    "attn.hook_attn_scores": _score,
    "attn.hook_pattern": _softmax,
    "attn.hook_z": _average,
    "attn.hook_merged": _merged,
    "hook_attn_out": _linear,
    "hook_resid_mid": _sum,
    "mlp.hook_pre": _linear,
    "mlp.hook_post": _gelu,
    "hook_mlp_out": _linear,
    "hook_resid_post": _sum,
    "hook_logits": _logit,
    "hook_last_row": _last_row,
    "hook_next_logits": _logit,
    "hook_probabilities": _softmax,
    "hook_next_token": _likeliest,
}
