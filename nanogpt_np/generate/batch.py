"""Several texts in one pass: prompts of any lengths, or several samples of one prompt.

The weights are read once for all rows, and reading them is most of the work of a decoding step. Shorter prompts are
padded on the left, so that all rows end in the same column. The model knows nothing of it: an embedding that counts
each row's positions from its own first token, and an attention in which each row sees its own tokens only, are put
in place of its layers. A row that has ended is dropped. `loop.py` has the same loop for one text, and no more.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from ..fast import fast
from ..fast.few_rows import few_rows
from ..fast.tiles import TiledAttention
from ..model.attention import Attention, softmax
from ..model.cache import KVCache
from ..model.embedding import Embedding
from ..model.gpt2 import GPT2, Block, Ids
from ..model.ids import check_ids
from ..model.trace import Array, Trace, no_trace
from ..text.tokenizer import END_OF_TEXT_ID
from .loop import next_logits
from .sampling import Choice, log_probability


@dataclass(eq=False)
class Row:
    """One text of a batch.

    ended : None while it grows, then "length", "context" or "end of text". The caller may set another reason.
    log_probs : of each id in `ids`, if requested: natural logarithms, by the model itself (temperature 1).
    """

    prompt: Array  # (T,)
    rng: "np.random.Generator"
    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    ended: str | None = None

    @property
    def text(self) -> Array:
        """All ids so far, prompt and new, (S,)."""
        return np.append(self.prompt, np.array(self.ids, np.int64))


def make_rows(model: GPT2, prompts: Sequence[Ids], seed: int, samples: Sequence[int] = (0,)) -> list[Row]:
    """Return a row for each prompt of ids (T,) and each number of `samples`, prompt by prompt.

    Sample i of any prompt draws from ``np.random.default_rng([seed, i])``, so it does not depend on how many other
    samples and prompts there are.
    """
    if not (isinstance(seed, int | np.integer) and seed >= 0):
        raise ValueError(f"seed must be a whole number, 0 or more, not {repr(seed)[:60]}")
    checked = [check_ids(ids, model.config) for ids in prompts]
    for ids in checked:
        if ids.ndim != 1:
            raise ValueError(f"each prompt must have shape (T,), not {ids.shape}")
    return [Row(ids, np.random.default_rng([int(seed), i])) for ids in checked for i in samples]


def generate_rows(
    model: GPT2,
    rows: Sequence[Row],
    n_new: int,
    choice: Choice,
    *,
    stop: Container[int] | None = None,
    log_probs: bool = False,
    use_cache: bool = True,
    trace: Trace = no_trace,
) -> Iterator[tuple[Row, int]]:
    """Yield (row, new id) for each row in turn, step by step, until all have ended; the row has the id already.

    Equal prompts go through the model once. Logits are those of a single text up to float32 rounding.

    stop : ids that end a text and are not yielded; by default those of the model.
    trace : as for `generate`; for a single row only.
    """
    if stop is None:
        stop = getattr(model.config, "eos_token_ids", (END_OF_TEXT_ID,))
    if trace is not no_trace and len(rows) != 1:
        raise ValueError(f"a trace takes one row at a time, not {len(rows)}")
    live, model, state = list(rows), fast(model), None
    for row in live if n_new == 0 else ():
        row.ended = "length"
    live = [row for row in live if row.ended is None]
    while live:
        if state is None:
            logits, state = _first_step(model, live, use_cache, trace)
        else:
            logits = state.step(model, live, trace)
        for row, scores in zip(live, logits, strict=True):
            trace("hook_probabilities", softmax(scores))
            token = int(trace("hook_next_token", np.asarray(choice(scores, row.text, row.rng))))
            if token in stop:
                row.ended = "end of text"
                continue
            row.ids.append(token)
            if log_probs:
                row.log_probs.append(log_probability(scores, token))
            if len(row.ids) == n_new:
                row.ended = "length"
            elif len(row.ids) == model.config.n_positions - len(row.prompt) + 1:
                row.ended = "context"
            yield row, token
        keep = [i for i, row in enumerate(live) if row.ended is None]
        if len(keep) < len(live):
            live, state = [live[i] for i in keep], state and state.only(keep)
        state = state if use_cache else None


@dataclass(frozen=True, eq=False)
class State:
    """What the next step needs of those before it: the cache, and how many columns of each row are padding."""

    cache: KVCache
    pads: Array | None  # (B,), or None for one text without a batch axis

    def step(self, model: GPT2, rows: Sequence[Row], trace: Trace) -> Array:
        """Run the newest id of each row -> logits (B, V)."""
        newest = np.array([row.ids[-1:] for row in rows])  # (B, 1)
        if self.pads is None:
            return next_logits(model, newest[0], cache=self.cache, trace=trace)[None]
        return next_logits(batched(model, self.pads), newest, cache=self.cache)

    def only(self, rows: Sequence[int]) -> "State | None":
        """Keep some of the rows, and of the columns those that are not padding in all of them."""
        if self.pads is None or not rows:
            return None
        pads = self.pads[rows]
        return State(_of_rows(self.cache, rows, pads.min()), pads - pads.min())


def _first_step(model: GPT2, rows: Sequence[Row], use_cache: bool, trace: Trace) -> tuple[Array, State | None]:
    """Run the whole text of every row -> logits (B, V), and the state after it; equal texts run once."""
    texts: list[Array] = []
    index: list[int] = []
    known: dict[bytes, int] = {}
    for row in rows:
        text = row.text
        index.append(known.setdefault(text.tobytes(), len(known)))
        if len(known) > len(texts):
            texts.append(text)
    cache = KVCache(model.config) if use_cache else None
    longest = max(map(len, texts))
    if len(texts) == 1:
        logits, pads = next_logits(model, texts[0], cache=cache, trace=trace)[None], np.zeros(1, int)
    else:
        pads = np.array([longest - len(text) for text in texts])
        ids = np.stack([np.pad(text, (pad, 0)) for text, pad in zip(texts, pads, strict=True)])
        logits = next_logits(batched(model, pads), ids, cache=cache)
    if cache is None:
        return logits[index], None
    if len(rows) == 1:
        return logits, State(cache, None)
    return logits[index], State(_of_rows(cache, index) if len(texts) < len(rows) else cache, pads[index])


def _of_rows(cache: KVCache, rows: Sequence[int], skip: int = 0) -> KVCache:
    """Return a cache with these rows of `cache`, repeated where an index is, without its first `skip` columns.

    The cache of one text without a batch axis is that of a batch of one.
    """
    taken = KVCache(cache.config)
    taken.length = cache.length - int(skip)
    for i, layer in cache._layers.items():
        old = [a.reshape(-1, *a.shape[-3:]) for a in layer]  # (B, H, n_positions, D)
        keys, values = (np.empty((len(rows), *a.shape[1:]), a.dtype) for a in old)
        for a, new in zip(old, (keys, values), strict=True):
            for n, row in enumerate(rows):
                new[n, :, : taken.length] = a[row, :, skip : cache.length]
        taken._layers[i] = keys, values
    return taken


def batched(model: GPT2, pads: Array) -> GPT2:
    """Return `model` for a batch in which the first ``pads[b]`` columns of row b are padding.

    Raises ValueError if there is any, and a layer of another class may look at it.
    """
    model = few_rows(model)
    if not pads.any():
        return model
    h = model.h
    own = all(type(block) is Block and type(block.attn) in (Attention, TiledAttention) for block in h)
    if not own or type(model.embedding) is not Embedding:
        raise ValueError(
            "prompts of different lengths need this package's own embedding and attention, which this "
            "model does not have: run them one at a time"
        )
    padding = tuple(pads.tolist())
    attention = [PaddedAttention(**_fields(block.attn), pads=padding) for block in h]
    h = tuple(replace(block, attn=attn) for block, attn in zip(h, attention, strict=True))
    return replace(model, embedding=PaddedEmbedding(**_fields(model.embedding), pads=padding), h=h)


@dataclass(frozen=True, eq=False, repr=False)
class PaddedEmbedding(Embedding):
    """An embedding that counts the positions of each row from its first token after the padding."""

    pads: tuple[int, ...]  # B of them; no array, since a layer's arrays are its parameters

    def __call__(self, ids: Array, start: int = 0, trace: Trace = no_trace) -> Array:
        """ids (B, T), the first column at `start` -> (B, T, C)"""
        before = np.array(self.pads)[:, None]

        def shifted(name: str, x: Array) -> Array:
            return trace(name, np.maximum(x - before, 0) if name == "hook_positions" else x)

        return super().__call__(ids, start, shifted)


@dataclass(frozen=True, eq=False, repr=False)
class PaddedAttention(TiledAttention):
    """Attention in which no row sees its padding; queries of the padding itself find 0."""

    pads: tuple[int, ...]  # B of them

    def attend(self, q: Array, keys: Array, values: Array, trace: Trace = no_trace) -> Array:
        """Scaled queries (B, H, T, D), keys and values (B, H, S, D) -> (B, H, T, D)"""
        past = keys.shape[-2] - q.shape[-2]
        z = np.zeros((*q.shape[:-1], values.shape[-1]), q.dtype)
        for row, pad in enumerate(self.pads):
            own = max(0, pad - past)  # the row's first query
            z[row, :, own:] = super().attend(q[row, :, own:], keys[row, :, pad:], values[row, :, pad:])
        return z


def _fields(layer: Any) -> dict[str, Any]:
    return {field.name: getattr(layer, field.name) for field in fields(layer)}
