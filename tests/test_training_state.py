"""The state of a run is believed only as far as it was checked: forged, damaged, half-written and foreign ones."""

import copy
import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import nanogpt_np
from nanogpt_np.__main__ import main
from nanogpt_np.model.config import Config
from nanogpt_np.train import loop
from nanogpt_np.train.corpus import TextData
from nanogpt_np.train.folder import LOCK, is_free, only_run
from nanogpt_np.train.log import LOG, read_log
from nanogpt_np.train.loop import make_data, run
from nanogpt_np.train.settings import Settings
from nanogpt_np.train.state import STATE, VERSION, checksum, claimed_checksum, read_state
from nanogpt_np.train.trainer import Trainer
from nanogpt_np.weights import atomic

TEXT = "".join(f"The number after {n} is {n + 1}. " for n in range(60))
BESIDE = ["generation_config.json", "tokenizer.json", "tokenizer_config.json"]
FILES = sorted(["config.json", "model.safetensors", STATE, *BESIDE])
WITH_LOG = sorted([*FILES, LOG])
ORDER = ["model.safetensors", "config.json", STATE]  # in which they are written
HUGE = 10**400  # too large for a float, small enough for Python's JSON


def new_trainer(text_file, **settings):
    s = {"steps": 12, "batch_size": 3, "context": 8, "warmup": 2, "share_unseen": True, "freeze": ("h.0.ln_1.*",)}
    s = Settings(**{**s, "source": {"texts": [str(text_file)]}, **settings})
    return Trainer.from_scratch(Config(n_positions=8, n_embd=6, n_head=2, n_layer=1), make_data(s), s)


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("texts") / "numbers.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def genuine(text_file, tmp_path_factory):
    """The bytes of the state of a run of 12 steps after 3."""
    folder = tmp_path_factory.mktemp("genuine")
    one = new_trainer(text_file)
    for _ in range(3):
        one.step()
    one.save(folder)
    return (folder / STATE).read_bytes()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def checkpoint(folder):
    return {name: data for name, data in contents(folder).items() if name in FILES}


# A second implementation of the file, as docs/training.md describes it


def parts(data):
    """bytes of a state -> (about, tensors' entries, numbers)"""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return json.loads(header.pop("__metadata__")["nanogpt_np"]), header, data[8 + length :]


def sealed(about, entries, numbers):
    """Return the bytes of a state with a right checksum, whatever it holds; `about` may be text."""
    about = about if isinstance(about, str) else json.dumps(about)
    header = {"__metadata__": {"sha256": "0" * 64, "nanogpt_np": about}, **entries}
    start = json.dumps(header, separators=(",", ":")).encode()
    start = len(start).to_bytes(8, "little") + start
    digest = hashlib.sha256(start + numbers).hexdigest()
    return start.replace(b'"sha256":"' + b"0" * 64, b'"sha256":"' + digest.encode(), 1) + numbers


def refusal(data, folder, make=make_data):
    """Return the one line with which a state of these bytes is refused; fail if it is accepted."""
    (folder / STATE).write_bytes(data)
    with pytest.raises(ValueError, match=r"not the state of a training run|cannot be resumed") as caught:
        Trainer.resume(folder, make)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600, text
    return text


def test_a_state_sealed_by_another_implementation_is_accepted(genuine, tmp_path):
    (tmp_path / STATE).write_bytes(sealed(*parts(genuine)))
    assert Trainer.resume(tmp_path, make_data).step_number == 3
    found = checksum(tmp_path / STATE)
    assert found.claimed == found.actual == claimed_checksum(tmp_path / STATE)


# What no state can hold, under a right checksum

NOT_WHOLE = [-1, 1.5, 3.0, True, None, "3", [3], {}, float("nan"), float("inf"), HUGE]
NOT_POSITIVE = [-1e-3, float("nan"), float("inf"), HUGE, "1", None, True, [1.0]]
WHOLE = ("steps", "batch_size", "context", "accumulate", "eval_every", "save_every", "warmup", "seed")
NUMBERS = ("lr", "final_lr", "weight_decay", "clip", "save_minutes")
BAD_SETTINGS = [
    *((name, value) for name in WHOLE for value in NOT_WHOLE if (name, value) != ("save_every", None)),
    *((name, 0) for name in WHOLE if name not in ("warmup", "seed")),
    *((name, value) for name in NUMBERS for value in NOT_POSITIVE),
    *((name, 0) for name in ("lr", "clip", "save_minutes")),
    *(("schedule_steps", value) for value in NOT_WHOLE if value is not None),
    *(("held_lr", value) for value in [1e-3, *NOT_POSITIVE] if value is not None),  # without schedule_steps
    *(("special", v) for v in (0, 1, None, "true", [])),
    *(("betas", v) for v in (3, None, "0.9", [0.9], [0.9, 0.99, 0.9], [0.9, 1.0], [-0.1, 0.9], [0.9, float("nan")])),
    *(("betas", v) for v in ([0.9, "0.9"], [True, 0.5], [[0.9], 0.9], {"a": 0.9})),
    *(("freeze", v) for v in ("wte.weight", None, [3], ["h.7.*"], ["*"], ["wte.weight"], [], ["h" * 10**6], {})),
    *(("share_unseen", v) for v in (False, 1, None, "true", [])),
    *(("dtype", v) for v in ("float64", "bfloat16", None, 32, ["float32"], {})),
    *(("source", v) for v in (None, [], "x", {}, {"recipe": "x"}, {"recipe": ["facts"]}, {"texts": "a.txt"})),
    *(("source", v) for v in ({"texts": []}, {"texts": [3]}, {"texts": [""]}, {"texts": ["a" * 10**6]})),
    *(("source", v) for v in ({"recipe": "facts", "texts": []}, {"recipe": "facts", "texts": ["a.txt"]})),
    ("steps", 2),  # fewer than were done
    ("context", 9),  # more than there are positions
    ("batch_size", 2**31 - 1),
    ("accumulate", 2**30),
]
BAD_CONFIGS = [
    *((n, v) for n in ("n_embd", "n_layer", "n_head", "n_positions", "vocab_size") for v in [0, *NOT_WHOLE]),
    *(("n_embd", v) for v in (7, 8, 12, 10**30)),
    *(("n_layer", v) for v in (2, 100_000, 10**30)),
    *(("n_head", v) for v in (4, 10**30)),
    *(("n_inner", v) for v in (6, 10**30, -1, "24", 1.0, True)),
    *(("n_positions", v) for v in (7, 9, 10**30)),
    *(("vocab_size", v) for v in (5, 50, 2**40, 10**30)),
    *(("layer_norm_epsilon", v) for v in (0, -1.0, float("nan"), HUGE, "x", None, True)),
    *((n, v) for n in ("tie_word_embeddings", "scale_attn_weights") for v in (1, None, "true", [])),
    ("tie_word_embeddings", False),
    *(("activation_function", v) for v in ("relu", None, 3, ["gelu_new"], {})),
]
BAD_RANDOM = [
    *((("bit_generator",), v) for v in ("MT19937", "Philox", None, 3, [])),
    *((("state", "state"), v) for v in (-1, 2**128, 1.5, None, "3", True, [])),
    *((("state", "inc"), v) for v in (-1, 2, 2**128 + 1, 1.5, None, "3", True, [])),
    *((("has_uint32",), v) for v in (-1, 2, 0.0, True, None, "0")),
    *((("uinteger",), v) for v in (-1, 2**32, 0.5, None, "0")),
    *((("state",), v) for v in (None, [], 3, {}, {"state": 3}, {"state": 3, "inc": 5, "more": 1})),
]
BAD_ABOUT = [
    *(("version", v) for v in (0, 1, 3, 2.0, "2", None, True, [2], 10**30)),
    *(("steps", v) for v in [*NOT_WHOLE, 13, 10**30]),
    *(("updates", v) for v in [*NOT_WHOLE, 4, 10**30]),
    *((name, v) for name in ("settings", "config", "rng") for v in (None, [], "x", 3, {}, {"beams": 4})),
    *(("data", v) for v in (None, "", "0" * 64, 3, [], {})),
]


@pytest.mark.parametrize("name", sorted({name for name, _ in BAD_SETTINGS}))
def test_a_sealed_state_with_a_setting_that_no_run_has_is_refused(name, genuine, tmp_path):
    about, entries, numbers = parts(genuine)
    for value in [value for other, value in BAD_SETTINGS if other == name]:
        refusal(sealed(about | {"settings": about["settings"] | {name: value}}, entries, numbers), tmp_path)


@pytest.mark.parametrize("name", sorted({name for name, _ in BAD_CONFIGS}))
def test_a_sealed_state_with_a_config_that_is_not_that_of_its_arrays_is_refused(name, genuine, tmp_path):
    about, entries, numbers = parts(genuine)
    for value in [value for other, value in BAD_CONFIGS if other == name]:
        refusal(sealed(about | {"config": about["config"] | {name: value}}, entries, numbers), tmp_path)


@pytest.mark.parametrize("name", sorted({name for name, _ in BAD_ABOUT}))
def test_a_sealed_state_with_a_wrong_field_is_refused(name, genuine, tmp_path):
    about, entries, numbers = parts(genuine)
    for value in [value for other, value in BAD_ABOUT if other == name]:
        refusal(sealed(about | {name: value}, entries, numbers), tmp_path)


def test_a_sealed_state_with_a_random_state_that_pcg64_cannot_have_is_refused(genuine, tmp_path):
    about, entries, numbers = parts(genuine)
    for way, value in BAD_RANDOM:
        forged = copy.deepcopy(about)
        place = forged["rng"]
        for key in way[:-1]:
            place = place[key]
        place[way[-1]] = value
        text = refusal(sealed(forged, entries, numbers), tmp_path)
        assert "random state" in text or way[-1] in text


def test_a_sealed_state_that_lacks_a_field_or_has_one_more_is_refused(genuine, tmp_path):
    about, entries, numbers = parts(genuine)
    for group in (None, "settings", "config", "rng"):
        names = about if group is None else about[group]
        for name in names:
            forged = copy.deepcopy(about)
            del (forged if group is None else forged[group])[name]
            refusal(sealed(forged, entries, numbers), tmp_path)
        forged = copy.deepcopy(about)
        (forged if group is None else forged[group])["\x1b[31m" + "x" * 10**5] = 1
        assert "unknown field" in refusal(sealed(forged, entries, numbers), tmp_path)


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"settings":{"source":['])
def test_a_state_whose_description_is_nested_deeply_is_refused(opening, genuine, tmp_path):
    about, entries, numbers = parts(genuine)
    closing = "".join({"[": "]", "{": "}"}[c] for c in reversed(opening) if c in "[{")
    for depth in (100, 400, 900, 1000, 100_000):
        refusal(sealed(opening * depth + "1" + closing * depth, entries, numbers), tmp_path)
        text = json.dumps(about | {"data": "HERE"}).replace('"HERE"', "[" * depth + "]" * depth)
        refusal(sealed(text, entries, numbers), tmp_path)
        text = json.dumps(about | {"settings": about["settings"] | {"source": {"texts": "HERE"}}})
        refusal(sealed(text.replace('"HERE"', "[" * depth + "]" * depth), entries, numbers), tmp_path)


@pytest.mark.parametrize("text", ["", "null", "3", "[]", '"x"', "{", "{}", "\x00", '{"version": 2}', "NaN", "9" * 9999])
def test_a_sealed_state_whose_description_is_no_object_is_refused(text, genuine, tmp_path):
    _, entries, numbers = parts(genuine)
    refusal(sealed(text, entries, numbers), tmp_path)


def changed_tensors(entries, numbers):
    """Yield (what was done, entries, numbers) for every tensor and every way to make it wrong."""
    values = np.frombuffer(numbers, "<f4")
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        for what in ("nan", "inf", "-inf"):
            new = values.copy()
            new[end // 4 - 1] = float(what)
            yield f"{name} {what}", entries, new.tobytes()
        if name.startswith("square/"):
            new = values.copy()
            new[begin // 4] = -1e-6
            yield f"{name} below 0", entries, new.tobytes()
        for shape in (
            [(end - begin) // 4, 1],
            [1, (end - begin) // 4],
            [(end - begin) // 4 + 1],
            [],
            entry["shape"][1:],
        ):
            if shape != entry["shape"]:
                yield f"{name} {shape}", entries | {name: entry | {"shape": shape}}, numbers
        for dtype in ("I32", "U32", "F16", "BF16", "F64", "BOOL", "F8_E4M3", "float", ""):
            yield f"{name} {dtype}", entries | {name: entry | {"dtype": dtype}}, numbers
        for other in (name + "x", name.replace("/", "\\"), "params/" + "x" * 10**5, "", "\x1b[31m"):
            yield f"{name} renamed", {other if n == name else n: e for n, e in entries.items()}, numbers
        yield f"{name} missing", {n: e for n, e in entries.items() if n != name}, numbers
        yield (
            f"{name} overlaps",
            entries | {name: entry | {"data_offsets": [0, end - begin]}},
            numbers + b"\x00" * begin,
        )
        yield f"{name} too long", entries | {name: entry | {"data_offsets": [begin, 10**18]}}, numbers
        yield f"{name} negative", entries | {name: entry | {"data_offsets": [-4, end]}}, numbers
    extra = {"dtype": "F32", "shape": [2], "data_offsets": [len(numbers), len(numbers) + 8]}
    for name in ("mean/h.0.ln_1.weight", "params/h.1.ln_1.weight", "params/lm_head.weight", "other", "params/"):
        yield f"{name} added", entries | {name: extra}, numbers + b"\x00" * 8
    yield "nothing", {}, b""
    yield "no entry", dict.fromkeys(entries, 3), numbers


def test_a_sealed_state_with_a_wrong_tensor_is_refused(genuine, tmp_path):
    about, entries, numbers = parts(genuine)
    data, done = make_data(Settings(**about["settings"])), 0
    for what, new_entries, new_numbers in changed_tensors(entries, numbers):
        if (new_entries, new_numbers) == (entries, numbers):
            continue  # the first tensor begins at 0 already
        try:
            refusal(sealed(about, new_entries, new_numbers), tmp_path, lambda settings: data)
        except pytest.fail.Exception as error:
            raise AssertionError(what) from error
        done += 1
    assert done > 300


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
@pytest.mark.parametrize("kind", ["/dev/null", "/dev/zero", "pipe"])
def test_a_state_whose_text_is_a_device_or_a_pipe_is_refused_without_reading_it(kind, genuine, tmp_path):
    about, entries, numbers = parts(genuine)
    if kind == "pipe":
        os.mkfifo(tmp_path / kind)
        kind = str(tmp_path / kind)
    source = {"source": {"texts": [kind]}}
    assert "not a regular file" in refusal(
        sealed(about | {"settings": about["settings"] | source}, entries, numbers), tmp_path
    )


# Damage: the checksum is not made right again


def damaged(data, rng):
    """Return `data` with one or a few bytes changed, cut out, added, exchanged or zeroed."""
    new = bytearray(data)
    header = 8 + int.from_bytes(data[:8], "little")
    place = int(rng.integers(header if rng.random() < 0.5 else len(data)))
    kind = rng.integers(6)
    if kind == 0:
        new[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        new[place] = int(rng.integers(256))
    elif kind == 2:
        del new[place : place + int(rng.integers(1, 99))]
    elif kind == 3:
        new[place:place] = rng.bytes(int(rng.integers(1, 99)))
    elif kind == 4:
        new[place : place + 512] = bytes(len(new[place : place + 512]))
    else:  # a digit of the description, as an editor would
        digits = [i for i in range(header) if new[i : i + 1].isdigit()]
        at = digits[int(rng.integers(len(digits)))]
        new[at] = ord(str(int(rng.integers(10))))
    return bytes(new)


def refuse_damaged(data, folder, cases, seed):
    rng, done = np.random.default_rng(seed), 0
    while done < cases:
        new = damaged(data, rng)
        if new != data:
            refusal(new, folder)
            done += 1


def test_a_damaged_state_is_refused(genuine, tmp_path):
    refuse_damaged(genuine, tmp_path, 200, seed=0)


@pytest.mark.slow
def test_thousands_of_damaged_states_are_refused(genuine, tmp_path):
    seed = int(os.environ.get("NANOGPT_NP_SEED") or np.random.SeedSequence().entropy % 2**32)
    print(f"NANOGPT_NP_SEED={seed}")
    refuse_damaged(genuine, tmp_path, 5000, seed)


JUNK = [None, True, False, 0, -1, 1, 2, 3, 8, 9, 0.5, 1e-300, 1e300, float("nan"), "", "x", [], [1], {}, {"a": 1}, HUGE]


def places(value, way=()):
    """Yield the way to every value of a JSON object."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*way, key)
        yield from places(value[key], (*way, key))


def changed(about, rng):
    """Return `about` with one to three of its values replaced by junk, by another of its values, or moved a little."""
    forged = copy.deepcopy(about)
    for _ in range(int(rng.integers(1, 4))):
        every = list(places(forged))
        way, other = (every[int(rng.integers(len(every)))] for _ in range(2))
        holder = forged
        for key in way[:-1]:
            holder = holder[key]
        value = forged
        for key in other:
            value = value[key]
        if rng.random() < 0.6:
            value = JUNK[int(rng.integers(len(JUNK)))]
        elif rng.random() < 0.5 and type(holder[way[-1]]) is int:
            value = holder[way[-1]] + int(rng.integers(-3, 4))
        holder[way[-1]] = copy.deepcopy(value)
    return forged


@pytest.mark.slow
def test_a_sealed_state_of_random_fields_is_refused_or_is_one_that_trains_and_loads(genuine, tmp_path):
    seed = int(os.environ.get("NANOGPT_NP_SEED") or np.random.SeedSequence().entropy % 2**32)
    print(f"NANOGPT_NP_SEED={seed}")
    rng, (about, entries, numbers) = np.random.default_rng(seed), parts(genuine)
    refused, accepted = 0, 0
    for _ in range(int(os.environ.get("NANOGPT_NP_CASES") or 1500)):
        forged = changed(about, rng)
        (tmp_path / STATE).write_bytes(sealed(forged, entries, numbers))
        try:
            one = Trainer.resume(tmp_path, make_data)
        except (ValueError, OSError) as error:
            assert "\n" not in str(error) and len(str(error)) < 600
            assert isinstance(error, ValueError) or error.filename  # a text that is not there
            refused += 1
            continue
        accepted += 1
        assert one.step_number <= one.settings.steps
        s = one.settings
        largest = max(s.lr, s.final_lr, s.weight_decay, 1 / one.config.layer_norm_epsilon)
        if s.batch_size * s.context * s.accumulate > 500 or largest > 1e6:
            continue  # valid, but slow or diverging
        with np.errstate(all="ignore"):
            loss, counted = one.step()
        assert np.isfinite(loss) and counted
        one.save(tmp_path / "saved")
        config = nanogpt_np.load(tmp_path / "saved").config
        assert (config.n_embd, config.n_layer, config.vocab_size) == (6, 1, one.config.vocab_size)
    print(f"{refused} refused, {accepted} accepted")
    assert refused > accepted > 0


def test_a_state_cut_at_any_length_is_refused(genuine, tmp_path):
    for end in [*range(120), *range(120, len(genuine), 499), len(genuine) - 1]:
        refusal(genuine[:end], tmp_path)


def test_one_digit_of_the_width_changed_leaves_the_folder_as_it_was(text_file, tmp_path, capsys):
    out = tmp_path / "run"
    new_trainer(text_file).save(out)
    state = (out / STATE).read_bytes()
    assert state.count(b'\\"n_embd\\": 6') == 1
    (out / STATE).write_bytes(state.replace(b'\\"n_embd\\": 6', b'\\"n_embd\\": 9'))
    before = contents(out)
    assert main(["train", "--resume", str(out)]) == 1
    err = capsys.readouterr().err
    assert "damaged or changed" in err and err.count("\n") == 1
    assert contents(out) == before
    nanogpt_np.load(out)


def test_a_state_of_version_1_is_refused_with_what_to_do(text_file, tmp_path, capsys):
    from safetensors.numpy import save_file

    out = tmp_path / "run"
    new_trainer(text_file).save(out)
    tensors, about, _ = read_state(out)
    save_file(tensors, out / STATE, metadata={"nanogpt_np": json.dumps(about | {"version": 1})})
    assert main(["train", "--resume", str(out)]) == 1
    err = capsys.readouterr().err
    assert f"since version {VERSION}" in err and f"--model {out}" in err and err.count("\n") == 1


# Saving


@pytest.mark.parametrize(("call", "name"), list(enumerate(ORDER)))
def test_a_file_that_reads_back_differently_replaces_nothing(call, name, text_file, tmp_path, monkeypatch):
    one = new_trainer(text_file)
    one.save(tmp_path)
    before, calls, fsync = contents(tmp_path), [], os.fsync
    one.step()

    def spoil(file):
        fsync(file)
        if len(calls) == call:
            os.lseek(file, -3, os.SEEK_END)
            os.write(file, b"\xff")
        calls.append(file)

    monkeypatch.setattr(os, "fsync", spoil)
    with pytest.raises(OSError, match="what was read back differs") as caught:
        one.save(tmp_path)
    assert Path(caught.value.filename).name == name and len(calls) == call + 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("call", "name"), list(enumerate([LOG, *ORDER])))
def test_a_full_disk_names_the_file_that_did_not_fit_and_leaves_the_last_checkpoint(
    call, name, text_file, tmp_path, monkeypatch, capsys
):
    out = tmp_path / "run"
    stopped = new_trainer(text_file)
    stopped.save(out)
    before, calls, fsync = contents(out), [], os.fsync

    def full(file):
        calls.append(file)
        if len(calls) == call + 4:  # the first three are those of the save with which a resumed run begins
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(file)

    monkeypatch.setattr(os, "fsync", full)
    assert main(["train", "--resume", str(out)]) == 1
    err = capsys.readouterr().err
    assert os.strerror(errno.ENOSPC) in err and f"{out / name}" in err
    assert "Traceback" not in err and err.splitlines()[-1].startswith("error: ")
    assert contents(out) == before | {LOG: (out / LOG).read_bytes()}
    monkeypatch.undo()
    assert main(["train", "--resume", str(out)]) == 0
    assert [record["step"] for record in read_log(out)] == list(range(1, 13))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of a file")
def test_a_file_over_the_limit_of_the_system_is_named(text_file, tmp_path):
    script = (
        "import resource, sys; from nanogpt_np.__main__ import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2); sys.exit(main(sys.argv[2:]))"
    )
    out, large = tmp_path / "run", tmp_path / "large"
    new_trainer(text_file).save(out)
    new_trainer(text_file, share_unseen=False, dtype="float16").save(large)
    size = (out / "model.safetensors").stat().st_size
    for folder, limit, named in (
        (out, size - 1, "model.safetensors"),
        (out, 9, "model.safetensors"),
        (large, (large / "model.safetensors").stat().st_size + 9, STATE),
    ):
        before = contents(folder)
        done = subprocess.run(
            [sys.executable, "-c", script, str(limit), "train", "--resume", str(folder)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 1 and named in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert contents(folder) == before


@pytest.mark.parametrize("moment", [1, 2, 3])
def test_a_run_killed_between_two_replacements_resumes_to_the_same_end(moment, text_file, tmp_path, monkeypatch):
    whole, cut = new_trainer(text_file), new_trainer(text_file)
    run(whole, tmp_path / "whole")
    cut.save(tmp_path / "cut")
    for _ in range(4):
        cut.step()
    replaced, real = [], os.replace

    class Killed(BaseException):
        pass

    def replace(source, target):
        if len(replaced) == moment - 1:
            raise Killed
        replaced.append(os.path.basename(target))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            cut.save(tmp_path / "cut")
    assert replaced == [STATE, "config.json"][: moment - 1]
    assert read_state(tmp_path / "cut").about["steps"] == (4 if moment > 1 else 0)
    assert nanogpt_np.load(tmp_path / "cut").config.vocab_size == 50257
    assert main(["train", "--resume", str(tmp_path / "cut")]) == 0
    assert checkpoint(tmp_path / "cut") == checkpoint(tmp_path / "whole")


def test_a_resumed_run_writes_the_model_that_its_first_save_did_not_reach(text_file, tmp_path):
    new_trainer(text_file).save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    resumed = Trainer.resume(tmp_path, make_data)
    run(resumed, tmp_path, stop=lambda: True)
    assert resumed.step_number == 0 and nanogpt_np.load(tmp_path).config.n_embd == 6


def test_an_average_that_overflowed_is_never_saved(text_file, tmp_path):
    for kind in ("params", "mean", "square"):
        one = new_trainer(text_file)
        one.save(tmp_path)
        before = contents(tmp_path)
        one.step()
        arrays = one.params if kind == "params" else getattr(one.optimizer, kind)
        arrays["ln_f.bias"][2] = np.inf
        with pytest.raises(ValueError, match=f"step 1 diverged \\({kind}/ln_f.bias is not finite\\)"):
            one.save(tmp_path)
        assert contents(tmp_path) == before


# One run in a folder


def test_a_second_run_in_a_folder_is_refused_until_the_first_has_ended(tmp_path):
    for folder in (tmp_path / "new", tmp_path, tmp_path / "a" / "b"):
        with only_run(folder):
            for same in (folder, os.path.relpath(folder), f"{folder}/../{folder.name}"):
                refused = pytest.raises(ValueError, match=rf"another run \(process {os.getpid()}\) is training")
                with refused, only_run(same):
                    pass
        assert not (folder / LOCK).exists()
        with only_run(folder):
            pass


def test_a_run_from_python_is_refused_in_a_folder_where_another_thread_trains(text_file, tmp_path):
    first, second = new_trainer(text_file), new_trainer(text_file)
    refused = []

    def report(progress):
        with pytest.raises(ValueError, match="another run"):
            run(second, tmp_path)
        refused.append(progress.step)

    thread = threading.Thread(target=run, args=(first, tmp_path), kwargs={"report": report})
    thread.start()
    thread.join()
    assert refused == list(range(1, 13)) and second.step_number == 0
    assert sorted(contents(tmp_path)) == WITH_LOG


def test_a_run_does_not_overwrite_the_state_of_another(text_file, tmp_path):
    first = new_trainer(text_file)
    run(first, tmp_path, stop=lambda: first.step_number == 5)
    before = contents(tmp_path)
    stale = Trainer.resume(tmp_path, make_data)
    for other in (new_trainer(text_file), new_trainer(text_file, seed=1)):
        with pytest.raises(ValueError, match="state of another run"):
            run(other, tmp_path)
        assert contents(tmp_path) == before
    run(first, tmp_path)  # it may go on where it wrote itself
    with pytest.raises(ValueError, match="state of another run"):
        run(stale, tmp_path)  # read before the other went on
    for content in (b"", b"not a state", before[STATE][:50]):
        (tmp_path / STATE).write_bytes(content)
        with pytest.raises(ValueError, match="state of another run"):
            run(new_trainer(text_file), tmp_path)
        assert (tmp_path / STATE).read_bytes() == content


def test_what_a_killed_run_left_is_removed_by_the_next_and_nothing_else(text_file, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    left = [f".{name}.{number}.partial" for name in FILES for number in (1, os.getpid(), 4_000_000)]
    for name in [*left, LOCK]:
        (out / name).write_bytes(b"1234")
    assert is_free(out)
    kept = [".model.safetensors.x.partial", "model.safetensors.1.partial", ".notes.txt.12.partial", ".config.json.1"]
    for name in kept:
        (out / name).write_bytes(b"mine")
        assert not is_free(out)
        (out / name).rename(tmp_path / name)
    for name in kept:
        (tmp_path / name).rename(out / name)
    run(new_trainer(text_file), out)
    assert sorted(contents(out)) == sorted([*WITH_LOG, *kept])


@pytest.mark.parametrize("kind", ["file", "dangling link", "file in the way", "link to a file"])
def test_a_folder_that_cannot_be_one_is_refused_in_one_line(kind, text_file, tmp_path, capsys):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("precious")
    elif kind == "file in the way":
        out.write_text("precious")
        out = out / "deeper" / "still"
    else:
        (tmp_path / "file").write_text("precious")
        try:
            out.symlink_to(tmp_path / ("file" if kind == "link to a file" else "nowhere"))
        except OSError:
            pytest.skip("no right to make links here")
    flags = ["--layers", "1", "--heads", "2", "--width", "6", "--context", "8", "--share-unseen", "--steps", "1"]
    assert main(["train", str(text_file), "--out", str(out), *flags]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "out" in err, err
    assert "is not a folder" in err or kind == "file in the way"


def test_a_folder_that_may_not_be_written_is_refused_before_the_first_step(text_file, tmp_path, monkeypatch):
    one, opened = new_trainer(text_file), os.open

    def no(path, *more):
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opened(path, *more)

    monkeypatch.setattr(os, "open", no)
    with pytest.raises(PermissionError) as caught:
        run(one, tmp_path)
    assert one.step_number == 0 and caught.value.filename.startswith(str(tmp_path))


def test_a_folder_can_be_a_link(text_file, tmp_path):
    (tmp_path / "real").mkdir()
    try:
        (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    except OSError:
        pytest.skip("no right to make links here")
    with only_run(tmp_path / "real"), pytest.raises(ValueError, match="another run"):
        run(new_trainer(text_file), tmp_path / "link")
    assert run(new_trainer(text_file), tmp_path / "link") is True
    assert sorted(contents(tmp_path / "real")) == WITH_LOG and (tmp_path / "link").is_symlink()


def test_a_source_that_only_python_knows_is_resumed_from_python_only(tmp_path, capsys):
    settings = Settings(steps=2, batch_size=2, context=8, share_unseen=True)
    data = TextData([TEXT], nanogpt_np.Tokenizer(), 8, 2)
    config = Config(n_positions=8, n_embd=6, n_head=2, n_layer=1)
    run(Trainer.from_scratch(config, data, settings), tmp_path, stop=lambda: True)
    assert main(["train", "--resume", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert "from Python" in err and err.count("\n") == 1
    assert run(Trainer.resume(tmp_path, lambda settings: data), tmp_path) is True


@pytest.mark.parametrize("times", [lambda n: 5.0, lambda n: -n, lambda n: 0.015 * (n // 4), lambda n: 1e9 + n * 1e-9])
def test_a_clock_that_stands_still_or_goes_back_stops_no_run(times, text_file, tmp_path, monkeypatch):
    calls, told = [], []

    def clock():
        calls.append(1)
        return times(len(calls))

    monkeypatch.setattr(loop.time, "perf_counter", clock)
    assert run(new_trainer(text_file), tmp_path, report=told.append) is True
    assert len(told) == 12 < len(calls)
    assert all(0 <= p.tokens_per_second < np.inf and 0 <= p.seconds_left < np.inf for p in told)


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": np.int64(7)},
        {"lr": np.float32(0.5)},
        {"freeze": ["wte.weight"], "betas": [0.5, 0.5]},
        {"seed": 10**30, "lr": 1},
        {"share_unseen": np.bool_(True)},
    ],
)
def test_settings_that_numpy_or_json_made_are_those_of_python(settings):
    read = json.loads(json.dumps(vars(Settings(**settings))))
    assert Settings(**read) == Settings(**settings)


def test_leftovers_are_found_under_any_name(tmp_path):
    for name in ("a.b", "[x]+.txt", "plain"):
        (tmp_path / f".{name}.77.partial").write_bytes(b"")
        assert [path.name for path in atomic.leftovers(tmp_path / name)] == [f".{name}.77.partial"]
    assert atomic.leftovers(tmp_path / "a") == []
