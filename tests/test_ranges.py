"""Every formula at the ends of float32: right within rounding, or not finite, but never wrong and plausible.

One flipped bit in the exponent of one weight makes any number of the right precision 1e38 times too large. Each formula
is compared with its definition in exact sums or in float64, whose range float32's squares do not leave.
"""

import math
import types

import numpy as np
import pytest
from helpers import random_model

from nanogpt_np import Recorder
from nanogpt_np.fast import tiles
from nanogpt_np.generate import generate, next_logits
from nanogpt_np.generate.ranking import standing, top_rows
from nanogpt_np.generate.sampling import draw, probabilities
from nanogpt_np.interpret.explain import explain
from nanogpt_np.model.attention import Attention, softmax
from nanogpt_np.model.config import Config
from nanogpt_np.model.layernorm import LayerNorm
from nanogpt_np.model.linear import Linear
from nanogpt_np.model.mlp import GELU, gelu, gelu_slope
from nanogpt_np.names import points
from nanogpt_np.names.ledger import ledger
from nanogpt_np.train.adamw import AdamW, clip_by_global_norm, learning_rate
from nanogpt_np.train.loss import IGNORED, cross_entropy, mean_loss
from nanogpt_np.weights import assembly

LARGEST, SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).smallest_subnormal)
# A number of every exponent that float32 has, of both signs, and both ends.
SIZES = [1.37 * 2.0**k for k in range(-149, 128)] + [SMALLEST, LARGEST, 9.7, 10, 10.1, 10.3, 88, 6.5e34]
EVERY_SIZE = np.array([0.0, *SIZES, -0.0, *(-x for x in SIZES)], np.float32)
NOT_FINITE = np.array([math.nan, math.inf, -math.inf], np.float32)
overflowing = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")

MODEL = random_model()
CONFIG, PARAMS = MODEL.config, MODEL.params
IDS = [3, 1, 41, 59, 26, 5, 53]


def right_or_not_finite(found, exact, *, atol, rtol=0.0):
    """Return which numbers are finite; all of them must be right, and what is NaN exactly must not be one of them."""
    finite = np.isfinite(found)
    assert not (finite & np.isnan(exact)).any()
    np.testing.assert_array_less(np.abs(found - exact)[finite], (np.abs(exact) * rtol + atol + 1e-300)[finite])
    return finite


# --- GELU ----------------------------------------------------------------------------------------


def sigmoid_of_2u(x):
    two_u = 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    return 1 / (1 + math.exp(-two_u)) if two_u > -700 else 0.0


def exact_gelu(x):
    return x * sigmoid_of_2u(x)


def exact_slope(x):
    s = sigmoid_of_2u(x)
    du = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return s + (x * s * (1 - s) * du if 0 < s < 1 else 0.0)


def test_gelu_is_right_for_numbers_of_every_size_and_does_not_warn():
    exact = [exact_gelu(float(x)) for x in EVERY_SIZE]
    # The argument of exp is rounded by up to 88 parts of 6e-8. Below -10.06 exp is inf, and gelu 0: exactly -1.2e-38.
    np.testing.assert_allclose(gelu(EVERY_SIZE), exact, rtol=1e-5, atol=2e-38)
    assert np.array_equal(GELU()(EVERY_SIZE), gelu(EVERY_SIZE))
    assert np.array_equal(tiles.TiledGELU()(np.tile(EVERY_SIZE, 40)), np.tile(gelu(EVERY_SIZE), 40))


def test_gelu_of_float64_is_right_for_numbers_of_every_size_and_does_not_warn():
    x = np.array([s * 1.37 * 10.0**k for k in range(-320, 308) for s in (1, -1)])
    exact = [exact_gelu(v) if abs(v) < 30 else max(v, 0.0) for v in x.tolist()]
    np.testing.assert_allclose(gelu(x), exact, rtol=1e-13, atol=1e-300)


def test_the_slope_of_gelu_is_right_for_numbers_of_every_size_and_does_not_warn():
    exact = [exact_slope(float(x)) for x in EVERY_SIZE]
    np.testing.assert_allclose(gelu_slope(EVERY_SIZE), exact, rtol=0, atol=1e-6)  # of slopes up to 1.13
    d_out = np.full_like(EVERY_SIZE, 2)
    assert np.array_equal(GELU().backward(d_out, EVERY_SIZE), 2 * gelu_slope(EVERY_SIZE))


@overflowing
def test_gelu_of_what_is_not_finite_is_not_finite():
    assert not np.isfinite(gelu(NOT_FINITE)).any()
    assert np.isnan(gelu_slope(NOT_FINITE)[0])


# --- softmax and attention -----------------------------------------------------------------------


def exact_softmax(row):
    weights = [math.exp(float(x) - float(max(row))) for x in row]
    return [w / math.fsum(weights) for w in weights]


def test_softmax_is_right_for_rows_of_every_size_and_does_not_warn():
    rng = np.random.default_rng(0)
    for row in rng.choice(EVERY_SIZE, (300, 5)):
        np.testing.assert_allclose(softmax(row), exact_softmax(row), rtol=3e-6, atol=2 * SMALLEST)
    for size in SIZES:  # all of one size, so that none is far from the largest
        row = np.float32(size) * np.array([1, -0.5, 0.25, 0.999], np.float32)
        np.testing.assert_allclose(softmax(row), exact_softmax(row), rtol=1e-5, atol=2 * SMALLEST)


def test_softmax_gives_a_masked_score_exactly_0_beside_numbers_of_every_size():
    for x in EVERY_SIZE:
        assert softmax(np.array([-math.inf, x, -math.inf], np.float32)).tolist() == [0, 1, 0]


@overflowing
@pytest.mark.parametrize("bad", [[math.nan, 1], [math.inf, 1], [-math.inf, -math.inf], [math.inf, -math.inf]])
def test_softmax_of_a_row_without_a_largest_number_is_nan(bad):
    assert np.isnan(softmax(np.array(bad, np.float32))).all()


def some_attention(dtype, size=1.0):
    rng = np.random.default_rng(3)
    weights = [rng.standard_normal(shape) for shape in ((6, 18), (18,), (6, 6), (6,))]
    weights[0] = weights[0] * size
    a, b, c, d = (w.astype(dtype) for w in weights)
    return Attention(Linear(a, b), Linear(c, d), 3, 2, 1 / math.sqrt(2))


X = np.random.default_rng(4).standard_normal((5, 6)).astype(np.float32)


@overflowing
@pytest.mark.parametrize("power", range(-44, 39, 2))
def test_attention_is_right_or_not_finite_for_queries_and_keys_of_every_size(power):
    size = float(np.float32(10.0**power))
    found, exact = some_attention(np.float32, size)(X), some_attention(np.float64, size)(X.astype(np.float64))
    finite = right_or_not_finite(found, exact, atol=2e-5 * max(1.0, size))
    assert finite.all() or power > 18


@overflowing
@pytest.mark.parametrize("power", range(-44, 39, 2))
def test_attentions_gradient_is_right_or_not_finite_for_gradients_of_every_size(power):
    size = float(np.float32(10.0**power))
    d_out = size * np.random.default_rng(5).standard_normal(X.shape)
    grads = []
    for dtype in (np.float32, np.float64):
        attention, acts = some_attention(dtype), Recorder()
        attention(X.astype(dtype), trace=acts)
        d_x, by_name = attention.backward(d_out.astype(dtype), X.astype(dtype), acts.__getitem__)
        grads.append({"x": d_x, **by_name})
    for name, exact in grads[1].items():
        finite = right_or_not_finite(grads[0][name], exact, atol=1e-4 * size + 100 * SMALLEST)
        assert finite.all() or power > 35, name


# --- LayerNorm -----------------------------------------------------------------------------------

GAIN, BIAS = np.random.default_rng(6).uniform(0.5, 2, (2, 9)).astype(np.float32)
ROW = np.array([1, -2, 0.5, 3, -1, 0.25, 2, -3, 1.5])


def exact_layer_norm(row, eps):
    row = [float(x) for x in row]
    mean = math.fsum(row) / len(row)
    scale = math.sqrt(math.fsum((x - mean) ** 2 for x in row) / len(row) + eps)
    n = np.array([(x - mean) / scale for x in row])
    return n * GAIN + BIAS, n, scale


@overflowing
@pytest.mark.parametrize("eps", [1e-5, 1e-12, 1e-30])
def test_layer_norm_is_right_or_not_finite_for_rows_of_every_size(eps):
    norm, wrong = LayerNorm(GAIN, BIAS, eps), []
    for size in SIZES:
        row = (size * ROW / 3).astype(np.float32)
        finite = right_or_not_finite(norm(row), exact_layer_norm(row, eps)[0], atol=1e-5)
        wrong += [] if finite.all() else [size]
    assert all(size > 1e19 for size in wrong)
    assert LARGEST in wrong and len(wrong) > 60  # the squares of all these are inf: not one gives the bias


@overflowing
@pytest.mark.parametrize("at", [0, 4, 8])
def test_layer_norm_of_a_row_with_one_number_of_every_size_is_right_or_not_finite(at):
    norm = LayerNorm(GAIN, BIAS)
    for x in EVERY_SIZE:
        row = ROW.astype(np.float32)
        row[at] = x
        right_or_not_finite(norm(row), exact_layer_norm(row, norm.eps)[0], atol=1e-5)


def test_layer_norm_of_equal_numbers_is_the_bias():
    """Equal numbers whose sum is exact: else the mean is rounded, as the numbers themselves are."""
    norm = LayerNorm(GAIN[:8], BIAS[:8])
    for x in EVERY_SIZE[np.abs(EVERY_SIZE) < LARGEST / 8]:
        np.testing.assert_array_equal(norm(np.full(8, x)), BIAS[:8])


@overflowing
@pytest.mark.parametrize("bad", NOT_FINITE)
def test_layer_norm_of_a_row_with_a_number_that_is_not_finite_is_not_finite(bad):
    row = ROW.astype(np.float32)
    row[3] = bad
    assert not np.isfinite(LayerNorm(GAIN, BIAS)(row)).any()


@overflowing
@pytest.mark.parametrize("power", [-40, -30, -20, -5, 0, 5, 15, 18])
def test_layer_norms_gradient_is_right_or_not_finite_for_rows_and_gradients_of_every_size(power):
    norm, acts = LayerNorm(GAIN, BIAS), Recorder()
    norm((10.0**power * ROW[None]).astype(np.float32), trace=acts)
    n, scale = (acts[name].astype(np.float64) for name in ("hook_normalized", "hook_scale"))
    for size in SIZES:
        d_out = (size * ROW[None, ::-1] / 3).astype(np.float32)
        d_x, grads = norm.backward(d_out, acts.__getitem__)
        d_n = d_out.astype(np.float64) * GAIN
        exact = (d_n - d_n.mean() - n * (d_n * n).mean()) / scale
        largest = float(np.abs(d_n).max() / scale.min())
        finite = right_or_not_finite(d_x, exact, atol=1e-5 * largest + 20 * SMALLEST * max(1.0, 1 / scale.min()))
        assert finite.all() or largest > 1e35 or size > 1e36
        right_or_not_finite(grads["weight"], (d_out * n)[0], atol=1e-5 * size + 20 * SMALLEST)


# --- the whole model -----------------------------------------------------------------------------


def flipped(array, at, bit):
    """Return a copy of a float32 array with one bit of one number flipped."""
    copy = array.copy()
    copy.reshape(-1).view(np.uint32)[at] ^= np.uint32(1 << bit)
    return copy


@overflowing
@pytest.mark.parametrize("name", PARAMS)
def test_an_exponent_bit_that_flips_gives_the_logits_of_the_changed_weights_or_an_error(name):
    rng, refused = np.random.default_rng(len(name)), 0
    for bit in range(23, 32):
        for at in rng.choice(PARAMS[name].size, 3):
            params = PARAMS | {name: flipped(PARAMS[name], at, bit)}
            wide = assembly.assemble(CONFIG, {n: a.astype(np.float64) for n, a in params.items()})
            exact = wide.lm_head(wide.last_row(IDS))
            try:
                found = next_logits(assembly.assemble(CONFIG, params), IDS)
            except ValueError as error:
                assert "the logits hold NaN or inf" in str(error) and name in str(error)
                refused += 1
                continue
            np.testing.assert_allclose(found, exact, rtol=0, atol=1e-4 * np.abs(exact).max())
    assert refused < 27


@overflowing
@pytest.mark.parametrize(("name", "size"), [("wte.weight", 3e38), ("h.1.mlp.c_fc.weight", -1e38), ("ln_f.bias", 3e38)])
@pytest.mark.parametrize("settings", [{}, {"temperature": 1.0}, {"temperature": 0.5, "top_k": 3}])
def test_generation_from_logits_that_overflow_names_the_largest_weight_and_yields_nothing(name, size, settings):
    broken = PARAMS[name].copy()
    broken[...] = size
    new = generate(assembly.assemble(CONFIG, PARAMS | {name: broken}), IDS, 3, **settings)
    with pytest.raises(ValueError, match=f"NaN or inf, so there is no next token.*{name}") as error:
        next(new)
    assert len(str(error.value)) < 250 and "\n" not in str(error.value)


# --- the loss ------------------------------------------------------------------------------------


@overflowing
def test_the_loss_and_its_gradient_are_right_or_not_finite_for_logits_of_every_size():
    rng = np.random.default_rng(8)
    rows = [*rng.choice(EVERY_SIZE, (200, 4)), *(np.float32(x) * np.float32([1, -0.5, 0.25, 0.75]) for x in SIZES)]
    for row in rows:
        wide, target = [float(x) for x in row], int(rng.integers(4))
        exact = math.log(math.fsum(math.exp(x - max(wide)) for x in wide)) + max(wide) - wide[target]
        loss, d = cross_entropy(row[None], np.array([target]))
        finite = right_or_not_finite(np.array(loss), np.array(exact), rtol=1e-6, atol=1e-6)
        assert finite or exact > LARGEST
        np.testing.assert_allclose(d[0], np.array(exact_softmax(row)) - np.eye(4)[target], rtol=0, atol=1e-6)


@overflowing
@pytest.mark.parametrize("bad", NOT_FINITE)
def test_a_logit_that_is_not_finite_makes_a_loss_that_is_not_finite_only_where_it_counts(bad):
    logits = np.array([[1, bad, 2], [1, 3, 2]], np.float32)
    assert not np.isfinite(cross_entropy(logits, np.array([1, 0]))[0])
    loss, d = cross_entropy(logits, np.array([IGNORED, 0]))
    assert loss == cross_entropy(logits[1:], np.array([0]))[0] and not d[0].any()


@overflowing
def test_the_mean_loss_of_a_model_that_overflows_is_not_finite():
    broken = assembly.assemble(CONFIG, PARAMS | {"h.2.mlp.c_proj.bias": np.full(30, 3e38, np.float32)})
    assert not math.isfinite(mean_loss(broken, IDS[:-1], IDS[1:]))


# --- choosing ------------------------------------------------------------------------------------


def test_probabilities_are_right_for_logits_and_temperatures_of_every_size():
    rng = np.random.default_rng(9)
    for temperature in (5e-324, 1e-300, 1e-38, 1e-3, 1.0, 1e38, 1e300, 1.7e308):
        for logits in (*rng.choice(EVERY_SIZE, (40, 5)), np.array([1.7e308, -1.7e308, 0.0]), np.float32([2, 2, -9])):
            wide = [float(x) for x in logits]
            with np.errstate(over="ignore"):
                weights = [math.exp(float((np.float64(x) - max(wide)) / temperature)) for x in wide]
            exact = np.array(weights) / math.fsum(weights)
            p = probabilities(logits, temperature)
            np.testing.assert_allclose(p, exact, rtol=1e-12, atol=1e-300)
            assert p[draw(p, rng)] > 0
            for top_p in (1e-300, 0.5, 1 - 1e-16):
                kept = probabilities(logits, temperature, top_p=top_p)
                assert kept[int(np.argmax(logits))] > 0 and math.isclose(kept.sum(), 1, rel_tol=1e-14)


@pytest.mark.parametrize("n", [2, 3, 7, 50])
def test_top_p_keeps_the_lowest_ids_of_equal_logits(n):
    for wanted in range(1, n):
        p = probabilities(np.full(n, 3.3e38, np.float32), top_p=(wanted - 0.5) / n)
        assert np.flatnonzero(p).tolist() == list(range(wanted))


@pytest.mark.parametrize("temperature", [0, 1e-300, 1.0])
@pytest.mark.parametrize("bad", [[1, math.nan], [1, math.inf], [-math.inf, -math.inf], [math.inf, -math.inf]])
def test_no_token_is_chosen_from_logits_that_are_not_finite(bad, temperature):
    for dtype in (np.float32, np.float64):
        with pytest.raises(ValueError, match="without a finite maximum give no next token"):
            probabilities(np.array(bad, dtype), temperature)


def test_the_rank_of_a_token_is_its_place_among_all_sorted_with_nan_last():
    rng = np.random.default_rng(10)
    tokenizer = types.SimpleNamespace(token=lambda i: b"x")
    for logits in rng.choice([*EVERY_SIZE[::40], math.inf, -math.inf, math.nan, 2, 2], (50, 12)):
        value = [-math.inf if math.isnan(x) else x for x in logits]
        by_rank = sorted(range(12), key=lambda i: (-value[i], i))
        assert [standing(logits, logits, i)["rank"] for i in by_rank] == list(range(1, 13))
        assert [row["id"] for row in top_rows(logits, logits, 12, tokenizer)] == by_rank


# --- training ------------------------------------------------------------------------------------


@overflowing
@pytest.mark.parametrize("size", [*list(SIZES[::5]), LARGEST])
def test_a_step_of_adamw_is_right_or_an_error_for_gradients_of_every_size(size):
    p = np.array([0.5, -0.25, 0.75], np.float32)
    optimizer = AdamW({"w": p}, betas=(0.9, 0.99), weight_decay=0.0)
    exact, mean, square = p.astype(np.float64), np.zeros(3), np.zeros(3)
    for step in (1, 2, 3):
        g = (size * np.array([1, -0.5, 0.25]) * (-1) ** step).astype(np.float32)
        wide = g.astype(np.float64)
        mean, square = 0.9 * mean + 0.1 * wide, 0.99 * square + 0.01 * wide**2
        exact -= 0.01 * mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
        try:
            optimizer.step({"w": g}, 0.01)
        except ValueError as error:
            assert "the gradient of w" in str(error) and size > 1e19
            assert np.isfinite(p).all()
            return
        np.testing.assert_allclose(p, exact, rtol=0, atol=1e-6)
    assert size < 1e20


@overflowing
@pytest.mark.parametrize("bad", NOT_FINITE)
def test_adamw_refuses_a_gradient_that_is_not_finite_and_leaves_the_parameter(bad):
    p = np.ones(4, np.float32)
    with pytest.raises(ValueError, match="the gradient of w"):
        AdamW({"w": p}).step({"w": np.array([1, bad, 2, 3], np.float32)}, 0.1)
    assert p.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("settings", [{"betas": (1.0, 0.9)}, {"betas": (0.9, 1.0)}, {"betas": (-0.1, 0.9)}, {"eps": 0}])
def test_adamw_refuses_settings_that_divide_by_0(settings):
    with pytest.raises(ValueError, match="betas must be from 0 to below 1"):
        AdamW({"w": np.ones(3, np.float32)}, **settings)


@pytest.mark.parametrize("limit", [1e-30, 1.0, 1e30])
def test_clipping_is_right_for_gradients_of_every_size(limit):
    for size in SIZES:
        before = [(size * np.array(row)).astype(np.float32) for row in ([1, -0.5], [0.25, 0.75, -1])]
        grads = {str(i): g.copy() for i, g in enumerate(before)}
        exact = math.hypot(*(float(x) for g in before for x in g))
        assert clip_by_global_norm(grads, limit) == pytest.approx(exact, rel=1e-12)
        share = min(1.0, limit / exact)
        for g, old in zip(grads.values(), before, strict=True):
            np.testing.assert_allclose(g, old.astype(np.float64) * share, rtol=1e-6, atol=2 * SMALLEST)


@pytest.mark.parametrize("bad", NOT_FINITE)
def test_clipping_leaves_gradients_whose_norm_is_not_finite_and_says_so(bad):
    grads = {"a": np.array([1, 2], np.float32), "b": np.array([bad, 3], np.float32)}
    assert not math.isfinite(clip_by_global_norm(grads, 1.0))
    assert grads["a"].tolist() == [1, 2] and grads["b"][1] == 3


@pytest.mark.parametrize(("warmup", "steps"), [(0, 10), (1, 10), (9, 10), (10, 10), (20, 10), (0, 1)])
def test_the_learning_rate_rises_to_the_peak_and_ends_at_the_final_rate(warmup, steps):
    rates = [learning_rate(i, peak=6e-4, final=6e-5, warmup=warmup, steps=steps) for i in range(50)]
    assert all(0 < rate <= 6e-4 * (1 + 1e-15) for rate in rates)
    assert rates[:warmup] == sorted(rates[:warmup]) and rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert max(rates) == pytest.approx(6e-4, rel=1e-15)
    assert {rates[i] for i in range(max(steps, warmup + 1), 50)} == {6e-5}


# --- looking inside ------------------------------------------------------------------------------


@overflowing
@pytest.mark.parametrize("size", [1e-45, 1e-30, 1e20, 1e30, 3e38, math.inf, math.nan])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_number_of_a_pass_can_be_explained_whatever_its_size(size, dtype):
    model, acts = random_model(dtype=dtype), Recorder()
    if dtype is np.float64 and 1e20 <= size < math.inf:
        size = size**7  # up to 1e269: its cube is more than any float

    def push(name, x):
        return acts(name, x * dtype(size) if name == "blocks.1.hook_resid_pre" else x)

    list_of = points.table(CONFIG)
    model(IDS, trace=push)
    for name in list_of:
        explained = explain(acts, model, name, tuple(0 for _ in acts[name].shape))
        assert isinstance(explained.agreement, str) and str(explained)
        patched = name == "blocks.1.hook_resid_pre"
        assert patched or "DISAGREE" not in explained.agreement, explained


def test_the_ledger_counts_in_whole_numbers_of_any_size():
    config = Config(n_embd=2**30, n_head=2**20, n_layer=3, vocab_size=2**31 - 1, n_positions=2**31 - 1)
    C, F, V, T = 2**30, 2**32, 2**31 - 1, 2**30 + 1
    expected = 3 * (2 * T * (4 * C * C + 2 * C * F) + 4 * T * T * C) + 2 * V * C
    found = ledger(config, T)[1]["flops"]
    assert found == expected and type(found) is int and found > 2**92
