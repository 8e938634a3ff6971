"""Generation runs the last block of a prompt for one row only, with the same result."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from helpers import random_model

from nanogpt_np import Recorder
from nanogpt_np.bench import products
from nanogpt_np.fast import blas, fast, segments, tiles
from nanogpt_np.fast.last_row import LastRow
from nanogpt_np.generate.loop import next_logits
from nanogpt_np.model.attention import Attention, no_cache
from nanogpt_np.model.cache import KVCache
from nanogpt_np.model.gpt2 import GPT2, Block
from nanogpt_np.model.mlp import MLP
from nanogpt_np.model.trace import no_trace

MODEL, MODEL64 = random_model(), random_model(dtype=np.float64)
FAST64 = fast(MODEL64)
CONFIG, LAST = MODEL.config, MODEL64.h[-1]
IDS = np.random.default_rng(8).integers(CONFIG.vocab_size, size=(2, CONFIG.n_positions))
SAME, SAME32 = {"rtol": 1e-9, "atol": 1e-12}, {"rtol": 1e-4, "atol": 1e-5}
EVERY_LENGTH = range(1, CONFIG.n_positions + 1)


@pytest.fixture
def rows_seen(monkeypatch):
    """How many rows went through each MLP, in order."""
    seen, call = [], MLP.__call__

    def counted(mlp, x, trace=no_trace):
        seen.append(x.shape[-2])
        return call(mlp, x, trace)

    monkeypatch.setattr(MLP, "__call__", counted)
    return seen


@pytest.mark.parametrize("ids", [IDS[0], IDS], ids=["prompt", "batch"])
@pytest.mark.parametrize("T", EVERY_LENGTH)
def test_the_last_row_is_that_of_all_rows(ids, T):
    for model, tolerance in ((MODEL64, SAME), (MODEL, SAME32)):
        row = fast(model).last_row(ids[..., :T])
        assert row.shape == (*ids.shape[:-1], CONFIG.n_embd)
        np.testing.assert_allclose(row, model.hidden(ids[..., :T])[..., -1, :], **tolerance)


@pytest.mark.parametrize("cut", range(1, CONFIG.n_positions))
def test_the_cache_is_left_as_a_whole_pass_leaves_it(cut):
    mine, whole = KVCache(CONFIG), KVCache(CONFIG)
    for ids in (IDS[0, :cut], IDS[0, cut:]):
        last = MODEL64.hidden(ids, cache=whole)[-1]
        np.testing.assert_allclose(FAST64.last_row(ids, cache=mine), last, **SAME)
    assert mine.length == whole.length
    for i in range(CONFIG.n_layer):
        for ours, theirs in zip(mine._layers[i], whole._layers[i], strict=True):
            np.testing.assert_allclose(ours, theirs, **SAME)


@pytest.mark.parametrize("past", [0, 3])
def test_long_prompts_in_parts_end_with_the_same_row(past, rows_seen, monkeypatch):
    threads = []
    monkeypatch.setattr(tiles, "LONG", 2)
    monkeypatch.setattr(segments, "SMALLEST", 1)
    monkeypatch.setattr(blas, "threads", lambda: (lambda: 3, threads.append))
    expected = MODEL64.hidden(IDS, trace=Recorder())[:, -1]
    cache = KVCache(CONFIG)
    if past:
        FAST64.last_row(IDS[:, :past], cache=cache)
    threads.clear()
    rows_seen.clear()
    np.testing.assert_allclose(FAST64.last_row(IDS[:, past:], cache=cache), expected, **SAME)
    assert threads == [1, 3]
    assert rows_seen.count(1) == 3 and len(rows_seen) == 3 * CONFIG.n_layer  # three parts, the last block of each


def test_one_row_of_a_prompt_goes_through_the_last_mlp_and_a_trace_gets_all(rows_seen):
    blocks = CONFIG.n_layer
    for run, rows in (
        (lambda: next_logits(MODEL64, IDS[0, :1]), [1] * blocks),
        (lambda: next_logits(MODEL64, IDS[0, :7]), [7] * (blocks - 1) + [1]),
        (lambda: next_logits(MODEL64, IDS[0, :7], trace=Recorder()), [7] * blocks),
        (lambda: MODEL64(IDS[0, :7]), [7] * blocks),
        (lambda: FAST64(IDS[0, :7]), [7] * blocks),
    ):
        rows_seen.clear()
        run()
        assert rows_seen == rows
    assert not any(isinstance(block, LastRow) for block in (*MODEL64.h, *FAST64.h))


def earlier_too(x, *_, **__):
    """A layer that looks at other rows than its own."""
    return np.cumsum(x, axis=-2)


class Cumulative(Attention):
    """A kind of attention that looks at all earlier tokens alike."""

    def __call__(self, x, remember=no_cache, trace=no_trace):
        return earlier_too(x)


class PostNorm(Block):
    """A block that normalises after each sum, as the first Transformer did."""

    def __call__(self, x, remember=no_cache, trace=no_trace):
        x = self.ln_1(x + self.attn(x, remember, trace), trace)
        return self.ln_2(x + self.mlp(x, trace), trace)


class Twice(GPT2):
    """A model that goes through each block twice."""

    def _run(self, ids, cache, trace=no_trace):
        x = self.embedding(ids, cache.length, trace)
        for block in self.h:
            x = block(block(x))
        return self.ln_f(x)


@dataclass(frozen=True)
class Around:
    """What stands around a block, and seems to have its parts."""

    block: Block

    def __getattr__(self, name):
        return getattr(self.block, name)

    def __call__(self, x, remember=no_cache, trace=no_trace):
        return self.block(2 * x, remember, trace)


def ending_in(block):
    return replace(MODEL64, h=(*MODEL64.h[:-1], block))


OWN = {
    "attention": ending_in(replace(LAST, attn=earlier_too)),
    "a kind of attention": ending_in(replace(LAST, attn=Cumulative(*vars(LAST.attn).values()))),
    "first norm": ending_in(replace(LAST, ln_1=earlier_too)),
    "second norm": ending_in(replace(LAST, ln_2=earlier_too)),
    "MLP": ending_in(replace(LAST, mlp=earlier_too)),
    "block": ending_in(PostNorm(*vars(LAST).values())),
    "what stands around a block": ending_in(Around(LAST)),
    "function": ending_in(lambda x, remember, trace: LAST(x, remember, trace)),
    "last norm": replace(MODEL64, ln_f=earlier_too),
    "model": Twice(*vars(MODEL64).values()),
    "model without blocks": replace(MODEL64, h=()),
}  # fmt: skip


@pytest.mark.parametrize("what", OWN)
def test_every_row_goes_through_a_layer_of_another_class(what, monkeypatch):
    """It may take anything from the other rows; these take something of each."""
    monkeypatch.setattr(segments, "SMALLEST", 1)
    monkeypatch.setattr(blas, "threads", lambda: (lambda: 2, lambda n: None))
    np.testing.assert_array_equal(fast(OWN[what]).hidden(IDS), OWN[what].hidden(IDS))
    np.testing.assert_array_equal(fast(OWN[what]).last_row(IDS), OWN[what].hidden(IDS)[:, -1])


class Counted(np.ndarray):
    """A weight that notes how many rows it is multiplied with."""

    seen: ClassVar = []

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        if ufunc is np.matmul:
            rows, weight = sorted(inputs, key=lambda a: isinstance(a, Counted))
            Counted.seen.append((int(np.prod(rows.shape[:-1])), weight.shape))
        inputs = [a.view(np.ndarray) if isinstance(a, Counted) else a for a in inputs]
        return getattr(ufunc, method)(*inputs, **keywords)


@pytest.mark.parametrize("T", [1, 4, 5, 7])
def test_the_benchmarks_products_are_those_of_generation(T):
    def linears(layer, *names):
        found = {name: getattr(layer, name) for name in names}
        return replace(layer, **{n: replace(linear, weight=linear.weight.view(Counted)) for n, linear in found.items()})

    def counted(block):
        attn, mlp = linears(block.attn, "c_attn", "c_proj"), linears(block.mlp, "c_fc", "c_proj")
        return replace(block, attn=attn, mlp=mlp)

    head = replace(MODEL.lm_head, weight=MODEL.lm_head.weight.view(Counted))
    model, found = replace(MODEL, h=tuple(map(counted, MODEL.h)), lm_head=head), []
    for run in (lambda: next_logits(model, IDS[0, :T]), products._products(model, T, [T])):
        Counted.seen.clear()
        run()
        found.append(sorted(Counted.seen))
    assert found[0] == found[1] and len(found[0]) == 4 * CONFIG.n_layer + 1 + (T > 1)
