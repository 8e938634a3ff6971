"""Linear layers, and attention with heads of any width: forward by definition, backward by differences."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import random_model

from nanogpt_np.fast.tiles import TiledAttention
from nanogpt_np.interpret.recorder import Recorder
from nanogpt_np.model.attention import Attention
from nanogpt_np.model.cache import KVCache
from nanogpt_np.model.linear import Linear
from nanogpt_np.model.trace import Tape, no_trace
from nanogpt_np.names import points

C, H = 6, 3
WIDTHS = [(2, 2), (4, 4), (1, 5), (5, 1)]  # of queries and keys, of values; H times either need not be C


def linear(rng, n_in, n_out):
    return Linear(rng.standard_normal((n_in, n_out)), rng.standard_normal(n_out))


def attention(d_qk, d_v, kind=Attention):
    rng = np.random.default_rng(d_qk)
    return kind(linear(rng, C, H * (2 * d_qk + d_v)), linear(rng, H * d_v, C), H, d_qk, 0.4)


def by_definition(layer, x):
    """Attention of one prompt (T, C), one head, one query and one key at a time."""
    D = layer.head_width
    qkv = [row @ layer.c_attn.weight + layer.c_attn.bias for row in x]
    d_v = (len(qkv[0]) - 2 * H * D) // H
    out = []
    for t in range(len(x)):
        merged = []
        for h in range(H):
            q = qkv[t][h * D : (h + 1) * D]
            keys = [row[H * D + h * D : H * D + (h + 1) * D] for row in qkv[: t + 1]]
            values = [row[2 * H * D + h * d_v : 2 * H * D + (h + 1) * d_v] for row in qkv[: t + 1]]
            weights = np.exp([layer.scale * float(q @ key) for key in keys])
            merged.extend(sum(w * v for w, v in zip(weights / weights.sum(), values, strict=True)))
        out.append(np.array(merged) @ layer.c_proj.weight + layer.c_proj.bias)
    return np.array(out)


def slopes(f, x):
    """Return the gradient of the number f(x) with respect to `x`, by four-point central differences."""
    found, h = np.empty_like(x), 1e-4
    for at in np.ndindex(x.shape):

        def moved(amount, at=at):
            other = x.copy()
            other[at] += amount
            return f(other)

        found[at] = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h)
    return found


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
def test_a_linear_layer_and_its_gradients_match_their_definitions(shape):
    rng = np.random.default_rng(0)
    layer, x, d_out = linear(rng, 4, 5), rng.standard_normal(shape), rng.standard_normal((*shape[:-1], 5))
    expected = np.einsum("...i,io->...o", x, layer.weight) + layer.bias
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12)
    d_x, grads = layer.backward(d_out, x)
    assert list(grads) == ["weight", "bias"]
    np.testing.assert_allclose(d_x, slopes(lambda x: float((d_out * layer(x)).sum()), x), rtol=1e-7, atol=1e-9)
    for name, d in grads.items():
        measured = slopes(lambda a, n=name: float((d_out * replace(layer, **{n: a})(x)).sum()), getattr(layer, name))
        np.testing.assert_allclose(d, measured, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", [Attention, TiledAttention])
@pytest.mark.parametrize("widths", WIDTHS)
def test_heads_may_have_any_width(widths, kind):
    layer, x = attention(*widths, kind=kind), np.random.default_rng(1).standard_normal((5, C))
    np.testing.assert_allclose(layer(x), by_definition(layer, x), rtol=1e-10)
    acts = Recorder()
    np.testing.assert_allclose(layer(np.stack([x, x[::-1]]), trace=acts)[1], by_definition(layer, x[::-1]), rtol=1e-10)
    d_qk, d_v = widths
    assert acts["hook_q"].shape == acts["hook_k"].shape == (2, 5, H, d_qk)
    assert acts["hook_v"].shape == acts["hook_z"].shape == (2, 5, H, d_v)
    assert acts["hook_merged"].shape == (2, 5, H * d_v)


@pytest.mark.parametrize("widths", WIDTHS)
def test_gradients_are_right_for_heads_of_any_width(widths):
    layer, rng = attention(*widths), np.random.default_rng(2)
    x, d_out, tape = rng.standard_normal((2, 4, C)), rng.standard_normal((2, 4, C)), Tape()
    layer(x, trace=tape)
    d_x, grads = layer.backward(d_out, x, tape.__getitem__)
    measured = slopes(lambda x: float((d_out * layer(x)).sum()), x)
    np.testing.assert_allclose(d_x, measured, rtol=1e-6, atol=1e-6 * np.abs(measured).max())
    for name, d in grads.items():
        part, field = name.split(".")

        def total(array, part=part, field=field):
            return float((d_out * replace(layer, **{part: replace(getattr(layer, part), **{field: array})})(x)).sum())

        measured = slopes(total, getattr(getattr(layer, part), field))
        np.testing.assert_allclose(d, measured, rtol=1e-6, atol=1e-6 * np.abs(measured).max())


@pytest.mark.parametrize("widths", WIDTHS)
def test_a_cache_holds_keys_and_values_of_any_width(widths):
    model = random_model(dtype=np.float64, n_embd=C, n_head=H)
    model = replace(model, h=tuple(replace(block, attn=attention(*widths)) for block in model.h))
    ids = np.arange(9) % model.config.vocab_size
    cache = KVCache(model.config)
    parts = [model(ids[a:b], cache=cache) for a, b in ((0, 4), (4, 5), (5, 9))]
    np.testing.assert_allclose(np.concatenate(parts), model(ids), rtol=1e-9, atol=1e-12)
    assert cache.nbytes == model.config.n_layer * 9 * H * sum(widths) * 8


class Announcing(Linear):
    """A linear layer that announces its output, as an adapter would."""

    def __call__(self, x, trace=no_trace):
        return trace("hook_out", super().__call__(x))

    def backward(self, d_out, x, tape=None, trace=no_trace):
        assert tape("hook_out").shape == d_out.shape
        return super().backward(trace("hook_out", d_out), x, tape, trace)


def test_a_linear_layer_may_announce_its_own_points_under_its_name():
    model = random_model(dtype=np.float64)

    def announcing(layer, *names):
        return replace(layer, **{name: Announcing(**vars(getattr(layer, name))) for name in names})

    def in_block(block):
        attn, mlp = announcing(block.attn, "c_attn", "c_proj"), announcing(block.mlp, "c_fc", "c_proj")
        return replace(block, attn=attn, mlp=mlp)

    own = replace(model, h=tuple(map(in_block, model.h)))
    acts, plain, told = Tape(), Tape(), Tape()
    own.hidden(np.arange(5), trace=acts)
    x = model.hidden(np.arange(5), trace=plain)
    new = [name for name in acts if name not in plain]
    places = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert new == [f"blocks.{i}.{place}.hook_out" for i in range(model.config.n_layer) for place in places]
    assert [name for name in acts if name in plain] == [name for name in points.table(model.config) if name in plain]
    assert all(acts[name].tobytes() == plain[name].tobytes() for name in plain)
    assert list(own.params) == list(model.params)
    grads = own.backward(x, acts, told)
    assert {name for name in told if name.endswith("hook_out")} == set(new)
    for name, expected in model.backward(x, plain).items():
        assert grads[name].tobytes() == expected.tobytes(), name


def test_the_attribute_path_of_an_array_is_its_name():
    model = random_model()
    for i, block in enumerate(model.h):
        for name, array in model.params.items():
            if name.startswith(f"h.{i}."):
                found = block
                for step in name.split(".")[2:]:
                    found = getattr(found, step)
                assert found is array
