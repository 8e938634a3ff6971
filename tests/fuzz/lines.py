"""Command lines: every command with every flag that its parser has, and odd values for them."""

import argparse
import json
import shutil
from importlib import import_module

from helpers import random_model

import nanogpt_np
from nanogpt_np.__main__ import COMMANDS

from . import mutate
from .judging import check_json
from .limits import Case

# What a person may ask for and has to wait for: these flags get small numbers, or ones that are refused.
PATIENCE = ("num_samples", "steps", "batch_size", "context", "accumulate", "layers", "heads", "width", "rounds",
            "n", "limit", "eval_every", "save_every", "rank", "epochs")  # fmt: skip
SMALL = ("1", "2", "3", "0", "-1", "1.5", "x", "", "1e3", "٣", " 2", "0x2", "--", "nan", "9" * 5000)
WHOLE = (*SMALL, "7", "15", "16", "17", "255", "50256", "50257", "99999999", "9" * 30, "-" + "9" * 30, "1_000", "+1")
REAL = (
    "0", "1", "0.5", "1.0", "-1", "1e-300", "1e300", "1e400", "-0.0", "nan", "inf", "-inf", "x", "", "1,5", "--",
    "1e-5"
)  # fmt: skip
PROMPTS = (
    "!", "The capital of France is", "a", " ", "\n", "\t\t", "é", "日本語", "😀", "👩‍👩‍👧", "e\u0301" * 5,
    "\u202eabc\u202c", "\x1b[31mred", "\0", "\ufeffx", "<|endoftext|>", "<|endoftext|>" * 3, "caf\udce9", "\ud83d",
    "a" * 3000, " " * 3000, "x y " * 20, "-", "--", "-n", "--help", "'", '"', "\\", "%s", "\x85", "\u2028", "𝔘𝔫𝔦",
    "ﷺ" * 9, "\U0010ffff", "1" * 400, ""
)  # fmt: skip
TOKENS = (
    " Paris", "!", " the", "Paris", "", " ", "\n", "<|endoftext|>", "Zyzzyva", "\udce9", "\x1b", "--", "é", "😀", "0",
    "6342"
)  # fmt: skip
MODELS = (
    "model", "model", "model", "model", "small", "facts", "gpt2", "gpt2-xl", "distilgpt2", "nowhere", "", ".", "..",
    "file", "--", "a/b", "model/", "./model", "bad", "\x1b[31m", "x" * 300, "caf\udce9", "\0", "model/config.json",
    "-", "GPT2", "gpt3", "/"
)  # fmt: skip
FILES = (
    "out", "out.npz", "new/out", "file", "model", "-", "", "x" * 300, "\x1b[31m.npz", "\udce9", "\0", "a b", "--",
    ".", "out.html", "\u202eout", "/dev/null", "/dev/full", "saved.npz", "text.txt", "missing", "bad", "~", "link",
    "table.json"
)  # fmt: skip
NAMES = (
    "hook_next_logits[1]", "hook_embed[0, 0]", "blocks.0.attn.hook_pattern[0, 0, 0]", "wte.weight[1, 2]",
    "hook_logits", "blocks.0.hook_mlp_out[0,1]", "hook_next_logits[token= the]", "hook_embed[position=0, channel=1]",
    "x[", "[0]", "a[0][1]", "hook_embed[99, 0]", "hook_embed[-1, 0]", "hook_embed[1e3]",
    "hook_embed[" + "9" * 5000 + "]", "blocks.9.hook_mlp_out[0, 0]", "blocks." + "9" * 30 + ".hook_mlp_out[0, 0]",
    "blocks.0.attn.hook_attn_scores[0,0,0]", "hook_embed[٠, 0]", "ln_final.hook_scale[0]",
    "blocks.0.mlp.hook_post[0, 3]", "blocks.1.ln2.hook_normalized[0,1]", "hook_probabilities[5]", "hook_tokens[0]"
)  # fmt: skip
WORDS = (
    "keys", "W_K", "c_attn", "blocks.3.attn.hook_k", "logits", "h.0", "a2", "a9", "1", "2", "list", "new", "hint",
    "answer", "grade", "*", "[", "x" * 5000, "*" * 40, "\x1b[2J", "\udce9", "0", "", " ", "the", "blocks.*",
    "*pattern", "hook_", "--", "?" * 50
)  # fmt: skip
STDINS = (b"", b"The capital of France is", b"x\n", b"caf\xe9", b"\xff" * 9, b"\0", b"a " * 50_000, b" " * 100_000,
          None, "é😀\n".encode(), b"\n", b"n\np\nt\n?\nq\n", b"\xef\xbb\xbfx", b"e 0 0\n/k\n-3\n",
          (b" " * 10_000 + b"a") * 120, b"ab" * 300_000, b"\n \t" * 200_000, "\u00a0\u2003x".encode() * 90_000,
          b"'" * 500_000, b"a" * 1_000_000, b" " * 1_000_000, b"1" * 500_000)  # fmt: skip
TAKES_LONG = ("benchmark", "facts", "course")  # by design; they get what they refuse, and what is quick


class Found(Exception):
    """The parser, on its way out of a command."""


def prepare(folder):
    """Return (the commands' parsers, the files that lie about)."""
    sizes = {"n_positions": 16, "n_embd": 6, "n_head": 2, "n_layer": 2, "vocab_size": 50257, "n_inner": 9}
    nanogpt_np.save(random_model(30, **sizes), folder / "model")
    nanogpt_np.save(random_model(31, **sizes | {"vocab_size": 60, "n_layer": 1}), folder / "small")
    (folder / "bad").mkdir()
    (folder / "bad" / "config.json").write_text('{"model_type": "llama"}')
    (folder / "bad" / "model.safetensors").write_bytes(b"\x08" + b"\0" * 7 + b"{}      ")
    (folder / "text.txt").write_text("The quick brown fox jumps over the lazy dog. " * 30)
    (folder / "file").write_bytes(b"not\xff a model")
    (folder / "table.json").write_text(json.dumps({"machine": {}, "rows": [], "model": "x"}))
    from .recordings import member, npy, zipped
    from .recordings import prepare as recordings  # the saved passes

    (folder / "r").mkdir()
    saved, _ = recordings(folder / "r")
    (folder / "saved.npz").write_bytes(zipped([member(n + ".npy", npy(a)) for n, a in saved["saved-0"].items()]))
    return {name: parser_of(name) for name in COMMANDS}, folder


def parser_of(name):
    """Return a command's parser: what it calls `parse_args` of."""
    parse = argparse.ArgumentParser.parse_args

    def caught(self, *_, **__):
        raise Found(self)

    argparse.ArgumentParser.parse_args = caught
    try:
        import_module(f"nanogpt_np.commands.{name}").main([])
    except Found as found:
        return found.args[0]
    finally:
        argparse.ArgumentParser.parse_args = parse
    raise AssertionError(f"{name} parses no arguments")


def make(rng, base, folder):
    """Choose a command line; the files it may name are linked into the folder."""
    parsers, files = base
    name = rng.choice(sorted(set(parsers) - set(TAKES_LONG)) * 3 + [n for n in TAKES_LONG if n in parsers])
    argv = [name, *arguments(rng, parsers[name], name)]
    if rng.random() < 0.02:
        argv[0] = rng.choice(("", "Generate", "--version", "-h", "x" * 9000, "\x1b[31m", "\udce9", "--", "-"))
    for path in files.iterdir():
        if path.name != "r":  # copies: some commands write into what they are given
            (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
    (folder / "link").symlink_to("missing")
    stdin = rng.choice(STDINS)
    size = sum(path.stat().st_size for path in files.rglob("*") if path.is_file()) + len(stdin or b"")
    said = f"{argv!r:.400}" + (f", stdin {stdin!r:.30}" if "-" in argv or "--step" in argv else "")
    return Case(said, size, lambda child: judge(child, argv, stdin), mapped=False)


def judge(child, argv, stdin):
    """Run the command."""
    code, out = child.command(argv, stdin)
    flags = argv[: argv.index("--")] if "--" in argv else argv
    if code == 0 and argv[0] in COMMANDS and "--json" in flags and not {"--step", "--help", "-h"} & set(flags):
        check_json(out, argv)
    return "accepted" if code == 0 else "refused"


def arguments(rng, parser, command):
    """Return arguments for a parser: its positions mostly there, some flags, odd values."""
    argv, flags = [], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            sub = rng.choice([*action.choices, "x"])
            argv.append(sub)
            if sub in action.choices:
                argv += arguments(rng, action.choices[sub], f"{command} {sub}")
        elif not action.option_strings:
            if rng.random() < 0.93:
                argv += [value(rng, action, command) for _ in range(count(rng, action))]
        else:
            flags.append(action)
    likely = 2.5 / max(len(flags), 1)
    for action in flags:
        required = action.required or action.dest == "model" or (command == "train" and action.dest == "out")
        if rng.random() > (0.9 if required else likely):
            continue
        flag = rng.choice(action.option_strings)
        if action.nargs == 0:
            argv.append(flag)
        elif rng.random() < 0.4:
            argv.append(f"{flag}={value(rng, action, command)}")
        else:
            argv += [flag, *(value(rng, action, command) for _ in range(count(rng, action)))]
    if command == "train" and "--resume" not in argv:  # no long runs
        argv += ["--steps", rng.choice(("1", "2", "2", "0", "x")), "--layers", "1", "--width", "4", "--heads", "2",
                 "--context", "8", "--batch-size", "2"]  # fmt: skip
    if rng.random() < 0.05:
        argv.insert(rng.randrange(len(argv) + 1), rng.choice(("--", "-x", "--nonsense", "", "--model", "-", "-" * 400)))
    if rng.random() < 0.05:
        rng.shuffle(argv)
    if command == "benchmark" and not any(a.startswith("--table") for a in argv):
        argv += ["--rounds", rng.choice(("0", "3", "-1", "x"))]
    if command == "facts":
        argv = [rng.choice(("nowhere", "bad", "", "file", "-h", "gpt2", "x" * 300, "\udce9", "small"))]
    return argv


def count(rng, action):
    """Return how many values to give."""
    return 1 if action.nargs in (None, "?") else rng.choice((1, 1, 2, 0))


def value(rng, action, command):
    """Return a value for an argument: mostly of the kind it takes."""
    names = " ".join((action.dest, str(action.metavar))).lower()
    if rng.random() < 0.04:
        return mutate.odd_text(rng)
    if action.choices and rng.random() < 0.8:
        return str(rng.choice(sorted(action.choices, key=str)))
    if action.dest in PATIENCE:
        return rng.choice(SMALL)
    if action.dest == "dry_run":
        return rng.choice(("gpt2", "gpt2", "distilgpt2", "gpt3", "", "model", "--"))
    if action.type is int:
        return rng.choice(WHOLE)
    if action.type is float:
        return rng.choice(REAL)
    if command == "course grade":
        return rng.choice(("missing", "file", "", "x" * 300, "\udce9", "--"))
    if action.dest == "prompt":
        return rng.choice(PROMPTS)
    if action.dest in ("token", "against", "watch"):
        return rng.choice(TOKENS)
    if action.dest == "number":
        return rng.choice(NAMES)
    if "model" in names or action.dest == "resume":
        return rng.choice(MODELS)
    if any(word in names for word in ("file", ".npz", "dir", "out", "folder", "texts")) or action.dest in ("a", "b"):
        likely = {"texts": "text.txt", "a": "saved.npz", "b": "saved.npz", "load": "saved.npz", "out": "out"}.get(
            action.dest
        )
        return likely if likely and rng.random() < 0.6 else rng.choice(FILES)
    return rng.choice(WORDS)
