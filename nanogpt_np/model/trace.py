"""Tracing is one argument: ``x = trace(name, x)`` announces a tensor and returns the tensor to use from then on.

Any callable of a name and an array is a trace. The same call can log shapes, keep values or change
an activation; the layers don't know which. The names, in order, with shapes and equations:
`names/activations.py`. The backward pass reads the plain `Tape`; `nanogpt_np.Recorder`, for looking
inside, extends it (`interpret/recorder.py`, `page/notebook.py`).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]  # shapes stand in words beside it
Trace = Callable[[str, Array], Array]  # announces a tensor, returns the tensor to use from there on
Reader = Callable[[str], Array]  # maps a name to its array: one part of a tape
Grads = dict[str, Array]  # by parameter name


def no_trace(name: str, x: Array) -> Array:
    """Return `x` unchanged: the default when no trace is attached."""
    return x


class Tape(dict[str, Array]):
    """Keep every announced array under its name: ``tape["blocks.0.attn.hook_pattern"]``. The backward pass reads it."""

    def __call__(self, name: str, x: Array) -> Array:
        self[name] = x
        return x


class ShapeLog(list[tuple[str, tuple[int, ...], np.dtype[Any]]]):
    """Keep ``(name, shape, dtype)`` of every array, in order, but not the arrays."""

    def __call__(self, name: str, x: Array) -> Array:
        self.append((name, x.shape, x.dtype))
        return x


def scoped(trace: Trace, prefix: str) -> Trace:
    """Return the trace for one part of the model, whose names all begin with `prefix`."""
    if trace is no_trace:
        return no_trace
    return lambda name, x: trace(prefix + name, x)


def under(tape: Reader, prefix: str) -> Reader:
    """Return the reader for one part of the model: ``tape`` maps a name to its array, as ``Tape.__getitem__`` does."""
    return lambda name: tape(prefix + name)


def chain(*traces: Trace) -> Trace:
    """Return a trace that passes each tensor through `traces`, first to last."""
    attached = [trace for trace in traces if trace is not no_trace]
    if not attached:
        return no_trace

    def chained(name: str, x: Array) -> Array:
        for trace in attached:
            x = trace(name, x)
        return x

    return chained


class Params(dict[str, Array]):
    """Arrays by checkpoint name, as `GPT2.params` returns them: a dict that prints as a table, cut if it is long."""

    def __repr__(self) -> str:
        rows = [f"{k:26}  {list(x.shape)!s:13}  {x.dtype}  {x.nbytes:13,} bytes" for k, x in self.items()]
        total = f"{len(self)} arrays, {sum(x.size for x in self.values()):,} parameters"
        if len(rows) > 60:
            rows[26:-14] = [f"... {len(rows) - 40} more, likewise ..."]
        return "\n".join([*rows, total])


def named(layers: dict[str, Grads]) -> Grads:
    """Join the gradients of several layers: ``{"c_fc": {"weight": d}}`` -> ``{"c_fc.weight": d}``."""
    return {f"{layer}.{name}": d for layer, grads in layers.items() for name, d in grads.items()}
