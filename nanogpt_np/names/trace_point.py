"""A trace point: one tensor that the model announces, with its axes, its equation and its inputs.

Read next: `activations.py`, the table of all of them.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .parameters import axis_size

if TYPE_CHECKING:  # it would bring NumPy with it
    from ..model.config import Config

Size = int | str  # a letter where nobody knows it

BLOCK_NUMBER = re.compile(r"blocks\.(0|[1-9]\d*)\.")
AXIS_NAMES = {  # what an index along the axis counts; T is "query" beside S
    "T": "position",
    "S": "key",
    "H": "head",
    "C": "column",
    "3C": "column",
    "D": "column",
    "F": "neuron",
    "V": "token",
    "1": "one",
}


@dataclass(frozen=True)
class Point:
    """One tensor that the model announces, or the same one in every block if the name has ``{i}``."""

    name: str
    axes: str  # letters: T new tokens, S tokens so far, C, H, D, F, V; "" is a single number
    equation: str  # with the last part of each name it reads
    shapes: str  # the equation with the axes of what it reads in brackets: "[T C] @ [C 3C] + [3C]"
    notice: str  # what to look at, in one sentence
    where: str  # module and definition that announce it: "model.attention:Attention"
    reads: tuple[str, ...] = ()  # trace points that it reads
    weights: tuple[str, ...] = ()  # names of the parameters it reads
    product: str = ""  # axes of its matrix product, one multiply-add per index; "" has none
    view: bool = False  # True if no number is new: its input's memory, sliced, reshaped or renamed
    extra: bool = False  # True where TransformerLens has no such name

    def shape(self, config: "Config", T: Size, S: Size | None = None) -> tuple[Any, ...]:
        """Return its shape for `T` new tokens of `S` tokens in total (without a cache, S = T)."""
        return _sizes(self.axes, config, T, S)

    def shapes_of(self, config: "Config", T: Size, S: Size | None = None, unknown: Collection[str] = ()) -> str:
        """Return `shapes` with the sizes of a run: ``[5, 768] @ [768, 2304] + [2304]``.

        unknown : letters of unknown sizes; they stay letters, and scale and eps stay words.
        """
        i = block_of(self.name)
        scale = "" if i is None else f"{config.attention_scale(i):.6g}"
        scale, eps = ("scale", "eps") if unknown else (scale, f"{config.layer_norm_epsilon:g}")
        filled = self.shapes.replace("{scale}", scale).replace("{eps}", eps)
        return re.sub(r"\[([^\]]*)\]", lambda axes: f"[{', '.join(_shown(axes[1], config, T, S, unknown))}]", filled)

    def flops(self, config: "Config", T: int, S: int | None = None) -> int:
        """Return the FLOPs of its matrix product: 2 for each multiply-add."""
        count = 2 if self.product else 0
        for size in _sizes(self.product, config, T, S):
            count *= size
        return count

    @property
    def place(self) -> str:
        """The file and the definition in it that announce it: ``nanogpt_np/model/attention.py, Attention``."""
        module, _, definition = self.where.partition(":")
        return f"nanogpt_np/{module.replace('.', '/')}.py, {definition}"

    @property
    def axis_names(self) -> tuple[str, ...]:
        """What an index counts, axis by axis: ``("head", "query", "key")`` for a pattern."""
        letters = self.axes.split()
        return tuple("query" if a == "T" and "S" in letters else AXIS_NAMES[a] for a in letters)


def block_of(name: str) -> int | None:
    """Return the number of the block in a name, or None if there is none."""
    found = BLOCK_NUMBER.match(name)
    return int(found[1]) if found else None


def _sizes(axes: str, config: "Config", T: Size, S: Size | None) -> tuple[Any, ...]:
    sizes = {**config.sizes, "T": T, "S": T if S is None else S}
    return tuple(axis_size(axis, sizes) for axis in axes.split())


def _shown(axes: str, config: "Config", T: Size, S: Size | None, unknown: Collection[str]) -> list[str]:
    sizes = zip(axes.split(), _sizes(axes, config, T, S), strict=True)
    return [axis if axis.lstrip("0123456789") in unknown else str(size) for axis, size in sizes]


def layernorm_points(prefix: str, weights: str, reads: str, says: str) -> tuple[Point, ...]:
    """Return the three points of a LayerNorm: scale, normalized, output."""
    weight, bias = weights + ".weight", weights + ".bias"
    short = reads.rpartition(".")[2].removeprefix("hook_")
    of_last = " of the last block" if prefix == "ln_final." else ""
    return (
        Point(
            prefix + "hook_scale",
            "T 1",
            f"sqrt(variance({short}{of_last}) + eps)",
            "sqrt(variance([T C]) + {eps})",
            "One number per token: how far its vector spreads around its mean; eps is inside the root.",
            "model.layernorm:LayerNorm",
            reads=(reads,),
        ),
        Point(
            prefix + "hook_normalized",
            "T C",
            f"({short} - mean({short})) / scale",
            "([T C] - [T 1]) / [T 1]",
            "Every row now has mean 0 and variance 1 (less if eps matters): size is gone, direction stays.",
            "model.layernorm:LayerNorm",
            reads=(reads, prefix + "hook_scale"),
        ),
        Point(
            prefix + "hook_output",
            "T C",
            "normalized * weight + bias",
            "[T C] * [C] + [C]",
            says,
            "model.layernorm:LayerNorm",
            reads=(prefix + "hook_normalized",),
            weights=(weight, bias),
            extra=True,
        ),
    )
