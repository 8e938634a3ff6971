"""A long prompt in parts, each on a core of its own, is the prompt at once."""

import threading

import numpy as np
import pytest
from helpers import random_model

from nanogpt_np import attention, cores, model
from nanogpt_np.cache import KVCache
from nanogpt_np.trace import Recorder

MODEL, MODEL64 = random_model(), random_model(dtype=np.float64)
CONFIG = MODEL.config
IDS = np.random.default_rng(7).integers(CONFIG.vocab_size, size=(2, CONFIG.n_positions))
SAME, SAME32 = {"rtol": 1e-9, "atol": 1e-12}, {"rtol": 1e-4, "atol": 1e-5}


class Threads:
    """Stands for the library behind the products: a number that can be read and set."""

    def __init__(self, n):
        self.n, self.seen = n, []

    def put(self, n):
        self.n = n
        self.seen.append(n)


@pytest.fixture(params=[2, 3, 5])
def threads(request, monkeypatch):
    """Small prompts count as long, on a machine of so many cores."""
    monkeypatch.setattr(attention, "LONG", 2)
    monkeypatch.setattr(model, "LONG", 2)
    monkeypatch.setattr(attention, "QUERIES", 3)
    monkeypatch.setattr(cores, "SMALLEST", 1)
    threads = Threads(request.param)
    monkeypatch.setattr(cores, "_threads", lambda: (lambda: threads.n, threads.put))
    return threads


@pytest.mark.parametrize("ids", [IDS[0], IDS], ids=["prompt", "batch"])
def test_parts_side_by_side_give_the_logits_of_one_pass(threads, ids):
    for gpt2, tolerance in ((MODEL64, SAME), (MODEL, SAME32)):
        for T in range(1, CONFIG.n_positions + 1):
            np.testing.assert_allclose(gpt2(ids[..., :T]), gpt2(ids[..., :T], trace=Recorder()), **tolerance)
    assert threads.seen == [1, threads.n] * (len(threads.seen) // 2)
    assert len(threads.seen) >= 2 * (CONFIG.n_positions - threads.n)


@pytest.mark.parametrize("past", [1, 4, 9])
def test_a_cache_goes_on_after_parts_and_before_them(threads, past):
    cache = KVCache(CONFIG)
    logits = [MODEL64(IDS[:, :past], cache=cache), MODEL64(IDS[:, past:-3], cache=cache)]
    assert cache.length == CONFIG.n_positions - 3
    logits += [MODEL64(IDS[:, [t]], cache=cache) for t in (-3, -2, -1)]
    np.testing.assert_allclose(np.concatenate(logits, axis=-2), MODEL64(IDS, trace=Recorder()), **SAME)


def test_the_parts_run_at_the_same_time(threads):
    running, most, lock = 0, 0, threading.Lock()
    everyone = threading.Barrier(threads.n, timeout=30)  # breaks unless all parts are there at once

    def run(ids, cache):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        everyone.wait()
        with lock:
            running -= 1
        return np.zeros((ids.shape[-1], 1))

    assert cores.in_parts(run, IDS[0], KVCache(CONFIG)).shape == (CONFIG.n_positions, 1)
    assert most == threads.n


@pytest.mark.parametrize("failing", [0, 1])
def test_a_part_that_fails_ends_the_pass_and_leaves_the_cache_as_it_was(threads, failing):
    cache = KVCache(CONFIG)
    MODEL64(IDS[0, :4], cache=cache)
    started = []

    def run(ids, part):
        started.append(part)
        if len(ids) and part.length == 4 + ([0, *ends][failing]):
            raise ArithmeticError("no")
        return MODEL64._run(ids, part)

    ends = cores.shares(CONFIG, 4, 19, threads.n)
    with pytest.raises(ArithmeticError, match="no"):
        cores.in_parts(run, IDS[0, 4:], cache)
    assert cache.length == 4
    assert threads.n == threads.seen[-1] > 1
    whole = MODEL64(IDS[0], trace=Recorder())
    np.testing.assert_allclose(MODEL64(IDS[0, 4:], cache=cache), whole[4:], **SAME)


def test_settings_of_numpy_hold_in_every_part(threads):
    seen = []

    def run(ids, part):
        seen.append(np.geterr()["over"])
        return np.zeros((ids.shape[-1], 1))

    with np.errstate(over="raise"):
        cores.in_parts(run, IDS[0], KVCache(CONFIG))
    assert seen == ["raise"] * threads.n


def test_two_prompts_at_the_same_time_leave_the_number_of_threads_as_it_was(threads):
    """The second finds the first at work, and runs as one part."""
    n, inner = threads.n, []

    def run(ids, part):
        if not inner:
            inner.append(None)
            inner[0] = cores.in_parts(lambda ids, cache: np.full((len(ids), 1), cache.length), IDS[0], KVCache(CONFIG))
        return np.zeros((ids.shape[-1], 1))

    cores.in_parts(run, IDS[0], KVCache(CONFIG))
    assert inner[0].shape == (CONFIG.n_positions, 1)
    assert threads.seen == [1, n]


@pytest.mark.parametrize("found", [None, 1, 24])
def test_one_core_more_cores_than_parts_or_an_unknown_library_mean_one_part(found, threads, monkeypatch):
    threads.n = found
    if found is None:
        monkeypatch.setattr(cores, "_threads", lambda: None)
    cache, calls = KVCache(CONFIG), []
    cores.in_parts(lambda ids, given: calls.append((ids, given)), IDS[0], cache)
    ((ids, given),) = calls
    assert given is cache
    assert ids is not None and len(ids) == CONFIG.n_positions
    assert threads.seen == []


def test_shares_cover_the_prompt_and_cost_about_the_same():
    for past, T, n in ((0, 1023, 2), (512, 511, 2), (0, 1024, 5), (10, 7, 7), (0, 2, 2)):
        ends = cores.shares(CONFIG, past, T, n)
        starts = [0, *ends[:-1]]
        assert ends[-1] == T
        assert all(start < end for start, end in zip(starts, ends, strict=True)), (past, T, n, ends)
    first, second = (np.diff([0, *cores.shares(CONFIG, 0, 1024, 2)])).tolist()
    assert first > second  # later tokens see more keys


def test_numpys_own_wheels_can_be_told_to_use_one_core():
    if cores._threads() is None:
        pytest.skip("this NumPy does not carry OpenBLAS as its wheels do")
    get, _ = cores._threads()
    before = get()
    with cores.products_on_one_core():
        assert get() == 1
    assert get() == before
