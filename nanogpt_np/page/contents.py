"""What goes into the page: a pass, or several, as one dict of plain values that JSON can hold.

Every number is read from the recordings and from the weights; shapes, mean and RMS are those of whole arrays, also
where the page keeps a part of one. What is said of each step: `captions.py`. Read next: `packing.py`; then
`page.html` and the .js files beside it, which draw it all.
"""

import math
import re
from pathlib import Path

import numpy as np

from .. import points
from ..attention import softmax
from ..ledger import ledger
from ..lens import early_logits, split
from ..names import VOCABULARIES
from ..sampling import standing
from ..stepper import lengths, stats
from ..tokenizer import END_OF_TEXT_ID
from .captions import describe, key_of, parameters_of, stand_ins
from .packing import DIGITS, pack, plan
from .words import Words, pieces

BUDGET = 12_000_000  # characters of activations
LIKELIEST = 100  # tokens whose logit and probability are kept for each answer
EXPLAINED = 6  # of which the rank through the blocks, and the split of the logit, are kept
PER_ROW = 8  # likeliest tokens kept for each row of hook_logits
BINS = 60  # of the histogram of all logits
WEIGHTS_WHOLE = 300_000  # numbers in all matrices together up to which they are kept whole
WEIGHT_ROWS, WEIGHT_COLUMNS = 48, 64  # of larger ones


def collect(recordings, model=None, *, watch=None, budget=BUDGET, unknown=()):
    """Return all that the page shows.

    recordings : a `recording.Recording` for each pass, in order: that of the prompt, then one for each token that was
        generated before the last. All hold the same trace points.
    model : the model that was recorded; without it there are no weights, and no split of a logit.
    watch : the id of a token to explain beside the likeliest ones.
    unknown : sizes that nobody knows (a Recorder alone does not), shown as letters: "V", "n_positions", "n_layer".

    Raises ValueError if it is more than `budget` characters of numbers, however they are cut.
    """
    config, about = recordings[0].config, recordings[0].about
    names = [name for name in recordings[0].acts if points.BLOCK_NUMBER.sub("blocks.{i}.", name) in points.TEMPLATES]
    table = {name: points.get(name, config) for name in names}
    firsts = {key_of(name): point for name, point in reversed(table.items())}
    arrays = [
        (table[name].axes, np.shape(recording.acts[name]), np.asarray(recording.acts[name]).dtype)
        for recording in recordings
        for name in names
        if "V" not in table[name].axes and not table[name].view
    ]
    kept = plan(arrays, config.head_width, config.mlp_width, budget)
    words = Words()
    passes = [_pass(recording, table, model, kept, words, watch, unknown) for recording in recordings]
    return {
        "about": _about(about, model, config),
        "sizes": {letter: letter if letter in unknown else size for letter, size in config.sizes.items()},
        "layers": config.n_layer,
        "layers_known": "n_layer" not in unknown,
        "format": kept.format,
        "digits": DIGITS[kept.format],
        "kept": {"D": kept.kept_D, "F": kept.kept_F},
        "points": {key: describe(key, point) for key, point in firsts.items()},
        "stand_ins": stand_ins(table),
        "steps": [
            {"name": name, "reads": [r for r in p.reads if r in table], "weights": p.weights}
            for name, p in table.items()
        ],
        "passes": passes,
        "parameters": parameters_of(config),
        "weights": {} if model is None else _weights(model, passes, recordings),
        "vocabularies": [name for name, _ in VOCABULARIES.values()],
        "parts": _part_names(config),
        "tokens": words.shown,
    }


def _about(about, model, config):
    """Return whose numbers these are, claiming no more than is known."""
    told = about.get("model", {})
    origin = told.get("origin", "")
    unsaid = "local" if origin else "not told" if model is None else "in memory"
    kind = next((kind for kind, sign in KINDS_OF_ORIGIN.items() if sign in origin), unsaid)
    if kind == unsaid and model is not None and _never_trained(model):
        kind = "random"
    ids = about.get("prompt_ids", [])
    return {
        "name": told.get("name") and Path(told["name"]).name,  # a page that is passed on tells nothing of the machine
        "kind": kind,
        "replayed": bool(origin) and model is None,
        "parameters": told.get("parameters"),
        "dtype": told.get("dtype"),
        "sha256": told.get("sha256") or next(iter(re.findall(r"sha256 ([0-9a-f]{12})", origin)), None),
        "sha256_of": told.get("sha256_of"),
        "decoding": told.get("decoding"),
        "bos": ids[0] == END_OF_TEXT_ID if ids else None,
        "vocabulary": None if config.vocab_size == END_OF_TEXT_ID + 1 else config.vocab_size,
        "prompt": about.get("prompt"),
        "text": about.get("prompt") and pieces(about["prompt"].encode("utf-8", "surrogateescape")),
    }


KINDS_OF_ORIGIN = {
    "bundled": "(bundled with",
    "published": "the published weights",
    "other": "NOT the published",
    "downloaded": "(downloaded",
}


def _never_trained(model):
    """True if every gain is 1 and every bias 0, as before the first step of training."""
    norms = [model.ln_f, *(norm for block in model.h for norm in (block.ln_1, block.ln_2))]
    biases = [array for name, array in model.params.items() if name.endswith(".bias")]
    return all((norm.weight == 1).all() for norm in norms) and not any(bias.any() for bias in biases)


def _pass(recording, table, model, kept, words, watch, unknown):
    acts, config = recording.acts, recording.config
    T, S = lengths(acts)
    places = acts.get("hook_positions", np.arange(S - T, S))
    ids = [words(i) for i in acts.get("hook_tokens", [])]
    earlier = recording.about.get("prompt_ids", [])[: S - T]  # what a cache holds
    earlier = [words(i) for i in earlier] + [None] * (S - T - len(earlier))
    rows, costs = ledger(config, T, S)
    head = sum(row["flops"] for row in rows if row["name"] == "hook_next_logits")
    return {
        "T": T,
        "S": S,
        "ids": ids,
        "keys": earlier + (ids or [None] * T),
        "positions": [int(place) for place in places],
        "steps": [_step(point, acts, config, T, S, kept, unknown) for point in table.values()],
        "answer": _answer(acts, model, words, watch),
        "flops": {"this": costs["flops"], "whole": ledger(config, S)[1]["flops"], "head": head},
    }


def _step(point, acts, config, T, S, kept, unknown):
    x = np.asarray(acts[point.name])
    row = {"shape": list(x.shape), "numbers": _in_numbers(point, config, T, S, unknown)}
    if point.name in points.WHOLE_NUMBERS:
        return row | {"whole": x.reshape(-1).tolist()}
    row["stats"] = {name: value if math.isfinite(value) else str(value) for name, value in stats(x).items()}
    if "V" in point.axes:
        return row
    x = kept.keep(x, point.axes)
    found = point.view and point.reads[0] in acts and _place(x, kept.keep(acts[point.reads[0]], _axes(point.reads[0])))
    return row | ({"view": [point.reads[0], *found]} if found else {"values": pack(x, kept.format)})


def _axes(name):
    return points.get(name).axes


def _place(x, source):
    """Return the (row, column) at which the numbers of a view begin in its source, both as tables; None if nowhere."""
    source = np.asarray(source).reshape(len(source), -1)
    x = x.reshape(1 if x.ndim == 1 else len(x), -1)
    row = len(source) - len(x)
    for column in range(0, source.shape[1] - x.shape[1] + 1, x.shape[1]):
        if np.array_equal(source[row:, column : column + x.shape[1]], x):
            return [row, column]
    return None


def _in_numbers(point, config, T, S, unknown):
    """Return the equation in the sizes of this run, with letters for those that nobody knows."""
    if not unknown:
        return point.shapes_of(config, T, S)
    known = {letter: size for letter, size in (config.sizes | {"T": T, "S": S}).items() if letter not in unknown}

    def filled(axes):
        return f"[{', '.join(str(_size(axis, known)) for axis in axes[1].split())}]"

    return re.sub(r"\[([^\]]*)\]", filled, point.shapes.format(scale="scale", eps="eps"))


def _size(axis, known):
    multiple = re.fullmatch(r"(\d+)([A-Z])", axis)
    if multiple and multiple[2] in known:
        return int(multiple[1]) * known[multiple[2]]
    return known.get(axis, axis)


def _answer(acts, model, words, watch):
    """Return the likeliest tokens after the last row, and where one chosen token got its logit from."""
    if "hook_next_logits" in acts:
        logits = np.asarray(acts["hook_next_logits"])
    elif "hook_logits" in acts:
        logits = np.asarray(acts["hook_logits"])[-1]
    else:
        return None
    p = np.asarray(acts["hook_probabilities"] if "hook_probabilities" in acts else softmax(logits))
    order = np.argsort(-logits, kind="stable")[:LIKELIEST]
    chosen = int(acts["hook_next_token"]) if "hook_next_token" in acts else int(order[0])
    explained = [i for i in dict.fromkeys([chosen, *order[:EXPLAINED].tolist(), watch]) if i is not None]
    shown = list(dict.fromkeys([*order.tolist(), *explained]))
    counts, edges = np.histogram(logits[np.isfinite(logits)], BINS)
    format = "f8" if logits.dtype == np.float64 else "f4"
    found = {
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
    }
    if "hook_logits" in acts:
        found["rows"] = _rows(acts, words)
    if model is not None and "hook_embed" in acts:
        found["lens"] = [_stop(*stop, explained, words) for stop in early_logits(acts, model)]
        splits = {i: split(acts, model, i) for i in explained}
        found["split"] = {
            i: {"logit": s.recorded, "amounts": [part.amount for part in s.parts]} for i, s in splits.items()
        }
    return found


def _stop(after, point, logits, explained, words):
    """Return what would be said of some tokens if the model stopped early, as `lens.logit_lens` does of one."""
    p = softmax(logits)
    return {
        "after": after,
        "point": point,
        "best": words(logits.argmax()),
        "of": {i: standing(logits, p, i) for i in explained},
    }


def _rows(acts, words):
    """Return for every row of hook_logits its likeliest tokens, and how the one that came next did."""
    ids, rows = acts.get("hook_tokens", []), []
    for t, logits in enumerate(np.asarray(acts["hook_logits"])):
        p = softmax(logits)
        order = np.argsort(-logits, kind="stable")[:PER_ROW]
        following = int(ids[t + 1]) if t + 1 < len(ids) else None
        shown = [*order.tolist(), *([] if following is None or following in order else [following])]
        rows.append([{"id": words(i), **standing(logits, p, i), "next": i == following} for i in shown])
    return rows


def _part_names(config):
    """Return the parts of a split in their order: name, block, head or None."""
    found = [["token embedding", None, None], ["position embedding", None, None]]
    for i in range(config.n_layer):
        found += [[f"head {i}.{head}", i, head] for head in range(config.n_head)]
        found += [[f"bias of attn {i}", i, None], [f"mlp {i}", i, None], [f"bias of mlp {i}", i, None]]
    return [*found, ["bias of ln_f", None, None]]


def _weights(model, passes, recordings):
    """Return what the page keeps of every parameter: all of it, its first rows and columns, or the rows in use."""
    looked_up = sorted({i for one in passes for i in (*one["ids"], *(one["answer"] or {}).get("explained", []))})
    places = sorted({place for one in passes for place in one["positions"]})
    tables = {"wte.weight": looked_up, "lm_head.weight": looked_up, "wpe.weight": places}
    params = model.params
    whole = sum(x.size for name, x in params.items() if name not in tables) <= WEIGHTS_WHOLE
    found = {}
    for name, x in params.items():
        rows = tables.get(name)
        columns = x.shape[-1] if whole else min(x.shape[-1], WEIGHT_COLUMNS)
        if rows is None and x.ndim == 2 and not whole:
            rows = list(range(min(len(x), WEIGHT_ROWS)))
        part = (x if rows is None else x[rows])[..., :columns]
        format = "f8" if x.dtype == np.float64 else "f4"
        found[name] = {"shape": list(x.shape), "stats": _quick_stats(x), "values": pack(part, format), "format": format}
        found[name] |= {"columns": columns, "rows": rows if x.ndim == 2 else None}
    return found


def _quick_stats(x):
    """Return mean, RMS, min and max, in float64, without a copy of the whole: a matrix may be of gigabytes."""
    flat = x.reshape(-1)
    square = sum(float(np.square(flat[i : i + 65536], dtype=np.float64).sum()) for i in range(0, flat.size, 65536))
    row = {"mean": float(flat.mean(dtype=np.float64)), "rms": math.sqrt(square / flat.size)}
    row |= {"min": float(flat.min()), "max": float(flat.max()), "masked": 0}
    return {name: value if math.isfinite(value) else str(value) for name, value in row.items()}
