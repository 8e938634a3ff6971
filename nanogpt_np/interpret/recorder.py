"""The Recorder: a dict of every activation of the last pass."""

from collections.abc import Iterable, Mapping

from ..model.gpt2 import GPT2
from ..model.trace import Array, Tape
from ..names import points

Acts = Mapping[str, Array]  # activations by trace point: a Recorder, or what else holds a pass


class Recorder(Tape):
    """Keep every array of a pass under its name: ``acts["blocks.0.attn.hook_pattern"]``. A new pass starts over.

    model : the `GPT2` that is recorded, if known: it provides weights, and sizes that no activation shows.
    acts : arrays to begin with, by name.

    Raises ValueError for a model that is not a GPT2.
    """

    def __init__(self, model: GPT2 | None = None, acts: Acts | Iterable[tuple[str, Array]] = ()):
        if model is not None and not isinstance(model, GPT2):
            raise ValueError(f"a Recorder takes the model that load returns, not {model!r:.60}; see `acts`")
        super().__init__(acts)
        self.model = model

    def __call__(self, name: str, x: Array) -> Array:
        if name == points.BEGINS:
            self.clear()
        return super().__call__(name, x)
