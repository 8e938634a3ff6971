"""What a file of arrays may cost: nothing is believed, nothing is read for ever, and a refusal takes little memory.

Memory is what `tracemalloc` counts: NumPy's arrays, and the bytes that zlib unpacks. That valid files are read bit for
bit, and that forged ones are refused in one line, is in test_recording.py.
"""

import io
import json
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
import zlib
from dataclasses import asdict, replace

import numpy as np
import pytest
from test_recording import ACTS, CONFIG, RECORDING, WHOLE, about, assert_refused, described, npy, zipped

from nanogpt_np.__main__ import main
from nanogpt_np.interpret import npz
from nanogpt_np.interpret.diff import diff
from nanogpt_np.interpret.recording import MOST_BLOCKS, Recording, read, read_arrays, save
from nanogpt_np.page.document import build

FEW = 50_000_000  # bytes: the most that any file below, of up to 6 MB, may take
LARGE = 400_000_000  # bytes to which the bombs unpack
DEFLATED = zipfile.ZIP_DEFLATED


def peak_of(run):
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def assert_cheaply_refused(path, message, reader=read_arrays):
    assert peak_of(lambda: assert_refused(path, message, reader)) < FEW


def bomb(head, crc=None, announced=None):
    """A zip of one array: `head` and zeros, `LARGE` bytes in all, of which it may announce fewer."""
    packer, zeros = zlib.compressobj(1, wbits=-15), bytes(1_000_000)
    data = b"".join([packer.compress(head), *(packer.compress(zeros) for _ in range(LARGE // len(zeros)))])
    data += packer.flush()
    size = LARGE + len(head) if announced is None else announced
    fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0x21, crc or 0, len(data), size, 5, 0)
    local = b"PK\x03\x04" + fields + b"a.npy"
    entry = b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, 0) + b"a.npy"
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local) + len(data), 0)
    return local + data + entry + end


def one(shape, descr="<f4", numbers=b"", **options):
    return zipped([("a.npy", npy(described(shape, descr), numbers))], **options)


def of_header(header):
    start = b"\x93NUMPY" + bytes((2, 0)) + struct.pack("<I", len(header))
    return zipped([("a.npy", start + header)], DEFLATED)


def flagged(content):
    """Say in the zip's directory that the first array is encrypted."""
    at = content.index(b"PK\x01\x02") + 8
    return content[:at] + bytes([content[at] | 1]) + content[at + 1 :]


LIAR = npy(described((250,)))
COUNT = LARGE // 4
WHOLE_HEAD = npy(described((COUNT,)))
TOO_MUCH = "bytes unpack to more than 2,000,000 numbers; if you trust it, read it with numpy.load"
BOMBS = {
    "says what it holds": (lambda: bomb(WHOLE_HEAD), TOO_MUCH),
    "announces 1 kB": (lambda: bomb(LIAR, announced=len(LIAR) + 1000), "Bad CRC-32"),
    "announces a header only": (lambda: bomb(WHOLE_HEAD, zlib.crc32(WHOLE_HEAD), len(WHOLE_HEAD)), "but has 0 bytes"),
    "a header of 10 MB": (lambda: of_header(b" " * 10_000_000), "is not a valid .npz file"),
    "a header of minus signs": (lambda: of_header(b"-" * 9_000 + b"1"), "is not a valid .npz file"),
    "a header of brackets": (lambda: of_header(b"(" * 9_000), "is not a valid .npz file"),
    "an axis of no length hides another": (lambda: one((10**9, 0)), TOO_MUCH),
    "numbers of no bytes": (lambda: one((10**9,), "|V0"), TOO_MUCH),
    "texts of no characters": (lambda: one((10**9,), "<U0"), TOO_MUCH),
    "a text of 400 MB": (lambda: bomb(npy(described((), f"<U{COUNT}"))), TOO_MUCH),
    "a record of 400 MB": (lambda: bomb(npy(described((), [("x", "<f4", (COUNT,))]))), TOO_MUCH),
    "sizes beyond 64 bits": (lambda: one((2**40, 2**40)), "but has 0 bytes"),
    "a size of 5,000 digits": (lambda: one((10**4_000, 0)), "is not a valid .npz file"),
    "10,001 arrays": (lambda: zipped([(f"{i}.npy", npy(described((0,)))) for i in range(10_001)]), "10,001 arrays"),
    "a directory of 3 MB": (lambda: zipped([(f"{i}" * 12_000 + ".npy", b"") for i in range(10, 130)]), "its directory"),
    "a name of 2,000 characters": (lambda: zipped([("a" * 2_000 + ".npy", b"")]), "a name of 2,004 characters"),
    "encrypted": (lambda: flagged(one((1,), numbers=b"1234")), "is encrypted"),
}  # fmt: skip


@pytest.mark.parametrize("label", BOMBS)
def test_a_bomb_is_refused_for_little_memory(tmp_path, label):
    content, message = BOMBS[label]
    path = tmp_path / "bomb.npz"
    path.write_bytes(content())
    assert path.stat().st_size < 7_000_000
    assert_cheaply_refused(path, message, read_arrays)
    assert_cheaply_refused(path, message, read)


def test_of_data_that_unpack_to_more_than_is_announced_only_that_is_read(tmp_path):
    path, whole = tmp_path / "liar.npz", LIAR + bytes(1000)
    path.write_bytes(bomb(LIAR, crc=zlib.crc32(whole), announced=len(whole)))
    assert peak_of(lambda: read_arrays(path)) < FEW
    np.testing.assert_array_equal(read_arrays(path)[0]["a"], np.zeros(250, np.float32), strict=True)


def test_what_numpy_compresses_is_read_up_to_two_million_numbers_and_beyond_that_one_for_each_byte(tmp_path):
    path = tmp_path / "dump.npz"
    np.savez_compressed(path, a=np.zeros(1_000_000, np.int8), b=np.zeros(1_000_000))
    assert sum(x.size for x in read_arrays(path)[0].values()) == 2_000_000
    np.savez_compressed(path, a=np.zeros(1_000_001, np.int8), b=np.zeros(1_000_000))
    assert_cheaply_refused(path, TOO_MUCH)
    rng = np.random.default_rng(0)
    expected = {
        "halves": rng.standard_normal(1_500_000).astype(np.float16).astype(np.float32),
        "mask": np.ones(10**6, bool),
    }
    np.savez_compressed(path, **expected)
    assert npz.NUMBERS < 2_500_000 < path.stat().st_size < sum(x.nbytes for x in expected.values())
    for name, x in read_arrays(path)[0].items():
        np.testing.assert_array_equal(x, expected[name], strict=True)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.float16, np.float32, np.float64, np.complex128, "<U3"])
def test_no_file_that_savez_wrote_is_too_large(tmp_path, dtype):
    path, x = tmp_path / "dump.npz", np.zeros((3, 1_000_000), dtype)
    np.savez(path, x=x)
    assert npz.NUMBERS < x.size
    np.testing.assert_array_equal(read_arrays(path)[0]["x"], x, strict=True)


# ---- What about.json claims ----


def with_about(tmp_path, text, **arrays):
    path = tmp_path / "pass.npz"
    np.savez(path, **(arrays or ACTS), **{"about.json": np.array(text)})
    return path


def claiming(tmp_path, *, acts=None, config=None, **changes):
    """A recording of which about.json, or its config, says something else."""
    text = json.dumps(about(**changes) | {"config": asdict(CONFIG) | (config or {})})
    return with_about(tmp_path, text, **(ACTS if acts is None else acts))


ABOUTS = {
    "5 million characters": ('{"prompt": "' + "a" * 5_000_000 + '"}', "5,000,014 characters, more than 4,000,000"),
    "nested 60 deep": ('{"a": ' + "[" * 60 + "]" * 60 + "}", "about.json in it is nested more than 50 deep"),
    "objects 60 deep": ('{"a": ' * 60 + "0" + "}" * 60, "about.json in it is nested more than 50 deep"),
    "nested 100,000 deep": ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested more than 50 deep"),
    "a number that is none": ('{"a": NaN}', "NaN is not JSON"),
    "a number of 5,000 digits": ('{"a": ' + "9" * 5_000 + "}", "is not a valid .npz file"),
}


@pytest.mark.parametrize("label", ABOUTS)
def test_an_about_json_that_is_too_long_or_too_deep_is_refused(tmp_path, label):
    text, message = ABOUTS[label]
    for reader in (read, read_arrays):
        assert_cheaply_refused(with_about(tmp_path, text), message, reader)


LAST = {"blocks.999999999.hook_resid_post": ACTS["blocks.1.hook_resid_post"]}
CLAIMS = {
    "a billion blocks": ({"config": {"n_layer": 10**9}}, "n_layer must be at most 10000, not 1000000000"),
    "and one of them recorded": (
        {"config": {"n_layer": 10**9}, "acts": LAST},
        "n_layer must be at most 10000, not 1000000000",
    ),
    "one block too many": ({"config": {"n_layer": MOST_BLOCKS + 1}}, "n_layer is 1001, and"),
    "a vocabulary of 10**30": ({"config": {"vocab_size": 10**30}}, "vocab_size must be at most 2147483647"),
    "a width of 4,000 digits": ({"config": {"n_embd": 10**4_000 * 5}}, "n_embd must be at most 2147483647"),
    "an epsilon of 400 digits": ({"config": {"layer_norm_epsilon": 10**400}}, ""),
    "a million ids": ({"prompt_ids": [1] * 1_000_000}, "prompt_ids has 1000000 ids, but the context is of 23"),
    "one id too many": ({"prompt_ids": [1] * 24}, "prompt_ids has 24 ids, but the context is of 23"),
    "parameters beyond 64 bits": ({"model": about()["model"] | {"parameters": 10**4_000}}, "parameters"),
    "parameters below 0": ({"model": about()["model"] | {"parameters": -1}}, "model in about.json has -1 parameters"),
    "an origin of 1 MB": ({"model": about()["model"] | {"origin": "a" * 10**6}}, "a text of 1,000,000 characters"),
    "a dtype of 1 MB": ({"model": about()["model"] | {"dtype": "a" * 10**6}}, "a text of 1,000,000 characters"),
}


@pytest.mark.parametrize("label", CLAIMS)
def test_what_about_json_claims_costs_nothing_and_is_refused_in_a_short_line(tmp_path, label):
    changes, message = CLAIMS[label]
    path = claiming(tmp_path, **changes)
    assert_cheaply_refused(path, message, read)
    with pytest.raises(ValueError) as caught:
        read(path)
    assert len(str(caught.value)) < len(str(path)) + 400


@pytest.mark.parametrize(
    ("name", "shape"),
    [("hook_embed", (7, 1_500_000)), ("hook_logits", (110_000, 97)), ("hook_tokens", (10_000_000,))],
)
def test_an_array_larger_than_the_model_could_make_is_refused_before_it_is_read(tmp_path, name, shape):
    path = tmp_path / "pass.npz"
    head = npy(described(shape, "<i4"))
    with zipfile.ZipFile(path, "w") as archive:
        buffer = io.BytesIO()
        np.save(buffer, np.array(json.dumps(about() | {"config": asdict(CONFIG)})))
        archive.writestr("about.json.npy", buffer.getvalue())
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            member.write(head)
            member.write(bytes(4 * int(np.prod(shape))))
    assert path.stat().st_size > 39_000_000
    assert peak_of(lambda: assert_refused(path, name)) < 5_000_000


def test_what_read_refuses_is_not_written(tmp_path):
    path = tmp_path / "pass.npz"
    deep = replace(CONFIG, n_layer=MOST_BLOCKS + 1)
    for recording in (
        Recording(RECORDING.acts, deep, about()),
        replace(RECORDING, about=about(more="a" * npz.TEXT)),
        replace(RECORDING, about=about(prompt_ids=[1] * 24)),
    ):
        with pytest.raises(ValueError, match="is not written"):
            save(path, recording)
    assert not path.exists()


def test_a_page_of_a_pass_whose_config_claims_ten_thousand_blocks_is_refused_at_once():
    deep = replace(CONFIG, n_layer=10_000)
    with pytest.raises(ValueError, match="at most 1,000 blocks"):
        build([Recording(RECORDING.acts, deep, about())])


# ---- Unknown names, and what is not a file ----


def test_comparing_thousands_of_arrays_with_unknown_names_takes_time_in_proportion():
    def seconds(n):
        names = [f"transformer.h.{i}.attn.hook_pattern" for i in range(n)]
        acts = {name: np.ones(1) for name in names} | {"hook_embed": np.ones((2, 3))}
        start = time.perf_counter()
        assert len(diff(acts, acts).skipped["no trace points are"]) == n
        return time.perf_counter() - start

    small, large = (min(seconds(n) for _ in range(3)) for n in (2_000, 8_000))
    assert large < 8 * small + 0.05  # measured: 4 times; a search for near names took 400 times as long


LONG = {"prompt": "x" * 1_000_000, "model": {"origin": "y" * 1_000_000}}


def test_a_line_of_diff_stays_short_whatever_a_file_says_of_itself(tmp_path, capsys):
    path = tmp_path / "a.npz"
    np.savez(path, **ACTS, **{"about.json": np.array(json.dumps(LONG))})
    assert main(["diff", str(path), str(path)]) == 0
    assert max(map(len, capsys.readouterr().out.split("\n"))) < 4_000


RUN = "import sys; from nanogpt_np.__main__ import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "/dev/null", "/dev/stdin"])
def test_a_pipe_or_a_device_is_refused_in_one_line_and_never_waited_for(tmp_path, kind):
    path = kind
    if kind == "pipe":
        path = str(tmp_path / "pipe.npz")
        os.mkfifo(path)
    if not os.path.exists(path):
        pytest.skip(f"no {path} here")
    save(tmp_path / "b.npz", RECORDING)
    for arguments in (["diff", path, str(tmp_path / "b.npz")], ["trace", "--load", path]):
        run = subprocess.run(
            [sys.executable, "-c", RUN, *arguments], stdin=subprocess.PIPE, capture_output=True, text=True, timeout=60
        )
        assert run.returncode in (1, 2) and run.stdout == ""
        assert f"{path} is not a regular file but a " in run.stderr
        assert run.stderr.count("\n") == 1


def test_a_folder_is_refused_in_one_line(tmp_path, capsys):
    assert main(["trace", "--load", str(tmp_path)]) == 1
    assert main(["diff", str(tmp_path), str(tmp_path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(str(tmp_path) in line for line in lines)


def test_the_recording_that_the_cases_spoil_is_read(tmp_path):
    assert list(read(claiming(tmp_path)).acts) == list(ACTS) == [name for name in WHOLE if name != "about.json"]
