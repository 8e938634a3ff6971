"""How the commands show things: whose weights spoke, the shape trace, tables of tokens.

Everything is a list of plain rows first (what ``--json`` prints) and lines of text second.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np

from .checkpoint import SINGLE
from .cli import read_prompt
from .home import computed_digest, default_model, find, known_digest, whose
from .sampling import standing
from .tokenizer import END_OF_TEXT_ID
from .trace import ShapeLog
from .weights import load_directory, stored_parameters


class StepLog:
    """A trace that keeps of each step of generation what the tables show, and no more.

    shapes : name, shape and dtype of every tensor of the first step
    top : the first step's likeliest tokens
    watch : rank, logit and probability of the watched token at each step
    """

    def __init__(self, tokenizer, config, *, top=None, watched=None):
        self.tokenizer, self.config = tokenizer, config
        self.k, self.watched = top, watched
        self.shapes, self.top, self.watch, self.steps = ShapeLog(), [], [], 0

    def __call__(self, name, x):
        if not self.steps:
            self.shapes(name, x)
        if name == "hook_next_logits":
            self._logits = x
        elif name == "hook_probabilities":
            if self.k and not self.steps:
                self.top = top_rows(self._logits, x, self.k, self.tokenizer)
            self._probabilities = x
        elif name == "hook_next_token":
            self.steps += 1
            if self.steps == 1:
                self.first_token = int(x)
            if self.watched is not None:
                chosen = text_of(self.tokenizer, int(x))
                row = standing(self._logits, self._probabilities, self.watched)
                self.watch.append({"step": self.steps, "chosen": chosen, **row})
        return x


def load_with_provenance(name):
    """Return (model, what there is to say about where its weights come from)."""
    directory = find(name)
    model = load_directory(directory)
    _, stored = stored_parameters(directory)
    kind, origin = whose(str(name), directory)
    return model, {
        "name": str(name),
        "kind": kind,
        "origin": origin,
        "directory": str(directory),
        "sha256": known_digest(Path(directory) / SINGLE),
        "dtype": "/".join(sorted({s.dtype for s in stored.values()})),
        "parameters": sum(array.size for array in model.params.values()),
    }


def with_digest(provenance):
    """Return what there is to say of a model with the SHA-256 of its weights, reading them for it where need be."""
    if provenance["sha256"]:
        return provenance
    digest, file = computed_digest(provenance["directory"])
    if file != SINGLE:  # one of several
        return provenance | {"sha256": digest, "sha256_of": file}
    kind, origin = whose(provenance["name"], provenance["directory"], digest)
    return provenance | {"sha256": digest, "kind": kind, "origin": origin}


def opening(args, tokenizer):
    """Return (the prompt, its ids, the model, its provenance) of a command's PROMPT, --special and --model."""
    prompt = read_prompt(args.prompt)
    model, provenance = load_with_provenance(default_model() if args.model is None else args.model)
    return prompt, tokenizer.encode(prompt, special=args.special), model, provenance | {"decoding": "greedy"}


def decoding(temperature, top_k, top_p, seed):
    """Say in words how tokens are chosen."""
    if temperature == 0:
        return "greedy"
    cut = [f"{name} {value}" for name, value in (("top-k", top_k), ("top-p", top_p)) if value is not None]
    return ", ".join([f"temperature {temperature}", *cut, f"seed {seed}"])


def provenance_line(provenance, config):
    """Say on one line which model speaks, and how its tokens are chosen."""
    line = (
        f"model: {provenance['origin']}, {provenance['dtype']}, "
        f"{provenance['parameters']:,} parameters; {provenance['decoding']}; no BOS"
    )
    if config.vocab_size != END_OF_TEXT_ID + 1:
        line += f"; its vocabulary has {config.vocab_size} entries, the text is read with GPT-2's own 50257"
    return line


def text_of(tokenizer, i):
    """Return the text of one token; bytes that are no whole character show as their codes."""
    return tokenizer.token(i).decode("utf-8", "backslashreplace")


def quoted(text):
    """Return a token's text as JSON writes it, so that spaces and line ends can be seen, and codes as they are."""
    # `text_of` writes codes of bytes; no token of GPT-2 has a backslash before an x of its own.
    return re.sub(r"\\\\(x[0-9a-f]{2})", r"\\\1", json.dumps(text, ensure_ascii=False))


def stream(new, tokenizer):
    """Print the text of the ids in `new` as they come, and return them as a list."""
    seen = []

    def noted():
        for i in new:
            seen.append(i)
            yield i

    for text in tokenizer.decode_stream(noted()):
        sys.stdout.write(text)
        sys.stdout.flush()
    print(flush=True)
    return seen


def print_trace(rows):
    """Print the rows of `steps.outline`, a line per tensor."""
    wide = max(len(row["name"]) for row in rows)
    shape_wide = max(len(str(row["shape"])) for row in rows)
    for row in rows:
        weights = ", ".join(f"{name} {shape}" for name, shape in row["weights"].items())
        reads = f"   <- {weights}" if weights else ""
        print(f"{row['name']:{wide}}  {row['shape']!s:{shape_wide}}  = {row['equation']}{reads}")


def print_introduction(result, log):
    """Print what was asked for to stand before the text: the trace, the likeliest next tokens."""
    if "trace" in result:
        print_trace(result["trace"])
        print(f"next token: {log.first_token} {quoted(text_of(log.tokenizer, log.first_token))}")
    if "top" in result:
        print_top(result["top"])


def top_rows(logits, p, k, tokenizer):
    """Return the `k` likeliest tokens, likeliest first; of equal logits the lower id comes first."""
    order = np.argsort(-logits, kind="stable")[:k]
    return [
        {"rank": rank, "id": int(i), "token": text_of(tokenizer, int(i)), "logit": float(logits[i]), "p": float(p[i])}
        for rank, i in enumerate(order, 1)
    ]


def print_top(rows):
    """Print the table of the likeliest next tokens."""
    wide = max(len(quoted(row["token"])) for row in rows)
    print(f"{'rank':>4}  {'id':>5}  {'token':{wide}}  {'logit':>9}  {'probability':>11}")
    for row in rows:
        print(f"{row['rank']:4}  {row['id']:5}  {quoted(row['token']):{wide}}  {row['logit']:9.4f}  {row['p']:11.4%}")


def watched_token(tokenizer, text, config, flag="--watch", *, special=False):
    """Return the id of the one token that `text` is, or None without a text; `flag` is where it was asked for."""
    if text is None:
        return None
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{flag} is not valid Unicode: {error}") from None
    ids = tokenizer.encode(text, special=special)
    if len(ids) != 1:
        parts = ", ".join(quoted(text_of(tokenizer, i)) for i in ids) or "no token"
        spaced = f" {text.strip()}"
        hint = f'; did you mean "{spaced}"?' if len(tokenizer.encode(spaced)) == 1 else ""
        raise ValueError(f"{flag} follows one token, but {text!r} is {len(ids)}: {parts}{hint}")
    if ids[0] >= config.vocab_size:
        raise ValueError(f"{flag}: token id {ids[0]} is out of range: this model knows 0 to {config.vocab_size - 1}")
    return ids[0]


def print_watch(rows, text):
    """Print what became of the watched token at each step."""
    wide = max(6, *(len(quoted(row["chosen"])) for row in rows))
    print(f"watching {quoted(text)}")
    print(f"{'step':>4}  {'chosen':{wide}}  {'rank':>5}  {'logit':>9}  {'probability':>11}")
    for row in rows:
        print(
            f"{row['step']:4}  {quoted(row['chosen']):{wide}}  {row['rank']:5}  {row['logit']:9.4f}  {row['p']:11.4%}"
        )
