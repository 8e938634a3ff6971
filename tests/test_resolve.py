"""Any name that the glossary knows leads to the one array it means, everywhere; or to the candidates."""

import copy
import fnmatch
import pickle
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers import random_model

from nanogpt_np import Recorder
from nanogpt_np.__main__ import main
from nanogpt_np.generate.loop import generate
from nanogpt_np.interpret import lens
from nanogpt_np.interpret.diff import diff
from nanogpt_np.interpret.explain import explain, trail
from nanogpt_np.interpret.patch import Patch, steer, transplant
from nanogpt_np.interpret.steps import select as select_steps
from nanogpt_np.model.trace import Tape, no_trace
from nanogpt_np.names import points
from nanogpt_np.names.entries import entries
from nanogpt_np.names.glossary import find
from nanogpt_np.names.resolve import UnknownName, candidates, resolve, resolve_in_any_model, select

MODEL = random_model()  # 3 blocks
CONFIG = MODEL.config
TABLE = list(points.table(CONFIG))
BLOCK_1 = [name for name in TABLE if points.block_of(name) in (None, 1)]
IDS = [3, 1, 41, 59, 26, 5, 53]
CASES = {  # a word that means one point of a model: the point
    "ln_f": "ln_final.hook_output",
    "transformer.ln_f": "ln_final.hook_output",
    "hidden_states[-1]": "ln_final.hook_output",
    "hidden_states[3]": "ln_final.hook_output",  # after the last of 3 blocks
    "hidden_states[1]": "blocks.1.hook_resid_pre",
    "logits": "hook_logits",
    "wte": "hook_embed",
    "position embeddings": "hook_pos_embed",
    "blocks.0.keys": "blocks.0.attn.hook_k",
    "h.0.attn.keys": "blocks.0.attn.hook_k",
    "blocks.0.attn.hook_keys": "blocks.0.attn.hook_k",
    "keys[2]": "blocks.2.attn.hook_k",
    "block 2 values": "blocks.2.attn.hook_v",
    "attentions[1]": "blocks.1.attn.hook_pattern",
    "past_key_values.layers[1].values": "blocks.1.attn.hook_v",
    "blocks.1.attn.q.hook_out": "blocks.1.attn.hook_q",
    "transformer.h.1.attn.c_attn": "blocks.1.attn.hook_qkv",
    "h.1.attn": "blocks.1.hook_attn_out",
    "h.1.mlp": "blocks.1.hook_mlp_out",
    "h.1.mlp.c_proj": "blocks.1.hook_mlp_out",
    "blocks.1.ln_1": "blocks.1.ln1.hook_output",
    "blocks.1.ln1.output": "blocks.1.ln1.hook_output",
    "blocks.1.attn.attn_scores": "blocks.1.attn.hook_attn_scores",
    "blocks.1.pre": "blocks.1.mlp.hook_pre",
    "blocks.1.resid_pre": "blocks.1.hook_resid_pre",
    "blk.1.kq_soft_max": "blocks.1.attn.hook_pattern",
    "inpL": "blocks.0.hook_resid_pre",
}


def record(model=MODEL, ids=IDS):
    acts = Recorder(model)
    model(ids, trace=acts)
    return acts


@pytest.mark.parametrize("word", CASES)
def test_a_word_for_one_point_is_that_point(word):
    assert resolve(word, TABLE, config=CONFIG) == CASES[word]
    acts = record()
    assert acts[word] is acts[CASES[word]] is acts.get(word) and word in acts


@pytest.mark.parametrize("block", [None, 1])
def test_every_name_of_every_point_leads_to_it_or_to_candidates_with_it(block):
    """Of all dialects: one of several is among them, and of one block fewer are meant than of all."""
    for entry in (e for e in entries(block) if e.is_point and not e.name.startswith("blocks.0.")):
        ours = entry.name.replace("{i}", "1")
        place = [*BLOCK_1, *(point.name for point in points.NEXT_TOKEN)]
        for name in {n for names in entry.names.values() for n in names}:
            word = name.replace("{i}", "1")
            found = candidates(word, place)
            assert ours in found or not found, (word, found)
            assert found or not any(c.isalpha() for c in word) or word in ("1",), (word, found)


WORDS = [name for e in entries() if e.is_point for names in e.names.values() for name in names if "{i}" not in name]


@pytest.mark.parametrize("word", sorted(set(WORDS)))
def test_what_a_message_proposes_is_understood(word):
    try:
        assert resolve(word, TABLE) in TABLE
    except UnknownName as error:
        text = str(error)
        assert text.startswith(f"{word} is ") and "\n" not in text and len(text) < 600
        proposed = text.rpartition(" as in ")[2]
        if " as in " in text:
            assert resolve(proposed, TABLE) == candidates(word, TABLE)[0]
        else:
            assert "give one of these names" in text or "which is not here" in text


@pytest.mark.parametrize("word", ["keys", "pattern", "queries", "ln_1", "neurons", "c_attn", "resid_post"])
def test_a_word_for_a_point_of_every_block_is_answered_with_the_first_and_the_last(word):
    found = candidates(word, TABLE)
    assert len(found) == 3
    with pytest.raises(KeyError, match=re.escape(f"{word} is {found[0]} ... {found[-1]}: add the block, as in ")):
        record()[word]
    assert word not in record() and record().get(word) is None
    one = Recorder(acts={name: x for name, x in record().items() if name in BLOCK_1})
    assert one[word] is one[found[1]] and word in one


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("heads", ["blocks.{i}.attn.hook_z", "blocks.{i}.attn.hook_merged"]),
        ("c_proj", ["blocks.{i}.hook_attn_out", "blocks.{i}.hook_mlp_out"]),
        ("residual stream", ["hook_resid_pre", "hook_resid_mid", "hook_resid_post"]),
        ("blocks.1.heads", ["blocks.1.attn.hook_z", "blocks.1.attn.hook_merged"]),
        ("ln_final", ["ln_final.hook_scale", "ln_final.hook_normalized", "ln_final.hook_output"]),
    ],
)
def test_a_word_for_several_points_is_answered_with_all_of_them(word, names):
    for look_up in (lambda: resolve(word, TABLE), lambda: resolve_in_any_model(word), lambda: record()[word]):
        with pytest.raises(UnknownName) as error:
            look_up()
        assert all(name in str(error.value) for name in names) and "give one of these names" in str(error.value)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("hook_pattren", "no trace point 'hook_pattren' (did you mean hook_pattern"),
        ("blocks.1.hook_resid_prr", "did you mean blocks.1.hook_resid_pre"),
        ("xyzzy", "no trace point 'xyzzy'"),
        ("W_K", "W_K is the parameter h.{i}.attn.c_attn.weight[:, C:2*C], not a trace point"),
        ("h.1.mlp.c_fc.weight", "is the parameter h.1.mlp.c_fc.weight, not a trace point"),
        ("wpe.weight", "is the parameter wpe.weight, not a trace point"),
        ("blocks.7.hook_resid_pre", "there is no blocks.7.hook_resid_pre in this Recorder"),
        ("blocks.7.keys", "no block 7 for 'blocks.7.keys': this model has blocks 0 to 2"),
        ("hook_last_row", "there is no hook_last_row in this Recorder"),
        ("probabilities", "probabilities is hook_probabilities, which is not in this Recorder"),
        ("blocks.1.mlp.keys", "no trace point 'blocks.1.mlp.keys'"),
        ("*.keys", "no trace point '*.keys'"),
        ("", "no word to look up in ''"),
        (("keys", 9), "keys is blocks.{i}.attn.hook_k, which is not in block 9 of this Recorder"),
        (3, "a Recorder is read by name, or by name and block, not by 3"),
        ("x" * 10_000, "no trace point 'xxx"),
    ],
)
def test_a_word_that_means_nothing_is_answered_in_one_line(word, text):
    acts = record()
    with pytest.raises(KeyError) as error:
        acts[word]
    assert text in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 600
    assert isinstance(error.value, ValueError)  # what a command line reports in one line
    assert word not in acts and acts.get(word) is None and acts.get(word, 5) == 5


def test_a_name_and_a_block_are_read_as_in_transformer_lens():
    acts = record()
    for block in range(3):
        assert acts["keys", block] is acts["k", block] is acts[f"blocks.{block}.attn.hook_k"]
        assert acts["pattern", block - 3] is acts[f"blocks.{block}.attn.hook_pattern"]
        assert ("resid_mid", block) in acts and ("resid_mid", block + 3) not in acts
    assert ("ln_f", 0) not in acts


def test_the_name_of_a_trace_point_means_that_point_only():
    """So ``in`` and ``get`` say what was recorded, as those who wrote ``if "hook_logits" in acts`` expect."""
    acts, step = record(), Recorder(MODEL)
    list(generate(MODEL, IDS, 1, stop=(), trace=step))
    every = {*acts, *step}
    for name in every:
        for run in (acts, step):
            assert (name in run) == (name in list(run)) == (run.get(name) is not None)
    assert "hook_logits" not in step and "hook_next_logits" not in acts
    assert "logits" not in step and step.get("logits") is None  # it means hook_logits


def test_a_recorder_is_a_dict_of_trace_points_in_all_else():
    acts = record()
    assert list(acts) == TABLE and len(acts) == len(TABLE) and acts == dict(acts)
    assert {**acts}.keys() == dict(acts).keys() == acts.keys() == (acts | {}).keys()
    for again in (copy.copy(acts), pickle.loads(pickle.dumps(Recorder(acts=acts)))):
        assert type(again) is type(acts) and list(again) == TABLE and again["ln_f"] is again["ln_final.hook_output"]
    acts["mine"] = np.ones(2)
    assert acts["mine"].sum() == 2 and acts.pop("mine").sum() == 2
    for change in (acts.pop, acts.__delitem__):
        with pytest.raises(KeyError):
            change("ln_f")
    assert acts.pop("ln_f", None) is None and acts.setdefault("keys", 1) == 1 and acts["keys"] == 1
    assert acts.model is MODEL


def test_a_tape_stays_a_plain_dict_and_a_recorder_reads_a_name_at_the_same_cost():
    assert Tape.__getitem__ is Recorder.__getitem__ is dict.__getitem__
    assert not hasattr(Tape, "__missing__") and Tape.__contains__ is dict.__contains__
    with pytest.raises(KeyError, match=r"^'ln_f'$"):
        Tape(record())["ln_f"]


def test_an_empty_recorder_says_that_it_is_empty():
    for word in ("ln_f", "hook_logits", "blocks.0.keys"):
        with pytest.raises(KeyError, match="in this Recorder, which is empty"):
            Recorder()[word]
        assert word not in Recorder()


# --- the other places ----------------------------------------------------------------------------


@pytest.mark.parametrize("word", [word for word in CASES if word != "hidden_states[3]"])
def test_a_patch_by_any_name_is_a_patch_of_that_point(word):
    if CASES[word] in points.WHOLE_NUMBERS:
        return
    edits = [Patch({name: lambda x: x * np.float32(1.5)}) for name in (word, CASES[word])]
    assert list(edits[0].edits) == [CASES[word]]
    by_word, by_name = (MODEL(IDS, trace=edit) for edit in edits)
    np.testing.assert_array_equal(by_word, by_name)
    assert not np.array_equal(by_word, MODEL(IDS))


@pytest.mark.parametrize("word", ["pattern", "keys", "ln_1", "heads", "W_K", "hook_pattren"])
def test_a_patch_of_what_has_no_single_meaning_is_refused_at_once(word):
    with pytest.raises(ValueError, match=re.escape(word)) as error:
        Patch({word: np.negative})
    if word in ("pattern", "keys", "ln_1"):
        every = re.search(r"give (\S+) for all of them", str(error.value))[1]
        assert fnmatch.filter(TABLE, every) == candidates(word, TABLE)


@pytest.mark.parametrize("pattern", ["blocks.*.attn.hook_z", "blocks.[01].hook_mlp_out", "blocks.[!2].hook_resid_pre"])
def test_a_pattern_in_a_patch_stays_a_pattern(pattern):
    assert list(Patch({pattern: np.negative}).edits) == [pattern]
    met = Patch({pattern: lambda x: x * np.float32(2)})
    assert not np.array_equal(MODEL(IDS, trace=met), MODEL(IDS))


def test_two_names_of_one_point_in_a_patch_are_refused():
    for words in (("ln_f", "ln_final.hook_output"), ("blocks.1.keys", "keys[1]"), ("wte", "embeddings")):
        with pytest.raises(ValueError, match="has an edit already"):
            Patch(dict.fromkeys(words, np.negative))
    with pytest.raises(ValueError, match="not by 3"):
        Patch({3: np.negative})


def test_transplant_and_steer_take_any_name():
    other = record(ids=IDS[::-1])
    vector = np.linspace(-1, 1, CONFIG.n_embd, dtype=np.float32)
    for word in ("blocks.1.resid_pre", "h.1.mlp", "hidden_states[1]"):
        name = CASES.get(word, "blocks.1.hook_resid_pre")
        for make in (lambda name: transplant(name, other, position=3), lambda name: steer(name, vector)):
            changed = MODEL(IDS, trace=make(word))
            np.testing.assert_array_equal(changed, MODEL(IDS, trace=make(name)))
            assert not np.array_equal(changed, MODEL(IDS))
    for word in ("resid_pre", "mlp"):
        with pytest.raises(ValueError, match="add the block, as in blocks"):
            transplant(word, other)


@pytest.mark.parametrize("word", ["blocks.1.pattern", "attentions[1]", "h.1.attn.softmax"])
def test_explain_takes_any_name(word):
    acts = record()
    found = explain(acts, MODEL, word, head=2, query=4, key=3)
    assert found.name == "blocks.1.attn.hook_pattern[2, 4, 3]" and found.error < 1e-5
    assert next(trail(acts, MODEL, word, (2, 4, 3))).name == found.name
    with pytest.raises(ValueError, match=r"pattern is blocks\.0\.attn\.hook_pattern \.\.\. blocks\.2"):
        explain(acts, MODEL, "pattern", (2, 4, 3))


@pytest.mark.parametrize("word", ["ln_f", "blocks.0.keys", "attentions[1]"])
def test_the_rows_of_a_diff_are_read_by_any_name(word):
    found = diff(record(), record(ids=IDS[::-1]))
    assert found.rows[word] is found.rows[CASES[word]] and list(found.rows) == TABLE
    with pytest.raises(KeyError, match=r"keys is blocks\.0\.attn\.hook_k"):
        found.rows["keys"]
    with pytest.raises(ValueError, match=f"{re.escape(word)} is {re.escape(CASES[word])} here"):
        diff(record(), {word: np.ones(3)})


@pytest.mark.parametrize(
    ("word", "ends"),
    [
        ("queries", ["hook_q"]),
        ("keys", ["hook_k"]),
        ("heads", ["hook_z", "hook_merged"]),
        ("Kcur", ["hook_k"]),
        ("layer norm", ["ln1.hook_output", "ln2.hook_output"]),
        ("attention weights", ["hook_pattern"]),
    ],
)
def test_a_selection_takes_all_that_a_word_means(word, ends):
    wanted = [f"blocks.{i}." for i in range(3)]
    found = [name for name in select(word, TABLE) if name.startswith("blocks.")]
    assert found == [name for name in TABLE if name.startswith(tuple(wanted)) and name.endswith(tuple(ends))]
    assert select_steps(CONFIG, [word], [1]) == [name for name in found if name.startswith("blocks.1.")]


def test_the_commands_take_any_name(capsys):
    prompt = "The capital of France is"
    assert main(["trace", prompt, "--model", "facts", "--only", "queries", "--only", "ln_f", "--json"]) == 0
    out, _ = capsys.readouterr()
    assert [f"blocks.{i}.attn.hook_q" in out for i in range(4)] == [True] * 4 and "hook_k" not in out
    assert main(["explain", prompt, "blocks.2.pattern[3, 4, 3]", "--model", "facts"]) == 0
    by_word = capsys.readouterr().out
    for number in ("attentions[2][3, 4, 3]", "blocks.2.attn.pattern [3,4,3]", "blocks.2.attn.hook_pattern[3, 4, 3]"):
        assert main(["explain", prompt, number, "--model", "facts"]) == 0
        assert capsys.readouterr().out == by_word
    for number in ("pattern[3,4,3]", "keys", "queries[0, 0, 0]"):
        assert main(["explain", prompt, number, "--model", "facts"]) == 1
        assert "add the block, as in blocks.0." in capsys.readouterr().err
    for only in ("W_K", "hook_patern"):
        assert main(["trace", prompt, "--model", "facts", "--only", only]) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and only in err and err.count("\n") == 1


@pytest.mark.parametrize("query", ["blocks.1.attn.keys", "h.2.attn.queries", "blocks.0.attn.hook_keys"])
def test_the_glossary_reads_where_a_tensor_is_before_its_name(query):
    assert find(query)[0].is_point and f"{{i}} {query}".split(".")[1] in find(query)[0].name


# --- layers of other classes -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False, repr=False)
class LowRank:
    a: np.ndarray
    b: np.ndarray
    bias: np.ndarray

    def __call__(self, x, trace=no_trace):
        return x @ self.a @ self.b + self.bias


class Plain:
    """A layer that is no dataclass, and holds nothing that could be found."""

    def __init__(self, layer):
        self.call = layer

    def __call__(self, *arguments):
        return self.call(*arguments)


@dataclass(frozen=True, eq=False, repr=False)
class Flipped:
    weight: np.ndarray  # (n_out, n_in), as PyTorch has it
    bias: np.ndarray

    def __call__(self, x, trace=no_trace):
        return x @ self.weight.T + self.bias


def low_rank(linear):
    return LowRank(linear.weight, np.eye(linear.weight.shape[1], dtype=np.float32), linear.bias)


def flipped(linear):
    return Flipped(np.ascontiguousarray(linear.weight.T), linear.bias)


REPLACED = {  # what is replaced in block 1: (how, the point whose numbers are made there, an index)
    "c_attn by factors": (
        lambda b: replace(b, attn=replace(b.attn, c_attn=low_rank(b.attn.c_attn))),
        "attn.hook_qkv",
        "LowRank",
    ),
    "c_fc by a transposed one": (
        lambda b: replace(b, mlp=replace(b.mlp, c_fc=flipped(b.mlp.c_fc))),
        "mlp.hook_pre",
        "Flipped",
    ),
    "mlp.c_proj by anything": (
        lambda b: replace(b, mlp=replace(b.mlp, c_proj=Plain(b.mlp.c_proj))),
        "hook_mlp_out",
        "Plain",
    ),
    "attn by anything": (lambda b: replace(b, attn=Plain(b.attn)), "hook_attn_out", "Plain"),
    "the block by anything": (Plain, "hook_mlp_out", "Plain"),
}


def with_block(change):
    return replace(MODEL, h=(MODEL.h[0], change(MODEL.h[1]), MODEL.h[2]))


@pytest.mark.parametrize("what", REPLACED)
def test_numbers_of_a_layer_that_is_not_ours_are_refused_by_its_name_and_all_others_explained(what):
    change, made, kind = REPLACED[what]
    model = with_block(change)
    acts = record(model)
    np.testing.assert_allclose(model(IDS), MODEL(IDS), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=rf"made by h\.1\..*{kind} of this model has") as error:
        explain(acts, model, f"blocks.1.{made}", (2, 3))
    assert not isinstance(error.value, KeyError) and "\n" not in str(error.value)
    for name in ("blocks.0.attn.hook_qkv", "blocks.1.hook_resid_mid", "blocks.2.hook_mlp_out"):
        assert explain(acts, model, name, (2, 3)).rounding < 2e-6
    with pytest.raises(ValueError, match="of this model has"):
        list(trail(acts, model, f"blocks.1.{made}", (2, 3)))
    assert f"{len(model.params)} arrays" in repr(model.params) and "GPT2 of" in repr(model)


@pytest.mark.parametrize("what", ["mlp.c_proj by anything", "attn by anything", "the block by anything"])
def test_a_split_through_a_layer_that_is_not_ours_is_refused_by_its_name(what):
    model = with_block(REPLACED[what][0])
    with pytest.raises(ValueError, match="Plain of this model has no such array"):
        lens.split(record(model), model, 11)
    assert lens.logit_lens(record(model), model, 11)[-1]["rank"] >= 1  # that only calls the layers
    assert record(model)._repr_html_().startswith("<iframe")


def test_a_head_that_is_not_ours_is_refused_by_its_name_too():
    model = replace(MODEL, lm_head=Plain(MODEL.lm_head))
    assert not model.tied and "lm_head.weight" not in model.params
    with pytest.raises(ValueError, match="Plain of this model has no such array"):
        lens.split(record(model), model, 11)
