"""Assignment a2, layer normalization; and the pattern that the other assignments follow.

An assignment is this module, its known mistakes, `../mistakes/a2_layernorm.py`, and a stub, `../stubs/a2_layernorm.py`;
the three have one name, and `../assignment.py` lists it. This module holds:

- ``ASSIGNMENT = Assignment(stem, title, functions)``, with three hints for each function. A function's name is
  "module path:name in the package": a method as here, a class that is written as a whole (its own fields, private
  methods) as "model.cache:KVCache".
- checks: ``@ASSIGNMENT.check(function, claim, cases)`` on a function ``run(...)``. `cases(rng)` yields dicts of
  arguments for `run`, the smallest first and small enough to read, in float64 (each is run in float32 too).
  `run` calls the package as anyone would and returns what is compared: array, number, ids, text, or tuple, list,
  dict of those. It runs with the package as it is, for the expected result, and with the student's function in
  its place. Import what you call at the top of the module, by name or by module. With a parameter `trace`, `run` is
  given a recorder to pass on; the report names the first trace point that differs. Layers that hold Linears are made
  from flat arrays by `../layers.py`, so that a report can show them.
  A claim is a sentence that is true of a right answer, and false where its check fails: the check of a property returns
  the property (a difference that is 0, a sum that is 1), or every wrong value would fail it. Caught without any check
  of yours: exceptions, None, wrong kind, shape or dtype, arguments or announced arrays written into
  (``Assignment(writes=...)`` allows it), state kept between calls, endless loops.

The known mistakes: ``ASSIGNMENT.mistake(function, words, (old, new), ...)`` edits the package's source. Where that is
too short for the mistakes that students make, ``ASSIGNMENT.spell_out(function, version)`` gives a longer right version
to edit; where no edit will do, ``@ASSIGNMENT.wrong_version(function, words)`` decorates a whole wrong one. A mistake is
named when the student's function agrees with it on every float64 case of all checks of that function, so the cases must
tell each mistake from the right answer and from the other mistakes: tests/test_course.py checks that.

The stub is the student's file: the package's classes and functions, complete except for bodies that raise
NotImplementedError (docstring with shapes and formula first). It imports numpy, dataclasses, nanogpt_np.model.trace,
and what else of the package its answer uses, as ``Assignment(may_import=...)`` allows. `answers.answer` adds helpers of
the function's own module and imports of the standard library. To try: ``python -m nanogpt_np course new DIR; ...
answer a2 --yes > DIR/a2_layernorm.py; ... grade DIR a2``.
"""

import numpy as np

from ...model.layernorm import LayerNorm
from ...model.trace import Tape
from ..definitions import Assignment
from ..numbers import ids, plain, small_model

ASSIGNMENT = Assignment(
    "a2_layernorm",
    "layer norm: every token's vector brought to one scale",
    {
        "model.layernorm:LayerNorm.__call__": (
            "Take one token's vector, [1, 3]. What is its mean, how far does each number stray from it, and what "
            "would you divide by so that they stray by 1? Which of these are there once for each token?",
            "Three steps: subtract the mean; divide by the root of (the mean of the squares of what is left, plus "
            "eps); then, for each column, times weight plus bias. All means are over the last axis, and keepdims=True "
            "keeps them in the shape (..., T, 1), which lines up with (..., T, C).",
            "`variance` is the mean of centered * centered over axis=-1, keepdims=True. `scale` is one square root, "
            "and eps is added before it is taken. Announce scale, then centered / scale, then the output, and continue "
            "each time with what `trace` returns.",
        )
    },
)


def vectors(rng):
    """Small to large, with what a wrong version gets wrong: a quiet row, gains, biases, another epsilon, a batch."""
    one, zero = np.ones(2), np.zeros(2)
    yield {"x": np.array([[1.0, 3.0]]), "weight": one, "bias": zero, "eps": 1e-5}
    yield {"x": np.array([[1.0, 3.0]]), "weight": np.array([2.0, 0.5]), "bias": zero, "eps": 1e-5}
    yield {"x": np.array([[1.0, 3.0]]), "weight": one, "bias": np.array([0.5, -1.0]), "eps": 1e-5}
    yield {"x": np.array([[0.001, 0.005]]), "weight": one, "bias": zero, "eps": 1e-5}
    yield {"x": np.array([[1.0, 3.0]]), "weight": one, "bias": zero, "eps": 0.5}
    yield {"x": np.array([[0.0001, 0.0005]]), "weight": one, "bias": zero, "eps": 1e-5}
    yield {"x": plain(rng, 2, 3), "weight": 1 + plain(rng, 3), "bias": plain(rng, 3), "eps": 1e-5}
    yield {"x": plain(rng, 2, 3, 5) * 4 + 1, "weight": plain(rng, 5), "bias": plain(rng, 5), "eps": 1e-3}


@ASSIGNMENT.check("LayerNorm.__call__", "gives (x - mean) / sqrt(variance + eps) * weight + bias for each row", vectors)
def formula(x, weight, bias, eps, trace):
    return LayerNorm(weight, bias, eps)(x, trace)


def rows(rng):
    """A row, a prompt, a batch of prompts, a larger one, of numbers so large that epsilon counts for nothing."""
    for shape in ((1, 2), (3, 2), (2, 3, 4), (5, 20, 35)):
        yield {"x": 1000 * plain(rng, *shape)}
    # float32 holds the mean of these exactly, and each one's distance from it, but not the mean of their squares.
    yield {"x": np.array([[10000.0, 10004.0, 10012.0, 10000.0]], np.float32)}
    yield {"x": (10000 + rng.integers(-9, 10, (2, 3, 4))).astype(np.float32)}


@ASSIGNMENT.check("LayerNorm.__call__", "without gain and bias every row has mean 0 and variance 1", rows)
def mean_and_variance(x):
    y = LayerNorm(np.ones(x.shape[-1], x.dtype), np.zeros(x.shape[-1], x.dtype))(x)
    return {"mean of each row": y.mean(axis=-1), "variance of each row": y.var(axis=-1)}


def two_rows(rng):
    """A row, and two others that may stand beside it."""
    yield {"x": np.array([[1.0, 3.0]]), "others": np.array([[10.0, -20.0]])}
    yield {"x": plain(rng, 1, 4), "others": plain(rng, 3, 4)}


@ASSIGNMENT.check("LayerNorm.__call__", "a row's result does not depend on the rows beside it", two_rows)
def alone(x, others):
    C = x.shape[-1]
    norm = LayerNorm(np.full(C, 1.5, x.dtype), np.full(C, 0.5, x.dtype))
    return {"what the others change in it": norm(np.concatenate([x, others]))[0] - norm(x)[0]}


@ASSIGNMENT.check("LayerNorm.__call__", "announces scale (..., T, 1), normalized and output as they are", rows)
def announced(x):
    acts = Tape()
    C = x.shape[-1]
    LayerNorm(np.full(C, 1.5, x.dtype), np.full(C, 0.5, x.dtype))(x, acts)
    return dict(acts)


def changes(rng):
    """Each of the announced tensors, to be changed on its way."""
    for name in ("hook_scale", "hook_normalized", "hook_output"):
        yield {"x": np.array([[1000.0, 3000.0]]), "name": name}


@ASSIGNMENT.check("LayerNorm.__call__", "continues with what trace returns: x = trace(name, x)", changes)
def patched(x, name):
    norm = LayerNorm(np.ones(2, x.dtype), np.zeros(2, x.dtype))
    doubled = norm(x, lambda n, a: a * 2 if n == name else a)
    return {f"the output with twice the {name}, as a multiple of the one without": doubled / norm(x)}


def prompts(rng):
    """A small random model and ids for it: one token, a prompt, a batch."""
    for shape in ((1,), (4,), (2, 5)):
        model = small_model(rng, layer_norm_epsilon=1e-4)
        yield {"model": model, "ids": ids(rng, *shape)}


@ASSIGNMENT.check("LayerNorm.__call__", "in the whole model, in place of ours, it leads to the same logits", prompts)
def in_the_model(model, ids, trace):
    return model(ids, trace=trace)
