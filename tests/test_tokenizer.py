"""The tokenizer against a slow byte-pair encoding written here from Radford et al. 2019 and OpenAI's encoder.py."""

import base64
import functools
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from importlib import metadata, resources

import numpy as np
import pytest
import regex
import tiktoken_ext.openai_public
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nanogpt_np.text import tokenizer
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
@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "caf\udce9", "\ud83d\ude00", "x" * 20_000 + "\udcff"])
def test_halves_of_surrogate_pairs_are_refused_as_on_the_command_line(text, special):
    # Python strings can hold them (from JSON, or undecodable command lines); UTF-8 cannot.
    with pytest.raises(ValueError, match=r"the text is not valid Unicode: .* surrogates not allowed"):
        TOKENIZER.encode(text, special=special)


@pytest.mark.parametrize("text", [5, None, b"bytes", ["a", "b"], np.array(["a"]), ["a"] * 10**6])
def test_what_is_not_text_is_refused_by_its_type_in_one_short_line(text):
    with pytest.raises(ValueError, match=rf"^expected text \(a str\), not {type(text).__name__} .{{1,60}}$"):
        TOKENIZER.encode(text)


NO_IDS = [
    (5, "expected a list of token ids, not 5; for one token write [i]"),
    (None, "expected a list of token ids, not None;"),
    (np.array(5), "expected a list of token ids, not array(5);"),
    ("The", "expected token ids, not text: 'The'; encode returns ids"),
    (b"The", "expected token ids, not text: b'The';"),
    (["a"], "a token id is a whole number, not str 'a'"),
    (["5"], "a token id is a whole number, not str '5'"),
    ([1.5], "a token id is a whole number, not float 1.5"),
    ([464.0], "a token id is a whole number, not float 464.0"),
    (np.array([464.0]), "a token id is a whole number, not float64 np.float64(464.0)"),
    ([None], "a token id is a whole number, not NoneType None"),
    ([True], "a token id is a whole number, not bool True"),
    (np.array([True]), "a token id is a whole number, not bool"),
    ([[1], [2, 3]], "a token id is a whole number, not list [1]: decode one row at a time"),
    (
        np.array([[464, 3139]]),
        "a token id is a whole number, not ndarray array([ 464, 3139]): decode one row at a time",
    ),
    (np.zeros((1, 2, 2), int), "not ndarray array([[0, 0], [0, 0]]): decode one row at a time"),
    ([[1] * 10**6], ": decode one row at a time"),
    ([10**5000], "a token id is a whole number of 64 bits; this one has more"),
]


@pytest.mark.parametrize(("ids", "message"), NO_IDS, ids=[message for _, message in NO_IDS])
def test_what_is_not_a_row_of_whole_numbers_is_refused_in_one_short_line(ids, message):
    for decode in (TOKENIZER.decode, lambda ids: list(TOKENIZER.decode_stream(ids))):
        with pytest.raises(ValueError) as caught:
            decode(ids)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


@pytest.mark.parametrize("i", ["x", "5", 1.5, 464.0, None, True, [464], np.array([464]), b"a"])
def test_what_is_not_a_whole_number_is_no_token(i):
    with pytest.raises(ValueError, match="a token id is a whole number, not "):
        TOKENIZER.token(i)


def test_an_error_of_the_iterable_itself_is_not_hidden():
    def broken():
        yield 464
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        TOKENIZER.decode(broken())


@pytest.mark.parametrize("i", [np.int64(464), np.uint16(464), np.array(464), 464])
def test_a_token_may_be_a_whole_number_of_any_kind(i):
    assert TOKENIZER.token(i) == b"The"


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


# --- long texts ----------------------------------------------------------------------------------

WHITE_SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000"  # ends of WHITE's ranges among them
gaps = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "b c", "'ll", "9", "!", "\x1c", "\u200b", "é", "😀"]),
        st.text(st.sampled_from(WHITE_SPACE), max_size=3),
        st.sampled_from(["", " ", "\n", "\u3000", "\t "]),
        st.integers(0, 14),
    ),
    max_size=6,
).map(lambda parts: "".join(word + white + unit * n for word, white, unit, n in parts))


@checked
@given(text=gaps)
@example("a     b")
@example("     ")
@example("a\n\n\n\n\n\n 'll")
@example("\x1c" * 9)  # Python's \s, but not that of the pattern
def test_splitting_long_gaps_off_changes_no_id(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "LONG_GAP", 5)
        patch.setattr(tokenizer, "GAP", re.compile(tokenizer.GAP.pattern.replace("{9999,}", "{4,}")))
        parts = list(tokenizer.stretches(text))
        assert "".join(parts) == text
        assert TOKENIZER.encode(text) == TOKENIZER.encoding.encode_ordinary(text)


def test_white_space_is_what_the_pattern_takes_for_it():
    words = [c for c in map(chr, range(0x110000)) if not 0xD800 <= ord(c) < 0xE000]
    ours = {c for c in words if re.fullmatch(f"[{tokenizer.WHITE}]", c)}
    assert ours == set(regex.findall(r"\p{White_Space}", "".join(words))) and len(ours) == 25


@pytest.mark.parametrize("unit", [" ", "\n", " \n", "\u3000", "\r\n", "\t"])
@pytest.mark.parametrize("length", [9_999, 10_000, 10_001])
def test_a_long_gap_has_the_ids_that_tiktoken_gives_it(unit, length):
    gap = (unit * length)[:length]
    for text in (gap, "a" + gap, gap + "b", f"a{gap}b{gap}", f"'{gap}'ll{gap}\x1c{gap}9", f"{gap}<|endoftext|>{gap}"):
        assert TOKENIZER.encode(text) == TOKENIZER.encoding.encode_ordinary(text)
        assert TOKENIZER.encode(text, special=True) == TOKENIZER.encoding.encode(text, allowed_special="all")


@pytest.mark.parametrize("special", [True, False])
def test_gaps_at_which_tiktokens_pattern_gives_up_are_text(special):
    gap = " " * 1_100_000  # tiktoken panics from 999,999 on
    ids = TOKENIZER.encode(f"a{gap}b", special=special)
    assert TOKENIZER.decode(ids) == f"a{gap}b"
    assert ids == [64, *TOKENIZER.encode(gap[:-1]), *TOKENIZER.encode(" b")]


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        " ",
        "\n",
        "!",
        "7",
        "😀",
        "e\u0301",
        "x ",
        "ab",
        "<|endoftext|>",
        "\u3000",
        "\x00",
        "日本",
        "'ll",
        " \n",
        "\x1c",
    ],
)
@pytest.mark.parametrize("special", [True, False])
def test_decoding_gives_back_long_repeats(unit, special):
    text = unit * (30_000 // len(unit)) + "x"
    assert TOKENIZER.decode(TOKENIZER.encode(text, special=special)) == text


REPEATS = {  # name: (what is repeated, characters of the shorter text, what comes after it)
    "letters": ("a", 25_000, "x"),
    "letters of many merges": ("the", 25_000, ""),
    "words": ("word ", 25_000, ""),
    "digits": ("7", 25_000, ""),
    "punctuation": ("!?", 25_000, ""),
    "apostrophes": ("'", 25_000, ""),
    "contractions": ("'ll", 25_000, ""),
    "NULs": ("\x00", 25_000, ""),
    "emoji": ("😀", 25_000, ""),
    "joined emoji": ("👩‍🚀", 25_000, ""),
    "combining marks": ("e\u0301\u0323", 25_000, ""),
    "marks only": ("\u0301", 25_000, ""),
    "Chinese": ("日本語", 25_000, ""),
    "Arabic": ("ا", 25_000, ""),
    "special tokens": ("<|endoftext|>", 25_000, ""),
    "almost special tokens": ("<|endoftext|", 25_000, ""),
    "separators": ("\x1c", 25_000, "x"),
    "one gap": (" ", 75_000, "x"),
    "one gap at the end": (" ", 75_000, ""),
    "one gap of line ends": ("\n", 25_000, "x"),
    "one gap of both": (" \n", 25_000, "x"),
    "one wide gap": ("\u3000", 25_000, "x"),
    "gaps of 10,000": (" " * 10_000 + "a", 75_000, ""),
    "gaps of 9,999": (" " * 9_999 + "a", 75_000, ""),
    "gaps of 300": ("\n" * 300 + ".", 25_000, ""),
    "gaps of 2": ("  a", 25_000, ""),
}
TIMES = """
import json, sys, time
from nanogpt_np.text.tokenizer import Tokenizer
tokenizer = Tokenizer()
unit, length, after = json.loads(sys.stdin.read())

def seconds(n, special):
    text = unit * (n // len(unit)) + after
    start = time.process_time()
    ids = tokenizer.encode(text, special=special)
    taken = time.process_time() - start
    assert n > length or tokenizer.decode(ids) == text
    return taken

def best(special, n, tries):
    return min(seconds(n, special) for _ in range(tries))

print(json.dumps([(best(special, length, 4), best(special, 16 * length, 2)) for special in (False, True)]))
"""


# A text of these is one long word, or few. Measured at 40,000 emoji: 6.7 s in tiktoken 0.8 and 0.12, 0.013 s in 0.13.
OLD = tuple(map(int, metadata.version("tiktoken").split(".")[:2])) < (0, 13)
SHORT_WORDS = {"words", "contractions", "special tokens", "almost special tokens"}
SHORT_WORDS |= {label for label in REPEATS if label.startswith("gaps of")}


@pytest.mark.parametrize("label", REPEATS)
def test_time_grows_with_the_length_of_a_text_and_not_with_its_square(label):
    if OLD and label not in SHORT_WORDS:
        pytest.skip("tiktoken before 0.13 merges one long word in quadratic time")
    out = subprocess.run(
        [sys.executable, "-c", TIMES],
        input=json.dumps(REPEATS[label]),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    for short, long in json.loads(out.stdout):  # <|endoftext|> read as text, and as the token
        # Linear is 16, quadratic is 256. Measured: 15 to 20, but up to 46 for one long word: merging it takes
        # n log(n) steps, in memory that soon fits in no cache.
        assert long < 100 * short, f"{short:.4f} s and {long:.4f} s"
