"""Every backward pass against central differences in float64, and the loss against its definition."""

import math

import numpy as np
import pytest
from helpers import random_model

from nanogpt_np import Recorder
from nanogpt_np.generate.loop import next_logits
from nanogpt_np.names import points
from nanogpt_np.train.loss import AT_ONCE, IGNORED, IN_CACHE, cross_entropy, loss_and_grads, mean_loss
from nanogpt_np.train.shared_rows import SharedRows
from nanogpt_np.weights import assembly


def slope(f):
    """The derivative of f at 0 by central differences of four points.

    With two points the error is h^2 times the third derivative, which is large where a LayerNorm
    divides by the tiny variance of the quiet token; with four it is of order h^4.
    """
    h = 2e-5
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


@pytest.fixture(params=["tied", "untied"])
def model(request):
    return random_model(4, dtype=np.float64, tie_word_embeddings=request.param == "tied")


@pytest.fixture
def batch():
    """Ids and targets of 4 prompts of 7 tokens (a token twice, a target twice), three of them ignored."""
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, 97, (2, 4, 7))
    ids[2, 3] = ids[2, 5]
    targets[0, 2] = targets[3, 0] = targets[3, 6] = IGNORED
    return ids, targets


def plain_loss(model, ids, targets):
    """The mean of -log softmax(logits)[target], one token at a time."""
    losses = []
    for row, wanted in zip(model(ids), targets, strict=True):
        for logits, target in zip(row, wanted, strict=True):
            if target != IGNORED:
                p = np.exp(logits - logits.max())
                losses.append(-math.log(p[target] / p.sum()))
    return sum(losses) / len(losses)


def test_the_loss_is_the_mean_negative_log_probability_of_the_targets_that_count(model, batch):
    expected = plain_loss(model, *batch)
    assert loss_and_grads(model, *batch)[0] == pytest.approx(expected, rel=1e-12)
    assert mean_loss(model, *batch) == pytest.approx(expected, rel=1e-12)


def test_every_parameters_gradient_equals_central_differences(model, batch):
    _, grads = loss_and_grads(model, *batch)
    values = {name: array.copy() for name, array in model.params.items()}
    assert grads.keys() == values.keys()
    moved = assembly.assemble(model.config, values)  # shares the arrays of `values`
    rng = np.random.default_rng(1)
    for name, array in values.items():
        assert grads[name].shape == array.shape
        direction = rng.standard_normal(array.shape)  # all entries at once ...
        one = np.zeros(array.shape)  # ... and one of those with the largest gradients
        one.flat[rng.choice(np.argsort(-np.abs(grads[name]), axis=None)[:5])] = 1
        for change in (direction, one):
            before = array.copy()

            def moved_by(amount, array=array, before=before, change=change):
                array[...] = before + amount * change
                return mean_loss(moved, *batch)

            numeric, exact = slope(moved_by), float((grads[name] * change).sum())
            array[...] = before
            size = np.linalg.norm(grads[name]) * np.linalg.norm(change)
            assert abs(numeric - exact) <= 1e-6 * max(abs(exact), 1e-3 * size), name


def test_every_activations_gradient_equals_central_differences(model, batch):
    seen = Recorder()
    loss_and_grads(model, *batch, grad_trace=seen)
    names = [name for name in points.table(model.config) if name not in points.WHOLE_NUMBERS]
    assert list(seen) == names[::-1]  # last to first
    forward = Recorder()
    model(batch[0], trace=forward)
    rng = np.random.default_rng(2)
    for name in names:
        # hook_attn_scores of later tokens are -inf: nothing to move there.
        change = np.where(np.isfinite(forward[name]), rng.standard_normal(forward[name].shape), 0)

        def pushed(amount, name=name, change=change):
            def patch(point, x):
                return x + amount * change if point == name else x

            logits = model(batch[0], trace=patch)
            total, _ = cross_entropy(logits.reshape(-1, logits.shape[-1]), batch[1].reshape(-1))
            return total / (batch[1] != IGNORED).sum()

        numeric = slope(pushed)
        exact = float((seen[name] * change).sum())
        size = np.linalg.norm(seen[name]) * np.linalg.norm(change)
        assert abs(numeric - exact) <= 1e-6 * max(abs(exact), 1e-3 * size), name


def test_an_ignored_target_changes_neither_loss_nor_gradient(model, batch):
    ids, targets = batch
    loss, grads = loss_and_grads(model, ids, targets)
    longer = np.concatenate([ids, ids[:1]]), np.concatenate([targets, np.full((1, 7), IGNORED)])
    again, same = loss_and_grads(model, *longer)
    assert again == pytest.approx(loss, rel=1e-12)
    for name in grads:
        np.testing.assert_allclose(same[name], grads[name], rtol=1e-9, atol=1e-12)


def test_a_batch_that_is_scored_in_parts_gives_what_the_whole_gives(model, batch, monkeypatch):
    whole = loss_and_grads(model, *batch)
    assert min(IN_CACHE, AT_ONCE) > 28 * 97  # the whole batch is one part
    monkeypatch.setattr("nanogpt_np.train.loss.AT_ONCE", 9 * 97)
    monkeypatch.setattr("nanogpt_np.train.loss.IN_CACHE", 4 * 97)
    parts = loss_and_grads(model, *batch)
    assert parts[0] == pytest.approx(whole[0], rel=1e-12)
    for name in whole[1]:
        np.testing.assert_allclose(parts[1][name], whole[1][name], rtol=1e-9, atol=1e-12)


def test_float32_gradients_are_float32_and_close_to_float64(batch):
    wide, narrow = (random_model(4, dtype=dtype) for dtype in (np.float64, np.float32))
    _, exact = loss_and_grads(wide, *batch)
    _, rounded = loss_and_grads(narrow, *batch)
    for name in exact:
        assert rounded[name].dtype == np.float32
        # Measured: up to 5e-6, in ln_1 of block 0, which divides by the quiet token's small variance.
        assert np.linalg.norm(rounded[name] - exact[name]) <= 2e-5 * np.linalg.norm(exact[name]), name


def test_a_probability_too_small_for_the_dtype_still_has_its_loss():
    logits = np.array([[0, 1000]], np.float32)
    loss, d = cross_entropy(logits, np.array([0]))
    assert loss == 1000
    np.testing.assert_array_equal(d, [[-1, 1]])


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (np.zeros((2, 3), int), "ids' shape"),
        (np.zeros((4, 7)), "must be integers"),
        (np.full((4, 7), IGNORED), "nothing to learn from"),
        (np.full((4, 7), 97), "from 0 to 96"),
        (np.full((4, 7), -1), "from 0 to 96"),
    ],
)
def test_bad_targets_are_refused(model, batch, targets, words):
    with pytest.raises(ValueError, match=words):
        loss_and_grads(model, batch[0], targets)


def test_one_shared_row_for_unseen_tokens_gives_the_exact_softmax_over_the_whole_vocabulary(batch):
    ids, targets = batch
    rows = SharedRows(np.unique([*ids.flat, *targets[targets != IGNORED]]), full=97)
    small = random_model(5, dtype=np.float64, vocab_size=rows.size)
    config, params = rows.expand(small.config, small.params)
    whole = assembly.assemble(config, params)
    compact = rows.encode(ids), rows.encode(targets)
    np.testing.assert_array_equal(rows.used[compact[0]], ids)
    loss, grads = loss_and_grads(small, *compact, offset=rows.offset.astype(np.float64))
    # The offset is stored in float32, so log(n) is off by up to 1e-7.
    assert loss == pytest.approx(mean_loss(whole, ids, targets), rel=1e-7)
    _, whole_grads = loss_and_grads(whole, ids, targets)
    unseen = np.setdiff1d(np.arange(97), rows.used)
    np.testing.assert_allclose(grads["wte.weight"][-1], whole_grads["wte.weight"][unseen].sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(grads["wte.weight"][:-1], whole_grads["wte.weight"][rows.used], rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(next_logits(whole, ids[0])[rows.used], next_logits(small, compact[0][0])[:-1], rtol=1e-9)


@pytest.mark.parametrize(
    "name", ["hook_logits", "blocks.1.hook_resid_mid", "blocks.2.attn.hook_k", "ln_final.hook_scale"]
)
def test_what_the_gradient_trace_gives_back_is_what_flows_on(model, batch, name):
    def doubled(point, d):
        return 2 * d if point == name else d

    def stopped(point, d):
        return 0 * d if point == name else d

    _, grads = loss_and_grads(model, *batch)
    _, none = loss_and_grads(model, *batch, grad_trace=stopped)
    _, twice = loss_and_grads(model, *batch, grad_trace=doubled)
    first = "h.0.mlp.c_proj.weight"  # every path from it to the loss is either through the point or around it
    assert not np.allclose(none[first], grads[first])
    np.testing.assert_allclose(twice[first] - grads[first], grads[first] - none[first], rtol=1e-6, atol=1e-12)
    if name == "hook_logits":
        assert not none[first].any()


def test_the_forward_trace_of_a_gradient_can_change_an_activation(model, batch):
    def ablate(name, x):
        return 0 * x if name == "blocks.1.hook_attn_out" else x

    loss, _ = loss_and_grads(model, *batch, trace=ablate)
    assert loss != loss_and_grads(model, *batch)[0]
    assert loss == pytest.approx(
        cross_entropy(model(batch[0], trace=ablate).reshape(-1, 97), batch[1].reshape(-1))[0] / 25, rel=1e-12
    )
