"""The steps of one pass as plain rows: what ``python -m nanogpt_np trace`` shows, and prints as JSON.

A step is one trace point (`names/activations.py`) with the sizes of this run, its cost (`names/ledger.py`) and the
first of its values. Nothing is printed here. Read next: `stepper.py`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..generate import generate
from ..model.config import Config
from ..model.trace import Array, ShapeLog
from ..names import parameters, points, resolve
from ..names.ledger import COSTS, by_stage, ledger, totals
from ..names.sizes import published
from ..names.trace_point import Point
from ..text.display import text_of
from ..text.tokenizer import Tokenizer
from ..weights.assembly import zeros

Shapes = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]  # (shape, dtype) by trace point
Row = dict[str, Any]


def select(
    config: Config, only: Sequence[str] | None = None, blocks: Sequence[int] | None = None, head: int | None = None
) -> list[str]:
    """Return the names of the wanted steps, in order.

    only : words of `resolve.select`; one must match. blocks : numbers of blocks.
    head : keeps only the steps with a head axis.

    Raises ValueError for patterns, blocks and heads that do not exist, and if no step is left.
    """
    for kind, numbers, end in (("block", blocks or [], config.n_layer), ("head", [head or 0], config.n_head)):
        for i in numbers:
            if not 0 <= i < end:
                raise ValueError(f"{kind} {i} is out of range: this model has {kind}s 0 to {end - 1}")
    table = points.table(config, points.NEXT_TOKEN)
    meant = {name for pattern in only or ["*"] for name in resolve.select(pattern, table, config)}
    names = [
        name
        for name, point in table.items()
        if name in meant
        and (blocks is None or points.block_of(name) in blocks)
        and (head is None or "H" in point.axes.split())
    ]
    if not names:
        raise ValueError("no step is left: the matching steps are in other blocks, or have no head axis")
    return names


def step_rows(config: Config, shapes: Shapes, names: Iterable[str], head: int | None = None) -> list[Row]:
    """Return a dict for each of the steps `names`: everything but its values.

    shapes : ``{name: (shape, dtype)}`` of the whole pass.
    head : cuts each step to that head, and leaves out the costs, which are those of whole steps.
    """
    _, T, S = shapes["blocks.0.attn.hook_pattern"][0]
    stored = parameters.table(config)
    costs = {row["name"]: row for row in ledger(config, T, S, shapes["hook_embed"][1].itemsize)[0]}
    rows = []
    for name in names:
        point, (shape, dtype) = points.get(name, config), shapes[name]
        row = costs[name]
        if head is not None:
            row = {"name": f"{name}[head {head}]", "stage": row["stage"]}
            shape = tuple(size for letter, size in zip(point.axes.split(), shape, strict=True) if letter != "H")
            point = replace(point, shapes=re.sub(r"\bH ", "", point.shapes))
        rows.append(
            row
            | {
                "shape": list(shape),
                "dtype": dtype.name,
                "equation": point.equation,
                "in_numbers": point.shapes_of(config, T, S),
                "reads": list(point.reads),
                "weights": {w: list(stored[w].shape(config)) for w in point.weights},
                "view": point.view,
                "where": point.where,
                "notice": point.notice,
            }
        )
    return rows


def outline(config: Config, shapes: Shapes) -> list[Row]:
    """Return short rows for the steps of a whole pass, for a listing printed before a text."""
    shown = ("name", "shape", "dtype", "equation", "weights")
    return [{key: row[key] for key in shown} for row in step_rows(config, shapes, shapes)]


def dry_run(size: str, ids: Sequence[int]) -> tuple[Shapes, str]:
    """Return ({name: (shape, dtype)} of a pass through zero-filled weights of a published size, what to say of it)."""
    log = ShapeLog()
    list(generate(zeros(published(size)), ids, 1, stop=(), trace=log))
    note = f"DRY RUN: the shapes of {size} on zero-filled weights; none of this is {size}'s output"
    return {name: (shape, dtype) for name, shape, dtype in log}, note


def first_values(x: Array, point: Point, n: int, head: int | None = None) -> Row:
    """Return the first `n` numbers in the last token's row, of `head` (default 0), and their index in `x`."""
    last_token_and_head = {"T": -1, "H": head or 0}
    index = [last_token_and_head[letter] % size for letter, size in zip(point.axes.split()[:-1], x.shape, strict=False)]
    row = x[tuple(index)].reshape(-1)[:n]
    slices = [f":{len(row)}"] if x.ndim else []
    return {"index": f"[{', '.join([*map(str, index), *slices])}]", "numbers": row.tolist()}


def sums(rows: Sequence[Row], config: Config, T: int) -> Row | None:
    """Return the sums of the ledger over the steps that are shown, or None where they have no costs."""
    if COSTS[0] not in rows[0]:
        return None
    whole = len(rows) == len(points.table(config, points.NEXT_TOKEN))
    estimate = {"two_per_parameter_and_token": 2 * parameters.count(config) * T} if whole else {}
    return {"by_stage": by_stage(rows), "total": totals(rows)} | estimate


def tokens(acts: Mapping[str, Array], tokenizer: Tokenizer) -> list[Row]:
    """Return a dict for each token of the prompt: its position, id and text."""
    places = zip(acts["hook_positions"], acts["hook_tokens"], strict=True)
    return [{"position": int(p), "id": int(i), "token": text_of(tokenizer, int(i))} for p, i in places]
