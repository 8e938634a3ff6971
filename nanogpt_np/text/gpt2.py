"""GPT-2's own vocabulary: its table of 50,256 byte strings, its special token, and the files that other libraries read.

The table is bundled, so nothing is ever fetched. Source: Radford et al. 2019, section 2.2. The split pattern is the
one published with GPT-2. `tokenizer.json` is built from the table, in the layout of GPT-2's on Hugging Face's hub.
"""

import binascii
import functools
import json
from collections.abc import Iterable
from importlib import resources
from typing import Any

from .merges import Pair, byte_characters, merges_of

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 50256
SIZE = END_OF_TEXT_ID + 1
SPLIT = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
# SHA-256 of the files made from the table. OpenAI published the last two, as encoder.json and vocab.bpe.
PUBLISHED = {
    "tokenizer.json": "8414cab924d8b9b33013f0d221c5862f365ee9be39c5c2bfae8a5a9e970478a6",
    "vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


def ranks() -> dict[bytes, int]:
    """Return ``{bytes of a token: its id}``, lowest first; the lower the id, the earlier it was learned."""
    # 50,256 times a token in base64 and its rank. All of this runs in C, since every command waits for it.
    table = resources.files(__package__).joinpath("r50k_base.tiktoken").read_bytes().split()
    return dict(zip(map(binascii.a2b_base64, table[::2]), map(int, table[1::2]), strict=True))


def vocab_text(vocab: dict[str, int]) -> str:
    """Return a vocabulary as OpenAI's encoder.json has it."""
    return json.dumps(vocab)


def merges_text(merges: Iterable[str]) -> str:
    """Return merges, each two texts with a space between, as OpenAI's vocab.bpe has them."""
    return "\n".join(["#version: 0.2", *merges, ""])


@functools.cache
def vocabulary() -> tuple[dict[str, int], list[str]]:
    """Return (vocabulary, merges) as files have them; it takes a fifth of a second, once."""
    table, shown = ranks(), byte_characters()

    def text(token: bytes) -> str:
        return "".join(map(shown.__getitem__, token))

    def line(pair: Pair) -> str:
        return f"{text(pair[0])} {text(pair[1])}"

    vocab = {text(token): i for token, i in table.items()}
    return vocab | {END_OF_TEXT: END_OF_TEXT_ID}, [line(pair) for pair in merges_of(table)]


@functools.cache
def tokenizer_json() -> bytes:
    """Return the contents of tokenizer.json, which transformers, tokenizers and llama.cpp read."""
    vocab, merges = vocabulary()
    level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
    end: dict[str, Any] = {"id": END_OF_TEXT_ID, "special": True, "content": END_OF_TEXT}
    model: dict[str, Any] = {"dropout": None, "unk_token": None, "continuing_subword_prefix": ""}
    values = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [end | {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}],
        "normalizer": None,
        "pre_tokenizer": level | {"add_prefix_space": False},
        "post_processor": level | {"trim_offsets": False},
        "decoder": level,
        "model": model | {"end_of_word_suffix": "", "fuse_unk": False, "vocab": vocab, "merges": merges},
    }
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def small_files(n_positions: int) -> dict[str, bytes]:
    """Return the contents of the small files beside tokenizer.json, by name.

    n_positions : tokens that the model can read.
    """
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": n_positions,
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,  # some versions would otherwise drop spaces when they decode
    }
    generation = {"bos_token_id": END_OF_TEXT_ID, "eos_token_id": END_OF_TEXT_ID}
    files = {"tokenizer_config.json": config, "generation_config.json": generation}
    return {name: (json.dumps(values, indent=2) + "\n").encode() for name, values in files.items()}
