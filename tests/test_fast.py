"""`fast(model)` matches the plain model: every length, batch, cache, trace and gradient."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from nanogpt_np.fast import FastGPT2, blas, fast, segments, tiles
from nanogpt_np.fast.last_row import LastRow, only_last_row
from nanogpt_np.fast.tiles import TiledAttention, TiledGELU
from nanogpt_np.interpret.recorder import Recorder
from nanogpt_np.model.attention import Attention
from nanogpt_np.model.cache import KVCache
from nanogpt_np.model.gpt2 import GPT2
from nanogpt_np.model.linear import Linear
from nanogpt_np.model.mlp import GELU, MLP
from nanogpt_np.names import points
from nanogpt_np.train.loss import cross_entropy, loss_and_grads

MODEL, MODEL64 = random_model(), random_model(dtype=np.float64)
CONFIG = MODEL.config
SAME, SAME32 = {"rtol": 1e-9, "atol": 1e-12}, {"rtol": 1e-4, "atol": 1e-5}


def shorten(monkeypatch):
    """Make every shortcut apply from two tokens on, as on a machine with two cores."""
    monkeypatch.setattr(tiles, "LONG", 1)
    monkeypatch.setattr(tiles, "QUERIES", 2)
    monkeypatch.setattr(tiles, "ELEMENTS", 7)
    monkeypatch.setattr(segments, "SMALLEST", 1)
    threads = [2]
    monkeypatch.setattr(blas, "threads", lambda: (lambda: threads[0], lambda n: threads.__setitem__(0, n)))


@pytest.fixture
def small_limits(monkeypatch):
    shorten(monkeypatch)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_call_matches_the_plain_model(data):
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        batch = data.draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
        T = data.draw(st.integers(1, CONFIG.n_positions))
        cut = data.draw(st.integers(0, T - 1))
        for model, tolerance in ((MODEL64, SAME), (MODEL, SAME32)):
            quick = fast(model)
            ids = np.random.default_rng(T).integers(CONFIG.vocab_size, size=(*batch, T))
            caches = [KVCache(CONFIG), KVCache(CONFIG)] if cut else [None, None]
            if cut:
                model(ids[..., :cut], cache=caches[0])
                quick(ids[..., :cut], cache=caches[1])
            method = data.draw(st.sampled_from(["__call__", "hidden", "last_row"]))
            expected = getattr(model, method)(ids[..., cut:], cache=caches[0])
            found = getattr(quick, method)(ids[..., cut:], cache=caches[1])
            np.testing.assert_allclose(found, expected, **tolerance)
            if cut:
                assert caches[0].length == caches[1].length == T
                for i in range(CONFIG.n_layer):
                    for ours, plain in zip(caches[1]._layers[i], caches[0]._layers[i], strict=True):
                        np.testing.assert_allclose(ours[..., :T, :], plain[..., :T, :], **tolerance)


@pytest.mark.parametrize("model", [MODEL, MODEL64], ids=["float32", "float64"])
@pytest.mark.parametrize("shape", [(1,), (9,), (2, 9)])
def test_a_trace_gets_every_value_of_the_plain_model_bit_for_bit(model, shape, small_limits):
    ids = np.random.default_rng(1).integers(CONFIG.vocab_size, size=shape)
    plain, quick = Recorder(), Recorder()
    for acts, run in ((plain, model), (quick, fast(model))):
        run(ids, trace=acts)
    assert list(plain) == list(quick) == list(points.table(CONFIG))
    assert all(plain[name].tobytes() == quick[name].tobytes() for name in plain)
    assert fast(model).last_row(ids, trace=Recorder()).shape == (*shape[:-1], CONFIG.n_embd)


def test_the_gradients_are_those_of_the_plain_model(small_limits):
    ids, targets = np.random.default_rng(2).integers(CONFIG.vocab_size, size=(2, 3, 9))
    d_out = np.random.default_rng(3).standard_normal((3, 9, CONFIG.n_embd))
    acts = Recorder()
    MODEL64.hidden(ids, trace=acts)
    plain, quick = MODEL64.backward(d_out, acts), fast(MODEL64).backward(d_out, acts)
    assert list(plain) == list(quick)
    for name in plain:
        np.testing.assert_allclose(quick[name], plain[name], **SAME)
    loss, _ = loss_and_grads(MODEL64, ids, targets)
    logits = MODEL64(ids).reshape(-1, CONFIG.vocab_size)
    assert loss == pytest.approx(cross_entropy(logits, targets.reshape(-1))[0] / targets.size, rel=1e-12)


def test_it_shares_the_arrays_and_leaves_the_model_unchanged():
    quick = fast(MODEL)
    assert isinstance(quick, FastGPT2) and fast(quick) is quick
    assert quick.config is MODEL.config and quick.tied == MODEL.tied
    assert list(quick.params) == list(MODEL.params)
    assert all(quick.params[name] is array for name, array in MODEL.params.items())
    assert all(type(block.attn) is TiledAttention and type(block.mlp.act) is TiledGELU for block in quick.h)
    assert all(type(block.attn) is Attention and type(block.mlp.act) is GELU for block in MODEL.h)


class Louder(Linear):
    """Somebody else's linear layer."""

    def __call__(self, x, trace=lambda name, x: x):
        return 2 * super().__call__(x)


class OwnAttention(Attention):
    pass


class OwnMLP(MLP):
    pass


class OwnModel(GPT2):
    pass


def test_custom_layers_are_kept():
    block = MODEL.h[1]
    own_attention = OwnAttention(**vars(block.attn))
    own_mlp = OwnMLP(**vars(block.mlp))
    model = replace(MODEL, h=(MODEL.h[0], replace(block, attn=own_attention, mlp=own_mlp), lambda x, *_: x))
    quick = fast(model)
    assert quick.h[1].attn is own_attention and quick.h[1].mlp is own_mlp and quick.h[2] is model.h[2]
    own = OwnModel(**vars(MODEL))
    assert fast(own) is own
    linear = replace(block.attn, c_attn=Louder(**vars(block.attn.c_attn)))
    louder = fast(replace(MODEL, h=(replace(block, attn=linear),)))
    assert type(louder.h[0].attn.c_attn) is Louder
    assert only_last_row(louder.h[0]) is louder.h[0]  # its keys and values are not plain columns of a matrix
    assert isinstance(only_last_row(fast(MODEL).h[0]), LastRow)


@pytest.mark.parametrize("T", [1, 2, 8])
def test_a_custom_linear_layer_is_used_everywhere(T, small_limits):
    """An adapter, packed weights: anything called like a Linear."""
    ids = np.random.default_rng(4).integers(CONFIG.vocab_size, size=T)
    expected = MODEL64.last_row(ids)
    for layer, name in (("attn", "c_attn"), ("attn", "c_proj"), ("mlp", "c_fc"), ("mlp", "c_proj")):
        for i in (0, CONFIG.n_layer - 1):
            block = MODEL64.h[i]
            own = replace(getattr(block, layer), **{name: Louder(**vars(getattr(getattr(block, layer), name)))})
            model = replace(MODEL64, h=(*MODEL64.h[:i], replace(block, **{layer: own}), *MODEL64.h[i + 1 :]))
            found = model.last_row(ids)
            np.testing.assert_allclose(fast(model).last_row(ids), found, **SAME)
            assert np.abs(found - expected).max() > 1e-3
