"""The stored arrays of a model as `explain` and `lens` read them: by name, where a layer is this package's own.

A layer can be replaced by any other with the same call (docs/python.md, "A layer of your own"). The pass through it is
recorded as always; but what its numbers are made of is known only from a weight and a bias in the usual shapes.
"""

from typing import Any

from ..model.gpt2 import GPT2
from ..model.trace import Array
from ..names import parameters


class Stored:
    """The parameters of a model by checkpoint name: ``stored["h.0.mlp.c_fc.weight"]``."""

    def __init__(self, model: GPT2):
        self._model, self._params = model, model.params

    def __getitem__(self, name: str) -> Array:
        """Return the array of this name. Raises ValueError if the layer does not hold it, or in another shape."""
        x, expected = self._params.get(name), parameters.parameter(name, self._model.config)
        shape = None if expected is None else expected.shape(self._model.config)
        if x is not None and shape in (None, x.shape):
            return x
        held = "no such array" if x is None else f"{list(x.shape)} in place of {list(shape or ())}"
        raise ValueError(
            f"this is made by {name}, and the {type(self._layer(name)).__name__} of this model has {held}: numbers "
            "can be taken apart only where the layers are this package's own, with the sizes of the config"
        )

    def _layer(self, name: str) -> Any:
        """Return the innermost layer on the way to a parameter."""
        layer: Any = self._model
        if name in ("wte.weight", "wpe.weight"):
            return self._model.embedding
        for part in name.split(".")[:-1]:
            inner = layer[int(part)] if part.isdecimal() else getattr(layer, part, None)
            if inner is None:
                break
            layer = inner
        return layer
