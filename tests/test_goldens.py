"""Golden tests: what transformers and TransformerLens made of three small random GPT-2s (goldens/make_goldens.py).

The expected numbers were computed in float64, so what is measured here is the float32 error of this
package alone: logits up to 12 are off by at most 8e-6, patterns by 2e-6. The last part tests the tests: it
puts bugs into the model, from outside, and asks whether the same comparison would have seen them.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nanogpt_np
from nanogpt_np.generate.loop import generate
from nanogpt_np.model import mlp
from nanogpt_np.model.attention import no_cache, softmax
from nanogpt_np.model.gpt2 import Block
from nanogpt_np.model.layernorm import LayerNorm
from nanogpt_np.model.trace import no_trace
from nanogpt_np.names import points
from nanogpt_np.weights import assembly

GOLDENS = Path(__file__).parent / "goldens"
CASES = ("tied", "untied", "scaled")
ATOL = 2e-4  # on logits and hidden states of size 10; measured: 8e-6. The smallest bug below moves logits by 1e-3.


def read(case, name="expected.npz"):
    with np.load(GOLDENS / case / name) as file:
        return dict(file)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """One golden: (model, expected)."""
    return nanogpt_np.load(GOLDENS / request.param), read(request.param)


@pytest.fixture(scope="module")
def tied():
    return nanogpt_np.load(GOLDENS / "tied"), read("tied")


def distance(actual, expected):
    """Return the largest absolute difference; the shapes must be equal, too."""
    assert actual.shape == expected.shape
    return float(abs(actual - expected).max())


# ---- What transformers computed ----


def test_a_batch_has_the_logits_of_transformers(case):
    model, expected = case
    logits = model(expected["ids"])
    assert logits.dtype == np.float32
    assert distance(logits, expected["logits"]) < ATOL


def test_a_single_prompt_has_the_logits_of_its_row_in_the_batch_of_transformers(case):
    model, expected = case
    for ids, logits in zip(expected["ids"], expected["logits"], strict=True):
        assert distance(model(ids), logits) < ATOL


def test_in_float64_the_logits_differ_from_transformers_by_the_rounding_of_the_golden_only(case):
    model, expected = case
    double = assembly.assemble(model.config, {name: a.astype(np.float64) for name, a in model.params.items()})
    logits = double(expected["ids"])
    assert logits.dtype == np.float64
    # Logits up to 12 stored in float32: off by 2**-21, half a unit in the last place.
    assert distance(logits, expected["logits"]) <= 2**-21


def test_hidden_states_are_those_of_transformers(case):
    model, expected = case
    acts = nanogpt_np.Recorder()
    model(expected["ids"], trace=acts)
    names = [f"blocks.{i}.hook_resid_pre" for i in range(model.config.n_layer)]
    names.append("ln_final.hook_output")  # transformers calls this, after ln_f, the last hidden state
    assert len(names) == len(expected["hidden_states"])
    for name, hidden in zip(names, expected["hidden_states"], strict=True):
        assert distance(acts[name], hidden) < ATOL, name


def test_attention_patterns_are_those_of_transformers(case):
    model, expected = case
    acts = nanogpt_np.Recorder()
    model(expected["ids"], trace=acts)
    for i, pattern in enumerate(expected["attentions"]):
        assert distance(acts[f"blocks.{i}.attn.hook_pattern"], pattern) < 2e-5, i  # measured: 2e-6


@pytest.mark.parametrize("cuts", [(4,), (1, 2, 8), range(1, 9)])
def test_passes_through_a_cache_give_the_logits_that_transformers_gave_at_once(case, cuts):
    model, expected = case
    cache = nanogpt_np.KVCache(model.config)
    parts = [model(ids, cache=cache) for ids in np.split(expected["ids"], list(cuts), axis=1)]
    assert cache.length == expected["ids"].shape[1]
    assert distance(np.concatenate(parts, axis=1), expected["logits"]) < ATOL


@pytest.mark.parametrize("cache", [True, False])
def test_greedy_text_is_that_of_transformers_until_the_context_is_full(tied, cache):
    model, expected = tied
    prompt, greedy = expected["greedy_prompt"], expected["greedy"]
    assert len(prompt) + len(greedy) == model.config.n_positions + 1  # the last token needs no position
    assert list(generate(model, prompt, 1000, stop=(), use_cache=cache)) == greedy.tolist()


# ---- What TransformerLens computed ----


@pytest.fixture(scope="module")
def lens(tied):
    """(our activations, those of TransformerLens) for the same weights and ids."""
    model, expected = tied
    acts = nanogpt_np.Recorder()
    model(expected["ids"], trace=acts)
    return acts, read("tied", "transformer_lens.npz")


def relative(actual, expected):
    """Return the largest difference as a part of the largest number expected; -inf must be in the same places."""
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    return float(abs(actual[finite] - expected[finite]).max() / abs(expected[finite]).max())


def test_the_names_not_marked_extra_are_those_of_transformer_lens_in_its_order(tied, lens):
    table = points.table(tied[0].config)
    assert [name for name, point in table.items() if not point.extra] == list(lens[1])


def test_every_activation_is_that_of_transformer_lens(lens):
    ours, theirs = lens
    for name, array in theirs.items():
        # With raw weights HookedTransformer puts hook_normalized after gain and bias: our hook_output.
        ours_name = name.replace("hook_normalized", "hook_output")
        assert relative(ours[ours_name], array) < 1e-4, name  # measured: 2e-6 at most


def test_normalized_with_gain_and_bias_is_what_transformer_lens_calls_normalized(tied, lens):
    params = tied[0].params
    ours, theirs = lens
    checked = 0
    for name in theirs:
        if name.endswith("hook_normalized"):
            point = points.table(tied[0].config)[name.replace("hook_normalized", "hook_output")]
            weight, bias = point.weights
            assert relative(ours[name] * params[weight] + params[bias], theirs[name]) < 1e-4, name
            assert relative(ours[name], theirs[name]) > 1e-2, name  # so the two are not the same thing
            checked += 1
    assert checked == 2 * tied[0].config.n_layer + 1


# ---- The trace ----


def announced(log):
    return [(name, shape) for name, shape, _ in log]


def test_the_trace_has_the_names_and_shapes_of_the_table(case):
    model, expected = case
    B, T = expected["ids"].shape
    for ids, batch in ((expected["ids"], (B,)), (expected["ids"][0], ()), (expected["ids"][None, :, :3], (1, B))):
        log = nanogpt_np.ShapeLog()
        model(ids, trace=log)
        table = points.table(model.config)
        T = ids.shape[-1]
        assert announced(log) == [(name, (*batch, *point.shape(model.config, T))) for name, point in table.items()]


def test_with_a_cache_the_trace_has_the_shapes_of_the_table_for_new_tokens_and_all_tokens(case):
    model, expected = case
    for ids, batch in ((expected["ids"], expected["ids"].shape[:1]), (expected["ids"][0], ())):
        S = ids.shape[-1]
        T = S - 4
        cache, log = nanogpt_np.KVCache(model.config), nanogpt_np.ShapeLog()
        model(ids[..., :4], cache=cache)
        model(ids[..., 4:], cache=cache, trace=log)
        table = points.table(model.config)
        assert announced(log) == [(name, (*batch, *point.shape(model.config, T, S))) for name, point in table.items()]


def test_a_step_of_generation_announces_the_table_that_ends_in_the_next_token(case):
    model, expected = case
    ids = expected["ids"][0]
    log = nanogpt_np.ShapeLog()
    assert len(list(generate(model, ids, 2, stop=(), trace=log))) == 2
    table = points.table(model.config, points.NEXT_TOKEN)
    steps = [
        [(name, point.shape(model.config, *sizes)) for name, point in table.items()]
        for sizes in ((len(ids), len(ids)), (1, len(ids) + 1))
    ]
    assert announced(log) == steps[0] + steps[1]


def test_everything_on_the_way_is_float32(case):
    model, expected = case
    log = nanogpt_np.ShapeLog()
    model(expected["ids"], trace=log)
    assert {dtype for name, _, dtype in log if name not in points.WHOLE_NUMBERS} == {np.dtype(np.float32)}


# ---- Would these tests see a bug? ----
# A bug takes (model, monkeypatch) and returns what to call with ids instead of the model.


def config(**changes):
    """Read a config.json wrongly."""
    return lambda model, _: assembly.assemble(replace(model.config, **changes), model.params)


def params(change):
    """Replace each array by ``change(name, array)``, or keep it where that is None."""

    def bug(model, _):
        changed = {name: change(name, array) for name, array in model.params.items()}
        kept = {name: array if changed[name] is None else changed[name] for name, array in model.params.items()}
        assert any(new is not None for new in changed.values())  # the bug is really there
        return assembly.assemble(model.config, kept)

    return bug


def fill(suffix, value):
    return params(lambda name, a: np.full_like(a, value) if name.endswith(suffix) else None)


def thirds(*order):
    """Take the queries, keys and values that stand side by side in c_attn for one another."""
    return params(
        lambda name, a: np.concatenate([np.split(a, 3, -1)[i] for i in order], -1) if ".c_attn." in name else None
    )


def scale(factor):
    """Multiply the scale of attention by ``factor(config, block index)``."""

    def bug(model, _):
        scaled = [
            replace(block, attn=replace(block.attn, scale=block.attn.scale * factor(model.config, i)))
            for i, block in enumerate(model.h)
        ]
        return replace(model, h=tuple(scaled))

    return bug


def norms(kind):
    """Put another kind of norm in the place of every LayerNorm."""

    def swap(norm):
        return kind(norm.weight, norm.bias, norm.eps)

    def bug(model, _):
        blocks = tuple(replace(block, ln_1=swap(block.ln_1), ln_2=swap(block.ln_2)) for block in model.h)
        return replace(model, h=blocks, ln_f=swap(model.ln_f))

    return bug


def blocks(kind):
    return lambda model, _: replace(
        model, h=tuple(kind(block.ln_1, block.attn, block.ln_2, block.mlp) for block in model.h)
    )


def activation(function):
    def bug(model, monkeypatch):
        monkeypatch.setattr(mlp, "gelu", function)
        return model

    return bug


def traced(suffix, change):
    """Replace what is announced under names that end in `suffix` by ``change(x, acts)``."""

    def bug(model, _):
        def call(ids):
            acts = nanogpt_np.Recorder()

            def trace(name, x):
                acts[name.rpartition(".")[2]] = x  # of the present block
                return change(x, acts, model) if name.endswith(suffix) else x

            return model(ids, trace=trace)

        return call

    return bug


def unmasked(acts, model):
    q, k = (np.swapaxes(acts[name], -2, -3) for name in ("hook_q", "hook_k"))
    return q @ np.swapaxes(k, -1, -2) * np.float32(model.h[0].attn.scale)


def interleaved(x, *_):
    """Read the columns as (D, H) where they are (H, D)."""
    *rest, H, D = x.shape
    return np.swapaxes(x.reshape(*rest, D, H), -1, -2)


class EpsOutsideRoot(LayerNorm):
    def __call__(self, x, trace=no_trace):
        return (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + self.eps) * self.weight + self.bias


class UnbiasedVariance(LayerNorm):
    def __call__(self, x, trace=no_trace):
        variance = x.var(-1, ddof=1, keepdims=True)
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(variance + self.eps) * self.weight + self.bias


class NotCentred(LayerNorm):
    def __call__(self, x, trace=no_trace):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.weight + self.bias


class Skipped(LayerNorm):
    def __call__(self, x, trace=no_trace):
        return x


class PostNorm(Block):
    def __call__(self, x, remember=None, trace=no_trace):
        x = self.ln_1(x + self.attn(x))
        return self.ln_2(x + self.mlp(x))


class Parallel(Block):
    def __call__(self, x, remember=None, trace=no_trace):
        return x + self.attn(self.ln_1(x)) + self.mlp(self.ln_2(x))


class NoResidual(Block):
    def __call__(self, x, remember=None, trace=no_trace):
        x = self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class NormalisedResidual(Block):
    def __call__(self, x, remember=None, trace=no_trace):
        x = self.ln_1(x)
        x = x + self.attn(x)
        x = self.ln_2(x)
        return x + self.mlp(x)


def erf_gelu(x):
    return (0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))).astype(np.float32)


BUGS = {
    # Numbers of the config
    "eps is 1e-6": ("tied", config(layer_norm_epsilon=1e-6)),
    "eps is 1e-12": ("tied", config(layer_norm_epsilon=1e-12)),
    "eps is the default, not that of config.json": ("scaled", config(layer_norm_epsilon=1e-5)),
    "scale_attn_weights is not read": ("scaled", config(scale_attn_weights=True)),
    "scale_attn_by_inverse_layer_idx is not read": ("scaled", config(scale_attn_by_inverse_layer_idx=False)),
    "blocks are counted from 2": ("scaled", scale(lambda c, i: (i + 1) / (i + 2))),
    # Attention
    "scores are not scaled": ("tied", scale(lambda c, i: math.sqrt(c.head_width))),
    "scores are divided by sqrt(C)": ("tied", scale(lambda c, i: math.sqrt(c.head_width / c.n_embd))),
    "scores are divided by D": ("tied", scale(lambda c, i: 1 / math.sqrt(c.head_width))),
    "scores are divided by D in the last block": (
        "tied",
        scale(lambda c, i: 1 / math.sqrt(c.head_width) if i == 2 else 1),
    ),
    "there is no mask": ("tied", traced("hook_attn_scores", lambda x, acts, model: unmasked(acts, model))),
    "the mask hides the token itself": (
        "tied",
        traced("hook_attn_scores", lambda x, *_: np.where(np.eye(x.shape[-1]) * np.arange(x.shape[-1]), -math.inf, x)),
    ),
    "the mask lets the next token through": (
        "tied",
        traced(
            "hook_attn_scores",
            lambda x, acts, model: np.where(np.tri(x.shape[-1], k=1) > 0, unmasked(acts, model), -math.inf),
        ),
    ),
    "masked scores are 0": ("tied", traced("hook_attn_scores", lambda x, *_: np.where(np.isinf(x), 0, x))),
    "the mask comes after the softmax": (
        "tied",
        traced(
            "hook_pattern", lambda x, acts, model: softmax(unmasked(acts, model)) * np.tri(x.shape[-1], dtype=x.dtype)
        ),
    ),
    "the softmax runs over the queries": (
        "tied",
        traced("hook_pattern", lambda x, acts, _: softmax(acts["hook_attn_scores"].swapaxes(-1, -2)).swapaxes(-1, -2)),
    ),
    "attention is flat": (
        "tied",
        traced("hook_pattern", lambda x, *_: (x > 0) / np.arange(1, x.shape[-1] + 1, dtype=np.float32)[:, None]),
    ),
    "queries and keys are swapped": ("tied", thirds(1, 0, 2)),
    "keys and values are swapped": ("tied", thirds(0, 2, 1)),
    "queries and values are swapped": ("tied", thirds(2, 1, 0)),
    "heads are interleaved": ("tied", traced(("hook_q", "hook_k", "hook_v"), interleaved)),
    "heads of the values are interleaved": ("tied", traced("hook_v", interleaved)),
    "heads are merged without moving their axis back": (
        "tied",
        traced("hook_merged", lambda x, acts, _: np.swapaxes(acts["hook_z"], -2, -3).reshape(x.shape)),
    ),
    "heads are merged in reverse order": (
        "tied",
        traced("hook_merged", lambda x, acts, _: acts["hook_z"][..., ::-1, :].reshape(x.shape)),
    ),
    "attn.c_proj is transposed": ("tied", params(lambda name, a: a.T if name.endswith("attn.c_proj.weight") else None)),
    # The MLP
    "GELU is the exact one": ("tied", activation(erf_gelu)),
    "GELU is x sigmoid(1.702 x)": ("tied", activation(lambda x: x / (1 + np.exp(-1.702 * x)))),
    "GELU has 0.8 for sqrt(2/pi)": (
        "tied",
        activation(lambda x: 0.5 * x * (1 + np.tanh(0.8 * (x + 0.044715 * x * x * x)))),
    ),
    "GELU has no cubic term": ("tied", activation(lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * x)))),
    "the activation is ReLU": ("tied", activation(lambda x: np.maximum(x, 0))),
    # Norms and the residual stream
    "eps stands outside the root": ("tied", norms(EpsOutsideRoot)),
    "the variance divides by C - 1": ("tied", norms(UnbiasedVariance)),
    "the mean is not taken off": ("tied", norms(NotCentred)),
    "norms are skipped": ("tied", norms(Skipped)),
    "ln_f is skipped": ("tied", lambda model, _: replace(model, ln_f=Skipped(model.ln_f.weight, model.ln_f.bias))),
    "norms come after the sum": ("tied", blocks(PostNorm)),
    "attention and MLP read the same": ("tied", blocks(Parallel)),
    "attention replaces the residual stream": ("tied", blocks(NoResidual)),
    "the residual stream itself is normalised": ("tied", blocks(NormalisedResidual)),
    "ln_1 and ln_2 are swapped": (
        "tied",
        lambda model, _: replace(model, h=tuple(replace(b, ln_1=b.ln_2, ln_2=b.ln_1) for b in model.h)),
    ),
    "blocks run in reverse order": ("tied", lambda model, _: replace(model, h=model.h[::-1])),
    "the last block is left out": ("tied", lambda model, _: replace(model, h=model.h[:-1])),
    # Embeddings and the head
    "there are no positions": ("tied", fill("wpe.weight", 0)),
    "positions are counted from 1": (
        "tied",
        params(lambda name, a: np.roll(a, -1, 0) if name == "wpe.weight" else None),
    ),
    "the head is the token embedding though it is not tied": (
        "untied",
        lambda model, _: replace(model, lm_head=replace(model.lm_head, weight=model.embedding.wte_weight)),
    ),
    "tokens are looked up in the head though it is not tied": (
        "untied",
        lambda model, _: replace(model, embedding=replace(model.embedding, wte_weight=model.lm_head.weight)),
    ),
    # What a parameter that is read but not used would look like
    **{
        f"{suffix} is dropped": ("tied", fill(suffix, 0))
        for suffix in (
            "ln_1.bias",
            "ln_2.bias",
            "ln_f.bias",
            "c_attn.bias",
            "attn.c_proj.bias",
            "c_fc.bias",
            "mlp.c_proj.bias",
        )
    },
    **{f"{suffix} is dropped": ("tied", fill(suffix, 1)) for suffix in ("ln_1.weight", "ln_2.weight", "ln_f.weight")},
    "one bias of one block is dropped": ("tied", fill("h.2.mlp.c_proj.bias", 0)),
    "one gain of one block is dropped": ("tied", fill("h.2.ln_1.weight", 1)),
}


@pytest.mark.parametrize("bug", BUGS)
def test_the_comparison_with_the_goldens_sees_that(bug, monkeypatch):
    name, make = BUGS[bug]
    expected = read(name)
    wrong = make(nanogpt_np.load(GOLDENS / name), monkeypatch)
    assert distance(wrong(expected["ids"]), expected["logits"]) > 5 * ATOL


class NotAdvanced(nanogpt_np.KVCache):
    def advance(self, T):
        pass


class NothingKept(nanogpt_np.KVCache):
    def layer(self, i):
        return no_cache


class NewestFirst(nanogpt_np.KVCache):
    def _remember(self, i, k, v):
        return tuple(a[..., ::-1, :] for a in super()._remember(i, k, v))


class OneForAllBlocks(nanogpt_np.KVCache):
    def layer(self, i):
        return super().layer(0)


class OneTokenLate(nanogpt_np.KVCache):
    def advance(self, T):
        super().advance(T - (self.length == 0))


@pytest.mark.parametrize("kind", [NotAdvanced, NothingKept, NewestFirst, OneForAllBlocks, OneTokenLate])
def test_the_comparison_with_the_goldens_sees_a_wrong_cache(tied, kind):
    model, expected = tied
    cache = kind(model.config)
    parts = [model(ids, cache=cache) for ids in np.split(expected["ids"], [4, 5, 6], axis=1)]
    assert distance(np.concatenate(parts, axis=1), expected["logits"]) > 5 * ATOL


def test_the_comparison_in_float64_sees_two_digits_missing_in_gelu(tied, monkeypatch):
    model, expected = tied
    double = assembly.assemble(model.config, {name: a.astype(np.float64) for name, a in model.params.items()})
    monkeypatch.setattr(mlp, "gelu", lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.0447 * x**3))))
    # In float32 this would pass: it moves the logits by 7e-5.
    assert distance(double(expected["ids"]), expected["logits"]) > 100 * 2**-21
