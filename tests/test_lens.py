"""The lens: what the model would say early, and a logit as the exact sum of its parts.

The models are small and random (`helpers.random_model`), and what the split says is compared with a second
computation that builds each component's vector, takes it out of the residual stream and normalises what is left.
"""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from helpers import random_model

import nanogpt_np
from nanogpt_np import Recorder
from nanogpt_np.__main__ import main
from nanogpt_np.generate.loop import generate
from nanogpt_np.interpret import lens_words
from nanogpt_np.interpret.lens import logit_lens, split
from nanogpt_np.model.attention import softmax
from nanogpt_np.model.cache import KVCache
from nanogpt_np.model.config import Config
from nanogpt_np.model.trace import chain
from nanogpt_np.names import parameters, points
from nanogpt_np.weights import assembly

VARIANTS = {
    "tied": {},
    "untied": {"tie_word_embeddings": False},
    "unscaled attention": {"scale_attn_weights": False},
    "attention scaled by block": {"scale_attn_by_inverse_layer_idx": True},
}
DTYPES = {"float32": np.float32, "float64": np.float64}
MODEL = random_model()
MODEL64 = random_model(dtype=np.float64)  # the same numbers
UNTIED64 = random_model(1, dtype=np.float64, tie_word_embeddings=False)
PROMPT = np.array([3, 1, 41, 59, 26, 1, 53])  # T = 7
TOKEN, RIVAL = 58, 9
PARIS = 6342
# Sums in another order. Measured on logits up to 14, for 800 pairs of prompt and token: remainders up to 2.7e-6 in
# float32 (the model's own rounding: the split is computed in float64) and 5.3e-15 in float64; 7.6e-6 with `facts`.
REMAINDER = {"float32": 3e-5, "float64": 1e-13}


def record(model, ids, **options):
    """Run the model and return its Recorder."""
    acts = Recorder()
    model(ids, trace=acts, **options)
    return acts


def record_generation(model, ids, n=1):
    """Generate `n` tokens and return the Recorder: of the last step, as always."""
    acts = Recorder()
    list(generate(model, ids, n, stop=(), trace=acts))
    return acts


def normalised(x, model, scale=None):
    """The final LayerNorm written out once more, in float64; with its own scale, or with one that is held."""
    x = x.astype(np.float64)
    if scale is None:
        scale = math.sqrt(x.var() + model.config.layer_norm_epsilon)
    return (x - x.mean()) / scale * model.params["ln_f.weight"] + model.params["ln_f.bias"]


def head_matrix(model):
    return model.params["wte.weight" if model.tied else "lm_head.weight"].astype(np.float64)


# --- the logit lens ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_last_row_of_the_lens_is_the_models_own_answer(variant, dtype):
    model = random_model(dtype=DTYPES[dtype], **VARIANTS[variant])
    acts = record(model, PROMPT)
    for position in range(-7, 7):
        row, logits = logit_lens(acts, model, TOKEN, position)[-1], acts["hook_logits"][position]
        assert row["rank"] == 1 + (logits > logits[TOKEN]).sum()
        assert row["best"] == logits.argmax()
        np.testing.assert_allclose(row["logit"], logits[TOKEN], rtol=0, atol=REMAINDER[dtype])
        np.testing.assert_allclose(row["p"], softmax(logits)[TOKEN], rtol=REMAINDER[dtype])


def test_there_is_a_row_for_every_half_block_in_the_order_of_the_pass():
    rows = logit_lens(record(MODEL, PROMPT), MODEL, TOKEN)
    assert [row["after"] for row in rows] == ["embeddings", "attn 0", "mlp 0", "attn 1", "mlp 1", "attn 2", "mlp 2"]
    order = list(points.table(MODEL.config))
    where = [order.index(row["point"]) for row in rows]
    assert where == sorted(set(where)) and order[where[0]] == "blocks.0.hook_resid_pre"


@pytest.mark.parametrize("model", [MODEL64, UNTIED64], ids=["tied", "untied"])
@pytest.mark.parametrize("position", [0, 3, -1])
def test_every_row_normalises_its_own_vector_anew_and_not_with_the_last_scale(model, position):
    acts = record(model, PROMPT)
    last_scale = acts["ln_final.hook_scale"][position, 0]
    rows = logit_lens(acts, model, TOKEN, position)
    for row in rows:
        logits = head_matrix(model) @ normalised(acts[row["point"]][position], model)
        np.testing.assert_allclose(row["logit"], logits[TOKEN], rtol=0, atol=1e-12)
        np.testing.assert_allclose(row["p"], softmax(logits)[TOKEN], rtol=1e-11)
        assert row["best"] == logits.argmax()
        assert row["rank"] == 1 + list(np.argsort(-logits, kind="stable")).index(TOKEN)
    # The fixture can tell: with the scale of the last row the first would be another number.
    reused = head_matrix(model) @ normalised(acts[rows[0]["point"]][position], model, last_scale)
    assert abs(reused[TOKEN] - rows[0]["logit"]) > 0.05


def test_of_equal_logits_the_lower_id_ranks_first():
    params = dict(random_model(tie_word_embeddings=False).params)
    params["lm_head.weight"] = params["lm_head.weight"].copy()
    params["lm_head.weight"][[20, 30, 40]] = params["lm_head.weight"][10]
    model = assembly.assemble(dataclasses.replace(MODEL.config, tie_word_embeddings=False), params)
    acts = record_generation(model, PROMPT)
    ranks = [[row["rank"] for row in logit_lens(acts, model, i)] for i in (10, 20, 30, 40)]
    np.testing.assert_array_equal(np.diff(ranks, axis=0), 1)


# --- the split -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_parts_add_up_to_the_logit_of_200_prompts_and_tokens(variant, dtype):
    model = random_model(dtype=DTYPES[dtype], **VARIANTS[variant])
    rng = np.random.default_rng(7)
    for _ in range(200):
        ids = rng.integers(97, size=rng.integers(1, 24))
        token, rival = map(int, rng.integers(97, size=2))
        position = int(rng.integers(-len(ids), len(ids)))
        cut = int(rng.integers(len(ids)))  # so many tokens went through a cache before
        cache = KVCache(model.config)
        if cut:
            model(ids[:cut], cache=cache)
            position = position % (len(ids) - cut)
        acts = record(model, ids[cut:], cache=cache)
        logits = acts["hook_logits"][position].astype(np.float64)
        alone, difference = (split(acts, model, token, position, against) for against in (None, rival))
        assert alone.recorded == logits[token]
        assert difference.recorded == logits[token] - logits[rival]
        for found in (alone, difference):
            amounts = [part.amount for part in found.parts]
            assert abs(sum(amounts) - found.recorded) < REMAINDER[dtype]
            assert found.total == math.fsum(amounts)
            assert found.remainder == found.recorded - found.total


def component_vectors(model, acts, position):
    """What each component wrote into the residual stream at `position`: {name: (C,)}, written out once more."""
    config, params = model.config, model.params
    positions = acts["hook_positions"][position]
    vectors = {
        "token embedding": params["wte.weight"][acts["hook_tokens"][position]],
        "position embedding": params["wpe.weight"][positions],
    }
    D = config.head_width
    for i in range(config.n_layer):
        z = acts[f"blocks.{i}.attn.hook_z"][position]
        for head in range(config.n_head):
            alone = np.zeros_like(z)
            alone[head] = z[head]
            vectors[f"head {i}.{head}"] = alone.reshape(config.n_head * D) @ params[f"h.{i}.attn.c_proj.weight"]
        vectors[f"bias of attn {i}"] = params[f"h.{i}.attn.c_proj.bias"]
        vectors[f"mlp {i}"] = acts[f"blocks.{i}.mlp.hook_post"][position] @ params[f"h.{i}.mlp.c_proj.weight"]
        vectors[f"bias of mlp {i}"] = params[f"h.{i}.mlp.c_proj.bias"]
    return vectors


@pytest.mark.parametrize("model", [MODEL64, UNTIED64], ids=["tied", "untied"])
@pytest.mark.parametrize("position", [0, 4, -1])
def test_every_part_is_what_the_logit_loses_when_its_vector_is_taken_out_with_the_scale_held(model, position):
    acts = record(model, PROMPT)
    scale = acts["ln_final.hook_scale"][position, 0]
    last = acts["blocks.2.hook_resid_post"][position]
    parts = {part.name: part for part in split(acts, model, TOKEN, position).parts}
    row = head_matrix(model)[TOKEN]
    vectors = component_vectors(model, acts, position)
    assert list(parts) == [*vectors, "bias of ln_f"]
    np.testing.assert_allclose(sum(vectors.values()), last, rtol=0, atol=1e-13)  # nothing is missing, nothing twice
    for name, vector in vectors.items():
        lost = row @ normalised(last, model, scale) - row @ normalised(last - vector, model, scale)
        np.testing.assert_allclose(parts[name].amount, lost, rtol=0, atol=1e-13, err_msg=name)  # measured: 2.1e-15
    np.testing.assert_allclose(parts["bias of ln_f"].amount, row @ model.params["ln_f.bias"], rtol=0, atol=1e-13)


def test_a_float32_recording_is_split_in_float64():
    acts = record(MODEL, PROMPT)
    wider = {name: x.astype(np.float64) for name, x in acts.items()}
    for against in (None, RIVAL):
        narrow, wide = split(acts, MODEL, TOKEN, against=against), split(wider, MODEL64, TOKEN, against=against)
        for a, b in zip(narrow.parts, wide.parts, strict=True):
            np.testing.assert_allclose(a.amount, b.amount, rtol=0, atol=1e-13, err_msg=a.name)


def test_parts_know_their_block_head_and_kind():
    parts = {part.name: part for part in split(record(MODEL, PROMPT), MODEL, TOKEN).parts}
    assert len(parts) == 2 + 3 * (5 + 3) + 1
    expected = {
        "token embedding": ("embeddings", None, None),
        "position embedding": ("embeddings", None, None),
        "head 1.4": ("heads of block 1", 1, 4),
        "bias of attn 2": ("biases", 2, None),
        "mlp 0": ("MLPs", 0, None),
        "bias of mlp 1": ("biases", 1, None),
        "bias of ln_f": ("biases", None, None),
    }
    assert {n: (parts[n].kind, parts[n].block, parts[n].head) for n in expected} == expected


def test_the_split_of_a_difference_is_the_difference_of_two_splits():
    acts = record(MODEL64, PROMPT)
    one, other = split(acts, MODEL64, TOKEN), split(acts, MODEL64, RIVAL)
    difference, turned = split(acts, MODEL64, TOKEN, against=RIVAL), split(acts, MODEL64, RIVAL, against=TOKEN)
    assert (difference.token, difference.against) == (TOKEN, RIVAL)
    for a, b, both, back in zip(one.parts, other.parts, difference.parts, turned.parts, strict=True):
        np.testing.assert_allclose(both.amount, a.amount - b.amount, rtol=0, atol=1e-13)
        assert both.amount == -back.amount
    assert difference.recorded == one.recorded - other.recorded


def test_the_kinds_are_the_same_sum_in_fewer_parts():
    found = split(record(MODEL, PROMPT), MODEL, TOKEN, against=RIVAL)
    kinds = found.by_kind
    assert list(kinds) == ["embeddings", *(f"heads of block {i}" for i in range(3)), "MLPs", "biases"]
    np.testing.assert_allclose(sum(kinds.values()), found.total, rtol=0, atol=1e-13)
    heads = sum(part.amount for part in found.parts if part.head is not None and part.block == 1)
    np.testing.assert_allclose(kinds["heads of block 1"], heads, rtol=0, atol=1e-13)
    mlps = sum(part.amount for part in found.parts if part.name.startswith("mlp "))
    np.testing.assert_allclose(kinds["MLPs"], mlps, rtol=0, atol=1e-13)


def test_a_pass_with_the_cache_and_a_generation_give_what_the_whole_pass_gives():
    whole = record(MODEL64, PROMPT)
    cache = KVCache(MODEL64.config)
    MODEL64(PROMPT[:4], cache=cache)
    later = record(MODEL64, PROMPT[4:], cache=cache)
    for acts, position in ((later, -1), (later, 2), (record_generation(MODEL64, PROMPT), 6)):
        one, other = split(whole, MODEL64, TOKEN, against=RIVAL), split(acts, MODEL64, TOKEN, position, RIVAL)
        assert one.position == other.position == 6
        np.testing.assert_allclose(
            [part.amount for part in one.parts], [part.amount for part in other.parts], rtol=0, atol=1e-12
        )
        np.testing.assert_allclose(one.recorded, other.recorded, rtol=0, atol=1e-12)
        np.testing.assert_allclose(
            [row["logit"] for row in logit_lens(whole, MODEL64, TOKEN)],
            [row["logit"] for row in logit_lens(acts, MODEL64, TOKEN, position)],
            rtol=0,
            atol=1e-12,
        )
    assert split(later, MODEL64, TOKEN, 0).position == 4


def test_of_several_generated_tokens_the_last_step_is_split():
    acts = record_generation(MODEL64, PROMPT, n=3)
    found = split(acts, MODEL64, TOKEN)
    assert found.position == 8
    assert abs(found.remainder) < REMAINDER["float64"]
    assert found.recorded == acts["hook_next_logits"][TOKEN]


def test_a_patched_attention_output_shows_in_the_remainder():
    added = np.random.default_rng(3).standard_normal(30)
    acts = Recorder()
    MODEL64(PROMPT, trace=chain(lambda name, x: x + added if name == "blocks.1.hook_attn_out" else x, acts))
    found = split(acts, MODEL64, TOKEN)
    amount = head_matrix(MODEL64)[TOKEN] @ (
        (added - added.mean()) / acts["ln_final.hook_scale"][-1, 0] * MODEL64.params["ln_f.weight"]
    )
    assert abs(amount) > 0.01
    np.testing.assert_allclose(found.remainder, amount, rtol=0, atol=1e-12)


def test_without_the_parts_that_decide_the_sign_turns_and_one_fewer_is_not_enough():
    sizes = set()
    for token in range(1, 60):
        found = split(record(MODEL64, PROMPT), MODEL64, token, against=token - 1)
        decide = found.deciding
        without = found.total - sum(part.amount for part in decide)
        assert without * found.recorded <= 0
        assert (without + decide[-1].amount) * found.recorded > 0
        assert all(part.amount * found.recorded > 0 for part in decide)
        smallest = min(abs(part.amount) for part in decide)
        for part in found.parts:
            assert part in decide or part.amount * math.copysign(1, found.recorded) <= smallest
        sizes.add(len(decide))
    assert len(sizes) > 3
    assert split(record(MODEL64, PROMPT), MODEL64, TOKEN, against=TOKEN).deciding == []


# --- what cannot be split ------------------------------------------------------------------------


@pytest.mark.parametrize("explain", [logit_lens, split])
@pytest.mark.parametrize("token", [-1, 97, 50256])
def test_a_token_out_of_range_is_refused(explain, token):
    with pytest.raises(ValueError, match=rf"^token {token} is out of range: this model knows ids 0 to 96$"):
        explain(record(MODEL, PROMPT), MODEL, token)


def test_a_rival_out_of_range_is_refused_by_its_own_name():
    with pytest.raises(ValueError, match="against 97 is out of range"):
        split(record(MODEL, PROMPT), MODEL, TOKEN, against=97)


@pytest.mark.parametrize("explain", [logit_lens, split])
def test_text_is_not_a_token_id_and_the_message_says_how_to_get_one(explain):
    with pytest.raises(ValueError, match=r"token must be a token's id, not ' Paris': Tokenizer\(\)\.encode"):
        explain(record(MODEL, PROMPT), MODEL, " Paris")


@pytest.mark.parametrize("explain", [logit_lens, split])
@pytest.mark.parametrize("position", [7, -8])
def test_a_position_that_the_pass_does_not_have_is_refused(explain, position):
    with pytest.raises(ValueError, match=f"position {position} is out of range: this pass has rows -7 to 6"):
        explain(record(MODEL, PROMPT), MODEL, TOKEN, position)
    with pytest.raises(ValueError, match=f"position {position} is out of range"):
        explain(record_generation(MODEL, PROMPT), MODEL, TOKEN, position)


def test_of_a_generation_only_the_last_position_has_logits():
    acts = record_generation(MODEL, PROMPT)
    with pytest.raises(ValueError, match="position 2 has no logits: generation scores the last row only, 6 or -1"):
        split(acts, MODEL, TOKEN, 2)
    assert logit_lens(acts, MODEL, TOKEN, 2)  # needs none


@pytest.mark.parametrize("explain", [logit_lens, split])
def test_a_batch_and_a_recording_of_another_model_are_refused(explain):
    batch = record(MODEL, np.stack([PROMPT, PROMPT]))
    with pytest.raises(
        ValueError, match=r"has shape \[2, 7, \d+\], expected \[T, \d+\]: record one prompt, not a batch"
    ):
        explain(batch, MODEL, TOKEN)
    with pytest.raises(
        ValueError, match=r"expected \[T, \d+(, \d+)?\]: record one prompt, not a batch, with this model"
    ):
        explain(record(random_model(n_embd=20, n_inner=11), PROMPT), MODEL, TOKEN)


def read_by(explain):
    """The names that `explain` reads from a recording."""
    names = set()

    class Watched(Recorder):
        def __getitem__(self, name):
            names.add(name)
            return super().__getitem__(name)

    explain(Watched(MODEL, record(MODEL, PROMPT)), MODEL, TOKEN)
    return names


@pytest.mark.parametrize("explain", [logit_lens, split])
def test_a_recording_that_lacks_a_point_is_refused_by_the_points_name(explain):
    whole, needed = record(MODEL, PROMPT), read_by(explain)
    assert len(needed) == (7 if explain is logit_lens else 5 + 2 * 3)
    for name in needed:
        with pytest.raises(ValueError, match=f"the recording has no {re.escape(name)}: "):
            explain({n: x for n, x in whole.items() if n != name}, MODEL, TOKEN)
    explain({name: whole[name] for name in needed}, MODEL, TOKEN)  # and nothing else is needed


# --- the report ----------------------------------------------------------------------------------

FRANCE = "The capital of France is"


@pytest.fixture
def run(capsys, monkeypatch):
    """Run `lens` on the bundled model, in a wide terminal, and return (stdout, stderr)."""
    monkeypatch.setenv("COLUMNS", "1000")

    def run(*arguments, code=0, model="facts"):
        assert main(["lens", *arguments, "--model", model]) == code
        return capsys.readouterr()

    return run


def amounts_of(lines):
    """The signed number at the start of each line."""
    return [float(line.split()[0]) for line in lines]


def sections(text):
    """The report's paragraphs, as lists of lines."""
    return [paragraph.splitlines() for paragraph in text.split("\n\n")]


def test_the_report_says_that_paris_is_the_likeliest_as_generate_does(run, capsys):
    out, err = run(FRANCE, "--token", " Paris")
    assert main(["generate", FRANCE, "-n", "1", "--top", "4", "--model", "facts"]) == 0
    table = capsys.readouterr().out.splitlines()[:5]
    answer, likeliest, stops, *_ = sections(out)
    assert re.fullmatch(r'" Paris" is the likeliest: 98\.8 %, logit 19\.8, 5\.74 ahead of " France"', answer[0])
    assert likeliest == table
    assert stops[-1].split()[:5] == ["mlp", "3", "1", *table[1].split()[-2:]]  # rank, logit, probability
    assert stops[-1].endswith('" Paris"')
    assert err.count("\n") == 1 and err.startswith("model: facts (bundled")


@pytest.mark.parametrize("flags", [[], ["--parts", "1"], ["--parts", "40"], ["--rivals", "1"], ["--rivals", "6"]])
@pytest.mark.parametrize("token", [" Paris", " Rome", "Paris"])
def test_the_printed_numbers_of_every_column_add_up_exactly(run, token, flags):
    *_, parts, kinds, _ = sections(run(FRANCE, "--token", token, *flags).out)
    *amounts, whole = amounts_of(parts[2:])
    assert round(sum(amounts), 9) == whole
    columns = np.array([[float(cell) for cell in re.findall(r"[+-]\d+\.\d{3}", line)] for line in kinds[1:]])
    assert len(columns) == 1 + 4 + 2 + 2
    np.testing.assert_array_equal(columns[:-1].sum(axis=0).round(9), columns[-1])
    assert columns[-1, 0] == whole


def test_the_printed_parts_are_the_largest_of_each_side_and_one_line_holds_the_rest(run):
    rows = json.loads(run(FRANCE, "--token", " Paris", "--json").out)["splits"][0]["parts"]
    *_, parts, _, _ = sections(run(FRANCE, "--token", " Paris", "--parts", "3").out)
    amounts = {row["name"]: row["amount"] for row in rows}
    ranked = sorted(amounts, key=amounts.get, reverse=True)
    shown = [re.match(r" +[+-][\d.]+  (the \d+ parts between|.*?) *(  .*)?$", line)[1] for line in parts[2:-2]]
    assert shown == [*ranked[:3], f"the {len(rows) - 6} parts between", *ranked[-3:]]
    rest = sum(amounts[name] for name in ranked[3:-3])
    printed = [*(amounts[name] for name in ranked[:3]), rest, *(amounts[name] for name in ranked[-3:])]
    np.testing.assert_allclose(amounts_of(parts[2:-2]), printed, rtol=0, atol=1.001e-3)
    assert "remainder (" in parts[-2] and "in all" in parts[-1]


def test_a_head_shows_where_it_looks_most(run):
    whole = json.loads(run(FRANCE, "--token", " Paris", "--json").out)
    acts = Recorder()
    list(generate(nanogpt_np.load("facts"), whole["prompt_ids"], 1, trace=acts))
    heads = [part for part in whole["splits"][0]["parts"] if part["head"] is not None]
    assert len(heads) == 4 * 4
    for part in heads:
        row, most = acts[f"blocks.{part['block']}.attn.hook_pattern"][part["head"], -1], part["looks_at"]
        assert (most["key"], most["weight"]) == (row.argmax(), row.max())
        assert most["token"] == ["The", " capital", " of", " France", " is"][most["key"]]
    *_, parts, _, _ = sections(run(FRANCE, "--token", " Paris").out)
    assert any(re.search(r'head 3\.3 .*  looks at " France" \d+% \(key 3\)$', line) for line in parts)


def test_json_holds_the_split_against_every_rival_as_the_library_computes_it(run):
    whole = json.loads(run(FRANCE, "--token", " Rome", "--against", " London", "--rivals", "2", "--json").out)
    model, rome = nanogpt_np.load("facts"), whole["id"]
    acts = Recorder()
    list(generate(model, whole["prompt_ids"], 1, trace=acts))
    assert [row["against"]["token"] for row in whole["splits"]] == [" London", " Paris", " France"]
    assert {row["token"] for row in whole["likeliest"]} == {" Paris", " France", " London", " Rome"}
    assert [row["rank"] for row in whole["likeliest"]] == sorted(row["rank"] for row in whole["likeliest"])
    for row in whole["splits"]:
        found = split(acts, model, rome, against=row["against"]["id"])
        # The report keeps only the last row of each point: the same numbers in the same order.
        assert [part["amount"] for part in row["parts"]] == [part.amount for part in found.parts]
        assert (row["difference"], row["total"], row["remainder"]) == (found.recorded, found.total, found.remainder)
        assert row["by_kind"] == found.by_kind
        assert row["decided_by"] == [part.name for part in found.deciding]
        assert row["difference"] == whole["logit"] - row["against"]["logit"]
        assert abs(row["remainder"]) < REMAINDER["float32"]
    rows = logit_lens(acts, model, rome)
    assert [{k: v for k, v in row.items() if k != "best_token"} for row in whole["lens"]] == rows
    assert whole["lens"][-1]["best_token"] == " Paris"


def test_a_token_that_lost_is_explained_against_the_one_that_won(run):
    out = run(FRANCE, "--token", " Rome", "--rivals", "1").out
    answer, likeliest, _, parts, _, closing = sections(out)
    assert re.fullmatch(r'" Rome" is 106th: less than 0\.01 %, logit 6\.25, 13\.5 behind " Paris"', answer[0])
    assert [line.split()[0] for line in likeliest] == ["rank", "1", "106"]
    assert parts[0].startswith('" Rome" against " Paris"')
    assert re.search(r'" Rome" is exp\(-13\.548\) = 1\.3\de-06 times as likely as " Paris"', parts[-1])
    assert re.fullmatch(
        r'Decided by .*: the other parts alone would put " Rome" ahead of " Paris"\.', " ".join(closing)
    )


def test_against_names_the_rival_that_is_split_and_the_best_one_is_still_told(run):
    answer, _, _, parts, kinds, closing = sections(run(FRANCE, "--token", " Paris", "--against", " London").out)
    assert answer[0].endswith('5.74 ahead of " France", 8.12 ahead of " London"')
    assert parts[0].startswith('" Paris" against " London"')
    assert re.findall(r'" \w+"', kinds[0]) == ['" Paris"', '" London"', '" France"', '" Vienna"', '" Dublin"']
    assert " ".join(closing).endswith('the other parts alone would put " London" ahead of " Paris".')


def test_tokens_that_share_one_row_are_level_and_nothing_decides(run):
    # Tokens that occur in no sentence of the bundled model's training share one row of its embedding.
    answer, _, _, _, _, closing = sections(run(FRANCE, "--token", " apple", "--against", " guitar").out)
    assert 'tied with " guitar"' in answer[0]
    assert closing[0] == 'Nothing decides: " apple" and " guitar" are tied.'


@pytest.mark.parametrize("prompt", [FRANCE, "The capital of Germany is Berlin. The capital of France is", "a" * 40])
def test_the_report_fits_into_80_columns(run, prompt, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    assert max(map(len, run(prompt, "--token", " Paris").out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--token", "x y"], '--token takes one token, but .x y. is 2: "x", " y"'),
        (["--token", "France "], 'is 2: "France", " "; did you mean " France"'),
        (["--token", ""], "--token takes one token, but .. is 0: no token"),
        (["--token", " Paris", "--against", "x y"], "--against takes one token"),
        (["--token", " Paris", "--against", " Paris"], "--against and --token must be different"),
        (["--token", " Paris", "--rivals", "0"], "--rivals must be 1 or more, not 0"),
        (["--token", " Paris", "--parts", "-1"], "--parts must be 1 or more, not -1"),
    ],
)
def test_bad_flags_are_told_in_one_line_that_names_them(run, flags, message):
    out, err = run(FRANCE, *flags, code=1)
    assert out == "" and err.count("\n") == 1
    assert err.startswith("error: ") and re.search(message, err)


def test_a_prompt_that_is_longer_than_the_context_and_an_empty_one_are_told_in_one_line(run):
    assert "more than this model's context of 128 tokens" in run("a b" * 200, "--token", " Paris", code=1).err
    assert "the prompt is empty" in run("", "--token", " Paris", code=1).err


@pytest.mark.parametrize("prompt", [FRANCE, "The capital of Japan is", "The", "<|endoftext|>"])
def test_without_a_token_the_likeliest_is_explained(run, capsys, prompt):
    assert main(["generate", prompt, "-n", "1", "--top", "1", "--json", "--special", "--model", "facts"]) == 0
    best = json.loads(capsys.readouterr().out)["top"][0]
    alone, named = (run(prompt, "--special", "--json", *flags).out for flags in ([], ["--token", best["token"]]))
    assert json.loads(alone)["id"] == best["id"] and json.loads(alone)["rank"] == 1
    assert alone == named or best["token"] == "<|endoftext|>"


@pytest.mark.parametrize("rival", [" France", " apple", "."])
def test_without_a_token_another_one_may_be_its_rival_but_not_the_likeliest_itself(run, rival):
    assert run(FRANCE, "--against", rival).out.startswith('" Paris" is the likeliest: ')
    out, err = run(FRANCE, "--against", " Paris", code=1)
    assert out == "" and err == 'error: " Paris" cannot be compared with itself: compare it with another token\n'


def test_special_reads_the_end_of_text_token_and_else_it_is_text(run):
    for flags, ids in (([], 7), (["--special"], 1)):
        whole = json.loads(run("<|endoftext|>", "--token", " Paris", "--json", *flags).out)
        assert len(whole["prompt_ids"]) == ids


def save(tmp_path, vocab_size):
    config = Config(vocab_size=vocab_size, n_positions=8, n_embd=4, n_head=2, n_layer=1)
    rng = np.random.default_rng(2)
    params = {n: rng.normal(0, 0.5, p.shape(config)).astype(np.float32) for n, p in parameters.table(config).items()}
    params["ln_f.bias"][:] = [3, -3, 3, -3]
    params["wte.weight"][-1] = [5, -5, 5, -5]  # the last token is the likeliest by far
    nanogpt_np.save(assembly.assemble(config, params), tmp_path)
    return str(tmp_path)


def test_a_larger_vocabulary_is_said_and_its_own_tokens_show_as_their_ids(run, tmp_path):
    directory = save(tmp_path, 50300)
    logits = nanogpt_np.load(directory)([64])[-1]
    out, err = run("a", "--token", " Paris", "--rivals", "1", model=directory)
    assert "its vocabulary has 50300 entries" in err
    assert logits.argmax() > 50256, "the fixture must have a likeliest token that GPT-2 does not know"
    assert f"<|{logits.argmax()}|>" in out


def test_a_token_that_a_smaller_vocabulary_does_not_have_is_told_in_one_line(run, tmp_path):
    directory = save(tmp_path, 300)
    err = run("a", "--token", " Paris", model=directory, code=1).err
    assert f"--token: token id {PARIS} is out of range" in err
    assert "token id 6342 is out of range" in run(" Paris", "--token", "a", model=directory, code=1).err
    assert run("a", "--token", "b", model=directory).out.startswith('"b" is ')


def test_a_vocabulary_of_one_token_has_nothing_to_compare_with(run, tmp_path):
    assert "there is no other token" in run("!", "--token", "!", model=save(tmp_path, 1), code=1).err


def test_more_rivals_than_tokens_are_all_other_tokens(run, tmp_path):
    whole = json.loads(run("!", "--token", "#", "--rivals", "9", "--json", model=save(tmp_path, 4)).out)
    assert sorted(row["against"]["id"] for row in whole["splits"]) == [0, 1, 3]


@pytest.mark.parametrize(
    ("n", "text"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (21, "21st")]
)
def test_ranks_are_written_as_english_ordinals(n, text):
    assert lens_words._ordinal(n) == text
    assert lens_words._ordinal(n + 5100) == f"5,1{text.zfill(4)}"
