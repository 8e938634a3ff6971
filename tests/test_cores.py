"""A long prompt in parts, each on a core of its own, is the prompt at once."""

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import random_model

from nanogpt_np import attention, cores, model
from nanogpt_np.cache import KVCache, NoCache
from nanogpt_np.generate import main
from nanogpt_np.trace import Recorder, no_trace

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


def model_that_runs(run):
    """Return what `in_parts` takes for a model whose pass is ``run(ids, cache)``."""
    return SimpleNamespace(_run=run, config=CONFIG, h=MODEL64.h)


def test_the_parts_run_at_the_same_time(threads):
    everyone = threading.Barrier(threads.n, timeout=30)  # breaks unless all parts are there at once

    def run(ids, cache):
        everyone.wait()
        return np.zeros((ids.shape[-1], 1))

    assert cores.in_parts(model_that_runs(run), IDS[0], None).shape == (CONFIG.n_positions, 1)


@pytest.mark.parametrize("failing", ["first", "last"])
@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt])
def test_a_part_that_fails_stops_the_others_and_leaves_the_cache_as_it_was(threads, failing, error):
    """Ctrl-C reaches the last part, which runs in the caller's thread."""
    cache, before = KVCache(CONFIG), threading.active_count()
    MODEL64(IDS[0, :4], cache=cache)
    bad = {"first": 4, "last": 4 + cores.shares(CONFIG, 4, 19, threads.n)[-2]}[failing]
    seen = []

    def block_that_fails(x, remember, trace):
        part = remember.func.__self__
        seen.append((part.length, part.stop.is_set()))
        if part.length == bad:
            raise error("no")
        return MODEL64.h[1](x, remember, trace)

    broken = dataclasses.replace(MODEL64, h=(MODEL64.h[0], block_that_fails, MODEL64.h[2]))
    with pytest.raises(error, match="no"):
        broken(IDS[0, 4:], cache=cache)
    assert bad in [length for length, _ in seen]
    assert threading.active_count() == before
    assert cache.length == 4 and not cores._alone.locked()
    assert threads.n == threads.seen[-1] > 1
    other = np.concatenate([IDS[0, :4], IDS[1, 4:]])
    np.testing.assert_allclose(MODEL64(other[4:], cache=cache), MODEL64(other, trace=Recorder())[4:], **SAME)


def test_what_waits_for_a_part_that_failed_ends_at_once(threads):
    """The first part never gets to its second block; no other may go on with what it did not store."""
    done = []

    def run(ids, part):
        k = np.zeros((1, ids.shape[-1], 1))
        part.layer(0)(k, k)
        if part.before is None:
            raise ArithmeticError("no")
        part.layer(1)(k, k)
        done.append(part)
        return k

    with pytest.raises(ArithmeticError):
        cores.in_parts(model_that_runs(run), IDS[0], None)
    assert done == []


def test_settings_of_numpy_hold_in_every_part(threads):
    seen = []

    def run(ids, part):
        seen.append(np.geterr()["over"])
        return np.zeros((ids.shape[-1], 1))

    with np.errstate(over="raise"):
        cores.in_parts(model_that_runs(run), IDS[0], None)
    assert seen == ["raise"] * threads.n


def test_two_prompts_at_the_same_time_leave_the_number_of_threads_as_it_was(threads):
    """The second finds the first at work, and runs as one part."""
    n, inner = threads.n, []

    def run(ids, part):
        if isinstance(part, cores.Part) and part.before is None:
            inner.append(cores.in_parts(model_that_runs(run), IDS[0], None))
        return np.zeros((ids.shape[-1], 1))

    cores.in_parts(model_that_runs(run), IDS[0], None)
    assert [x.shape for x in inner] == [(CONFIG.n_positions, 1)]
    assert threads.seen == [1, n]


@pytest.mark.parametrize("found", [None, 1, 24])
def test_one_core_more_cores_than_parts_or_an_unknown_library_mean_one_part(found, threads, monkeypatch):
    threads.n = found
    if found is None:
        monkeypatch.setattr(cores, "_threads", lambda: None)
    cache, calls = KVCache(CONFIG), []
    cores.in_parts(model_that_runs(lambda ids, given: calls.append((len(ids), given))), IDS[0], cache)
    assert calls == [(CONFIG.n_positions, cache)]
    assert threads.seen == []


def test_a_cache_of_another_kind_is_told_everything_itself(threads):
    class Counting(KVCache):
        told = 0

        def _remember(self, i, k, v):
            self.told += k.shape[-2]
            return super()._remember(i, k, v)

    cache = Counting(CONFIG)
    whole = MODEL64(IDS[0], trace=Recorder())
    np.testing.assert_allclose(MODEL64(IDS[0], cache=cache), whole, **SAME)
    assert cache.told == CONFIG.n_layer * CONFIG.n_positions
    np.testing.assert_allclose(MODEL64(IDS[0], cache=NoCache()), whole, **SAME)


def test_a_model_with_blocks_put_in_runs_in_parts_too(threads):
    deeper = dataclasses.replace(MODEL64, h=MODEL64.h + MODEL64.h)
    np.testing.assert_allclose(deeper(IDS[0]), deeper(IDS[0], trace=Recorder()), **SAME)
    assert threads.seen


def test_a_long_prompt_may_outlive_the_main_thread():
    script = """
import threading, numpy as np
from helpers import random_model
from nanogpt_np import cores
class Threads: n = 2
cores._threads = lambda: (lambda: Threads.n, lambda n: setattr(Threads, "n", n))
model = random_model(n_positions=600)
def run():
    threading.main_thread().join()
    print(model(np.zeros(600, int)).shape)
threading.Thread(target=run).start()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parent
    )
    assert (done.stdout.strip(), done.stderr) == ("(600, 97)", "")


def test_only_a_command_that_shows_steps_watches_the_model(threads, monkeypatch, capsys):
    """So that a long prompt on the command line takes the fast way."""
    watched = []
    hidden = model.GPT2.hidden

    def spy(self, ids, *, cache=None, trace):
        watched.append(trace is not no_trace)
        return hidden(self, ids, cache=cache, trace=trace)

    monkeypatch.setattr(model.GPT2, "hidden", spy)
    command = ["The capital of France is", "--model", "facts", "-n", "1"]
    for more in ([], ["--top", "2"], ["--trace"], ["--watch", " Paris"]):
        assert main([*command, *more]) == 0
    capsys.readouterr()
    assert watched == [False, True, True, True]


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
