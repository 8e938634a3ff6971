"""Threads and processes: one prompt changes nothing for another, and a fork or a limit of the system stops neither.

The number of threads that matrix products use is one for the whole process; a long prompt sets it to 1 meanwhile.
"""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import random_model

from nanogpt_np.fast import blas, fast, segments
from nanogpt_np.generate import generate
from nanogpt_np.model.cache import KVCache

HERE = Path(__file__).parent
MODEL = random_model(n_positions=600)
IDS = np.random.default_rng(1).integers(MODEL.config.vocab_size, size=600)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
openblas = pytest.mark.skipif(blas.threads() is None, reason="this NumPy does not carry OpenBLAS as its wheels do")


class Threads:
    """Stands for the library behind the products: a number that can be read and set."""

    def __init__(self, n):
        self.n, self.seen = n, []

    def put(self, n):
        self.n = n
        self.seen.append(n)


@pytest.fixture(params=[2, 3, 4])
def threads(request, monkeypatch):
    threads = Threads(request.param)
    monkeypatch.setattr(blas, "threads", lambda: (lambda: threads.n, threads.put))
    return threads


def run(script, *, timeout=120, **environment):
    """Run a script in a process of its own, where NumPy begins anew; return what it printed."""
    head = """
        import os, sys, threading, time
        import numpy as np
        from helpers import random_model
        from nanogpt_np.fast import blas, fast, segments
        from nanogpt_np.generate import generate
        class Threads: n = 2
        def two_cores():
            blas.threads = lambda: (lambda: Threads.n, lambda n: setattr(Threads, "n", n))
        model = fast(random_model(n_positions=600))
        ids = np.random.default_rng(1).integers(97, size=600)
    """
    script = textwrap.dedent(head) + textwrap.dedent(script)
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    environment = {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "2", **environment}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        start_new_session=True,
    )
    try:
        printed, said = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        if hasattr(os, "killpg"):  # its children too, one of which may be what hangs
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        raise
    assert (process.returncode, said) == (0, ""), said
    return printed.split()


# --- the number of threads -----------------------------------------------------------------------


@pytest.mark.parametrize("order", [[0, 1], [1, 0], [2, 0, 1], [0, 2, 1], [2, 1, 0]])
def test_whoever_ends_last_restores_the_number(threads, order):
    usual = threads.n
    entered = [blas.products_on_one_core() for _ in order]
    for context in entered:
        context.__enter__()
        assert (threads.n, blas.cores()) == (1, usual)
    for left, i in enumerate(order, 1):
        entered[i].__exit__(None, None, None)
        assert threads.n == (usual if left == len(order) else 1)
        assert blas.cores() == usual


def test_a_number_that_was_changed_in_between_is_the_one_restored(threads):
    for n in (5, 2, 7):
        threads.put(n)
        with blas.products_on_one_core():
            assert threads.n == 1
        assert threads.n == n


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit, GeneratorExit])
def test_an_error_inside_restores_the_number(threads, error):
    usual = threads.n
    with pytest.raises(error), blas.products_on_one_core(), blas.products_on_one_core():
        raise error
    assert threads.n == usual and not blas._inside


def test_many_threads_that_come_and_go_leave_the_number_as_it_was(threads):
    usual, low = threads.n, []

    def come_and_go(seed):
        rng = np.random.default_rng(seed)
        for _ in range(50):
            with blas.products_on_one_core():
                low.append(threads.n)
                time.sleep(rng.exponential(1e-4))

    workers = [threading.Thread(target=come_and_go, args=(seed,)) for seed in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert threads.n == usual and set(low) == {1} and len(low) == 300


def test_ctrl_c_at_any_line_of_a_long_prompt_restores_the_number_and_ends_the_threads(threads, monkeypatch):
    """The interrupt comes at the n-th line that this thread runs in segments.py, for every n until none is left."""
    usual, model, before = threads.n, fast(MODEL), threading.active_count()
    monkeypatch.setattr(segments, "SMALLEST", 1)
    expected = model(IDS[:40])
    interrupted = 0
    for n in range(10_000):
        left = [n]

        def line(frame, event, _, left=left):
            if event == "line":
                left[0] -= 1
                if left[0] < 0:
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return line

        cache = KVCache(MODEL.config)
        ours = {segments.__file__}
        sys.settrace(lambda frame, event, _: line if frame.f_code.co_filename in ours else None)  # noqa: B023
        try:
            found = model(IDS[:40], cache=cache)
        except KeyboardInterrupt:
            interrupted += 1
        else:
            break
        finally:
            sys.settrace(None)
        assert threads.n == usual and not blas._inside, n
        assert cache.length in (0, 40)
    assert interrupted > 50
    assert found.tobytes() == expected.tobytes()
    deadline = time.monotonic() + 20  # one that was interrupted while it waited for the others left them to end
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


# --- where no thread can be started --------------------------------------------------------------


@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_segments_without_threads_of_their_own_give_the_same_bits(threads, allowed, monkeypatch):
    model, cache = fast(MODEL), KVCache(MODEL.config)
    expected = [model(IDS), model.last_row(IDS[None])]
    started = []
    start = threading.Thread.start

    def limited(thread):
        if len(started) >= allowed:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    assert model(IDS, cache=cache).tobytes() == expected[0].tobytes()
    started.clear()
    assert model.last_row(IDS[None]).tobytes() == expected[1].tobytes()
    assert len(started) == min(allowed, threads.n - 1)
    assert cache.length == 600 and threads.n > 1 and not blas._inside


def test_a_process_that_may_start_no_thread_gives_the_same_logits():
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "RLIMIT_NPROC"):
        pytest.skip("this system has no such limit")
    script = """
        import resource
        two_cores()
        if LIMITED:
            if os.getuid() == 0:  # the limit does not hold for root
                os.setgid(65534), os.setuid(65534)
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
            try:
                threading.Thread(target=print).start()
                print("unlimited")
            except RuntimeError:
                pass
        print(model(ids).tobytes().hex()[:400], *generate(model, ids[:500], 20))
    """
    with_threads, without = (
        run(script.replace("LIMITED", limited), OPENBLAS_NUM_THREADS="1") for limited in ("False", "True")
    )
    if "unlimited" in without:
        pytest.skip("this system starts threads beyond the limit")
    assert without == with_threads and len(without) == 21


# --- forks ---------------------------------------------------------------------------------------


@forks
def test_a_child_forked_during_a_long_prompt_has_the_usual_number_and_no_held_lock():
    found = run(
        """
        two_cores()
        ready, go_on = threading.Event(), threading.Event()
        whole = model(ids)
        def hidden(ids, cache):
            if cache.before is None:
                ready.set()
                go_on.wait()
            return np.zeros((ids.shape[-1], 1))
        worker = threading.Thread(target=segments.in_segments, args=(model, hidden, ids, None))
        worker.start()
        ready.wait()
        assert Threads.n == 1
        for _ in range(3):
            if not os.fork():
                assert Threads.n == blas.cores() == 2 and not blas._inside
                ok = model(ids).tobytes() == whole.tobytes() and Threads.n == 2
                if not os.fork():
                    os._exit(model(ids).tobytes() != whole.tobytes())
                os._exit(not ok or os.wait()[1])
            print(os.wait()[1])
        assert Threads.n == 1  # in the parent the prompt goes on
        go_on.set()
        worker.join()
        print(Threads.n)
        """
    )
    assert found == ["0", "0", "0", "2"]


@forks
@openblas
@pytest.mark.parametrize(
    "work",
    {
        "long prompts": "model(ids)",
        "short prompts": "model(ids[:40])",
        "a trace": "model(ids[:200], trace=lambda name, x: x)",
        "generation": "list(generate(model, ids[:300], 10, stop=()))",
        "training": "loss_and_grads(model, ids[None, :80], ids[None, 1:81])",
    }.items(),
    ids=lambda item: item[0],
)
@pytest.mark.slow
def test_forks_beside_a_thread_at_work_do_not_hang(work):
    """Many children while a thread runs a model; each runs a prompt of its own and ends, and so does the thread."""
    children = 20 if work[0] == "long prompts" else 8
    found = run(
        f"""
        from nanogpt_np.train.loss import loss_and_grads
        usual, stop = blas.cores(), []
        model = fast(random_model(n_positions=600, n_embd=240, n_inner=960, n_head=5, n_layer=1))
        expected = model(ids[:30])
        done = []
        def work():
            while not stop:
                {work[1]}
                done.append(1)
        worker = threading.Thread(target=work)
        worker.start()
        for n in range({children}):
            time.sleep(0.003 * n % 0.02)
            if not os.fork():
                ok = np.allclose(model(ids[:30]), expected, atol=1e-4) and blas.threads()[0]() == usual
                os._exit(not ok)
            print(os.wait()[1])
        before = len(done)
        while len(done) < before + 2:
            time.sleep(0.001)
        stop.append(1)
        worker.join()
        print(blas.threads()[0]() == usual)
        """
    )
    assert found == ["0"] * children + ["True"]


@forks
@pytest.mark.slow
def test_a_fork_waits_for_passes_of_other_threads_but_not_of_its_own_and_not_for_ever():
    found = run(
        """
        def forked():
            began = time.monotonic()
            if not os.fork():
                with blas.products_on_all_cores():  # nobody is left to wait for
                    os._exit(0)
            os.wait()
            return time.monotonic() - began
        def passing(seconds, begun):
            with blas.products_on_all_cores():
                begun.set()
                time.sleep(seconds)
                with blas.products_on_all_cores():  # one within another does not wait for the fork
                    pass
        def beside(seconds):
            begun = threading.Event()
            thread = threading.Thread(target=passing, args=(seconds, begun))
            thread.start()
            begun.wait()
            took = forked()
            thread.join()
            return took
        with blas.products_on_all_cores():
            print(forked() < 1)
        print(1 < beside(1.5))
        blas.PATIENCE = 0.2
        print(beside(3) < 2.5)
        print(not blas._running, not blas._forking)
        """
    )
    assert found == ["True"] * 5


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_multiprocessing_generate_what_this_one_does(method):
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    found = run(
        f"""
        import multiprocessing
        from test_processes import continued
        with multiprocessing.get_context("{method}").Pool(2) as pool:
            print(*[token for new in pool.map(continued, range(6)) for token in new])
        """
    )
    assert list(map(int, found)) == [token for seed in range(6) for token in continued(seed)]


def continued(seed):
    """Return 10 tokens that follow a prompt, drawn with a seed."""
    rng = np.random.default_rng(seed)
    return list(generate(MODEL, IDS[: 20 + seed], 10, temperature=1.0, rng=rng, stop=()))


# --- threads -------------------------------------------------------------------------------------


@openblas
def test_a_step_beside_another_threads_long_prompt_is_the_same_within_rounding():
    """With one core for each product, one row times a large matrix is summed in another order."""
    model = fast(random_model(n_positions=64, n_embd=768, n_inner=3072, n_head=12, n_layer=2, vocab_size=1000))
    alone, beside = KVCache(model.config), KVCache(model.config)
    for ids in ([1, 2, 3, 4, 5], [6], [7], [8, 9], [10]):
        expected = model(ids, cache=alone)
        with blas.products_on_one_core():
            found = model(ids, cache=beside)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)  # measured: 1e-6


def test_four_threads_that_generate_at_once_get_what_each_gets_alone():
    alone = [continued(seed) for seed in range(8)]
    together = [None] * 8

    def work(start):
        for seed in range(start, 8, 4):
            together[seed] = continued(seed)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert together == alone


def test_a_long_prompt_gives_the_same_bits_whatever_other_threads_run(threads):
    model = fast(MODEL)
    alone, stop, results = model(IDS).tobytes(), threading.Event(), []

    def others():
        while not stop.is_set():
            model(IDS[:300])

    def work():
        results.extend(model(IDS).tobytes() == alone for _ in range(4))

    busy = [threading.Thread(target=others) for _ in range(2)]
    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in [*busy, *workers]:
        worker.start()
    for worker in workers:
        worker.join()
    stop.set()
    for worker in busy:
        worker.join()
    assert results == [True] * 8 and not blas._inside
