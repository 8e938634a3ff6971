"""What goes into the page: a pass, or several, as one dict of plain values that JSON can hold.

Every number is read from the recordings and from the weights; shapes, mean and RMS are those of whole arrays, also
where the page keeps a part of one. A number that JSON cannot hold is the text "NaN", "Infinity" or "-Infinity".

    about       whose numbers these are: name, kind (`KINDS` of top.js), replayed, parameters, dtype, sha256, decoding,
                bos (whether it begins with <|endoftext|>), vocabulary (where it is not the tokenizer's), tokenizer
                (its size, where it is not GPT-2's), prompt, text (it in pieces, as `words.py` has them), batch,
                sha256_of (which file of several the digest is of)
    sizes       {letter: size, or the letter where nobody knows}; layout: H and D as the arrays are folded here
    layers      how many blocks; layers_known: whether there may be more
    format      of packed numbers (`packing.py`); digits: how many are shown; kept: columns D, neurons F that stay
    points      {trace point of any block: what `captions.describe` says}; parameters: the same of what is stored
    steps       [{name, reads, weights}] in order; reads may name what was not recorded
    passes      [{T, S, ids, keys (the tokens that can be seen; null is not known), positions, steps, answer, flops}]
      steps     [{shape, numbers (the equation), scale (of scores)} with one of: whole (a list), values (packed),
                view ([name, row, column] where the same numbers stand), none (logits: see answer), and stats]
      answer    null, or {chosen, watch, ids, logits, p, format, ranks, size (V), histogram, explained (ids),
                lens, split, untold ({"lens" or "split": why it is not there}), per_row}
        lens    [{after, point, best, of: {id: {rank, p}}}]; split: {id: {logit, amounts}}, in the order of `parts`
        per_row [[{id, rank, p, next}]] for each row of hook_logits
      flops     {this, whole (without a cache), head (of the LM head)}
    weights     {name: {shape, stats, values, format, columns (the first so many), rows (which; null: all)}}
    parts       [[name, block, head]] of a split; dialects: in which order names are shown
    tokens      {id: [[kind, text]]} (`words.py`)

What is said of each step: `captions.py`. Read next: `answer.py`, `stored.py`, `packing.py`; then `page.html` and the
scripts in `js/`, which draw it all.
"""

import json
import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..interpret.lens import part_names
from ..interpret.recording import Recording, check_arrays
from ..interpret.stats import lengths, stats
from ..model.config import Config
from ..model.gpt2 import GPT2
from ..model.trace import Array
from ..names import points
from ..names.aliases import DIALECTS
from ..names.ledger import ledger
from ..names.trace_point import Point
from ..text.display import pieces, visible
from ..text.tokenizer import Tokenizer
from ..weights.provenance import KINDS
from .answer import answer_of
from .captions import describe, key_of, parameters_of, stand_ins
from .packing import DIGITS, Plan, pack, plan
from .stored import characters, weights_of
from .words import Words

BUDGET = 12_000_000  # characters of activations and weights


def collect(
    recordings: Sequence[Recording],
    model: GPT2 | None = None,
    *,
    watch: int | None = None,
    budget: int | Sequence[int] = BUDGET,
    unknown: Collection[str] = (),
) -> dict[str, Any]:
    """Return all that the page shows.

    recordings : a `recording.Recording` for each pass, in order: that of the prompt, then one for each token that was
        generated before the last. All hold the same trace points, of which some may be missing.
    model : the model that was recorded; without it there are no weights, and no split of a logit.
    watch : the id of a token to explain beside the likeliest ones.
    unknown : sizes that nobody knows (a Recorder alone does not), shown as letters: "V", "n_positions", "n_layer".
    budget : how many characters of numbers at most; of several, the first that leaves a quarter of the columns.

    Raises ValueError if it is more than `budget` characters of numbers, however they are cut, and for arrays that are
    not of one pass of such a model.
    """
    config, about = recordings[0].config, recordings[0].about
    if model is not None and (model.config.sizes, model.config.n_layer) != (config.sizes, config.n_layer):
        raise ValueError("the model has other sizes than the one that was recorded")
    names = list(filter(points.is_point, recordings[0].acts))
    table = {name: points.get(name, config) for name in names}
    all_acts = [{name: np.asarray(recording.acts[name]) for name in names} for recording in recordings]
    for acts in all_acts:
        check_arrays(acts, config)
    words = Words(recordings[0].tokenizer)
    with np.errstate(invalid="ignore", over="ignore"):  # a pass may hold NaN, and is shown with it
        passes = [
            _pass(acts, config, recording.about, model, words, watch)
            for acts, recording in zip(all_acts, recordings, strict=True)
        ]
        arrays = [
            (table[name].axes, x.shape, x.dtype)
            for acts in all_acts
            for name, x in acts.items()
            if "V" not in table[name].axes and not table[name].view
        ]
        kept, weights = _room(arrays, config, model, passes, [budget] if isinstance(budget, int) else budget)
        for one, acts in zip(passes, all_acts, strict=True):
            one["steps"] = [_step(point, acts, config, one, kept, unknown) for point in table.values()]
    firsts = {key_of(name): point for name, point in reversed(table.items())}
    return _finite(
        {
            "about": _about(about, model, config) | _reading(about, config, words.tokenizer),
            "sizes": {letter: letter if letter in unknown else size for letter, size in config.sizes.items()},
            "layout": {"H": config.n_head, "D": config.head_width},
            "layers": config.n_layer,
            "layers_known": "n_layer" not in unknown,
            "format": kept.format,
            "digits": DIGITS[kept.format],
            "kept": {"D": kept.kept_D, "F": kept.kept_F},
            "points": {key: describe(key, point) for key, point in firsts.items()},
            "stand_ins": stand_ins(table),
            "steps": [{"name": name, "reads": point.reads, "weights": point.weights} for name, point in table.items()],
            "passes": passes,
            "parameters": parameters_of(config),
            "weights": weights,
            "dialects": [name for name, _ in DIALECTS.values()],
            "parts": [[name, block, head] for name, _, block, head in part_names(config)],
            "tokens": words.shown,
        }
    )


def _room(
    arrays: Sequence[tuple[str, Sequence[int], Any]],
    config: Config,
    model: GPT2 | None,
    passes: list[dict[str, Any]],
    budgets: Sequence[int],
) -> tuple[Plan, dict[str, dict[str, Any]]]:
    """Return (which numbers are kept, what is kept of the weights), for the first budget that leaves enough to see."""
    for budget in budgets:
        weights = {} if model is None else weights_of(model, passes, budget // 2)
        try:
            kept = plan(arrays, config.head_width, config.mlp_width, budget - characters(weights))
        except ValueError:
            if budget == budgets[-1]:
                raise
            continue
        if 4 * kept.kept_D >= config.head_width:
            break
    return kept, weights


def _finite(x: Any) -> Any:
    """Return plain values with text in place of the numbers that JSON cannot hold, as JavaScript reads them."""
    if isinstance(x, dict):
        return {key: _finite(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [_finite(value) for value in x]
    return json.dumps(x) if isinstance(x, float) and not math.isfinite(x) else x


def _about(about: dict[str, Any], model: GPT2 | None, config: Config) -> dict[str, Any]:
    """Return whose numbers these are, claiming no more than is known."""
    told = about.get("model", {})
    unsaid = "in memory" if model is not None and not told.get("origin") else "not told"
    kind = told["kind"] if told.get("kind") in KINDS else unsaid
    if kind in ("local", "in memory", "not told") and model is not None and _never_trained(model):
        kind = "random"
    told = {key: visible(value, keep="") if isinstance(value, str) else value for key, value in told.items()}
    return {
        "name": told.get("name") and Path(told["name"]).name,  # a page that is passed on tells nothing of the machine
        "kind": kind,
        "replayed": bool(told.get("origin")) and model is None,
        "parameters": told.get("parameters"),
        "dtype": told.get("dtype"),
        "sha256": told.get("sha256"),
        "sha256_of": told.get("sha256_of"),
        "decoding": told.get("decoding"),
        "prompt": about.get("prompt"),
        "text": about.get("prompt") and pieces(about["prompt"].encode("utf-8", "surrogateescape")),
        "batch": about.get("batch"),
    }


def _reading(about: dict[str, Any], config: Config, tokenizer: Tokenizer) -> dict[str, Any]:
    """Return how the prompt was read."""
    ids = about.get("prompt_ids", [])
    return {
        "bos": ids[0] in tokenizer.stop if ids and tokenizer.stop else None,
        "vocabulary": None if config.vocab_size == tokenizer.size else config.vocab_size,
        "tokenizer": None if tokenizer.is_gpt2 else tokenizer.size,
    }


def _never_trained(model: GPT2) -> bool:
    """True if every gain is 1 and every bias 0, as before the first step of training."""
    gains = [array for name, array in model.params.items() if re.search(r"\bln_\w+\.weight$", name)]
    biases = [array for name, array in model.params.items() if name.endswith(".bias")]
    return bool(gains) and all((gain == 1).all() for gain in gains) and not any(bias.any() for bias in biases)


def _pass(
    acts: dict[str, Array], config: Config, about: dict[str, Any], model: GPT2 | None, words: Words, watch: int | None
) -> dict[str, Any]:
    """Return what is said of a pass as a whole; its steps follow when it is known what there is room for."""
    T, S = lengths(acts)
    places = acts.get("hook_positions", np.arange(S - T, S))
    ids: list[int | None] = [words(i) for i in acts.get("hook_tokens", [])]
    earlier: list[int | None] = [words(i) for i in about.get("prompt_ids", [])[: S - T]]  # what a cache holds
    earlier += [None] * (S - T - len(earlier))
    if "hook_next_token" in acts:  # is shown also where there are no logits
        words(acts["hook_next_token"])
    rows, costs = ledger(config, T, S)
    head = sum(row["flops"] for row in rows if row["name"] == "hook_next_logits")
    return {
        "T": T,
        "S": S,
        "ids": ids,
        "keys": earlier + (ids or [None] * T),
        "positions": [int(place) for place in places],
        "answer": answer_of(acts, model, words, watch),
        "flops": {"this": costs["flops"], "whole": ledger(config, S)[1]["flops"], "head": head},
    }


def _step(
    point: Point, acts: dict[str, Array], config: Config, one: dict[str, Any], kept: Plan, unknown: Collection[str]
) -> dict[str, Any]:
    """Return what is kept of one array."""
    x = acts[point.name]
    row: dict[str, Any] = {"shape": list(x.shape), "numbers": point.shapes_of(config, one["T"], one["S"], unknown)}
    if "{scale}" in point.shapes and not unknown:
        row["scale"] = config.attention_scale(points.block_of(point.name) or 0)
    if point.name in points.WHOLE_NUMBERS:
        return row | {"whole": x.reshape(-1).tolist()}
    row["stats"] = stats(x)
    if "V" in point.axes:
        return row
    x = kept.keep(x, point.axes)
    found = point.view and point.reads[0] in acts and _place(x, kept.keep(acts[point.reads[0]], _axes(point.reads[0])))
    return row | ({"view": [point.reads[0], *found]} if found else {"values": pack(x, kept.format)})


def _axes(name: str) -> str:
    return points.get(name).axes


def _place(x: Array, source: Array) -> list[int] | None:
    """Return the (row, column) at which the numbers of a view begin in its source, both as tables; None if nowhere."""
    source = np.asarray(source).reshape(len(source), -1)
    x = x.reshape(1 if x.ndim == 1 else len(x), -1)
    row = len(source) - len(x)
    for column in range(0, source.shape[1] - x.shape[1] + 1, x.shape[1]):
        if np.array_equal(source[row:, column : column + x.shape[1]], x):
            return [row, column]
    return None
