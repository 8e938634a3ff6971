"""What the commands that run a model begin with: a prompt, a checkpoint, and a line about them."""

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ..fast import keep_freed_memory
from ..text.display import quoted, text_of
from ..text.tokenizer import END_OF_TEXT_ID, Tokenizer
from ..weights.checkpoint import Checkpoint, open_checkpoint
from ..weights.pins import PINS
from ..weights.places import bundled, default_model

SHOWN = 8  # tokens that an error lists
LONGEST_PROMPT = 1 << 24  # bytes that are read from standard input: more than any context holds


def add_model(parser):
    """Add ``--model`` and ``--tokenizer``, for the commands that read a prompt with a model: `opening` loads both."""
    _add_model(parser, "gpt2 if it is on this machine, else the bundled model")
    add_tokenizer(parser)


def _add_model(parser, usual):
    parser.add_argument("--model", metavar="NAME|DIR", help="a published name, or a directory with config.json and "
        f"safetensors (default: {usual})")  # fmt: skip


def add_tokenizer(parser):
    """Add ``--tokenizer``, which `chosen_tokenizer` reads."""
    parser.add_argument("--tokenizer", metavar="NAME|DIR", help="gpt2, or a directory with tokenizer.json, or with "
        "vocab.json and merges.txt (default: that of the model's directory, else gpt2's)")  # fmt: skip


def add_only_model(parser, usual, words):
    """Add ``--model`` to a command that needs nothing else, and so takes it as its argument too; see `only_model`."""
    _add_model(parser, words)
    parser.add_argument("named", nargs="?", metavar="MODEL", help="the same as --model MODEL")
    parser.set_defaults(usual=usual)


def only_model(args):
    """Return the model of a command that `add_only_model` gave its arguments."""
    if args.named is not None and args.model is not None:
        raise ValueError("the model is given twice: leave out --model or the argument")
    return next(name for name in (args.model, args.named, args.usual) if name is not None)


def chosen_tokenizer(name, checkpoint=None):
    """Return the tokenizer of ``--tokenizer``; where it is None, that of a checkpoint, or GPT-2's without one."""
    if name is None:
        return Tokenizer() if checkpoint is None else checkpoint.tokenizer
    if name in PINS or name in bundled():
        return Tokenizer()
    return Tokenizer.from_folder(name)


def read_prompt(prompt):
    """Return the prompt, read from standard input (less one final newline) where it is ``-``."""
    if prompt == "-":
        if sys.stdin is None:
            raise ValueError("there is no standard input to read the prompt from")
        raw = sys.stdin.buffer.read(LONGEST_PROMPT + 1)
        if len(raw) > LONGEST_PROMPT:
            raise ValueError(f"the prompt on standard input is longer than {LONGEST_PROMPT:,} bytes")
        try:
            prompt = raw.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise ValueError(f"the prompt on standard input is not UTF-8: {error}") from None
    if not prompt:
        raise ValueError("the prompt is empty: GPT-2 continues from at least one token")
    return valid_text(prompt, "the prompt")


def valid_text(text, what):
    """Return a text of the command line if it is valid Unicode; errors call it `what`."""
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError as error:
        with contextlib.suppress(UnicodeError):  # UTF-8 that Python took for undecodable, in a locale such as C
            return os.fsencode(text).decode("utf-8")
        raise ValueError(f"{what} is not valid Unicode: {error}") from None


@dataclass(frozen=True)
class Opening:
    """What a command begins with: a prompt, its ids and the checkpoint that reads it."""

    prompt: str
    ids: list[int]
    checkpoint: Checkpoint
    tokenizer: Tokenizer
    decoding: str = "greedy"  # how tokens are chosen, in words

    @property
    def model(self):
        """The `GPT2` itself."""
        return self.checkpoint.model

    @property
    def provenance(self):
        """The weights' origin, and how tokens are chosen."""
        return self.checkpoint.provenance | {"decoding": self.decoding} | told_tokenizer(self.tokenizer)

    @property
    def about(self):
        """The head of what ``--json`` prints."""
        return {"model": self.provenance, "prompt": self.prompt, "prompt_ids": self.ids}


def told_tokenizer(tokenizer):
    """Return the entry of recordings and ``--json`` for a tokenizer that is not GPT-2's, without its folder's path."""
    return {} if tokenizer.is_gpt2 else {"tokenizer": {"name": Path(tokenizer.source).name, "size": tokenizer.size}}


def opening(args):
    """Return the `Opening` of a command's PROMPT, --special, --model and --tokenizer."""
    keep_freed_memory()
    prompt = read_prompt(args.prompt)
    checkpoint = open_checkpoint(default_model() if args.model is None else args.model)
    tokenizer = chosen_tokenizer(args.tokenizer, checkpoint)
    return Opening(prompt, tokenizer.encode(prompt, special=args.special), checkpoint, tokenizer)


def decoding(choice, seed):
    """Say in words how tokens are chosen, by a `Choice`."""
    settings = [("top-k", choice.top_k), ("top-p", choice.top_p), ("min-p", choice.min_p)]
    settings.append(("repetition penalty", None if choice.repetition_penalty == 1 else choice.repetition_penalty))
    cut = [f"{name} {value}" for name, value in settings if value is not None]
    if choice.temperature == 0:
        return ", ".join(["greedy", *cut])
    return ", ".join([f"temperature {choice.temperature}", *cut, f"seed {seed}"])


def provenance_line(provenance, config, bos="no BOS"):
    """Say on one line which model runs, and how its tokens are chosen."""
    line = (
        f"model: {provenance['origin']}, {provenance['dtype']}, "
        f"{provenance['parameters']:,} parameters; {provenance['decoding']}; {bos}"
    )
    told = provenance.get("tokenizer") or {"name": "gpt2", "size": END_OF_TEXT_ID + 1}
    whose = "GPT-2's own" if told["name"] == "gpt2" else f"{told['name']}'s"
    if config.vocab_size != told["size"]:
        line += f"; its vocabulary has {config.vocab_size} entries, the tokenizer {whose} {told['size']}"
    elif told["name"] != "gpt2":
        line += f"; the tokenizer is {whose}, of {told['size']} tokens"
    return line


def watched_token(tokenizer, text, config, flag="--watch", *, special=False):
    """Return the id of `text`, which must be one token, or None without a text; errors name `flag`."""
    if text is None:
        return None
    text = valid_text(text, flag)
    ids = tokenizer.encode(text, special=special)
    if len(ids) != 1:
        parts = ", ".join(quoted(text_of(tokenizer, i)) for i in ids[:SHOWN]) or "no token"
        parts += f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
        spaced = f" {text.strip()}"
        hint = f'; did you mean "{spaced}"?' if len(tokenizer.encode(spaced)) == 1 else ""
        raise ValueError(f"{flag} takes one token, but {text!r} is {len(ids)}: {parts}{hint}")
    if ids[0] >= config.vocab_size:
        raise ValueError(f"{flag}: token id {ids[0]} is out of range: this model knows 0 to {config.vocab_size - 1}")
    return ids[0]
