"""Bad input gets one clear line on stderr, a non-zero exit code and no traceback."""

import io
import json
import math
import os
import struct
import sys
import types

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import nanogpt_np
from nanogpt_np.__main__ import main
from nanogpt_np.model.config import Config
from nanogpt_np.names.parameters import table
from nanogpt_np.weights.assembly import assemble

CONFIG = Config(n_positions=16, n_embd=6, n_head=2, n_layer=2)
CASES = {}


def case(expected, code=1):
    """Register a function that spoils the checkpoint in a directory and returns the command's arguments."""

    def register(spoil):
        name = spoil.__name__.strip("_").replace("_", "-")
        assert name not in CASES
        CASES[name] = (spoil, expected, code)
        return spoil

    return register


def cases(rows, code=1):
    """Register cases that need arguments only: {name: (arguments after the good model, expected words)}."""
    for name, (arguments, expected) in rows.items():
        assert name not in CASES
        CASES[name] = (lambda d, arguments=arguments: arguments, expected, code)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A valid checkpoint with GPT-2's vocabulary and a context of 16 tokens."""
    directory = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(0)
    params = {name: rng.normal(0, 0.3, p.shape(CONFIG)).astype(np.float32) for name, p in table(CONFIG).items()}
    nanogpt_np.save(assemble(CONFIG, params), directory)
    return directory


@pytest.fixture
def spoilt(good, tmp_path):
    directory = tmp_path / "model"
    directory.mkdir()
    for file in good.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    return directory


# Prompts and flags
cases(
    {
        "empty prompt": ([""], "prompt is empty"),
        "lone surrogate in the prompt": (["caf\udce9"], "not valid Unicode"),
        "prompt longer than the context": (["a b c d e f g h i j k l m n o p q"], "17 tokens are more than this model"),
        "temperature below 0": (["x", "--temperature", "-1"], "temperature must be"),
        "temperature not a number": (["x", "--temperature", "nan"], "temperature must be"),
        "infinite temperature": (["x", "--temperature", "inf"], "temperature must be"),
        "top-k 0": (["x", "--temperature", "1", "--top-k", "0"], "top_k must be 1 or more"),
        "top-k below 0": (["x", "--temperature", "1", "--top-k", "-3"], "top_k must be 1 or more"),
        "top-p 0": (["x", "--temperature", "1", "--top-p", "0"], "top_p must be above 0"),
        "top-p below 0": (["x", "--temperature", "1", "--top-p", "-0.1"], "top_p must be above 0"),
        "top-p above 1": (["x", "--temperature", "1", "--top-p", "1.01"], "top_p must be above 0 and at most 1"),
        "top-p not a number": (["x", "--temperature", "1", "--top-p", "nan"], "top_p must be above 0"),
        "no new tokens": (["x", "-n", "0"], "-n must be 1 or more"),
        "fewer than no new tokens": (["x", "-n", "-5"], "-n must be 1 or more"),
        "no samples": (["x", "--temperature", "1", "--num-samples", "0"], "--num-samples must be 1 or more"),
        "top 0": (["x", "--top", "0"], "--top must be 1 or more"),
        "greedy with top-k": (["x", "--top-k", "5"], "need --temperature above 0"),
        "greedy with top-p": (["x", "--top-p", "0.9"], "need --temperature above 0"),
        "greedy with several samples": (["x", "--num-samples", "2"], "need --temperature above 0"),
        "negative seed": (["x", "--temperature", "1", "--seed", "-1"], "--seed must be 0 or more"),
        "watching two tokens": (["x", "--watch", "Zyzzyva"], "--watch takes one token"),
        "watching without the space": (["x", "--watch", "Azerbaijan"], 'did you mean " Azerbaijan"?'),
        "watching nothing": (["x", "--watch", ""], "--watch takes one token"),
    }
)
cases(
    {
        "temperature a word": (["x", "--temperature", "hot"], "invalid float value: 'hot'"),
        "top-k not whole": (["x", "--top-k", "1.5"], "invalid int value: '1.5'"),
        "seed a word": (["x", "--seed", "lucky"], "invalid int value"),
        "new tokens a word": (["x", "-n", "many"], "invalid int value"),
        "unknown flag": (["x", "--beams", "4"], "unrecognized arguments: --beams"),
        "flag cut short": (["x", "--temp", "1"], "unrecognized arguments: --temp"),
        "flag without its value": (["x", "--top"], "expected one argument"),
        "two prompts": (["x", "y"], "unrecognized arguments: y"),
        "no prompt": ([], "required: prompt"),
    },
    code=2,
)


@case("prompt is empty")
def empty_standard_input(d):
    sys.stdin = types.SimpleNamespace(buffer=io.BytesIO(b""))
    return ["-"]


@case("not UTF-8")
def standard_input_in_latin_1(d):
    sys.stdin = types.SimpleNamespace(buffer=io.BytesIO("café".encode("latin-1")))
    return ["-"]


# Which model
def model(value):
    return lambda d: ["--model", value, "x"]


for name, value, expected in (
    ("unknown model", "gpt5", "no model 'gpt5'"),
    ("misspelt model", "gpt2-meduim", "did you mean gpt2-medium?"),
    ("model not downloaded", "gpt2-xl", "./weights.sh gpt2-xl"),
    ("model that no cache has", "someone/gpt2-tuned", "no model 'someone/gpt2-tuned'"),
    ("directory that is not there", "./nowhere", "no model './nowhere'"),
    ("empty model name", " ", "the name of the model is empty"),
):
    CASES[name] = (model(value), expected, 1)
cases(
    {
        "dry run of nothing published": (["x", "--dry-run", "gpt3"], "unknown model 'gpt3'"),
        "dry run misspelt": (["x", "--dry-run", "gpt2-small"], "did you mean"),
        "dry run too long": (
            ["word " * 1025, "--dry-run", "gpt2"],
            "tokens are more than this model's context",
        ),
        "dry run empty": (["", "--dry-run", "gpt2"], "prompt is empty"),
        "dry run with a watched token": (["x", "--dry-run", "gpt2", "--watch", " a"], "--dry-run has no weights"),
    }
)


@case("holds no model")
def directory_without_a_model(d):
    for file in d.iterdir():
        file.unlink()


@case("give the directory")
def a_file_instead_of_its_directory(d):
    return ["--model", str(d / "model.safetensors"), "x"]


for file, expected in (
    ("pytorch_model.bin", "a pickle"),
    ("model.pt", "a pickle"),
    ("tf_model.h5", "a TensorFlow file"),
    ("model.ckpt.index", "a part of a TensorFlow 1 checkpoint"),
    ("epoch3.ckpt", "a Lightning checkpoint"),
    ("flax_model.msgpack", "a Flax file"),
    ("gpt2.Q8_0.gguf", "a GGUF file"),
):

    def _only(d, file=file):
        (d / "model.safetensors").unlink()
        (d / file).write_bytes(b"not opened")

    def _itself(d, file=file):
        (d / file).write_bytes(b"not opened")
        return ["--model", str(d / file), "x"]

    CASES[f"{file} in the directory"] = (_only, expected, 1)
    CASES[f"{file} itself"] = (_itself, expected, 1)


# config.json
def config_with(**changes):
    def spoil(d):
        path = d / "config.json"
        values = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))

    return spoil


for name, changes, expected in (
    ("another architecture", {"model_type": "llama"}, "model_type 'llama' is not 'gpt2'"),
    ("no n_head", {"n_head": ...}, "has no n_head"),
    ("no vocab_size", {"vocab_size": ...}, "has no vocab_size"),
    ("n_embd not divisible by n_head", {"n_head": 4}, "n_embd 6 is not divisible by n_head 4"),
    ("no layers", {"n_layer": 0}, "n_layer must be a whole number above 0"),
    ("negative width", {"n_embd": -6}, "n_embd must be a whole number above 0"),
    ("number of heads a string", {"n_head": "2"}, "n_head must be a whole number above 0, not '2'"),
    ("number of heads true", {"n_head": True}, "n_head must be a whole number"),
    ("number of layers with a fraction", {"n_layer": 2.0}, "n_layer must be a whole number"),
    ("n_inner 0", {"n_inner": 0}, "n_inner must be a whole number"),
    ("exact gelu", {"activation_function": "gelu"}, "activation_function 'gelu' (the exact GELU, with erf) is not"),
    ("relu", {"activation_function": "relu"}, "activation_function 'relu' (ReLU) is not supported"),
    ("epsilon 0", {"layer_norm_epsilon": 0}, "layer_norm_epsilon must be a number above 0"),
    ("epsilon NaN", {"layer_norm_epsilon": math.nan}, "layer_norm_epsilon must be a number above 0"),
    ("epsilon a string", {"layer_norm_epsilon": "1e-5"}, "layer_norm_epsilon must be a number above 0"),
    ("scale_attn_weights a word", {"scale_attn_weights": "yes"}, "scale_attn_weights must be true or false"),
    ("cross attention", {"add_cross_attention": True}, "add_cross_attention is set"),
    ("quantized", {"quantization_config": {"bits": 4}}, "quantization_config is set"),
    ("a longer context than the file", {"n_positions": 32}, "has shape [16, 6], but config.json makes it [32, 6]"),
    ("a larger vocabulary than the file", {"vocab_size": 50300}, "config.json makes it [50300, 6]"),
    ("more layers than the file", {"n_layer": 3}, "tensor h.2.ln_1.weight is missing"),
    ("fewer layers than the file", {"n_layer": 1}, "is not part of a GPT-2"),
    ("a wider MLP than the file", {"n_inner": 25}, "c_fc.weight has shape [6, 24], but config.json makes it [6, 25]"),
    ("untied without a head", {"tie_word_embeddings": False}, "tensor lm_head.weight is missing"),
):
    CASES[f"config: {name}"] = (config_with(**changes), expected, 1)


@case("no config.json")
def no_config(d):
    (d / "config.json").unlink()


@case("config.json: Expecting")
def config_that_is_not_json(d):
    (d / "config.json").write_text("{'n_head': 2}")


@case("config.json: ")
def config_that_is_not_utf_8(d):
    (d / "config.json").write_bytes(b'{"n_head\xff": 2}')


@case("must hold a JSON object")
def config_that_is_a_list(d):
    (d / "config.json").write_text("[]")


# Tensors
def tensors_with(change):
    def spoil(d):
        path = d / "model.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return spoil


FC = "transformer.h.1.mlp.c_fc.weight"


def _set(name, value):
    return lambda t: t.update({name: value(t[name]) if name in t else value})


def _poison(name, value):
    def change(t):
        t[name] = t[name].copy()
        t[name].flat[1] = value

    return change


for name, change, expected in (
    ("one missing", lambda t: t.pop(FC), "tensor h.1.mlp.c_fc.weight is missing"),
    ("one too many", _set("transformer.h.1.extra", np.ones(2, np.float32)), "tensor h.1.extra is not part of a GPT-2"),
    ("one misspelt", lambda t: t.update({FC + "s": t.pop(FC)}), "(did you mean h.1.mlp.c_fc.weights?)"),
    (
        "a classifier's head",
        _set("score.weight", np.ones((2, 6), np.float32)),
        "score.weight is the head of a",
    ),
    ("transposed", _set(FC, lambda a: np.ascontiguousarray(a.T)), "h.1.mlp.c_fc.weight is stored [out, in], but"),
    ("one row short", _set(FC, lambda a: a[:-1]), "has shape [5, 24]"),
    ("flat", _set(FC, lambda a: a.reshape(-1)), "has shape [144]"),
    ("float64 too large", _set(FC, lambda a: a.astype(np.float64) * 1e300), "h.1.mlp.c_fc.weight is F64 and holds"),
    ("integers", _set(FC, lambda a: a.astype(np.int8)), "h.1.mlp.c_fc.weight is I8"),
    ("twice", _set(FC.removeprefix("transformer."), np.ones((6, 24), np.float32)), "appears twice"),
    ("NaN", _poison(FC, np.nan), "tensor h.1.mlp.c_fc.weight holds NaN or inf"),
    ("infinite", _poison("transformer.wte.weight", np.inf), "tensor wte.weight holds NaN or inf"),
    ("too large", _set("transformer.ln_f.weight", lambda a: a * 0 + 3e38), "an activation overflowed"),
):
    CASES[f"tensor: {name}"] = (tensors_with(change), expected, 1)


# The safetensors file
def file_with(change):
    def spoil(d):
        path = d / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return spoil


def header_with(change):
    """Rewrite the JSON header, leaving the data as they are."""

    def rewrite(raw):
        (length,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + length])
        change(header)
        new = json.dumps(header).encode()
        return struct.pack("<Q", len(new)) + new + raw[8 + length :]

    return file_with(rewrite)


def offsets(begin, end):
    return header_with(lambda h: h[FC].update(data_offsets=[begin, end]))


INVALID = "is not a valid safetensors file"
for name, spoil in (
    ("empty", file_with(lambda raw: b"")),
    ("four bytes", file_with(lambda raw: raw[:4])),
    ("only a length", file_with(lambda raw: raw[:8])),
    ("a header of 2^63 bytes", file_with(lambda raw: struct.pack("<Q", 1 << 63) + raw[8:])),
    ("a header longer than the file", file_with(lambda raw: struct.pack("<Q", len(raw)) + raw[8:])),
    ("a header that is not JSON", file_with(lambda raw: raw[:8] + b"x" + raw[9:])),
    ("a header that is not UTF-8", file_with(lambda raw: raw[:9] + b"\xff" + raw[10:])),
    ("cut short", file_with(lambda raw: raw[:-100])),
    ("something after the end", file_with(lambda raw: raw + b"more")),
    ("negative offsets", offsets(-8, 568)),
    ("overlapping tensors", offsets(0, 576)),
    ("offsets past the end", offsets(1 << 40, (1 << 40) + 576)),
    ("offsets the wrong way round", offsets(576, 0)),
    ("a shape that does not fit its bytes", header_with(lambda h: h[FC].update(shape=[6, 25]))),
    ("an unknown dtype", header_with(lambda h: h[FC].update(dtype="F31"))),
    ("a pickle by another name", file_with(lambda raw: b"\x80\x04\x95" + raw)),
):
    CASES[f"file: {name}"] = (spoil, INVALID, 1)


# Sharded checkpoints
def index_with(contents):
    def spoil(d):
        raw = load_file(d / "model.safetensors")
        save_file(raw, d / "model-00001-of-00001.safetensors")
        (d / "model.safetensors").unlink()
        weight_map = dict.fromkeys(raw, "model-00001-of-00001.safetensors")
        text = contents(weight_map)
        (d / "model.safetensors.index.json").write_text(text if isinstance(text, str) else json.dumps(text))

    return spoil


for name, contents, expected in (
    ("not JSON", lambda m: "{", "is not a valid index"),
    ("no weight_map", lambda m: {}, "is not a valid index"),
    ("a list", lambda m: [], "is not a valid index"),
    ("nothing in it", lambda m: {"weight_map": {}}, "must name safetensors files"),
    ("a shard elsewhere", lambda m: {"weight_map": m | {FC: "../model.safetensors"}}, "in its own folder"),
    ("a pickle for a shard", lambda m: {"weight_map": m | {FC: "pytorch_model.bin"}}, "must name safetensors files"),
    ("a shard that is not there", lambda m: {"weight_map": m | {FC: "b.safetensors"}}, "which is not there"),
    ("a tensor that no shard has", lambda m: {"weight_map": m | {"x": m[FC]}}, "disagree about x"),
    ("a number for a shard", lambda m: {"weight_map": m | {FC: 3}}, "is not a valid index"),
):
    CASES[f"index: {name}"] = (index_with(contents), expected, 1)


@pytest.mark.parametrize("name", CASES)
def test_bad_input_gets_one_line_and_a_nonzero_exit(name, good, spoilt, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NANOGPT_NP_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setattr(sys, "stdin", sys.stdin)  # restored, whatever a case puts there
    spoil, expected, code = CASES[name]
    arguments = spoil(spoilt)
    if arguments is None:
        arguments = ["x"]
    if "--model" not in arguments and "--dry-run" not in arguments:
        arguments = [*arguments, "--model", os.fspath(spoilt)]

    assert main(["generate", *arguments]) == code

    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and err.endswith("\n"), err
    assert expected in err
    assert "Traceback" not in err


def test_there_are_at_least_sixty_kinds_of_bad_input():
    assert len(CASES) >= 60


def test_the_checkpoint_that_the_cases_spoil_is_valid(spoilt, capsys):
    assert main(["generate", "x", "-n", "2", "--model", str(spoilt)]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["inventory", "gpt-2"], 1, "did you mean"),
        (["inventory", "--everything"], 2, "unrecognized arguments"),
        (["generat"], 2, "did you mean generate?"),
    ],
)
def test_other_commands_fail_in_one_line_too(arguments, code, expected, capsys):
    assert main(arguments) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert expected in err
