"""Loading and saving checkpoints, with files written here byte by byte.

What bad files do is in the tests of the command lines; here is what good files become.
"""

import dataclasses
import json
import math
import mmap
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from helpers import random_model

import nanogpt_np
from nanogpt_np.model.linear import Linear
from nanogpt_np.names import parameters
from nanogpt_np.names.sizes import PUBLISHED
from nanogpt_np.weights import assembly, pins, saving, tensors
from nanogpt_np.weights.checkpoint import BY_COLUMN, load, stored_parameters
from nanogpt_np.weights.tensors import Stored, read_header, read_tensors, stored_tensors

REFERENCE = Path(__file__).parent / "reference" / "gpt2_published.json"
IDS = np.array([3, 1, 41, 59, 26])


# --- writing files by hand -----------------------------------------------------------------------


def as_f32(array):
    return "F32", np.asarray(array).astype("<f4").tobytes()


def as_f16(array):
    return "F16", np.asarray(array).astype("<f2").tobytes()


def as_bf16(array):
    """Keep the upper half of each float32, as the cut of the mantissa to 7 bits."""
    return "BF16", (np.asarray(array).astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()


def write(path, tensors, *, start=0, metadata=None):
    """Write {name: (shape, (dtype, bytes))}, with the data beginning at `start` modulo 8."""
    header, at = {}, 0
    if metadata:
        header["__metadata__"] = metadata
    for name, (shape, (dtype, raw)) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(raw)]}
        at += len(raw)
    text = json.dumps(header).encode()
    text += b" " * ((start - len(text)) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(raw for _, (_, raw) in tensors.values()))


def encoded(params, encode=as_f32, prefix="transformer."):
    """Return what `write` takes, for {checkpoint name: array}; the head has no prefix in any file."""
    return {
        ("" if name == "lm_head.weight" else prefix) + name: (array.shape, encode(array))
        for name, array in params.items()
    }


def write_model(folder, model, tensors=None, *, start=0, **changed_config):
    """Write `model` to `folder` as one file, or only its config.json where `tensors` is {}."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model.config.to_dict() | changed_config), encoding="utf-8")
    if tensors != {}:
        write(folder / "model.safetensors", tensors or encoded(model.params), start=start)
    return folder


def laid_out(model):
    """Return `model` with its arrays in memory as `load` lays them out: the last bits of a product depend on that."""
    arrays = {n: np.asfortranarray(a) if n.endswith(BY_COLUMN) else a for n, a in model.params.items()}
    return assembly.assemble(model.config, arrays)


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_same_params(model, params):
    assert list(model.params) == list(params)
    for name, array in params.items():
        assert same_bits(model.params[name], array), name


def mapped(array):
    """Say whether the array's memory is a file's."""
    while array is not None:
        if isinstance(array, mmap.mmap):
            return True
        array = getattr(array, "base", None)
    return False


# --- the numbers ---------------------------------------------------------------------------------


def plain_float(bits, exponent_bits, mantissa_bits):
    """IEEE 754, section 3.4, from the bits of a 16-bit number."""
    sign = -1.0 if bits >> 15 else 1.0
    exponent = bits >> mantissa_bits & (1 << exponent_bits) - 1
    mantissa = bits & (1 << mantissa_bits) - 1
    bias = (1 << exponent_bits - 1) - 1
    if exponent == (1 << exponent_bits) - 1:
        return math.nan if mantissa else sign * math.inf
    if exponent == 0:
        return sign * math.ldexp(mantissa, 1 - bias - mantissa_bits)
    return sign * math.ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits)


@pytest.mark.parametrize("chunk", [tensors.BYTES_AT_ONCE, 6, 2])
@pytest.mark.parametrize(("dtype", "exponent_bits", "mantissa_bits"), [("F16", 5, 10), ("BF16", 8, 7)])
def test_all_65536_numbers_of_16_bits_are_read_exactly(
    tmp_path, monkeypatch, dtype, exponent_bits, mantissa_bits, chunk
):
    patterns = range(0, 1 << 16, 1 if chunk > 6 else 37)
    monkeypatch.setattr(tensors, "BYTES_AT_ONCE", chunk)
    raw = np.array(patterns, "<u2").tobytes()
    write(tmp_path / "t.safetensors", {"t": ([len(patterns)], (dtype, raw))})
    read = read_tensors(read_header(tmp_path / "t.safetensors"))["t"]
    expected = np.array([plain_float(bits, exponent_bits, mantissa_bits) for bits in patterns])
    assert read.dtype == np.float32
    nan = np.isnan(expected)
    assert np.isnan(read[nan]).all()
    assert 0 < nan.sum() < len(patterns) / 10
    # As bits: float32 has more of them than either, so every other number is exact, and -0.0 is not 0.0.
    assert same_bits(read[~nan], expected[~nan].astype(np.float32))


@pytest.mark.parametrize("start", range(8))
def test_float32_is_read_bit_for_bit_and_mapped_where_it_is_aligned(tmp_path, start):
    bits = np.random.default_rng(0).integers(2**32, size=(5, 7), dtype=np.uint32)  # NaNs and subnormals among them
    bits[0, :4] = 0, 0x80000000, 0x7F800001, 1
    path = tmp_path / "t.safetensors"
    write(path, {"one": ((5, 7), ("F32", bits.tobytes())), "single": ((), ("F32", b"\0\0\x80?"))}, start=start)
    stored = read_header(path)
    assert stored["one"].start % 8 == start
    read = read_tensors(stored)
    assert same_bits(read["one"].view(np.uint32), bits)
    assert (read["single"].shape, float(read["single"])) == ((), 1.0)
    for array in read.values():
        assert mapped(array) == (start % 4 == 0)
        assert array.flags.aligned
        assert array.ctypes.data % 4 == 0
        assert array.dtype == np.float32
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


def test_what_is_not_aligned_is_read_right_across_chunks(tmp_path, monkeypatch):
    values = np.arange(1001, dtype=np.float32).reshape(7, 143)
    write(tmp_path / "t.safetensors", {"t": (values.shape, as_f32(values))}, start=3)
    for chunk in (4, 400, 4004, 4 << 20):
        monkeypatch.setattr(tensors, "BYTES_AT_ONCE", chunk)
        assert same_bits(read_tensors(read_header(tmp_path / "t.safetensors"))["t"], values)


@pytest.mark.parametrize("encode", [as_f32, as_f16, as_bf16])
@pytest.mark.parametrize("start", [0, 3], ids=["aligned", "unaligned"])
def test_a_matrix_can_be_laid_out_by_column_across_chunks(tmp_path, monkeypatch, encode, start):
    values = np.arange(-70, 73, dtype=np.float32).reshape(13, 11)  # exact in all three
    both = {"one": (values.shape, encode(values)), "other": (values.shape, encode(values))}
    write(tmp_path / "t.safetensors", both, start=start)
    for chunk in (1, 100, 4 << 20):
        monkeypatch.setattr(tensors, "BYTES_AT_ONCE", chunk)
        read = read_tensors(read_header(tmp_path / "t.safetensors"), {"one"})
        for name, array in read.items():
            assert same_bits(array, values)
            assert array.flags.f_contiguous == (name == "one")
            assert mapped(array) == (name == "other" and encode is as_f32 and start == 0)
            assert not array.flags.writeable


@pytest.mark.parametrize("lost", [2, 20 * 200 - 2], ids=["the last tensor", "all of them"])
def test_a_file_that_shrinks_while_it_is_read_is_an_error_in_whichever_thread(tmp_path, lost):
    path = tmp_path / "t.safetensors"
    write(path, {f"t{i}": ((100,), as_f16(np.ones(100))) for i in range(20)})
    stored = read_header(path)
    os.truncate(path, path.stat().st_size - lost)
    with pytest.raises(ValueError, match="ended before its tensors did: was it changed while being read"):
        read_tensors(stored)


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0)])
def test_a_tensor_of_no_numbers_is_read(tmp_path, shape):
    write(tmp_path / "t.safetensors", {"none": (shape, ("F16", b"")), "one": ((1,), as_f16([2.0]))})
    read = read_tensors(read_header(tmp_path / "t.safetensors"), {"none"})
    assert read["none"].shape == shape and read["one"].tolist() == [2.0]


def test_tensors_come_in_the_order_asked_for_whatever_their_order_in_the_file(tmp_path):
    tensors = {name: ((2,), as_f32([i, -i])) for i, name in enumerate("zayb")}
    write(tmp_path / "t.safetensors", tensors)
    stored = read_header(tmp_path / "t.safetensors")
    asked = {name: stored[name] for name in "bza"}
    assert {name: array.tolist() for name, array in read_tensors(asked).items()} == {
        "b": [3, -3],
        "z": [0, 0],
        "a": [1, -1],
    }
    assert list(read_tensors(asked)) == list("bza")


@pytest.mark.parametrize(("dtype", "size"), [("I32", 4), ("U8", 1), ("F8_E5M2", 1), ("I16", 2), ("BOOL", 1)])
def test_another_dtype_is_an_error_that_names_the_tensor(tmp_path, dtype, size):
    write(tmp_path / "t.safetensors", {"fine": ((1,), as_f32([1])), "odd.weight": ((2,), (dtype, b"\0" * 2 * size))})
    with pytest.raises(ValueError, match=rf"odd.weight is {dtype} \(.+\): parameters must be F32, F16, BF16, F64,"):
        read_tensors(read_header(tmp_path / "t.safetensors"))


def test_a_header_says_where_each_tensor_stands(tmp_path):
    path = tmp_path / "t.safetensors"
    write(path, {"a": ((2, 3), as_f16(np.arange(6))), "b": ((1,), as_f32([2.5]))}, start=5, metadata={"format": "pt"})
    stored = read_header(path)
    data = path.stat().st_size - 16
    assert stored == {
        "a": Stored(path, "F16", (2, 3), data, 12),
        "b": Stored(path, "F32", (1,), data + 12, 4),
    }
    assert data % 8 == 5
    assert np.frombuffer(path.read_bytes()[data + 12 :], "<f4").tolist() == [2.5]


# --- from file to model --------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 3], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_a_checkpoint_becomes_the_model_it_was_written_from(tmp_path, prefix, start):
    model = random_model()
    backwards = dict(reversed(encoded(model.params, prefix=prefix).items()))
    loaded = load(write_model(tmp_path, model, backwards, start=start))
    assert loaded.config == model.config
    assert_same_params(loaded, model.params)
    assert same_bits(loaded(IDS), laid_out(model)(IDS))
    by_column = {f"h.{i}.mlp.c_proj.weight" for i in range(model.config.n_layer)}
    for name, array in loaded.params.items():
        assert mapped(array) == (start == 0 and name not in by_column), name
        assert array.flags.f_contiguous if name in by_column else array.flags.c_contiguous, name
        assert not array.flags.writeable


@pytest.mark.parametrize(("encode", "rounding"), [(as_f16, np.float16), (as_bf16, None)])
def test_a_checkpoint_of_16_bits_becomes_a_float32_model_of_those_numbers(tmp_path, encode, rounding):
    model = random_model()
    loaded = load(write_model(tmp_path, model, encoded(model.params, encode)))
    for name, array in model.params.items():
        if rounding:
            expected = array.astype(rounding).astype(np.float32)
        else:
            expected = (array.view(np.uint32) & 0xFFFF0000).view(np.float32)
        assert same_bits(loaded.params[name], expected), name
    assert loaded(IDS).dtype == np.float32


def test_the_dtypes_of_one_file_may_differ(tmp_path):
    model = random_model()
    tensors = encoded(model.params)
    tensors |= {k: v for k, v in encoded(model.params, as_f16).items() if "ln_" in k}
    loaded = load(write_model(tmp_path, model, tensors))
    for name, array in model.params.items():
        expected = array.astype(np.float16).astype(np.float32) if "ln_" in name else array
        assert same_bits(loaded.params[name], expected), name


def write_shards(folder, model, n, encode=as_f32):
    write_model(folder, model, {})
    tensors = list(encoded(model.params, encode).items())
    weight_map = {}
    for i in range(n):
        shard = f"model-{i + 1:05}-of-{n:05}.safetensors"
        write(folder / shard, dict(tensors[i::n]), start=i)
        weight_map |= {name: shard for name, _ in tensors[i::n]}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("tied", [True, False])
def test_shards_are_put_together(tmp_path, n, tied):
    model = random_model(tie_word_embeddings=tied)
    loaded = load(write_shards(tmp_path, model, n))
    assert loaded.config == model.config
    assert_same_params(loaded, model.params)


def test_one_file_goes_before_shards_as_in_transformers(tmp_path):
    model, other = random_model(1), random_model(2)
    write_shards(tmp_path, other, 2)
    write_model(tmp_path, model)
    assert_same_params(load(tmp_path), model.params)


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("dtype", ["F32", "BOOL", "U8"])
def test_masks_are_passed_over_and_the_biases_beside_them_are_not(tmp_path, prefix, dtype):
    model = random_model()
    P, size = model.config.n_positions, 4 if dtype == "F32" else 1
    tensors = {}
    for name, tensor in encoded(model.params, prefix=prefix).items():
        if name.endswith("attn.c_attn.weight"):
            stem = name.removesuffix("c_attn.weight")
            tensors[stem + "bias"] = ((1, 1, P, P), (dtype, bytes(P * P * size)))
            tensors[stem + "masked_bias"] = ((), as_f32(-1e4))
        tensors[name] = tensor
    assert len(tensors) == len(model.params) + 2 * model.config.n_layer
    folder = write_model(tmp_path, model, tensors)
    assert set(stored_tensors(folder)) == set(tensors)
    _, stored = stored_parameters(folder)
    assert list(stored) == list(model.params)
    assert_same_params(load(folder), model.params)


@pytest.mark.parametrize("name", ["h.0.attn.bias.weight", "h.0.bias", "attn.bias", "h.x.attn.bias", "h.0.attn.biases"])
def test_only_the_masks_are_passed_over(tmp_path, name):
    model = random_model()
    tensors = encoded(model.params, prefix="") | {name: ((1,), as_f32([0]))}
    with pytest.raises(ValueError, match=f"tensor {name} is not part of a GPT-2"):
        load(write_model(tmp_path, model, tensors))


# --- tied and untied, resized --------------------------------------------------------------------


@pytest.mark.parametrize("says_tied", [True, False])
def test_a_head_that_equals_wte_is_kept_once(tmp_path, says_tied):
    model = random_model()
    tensors = encoded(model.params | {"lm_head.weight": model.params["wte.weight"]})
    loaded = load(write_model(tmp_path, model, tensors, tie_word_embeddings=says_tied))
    assert loaded.lm_head.weight is loaded.embedding.wte_weight
    assert loaded.config.tie_word_embeddings is True
    assert_same_params(loaded, model.params)


@pytest.mark.parametrize("says_tied", [True, False])
def test_a_head_of_its_own_is_used_whatever_config_json_says(tmp_path, says_tied):
    model = random_model(tie_word_embeddings=False)
    loaded = load(write_model(tmp_path, model, tie_word_embeddings=says_tied))
    assert loaded.config.tie_word_embeddings is False
    assert_same_params(loaded, model.params)
    assert same_bits(loaded(IDS), laid_out(model)(IDS))


def test_a_head_that_is_kept_once_is_counted_once(tmp_path):
    model = random_model()
    write_model(tmp_path, model, encoded(model.params | {"lm_head.weight": model.params["wte.weight"]}))
    opened = nanogpt_np.open_checkpoint(tmp_path)
    assert opened.provenance["parameters"] == sum(array.size for array in model.params.values())


@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
    """Stands for a linear layer that holds its numbers in another way."""

    linear: object

    def __call__(self, x, trace=None):
        return self.linear(x)


def test_a_model_that_load_would_refuse_is_not_saved(tmp_path):
    model = random_model()
    block = model.h[0]
    packed = dataclasses.replace(block, mlp=dataclasses.replace(block.mlp, c_fc=Packed(block.mlp.c_fc)))
    narrow = dataclasses.replace(block.attn, c_attn=Linear(np.zeros((30, 54), np.float32), np.zeros(54, np.float32)))
    cut = dataclasses.replace(block, attn=narrow)
    for other, words in ((packed, "h.0.mlp.c_fc.weight is missing"), (cut, r"has shape \[30, 54\]")):
        with pytest.raises(ValueError, match=f"not stored as a GPT-2 checkpoint: .*{words}"):
            nanogpt_np.save(dataclasses.replace(model, h=(other, *model.h[1:])), tmp_path / "saved")
        assert not (tmp_path / "saved").exists()


def test_one_different_number_makes_a_head_of_its_own(tmp_path):
    model = random_model()
    head = model.params["wte.weight"].copy()
    head[-1, -1] += 1
    loaded = load(write_model(tmp_path, model, encoded(model.params | {"lm_head.weight": head})))
    assert same_bits(loaded.params["lm_head.weight"], head)


def test_a_tied_checkpoint_without_a_head_shares_wte(tmp_path):
    loaded = load(write_model(tmp_path, random_model()))
    assert loaded.lm_head.weight is loaded.embedding.wte_weight


def test_an_untied_checkpoint_without_a_head_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"tensor lm_head\.weight is missing"):
        load(write_model(tmp_path, random_model(), tie_word_embeddings=False))


@pytest.mark.parametrize("V", [96, 98, 128])
def test_a_resized_vocabulary_is_loaded_as_config_json_says(tmp_path, V):
    model = random_model(vocab_size=V)
    loaded = load(write_model(tmp_path, model))
    assert loaded(IDS).shape == (5, V)
    assert same_bits(loaded(np.array([V - 1])), laid_out(model)(np.array([V - 1])))
    write_model(tmp_path, model, vocab_size=97)
    with pytest.raises(ValueError, match=rf"wte.weight has shape \[{V}, 30\], but config.json makes it \[97, 30\]"):
        load(tmp_path)


def test_settings_of_config_json_reach_the_arithmetic(tmp_path):
    changes = {
        "n_inner": None,
        "layer_norm_epsilon": 1e-3,
        "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True,
    }
    model = random_model(**changes)
    loaded = load(write_model(tmp_path, model, n_ctx=5, attn_pdrop=0.1, summary_type="cls_index"))
    assert loaded.config == model.config
    assert same_bits(loaded(IDS), laid_out(model)(IDS))
    plain = assembly.assemble(random_model(n_inner=None).config, model.params)
    assert np.abs(loaded(IDS) - plain(IDS)).max() > 1e-2


def test_n_ctx_stands_in_for_n_positions_in_the_oldest_files(tmp_path):
    model = random_model()
    write_model(tmp_path, model)
    values = json.loads((tmp_path / "config.json").read_text())
    values["n_ctx"] = values.pop("n_positions")
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert load(tmp_path).config == model.config


# --- saving --------------------------------------------------------------------------------------


def header_of(path):
    raw = path.read_bytes()
    return json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, "float16"])
def test_what_is_saved_is_loaded_again_to_the_bit_or_rounded_to_float16(tmp_path, tied, dtype):
    model = random_model(tie_word_embeddings=tied)
    nanogpt_np.save(model, tmp_path / "new" / "folder", dtype)
    loaded = nanogpt_np.load(str(tmp_path / "new" / "folder"))
    assert loaded.config == model.config
    assert_same_params(loaded, {k: v.astype(dtype).astype(np.float32) for k, v in model.params.items()})
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_has_the_names_metadata_and_config_that_transformers_reads(tmp_path, tied):
    model = random_model(tie_word_embeddings=tied)
    nanogpt_np.save(model, tmp_path, np.float16)
    header = header_of(tmp_path / "model.safetensors")
    assert header.pop("__metadata__") == {"format": "pt"}
    expected = {f"transformer.{name}" for name in model.params if name != "lm_head.weight"}
    assert header.keys() == expected | (set() if tied else {"lm_head.weight"})
    assert {entry["dtype"] for entry in header.values()} == {"F16"}
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "gpt2"
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert config["dtype"] == "float16"
    assert config["tie_word_embeddings"] is tied
    assert config["activation_function"] == "gelu_new"
    for name in ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner", "layer_norm_epsilon"):
        assert config[name] == getattr(model.config, name)


def test_a_float64_model_is_saved_as_float32(tmp_path):
    nanogpt_np.save(random_model(dtype=np.float64), tmp_path)
    assert_same_params(load(tmp_path), random_model().params)


def test_arrays_that_are_not_contiguous_are_saved_right(tmp_path):
    model = random_model()
    fortran = assembly.assemble(model.config, {k: np.asfortranarray(v) for k, v in model.params.items()})
    nanogpt_np.save(fortran, tmp_path)
    assert_same_params(load(tmp_path), model.params)


def test_a_model_can_be_saved_over_the_file_it_is_mapped_from(tmp_path):
    nanogpt_np.save(random_model(), tmp_path)
    loaded = load(tmp_path)
    assert mapped(loaded.embedding.wte_weight)
    nanogpt_np.save(loaded, tmp_path, np.float16)
    assert_same_params(loaded, random_model().params)
    assert_same_params(load(tmp_path), {k: v.astype(np.float16).astype(np.float32) for k, v in loaded.params.items()})


@pytest.mark.parametrize("dtype", [np.float64, np.int8, "complex64"])
def test_only_float32_and_float16_can_be_saved(tmp_path, dtype):
    with pytest.raises(ValueError, match=f"dtype must be float32 or float16, not {np.dtype(dtype)}"):
        nanogpt_np.save(random_model(), tmp_path, dtype)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_saved_over_a_sharded_checkpoint(tmp_path):
    write_shards(tmp_path, random_model(), 2)
    before = files(tmp_path)
    with pytest.raises(ValueError, match="sharded"):
        nanogpt_np.save(random_model(1), tmp_path)
    assert files(tmp_path) == before


def test_nothing_is_saved_over_links_to_files_that_are_named_by_what_is_in_them(tmp_path):
    blob, folder = tmp_path / pins.PINS["gpt2"].sha256, tmp_path / "snapshot"
    nanogpt_np.save(random_model(), folder)
    (folder / "model.safetensors").rename(blob)
    (folder / "model.safetensors").symlink_to(blob)
    before = files(folder), blob.read_bytes()
    with pytest.raises(ValueError, match="holds links to files"):
        nanogpt_np.save(random_model(1), folder)
    assert (files(folder), blob.read_bytes()) == before


def fail_in_the_middle(monkeypatch, where, error):
    """Make one of the steps of a save write a part, then fail."""
    if where in ("weights", "config"):
        write, calls = saving.write_checked, []

        def write_checked(path, chunks):
            calls.append(path)
            if len(calls) < {"weights": 1, "config": 2}[where]:
                return write(path, chunks)
            path.write_bytes(b"half of it")
            raise error

        monkeypatch.setattr(saving, "write_checked", write_checked)
    else:

        def replace(source, target):
            raise error

        monkeypatch.setattr(os, "replace", replace)


ERRORS = [OSError(28, "No space left on device"), KeyboardInterrupt()]


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("where", ["weights", "rename"])
def test_a_save_that_fails_leaves_the_old_files_and_nothing_else(tmp_path, monkeypatch, where, error):
    nanogpt_np.save(random_model(1), tmp_path)
    before = files(tmp_path)
    fail_in_the_middle(monkeypatch, where, error)
    with pytest.raises(type(error)):
        nanogpt_np.save(random_model(2), tmp_path)
    monkeypatch.undo()
    assert files(tmp_path) == before


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_file_has_the_bytes_that_the_safetensors_library_writes(dtype, tied, tmp_path):
    model = random_model(3, tie_word_embeddings=tied)
    nanogpt_np.save(model, tmp_path, dtype=dtype)
    head = "lm_head.weight"
    stored = {n if n == head else f"transformer.{n}": a.astype(dtype) for n, a in model.params.items()}
    expected = safetensors.numpy.save(stored, metadata={"format": "pt"})
    assert (tmp_path / "model.safetensors").read_bytes() == expected


# The same shapes but other heads: no check of the loader could tell a mixture of the two.
OTHER_HEADS = {"n_head": 3}


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("where", ["weights", "config", "rename"])
def test_a_save_of_another_size_that_fails_never_leaves_a_mixture_of_two_models(tmp_path, monkeypatch, where, error):
    nanogpt_np.save(random_model(1), tmp_path)
    fail_in_the_middle(monkeypatch, where, error)
    with pytest.raises(type(error)):
        nanogpt_np.save(random_model(2, **OTHER_HEADS), tmp_path)
    monkeypatch.undo()
    assert files(tmp_path).keys() <= {"config.json", "model.safetensors"}
    if "model.safetensors" in files(tmp_path):
        assert load(tmp_path).config == random_model(1).config
        assert_same_params(load(tmp_path), random_model(1).params)
    else:
        with pytest.raises(ValueError, match="holds no model"):
            load(tmp_path)


@pytest.mark.parametrize("where", ["weights", "config"])
def test_a_save_of_another_size_that_does_not_fit_on_the_disk_leaves_the_old_model(tmp_path, monkeypatch, where):
    nanogpt_np.save(random_model(1), tmp_path)
    before = files(tmp_path)
    fail_in_the_middle(monkeypatch, where, OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        nanogpt_np.save(random_model(2, **OTHER_HEADS), tmp_path)
    monkeypatch.undo()
    assert files(tmp_path) == before


@pytest.mark.parametrize("old", [{}, OTHER_HEADS, {"n_layer": 1}], ids=str)
def test_a_model_saved_over_another_takes_its_place(tmp_path, old):
    nanogpt_np.save(random_model(1, **old), tmp_path)
    nanogpt_np.save(random_model(2), tmp_path)
    assert load(tmp_path).config == random_model(2).config
    assert_same_params(load(tmp_path), random_model(2).params)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast:RuntimeWarning")
def test_numbers_too_large_for_float16_are_an_error_and_not_infinite_weights(tmp_path):
    model = random_model()
    large = model.params["ln_f.weight"] * np.float32(1e6)
    with pytest.raises(ValueError, match=r"ln_f\.weight"):
        nanogpt_np.save(assembly.assemble(model.config, model.params | {"ln_f.weight": large}), tmp_path, np.float16)


# --- the pins ------------------------------------------------------------------------------------


def test_pins_are_those_that_independent_sources_agree_on():
    files = json.loads(REFERENCE.read_text(encoding="utf-8"))["files"]
    expected = {
        repo: (entry["revision"], entry["model.safetensors"]["sha256"], entry["model.safetensors"]["bytes"])
        for repo, entry in files.items()
    }
    assert {pin.repo: (pin.revision, pin.sha256, pin.nbytes) for pin in pins.PINS.values()} == expected
    assert all(pin.repo.split("/")[1] == name for name, pin in pins.PINS.items())


def test_weights_sh_downloads_the_same_pins():
    script = Path(__file__).parent.parent / "weights.sh"
    rows = [line.split() for line in script.read_text(encoding="utf-8").splitlines()]
    for name, pin in pins.PINS.items():
        assert [name, str(parameters.count(PUBLISHED[name])), pin.repo, pin.revision] in rows
        assert [name, "model.safetensors", pin.sha256, str(pin.nbytes or "-")] in rows
