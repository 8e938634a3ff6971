"""What the page keeps of the parameters: all of a small model, the corners of larger matrices, the rows in use.

Read next: `contents.py`, of whose dict this is a part.
"""

import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..interpret.stats import stats
from ..model.gpt2 import GPT2
from ..model.trace import Array
from .packing import pack

WEIGHTS_WHOLE = 300_000  # numbers in all matrices together up to which they are kept whole
WEIGHT_ROWS, WEIGHT_COLUMNS = 48, 64  # of larger ones
CUTS = (1, 2, 4, 8, 16)  # how many times fewer, where there is less room

# Of models that never change; those of gpt2 take a second to work out.
known_stats: weakref.WeakKeyDictionary[GPT2, dict[str, dict[str, Any]]] = weakref.WeakKeyDictionary()


def weights_of(model: GPT2, passes: Iterable[dict[str, Any]], room: int) -> dict[str, dict[str, Any]]:
    """Return what is kept of every parameter that was used, in `room` characters if that can be.

    passes : as `contents.collect` has them; they say which rows of the tables were used.
    """
    looked_up = sorted({i for one in passes for i in (*one["ids"], *(one["answer"] or {}).get("explained", []))})
    places = sorted({place for one in passes for place in one["positions"]})
    tables = {"wte.weight": looked_up, "lm_head.weight": looked_up, "wpe.weight": places}
    params = {name: x for name, x in model.params.items() if tables.get(name) != []}  # no row that is known of
    small = sum(x.size for name, x in params.items() if name not in tables) <= WEIGHTS_WHOLE
    measured = _stats(model)
    for cut in (0, *CUTS) if small else CUTS:
        found = {name: _kept(x, tables.get(name), cut) | {"stats": measured[name]} for name, x in params.items()}
        if characters(found) <= room:
            break
    return found


def characters(weights: dict[str, dict[str, Any]]) -> int:
    """Return how long the text of the numbers is."""
    return sum(len(row["values"]) for row in weights.values())


def _kept(x: Array, rows: list[int] | None, cut: int) -> dict[str, Any]:
    """Return the part of a parameter that stays: all of it for cut 0, but of a table the `rows` that were used."""
    columns = min(x.shape[-1], WEIGHT_COLUMNS // cut) if cut else x.shape[-1]
    if rows is None and x.ndim == 2 and cut:
        rows = list(range(min(len(x), WEIGHT_ROWS // cut)))
    part = (x if rows is None else x[rows])[..., :columns]
    format = "f8" if x.dtype == np.float64 else "f4"
    row = {"shape": list(x.shape), "values": pack(part, format), "format": format}
    return row | {"columns": columns, "rows": rows if x.ndim == 2 else None}


def _stats(model: GPT2) -> dict[str, dict[str, Any]]:
    """Return `stats` of every parameter; of a model that cannot change they are worked out once."""
    fixed = not any(x.flags.writeable for x in model.params.values())
    if fixed and model in known_stats:
        return known_stats[model]
    found = {name: stats(x) for name, x in model.params.items()}
    if fixed:
        known_stats[model] = found
    return found
