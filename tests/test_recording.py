"""Recordings in files: bit for bit what was announced, never half-written, and nothing forged gets in."""

import io
import json
import struct
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from helpers import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from nanogpt_np import KVCache
from nanogpt_np.generate.loop import generate, next_logits
from nanogpt_np.interpret.recorder import Recorder
from nanogpt_np.interpret.recording import Recording, read, read_arrays, save
from nanogpt_np.names import points

MODEL = random_model(n_layer=2)
CONFIG = MODEL.config
IDS = [3, 1, 41, 59, 26, 1, 53]
PROVENANCE = {"name": "some", "origin": "some", "directory": "/some", "dtype": "F32", "parameters": 9, "decoding": "no"}


def about(**changes):
    return {"prompt": "Zürich, \x1b[1m\n", "prompt_ids": IDS, "model": PROVENANCE} | changes


def recorded(model=MODEL, ids=IDS):
    acts = Recorder()
    list(generate(model, ids, 1, stop=(), trace=acts))
    return Recording(acts, model.config, about(prompt_ids=list(ids)))


RECORDING = recorded()


def with_acts(**changes):
    """Return the recording with other arrays; a dot in a name is written as two underscores."""
    return replace(RECORDING, acts=RECORDING.acts | {k.replace("__", "."): v for k, v in changes.items()})


def assert_same(found, expected):
    assert (found.config, found.about) == (expected.config, expected.about)
    assert list(found.acts) == list(expected.acts)
    for name, array in expected.acts.items():
        array = np.ascontiguousarray(array) if np.ndim(array) else array
        assert (found.acts[name].dtype, found.acts[name].shape) == (array.dtype, array.shape), name
        assert found.acts[name].tobytes() == array.tobytes(), name


# ---- There and back ----


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False, "layer_norm_epsilon": 1e-3, "n_inner": None}])
def test_what_is_saved_is_read_bit_for_bit_in_its_order(tmp_path, dtype, changes):
    expected = recorded(random_model(dtype=dtype, **changes))
    assert list(expected.acts) == list(points.table(expected.config, points.NEXT_TOKEN))
    save(tmp_path / "pass.npz", expected)
    found = read(tmp_path / "pass.npz")
    assert_same(found, expected)
    assert isinstance(found.acts, Recorder)


def test_a_pass_after_a_cache_is_read_bit_for_bit(tmp_path):
    cache, acts = KVCache(CONFIG), Recorder()
    MODEL(IDS[:4], cache=cache)
    next_logits(MODEL, np.array(IDS[4:]), cache=cache, trace=acts)
    assert acts["blocks.1.attn.hook_pattern"].shape == (5, 3, 7)
    expected = Recording(acts, CONFIG, about())
    save(tmp_path / "pass.npz", expected)
    assert_same(read(tmp_path / "pass.npz"), expected)


@pytest.mark.parametrize("names", [[], ["hook_next_token"], ["blocks.1.attn.hook_z", "hook_logits", "hook_embed"]])
def test_some_of_the_points_are_enough(tmp_path, names):
    acts = Recorder()
    MODEL(np.array(IDS), trace=acts)
    acts |= RECORDING.acts
    expected = Recording(Recorder(acts={name: acts[name] for name in names}), CONFIG, about())
    save(tmp_path / "pass.npz", expected)
    assert_same(read(tmp_path / "pass.npz"), expected)


def test_minus_0_infinities_subnormals_and_nan_come_back_as_they_were(tmp_path):
    odd = RECORDING.acts["hook_embed"].copy()
    odd[0, :5] = [-0.0, np.inf, -np.inf, 1e-45, np.nan]
    odd.view(np.uint32)[0, 4] |= 0x1234  # a NaN that is not NumPy's
    expected = with_acts(hook_embed=odd)
    save(tmp_path / "pass.npz", expected)
    assert_same(read(tmp_path / "pass.npz"), expected)


def test_numpy_reads_the_file_without_pickle(tmp_path):
    save(tmp_path / "pass.npz", RECORDING)
    with np.load(tmp_path / "pass.npz", allow_pickle=False) as file:
        assert file.files == [*RECORDING.acts, "about.json"]
        for name, array in RECORDING.acts.items():
            np.testing.assert_array_equal(file[name], array)
        assert json.loads(str(file["about.json"]))["prompt"] == RECORDING.about["prompt"]


@pytest.mark.parametrize("name", ["pass", "pass.npz", "pass.npy", "a b.bin", "größe"])
def test_the_file_has_the_name_that_was_given_and_no_other_stands_beside_it(tmp_path, name):
    save(str(tmp_path / name), RECORDING)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert_same(read(str(tmp_path / name)), RECORDING)


def test_what_was_read_is_read_only(tmp_path):
    save(tmp_path / "pass.npz", RECORDING)
    for array in read(tmp_path / "pass.npz").acts.values():
        assert not array.flags.writeable


@pytest.mark.parametrize("error", [OSError("no space left"), KeyboardInterrupt()], ids=repr)
def test_a_save_that_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, error):
    path = tmp_path / "pass.npz"
    save(path, RECORDING)
    before = path.read_bytes()

    def half(file, **arrays):
        file.write(before[:1000])
        raise error

    monkeypatch.setattr(np, "savez", half)
    with pytest.raises(type(error)):
        save(path, with_acts(hook_embed=np.zeros_like(RECORDING.acts["hook_embed"])))
    assert [p.name for p in tmp_path.iterdir()] == ["pass.npz"]
    assert path.read_bytes() == before


# ---- What is not a recording ----

ACTS = {name: np.asarray(array) for name, array in RECORDING.acts.items()}
WHOLE = {**ACTS, "about.json": np.array(json.dumps(about() | {"config": CONFIG.to_dict()}))}
UNSOUND = [
    ("a batch axis", {"hook_embed": ACTS["hook_embed"][None]}, "hook_embed has shape [1, 7, 30], expected [T, C]: "),
    ("a whole batch", {name: np.stack([x, x]) for name, x in ACTS.items()}, "without a batch axis"),
    ("another width", {"hook_embed": ACTS["hook_embed"][:, :29]}, "hook_embed has shape [7, 29], expected [7, 30] ([T"),
    ("another T", {"hook_pos_embed": ACTS["hook_pos_embed"][:6]}, "hook_pos_embed has shape [6, 30], expected [7, 30]"),
    ("another S", {"blocks.1.attn.hook_pattern": np.zeros((5, 7, 8), np.float32)}, "expected [5, 7, 7] ([H, T, S])"),
    ("axes swapped", {"blocks.0.attn.hook_q": np.zeros((5, 7, 6), np.float32)}, "hook_q has shape [5, 7, 6]"),
    ("no token", {"hook_tokens": np.zeros(0, int)}, "hook_tokens has 0 of 0 tokens"),
    ("no such point", {"blocks.0.attn.hook_paten": ACTS["hook_embed"]}, "did you mean blocks.0.attn.hook_pattern"),
    ("no such block", {"blocks.2.hook_mlp_out": ACTS["hook_embed"]}, "this model has blocks 0 to 1"),
    ("a name of no text", {"\x1b[2J": ACTS["hook_embed"]}, "no trace point '\\x1b[2J'"),
    ("halves", {"hook_embed": ACTS["hook_embed"].astype(np.float16)}, "hook_embed is float16, not float32 or float64"),
    ("whole numbers", {"hook_embed": np.zeros((7, 30), int)}, "hook_embed is int64, not float32"),
    ("broken tokens", {"hook_tokens": np.array(IDS, float)}, "hook_tokens is float64, not whole numbers"),
    (
        "a token too high",
        {"hook_tokens": np.array(IDS) + 44},
        "hook_tokens holds numbers from 45 to 103, expected 0 to",
    ),
    ("a token below 0", {"hook_next_token": np.array(-1)}, "hook_next_token holds numbers from -1"),
    ("a position too high", {"hook_positions": np.arange(17, 24)}, "hook_positions holds numbers from 17 to 23"),
]
NOT_ABOUT = [
    ("no prompt", {"prompt": None}, "about.json must hold 'prompt', a str, not None"),
    ("ids that are words", {"prompt_ids": ["a"]}, "prompt_ids must be whole numbers from 0 to 96, not 'a'"),
    ("an id too high", {"prompt_ids": [97]}, "prompt_ids must be whole numbers from 0 to 96, not 97"),
    ("ids that are true", {"prompt_ids": [True]}, "not True"),
    ("no model", {"model": "facts"}, "about.json must hold 'model', a dict, not 'facts'"),
    ("a model of nothing", {"model": {}}, "model in about.json must hold 'origin', a str, not None"),
    ("a count of words", {"model": PROVENANCE | {"parameters": "many"}}, "'parameters', a int, not 'many'"),
    (
        "a name that is a number",
        {"model": PROVENANCE | {"name": 5}},
        "model in about.json must hold 'name', a str, not 5",
    ),
    ("a name that is a list", {"model": PROVENANCE | {"name": ["x"]}}, "'name', a str, not ['x']"),
    ("a digest that is a number", {"model": PROVENANCE | {"sha256": 5}}, "'sha256', a str, not 5"),
    ("a kind that is a list", {"model": PROVENANCE | {"kind": []}}, "'kind', a str, not []"),
    ("half a character", {"prompt": "\ud800 x"}, r"about.json holds text that is not valid Unicode: '\ud800 x'"),
    ("half a type", {"model": PROVENANCE | {"dtype": "\udfff"}}, r"text that is not valid Unicode: '\udfff'"),
]


def ids(table):
    return [row[0] for row in table]


def assert_refused(path, message, reader=read):
    """The one-line message has the file's name and says what is wrong."""
    with pytest.raises(ValueError) as caught:
        reader(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("label", "changes", "message"), UNSOUND, ids=ids(UNSOUND))
def test_what_is_no_pass_of_this_config_is_neither_read_nor_written(tmp_path, label, changes, message):
    path = tmp_path / "pass.npz"
    np.savez(path, **WHOLE | changes)
    assert_refused(path, message)
    path.unlink()
    with pytest.raises(ValueError) as caught:
        save(path, replace(RECORDING, acts=Recorder(acts=ACTS | changes)))
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("label", "changes", "message"), NOT_ABOUT, ids=ids(NOT_ABOUT))
def test_a_recording_that_does_not_say_whose_it_is_is_neither_read_nor_written(tmp_path, label, changes, message):
    path = tmp_path / "pass.npz"
    np.savez(path, **WHOLE | {"about.json": np.array(json.dumps(about(**changes) | {"config": CONFIG.to_dict()}))})
    assert_refused(path, message)
    path.unlink()
    with pytest.raises(ValueError) as caught:
        save(path, replace(RECORDING, about=about(**changes)))
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"bytes"], ids=repr)
def test_what_json_cannot_hold_is_not_written(tmp_path, value):
    with pytest.raises(ValueError, match=r"pass\.npz is not written"):
        save(tmp_path / "pass.npz", replace(RECORDING, about=about(more=value)))
    assert list(tmp_path.iterdir()) == []


def test_an_untouched_forgery_would_be_read(tmp_path):
    """What the two tables above change is otherwise valid."""
    np.savez(tmp_path / "pass.npz", **WHOLE)
    assert_same(read(tmp_path / "pass.npz"), RECORDING)


ABOUTS = [
    ("no JSON", np.array("{"), "is not a valid .npz file: Expecting property name"),
    ("a list", np.array("[]"), "about.json in it holds no JSON object"),
    ("bytes", np.array(b"{}"), "about.json in it is not a text but |S2 of shape ()"),
    ("many texts", np.array(["{}", "{}"]), "about.json in it is not a text but <U2 of shape (2,)"),
    ("numbers", np.zeros(3), "about.json in it is not a text but float64"),
    ("brackets without end", np.array("[" * 10**5), "is not a valid .npz file"),
    ("no config", np.array("{}"), "config.json must hold a JSON object"),
    ("half a config", np.array('{"config": {"n_layer": 2}}'), "config.json has no vocab_size"),
    ("a config of no GPT-2", np.array(json.dumps({"config": CONFIG.to_dict() | {"n_head": 4}})), "not divisible by"),
]


@pytest.mark.parametrize(("label", "text", "message"), ABOUTS, ids=ids(ABOUTS))
def test_an_about_json_that_is_none_is_refused(tmp_path, label, text, message):
    np.savez(tmp_path / "pass.npz", **ACTS | {"about.json": text})
    assert_refused(tmp_path / "pass.npz", message)


def test_an_npz_without_about_json_is_no_recording_but_its_arrays_can_be_read(tmp_path):
    path = tmp_path / "dump.npz"
    np.savez(path, **ACTS)
    assert_refused(path, "has no about.json: it was not saved by")
    arrays, nothing = read_arrays(path)
    assert nothing is None and list(arrays) == list(ACTS)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_arrays_from_elsewhere_are_read_as_numpy_reads_them(tmp_path, write):
    rng = np.random.default_rng(1)
    expected = {
        "batch": rng.standard_normal((1, 7, 30)),
        "fortran": np.asfortranarray(rng.standard_normal((3, 4))),
        "big": rng.standard_normal((2, 3)).astype(">f4"),
        "strided": rng.standard_normal((4, 6))[::2, ::3],
        "number": np.float16(3),
        "none": np.zeros((0, 3), np.int8),
        "text": np.array(["a", "bc"]),
        "mask": np.array([True, False]),
    }
    write(tmp_path / "dump.npz", **expected)
    arrays, _ = read_arrays(tmp_path / "dump.npz")
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, strict=name != "big")
    assert arrays["big"].dtype.isnative


# ---- Broken and forged files ----


def npy(header, numbers=b"", magic=b"\x93NUMPY", version=(1, 0)):
    header = header if isinstance(header, bytes) else repr(header).encode()
    return magic + bytes(version) + struct.pack("<H", len(header)) + header + numbers


def described(shape, descr="<f4", order=False):
    return {"descr": descr, "fortran_order": order, "shape": shape}


def zipped(members, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


def as_object():
    file = io.BytesIO()
    np.savez(file, hook_embed=np.array([{"any": "thing"}], dtype=object))
    return file.getvalue()


def twice():
    with pytest.warns(UserWarning, match="Duplicate name"):
        return zipped([("a.npy", npy(described((1,)), b"1234"))] * 2)


def before_its_beginning():
    """The end of the zip says that its list begins so late that the files would begin before byte 0."""
    content = bytearray(zipped([("a.npy", npy(described((1,)), b"1234"))]))
    content[-6:-2] = struct.pack("<I", struct.unpack("<I", content[-6:-2])[0] + 1000)
    return bytes(content)


FORGED = [
    ("files before byte 0", before_its_beginning, "is not a valid .npz file"),
    ("nothing", lambda: b"", "is not a valid .npz file"),
    ("a text", lambda: b"hello", "is not a valid .npz file"),
    ("a pickle", lambda: b"\x80\x04K\x01.", "is not a valid .npz file"),
    ("one array, an .npy", lambda: npy(described((1,)), b"1234"), "is not a valid .npz file"),
    ("an object array", as_object, "holds Python objects, which can run any code when opened"),
    ("objects in a record", lambda: zipped([("a.npy", npy(described((1,), [("x", "O")])))]), "holds Python objects"),
    ("a text in the zip", lambda: zipped([("readme.txt", b"hello")]), "'readme.txt' in it is not an array"),
    ("no npy inside", lambda: zipped([("a.npy", b"hello, no magic here")]), "magic string is not correct"),
    ("an empty member", lambda: zipped([("a.npy", b"")]), "is not a valid .npz file"),
    ("a name twice", twice, "a name appears twice"),
    ("too few bytes", lambda: zipped([("a.npy", npy(described((2,)), b"1234"))]), "but has 4 bytes"),
    ("too many bytes", lambda: zipped([("a.npy", npy(described((1,)), b"12345"))]), "but has 5 bytes"),
    ("a huge shape", lambda: zipped([("a.npy", npy(described((10**12,)), b"1234"))]), "but has 4 bytes"),
    ("beyond all sizes", lambda: zipped([("a.npy", npy(described((10**30, 10**30)), b""))]), "but has 0 bytes"),
    ("no bytes, huge", lambda: zipped([("a.npy", npy(described((0, 10**30)), b""))]), "is not a valid .npz file"),
    ("a shape below 0", lambda: zipped([("a.npy", npy(described((-1, -1)), b"1234"))]), "is not a valid .npz file"),
    ("no width, huge", lambda: zipped([("a.npy", npy(described((10**30,), "|V0"), b""))]), "is not a valid .npz file"),
    ("no dtype", lambda: zipped([("a.npy", npy(described((1,), "<q9")))]), "is not a valid .npz file"),
    ("code for a header", lambda: zipped([("a.npy", npy(b"__import__('os').getcwd()"))]), "is not a valid .npz file"),
    ("keys of two kinds", lambda: zipped([("a.npy", npy({1: 2, "a": 3}))]), "is not a valid .npz file"),
    ("a list for a header", lambda: zipped([("a.npy", npy(b"[1, 2]"))]), "is not a valid .npz file"),
    ("a version to come", lambda: zipped([("a.npy", npy(described((1,)), b"1234", version=(4, 0)))]), "version (4, 0)"),
    ("another compression", lambda: zipped([("a.npy", npy(described((1,)), b"1234"))], zipfile.ZIP_LZMA), "in a way"),
    ("names of no UTF-8", lambda: zipped([("ü.npy", npy(described((1,)), b"1234"))]).replace("ü".encode(), b"\xff\xfe"),
     "is not a valid .npz file"),
]  # fmt: skip


@pytest.mark.parametrize(("label", "content", "message"), FORGED, ids=ids(FORGED))
def test_a_forged_file_is_refused_by_name_and_in_one_line(tmp_path, label, content, message):
    path = tmp_path / "forged.npz"
    path.write_bytes(content())
    assert_refused(path, message, read_arrays)
    assert_refused(path, message, read)


def test_a_huge_shape_takes_no_memory(tmp_path):
    path = tmp_path / "forged.npz"
    path.write_bytes(zipped([("a.npy", npy(described((10**9,)), b"1234"))]))
    tracemalloc.start()
    assert_refused(path, "but has 4 bytes")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


def small_file():
    """A whole recording in a file of few bytes."""
    names = ("hook_tokens", "blocks.0.ln1.hook_scale", "hook_next_token")
    file = io.BytesIO()
    np.savez(file, **{name: ACTS[name] for name in names}, **{"about.json": WHOLE["about.json"]})
    return file.getvalue()


SMALL = small_file()


def read_or_refused(path):
    try:
        return read(path)
    except ValueError as error:
        assert str(path) in str(error)
        return None


def test_a_file_that_was_cut_short_anywhere_is_refused(tmp_path):
    path = tmp_path / "pass.npz"
    path.write_bytes(SMALL)
    assert read(path)
    for length in range(0, len(SMALL), 7):
        path.write_bytes(SMALL[:length])
        assert read_or_refused(path) is None


@settings(derandomize=True, deadline=None, max_examples=400)
@given(where=st.integers(0, len(SMALL) - 1), byte=st.integers(0, 255), more=st.integers(0, 3))
def test_a_file_with_changed_bytes_is_refused_or_says_the_same(tmp_path_factory, where, byte, more):
    path = tmp_path_factory.getbasetemp() / "changed.npz"
    changed = bytearray(SMALL)
    changed[where : where + more + 1] = bytes([byte]) * len(changed[where : where + more + 1])
    path.write_bytes(changed)
    found = read_or_refused(path)
    if found is not None:  # a date, say, or a flag that nobody reads
        for name, array in found.acts.items():
            np.testing.assert_array_equal(array, ACTS[name])
        assert found.about == RECORDING.about


def test_a_file_that_is_not_there_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.npz"):
        read(tmp_path / "missing.npz")
    with pytest.raises(ValueError, match=f"{tmp_path.name} is not a regular file but a folder"):
        read(tmp_path)
    with pytest.raises(OSError):
        save(tmp_path / "no folder" / "pass.npz", RECORDING)
