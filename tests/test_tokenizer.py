"""The tokenizer against a slow byte-pair encoding written here from Radford et al. 2019 and OpenAI's encoder.py."""

import base64
import functools
import hashlib
import itertools
import os
import subprocess
import sys
import time
from importlib import metadata, resources

import numpy as np
import pytest
import regex
import tiktoken_ext.openai_public
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nanogpt_np.text.tokenizer import END_OF_TEXT, END_OF_TEXT_ID, SPLIT, Tokenizer

checked = settings(derandomize=True, deadline=None, max_examples=300)
TOKENIZER = Tokenizer()
FILE = resources.files("nanogpt_np.text").joinpath("r50k_base.tiktoken")


@functools.cache
def ranks():
    """Return {bytes of a token: its id} as the file has them."""
    lines = FILE.read_text(encoding="ascii").splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in (line.split(" ") for line in lines)}


# As OpenAI's gpt-2/src/encoder.py has it, character for character.
ORIGINAL_SPLIT = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
# Python's \s also takes the separators U+001C to U+001F, which Unicode does not call white space.
ORIGINAL_SPLIT = ORIGINAL_SPLIT.replace(r"[^\s\p", r"[^\p{White_Space}\p").replace(r"\s", r"\p{White_Space}")
ORIGINAL_SPLIT = ORIGINAL_SPLIT.replace(r"\S", r"\P{White_Space}")


def slow_encode(text):
    """Cut into words; then merge, in each, the adjacent pair of lowest rank until no pair is a token."""
    ids = []
    for word in regex.findall(ORIGINAL_SPLIT, text):
        parts = [bytes([b]) for b in word.encode()]
        while True:
            pairs = [(ranks()[a + b], i) for i, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in ranks()]
            if not pairs:
                break
            _, i = min(pairs)
            parts[i : i + 2] = [parts[i] + parts[i + 1]]
        ids += [ranks()[part] for part in parts]
    return ids


# Characters that decide where words are cut, and some whose bytes are split between tokens.
TRICKY = (
    "'sStTdDmMlLrReEvV  \n\r\t\x0b\x1c\x85\xa0\u2003\u200b\u3000_-.,!?123½²٣"
    "éßжあ語한ا\u0301\u200d\ufe0f😀👩🚀\U0010ffff\x00"
)
tricky = st.text(st.sampled_from(TRICKY), max_size=40)
# Unassigned characters may be letters for one library and not yet for the other.
assigned = st.text(st.characters(exclude_categories=("Cs", "Cn")), max_size=40)
words = st.lists(
    st.sampled_from(["the", " The", "  Paris", "isn't", "WE'LL", " 2024", "\n\n", " naïve", "def f(x):\n    return x"])
).map("".join)
texts = tricky | assigned | words | st.text()
PARTS_OF_CHARACTERS = [
    "👩‍🚀 👨‍👩‍👧‍👦",
    "日本語とか",
    "e\u0301 n\u0303 o\u0308\u0323",
    "🇫🇷",
    "한국어",
    "\u202eabc\u202c",
    "𝔘𝔫𝔦",
]


@checked
@given(text=texts)
@example("".join(map(chr, range(0x3000))))
def test_decoding_gives_back_any_text(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@checked
@given(text=tricky | assigned | words)
@example("The capital of France is")
@example(" \n  x'll  'S\u2003\u2003y ")
@example("a" * 200)
def test_ids_are_those_of_a_slow_bpe(text):
    assert TOKENIZER.encode(text) == slow_encode(text)


@pytest.mark.parametrize("text", PARTS_OF_CHARACTERS)
def test_ids_of_scripts_and_emoji_are_those_of_a_slow_bpe(text):
    assert TOKENIZER.encode(text) == slow_encode(text)


def test_the_prompt_of_every_example_has_the_published_ids():
    assert TOKENIZER.encode("The capital of France is") == [464, 3139, 286, 4881, 318]
    assert TOKENIZER.decode([464, 3139, 286, 4881, 318]) == "The capital of France is"
    assert TOKENIZER.encode("") == []
    assert TOKENIZER.decode([]) == ""


def test_the_table_is_the_published_file():
    digest = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == digest


def test_there_are_50257_tokens_and_each_has_the_bytes_of_the_table():
    assert TOKENIZER.encoding.n_vocab == 50257
    assert sorted(ranks().values()) == list(range(50256))
    for token, i in ranks().items():
        assert TOKENIZER.token(i) == token
    assert TOKENIZER.token(50256) == b"<|endoftext|>"


def test_every_byte_is_a_token_so_that_nothing_is_unknown():
    assert {bytes([b]) for b in range(256)} <= set(ranks())


@pytest.mark.skipif(
    not hasattr(tiktoken_ext.openai_public, "r50k_pat_str"), reason="this tiktoken does not name its pattern"
)
def test_the_split_pattern_is_that_of_tiktoken():
    assert tiktoken_ext.openai_public.r50k_pat_str == SPLIT


# --- what is not plain text ----------------------------------------------------------------------


def test_end_of_text_is_text_unless_special():
    text = f"a{END_OF_TEXT}b"
    assert END_OF_TEXT_ID not in TOKENIZER.encode(text)
    assert TOKENIZER.encode(text) == slow_encode(text)
    assert len(TOKENIZER.encode(END_OF_TEXT)) == 7
    assert TOKENIZER.encode(text, special=True) == [64, 50256, 65]
    assert TOKENIZER.encode(END_OF_TEXT, special=True) == [50256]
    assert TOKENIZER.decode([64, 50256, 65]) == text


@checked
@given(parts=st.lists(words | tricky, min_size=1, max_size=4))
def test_special_cuts_the_text_at_end_of_text_and_changes_nothing_else(parts):
    expected = functools.reduce(lambda a, b: [*a, 50256, *b], map(TOKENIZER.encode, parts))
    assert TOKENIZER.encode(END_OF_TEXT.join(parts), special=True) == expected


@pytest.mark.parametrize("special", [True, False])
def test_a_lone_surrogate_is_read_as_the_replacement_character_and_a_pair_as_its_character(special):
    # Python strings can hold halves of UTF-16 pairs (from JSON, or undecodable command lines); UTF-8 cannot.
    for lone in ("\ud800", "\udfff", "\udcff"):
        ids = TOKENIZER.encode(f"a{lone}b", special=special)
        assert TOKENIZER.decode(ids) == "a\ufffdb"
    assert TOKENIZER.encode("\ud83d\ude00", special=special) == TOKENIZER.encode("😀")


def test_ids_beyond_the_vocabulary_are_shown_by_number():
    assert TOKENIZER.token(50257) == b"<|50257|>"
    assert TOKENIZER.token(-1) == b"<|-1|>"
    assert TOKENIZER.decode([464, 50300, 3139]) == "The<|50300|> capital"


@pytest.mark.parametrize("kind", [np.array, lambda ids: np.array(ids, np.uint16), tuple, iter])
def test_ids_may_come_in_any_iterable(kind):
    assert TOKENIZER.decode(kind([464, 3139])) == "The capital"


# --- streaming -----------------------------------------------------------------------------------

any_ids = st.lists(st.integers(0, 50300) | st.integers(0, 255) | st.just(END_OF_TEXT_ID), max_size=30)


@checked
@given(ids=any_ids)
def test_a_stream_of_any_ids_adds_up_to_their_bytes_with_bad_ones_replaced(ids):
    pieces = list(TOKENIZER.decode_stream(ids))
    raw = b"".join(TOKENIZER.token(i) for i in ids)
    assert "".join(pieces) == raw.decode("utf-8", errors="replace")
    assert TOKENIZER.decode(ids) == "".join(pieces)
    assert len(pieces) == len(ids) + 1  # one for each id, and what is left


def assert_streams_whole_characters_as_soon_as_they_are_there(text):
    ids = TOKENIZER.encode(text)
    so_far, raw = "", b""
    for i, piece in zip(ids, TOKENIZER.decode_stream(ids), strict=False):
        so_far += piece
        raw += TOKENIZER.token(i)
        assert so_far == raw.decode("utf-8", errors="ignore")  # all that is whole, and nothing else
    assert so_far == text


@checked
@given(text=texts)
def test_a_stream_gives_each_character_when_it_is_whole_and_never_a_part(text):
    assert_streams_whole_characters_as_soon_as_they_are_there(text)


@pytest.mark.parametrize("text", PARTS_OF_CHARACTERS)
def test_a_stream_of_emoji_scripts_and_joined_characters_holds_parts_back(text):
    raw = [TOKENIZER.token(i) for i in TOKENIZER.encode(text)]
    assert any(bytes_of_one.decode(errors="ignore").encode() != bytes_of_one for bytes_of_one in raw), (
        "no token is a part"
    )
    assert_streams_whole_characters_as_soon_as_they_are_there(text)


def test_a_stream_gives_text_before_the_next_id_is_asked_for():
    asked = []

    def ids():
        for i in (464, 3139):
            asked.append(i)
            yield i

    stream = TOKENIZER.decode_stream(ids())
    assert next(stream) == "The"
    assert asked == [464]


@pytest.mark.parametrize(
    ("raw", "pieces"),
    [
        (b"\xf0\x9f", ["", "", "\ufffd"]),  # ends inside a character: told at the end
        (b"\xf0a", ["", "\ufffda", ""]),  # no character can begin so: told at once
        (b"\xffb", ["\ufffd", "b", ""]),
        (b"\xe3\x81\x82", ["", "", "あ", ""]),
    ],
)
def test_bytes_that_are_no_character_show_as_one_replacement_each(raw, pieces):
    assert list(TOKENIZER.decode_stream(ranks()[bytes([b])] for b in raw)) == pieces


# --- the machine around it -----------------------------------------------------------------------

OFFLINE = """
import sys

def refuse(event, args):
    if event.startswith("socket."):
        raise RuntimeError("the tokenizer wanted the network")

sys.addaudithook(refuse)
import nanogpt_np
tokenizer = nanogpt_np.Tokenizer()
print(tokenizer.encode("The capital of France is"), tokenizer.encode("<|endoftext|>", special=True))
try:
    import tiktoken
    tiktoken.get_encoding("gpt2")
except Exception as error:
    print("tiktoken by itself:", repr(error))
"""


def test_the_tokenizer_needs_no_network_and_writes_no_cache(tmp_path):
    folders = {name: str(tmp_path) for name in ("HOME", "TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME", "USERPROFILE")}
    unset = ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")
    env = {k: v for k, v in os.environ.items() if k not in unset} | folders
    offline = OFFLINE.partition("try:")[0]
    out = subprocess.run(
        [sys.executable, "-c", offline], env=env, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert out.stdout == "[464, 3139, 286, 4881, 318] [50256]\n"
    assert list(tmp_path.iterdir()) == []
    # The refusal works: tiktoken's own encoding runs into it.
    out = subprocess.run(
        [sys.executable, "-c", OFFLINE], env=env, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert "tiktoken by itself: RuntimeError('the tokenizer wanted the network')" in out.stdout


# Before 0.13 tiktoken merges a word in time quadratic in its length: 100,000 emoji took a minute.
TIKTOKEN = tuple(map(int, metadata.version("tiktoken").split(".")[:2]))
LONG = 100_000 if TIKTOKEN >= (0, 13) else 10_000  # characters


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize(
    "unit", ["a", " ", "\n", "!", "7", "😀", "e\u0301", "x ", "ab", "\ud800", "<|endoftext|>", "\u3000", "\x00"]
)
def test_long_inputs_take_no_more_than_seconds(unit, special):
    text = unit * (LONG // len(unit)) + "x"
    start = time.perf_counter()
    ids = TOKENIZER.encode(text, special=special)
    assert TOKENIZER.decode(ids) == text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert time.perf_counter() - start < 10  # measured: 0.4 s


def test_more_spaces_than_tiktoken_can_take_are_refused_and_one_less_is_text():
    for special in (False, True):
        with pytest.raises(ValueError, match="999,999 or more white-space characters"):
            TOKENIZER.encode(" " * 999_999 + "x", special=special)
    text = " " * 999_998 + "x"
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text
