"""A long prompt in segments, each on a core of its own, gives what one pass gives."""

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import random_model

from nanogpt_np import Recorder
from nanogpt_np.commands.generate import main
from nanogpt_np.course import seams
from nanogpt_np.fast import blas, fast, segments, tiles
from nanogpt_np.model import gpt2
from nanogpt_np.model.attention import Attention
from nanogpt_np.model.cache import KVCache, NoCache
from nanogpt_np.model.trace import no_trace

MODEL, MODEL64 = random_model(), random_model(dtype=np.float64)
FAST64 = fast(MODEL64)
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
    """Let short prompts count as long, as on a machine with so many cores."""
    monkeypatch.setattr(tiles, "LONG", 2)
    monkeypatch.setattr(tiles, "QUERIES", 3)
    monkeypatch.setattr(segments, "SMALLEST", 1)
    threads = Threads(request.param)
    monkeypatch.setattr(blas, "threads", lambda: (lambda: threads.n, threads.put))
    return threads


@pytest.mark.parametrize("ids", [IDS[0], IDS], ids=["prompt", "batch"])
def test_segments_side_by_side_give_the_logits_of_one_pass(threads, ids):
    for model, tolerance in ((MODEL64, SAME), (MODEL, SAME32)):
        for T in range(1, CONFIG.n_positions + 1):
            np.testing.assert_allclose(fast(model)(ids[..., :T]), model(ids[..., :T], trace=Recorder()), **tolerance)
    assert threads.seen == [1, threads.n] * (len(threads.seen) // 2)
    assert len(threads.seen) >= 2 * (CONFIG.n_positions - threads.n)


@pytest.mark.parametrize("past", [1, 4, 9])
def test_a_cache_continues_after_segments_and_before_them(threads, past):
    cache = KVCache(CONFIG)
    logits = [FAST64(IDS[:, :past], cache=cache), FAST64(IDS[:, past:-3], cache=cache)]
    assert cache.length == CONFIG.n_positions - 3
    logits += [FAST64(IDS[:, [t]], cache=cache) for t in (-3, -2, -1)]
    np.testing.assert_allclose(np.concatenate(logits, axis=-2), MODEL64(IDS, trace=Recorder()), **SAME)


def in_segments(run, ids, cache=None):
    """Cut `ids` into segments for a model whose pass is ``run(ids, cache)``."""
    model = SimpleNamespace(config=CONFIG, h=MODEL64.h, embedding=MODEL64.embedding, ln_f=MODEL64.ln_f)
    return segments.in_segments(model, lambda ids, cache: run(ids, cache), ids, cache)


def test_the_segments_run_at_the_same_time(threads):
    everyone = threading.Barrier(threads.n, timeout=30)  # breaks unless all parts are there at once

    def run(ids, cache):
        everyone.wait()
        return np.zeros((ids.shape[-1], 1))

    assert in_segments(run, IDS[0]).shape == (CONFIG.n_positions, 1)


@pytest.mark.parametrize("failing", ["first", "last"])
@pytest.mark.parametrize("error", [ArithmeticError, KeyboardInterrupt])
def test_a_segment_that_fails_stops_the_others_and_leaves_the_cache_as_it_was(threads, failing, error, monkeypatch):
    """Ctrl-C reaches the last segment, which runs in the caller's thread."""
    cache, before = KVCache(CONFIG), threading.active_count()
    FAST64(IDS[0, :4], cache=cache)
    bad = {"first": 4, "last": 4 + segments.shares(CONFIG, 4, 19, threads.n)[-2]}[failing]
    seen = []

    call = Attention.__call__

    def failing(layer, x, remember, trace):
        segment = remember.func.__self__
        if layer.c_attn is MODEL64.h[1].attn.c_attn:
            seen.append((segment.length, segment.stop.is_set()))
            if segment.length == bad:
                raise error("no")
        return call(layer, x, remember, trace)

    monkeypatch.setattr(Attention, "__call__", failing)
    with pytest.raises(error, match="no"):
        FAST64(IDS[0, 4:], cache=cache)
    monkeypatch.undo()
    assert bad in [length for length, _ in seen]
    assert threading.active_count() == before
    assert cache.length == 4 and not blas._inside and not blas._running
    assert threads.n == threads.seen[-1] > 1
    other = np.concatenate([IDS[0, :4], IDS[1, 4:]])
    np.testing.assert_allclose(FAST64(other[4:], cache=cache), MODEL64(other, trace=Recorder())[4:], **SAME)


def test_what_waits_for_a_segment_that_failed_ends_at_once(threads):
    """The first part never gets to its second block; no other may go on with what it did not store."""
    done = []

    def run(ids, segment):
        k = np.zeros((1, ids.shape[-1], 1))
        segment.layer(0)(k, k)
        if segment.before is None:
            raise ArithmeticError("no")
        segment.layer(1)(k, k)
        done.append(segment)
        return k

    with pytest.raises(ArithmeticError):
        in_segments(run, IDS[0])
    assert done == []


def test_settings_of_numpy_hold_in_every_segment(threads):
    seen = []

    def run(ids, segment):
        seen.append(np.geterr()["over"])
        return np.zeros((ids.shape[-1], 1))

    with np.errstate(over="raise"):
        in_segments(run, IDS[0])
    assert seen == ["raise"] * threads.n


def test_two_prompts_at_the_same_time_are_cut_alike_and_leave_the_number_of_threads_as_it_was(threads):
    """The second begins in the middle of the first, when products use one core."""
    n, inner = threads.n, []

    def run(ids, segment):
        if segment.before is None and not inner:
            inner.append(None)
            inner.append(in_segments(lambda ids, segment: np.zeros((1, 1)), IDS[0]))
            assert threads.n == 1
        return np.zeros((1, 1))

    assert in_segments(run, IDS[0]).shape[0] == inner[1].shape[0] == n
    assert threads.n == n and set(threads.seen[:-1]) == {1}


@pytest.mark.parametrize("found", [None, 1, 24])
def test_one_core_or_more_cores_than_segments_or_an_unknown_library_mean_one_segment(found, threads, monkeypatch):
    threads.n = found
    if found is None:
        monkeypatch.setattr(blas, "threads", lambda: None)
    cache, calls = KVCache(CONFIG), []
    in_segments(lambda ids, given: calls.append((len(ids), given)), IDS[0], cache)
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
    np.testing.assert_allclose(FAST64(IDS[0], cache=cache), whole, **SAME)
    assert cache.told == CONFIG.n_layer * CONFIG.n_positions
    np.testing.assert_allclose(FAST64(IDS[0], cache=NoCache()), whole, **SAME)


def test_a_cache_class_put_in_the_place_of_ours_gets_every_token_itself(threads):
    """As the course does with a student's: a segment is still made of this package's own."""

    class Students(KVCache):
        def __init__(self, config):
            super().__init__(config)
            self.own, self._layers = self._layers, None

        def _remember(self, i, k, v):
            self._layers = self.own
            try:
                return super()._remember(i, k, v)
            finally:
                self._layers = None

    with seams.installed({"model.cache:KVCache": Students}):
        found = FAST64(IDS[0], cache=Students(CONFIG))
        np.testing.assert_allclose(FAST64(IDS[0]), found, **SAME)
    np.testing.assert_allclose(found, MODEL64(IDS[0]), **SAME)


def test_a_model_with_blocks_put_in_runs_in_segments_too(threads):
    deeper = dataclasses.replace(MODEL64, h=MODEL64.h + MODEL64.h)
    np.testing.assert_allclose(fast(deeper)(IDS[0]), deeper(IDS[0]), **SAME)
    assert threads.seen


def test_a_long_prompt_may_outlive_the_main_thread():
    script = """
import threading, numpy as np
from helpers import random_model
from nanogpt_np.fast import blas, fast
class Threads: n = 2
blas.threads = lambda: (lambda: Threads.n, lambda n: setattr(Threads, "n", n))
model = fast(random_model(n_positions=600))
def run():
    threading.main_thread().join()
    print(model(np.zeros(600, int)).shape)
threading.Thread(target=run).start()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parent
    )
    assert (done.stdout.strip(), done.stderr) == ("(600, 97)", "")


def test_only_a_command_that_shows_steps_attaches_a_trace(threads, monkeypatch, capsys):
    """So that a long prompt on the command line takes the fast way."""
    traced = []
    hidden = gpt2.GPT2.hidden

    def spy(self, ids, *, cache=None, trace=no_trace):
        traced.append(trace is not no_trace)
        return hidden(self, ids, cache=cache, trace=trace)

    monkeypatch.setattr(gpt2.GPT2, "hidden", spy)
    command = ["The capital of France is", "--model", "facts", "-n", "1"]
    for more in ([], ["--top", "2"], ["--trace"], ["--watch", " Paris"]):
        traced.clear()
        assert main([*command, *more]) == 0
        assert set(traced) == {bool(more)}
    capsys.readouterr()


def test_shares_cover_the_prompt_and_cost_about_the_same():
    for past, T, n in ((0, 1023, 2), (512, 511, 2), (0, 1024, 5), (10, 7, 7), (0, 2, 2)):
        ends = segments.shares(CONFIG, past, T, n)
        starts = [0, *ends[:-1]]
        assert ends[-1] == T
        assert all(start < end for start, end in zip(starts, ends, strict=True)), (past, T, n, ends)
    first, second = (np.diff([0, *segments.shares(CONFIG, 0, 1024, 2)])).tolist()
    assert first > second  # later tokens see more keys


def test_numpys_own_wheels_can_be_told_to_use_one_core():
    if blas.threads() is None:
        pytest.skip("this NumPy does not carry OpenBLAS as its wheels do")
    get, _ = blas.threads()
    before = get()
    with blas.products_on_one_core():
        assert get() == 1
    assert get() == before
