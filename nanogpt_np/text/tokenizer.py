"""Text to token ids and back, by byte-level BPE: GPT-2's tokenizer, or one of the same kind from files.

The merging is tiktoken's. GPT-2's table is in `gpt2.py`; `tokenizer_files.py` reads the files of other tokenizers. Time
is linear in the length of a text, except for one long word: tiktoken merges it in n log(n) steps, before 0.13 in n
squared.
"""

import codecs
import operator
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from . import gpt2
from .added import WHITE, Added, AddedTokens
from .gpt2 import END_OF_TEXT, END_OF_TEXT_ID, SPLIT
from .pipeline import ADVICE
from .token import Token
from .tokenizer_files import Definition, definition, read_files

__all__ = ["END_OF_TEXT", "END_OF_TEXT_ID", "SPLIT", "WHITE", "NoTokenizer", "Token", "Tokenizer"]

LONG_GAP = 10_000  # white-space characters in a row that are split off here: at 999,999 tiktoken's pattern gives up
# The lookbehind lets a match begin only where a gap does: else `re` would read a gap anew from each of its characters.
GAP = re.compile(f"[{WHITE}](?<![{WHITE}]{{2}})[{WHITE}]{{{LONG_GAP - 1},}}")


class Tokenizer:
    """Encode and decode with the tokens of GPT-2, or with those of `from_folder`.

    encoding : the `tiktoken.Encoding` itself. Its ids are those of this class, unless `ids` says otherwise.
    end_of_text : the id of the token that ends a text, ``<|endoftext|>`` in GPT-2; None if there is none.
    size : one more than the largest id.
    files : {name: contents} of the files that it was read from; {} for GPT-2's.
    source : the folder that it was read from, or "gpt2". is_gpt2 : whether it is GPT-2's.
    ids : the id of each of tiktoken's ranks, where the two differ; else None.
    """

    def __init__(self) -> None:
        self._set(Definition(None, added=(Added(END_OF_TEXT, END_OF_TEXT_ID),), end_of_text=END_OF_TEXT_ID))

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str]) -> "Tokenizer":
        """Return the tokenizer whose files are in `folder`: tokenizer.json, or vocab.json and merges.txt.

        Raises ValueError for a folder without such files, and for tokenizers that would give other ids here than in
        transformers: those that are not a byte-level BPE, or change a text before they split it.
        """
        found = cls.found_in(folder)
        if found is None:
            missing = "" if Path(folder).is_dir() else ", and is not a folder"
            raise ValueError(f"{folder} has no tokenizer.json, and no vocab.json and merges.txt{missing}: {ADVICE}")
        return found

    @classmethod
    def found_in(cls, folder: str | os.PathLike[str]) -> "Tokenizer | None":
        """Return the tokenizer whose files are in `folder`, or None where there are none; errors as `from_folder`."""
        files = read_files(folder)
        if not files:
            return None
        made = cls.__new__(cls)
        try:
            made._set(definition(files), files, str(folder))
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from None
        return made

    def _set(self, found: Definition, files: Mapping[str, bytes] | None = None, source: str = "gpt2") -> None:
        import tiktoken  # here, since importing it takes longer than most of what this package does

        self.files, self.source, self.end_of_text = dict(files or {}), source, found.end_of_text
        self._added, self.ids = AddedTokens(found.added), None
        self._raw = found.others | {token.id: token.content.encode() for token in found.added}
        special = {token.content: token.id for token in found.added}
        if found.ids is None:
            self.is_gpt2, self._absent, table, self._known = True, b"", gpt2.ranks(), range(END_OF_TEXT_ID)
        else:
            self.is_gpt2, table = False, found.ids
            self._absent = bytes(b for b in range(256) if bytes([b]) not in table)
            self._raw = {i: token for token, i in table.items()} | self._raw
            self._known = range(0)
            learned = [i for token, i in table.items() if len(token) > 1]
            if learned != sorted(learned):  # tiktoken takes ids for the order in which tokens were learned
                self.ids, special = list(table.values()), {}
                table = {token: rank for rank, token in enumerate(table)}
        self.size = 1 + max(END_OF_TEXT_ID if self.is_gpt2 else 0, *self._raw)
        self.encoding = tiktoken.Encoding(source, pat_str=SPLIT, mergeable_ranks=table, special_tokens=special)

    @property
    def stop(self) -> tuple[int, ...]:
        """The ids that end a text: one or none."""
        return () if self.end_of_text is None else (self.end_of_text,)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Return the ids of `text`; ``<|endoftext|>`` is 7 tokens of text, or the one token if `special`.

        Raises ValueError for what is not text, for halves of surrogate pairs, which UTF-8 cannot hold, and for text
        with a byte that the vocabulary lacks; GPT-2's has all 256.
        """
        check_text(text)
        ids: list[int] = []
        for part in self._added.split(text, special):
            if isinstance(part, int):
                ids.append(part)
                continue
            self._check_bytes(part)
            for stretch in stretches(part):
                found = self.encoding.encode_ordinary(stretch)
                ids += found if self.ids is None else map(self.ids.__getitem__, found)
        return ids

    def _check_bytes(self, text: str) -> None:
        if self._absent and len(rest := text.encode()) > len(rest.translate(None, self._absent)):
            c = next(c for c in text if any(b in self._absent for b in c.encode()))
            raise ValueError(
                f"the tokenizer of {self.source} has no token for a byte of {c!r}: it cannot hold this text"
            )

    def tokens(self, text: str, *, special: bool = False) -> list[Token]:
        """Return the tokens of `text`, with their bytes; arguments as for `encode`."""
        return [Token(i, self.token(i)) for i in self.encode(text, special=special)]

    def token(self, i: int) -> bytes:
        """Return the bytes of token `i`; ids that the tokenizer does not have show as ``<|i|>``."""
        i = check_id(i)
        if i in self._known:
            return self.encoding.decode_single_token_bytes(i)
        return self._raw.get(i) or f"<|{i}|>".encode()

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`; bytes that are not a whole character show as U+FFFD.

        Raises ValueError if `ids` is not a list of whole numbers.
        """
        return "".join(self.decode_stream(ids))

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield the text of each id at once; the bytes of an unfinished character wait for the rest of it."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for i in _in_a_row(ids):
            yield decoder.decode(self.token(i))
        yield decoder.decode(b"", final=True)


class NoTokenizer(Tokenizer):
    """Stands in for a tokenizer that is not known: every token shows as its id."""

    def __init__(self) -> None:
        self._known, self._raw, self.files, self.source = range(0), {}, {}, "unknown"
        self.is_gpt2, self.end_of_text, self.size, self.ids = False, None, 0, None

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Raise ValueError: there are no tokens to encode with."""
        raise ValueError("the tokenizer of this pass is not known: give it with --tokenizer NAME|DIR")


def stretches(text: str) -> Iterator[str]:
    """Yield `text` in parts that are split into the same pieces as the whole; a long gap is one part.

    A gap is white space; SPLIT ends a piece before its last character if a word follows: " x" is one piece.
    """
    start = 0
    for gap in GAP.finditer(text) if len(text) >= LONG_GAP else ():
        end = gap.end() - (gap.end() < len(text))
        yield text[start : gap.start()]
        yield text[gap.start() : end]
        start = end
    yield text[start:]


def check_text(text: Any) -> None:
    """Raise ValueError for what is not text, or what UTF-8 cannot hold."""
    if not isinstance(text, str):
        raise ValueError(f"expected text (a str), not {type(text).__name__} {_brief(text)}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"the text is not valid Unicode: {error}") from None


def check_id(i: Any) -> int:
    """Return a token id as an int, or raise ValueError if it is not a whole number."""
    try:
        if type(i).__name__ in ("bool", "bool_"):  # NumPy's too
            raise TypeError
        number = operator.index(i)
    except TypeError:
        hint = ": decode one row at a time" if isinstance(i, Iterable) and not isinstance(i, str | bytes) else ""
        raise ValueError(f"a token id is a whole number, not {type(i).__name__} {_brief(i)}{hint}") from None
    if not -(2**63) <= number < 2**63:
        raise ValueError("a token id is a whole number of 64 bits; this one has more")
    return number


def _in_a_row(ids: Any) -> Iterator[Any]:
    if isinstance(ids, str | bytes):
        raise ValueError(f"expected token ids, not text: {_brief(ids)}; encode returns ids")
    try:
        return iter(ids)
    except TypeError:  # a number, None, or an array without axes
        raise ValueError(f"expected a list of token ids, not {_brief(ids)}; for one token write [i]") from None


def _brief(x: Any) -> str:
    """Return the beginning of ``repr(x)``, on one line."""
    return " ".join(repr(x).split())[:60]
