"""Every tensor is found by every name it has, and the names are those that others really use.

The names of other projects are checked against what those projects do: their own rules of renaming,
written out below, a TransformerBridge that ran once with the weights of `random_model`, and with
``pytest -m reference`` a live GPT2LMHeadModel.
"""

import importlib
import inspect
import json
import operator
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import announced, random_model

import nanogpt_np
from nanogpt_np import Recorder
from nanogpt_np.__main__ import main
from nanogpt_np.model.config import Config
from nanogpt_np.names import glossary, parameters, points
from nanogpt_np.names.aliases import DIALECTS
from nanogpt_np.names.entries import PARAMETERS, entries
from nanogpt_np.names.glossary import as_text, find, names_of
from nanogpt_np.names.points_page import page
from nanogpt_np.names.sizes import PUBLISHED

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "points.md"
MODEL64 = random_model(dtype=np.float64)
CONFIG = MODEL64.config
IDS = np.array([3, 1, 41, 59, 26, 1, 53])  # T = 7
SAME = {"rtol": 0, "atol": 1e-12}  # the same sums in another order, in float64; measured: 1.8e-15
FIRST_OF_ALL = "blocks.0.hook_resid_pre"  # the one tensor that has names of its own in one block only


def record(model=MODEL64, ids=IDS):
    acts = Recorder()
    model(ids, trace=acts)
    return acts


def names_in(dialect, block=None):
    """Return ``{our name: names}`` of all tensors that have any in a dialect."""
    return {e.name: e.names[dialect] for e in entries(block) if dialect in e.names}


def all_names(entry):
    return [entry.name, *sum(entry.names.values(), ())]


def letters(name):
    """Return what is left of a name where neither case nor separators matter."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def first(query, config=None):
    return find(query, config)[0].name


# --- the table -----------------------------------------------------------------------------------


def test_the_table_has_every_trace_point_and_every_parameter_in_order():
    known = [e for e in entries() if e.name != FIRST_OF_ALL]
    assert [e.name for e in known if e.is_point] == list(points.TEMPLATES)
    assert [e.name for e in known if not e.is_point and not e.index] == list(PARAMETERS)
    assert {e.tensor.name for e in known if e.index} <= set(PARAMETERS)
    assert all(e.names for e in known)


def test_of_a_block_there_are_its_points_and_parameters_with_its_number_and_nothing_else():
    wanted = [name.format(i=4) for name in (*points.TEMPLATES, *PARAMETERS) if "{i}" in name]
    found = entries(4)
    assert [e.name for e in found if not e.index] == wanted
    assert "{i}" not in "".join(name for e in found for name in all_names(e))
    assert all(e.row()["reads" if e.is_point else "read by"] for e in found)


@pytest.mark.parametrize("dialect", [name for name, _ in DIALECTS.values() if name not in ("words", "papers")])
def test_a_name_belongs_to_one_tensor_only(dialect):
    names = [name for some in names_in(dialect).values() for name in some]
    twice = {name for name in names if names.count(name) > 1}
    assert twice == ({"present"} if dialect == "OpenAI TF" else set())  # keys and values, stacked


@pytest.mark.parametrize("config", [None, CONFIG, Config(tie_word_embeddings=False)], ids=["", "tied", "untied"])
@pytest.mark.parametrize("block", [None, 0, 2])
def test_every_tensor_is_found_by_each_of_its_names_and_comes_first(block, config):
    known = entries(block, config)
    for entry in known:
        assert first(entry.name, config) == entry.name
        for name in all_names(entry):
            having = [other.name for other in known if letters(name) in map(letters, all_names(other))]
            numbered = block is None or re.search(rf"(blocks\.|blk\.|h\.?|\[){block}\b", name)
            found = find(name if numbered else f"{name} of block {block}", config)
            assert entry.name in [other.name for other in found[: len(having)]], (name, entry.name)


@pytest.mark.parametrize("block", [None, 2])
def test_case_and_separators_change_nothing(block):
    for entry in entries(block):
        for name in all_names(entry):
            found = find(name)
            assert find(name.upper().replace("{I}", "{i}")) == found, name
            if block is None and "{i}" not in name:
                assert find(re.sub(r"[_./ -]", "-", name)) == find(re.sub(r"[_./ -]", " ", name)) == found, name


# --- what people type ----------------------------------------------------------------------------

K, QKV = "blocks.{i}.attn.hook_k", "h.{i}.attn.c_attn.weight"
TYPED = {
    "hook_pattern": "blocks.{i}.attn.hook_pattern",
    "attn.hook_q": "blocks.{i}.attn.hook_q",
    "c_attn": QKV,
    "h.3.attn.c_attn.weight": "h.3.attn.c_attn.weight",
    "transformer.h.0.mlp.c_fc": "blocks.0.mlp.hook_pre",
    "keys": K,
    "Key": K,
    "queries": "blocks.{i}.attn.hook_q",
    "attention weights": "blocks.{i}.attn.hook_pattern",
    "attention-scores": "blocks.{i}.attn.hook_attn_scores",
    "residual stream": "blocks.{i}.hook_resid_pre",
    "logits": "hook_logits",
    "embedding": "hook_embed",
    "positions": "hook_positions",
    "hidden layer of the MLP": "blocks.{i}.mlp.hook_post",
    "neurons": "blocks.{i}.mlp.hook_post",
    "layer norm": "blocks.{i}.ln1.hook_output",
    "unembedding": "hook_logits",
    "heads": "blocks.{i}.attn.hook_z",
    "output of the heads": "blocks.{i}.attn.hook_z",
    "W_Q": QKV + "[:, 0:C]",
    "Wk": QKV + "[:, C:2*C]",
    "w_v": QKV + "[:, 2*C:3*C]",
    "b_K": "h.{i}.attn.c_attn.bias[C:2*C]",
    "W_O": "h.{i}.attn.c_proj.weight",
    "W_E": "wte.weight",
    "W_pos": "wpe.weight",
    "W_U": "lm_head.weight.T",
    "W_in": "h.{i}.mlp.c_fc.weight",
    "W_out": "h.{i}.mlp.c_proj.weight",
    "b_in": "h.{i}.mlp.c_fc.bias",
    "hook_in": "blocks.{i}.hook_resid_pre",
    "hook_out": "blocks.{i}.hook_resid_post",
    "blocks.0.attn.q.hook_out": "blocks.0.attn.hook_q",
    "token_embd": "wte.weight",
    "position_embd": "wpe.weight",
    "blk.0.attn_qkv.weight": "h.0.attn.c_attn.weight",
    "blk.3.attn_k": "h.3.attn.c_attn.weight[:, C:2*C]",
    "ffn_up": "h.{i}.mlp.c_fc.weight",
    "output_norm": "ln_f.weight",
    "model/h0/attn/c_attn/w": "h.0.attn.c_attn.weight",
    "attentions": "blocks.{i}.attn.hook_pattern",
    "attentions[11]": "blocks.11.attn.hook_pattern",
    "hidden_states": "blocks.{i}.hook_resid_pre",
    "hidden_states[3]": "blocks.3.hook_resid_pre",
    "hidden_states[-1]": "ln_final.hook_output",
    "past_key_values": K,
    "past_key_values.layers[3].keys": "blocks.3.attn.hook_k",
    "qkv": "blocks.{i}.attn.hook_qkv",
    "preatt": "blocks.{i}.attn.hook_attn_scores",
    "att": "blocks.{i}.attn.hook_pattern",
    "fch": "blocks.{i}.mlp.hook_pre",
    "fch_gelu": "blocks.{i}.mlp.hook_post",
    "residual2": "blocks.{i}.hook_resid_mid",
    "residual3": "blocks.{i}.hook_resid_post",
    "lnf": "ln_final.hook_output",
    "keys of block 2": "blocks.2.attn.hook_k",
    "layer 5 neurons": "blocks.5.mlp.hook_post",
    "h7": "blocks.7.hook_resid_pre",
    "softmax": "blocks.{i}.attn.hook_pattern",
    "normali": "blocks.{i}.ln1.hook_normalized",  # a part of a word, where no whole word fits
}


@pytest.mark.parametrize("query", TYPED)
def test_what_people_type_means_what_they_mean(query):
    assert first(query) == TYPED[query]


@pytest.mark.parametrize(
    ("query", "all_of_them"),
    [
        ("residual stream", ["resid_pre", "resid_mid", "resid_post"]),
        ("layer norm", ["ln1.hook_output", "ln2.hook_output", "ln_final.hook_output"]),
        ("past_key_values", ["attn.hook_k", "attn.hook_v"]),
        ("hidden_states", ["hook_resid_pre", "ln_final.hook_output"]),  # mind that the last entry is after ln_f
        ("c_attn", ["c_attn.weight", "c_attn.bias", "hook_qkv"]),
        ("lm_head", ["hook_logits", "lm_head.weight"]),
    ],
)
def test_a_name_of_several_tensors_finds_all_of_them(query, all_of_them):
    found = [entry.name for entry in find(query)]
    for name, end in zip(found, all_of_them, strict=False):
        assert name.endswith(end)
    assert len(found) >= len(all_of_them)


@pytest.mark.parametrize("query", ["W_K", "neurons", "att", "hook_pattern", "output of the heads"])
def test_who_gives_a_whole_name_is_not_told_of_those_that_hold_it_in_the_middle(query):
    assert len(find(query)) == 1


def test_a_number_alone_finds_the_whole_block():
    assert find("block 3") == find("blk.3") == find("layers[3]") == list(entries(3))


def test_where_the_head_is_tied_its_names_lead_to_the_token_embedding():
    assert first("lm_head.weight", CONFIG) == first("output.weight", CONFIG) == first("W_E", CONFIG) == "wte.weight"
    assert first("W_U", CONFIG) == "wte.weight.T"
    assert "lm_head.weight" not in [entry.name for entry in entries(config=CONFIG)]
    assert find("wte", CONFIG)[0].row(CONFIG)["read by"] == ["hook_embed", "hook_logits", "hook_next_logits"]
    untied = Config(tie_word_embeddings=False)
    assert first("lm_head.weight", untied) == "lm_head.weight" and first("W_U", untied) == "lm_head.weight.T"
    assert find("wte", untied)[0].row(untied)["read by"] == ["hook_embed"]


@pytest.mark.parametrize(
    ("query", "near"),
    [
        ("atention wieghts", "attention weights"),
        ("hook_patern", "hook_pattern"),
        ("c_atn", "c_attn"),
        ("W_Z", "W_V"),
        ("blk.3.attn_kqv", "attn_qkv"),
    ],
)
def test_an_unknown_word_is_refused_with_the_nearest_names(query, near):
    with pytest.raises(ValueError, match=re.escape(repr(query)) + r".*did you mean .*" + near):
        find(query)


@pytest.mark.parametrize("query", ["", " ", "!!", "."])
def test_nothing_to_look_up_is_refused(query):
    with pytest.raises(ValueError, match="no word to look up"):
        find(query)


def test_a_block_that_the_model_does_not_have_is_refused():
    assert first("blk.2.attn_k", CONFIG)
    assert first("blk.3.attn_k")
    with pytest.raises(ValueError, match=r"no block 3 for 'blk\.3\.attn_k': this model has blocks 0 to 2"):
        find("blk.3.attn_k", CONFIG)


@pytest.mark.parametrize("config", [CONFIG, PUBLISHED["gpt2"]], ids=["small", "gpt2"])
def test_the_hidden_state_after_the_last_block_is_the_output_of_the_final_norm(config):
    n = config.n_layer
    for query in ("hidden_states[{}]", "Hidden states[{}]", "hidden state[{}]"):
        for i in range(n):
            assert first(query.format(i), config) == f"blocks.{i}.hook_resid_pre"
        assert find(query.format(n), config) == find("hidden_states[-1]", config)
        assert first(query.format(n), config) == "ln_final.hook_output"
    assert first(f"hidden_states[{n}]") == f"blocks.{n}.hook_resid_pre"  # of a model that may have more blocks
    for query in (f"hidden_states[{n + 1}]", f"attentions[{n}]"):
        with pytest.raises(ValueError, match=f"this model has blocks 0 to {n - 1}"):
            find(query, config)


def test_names_of_a_trace_point_by_vocabulary():
    assert names_of("blocks.3.attn.hook_k") == {
        "TransformerLens": ("blocks.3.attn.hook_k",),
        "TransformerLens 3": ("blocks.3.attn.k.hook_out",),
        "Hugging Face": ("past_key_values.layers[3].keys",),
        "GGUF": ("Kcur",),
        "OpenAI TF": ("present",),
        "papers": ("K",),
        "words": ("keys", "KV cache"),
    }
    assert names_of("h.2.ln_1.bias")["Hugging Face"] == ("transformer.h.2.ln_1.bias",)
    for name, point in points.table(CONFIG, points.NEXT_TOKEN).items():
        assert names_of(name).get("TransformerLens") == (None if point.extra else (name,))
    with pytest.raises(ValueError, match=r"'blocks\.3\.attn\.hook_x' \(did you mean blocks\.3\.attn\.hook_"):
        names_of("blocks.3.attn.hook_x")


# --- the names of others -------------------------------------------------------------------------

OTHERS = {  # the part of a parameter's name that is a layer: (GGUF, llm.c)
    "wte": ("token_embd", "wte"),
    "wpe": ("position_embd", "wpe"),
    "ln_1": ("attn_norm", "ln1"),
    "attn.c_attn": ("attn_qkv", "qkv"),
    "attn.c_proj": ("attn_output", "attproj"),
    "ln_2": ("ffn_norm", "ln2"),
    "mlp.c_fc": ("ffn_up", "fc"),
    "mlp.c_proj": ("ffn_down", "fcproj"),
    "ln_f": ("output_norm", "lnf"),
    "lm_head": ("output", None),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_have_the_names_that_each_project_makes_by_its_rule(name):
    numbered = name.replace("{i}", "2")
    names = names_of(numbered)
    layer, _, kind = name.removeprefix("h.{i}.").rpartition(".")
    gguf, llmc = OTHERS[layer]
    assert names["GGUF"] == (("blk.2." if "{i}" in name else "") + f"{gguf}.{kind}",)
    assert names["Hugging Face"] == (numbered if layer == "lm_head" else "transformer." + numbered,)
    if layer == "lm_head":
        assert {"llm.c", "OpenAI TF"}.isdisjoint(names)
        return
    assert names["llm.c"] == (llmc if layer in ("wte", "wpe") else llmc + kind[0],)
    # As transformers' converter reads a TensorFlow checkpoint: w and g are weights, b is a bias, h2 is block 2.
    (variable,) = names["OpenAI TF"]
    parts = variable.removeprefix("model/").split("/")
    if parts[-1] in ("w", "g", "b"):
        parts[-1] = "bias" if parts[-1] == "b" else "weight"
    else:
        parts.append("weight")
    assert ".".join(parts).replace("h2.", "h.2.") == numbered
    assert ("ln_" in name) == ("/ln_" in variable and variable[-1] in "gb")


# Every hook of a TransformerBridge (TransformerLens 3.9.0) that fired for GPT2LMHeadModel with the weights of
# `random_model`, and the point of this package with the same values; block 1 for all.
BRIDGE = {
    "embed.hook_in": "hook_tokens",
    "embed.hook_out": "hook_embed",
    "pos_embed.hook_in": "hook_positions",
    "pos_embed.hook_out": "hook_pos_embed",
    "blocks.1.hook_in": "blocks.1.hook_resid_pre",
    "blocks.1.ln1.hook_in": "blocks.1.hook_resid_pre",
    "blocks.1.ln1.hook_scale": "blocks.1.ln1.hook_scale",
    "blocks.1.ln1.hook_normalized": "blocks.1.ln1.hook_normalized",
    "blocks.1.ln1.hook_out": "blocks.1.ln1.hook_output",
    "blocks.1.attn.hook_in": "blocks.1.ln1.hook_output",
    "blocks.1.attn.q.hook_in": "blocks.1.ln1.hook_output",
    "blocks.1.attn.q.hook_out": "blocks.1.attn.hook_q",
    "blocks.1.attn.k.hook_in": "blocks.1.ln1.hook_output",
    "blocks.1.attn.k.hook_out": "blocks.1.attn.hook_k",
    "blocks.1.attn.v.hook_in": "blocks.1.ln1.hook_output",
    "blocks.1.attn.v.hook_out": "blocks.1.attn.hook_v",
    "blocks.1.attn.hook_attn_scores": "blocks.1.attn.hook_attn_scores",
    "blocks.1.attn.hook_pattern": "blocks.1.attn.hook_pattern",
    "blocks.1.attn.o.hook_in": "blocks.1.attn.hook_z",
    "blocks.1.attn.o.hook_out": "blocks.1.hook_attn_out",
    "blocks.1.attn.hook_hidden_states": "blocks.1.hook_attn_out",
    "blocks.1.attn.hook_out": "blocks.1.hook_attn_out",
    "blocks.1.ln2.hook_in": "blocks.1.hook_resid_mid",
    "blocks.1.ln2.hook_scale": "blocks.1.ln2.hook_scale",
    "blocks.1.ln2.hook_normalized": "blocks.1.ln2.hook_normalized",
    "blocks.1.ln2.hook_out": "blocks.1.ln2.hook_output",
    "blocks.1.mlp.hook_in": "blocks.1.ln2.hook_output",
    "blocks.1.mlp.in.hook_in": "blocks.1.ln2.hook_output",
    "blocks.1.mlp.in.hook_out": "blocks.1.mlp.hook_pre",
    "blocks.1.mlp.out.hook_in": "blocks.1.mlp.hook_post",
    "blocks.1.mlp.out.hook_out": "blocks.1.hook_mlp_out",
    "blocks.1.mlp.hook_out": "blocks.1.hook_mlp_out",
    "blocks.1.hook_out": "blocks.1.hook_resid_post",
    "ln_final.hook_in": "blocks.{last}.hook_resid_post",
    "ln_final.hook_scale": "ln_final.hook_scale",
    "ln_final.hook_normalized": "ln_final.hook_normalized",
    "ln_final.hook_out": "ln_final.hook_output",
    "unembed.hook_in": "ln_final.hook_output",
    "unembed.hook_out": "hook_logits",
    "hook_unembed": "hook_logits",
}


def test_every_name_of_transformer_lens_3_is_a_hook_that_had_the_same_values():
    named = names_in("TransformerLens 3") | names_in("TransformerLens 3", block=1)
    pairs = {name: ours for ours, names in named.items() for name in names if "hook_" in ours and "{i}" not in ours}
    assert pairs == {name: ours for name, ours in BRIDGE.items() if name in pairs}
    # What TransformerLens can record under a name of its own is found under it, whichever the name.
    has_one = {entry.name for entry in (*entries(), *entries(1)) if "TransformerLens 3" in entry.names}
    assert {ours for ours in BRIDGE.values() if "{last}" not in ours} <= has_one


# What `convert_gpt2_weights` of TransformerLens 2 makes of a checkpoint, by the parameter that it reads: in block 1.
TRANSFORMER_LENS = {
    "wte.weight": ("embed.W_E",),
    "wpe.weight": ("pos_embed.W_pos",),
    "h.1.ln_1.weight": ("blocks.1.ln1.w",),
    "h.1.ln_1.bias": ("blocks.1.ln1.b",),
    "h.1.attn.c_attn.weight": ("blocks.1.attn.W_Q", "blocks.1.attn.W_K", "blocks.1.attn.W_V"),
    "h.1.attn.c_attn.bias": ("blocks.1.attn.b_Q", "blocks.1.attn.b_K", "blocks.1.attn.b_V"),
    "h.1.attn.c_proj.weight": ("blocks.1.attn.W_O",),
    "h.1.attn.c_proj.bias": ("blocks.1.attn.b_O",),
    "h.1.ln_2.weight": ("blocks.1.ln2.w",),
    "h.1.ln_2.bias": ("blocks.1.ln2.b",),
    "h.1.mlp.c_fc.weight": ("blocks.1.mlp.W_in",),
    "h.1.mlp.c_fc.bias": ("blocks.1.mlp.b_in",),
    "h.1.mlp.c_proj.weight": ("blocks.1.mlp.W_out",),
    "h.1.mlp.c_proj.bias": ("blocks.1.mlp.b_out",),
    "ln_f.weight": ("ln_final.w",),
    "ln_f.bias": ("ln_final.b",),
    "lm_head.weight": ("unembed.W_U",),
}
# The same in the state dict of the TransformerBridge above.
BRIDGE_WEIGHTS = {
    "wte.weight": ("embed.weight",),
    "wpe.weight": ("pos_embed.weight",),
    "h.1.ln_1.weight": ("blocks.1.ln1.weight",),
    "h.1.ln_1.bias": ("blocks.1.ln1.bias",),
    "h.1.attn.c_attn.weight": ("blocks.1.attn.q.weight", "blocks.1.attn.k.weight", "blocks.1.attn.v.weight"),
    "h.1.attn.c_attn.bias": ("blocks.1.attn.q.bias", "blocks.1.attn.k.bias", "blocks.1.attn.v.bias"),
    "h.1.attn.c_proj.weight": ("blocks.1.attn.o.weight",),
    "h.1.attn.c_proj.bias": ("blocks.1.attn.o.bias",),
    "h.1.ln_2.weight": ("blocks.1.ln2.weight",),
    "h.1.ln_2.bias": ("blocks.1.ln2.bias",),
    "h.1.mlp.c_fc.weight": ("blocks.1.mlp.in.weight",),
    "h.1.mlp.c_fc.bias": ("blocks.1.mlp.in.bias",),
    "h.1.mlp.c_proj.weight": ("blocks.1.mlp.out.weight",),
    "h.1.mlp.c_proj.bias": ("blocks.1.mlp.out.bias",),
    "ln_f.weight": ("ln_final.weight",),
    "ln_f.bias": ("ln_final.bias",),
    "lm_head.weight": ("unembed.weight",),
}


@pytest.mark.parametrize(
    ("dialect", "expected"), [("TransformerLens", TRANSFORMER_LENS), ("TransformerLens 3", BRIDGE_WEIGHTS)]
)
def test_parameters_have_the_names_that_transformer_lens_gives_them(dialect, expected):
    found = {}
    for entry in (*entries(), *entries(1)):
        if not entry.is_point and dialect in entry.names and "{i}" not in entry.name:
            found[entry.tensor.name] = found.get(entry.tensor.name, ()) + entry.names[dialect]
    assert found == expected


# --- the parts of parameters ---------------------------------------------------------------------


def part(name, config=CONFIG, **letters):
    """Evaluate what the table says of a part: ``h.1.attn.c_attn.weight[:, C + h*D : C + (h+1)*D]``."""
    parameter, index = re.fullmatch(r"([\w.]+?)(\[.*|\.T)?", name).groups("")
    return eval("array" + index, {"array": MODEL64.params[parameter], **config.sizes, **letters})


@pytest.mark.parametrize("x", "QKV")
@pytest.mark.parametrize("block", range(CONFIG.n_layer))
def test_the_columns_of_w_q_w_k_and_w_v_give_the_recorded_queries_keys_and_values(x, block):
    acts = record()
    read = acts[f"blocks.{block}.ln1.hook_output"]
    weight, bias = (find(f"blocks.{block}.attn.{letter}_{x}", CONFIG)[0] for letter in "Wb")
    wanted = acts[f"blocks.{block}.attn.hook_{x.lower()}"]  # (T, H, D)
    whole = read @ part(weight.name) + part(bias.name)
    np.testing.assert_allclose(whole.reshape(wanted.shape), wanted, **SAME)
    for h in range(CONFIG.n_head):
        W, b = (part(entry.row(CONFIG)["of head h"], h=h) for entry in (weight, bias))
        assert W.shape == (CONFIG.n_embd, CONFIG.head_width) and b.shape == (CONFIG.head_width,)
        np.testing.assert_allclose(read @ W + b, wanted[:, h], **SAME)


def test_the_rows_of_w_o_give_what_each_head_adds():
    acts = record()
    rows = find("blocks.1.attn.W_O", CONFIG)[0].row(CONFIG)["of head h"]
    z = acts["blocks.1.attn.hook_z"]
    heads = [z[:, h] @ part(rows, h=h) for h in range(CONFIG.n_head)]
    total = sum(heads) + part(first("blocks.1.attn.b_O", CONFIG))
    np.testing.assert_allclose(total, acts["blocks.1.hook_attn_out"], **SAME)


def test_the_last_rows_times_w_u_are_the_logits():
    acts = record()
    np.testing.assert_allclose(acts["ln_final.hook_output"] @ part(first("W_U", CONFIG)), acts["hook_logits"], **SAME)


@pytest.mark.parametrize("config", [CONFIG, *PUBLISHED.values()], ids=["", *PUBLISHED])
def test_a_part_has_the_shape_that_its_axes_say(config):
    table = parameters.table(config)
    for entry in entries(1, config) + entries(config=config):
        if entry.index and "{i}" not in entry.name:
            whole = np.broadcast_to(np.float32(0), table[entry.tensor.name].shape(config))
            cut = eval("whole" + entry.index, {"whole": whole, **config.sizes})
            assert entry.row(config)["shape"] == list(cut.shape), entry.name


# --- the page ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_size_announces_the_shapes_that_are_shown(name):
    config = PUBLISHED[name]
    rows = {e.name: e.row(config, T=3) for block in (None, *range(config.n_layer)) for e in entries(block, config)}
    shown = {name: row["shape"] for name, row in rows.items() if row["kind"] == "trace point" and "{i}" not in name}
    assert {name: tuple(shape) for name, shape in shown.items()} == announced(config, T=3)
    sizes = {name: row["shape"] for name, row in rows.items() if row["kind"] == "parameter" and "{i}" not in name}
    assert sizes == {name: list(p.shape(config)) for name, p in parameters.table(config).items()}


def test_the_page_in_docs_is_what_the_command_prints(capsys):
    assert main(["glossary", "--markdown"]) == 0
    again = "docs/points.md is old; make it again: python -m nanogpt_np glossary --markdown > docs/points.md"
    assert PAGE.read_text(encoding="utf-8") == capsys.readouterr().out, again


def test_the_page_shows_the_shapes_of_gpt2_for_5_tokens():
    shapes = announced(PUBLISHED["gpt2"], T=5)
    sections = re.findall(r"^### `(.*?)`\n.*?^\| shape \| `\[(.*?)\]`, in gpt2 `(\[.*?\])` \|", page(), re.M | re.S)
    assert [name for name, _, _ in sections] == [entry.name for entry in entries()]
    for name, axes, shape in sections:
        if "hook_" in name:
            assert tuple(json.loads(shape)) == shapes[name.replace("{i}", "1")], name
            assert len(axes.split()) == len(json.loads(shape))
    listed = re.findall(r"^\| \[`(.*?)`\]\(#.*?\) \| `(\[.*?\])` \|", page(), re.M)
    assert listed == [(name, shape) for name, _, shape in sections]


def test_the_code_on_the_page_runs():
    (code,) = re.findall(r"```python\n(.*?)```", page(), re.S)
    scope = {}
    exec(code, scope)
    assert scope["pattern"] is scope["acts"]["blocks.3.attn.hook_pattern"]


def test_every_link_of_the_page_leads_somewhere():
    text = page()
    anchors = re.findall(r'<a id="(.*?)"></a>', text)
    assert len(set(anchors)) == len(anchors) == len(entries())
    links = re.findall(r"\]\((.*?)\)", text)
    assert {link[1:] for link in links if link.startswith("#")} <= set(anchors)
    files = {link for link in links if not link.startswith("#")}
    assert files and all((PAGE.parent / link).is_file() for link in files)


def test_the_places_that_are_named_announce_their_points():
    for point in points.TEMPLATES.values():
        module, _, definition = point.where.partition(":")
        found = operator.attrgetter(definition)(importlib.import_module(f"nanogpt_np.{module}"))
        assert found.__module__ == f"nanogpt_np.{module}", point.where
        assert f'"{point.name.rpartition(".")[2]}"' in inspect.getsource(found), point.where


# --- the command ---------------------------------------------------------------------------------


def test_without_a_word_there_is_a_line_for_every_tensor(capsys):
    assert main(["glossary"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:37].rstrip() for line in lines] == [entry.name for entry in entries()]
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("more", [[], ["--model", "gpt2-xl"]])
def test_with_a_word_it_prints_all_that_is_known_in_80_columns(capsys, more, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    for query in ("h.1", "keys", "logits", "W_U"):
        assert main(["glossary", query, *more]) == 0
        out = capsys.readouterr().out
        config = PUBLISHED["gpt2-xl"] if more else None
        assert out == "\n\n".join(as_text(entry.row(config)) for entry in find(query, config)) + "\n"
        assert max(map(len, out.splitlines())) <= 80
        squeezed = " ".join(out.split())
        for entry in find(query, config):
            row = entry.row(config)
            everything = [
                row["name"],
                f"[{row['axes']}]",
                *(row.get(key, "") for key in ("equation", "notice", "where")),
            ]
            everything += [name for names in row["names"].values() for name in names]
            everything += row.get("reads", []) + row.get("weights", []) + row.get("read by", [])
            assert all(text in squeezed for text in everything)


def test_words_need_no_quotes_and_a_model_gives_its_sizes(capsys):
    assert main(["glossary", "attention", "weights", "--model", "gpt2-medium"]) == 0
    assert capsys.readouterr().out.startswith("blocks.{i}.attn.hook_pattern  [H T S] = [16, T, S]  trace point\n")
    assert main(["glossary", "keys", "--model", "facts"]) == 0
    assert "[T H D] = [T, 4, 16]" in capsys.readouterr().out
    assert main(["glossary", "--model", "gpt2"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^wpe\.weight +\[1024, 768\] ", out, re.M) and "lm_head.weight " not in out


def test_json_has_the_rows(capsys):
    assert main(["glossary", "W_K", "--model", "gpt2", "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert (whole["query"], whole["model"]) == ("W_K", "gpt2")
    (row,) = whole["tensors"]
    assert row["name"] == "h.{i}.attn.c_attn.weight[:, C:2*C]"
    assert row["shape"] == [768, 768]
    assert row["of head h"] == "h.{i}.attn.c_attn.weight[:, C + h*D : C + (h+1)*D]"
    assert row["read by"] == ["blocks.{i}.attn.hook_qkv"]
    assert row["names"]["TransformerLens"] == ["blocks.{i}.attn.W_K"]
    assert main(["glossary", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["tensors"]
    assert [row["name"] for row in rows] == [entry.name for entry in entries()]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["kays"], 1, "did you mean keys"),
        ([""], 1, "no word to look up"),
        (["blk.12.attn_k", "--model", "gpt2"], 1, "blocks 0 to 11"),
        (["keys", "--model", "gpt3"], 1, "no model 'gpt3'"),
        (["keys", "--markdown"], 1, "no word"),
        (["--json", "--markdown"], 2, "not allowed with"),
    ],
)
def test_a_mistake_is_told_in_one_line(capsys, arguments, code, words):
    assert main(["glossary", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == "" and words in err and err.count("\n") == 1


def test_it_runs_in_a_process_of_its_own_without_a_warning():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "nanogpt_np", "glossary", "W_K"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("h.{i}.attn.c_attn.weight[:, C:2*C]")


# --- live ----------------------------------------------------------------------------------------


@pytest.mark.reference
def test_every_name_of_hugging_face_is_a_module_an_output_or_a_key_with_the_same_values(tmp_path):
    torch = pytest.importorskip("torch", reason="pip install -e '.[reference]'")
    transformers = pytest.importorskip("transformers", reason="pip install -e '.[reference]'")
    transformers.utils.logging.disable_progress_bar()
    model = random_model()
    nanogpt_np.save(model, tmp_path)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, attn_implementation="eager").eval()
    put_out = {}
    for name, module in theirs.named_modules():
        module.register_forward_hook(lambda _module, _inputs, out, name=name: put_out.update({name: out}))
    ids = torch.from_numpy(IDS)[None]
    inputs = {"input_ids": ids, "position_ids": torch.arange(len(IDS))[None]}
    with torch.no_grad():
        out = theirs(**inputs, output_attentions=True, output_hidden_states=True, use_cache=True)
    assert len(out.hidden_states) == CONFIG.n_layer + 1
    acts, state = record(model), theirs.state_dict()
    checked = set()
    for ours, names in [pair for block in (None, 0, 1, 2) for pair in names_in("Hugging Face", block).items()]:
        for name in names:
            if "{i}" in name:
                continue
            if "hook_" not in ours:
                expected = state[name].numpy()
                actual = model.params["wte.weight" if ours == "lm_head.weight" else ours]
            else:
                found = put_out[name] if name in put_out else inputs[name] if name in inputs else eval(f"out.{name}")
                expected = (found[0] if isinstance(found, tuple) else found).numpy()[0]
                actual = acts[ours]
                if name.endswith((".keys", ".values")):
                    expected = expected.swapaxes(0, 1)  # heads first
            assert expected.shape == actual.shape, name
            np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-5, err_msg=name)  # measured: 5.0e-6
            checked.add(name)
    assert len(checked) == 92


@pytest.mark.parametrize("query", ["a, b\n" * 5_000, "attn.mlp." * 3_000, "x" * 100_000, "keys " * 20_000])
def test_a_long_query_is_read_once_and_not_once_for_each_of_its_words(query, monkeypatch):
    calls, real = [], glossary._fitting
    monkeypatch.setattr(glossary, "_fitting", lambda *given: calls.append(given) or real(*given))
    with pytest.raises(ValueError, match="no tensor is called"):
        glossary.find(query)
    assert len(calls) <= glossary.MOST_WORDS
