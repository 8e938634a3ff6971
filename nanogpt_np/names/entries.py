"""Every tensor of GPT-2 with all its names: our tables of trace points and parameters, joined with the aliases.

Shapes, equations and notices come from `activations.py` and `parameters.py`, other names from
`point_aliases.py` and `parameter_aliases.py`.
Read next: `glossary.py`, which looks names up.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from . import parameters, points
from .aliases import DIALECTS, Aliases
from .parameter_aliases import PARAMETER_ALIASES
from .point_aliases import POINT_ALIASES
from .trace_point import Point, Size

if TYPE_CHECKING:  # it would bring NumPy with it
    from ..model.config import Config

PARAMETERS = {
    p.name: p for p in (*parameters.EMBEDDINGS, *parameters.BLOCK_PARAMETERS, *parameters.FINAL, parameters.LM_HEAD)
}


@dataclass(frozen=True)
class Entry:
    """One tensor with all its names: a trace point, a parameter, or the part of a parameter that `index` selects."""

    tensor: Point | parameters.Parameter
    names: dict[str, tuple[str, ...]]  # {dialect: names}
    index: str = ""  # as NumPy writes it, in our letters: "[:, C:2*C]"
    head: str = ""  # of a parameter: the index of head h's part (0, 1 ...)

    @property
    def name(self) -> str:
        """Our name, with the index of a part."""
        return self.tensor.name + self.index

    @property
    def is_point(self) -> bool:
        """True for a trace point, False for a parameter or part of one."""
        return isinstance(self.tensor, Point)

    def row(self, config: "Config | None" = None, T: Size = "T") -> dict[str, Any]:
        """Return all its fields as a plain dict.

        config : gives sizes to the letters; without it `shape` is None.
        T : the number of tokens in a pass without a cache; by default T and S stay letters.
        """
        t, S = self.tensor, "S" if T == "T" else T
        if isinstance(t, Point):
            kind, shape = "trace point", config and list(t.shape(config, T, S))
            t = replace(t, shapes=t.shapes.format(scale="scale", eps="eps"))
            more = {
                "equation": t.equation,
                "shapes": t.shapes_of(config, T, S).replace("'", "") if config else t.shapes,
                "notice": t.notice,
                "reads": [name.format(i="{i}", before="{i-1}", last="{n_layer-1}") for name in t.reads],
                "weights": list(t.weights),
                "where": t.where,
            }
        else:
            kind, shape = "part of a parameter" if self.index else "parameter", config and list(t.shape(config))
            head, readers = self.head and t.name + self.head, _readers(t.name, config)
            more = {"group": t.group, "purpose": t.purpose, "of head h": head, "read by": readers}
        return {"name": self.name, "kind": kind, "axes": t.axes, "shape": shape, **more, "names": self.names}


@functools.cache
def entries(block: int | None = None, config: "Config | None" = None) -> tuple[Entry, ...]:
    """Return the Entry of every tensor, in the order of use: names with ``{i}``, or those of one block with its number.

    config : if it ties the LM head there is no lm_head.weight, and wte.weight has its names too.
    """
    tied = config is not None and config.tie_word_embeddings
    found: dict[str, Entry] = {}
    for row in (*POINT_ALIASES, *PARAMETER_ALIASES):
        name = row.name
        if block is not None and "{i}" not in name and not name.startswith(f"blocks.{block}."):
            continue
        if tied and name == "lm_head.weight":
            name = "wte.weight"
        entry = _entry(row, name if block is None else name.replace("{i}", str(block)), block, config)
        first = found.get(entry.name)
        found[entry.name] = entry if first is None else replace(first, names=_joined(first.names, entry.names))
    return tuple(found.values())


def _entry(row: Aliases, name: str, block: int | None, config: "Config | None") -> Entry:
    """Return the Entry of a row of aliases under our own `name`, with the block's number in all its names."""
    names = {dialect: row.of(dialect) for dialect in DIALECTS}
    tensor: Any  # a Point or a Parameter
    if "hook_" in name:
        tensor = points.get(name, config)
        names["tl1"] = () if tensor.extra else (name,)
    else:
        tensor = PARAMETERS[re.sub(r"^h\.\d+\.", "h.{i}.", name)]
        if not row.index and row.name != "lm_head.weight":
            names["hf"] = ("transformer." + name, *names["hf"])
    if row.purpose:
        tensor = replace(tensor, axes=row.axes, purpose=row.purpose)
    if block is not None:
        names = {dialect: tuple(n.replace("{i}", str(block)) for n in some) for dialect, some in names.items()}
    shown = {DIALECTS[dialect][0]: some for dialect, some in names.items() if some}
    return Entry(replace(tensor, name=name), shown, row.index, row.head)


def _joined(names: Mapping[str, tuple[str, ...]], more: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Merge the names of two rows for the same tensor, dialect by dialect."""
    shown = [title for title, _ in DIALECTS.values()]
    both = {title: tuple(dict.fromkeys((*names.get(title, ()), *more.get(title, ())))) for title in shown}
    return {title: some for title, some in both.items() if some}


def _readers(name: str, config: "Config | None") -> list[str]:
    """Return the trace points that read a parameter."""
    i = (re.findall(r"^h\.(\d+)\.", name) or ["{i}"])[0]
    found = (points.get(point.replace("{i}", i), config) for point in points.TEMPLATES)
    return [point.name for point in found if name in point.weights]
