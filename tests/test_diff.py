"""Where two runs part: at the very step that is wrong, and nowhere for rounding.

The runs are of small random models (`helpers.random_model`); a wrong layer is put in from outside. Up to
the wrong step both do the same sums in the same order, so what is called the first to part must be the
first to differ in any bit, too.
"""

import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import QUIET_TOKEN, random_model
from hypothesis import given, settings
from hypothesis import strategies as st

import nanogpt_np
from nanogpt_np import Recorder
from nanogpt_np.__main__ import main
from nanogpt_np.generate.loop import generate
from nanogpt_np.interpret.diff import TOLERANCE, diff, spacing
from nanogpt_np.interpret.diff_words import report, table
from nanogpt_np.interpret.recording import Recording, save
from nanogpt_np.model.attention import softmax
from nanogpt_np.model.cache import KVCache
from nanogpt_np.model.layernorm import LayerNorm
from nanogpt_np.model.mlp import MLP
from nanogpt_np.model.trace import chain, no_trace
from nanogpt_np.names import points
from nanogpt_np.weights import assembly

checked = settings(derandomize=True, deadline=None, max_examples=60)
GOLDEN = Path(__file__).parent / "goldens" / "tied"
MODEL = random_model()
CONFIG = MODEL.config
TABLE = points.table(CONFIG)
PROMPT = np.array([QUIET_TOKEN, 3, 41, 59, QUIET_TOKEN, 26, 53])  # T = 7; the quiet token where epsilon counts
OTHER = np.array([58, 9, 79, 3, 23, 84, 11])  # at no position the id of PROMPT


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Have lines of any length, as in a wide terminal: test_width.py tests how they fold."""
    monkeypatch.setenv("COLUMNS", "1000")


def record(model, ids, trace=no_trace, **options):
    acts = Recorder()
    model(np.asarray(ids), trace=chain(trace, acts), **options)
    return acts


def generated(ids, model=MODEL):
    acts = Recorder()
    list(generate(model, ids, 1, stop=(), trace=acts))
    return acts


def cached(ids, cut, model=MODEL):
    """Return the activations of the pass over the tokens from `cut` on."""
    cache = KVCache(model.config)
    model(ids[:cut], cache=cache)
    return record(model, ids[cut:], cache=cache)


def in_dtype(model, dtype, then=None):
    params = {name: array.astype(dtype).astype(then or dtype) for name, array in model.params.items()}
    return assembly.assemble(model.config, params)


def assert_parts_at(result, name):
    assert result.first == name, str(result)
    assert result.first_bit == name


ACTS = record(MODEL, PROMPT)


# ---- A wrong step is found, and not the one before or after it ----


def changed(name):
    """Return the model with another value of one parameter."""
    array = MODEL.params[name]
    return assembly.assemble(CONFIG, MODEL.params | {name: (array * 1.01 + 0.01).astype(array.dtype)})


@pytest.mark.parametrize("name", MODEL.params)
def test_another_weight_parts_the_runs_where_it_is_first_read(name):
    reader = next(point for point in TABLE.values() if name in point.weights)
    result = diff(ACTS, record(changed(name), PROMPT))
    assert_parts_at(result, reader.name)
    assert f"The runs part at {reader.name} {list(ACTS[reader.name].shape)} = {reader.equation}" in report(result)
    assert f"({reader.place})" in report(result)


@pytest.mark.parametrize("where", TABLE)
def test_what_is_changed_at_a_point_parts_the_runs_there(where):
    def bend(name, x):
        if name != where:
            return x
        return OTHER[: len(x)] if name == "hook_tokens" else x[::-1] if name == "hook_positions" else x * 1.001

    result = diff(ACTS, record(MODEL, PROMPT, bend))
    assert_parts_at(result, where)
    if TABLE[where].reads:
        assert "So the difference comes from this one step" in report(result)
        for name in TABLE[where].reads:
            assert name in report(result)
    else:
        assert "the two began with something else" in report(result)


class EpsOutsideRoot(LayerNorm):
    def __call__(self, x, trace=no_trace):
        centred = x - x.mean(axis=-1, keepdims=True)
        scale = trace("hook_scale", np.sqrt((centred * centred).mean(axis=-1, keepdims=True)) + self.eps)
        return trace("hook_output", trace("hook_normalized", centred / scale) * self.weight + self.bias)


class UnbiasedVariance(LayerNorm):
    def __call__(self, x, trace=no_trace):
        scale = trace("hook_scale", np.sqrt(x.var(-1, ddof=1, keepdims=True) + self.eps))
        normalized = trace("hook_normalized", (x - x.mean(-1, keepdims=True)) / scale)
        return trace("hook_output", normalized * self.weight + self.bias)


class NoGain(LayerNorm):
    def __call__(self, x, trace=no_trace):
        super().__call__(x, lambda name, x: x if name == "hook_output" else trace(name, x))
        centred = x - x.mean(axis=-1, keepdims=True)
        normalized = centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + self.eps)
        return trace("hook_output", normalized + self.bias)


class ExactGelu(MLP):
    def __call__(self, x, trace=no_trace):
        pre = trace("hook_pre", self.c_fc(x))
        erf = np.vectorize(math.erf, otypes=[np.float32])
        post = trace("hook_post", np.float32(0.5) * pre * (1 + erf(pre / math.sqrt(2))))
        return self.c_proj(post)


def in_block(i, **parts):
    """Put other layers into block `i`: each a function of the layer that stands there."""
    block = MODEL.h[i]
    other = replace(block, **{name: make(getattr(block, name)) for name, make in parts.items()})
    return replace(MODEL, h=(*MODEL.h[:i], other, *MODEL.h[i + 1 :]))


def with_fields(kind):
    return lambda layer: kind(**{name: getattr(layer, name) for name in layer.__dataclass_fields__})


def without(name):
    return assembly.assemble(CONFIG, MODEL.params | {name: np.zeros_like(MODEL.params[name])})


def traced(where, change):
    """Return a trace that puts ``change(x, acts)`` in the place of what is announced at `where`."""
    acts = Recorder()

    def trace(name, x):
        acts(name, x)
        return change(x, acts) if name == where else x

    return trace


def cut_from(third):
    def cut(x, acts):
        return np.split(acts["blocks.1.attn.hook_qkv"], 3, axis=-1)[third].reshape(x.shape)

    return cut


def unmasked(x, acts):
    q, k = (np.swapaxes(acts[f"blocks.1.attn.hook_{name}"], 0, 1) for name in "qk")
    return (q * MODEL.h[1].attn.scale) @ np.swapaxes(k, -1, -2)


def softmax_over_queries(x, acts):
    return np.swapaxes(softmax(np.swapaxes(acts["blocks.1.attn.hook_attn_scores"], -1, -2)), -1, -2)


WRONG = {
    "GELU is the exact one": ("blocks.1.mlp.hook_post", in_block(1, mlp=with_fields(ExactGelu))),
    "eps stands outside the root": ("blocks.0.ln1.hook_scale", in_block(0, ln_1=with_fields(EpsOutsideRoot))),
    "eps is 1e-6": ("blocks.0.ln1.hook_scale", in_block(0, ln_1=lambda norm: replace(norm, eps=1e-6))),
    "the variance divides by C - 1": ("blocks.1.ln2.hook_scale", in_block(1, ln_2=with_fields(UnbiasedVariance))),
    "the gain is missing": ("blocks.2.ln1.hook_output", in_block(2, ln_1=with_fields(NoGain))),
    "ln_f is that of another layer": ("ln_final.hook_output", replace(MODEL, ln_f=MODEL.h[0].ln_1)),
    "the scale is missing": (
        "blocks.1.attn.hook_attn_scores",
        in_block(1, attn=lambda attn: replace(attn, scale=1.0)),
    ),
    "scores are divided by sqrt(C)": (
        "blocks.2.attn.hook_attn_scores",
        in_block(2, attn=lambda attn: replace(attn, scale=1 / math.sqrt(30))),
    ),
    "the bias of c_attn is dropped": ("blocks.1.attn.hook_qkv", without("h.1.attn.c_attn.bias")),
    "the bias of c_proj is dropped": ("blocks.1.hook_attn_out", without("h.1.attn.c_proj.bias")),
    "the bias of c_fc is dropped": ("blocks.2.mlp.hook_pre", without("h.2.mlp.c_fc.bias")),
    "the bias of the MLP is dropped": ("blocks.2.hook_mlp_out", without("h.2.mlp.c_proj.bias")),
    "blocks run in reverse order": ("blocks.0.ln1.hook_output", replace(MODEL, h=MODEL.h[::-1])),
    "positions are counted from 1": ("hook_positions", traced("hook_positions", lambda x, _: x + 1)),
    "keys stand where queries should": ("blocks.1.attn.hook_q", traced("blocks.1.attn.hook_q", cut_from(1))),
    "queries stand where keys should": ("blocks.1.attn.hook_k", traced("blocks.1.attn.hook_k", cut_from(0))),
    "heads are interleaved": (
        "blocks.1.attn.hook_v",
        traced("blocks.1.attn.hook_v", lambda x, _: np.swapaxes(x.reshape(7, 6, 5), 1, 2)),
    ),
    "there is no mask": ("blocks.1.attn.hook_attn_scores", traced("blocks.1.attn.hook_attn_scores", unmasked)),
    "the softmax runs over the queries": (
        "blocks.1.attn.hook_pattern",
        traced("blocks.1.attn.hook_pattern", softmax_over_queries),
    ),
    "heads are swapped": ("blocks.1.attn.hook_z", traced("blocks.1.attn.hook_z", lambda x, _: x[:, [0, 3, 2, 1, 4]])),
    "heads are merged without moving their axis back": (
        "blocks.1.attn.hook_merged",
        traced(
            "blocks.1.attn.hook_merged",
            lambda x, acts: np.swapaxes(acts["blocks.1.attn.hook_z"], 0, 1).reshape(x.shape),
        ),
    ),
    "the residual stream is not added": (
        "blocks.1.hook_resid_mid",
        traced("blocks.1.hook_resid_mid", lambda x, acts: acts["blocks.1.hook_attn_out"]),
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_layer_is_found_at_its_step(wrong):
    where, model_or_trace = WRONG[wrong]
    is_model = isinstance(model_or_trace, nanogpt_np.GPT2)
    acts = record(model_or_trace, PROMPT) if is_model else record(MODEL, PROMPT, model_or_trace)
    assert list(acts) == list(ACTS)
    assert_parts_at(diff(ACTS, acts), where)
    assert_parts_at(diff(acts, ACTS), where)


def test_a_wrong_layer_is_found_in_a_dict_of_few_points_in_any_order():
    acts = record(in_block(1, mlp=with_fields(ExactGelu)), PROMPT)
    mine = {name: acts[name] for name in ("hook_logits", "blocks.1.hook_mlp_out", "blocks.1.hook_resid_mid")}
    result = diff(ACTS, mine)
    assert list(result.rows) == ["blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out", "hook_logits"]
    assert result.first == "blocks.1.hook_mlp_out"
    words = report(result)
    assert "It is made of blocks.1.hook_resid_mid: there the runs agree, exactly." in words
    assert "What lies between was not compared: blocks.1.mlp.hook_post, blocks.1.mlp.hook_pre" in words
    assert "So the difference comes from this step, or from one between, or from the weights (h.1.mlp.c_proj.w" in words


def test_a_swap_of_two_heads_is_said_to_be_in_these_two():
    where, trace = WRONG["heads are swapped"]
    result = diff(ACTS, record(MODEL, PROMPT, trace))
    row = result.rows[where]
    assert row.only == {"head": [1, 3]}
    assert row.off == 2 * 7 * 6
    assert (
        "84 of 210 numbers are off by more than 1e-05 of the largest number in a's row, all of them at head 1 and 3."
        in report(result)
    )


class NewestFirst(KVCache):
    def _remember(self, i, k, v):
        return tuple(a[..., ::-1, :] for a in super()._remember(i, k, v))


def test_a_wrong_cache_is_named_as_what_may_be_wrong():
    cache = NewestFirst(CONFIG)
    MODEL(PROMPT[:3], cache=cache)
    result = diff(ACTS, record(MODEL, PROMPT[3:], cache=cache))
    assert result.first == "blocks.0.attn.hook_attn_scores"
    assert "comes from this one step, or from what the cache kept." in report(result)
    assert "cache" not in report(diff(ACTS, record(MODEL, PROMPT, traced(result.first, lambda x, _: 2 * x))))


# ---- Rounding parts nothing ----


@pytest.mark.parametrize("seed", range(3))
def test_a_pass_after_a_cache_agrees_with_the_whole_one_wherever_it_is_cut(seed):
    model = random_model(seed)
    ids = np.random.default_rng(seed).integers(CONFIG.vocab_size, size=CONFIG.n_positions)
    whole, unequal = record(model, ids), 0
    for cut in range(1, len(ids)):
        result = diff(whole, cached(ids, cut, model))
        assert result.first is None, str(result)  # measured: 2.6e-6 at most
        assert list(result.rows) == list(TABLE)
        assert all(row.shape_a == TABLE[name].shape(CONFIG, 23 - cut, 23) for name, row in result.rows.items())
        unequal += result.first_bit is not None
    assert unequal > 10  # else the tolerance would not have been needed


@pytest.mark.parametrize("cut", [1, 4, 22])
def test_in_float64_a_cache_agrees_to_12_digits(cut):
    model = in_dtype(MODEL, np.float64)
    ids = np.arange(23)
    result = diff(record(model, ids), cached(ids, cut, model), tolerance=1e-12)  # measured: 5e-15
    assert result.first is None, str(result)
    assert diff(record(MODEL, ids), cached(ids, cut), tolerance=1e-12).first is not None


@pytest.mark.parametrize("seed", range(5))
def test_float32_agrees_with_float64(seed):
    model = random_model(seed)
    ids = np.random.default_rng(seed).integers(CONFIG.vocab_size, size=(4, CONFIG.n_positions))
    double = in_dtype(model, np.float64)
    for a, b in ((model, double), (double, model)):
        result = diff(record(a, ids), record(b, ids))
        assert result.first is None, str(result)
        assert result.first_bit is not None
        assert {row.unit for row in result.rows.values()} == {None, "float32"}


def test_a_run_is_equal_to_itself_in_every_bit():
    result = diff(ACTS, record(MODEL, PROMPT), tolerance=0)
    assert result.first_bit is None
    assert report(result) == "The runs are equal in all 71 points that were compared."


def test_weights_rounded_to_float16_part_the_runs_at_the_embedding():
    result = diff(ACTS, record(in_dtype(MODEL, np.float16, then=np.float32), PROMPT))
    assert_parts_at(result, "hook_embed")
    assert 2**-14 < result.rows["hook_embed"].relative < 2**-11  # half a unit in float16's last place: 2**-12
    assert diff(ACTS, record(in_dtype(MODEL, np.float16, then=np.float32), PROMPT), tolerance=1e-2).first is None


def test_a_difference_that_only_grew_is_not_blamed_on_the_step_where_it_passes_the_tolerance():
    def grow(name, x):
        return x * np.float32(1 + 4e-6) if name in ("blocks.0.hook_resid_post", "blocks.1.hook_resid_mid") else x

    result = diff(ACTS, record(MODEL, PROMPT, grow), tolerance=5e-6)
    assert result.first is not None
    assert "rounding that grew, or a mistake before that is still small" in report(result)
    assert "comes from" not in report(result)


def test_what_softmax_makes_of_rounded_scores_is_not_blamed_on_softmax():
    scores = np.array([[[90.0, 90, 89]]], np.float32)
    moved = scores * np.float32(1 + 1e-6)
    moved[0, 0, 0] -= 9e-5
    name = "blocks.0.attn.hook_"
    a, b = ({name + "attn_scores": s, name + "pattern": softmax(s)} for s in (scores, moved))
    result = diff(a, b)
    assert result.first == name + "pattern"
    assert result.rows[name + "pattern"].relative > 10 * result.rows[name + "attn_scores"].relative
    assert "rounding that grew" in report(result)
    b[name + "pattern"] = b[name + "pattern"] + np.float32(1e-4)
    assert "So the difference comes from this one step." in report(diff(a, b))


LARGE = np.float32(3000)


@pytest.mark.parametrize("where", ["blocks.0.hook_resid_mid", "blocks.1.hook_resid_pre", "blocks.1.attn.hook_z"])
def test_a_token_with_large_numbers_hides_nothing_at_the_others(where):
    """As in GPT-2, the first token has a number in the thousands."""
    right, wrong = Recorder(), Recorder()

    def outlier(name, x):
        if name == where:
            x = x.copy()
            x.reshape(7, -1)[0, 5] = LARGE
        return x

    def bent(name, x):
        x = outlier(name, x)
        if name == where:
            x.reshape(7, -1)[3, 7] += 0.02
            x.reshape(7, -1)[0, 5] += 0.025  # the larger difference, but rounding for numbers of this size
        return x

    MODEL(PROMPT, trace=chain(outlier, right))
    MODEL(PROMPT, trace=chain(bent, wrong))
    result = diff(right, wrong)
    assert 0.02 < TOLERANCE * LARGE
    assert_parts_at(result, where)
    row = result.rows[where]
    assert (row.off, row.at["position"]) == (1, 3)
    assert row.relative == row.absolute / np.abs(right[where][3]).max()
    assert f"1 of {right[where].size} numbers are off by more than 1e-05 of the largest number in a's row" in str(
        result
    )


def test_what_a_large_number_of_the_same_row_hides_is_not_blamed_on_the_next_step():
    """LayerNorm's gain holds the large column back, and what was hidden behind it shows."""
    row = np.random.default_rng(4).standard_normal((1, 30))
    row[0, 5] = LARGE
    gain = np.where(np.arange(30) == 5, 1e-4, 1)

    def run(row):
        norm = "blocks.0.ln1.hook_"
        scale = np.sqrt(row.var(-1, keepdims=True))
        normalized = (row - row.mean()) / scale
        acts = {"blocks.0.hook_resid_pre": row, norm + "scale": scale}
        acts |= {norm + "normalized": normalized, norm + "output": normalized * gain}
        return {name: x.astype(np.float32) for name, x in acts.items()}

    hidden = row.copy()
    hidden[0, 7] += 0.02
    result = diff(run(row), run(hidden))
    assert result.first == "blocks.0.ln1.hook_output"
    words = report(result)
    assert "comes from this step, or from blocks.0.ln1.hook_normalized, where small numbers already differ, or" in words
    assert "this one step" not in words
    off = run(row)
    off["blocks.0.ln1.hook_output"] = off["blocks.0.ln1.hook_output"] * np.float32(1.01)
    off["blocks.0.ln1.hook_normalized"] = off["blocks.0.ln1.hook_normalized"] * np.float32(1 + 2**-22)
    words = report(diff(run(row), off))
    assert "So the difference comes from this one step, or from the weights" in words and "already" not in words
    doubles = {name: x.astype(np.float64) for name, x in off.items()}
    again = {name: x.astype(np.float64) for name, x in run(row).items()}
    assert "where small numbers already differ" in report(diff(again, doubles))  # 2e-7 is no rounding in float64


def test_of_the_head_it_is_said_that_it_may_be_tied():
    result = diff(ACTS, record(MODEL, PROMPT, lambda name, x: x * 2 if name == "hook_logits" else x))
    assert "or from the weights (lm_head.weight, which is wte.weight where the head is tied)." in report(result)


# ---- The figures ----


def one(a, b, name="hook_logits", **options):
    """Compare two lists of numbers, or arrays, at a point of axes T V."""
    a, b = (np.asarray(x) if hasattr(x, "dtype") else np.array([x], np.float32) for x in (a, b))
    return diff({name: a}, {name: b}, **options).rows[name]


TINY = 2.0**-149  # the least number of float32
ULPS = [
    ("next above 1", 1, 1 + 2**-23, 1),
    ("next below 1: half the spacing of 1, the larger", 1, 1 - 2**-24, 0.5),
    ("four above 1", 1 + 4 * 2**-23, 1, 4),
    ("next above 0.1", 0.1, np.nextafter(np.float32(0.1), np.float32(1)), 1),
    ("next above a million", 1e6, 1e6 + 0.0625, 1),
    ("opposite signs", 1, -1, 2**24),
    ("0 and the least number", 0, TINY, 1),
    ("subnormals", 5 * TINY, 7 * TINY, 2),
    ("subnormals of opposite signs", TINY, -TINY, 2),
    ("the least normal and the largest subnormal", 2.0**-126, 2.0**-126 - TINY, 1),
    ("0 and 1", 0, 1, 2**23),
    ("the largest number and the one below", np.finfo(np.float32).max, np.finfo(np.float32).max - 2.0**104, 1),
]


@pytest.mark.parametrize(("label", "a", "b", "units"), ULPS, ids=[row[0] for row in ULPS])
def test_units_in_the_last_place_are_those_counted_by_hand(label, a, b, units):
    for sign in (1, -1):
        for x, y in ((a, b), (b, a)):
            row = one([sign * x], [sign * y], tolerance=1e-30)
            assert row.ulps == units
            assert row.unit == "float32"
            assert row.absolute == abs(float(np.float32(a)) - float(np.float32(b)))


@checked
@given(x=st.floats(allow_nan=False, allow_infinity=False), dtype=st.sampled_from([np.float16, np.float32, np.float64]))
def test_spacing_is_the_step_to_the_next_number(x, dtype):
    with np.errstate(over="ignore"):
        x = dtype(x)
    if not np.isfinite(x) or x == 0:
        return
    beyond = np.nextafter(abs(x), dtype(np.inf))
    if np.isfinite(beyond):
        assert spacing(float(x), dtype) == float(beyond) - float(abs(x))
    assert spacing(float(x), dtype) == spacing(-float(x), dtype)


COARSER = [
    (np.float64(1), np.float64(1 + 2**-30), "float64", 2**22),
    (np.float32(1), np.float64(1 + 2**-30), "float32", 2**-7),
    (np.float64(1 + 2**-30), np.float16(1), "float16", 2**-20),
    (np.float16(1), np.float32(1 + 2**-20), "float16", 2**-10),
    (np.int64(1), np.float32(1 + 2**-20), "float32", 2**3),
    (np.int64(1), np.int32(2), None, None),
]


@pytest.mark.parametrize(("a", "b", "unit", "units"), COARSER)
def test_the_unit_is_that_of_the_coarser_dtype(a, b, unit, units):
    row = one(a.reshape(1, 1), b.reshape(1, 1), tolerance=0)
    assert (row.unit, row.ulps, row.mismatch) == (unit, units, True)


def test_the_largest_difference_is_found_with_its_place_and_both_numbers():
    acts = record(MODEL, PROMPT)
    name = "blocks.1.attn.hook_pattern"
    acts[name] = acts[name].copy()
    acts[name][3, 4, 2] += 0.25
    acts[name][1, 6, 0] -= 0.0625
    row = diff(ACTS, acts).rows[name]
    assert row.at == {"head": 3, "query": 4, "key": 2}
    assert row.index_a == row.index_b == (3, 4, 2)
    assert (row.a, row.b) == (ACTS[name][3, 4, 2], acts[name][3, 4, 2])
    assert row.absolute == abs(row.a - row.b)
    assert row.relative == row.absolute / float(ACTS[name][:, 4].max())  # of all heads and keys of that query
    assert (row.off, row.only) == (2, {"head": [1, 3], "query": [4, 6], "key": [0, 2]})
    assert f"at head 3, query 4, key 2: {row.a:.9g} in a, {row.b:.9g} in b." in report(diff(ACTS, acts))


def test_relative_is_measured_by_the_largest_number_of_the_first_run():
    row = one([2.0, -8], [2.5, -4])
    assert (row.absolute, row.relative) == (4, 0.5)
    assert one([2.5, -4], [2.0, -8]).relative == 1


@pytest.mark.parametrize(("tolerance", "parts"), [(0.124, True), (0.125, False)])
def test_the_tolerance_itself_is_still_allowed(tolerance, parts):
    assert one([8.0, 1], [8.0, 2], tolerance=tolerance).mismatch is parts


def test_any_difference_from_nothing_but_0_is_infinite():
    row = one([0.0, 0], [0, TINY], tolerance=1)
    assert (row.mismatch, row.relative, row.ulps) == (True, math.inf, 1)


def test_0_and_minus_0_are_the_same_number():
    row = one([0.0, -0.0], [-0.0, 0.0], tolerance=0)
    assert (row.differs, row.relative) == (False, 0)


def test_equal_infinities_are_equal_and_others_are_infinitely_far_apart():
    assert not one([-math.inf, math.inf, 1], [-math.inf, math.inf, 1]).differs
    for b in (1.0, math.inf):
        row = one([1, -math.inf], [1, b], tolerance=1e9)
        assert (row.mismatch, row.absolute, row.ulps, row.at) == (True, math.inf, None, {"position": 0, "token": 1})


NAN = [
    (math.nan, 1.0, "NaN in a, 1 in b", "NaN in a"),
    (1.0, math.nan, "1 in a, NaN in b", "NaN in b"),
    (math.nan, math.nan, "NaN in both", "NaN in both"),
]


@pytest.mark.parametrize(("a", "b", "words", "where"), NAN)
def test_nan_is_a_difference_and_is_said(a, b, words, where):
    acts = {"hook_logits": np.array([[1, 2, a]], np.float32)}
    result = diff(acts, {"hook_logits": np.array([[1, 2, b]], np.float32)}, tolerance=1e9)
    row = result.rows["hook_logits"]
    assert (row.mismatch, row.off, row.absolute, row.at["token"]) == (True, 1, math.inf, 2)
    assert f"at position 0, token 2: {words}." in report(result)
    assert not re.search(r"\bnan\b| inf", report(result) + str(table(result)))
    first = {"hook_embed": np.ones((1, 2))}
    later = report(diff(first | acts, {"hook_embed": np.zeros((1, 2)), "hook_logits": np.array([[1, 2, b]])}))
    assert f"hook_logits, is {where}." in later


def test_whole_numbers_must_be_equal_whatever_the_tolerance_and_dtype():
    acts = ACTS | {"hook_tokens": ACTS["hook_tokens"].astype(np.uint8)}
    assert diff(ACTS, acts).first_bit is None
    acts["hook_tokens"] = acts["hook_tokens"] + np.uint8(np.arange(7) == 5)
    result = diff(ACTS, acts, tolerance=1e9)
    row = result.rows["hook_tokens"]
    assert result.first == "hook_tokens"
    assert (row.off, row.ulps, row.at, row.a, row.b) == (1, None, {"position": 5}, 26, 27)
    assert "at position 5: 26 in a, 27 in b." in report(result)


@pytest.mark.parametrize("make", [np.transpose, lambda x: x[:, :4], lambda x: x[None, :5, None]])
def test_another_shape_is_where_the_runs_part_and_both_are_said_as_they_were_given(make):
    """Also where a cache has fewer rows: the shapes in the message are those of the arrays."""
    for whole in (ACTS, cached(PROMPT, 3)):
        x = make(whole["hook_embed"])
        for acts in (whole | {"hook_embed": x}, {"hook_embed": x}):
            result = diff(ACTS, acts)
            assert result.first == "hook_embed", str(result)
            assert f"Its shape is [7, 30] in a and {list(x.shape)} in b" in report(result)
            assert "the axes are [position, column]." in report(result)
            if make is np.transpose:
                assert "29 in b" not in report(result)  # 30 columns are no 30 positions
    words = report(diff(ACTS, ACTS | {"hook_embed": ACTS["hook_embed"].T}))
    assert "After it, 0 of 68 points part; the last of them all, hook_logits, is equal." in words


def test_arrays_with_fewer_axes_than_the_table_has_are_compared_all_the_same():
    """Somebody kept the last row only."""
    row = diff({"hook_logits": ACTS["hook_logits"][-1]}, {"hook_logits": ACTS["hook_logits"][-1] + 1})
    assert row.rows["hook_logits"].at.keys() == {"token"}
    number = diff({"hook_logits": np.float32(1)}, {"hook_logits": np.float32(2)}).rows["hook_logits"]
    assert (number.mismatch, number.at, number.index_a) == (True, {}, ())


def test_an_axis_is_listed_only_where_it_says_something():
    assert one(np.ones((2, 9, 1)), np.ones((2, 9, 1)) + 1).only == {}
    assert one([1, 2, 3], [2, 3, 4]).only == {}
    assert one([1, 2, 3, 4], [1, 3, 4, 5]).only == {"token": [1, 2, 3]}
    assert one([1, 2, 3, 4, 5], [1, 3, 4, 5, 6]).only == {}
    assert one(np.ones((4, 1)), np.ones((4, 1)) + 1, "blocks.0.ln1.hook_scale").at == {"position": 0}


def test_longer_floats_are_compared_as_float64():
    row = one(np.array([[1]], np.longdouble), np.array([[1 + 2.0**-52]], np.longdouble))
    assert (row.unit, row.ulps) == ("float64", 1)


def test_agreement_is_told_with_the_largest_difference_and_the_digits_it_leaves():
    a = {"hook_embed": np.array([[1.0, 2]]), "hook_pos_embed": np.array([[3.0, 4]])}
    b = {"hook_embed": np.array([[1.0, 2 + 2e-9]]), "hook_pos_embed": np.array([[3 + 2e-7, 4]])}
    result = diff(a, b)
    assert result.first is None and result.first_bit == "hook_embed"
    assert report(result).splitlines() == [
        "The runs agree in all 2 points that were compared, to 7 digits.",  # 2e-7 of 4 is 5e-8
        "They are farthest apart in hook_pos_embed.",
        "  The largest difference for its row, 2e-07, is at position 0, column 0: 3 in a, 3.0000002000000001 in b.",
        "  That is 5.0e-08 of the largest number in a's row, 450,359,963 units in the last place of float64.",
        "The first to differ at all is hook_embed.",
    ]


# ---- Which rows are compared ----


def assert_indices_are_true(result, acts_a, acts_b):
    """What a row says of its place can be looked up in the arrays as they were given."""
    found = 0
    for name, row in result.rows.items():
        if row.differs and row.absolute is not None:
            assert acts_a[name][row.index_a] == row.a, name
            assert acts_b[name][row.index_b] == row.b, name
            found += 1
    return found


@pytest.mark.parametrize("cut", range(1, 7))
def test_after_a_cache_the_rows_of_the_same_positions_are_compared(cut):
    part = cached(PROMPT, cut)
    for name in set(part) - {"hook_positions"}:
        part[name] = part[name].copy()
        part[name][..., -1] += 1  # in the last position of all, among others
    for a, b in ((ACTS, part), (part, ACTS)):
        result = diff(a, b)
        assert assert_indices_are_true(result, a, b) == len(TABLE) - 1
        assert result.rows["hook_tokens"].at == {"position": 6}
        assert min(row.at.get("position", 6) for row in result.rows.values()) >= cut
        assert min(row.at.get("query", 6) for row in result.rows.values()) >= cut
        spans = f"0 to 6 in a and {cut} to 6 in b" if a is ACTS else f"{cut} to 6 in a and 0 to 6 in b"
        assert f"compared at positions {cut} to 6, of {spans}." in report(result)


@pytest.mark.parametrize("cut", [1, 4, 6])
def test_without_positions_a_pattern_tells_where_the_rows_of_a_run_stand(cut):
    part = cached(PROMPT, cut)
    del part["hook_positions"], part["hook_tokens"]
    for a, b in ((ACTS, part), (part, ACTS)):
        result = diff(a, b)
        assert result.first is None, str(result)
        assert "compared at positions" in report(result)
    wrong = cached(OTHER, cut)
    del wrong["hook_positions"], wrong["hook_tokens"]
    assert diff(ACTS, wrong).first == "hook_embed"


def test_prompts_of_different_length_are_compared_at_the_positions_of_both():
    ids = np.array([*PROMPT[:5], 9, 79, 23, 84])
    result = diff(ACTS, record(MODEL, ids))
    assert_parts_at(result, "hook_tokens")
    assert result.rows["hook_tokens"].only == {"position": [5, 6]}
    assert result.rows["blocks.2.attn.hook_pattern"].shape_b == (5, 7, 7)
    assert {tuple(row.only.get("query", [])) for name, row in result.rows.items() if "pattern" in name} == {(5, 6)}
    shorter = diff(ACTS, record(MODEL, PROMPT[:5]), tolerance=0)
    assert shorter.first is None and len(shorter.rows) == len(TABLE)


def test_prompts_of_equal_length_part_at_their_tokens():
    result = diff(ACTS, record(MODEL, OTHER))
    assert_parts_at(result, "hook_tokens")
    assert not result.rows["hook_pos_embed"].differs


def test_what_follows_the_last_token_is_compared_only_where_both_end():
    whole, ends = generated(PROMPT), [point.name for point in points.NEXT_TOKEN]
    shorter = diff(whole, generated(PROMPT[:5]))
    assert shorter.first is None
    assert shorter.skipped == {"of another position are": ends}
    cache, acts = KVCache(CONFIG), Recorder()
    MODEL(PROMPT[:4], cache=cache)
    nanogpt_np.generate.next_logits(MODEL, PROMPT[4:], cache=cache, trace=acts)
    result = diff(whole, acts)
    assert result.first is None and "hook_next_logits" in result.rows
    other = diff(whole, generated(OTHER))
    assert other.rows["hook_next_logits"].mismatch
    assert "the last of them all, hook_next_token, differs." in report(other)  # by how much says nothing


def test_positions_that_are_wrong_are_where_the_runs_part_and_move_no_row():
    wrong = record(MODEL, PROMPT, traced("hook_positions", lambda x, _: x + 1))
    result = diff(ACTS, wrong)
    assert_parts_at(result, "hook_positions")
    assert result.cut == "compared row by row: positions 0 to 6 of a with 1 to 7 of b"
    assert not result.rows["hook_embed"].differs


def test_equally_many_rows_of_other_positions_are_compared_row_by_row_and_named_by_both():
    a, b = cached(PROMPT, 4), cached(OTHER[:5], 2)  # rows 4 to 6, and 2 to 4
    for x, y, first, second in ((a, b, "4 to 6", "2 to 4"), (b, a, "2 to 4", "4 to 6")):
        result = diff(x, y)
        assert_parts_at(result, "hook_tokens")
        assert f"The runs were compared row by row: positions {first} of a with {second} of b." in report(result)
        assert assert_indices_are_true(result, x, y)
        row = result.rows["blocks.0.ln1.hook_output"]
        assert row.at["column"] == row.at_b["column"]
        assert row.at_b["position"] - row.at["position"] == y["hook_positions"][0] - x["hook_positions"][0]
    only = dict(b)
    only["hook_tokens"] = a["hook_tokens"] + np.array([0, 1, 0])
    words = report(diff(a, only))
    assert "at position 5 of a and 3 of b: 26 in a, 27 in b." in words
    assert "all of them at position 5 of a." in words
    del only["hook_positions"]  # the keys still tell
    assert "row by row" in report(diff(a, only))
    nothing_says = {"hook_tokens": only["hook_tokens"]}
    for x, y in ((a, nothing_says), (nothing_says, a)):
        assert diff(x, y).cut == ""
        assert diff(x, y).rows["hook_tokens"].at == diff(x, y).rows["hook_tokens"].at_b == {"position": 5}


def test_positions_tell_where_rows_stand_that_have_no_pattern():
    def some(acts):
        return {name: x for name, x in acts.items() if "attn" not in name}

    assert diff(some(ACTS), some(cached(PROMPT, 4))).first is None
    part = {name: x for name, x in some(cached(PROMPT, 4)).items() if name != "hook_positions"}
    assert diff(some(ACTS), part).first == "hook_tokens"  # nothing says that it does not begin at 0


def test_logits_of_all_tokens_are_compared_with_those_of_the_last_one():
    """A saved trace has hook_next_logits, a dump has hook_logits."""
    step = generated(PROMPT)
    for factor in (1, 1.5):
        dump = {"hook_logits": ACTS["hook_logits"] * np.float32(factor)}
        for form in (dump["hook_logits"], dump["hook_logits"][None], dump["hook_logits"][-1]):
            dump = {"hook_logits": form}
            for a, b, whose in ((step, dump, "b"), (dump, step, "a")):
                result = diff(a, b)
                assert list(result.rows) == ["hook_next_logits"]
                assert result.first == (None if factor == 1 else "hook_next_logits")
                assert f"the last row of {whose}'s hook_logits is the other's hook_next_logits" in report(result)
                row = result.rows["hook_next_logits"]
                kept = "hook_logits" if whose == "a" else "hook_next_logits"
                assert not row.differs or a[kept][row.index_a] == row.a
                assert all("hook_logits" not in names for names in result.skipped.values())
    whole = diff(step, ACTS)
    assert whole.first is None and list(whole.rows) == [*[*TABLE][:-1], "hook_next_logits"]
    elsewhere = diff(generated(PROMPT[:5]), ACTS)
    assert "hook_next_logits" not in elsewhere.rows
    assert elsewhere.skipped["of another position are"] == ["hook_next_logits"]
    both = ACTS | {"hook_next_logits": step["hook_next_logits"] + 1}
    assert diff(step, both).rows["hook_next_logits"].mismatch


def test_positions_that_do_not_count_up_are_not_gone_by():
    wrong = cached(PROMPT, 4) | {"hook_positions": np.zeros(3, int)}
    result = diff(ACTS, wrong)
    assert_parts_at(result, "hook_positions")
    assert "compared at positions 4 to 6" in report(result)
    assert not result.rows["hook_logits"].mismatch


def test_a_run_without_rows_is_compared_in_what_it_has():
    whole = generated(PROMPT)
    assert diff({"hook_next_logits": whole["hook_next_logits"]}, whole).first is None


def test_an_array_that_has_not_the_rows_of_its_run_is_compared_as_it_is():
    a, b = ({**acts, "hook_logits": acts["hook_logits"][-2:]} for acts in (ACTS, cached(PROMPT, 3)))
    result = diff(a, b)
    assert result.first is None and result.rows["hook_logits"].shape_a == (2, 97)
    b["hook_logits"] = b["hook_logits"] + np.eye(2, 97, dtype=np.float32)
    assert assert_indices_are_true(diff(a, b), a, b)
    row = diff(a, b).rows["hook_logits"]
    assert row.at["position"] == row.index_a[0] < 2


def test_runs_without_a_position_in_common_are_refused():
    cache = KVCache(CONFIG)
    first, second = record(MODEL, PROMPT[:3], cache=cache), record(MODEL, PROMPT[3:], cache=cache)
    with pytest.raises(ValueError, match="no position in common: 0 to 2 in a and 3 to 6 in b"):
        diff(first, second)


def test_a_batch_axis_of_1_is_taken_off_and_another_is_compared_prompt_by_prompt():
    batch = record(MODEL, PROMPT[None])
    for a, b in ((ACTS, batch), (batch, ACTS)):
        assert diff(a, b).first is None
    off = {name: x + 1 for name, x in batch.items()}
    for a, b in ((ACTS, off), (off, ACTS)):
        assert assert_indices_are_true(diff(a, b), a, b) == len(TABLE)
    two = record(MODEL, np.stack([PROMPT, OTHER]))
    other = record(MODEL, np.stack([PROMPT, OTHER[::-1]]))
    result = diff(two, other)
    assert result.rows["blocks.1.attn.hook_attn_scores"].at["prompt"] == 1
    assert result.rows["hook_tokens"].only == {"prompt": [1]}
    assert_indices_are_true(result, two, other)
    assert "Its shape is [7] in a and [2, 7] in b" in report(diff(ACTS, two))


def test_a_batch_after_a_cache_is_compared_at_its_positions():
    ids, cache = np.stack([PROMPT, OTHER]), KVCache(CONFIG)
    MODEL(ids[:, :3], cache=cache)
    result = diff(record(MODEL, ids), record(MODEL, ids[:, 3:], cache=cache))
    assert result.first is None, str(result)
    assert result.rows["hook_logits"].shape_a == (2, 4, 97)


# ---- Other people's dumps ----


@pytest.fixture(scope="module")
def lens():
    """(our activations, TransformerLens's) of the same batch of two prompts."""
    model = nanogpt_np.load(GOLDEN)
    with np.load(GOLDEN / "transformer_lens.npz") as file:
        theirs = dict(file)
    with np.load(GOLDEN / "expected.npz") as file:
        ids = file["ids"]
    return model, ids, theirs


def test_every_point_agrees_with_transformer_lens_and_its_other_name_is_noted(lens):
    model, ids, theirs = lens
    ours = record(model, ids)
    for a, b, whose in ((ours, theirs, "b"), (theirs, ours, "a")):
        result = diff(a, b)
        assert result.first is None, str(result)
        assert set(result.rows) == set(theirs)
        other = "b" if whose == "a" else "a"
        notes = {row.note for row in result.rows.values() if row.note}
        assert notes == {f"the hook_normalized of {whose} is the hook_output of {other}"}
        assert sum(bool(row.note) for row in result.rows.values()) == 7
        assert f"Taken as the same: the hook_normalized of {whose} is the hook_output of {other}, in" in report(result)


def test_one_prompt_agrees_with_its_dump_under_a_batch_axis_of_1(lens):
    model, ids, theirs = lens
    for row in range(len(ids)):
        assert diff(record(model, ids[row]), {name: x[row : row + 1] for name, x in theirs.items()}).first is None


def test_a_mistake_is_found_beside_transformer_lens_too(lens):
    model, ids, theirs = lens
    block = replace(model.h[1], mlp=with_fields(ExactGelu)(model.h[1].mlp))
    wrong = replace(model, h=(model.h[0], block, model.h[2]))
    result = diff(theirs, record(wrong, ids))
    assert result.first == "blocks.1.mlp.hook_post"
    for name in ("blocks.0.ln1.hook_normalized", "blocks.1.ln2.hook_normalized"):
        assert not result.rows[name].mismatch


def test_a_hook_normalized_that_is_neither_of_the_two_parts_the_runs():
    name = "blocks.0.ln1.hook_normalized"
    assert diff(ACTS, ACTS | {name: ACTS[name] * 1.001}).first == name
    no_output = {n: x for n, x in ACTS.items() if not n.endswith("hook_output")}
    renamed = {name: ACTS["blocks.0.ln1.hook_output"]}
    assert diff(no_output, renamed).first == name
    assert diff(ACTS, renamed).first is None


@pytest.mark.parametrize("mask", [-1.1e4, -1e10, np.finfo(np.float32).min])
def test_another_mask_than_minus_infinity_is_noted_and_hides_nothing(mask):
    acts = {n: np.where(np.isinf(x), np.float32(mask), x) for n, x in ACTS.items()}
    for a, b, whose in ((ACTS, acts, "b"), (acts, ACTS, "a")):
        result = diff(a, b, tolerance=0)
        assert result.first is None
        assert f"Taken as the same: {whose} masks scores with {mask:g} for -inf, in" in report(result)
        name = "blocks.1.attn.hook_attn_scores"
        assert diff(a, a | {name: a[name] * np.float32(0.999)}).first == name
    acts[name] = acts[name].copy()
    acts[name][2, 3, 5] = 0  # one that should be masked
    row = diff(ACTS, acts).rows[name]
    assert (row.mismatch, row.at, row.a, row.b) == (True, {"head": 2, "query": 3, "key": 5}, -math.inf, 0)


HEADS_FIRST = [f"blocks.{i}.attn.hook_{x}" for i in range(3) for x in "qkvz"]


@pytest.mark.parametrize("T", [7, 5])  # 5 is the number of heads, too
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("cut", [0, 2])
def test_heads_before_tokens_are_noted_and_hide_nothing(T, batch, cut):
    ids = PROMPT[:T]
    ours = record(MODEL, ids)
    theirs = cached(ids, cut) if cut else record(MODEL, ids)
    theirs = {n: np.nextafter(x, x + 1) if n.endswith("hook_mlp_out") else x for n, x in theirs.items()}  # rounding
    theirs = {n: np.swapaxes(x, 0, 1) if n in HEADS_FIRST else x for n, x in theirs.items()}
    theirs = {n: x[None] for n, x in theirs.items()} if batch else theirs
    for order in (sorted, lambda names: sorted(names, key=lambda n: n not in HEADS_FIRST)):
        shuffled = {name: theirs[name] for name in order(theirs)}
        for a, b in ((ours, shuffled), (shuffled, ours)):
            result = diff(a, b)
            assert result.first is None, str(result)
            noted = [name for name, row in result.rows.items() if row.note]
            assert noted == HEADS_FIRST
            assert "Taken as the same: tokens before heads in one run, heads before tokens in the o" in report(result)
            assert assert_indices_are_true(result, a, b)
    name = "blocks.1.attn.hook_v"
    wrong = theirs | {name: theirs[name] * 1.01}
    for a, b in ((ours, wrong), (wrong, ours)):
        result = diff(a, b)
        assert result.first == name
        if T == 7 and not cut:
            assert assert_indices_are_true(result, a, b)
            row = result.rows[name]
            in_ours = row.index_a if a is ours else row.index_b
            assert (row.at["position"], row.at["head"]) == in_ours[:2]  # no head is called a position


def test_heads_before_tokens_are_known_where_nothing_else_is_given():
    ours = {name: ACTS[name] for name in HEADS_FIRST}
    theirs = {name: np.swapaxes(x, 0, 1) for name, x in ours.items()}
    for a in (ACTS, ours):
        assert diff(a, theirs).first is None
        assert diff(theirs, a).first is None
    three = {"blocks.0.attn.hook_q": theirs["blocks.0.attn.hook_q"][:3]}
    assert "Its shape is [7, 5, 6] in a and [3, 7, 6] in b; the axes are [pos" in report(diff(ACTS, three))


def test_float16_is_not_held_to_more_than_it_can_hold():
    half = {n: x if n in points.WHOLE_NUMBERS else x.astype(np.float16) for n, x in ACTS.items()}
    for a, b in ((ACTS, half), (half, ACTS), (half, half)):
        result = diff(a, b)
        assert result.first is None, str(result)
        assert ("float16 is off by up to 0.0039 of the largest number in a's row" in report(result)) is (a is not b)
    assert diff(ACTS, half, tolerance=0).first == "hook_embed"
    wrong = half | {"hook_embed": half["hook_embed"] * np.float16(1.02)}
    assert_parts_at(diff(half, wrong), "hook_embed")
    assert "off by more than 0.00391 of the largest number" in report(diff(half, wrong))
    looser = diff(half, wrong, tolerance=0.1)
    assert looser.first is None and not any(row.note for row in looser.rows.values())


def test_names_of_one_run_only_and_names_of_no_point_are_listed():
    mine = {"hook_embed": ACTS["hook_embed"] + 1, "hook_q": np.ones(3), "\x1b[2J": 1, "extra": np.ones(2), 5: 6}
    result = diff(ACTS | {"extra": np.ones(2)}, mine)
    assert list(result.rows) == ["hook_embed"]
    assert result.skipped["only b has"] == ["hook_q", "\x1b[2J", "5"]
    assert result.skipped["no trace points are"] == ["extra"]
    assert len(result.skipped["only a has"]) == len(TABLE) - 1
    words = report(result)
    assert "only b has hook_q, \\x1b[2J" in words and "\x1b" not in words
    assert "only a has hook_tokens, hook_positions, hook_pos_embed and 67 more" in words


def test_the_order_of_the_dicts_does_not_matter():
    names = list(TABLE)
    random.Random(1).shuffle(names)
    wrong = record(changed("h.1.mlp.c_fc.bias"), PROMPT)
    expected, shuffled = diff(ACTS, wrong), diff({n: ACTS[n] for n in names}, {n: wrong[n] for n in reversed(names)})
    assert list(shuffled.rows) == list(TABLE)
    assert shuffled == expected


def test_blocks_come_in_the_order_of_their_numbers():
    model = random_model(n_layer=12)
    acts = record(model, PROMPT)
    names = sorted(acts, reverse=True)
    assert list(diff({name: acts[name] for name in names}, acts).rows) == list(points.table(model.config))


# ---- What cannot be compared ----


class Attached:
    """As a tensor of PyTorch that is part of a graph."""

    def __array__(self, *_, **__):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")


BAD = [
    (
        "no name in common",
        {"logits": np.ones(3)},
        {},
        r"no trace point is in both: a has hook_tokens, .* and 68 more; ",
    ),
    ("nothing", {}, {}, "b has nothing"),
    (
        "complex numbers",
        {"hook_embed": np.ones((7, 30), complex)},
        {},
        "hook_embed must hold real numbers, not complex",
    ),
    (
        "names of Hugging Face",
        {"transformer.h.0.ln_1": 1, "h.1.mlp.act": 1},
        {},
        r"ln_1 is blocks\.0\.ln1\.hook_output here; h\.1\.mlp\.act is blocks\.1\.mlp\.hook_post here$",
    ),
    ("names that nobody knows", {"foo": 1, 5: 1}, {}, "b has foo, 5$"),
    ("None", None, {}, r"expected a mapping of trace points to arrays, not None; recording.read_arrays reads a file"),
    ("a path", "p.npz", {}, r"expected a mapping .*, not 'p\.npz'; "),
    ("truth values", {"hook_embed": np.ones((7, 30), bool)}, {}, "hook_embed must hold real numbers, not bool"),
    ("words", {"hook_embed": "words"}, {}, "hook_embed must hold real numbers, not <U5"),
    ("no numbers at all", {"hook_embed": np.ones((0, 30))}, {}, r"real numbers, not float64 of shape \[0, 30\]"),
    ("a ragged list", {"hook_embed": [[1], [1, 2]]}, {}, "hook_embed is not an array of numbers: "),
    ("a tensor with a graph", {"hook_embed": Attached()}, {}, r"hook_embed is not an array of numbers: .*detach\(\)"),
    ("a tolerance below 0", ACTS, {"tolerance": -1e-5}, "tolerance must be a number from 0 on, not -1e-05"),
    ("a tolerance of NaN", ACTS, {"tolerance": math.nan}, "tolerance must be a number from 0 on, not nan"),
    ("a tolerance without end", ACTS, {"tolerance": math.inf}, "tolerance must be a number from 0 on, not inf"),
]


@pytest.mark.parametrize(("label", "acts", "options", "message"), BAD, ids=[row[0] for row in BAD])
def test_what_cannot_be_compared_is_refused(label, acts, options, message):
    with pytest.raises(ValueError, match=message):
        diff(ACTS, acts, **options)


def test_runs_that_have_only_their_last_token_in_common_and_end_elsewhere_are_refused():
    a, b = generated(PROMPT), generated(PROMPT[:5])
    b = {"hook_next_logits": b["hook_next_logits"], "hook_tokens": b["hook_tokens"]}
    del a["hook_tokens"]
    with pytest.raises(ValueError, match="end at different positions, and have nothing else in common: hook_next_log"):
        diff(a, b)


def test_nothing_is_written_to():
    acts = {name: x.copy() for name, x in ACTS.items()}
    for x in acts.values():
        x.flags.writeable = False
    assert diff(acts, cached(PROMPT, 3)).first is None


# ---- The command ----


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Recordings of a right and a wrong model, and dumps."""
    folder = tmp_path_factory.mktemp("passes")
    provenance = {"origin": "some \x1b model", "dtype": "F32", "parameters": 9, "decoding": "greedy"}
    about = {"prompt": "seven \x1b tokens", "prompt_ids": PROMPT.tolist(), "model": provenance}
    wrong = in_block(1, mlp=with_fields(ExactGelu))
    for name, model in (("right", MODEL), ("wrong", wrong)):
        save(folder / f"{name}.npz", Recording(generated(PROMPT, model), CONFIG, about))
    np.savez(folder / "dump.npz", **{name: x[None] for name, x in generated(PROMPT).items()})
    odd = ACTS | {"hook_embed": ACTS["hook_embed"] * np.float32(math.nan)}
    np.savez(folder / "odd.npz", **odd, **{"\x1b[2J": np.ones(2)})
    np.savez(folder / "logits.npz", logits=np.ones(3))
    return folder


@pytest.fixture
def run(files, capsys):
    """Run `diff` on files and return (stdout, stderr)."""

    def run(a, b, *options, code):
        assert main(["diff", str(files / a), str(files / b), *options]) == code
        return capsys.readouterr()

    return run


def test_the_command_says_0_and_that_the_runs_are_equal(run, files):
    out, err = run("right.npz", "dump.npz", code=0)
    lines = out.splitlines()
    assert lines[0] == f'a: {files / "right.npz"}   "seven \\u001b tokens", some \\x1b model'
    assert lines[1] == f"b: {files / 'dump.npz'}"
    assert lines[2:] == ["The runs are equal in all 74 points that were compared."]
    assert err == ""


def test_the_command_says_1_and_where_the_runs_part(run):
    out, err = run("right.npz", "wrong.npz", code=1)
    assert "The runs part at blocks.1.mlp.hook_post [7, 52] = gelu(pre)   (nanogpt_np/model/mlp.py, MLP)" in out
    assert "So the difference comes from this one step." in out
    assert err == ""
    run("right.npz", "wrong.npz", "--tolerance", "0.01", code=0)


def test_all_prints_a_line_for_each_point(run):
    out, _ = run("right.npz", "wrong.npz", "--all", code=1)
    lines = {line.split()[0]: line for line in out.splitlines() if line.startswith(("hook_", "blocks.", "ln_final."))}
    assert list(lines) == list(points.table(CONFIG, points.NEXT_TOKEN))
    assert "equal" in lines["blocks.1.mlp.hook_pre"]
    assert lines["blocks.1.mlp.hook_post"].endswith("<- parts")
    assert "neuron" in lines["blocks.1.mlp.hook_post"]
    assert "units" in out.splitlines()[2]


def strict(text):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_holds_all_points_and_is_json_also_where_there_is_nan(run):
    out, _ = run("right.npz", "odd.npz", "--json", code=1)
    whole = strict(out)
    assert (whole["agree"], whole["first"], whole["first_bit"]) == (False, "hook_embed", "hook_embed")
    assert whole["tolerance"] == TOLERANCE
    assert whole["a"]["about"]["prompt"] == "seven \x1b tokens" and whole["b"]["about"] is None
    rows = {row["name"]: row for row in whole["points"]}
    assert list(rows) == [name for name in TABLE if name != "hook_logits"] + ["hook_next_logits"]
    assert (rows["hook_embed"]["absolute"], rows["hook_embed"]["b"], rows["hook_embed"]["off"]) == ("inf", "nan", 210)
    assert whole["skipped"]["only b has"] == ["\x1b[2J"]
    assert strict(run("right.npz", "right.npz", "--json", code=0)[0])["agree"] is True


def test_trouble_is_2_and_one_line(run, files):
    for a, b, *options, message in (
        ("right.npz", "missing.npz", "missing.npz"),
        ("missing.npz", "right.npz", "missing.npz"),
        ("right.npz", "logits.npz", "no trace point is in both: a has hook_tokens, "),
        ("right.npz", "right.npz", "--tolerance", "-1", "tolerance must be a number from 0 on"),
        ("right.npz", "right.npz", "--tolerance", "many", "invalid float value"),
        ("right.npz", "right.npz", "--nonsense", "unrecognized arguments"),
    ):
        out, err = run(a, b, *options, code=2)
        assert out == ""
        assert message in err and err.count("\n") == 1
    (files / "no.npz").write_bytes(b"no \x1b zip")
    assert "no.npz is not a valid .npz file" in run("right.npz", "no.npz", code=2).err


def test_control_characters_of_a_file_do_not_reach_the_terminal(run):
    out, _ = run("right.npz", "odd.npz", "--all", code=1)
    assert "\x1b" not in out and "\\x1b[2J" in out


def test_help_says_the_exit_codes(capsys):
    assert main(["diff", "--help"]) == 0
    assert "0 if they agree within the tolerance, 1 if they differ, 2 for an error" in capsys.readouterr().out


def test_the_table_has_a_line_for_another_shape():
    lines = table(diff(ACTS, ACTS | {"hook_embed": ACTS["hook_embed"][:, :3]}))
    assert any(line.startswith("hook_embed") and "another shape: [7, 3]" in line for line in lines)
