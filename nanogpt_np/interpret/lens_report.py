"""One token after one prompt, as plain rows: how it ranks, its rivals, the logit lens, and the split against each.

The numbers come from `lens.py`. Read next: `lens_words.py`, the same in words.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ..generate import next_logits
from ..generate.ranking import standing
from ..model.attention import softmax
from ..model.gpt2 import GPT2
from ..model.trace import Array, Tape
from ..names import points
from ..text.display import quoted, text_of
from ..text.tokenizer import Tokenizer
from .lens import Part, logit_lens, split


class _LastRow(Tape):
    """Keep only the last position: a long prompt's patterns are gigabytes."""

    def __call__(self, name: str, x: Array) -> Array:
        axes = points.get(name).axes.split()
        self[name] = np.take(x, [-1], axis=axes.index("T")) if "T" in axes else x
        return x


def report(
    model: GPT2,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    token: int | None = None,
    *,
    against: int | None = None,
    rivals: int = 3,
) -> dict[str, Any]:
    """Return the report on `token` after the prompt `ids`, or on the likeliest one, as plain rows.

    It is compared with the token `against`, if there is one, and with the `rivals` likeliest other tokens.
    """
    acts = _LastRow()
    logits = next_logits(model, ids, trace=acts)
    p = softmax(logits)
    if token is None:
        token = int(np.argsort(-logits, kind="stable")[0])
    if token == against:
        name = quoted(text_of(tokenizer, token))
        raise ValueError(f"{name} cannot be compared with itself: compare it with another token")
    others = [int(i) for i in np.argsort(-logits, kind="stable")[: rivals + 1] if i != token][:rivals]
    if not others:
        raise ValueError("there is no other token to compare with")
    compared = list(dict.fromkeys(others if against is None else [against, *others]))

    def row(i: int) -> dict[str, Any]:
        return {"id": i, "token": text_of(tokenizer, i), **standing(logits, p, i)}

    def part_row(part: Part) -> dict[str, Any]:
        if part.head is None:
            return asdict(part)
        pattern = acts[f"blocks.{part.block}.attn.hook_pattern"][part.head, 0]  # (S,)
        key = int(pattern.argmax())
        most = {"key": key, "token": text_of(tokenizer, ids[key]), "weight": float(pattern[key])}
        return {**asdict(part), "looks_at": most}

    def split_row(rival: int) -> dict[str, Any]:
        found = split(acts, model, token, against=rival)
        return {
            "against": row(rival),
            "difference": found.recorded,
            "parts": [part_row(part) for part in found.parts],
            "by_kind": found.by_kind,
            "total": found.total,
            "remainder": found.remainder,
            "decided_by": [part.name for part in found.deciding],
        }

    lens = logit_lens(acts, model, token)
    return {
        **row(token),
        "likeliest": sorted(map(row, [token, *compared]), key=lambda row: row["rank"]),
        "best_other": row(others[0]),
        "lens": [{**stop, "best_token": text_of(tokenizer, stop["best"])} for stop in lens],
        "splits": [split_row(rival) for rival in compared],
    }
