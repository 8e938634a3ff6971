"""The choice of the next token, against a slow definition in exact fractions; and the loop around it."""

import functools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from helpers import random_model
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from nanogpt_np import Recorder
from nanogpt_np.generate.batch import generate_rows, make_rows
from nanogpt_np.generate.loop import generate
from nanogpt_np.generate.sampling import Choice, draw, penalized, probabilities
from nanogpt_np.model.trace import chain
from nanogpt_np.names import points
from nanogpt_np.weights import assembly

checked = settings(derandomize=True, deadline=None, max_examples=100)


# --- probabilities -------------------------------------------------------------------------------


def plain_probabilities(logits, temperature, top_k, top_p):
    """The rules as one would say them, in exact fractions; also how near a choice the sum came to top_p.

    Returns (probabilities, distance): where the distance is 0 or nearly, rounding may keep one token
    more or less.
    """
    logits = [float(x) for x in logits]
    likeliest_first = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    if temperature == 0:
        return [float(i == likeliest_first[0]) for i in range(len(logits))], 1.0
    # Every float64 is a whole number of 2**-1074.
    weights = [int(Fraction(math.exp((x - max(logits)) / temperature)) * 2**1074) for x in logits]
    kept = likeliest_first[:top_k]
    distance = 1.0
    if top_p is not None:
        total, reached, nucleus = sum(weights[i] for i in kept), 0, []
        for i in kept:
            nucleus.append(i)
            reached += weights[i]
            above = Fraction(reached, total) - Fraction(top_p)
            distance = min(distance, abs(float(above)))
            if above >= 0:
                break
        kept = nucleus
    total = sum(weights[i] for i in kept)
    return [weights[i] / total if i in kept else 0.0 for i in range(len(logits))], distance


# A few values that come often make ties; the others make everything else.
a_logit = st.sampled_from([-2.0, 0.0, 0.5, 3.0]) | st.floats(-130, 30, width=32)
some_logits = st.lists(a_logit, min_size=1, max_size=12)
temperatures = st.sampled_from([1e-300, 1e-9, 0.1, 0.7, 1.0, 1e3]) | st.floats(1e-300, 1e3)
top_ks = st.none() | st.integers(1, 15)
top_ps = st.none() | st.sampled_from([1e-300, 0.5, 0.9]) | st.floats(1e-3, 1)


@settings(checked, max_examples=500)
@given(logits=some_logits, temperature=temperatures, top_k=top_ks, top_p=top_ps)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_follow_the_plain_definition(logits, temperature, top_k, top_p, dtype):
    expected, distance = plain_probabilities(logits, temperature, top_k, top_p)
    assume(distance > 1e-12)
    logits = np.array(logits, dtype)
    logits.flags.writeable = False
    p = probabilities(logits, temperature, top_k, top_p)
    assert p.dtype == np.float64
    assert [x > 0 for x in p] == [x > 0 for x in expected]
    np.testing.assert_allclose(p, expected, rtol=1e-12, atol=1e-300)  # exp of float64, below 1e-300 in few digits
    assert math.isclose(p.sum(), 1, rel_tol=1e-14)


@checked
@given(logits=some_logits, top_k=top_ks, top_p=top_ps)
def test_temperature_0_gives_1_to_the_lowest_id_of_the_largest_logits(logits, top_k, top_p):
    p = probabilities(np.array(logits), 0, top_k, top_p)
    assert p.tolist() == [float(i == logits.index(max(logits))) for i in range(len(logits))]


@checked
@given(logits=some_logits, k=st.integers(1, 15))
def test_exactly_k_tokens_are_kept_also_where_logits_are_equal(logits, k):
    p = probabilities(np.array(logits), 1.0, top_k=k)
    kept = {i for i, x in enumerate(p) if x > 0}
    assert len(kept) == min(k, len(logits))
    for out in set(range(len(logits))) - kept:
        assert all((-logits[i], i) < (-logits[out], out) for i in kept)


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(0.01, 1), (0.5, 1), (0.5000001, 2), (0.75, 2), (0.7500001, 3), (0.875, 3), (0.9, 4), (1.0, 4)],
)
def test_the_token_that_crosses_top_p_stays(top_p, kept):
    halves = np.array([0.125, 0.5, 0.125, 0.25])  # exact in binary: sums 0.5, 0.75, 0.875, 1
    p = probabilities(np.log(halves), top_p=top_p)
    likeliest_first = [1, 3, 0, 2]
    assert np.flatnonzero(p).tolist() == sorted(likeliest_first[:kept])
    expected = np.where(p > 0, halves, 0) / sum(halves[likeliest_first[:kept]])
    np.testing.assert_allclose(p, expected, rtol=1e-13)


def test_top_p_counts_among_the_tokens_that_top_k_has_left():
    logits = np.log([0.4, 0.3, 0.2, 0.1])
    # Of 0.4 and 0.3, scaled to sum 1, the first alone is 0.571.
    np.testing.assert_allclose(probabilities(logits, top_k=2, top_p=0.55), [1, 0, 0, 0])
    np.testing.assert_allclose(probabilities(logits, top_k=2, top_p=0.58), [4 / 7, 3 / 7, 0, 0], rtol=1e-13)
    np.testing.assert_allclose(probabilities(logits, top_p=0.55), [4 / 7, 3 / 7, 0, 0], rtol=1e-13)


def test_top_p_of_1_keeps_also_the_tokens_too_unlikely_to_move_the_sum():
    logits = np.array([0.0, -40.0])  # 1 + 4e-18 is 1 in float64
    np.testing.assert_array_equal(probabilities(logits, top_p=1.0), probabilities(logits))


def test_a_logit_of_minus_infinity_is_never_chosen():
    p = probabilities(np.array([0.0, -math.inf, 0.0]), 0.5)
    assert p.tolist() == [0.5, 0, 0.5]
    assert probabilities(np.array([-math.inf, 1.0]), 0).tolist() == [0, 1]


def test_a_low_temperature_sharpens_and_a_high_one_flattens():
    logits = np.array([1.0, 2.0, 4.0])
    top = [probabilities(logits, t)[2] for t in (0.2, 0.5, 1, 2, 10)]
    assert top == sorted(top, reverse=True)
    np.testing.assert_allclose(probabilities(logits, 1e6), 1 / 3, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -0.1}, "temperature must be 0 .*or above, not -0.1"),
        ({"temperature": math.nan}, "temperature .*nan"),
        ({"temperature": math.inf}, "temperature .*inf"),
        ({"top_k": 0}, "top_k must be 1 or more tokens, not 0"),
        ({"top_k": -3}, "top_k .*-3"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, not 0.0"),
        ({"top_p": -0.5}, "top_p .*-0.5"),
        ({"top_p": 1.0000001}, "top_p .*1.0000001"),
        ({"top_p": math.nan}, "top_p .*nan"),
    ],
)
def test_settings_that_mean_nothing_are_errors_for_one_choice_and_for_generate(settings, message):
    with pytest.raises(ValueError, match=message):
        probabilities(np.zeros(3), **settings)
    with pytest.raises(ValueError, match=message):
        generate(MODEL, [1], 1, **settings)  # at once, before anyone asks for a token


# --- drawing -------------------------------------------------------------------------------------


@checked
@given(logits=some_logits, top_k=top_ks, top_p=top_ps, seed=st.integers(0, 2**32))
def test_a_token_of_probability_0_is_never_drawn(logits, top_k, top_p, seed):
    p = probabilities(np.array(logits), 1.0, top_k, top_p)
    rng = np.random.default_rng(seed)
    drawn = [draw(p, rng) for _ in range(20)]
    assert {type(i) for i in drawn} == {int}
    assert all(p[i] > 0 for i in drawn)


DRAWN_FROM = np.array([2.0, 0.0, 1.0, -1.0, 2.0, 0.5, -3.0, 1.5])
P = probabilities(DRAWN_FROM, 0.8, top_k=6)  # two are 0
# The 0.9999 quantile of the chi-square distribution with 5 degrees of freedom (six tokens).
CHI_SQUARE_LIMIT = 25.74


def chi_square(counts, p):
    n = sum(counts.values())
    return sum((counts[i] - n * x) ** 2 / (n * x) for i, x in enumerate(p) if x > 0)


def test_tokens_are_drawn_as_often_as_their_probabilities_say():
    rng = np.random.default_rng(11)
    counts = Counter(draw(P, rng) for _ in range(20_000))
    assert sorted(counts) == np.flatnonzero(P).tolist()
    assert len(counts) == 6
    assert chi_square(counts, P) < CHI_SQUARE_LIMIT
    # The limit can tell: it refuses the temperature 0.84 in place of 0.8.
    assert chi_square(counts, probabilities(DRAWN_FROM, 0.84, top_k=6)) > CHI_SQUARE_LIMIT


def test_the_same_seed_draws_the_same_tokens_and_another_seed_others():
    first, again, other = ([draw(P, rng) for _ in range(50)] for rng in map(np.random.default_rng, (1, 1, 2)))
    assert first == again != other


# --- the repetition penalty, and min-p --------------------------------------------------------------


def plain_choice(logits, ids, temperature, top_k, top_p, min_p, penalty):
    """Penalize, then `plain_probabilities`, then drop what is below min_p times the largest; also the distance."""
    logits = [float(x) for x in logits]
    for i in set(ids):
        logits[i] = logits[i] * penalty if logits[i] < 0 else logits[i] / penalty
    p, distance = plain_probabilities(logits, temperature, top_k, top_p)
    limit = Fraction(min_p or 0) * Fraction(max(p))
    distance = min([distance, *(abs(float(x / limit - 1)) for x in p if x and limit)])
    kept = [x if x >= limit else 0.0 for x in p]
    return [x / sum(kept) for x in kept], distance


@settings(checked, max_examples=300)
@given(
    logits=some_logits,
    temperature=st.sampled_from([0.0, 0.7, 1.0]) | st.floats(0.05, 10),
    top_k=top_ks,
    top_p=top_ps,
    min_p=st.none() | st.sampled_from([0.0, 0.3, 1.0]) | st.floats(0, 1),
    penalty=st.sampled_from([1.0, 1.2, 0.5]) | st.floats(0.1, 10),
    data=st.data(),
)
def test_a_choice_follows_the_plain_definition(logits, temperature, top_k, top_p, min_p, penalty, data):
    ids = data.draw(st.lists(st.integers(0, len(logits) - 1), min_size=1, max_size=6))
    expected, distance = plain_choice(logits, ids, temperature, top_k, top_p, min_p, penalty)
    assume(min_p == 1 or distance > 1e-12)
    array = np.array(logits, np.float32)
    array.flags.writeable = False
    choice = Choice(temperature, top_k, top_p, min_p, penalty)
    p = choice.probabilities(array, np.array(ids))
    np.testing.assert_allclose(p, expected, rtol=1e-12, atol=1e-300)
    chosen = choice(array, np.array(ids), np.random.default_rng(0))
    assert type(chosen) is int and p[chosen] > 0


def test_the_repetition_penalty_divides_what_is_positive_multiplies_what_is_negative_and_counts_no_token_twice():
    logits = np.array([2.0, -2.0, 3.0, -3.0, 0.0, -math.inf])
    assert penalized(logits, np.array([0, 1, 1, 0, 4, 5]), 2.0).tolist() == [1, -4, 3, -3, 0, -math.inf]
    assert logits.tolist() == [2.0, -2.0, 3.0, -3.0, 0.0, -math.inf]
    assert Choice(repetition_penalty=2.0)(logits, np.array([2]), None) == 0  # greedily too: 1.5 is below 2


def test_min_p_counts_from_what_the_temperature_and_the_other_settings_leave():
    logits = np.log([0.5, 0.3, 0.15, 0.05])
    kept = lambda **more: np.flatnonzero(Choice(**more).probabilities(logits, np.array([0]))).tolist()  # noqa: E731
    assert kept(temperature=1.0, min_p=0.2) == [0, 1, 2]  # 0.1 and more
    assert kept(temperature=0.5, min_p=0.2) == [0, 1]  # squares: 0.25, 0.09, 0.0225
    assert kept(temperature=1.0, min_p=0.2, top_k=2) == [0, 1]
    assert kept(temperature=1.0, min_p=0.2, repetition_penalty=9.0) == [1, 2]  # log 0.5 is negative: times 9


@pytest.mark.parametrize("min_p", [-0.1, 1.1, math.nan, "0.5"])
def test_a_min_p_that_is_no_share_is_refused(min_p):
    with pytest.raises(ValueError, match="min_p must be 0 to 1"):
        Choice(min_p=min_p)


@pytest.mark.parametrize("penalty", [0, -1.0, math.nan, math.inf, "2"])
def test_a_repetition_penalty_that_is_not_above_0_is_refused(penalty):
    with pytest.raises(ValueError, match="repetition_penalty must be above 0"):
        Choice(repetition_penalty=penalty)


@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0}, {"temperature": 1.0, "min_p": 0.1}])
@pytest.mark.parametrize("penalty", [1.0, 1.5])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused_before_a_choice(settings, penalty, bad):
    model = random_model()
    rows = make_rows(model, [[3, 1], [7]], 0)
    model.params["ln_f.bias"][0] = bad
    with pytest.raises(ValueError, match="NaN or inf"):
        list(generate_rows(model, rows, 3, Choice(**settings, repetition_penalty=penalty)))


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(40))
def test_transformers_leaves_the_same_probabilities(seed):
    """Its processors in the order of its `generate`; no ties here, which it treats in another way."""
    torch = pytest.importorskip("torch", reason="pip install -e '.[reference]'")
    transformers = pytest.importorskip("transformers", reason="pip install -e '.[reference]'")
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, 300).astype(np.float32)
    ids = rng.integers(300, size=12)
    values = {"temperature": [0.5, 1.3], "top_k": [None, 5, 40], "top_p": [None, 0.6, 0.95], "min_p": [None, 0.05, 0.3]}
    picked = {name: some[rng.integers(len(some))] for name, some in values.items()}
    penalty = [0.8, 1.0, 1.3][rng.integers(3)]

    # What its `generate` itself puts together, and in which order, is part of what is compared.
    config = transformers.GPT2Config(n_layer=1, n_embd=4, n_head=1, vocab_size=300)
    model = transformers.GPT2LMHeadModel(config)
    ours = {"top_k": 0, "repetition_penalty": penalty} | {k: v for k, v in picked.items() if v is not None}
    settings = transformers.GenerationConfig(do_sample=True, **ours)
    settings = model._prepare_generation_config(settings)[0]
    processors = model._get_logits_processor(settings, input_ids_seq_length=len(ids))
    scores = processors(torch.tensor(ids)[None], torch.tensor(logits.astype(float))[None])
    expected = torch.softmax(scores, dim=-1)[0].numpy()
    p = Choice(**picked, repetition_penalty=penalty).probabilities(logits, ids)
    assert np.array_equal(p > 0, expected > 0)
    np.testing.assert_allclose(p, expected, rtol=1e-9)


# --- generate ------------------------------------------------------------------------------------

MODEL = random_model()
MODEL64 = random_model(dtype=np.float64)  # cached and uncached differ by 1e-14: no draw falls between
CONFIG = MODEL.config
PROMPT = [3, 1, 41, 59, 26]
ROOM = CONFIG.n_positions - len(PROMPT) + 1


@functools.cache
def greedy_by_whole_passes(prompt, n):
    ids = list(prompt)
    for _ in range(n):
        ids.append(int(MODEL64(np.array(ids))[-1].argmax()))
    return ids[len(prompt) :]


@settings(checked, max_examples=40)
@given(prompt=st.lists(st.integers(0, CONFIG.vocab_size - 1), min_size=1, max_size=CONFIG.n_positions))
def test_greedy_generation_takes_the_argmax_of_whole_passes_with_and_without_cache(prompt):
    n = min(5, CONFIG.n_positions - len(prompt) + 1)
    expected = greedy_by_whole_passes(tuple(prompt), n)
    assert list(generate(MODEL64, prompt, n)) == expected
    assert list(generate(MODEL64, prompt, n, use_cache=False)) == expected


SAMPLING = {"temperature": 1.3, "top_k": 40, "top_p": 0.95}


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_gives_the_same_ids_with_and_without_cache(seed):
    first, again, uncached = (
        list(generate(MODEL64, PROMPT, 15, **SAMPLING, rng=np.random.default_rng(seed), use_cache=cache))
        for cache in (True, True, False)
    )
    assert first == again == uncached
    assert len(first) == 15


def test_other_seeds_give_other_ids_and_no_seed_is_a_fresh_one():
    # At temperature 9 some 80 tokens are about as likely: two texts of 15 agree once in 1e28.
    rngs = map(np.random.default_rng, range(20))
    seeded = {tuple(generate(MODEL, PROMPT, 15, temperature=9, rng=rng)) for rng in rngs}
    assert len(seeded) == 20
    fresh = {tuple(generate(MODEL, PROMPT, 15, temperature=9)) for _ in range(20)}
    assert len(fresh) == 20
    assert not fresh & seeded


def test_greedy_generation_draws_nothing_from_the_generator():
    rng = np.random.default_rng(3)
    list(generate(MODEL, PROMPT, 5, rng=rng))
    assert rng.bit_generator.state == np.random.default_rng(3).bit_generator.state


def test_sampled_ids_are_those_drawn_from_the_probabilities_of_whole_passes():
    rng, ids = np.random.default_rng(21), list(PROMPT)
    for _ in range(10):
        ids.append(draw(probabilities(MODEL64(np.array(ids))[-1], **SAMPLING), rng))
    assert list(generate(MODEL64, PROMPT, 10, **SAMPLING, rng=np.random.default_rng(21))) == ids[len(PROMPT) :]


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("length", [1, 22, 23])
def test_generation_ends_where_the_context_does_after_one_token_that_needs_no_position(length, cache):
    prompt = np.arange(length)
    new = list(generate(MODEL64, prompt, 1000, use_cache=cache))
    assert len(new) == CONFIG.n_positions - length + 1
    # Every one of them, the last too, is the choice after all ids before it.
    choices = MODEL64(np.append(prompt, new[:-1]).astype(int)).argmax(axis=-1)
    assert new == choices[length - 1 :].tolist()


# NumPy makes float64 of uint64 beside int64.
@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("kind", [list, tuple, np.uint8, np.int32, np.uint64])
def test_the_prompt_may_be_any_integers(kind, cache):
    prompt = np.array(PROMPT, kind) if kind not in (list, tuple) else kind(PROMPT)
    assert list(generate(MODEL64, prompt, 4, use_cache=cache)) == greedy_by_whole_passes(tuple(PROMPT), 4)


def test_no_new_tokens_are_none_and_run_nothing():
    acts = Recorder()
    assert list(generate(MODEL, PROMPT, 0, trace=acts)) == []
    assert acts == {}


@pytest.mark.parametrize("cache", [True, False])
def test_a_stop_id_ends_the_text_and_is_not_given_out(cache):
    free = list(generate(MODEL64, PROMPT, ROOM, use_cache=cache))
    last = free[7]
    at = free.index(last)
    assert at > 0
    assert list(generate(MODEL64, PROMPT, ROOM, stop=(last,), use_cache=cache)) == free[:at]
    assert list(generate(MODEL64, PROMPT, ROOM, stop=(last, free[0]), use_cache=cache)) == []
    assert list(generate(MODEL64, PROMPT, ROOM, stop=(), use_cache=cache)) == free


def test_end_of_text_stops_by_default():
    end = 50256
    model = random_model(vocab_size=end + 1, n_layer=1)
    bend = lambda name, x: np.asarray(end) if name == "hook_next_token" else x  # noqa: E731
    assert list(generate(model, PROMPT, 3, trace=bend)) == []
    assert list(generate(model, PROMPT, 3, trace=bend, stop=())) == [end] * 3


def test_ids_come_one_by_one_and_each_costs_one_pass():
    passes = []
    new = generate(MODEL, PROMPT, 4, trace=lambda name, x: passes.append(name) or x)
    assert passes == []
    for n in range(1, 5):
        assert type(next(new)) is int
        assert passes.count("hook_tokens") == n
    with pytest.raises(StopIteration):
        next(new)
    assert passes.count("hook_tokens") == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 3), "no token ids"),
        ((PROMPT, -1), "-1"),
        (([97], 3), "token id 97 is out of range"),
        (([-1], 3), "token id -1 is out of range"),
        (([0.5], 3), "must be integers"),
        ((np.ones((2, 3), int), 3), r"\(2, 3\)"),
        ((np.zeros(24, int), 3), "24 tokens are more than this model's context of 23"),
    ],
)
def test_bad_arguments_are_errors_at_once_and_not_at_the_first_token(arguments, message):
    with pytest.raises(ValueError, match=message):
        generate(MODEL, *arguments)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("name", ["wte.weight", "h.1.mlp.c_fc.bias", "ln_f.weight"])
def test_logits_that_are_not_finite_are_an_error_that_names_the_tensor(name, bad, temperature):
    broken = MODEL.params[name].copy()
    broken[5] = bad
    model = assembly.assemble(CONFIG, MODEL.params | {name: broken})
    new = generate(model, PROMPT, 3, temperature=temperature)
    with pytest.raises(ValueError, match=f"NaN or inf.*{name}"):
        next(new)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("hook_last_row", np.inf, "logits hold NaN or inf"),
        ("hook_next_logits", np.inf, "logits without a finite maximum"),
        ("hook_next_logits", np.nan, "logits without a finite maximum"),
        ("hook_next_logits", -np.inf, "logits without a finite maximum"),
    ],
)
def test_logits_that_a_trace_makes_infinite_are_an_error_too(name, value, words):
    new = generate(MODEL, PROMPT, 3, trace=lambda n, x: np.full_like(x, value) if n == name else x)
    with pytest.raises(ValueError, match=words):
        next(new)


@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_a_trace_can_rule_tokens_out(temperature):
    allowed = [5, 60, 61]

    def only(name, x):
        return np.where(np.isin(np.arange(len(x)), allowed), x, -np.inf) if name == "hook_next_logits" else x

    new = list(generate(MODEL, PROMPT, 12, temperature=temperature, rng=np.random.default_rng(0), trace=only))
    assert len(new) == 12 and set(new) <= set(allowed)


# --- the trace of a step -------------------------------------------------------------------------


class Announced(list):
    """Keep name, array and what was in it when it was announced."""

    def __call__(self, name, x):
        self.append((name, x, np.array(x)))
        return x


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_step_announces_the_points_of_the_next_token_table_in_order_and_in_their_shapes(cache, temperature):
    seen, table = Announced(), points.table(CONFIG, points.NEXT_TOKEN)
    rng = np.random.default_rng(0)
    new = list(generate(MODEL, PROMPT, 4, temperature=temperature, rng=rng, use_cache=cache, trace=seen))
    assert len(seen) == 4 * len(table)
    for step in range(4):
        S = len(PROMPT) + step
        T = 1 if cache and step else S
        here = seen[step * len(table) : (step + 1) * len(table)]
        assert [(name, x.shape) for name, x, _ in here] == [(n, p.shape(CONFIG, T, S)) for n, p in table.items()]
        acts = {name: x for name, x, _ in here}
        assert {x.dtype for name, x in acts.items() if name not in points.WHOLE_NUMBERS} == {np.dtype(np.float32)}
        assert acts["hook_tokens"].tolist() == (PROMPT + new)[S - T : S]
        assert acts["hook_next_token"] == new[step]
        assert acts["hook_last_row"].tobytes() == acts["ln_final.hook_output"][-1].tobytes()
        plain, _ = plain_probabilities(acts["hook_next_logits"], 1.0, None, None)
        np.testing.assert_allclose(acts["hook_probabilities"], plain, rtol=2e-6)
    for name, x, copy in seen:
        assert np.asarray(x).tobytes() == copy.tobytes(), f"{name} was written to after it was announced"


def test_a_step_that_stops_is_announced_too():
    first = next(generate(MODEL, PROMPT, 1))
    seen = Announced()
    assert list(generate(MODEL, PROMPT, 5, stop=(first,), trace=seen)) == []
    assert [name for name, _, _ in seen] == list(points.table(CONFIG, points.NEXT_TOKEN))


def test_the_next_logits_are_the_last_row_of_the_models_logits():
    acts = Recorder()
    list(generate(MODEL64, PROMPT, 1, trace=acts))
    np.testing.assert_allclose(acts["hook_next_logits"], MODEL64(np.array(PROMPT))[-1], rtol=0, atol=1e-12)


def test_watching_does_not_change_what_is_generated():
    plain = list(generate(MODEL, PROMPT, 10, **SAMPLING, rng=np.random.default_rng(4)))
    watched = list(generate(MODEL, PROMPT, 10, **SAMPLING, rng=np.random.default_rng(4), trace=chain(Recorder())))
    assert plain == watched


def test_a_token_that_a_trace_puts_in_place_of_the_choice_is_given_out_and_gone_on_with():
    def always_7(name, x):
        return np.asarray(7) if name == "hook_next_token" else x

    acts = Recorder()
    assert list(generate(MODEL64, PROMPT, 3, trace=chain(always_7, acts))) == [7, 7, 7]
    whole = MODEL64(np.array([*PROMPT, 7, 7]))[-1]
    np.testing.assert_allclose(acts["hook_next_logits"], whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_a_trace_bends_are_what_is_chosen_from(temperature):
    def only_8(name, x):
        return np.where(np.arange(len(x)) == 8, x + 1000, x) if name == "hook_next_logits" else x

    assert list(generate(MODEL, PROMPT, 3, temperature=temperature, trace=only_8)) == [8, 8, 8]


def test_generation_writes_neither_into_the_prompt_nor_into_the_parameters():
    model, prompt = random_model(seed=9), np.array(PROMPT)
    for array in (prompt, *model.params.values()):
        array.flags.writeable = False
    assert len(list(generate(model, prompt, ROOM, **SAMPLING))) == ROOM


def test_a_prompt_that_is_changed_after_the_call_does_not_change_the_text():
    prompt = np.array(PROMPT)
    expected = list(generate(MODEL, prompt, 5))
    new = generate(MODEL, prompt, 5)
    prompt[:] = 90
    assert list(new) == expected
