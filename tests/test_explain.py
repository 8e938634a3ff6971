"""Every number of a pass can be derived, and a derivation that does not hold is said."""

import json
import math

import numpy as np
import pytest
from helpers import random_model

import nanogpt_np
from nanogpt_np import Recorder
from nanogpt_np.__main__ import main
from nanogpt_np.generate.loop import generate
from nanogpt_np.interpret.derivations import KINDS
from nanogpt_np.interpret.explain import explain, trail
from nanogpt_np.interpret.patch import Patch
from nanogpt_np.model.cache import KVCache
from nanogpt_np.model.trace import chain
from nanogpt_np.names import points
from nanogpt_np.weights import assembly

PROMPT = [3, 1, 41, 59, 26, 1, 53, 9, 2, 60, 11]  # T = 11
CHANGES = [{}, {"tie_word_embeddings": False, "scale_attn_by_inverse_layer_idx": True, "layer_norm_epsilon": 1e-3}]


def recorded(model, trace=None):
    """Every trace point there is: of a whole pass with logits, and of a step of generation."""
    whole, step = Recorder(), Recorder()
    traces = [acts if trace is None else chain(trace, acts) for acts in (whole, step)]
    model(PROMPT, trace=traces[0])
    list(generate(model, PROMPT, 1, stop=(), trace=traces[1]))
    return {**whole, **step}


def random_numbers(acts, n, seed=0):
    rng = np.random.default_rng(seed)
    names = list(acts)
    for _ in range(n):
        name = names[rng.integers(len(names))]
        yield name, tuple(int(rng.integers(size)) for size in acts[name].shape)


@pytest.fixture(scope="module", params=CHANGES, ids=["tied", "untied"])
def changes(request):
    return request.param


@pytest.fixture(scope="module")
def double(changes):
    model = random_model(dtype=np.float64, **changes)
    return model, recorded(model)


def test_in_float64_2000_numbers_are_what_their_derivations_say(double):
    model, acts = double
    kinds = set()
    for name, index in random_numbers(acts, 2000):
        found = explain(acts, model, name, index)
        kinds.add(points.BLOCK_NUMBER.sub("", name))
        assert found.error < 1e-10, found  # measured: 2e-12, where the two halves of gelu(-4.4) cancel
    assert kinds == set(KINDS)


def test_in_float32_2000_numbers_differ_from_their_derivations_by_rounding(changes):
    model = random_model(**changes)
    acts, errors = recorded(model), []
    for name, index in random_numbers(acts, 2000):
        found = explain(acts, model, name, index)
        # Terms that cancel leave fewer digits: of the sum of their sizes float32 keeps 6 (measured: 5.5e-7).
        assert found.rounding < 2e-6, found
        errors.append(found.error)
    assert np.mean(np.array(errors) < 1e-5) > 0.99  # measured: 0.998


def test_the_terms_of_a_sum_add_up_to_what_was_recorded(double):
    model, acts = double
    sums = [name for name in acts if name.endswith(("_qkv", "_out", "_mid", "_post", "hook_pre", "_z", "logits"))]
    for name in sums:
        index = tuple(size - 1 for size in acts[name].shape)
        found = explain(acts, model, name, index)
        assert found.amounts.sum() == pytest.approx(acts[name][index], rel=1e-9)


def test_shares_so_small_that_float32_drops_them_are_not_said_to_disagree():
    model = random_model()
    sharp = {name: 6 * array if "c_attn.weight" in name else array for name, array in model.params.items()}
    model = assembly.assemble(model.config, sharp)
    acts, pattern = recorded(model), "blocks.1.attn.hook_pattern"
    assert (acts[pattern][:, -1] < 1e-38).any()
    for index in np.ndindex(acts[pattern].shape):
        assert "DISAGREE" not in explain(acts, model, pattern, index).agreement, index


def test_the_source_of_a_term_is_the_number_that_its_text_shows(double):
    model, acts = double
    checked = 0
    for name, index in random_numbers(acts, 300, seed=1):
        found = explain(acts, model, name, index)
        for j in found.order[:3]:
            source = found.source(j)
            if source is None:
                continue
            array, at = acts[source[0]], source[1]
            assert source[0] in found.point.reads, name
            short = points.BLOCK_NUMBER.sub("", source[0]).replace("hook_", "") + str([int(i) for i in at])
            text = found.label(j) + " " + found.how
            if short in text:
                after = text.split(short)[1].split()
                if after and after[0][0] in "-0123456789":
                    assert float(after[0].rstrip("):")) == pytest.approx(float(array[at]), rel=1e-4, abs=1e-12)
                    checked += 1
    assert checked > 200


def test_a_trail_leads_from_the_answer_to_a_token_of_the_prompt(double):
    model, acts = double
    way = list(trail(acts, model, "hook_next_token"))
    assert way[1].point.name == "hook_next_logits" and way[1].index == (int(acts["hook_next_token"]),)
    assert way[-1].point.name in ("hook_tokens", "hook_positions")
    assert len(way) > 3 * model.config.n_layer
    order = [*points.table(model.config), *points.table(model.config, points.NEXT_TOKEN)]
    steps = [order.index(found.point.name) for found in way[:0:-1]]
    assert steps == sorted(steps)


def test_a_score_is_the_dot_product_of_its_query_and_key(double):
    model, acts = double
    name = "blocks.1.attn.hook_attn_scores"
    found = explain(acts, model, name, head=2, query=7, key=4)
    q, k = acts["blocks.1.attn.hook_q"][7, 2], acts["blocks.1.attn.hook_k"][4, 2]
    assert found.value == pytest.approx(q @ k * model.config.attention_scale(1), rel=1e-12)
    assert found.index == (2, 7, 4) and len(found.amounts) == 6
    assert "(head 2, query 7, key 4)" in str(found)


def test_a_masked_score_is_said_to_be_masked(double):
    model, acts = double
    found = explain(acts, model, "blocks.0.attn.hook_attn_scores", (0, 3, 4))
    assert found.value == -math.inf and found.error == 0
    assert "masked" in str(found) and "they are equal" in str(found)


def test_a_patched_number_is_said_to_disagree_and_what_follows_from_it_agrees():
    model = random_model()
    acts = recorded(model, Patch({"blocks.1.mlp.hook_post": lambda x: x + 1}))
    assert "DISAGREE" in str(explain(acts, model, "blocks.1.mlp.hook_post", (3, 5)))
    assert "DISAGREE" not in str(explain(acts, model, "blocks.1.hook_mlp_out", (3, 5)))


def test_a_token_that_was_drawn_is_said_not_to_be_the_likeliest():
    model, acts = random_model(), Recorder()
    best = int(model(PROMPT)[-1].argmax())
    for seed in range(100):
        (token,) = generate(model, PROMPT, 1, temperature=5.0, rng=np.random.default_rng(seed), stop=(), trace=acts)
        assert (explain(acts, model, "hook_next_token").agreement == "they are equal") == (token == best)
        if token != best:
            return
    raise AssertionError("a hundred draws, and always the likeliest")


def test_with_a_cache_what_the_pass_computed_is_explained_and_what_it_did_not_is_said():
    model, acts, cache = random_model(dtype=np.float64), Recorder(), KVCache(random_model().config)
    model(PROMPT[:8], cache=cache)
    model(PROMPT[8:], cache=cache, trace=acts)
    score, z = "blocks.2.attn.hook_attn_scores", "blocks.2.attn.hook_z"
    for key in (8, 9):
        assert explain(acts, model, score, head=1, query=1, key=key).error < 1e-12
    assert "masked" in explain(acts, model, score, head=1, query=1, key=10).how
    for name, index in ((score, (1, 1, 7)), (z, (1, 1, 0))):
        with pytest.raises(ValueError, match="KV cache"):
            explain(acts, model, name, index)
    for name in acts:
        if name not in (score, z) and not name.endswith(("hook_attn_scores", "hook_z")):
            assert explain(acts, model, name, tuple(size - 1 for size in acts[name].shape)).error < 1e-9


@pytest.mark.parametrize(
    ("arguments", "axes", "words"),
    [
        (("blocks.1.attn.hook_atn_scores", (0, 0, 0)), {}, ["blocks.1.attn.hook_attn_scores"]),
        (("blocks.3.attn.hook_q", (0, 0, 0)), {}, ["blocks 0 to 2"]),
        (("blocks.1.attn.hook_q", (0, 5, 0)), {}, ["head", "0 to 4", "not 5"]),
        (("blocks.1.attn.hook_q", (-12, 0, 0)), {}, ["position", "0 to 10", "not -12"]),
        (("blocks.1.attn.hook_q", (0, 0)), {}, ["(position, head, column)"]),
        (("blocks.1.attn.hook_q", (0, 0, 0, 0)), {}, ["(position, head, column)"]),
        (("blocks.1.attn.hook_q",), {}, ["(position, head, column)"]),
        (("blocks.1.attn.hook_q",), {"position": 1, "head": 2}, ["(position, head, column)"]),
        (("blocks.1.attn.hook_q",), {"position": 1, "had": 2, "column": 0}, ["had", "did you mean head"]),
        (("blocks.1.attn.hook_q", (0, 1.5, 0)), {}, ["head", "1.5"]),
        (("blocks.1.attn.hook_q", (0, 0, 0)), {"head": 1}, ["not both"]),
        (("hook_next_token", (0,)), {}, ["no index"]),
    ],
)
def test_a_number_that_does_not_exist_is_refused_with_what_does(double, arguments, axes, words):
    model, acts = double
    with pytest.raises(ValueError) as error:
        explain(acts, model, *arguments, **axes)
    for word in words:
        assert word in str(error.value), (word, str(error.value))


def test_what_was_not_recorded_is_named(double):
    model, acts = double
    part = {name: x for name, x in acts.items() if name != "blocks.1.ln1.hook_output"}
    with pytest.raises(ValueError, match=r"no blocks\.1\.ln1\.hook_output"):
        explain(part, model, "blocks.1.attn.hook_qkv", (0, 0))
    batch = Recorder()
    model([PROMPT, PROMPT], trace=batch)
    with pytest.raises(ValueError, match="one prompt"):
        explain(batch, model, "blocks.1.attn.hook_qkv", (0, 0))


def test_an_axis_of_one_needs_no_number(double):
    model, acts = double
    short, long = (explain(acts, model, "ln_final.hook_scale", index) for index in ((3,), (3, 0)))
    assert short.value == long.value and short.index == (3, 0)
    assert explain(acts, model, "ln_final.hook_scale", position=3).value == long.value


def test_the_command_derives_a_number_of_the_bundled_model(capsys):
    prompt = "The capital of France is"
    model, acts = nanogpt_np.load("facts"), Recorder()
    list(generate(model, nanogpt_np.Tokenizer().encode(prompt), 1, stop=(), trace=acts))
    number = "blocks.2.attn.hook_attn_scores[3, 4, 3]"
    assert main(["explain", prompt, number, "--model", "facts"]) == 0
    out = capsys.readouterr().out
    assert out == str(explain(acts, model, "blocks.2.attn.hook_attn_scores", (3, 4, 3))) + "\n"
    assert main(["explain", prompt, "hook_next_token", "--model", "facts", "--trail", "--json"]) == 0
    way = json.loads(capsys.readouterr().out)
    assert way[0]["recorded"] == 6342 and way[-1]["name"] in ("hook_tokens", "hook_positions")
    assert main(["explain", prompt, "blocks.0.attn.hook_attn_scores[0,0,1]", "--model", "facts", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["recorded"] == "-inf"


@pytest.mark.parametrize("number", ["", "hook_q]", "hook_tokens[b]", "hook_next_logits[1", "hook_next_logits[99999]"])
def test_the_command_refuses_what_is_no_number(number, capsys):
    assert main(["explain", "The", number, "--model", "facts"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
