"""Text in, text out: `complete`, stop texts, and the flags of the command that go with them."""

import json

import numpy as np
import pytest
from helpers import scripted_model
from hypothesis import given, settings
from hypothesis import strategies as st

import nanogpt_np
from nanogpt_np.__main__ import main
from nanogpt_np.generate.batch import make_rows
from nanogpt_np.generate.completion import SIDE_BY_SIDE, completions, write
from nanogpt_np.generate.sampling import Choice
from nanogpt_np.generate.stops import TextStream, check_stops

PROMPT = "The capital of France is"
PROMPTS = [PROMPT, "The", "The capital of Japan is", "Tokyo is the capital of the country of"]
TOK = nanogpt_np.Tokenizer()
FACTS = nanogpt_np.load("facts")


def says(text):
    """Return a GPT-2 that answers a prompt of one token with `text`, then with <|endoftext|>, and its ids."""
    ids = TOK.encode(text)
    return scripted_model([*ids, 50256, 50256]), ids


# --- stop texts ----------------------------------------------------------------------------------


class Pieces:
    """A tokenizer whose token i is the i-th piece of bytes."""

    def __init__(self, pieces):
        self.pieces = pieces

    def token(self, i):
        return self.pieces[i]


def streamed(pieces, stops):
    stream = TextStream(Pieces(pieces), stops)
    shown = [stream.push(i) for i in range(len(pieces))]
    shown.append(stream.end())
    assert stream.text == "".join(shown)
    return shown, stream.stopped


def cut_at(text, stops):
    """The definition: read on by one character at a time, until what was read ends with a stop text."""
    for end in range(len(text) + 1):
        ends = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if ends:
            return text[: end - max(ends)], True
    return text, False


some_stops = st.lists(st.text("abé", min_size=1, max_size=4), max_size=3)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(text=st.text("abé☃", max_size=14), stops=some_stops, data=st.data())
def test_a_text_is_cut_at_its_first_stop_text_however_it_is_cut_into_tokens(text, stops, data):
    raw = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(raw)), max_size=8)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    shown, stopped = streamed(pieces, stops)
    assert ("".join(shown), stopped) == cut_at(text, stops)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(text=st.text("ab", max_size=12), stops=some_stops)
def test_text_is_held_back_only_while_it_may_become_a_stop_text(text, stops):
    shown, _ = streamed([c.encode() for c in text], stops)
    for n in range(1, len(text)):
        held = text[:n].removeprefix("".join(shown[:n]))
        if not cut_at(text[:n], stops)[1]:
            assert held == "" or any(stop.startswith(held) for stop in stops)


def test_bytes_that_are_no_character_are_shown_at_the_end():
    assert streamed([b"a\xf0", b"\x9f"], ["b"]) == (["a", "", "�"], False)
    assert streamed([b"a\xf0", b"\x9f"], ["�"]) == (["a", "", ""], True)


@pytest.mark.parametrize(
    ("stops", "words"), [([""], "empty"), ([3], "expected text"), (["\ud800"], "not valid Unicode")]
)
def test_what_cannot_be_a_stop_text_is_refused(stops, words):
    with pytest.raises(ValueError, match=words):
        check_stops(stops)
    with pytest.raises(ValueError, match=words):
        nanogpt_np.complete(PROMPT, FACTS, stop=stops)


# Across two tokens, inside one token, at a token's beginning, and the whole of it.
@pytest.mark.parametrize(
    ("stop", "text"),
    [
        ("s is", " Pari"),
        ("ari", " P"),
        (" is", " Paris"),
        (" Paris", ""),
        ("x", " Paris is big."),
        (["g", "is b"], " Paris "),
    ],
)
def test_complete_ends_before_a_stop_text(stop, text):
    model, ids = says(" Paris is big.")
    assert nanogpt_np.complete("a", model, stop=stop) == text
    (found,) = completions("a", model, stop=stop)
    assert found.text == text
    assert found.ended == ("end of text" if text.endswith(".") else "stop text")
    assert list(found.ids) == ids[: len(found.ids)] and TOK.decode(found.ids).startswith(text)
    # Nothing is generated after the token that completed the stop text.
    stops = [stop] if isinstance(stop, str) else stop
    assert not any(stop in TOK.decode(found.ids[:-1]) for stop in stops)


# --- complete ------------------------------------------------------------------------------------


def test_complete_is_the_decoded_text_of_generate():
    ids = list(nanogpt_np.generate.generate(FACTS, TOK.encode(PROMPT), 20))
    assert nanogpt_np.complete(PROMPT, FACTS) == TOK.decode(ids) == " Paris."
    for model in ("facts", nanogpt_np.open_checkpoint("facts")):
        assert nanogpt_np.complete(PROMPT, model) == " Paris."


def test_without_a_model_it_takes_the_default_one(monkeypatch, tmp_path):
    for name in ("NANOGPT_NP_HOME", "HF_HUB_CACHE"):
        monkeypatch.setenv(name, str(tmp_path))
    assert nanogpt_np.complete(PROMPT) == " Paris."


def test_several_prompts_give_what_each_gives_alone():
    for found, prompt in zip(completions(PROMPTS, FACTS, temperature=1, seed=3), PROMPTS, strict=True):
        assert found.text == nanogpt_np.complete(prompt, FACTS, temperature=1, seed=3)
        assert len(found.log_probs) == len(found.ids) > 0
        assert max(found.log_probs) <= 0


def test_more_samples_than_fit_side_by_side_are_as_many_different_texts():
    many = completions("The", FACTS, temperature=1.5, seed=1, num_samples=SIDE_BY_SIDE + 3)
    few = completions("The", FACTS, temperature=1.5, seed=1, num_samples=2)
    assert [one.text for one in many[:2]] == [one.text for one in few]
    assert len(many) == SIDE_BY_SIDE + 3 and len({one.text for one in many}) > SIDE_BY_SIDE


def test_the_log_probabilities_of_a_greedy_text_are_those_of_its_tokens():
    (found,) = completions(PROMPT, FACTS)
    logits = FACTS(TOK.encode(PROMPT))[-1].astype(float)
    assert found.tokens() == [b" Paris", b"."]
    np.testing.assert_allclose(found.log_probs[0], logits[6342] - np.log(np.exp(logits).sum()), rtol=1e-4)


def test_special_reads_the_end_of_text_token_in_a_prompt():
    model, _ = says(" Paris")
    assert nanogpt_np.complete("<|endoftext|>", model, special=True) == " Paris"
    with pytest.raises(ValueError, match="context"):
        nanogpt_np.complete("<|endoftext|>", model)  # 7 tokens of text


@pytest.mark.parametrize(
    ("prompt", "settings", "words"),
    [
        ("", {}, "the prompt is empty"),
        (3, {}, "expected text"),
        ([PROMPT], {}, "expected text .* not list"),
        (PROMPT, {"model": "gpt3"}, "no model"),
        (PROMPT, {"max_new_tokens": -1}, "number of new tokens must be 0 or more"),
        (PROMPT, {"max_new_tokens": 1.5}, "number of new tokens must be 0 or more"),
        (PROMPT, {"temperature": -1}, "temperature must be 0"),
        (PROMPT, {"min_p": 1.5}, "min_p must be 0 to 1, not 1.5"),
        (PROMPT, {"repetition_penalty": 0}, "repetition_penalty must be above 0 .*not 0"),
        (PROMPT, {"seed": -1}, "seed must be a whole number"),
    ],
)
def test_arguments_that_mean_nothing_are_one_line(prompt, settings, words):
    with pytest.raises(ValueError, match=words) as error:
        nanogpt_np.complete(prompt, **{"model": FACTS} | settings)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


@pytest.mark.parametrize("settings", [{"num_samples": 0}, {"num_samples": 1.5}, {"num_samples": 2}])
def test_greedy_has_one_sample_and_none_is_too_few(settings):
    with pytest.raises(ValueError, match="num_samples"):
        completions(PROMPT, FACTS, **settings)


def test_what_is_written_comes_as_soon_as_it_is_certain():
    model, ids = says(" Paris is big.")
    stream = TextStream(TOK, ["is b"])
    rows = make_rows(model, [TOK.encode("a")], 0)
    new = [text for _, text in write(model, rows, [stream], 20, Choice())]
    assert "".join(new) == " Paris " and new[0] == " Par"  # "is" may begin the stop text
    assert rows[0].ids == ids[:3] and rows[0].ended == "stop text"


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def run(capsys):
    def run(*arguments, prompt=PROMPT, code=0):
        assert main(["generate", prompt, "--model", "facts", *arguments]) == code
        return capsys.readouterr()

    return run


@pytest.mark.parametrize("more", [[], ["--stop", "never"], ["--stop", "ris", "--stop", "\n"]])
def test_the_command_prints_what_complete_returns(run, more):
    text = nanogpt_np.complete(PROMPT, FACTS, stop=more[1::2])
    assert run(*more).out == text + "\n"
    assert json.loads(run(*more, "--json").out)["samples"][0]["text"] == text


SAMPLED = ["--temperature", "1.5", "--min-p", "0.001", "--repetition-penalty", "1.2", "--seed", "4", "-n", "8"]


@pytest.mark.parametrize("more", [[], ["--no-cache"], ["--watch", " Paris"]])
def test_samples_side_by_side_are_those_of_complete(run, more):
    expected = completions(
        "The", FACTS, temperature=1.5, min_p=0.001, repetition_penalty=1.2, seed=4, num_samples=3, max_new_tokens=8
    )
    found = json.loads(run(*SAMPLED, "--num-samples", "3", "--log-probs", "--json", *more, prompt="The").out)["samples"]
    assert [one["text"] for one in found] == [one.text for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["ended"] == other.ended
        np.testing.assert_allclose(one["log_probs"], other.log_probs, rtol=0, atol=1e-4)
    out = run(*SAMPLED, "--num-samples", "3", prompt="The").out
    texts = [f"--- sample {i} of 3\n{one.text}\n" for i, one in enumerate(expected, 1)]
    assert out == "".join(texts)


def test_the_settings_are_said_with_the_model(run):
    err = run(*SAMPLED).err
    assert "temperature 1.5, min-p 0.001, repetition penalty 1.2, seed 4;" in err
    assert "greedy, repetition penalty 1.2;" in run("--repetition-penalty", "1.2").err
    assert "; greedy;" in run().err


def test_log_probabilities_are_printed_below_the_text(run):
    lines = run("--log-probs").out.splitlines()
    assert lines[0] == " Paris." and lines[1].split() == ["log", "probability", "token"]
    assert [line.split(maxsplit=1)[1] for line in lines[2:]] == ['" Paris"', '"."']


@pytest.mark.parametrize(("prompt", "times"), [("The ", 1), ("The  ", 1), ("The", 0), ("The \n", 0), (" The", 0)])
@pytest.mark.parametrize("more", [["--json"], ["--temperature", "1", "--num-samples", "2"]])
def test_a_space_at_the_end_of_the_prompt_is_pointed_out_once_on_stderr(run, prompt, times, more):
    out, err = run("-n", "2", *more, prompt=prompt)
    assert err.count("ends with a space") == times
    assert "ends with a space" not in out
    if "--json" in more:
        assert json.loads(out)["prompt"] == prompt


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--stop", ""], "a stop text is empty"),
        (["--min-p", "2", "--temperature", "1"], "min_p must be 0 to 1"),
        (["--min-p", "0.1"], "need --temperature above 0"),
        (["--repetition-penalty", "0"], "repetition_penalty must be above 0"),
        (["--repetition-penalty", "nan"], "repetition_penalty must be above 0"),
    ],
)
def test_flags_that_mean_nothing_are_one_line(run, flags, words):
    out, err = run(*flags, code=1)
    assert out == "" and words in err and err.count("\n") == 1
