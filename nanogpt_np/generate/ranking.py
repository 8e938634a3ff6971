"""How tokens rank after a pass: the likeliest, or the rank of a given one. Ties go to the lower id; NaN is last."""

from typing import Any

import numpy as np

from ..model.trace import Array
from ..text.display import text_of
from ..text.tokenizer import Tokenizer


def standing(logits: Array, p: Array, token: int) -> dict[str, Any]:
    """Return rank, logit and probability of `token`; logits and p are (V,).

    Rank 1 is the likeliest; ties go to the lower id, as in greedy decoding.
    """
    score = _comparable(logits)
    rank = 1 + int((score > score[token]).sum() + (score[:token] == score[token]).sum())
    return {"rank": rank, "logit": float(logits[token]), "p": float(p[token])}


def top_rows(logits: Array, p: Array, k: int, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Return the `k` likeliest tokens, likeliest first; ties go to the lower id."""
    order = np.argsort(-_comparable(logits), kind="stable")[:k]
    return [
        {"rank": rank, "id": int(i), "token": text_of(tokenizer, int(i)), "logit": float(logits[i]), "p": float(p[i])}
        for rank, i in enumerate(order, 1)
    ]


def _comparable(logits: Array) -> Array:
    """Return the logits with -inf in place of NaN, which is neither above nor below any number."""
    return np.where(np.isnan(logits), -np.inf, logits)
