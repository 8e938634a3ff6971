"""What must be true of any GPT-2, whatever its weights: causality, one cache, one trace, one dtype.

The models are small and random (`helpers.random_model`). Where two runs do the same sums in the same
order they must agree bit for bit; elsewhere the float64 model is compared, where rounding is 1e-15
and a real mistake still moves numbers by 1e-6 or more.
"""

import dataclasses
import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
from helpers import QUIET_POSITIONS, QUIET_TOKEN, random_model
from hypothesis import given, settings
from hypothesis import strategies as st

import nanogpt_np
from nanogpt_np import Recorder
from nanogpt_np.fast import fast, tiles
from nanogpt_np.fast.tiles import elementwise
from nanogpt_np.model.attention import softmax
from nanogpt_np.model.cache import KVCache
from nanogpt_np.model.config import Config
from nanogpt_np.model.layernorm import LayerNorm
from nanogpt_np.model.mlp import gelu
from nanogpt_np.model.trace import ShapeLog, chain
from nanogpt_np.names import parameters, points
from nanogpt_np.names.sizes import PUBLISHED
from nanogpt_np.weights import assembly

checked = settings(derandomize=True, deadline=None, max_examples=60)

MODEL = random_model()
MODEL64 = random_model(dtype=np.float64)  # the same numbers
CONFIG = MODEL.config
TABLE = points.table(CONFIG)
# Rounding of the same sums in another order, measured on logits up to 15: 2.4e-14 in float64, 1.0e-5 in float32.
SAME = {"rtol": 0, "atol": 1e-12}
SAME32 = {"rtol": 0, "atol": 5e-5}

PROMPT = np.array([3, 1, 41, 59, 26, QUIET_TOKEN, 53])  # T = 7
OTHER = np.array([58, 9, 79, 3, 23, 84, QUIET_TOKEN])  # at no position the id of PROMPT
ids_of_any_length = st.integers(1, CONFIG.n_positions).flatmap(
    lambda T: st.lists(st.integers(0, CONFIG.vocab_size - 1), min_size=T, max_size=T)
)


def record(model, ids, **options):
    """Run the model and return its Recorder."""
    acts = Recorder()
    model(ids, trace=acts, **options)
    return acts


def assert_same_bits(a, b, name=""):
    """Compare also what == does not see: -0.0 and the kind of a NaN."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    assert (a.dtype, a.shape) == (b.dtype, b.shape), name
    assert a.tobytes() == b.tobytes(), f"{name}: {np.sum(a != b)} of {a.size} numbers differ"


def rows_before(point, array, cut):
    """Cut away the positions from `cut` on, along the axis of the new tokens."""
    axis = point.axes.split().index("T") - len(point.axes.split())
    return np.take(array, range(cut), axis=axis)


def with_params(model, **changed):
    """Build a model with other arrays; a dot in a name is written as two underscores."""
    return assembly.assemble(model.config, model.params | {k.replace("__", "."): v for k, v in changed.items()})


# --- causality -----------------------------------------------------------------------------------


@checked
@given(ids=ids_of_any_length, data=st.data())
def test_later_ids_change_no_bit_of_anything_at_earlier_positions(ids, data):
    cut = data.draw(st.integers(0, len(ids) - 1))
    tail = data.draw(st.lists(st.integers(0, CONFIG.vocab_size - 1), min_size=len(ids) - cut, max_size=len(ids) - cut))
    before, after = record(MODEL, np.array(ids)), record(MODEL, np.array(ids[:cut] + tail))
    assert list(before) == list(TABLE)
    for name, point in TABLE.items():
        assert_same_bits(rows_before(point, before[name], cut), rows_before(point, after[name], cut), name)


def test_an_earlier_id_changes_the_logits_of_every_later_position():
    changed = PROMPT.copy()
    changed[0] = OTHER[0]
    difference = np.abs(MODEL(PROMPT) - MODEL(changed)).max(axis=-1)
    assert (difference > 1e-3).all()


# --- cache and batch -----------------------------------------------------------------------------


@checked
@given(
    data=st.data(),
    batch=st.sampled_from([(), (2,), (4,), (2, 3)]),
    T=st.integers(2, CONFIG.n_positions),
)
def test_a_cache_gives_the_logits_of_one_whole_pass_however_it_is_cut(data, batch, T):
    ids = np.random.default_rng(T).integers(CONFIG.vocab_size, size=(*batch, T))
    ids[..., 0] = QUIET_TOKEN
    cuts = sorted(data.draw(st.sets(st.integers(1, T - 1), max_size=T - 1)))
    cache, parts = KVCache(CONFIG), []
    for start, end in itertools.pairwise([0, *cuts, T]):
        assert cache.length == start
        parts.append(MODEL64(ids[..., start:end], cache=cache))
    assert cache.length == T
    np.testing.assert_allclose(np.concatenate(parts, axis=-2), MODEL64(ids), **SAME)


@pytest.mark.parametrize("batch", [(), (2,)])
@pytest.mark.parametrize("model", [MODEL, MODEL64], ids=["float32", "float64"])
def test_a_cache_gives_the_logits_of_one_whole_pass_token_by_token(model, batch):
    T = CONFIG.n_positions
    ids = np.random.default_rng(1).integers(CONFIG.vocab_size, size=(*batch, T))
    cache = KVCache(CONFIG)
    parts = [model(ids[..., t : t + 1], cache=cache) for t in range(T)]
    tolerance = SAME32 if model is MODEL else SAME
    np.testing.assert_allclose(np.concatenate(parts, axis=-2), model(ids), **tolerance)


@pytest.mark.parametrize("queries", [1, 3, 8])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_attention_in_tiles_is_attention_at_once(queries, batch, monkeypatch):
    """At every length, and after a cache."""
    monkeypatch.setattr(tiles, "QUERIES", queries)
    monkeypatch.setattr(tiles, "LONG", 2)
    ids = np.random.default_rng(2).integers(CONFIG.vocab_size, size=(*batch, CONFIG.n_positions))
    for model, tolerance in ((MODEL64, SAME), (MODEL, SAME32)):
        for T in range(1, CONFIG.n_positions + 1):
            np.testing.assert_allclose(fast(model)(ids[..., :T]), model(ids[..., :T]), **tolerance)
        for cut in (1, 9, 20):
            cache = KVCache(CONFIG)
            pieces = [fast(model)(ids[..., :cut], cache=cache), fast(model)(ids[..., cut:], cache=cache)]
            np.testing.assert_allclose(np.concatenate(pieces, axis=-2), model(ids), **tolerance)


def test_in_a_long_prompt_no_token_sees_what_comes_later():
    T = math.isqrt(tiles.LONG) + 40
    cut = tiles.QUERIES + 5
    model = random_model(n_positions=T)
    ids = np.random.default_rng(3).integers(CONFIG.vocab_size, size=T)
    changed = np.concatenate([ids[:cut], ids[cut:][::-1]])
    whole, other = fast(model)(ids), fast(model)(changed)
    np.testing.assert_array_equal(whole[:cut], other[:cut])
    assert np.abs(whole[cut:] - other[cut:]).max() > 1e-2
    np.testing.assert_allclose(whole, model(ids), **SAME32)


def test_positions_and_keys_go_on_where_the_cache_ends():
    cache = KVCache(CONFIG)
    first = record(MODEL, PROMPT[:3], cache=cache)
    second = record(MODEL, PROMPT[3:], cache=cache)
    whole = record(MODEL, PROMPT)
    assert_same_bits(second["hook_pos_embed"], MODEL.params["wpe.weight"][3:7])
    for name, point in TABLE.items():
        assert first[name].shape == point.shape(CONFIG, T=3), name
        assert second[name].shape == point.shape(CONFIG, T=4, S=7), name
    scores = "blocks.2.attn.hook_attn_scores"
    np.testing.assert_allclose(second[scores], whole[scores][:, 3:], **SAME32)


def test_a_pass_that_is_too_long_leaves_the_cache_as_it_was_and_usable():
    cache = KVCache(CONFIG)
    MODEL64(PROMPT, cache=cache)
    nbytes, room = cache.nbytes, CONFIG.n_positions - len(PROMPT)
    with pytest.raises(ValueError, match=f"7 cached . {room + 1} tokens"):
        MODEL64(np.zeros(room + 1, int), cache=cache)
    assert (cache.length, cache.nbytes) == (7, nbytes)
    rest = np.arange(room)
    logits = MODEL64(rest, cache=cache)  # to the very last position
    np.testing.assert_allclose(logits, MODEL64(np.concatenate([PROMPT, rest]))[7:], **SAME)
    with pytest.raises(ValueError, match="more than this model's context of 23 tokens"):
        MODEL64(PROMPT[:1], cache=cache)
    assert cache.length == CONFIG.n_positions


class StopHere(Exception):
    """Raised by a trace, as Ctrl-C or a bug in a watcher would."""


def stopping_at(point):
    def trace(name, x):
        if name == point:
            raise StopHere
        return x

    return trace


@pytest.mark.parametrize("where", [name for name in TABLE if name.startswith("blocks.1.") or name == "hook_tokens"])
def test_a_pass_that_breaks_off_in_the_middle_leaves_the_cache_as_it_was(where):
    cache = KVCache(CONFIG)
    MODEL64(PROMPT[:3], cache=cache)
    with pytest.raises(StopHere):
        MODEL64(OTHER[3:], cache=cache, trace=stopping_at(where))
    assert cache.length == 3
    np.testing.assert_allclose(MODEL64(PROMPT[3:], cache=cache), MODEL64(PROMPT)[3:], **SAME)


def test_a_first_pass_that_breaks_off_leaves_the_cache_open_to_any_batch():
    cache = KVCache(CONFIG)
    with pytest.raises(StopHere):
        MODEL64(np.stack([PROMPT, OTHER]), cache=cache, trace=stopping_at("blocks.1.hook_resid_mid"))
    np.testing.assert_allclose(MODEL64(PROMPT, cache=cache), MODEL64(PROMPT), **SAME)


@pytest.mark.parametrize("shape", [(2, 1), (3,), (3, 1), (1, 2, 3)])
def test_a_cache_refuses_another_batch_shape_than_its_first(shape):
    batch = (4,) if shape != (3, 1) else ()
    cache = KVCache(CONFIG)
    MODEL64(np.broadcast_to(PROMPT, (*batch, 7)), cache=cache)
    with pytest.raises(ValueError, match=r"cache holds float64 keys of shape \((4, )?5, 23, 6\)"):
        MODEL64(np.ones(shape, int), cache=cache)
    assert cache.length == 7
    more = np.broadcast_to(OTHER, (*batch, 7))
    expected = MODEL64(np.concatenate([PROMPT, OTHER]))[7:]
    np.testing.assert_allclose(MODEL64(more, cache=cache), np.broadcast_to(expected, (*batch, 7, 97)), **SAME)


def test_a_cache_made_for_a_shorter_context_is_refused_before_it_loses_a_token():
    cache = KVCache(dataclasses.replace(CONFIG, n_positions=7))
    MODEL64(PROMPT, cache=cache)
    with pytest.raises(ValueError):
        MODEL64(OTHER[:1], cache=cache)


def test_a_cache_refuses_a_model_of_another_dtype():
    cache = KVCache(CONFIG)
    MODEL(PROMPT, cache=cache)
    with pytest.raises(ValueError):
        MODEL64(OTHER, cache=cache)


@checked
@given(B=st.integers(1, 4), T=st.integers(1, CONFIG.n_positions), seed=st.integers(0, 99))
def test_a_batch_gives_each_prompt_what_it_gets_alone(B, T, seed):
    ids = np.random.default_rng(seed).integers(CONFIG.vocab_size, size=(B, T))
    together = record(MODEL64, ids)
    for row, alone in enumerate(record(MODEL64, prompt) for prompt in ids):
        for name in TABLE:
            np.testing.assert_allclose(together[name][row], alone[name], **SAME, err_msg=name)


@pytest.mark.parametrize("batch", [(), (2,), (4, 2)])
def test_logits_and_every_point_have_the_axes_of_the_ids_first(batch):
    T = 11
    ids = np.random.default_rng(3).integers(CONFIG.vocab_size, size=(*batch, T))
    log = ShapeLog()
    logits = MODEL(ids, trace=log)
    assert logits.shape == (*batch, T, CONFIG.vocab_size)
    assert [(name, shape) for name, shape, _ in log] == [
        (name, (*batch, *point.shape(CONFIG, T))) for name, point in TABLE.items()
    ]
    for index in np.ndindex(batch):
        np.testing.assert_allclose(logits[index], MODEL(ids[index]), **SAME32)


@pytest.mark.parametrize("kind", [list, tuple, np.uint8, np.int32, np.uint64])
def test_ids_may_be_any_integers(kind):
    ids = PROMPT.astype(kind) if isinstance(kind, type) and issubclass(kind, np.generic) else kind(PROMPT.tolist())
    assert_same_bits(MODEL(ids), MODEL(PROMPT))


# --- the layers against their formulas -----------------------------------------------------------

finite_rows = st.lists(st.floats(-50, 50), min_size=1, max_size=9)


@pytest.mark.parametrize("kind", [np.int8, np.int64])
def test_gelu_of_integers_is_that_of_the_same_floats(kind):
    some = np.array([12, -12, 15, 0, 3], kind)
    np.testing.assert_allclose(gelu(some), gelu(some.astype(float)), rtol=1e-12)
    many = np.tile(some, tiles.ELEMENTS)
    np.testing.assert_allclose(elementwise(gelu, many), gelu(many.astype(float)), rtol=1e-12)


@checked
@given(row=finite_rows, shift=st.floats(-1e3, 1e3))
def test_softmax_is_the_formula_sums_to_1_and_ignores_a_shift(row, shift):
    row = np.array(row)
    weights = [math.exp(x - max(row)) for x in row]
    expected = np.array(weights) / math.fsum(weights)
    np.testing.assert_allclose(softmax(row), expected, rtol=1e-13)
    assert math.isclose(softmax(row).sum(), 1, rel_tol=1e-14)
    np.testing.assert_allclose(softmax(row + shift), expected, rtol=1e-11)  # row + shift is rounded at 1e3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_huge_values_neither_overflows_nor_warns(dtype):
    big = np.finfo(dtype).max / 4
    p = softmax(np.array([[big, -big, big], [-big, -big, -math.inf]], dtype))
    np.testing.assert_array_equal(p, np.array([[0.5, 0, 0.5], [0.5, 0.5, 0]], dtype))
    assert p.dtype == dtype


def test_softmax_does_not_write_into_its_argument():
    x = np.array([1.0, 2.0])
    x.flags.writeable = False
    softmax(x)
    assert x.tolist() == [1, 2]


@pytest.mark.parametrize("cached", [0, 4])
def test_no_attention_goes_to_later_tokens_and_the_rest_sums_to_1(cached):
    cache = KVCache(CONFIG)
    if cached:
        MODEL(PROMPT[:cached], cache=cache)
    acts = record(MODEL, PROMPT[cached:], cache=cache)
    t, s = np.indices((7 - cached, 7))
    later = s > t + cached
    for i in range(CONFIG.n_layer):
        scores, pattern = (acts[f"blocks.{i}.attn.hook_{name}"] for name in ("attn_scores", "pattern"))
        assert (scores[:, later] == -math.inf).all()
        assert (pattern[:, later] == 0).all()
        assert np.isfinite(scores[:, ~later]).all()
        assert (pattern[:, ~later] > 0).all()
        np.testing.assert_allclose(pattern.sum(axis=-1), 1, rtol=0, atol=3e-7)  # measured: 1.8e-7


def plain_layer_norm(row, weight, bias, eps):
    """One vector, in Python's exact sums: the definition of Ba, Kiros and Hinton, section 3."""
    mean = math.fsum(row) / len(row)
    variance = math.fsum((x - mean) ** 2 for x in row) / len(row)
    return [(x - mean) / math.sqrt(variance + eps) * w + b for x, w, b in zip(row, weight, bias, strict=True)]


def some_layer_norm(C=9, eps=1e-5):
    rng = np.random.default_rng(5)
    return LayerNorm(rng.uniform(0.5, 2, C), rng.standard_normal(C), eps)


vectors = st.lists(st.floats(-20, 20), min_size=9, max_size=9).map(np.array)


@checked
@given(x=vectors, size=st.sampled_from([1, 1e-2, 1e-3, 1e-5]))
def test_layer_norm_is_its_definition_also_where_the_variance_is_as_small_as_epsilon(x, size):
    norm = some_layer_norm()
    expected = plain_layer_norm(x * size, norm.weight, norm.bias, norm.eps)
    np.testing.assert_allclose(norm(x * size), expected, rtol=1e-11, atol=1e-12)


@checked
@given(x=vectors, shift=st.floats(-100, 100), size=st.floats(0.01, 100))
def test_layer_norm_ignores_a_shift_and_a_scale_but_for_epsilon(x, shift, size):
    norm = some_layer_norm()
    np.testing.assert_allclose(norm(x + shift), norm(x), rtol=0, atol=1e-9)
    # Exactly: scaling x is as scaling epsilon the other way.
    scaled = dataclasses.replace(norm, eps=norm.eps * size**2)
    np.testing.assert_allclose(scaled(x * size), norm(x), rtol=0, atol=1e-9)
    if x.var() > 1:
        np.testing.assert_allclose(norm(x * size), norm(x), rtol=0, atol=5 * norm.eps * max(1, size**-2))


def test_epsilon_stands_inside_the_root_of_layer_norm():
    variance = 2e-5
    x = np.sqrt(variance) * np.array([1, -1] * 4)
    norm = LayerNorm(np.ones(8), np.zeros(8), eps=1e-5)
    np.testing.assert_allclose(norm(x).var(), variance / (variance + 1e-5), rtol=1e-12)


def test_the_quiet_token_of_the_test_models_lets_epsilon_count():
    acts = record(MODEL64, np.full(max(QUIET_POSITIONS) + 1, QUIET_TOKEN))
    for position in QUIET_POSITIONS:
        variance = acts["blocks.0.hook_resid_pre"][position].var()
        assert 1e-6 < variance < 1e-4
        np.testing.assert_allclose(acts["blocks.0.ln1.hook_scale"][position, 0], math.sqrt(variance + 1e-5), rtol=1e-12)


def plain_gelu(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


@checked
@given(x=st.floats(-50, 50))
def test_gelu_is_the_tanh_formula_and_its_odd_part_is_half_of_x(x):
    # 1 + tanh cancels where tanh is near -1, so the rounding of tanh (1e-16) counts times x.
    atol = 1e-15 * max(1, abs(x))
    assert abs(float(gelu(np.float64(x))) - plain_gelu(x)) <= atol
    assert abs(float(gelu(np.float64(x)) - gelu(np.float64(-x))) - x) <= atol
    assert abs(float(gelu(np.float32(x))) - plain_gelu(np.float32(x))) <= 4e-7 * max(1, abs(x))


def test_gelu_lets_large_values_through_and_makes_small_ones_0():
    x = np.array([10, 100, 1e4], np.float32)
    np.testing.assert_array_equal(gelu(x), x)
    np.testing.assert_allclose(gelu(-x), 0, rtol=0, atol=1e-30)
    assert gelu(x).dtype == np.float32
    np.testing.assert_allclose(gelu(np.float32([-1e13])), 0, rtol=0, atol=2e-22)  # and without a warning
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(gelu(np.float32([-1e14, -1e20, -1e30])), 0, rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", [np.int64, np.int8])
def test_softmax_and_gelu_take_whole_numbers_for_the_floats_they_are(dtype):
    x = np.array([[-100, 3], [0, 100]], dtype)  # int8 has room for neither 100 * 100 nor -100 - 100
    np.testing.assert_array_equal(softmax(x), softmax(x.astype(float)))
    np.testing.assert_array_equal(elementwise(gelu, x), gelu(x.astype(float)))
    assert elementwise(gelu, x).dtype == softmax(x).dtype == np.float64
    assert elementwise(gelu, x.astype(np.float32)).dtype == softmax(x.astype(np.float32)).dtype == np.float32
    np.testing.assert_array_equal(softmax(x.tolist()), softmax(x))


def test_the_two_forms_of_gelu_differ_by_up_to_5e_4():
    x = np.linspace(-6, 6, 2401)
    exact = np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])
    assert 4e-4 < np.abs(gelu(x) - exact).max() < 5e-4


def test_a_trace_that_gives_nothing_back_is_told_what_it_must_return():
    with pytest.raises(ValueError, match="a trace must return the array"):
        MODEL64(PROMPT, trace=lambda name, x: None)


# --- symmetries of the whole model ---------------------------------------------------------------


@checked
@given(order=st.permutations(range(CONFIG.n_head)), layer=st.integers(0, CONFIG.n_layer - 1))
def test_the_order_of_the_heads_does_not_matter(order, layer):
    C, H = CONFIG.n_embd, CONFIG.n_head
    p = {name: MODEL64.params[f"h.{layer}.attn.{name}"] for name in ("c_attn.weight", "c_attn.bias", "c_proj.weight")}
    changed = {
        "c_attn.weight": p["c_attn.weight"].reshape(C, 3, H, -1)[:, :, order].reshape(C, 3 * C),
        "c_attn.bias": p["c_attn.bias"].reshape(3, H, -1)[:, order].reshape(3 * C),
        "c_proj.weight": p["c_proj.weight"].reshape(H, -1, C)[order, :].reshape(C, C),
    }
    permuted = assembly.assemble(CONFIG, MODEL64.params | {f"h.{layer}.attn.{k}": v for k, v in changed.items()})
    before, after = record(MODEL64, PROMPT), record(permuted, PROMPT)
    np.testing.assert_allclose(after["hook_logits"], before["hook_logits"], **SAME)
    pattern = f"blocks.{layer}.attn.hook_pattern"
    np.testing.assert_allclose(after[pattern], before[pattern][list(order)], **SAME)


@pytest.mark.parametrize("layer", range(CONFIG.n_layer))
@pytest.mark.parametrize(
    ("field", "on", "scale"),
    [
        ("scale_attn_weights", False, lambda layer: math.sqrt(CONFIG.head_width)),
        ("scale_attn_by_inverse_layer_idx", True, lambda layer: 1 / (layer + 1)),
    ],
)
def test_the_scale_flags_of_config_json_do_what_scaled_queries_do(field, on, scale, layer):
    C, name = CONFIG.n_embd, f"blocks.{layer}.attn.hook_attn_scores"
    flagged = assembly.assemble(dataclasses.replace(CONFIG, **{field: on}), MODEL64.params)
    scaled = dict(MODEL64.params)
    for i in range(CONFIG.n_layer):
        for kind in ("weight", "bias"):
            array = scaled[f"h.{i}.attn.c_attn.{kind}"].copy()
            array[..., :C] *= scale(i)
            scaled[f"h.{i}.attn.c_attn.{kind}"] = array
    scaled = assembly.assemble(CONFIG, scaled)
    np.testing.assert_allclose(record(flagged, PROMPT)[name], record(scaled, PROMPT)[name], rtol=1e-11, atol=1e-11)


def test_an_untied_head_that_equals_wte_gives_the_tied_logits():
    wte = MODEL.params["wte.weight"]
    untied = assembly.assemble(
        dataclasses.replace(CONFIG, tie_word_embeddings=False), MODEL.params | {"lm_head.weight": wte.copy()}
    )
    assert list(untied.params) == [*MODEL.params, "lm_head.weight"]
    assert_same_bits(untied(PROMPT), MODEL(PROMPT))


def test_an_untied_head_is_used_for_the_logits_and_not_for_the_embedding():
    untied = random_model(tie_word_embeddings=False)
    doubled = with_params(untied, lm_head__weight=2 * untied.params["lm_head.weight"])
    assert_same_bits(doubled(PROMPT), 2 * untied(PROMPT))


# --- the trace -----------------------------------------------------------------------------------


def test_watching_changes_no_bit_of_the_logits():
    unwatched = MODEL(PROMPT)
    for watcher in (Recorder(), ShapeLog(), lambda name, x: x, chain(), chain(Recorder(), ShapeLog())):
        assert_same_bits(MODEL(PROMPT, trace=watcher), unwatched)


def test_the_last_point_is_what_the_model_returns():
    acts = Recorder()
    assert MODEL(PROMPT, trace=acts) is acts["hook_logits"]


@pytest.mark.parametrize(
    "where", [n for n in TABLE if ".hook_resid_" in n or n.startswith(("ln_final.hook_output", "hook_logits"))]
)
def test_patching_the_whole_stream_at_a_point_gives_the_logits_of_the_other_run(where):
    source, seen = record(MODEL, OTHER), Recorder()

    def patch(name, x):
        return source[name] if name == where else x

    assert_same_bits(MODEL(PROMPT, trace=chain(patch, seen)), source["hook_logits"])
    names = list(TABLE)
    before, after = names[: names.index(where)], names[names.index(where) :]
    clean = record(MODEL, PROMPT)
    for name in before:
        assert_same_bits(seen[name], clean[name], name)
    for name in after:
        assert_same_bits(seen[name], source[name], name)


@pytest.mark.parametrize("where", TABLE)
def test_what_a_trace_gives_back_at_any_point_is_what_the_model_goes_on_with(where):
    def other_ids(x):
        return OTHER[: len(x)]

    def bent(x):
        return x * (1.5 + abs(x))  # not only shifted and scaled: softmax ignores a shift, LayerNorm both

    def backwards(x):
        return x[::-1]

    change = {"hook_tokens": other_ids, "hook_positions": backwards}.get(where, bent)
    changed = MODEL(PROMPT, trace=lambda name, x: change(x) if name == where else x)
    assert np.abs(changed - MODEL(PROMPT)).max() > 1e-2
    if where == "hook_tokens":
        assert_same_bits(changed, MODEL(OTHER))


def test_patching_one_position_leaves_the_earlier_ones_alone():
    def patch(name, x):
        if name != "blocks.1.hook_attn_out":
            return x
        x = x.copy()
        x[4] = 0
        return x

    changed, clean = MODEL(PROMPT, trace=patch), MODEL(PROMPT)
    assert_same_bits(changed[:4], clean[:4])
    assert (np.abs(changed[4:] - clean[4:]).max(axis=-1) > 1e-3).all()


class Copies(list):
    """Keep every announced array and what was in it at that moment."""

    def __call__(self, name, x):
        self.append((name, x, x.copy()))
        return x

    def assert_unchanged(self):
        for name, array, copy in self:
            assert_same_bits(array, copy, name)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_no_announced_array_is_written_to_later(batch):
    copies, cache = Copies(), KVCache(CONFIG)
    ids = np.broadcast_to(PROMPT, (*batch, 7))
    for part in (ids[..., :4], ids[..., 4:5], ids[..., 5:]):
        MODEL(part, cache=cache, trace=copies)
    MODEL(np.broadcast_to(OTHER, (*batch, 7)), cache=cache, trace=copies)
    MODEL(ids, trace=copies)
    assert len(copies) == 5 * len(TABLE)
    copies.assert_unchanged()


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("changes", [{}, {"scale_attn_by_inverse_layer_idx": True}, {"tie_word_embeddings": False}])
def test_every_point_has_the_dtype_of_the_parameters(dtype, changes):
    model, log = random_model(dtype=dtype, **changes), ShapeLog()
    cache = KVCache(model.config)
    for part in (PROMPT[:3], PROMPT[3:]):
        assert model(part, cache=cache, trace=log).dtype == dtype
    assert {name for name, _, kind in log if kind != dtype} == {"hook_tokens", "hook_positions"}


def test_float32_differs_from_float64_by_rounding_only():
    ids = np.random.default_rng(8).integers(CONFIG.vocab_size, size=(4, CONFIG.n_positions))
    ids[:, :5] = QUIET_TOKEN
    single, double = record(MODEL, ids), record(MODEL64, ids)
    for name in TABLE:
        # Measured: 8.8e-6 at most, on scores up to 16; the smallest real mistakes move logits by 1e-3.
        np.testing.assert_allclose(single[name], double[name], **SAME32, err_msg=name)


def test_the_model_writes_into_neither_its_ids_nor_its_parameters():
    model, ids = random_model(seed=2), PROMPT.copy()
    before = {name: array.copy() for name, array in model.params.items()}
    model(ids, cache=KVCache(model.config), trace=Recorder())
    assert_same_bits(ids, PROMPT)
    for name, array in model.params.items():
        assert_same_bits(array, before[name], name)


def test_read_only_ids_and_parameters_are_enough():
    model, ids = random_model(), PROMPT.copy()
    for array in (*model.params.values(), ids):
        array.flags.writeable = False
    assert_same_bits(model(ids, cache=KVCache(CONFIG)), MODEL(PROMPT))


# --- the tables ----------------------------------------------------------------------------------

LN = ("weight", "bias")
BLOCK_NAMES = [
    "ln_1.weight", "ln_1.bias",
    "attn.c_attn.weight", "attn.c_attn.bias", "attn.c_proj.weight", "attn.c_proj.bias",
    "ln_2.weight", "ln_2.bias",
    "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias",
]  # fmt: skip
BLOCK_POINTS = [
    "hook_resid_pre", "ln1.hook_scale", "ln1.hook_normalized",
    "attn.hook_q", "attn.hook_k", "attn.hook_v", "attn.hook_attn_scores", "attn.hook_pattern", "attn.hook_z",
    "hook_attn_out", "hook_resid_mid", "ln2.hook_scale", "ln2.hook_normalized",
    "mlp.hook_pre", "mlp.hook_post", "hook_mlp_out", "hook_resid_post",
]  # fmt: skip


def names_of_parameters(n_layer):
    blocks = [f"h.{i}.{name}" for i in range(n_layer) for name in BLOCK_NAMES]
    return ["wte.weight", "wpe.weight", *blocks, "ln_f.weight", "ln_f.bias"]


@pytest.mark.parametrize(
    ("name", "count", "tensors"),
    [
        ("gpt2", 124_439_808, 148),
        ("gpt2-medium", 354_823_168, 292),
        ("gpt2-large", 774_030_080, 436),
        ("gpt2-xl", 1_557_611_200, 580),
        ("distilgpt2", 81_912_576, 76),
    ],
)
def test_published_models_have_the_published_number_of_parameters(name, count, tensors):
    config = PUBLISHED[name]
    table = parameters.table(config)
    assert parameters.count(config) == count
    assert list(table) == names_of_parameters(config.n_layer)
    assert len(table) == tensors
    # From the formula of the paper's sizes, without the table.
    C, L, V, P = config.n_embd, config.n_layer, 50257, 1024
    assert count == (V + P) * C + L * (12 * C * C + 13 * C) + 2 * C
    assert config.head_width == 64


@pytest.mark.parametrize("changes", [{}, {"n_inner": None}, {"tie_word_embeddings": False}])
def test_a_model_holds_exactly_the_arrays_of_the_table_in_its_order(changes):
    model = random_model(**changes)
    table = parameters.table(model.config)
    assert list(model.params) == list(table)
    assert {name: array.shape for name, array in model.params.items()} == {
        name: p.shape(model.config) for name, p in table.items()
    }
    assert parameters.count(model.config) == sum(array.size for array in model.params.values())


def test_a_model_assembled_from_its_parameters_holds_the_same_arrays():
    again = assembly.assemble(CONFIG, MODEL.params)
    assert all(again.params[name] is array for name, array in MODEL.params.items())


def test_points_without_extras_are_the_208_names_of_transformer_lens_in_order():
    config = Config()
    expected = [
        "hook_embed",
        "hook_pos_embed",
        *(f"blocks.{i}.{name}" for i in range(12) for name in BLOCK_POINTS),
        "ln_final.hook_scale",
        "ln_final.hook_normalized",
    ]
    assert len(expected) == 208
    assert [name for name, point in points.table(config).items() if not point.extra] == expected


@pytest.mark.parametrize("end", [points.LOGITS, points.NEXT_TOKEN], ids=["logits", "next token"])
@pytest.mark.parametrize("tied", [True, False])
def test_every_parameter_is_read_at_some_point_and_every_point_reads_parameters_that_exist(tied, end):
    config = dataclasses.replace(CONFIG, tie_word_embeddings=tied)
    read = [w for point in points.table(config, end).values() for w in point.weights]
    assert set(read) == set(parameters.table(config))
    assert sorted(read) == sorted([*parameters.table(config), *(["wte.weight"] if tied else [])])


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_size_announces_the_shapes_of_the_table(name):
    config, log = PUBLISHED[name], ShapeLog()
    logits = assembly.zeros(config)(np.array([464, 3139]), trace=log)
    assert logits.shape == (2, 50257)
    assert [(point, shape) for point, shape, _ in log] == [
        (point, p.shape(config, T=2)) for point, p in points.table(config).items()
    ]


# --- the package --------------------------------------------------------------------------------


def test_importing_the_package_loads_none_of_its_dependencies():
    code = (
        "import sys, nanogpt_np; loaded = {m.split('.')[0] for m in sys.modules}; "
        "print(sorted(loaded & {'numpy', 'tiktoken', 'safetensors', 'regex'}))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout == "[]\n"
    assert set(nanogpt_np.__all__) <= set(dir(nanogpt_np))
    assert all(getattr(nanogpt_np, name) is not None for name in nanogpt_np.__all__)
    with pytest.raises(AttributeError, match="no attribute 'GPT3'"):
        nanogpt_np.GPT3  # noqa: B018
