"""The parameters of GPT-2: one ordered table of names, shapes and purposes.

The loader checks files against it, `inventory` prints it, and a dry run makes its zeros from it.
Linear layers are stored [in, out], as y = x @ W + b reads (Hugging Face calls that Conv1D).
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it would bring NumPy with it
    from ..model.config import Config


@dataclass(frozen=True)
class Parameter:
    """One stored tensor, or the same one in every block if the name has ``{i}``."""

    name: str
    axes: str  # letters of sizes: "C 3C" is [768, 2304] in gpt2
    group: str  # one of `GROUPS`
    purpose: str

    def shape(self, config: "Config") -> tuple[int, ...]:
        """Its shape in a model of these sizes."""
        return tuple(axis_size(axis, config.sizes) for axis in self.axes.split())


def axis_size(axis: str, sizes: Mapping[str, Any]) -> Any:
    """Return the length of an axis written as a letter, a multiple such as ``3C``, or a number."""
    if axis in sizes:
        return sizes[axis]
    digits = axis.rstrip("CHDFVTSB")
    return int(digits) * sizes.get(axis[len(digits) :], 1)


GROUPS = (
    "token embedding",
    "position embedding",
    "layer norms",
    "attention QKV",
    "attention output",
    "MLP",
    "LM head",
)
EMBEDDINGS = (
    Parameter("wte.weight", "V C", GROUPS[0], "a row per token; also the LM head where tied"),
    Parameter("wpe.weight", "n_positions C", GROUPS[1], "a row per position"),
)
BLOCK_PARAMETERS = (
    Parameter("h.{i}.ln_1.weight", "C", GROUPS[2], "gain before attention"),
    Parameter("h.{i}.ln_1.bias", "C", GROUPS[2], "shift before attention"),
    Parameter("h.{i}.attn.c_attn.weight", "C 3C", GROUPS[3], "to queries, keys, values"),
    Parameter("h.{i}.attn.c_attn.bias", "3C", GROUPS[3], "their biases"),
    Parameter("h.{i}.attn.c_proj.weight", "C C", GROUPS[4], "from the merged heads"),
    Parameter("h.{i}.attn.c_proj.bias", "C", GROUPS[4], "its bias"),
    Parameter("h.{i}.ln_2.weight", "C", GROUPS[2], "gain before the MLP"),
    Parameter("h.{i}.ln_2.bias", "C", GROUPS[2], "shift before the MLP"),
    Parameter("h.{i}.mlp.c_fc.weight", "C F", GROUPS[5], "widen"),
    Parameter("h.{i}.mlp.c_fc.bias", "F", GROUPS[5], "its bias"),
    Parameter("h.{i}.mlp.c_proj.weight", "F C", GROUPS[5], "narrow again"),
    Parameter("h.{i}.mlp.c_proj.bias", "C", GROUPS[5], "its bias"),
)
FINAL = (
    Parameter("ln_f.weight", "C", GROUPS[2], "gain before the LM head"),
    Parameter("ln_f.bias", "C", GROUPS[2], "shift before the LM head"),
)
LM_HEAD = Parameter("lm_head.weight", "V C", GROUPS[6], "a row per token, where not tied to wte")
OF_BLOCK = re.compile(r"h\.(0|[1-9][0-9]{0,8})\.(.+)")  # a number without leading zeros
IN_BLOCK = {p.name.removeprefix("h.{i}."): p for p in BLOCK_PARAMETERS}
OUTSIDE = {p.name: p for p in (*EMBEDDINGS, *FINAL, LM_HEAD)}


def each(config: "Config") -> Iterator[tuple[str, Parameter]]:
    """Yield (name, Parameter) for every tensor of a model, in the order of use."""
    yield from ((p.name, p) for p in EMBEDDINGS)
    yield from ((p.name.format(i=i), p) for i in range(config.n_layer) for p in BLOCK_PARAMETERS)
    yield from ((p.name, p) for p in FINAL)
    if not config.tie_word_embeddings:
        yield LM_HEAD.name, LM_HEAD


def table(config: "Config") -> dict[str, Parameter]:
    """Return ``{name: Parameter}`` for every tensor of a model, in the order of use."""
    return dict(each(config))


def tensor_count(config: "Config") -> int:
    """Return how many tensors a model has, without listing them: 148 for gpt2."""
    outside = len(EMBEDDINGS) + len(FINAL) + (not config.tie_word_embeddings)
    return config.n_layer * len(BLOCK_PARAMETERS) + outside


def parameter(name: str, config: "Config") -> Parameter | None:
    """Return the entry of `table` for one name, without building the table; None if it has none."""
    if of_block := OF_BLOCK.fullmatch(name):
        return IN_BLOCK.get(of_block[2]) if int(of_block[1]) < config.n_layer else None
    return None if name == LM_HEAD.name and config.tie_word_embeddings else OUTSIDE.get(name)


def count(config: "Config") -> int:
    """Return how many parameters a model has: 124,439,808 for gpt2."""
    return sum(math.prod(p.shape(config)) for p in table(config).values())
