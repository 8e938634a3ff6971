"""Tracing is one argument: ``x = trace(name, x)`` announces a tensor and returns the tensor to use from there on.

Any callable of a name and an array is a trace. That one call in each layer can log shapes, keep values
or change an activation on its way; the layers don't know which. The names, in the order in which they
happen, with shapes and equations: `names/activations.py`. Here is the plain tape that the backward pass reads;
`nanogpt_np.Recorder`, for looking inside, extends it (`interpret/recorder.py`, `page/notebook.py`).
"""


def no_trace(name, x):
    """Return `x` as it is: the default, when no trace is attached."""
    return x


class Tape(dict):
    """Keep every announced array under its name: ``tape["blocks.0.attn.hook_pattern"]``. The backward pass reads it."""

    def __call__(self, name, x):
        self[name] = x
        return x


class ShapeLog(list):
    """Keep ``(name, shape, dtype)`` of every array in the order in which they happen, and no array."""

    def __call__(self, name, x):
        self.append((name, x.shape, x.dtype))
        return x


def scoped(trace, prefix):
    """Return the trace for one part of the model, whose names all begin with `prefix`."""
    if trace is no_trace:
        return no_trace
    return lambda name, x: trace(prefix + name, x)


def under(tape, prefix):
    """Return the reader for one part of the model: ``tape`` maps a name to its array, as ``Tape.__getitem__`` does."""
    return lambda name: tape(prefix + name)


def chain(*traces):
    """Return a trace that passes each tensor through `traces`, first to last."""
    traces = [trace for trace in traces if trace is not no_trace]
    if not traces:
        return no_trace

    def chained(name, x):
        for trace in traces:
            x = trace(name, x)
        return x

    return chained
