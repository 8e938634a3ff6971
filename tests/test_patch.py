"""Changed activations: what follows from them, composed with recording, generation and the cache."""

import numpy as np
import pytest
from helpers import random_model

from nanogpt_np import Recorder
from nanogpt_np.generate.loop import generate
from nanogpt_np.interpret.patch import Patch, ablate_attention, ablate_head, ablate_mlp, steer, sweep, transplant
from nanogpt_np.model.cache import KVCache
from nanogpt_np.model.trace import chain
from nanogpt_np.names import points
from nanogpt_np.train.loss import loss_and_grads

MODEL = random_model()
CONFIG = MODEL.config
TABLE = points.table(CONFIG)
A, B = np.array([3, 1, 41, 59, 26, 5, 53]), np.array([58, 9, 79, 3, 23, 84, 2])  # T = 7
# Between two runs that do the same sums: measured 0. The logits of A and B differ by 10.
SAME = {"rtol": 0, "atol": 1e-6}
VECTOR = np.linspace(-1, 2, 30, dtype=np.float32)  # LayerNorm takes out what is the same in all columns
RESIDUALS = [name for name in TABLE if "hook_resid" in name]


def record(ids, trace=None, **options):
    acts = Recorder()
    MODEL(ids, trace=acts if trace is None else chain(trace, acts), **options)
    return acts


ACTS_B = record(B)


@pytest.mark.parametrize("name", RESIDUALS)
def test_a_residual_of_another_run_at_every_position_gives_the_logits_of_that_run(name):
    for trace in (transplant(name, ACTS_B), Patch({name: ACTS_B[name]})):
        np.testing.assert_allclose(MODEL(A, trace=trace), MODEL(B), **SAME)
    assert abs(MODEL(A) - MODEL(B)).max() > 1


def test_a_residual_of_another_run_at_one_position_changes_that_and_later_ones_only():
    changed = MODEL(A, trace=transplant("blocks.1.hook_resid_pre", ACTS_B, position=3))
    clean = MODEL(A)
    np.testing.assert_array_equal(changed[:3], clean[:3])
    assert (abs(changed - clean).max(axis=-1)[3:] > 1e-3).all()


def test_every_point_can_be_transplanted_and_of_one_head_nothing_else_changes():
    moved = 0
    for name, point in TABLE.items():
        if name in points.WHOLE_NUMBERS:
            continue
        acts = record(A, transplant(name, ACTS_B, position=5))
        axis = point.axes.split().index("T")
        kept = np.delete(acts[name], 5, axis)
        np.testing.assert_array_equal(np.take(acts[name], 5, axis), np.take(ACTS_B[name], 5, axis))
        np.testing.assert_array_equal(kept, np.delete(record(A)[name], 5, axis))
        if "H" in point.axes.split():
            acts = record(A, transplant(name, ACTS_B, head=2))
            heads = point.axes.split().index("H")
            np.testing.assert_array_equal(np.take(acts[name], 2, heads), np.take(ACTS_B[name], 2, heads))
            np.testing.assert_array_equal(np.delete(acts[name], 2, heads), np.delete(record(A)[name], 2, heads))
            moved += 1
    assert moved == 6 * CONFIG.n_layer


def test_a_sweep_holds_what_each_single_transplant_gives():
    told = []
    found = sweep(MODEL, A, ACTS_B, RESIDUALS[:4], lambda logits: logits[11], report=lambda *n: told.append(n))
    assert told == [(n + 1, 4 * len(A)) for n in range(4 * len(A))]
    assert found.shape == (4, len(A))
    for i, name in enumerate(RESIDUALS[:4]):
        for position in range(len(A)):
            assert found[i, position] == MODEL(A, trace=transplant(name, ACTS_B, position=position))[-1, 11]
    # Of the last residual only the last position is read.
    last = sweep(MODEL, A, ACTS_B, RESIDUALS[-1:], lambda logits: logits[11])[0]
    np.testing.assert_allclose(last, [*[MODEL(A)[-1, 11]] * 6, MODEL(B)[-1, 11]], rtol=0, atol=1e-6)


def test_a_head_that_is_ablated_adds_nothing():
    z, out = "blocks.1.attn.hook_z", "blocks.1.hook_attn_out"
    clean, acts = record(A), record(A, ablate_head(1, 3))
    D = CONFIG.head_width
    part = clean[z][:, 3] @ MODEL.params["h.1.attn.c_proj.weight"][3 * D : 4 * D]
    assert not acts[z][:, 3].any() and acts[z][:, 2].any()
    np.testing.assert_allclose(acts[out], clean[out] - part, rtol=0, atol=1e-5)
    assert abs(part).max() > 0.1
    mean = clean[z][:, 3].mean(axis=0)
    np.testing.assert_array_equal(record(A, ablate_head(1, 3, mean))[z][:, 3], np.tile(mean, (7, 1)))


def test_a_layer_that_is_ablated_leaves_the_stream_as_it_was():
    acts = record(A, chain(ablate_attention(0), ablate_mlp(2)))
    np.testing.assert_array_equal(acts["blocks.0.hook_resid_mid"], acts["blocks.0.hook_resid_pre"])
    np.testing.assert_array_equal(acts["blocks.2.hook_resid_post"], acts["blocks.2.hook_resid_mid"])
    assert (acts["blocks.0.hook_resid_post"] != acts["blocks.0.hook_resid_mid"]).any()


def test_steering_adds_the_vector_where_it_is_told_to():
    name, vector = "blocks.1.hook_resid_pre", np.arange(30, dtype=np.float32)
    clean = record(A)[name]
    np.testing.assert_array_equal(record(A, steer(name, vector))[name], clean + vector)
    expected = clean.copy()
    expected[2] += vector
    np.testing.assert_array_equal(record(A, steer(name, vector, position=2))[name], expected)


def test_the_order_in_a_chain_decides_what_is_recorded():
    name = "blocks.0.mlp.hook_post"
    before, after = Recorder(), Recorder()
    MODEL(A, trace=chain(before, Patch({name: lambda x: 2 * x}), after))
    np.testing.assert_array_equal(after[name], 2 * before[name])
    np.testing.assert_array_equal(before[name], record(A)[name])
    assert (after["hook_logits"] == before["hook_logits"]).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: transplant("blocks.1.hook_resid_mid", ACTS_B, position=4),
        lambda: transplant("blocks.2.attn.hook_v", ACTS_B),
        lambda: transplant("blocks.1.attn.hook_pattern", ACTS_B, position=5),
        lambda: transplant("blocks.1.attn.hook_attn_scores", record(B[:5]), head=1),
        lambda: transplant("blocks.0.attn.hook_k", ACTS_B, head=4, position=0),
        lambda: steer("blocks.1.hook_resid_pre", VECTOR, position=9),
        lambda: steer("blocks.1.hook_resid_pre", VECTOR),
        lambda: ablate_head(2, 0),
        lambda: Patch({"blocks.*.attn.hook_q": lambda q: -q}),
    ],
    ids=["row", "values", "pattern", "scores", "key of a head", "steer one", "steer all", "head", "all queries"],
)
def test_a_patch_means_the_same_with_and_without_the_cache(make):
    options = {"stop": (), "temperature": 0.0}
    cached, plain = Recorder(), Recorder()
    with_cache = list(generate(MODEL, A, 9, use_cache=True, trace=chain(make(), cached), **options))
    without = list(generate(MODEL, A, 9, use_cache=False, trace=chain(make(), plain), **options))
    assert with_cache == without
    np.testing.assert_allclose(cached["hook_next_logits"], plain["hook_next_logits"], rtol=0, atol=5e-5)
    clean = Recorder()
    list(generate(MODEL, A, 9, trace=clean, **options))
    assert abs(cached["hook_next_logits"] - clean["hook_next_logits"]).max() > 1e-3  # so the patch did something


def test_a_patch_goes_through_a_batch():
    acts = Recorder()
    MODEL(np.stack([A, B, A]), trace=chain(transplant("blocks.1.hook_resid_pre", ACTS_B), acts))
    for logits in acts["hook_logits"]:
        np.testing.assert_allclose(logits, MODEL(B), rtol=0, atol=5e-5)


def test_an_edit_that_writes_into_its_array_changes_no_other_run():
    cache, before = KVCache(CONFIG), Recorder()

    def zeroed(x):
        x[:] = 0
        return x

    MODEL(A, cache=cache, trace=chain(before, Patch({"blocks.0.attn.hook_pattern": zeroed})))
    np.testing.assert_array_equal(before["blocks.0.attn.hook_pattern"], record(A)["blocks.0.attn.hook_pattern"])


OTHER_MODEL = Recorder()
random_model(dtype=np.float64)(B, trace=OTHER_MODEL)


def none(x):
    x[:] = 0


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        (
            {"blocks.1.attn.hook_patern": none},
            ["blocks.1.attn.hook_patern", "did you mean", "blocks.1.attn.hook_pattern"],
        ),
        ({"blocks.3.hook_resid_pre": np.negative}, ["blocks.3.hook_resid_pre", "no trace point"]),
        ({"blocks.*.hook_residual": np.negative}, ["blocks.*.hook_residual", "no trace point"]),
        ({"blocks.1.hook_resid_pre": 0.0}, ["blocks.1.hook_resid_pre", "array", "0.0"]),
        ({"blocks.1.hook_resid_pre": none}, ["blocks.1.hook_resid_pre", "NoneType", "[7, 30]"]),
        (
            {"blocks.1.hook_resid_pre": lambda x: x[:5]},
            ["shape [5, 30]", "expected float32 of shape [7, 30]", "column"],
        ),
        ({"blocks.1.attn.hook_pattern": np.zeros((5, 7, 6), np.float32)}, ["[5, 7, 6]", "[5, 7, 7]", "head query key"]),
        ({"blocks.1.hook_resid_pre": lambda x: x * np.float64(2)}, ["float64", "expected float32"]),
        ({"hook_tokens": lambda x: x.astype(np.int32)}, ["int32", "expected int64"]),
        ({"hook_tokens": lambda x: x + 90}, ["out of range"]),
        ({"hook_positions": lambda x: x - 7}, ["positions", "0 to 22"]),
        ({"hook_positions": lambda x: x + 20}, ["positions", "0 to 22"]),
        ({"hook_next_logits": np.negative}, ["patch hook_logits"]),
        ({"hook_probabilities": np.negative}, ["patch hook_next_logits"]),
    ],
)
def test_a_patch_that_cannot_be_meant_is_refused_with_what_was_expected(edits, words):
    with pytest.raises(ValueError) as error:
        MODEL(A, trace=Patch(edits))
    for word in words:
        assert word in str(error.value), (word, str(error.value))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ablate_head(1, 5), ["no head 5", "0 to 4"]),
        (lambda: ablate_head(1, -1), ["no head -1"]),
        (lambda: ablate_mlp(3), ["blocks.3.hook_mlp_out"]),
        (lambda: steer("blocks.0.attn.hook_z", np.zeros(30, np.float32)), ["T H D"]),
        (lambda: steer("blocks.0.hook_attn_out", VECTOR[:5]), ["[5]", "[30]"]),
        (lambda: transplant("hook_tokens", ACTS_B), ["change the prompt"]),
        (lambda: transplant("hook_next_logits", ACTS_B), ["not a vector per token"]),
        (lambda: transplant("blocks.0.hook_mlp_out", ACTS_B, head=1), ["no heads"]),
        (lambda: transplant("blocks.0.attn.hook_z", ACTS_B, head=5), ["no head 5"]),
        (lambda: transplant("blocks.0.attn.hook_z", {}), ["not recorded blocks.0.attn.hook_z"]),
        (lambda: transplant("blocks.0.attn.hook_z", ACTS_B, position=7), ["no position 7", "6"]),
        (lambda: transplant("blocks.0.attn.hook_z", OTHER_MODEL), ["float64", "[7, 5, 6]", "float32"]),
        (lambda: steer("blocks.0.hook_attn_out", VECTOR, position=-1), ["position", "-1"]),
        (lambda: steer("blocks.0.hook_attn_out", VECTOR * 1j), ["complex"]),
        (lambda: ablate_head(1, 1, np.zeros(7)), ["[7]", "[6]"]),
        (lambda: ablate_head(1, 1.5), ["no head 1.5"]),
        (lambda: ablate_mlp(1, position=1.5), ["position", "1.5"]),
        (lambda: transplant("blocks.0.hook_mlp_out", record(np.stack([B, B]))), ["without a batch"]),
    ],
)
def test_an_edit_that_cannot_be_meant_is_refused_with_what_was_expected(make, words):
    with pytest.raises(ValueError) as error:
        MODEL(A, trace=make())
    for word in words:
        assert word in str(error.value), (word, str(error.value))


def test_an_edit_of_all_logits_is_refused_where_only_the_last_row_is_scored():
    with pytest.raises(ValueError, match="patch hook_next_logits"):
        list(generate(MODEL, A, 1, trace=Patch({"hook_logits": np.negative})))


def test_a_patch_changes_gradients_as_it_changes_activations():
    clean, patched = Recorder(), Recorder()
    name, targets = "blocks.1.hook_resid_post", np.roll(A, -1)
    loss_and_grads(MODEL, A, targets, grad_trace=clean)
    _, grads = loss_and_grads(MODEL, A, targets, grad_trace=chain(Patch({name: np.zeros_like}), patched))
    assert not patched[name].any() and clean[name].any()
    assert not grads["wpe.weight"].any() and grads["h.2.mlp.c_fc.weight"].any()


def test_what_a_patched_position_reads_gets_its_gradient():
    def shifted(x):
        return x + 5

    _, grads = loss_and_grads(MODEL, A, np.roll(A, -1), trace=Patch({"hook_positions": shifted}))
    assert grads["wpe.weight"][5:12].any(axis=-1).all() and not grads["wpe.weight"][:5].any()


def test_a_transplant_of_reversed_positions_goes_to_the_place_in_the_text():
    def backwards(x):
        return x[::-1].copy()

    name = "blocks.1.hook_resid_pre"
    acts = Recorder()
    MODEL(A, trace=chain(Patch({"hook_positions": backwards}), transplant(name, ACTS_B, position=0), acts))
    np.testing.assert_array_equal(acts[name][6], ACTS_B[name][0])


def test_a_transplant_keeps_what_it_was_given_when_the_recorder_goes_on():
    acts = record(B)
    moved = transplant("blocks.1.hook_resid_pre", acts)
    MODEL(A[:3], trace=chain(moved, acts))
    np.testing.assert_array_equal(acts["blocks.1.hook_resid_pre"], ACTS_B["blocks.1.hook_resid_pre"][:3])
    assert len(acts["hook_positions"]) == 3


@pytest.mark.parametrize(
    ("ids", "names", "measure"),
    [(A[:5], RESIDUALS[:1], lambda logits: logits[1]), ([A, B], RESIDUALS[:1], lambda logits: logits[1])],
)
def test_a_sweep_wants_as_many_tokens_as_the_other_run_has(ids, names, measure):
    with pytest.raises(ValueError, match="7 tokens"):
        sweep(MODEL, ids, ACTS_B, names, measure)


def test_an_ablation_of_one_position_leaves_the_others():
    name = "blocks.1.hook_mlp_out"
    acts = record(A, ablate_mlp(1, position=2))
    assert not acts[name][2].any()
    np.testing.assert_array_equal(np.delete(acts[name], 2, 0), np.delete(record(A)[name], 2, 0))
