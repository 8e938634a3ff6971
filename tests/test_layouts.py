"""Files as people have them: names with prefixes, transposed matrices, other dtypes, settings, other formats.

What can be told for certain loads as the same model; what cannot is refused in one line, by what it is.
"""

import dataclasses
import json
import math
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from helpers import random_model, random_parameter, scripted_model
from test_checkpoint import as_bf16, as_f16, as_f32, mapped, same_bits, write

import nanogpt_np
from nanogpt_np.__main__ import main
from nanogpt_np.generate.loop import generate
from nanogpt_np.model.config import MOST_ENDS, OTHER_ACTIVATIONS, TANH_GELU, Config
from nanogpt_np.names.sizes import published
from nanogpt_np.train.corpus import TextData
from nanogpt_np.train.settings import Settings
from nanogpt_np.train.trainer import Trainer
from nanogpt_np.weights import configs, foreign, layouts, pins, places, tensors
from nanogpt_np.weights.checkpoint import load, open_checkpoint

IDS = np.array([3, 1, 41, 59, 26])
MATRICES = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
LONGEST = 1000  # characters of an error, the path of the test's folder among them
reference = pytest.mark.reference


def as_f64(array):
    return "F64", np.asarray(array).astype("<f8").tobytes()


def folder_of(path, arrays, config, encode=as_f32, **changes):
    """Write {name in the file: array} and the config to `path`; return it."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(config.to_dict() | changes), encoding="utf-8")
    write(path / "model.safetensors", {name: (array.shape, encode(array)) for name, array in arrays.items()})
    return path


def turned(params, names=MATRICES):
    """Return the parameters with matrices [out, in], as nn.Linear stores them."""
    return {name: np.ascontiguousarray(a.T) if name.endswith(names) else a for name, a in params.items()}


def without_biases(params, left_out=lambda name: name.endswith(".bias")):
    return {name: array for name, array in params.items() if not left_out(name)}


def assert_loads_as(folder, params):
    loaded = load(folder)
    assert list(loaded.params) == list(params)
    for name, array in params.items():
        assert loaded.params[name].dtype == np.float32 and not loaded.params[name].flags.writeable
        assert np.array_equal(loaded.params[name], array), name
    return loaded


def refusal(function, *arguments):
    """Return the message with which `function` refuses: one line of bounded length."""
    with pytest.raises(ValueError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message and len(message) < LONGEST
    return message


# --- prefixes ------------------------------------------------------------------------------------

WRAPPERS = ["", "transformer.", "_orig_mod.", "module.", "base_model.model.", "_orig_mod.transformer."]
WRAPPERS += ["module.transformer.", "base_model.model.transformer.", "_orig_mod.module.transformer."]
WRAPPERS += ["module._orig_mod.", "base_model.model._orig_mod.module.transformer."]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("prefix", WRAPPERS)
def test_what_wraps_a_model_does_not_change_what_is_loaded(tmp_path, prefix, tied):
    model = random_model(tie_word_embeddings=tied)
    outer = prefix.removesuffix("transformer.")
    arrays = {(outer if name == "lm_head.weight" else prefix) + name: a for name, a in model.params.items()}
    opened = open_checkpoint(folder_of(tmp_path, arrays, model.config))
    assert opened.layout == ()
    assert_loads_as(tmp_path, model.params)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.transformer."])
def test_masks_are_passed_over_under_any_prefix(tmp_path, prefix):
    model = random_model()
    masks = {
        f"{prefix}h.{i}.attn.{kind}": np.ones((1, 1, 23, 23)) for i in range(3) for kind in ("bias", "masked_bias")
    }
    folder_of(tmp_path, {prefix + name: a for name, a in model.params.items()} | masks, model.config)
    assert_loads_as(tmp_path, model.params)


@pytest.mark.parametrize(
    ("first", "second"),
    [("", "transformer."), ("module.", "transformer."), ("_orig_mod.transformer.", ""), ("module.", "module.module.")],
)
@pytest.mark.parametrize("name", ["wpe.weight", "h.1.mlp.c_fc.bias"])
def test_two_tensors_of_one_name_are_refused_and_both_named(tmp_path, first, second, name):
    model = random_model()
    arrays = {first + n: a for n, a in model.params.items()} | {second + name: model.params[name] + 1}
    said = refusal(load, folder_of(tmp_path, arrays, model.config))
    assert f"{name} appears twice" in said
    assert all(re.search(rf"(as|and) {re.escape(prefix + name)}\b", said) for prefix in (first, second))


@pytest.mark.parametrize("prefix", ["gpt.", "transformer.gpt.", "h.", "modules.", "_orig_mod"])
def test_any_other_prefix_is_refused_and_named(tmp_path, prefix):
    model = random_model()
    said = refusal(load, folder_of(tmp_path, {prefix + n: a for n, a in model.params.items()}, model.config))
    assert "wte.weight is missing" in said


@pytest.mark.parametrize("n", [13, 1000, 300_000])
def test_a_prefix_without_end_is_refused_in_bounded_time_and_length(tmp_path, n):
    model = random_model()
    arrays = dict(model.params) | {"module." * n + "wpe.weight": np.zeros((23, 30), np.float32)}
    assert "is not part of a GPT-2" in refusal(load, folder_of(tmp_path, arrays, model.config))


# --- matrices [out, in] --------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 3], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("encode", [as_f32, as_f16, as_bf16, as_f64])
def test_transposed_matrices_load_as_the_same_model(tmp_path, encode, start, monkeypatch):
    monkeypatch.setattr(tensors, "BYTES_AT_ONCE", 100)
    model = random_model()
    arrays = {name: a.astype("<f4").view("<u4") & 0xFFFF0000 for name, a in model.params.items()}
    params = {name: a.view("<f4").astype(np.float16).astype(np.float32) for name, a in arrays.items()}  # exact in all
    folder = folder_of(tmp_path, {}, model.config)
    stored = {name: (a.shape, encode(a)) for name, a in turned(params).items()}
    write(folder / "model.safetensors", stored, start=start)
    loaded = assert_loads_as(folder, params)
    for name, array in loaded.params.items():
        assert array.flags.f_contiguous or not name.endswith(MATRICES)
        assert mapped(array) == (encode is as_f32 and start == 0 and sys.platform != "win32"), name
    np.testing.assert_allclose(loaded(IDS), load(folder_of(tmp_path / "usual", params, model.config))(IDS), atol=2e-4)


@pytest.mark.parametrize("n_inner", [None, 30, 90, 52, 1])
@pytest.mark.parametrize("tied", [True, False])
def test_the_layout_is_told_whatever_the_width_of_the_mlp(tmp_path, n_inner, tied):
    model = random_model(n_inner=n_inner, tie_word_embeddings=tied)
    opened = open_checkpoint(folder_of(tmp_path / "turned", turned(model.params), model.config))
    assert_loads_as(tmp_path / "turned", model.params)
    assert "matrices stored [out, in]" in opened.provenance["origin"]
    usual = open_checkpoint(folder_of(tmp_path / "usual", model.params, model.config))
    assert usual.layout == () and "stored [" not in usual.provenance["origin"]
    assert_loads_as(tmp_path / "usual", model.params)


@pytest.mark.parametrize("only", ["h.0.attn.c_attn.weight", "h.2.attn.c_attn.weight", "h.1.mlp.c_fc.weight"])
@pytest.mark.parametrize("rest", ["usual", "turned"])
def test_a_file_of_two_layouts_is_refused_and_one_of_each_is_named(tmp_path, only, rest):
    params, other = random_model().params, turned(random_model().params)
    mixed = dict(params, **{only: other[only]}) if rest == "usual" else dict(other, **{only: params[only]})
    said = refusal(load, folder_of(tmp_path, mixed, random_model().config))
    assert only in said and re.search(r"h\.\d\.\S+ is stored \[out, in\], but h\.\d\.\S+ is \[in, out\]", said)


@pytest.mark.parametrize("name", ["h.1.attn.c_proj.weight", "h.0.mlp.c_fc.weight", "wte.weight", "h.2.ln_1.bias"])
def test_a_wrong_shape_in_a_transposed_file_is_named(tmp_path, name):
    params = turned(random_model().params)
    said = refusal(load, folder_of(tmp_path, params | {name: params[name][1:]}, random_model().config))
    assert f"tensor {name} has shape" in said


def test_a_transposed_model_is_saved_as_hugging_face_lays_it_out(tmp_path):
    model = random_model()
    loaded = load(folder_of(tmp_path / "turned", turned(model.params), model.config))
    nanogpt_np.save(loaded, tmp_path / "saved")
    assert open_checkpoint(tmp_path / "saved").layout == ()
    assert_loads_as(tmp_path / "saved", model.params)


def test_a_transposed_model_is_trained_further(tmp_path):
    model = random_model(vocab_size=50257, n_embd=10, n_inner=12)
    loaded = load(folder_of(tmp_path / "turned", turned(model.params), model.config))
    settings = Settings(steps=2, batch_size=2, context=8, warmup=0)
    data = TextData(["one two three four " * 40], nanogpt_np.Tokenizer(), 8, 2)
    losses = []
    for start in (model, loaded):
        trainer = Trainer(start.config, start.params, data, settings)
        losses.append([trainer.step()[0] for _ in range(2)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)


# --- no biases -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [dict, turned], ids=["usual", "transposed"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_file_without_any_bias_is_a_model_whose_biases_are_0_and_provenance_says_so(tmp_path, way, tied):
    model = random_model(tie_word_embeddings=tied)
    expected = {name: a * 0 if name.endswith(".bias") else a for name, a in model.params.items()}
    opened = open_checkpoint(folder_of(tmp_path, way(without_biases(model.params)), model.config))
    assert "no biases stored: zeros" in opened.provenance["origin"]
    assert not any(name.endswith(".bias") for name in opened.stored)
    assert_loads_as(tmp_path, expected)
    nanogpt_np.save(opened.model, tmp_path / "saved")
    assert open_checkpoint(tmp_path / "saved").layout == ()


@pytest.mark.parametrize(
    ("left_out", "named"),
    [
        (lambda name: name == "h.1.mlp.c_fc.bias", "h.1.mlp.c_fc.bias"),
        (lambda name: re.search(r"ln_.*bias", name), "h.0.ln_1.bias"),
        (lambda name: re.search(r"c_.*bias", name), "h.0.attn.c_attn.bias"),
        (lambda name: name.endswith(".bias") and name != "ln_f.bias", "h.0.ln_1.bias"),
        (lambda name: name.endswith(".bias") and not name.startswith("h.2"), "h.0.ln_1.bias"),
    ],
)
def test_a_file_that_lacks_some_biases_is_refused(tmp_path, left_out, named):
    model = random_model()
    said = refusal(load, folder_of(tmp_path, without_biases(model.params, left_out), model.config))
    assert f"tensor {named} is missing" in said


@pytest.mark.parametrize("name", ["ln_f.weight", "h.2.attn.c_attn.weight", "wpe.weight"])
def test_a_weight_that_is_missing_beside_all_biases_is_named(tmp_path, name):
    arrays = without_biases(random_model().params)
    del arrays[name]
    assert f"tensor {name} is missing" in refusal(load, folder_of(tmp_path, arrays, random_model().config))


@pytest.mark.parametrize("changes", [{"n_layer": 10_000}, {"n_embd": 2**30, "n_head": 1}, {"n_inner": 2**31 - 1}])
def test_sizes_that_config_json_claims_make_no_zeros(tmp_path, changes):
    """In a process with 2 GB of address space beyond what it needs to start."""
    pytest.importorskip("resource", reason="limits of memory are POSIX's")
    model = random_model()
    folder_of(tmp_path, without_biases(model.params), model.config, **changes)
    script = """
import resource, sys, nanogpt_np, nanogpt_np.weights.checkpoint
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() if sys.platform == "linux" else 0
resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, used + 2**31)) if used else None
try:
    nanogpt_np.load(sys.argv[1])
except ValueError as error:
    print("refused", error)
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("refused"), done.stderr[-500:]


# --- dtypes --------------------------------------------------------------------------------------


def read_one(folder, dtype, raw, n):
    write(folder / "t.safetensors", {"h.0.ln_1.bias": ((n,), (dtype, raw))})
    return tensors.read_tensors(tensors.read_header(folder / "t.safetensors"))["h.0.ln_1.bias"]


def plain_e4m3(byte):
    """Float8 E4M3 of Micikevicius et al. 2022, table 1: bias 7, no infinity, NaN is S.1111.111."""
    sign, exponent, mantissa = -1 if byte & 128 else 1, (byte & 127) // 8, byte % 8
    if byte & 127 == 127:
        return math.nan
    return sign * (mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))


def test_all_256_numbers_of_f8_e4m3_are_read_exactly(tmp_path):
    read = read_one(tmp_path, "F8_E4M3", bytes(range(256)), 256)
    expected = np.array([plain_e4m3(byte) for byte in range(256)], np.float32)
    nan = np.isnan(expected)
    assert nan.sum() == 2 and np.isnan(read[nan]).all()
    assert same_bits(read[~nan], expected[~nan])  # as bits: -0.0 is not 0.0
    assert np.nanmax(read) == 448 and read[1] == 2**-9


@reference
def test_f8_e4m3_is_torchs_float8_e4m3fn(tmp_path):
    torch = pytest.importorskip("torch")
    theirs = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    np.testing.assert_array_equal(read_one(tmp_path, "F8_E4M3", bytes(range(256)), 256), theirs)


def test_f64_is_rounded_to_the_nearest_float32(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(1000) * 10.0 ** rng.integers(-44, 38, 1000)
    values[:6] = 1 + 2.0**-24, 1 + 3 * 2.0**-24, 1e-300, -0.0, math.inf, 3.4028235e38
    read = read_one(tmp_path, "F64", values.astype("<f8").tobytes(), 1000)
    with np.errstate(all="ignore"):
        assert same_bits(read, values.astype(np.float32))
    assert read[:6].tolist() == [1, 1 + 2.0**-22, 0, 0, math.inf, float(np.float32(3.4028235e38))]
    finite = np.isfinite(values)
    finite[5] = False  # the largest of all, whose next is infinite
    assert (abs(read[finite] - values[finite]) <= np.spacing(abs(read[finite])).astype(np.float64) / 2).all()


@pytest.mark.parametrize("value", [3.5e38, -1e39, 1e308])
@pytest.mark.parametrize("chunk", [8, 1 << 19])
def test_f64_too_large_for_float32_is_refused_and_named(tmp_path, monkeypatch, value, chunk):
    monkeypatch.setattr(tensors, "BYTES_AT_ONCE", chunk)
    raw = np.array([1, 2, value, 3]).astype("<f8").tobytes()
    said = refusal(read_one, tmp_path, "F64", raw, 4)
    assert f"h.0.ln_1.bias is F64 and holds {value:.6g}, too large for float32" in said


BITS = {"F8_E5M2": 8, "F8_E8M0": 8, "F4": 4, "I8": 8, "U8": 8, "I16": 16, "U16": 16, "I32": 32, "U32": 32}
BITS |= {"I64": 64, "U64": 64, "BOOL": 8, "C64": 64}


@pytest.mark.parametrize("dtype", BITS)
def test_other_dtypes_are_refused_by_what_they_are(tmp_path, dtype):
    said = refusal(read_one, tmp_path, dtype, bytes(2 * BITS[dtype] // 8), 2)
    known = re.search(rf"h\.0\.ln_1\.bias is {dtype} \([a-z0-9 ,-]+\): parameters must be", said)
    assert known or "is not a valid safetensors file" in said  # an old safetensors does not know all of them
    assert known or dtype in ("F8_E8M0", "F4", "C64")


# --- what ends a text ----------------------------------------------------------------------------

ENDS = [  # (eos_token_id of config.json, generation_config.json or None, the ids that transformers 5 takes)
    (5, None, (5,)),
    ([5, 6], None, (5, 6)),
    (None, None, ()),
    (5, {"eos_token_id": 7}, (7,)),
    (5, {"eos_token_id": [7, 8]}, (7, 8)),
    (5, {"eos_token_id": None}, ()),
    (5, {"bos_token_id": 7}, ()),
    (5, {}, ()),
    ([5, 6], {"eos_token_id": []}, ()),
    (None, {"eos_token_id": 7}, (7,)),
    (5, {"eos_token_id": 50256, "temperature": 0.3, "do_sample": True}, (50256,)),
]


def with_ends(folder, in_config, generation, model=None):
    model = model or random_model()
    folder_of(folder, model.params, model.config, eos_token_id=in_config)
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation), encoding="utf-8")
    return folder


@pytest.mark.parametrize(("in_config", "generation", "expected"), ENDS)
def test_the_ids_that_end_a_text_are_those_that_transformers_takes(tmp_path, in_config, generation, expected):
    assert open_checkpoint(with_ends(tmp_path, in_config, generation)).config.eos_token_ids == expected


@reference
@pytest.mark.parametrize(("in_config", "generation", "expected"), ENDS)
def test_transformers_takes_those_ids(tmp_path, in_config, generation, expected):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(with_ends(tmp_path, in_config, generation))
    ids = theirs.generation_config.eos_token_id
    assert (() if ids is None else (ids,) if isinstance(ids, int) else tuple(ids)) == expected


def test_where_no_file_says_it_the_end_is_gpt2s_own(tmp_path):
    with_ends(tmp_path, 5, None)
    values = json.loads((tmp_path / "config.json").read_text())
    del values["eos_token_id"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert open_checkpoint(tmp_path).config.eos_token_ids == (50256,) == Config().eos_token_ids


@pytest.mark.parametrize(
    ("ends", "expected"),
    [((7,), [4, 5, 6]), ((9, 6), [4, 5]), ((4,), []), ((), [4, 5, 6, 7, 8]), ((50256,), [4, 5, 6, 7, 8])],
)
def test_generation_ends_at_the_models_own_ids_unless_it_is_told_others(tmp_path, ends, expected):
    model = scripted_model([0, 4, 5, 6, 7, 8, 9])
    nanogpt_np.save(random_model(eos_token_ids=ends), tmp_path)  # config.json keeps them
    config = dataclasses.replace(model.config, eos_token_ids=open_checkpoint(tmp_path).config.eos_token_ids)
    model = dataclasses.replace(model, config=config)
    assert list(generate(model, [1, 1], 5)) == expected
    assert list(generate(model, [1, 1], 5, stop=(6,))) == [4, 5]
    assert list(generate(model, [1, 1], 5, stop=())) == [4, 5, 6, 7, 8]


@pytest.mark.parametrize("ends", [(), (0,), (50256,), (5, 3, 96), tuple(range(MOST_ENDS))])
def test_a_saved_config_keeps_the_ids(tmp_path, ends):
    nanogpt_np.save(random_model(eos_token_ids=ends), tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["eos_token_id"] == (None if not ends else ends[0] if len(ends) == 1 else [*ends])
    assert "eos_token_ids" not in written
    assert load(tmp_path).config.eos_token_ids == ends


@pytest.mark.parametrize("source", ["new", "plain folder", "folder with a tokenizer"])
@pytest.mark.parametrize("stale", [None, 7, [3, 4]])
@pytest.mark.parametrize("ends", [(), (5,), (50256, 6), (50256,)])
def test_a_saved_generation_config_says_what_config_json_says(tmp_path, source, stale, ends):
    """It goes before config.json: with other ids in it, the model's own would be lost."""
    model = random_model(vocab_size=50257, eos_token_ids=ends)
    if source != "new":
        nanogpt_np.save(
            dataclasses.replace(model, config=Config(**vars(model.config) | {"eos_token_ids": (9,)})), tmp_path
        )
        if source == "plain folder":
            for path in tmp_path.iterdir():
                path.unlink() if path.name not in ("config.json", "model.safetensors") else None
        loaded = load(tmp_path)
        assert loaded.config.eos_token_ids == (9,)
        model = dataclasses.replace(loaded, config=model.config)
    target = tmp_path / "new"
    target.mkdir()
    if stale is not None:
        (target / "generation_config.json").write_text(json.dumps({"eos_token_id": stale, "top_k": 3}))
    nanogpt_np.save(model, target)
    assert open_checkpoint(target).config.eos_token_ids == ends


@pytest.mark.parametrize("stale", [7, [3, 4], None])
def test_a_generation_config_that_stays_beside_a_model_without_a_tokenizer_gets_its_ids(tmp_path, stale):
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": stale, "top_k": 3}))
    nanogpt_np.save(random_model(eos_token_ids=(5, 6)), tmp_path)
    opened = open_checkpoint(tmp_path)
    assert opened.config.eos_token_ids == (5, 6) and opened.ignored == ("top_k 3",)


BAD_ENDS = [True, -1, 5.0, "5", [5, "6"], [5, None], [[5]], {"a": 5}, 2**31, 10**300, [5, -1], [0] * (MOST_ENDS + 1)]
BAD_ENDS += [[1] * 500_000, ["x" * 100_000]]


@pytest.mark.parametrize("ends", BAD_ENDS, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("where", ["config.json", "generation_config.json"])
def test_ids_that_none_can_be_are_refused_and_the_file_is_named(tmp_path, ends, where):
    with_ends(tmp_path, *((ends, None) if where == "config.json" else (5, {"eos_token_id": ends})))
    said = refusal(load, tmp_path)
    assert f"{tmp_path / where}: eos_token_id must" in said


@pytest.mark.parametrize("text", ["[]", "3", "{", '{"eos_token_id": 5, "eos_token_id": 6}', "[" * 100_000, "\xff"])
def test_a_generation_config_that_is_no_object_is_refused_and_named(tmp_path, text):
    with_ends(tmp_path, 5, {})
    (tmp_path / "generation_config.json").write_bytes(text.encode("latin-1"))
    assert str(tmp_path / "generation_config.json") in refusal(load, tmp_path)


def test_a_generation_config_that_is_a_folder_is_refused(tmp_path):
    with_ends(tmp_path, 5, None)
    (tmp_path / "generation_config.json").mkdir()
    assert "generation_config.json" in refusal(load, tmp_path)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_a_byte_order_mark_is_dropped(tmp_path, name):
    with_ends(tmp_path, 5, {"eos_token_id": 7})
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert open_checkpoint(tmp_path).config.eos_token_ids == (7,)


@pytest.mark.parametrize("prompt", ["The capital", " a", "caf\u00e9"])
def test_a_byte_order_mark_before_a_prompt_is_dropped(prompt, monkeypatch, capsys):
    from nanogpt_np.commands.opening import read_prompt

    raw = types.SimpleNamespace(read=lambda n=-1: ("\ufeff" + prompt + "\n").encode())
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=raw))
    assert read_prompt("-") == prompt


SETTINGS = [
    ({}, ()),
    ({"bos_token_id": 3, "pad_token_id": 4, "use_cache": True, "transformers_version": "5"}, ()),
    ({"do_sample": False, "temperature": 1.0, "top_k": 50, "max_length": 20, "top_p": None}, ()),
    ({"do_sample": True, "temperature": 0.7}, ("do_sample true", "temperature 0.7")),
    ({"repetition_penalty": 1.2, "max_length": 50}, ("max_length 50", "repetition_penalty 1.2")),
    ({"top_k": 0, "bad_words_ids": [[3], [4]]}, ("bad_words_ids", "top_k 0")),
    ({"temperature": "x" * 100_000, "top_p": 10**300}, ("temperature", "top_p")),
]


@pytest.mark.parametrize(("settings", "expected"), SETTINGS, ids=str)
def test_settings_that_would_change_what_is_generated_are_named(tmp_path, settings, expected):
    in_generation = open_checkpoint(with_ends(tmp_path / "new", 5, settings))
    assert sorted(in_generation.ignored) == sorted(expected)
    model = random_model()  # files before generation_config.json had them in config.json
    old = open_checkpoint(folder_of(tmp_path / "old", model.params, model.config, **settings))
    assert sorted(old.ignored) == sorted(expected)
    (tmp_path / "old" / "generation_config.json").write_text("{}")
    assert open_checkpoint(tmp_path / "old").ignored == ()  # as in transformers, that file alone counts


@reference
def test_the_settings_are_those_of_transformers_with_its_neutral_values():
    transformers = pytest.importorskip("transformers")
    defaults = transformers.GenerationConfig._get_default_generation_params()
    # What is returned, how it is computed, and what speeds it up: none of them changes a token.
    no_matter = {"use_cache", "output_scores", "return_dict_in_generate"}
    no_matter |= {name for name in defaults if "assistant" in name or "lookbehind" in name}
    assert {n: v for n, v in defaults.items() if n not in no_matter}.items() <= configs.NEUTRAL.items()


def test_ignored_settings_are_named_once_on_stderr(tmp_path, capsys):
    model = random_model(vocab_size=50257)
    with_ends(tmp_path, 5, {"do_sample": True, "top_p": 0.5} | dict.fromkeys(configs.UNSET, 3), model)
    assert main(["generate", "a", "-n", "2", "--model", str(tmp_path)]) == 0
    err = capsys.readouterr().err
    assert err.count("ignored settings") == 1 and err.count("\n") == 2
    assert "more; the flags decide" in err and len(err) < 2 * LONGEST
    with_ends(tmp_path, 5, {}, model)
    assert main(["generate", "a", "-n", "2", "--model", str(tmp_path)]) == 0
    assert "ignored settings" not in capsys.readouterr().err


# --- activations and other models ----------------------------------------------------------------


@pytest.mark.parametrize("name", TANH_GELU)
def test_the_tanh_form_of_gelu_is_accepted_under_each_of_its_names(tmp_path, name):
    model = random_model()
    loaded = load(folder_of(tmp_path, model.params, model.config, activation_function=name))
    assert same_bits(loaded(IDS), load(folder_of(tmp_path / "new", model.params, model.config))(IDS))
    nanogpt_np.save(loaded, tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["activation_function"] == name


@reference
def test_transformers_has_one_formula_under_those_names_and_others_under_the_rest():
    torch, activations = pytest.importorskip("torch"), pytest.importorskip("transformers.activations")
    x = torch.linspace(-6, 6, 2001)
    functions = activations.ACT2FN
    expected = functions["gelu_new"](x)
    assert TANH_GELU == tuple(n for n in TANH_GELU if n in functions)
    for name in TANH_GELU:
        assert (functions[name](x) - expected).abs().max() < 2e-6, name  # rounding: measured 7e-7
    for name in OTHER_ACTIVATIONS:
        assert (functions[name](x) - expected).abs().max() > 1e-4, name  # the exact GELU: measured 5e-4


@pytest.mark.parametrize(
    "name", ["gelu", "relu", "silu", "gelu_10", "quick_gelu", "tanh", None, 3, ["gelu_new"], "x" * 10**6]
)
def test_other_activations_are_refused_by_name(tmp_path, name):
    model = random_model()
    said = refusal(load, folder_of(tmp_path, model.params, model.config, activation_function=name))
    assert f"activation_function {repr(name)[:12]}" in said and "is not supported" in said
    assert name != "gelu" or "the exact GELU" in said


@pytest.mark.parametrize("kind", ["llama", "opt", "gpt_neo", "gptj", "gpt_neox", "bert", "x" * 10**6])
def test_other_model_types_are_refused_by_name(tmp_path, kind):
    model = random_model()
    said = refusal(load, folder_of(tmp_path, model.params, model.config, model_type=kind))
    assert f"model_type '{kind[:12]}" in said and "is not 'gpt2'" in said


PARTS = [  # (tensor, words)
    ("score.weight", "classifier (GPT2ForSequenceClassification)"),
    ("classifier.bias", "classifier of tokens"),
    ("qa_outputs.weight", "GPT2ForQuestionAnswering"),
    ("multiple_choice_head.summary.weight", "GPT2DoubleHeadsModel"),
    ("v_head.summary.weight", "value head"),
    ("transformer.h.0.crossattention.c_attn.weight", "cross-attention"),
    ("transformer.h.2.ln_cross_attn.bias", "cross-attention"),
    ("base_model.model.transformer.h.0.attn.c_attn.lora_A.default.weight", "adapter that is not merged"),
    ("transformer.h.1.mlp.c_fc.ia3_l.default", "adapter that is not merged"),
    ("transformer.h.1.mlp.c_fc.qweight", "quantized weights"),
    ("transformer.h.1.attn.c_attn.weight.absmax", "quantized weights"),
    ("transformer.h.1.attn.c_attn.weight_scale", "quantized weights"),
]


@pytest.mark.parametrize(("name", "words"), PARTS)
def test_parts_of_other_models_are_refused_by_what_they_are(tmp_path, name, words):
    model = random_model()
    arrays = {"transformer." + n: a for n, a in model.params.items()} | {name: np.ones(3, np.float32)}
    said = refusal(load, folder_of(tmp_path, arrays, model.config))
    assert words in said and layouts.PREFIXES.sub("", name, count=1) in said


@reference
@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("GPT2ForSequenceClassification", {}, "classifier"),
        ("GPT2ForTokenClassification", {}, "classifier of tokens"),
        ("GPT2ForQuestionAnswering", {}, "marks answers"),
        ("GPT2DoubleHeadsModel", {}, "GPT2DoubleHeadsModel"),
        ("GPT2LMHeadModel", {"add_cross_attention": True}, "reads an encoder"),
        ("GPT2LMHeadModel", {"activation_function": "gelu"}, "the exact GELU"),
    ],
)
def test_other_models_that_transformers_saves_are_refused_by_what_they_are(tmp_path, kind, changes, words):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=97, n_positions=23, n_embd=30, n_head=5, n_layer=3, **changes)
    getattr(transformers, kind)(config).save_pretrained(tmp_path)
    assert words in refusal(load, tmp_path)


# --- other files ---------------------------------------------------------------------------------

FILES = [
    ("pytorch_model.bin", "a pickle", "AutoModelForCausalLM"),
    ("pytorch_model-00001-of-00002.bin", "a pickle", "AutoModelForCausalLM"),
    ("ckpt.pt", "a pickle", "nanogpt_np convert"),
    ("model.pth", "a pickle", "nanogpt_np convert"),
    ("tf_model.h5", "a TensorFlow file", 'pip install "transformers<4.51" torch tensorflow tf-keras'),
    ("flax_model.msgpack", "a Flax file", 'pip install "transformers<4.51" torch flax'),
    ("gpt2.Q4_K_M.gguf", "a GGUF file", "safetensors"),
    ("model.ckpt.index", "a TensorFlow 1 checkpoint", "weights.sh"),
    ("last.ckpt", "a Lightning checkpoint", "safetensors"),
    ("model.onnx", "an ONNX file", "safetensors"),
    ("adapter_model.safetensors", "an adapter", "only peft"),
    ("gpt2.safetensors", "no model.safetensors", "rename"),
]


@pytest.mark.parametrize(("file", "what", "advice"), FILES)
def test_other_files_are_refused_by_what_they_are_with_what_to_do(tmp_path, file, what, advice):
    (tmp_path / file).write_bytes(b"not opened")
    for given in (tmp_path, *([tmp_path / file] if what != "no model.safetensors" else [])):
        said = refusal(load, given)
        assert what in said and advice in said


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ('{"peft_type": "LORA"}', "a LoRA adapter, a small change to a model, not a model: merge it"),
        ('{"peft_type": "IA3"}', "an IA3 adapter, a small change to a model, not a model: merge it"),
        (
            '{"peft_type": "PREFIX_TUNING"}',
            "a prefix tuning adapter, a small change to a model, not a model: only peft",
        ),
        ('{"peft_type": ["LORA"]}', "an adapter"),
        ('{"peft_type": 3}', "an adapter"),
        ("[" * 100_000, "an adapter"),
        ("3", "an adapter"),
        ("", "an adapter"),
    ],
)
def test_an_adapter_is_refused_as_the_kind_that_its_config_names(tmp_path, config, what):
    (tmp_path / "adapter_config.json").write_text(config)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    assert f"holds {what}" in refusal(load, tmp_path)


@pytest.mark.parametrize("name", ["a b.pt", "$(x).pt", "'; ls '.pt"])
def test_a_name_that_a_shell_would_not_take_is_not_put_into_a_command(tmp_path, name):
    if sys.platform == "win32":
        pytest.skip("such names are not allowed")
    (tmp_path / name).write_bytes(b"")
    assert "nanogpt_np convert ckpt.pt NEW_DIR" in refusal(load, tmp_path)


# --- names ---------------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path, monkeypatch):
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NANOGPT_NP_HOME", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in pins.PINS:
        folder_of(tmp_path / "models" / name, {}, Config())
    return tmp_path


FOUND = {"GPT2": "gpt2", "Gpt2-Medium": "gpt2-medium", "FACTS": "facts", "Facts": "facts", "DistilGPT2": "distilgpt2"}
FOUND |= {pin.repo: name for name, pin in pins.PINS.items()}
FOUND |= {"OpenAI-Community/GPT2": "gpt2", "openai-community/GPT2-XL": "gpt2-xl", "DistilBERT/distilgpt2": "distilgpt2"}


@pytest.mark.parametrize("name", FOUND)
def test_a_name_in_other_letter_case_or_with_its_owner_is_found_as_that_model(models, name):
    assert places.resolve(name) == places.resolve(FOUND[name]) == (FOUND[name], places.find(name))


def test_provenance_of_a_name_in_other_letter_case_is_that_of_the_name(models):
    assert open_checkpoint("FACTS").provenance == open_checkpoint("facts").provenance


@pytest.mark.parametrize("name", ["openai-community/gpt2", "FACTS", "Gpt2-Medium"])
def test_a_folder_of_such_a_name_is_that_folder(models, name):
    (models / "here" / name).mkdir(parents=True)
    assert places.resolve(name) == (name, places.Path(name))


SUGGESTED = {"gpt-2": "gpt2", "gpt2-small": "gpt2", "GPT-2-XL": "gpt2-xl", "gpt2_medium": "gpt2-medium", "124M": "gpt2"}
SUGGESTED |= {"gpt2-1558M": "gpt2-xl", "gpt2xl": "gpt2-xl", "distil-gpt2": "distilgpt2", "fact": "facts"}
SUGGESTED |= {"openai/gpt-2": "gpt2", "someone/gpt2-large": "gpt2-large", "gpt2-meduim": "gpt2-medium"}


@pytest.mark.parametrize("name", SUGGESTED)
def test_a_name_that_is_close_gets_the_right_suggestion(models, name):
    assert f"(did you mean {SUGGESTED[name]}?)" in refusal(places.find, name)


@pytest.mark.parametrize("name", ["bert", "x" * 10**6, "llama-7b/" * 1000, "gpt2\0", "\u0130"])
def test_a_name_that_is_close_to_none_gets_no_suggestion_that_is_wrong(models, name):
    said = refusal(places.find, name)
    assert "no model" in said and ("did you mean" not in said or name.startswith("gpt2"))


@pytest.mark.parametrize("name", ["GPT2", "Gpt2-XL", "DISTILGPT2"])
def test_sizes_have_names_in_any_letter_case(name, models, capsys, monkeypatch):
    monkeypatch.setenv("NANOGPT_NP_HOME", str(models / "none"))
    assert published(name) == published(name.lower())
    assert main(["inventory", name]) == 0
    assert "as published" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["gpt-2", "gpt2-small", "774M"])
def test_sizes_that_are_called_otherwise_are_suggested(name):
    assert "(did you mean gpt2" in refusal(published, name)


# --- nanoGPT -------------------------------------------------------------------------------------


def nanogpt(torch, *, bias, exact, **sizes):
    """A model as nanoGPT's, written from its description: names, nn.Linear, optional biases, a tied head."""
    nn, functional = torch.nn, torch.nn.functional
    args = {"n_layer": 3, "n_head": 5, "n_embd": 30, "block_size": 23, "vocab_size": 97, "bias": bias, "dropout": 0.0}
    args |= sizes
    C, H = args["n_embd"], args["n_head"]

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(C))
            self.bias = nn.Parameter(torch.zeros(C)) if bias else None

        def forward(self, x):
            return functional.layer_norm(x, (C,), self.weight, self.bias, 1e-5)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.c_attn, self.c_proj = nn.Linear(C, 3 * C, bias=bias), nn.Linear(C, C, bias=bias)

        def forward(self, x):
            q, k, v = (part.unflatten(-1, (H, C // H)).transpose(-2, -3) for part in self.c_attn(x).split(C, dim=-1))
            z = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.c_proj(z.transpose(-2, -3).flatten(-2))

    class MLP(nn.Module):
        def __init__(self):
            super().__init__()
            self.c_fc, self.c_proj = nn.Linear(C, 4 * C, bias=bias), nn.Linear(4 * C, C, bias=bias)

        def forward(self, x):
            return self.c_proj(functional.gelu(self.c_fc(x), approximate="none" if exact else "tanh"))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.attn, self.ln_2, self.mlp = Norm(), Attention(), Norm(), MLP()

        def forward(self, x):
            x = x + self.attn(self.ln_1(x))
            return x + self.mlp(self.ln_2(x))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.transformer = nn.ModuleDict(
                {
                    "wte": nn.Embedding(args["vocab_size"], C),
                    "wpe": nn.Embedding(args["block_size"], C),
                    "h": nn.ModuleList([Block() for _ in range(args["n_layer"])]),
                    "ln_f": Norm(),
                }
            )
            self.lm_head = nn.Linear(C, args["vocab_size"], bias=False)
            self.transformer.wte.weight = self.lm_head.weight
            rng = np.random.default_rng(3)
            for name, parameter in self.named_parameters():
                shape = tuple(parameter.shape)
                values = random_parameter(name, shape[::-1] if ".c_" in name else shape, rng)
                parameter.data = torch.from_numpy(np.ascontiguousarray(values.T if ".c_" in name else values))

        def forward(self, ids):
            t = self.transformer
            x = t["wte"](ids) + t["wpe"](torch.arange(ids.shape[-1]))
            for block in t["h"]:
                x = block(x)
            return self.lm_head(t["ln_f"](x))

    return GPT().eval(), args


def ckpt(torch, model, args, path, prefix="_orig_mod.", **more):
    """Save what nanoGPT's train.py saves."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    model(torch.tensor([[1, 2, 3]])).sum().backward()
    optimizer.step()
    torch.save(
        {
            "model": {prefix + name: tensor for name, tensor in model.state_dict().items()},
            "optimizer": optimizer.state_dict(),
            "model_args": args,
            "iter_num": 2000,
            "best_val_loss": torch.tensor(2.5),
            "config": {"dataset": "openwebtext", "compile": True, "betas": (0.9, 0.95)},
            **more,
        },
        path,
    )


@reference
@pytest.mark.parametrize("prefix", ["_orig_mod.", ""])
@pytest.mark.parametrize("bias", [True, False])
def test_the_command_that_an_error_names_converts_nanogpts_ckpt(tmp_path, prefix, bias):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    theirs, args = nanogpt(torch, bias=bias, exact=False)
    ckpt(torch, theirs, args, tmp_path / "ckpt.pt", prefix)
    command = re.search(r"python (-m nanogpt_np convert \S+) NEW_DIR", refusal(load, tmp_path))[1]
    new = tmp_path / "new"
    done = subprocess.run([sys.executable, *command.split(), str(new)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stderr.count("\n") == 1 and "exact GELU" in done.stderr
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 97, (2, 23)))
    with torch.no_grad():
        expected = theirs(ids).numpy()
        also = transformers.AutoModelForCausalLM.from_pretrained(new)(ids).logits.numpy()
    ours = load(new)
    assert ours.tied and np.ptp(expected) > 5
    np.testing.assert_allclose(ours(ids.numpy()), expected, atol=2e-4)  # measured: 1.4e-5
    np.testing.assert_allclose(also, expected, atol=2e-4)


@reference
def test_a_nanogpt_with_the_exact_gelu_is_moved_by_what_the_command_says(tmp_path):
    from nanogpt_np.weights.nanogpt import GELU, read_nanogpt

    torch = pytest.importorskip("torch")
    theirs, args = nanogpt(torch, bias=False, exact=True)
    ckpt(torch, theirs, args, tmp_path / "ckpt.pt")
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, 97, (2, 23)))
    with torch.no_grad():
        moved = abs(read_nanogpt(tmp_path / "ckpt.pt")(ids.numpy()) - theirs(ids).numpy())
    assert 1e-3 < moved.max() < 1e-2 and "a few thousandths" in GELU  # measured: 0.0038


@reference
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: {"model": c["model"]}, "holds model and model_args: it holds model"),
        (lambda c: [1, 2], "it holds a list"),
        (lambda c: c | {"model_args": {n: v for n, v in c["model_args"].items() if n != "n_head"}}, "has no n_head"),
        (lambda c: c | {"model_args": c["model_args"] | {"use_rmsnorm": True}}, "sets use_rmsnorm"),
        (lambda c: c | {"model_args": c["model_args"] | {"n_head": 4}}, "not divisible by n_head 4"),
        (lambda c: c | {"model_args": c["model_args"] | {"n_layer": 4}}, "tensor h.3.ln_1.weight is missing"),
        (lambda c: c | {"model": c["model"] | {"step": 3}}, "model holds step, which is not a plain tensor"),
        (lambda c: c | {"config": types.SimpleNamespace(a=1)}, "weights_only=True refuses it"),
        (lambda c: c | {"model_args": c["model_args"] | {"x" * 10**6: 1}}, "which nanoGPT's GPT-2 does not have"),
    ],
)
def test_a_ckpt_that_is_not_nanogpts_is_refused_and_nothing_is_written(tmp_path, change, words, capsys):
    torch = pytest.importorskip("torch")
    theirs, args = nanogpt(torch, bias=False, exact=False)
    ckpt(torch, theirs, args, tmp_path / "ckpt.pt")
    torch.save(change(torch.load(tmp_path / "ckpt.pt")), tmp_path / "ckpt.pt")
    assert main(["convert", str(tmp_path / "ckpt.pt"), str(tmp_path / "new")]) == 1
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and len(err) < LONGEST
    assert not (tmp_path / "new").exists()


@reference
@pytest.mark.parametrize("raw", [b"", b"not a pickle", b"\x80\x04\x95" + bytes(20), b"PK\x03\x04" + bytes(50)])
def test_what_is_no_pickle_is_refused_in_one_line(tmp_path, raw, capsys):
    pytest.importorskip("torch")
    (tmp_path / "ckpt.pt").write_bytes(raw)
    assert main(["convert", str(tmp_path / "ckpt.pt"), str(tmp_path / "new")]) == 1
    err = capsys.readouterr().err
    assert "refuses it" in err and err.count("\n") == 1 and len(err) < LONGEST


@pytest.mark.parametrize("kind", ["not there", "a folder", "a full target", "an empty name"])
def test_convert_refuses_what_it_cannot_read_or_write_before_it_needs_torch(tmp_path, kind, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    source, target = tmp_path / "ckpt.pt", tmp_path / "new"
    if kind == "a folder":
        source.mkdir()
    elif kind != "not there":
        source.write_bytes(b"")
    if kind == "a full target":
        target.mkdir()
        (target / "mine.txt").write_text("mine")
    assert main(["convert", str(source), " " if kind == "an empty name" else str(target)]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "torch" not in err


def test_without_torch_convert_says_how_to_get_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "ckpt.pt").write_bytes(b"")
    assert main(["convert", str(tmp_path / "ckpt.pt"), str(tmp_path / "new")]) == 1
    assert "torch is not installed: pip install" in capsys.readouterr().err


@reference
def test_the_command_for_pytorch_model_bin_works_with_transformers_5(tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    assert transformers.__version__ >= "5"
    model = random_model()
    nanogpt_np.save(model, tmp_path / "old")
    weights = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "old").state_dict()
    torch.save(weights, tmp_path / "old" / "pytorch_model.bin")
    (tmp_path / "old" / "model.safetensors").unlink()
    command = re.search(r'python -c "(.*)"$', refusal(load, tmp_path / "old"))[1]
    script = command.replace("'DIR'", repr(str(tmp_path / "old"))).replace("NEW_DIR", "new")
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=300, cwd=tmp_path)
    assert_loads_as(tmp_path / "new", model.params)


# --- what transformers writes --------------------------------------------------------------------


@reference
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
@pytest.mark.parametrize("shards", [None, "8KB"])
def test_what_transformers_saves_has_the_same_logits_and_ends(tmp_path, tied, dtype, shards):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    ours = random_model(tie_word_embeddings=tied, eos_token_ids=(5, 96))
    nanogpt_np.save(ours, tmp_path / "ours")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=dtype)
    theirs.generation_config.repetition_penalty = 1.5
    theirs.save_pretrained(tmp_path / "theirs", **({"max_shard_size": shards} if shards else {}))
    assert (tmp_path / "theirs" / tensors.INDEX).exists() == bool(shards)
    opened = open_checkpoint(tmp_path / "theirs")
    names = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float64": "F64"}
    assert {s.dtype for s in opened.stored.values()} == {names[dtype]}
    with torch.no_grad():
        expected = theirs.float()(torch.from_numpy(IDS)[None]).logits[0].numpy()
    np.testing.assert_allclose(opened.model(IDS), expected, atol=2e-4)
    assert opened.config.eos_token_ids == (5, 96) and opened.ignored == ("repetition_penalty 1.5",)
    assert opened.model.tied == tied


def test_the_advice_fits_into_one_line_of_an_error():
    for what, advice in foreign.FOREIGN.values():
        assert len(what) + len(advice) < 420
