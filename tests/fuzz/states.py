"""Training states: a run that was stopped half-way, changed, and resumed.

If it ends well, it must end as the run that was left alone: the same bytes in all three files, which load. If it is
refused, the checkpoint in its folder is as it was.
"""

import os
import shutil

import nanogpt_np
from nanogpt_np.__main__ import main
from nanogpt_np.train import loop
from nanogpt_np.train.trainer import STATE, Trainer

from . import checkpoints, mutate
from .judging import special
from .layouts import CONFIG, SINGLE, join, split
from .limits import Case, Fault

TEXT = "The quick brown fox jumps over the lazy dog; five wizards box. " * 12
FILES = (STATE, SINGLE, CONFIG)
RUNS = {
    "shared": ["--share-unseen"],
    "plain": ["--share-unseen", "--accumulate", "2", "--dtype", "float16"],
    "frozen": ["--share-unseen", "--freeze", "h.0.attn.*", "--warmup", "2"],
}
FIELDS = {
    "steps": (0, 1, 6, 7, 10**9, -1, 1.5, "3", None, True),
    "warmup": (0, float("nan"), -1, 1.5, "1"),
    "betas": (3, [0.9], [0.9, 0.99, 1], [2, 0.99], ["a", 1], None, [0.9, float("nan")]),
    "lr": (0, -1, float("nan"), float("inf"), "1", True, 10**400),
    "batch_size": (0, 1, 3, 10**9, 2.0, None),
    "context": (1, 7, 9, 10**9, None),
    "accumulate": (1, 3, 0, 10**12),
    "freeze": ("h.*", [], ["*"], [1], None, ["x"], "x"),
    "dtype": ("float16", "float64", None, 3),
    "n_embd": (5, 9, 8, 10**9),
    "n_layer": (2, 0, 10**6, 10**30),
    "n_head": (1, 4, 3),
    "vocab_size": (50258, 50256, 10**12),
    "n_positions": (9, 7, 10**12),
    "layer_norm_epsilon": (1e-3, 0, 1, 10**400),
    "source": (
        {},
        {"texts": []},
        {"texts": ["/dev/zero"]},
        {"texts": ["missing"]},
        {"recipe": "x"},
        {"texts": 3},
        None,
        [],
    ),
    "texts": ([], ["/dev/zero"], ["../text.txt", "../text.txt"], [3], "text.txt", None),
    "state": ({}, None, {"state": -1, "inc": 2}, {"state": 10**60, "inc": 1}, {"state": "x", "inc": []}),
    "has_uint32": (1, 2, -1, "x", None),
    "uinteger": (1, 2**40, -1),
    "bit_generator": ("MT19937", "x", None),
    "version": (0, 2, "1", None, 1.0),
    "data": ("", None, 3, "0" * 64),
    "seed": (1, -1, 2**200, None),
    "clip": (0, 0.5, float("nan"), "x"),
    "eval_every": (0, 1, None),
    "save_every": (0, 1, 10**30),
    "share_unseen": (False, None, "x"),
}


def prepare(folder):
    """Return, by kind of run, the files of the stopped run and those of its end; the text they learn from."""
    text = folder / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    found = {}
    for kind, flags in RUNS.items():
        out = folder / kind
        sizes = ["--layers", "1", "--heads", "2", "--width", "4", "--context", "8", "--batch-size", "2", "--steps", "6"]
        every = ["--eval-every", "3", "--save-every", "2"]
        quiet(["train", str(text), "--out", str(out), *sizes, *every, *flags])
        # The same run again, stopped after three steps and saved as Ctrl-C would.
        started = Trainer.resume(out, loop.make_data).settings
        data = loop.make_data(started)
        config = Trainer.resume(out, loop.make_data).config
        half = folder / f"{kind}-half"
        loop.run(Trainer.from_scratch(config, data, started), half, stop=stopper(3))
        stopped = {name: (half / name).read_bytes() for name in FILES}
        quiet(["train", "--resume", str(half)])
        ended = {name: (half / name).read_bytes() for name in FILES}
        found[kind] = stopped, ended
    return found


def stopper(n):
    """Return a function that is False until it was called `n` times."""
    left = iter([False] * (n - 1))
    return lambda: next(left, True)


def quiet(argv):
    """Run a command whose lines nobody needs; it must end well."""
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        code = main(argv)
    finally:
        os.dup2(saved, 2), os.close(saved), os.close(nowhere)
    if code:
        raise SystemExit(f"{argv} exits {code}: the runs to be changed cannot be made")


def make(rng, base, folder):
    """Write one changed run."""
    kind = rng.choice(sorted(base))
    stopped, ended = base[kind]
    files, said, run = dict(stopped), [kind], folder / "run"
    for _ in range(rng.choice((0, 1, 1, 1, 1, 2))):
        name = rng.choice((STATE, STATE, STATE, STATE, SINGLE, CONFIG))
        if name == STATE:
            files[STATE], words = change_state(rng, files[STATE])
        elif name not in files:
            continue
        elif rng.random() < 0.3:
            del files[name]
            words = "lost"
        else:
            files[name], words = mutate.change_bytes(rng, files[name])
        said.append(f"{name}: {words}")
    run.mkdir()
    for name, raw in files.items():
        (run / name).write_bytes(raw)
    if rng.random() < 0.08:
        said.append(leave(rng, run, files))
    elif rng.random() < 0.01 and STATE in files:
        said.append(special(rng, run / STATE))
    size = sum(map(len, files.values()))
    return Case("; ".join(said), size, lambda child: judge(child, run, ended))


def judge(child, run, ended):
    """Resume, and look at what it left."""
    before = {name: (run / name).read_bytes() if (run / name).is_file() and name != STATE else None for name in FILES}
    state = (run / STATE).read_bytes() if (run / STATE).is_file() and not (run / STATE).is_symlink() else None
    code, _ = child.command(["train", "--resume", "run"])
    child.measure()
    if code:
        changed = [name for name in (SINGLE, CONFIG) if before[name] is not None and read(run / name) != before[name]]
        changed += [STATE] if state is not None and read(run / STATE) != state else []
        if changed:
            raise Fault("other end", f"refused with {code}, but {changed[0]} was replaced", "refused, and overwrote")
        return "refused"
    _, refusal = child.told(lambda: nanogpt_np.load("run"))
    if refusal is not None:
        raise Fault("other end", f"exit 0, and the folder no longer loads: {refusal[:300]}", "does not load")
    other = [name for name in FILES if read(run / name) != ended[name]]
    if other:
        raise Fault("other end", f"exit 0, and {', '.join(other)} not as the run left alone ends", "other bytes")
    return "accepted"


def read(path):
    """Return the bytes of a file, or None."""
    return path.read_bytes() if path.is_file() else None


def leave(rng, run, files):
    """Leave something beside the files, as a killed run or a person may; return words for it."""
    what = rng.choice(("partial", "lock", "partial folder", "read-only", "copy"))
    if what == "partial":
        (run / f".{STATE}.{rng.randrange(1, 99999)}.partial").write_bytes(b"x" * 999)
    elif what == "lock":
        (run / rng.choice(("lock", ".lock", "training.lock", "run.lock"))).write_text("999999")
    elif what == "partial folder":
        (run / f".{STATE}.1.partial").mkdir()
    elif what == "copy":
        shutil.copy(run / next(iter(files)), run / "copy of it.safetensors")
    return f"with {what}"


def change_state(rng, raw):
    """Return a changed training.safetensors, and words for what was done."""
    way = rng.choice(("bytes", "bytes", "field", "field", "field", "metadata", "tensors", "digit", "digit"))
    try:
        text, data = split(raw)
        tree = mutate.parse(text)
        meta = next(value for key, value in tree if key == "__metadata__")
        at = next(k for k, pair in enumerate(meta) if pair[0] == "nanogpt_np")
        about = mutate.parse(meta[at][1])
    except (ValueError, TypeError, KeyError, IndexError, StopIteration, RecursionError):  # changed before
        return mutate.change_bytes(rng, raw)
    if way == "bytes":
        return mutate.change_bytes(rng, raw)
    if way == "tensors":
        return checkpoints.change(rng, raw)
    if way == "digit":  # one digit for another, as a bad disk or a hand may do
        inner = meta[at][1]
        places = [k for k, c in enumerate(inner) if c.isdigit()]
        k = rng.choice(places)
        new = inner[:k] + str((int(inner[k]) + rng.randrange(1, 10)) % 10) + inner[k + 1 :]
        said = f"digit: {inner[max(0, k - 20) : k + 1]} -> {new[k]}"
    elif way == "field":
        name = rng.choice(sorted(FIELDS))
        value = rng.choice(FIELDS[name])
        new = mutate.write(replaced(about, name, value))
        said = f"field: {name} = {value!r:.40}"
    else:
        about, said = mutate.change_json(rng, about)
        new, said = mutate.write(about), f"metadata: {said}"
    meta[at] = ("nanogpt_np", new)
    return join(mutate.write(tree), data), said


def replaced(tree, name, value):
    """Return parsed JSON with every field of this name replaced."""
    if isinstance(tree, mutate.Pairs):
        return mutate.Pairs((k, as_pairs(value) if k == name else replaced(v, name, value)) for k, v in tree)
    return tree


def as_pairs(value):
    """Return a dict as `Pairs`."""
    return mutate.Pairs(value.items()) if isinstance(value, dict) else value
