"""Generation runs the last block for one row only, and nobody can tell from what it gives."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import random_model

from nanogpt_np import attention, cores, model
from nanogpt_np.attention import no_memory
from nanogpt_np.cache import KVCache
from nanogpt_np.generate import next_logits
from nanogpt_np.last_row import LastRow, only_last_row
from nanogpt_np.trace import Recorder, no_trace

MODEL, MODEL64 = random_model(), random_model(dtype=np.float64)
CONFIG = MODEL.config
IDS = np.random.default_rng(8).integers(CONFIG.vocab_size, size=(2, CONFIG.n_positions))
SAME, SAME32 = {"rtol": 1e-9, "atol": 1e-12}, {"rtol": 1e-4, "atol": 1e-5}
EVERY_LENGTH = range(1, CONFIG.n_positions + 1)


@pytest.mark.parametrize("ids", [IDS[0], IDS], ids=["prompt", "batch"])
@pytest.mark.parametrize("T", EVERY_LENGTH)
def test_the_last_row_is_that_of_all_rows(ids, T):
    for gpt2, tolerance in ((MODEL64, SAME), (MODEL, SAME32)):
        row = gpt2.last_row(ids[..., :T])
        assert row.shape == (*ids.shape[:-1], CONFIG.n_embd)
        np.testing.assert_allclose(row, gpt2.hidden(ids[..., :T])[..., -1, :], **tolerance)


@pytest.mark.parametrize("cut", range(1, CONFIG.n_positions))
def test_the_cache_is_left_as_a_whole_pass_leaves_it(cut):
    mine, whole = KVCache(CONFIG), KVCache(CONFIG)
    for ids in (IDS[0, :cut], IDS[0, cut:]):
        last = MODEL64.hidden(ids, cache=whole)[-1]
        np.testing.assert_allclose(MODEL64.last_row(ids, cache=mine), last, **SAME)
    assert mine.length == whole.length
    for i in range(CONFIG.n_layer):
        for ours, theirs in zip(mine._layers[i], whole._layers[i], strict=True):
            np.testing.assert_allclose(ours, theirs, **SAME)


@pytest.mark.parametrize("past", [0, 3])
def test_long_prompts_in_parts_end_with_the_same_row(past, monkeypatch):
    monkeypatch.setattr(attention, "LONG", 2)
    monkeypatch.setattr(model, "LONG", 2)
    monkeypatch.setattr(cores, "SMALLEST", 1)
    monkeypatch.setattr(cores, "_threads", lambda: (lambda: 3, lambda n: None))
    expected = MODEL64.hidden(IDS, trace=Recorder())[:, -1]
    cache = KVCache(CONFIG)
    if past:
        MODEL64.last_row(IDS[:, :past], cache=cache)
    np.testing.assert_allclose(MODEL64.last_row(IDS[:, past:], cache=cache), expected, **SAME)


def rows_seen(gpt2, run):
    """Return how many rows went through the last block's MLP."""
    seen = []

    def mlp(x, trace=no_trace):
        seen.append(x.shape[-2])
        return gpt2.h[-1].mlp(x, trace)

    run(replace(gpt2, h=(*gpt2.h[:-1], replace(gpt2.h[-1], mlp=mlp))))
    return seen


def test_generation_takes_one_row_through_the_last_mlp_and_who_watches_sees_all():
    ids = IDS[0, :7]
    assert rows_seen(MODEL, lambda gpt2: next_logits(gpt2, ids)) == [1]
    assert rows_seen(MODEL, lambda gpt2: next_logits(gpt2, ids, trace=Recorder())) == [7]
    assert rows_seen(MODEL, lambda gpt2: gpt2(ids)) == [7]


def test_it_leaves_the_model_as_it_is():
    assert isinstance(only_last_row(MODEL).h[-1], LastRow)
    assert only_last_row(MODEL).h[:-1] == MODEL.h[:-1]
    assert not any(isinstance(block, LastRow) for block in MODEL.h)


def test_where_attention_is_somebodys_own_every_row_goes_through_it():
    """Who knows what it takes from the other rows: here, all of them."""
    own = replace(MODEL64.h[-1], attn=lambda x, remember=no_memory, trace=no_trace: np.cumsum(x, axis=-2))
    gpt2 = replace(MODEL64, h=(*MODEL64.h[:-1], own))
    np.testing.assert_array_equal(gpt2.last_row(IDS), gpt2.hidden(IDS)[:, -1])


def test_a_model_without_blocks_has_a_last_row_too():
    gpt2 = replace(MODEL64, h=())
    np.testing.assert_array_equal(gpt2.last_row(IDS), gpt2.hidden(IDS)[:, -1])
