"""Scoring: log probabilities against float64, transformers and published numbers; windows, bytes, the command."""

import functools
import io
import json
import math
import os
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import SIZES, random_model, scripted_model
from hypothesis import given, settings
from hypothesis import strategies as st

import nanogpt_np
from nanogpt_np.__main__ import main
from nanogpt_np.commands import score as command
from nanogpt_np.generate import generate, scoring
from nanogpt_np.generate.scoring import Score, log_probabilities, score, windows
from nanogpt_np.model.lm_head import LMHead
from nanogpt_np.train.loss import cross_entropy, mean_loss
from nanogpt_np.weights import places

P, V = SIZES["n_positions"], SIZES["vocab_size"]  # 23, 97
IDS = np.random.default_rng(5).integers(0, V, 60)
TEXTS = {
    "prose": "The capital of France is Paris. It lies on the Seine, and over two million people live there.\n" * 3,
    "code": "def f(x):\n    return {k: v ** 2 for k, v in x.items()}  # \t\n\n\nprint(f({'a': 1.5e-3}))\r\n" * 2,
    "many scripts": "Ünïcode: 東京は日本の首都です。 Москва 🙂👩‍👩‍👧‍👦 ¿Qué?  naïve—“quotes”… العربية " * 2,
}


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture(scope="module")
def tokenizer():
    return nanogpt_np.Tokenizer()


def of_ids(model, ids, stride):
    """Return the log probabilities from one pass per token in float64, by the rule that says what a token may see."""
    found = [math.nan]
    for t in range(1, len(ids)):
        begin = max(0, math.ceil((t + 1 - P) / stride)) * stride  # of the first window that reaches token t
        if begin == t:
            found.append(math.nan)
            continue
        row = model(ids[begin:t])[-1].astype(np.longdouble)
        found.append(float(row[ids[t]] - row.max() - np.log(np.exp(row - row.max()).sum())))
    return np.array(found)


# --- log probabilities ---------------------------------------------------------------------------


@pytest.mark.parametrize("T", [2, 22, 23, 24, 46, 47, 60])
@pytest.mark.parametrize("stride", [1, 7, 11, 22, 23])
def test_every_log_probability_is_that_of_a_pass_of_its_own(T, stride):
    double = random_model(dtype=np.float64)
    result = score(double, IDS[:T], stride=stride)
    expected = of_ids(double, IDS[:T], stride)
    np.testing.assert_allclose(result.log_probs, expected, rtol=1e-9, atol=1e-12)
    assert result.loss == pytest.approx(-np.nanmean(expected), rel=1e-12)
    assert result.count == np.isfinite(expected).sum()


@pytest.mark.parametrize("rows", [0.5, 1, 5, 10, 11])  # at a time, of the 10 to 22 that a window scores
def test_logits_made_a_few_rows_at_a_time_give_the_same(monkeypatch, rows):
    double = random_model(dtype=np.float64)
    monkeypatch.setattr(scoring, "AT_ONCE", int(rows * V))
    result, expected = score(double, IDS), of_ids(double, IDS, 11)
    np.testing.assert_allclose(result.log_probs, expected, rtol=1e-9, atol=1e-12)
    logits = double(IDS[:P])
    assert result.ranks[1:P].tolist() == [1 + (row > row[i]).sum() for row, i in zip(logits, IDS[1:P], strict=False)]
    bad = random_model(tie_word_embeddings=False)
    bad.params["wte.weight"][7], ids = np.nan, np.where(IDS == 7, 8, IDS)
    ids[39] = 7
    with pytest.raises(ValueError, match="logits for token 34 hold"):  # the first that its window scores
        score(bad, ids)


@pytest.mark.parametrize("stride", [1, 11, 23])
def test_in_float32_the_loss_is_within_a_hundred_thousandth_of_a_nat(model, stride):
    result, expected = score(model, IDS, stride=stride), of_ids(random_model(dtype=np.float64), IDS, stride)
    assert abs(result.loss + np.nanmean(expected)) < 1e-5  # measured: 5e-7
    np.testing.assert_allclose(result.log_probs, expected, rtol=0, atol=1e-4)  # measured: 5e-6


def test_the_mean_is_over_tokens_not_over_windows(model):
    result = score(model, IDS[:50], stride=23)  # windows of 23, 23 and 4 tokens score 22, 22 and 3
    means = [np.nanmean(result.log_probs[window]) for window in (slice(0, 23), slice(23, 46), slice(46, 50))]
    assert result.count == 47
    assert result.loss == pytest.approx(-(22 * means[0] + 22 * means[1] + 3 * means[2]) / 47, rel=1e-12)
    assert abs(result.loss + np.mean(means)) > 1e-2  # the mean of the windows' means differs


@pytest.mark.parametrize("T", [2, 9, 23])
def test_loss_sum_perplexity_and_training_loss_are_one_number(model, T):
    result = score(model, IDS[:T])
    assert result.total == pytest.approx(-result.loss * result.count, rel=1e-12)
    assert result.total == pytest.approx(np.nansum(result.log_probs), rel=1e-12)
    assert math.log(result.perplexity) == pytest.approx(result.loss, rel=1e-12)
    assert result.loss == pytest.approx(mean_loss(model, IDS[: T - 1], IDS[1:T]), abs=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_minus_their_sum_is_the_cross_entropy_that_training_uses(dtype):
    rng = np.random.default_rng(0)
    logits, ids = rng.normal(-100, 5, (9, V)).astype(dtype), rng.integers(0, V, 9)
    assert -log_probabilities(logits, ids).sum() == pytest.approx(cross_entropy(logits, ids)[0], rel=1e-6)


@pytest.mark.parametrize("prompt", [[3], IDS[:9].tolist(), IDS[:22].tolist()])
def test_the_probabilities_of_all_next_tokens_sum_to_one(model, prompt):
    each = [score(model, [*prompt, v]).log_probs[-1] for v in range(V)]
    assert max(each) < 0
    assert sum(map(math.exp, each)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("stride", [1, 7, 23])
def test_a_longer_text_scores_its_beginning_alike_and_is_never_likelier(model, stride):
    whole, totals = score(model, IDS, stride=stride).log_probs, []
    for T in (2, 11, 23, 40, 60):
        part = score(model, IDS[:T], stride=stride)
        np.testing.assert_allclose(part.log_probs, whole[:T], rtol=0, atol=1e-4)
        totals.append(part.total)
    assert totals == sorted(totals, reverse=True)


@pytest.mark.parametrize("prompt", [[3, 1, 4], [5], IDS[:12].tolist()])
def test_greedy_text_is_of_rank_one_throughout_and_another_token_is_not(model, prompt):
    new = list(generate(model, prompt, P - len(prompt), stop=()))
    result = score(model, [*prompt, *new])
    assert result.ranks[len(prompt) :].tolist() == [1] * len(new)
    other = score(model, [*prompt, *new[:-1], (new[-1] + 1) % V])
    assert other.ranks[-1] > 1
    assert other.log_probs[-1] < result.log_probs[-1]


def test_ranks_are_those_of_the_sorted_logits_and_ties_go_to_the_lower_id(model):
    result, logits = score(model, IDS[:P]), model(IDS[:P])
    for t in range(1, P):
        assert result.ranks[t] == 1 + np.argsort(-logits[t - 1], kind="stable").tolist().index(IDS[t])
    tied = scripted_model([7, 8, 9, 10])  # at position 0: 7 is above 0, 8 to 10 are equal and below, all others are 0
    ranks = {i: score(tied, [0, i]).ranks[1] for i in (7, 0, 6, 11, 50256, 8, 9, 10)}
    assert ranks == {7: 1, 0: 2, 6: 8, 11: 9, 50256: 50254, 8: 50255, 9: 50256, 10: 50257}


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([3e38, -3e38], [0, -6e38]),  # their difference is more than a float32 holds
        ([-3e38, -3e38], [-math.log(2)] * 2),
        ([-1000, 0], [-1000, 0]),
        ([88, 88], [-math.log(2)] * 2),
        ([0, -104], [0, -104]),  # e^-104 is 0 in float32
    ],
)
def test_logits_at_the_ends_of_float32_have_finite_log_probabilities(logits, expected):
    both = np.array([logits, logits], np.float32)
    np.testing.assert_allclose(log_probabilities(both, np.array([0, 1])), expected, rtol=1e-6)


def test_a_perplexity_too_large_for_a_float_is_inf():
    result = Score(np.array([1, 2]), np.array([np.nan, -6e38]), np.array([0, 2]), 1, 3)
    assert result.perplexity == math.inf and result.loss == 6e38 and "inf" in repr(result)


# --- windows -------------------------------------------------------------------------------------


@given(T=st.integers(2, 90), n_positions=st.integers(2, 30), data=st.data())
def test_windows_fit_the_context_and_score_each_token_once_with_the_context_promised(T, n_positions, data):
    stride = data.draw(st.integers(1, n_positions))
    seen, ends = [], []
    for k, (begin, first, end) in enumerate(windows(T, n_positions, stride)):
        assert begin == k * stride and begin < first <= end <= T and end - begin <= n_positions
        assert k == 0 or first == max(ends[-1], begin + 1)
        assert k == 0 or first - begin >= n_positions - stride  # what the first of its tokens is predicted from
        seen += range(first, end)
        ends.append(end)
    assert ends[-1] == T and ends == sorted(set(ends))
    missing = set(range(T)) - set(seen)
    assert len(seen) == len(set(seen))
    assert missing == (set(range(0, T, stride)) if stride == n_positions else {0})


@pytest.mark.parametrize("T", [2, 12, 23])
def test_the_stride_changes_nothing_for_a_text_that_fits(model, T):
    results = [score(model, IDS[:T], stride=stride).log_probs for stride in (None, 1, 5, 23)]
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize(("n_positions", "half"), [(23, 11), (2, 1), (3, 1)])
def test_the_usual_stride_is_half_the_context(n_positions, half):
    assert score(random_model(n_positions=n_positions), IDS[:5]).stride == half


@settings(max_examples=25, deadline=None)
@given(T=st.integers(2, 70), stride=st.integers(1, 23))
def test_each_scored_token_goes_through_the_lm_head_once(T, stride):
    rows = []

    class Counted(LMHead):
        def __call__(self, x):
            rows.append(len(x))
            return super().__call__(x)

    model = random_model()
    model = replace(model, lm_head=Counted(model.lm_head.weight))
    assert score(model, (IDS[:1].tolist() + IDS.tolist() * 2)[:T], stride=stride).count == sum(rows)


def peak(model, T):
    ids = np.random.default_rng(0).integers(0, 50257, T)
    score(model, ids[:9])
    tracemalloc.start()
    try:
        score(model, ids)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_neither_with_the_text_nor_to_the_logits_of_a_window():
    small = {"n_embd": 8, "n_head": 2, "n_layer": 1, "n_inner": 8}
    model = random_model(vocab_size=50257, n_positions=1024, **small)
    short, long = peak(model, 1024), peak(model, 3072)
    assert long < 1.3 * short
    assert short < 0.25 * 1024 * 50257 * 4  # measured: 0.16 of the 206 MB of a window's logits


@pytest.mark.parametrize(("T", "stride"), [(2, None), (23, 5), (60, 11), (60, 23)])
def test_report_is_called_after_every_window_with_what_is_done(model, T, stride):
    calls = []
    score(model, IDS[:T], stride=stride, report=lambda *done: calls.append(done))
    assert calls == [(end, T) for _, _, end in windows(T, P, stride or 11)]
    assert calls[-1] == (T, T)


# --- text, bytes, <|endoftext|> ------------------------------------------------------------------


@pytest.fixture(scope="module")
def reader():
    """A small random model with GPT-2's vocabulary."""
    return random_model(vocab_size=50257, n_positions=32)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_bytes_are_those_of_the_text_but_for_the_first_token(reader, tokenizer, text):
    first = len(tokenizer.token(tokenizer.encode(text)[0]))
    plain, with_bos = score(reader, text), score(reader, text, bos=True)
    assert plain.nbytes == len(text.encode()) - first
    assert with_bos.nbytes == len(text.encode())
    assert plain.count == with_bos.count - 1 == len(plain.ids) - 1
    for result in (plain, with_bos):
        assert result.bits_per_byte == pytest.approx(result.count * result.loss / math.log(2) / result.nbytes)


def test_bytes_of_tokens_without_a_log_probability_do_not_count(reader, tokenizer):
    text = TEXTS["many scripts"]
    result = score(reader, text, stride=32)
    left_out = result.ids[::32]
    assert len(left_out) > 2
    assert result.nbytes == len(text.encode()) - sum(len(tokenizer.token(int(i))) for i in left_out)


@pytest.mark.parametrize("text", ["Hello", " world and more", "🙂"])
def test_with_bos_the_first_token_is_scored_after_endoftext(reader, tokenizer, text):
    ids = tokenizer.encode(text)
    result = score(reader, text, bos=True)
    np.testing.assert_array_equal(result.ids, [50256, *ids])
    np.testing.assert_array_equal(result.log_probs, score(reader, [50256, *ids]).log_probs)
    np.testing.assert_array_equal(result.log_probs, score(reader, ids, bos=True).log_probs)


def test_endoftext_in_a_text_is_text_unless_special(reader):
    text = "One.<|endoftext|>Two."
    assert 50256 not in score(reader, text).ids
    special = score(reader, text, special=True)
    assert special.ids.tolist().count(50256) == 1
    assert special.nbytes == len("..<|endoftext|>Two.") - 1  # as it is written in the text; "One" is the first token


def test_ids_have_bits_per_byte_only_with_a_tokenizer(reader, tokenizer):
    text = TEXTS["prose"]
    ids = tokenizer.encode(text)
    bare = score(reader, ids)
    assert bare.nbytes is bare.bits_per_byte is None and "byte" not in repr(bare)
    assert score(reader, ids, tokenizer=tokenizer).bits_per_byte == score(reader, text).bits_per_byte


def test_text_is_cut_by_the_tokenizer_that_is_given(reader):
    class Letters:
        def encode(self, text, *, special=False):
            return [ord(c) for c in text]

        def token(self, i):
            return chr(i).encode()

    result = score(reader, "aéz", tokenizer=Letters())
    assert result.ids.tolist() == [97, 233, 122] and result.nbytes == 3


def test_the_package_has_score_and_its_repr_is_one_short_line(reader):
    assert nanogpt_np.score is score
    for text in TEXTS.values():
        shown = repr(nanogpt_np.score(reader, text))
        assert shown.startswith("<Score: ") and "\n" not in shown and len(shown) < 160


def test_the_least_expected_tokens_come_in_order_of_log_probability(reader, tokenizer):
    result = score(reader, TEXTS["code"], stride=32)
    for k in (1, 5, result.count, 10**6):
        found = result.least_expected(k)
        assert len(found) == min(k, result.count)
        assert found == sorted(found, key=lambda t: (result.log_probs[t], t))
        assert [row["position"] for row in result.rows(tokenizer, found)] == found
    assert np.nanmin(result.log_probs) == result.log_probs[result.least_expected(1)[0]]


# --- odd input -----------------------------------------------------------------------------------

ODD = {
    "empty text": ((""), {}, "empty"),
    "one token": ("Hello", {}, "one token.*bos"),
    "no ids": ([], {}, "no token ids"),
    "one id": ([5], {}, "one token"),
    "two texts": ([[1, 2], [3, 4]], {}, r"one text at a time.*\(2, 2\)"),
    "id too large": ([1, 50257], {}, "50257 is out of range"),
    "id too large, in the last window": ([1] * 100 + [50257], {}, "50257 is out of range"),
    "negative id": ([1, 2, -1], {}, "-1 is out of range"),
    "not integers": ([1.5, 2.5], {}, "integers"),
    "None": (None, {}, "None"),
    "stride 0": ("Hello you", {"stride": 0}, "stride must be from 1 to 32"),
    "negative stride": ("Hello you", {"stride": -5}, "stride must be from 1 to 32"),
    "stride above the context": ("Hello you", {"stride": 33}, "stride must be from 1 to 32.* 33"),
}


@pytest.mark.parametrize(("text", "options", "words"), ODD.values(), ids=ODD)
def test_odd_input_gets_one_line(reader, text, options, words):
    with pytest.raises(ValueError, match=words) as caught:
        score(reader, text, **options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_a_vocabulary_without_endoftext_refuses_bos(model):
    with pytest.raises(ValueError, match="50256 is out of range"):
        score(model, [1, 2], bos=True)


def test_a_context_of_one_token_is_refused():
    with pytest.raises(ValueError, match="context of one token"):
        score(random_model(n_positions=1), [1, 2])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("h.1.mlp.c_fc.bias", np.nan, r"tensor h\.1\.mlp\.c_fc\.bias"),
        ("ln_f.weight", np.inf, r"tensor ln_f\.weight"),
        ("h.2.mlp.c_proj.weight", 3e38, "overflowed"),
    ],
)
def test_logits_that_are_not_finite_are_refused_with_the_token_and_the_cause(name, value, words):
    model = random_model()
    model.params[name][...] = value
    with pytest.raises(ValueError, match=f"token 1 hold NaN or inf.*{words}"):
        score(model, IDS)


@pytest.mark.parametrize(("at", "stride", "first"), [(30, 11, 23), (30, 23, 24), (50, 23, 47), (40, 5, 38)])
def test_the_first_token_without_finite_logits_is_named(at, stride, first):
    model, ids = random_model(tie_word_embeddings=False), IDS.copy()
    model.params["wte.weight"][7] = np.nan
    ids[ids == 7] = 8
    score(model, ids, stride=stride)  # only what is read matters
    ids[at] = 7
    with pytest.raises(ValueError, match=rf"logits for token {first} hold NaN or inf.*tensor wte\.weight"):
        score(model, ids, stride=stride)


def test_the_ids_are_not_written_to(model):
    ids = IDS.copy()
    score(model, ids).ids[:] = 0
    np.testing.assert_array_equal(ids, IDS)


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, capsys):
    """Run `score` with the bundled model on a file with these contents, and return (stdout, stderr)."""

    def run(text, *arguments, code=0):
        file = tmp_path / "text.txt"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        assert main(["score", str(file), "--model", "facts", *arguments]) == code
        return capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def facts():
    return nanogpt_np.load("facts")


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ([], {}),
        (["--bos"], {"bos": True}),
        (["--special"], {"special": True}),
        (["--stride", "9", "--bos"], {"stride": 9, "bos": True}),
        (["--stride", "128"], {"stride": 128}),
    ],
)
@pytest.mark.parametrize("text", ["Paris<|endoftext|>is here\n", *TEXTS.values()])
def test_json_has_what_the_function_returns(run, facts, flags, options, text):
    result, expected = json.loads(run(text, "--json", *flags).out), score(facts, text, **options)
    assert [row["id"] for row in result["per_token"]] == expected.ids.tolist()
    assert [row["log_prob"] for row in result["per_token"]] == [x if x < 1 else None for x in expected.log_probs]
    assert [row["rank"] or 0 for row in result["per_token"]] == expected.ranks.tolist()
    for name in ("loss", "perplexity", "bits_per_byte", "stride"):
        assert result[name] == getattr(expected, name)
    assert (result["window"], result["tokens"], result["scored_tokens"], result["scored_bytes"]) == (
        128, len(expected.ids), expected.count, expected.nbytes)  # fmt: skip
    assert result["log_prob"] == expected.total
    assert (result["bos"], result["special"]) == ("--bos" in flags, "--special" in flags)


def test_the_table_shows_the_first_tokens_and_the_last_line_sums_up(run, facts):
    text = TEXTS["prose"]
    expected = score(facts, text)
    out, err = run(text, "--tokens", "4")
    lines = out.splitlines()
    assert len(lines) == 1 + 4 + 2
    assert lines[1].split() == ["0", "464", '"The"', "-", "-"]
    assert lines[2].split()[:5] == ["1", "3139", '"', 'capital"', f"{expected.log_probs[1]:.4f}"]
    assert f"{len(expected.ids) - 4} more tokens" in lines[5]
    assert lines[6] == expected.summary and f"{expected.loss:.4f} nats per token" in lines[6]
    assert err.count("\n") == 1 and "windows of 128 tokens, stride 64; no BOS" in err


def test_the_tokens_of_a_short_text_are_all_shown_and_none_with_zero(run):
    assert "more tokens" not in run("The capital of France is", "--tokens", "5").out
    for flags in (["--tokens", "0"], ["--tokens", "0", "--bos"]):
        assert len(run("The capital of France is", *flags).out.splitlines()) == 1


def test_least_shows_the_least_expected_first_with_the_longest_bar(run, facts):
    text = "The capital of France is Paris. The capital of Japan is Rome."
    expected = score(facts, text)
    lines = run(text, "--least", "3").out.splitlines()
    assert [int(line.split()[0]) for line in lines[1:-1]] == expected.least_expected(3)
    bars = [line.count("#") for line in lines[1:-1]]
    assert bars == [min(20, round(-expected.log_probs[t])) for t in expected.least_expected(3)]
    assert bars == sorted(bars, reverse=True) and bars[0] > 5


@pytest.mark.parametrize("text", ["The capital of France is\n", "line one\r\nline two\r\n", "ümläut 🙂", "  \n\n two"])
def test_a_byte_order_mark_is_dropped_and_nothing_else(run, text):
    marked, plain = (json.loads(run(raw, "--json").out) for raw in (b"\xef\xbb\xbf" + text.encode(), text.encode()))
    assert marked == plain
    assert "".join(row["token"] for row in plain["per_token"]) == text or "\\x" in str(plain["per_token"])
    assert json.loads(run(text, "--json", "--bos").out)["scored_bytes"] == len(text.encode())


@pytest.mark.parametrize("raw", [b"The capital of France is\n", b"\xef\xbb\xbfOne, two\r\n"])
def test_standard_input_is_scored_as_a_file_is(run, raw, monkeypatch, capsys):
    in_file = run(raw).out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
    assert main(["score", "-", "--model", "facts"]) == 0
    assert capsys.readouterr().out == in_file


WRONG = {
    "not UTF-8": (b"caf\xe9 au lait", [], "not UTF-8"),
    "UTF-16": ("two words".encode("utf-16"), [], "not UTF-8"),
    "empty": (b"", [], "is empty"),
    "only a byte order mark": (b"\xef\xbb\xbf", [], "is empty"),
    "one token": (b"Hello", [], "--bos"),
    "stride 0": (b"Hello you", ["--stride", "0"], "stride must be from 1 to 128"),
    "stride above the context": (b"Hello you", ["--stride", "129"], "stride must be from 1 to 128"),
    "--tokens": (b"Hello you", ["--tokens", "-1"], "--tokens must be 0 or more"),
    "--least": (b"Hello you", ["--least", "0"], "--least must be 1 or more"),
}


@pytest.mark.parametrize(("raw", "flags", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_or_flag_gets_one_line(run, raw, flags, words):
    out, err = run(raw, *flags, code=1)
    assert out == "" and err.count("\n") == 1 and err.startswith("error: ") and words in err and len(err) < 700


@pytest.mark.parametrize("name", ["missing.txt", "", "a\0b"])
def test_a_file_that_cannot_be_read_gets_one_line(tmp_path, capsys, name):
    """The empty name is a folder here."""
    assert main(["score", str(tmp_path / name), "--model", "facts"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("error: ")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe")
    assert main(["score", str(tmp_path / "pipe"), "--model", "facts"]) == 1
    assert "not a regular file but a pipe" in capsys.readouterr().err


@pytest.mark.parametrize("extra", [0, 1])
def test_a_text_without_end_is_read_up_to_a_limit(run, monkeypatch, capsys, extra):
    raw = b"The capital of France is Paris."
    monkeypatch.setattr(command, "LONGEST", len(raw) - extra)
    assert ("longer than" in run(raw, code=extra).err) == bool(extra)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
    assert main(["score", "-", "--model", "facts"]) == extra


def test_no_standard_input_gets_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", None)
    assert main(["score", "-", "--model", "facts"]) == 1
    assert "no standard input" in capsys.readouterr().err


@pytest.mark.parametrize("text", [" " * 300 + "x", "-" * 300, "word " * 50, "\x1b[31m\n\x00\t" * 20])
def test_every_line_is_bounded_and_holds_no_control_characters(run, text):
    for line in run(text).out.splitlines():
        assert len(line) < 250 and "\x1b" not in line and "\x00" not in line


def test_progress_is_said_while_a_window_takes_long(run, monkeypatch, capsys):
    said = threading.Event()

    def slow(model, text, *, report, **options):
        assert said.wait(30)  # before the first window is done
        said.clear()
        report(30, 90)
        assert said.wait(30)
        return score(model, text, report=report, **options)

    def say(line):
        lines.append(line)
        said.set()

    lines = []
    monkeypatch.setattr(command, "EVERY", 0.01)
    monkeypatch.setattr(command, "score", slow)
    monkeypatch.setattr(command, "say", say)
    before = threading.active_count()
    run("The capital of France is Paris.")
    assert threading.active_count() == before
    assert lines[0] == "scoring the first window: 0 s"
    assert any(line.startswith("scored 30 of 90 tokens  ") and line.endswith(" left") for line in lines)


def test_progress_ends_when_scoring_fails(run, monkeypatch):
    before = threading.active_count()
    run("Hello", code=1)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("done", "total", "spent", "words"),
    [(30, 90, 2.0, "15 tokens/s  0:04 left"), (1000, 301000, 10.0, "100 tokens/s  50:00 left"),
     (90, 90, 9.0, "10 tokens/s  0:00 left")],
)  # fmt: skip
def test_a_line_of_progress_has_the_speed_and_the_time_left(done, total, spent, words):
    progress = command.Progress()
    progress(done, total)
    assert progress.line(spent) == f"scored {done:,} of {total:,} tokens  {words}"


# --- transformers --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs(reader, tmp_path_factory):
    """Load `reader` into transformers."""
    transformers = pytest.importorskip("transformers", reason="pip install -e '.[reference]'")
    transformers.utils.logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("reader")
    nanogpt_np.save(reader, folder)
    return transformers.GPT2LMHeadModel.from_pretrained(folder).eval()


@functools.cache
def guide(theirs, ids, n_positions, stride):
    """Return (loss, labels in it, labels by which the guide weights it) of each window of the perplexity guide.

    https://huggingface.co/docs/transformers/perplexity, as of 2025: each window's labels are its tokens, or -100 for
    those that an earlier window has scored; transformers shifts labels by one and returns the mean over the rest.
    """
    import torch

    rows, end_before = [], 0
    for begin in range(0, len(ids), stride):
        end = min(begin + n_positions, len(ids))
        new = end - end_before
        window = torch.tensor([ids[begin:end]])
        labels = window.clone()
        labels[:, :-new] = -100
        with torch.no_grad():
            loss = theirs(window, labels=labels).loss.item()
        rows.append((loss, int((labels[:, 1:] != -100).sum()), int((labels != -100).sum()) - 1))
        end_before = end
        if end == len(ids):
            break
    return rows


@pytest.mark.reference
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("stride", [1, 5, 16, 32])
def test_the_loss_is_that_of_the_guide_of_transformers_with_every_token_counted_once(
    reader, theirs, tokenizer, text, stride
):
    ids = tuple(tokenizer.encode(text))
    assert len(ids) > 2 * 32 and len(ids) % 32 != 1
    rows = guide(theirs, ids, 32, stride)
    counted = sum(count for _, count, _ in rows)
    result = score(reader, text, stride=stride)
    assert result.count == counted
    assert abs(result.loss - sum(loss * count for loss, count, _ in rows) / counted) < 1e-5  # measured: 2e-6


@pytest.mark.reference
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
@pytest.mark.parametrize("stride", [1, 5, 16, 32])
def test_the_guides_own_mean_weights_a_window_by_one_token_less(reader, theirs, tokenizer, text, stride):
    """It takes one label off for the shift in every window; only where no label is -100 does the shift cost one."""
    ids = tuple(tokenizer.encode(text))
    rows = guide(theirs, ids, 32, stride)
    overlap = stride < 32
    assert [weight for _, _, weight in rows[1:]] == [count - overlap for _, count, _ in rows[1:]]
    weights = sum(weight for _, _, weight in rows)
    means = sum(loss * weight for loss, _, weight in rows if weight) / weights
    # The same from our log probabilities: so this is all that the two definitions differ in.
    log_probs = score(reader, text, stride=stride).log_probs
    ours = [
        (-log_probs[first:end].mean(), end - first - (overlap and k > 0))
        for k, (_, first, end) in enumerate(windows(len(ids), 32, stride))
    ]
    assert abs(means - sum(mean * weight for mean, weight in ours) / weights) < 1e-5
    if stride == 1:
        assert weights == 31  # of the guide's mean only the first window is left


@pytest.mark.reference
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_the_loss_of_a_text_that_fits_is_the_loss_of_transformers(reader, theirs, tokenizer, text):
    import torch

    for ids in (tokenizer.encode(text)[:32], tokenizer.encode(text)[:2], [50256, *tokenizer.encode(text)[:31]]):
        with torch.no_grad():
            out = theirs(torch.tensor([ids]), labels=torch.tensor([ids]))
        result = score(reader, ids)
        assert abs(result.loss - out.loss.item()) < 1e-5
        each = out.logits[0, :-1].double().log_softmax(-1)[range(len(ids) - 1), ids[1:]].numpy()
        np.testing.assert_allclose(result.log_probs[1:], each, rtol=0, atol=1e-4)


# --- published numbers ---------------------------------------------------------------------------

PUBLISHED = json.loads((Path(__file__).parent / "reference" / "gpt2_published.json").read_text(encoding="utf-8"))
FRANCE = PUBLISHED["capital_of_france"]
WIKITEXT = "NANOGPT_NP_WIKITEXT2"  # names the file with the text of the tests on WikiText-2


@pytest.fixture
def published(request):
    """The published model that the test names as its parameter; gpt2 where it names none."""
    name = getattr(request, "param", "gpt2")
    try:
        places.find(name)
    except ValueError:
        pytest.skip(f"{name} is not on this machine: ./weights.sh {name}")
    return nanogpt_np.load(name)


@pytest.fixture
def wikitext():
    r"""Return the raw test set of WikiText-2: ``"\n\n".join(test["text"])`` of the data set wikitext-2-raw-v1.

    That is the text that the guide of transformers scores, as one document without <|endoftext|>.
    """
    file = os.environ.get(WIKITEXT)
    if not file:
        pytest.skip(f"{WIKITEXT} does not name the raw test set of WikiText-2, joined by two newlines")
    return Path(file).read_bytes().decode("utf-8")


@pytest.mark.weights
@pytest.mark.parametrize(
    ("published", "stride", "perplexity"),
    [("gpt2-large", 1024, 19.44), ("gpt2-large", 512, 16.44), ("gpt2", 1024, 29.94)],
    indirect=["published"],
)
def test_perplexity_on_wikitext_2_is_the_published_one(published, wikitext, stride, perplexity):
    """Windows of 1024 tokens over the raw test set as one document, its first token not scored.

    gpt2-large: the guide of transformers (https://huggingface.co/docs/transformers/perplexity). gpt2: a run of the same
    script in https://github.com/karpathy/llm.c/pull/276. The guide weights windows by one token less each (see above),
    and earlier versions of it by none: versions of it give 16.44 and 16.45. gpt2-large takes hours on a few cores.
    """
    assert score(published, wikitext, stride=stride).perplexity == pytest.approx(perplexity, abs=0.015)


@pytest.mark.weights
def test_loss_on_the_first_8192_tokens_of_wikitext_2_is_the_published_one(published, wikitext, tokenizer):
    """gpt2 with windows of 512 tokens and a stride of 256, over the first 8192 tokens of the same text."""
    short = replace(published, config=replace(published.config, n_positions=512))
    ids = tokenizer.encode(wikitext)[:8192]
    expected = PUBLISHED["perplexity"]["gpt2 first 8192 tokens, window 512 stride 256, mean nll"]
    assert score(short, ids, stride=256).loss == pytest.approx(expected, abs=1e-3)


def test_the_perplexities_asked_for_are_those_in_the_table_of_published_numbers():
    table = {name: value for name, value in PUBLISHED["perplexity"].items() if name != "note"}
    assert sorted(table.values()) == [3.51105, 16.44, 19.44, 29.94]


@pytest.mark.weights
def test_paris_after_the_capital_of_france_has_the_published_log_probability_and_rank(published):
    result = score(published, "The capital of France is Paris")
    assert result.ids.tolist() == [*FRANCE["ids"], FRANCE["paris"]["id"]]
    assert math.exp(result.log_probs[-1]) == pytest.approx(FRANCE["paris"]["probability"], abs=2e-5)
    assert result.ranks[-1] == FRANCE["paris"]["rank_counting_from_1"]


@pytest.mark.weights
@pytest.mark.parametrize(
    ("published", "numbers"), PUBLISHED["capital_of_france_other_sizes_with_bos"].items(), indirect=["published"]
)
def test_with_bos_every_size_gives_paris_the_published_log_probability_and_rank(published, numbers):
    result = score(published, "The capital of France is Paris", bos=True)
    assert result.log_probs[-1] == pytest.approx(numbers["paris_logprob"], abs=6e-3)  # 2 decimals
    assert result.ranks[-1] == numbers["paris_rank_counting_from_0"] + 1


@pytest.mark.weights
def test_the_greedy_continuation_has_the_published_log_probabilities(published):
    steps, prompt = FRANCE["greedy_step_probabilities"]["value"], FRANCE["ids"]
    result = score(published, [*prompt, *FRANCE["greedy_ids"]["value"][: len(steps)]])
    np.testing.assert_allclose(np.exp(result.log_probs[len(prompt) :]), steps, rtol=0, atol=1e-4)
    assert result.ranks[len(prompt) :].tolist() == [1] * len(steps)


@pytest.mark.weights
def test_losses_of_llm_c_and_transformer_lens_are_the_published_ones(published):
    hello, llm_c = PUBLISHED["transformerlens_hello_world_loss"], PUBLISHED["llm_c_step_0_loss"]
    assert score(published, "Hello world!", bos=True).ids.tolist() == hello["ids"]
    assert score(published, "Hello world!", bos=True).loss == pytest.approx(
        hello["mean_cross_entropy_nats"], abs=hello["atol"]
    )
    rows = [score(published, llm_c["ids"][i : i + 65]).loss for i in range(0, 256, 64)]
    assert np.mean(rows) == pytest.approx(llm_c["mean_cross_entropy_nats"], abs=llm_c["atol"])
