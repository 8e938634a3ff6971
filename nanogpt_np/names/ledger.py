"""What each step of a pass costs: FLOPs, bytes of weights read, bytes written.

FLOPs are those of the matrix products, which are nearly all there are: 2 for each multiply-add. Elementwise
work (norms, softmax, GELU, sums) is not counted, nor are temporary arrays within a step, activations that
are read, and a KV cache. For a few tokens, reading the weights is most of the memory traffic: each is read
once, whether for 1 token or for 100.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import parameters, points

if TYPE_CHECKING:  # it would bring NumPy with it
    from ..model.config import Config

LOOKED_UP = ("hook_embed", "hook_pos_embed")  # they read T rows of their table, not all of it
COSTS = ("flops", "weight_bytes", "written_bytes")


def ledger(
    config: "Config", T: int, S: int | None = None, itemsize: int = 4
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return (a dict for each step to the next token, in order, and their sums).

    T, S : new tokens, and all tokens including those in the cache (without one, S = T).
    itemsize : bytes per weight or activation in memory: 4 for float32, whatever the file holds.

    A step costs ``flops``, ``weight_bytes`` that it reads, and ``written_bytes``: 0 for a view.
    """
    stored = parameters.table(config)
    rows = []
    for name, point in points.table(config, points.NEXT_TOKEN).items():
        size = math.prod(point.shape(config, T, S))
        whole = sum(math.prod(stored[w].shape(config)) for w in point.weights)
        number = 8 if name in points.WHOLE_NUMBERS else itemsize  # bytes; whole numbers are int64
        rows.append(
            {
                "name": name,
                "stage": stage_of(name),
                "flops": point.flops(config, T, S),
                "weight_bytes": itemsize * (size if name in LOOKED_UP else whole),
                "written_bytes": 0 if point.view else size * number,
            }
        )
    return rows, totals(rows)


def stage_of(name: str) -> str:
    """Return the stage of the pass to which a trace point belongs: ``"embedding"``, ``"block 3"`` or ``"output"``."""
    i = points.block_of(name)
    if i is not None:
        return f"block {i}"
    return "embedding" if any(point.name == name for point in points.START) else "output"


def totals(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Return the sums of some rows."""
    return {cost: sum(row[cost] for row in rows) for cost in COSTS}


def by_stage(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Return ``{stage: sums}``, in order."""
    stages = dict.fromkeys(row["stage"] for row in rows)
    return {stage: totals([row for row in rows if row["stage"] == stage]) for stage in stages}
