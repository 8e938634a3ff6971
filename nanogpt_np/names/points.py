"""Trace points looked up: all of a model in order, or one by its name.

The table that they stand in is `activations.py`; here it is filled in for a model: its blocks with their
numbers, and the LM head, which may be the token embedding. What others call these tensors: `entries.py`; by other
words than their names: `resolve.py`.
"""

import functools
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from .activations import BLOCK_POINTS, FINAL, LOGITS, NEXT_TOKEN, START
from .trace_point import BLOCK_NUMBER, Point, block_of
from .wording import nearest

if TYPE_CHECKING:  # it would bring NumPy with it
    from ..model.config import Config

__all__ = [  # the parts of the table too, for whoever looks points up
    "BEGINS",
    "BLOCK_NUMBER",
    "BLOCK_POINTS",
    "ENDS",
    "FINAL",
    "LOGITS",
    "NEXT_TOKEN",
    "START",
    "TEMPLATES",
    "WHOLE_NUMBERS",
    "block_of",
    "get",
    "is_point",
    "table",
]
WHOLE_NUMBERS = ("hook_tokens", "hook_positions", "hook_next_token")  # int64; all others are floats
BEGINS = START[0].name  # announced first in every pass
ENDS = (LOGITS[0].name, NEXT_TOKEN[0].name)  # after the last norm, if a pass scores every row or only the last
TEMPLATES = {point.name: point for point in (*START, *BLOCK_POINTS, *FINAL, *LOGITS, *NEXT_TOKEN)}


def table(config: "Config", end: Iterable[Point] = LOGITS) -> dict[str, Point]:
    """Return ``{name: Point}`` for a pass through a model, in the order of announcement.

    end : `LOGITS` for ``model(ids)``, `NEXT_TOKEN` for a step of generation.
    """
    blocks = (_in_block(point, i) for i in range(config.n_layer) for point in BLOCK_POINTS)
    return {p.name: p for p in (_in_model(p, config) for p in (*START, *blocks, *FINAL, *end))}


@functools.cache
def get(name: str, config: "Config | None" = None) -> Point:
    """Return the Point called `name`, of any block; with `config`, only of the model's blocks.

    ``blocks.{i}.hook_resid_pre``, with the braces, is that point for all blocks.

    Raises ValueError with the nearest names.
    """
    i = block_of(name)
    template = TEMPLATES.get(BLOCK_NUMBER.sub("blocks.{i}.", name, count=1))
    if template is None:
        here = [known.replace("{i}", "0" if i is None else str(i)) for known in TEMPLATES]
        raise ValueError(f"no trace point {name!r}{nearest(name, here, n=3)}")
    if config is not None and i is not None and i >= config.n_layer:
        raise ValueError(f"no trace point {name!r}: this model has blocks 0 to {config.n_layer - 1}")
    point = template if i is None else _in_block(template, i)
    return point if config is None else _in_model(point, config)


def is_point(name: object) -> bool:
    """Return whether this is the name of a trace point, of any block."""
    return isinstance(name, str) and BLOCK_NUMBER.sub("blocks.{i}.", name, count=1) in TEMPLATES


def _in_block(point: Point, i: int) -> Point:
    def numbered(name: str) -> str:
        return name.replace("{i}", str(i)).replace("{before}", str(i - 1))

    if i == 0 and point.name.endswith(".hook_resid_pre"):
        point = replace(point, equation="embed + pos_embed", shapes="[T C] + [T C]", view=False)
        point = replace(point, reads=("hook_embed", "hook_pos_embed"))
    elif point.name.endswith(".hook_resid_pre"):
        point = replace(point, equation="resid_post of the block before")
    reads, weights = tuple(map(numbered, point.reads)), tuple(map(numbered, point.weights))
    return replace(point, name=numbered(point.name), reads=reads, weights=weights)


def _in_model(point: Point, config: "Config") -> Point:
    reads = tuple(name.replace("{last}", str(config.n_layer - 1)) for name in point.reads)
    head = "wte.weight" if config.tie_word_embeddings else "lm_head.weight"
    return replace(point, reads=reads, weights=tuple(head if w == "lm_head.weight" else w for w in point.weights))
