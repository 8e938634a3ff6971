"""Tracing is one argument: ``x = trace(name, x)`` announces a tensor and takes back what to go on with.

Any callable of a name and an array is a trace. The one call in each layer can log
shapes, keep values, or change an activation on its way; the layers know nothing of it.
Which names there are, in which order and of which shape: `activations.py`.
"""


def no_trace(name, x):
    """Return `x` as it is: the default, when nobody is watching."""
    return x


class Recorder(dict):
    """Keep every array of a pass under its name: ``acts["blocks.0.attn.hook_pattern"]``. A new pass starts anew.

    In a notebook it shows as a page to walk through; once it is told the model (``acts.model = model``), with its
    weights and with what made the answer.
    """

    model = None

    def __call__(self, name, x):
        if name == "hook_tokens":
            self.clear()
        self[name] = x
        return x

    def _repr_html_(self):
        from .page.notebook import frame  # nothing here needs the page

        return frame(self, self.model)


class ShapeLog(list):
    """Keep ``(name, shape, dtype)`` of every array in the order they happen, and no array."""

    def __call__(self, name, x):
        self.append((name, x.shape, x.dtype))
        return x


def scoped(trace, prefix):
    """Return the trace for a part of the model, whose names all begin with `prefix`."""
    if trace is no_trace:
        return no_trace
    return lambda name, x: trace(prefix + name, x)


def under(tape, prefix):
    """Return the reader for a part of a tape: ``tape`` gives the array of a name, as ``Recorder.__getitem__`` does."""
    return lambda name: tape(prefix + name)


def chain(*traces):
    """Return a trace that hands each tensor through `traces`, first to last."""
    traces = [trace for trace in traces if trace is not no_trace]
    if not traces:
        return no_trace

    def chained(name, x):
        for trace in traces:
            x = trace(name, x)
        return x

    return chained


if __name__ == "__main__":  # python -m nanogpt_np.trace is the command of that name
    from .walk import main

    raise SystemExit(main())
