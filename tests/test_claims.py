"""A claim in a small file is held against the data first: a refused file costs work and memory by its own size.

All cases run in one process of its own with a time limit; it reports what each one said and how its memory grew.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import SIZES, random_model
from safetensors.numpy import load_file, save_file

import nanogpt_np
from nanogpt_np.__main__ import main
from nanogpt_np.bench.report import TITLES
from nanogpt_np.model.config import Config
from nanogpt_np.names import parameters, wording
from nanogpt_np.names.parameters import parameter, table
from nanogpt_np.text import files
from nanogpt_np.weights import atomic, checkpoint, tensors

CASES = {}
SIZE, INDEX = "model.safetensors", "model.safetensors.index.json"


def case(name, spoil, expected):
    """Register a way to spoil the checkpoint in a directory, and words of the message."""
    assert name not in CASES
    CASES[name] = spoil, expected


# config.json
def config_text(change):
    """Rewrite config.json as text: JSON can say what no Python value does."""

    def spoil(folder):
        path = folder / "config.json"
        path.write_text(change(path.read_text()))

    return spoil


def number(field, digits):
    return config_text(lambda text: text.replace(f'"{field}": {SIZES.get(field, 1e-05)}', f'"{field}": {digits}'))


for field, digits, expected in (
    ("n_layer", "10000", "tensor h.3.ln_1.weight is missing (and 119963 more like it)"),
    ("n_layer", "100000", "n_layer must be at most 10000, not 100000"),
    ("n_layer", "1000000", "n_layer must be at most"),
    ("n_layer", "1" + "0" * 30, "n_layer must be at most 10000, not a number of about 31 digits"),
    ("n_layer", "9" * 400, "n_layer must be at most 10000, not a number of about 4"),
    ("n_layer", "9" * 5000, "it holds a number of 5,000 digits"),
    ("n_layer", "9" * 1_000_000, "it holds a number of 1,000,000 digits"),
    ("n_layer", "-" + "9" * 399, "n_layer must be a whole number above 0, not a number of about 4"),
    ("n_layer", "1e400", "n_layer must be a whole number above 0, not inf"),
    ("n_layer", "NaN", "n_layer must be a whole number above 0, not nan"),
    ("vocab_size", "1" + "0" * 30, "vocab_size must be at most"),
    ("vocab_size", "2147483647", "tensor wte.weight has shape [97, 30], but config.json makes it [2147483647, 30]"),
    ("n_positions", "2147483647", "tensor wpe.weight has shape [23, 30]"),
    ("n_positions", "2147483648", "n_positions must be at most 2147483647"),
    ("n_embd", "2147483645", "tensor wte.weight has shape [97, 30]"),
    ("n_inner", "2147483647", "c_fc.weight has shape [30, 52], but config.json makes it [30, 2147483647]"),
    ("n_head", "1" + "0" * 300, "n_head must be at most"),
    ("layer_norm_epsilon", "1" + "0" * 399, "at most 1, not a number of about 4"),
    ("layer_norm_epsilon", "1" + "0" * 400, "it holds a number of 401 digits"),
    ("layer_norm_epsilon", "1e400", "at most 1, not inf"),
    ("layer_norm_epsilon", "Infinity", "at most 1, not inf"),
    ("layer_norm_epsilon", "NaN", "at most 1, not nan"),
    ("layer_norm_epsilon", "1" * 1_000_000 + ".5", "at most 1, not inf"),
    ("layer_norm_epsilon", "[" * 500 + "]" * 500, "at most 1, not [[[[[["),
):
    case(f"config: {field} {digits[:12]}, {len(digits)} characters", number(field, digits), expected)


def nested(depth, opening="[", closing="]"):
    return "[" * depth + "]" * depth if opening == "[" else opening * depth + "1" + closing * depth


DEEP = "nested too deeply"
for depth in (2_000, 100_000, 1_200_000):
    case(f"config: {depth} lists", config_text(lambda text, depth=depth: nested(depth)), DEEP)
    case(f"config: {depth} objects", config_text(lambda text, depth=depth: nested(depth // 2, '{"a":', "}")), DEEP)
    case(
        f"config: {depth} lists in a field that is not read",
        config_text(lambda text, depth=depth: text.replace("{", '{"x":' + nested(depth) + ",", 1)),
        DEEP,
    )


def with_first(member):
    return config_text(lambda text: text.replace("{", "{" + member + ",", 1))


for name, spoil, expected in (
    ("a key twice", with_first('"n_head": 3'), "the key 'n_head' appears twice"),
    ("a key of 1 MB twice", with_first(f'"{"k" * 10**6}": 1, "{"k" * 10**6}": 1'), "kkk' appears twice"),
    ("a type of 1 MB", config_text(lambda text: text.replace('"gpt2"', f'"{"x" * 10**6}"')), "is not 'gpt2'"),
    ("an activation of 1 MB", config_text(lambda t: t.replace("gelu_new", "\\n" * 10**6)), "is not supported"),
    ("an activation of lists", config_text(lambda t: t.replace('"gelu_new"', nested(400))), "is not supported"),
    ("a million lists", config_text(lambda text: "[" + "[]," * 10**6 + "[]]"), "must hold a JSON object"),
    ("5 MB", config_text(lambda text: text + " " * 5_000_000), "a file of its kind has at most 4,194,304"),
    ("half a GB", lambda folder: os.truncate(folder / "config.json", 500_000_000), "has 500,000,000 bytes"),
):
    case(f"config: {name}", spoil, expected)


# Paths that are not regular files
def instead(name, make):
    def spoil(folder):
        (folder / name).unlink()
        make(folder / name)

    return spoil


if sys.platform != "win32":
    for name in ("config.json", SIZE):
        case(f"{name}: a pipe", instead(name, os.mkfifo), "is not a regular file")
        case(f"{name}: /dev/zero", instead(name, lambda path: path.symlink_to("/dev/zero")), "is not a regular file")
        case(f"{name}: a loop", instead(name, lambda path: path.symlink_to(path)), "cannot be read: Too many levels")
for name in ("config.json", SIZE):
    case(f"{name}: a folder", instead(name, Path.mkdir), "is not a regular file")


# The header of the tensors
def header_bytes(change):
    """Rewrite the JSON header as bytes, leaving the data as they are."""

    def spoil(folder):
        raw = (folder / SIZE).read_bytes()
        length = int.from_bytes(raw[:8], "little")
        new = change(raw[8 : 8 + length])
        (folder / SIZE).write_bytes(len(new).to_bytes(8, "little") + new + raw[8 + length :])

    return spoil


def claimed(nbytes, size=None):
    def spoil(folder):
        with (folder / SIZE).open("r+b") as file:
            file.write(nbytes.to_bytes(8, "little"))
        if size:
            os.truncate(folder / SIZE, size)

    return spoil


def metadata(value):
    return header_bytes(lambda raw: raw.replace(b"{", b'{"__metadata__":' + value + b",", 1))


INVALID = "is not a valid safetensors file"
for name, spoil, expected in (
    ("a header of 2^62 bytes", claimed(2**62), "claims 4,611,686,018,427,387,904 bytes"),
    ("a header of 90 MB in a file of 1 GB", claimed(90_000_000, 10**9), "claims 90,000,000 bytes"),
    ("a header of 4 MB of zeros", claimed(4_000_000, 10**9), INVALID),
    ("metadata 2,000 deep", metadata(nested(2_000).encode()), INVALID),
    ("metadata a million deep", metadata(nested(1_000_000).encode()), INVALID),
    ("metadata that is a number", metadata(b"3"), INVALID),
    ("a tensor twice", header_bytes(lambda raw: raw.replace(b'transformer.h.1.ln_1.bias"', b'x"').replace(
        b'transformer.h.2.ln_1.bias"', b'x"')), INVALID),
    ("a dtype of 1 MB", header_bytes(lambda raw: raw.replace(b"F32", b"x" * 10**6, 1)), INVALID),
):  # fmt: skip
    case(f"header: {name}", spoil, expected)


def tensors_with(change):
    def spoil(folder):
        arrays = load_file(folder / SIZE)
        change(arrays)
        save_file(arrays, folder / SIZE)

    return spoil


SMALL = np.zeros(1, np.float32)
for name, change, expected in (
    ("20,000 wrong ones", lambda a: a.update({f"h.{i}.ln_3.weight": SMALL for i in range(20_000)}), "19999 more like"),
    ("none but 20,000 wrong ones", lambda a: (a.clear(), a.update(
        {f"h.{i}.ln_1.weights": SMALL for i in range(20_000)})), "tensor wte.weight is missing"),
    ("a name of 1 MB", lambda a: a.update({"x" * 10**6: SMALL}), "is not part of a GPT-2"),
    ("a name of 1 MB twice", lambda a: a.update({"transformer." + "x" * 10**6: SMALL, "x" * 10**6: SMALL}), "twice"),
    ("a layer of a million digits", lambda a: a.update({f"h.{'9' * 10**6}.ln_1.bias": SMALL}), "is not part"),
    ("a name of escapes", lambda a: a.update({"\x1b[2J\u202e" * 1000: SMALL}), "is not part of a GPT-2"),
    ("300,000 axes", lambda a: a.update({"transformer.ln_f.bias": np.zeros(30, np.float32)}), ""),
):  # fmt: skip
    case(f"tensors: {name}", tensors_with(change), expected)
CASES["tensors: 300,000 axes"] = (
    header_bytes(lambda raw: raw.replace(b'"shape":[30]', b'"shape":[30' + b",1" * 300_000 + b"]", 1)),
    "but config.json makes it [30]",
)


# The index of shards
def index_text(change):
    def spoil(folder):
        names = load_file(folder / SIZE)
        (folder / SIZE).rename(folder / "a.safetensors")
        (folder / INDEX).write_text(change(dict.fromkeys(names, "a.safetensors")))

    return spoil


def shards(**more):
    return lambda names: json.dumps({"weight_map": names | more})


BAD_INDEX = "is not a valid index"
for name, change, expected in (
    ("2,000 lists", lambda names: nested(2_000), DEEP),
    ("a million lists", lambda names: nested(1_000_000), DEEP),
    ("a shard of 1 MB", shards(x="x" * 10**6), "in its own folder"),
    ("a shard of a list", shards(x=["a"]), BAD_INDEX),
    ("a shard that is nothing", shards(x=None), BAD_INDEX),
    ("a shard with a null byte", shards(x="a\0.safetensors"), "in its own folder"),
    ("a shard with a line in it", shards(x="a\n.safetensors"), "in its own folder"),
    ("a map that is a list", lambda names: '{"weight_map": []}', BAD_INDEX),
    ("a number of 5,000 digits", lambda names: '{"weight_map": ' + "9" * 5000 + "}", "of 5,000 digits"),
    ("a name twice", lambda names: '{"weight_map": {"a": "a", "a": "b"}}', "the key 'a' appears twice"),
    ("a name of 1 MB that no shard has", shards(**{"x" * 10**6: "a.safetensors"}), "disagree about xxx"),
    ("50,000 shards", lambda names: json.dumps({"weight_map": {f"n{i}": f"{i}.safetensors" for i in range(50_000)}}),
     "which is not there"),
    ("a million lists in a list", lambda names: '{"weight_map": [' + "[]," * 10**6 + "[]]}", BAD_INDEX),
    ("5 MB", lambda names: shards()(names) + " " * 5_000_000, "at most 4,194,304"),
):  # fmt: skip
    case(f"index: {name}", index_text(change), expected)


GROW = """
import json, pathlib, resource, sys, time, nanogpt_np
from nanogpt_np.weights.checkpoint import open_checkpoint
unit = 1 if sys.platform == "darwin" else 1024
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
open_checkpoint(sys.argv[1])
for folder in sys.argv[2:]:
    before, began, said = peak(), time.perf_counter(), None
    try:
        open_checkpoint(folder)
    except ValueError as error:
        said = str(error)
    print(json.dumps([folder, said, peak() - before, time.perf_counter() - began]), flush=True)
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """Return {case: (message, growth of memory in bytes, seconds)}, from a process that opened each checkpoint."""
    pytest.importorskip("resource")
    root = tmp_path_factory.mktemp("claims")
    folders = {}
    for i, name in enumerate(["", *CASES]):
        folders[name] = root / str(i)
        nanogpt_np.save(random_model(), folders[name])
        if name:
            CASES[name][0](folders[name])
    command = [sys.executable, "-c", GROW, *map(str, folders.values())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = {row[0]: row[1:] for row in map(json.loads, done.stdout.splitlines())}
    return {name: rows[str(folder)] for name, folder in folders.items() if name}


@pytest.mark.parametrize("name", CASES)
def test_a_forged_checkpoint_is_refused_in_one_bounded_line(refused, name):
    said, _, _ = refused[name]
    assert said and CASES[name][1] in said
    assert "\n" not in said and len(said) < 600


@pytest.mark.parametrize("name", CASES)
def test_a_refused_checkpoint_takes_little_memory_and_time(refused, name):
    _, grown, seconds = refused[name]
    assert grown < 150e6 and seconds < 5


@pytest.mark.parametrize("count", [1, 1000, 4000])
def test_one_name_is_compared_with_a_bounded_number_of_others_once(tmp_path, monkeypatch, count):
    compared, real = [], wording.difflib.get_close_matches

    def counted(name, known, **options):
        compared.append(len(known))
        return real(name, known, **options)

    monkeypatch.setattr(wording.difflib, "get_close_matches", counted)
    shapes = {name: p.shape(Config(**SIZES)) for name, p in table(Config(**SIZES)).items()}
    shapes |= {f"h.{i}.attn.c_atn.weight": (1,) for i in range(count)}
    del shapes["h.1.attn.c_attn.weight"]
    with pytest.raises(ValueError, match=rf"h.1.attn.c_attn.weight is missing \(did you mean .*\) \(and {count} more"):
        checkpoint.check_shapes(shapes, Config(**SIZES))
    assert compared == [min(count, wording.CANDIDATES)]


# --- the checks themselves -----------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_the_count_of_problems_is_that_of_comparing_with_the_whole_table(seed, tied):
    config = Config(**SIZES, tie_word_embeddings=tied)
    rng = np.random.default_rng(seed)
    right = {name: p.shape(config) for name, p in table(config).items()}
    shapes = {name: shape for name, shape in right.items() if rng.random() < 0.9}
    shapes |= {name: (1, 2, 3) for name in shapes if rng.random() < 0.1}
    shapes |= {name: (1,) for name in ("h.3.ln_1.bias", "h.01.ln_1.bias", "lm_head.bias", "x") if rng.random() < 0.3}
    wrong = len(right.keys() ^ shapes.keys()) + sum(right.get(name, s) != s for name, s in shapes.items())
    words = rf"\(and {wrong - 1} more like it\)$" if wrong > 1 else r"^tensor [^()]*"
    with pytest.raises(ValueError, match=words) if wrong else contextlib.nullcontext():
        checkpoint.check_shapes(shapes, config)


@pytest.mark.parametrize("tied", [True, False])
def test_one_name_is_looked_up_as_in_the_whole_table(tied):
    config = Config(**SIZES, tie_word_embeddings=tied)
    names = [*table(Config(**SIZES, tie_word_embeddings=False)), "h.3.ln_1.bias", "h.01.ln_1.bias", "h.-1.ln_1.bias"]
    names += ["h.{i}.ln_1.bias", "h.².ln_1.bias", "h.٣.ln_1.bias", "h.1.ln_3.bias", "h.1.", "", "wte", "h.1.wte.weight"]
    assert {name: parameter(name, config) for name in names} == {name: table(config).get(name) for name in names}
    assert parameters.tensor_count(config) == len(table(config))


ABSURD = [0, -(10**5000), 10**12, 10**30, 10**5000, 1e400, "9" * 10**6, [[]] * 10**6]


@pytest.mark.parametrize("field", ["vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner"])
@pytest.mark.parametrize("value", ABSURD, ids=range(len(ABSURD)))  # of their own: a long number has no name
def test_a_config_refuses_absurd_sizes_in_a_bounded_line(field, value):
    with pytest.raises(ValueError, match=f"{field} must be") as error:
        Config(**{field: value})
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("value", [0, 1.5, 2, 1e400, float("nan"), True, "1e-5", None, *ABSURD[1:]], ids=range(15))
def test_a_config_refuses_absurd_epsilons_in_a_bounded_line(value):
    with pytest.raises(ValueError, match="layer_norm_epsilon must be a number above 0 and at most 1") as error:
        Config(layer_norm_epsilon=value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("value", [1, 1e-5, 1e-12, 0.5])
def test_a_config_keeps_every_usual_epsilon(value):
    assert Config(layer_norm_epsilon=value).layer_norm_epsilon == value


@pytest.mark.parametrize("text", ["x" * 10**6, "\x1b" * 10**6, "\n" * 10**6, " " * 10**6 + "x", "\U000e0001" * 10**6])
@pytest.mark.parametrize("longest", [80, 500])
def test_a_line_is_bounded_whatever_it_is_made_of(text, longest):
    line = wording.one_line("begin " + text + " end", longest)
    assert len(line) <= longest and line.startswith("begin") and line.endswith("end") and line.isprintable()


@pytest.mark.parametrize("length", [80, wording.LONGEST])
def test_a_line_that_fits_is_left_as_it_is(length):
    assert wording.one_line("x" * length) == "x" * length


@pytest.mark.parametrize(("name", "known"), [("x" * 10**6, ["x"]), ("wte", ["w" * 10**6]), ("h.1", ["h.2"] * 10**5)])
def test_the_nearest_name_is_short_and_found_among_few(name, known):
    began = time.perf_counter()
    assert len(wording.nearest(name, known)) < 200
    assert time.perf_counter() - began < 5


# --- files of JSON -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", INDEX])
def test_a_byte_order_mark_is_dropped(tmp_path, name):
    model = random_model()
    nanogpt_np.save(model, tmp_path)
    if name == INDEX:
        index_text(shards())(tmp_path)
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert nanogpt_np.load(tmp_path).config == model.config


@pytest.mark.parametrize("size", [10, 11])
def test_a_file_is_read_up_to_its_limit(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    if size == 10:
        assert files.read_bytes(path, 10) == b"x" * 10
    else:
        with pytest.raises(ValueError, match="has 11 bytes, and a file of its kind has at most 10"):
            files.read_bytes(path, 10)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux has regular files that claim to be empty")
def test_a_file_that_claims_to_be_empty_is_bounded_too():
    with pytest.raises(ValueError, match="at most 10"):
        files.read_bytes("/proc/self/maps", 10)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/"])
@pytest.mark.skipif(sys.platform == "win32", reason="there are no such devices")
def test_only_regular_files_are_opened(path):
    with pytest.raises(ValueError, match=f"{path} is not a regular file"):
        files.read_json(path)


TIMES = dict.fromkeys(("median", "low", "high"), 1.0)
ROW = {"row": "prompt", "unit": "seconds", "tokens": 5, "results": {"nanogpt_np": TIMES}}
MACHINE = {"processor": "P", "cores": 2}
RESULT = {"machine": MACHINE, "model": "gpt2", "weights": "random", "widest spread": 0.1, "rows": [ROW]}
TABLES = {
    "not JSON": "{",
    "2,000 lists": nested(2_000),
    "900 lists": nested(900),
    "a list": "[]",
    "null": "null",
    "nothing": "{}",
    "no rows": json.dumps(RESULT | {"rows": None}),
    "a row that is a number": json.dumps(RESULT | {"rows": [3]}),
    "a row of no kind": json.dumps(RESULT | {"rows": [ROW | {"row": "x" * 10**6}]}),
    "a median that is a word": json.dumps(RESULT).replace("1.0", '"fast"'),
    "a median of 400 digits": json.dumps(RESULT).replace("1.0", "9" * 400),
    "a median of 5,000 digits": json.dumps(RESULT).replace("1.0", "9" * 5000),
    "no processor": json.dumps(RESULT | {"machine": {}}),
    "a context without reading": json.dumps(RESULT | {"rows": [ROW | {"row": "context"}]}),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_result_that_was_not_measured_is_refused_by_name(tmp_path, capsys, name):
    file = tmp_path / "result.json"
    file.write_text(TABLES[name])
    assert main(["benchmark", "--table", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and str(file) in err and err.count("\n") == 1 and len(err) < 600


def test_of_several_results_the_one_that_lacks_rows_is_named(tmp_path, capsys):
    for name in "ab":
        (tmp_path / name).write_text(json.dumps(RESULT))
    assert main(["benchmark", "--table", str(tmp_path / "a")]) == 0
    assert main(["benchmark", "--table", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    assert f"{tmp_path / 'a'} is not what benchmark --json prints, or lacks rows: " in capsys.readouterr().err


def test_texts_in_a_result_are_printed_as_bounded_lines(tmp_path, capsys):
    (tmp_path / "a").write_text(json.dumps(RESULT | {"model": "\x1b[2J" * 1000, "weights": "x\n" * 1000}))
    assert main(["benchmark", "--table", str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and max(map(len, out.splitlines())) < 500 and set(TITLES) > {"prompt"}


# --- one thread, and other systems ---------------------------------------------------------------


def same(model, other):
    assert dataclasses.asdict(model.config) == dataclasses.asdict(other.config)
    for name, array in other.params.items():
        np.testing.assert_array_equal(model.params[name], array)


@pytest.mark.parametrize("started", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_checkpoint_is_read_where_no_more_threads_can_be_started(tmp_path, monkeypatch, started, dtype):
    nanogpt_np.save(random_model(), tmp_path, dtype)
    expected = nanogpt_np.load(tmp_path)
    left, start = [None] * started, threading.Thread.start

    def limited(thread):
        if not left:
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    monkeypatch.setattr(tensors.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(threading.Thread, "start", limited)
    same(nanogpt_np.load(tmp_path), expected)


def test_on_windows_no_file_is_mapped(tmp_path, monkeypatch):
    nanogpt_np.save(random_model(), tmp_path)
    opened = []
    real = np.memmap
    monkeypatch.setattr(tensors.np, "memmap", lambda *a, **k: (opened.append(a), real(*a, **k))[1])
    expected = nanogpt_np.load(tmp_path)
    assert len(opened) == 1
    monkeypatch.setattr(sys, "platform", "win32")
    same(nanogpt_np.load(tmp_path), expected)
    assert len(opened) == 1
    assert not any(array.flags.writeable for array in nanogpt_np.load(tmp_path).params.values())


@pytest.fixture
def busy(monkeypatch):
    """Let replacing a file fail some times, as on Windows while another program has it open."""
    pauses, left = [], []
    replace = os.replace

    def refusing(source, target):
        if left:
            raise left.pop()
        replace(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    monkeypatch.setattr(atomic.time, "sleep", pauses.append)
    return left, pauses


@pytest.mark.parametrize("times", [0, 1, 3, len(atomic.PAUSES)])
def test_on_windows_a_file_that_is_open_elsewhere_is_replaced_a_little_later(tmp_path, monkeypatch, busy, times):
    left, pauses = busy
    left += [PermissionError(13, "Access is denied")] * times
    monkeypatch.setattr(sys, "platform", "win32")
    (tmp_path / "a").write_bytes(b"old")
    with atomic.atomic_write(tmp_path / "a") as partial:
        partial.write_bytes(b"new")
    assert (tmp_path / "a").read_bytes() == b"new" and len(pauses) == times and sum(pauses) < 1.5
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(("platform", "tried"), [("win32", len(atomic.PAUSES) + 1), ("linux", 1), ("darwin", 1)])
def test_a_file_that_stays_open_elsewhere_is_left_as_it_was(tmp_path, monkeypatch, busy, platform, tried):
    left, _ = busy
    left += [PermissionError(13, "Access is denied")] * 20
    monkeypatch.setattr(sys, "platform", platform)
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(PermissionError), atomic.atomic_write(tmp_path / "a") as partial:
        partial.write_bytes(b"new")
    assert (tmp_path / "a").read_bytes() == b"old" and len(left) == 20 - tried
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
