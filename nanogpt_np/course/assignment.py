"""All assignments, by name: each module of `assignments/`, with the known mistakes that `mistakes/` adds to it.

What an assignment is: `definitions.py`.
"""

from ..names.wording import nearest
from .assignments import training, whole
from .mistakes import (
    a1_embedding,
    a2_layernorm,
    a3_attention,
    a4_mlp,
    a5_model,
    a6_generation,
    a7_cache,
    a8_backward,
    a9_adamw,
)

WRITTEN = (
    a1_embedding,
    a2_layernorm,
    a3_attention,
    a4_mlp,
    a5_model,
    a6_generation,
    a7_cache,
    a8_backward,
    a9_adamw,
)


def assignments():
    """Return ``{"a1": Assignment, ...}`` in order; those that grade all files together come last."""
    return {module.ASSIGNMENT.name: module.ASSIGNMENT for module in (*WRITTEN, training, whole)}


def get(name):
    """Return the assignment of that name; ValueError with the nearest names if there is none."""
    found = {alias: a for a in assignments().values() for alias in (a.name, a.stem, a.file)}
    if name not in found:
        known = ", ".join(assignments())
        raise ValueError(f"no assignment {name!r}{nearest(name, found)}; there are: {known}")
    return found[name]
