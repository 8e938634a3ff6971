"""The inventory: every tensor of a model with its size and purpose, and how the parameters add up.

No weights are needed: names and shapes follow from the sizes.
"""

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from . import parameters

if TYPE_CHECKING:  # it would bring NumPy with it
    from ..model.config import Config

BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1}


def inventory(config: "Config", dtypes: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return a dict per tensor, in the order of use.

    dtypes : ``{name: "F16"}`` as stored; F32 where it says nothing.
    """
    rows = []
    for name, parameter in parameters.table(config).items():
        shape = parameter.shape(config)
        dtype = (dtypes or {}).get(name, "F32")
        size = math.prod(shape)
        rows.append(
            {
                "name": name,
                "shape": list(shape),
                "dtype": dtype,
                "parameters": size,
                "bytes": size * BYTES[dtype],
                "group": parameter.group,
                "purpose": parameter.purpose,
                "layer": ".".join(name.split(".")[:2]) if name.startswith("h.") else name.split(".")[0],
            }
        )
    return rows


def totals(rows: Iterable[dict[str, Any]], key: str) -> dict[str, dict[str, int]]:
    """Return ``{value of key: {"tensors", "parameters", "bytes"}}`` in the order of first appearance."""
    sums: dict[str, dict[str, int]] = {}
    for row in rows:
        entry = sums.setdefault(row[key], {"tensors": 0, "parameters": 0, "bytes": 0})
        entry["tensors"] += 1
        entry["parameters"] += row["parameters"]
        entry["bytes"] += row["bytes"]
    return sums


def formula(config: "Config") -> list[tuple[str, str, int]]:
    """Return (term, its numbers, parameters) for each line of the sum that gives the parameter count."""
    V, C, F, P, L = config.vocab_size, config.n_embd, config.mlp_width, config.n_positions, config.n_layer
    norms, qkv, out, mlp = 4 * C, 3 * C * C + 3 * C, C * C + C, 2 * C * F + F + C
    block = norms + qkv + out + mlp
    lines = [
        ("token embedding V C", f"{V} x {C}", V * C),
        ("position embedding n_positions C", f"{P} x {C}", P * C),
        ("blocks n_layer x (the four parts below)", f"{L} x {block:,}", L * block),
        ("  two layer norms 2 x 2 C", f"2 x 2 x {C}", norms),
        ("  attention QKV C 3C + 3C", f"{C} x {3 * C} + {3 * C}", qkv),
        ("  attention output C C + C", f"{C} x {C} + {C}", out),
        ("  MLP C F + F + F C + C", f"{C} x {F} + {F} + {F} x {C} + {C}", mlp),
        ("final layer norm 2 C", f"2 x {C}", 2 * C),
    ]
    if not config.tie_word_embeddings:
        lines.append(("LM head V C", f"{V} x {C}", V * C))
    return lines
