"""Tokenizer files of others: read into the ids of `tokenizers`, refused by name, copied; and those that `save` writes.

The tables here are made by a slow BPE of this file, and cut by it; tests marked `reference` compare with `tokenizers`
and transformers.
"""

import hashlib
import json
import os
import random
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import regex
import tiktoken_ext.openai_public
from helpers import random_model, scripted_model
from test_tokenizer import ORIGINAL_SPLIT

import nanogpt_np
from nanogpt_np.__main__ import main
from nanogpt_np.interpret import recording
from nanogpt_np.interpret.recorder import Recorder
from nanogpt_np.text import gpt2, tokenizer_files
from nanogpt_np.text.merges import byte_characters, joins_last, merges_of, ranks_of
from nanogpt_np.text.tokenizer import NoTokenizer, Tokenizer
from nanogpt_np.train import loop
from nanogpt_np.train.settings import Settings
from nanogpt_np.train.trainer import Trainer
from nanogpt_np.weights import open_checkpoint

CHARACTERS = byte_characters()
END = gpt2.END_OF_TEXT
TEXT = (
    "The capital of France is Paris. The capital of Japan is Tokyo, isn't it? "
    "日本の首都は東京です。 Ça va, l'été? 🚀🚀 1234 5678  \n\n\tdef f(x):\n    return x\n" * 3
)
TEXTS = [TEXT, "", " ", "the the", "naïve 🚀", "東京 the capital", "a\u0301 \u3000 b\x00\x7f", " isn't we'll", "\n\n\n"]
TEXTS += [f"a{END}b", f"{END}{END}", "x [PAD] y", "  <sep>  z"]


def shown(token):
    return "".join(map(CHARACTERS.__getitem__, token))


def trained(size, text=TEXT):
    """Return the pairs that BPE learns from a text, most frequent first."""
    words = [[bytes([b]) for b in word.encode()] for word in regex.findall(ORIGINAL_SPLIT, text)]
    merges = []
    while len(merges) < size:
        counts = Counter(pair for word in words for pair in pairwise(word))
        pair = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append(pair)
        words = [joined(word, pair) for word in words]
    return merges


def joined(word, pair):
    out = []
    for part in word:
        out.append(part)
        if len(out) > 1 and (out[-2], out[-1]) == pair:
            out[-2:] = [pair[0] + pair[1]]
    return out


def slow_ids(text, merges, ids):
    """Cut into words, and apply the merges one after the other, in order."""
    found = []
    for word in regex.findall(ORIGINAL_SPLIT, text):
        parts = [bytes([b]) for b in word.encode()]
        for pair in merges:
            parts = joined(parts, pair)
        found += [ids[part] for part in parts]
    return found


MERGES = trained(100)
TOKENS = [*(bytes([b]) for b in range(256)), *(a + b for a, b in MERGES)]
ORDERS = {  # which id each token has
    "as GPT-2": {token: i for i, token in enumerate(TOKENS)},
    "after special tokens": {token: i + 3 for i, token in enumerate(TOKENS)},
    "shuffled": dict(zip(TOKENS, random.Random(5).sample(range(3, 900), len(TOKENS)), strict=True)),
}


def added(content, i, **flags):
    plain = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": i, "content": content, **plain, **flags}


def values(ids=ORDERS["as GPT-2"], tokens=(), merges=MERGES, **fields):
    """Return the contents of a tokenizer.json."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    vocab = {shown(token): i for token, i in ids.items()}
    model = {"type": "BPE", "vocab": vocab, "merges": [[shown(a), shown(b)] for a, b in merges]}
    whole = {"added_tokens": list(tokens), "normalizer": None, "pre_tokenizer": level, "decoder": level}
    return {"version": "1.0", **whole, "post_processor": None, "model": model} | fields


def written(folder, contents=None, **small):
    """Write a tokenizer.json, and small files beside it; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(values() if contents is None else contents), encoding="utf-8")
    for name, value in small.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


# --- merges and ranks ----------------------------------------------------------------------------


def test_gpt2s_tables_as_files_have_the_digests_that_openai_published():
    vocab, merges = gpt2.vocabulary()
    source = Path(tiktoken_ext.openai_public.__file__).read_text(encoding="utf-8")
    published = dict(re.findall(r'(vocab_bpe|encoder_json)_hash="(\w{64})"', source))
    assert len(published) == 2
    assert hashlib.sha256(gpt2.merges_text(merges).encode()).hexdigest() == published["vocab_bpe"]
    assert hashlib.sha256(gpt2.vocab_text(vocab).encode()).hexdigest() == published["encoder_json"]
    assert {gpt2.PUBLISHED["merges.txt"], gpt2.PUBLISHED["vocab.json"]} == set(published.values())


def test_gpt2s_tokenizer_json_has_the_size_of_the_file_in_the_hub_and_the_digest_it_is_known_by():
    assert len(gpt2.tokenizer_json()) == 1_355_256
    assert hashlib.sha256(gpt2.tokenizer_json()).hexdigest() == gpt2.PUBLISHED["tokenizer.json"]


def test_merges_become_ranks_and_ranks_the_same_merges():
    assert merges_of(ranks_of(MERGES)) == MERGES


@pytest.mark.parametrize("number", [0, 1, 60, 99])
def test_a_pair_joins_last_only_if_merging_its_bytes_ends_with_it(number):
    ranks = ranks_of(MERGES)
    halves = {a + b: (a, b) for a, b in MERGES}
    left, right = MERGES[number]
    token = left + right
    for cut in range(1, len(token)):
        a, b = token[:cut], token[cut:]
        if a in ranks and b in ranks:
            assert joins_last(a, b, ranks, halves) == ((a, b) == (left, right))


def test_every_way_to_cut_a_token_may_be_listed_since_only_one_of_them_can_meet():
    # So do files that are converted from tiktoken's.
    ranks = {token: i for token, i in gpt2.ranks().items() if i < 3000}
    listed = []
    for token, rank in ranks.items():
        ways = [(token[:i], token[i:]) for i in range(1, len(token))]
        listed += [(a, b) for a, b in ways if max(ranks.get(a, 3000), ranks.get(b, 3000)) < rank]
    assert len(listed) > 3000 - 256 + 500
    assert {*ranks_of(listed)} == {*ranks} and merges_of(ranks_of(listed)) == merges_of(ranks)


WRONG_MERGES = {
    "a part is made later": [(b"ab", b"c"), (b"a", b"b")],
    "a part is never made": [(b"ab", b"c")],
    "another pair takes a byte first": [(b"b", b"c"), (b"a", b"b"), (b"ab", b"c")],
}


@pytest.mark.parametrize("merges", WRONG_MERGES.values(), ids=WRONG_MERGES)
def test_merges_that_libraries_would_apply_differently_are_refused(merges):
    with pytest.raises(ValueError, match=r"^the merge of b'ab' and b'c' is not in an order that BPE can apply$"):
        ranks_of(merges)


# --- the same ids --------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("files", ["tokenizer.json", "vocab.json and merges.txt"])
def test_ids_are_those_of_merges_applied_one_after_the_other(order, files, tmp_path):
    ids = ORDERS[order]
    if files == "tokenizer.json":
        written(tmp_path, values(ids))
    else:
        (tmp_path / "vocab.json").write_text(json.dumps({shown(t): i for t, i in ids.items()}))
        lines = "".join(f"{shown(a)} {shown(b)}\n" for a, b in MERGES)
        (tmp_path / "merges.txt").write_text("#version: 0.2\n" + lines, encoding="utf-8")
    tok = Tokenizer.from_folder(tmp_path)
    for text in TEXTS:
        assert tok.encode(text) == slow_ids(text, MERGES, ids)
        assert tok.decode(tok.encode(text)) == text
        assert b"".join(token.raw for token in tok.tokens(text)) == text.encode()
    assert tok.size == max(ids.values()) + 1 and not tok.is_gpt2 and tok.end_of_text is None and tok.stop == ()


ADDED = [added(END, 356), added("[PAD]", 357), added("<sep>", 358, lstrip=True, rstrip=True), added("Paris is", 359)]
ADDED[3]["special"] = False


def test_added_tokens_are_cut_out_first_and_special_ones_on_request(tmp_path):
    tok, ids = Tokenizer.from_folder(written(tmp_path, values(tokens=ADDED))), ORDERS["as GPT-2"]

    def plain(text):
        return slow_ids(text, MERGES, ids)

    text = f"The{END}[PAD] Paris is  <sep>\n  a"
    expected = [*plain("The"), 356, 357, *plain(" "), 359, 358, *plain("a")]
    assert tok.encode(text, special=True) == expected
    assert tok.encode(text) == [*plain(f"The{END}[PAD] "), 359, *plain("  <sep>\n  a")]
    assert tok.token(356) == END.encode() and tok.end_of_text == 356 and tok.stop == (356,)
    assert tok.decode([356, 359, 360]) == f"{END}Paris is<|360|>"


def test_of_added_tokens_the_longest_wins_and_normalized_ones_come_second(tmp_path):
    tokens = [added("ab", 356), added("abc", 357), added("cd", 358), added("xab", 359, normalized=True)]
    tok = Tokenizer.from_folder(written(tmp_path, values(tokens=tokens)))
    assert tok.encode("abcd", special=True) == [357, ORDERS["as GPT-2"][b"d"]]
    assert tok.encode("xab", special=True) == [ORDERS["as GPT-2"][b"x"], 356]


EOS = {
    "by name": ({}, {"tokenizer_config": {"eos_token": "[PAD]"}}, 357),
    "as an object": ({}, {"tokenizer_config": {"eos_token": {"content": "[PAD]"}}}, 357),
    "in the map": ({}, {"special_tokens_map": {"eos_token": "[PAD]"}}, 357),
    "not named": ({}, {}, 356),
    "unknown": ({}, {"tokenizer_config": {"eos_token": "</s>"}}, None),
    "only in the small file": (
        {"added_tokens": []},
        {"tokenizer_config": {"eos_token": "</s>", "added_tokens_decoder": {"356": {"content": "</s>"}}}},
        356,
    ),
    "in added_tokens.json": ({"added_tokens": []}, {"added_tokens": {END: 356}}, 356),
}


@pytest.mark.parametrize("fields, small, end", EOS.values(), ids=EOS)
def test_the_token_that_ends_a_text_is_the_one_the_files_name(fields, small, end, tmp_path):
    tok = Tokenizer.from_folder(written(tmp_path, values(tokens=ADDED) | fields, **small))
    assert tok.end_of_text == end


def test_a_vocabulary_that_lacks_bytes_refuses_texts_with_them_by_the_character(tmp_path):
    ids = {token: i for token, i in ORDERS["as GPT-2"].items() if token not in (b"\xd0", b"Z")}
    tok = Tokenizer.from_folder(written(tmp_path, values(ids)))
    assert tok.encode("The capital") == slow_ids("The capital", MERGES, ids)
    for text, c in (("a Z", "'Z'"), ("xЖ", "'Ж'")):
        with pytest.raises(ValueError, match=f"no token for a byte of {c}: it cannot hold this text$"):
            tok.encode(text)


def gpt2_files(folder, form):
    """Write GPT-2's own files in one of the forms that they have."""
    folder.mkdir()
    vocab, merges = gpt2.vocabulary()
    contents = {"tokenizer.json": gpt2.tokenizer_json()}
    if form == "pretty":
        contents = {"tokenizer.json": json.dumps(json.loads(contents["tokenizer.json"]), indent=2).encode()}
    if form == "pairs":
        whole = json.loads(contents["tokenizer.json"])
        whole["model"]["merges"] = [merge.split(" ") for merge in merges]
        contents = {"tokenizer.json": json.dumps(whole).encode()}
    if form == "tables":
        contents = {"vocab.json": gpt2.vocab_text(vocab).encode(), "merges.txt": gpt2.merges_text(merges).encode()}
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize("form", ["compact", "pretty", "pairs", "tables"])
def test_gpt2s_own_files_are_known_without_their_merges_being_read(form, tmp_path, monkeypatch):
    folder = gpt2_files(tmp_path / "own", form)
    monkeypatch.setattr(tokenizer_files, "ranks_of", lambda merges: pytest.fail("read the merges"))
    tok, own = Tokenizer.from_folder(folder), Tokenizer()
    assert tok.is_gpt2 and tok.size == own.size and tok.stop == own.stop
    for text in TEXTS:
        assert tok.encode(text, special=True) == own.encode(text, special=True)
        assert tok.encode(text) == own.encode(text)


def test_gpt2s_table_with_a_token_more_is_read_too(tmp_path):
    folder = gpt2_files(tmp_path / "own", "compact")
    (folder / "added_tokens.json").write_text(json.dumps({"[PAD]": 50257}))
    tok = Tokenizer.from_folder(folder)
    assert tok.encode("a[PAD]b") == [64, 50257, 65] and tok.size == 50258


# --- what is refused -----------------------------------------------------------------------------

LEVEL = values()["pre_tokenizer"]
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
MODEL = values()["model"]
REFUSED = {
    "its model is 'Unigram', not BPE": {"model": {"type": "Unigram", "vocab": [["a", 0.0]]}},
    "its model is 'WordPiece', not BPE": {"model": {"type": "WordPiece", "vocab": {"a": 0}}},
    "its model is 'WordLevel', not BPE": {"model": {"type": "WordLevel", "vocab": {"a": 0}}},
    "its model has dropout": {"model": MODEL | {"dropout": 0.1}},
    "its model has continuing_subword_prefix": {"model": MODEL | {"continuing_subword_prefix": "##"}},
    "its model has end_of_word_suffix": {"model": MODEL | {"end_of_word_suffix": "</w>"}},
    "its normalizer is 'NFC'": {"normalizer": {"type": "NFC"}},
    "its normalizer is 'Lowercase'": {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}]}},
    "its pre_tokenizer is missing": {"pre_tokenizer": None},
    "its pre_tokenizer is 'Metaspace'": {"pre_tokenizer": {"type": "Metaspace"}},
    "its pre_tokenizer is 'Split' and 'ByteLevel'": {
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Split", "behavior": "Isolated", "pattern": {"Regex": r"\p{N}{1,3}"}}, BYTES],
        }
    },
    "its pre_tokenizer is 'Digits' and 'ByteLevel'": {
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits"}, LEVEL]}
    },
    "its pre_tokenizer has add_prefix_space": {"pre_tokenizer": LEVEL | {"add_prefix_space": True}},
    "its pre_tokenizer has use_regex off": {"pre_tokenizer": BYTES},
    "its post_processor is 'TemplateProcessing'": {
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {}}, {"Sequence": {}}]}
    },
    "its post_processor is 'RobertaProcessing'": {"post_processor": {"type": "RobertaProcessing"}},
    "its decoder is 'Metaspace'": {"decoder": {"type": "Metaspace"}},
    "added_tokens: 'x' is a single_word": {"added_tokens": [added("x", 950, single_word=True)]},
    "the added token '[PAD]' has the id 5, which another token has already": {"added_tokens": [added("[PAD]", 5)]},
    "the added token 'BB' has the id 356, which another": {"added_tokens": [added("AA", 356), added("BB", 356)]},
    "the added token 'AA' has the id 400, but transformers would number it from 356 on": {
        "added_tokens": [added("AA", 400)]
    },
    "the added token 'BB' has the id 358, but transformers would number it from 356 on": {
        "added_tokens": [added("AA", 356), added("BB", 358)]
    },
    "two tokens have the same id": {"model": MODEL | {"vocab": MODEL["vocab"] | {"zzz": 5}}},
    "the id of 'zzz' is -1": {"model": MODEL | {"vocab": MODEL["vocab"] | {"zzz": -1}}},
    "the id of 'zzz' is 1.5": {"model": MODEL | {"vocab": MODEL["vocab"] | {"zzz": 1.5}}},
    "ignore_merges makes b'zzz' a token": {
        "model": MODEL | {"vocab": MODEL["vocab"] | {"zzz": 5000}, "ignore_merges": True}
    },
    "'qq' is not in the vocabulary": {"model": MODEL | {"merges": [["q", "q"]]}},
    "a merge must be of two tokens, not ['a']": {"model": MODEL | {"merges": [["a"]]}},
    "a merge must be of two tokens, not 5": {"model": MODEL | {"merges": [5]}},
    "is not text of a byte-level BPE": {
        "model": {"type": "BPE", "vocab": {"▁": 0, "a": 1, "▁a": 2}, "merges": ["▁ a"]}
    },
    "model must be an object, not None": {"model": None},
    "vocab must be an object, not ": {"model": MODEL | {"vocab": [1]}},
    "merges must be a list, not 'x'": {"model": MODEL | {"merges": "x"}},
    "added_tokens must be a list, not {'a': 1}": {"added_tokens": {"a": 1}},
    "added_tokens must be an object, not 7": {"added_tokens": [7]},
    "a step must be an object, not 'NFC'": {"normalizer": "NFC"},
}


@pytest.mark.parametrize("message, fields", REFUSED.items(), ids=REFUSED)
def test_another_kind_of_tokenizer_is_refused_by_name_in_one_line(message, fields, tmp_path):
    with pytest.raises(ValueError) as caught:
        Tokenizer.from_folder(written(tmp_path, values() | fields))
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}: tokenizer.json: ") or "the added token" in text
    assert message in text and "\n" not in text and len(text) < 600


SAME = {
    "an empty normalizer": {"normalizer": {"type": "Sequence", "normalizers": []}},
    "ByteLevel in a Sequence": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [LEVEL]}},
    "GPT-2's pattern, written out": {
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "behavior": "Isolated",
                    "invert": False,
                    "pattern": {"Regex": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"},
                },
                BYTES,
            ],
        }
    },
    "a template of the text alone": {
        "post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}]}
    },
    "a ByteLevel post_processor": {"post_processor": LEVEL | {"add_prefix_space": True}},
    "no type of model": {"model": {key: value for key, value in MODEL.items() if key != "type"}},
    "ignore_merges": {"model": MODEL | {"ignore_merges": True}},
    "dropout of 0": {"model": MODEL | {"dropout": 0.0}},
    "truncation": {"truncation": {"max_length": 3}},
}


@pytest.mark.parametrize("fields", SAME.values(), ids=SAME)
def test_what_changes_no_id_is_accepted(fields, tmp_path):
    tok = Tokenizer.from_folder(written(tmp_path, values() | fields))
    assert tok.encode(TEXT) == slow_ids(TEXT, MERGES, ORDERS["as GPT-2"])


@pytest.mark.parametrize("name", ["add_prefix_space", "add_bos_token", "add_eos_token"])
def test_a_small_file_that_adds_to_every_text_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=f"tokenizer_config.json: {name} is set, which adds to every text"):
        Tokenizer.from_folder(written(tmp_path, tokenizer_config={name: True}))
    Tokenizer.from_folder(written(tmp_path, tokenizer_config={name: False}))


FOLDERS = {
    "SentencePiece": ({"tokenizer.model": b"\x0a"}, "a tokenizer of another kind, SentencePiece (tokenizer.model)"),
    "WordPiece": ({"vocab.txt": b"[PAD]\n"}, "a tokenizer of another kind, WordPiece (vocab.txt)"),
    "no merges": ({"vocab.json": b"{}"}, "has vocab.json but no merges.txt: a byte-level BPE needs both"),
    "no vocabulary": ({"merges.txt": b""}, "has merges.txt but no vocab.json"),
    "nothing": ({"config.json": b"{}"}, "has no tokenizer.json, and no vocab.json and merges.txt"),
    "no JSON": ({"tokenizer.json": b"\xff\xfe"}, "tokenizer.json: "),
    "a list": ({"tokenizer.json": b"[]"}, "tokenizer.json: it must be an object, not []"),
    "twice": ({"tokenizer.json": b'{"a":1,"a":2}'}, "the key 'a' appears twice"),
    "deep": ({"tokenizer.json": b"[" * 200_000}, "nested too deeply"),
    "too large": ({"tokenizer.json": b" " * ((1 << 25) + 1)}, "has 33,554,433 bytes"),
    "a large small file": (
        {"tokenizer.json": b"{}", "tokenizer_config.json": b" " * ((1 << 22) + 1)},
        "has 4,194,305 bytes",
    ),
    "a broken small file": ({"tokenizer.json": b"{}", "added_tokens.json": b"["}, "added_tokens.json: "),
    "bytes in merges": ({"vocab.json": b"{}", "merges.txt": b"\xff \xff"}, "vocab.json and merges.txt: "),
    "a long token": (
        {"tokenizer.json": json.dumps(values() | {"model": MODEL | {"vocab": {"a" * 1001: 0}}}).encode()},
        "a token has 1,001 characters, more than 1,000",
    ),
    "many added tokens": (
        {"tokenizer.json": json.dumps(values(tokens=[added(f"<{i}>", 1000 + i) for i in range(5001)])).encode()},
        "it has 5,001 added tokens, more than 5,000",
    ),
}


@pytest.mark.parametrize("files, message", FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_holds_no_tokenizer_for_this_package_says_what_it_holds(files, message, tmp_path):
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError) as caught:
        Tokenizer.from_folder(tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_a_pipe_under_a_known_name_is_not_waited_for(name, tmp_path):
    written(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    code = f"from nanogpt_np import Tokenizer; Tokenizer.from_folder({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    last = done.stderr.splitlines()[-1]
    assert "is not a regular file but a pipe" in last or "has no tokenizer.json" in last


@pytest.mark.parametrize("length", [20, 40, 80])
def test_checking_a_merge_takes_no_more_steps_than_its_token_has_bytes(length):
    """The longest walk: every token ends in the one before, so all of them are undone along the seam."""
    looked_up = 0

    class Counted(dict):
        def get(self, *args):
            nonlocal looked_up
            looked_up += 1
            return super().get(*args)

    chain = [(bytes([c]), bytes(range(c - 1, -1, -1))) for c in range(1, length)]
    pairs = [(bytes(range(length - 1, -1, -1)), bytes([c])) for c in range(200, 250)]
    ranks = Counted({bytes([b]): b for b in range(256)})
    ranks |= {a + b: 256 + i for i, (a, b) in enumerate([*chain, *pairs])}
    halves = {a + b: (a, b) for a, b in chain}
    assert all(joins_last(a, b, ranks, halves) for a, b in pairs)
    assert 50 * (length - 1) < looked_up <= 50 * (length + 1)


# --- what is written -----------------------------------------------------------------------------

GPT2_SIZED = {"vocab_size": 50257, "n_embd": 4, "n_head": 2, "n_inner": 4, "n_layer": 1}
WRITTEN = {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}


def names(folder):
    return {path.name for path in folder.iterdir()} - {"config.json", "model.safetensors"}


def test_a_model_with_gpt2s_vocabulary_is_saved_with_gpt2s_tokenizer(tmp_path):
    nanogpt_np.save(random_model(**GPT2_SIZED), tmp_path)
    assert names(tmp_path) == WRITTEN
    assert open_checkpoint(tmp_path).tokenizer.is_gpt2
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert config["model_max_length"] == 23 and config["eos_token"] == END
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == 50256


@pytest.mark.parametrize("size", [97, 50256, 50258, 50304])
def test_a_model_of_another_vocabulary_is_saved_without_a_tokenizer(size, tmp_path):
    nanogpt_np.save(random_model(**GPT2_SIZED | {"vocab_size": size}), tmp_path)
    assert names(tmp_path) == set()


def test_files_that_are_there_already_are_not_made_or_written_again(tmp_path, monkeypatch):
    model = random_model(**GPT2_SIZED)
    nanogpt_np.save(model, tmp_path)
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in WRITTEN}
    monkeypatch.setattr(gpt2, "tokenizer_json", lambda: pytest.fail("made again"))
    nanogpt_np.save(model, tmp_path)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in WRITTEN} == before


def own_checkpoint(folder, **config):
    """Write a model with a tokenizer of its own; return the folder."""
    nanogpt_np.save(random_model(**{"vocab_size": 360} | config), folder)
    written(
        folder, values(tokens=ADDED), tokenizer_config={"eos_token": "[PAD]"}, generation_config={"eos_token_id": 357}
    )
    (folder / "special_tokens_map.json").write_text("{}")
    (folder / "notes.txt").write_text("mine")
    return folder


@pytest.mark.parametrize("size", [360, 50257])
def test_a_model_from_a_folder_with_its_own_tokenizer_is_saved_with_copies_of_the_files(size, tmp_path):
    own = own_checkpoint(tmp_path / "own", vocab_size=size)
    nanogpt_np.save(nanogpt_np.load(own), tmp_path / "new")
    assert names(tmp_path / "new") == names(own) - {"notes.txt"}
    for name in names(tmp_path / "new"):
        assert (tmp_path / "new" / name).read_bytes() == (own / name).read_bytes()


def test_a_tokenizer_that_is_given_is_the_one_that_is_saved(tmp_path):
    own = own_checkpoint(tmp_path / "own")
    tok = Tokenizer.from_folder(own)
    nanogpt_np.save(random_model(vocab_size=360), tmp_path / "a", tokenizer=tok)
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (own / "tokenizer.json").read_bytes()
    nanogpt_np.save(random_model(**GPT2_SIZED | {"vocab_size": 50304}), tmp_path / "b", tokenizer=Tokenizer())
    assert names(tmp_path / "b") == WRITTEN
    nanogpt_np.save(random_model(), tmp_path / "c", tokenizer=Tokenizer())  # of 97 tokens: it would be false
    assert names(tmp_path / "c") == set()


def test_saving_another_model_leaves_no_file_of_the_old_tokenizer(tmp_path):
    own = own_checkpoint(tmp_path / "own")
    nanogpt_np.save(random_model(**GPT2_SIZED), own)
    assert names(own) == WRITTEN | {"notes.txt"}
    assert open_checkpoint(own).tokenizer.is_gpt2


@pytest.mark.parametrize("at", ["config.json", "tokenizer.json", "generation_config.json", "model.safetensors"])
def test_a_save_that_dies_between_files_leaves_no_weights_beside_anothers_tokenizer(at, tmp_path, monkeypatch):
    own = own_checkpoint(tmp_path / "own")
    old = (own / "tokenizer.json").read_bytes()
    replace = os.replace

    def dying(source, target):
        if os.path.basename(target) == at:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(KeyboardInterrupt):
        nanogpt_np.save(random_model(**GPT2_SIZED), own)
    whole = (own / "tokenizer.json").read_bytes() in (old, gpt2.tokenizer_json())
    assert whole and not (own / "model.safetensors").exists() and not list(own.glob(".*.partial"))


@pytest.mark.parametrize("name", [*tokenizer_files.FILES])
def test_links_to_files_that_others_share_are_refused(name, tmp_path):
    (tmp_path / "blob").write_bytes(b"{}")
    (tmp_path / "out").mkdir()
    try:
        (tmp_path / "out" / name).symlink_to(tmp_path / "blob")
    except OSError:
        pytest.skip("no right to make links here")
    with pytest.raises(ValueError, match="links to files that others may share"):
        nanogpt_np.save(random_model(**GPT2_SIZED), tmp_path / "out")
    assert (tmp_path / "blob").read_bytes() == b"{}"


# --- in use --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    return own_checkpoint(tmp_path_factory.mktemp("own") / "mine", n_positions=40)


def out_of(capsys, *argv):
    assert main(list(map(str, argv))) == 0
    return capsys.readouterr()


def test_commands_read_a_prompt_with_the_tokenizer_of_the_model(own, capsys):
    tok = Tokenizer.from_folder(own)
    ids = tok.encode("The capital is")
    for command in ("generate", "trace"):
        said = out_of(capsys, command, "The capital is", "--model", own, "--json")
        shown = json.loads(said.out)
        assert shown["prompt_ids"] == ids and shown["model"]["tokenizer"] == {"name": "mine", "size": 360}
        assert "the tokenizer is mine's, of 360 tokens" in said.err
        if command == "trace":
            assert [row["token"] for row in shown["tokens"]] == [tok.token(i).decode() for i in ids]
    lens = out_of(capsys, "lens", "The capital", "--model", own, "--token", "Paris is", "--json")
    assert json.loads(lens.out)["id"] == 359
    explained = out_of(capsys, "explain", "The capital", "hook_next_logits[Paris is]", "--model", own, "--json")
    assert json.loads(explained.out)[0]["index"] == {"token": 359}


def test_tokenizer_overrides_that_of_the_model(own, capsys, tmp_path):
    for name in ("gpt2", "gpt2-xl", "facts"):
        said = out_of(capsys, "generate", "!", "--model", own, "--json", "--tokenizer", name, "-n", "1")
        assert json.loads(said.out)["prompt_ids"] == [0]
        assert "its vocabulary has 360 entries, the tokenizer GPT-2's own 50257" in said.err
    other = written(tmp_path / "other", values(ORDERS["shuffled"]))
    said = out_of(capsys, "generate", "The", "--model", own, "--json", "--tokenizer", other, "-n", "1")
    assert json.loads(said.out)["prompt_ids"] == slow_ids("The", MERGES, ORDERS["shuffled"])
    assert main(["generate", "The", "--model", str(own), "--tokenizer", "nowhere"]) == 1
    assert "nowhere has no tokenizer.json" in capsys.readouterr().err


def test_generation_ends_at_the_tokenizers_end_of_text(own, capsys, tmp_path):
    tok = Tokenizer.from_folder(own)
    said = [100, 50256, 356, 357, 100]  # [PAD], the end in these files, is 357
    nanogpt_np.save(scripted_model(said), tmp_path, tokenizer=tok)
    found = json.loads(out_of(capsys, "generate", "a", "--model", tmp_path, "--json").out)
    assert found["prompt_ids"] == tok.encode("a") and found["samples"][0]["ids"] == said[:3]
    assert found["samples"][0]["ended"] == "end of text"
    found = json.loads(out_of(capsys, "generate", "!", "--model", tmp_path, "--tokenizer", "gpt2", "--json").out)
    assert found["samples"][0]["ids"] == said[:1]


def test_a_refused_tokenizer_stops_only_what_needs_it(own, capsys, tmp_path):
    folder = own_checkpoint(tmp_path / "other")
    written(folder, values() | {"normalizer": {"type": "NFC"}})
    assert main(["generate", "The", "--model", str(folder)]) == 1
    err = capsys.readouterr().err
    assert "its normalizer is 'NFC'" in err and "--tokenizer" in err and err.count("\n") == 1
    assert main(["inventory", str(folder)]) == 0
    nanogpt_np.load(folder)
    assert main(["generate", "!", "--model", str(folder), "--tokenizer", "gpt2", "-n", "1"]) == 0


def test_a_recording_shows_tokens_by_the_tokenizer_it_was_made_with(own, capsys, tmp_path):
    saved = tmp_path / "pass.npz"
    first = json.loads(out_of(capsys, "trace", "The capital", "--model", own, "--save", saved, "--json").out)
    alone = json.loads(out_of(capsys, "trace", "--load", saved, "--json").out)
    assert [row["token"] for row in alone["tokens"]] == [f"<|{i}|>" for i in first["prompt_ids"]]
    given = json.loads(out_of(capsys, "trace", "--load", saved, "--tokenizer", own, "--json").out)
    assert given["tokens"] == first["tokens"] and given["top"] == first["top"]
    assert isinstance(recording.read(saved).tokenizer, NoTokenizer)
    assert str(own.parent) not in saved.read_bytes().decode("latin-1")


def test_a_recorder_of_a_loaded_model_shows_its_tokens_on_the_page(own):
    model, tok = nanogpt_np.load(own), Tokenizer.from_folder(own)
    acts = nanogpt_np.Recorder(model)
    ids = [*tok.encode("The"), 359]
    list(nanogpt_np.generate.loop.generate(model, ids, 1, stop=(), trace=acts))
    assert "Paris" in acts._repr_html_()
    other = Recorder(random_model(vocab_size=360, n_positions=40))
    other.update(acts)
    assert "Paris" not in nanogpt_np.page.notebook.frame(other)


def test_training_goes_on_with_the_tokenizer_of_the_checkpoint_and_saves_it(own, capsys, tmp_path):
    text, out = tmp_path / "a.txt", tmp_path / "out"
    text.write_text(TEXT * 2, encoding="utf-8")
    flags = ["--context", "8", "--batch-size", "2", "--eval-every", "2", "--save-every", "1", "--steps", "3"]
    assert main(["train", str(text), "--model", str(own), "--out", str(out), *flags, "--sample", "The"]) == 0
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json"):
        assert (out / name).read_bytes() == (own / name).read_bytes()
    tok = Tokenizer.from_folder(own)
    trainer = Trainer.resume(out, lambda settings: loop.make_data(settings, Tokenizer.found_in(out)))
    expected = [*tok.encode(TEXT * 2), 357]
    assert np.array_equal(np.concatenate([trainer.data.train, trainer.data.tail])[: len(expected)], expected)
    assert main(["train", "--resume", str(out)]) == 0
    with pytest.raises(ValueError, match="it was trained on other data"):
        Trainer.resume(out, loop.make_data)
    assert isinstance(trainer.settings, Settings)
    capsys.readouterr()


def test_training_from_scratch_with_a_tokenizer_has_a_vocabulary_of_its_size(own, capsys, tmp_path):
    text, out = tmp_path / "a.txt", tmp_path / "out"
    text.write_text(TEXT, encoding="utf-8")
    flags = ["--layers", "1", "--heads", "2", "--width", "8", "--context", "8", "--batch-size", "1", "--steps", "1"]
    assert main(["train", str(text), "--tokenizer", str(own), "--out", str(out), *flags]) == 0
    opened = open_checkpoint(out)
    assert opened.config.vocab_size == 360 and opened.tokenizer.encode("Paris is") == [359]
    capsys.readouterr()


# --- the command tokens --------------------------------------------------------------------------


def test_tokens_lists_ids_and_marks_bytes_that_are_no_character(capsys):
    said = out_of(capsys, "tokens", "naïve 🚀\u202e\x1b")
    lines = said.out.splitlines()
    assert lines[1:4] == ['       0   2616  "na"', '       1  38776  "ïve"', '       2  12520  " \\xf0\\x9f"']
    assert all(c.isprintable() for line in lines for c in line)
    assert "9 tokens" in said.err or " tokens, " in said.err


def test_tokens_as_json_holds_the_bytes_of_the_text(capsys):
    text = " 🚀 naïve\x00"
    found = json.loads(out_of(capsys, "tokens", text, "--json").out)
    assert bytes.fromhex("".join(row["bytes"] for row in found["tokens"])) == text.encode()
    assert [row["id"] for row in found["tokens"]] == Tokenizer().encode(text)
    assert found["counts"] == {"tokens": len(found["tokens"]), "characters": 9, "bytes": 13}


@pytest.mark.parametrize("flag", ["--model", "--tokenizer"])
def test_tokens_cuts_as_another_tokenizer_does(flag, own, capsys):
    found = json.loads(out_of(capsys, "tokens", f"The{END} Paris is", flag, own, "--special", "--json").out)
    assert [row["id"] for row in found["tokens"]] == Tokenizer.from_folder(own).encode(
        f"The{END} Paris is", special=True
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize("environment, colors", [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colors_are_for_terminals_that_want_them(environment, colors):
    import pty

    main_end, other = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"} | environment
    command = [sys.executable, "-m", "nanogpt_np", "tokens", "the \x1b[31m🚀"]
    with subprocess.Popen(command, stdout=other, stderr=subprocess.DEVNULL, env=env) as process:
        os.close(other)
        data = b""
        while True:
            try:
                part = os.read(main_end, 4096)
            except OSError:
                break
            if not part:
                break
            data += part
        assert process.wait(timeout=30) == 0
    os.close(main_end)
    assert (b"\x1b[30;46m" in data and b"\x1b[30;43m" in data) == colors
    assert b"\x1b[31m" not in data and (colors or b"\x1b" not in data)


# --- beside tokenizers and transformers ----------------------------------------------------------

OK = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) != "Cn"]
BITS = ["the", " Paris", "isn't", "WE'LL", "e\u0301", "👩‍🚀", "日本語", "\u202e", "'ll", "1234", " 5", "\x00", "²½"]


def random_texts(specials, count=2000):
    rng, texts = random.Random(18), []
    for _ in range(count):
        parts = []
        for _ in range(rng.randrange(1, 9)):
            parts.append(
                rng.choice(
                    [
                        lambda: "".join(rng.choices(OK, k=rng.randrange(1, 8))),
                        lambda: rng.choice(" \n\t\u3000\x85\x1c\u2003") * rng.randrange(1, 9),
                        lambda: rng.choice(specials),
                        lambda: rng.choice(BITS),
                        lambda: "".join(chr(rng.randrange(32, 127)) for _ in range(rng.randrange(1, 12))),
                        lambda: "".join(rng.choices(OK[:3000], k=5)),
                    ]
                )()
            )
        texts.append("".join(parts))
    return texts


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.reference
@pytest.mark.parametrize("shuffled", [False, True])
def test_a_tokenizer_that_tokenizers_trained_gives_its_ids_here(shuffled, tmp_path):
    hf = pytest.importorskip("tokenizers", reason="pip install -e '.[reference]'")
    level = hf.pre_tokenizers.ByteLevel
    theirs = hf.Tokenizer(hf.models.BPE())
    theirs.pre_tokenizer, theirs.decoder = level(add_prefix_space=False), hf.decoders.ByteLevel()
    source = "".join(map(chr, range(32, 2000))) + TEXT + Path(tokenizer_files.__file__).read_text(encoding="utf-8")
    trainer = hf.trainers.BpeTrainer(
        vocab_size=1000, special_tokens=[END, "<pad>"], initial_alphabet=level.alphabet(), show_progress=False
    )
    theirs.train_from_iterator([source], trainer)
    more = [hf.AddedToken("hello world", normalized=True), hf.AddedToken("[X]", lstrip=True, rstrip=True), "the cap"]
    theirs.add_tokens(more)
    whole = json.loads(theirs.to_str())
    if shuffled:
        ids = random.Random(1).sample(range(1000), 1000)
        whole["model"]["vocab"] = {text: ids[i] for text, i in whole["model"]["vocab"].items()}
        for token in whole["added_tokens"]:
            token["id"] = ids[token["id"]] if token["id"] < 1000 else token["id"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    theirs = hf.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    ours = Tokenizer.from_folder(tmp_path)
    assert theirs.get_vocab_size() == 1003 == ours.size
    for text in random_texts([END, "<pad>", "hello world", " [X] ", "the cap"]):
        for special in (True, False):
            theirs.encode_special_tokens = not special
            ids = theirs.encode(text).ids
            assert ours.encode(text, special=special) == ids
            assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)


@pytest.mark.reference
def test_auto_tokenizer_gives_our_ids_for_what_we_save(tmp_path, offline):
    transformers = pytest.importorskip("transformers", reason="pip install -e '.[reference]'")
    nanogpt_np.save(nanogpt_np.load("facts"), tmp_path)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), Tokenizer()
    assert (len(theirs), theirs.eos_token_id, theirs.model_max_length) == (50257, 50256, 128)
    for text in random_texts([END, "<|endoftext", "|>"]):
        assert theirs(text).input_ids == ours.encode(text, special=True)
        assert theirs(text, split_special_tokens=True).input_ids == ours.encode(text)
        assert theirs.decode(ours.encode(text)) == text


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prompt", ["The capital of France is", "The currency of Japan is the", "Berlin is"])
def test_the_pipeline_of_transformers_answers_as_our_command(prompt, tmp_path, offline, capsys):
    transformers = pytest.importorskip("transformers", reason="pip install -e '.[reference]'")
    nanogpt_np.save(nanogpt_np.load("facts"), tmp_path / "saved")
    answer = transformers.pipeline("text-generation", model=str(tmp_path / "saved"))
    (theirs,) = answer(prompt, do_sample=False, max_new_tokens=20)
    ours = json.loads(out_of(capsys, "generate", prompt, "--model", tmp_path / "saved", "--json").out)
    assert theirs["generated_text"] == prompt + ours["samples"][0]["text"]


@pytest.mark.reference
def test_auto_tokenizer_gives_our_ids_for_a_copied_tokenizer(own, tmp_path, offline):
    transformers = pytest.importorskip("transformers", reason="pip install -e '.[reference]'")
    nanogpt_np.save(nanogpt_np.load(own), tmp_path)
    theirs, ours = transformers.AutoTokenizer.from_pretrained(tmp_path), Tokenizer.from_folder(tmp_path)
    for text in random_texts(["[PAD]", "<sep>", "Paris is", END], 500):
        assert theirs(text).input_ids == ours.encode(text, special=True)
