"""Training text: files read whole, tokens in one row, random windows cut from it.

A source of batches has `used` (the ids that occur), `digest` (of all its data), `tokenizer` (if it is text),
`batch(rng)`, `held_out()` and `evaluate(trainer)`, so that a recipe can bring its own (`facts.py`).
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..model.trace import Array
from ..names.wording import few
from ..text.tokenizer import Tokenizer

HELD_OUT = 0.05  # the last twentieth of the text is kept for evaluation, not for training


def read_texts(paths: Iterable[str | os.PathLike[str]], report: Callable[[str], None] | None = None) -> list[str]:
    """Return the texts of files, and of all .txt and .md files in directories; ValueError names a bad one.

    A byte order mark is dropped. An empty file of a directory is skipped.

    report : is called once with a line that names the files that were skipped, if any.
    """
    texts, skipped = [], []
    for path in map(Path, paths):
        if not path.is_dir():
            text = _read(path)
            if not text:
                raise ValueError(f"{path} is empty")
            texts.append(text)
            continue
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in (".txt", ".md") and p.is_file())
        if not files:
            raise ValueError(f"{path} holds no .txt and no .md file")
        found = {file: _read(file) for file in files}
        empty = [str(file) for file, text in found.items() if not text]
        if len(empty) == len(files):
            raise ValueError(f"{path} holds only empty files: {few(empty)}")
        skipped += empty
        texts += [text for text in found.values() if text]
    if skipped and report:
        report(f"skipped {len(skipped)} empty file{'s' * (len(skipped) > 1)}: {few(skipped)}")
    return texts


def _read(file: Path) -> str:
    if file.exists() and not file.is_file():
        raise ValueError(f"{file} is not a regular file: a resumed run could not read it again")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {error}") from None


class TextData:
    """Windows of `context` tokens from the texts in a row, each followed by <|endoftext|> if the tokenizer has it.

    special : <|endoftext|> in a text is that token too, and separates what is before it from what is after it.
    """

    def __init__(
        self, texts: Iterable[str], tokenizer: Tokenizer, context: int, batch_size: int, *, special: bool = False
    ):
        self.tokenizer = tokenizer
        found: list[int] = []
        for text in texts:
            found += tokenizer.encode(text, special=special)
            if found[-1:] != [*tokenizer.stop]:  # a text may end with it
                found += tokenizer.stop
        ids = np.array(found)
        if len(ids) <= context:
            raise ValueError(f"{len(ids)} tokens of text are too few: a window needs {context} and the next one")
        last = len(ids) - int(HELD_OUT * len(ids))
        self.train, self.tail = ids[:last], ids[last:]
        if len(self.tail) <= context or len(self.train) <= context:  # too short to spare any
            self.train, self.tail = ids, ids[:0]
        self.context, self.batch_size, self.tokens = context, batch_size, len(ids)
        self.used = np.unique(ids)
        self.digest = hashlib.sha256(ids.astype("<u4").tobytes()).hexdigest()

    def batch(self, rng: "np.random.Generator") -> tuple[Array, Array]:
        """Return (ids, targets), each (B, T): random windows, and the same windows one token later."""
        starts = rng.integers(0, len(self.train) - self.context, self.batch_size)
        windows = self.train[starts[:, None] + np.arange(self.context + 1)]  # (B, T + 1)
        return windows[:, :-1], windows[:, 1:]

    def held_out(self, batches: int = 8) -> Iterator[tuple[Array, Array]]:
        """Yield up to `batches` of (ids, targets) from the tail, side by side; none if there is no tail."""
        whole = (len(self.tail) - 1) // self.context
        rows = np.arange(min(whole, batches * self.batch_size))
        windows = self.tail[rows[:, None] * self.context + np.arange(self.context + 1)] if whole > 0 else self.tail[:0]
        for i in range(0, len(windows), self.batch_size):
            yield windows[i : i + self.batch_size, :-1], windows[i : i + self.batch_size, 1:]

    def evaluate(self, trainer: Any) -> list[str]:
        """Return no lines: the held-out loss says it all."""
        return []
