"""Several texts in one pass say what each says alone: ragged prompts, samples, rows that end."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from nanogpt_np.fast import fast, few_rows
from nanogpt_np.generate.batch import batched, generate_rows, make_rows
from nanogpt_np.generate.loop import generate, next_logits
from nanogpt_np.generate.sampling import Choice
from nanogpt_np.model.attention import Attention
from nanogpt_np.model.cache import KVCache
from nanogpt_np.model.linear import Linear
from nanogpt_np.weights import assembly

MODEL, MODEL64 = random_model(), random_model(dtype=np.float64)
CONFIG = MODEL.config
GREEDY = Choice()
checked = settings(derandomize=True, deadline=None, max_examples=30)
a_prompt = st.lists(st.integers(0, CONFIG.vocab_size - 1), min_size=1, max_size=CONFIG.n_positions)


def texts(rows):
    return [row.ids for row in rows]


def run(model, rows, n, choice=GREEDY, **options):
    yielded = [(row, token) for row, token in generate_rows(model, rows, n, choice, **options)]
    for row in rows:
        assert [token for other, token in yielded if other is row] == row.ids
        assert row.ended is not None
    return rows


@checked
@given(prompts=st.lists(a_prompt, min_size=1, max_size=8), cache=st.booleans())
def test_a_ragged_batch_gives_the_greedy_tokens_of_each_prompt_alone(prompts, cache):
    rows = run(MODEL64, make_rows(MODEL64, prompts, 0), 9, use_cache=cache)
    assert texts(rows) == [list(generate(MODEL64, prompt, 9)) for prompt in prompts]
    for row in rows:
        assert row.ended == ("length" if len(row.ids) == 9 else "context")


@pytest.mark.parametrize("lengths", [(1, 7, 3, 12, 5, 5, 2, 9), (4, 4, 4), (12, 1), (6,)])
@pytest.mark.parametrize("steps", [1, 6])
def test_the_logits_of_a_ragged_batch_are_those_of_each_prompt_alone(lengths, steps):
    rng = np.random.default_rng(len(lengths))
    whole = [rng.integers(CONFIG.vocab_size, size=n + steps - 1) for n in lengths]
    pads = np.array([max(lengths) - n for n in lengths])
    model, cache = batched(fast(MODEL), pads), KVCache(CONFIG)
    ids = np.stack([np.pad(text[:n], (pad, 0)) for text, n, pad in zip(whole, lengths, pads, strict=True)])
    for step in range(steps):
        logits = next_logits(model, ids, cache=cache)
        for row, (text, n) in enumerate(zip(whole, lengths, strict=True)):
            # float32 sums in another order; measured: 6e-6
            np.testing.assert_allclose(logits[row], MODEL(text[: n + step])[-1], rtol=0, atol=1e-4)
        ids = np.array([[text[n + step]] for text, n in zip(whole, lengths, strict=True)]) if step + 1 < steps else ids


@pytest.mark.parametrize("padding", [0, 41, 96])
def test_what_the_padding_is_filled_with_changes_no_bit(padding):
    pads, ids = np.array([4, 0]), np.array([[0, 0, 0, 0, 8, 9], [3, 4, 5, 6, 7, 8]])
    first = next_logits(batched(fast(MODEL), pads), ids)
    ids[0, :4] = padding
    np.testing.assert_array_equal(next_logits(batched(fast(MODEL), pads), ids), first)


SAMPLING = Choice(1.2, top_k=40, top_p=0.95, min_p=0.01, repetition_penalty=1.3)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_sample_i_is_the_same_however_many_there_are(n):
    together = run(MODEL64, make_rows(MODEL64, [[3, 1, 41]], 7, range(n)), 12, SAMPLING)
    for i, row in enumerate(together):
        (alone,) = run(MODEL64, make_rows(MODEL64, [[3, 1, 41]], 7, [i]), 12, SAMPLING)
        assert row.ids == alone.ids
    assert len(set(map(tuple, texts(together)))) == n


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1, 2**40 + 1])
def test_sample_0_is_what_generate_draws_with_the_seed(seed):
    (row,) = run(MODEL64, make_rows(MODEL64, [[3, 1, 41]], seed), 12, Choice(1.2, 40, 0.95))
    rng = np.random.default_rng(seed)
    drawn = generate(MODEL64, [3, 1, 41], 12, temperature=1.2, top_k=40, top_p=0.95, rng=rng)
    assert row.ids == list(drawn)


def test_samples_of_several_prompts_are_those_of_each_prompt_alone():
    prompts = [[3, 1, 41], [7], [9, 9, 9, 9, 2]]
    rows = run(MODEL64, make_rows(MODEL64, prompts, 2, range(3)), 8, SAMPLING)
    for n, prompt in enumerate(prompts):
        alone = run(MODEL64, make_rows(MODEL64, [prompt], 2, range(3)), 8, SAMPLING)
        assert texts(alone) == texts(rows[3 * n : 3 * n + 3])


@checked
@given(prompts=st.lists(a_prompt, min_size=2, max_size=6), token=st.integers(0, 8))
def test_a_row_that_ends_early_leaves_the_others_unchanged(prompts, token):
    free = [list(generate(MODEL64, prompt, 9, stop=())) for prompt in prompts]
    stop = (free[0][min(token, len(free[0]) - 1)],)
    rows = run(MODEL64, make_rows(MODEL64, prompts, 0), 9, stop=stop)
    assert texts(rows) == [list(generate(MODEL64, prompt, 9, stop=stop)) for prompt in prompts]
    for row, all_of_it in zip(rows, free, strict=True):
        assert (row.ended == "end of text") == (stop[0] in all_of_it)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_row_that_its_reader_ends_gets_no_further_token(row):
    prompts = [[3, 1, 41], [7], [9, 9, 9, 9, 2]]
    rows = make_rows(MODEL64, prompts, 0)
    for one, _ in generate_rows(MODEL64, rows, 8, GREEDY, stop=()):
        if one is rows[row] and len(one.ids) == 3:
            one.ended = "enough"
    for i, one in enumerate(rows):
        assert one.ids == list(generate(MODEL64, prompts[i], 3 if i == row else 8, stop=()))
        assert one.ended == ("enough" if i == row else "length")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    ("rows", "K", "N"), [(2, 30, 97), (8, 768, 200), (8, 3072, 65), (16, 768, 64), (1, 7, 90), (300, 40, 99)]
)
def test_a_product_in_tiles_is_the_product(rows, K, N, order):
    rng = np.random.default_rng(rows)
    x, weight = rng.standard_normal((rows, K)), np.asarray(rng.standard_normal((K, N)), order=order)
    np.testing.assert_allclose(few_rows.product(x, weight), x @ weight, rtol=0, atol=1e-11)
    x, weight = x.astype(np.float32), weight.astype(np.float32)
    found = few_rows.product(x, weight)
    assert found.dtype == np.float32 and found.shape == (rows, N)
    np.testing.assert_allclose(found, x @ weight, rtol=0, atol=1e-3)


def counted_tokens(monkeypatch):
    """Return a list to which each pass adds the shape of its ids."""
    shapes, real = [], KVCache.advance
    monkeypatch.setattr(KVCache, "advance", lambda cache, T: (shapes.append(T), real(cache, T))[1])
    return shapes


def counted_rows(monkeypatch):
    """Return a list to which each product of a layer adds its number of rows."""
    widths = []
    for kind in (Linear, few_rows.FewRowsLinear):

        def watched(self, x, *more, forward=kind.__call__):
            widths.append(x.size // x.shape[-1])
            return forward(self, x, *more)

        monkeypatch.setattr(kind, "__call__", watched)
    return widths


def test_a_prompt_of_many_samples_goes_through_the_model_once(monkeypatch):
    shapes, widths = counted_tokens(monkeypatch), counted_rows(monkeypatch)
    run(MODEL, make_rows(MODEL, [[3, 1, 41, 5]], 0, range(6)), 4, Choice(1.0), stop=())
    assert shapes == [4, 1, 1, 1]
    # Each product has all rows of all samples: 4 tokens (or the last one's block), then one per sample.
    assert set(widths) <= {1, 3, 4, 6} and widths[-4 * CONFIG.n_layer :] == [6] * 4 * CONFIG.n_layer


def test_rows_that_have_ended_are_no_longer_computed(monkeypatch):
    widths = counted_rows(monkeypatch)
    rows = make_rows(MODEL, [[3, 1, 41], [7], [9, 9, 9, 9, 2], [8]], 0)
    for row, _ in generate_rows(MODEL, rows, 8, GREEDY, stop=()):
        if row in rows[:3]:
            row.ended = "enough"
    assert widths[-1] == 1


def test_log_probabilities_are_those_of_the_model_whatever_the_settings():
    rows = make_rows(MODEL64, [[3, 1, 41], [7]], 4)
    for row in run(MODEL64, rows, 9, SAMPLING, log_probs=True):
        logits = MODEL64(row.text[:-1])[len(row.prompt) - 1 :].astype(float)
        expected = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        chosen = expected[np.arange(len(row.ids)), row.ids]
        np.testing.assert_allclose(row.log_probs, chosen, rtol=0, atol=1e-10)


def test_a_row_with_a_trace_announces_what_generate_announces():
    seen, expected = [], []
    run(MODEL, make_rows(MODEL, [[3, 1, 41]], 0), 4, trace=lambda name, x: seen.append((name, np.array(x))) or x)
    list(generate(MODEL, [3, 1, 41], 4, trace=lambda name, x: expected.append((name, np.array(x))) or x))
    assert [name for name, _ in seen] == [name for name, _ in expected]
    for (_, x), (_, y) in zip(seen, expected, strict=True):
        np.testing.assert_array_equal(x, y)
    with pytest.raises(ValueError, match="one row at a time, not 2"):
        list(generate_rows(MODEL, make_rows(MODEL, [[1], [2]], 0), 1, GREEDY, trace=lambda name, x: x))


@dataclass(frozen=True, eq=False, repr=False)
class Other(Attention):
    """An attention of somebody's own."""


def test_an_attention_of_another_class_runs_prompts_of_one_length_and_refuses_others():
    blocks = [
        type(b)(b.ln_1, Other(b.attn.c_attn, b.attn.c_proj, 5, 6, b.attn.scale), b.ln_2, b.mlp) for b in MODEL64.h
    ]
    model = type(MODEL64)(CONFIG, MODEL64.embedding, tuple(blocks), MODEL64.ln_f, MODEL64.lm_head)
    rows = run(model, make_rows(model, [[3, 1], [7, 4]], 0), 5)
    assert texts(rows) == [list(generate(MODEL64, prompt, 5)) for prompt in ([3, 1], [7, 4])]
    with pytest.raises(ValueError, match=r"different lengths need .*one at a time"):
        run(model, make_rows(model, [[3, 1], [7]], 0), 5)


@pytest.mark.parametrize("name", ["wte.weight", "h.1.mlp.c_fc.bias", "h.0.attn.c_attn.weight"])
def test_weights_that_are_not_finite_are_named_in_a_ragged_batch_too(name):
    broken = MODEL.params[name].copy()
    broken[0] = math.nan
    model = assembly.assemble(CONFIG, MODEL.params | {name: broken})
    with pytest.raises(ValueError, match=f"NaN or inf.*{name}"):
        run(model, make_rows(model, [[3, 1, 41], [7]], 0), 3)


@pytest.mark.parametrize(
    ("prompts", "seed", "words"),
    [
        ([[1, 2], []], 0, "no token ids"),
        ([[1, 2], [97]], 0, "token id 97"),
        ([[[1, 2], [3, 4]]], 0, r"each prompt must have shape \(T,\), not \(2, 2\)"),
        ([[1]], -1, "seed must be a whole number, 0 or more, not -1"),
        ([[1]], 0.5, "seed must be a whole number, 0 or more, not 0.5"),
    ],
)
def test_prompts_and_seeds_that_cannot_be_are_refused(prompts, seed, words):
    with pytest.raises(ValueError, match=words):
        make_rows(MODEL, prompts, seed)


def test_no_new_tokens_end_every_row_and_run_nothing():
    rows = run(MODEL, make_rows(MODEL, [[1], [2, 3]], 0), 0)
    assert [(row.ids, row.ended) for row in rows] == [([], "length")] * 2
