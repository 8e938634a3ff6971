"""What the page says of every trace point and parameter, once for all blocks: title, equation, picture, names.

The texts come from the tables in `names/`; only the titles are the page's own. Read next: `contents.py`.
"""

import re
from collections.abc import Collection
from typing import Any

from ..model.config import Config
from ..names import points
from ..names.entries import PARAMETERS, entries
from ..names.trace_point import Point

TITLES = {
    "hook_tokens": "The prompt as tokens",
    "hook_positions": "Their positions",
    "hook_embed": "A vector for each token",
    "hook_pos_embed": "A vector for each position",
    "blocks.{i}.hook_resid_pre": "The residual stream enters block {i}",
    "blocks.{i}.ln1.hook_scale": "LayerNorm measures each row",
    "blocks.{i}.ln1.hook_normalized": "LayerNorm centres and divides",
    "blocks.{i}.ln1.hook_output": "Gain and bias: what attention reads",
    "blocks.{i}.attn.hook_qkv": "Queries, keys and values in one product",
    "blocks.{i}.attn.hook_q": "Queries, cut into heads",
    "blocks.{i}.attn.hook_k": "Keys, cut into heads",
    "blocks.{i}.attn.hook_v": "Values, cut into heads",
    "blocks.{i}.attn.hook_attn_scores": "Attention scores: each query meets each key",
    "blocks.{i}.attn.hook_pattern": "Attention: who looks at whom",
    "blocks.{i}.attn.hook_z": "What each head found",
    "blocks.{i}.attn.hook_merged": "The heads side by side again",
    "blocks.{i}.hook_attn_out": "What attention adds to the stream",
    "blocks.{i}.hook_resid_mid": "The stream after attention",
    "blocks.{i}.ln2.hook_scale": "LayerNorm measures each row",
    "blocks.{i}.ln2.hook_normalized": "LayerNorm centres and divides",
    "blocks.{i}.ln2.hook_output": "Gain and bias: what the MLP reads",
    "blocks.{i}.mlp.hook_pre": "The MLP's neurons are asked",
    "blocks.{i}.mlp.hook_post": "GELU: which neurons answer",
    "blocks.{i}.hook_mlp_out": "What the MLP adds to the stream",
    "blocks.{i}.hook_resid_post": "The stream leaves block {i}",
    "ln_final.hook_scale": "The final LayerNorm measures each row",
    "ln_final.hook_normalized": "The final LayerNorm centres and divides",
    "ln_final.hook_output": "Gain and bias: what the LM head reads",
    "hook_logits": "A score for every token that could follow",
    "hook_last_row": "The last row is all that is asked",
    "hook_next_logits": "A score for every token that exists",
    "hook_probabilities": "Scores become probabilities",
    "hook_next_token": "The answer",
}

# Of another kind of pass: what stands for them where they were not recorded, and why.
STAND_INS = {
    "hook_logits": ("hook_next_logits", "only the last row is scored, as hook_next_logits"),
    "hook_next_logits": ("hook_logits", "every row is scored, as hook_logits"),
}


def stand_ins(table: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return for each trace point that `table` lacks the one that is there instead, why, and the names it has."""
    return {
        name: {"to": to, "why": why, "names": _names(name)}
        for name, (to, why) in STAND_INS.items()
        if name not in table and to in table
    }


def picture(point: Point) -> list[Any]:
    """Return the equation in shapes as a list: text, and for each array ``{"axes", "of"}``.

    "of" is which of ``reads + weights`` it is, or None for what has no name (a mean). What comes after an arrow is
    the same numbers in another shape.
    """
    made_of = [(points.get(name).axes, i) for i, name in enumerate(point.reads)]
    made_of += [(PARAMETERS[key_of(name)].axes, len(point.reads) + i) for i, name in enumerate(point.weights)]
    parts = re.split(r"\[([^\]]*)\]", point.shapes)  # text, axes, text, axes, ..., text
    arrow = next((i for i, text in enumerate(parts) if i % 2 == 0 and "->" in text), len(parts))
    found: list[Any] = [text.strip() if i % 2 == 0 else {"axes": text, "of": None} for i, text in enumerate(parts)]
    # From the right: a mean stands left of the scale, and has its shape.
    for i in reversed([i for i in range(1, len(parts), 2) if i < arrow]):
        for axes, of in reversed(made_of):
            if _letters(axes) == _letters(parts[i]):
                found[i]["of"] = of
                made_of.remove((axes, of))
                break
    return [part for part in found if part != ""]


def _letters(axes: str) -> list[str]:
    """Return the letters of axes in alphabetical order; keys are as many as queries for this purpose."""
    return sorted(axes.replace("S", "T").split())


def key_of(name: str) -> str:
    """Return a name as the tables have it, for any block: ``h.3.ln_1.bias`` -> ``h.{i}.ln_1.bias``."""
    if name == "blocks.0.hook_resid_pre":  # of the first block the sum of the embeddings
        return name
    return re.sub(r"^(blocks|h)\.\d+\.", r"\1.{i}.", name)


def describe(key: str, point: Point) -> dict[str, Any]:
    """Return what is said of a trace point of any block: the fields of its `Point`, its title, picture and names."""
    return {
        "title": TITLES[_template(key)],
        "axes": point.axes,
        "axis_names": point.axis_names,
        "equation": point.equation,
        "picture": picture(point),
        "notice": point.notice,
        "place": point.place,
        "view": point.view,
        "extra": point.extra,
        "names": _names(key),
    }


def _template(key: str) -> str:
    return key.replace("blocks.0.", "blocks.{i}.")


def _names(key: str) -> dict[str, list[str]]:
    """Return ``{dialect: [name, ...]}`` of a trace point."""
    found = {entry.name: entry.names for entry in entries()}
    names = {dialect: list(some) for dialect, some in found[_template(key)].items()}
    if key == "blocks.0.hook_resid_pre":
        for dialect, more in found.get(key, {}).items():
            names[dialect] = list(dict.fromkeys([*names.get(dialect, []), *more]))
    return names


def parameters_of(config: Config) -> dict[str, dict[str, Any]]:
    """Return for each parameter of any block its axes, purpose and names, and the same of the parts it is cut into."""
    rows: dict[str, dict[str, Any]] = {}
    for entry in entries(config=config):
        if isinstance(entry.tensor, Point):
            continue
        own = PARAMETERS[entry.tensor.name]
        row = rows.setdefault(
            own.name,
            {"axes": own.axes, "purpose": own.purpose, "names": {}, "parts": []},
        )
        if entry.index:
            row["parts"].append({"index": entry.index, "purpose": entry.tensor.purpose, "names": entry.names})
        else:
            row["names"] = entry.names
    return rows
