"""GPT-2's tokenizer: text to ids and back, by byte-level BPE.

The work is tiktoken's; its table of 50,256 byte strings is bundled, so nothing is ever fetched.
Source: Radford et al. 2019, section 2.2. The split pattern is the one published with GPT-2. Time is linear in the
length of a text, but for one long word: tiktoken merges that in n log(n) steps, and before 0.13 in n squared.
"""

import binascii
import codecs
import operator
import re
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 50256
SPLIT = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
WHITE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # \s in SPLIT; Python's has four more
LONG_GAP = 10_000  # white-space characters in a row that are split off here: at 999,999 tiktoken's pattern gives up
# The lookbehind lets a match begin only where a gap does: else `re` would read a gap anew from each of its characters.
GAP = re.compile(f"[{WHITE}](?<![{WHITE}]{{2}})[{WHITE}]{{{LONG_GAP - 1},}}")


class Tokenizer:
    """Encode and decode with the tokens of GPT-2; `encoding` is the `tiktoken.Encoding` itself."""

    def __init__(self) -> None:
        import tiktoken  # here, since importing it takes longer than most of what this package does

        # A token in base64 and its rank, 50,256 times: in C from end to end, since every command waits for it.
        table = resources.files(__package__).joinpath("r50k_base.tiktoken").read_bytes().split()
        ranks = dict(zip(map(binascii.a2b_base64, table[::2]), map(int, table[1::2]), strict=True))
        self.encoding = tiktoken.Encoding(
            "gpt2", pat_str=SPLIT, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: END_OF_TEXT_ID}
        )

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Return the ids of `text`; ``<|endoftext|>`` is 7 tokens of text, or the one token if `special`.

        Raises ValueError for what is not text, and for halves of surrogate pairs, which UTF-8 cannot hold.
        """
        check_text(text)
        ids: list[int] = []
        for i, part in enumerate(text.split(END_OF_TEXT) if special else [text]):
            ids += [END_OF_TEXT_ID] if i else []
            for stretch in stretches(part):
                ids += self.encoding.encode_ordinary(stretch)
        return ids

    def token(self, i: int) -> bytes:
        """Return the bytes of token `i`; ids that GPT-2 does not have (resized vocabularies) show as ``<|i|>``."""
        i = check_id(i)
        if 0 <= i <= END_OF_TEXT_ID:
            return self.encoding.decode_single_token_bytes(i)
        return f"<|{i}|>".encode()

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`; bytes that are no whole character show as U+FFFD.

        Raises ValueError for what is not a row of whole numbers.
        """
        return "".join(self.decode_stream(ids))

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield the text of each id as it comes, holding back the bytes of an unfinished character."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for i in _in_a_row(ids):
            yield decoder.decode(self.token(i))
        yield decoder.decode(b"", final=True)


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
        if isinstance(i, bool):
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
