"""Tokenizer files of other checkpoints: a folder with a byte-level BPE of its own, read and checked.

It reads tokenizer.json, or vocab.json and merges.txt, and the small files beside them, as transformers reads them.
What would give other ids than in transformers is refused, and the error names it. Sizes are bounded: the largest
vocabularies of today, of 256,000 tokens, take about 20 MB. Work and memory are proportional to the size of the file.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import gpt2
from .added import Added
from .files import is_regular, parse_json, read_bytes
from .merges import Pair, byte_characters, ranks_of
from .pipeline import ADVICE, check_steps, checked, shown

TOKENIZER, VOCAB, MERGES = "tokenizer.json", "vocab.json", "merges.txt"
TABLES = (TOKENIZER, VOCAB, MERGES)
SMALL = ("tokenizer_config.json", "added_tokens.json", "special_tokens_map.json")
FILES = (*TABLES, *SMALL, "generation_config.json")  # what is copied when a model is saved again
LARGEST, LARGEST_TABLE = 1 << 22, 1 << 25  # bytes of one of the small files, of one of TABLES
MOST_ADDED = 5_000  # added tokens: each is looked for at each character
LONGEST_TOKEN = 1_000  # bytes; the longest of GPT-2 has 128
LARGEST_ID = 1 << 24
OTHER_KINDS = {  # files of tokenizers that are not a byte-level BPE
    "tokenizer.model": "SentencePiece",
    "spiece.model": "SentencePiece",
    "sentencepiece.bpe.model": "SentencePiece",
    "vocab.txt": "WordPiece",
    "tekken.json": "Tekken",
}
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class Definition:
    """What the files say."""

    ids: dict[bytes, int] | None  # of single bytes and of what merges make, in order; None: those of GPT-2
    others: dict[int, bytes] = field(default_factory=dict)  # entries of the vocabulary that no merge makes
    added: tuple[Added, ...] = ()
    end_of_text: int | None = None


GPT2S = (
    Definition(None, added=(Added(gpt2.END_OF_TEXT, gpt2.END_OF_TEXT_ID, normalized=True),)),
    {gpt2.END_OF_TEXT: gpt2.END_OF_TEXT_ID},
)


def read_files(folder: str | os.PathLike[str]) -> dict[str, bytes]:
    """Return ``{name: contents}`` of the tokenizer's files in a folder; {} if there is no tokenizer in it.

    Raises ValueError for a tokenizer of another kind, for what is not a regular file, and for files that are too large.
    """
    folder = Path(folder)
    present = [name for name in FILES if os.path.lexists(folder / name)]
    if TOKENIZER not in present and not {VOCAB, MERGES} <= set(present):
        for name, kind in OTHER_KINDS.items():
            if is_regular(folder / name):
                raise ValueError(f"{folder} has a tokenizer of another kind, {kind} ({name}): {ADVICE}")
        for name, missing in ((VOCAB, MERGES), (MERGES, VOCAB)):
            if name in present:
                raise ValueError(f"{folder} has {name} but no {missing}: a byte-level BPE needs both")
        return {}
    return {name: read_bytes(folder / name, LARGEST_TABLE if name in TABLES else LARGEST) for name in present}


def definition(files: Mapping[str, bytes]) -> Definition:
    """Return what a tokenizer's files say; ValueError, with the file's name, for what is not supported."""
    small = {name: _object(name, files[name]) for name in SMALL if name in files}
    config = small.get("tokenizer_config.json", {})
    for name in ("add_prefix_space", "add_bos_token", "add_eos_token"):
        if config.get(name):
            raise ValueError(f"tokenizer_config.json: {name} is set, which adds to every text: {ADVICE}")
    try:
        found, vocab = _from_json(files[TOKENIZER]) if TOKENIZER in files else _from_tables(files[VOCAB], files[MERGES])
    except ValueError as error:
        name = TOKENIZER if TOKENIZER in files else f"{VOCAB} and {MERGES}"
        raise ValueError(f"{name}: {error}") from None
    added = {token.content: token for token in found.added}
    _add_small(added, small)
    named = {**small.get("special_tokens_map.json", {}), **config}
    end = _content(named.get("eos_token")) or gpt2.END_OF_TEXT
    for content in (*(_content(named.get(role)) for role in NAMED), gpt2.END_OF_TEXT):
        if content in vocab and content not in added:  # an entry of the vocabulary that is special
            added[content] = Added(content, vocab[content])
    if len(added) > MOST_ADDED:
        raise ValueError(f"it has {len(added):,} added tokens, more than {MOST_ADDED:,}")
    _check_ids(added, vocab, gpt2.SIZE if found.ids is None else len(vocab))
    return Definition(found.ids, found.others, tuple(added.values()), added[end].id if end in added else None)


def _check_ids(added: Mapping[str, Added], vocab: Mapping[str, int], size: int) -> None:
    """Raise ValueError for an added token whose id is taken, or that transformers would renumber.

    size : tokens of the vocabulary; transformers numbers those that it lacks from there on.
    """
    owner = {i: text for text, i in vocab.items()}
    new = sum(content not in vocab for content in added)
    for token in added.values():
        other = owner.setdefault(token.id, token.content)
        if other != token.content or vocab.get(token.content, token.id) != token.id:
            raise ValueError(
                f"the added token {shown(token.content)} has the id {token.id}, which another token has already"
            )
        if token.content not in vocab and not size <= token.id < size + new:
            numbered = f"transformers would number it from {size} on, without gaps"
            raise ValueError(f"the added token {shown(token.content)} has the id {token.id}, but {numbered}")


# --- tokenizer.json ------------------------------------------------------------------------------


def _from_json(data: bytes) -> tuple[Definition, dict[str, int]]:
    if hashlib.sha256(data).hexdigest() == gpt2.PUBLISHED[TOKENIZER]:
        return GPT2S
    values = checked(parse_json(data), "it", dict)
    check_steps(values)
    model = checked(values.get("model"), "model", dict)
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind != "BPE":
        raise ValueError(f"its model is {shown(kind)}, not BPE: {ADVICE}")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise ValueError(f"its model has {name}, which GPT-2's does not have: {ADVICE}")
    added = [_added(entry, "added_tokens") for entry in checked(values.get("added_tokens") or [], "added_tokens", list)]
    merges, vocab = checked(model.get("merges"), "merges", list), checked(model.get("vocab"), "vocab", dict)
    pairs = [entry.split(" ") if isinstance(entry, str) else entry for entry in merges]
    found = _tables(vocab, pairs, {token.content for token in added})
    if model.get("ignore_merges") and found.ids is not None:
        whole = [raw for raw in found.others.values() if len(raw) > 1]
        if whole:
            raise ValueError(f"ignore_merges makes {shown(whole[0])} a token that no merge makes: {ADVICE}")
    return Definition(found.ids, found.others, tuple(added)), vocab


# --- vocabulary and merges -----------------------------------------------------------------------


def _from_tables(vocab: bytes, merges: bytes) -> tuple[Definition, dict[str, int]]:
    digests = [hashlib.sha256(data).hexdigest() for data in (vocab, merges)]
    if digests == [gpt2.PUBLISHED[VOCAB], gpt2.PUBLISHED[MERGES]]:
        return GPT2S
    lines = (line.rstrip("\r") for line in merges.decode("utf-8-sig").split("\n"))
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    values = checked(parse_json(vocab), "the vocabulary", dict)
    return _tables(values, pairs, set()), values


def _tables(vocab: dict[str, Any], pairs: list[Any], contents: set[str]) -> Definition:
    """Return the ids of bytes and merges, and the entries that no merge makes."""
    for text, i in vocab.items():
        if not _is_id(i):
            raise ValueError(f"the id of {shown(text)} is {shown(i)}, not a whole number from 0 to {LARGEST_ID - 1:,}")
        if len(text) > LONGEST_TOKEN:
            raise ValueError(f"a token has {len(text):,} characters, more than {LONGEST_TOKEN:,}")
    if len(set(vocab.values())) < len(vocab):
        raise ValueError("two tokens have the same id")
    if _are_gpt2s(vocab, pairs):
        return Definition(None)
    byte_of = {c: b for b, c in byte_characters().items()}
    listed: list[Pair] = []
    for pair in pairs:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) and part for part in pair)):
            raise ValueError(f"a merge must be of two tokens, not {shown(pair)}")
        for text in (*pair, pair[0] + pair[1]):
            if text not in vocab:
                raise ValueError(f"a merge is of {shown(pair)}, but {shown(text)} is not in the vocabulary")
        try:
            left, right = (bytes(map(byte_of.__getitem__, part)) for part in pair)
        except KeyError:
            raise ValueError(f"a merge is of {shown(pair)}, which is not text of a byte-level BPE: {ADVICE}") from None
        listed.append((left, right))
    characters = byte_characters()
    ids = {}
    for token in ranks_of(listed):
        text = "".join(map(characters.__getitem__, token))
        if text in vocab:  # a vocabulary may lack some bytes
            ids[token] = vocab[text]
    used = set(ids.values())
    others = {i: _raw(text, byte_of, contents) for text, i in vocab.items() if i not in used}
    return Definition(ids, others)


def _are_gpt2s(vocab: dict[str, int], pairs: list[Any]) -> bool:
    """Return whether these are the tables of GPT-2, by the digests of what OpenAI published."""
    if len(vocab) != gpt2.SIZE or len(pairs) != 50_000:
        return False
    try:
        lines = gpt2.merges_text(map(" ".join, pairs)).encode()
    except TypeError:
        return False
    ordered = gpt2.vocab_text(dict(sorted(vocab.items(), key=lambda item: item[1]))).encode()
    found = [hashlib.sha256(data).hexdigest() for data in (ordered, lines)]
    return found == [gpt2.PUBLISHED[VOCAB], gpt2.PUBLISHED[MERGES]]


def _raw(text: str, byte_of: Mapping[str, int], contents: set[str]) -> bytes:
    """Return the bytes of an entry of the vocabulary; added tokens are text as it is."""
    if text not in contents and all(c in byte_of for c in text):
        return bytes(map(byte_of.__getitem__, text))
    return text.encode("utf-8", "replace")


# --- added tokens --------------------------------------------------------------------------------


def _added(entry: Any, where: str, i: Any = None) -> Added:
    entry = checked(entry, where, dict)
    content, i = entry.get("content"), entry.get("id") if i is None else i
    if not isinstance(content, str) or len(content) > LONGEST_TOKEN or not _is_id(i):
        raise ValueError(f"{where}: expected a content and an id, not {shown(entry)}")
    if entry.get("single_word"):
        raise ValueError(f"{where}: {shown(content)} is a single_word, which is not supported here: {ADVICE}")
    flags = {name: bool(entry.get(name)) for name in ("special", "lstrip", "rstrip", "normalized")}
    return Added(content, i, **flags)


def _add_small(added: dict[str, Added], small: dict[str, dict[str, Any]]) -> None:
    """Add the tokens that only the small files have."""
    decoder = small.get("tokenizer_config.json", {}).get("added_tokens_decoder") or {}
    for i, entry in checked(decoder, "added_tokens_decoder", dict).items():
        token = _added(entry, "added_tokens_decoder", int(i) if i.isdecimal() and len(i) < 10 else None)
        added.setdefault(token.content, token)
    for content, i in small.get("added_tokens.json", {}).items():
        if not _is_id(i):
            raise ValueError(f"added_tokens.json: the id of {shown(content)} is {shown(i)}")
        added.setdefault(content, Added(content, i, special=False, normalized=True))


def _is_id(i: Any) -> bool:
    return type(i) is int and 0 <= i < LARGEST_ID


def _content(named: Any) -> str | None:
    """Return the text of a token that a file names: a text, or an object with its content."""
    content = named.get("content") if isinstance(named, dict) else named
    return content if isinstance(content, str) and content else None


# --- values --------------------------------------------------------------------------------------


def _object(name: str, data: bytes) -> dict[str, Any]:
    try:
        return checked(parse_json(data), "it", dict)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
