"""GPT-2's tokenizer: text to ids and back, by byte-level BPE.

The work is tiktoken's; its table of 50,256 byte strings is bundled, so nothing is ever fetched.
Source: Radford et al. 2019, section 2.2. The split pattern is the one published with GPT-2.
"""

import binascii
import codecs
import re
from collections.abc import Iterable, Iterator
from importlib import resources

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 50256
LONGEST_GAP = 999_999  # white-space characters in a row at which tiktoken's pattern gives up and panics
SPLIT = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""


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
        """Return the ids of `text`; ``<|endoftext|>`` is 7 tokens of text, or the one token if `special`."""
        if len(text) >= LONGEST_GAP and re.search(rf"\s{{{LONGEST_GAP}}}", text):
            raise ValueError(f"the text holds {LONGEST_GAP:,} or more white-space characters in a row")
        if special:
            return self.encoding.encode(text, allowed_special="all")
        return self.encoding.encode_ordinary(text)

    def token(self, i: int) -> bytes:
        """Return the bytes of token `i`; ids that GPT-2 does not have (resized vocabularies) show as ``<|i|>``."""
        if 0 <= i <= END_OF_TEXT_ID:
            return self.encoding.decode_single_token_bytes(i)
        return f"<|{i}|>".encode()

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`; bytes that are no whole character show as U+FFFD."""
        return "".join(self.decode_stream(ids))

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield the text of each id as it comes, holding back the bytes of an unfinished character."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for i in ids:
            yield decoder.decode(self.token(int(i)))
        yield decoder.decode(b"", final=True)
