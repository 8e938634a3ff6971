"""How well a model predicts a text: the log probability of every token, and what follows from it.

The log probability of a token is the natural logarithm of the probability that the model gives it after the tokens
before it. GPT-2 gets no token in front of a text, so the first token has no log probability, unless <|endoftext|> is
put before it.

A text longer than the context is scored in windows, as in the guide "Perplexity of fixed-length models" of
transformers' documentation: each begins `stride` tokens after the one before, and scores the tokens that no earlier
window has scored. Positions begin at 0 in every window, so no window can use another's keys and values.
Read next: `loop.py`, which writes text. `train/loss.py` has the same loss with its gradient.
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..fast import fast
from ..model.config import LARGEST
from ..model.gpt2 import GPT2, Ids
from ..model.ids import check_ids
from ..model.trace import Array
from ..text.display import text_of
from ..text.tokenizer import END_OF_TEXT_ID, Tokenizer
from .loop import cause

AT_ONCE = 1 << 22  # logits at a time: 16 MB; the logits of 1024 tokens would take 206 MB


@dataclass(frozen=True, eq=False, repr=False)
class Score:
    """The scores of a text of T tokens. Means and sums are over the `count` tokens that have a log probability."""

    ids: Array  # (T,) the tokens; with `bos`, <|endoftext|> is the first
    log_probs: Array  # (T,) float64, in nats; NaN where there is none
    ranks: Array  # (T,) 1 is the likeliest token, ties go to the lower id; 0 where there is none
    stride: int  # tokens between the beginnings of two windows
    nbytes: int | None  # UTF-8 bytes of the tokens that have a log probability; None if the tokenizer is not known

    @property
    def count(self) -> int:
        """How many tokens have a log probability."""
        return int((self.ranks > 0).sum())

    @property
    def total(self) -> float:
        """The log probability of the text: the sum over its tokens, in nats."""
        return float(self.log_probs[self.ranks > 0].sum())

    @property
    def loss(self) -> float:
        """The mean cross-entropy in nats per token: ``-total / count``."""
        return -self.total / self.count

    @property
    def perplexity(self) -> float:
        """e^loss: the number of equally likely tokens that would be as hard to predict; inf above 1e308."""
        return math.exp(self.loss) if self.loss < math.log(np.finfo(float).max) else math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """``-total / log(2) / nbytes``: comparable between tokenizers; None if `nbytes` is."""
        return None if self.nbytes is None else -self.total / math.log(2) / self.nbytes

    def __repr__(self) -> str:
        return f"<Score: {self.summary}>"

    @property
    def summary(self) -> str:
        """The counts and means on one line."""
        bits = "" if self.bits_per_byte is None else f", {self.bits_per_byte:.4f} bits per byte"
        scored = f"{len(self.ids):,} tokens, {self.count:,} scored"
        return f"{scored}: loss {self.loss:.4f} nats per token, perplexity {self.perplexity:.6g}{bits}"

    def least_expected(self, k: int) -> list[int]:
        """Return the positions of the `k` tokens of lowest log probability, lowest first; ties in the text's order."""
        return [int(t) for t in np.argsort(self.log_probs, kind="stable")[: min(k, self.count)]]  # NaN comes last

    def rows(self, tokenizer: Tokenizer, positions: Iterable[int] | None = None) -> list[dict[str, Any]]:
        """Return a row for each token, or for those at `positions`; log probability and rank are None if it has none.

        The keys of a row: position, id, token (its text), log_prob (nats), rank.
        """
        return [
            {
                "position": t,
                "id": int(self.ids[t]),
                "token": text_of(tokenizer, int(self.ids[t])),
                "log_prob": float(self.log_probs[t]) if self.ranks[t] else None,
                "rank": int(self.ranks[t]) or None,
            }
            for t in (range(len(self.ids)) if positions is None else positions)
        ]


def score(
    model: GPT2,
    text_or_ids: str | Ids,
    *,
    tokenizer: Tokenizer | None = None,
    bos: bool = False,
    special: bool = False,
    stride: int | None = None,
    report: Callable[[int, int], object] | None = None,
) -> Score:
    """Return the `Score` of a text, or of the ids (T,) of one.

    model : a `GPT2`; it runs as `fast(model)`.
    tokenizer : cuts the text into tokens, GPT-2's if None. Ids need it for bits per byte only, which are None without.
    bos : put <|endoftext|> before the first token, which then has a log probability too.
    special : read <|endoftext|> in the text as that token, not as text; ids need no such flag.
    stride : from 1 to n_positions tokens; half of n_positions if None: 512 for the published models. Every token
        after the first window is predicted from at least n_positions - stride tokens. With a stride of n_positions
        windows do not overlap, and the first token of each has no log probability. It changes nothing for a text
        that fits into the context.
    report : called with (tokens done, tokens in all) after every window.

    Raises ValueError if there is no token to score, for bad arguments, and for logits that are not finite.
    """
    model = fast(model)
    n_positions = model.config.n_positions
    stride = max(1, n_positions // 2) if stride is None else operator.index(stride)
    if not 1 <= stride <= n_positions:
        raise ValueError(f"stride must be from 1 to {n_positions} tokens, this model's context, not {stride}")
    if isinstance(text_or_ids, str):
        tokenizer = Tokenizer() if tokenizer is None else tokenizer
        if not text_or_ids:
            raise ValueError("the text is empty: there is nothing to score")
        text_or_ids = tokenizer.encode(text_or_ids, special=special)
    ids = check_ids(text_or_ids, replace(model.config, n_positions=LARGEST))
    if ids.ndim != 1:
        raise ValueError(f"one text at a time: ids must have shape (T,), not {ids.shape}")
    if bos:
        first = END_OF_TEXT_ID if tokenizer is None else tokenizer.end_of_text
        if first is None:
            raise ValueError("bos=True puts the end-of-text token first, and this tokenizer has none")
        ids = check_ids([first, *ids], replace(model.config, n_positions=LARGEST))
    if len(ids) < 2:
        raise ValueError("one token has no log probability, since nothing comes before it: put <|endoftext|> there "
            "(bos=True, --bos), or score a longer text")  # fmt: skip
    if n_positions < 2:
        raise ValueError("a context of one token cannot be scored: this model needs n_positions of 2 or more")

    log_probs, ranks = np.full(len(ids), np.nan), np.zeros(len(ids), np.int64)
    for begin, first, end in windows(len(ids), n_positions, stride):
        if first < end:
            log_probs[first:end], ranks[first:end] = _window(model, ids[begin:end], first - begin, begin)
        if report:
            report(end, len(ids))
    return Score(ids, log_probs, ranks, stride, None if tokenizer is None else _nbytes(ids[ranks > 0], tokenizer))


def windows(T: int, n_positions: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Yield (begin, first, end) of each window over T tokens: it reads begin to end, and scores first to end.

    `first` is where the window before ended, but after `begin`, since no token comes before that one.
    """
    done = 0
    for begin in range(0, T, stride):
        end = min(begin + n_positions, T)
        yield begin, max(done, begin + 1), end
        done = end
        if done == T:
            return


def log_probabilities(logits: Array, ids: Array) -> Array:
    """logits (N, V), ids (N,) -> (N,) float64 log probabilities: x[id] - log(sum(exp(x))), in nats"""
    highest = logits.max(axis=-1, keepdims=True)
    with np.errstate(over="ignore", under="ignore"):  # of logits too far apart for float32 the lower has probability 0
        p = logits - highest
        np.exp(p, out=p)
    chosen = np.take_along_axis(logits, ids[:, None], -1)[:, 0].astype(np.float64)
    return chosen - highest[:, 0] - np.log(p.sum(axis=-1).astype(np.float64))


def _window(model: GPT2, ids: Array, first: int, begin: int) -> tuple[Array, Array]:
    """ids (T,) of one window that starts at token `begin` of the text -> log probabilities and ranks from `first` on"""
    log_probs, ranks = np.empty(len(ids) - first), np.empty(len(ids) - first, np.int64)
    with np.errstate(all="ignore"):  # an overflow is found below, and reported once
        x = model.hidden(ids[:-1])[first - 1 :]  # row t scores token t + 1
        step = max(1, AT_ONCE // model.config.vocab_size)
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            logits, wanted = model.lm_head(x[rows]), ids[first:][rows]
            finite = np.isfinite(logits).all(axis=-1)
            if not finite.all():
                t = begin + first + start + int(finite.argmin())
                raise ValueError(f"the logits for token {t} hold NaN or inf: {cause(model)}")
            log_probs[rows], ranks[rows] = log_probabilities(logits, wanted), _ranks(logits, wanted)
    return log_probs, ranks


def _ranks(logits: Array, ids: Array) -> Array:
    """logits (N, V), ids (N,) -> (N,) ranks from 1; ties go to the lower id"""
    chosen = np.take_along_axis(logits, ids[:, None], -1)
    ties = (logits == chosen) & (np.arange(logits.shape[-1]) < ids[:, None])
    return 1 + np.count_nonzero(logits > chosen, axis=-1) + np.count_nonzero(ties, axis=-1)


def _nbytes(ids: Array, tokenizer: Tokenizer) -> int:
    kinds, counts = np.unique(ids, return_counts=True)
    return sum(len(tokenizer.token(int(i))) * int(n) for i, n in zip(kinds, counts, strict=True))
