"""Whatever is given as token ids: integers of any kind are read, and anything else gets one line in our own words."""

import numpy as np
import pytest
from helpers import random_model

from nanogpt_np.fast import fast
from nanogpt_np.generate import generate, next_logits
from nanogpt_np.model.cache import KVCache
from nanogpt_np.train.loss import loss_and_grads, mean_loss

MODEL = random_model()
ITSELF = []
ITSELF.append(ITSELF)

BAD = {  # what is given, and words of the answer
    "rows of two lengths": ([[1, 2], [3]], "rows of one length"),
    "a row within a row": ([[1, [2]]], "rows of one length"),
    "a number beside a row": ([1, [2, 3]], "rows of one length"),
    "arrays of two lengths": ([np.array([1, 2]), np.array([3])], "rows of one length"),
    "a list within itself": (ITSELF, "rows of one length"),
    "floats": ([1.0, 2.0], "integers, not float64"),
    "one float": ([1, 2.5], "integers, not float64"),
    "NaN": ([np.nan], "integers, not float64"),
    "float32": (np.ones(3, np.float32), "integers, not float32"),
    "complex numbers": ([1j], "integers, not complex128"),
    "truth values": ([True, False], "integers, not bool"),
    "dates": (np.array(["2020-01-01"], "datetime64[D]"), "integers, not datetime64"),
    "a text": ("Hello", "Tokenizer().encode(...) turns text into ids"),
    "texts": (["a", "b"], "Tokenizer().encode(...) turns text into ids"),
    "bytes": (b"Hello", "Tokenizer().encode(...) turns text into ids"),
    "digits as text": (["1", "2"], "Tokenizer().encode(...) turns text into ids"),
    "None among them": ([1, None], "integers, not a NoneType"),
    "a set": ({1, 2}, "integers, not a set: make it a list"),
    "a dict": ({1: 2}, "integers, not a dict: make it a list"),
    "a generator": ((i for i in (1, 2)), "integers, not a generator: make it a list"),
    "a function": (print, "integers, not a builtin_function_or_method: make it a list"),
    "None": (None, "no token ids"),
    "nothing": ([], "no token ids"),
    "rows of nothing": ([[], []], "no token ids"),
    "no row": (np.empty((0, 5), int), "no token ids"),
    "one number": (5, "no token ids: got an array of shape ()"),
    "a number of 70 bits": ([2**70], "not one of more than 64 bits"),
    "a number of 70,000 bits": ([-(1 << 70_000), 1], "not one of more than 64 bits"),
    "a number of 64 bits": ([2**63 + 1], "token id 9223372036854775809 is out of range"),
    "a negative number": ([3, -1], "token id -1 is out of range: this model knows ids 0 to 96"),
    "a number that is too large": ([97], "token id 97 is out of range"),
    "too many": ([1] * 24, "24 tokens are more than this model's context of 23 tokens"),
}
CALLS = {
    "model": lambda ids: MODEL(ids),
    "fast model": lambda ids: fast(MODEL)(ids),
    "model with a cache": lambda ids: MODEL(ids, cache=KVCache(MODEL.config)),
    "fast model with a cache": lambda ids: fast(MODEL).last_row(ids, cache=KVCache(MODEL.config)),
    "next_logits": lambda ids: next_logits(MODEL, ids),
    "generate": lambda ids: generate(MODEL, ids, 3),  # at once, not at the first token
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("what", BAD)
def test_what_is_no_token_ids_gets_one_line_that_says_what_is_wrong(what, call):
    ids, words = BAD[what]
    with pytest.raises(ValueError) as error:
        CALLS[call](ids)
    text = str(error.value)
    assert words in text
    assert len(text) < 160 and "\n" not in text and "inhomogeneous" not in text and "array element" not in text


@pytest.mark.parametrize("ids", [[[1, 2], [3]], [1.0, 2.0], [1, None], "Hello", [2**70], {1, 2}])
@pytest.mark.parametrize("call", [loss_and_grads, mean_loss])
def test_what_is_no_integers_as_targets_gets_one_line_too(ids, call):
    with pytest.raises(ValueError, match="targets must be") as error:
        call(MODEL, [1, 2], ids)
    assert len(str(error.value)) < 160 and "inhomogeneous" not in str(error.value)
    with pytest.raises(ValueError, match="token ids must be"):
        call(MODEL, ids, [1, 2])


@pytest.mark.parametrize("n", [1.5, "3", None, -1, np.float32(2), 1j])
def test_a_number_of_new_tokens_that_is_none_gets_one_line(n):
    with pytest.raises(ValueError, match="the number of new tokens must be 0 or more, not"):
        generate(MODEL, [1], n)
    assert len(list(generate(MODEL, [1], np.uint8(2)))) == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": "hot"}, "temperature must be .* not 'hot'"),
        ({"temperature": None}, "temperature must be .* not None"),
        ({"temperature": 1j}, "temperature must be .* not 1j"),
        ({"temperature": np.float32("nan")}, "temperature must be"),
        ({"temperature": 1, "top_k": 1.5}, "top_k must be 1 or more tokens, not 1.5"),
        ({"temperature": 1, "top_k": "2"}, "top_k must be 1 or more tokens, not '2'"),
        ({"temperature": 1, "top_p": "x" * 1000}, "top_p must be above 0 and at most 1"),
        ({"temperature": 1, "top_p": [0.5]}, "top_p must be above 0 and at most 1, not"),
        ({"temperature": 1, "rng": 42}, "rng must be a generator.*default_rng"),
        ({"temperature": 1, "rng": "seed"}, "rng must be a generator.*default_rng"),
    ],
)
def test_settings_of_the_wrong_kind_get_one_line(settings, words):
    with pytest.raises(ValueError, match=words) as error:
        generate(MODEL, [1], 1, **settings)
    assert len(str(error.value)) < 160


@pytest.mark.parametrize("config", [MODEL, None, 5, {"n_positions": 3}])
def test_a_cache_of_something_else_than_a_config_gets_one_line(config):
    with pytest.raises(ValueError, match=r"KVCache\(model.config\)"):
        KVCache(config)
