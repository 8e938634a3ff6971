"""Judging a backward pass: the tape that it reads, what it announces to its trace, and slopes measured by differences.

A gradient is judged in two ways: against the package's own, and against what it means, a slope. Slopes are measured
in float64, whatever the case holds: differences of float32 numbers would drown in rounding.
"""

from dataclasses import fields, is_dataclass, replace

import numpy as np

from ..model.gpt2 import Block, arrays
from ..model.layernorm import LayerNorm
from ..model.lm_head import LMHead
from ..model.trace import Tape, no_trace
from .layers import changed

STEP = 1e-4  # between the numbers that a slope is measured from


def taped(run):
    """Return the `Tape` of a forward pass ``run(trace)``, its arrays read-only: a tape is not scratch paper."""
    tape = Tape()
    run(tape)
    for array in tape.values():
        array.flags.writeable = False
    return tape


def backward(layer, x, d_out, trace=no_trace):
    """Run a layer forward and back -> (d_x, {name: gradient}), or twice whatever else its `backward` returns."""
    if isinstance(layer, LMHead):
        return pair(layer.backward(d_out, x))
    tape = taped(lambda record: layer(x, trace=record)).__getitem__
    reads = (tape,) if isinstance(layer, (LayerNorm, Block)) else (x, tape)
    return pair(layer.backward(d_out, *reads, trace))


def pair(result):
    """Return a pair as it is, and anything else twice, for the comparison to say what is wrong with it."""
    return result if isinstance(result, (tuple, list)) and len(result) == 2 else (result, result)


def both(result):
    """Return the gradients of a layer's input and of its parameters as one dict."""
    d_x, grads = result
    return {"d_x": d_x, **(grads if isinstance(grads, dict) else {})}


def told(trace):
    """Return a trace whose names say that the arrays are gradients."""
    return lambda name, d: trace(f"the gradient of {name}", d)


def obeyed(run, name):
    """Return the gradients of ``run(trace)``, a dict, as they are when the trace doubles the gradient of one name.

    All of them, not only those that change: a gradient may be used in several places, and must be doubled in each.
    """
    doubled = run(lambda point, d: d * 2 if point == name else d)
    return {f"{key}, where the gradient of {name} is doubled": array for key, array in doubled.items()}


def wide(value):
    """Return an array, or a layer with all that is in it, in float64."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float64) if value.dtype.kind == "f" else value
    if is_dataclass(value):
        return replace(value, **{part.name: wide(getattr(value, part.name)) for part in fields(value)})
    return value


def slopes(f, x):
    """How fast the number f(x) rises with each number of `x`, by central differences of four points; shape of `x`.

    With two points the error is of order STEP^2, and large where a LayerNorm divides by little; with four, STEP^4.
    """
    found = np.empty_like(x)
    for at in np.ndindex(x.shape):

        def moved(amount, at=at):
            other = x.copy()
            other[at] += amount
            return f(other)

        near, far = moved(STEP) - moved(-STEP), moved(2 * STEP) - moved(-2 * STEP)
        found[at] = (8 * near - far) / (12 * STEP)
    return found


def less(gradient, measured):
    """Return what a gradient differs by from measured slopes, as a share of the largest if that is above 1.

    Anything but an array of that shape is returned as it is, for the comparison to say what is wrong with it.
    """
    if not isinstance(gradient, np.ndarray) or gradient.shape != measured.shape:
        return gradient
    return (gradient - measured) / max(1, np.abs(measured).max())


def less_measured(layer, x, d_out, *, inputs_only=False):
    """Return each gradient of sum(d_out * layer(x)) less what differences measure: {"d_x": zeros, "weight": zeros}"""
    layer, x, d_out = wide(layer), wide(x), wide(d_out)

    def total(layer, x):
        return float((d_out * layer(x)).sum())

    measured = {"d_x": slopes(lambda moved: total(layer, moved), x)}
    for name, array in arrays(layer).items() if not inputs_only else ():
        measured[name] = slopes(lambda moved, name=name: total(changed(layer, name, moved), x), array)
    given = both(backward(layer, x, d_out))
    return {name: less(given[name], slope) for name, slope in measured.items() if name in given}
