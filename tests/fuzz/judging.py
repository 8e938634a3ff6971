"""What is asked of a folder that may hold a checkpoint: refused in one line, or right by `reference`."""

import contextlib
import json
import os

import numpy as np

import nanogpt_np
from nanogpt_np.fast import fast
from nanogpt_np.generate import generate
from nanogpt_np.model.cache import KVCache

from . import reference
from .limits import Case, Fault

COMMANDS = (  # that read a checkpoint in the working folder; "!" is token 0
    ["generate", "!", "-n", "3", "--model", "."],
    ["generate", "!", "-n", "2", "--model", ".", "--json", "--top", "3", "--trace"],
    ["generate", "!", "-n", "4", "--model", ".", "--temperature", "1", "--seed", "1", "--top-p", "0.9", "--json"],
    ["trace", "!", "--model", ".", "--stats"],
    ["trace", "!", "--model", ".", "--json"],
    ["trace", "!", "--model", ".", "--html", "page.html"],
    ["lens", "!", "--token", "#", "--model", "."],
    ["lens", "!", "--token", "#", "--model", ".", "--json"],
    ["explain", "!", "hook_next_logits[1]", "--model", ".", "--trail"],
    ["explain", "!", "blocks.0.attn.hook_z[0, 0, 1]", "--model", ".", "--json"],
    ["inventory", "."],
    ["glossary", "wte", "--model", "."],
)
PARTS_ONLY = ("inventory", "glossary")  # these read less than the whole model


def place(rng, folder, files, changed):
    """Write a case's files, once in a while one of them as something else than a file; return its `Case`."""
    for name, raw in files.items():
        (folder / name).write_bytes(raw)
    if rng.random() < 0.01:
        name = rng.choice(sorted(files))
        changed += "; " + special(rng, folder / name)
    return Case(changed, sum(map(len, files.values())), lambda child: judge(child, rng))


def special(rng, path):
    """Replace a file by something that is none; return words for it."""
    path.unlink()
    what = rng.choice(("folder", "pipe", "loop", "nowhere", "zeros"))
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to({"loop": path.name, "nowhere": "missing", "zeros": "/dev/zero"}[what])
    return f"{path.name} is a {what}"


def judge(child, rng):
    """Load the working folder and run a command on it; return "accepted" or "refused", or raise `Fault`."""
    argv = rng.choice(COMMANDS)
    model, refusal = child.told(lambda: nanogpt_np.load("."))
    code, out = child.command(argv)
    if "--json" in argv and code == 0:
        check_json(out, argv)
    if refusal is not None:
        if code == 0 and argv[0] not in PARTS_ONLY:
            raise Fault("contradiction", f"load refuses ({refusal[:200]}), but {argv[0]} exits 0", argv[0])
        return "refused"
    config = model.config
    T = min(5, config.n_positions)
    ids = np.array([rng.randrange(config.vocab_size) for _ in range(T)])
    ids[0] = 0
    with np.errstate(all="ignore"):
        found = {name: child.told(lambda call=call: call(model, ids))[0] for name, call in PASSES.items()}
        tokens, stopped = child.told(lambda: list(generate(model, ids[:1], 2, stop=())))
    child.measure()
    expected = reference.expect(".", ids)
    for name, logits in found.items():
        if logits is not None:
            compare(child, name, logits, expected)
    bad = found["alone"] is not None and not np.isfinite(found["alone"]).all()
    if bad and stopped is None:
        raise Fault("hidden", f"the logits are not finite, and generate() returns {tokens}", "generate()")
    if bad and argv[0] not in PARTS_ONLY and code == 0:
        raise Fault("hidden", f"the logits are not finite, and {argv[0]} exits 0", argv[0])
    return "accepted"


def check_json(out, argv):
    """Raise `Fault` unless stdout is JSON that every reader takes."""

    def not_a_number(text):
        raise ValueError(f"{text} is not JSON")

    try:
        json.loads(out, parse_constant=not_a_number)
    except ValueError as error:
        raise Fault("bad JSON", f"{argv!r:.300}: {error}", argv[0]) from None


def in_steps(model, ids):
    """Return the logits of a pass of two tokens, and one for each further token, with a cache."""
    cache = KVCache(model.config)
    cut = min(2, len(ids))
    parts = [ids[:cut], *([i] for i in ids[cut:])]
    return np.concatenate([model(part, cache=cache) for part in parts])


PASSES = {
    "plain": lambda model, ids: model(ids),
    "fast": lambda model, ids: fast(model)(ids),
    "in steps": in_steps,
    "alone": lambda model, ids: model(ids[:1]),
}


def compare(child, name, logits, expected):
    """Raise `Fault` unless the logits are right, or not finite where float32 cannot hold what is on the way."""
    T = 1 if name == "alone" else None
    logits, right, tolerance = logits.astype(np.float64), expected.logits[:T], expected.tolerance[:T]
    if logits.shape != right.shape:
        raise Fault("wrong numbers", f"{name}: logits of shape {logits.shape}, not {right.shape}", name)
    finite, should_be = np.isfinite(logits), np.isfinite(right)
    unclear = should_be & ~np.isfinite(tolerance)
    hidden = finite & ~should_be
    if hidden.any():
        t, i = np.argwhere(hidden)[0]
        raise Fault("hidden", f"{name}: logit {logits[t, i]:g} at {t}, {i}, where float64 has {right[t, i]}", name)
    lost = ~finite & should_be & ~unclear
    if lost.any() and expected.peak < reference.LARGEST:
        t, i = np.argwhere(lost)[0]
        said = f"{name}: {logits[t, i]} at {t}, {i}, where float64 has {right[t, i]:g}; the peak is {expected.peak:g}"
        raise Fault("not finite", said, name)
    known = finite & should_be & ~unclear
    off = np.abs(logits - right)[known]
    wrong = off > tolerance[known]
    if wrong.any():
        worst = int(np.argmax(off - tolerance[known]))
        said = f"{logits[known][worst]:.7g} is off by {off[worst]:.3g}, allowed {tolerance[known][worst]:.3g}"
        size = "beyond float32" if expected.peak > reference.LARGEST else "within float32"
        raise Fault("wrong numbers", f"{name}: {said}; the peak is {expected.peak:.3g}", f"{name}, {size}")
    with contextlib.suppress(ValueError):
        share = (tolerance[known] / np.maximum(1, np.abs(right[known]))).max()
        child.note = "ill-conditioned" if share > 0.01 else child.note
    if lost.any():
        child.note = "not finite, and told"
