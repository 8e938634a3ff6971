"""The answer of a pass: the likeliest tokens, their ranks through the blocks, and what their logits are made of.

Read next: `contents.py`, of whose dict this is a part, and `interpret/lens.py`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..generate.ranking import standing
from ..interpret.lens import early_logits, splits
from ..interpret.recorder import Acts
from ..model.attention import softmax
from ..model.gpt2 import GPT2
from ..model.trace import Array
from .packing import pack
from .words import Words

LIKELIEST = 100  # tokens whose logit and probability are kept
EXPLAINED = 6  # of which the rank through the blocks, and the split of the logit, are kept
PER_ROW = 8  # likeliest tokens kept for each row of hook_logits
BINS = 60  # of the histogram of all logits
NO_WEIGHTS = "no weights came with this recording"


def answer_of(acts: Acts, model: GPT2 | None, words: Words, watch: int | None) -> dict[str, Any] | None:
    """Return what is kept of the answer (`contents.py`), or None for a pass without logits."""
    logits = _last_logits(acts)
    if logits is None:
        return None
    p = np.asarray(acts["hook_probabilities"] if "hook_probabilities" in acts else softmax(logits))
    order = likeliest(logits, LIKELIEST)
    chosen = int(acts["hook_next_token"]) if "hook_next_token" in acts else int(order[0])
    explained = [i for i in dict.fromkeys([chosen, *order[:EXPLAINED].tolist(), watch]) if i is not None]
    shown = list(dict.fromkeys([*order.tolist(), *explained]))
    # In float64: of float32 near its end the width of all bins together would be infinite.
    counts, edges = np.histogram(logits[np.isfinite(logits)].astype(np.float64), BINS)
    format = "f8" if logits.dtype == np.float64 else "f4"
    found: dict[str, Any] = {
        "chosen": words(chosen),
        "watch": watch,
        "ids": [words(i) for i in shown],
        "logits": pack(logits[shown], format),
        "p": pack(p[shown], format),
        "format": format,
        "ranks": [standing(logits, p, i)["rank"] for i in shown],
        "size": len(logits),
        "histogram": {"counts": counts.tolist(), "low": float(edges[0]), "high": float(edges[-1])},
        "explained": explained,
        "untold": {},
    }
    if "hook_logits" in acts:
        found["per_row"] = _rows(acts, words)
    for name, told in (("lens", _lens), ("split", _split)):
        try:
            found[name] = told(acts, model, explained, words)
        except ValueError as error:  # a Recorder may have kept a part of the pass: the page says what is missing
            found["untold"][name] = str(error)
    return found


def likeliest(logits: Array, count: int) -> Array:
    """Return the ids of the likeliest tokens, likeliest first; ties go to the lower id."""
    if count < len(logits):
        least = -np.partition(-logits, count - 1)[count - 1]  # NaN counts as the least likely
        some = np.flatnonzero(logits >= least)
        if len(some) >= count:
            return some[np.argsort(-logits[some], kind="stable")][:count]
    return np.argsort(-logits, kind="stable")[:count]


def _last_logits(acts: Acts) -> Array | None:
    if "hook_next_logits" in acts:
        return np.asarray(acts["hook_next_logits"])
    return np.asarray(acts["hook_logits"])[-1] if "hook_logits" in acts else None


def _lens(acts: Acts, model: GPT2 | None, explained: Sequence[int], words: Words) -> list[dict[str, Any]]:
    """Return what would be said of some tokens if the model stopped early, as `lens.logit_lens` does of one."""
    if model is None:
        raise ValueError(NO_WEIGHTS)
    stops = []
    for after, point, logits in early_logits(acts, model):
        p = softmax(logits)
        of = {i: standing(logits, p, i) for i in explained}
        of = {i: {"rank": row["rank"], "p": row["p"]} for i, row in of.items()}
        stops.append({"after": after, "point": point, "best": words(logits.argmax()), "of": of})
    return stops


def _split(acts: Acts, model: GPT2 | None, explained: Sequence[int], words: Words) -> dict[int, dict[str, Any]]:
    """Return for each token its logit, and what each part of the model added to it."""
    if model is None:
        raise ValueError(NO_WEIGHTS)
    found = splits(acts, model, explained)
    return {s.token: {"logit": s.recorded, "amounts": [part.amount for part in s.parts]} for s in found}


def _rows(acts: Acts, words: Words) -> list[list[dict[str, Any]]]:
    """Return for every row of hook_logits its likeliest tokens, and how the one that came next did."""
    ids: Any = acts.get("hook_tokens", [])
    rows = []
    for t, logits in enumerate(np.asarray(acts["hook_logits"])):
        p = softmax(logits)
        shown = likeliest(logits, PER_ROW).tolist()
        ranks = dict(zip(shown, range(1, len(shown) + 1), strict=True))
        following = int(ids[t + 1]) if t + 1 < len(ids) else None
        if following is not None:
            ranks.setdefault(following, standing(logits, p, following)["rank"])
        rows.append([{"id": words(i), "rank": r, "p": float(p[i]), "next": i == following} for i, r in ranks.items()])
    return rows
