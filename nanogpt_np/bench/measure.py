"""The rows of the benchmark: each times its racers in turn and checks that they run the same model.

Read next: `report.py`, which shows what was measured.
"""

import contextlib
import os
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np

from ..fast import blas
from ..names import parameters
from ..weights import open_checkpoint
from . import products, racers, scripts, training
from .lanes import Lane, in_turn, summary
from .report import AS_LOADED

PROMPTS = (5, 128, 512, 1023)  # tokens
CONTEXTS = (5, 128, 512, 959)  # tokens in the cache before those that are decoded
TRACED = 512  # tokens of the prompt that is run with and without a trace
ROWS = ("prompt", "decode", "context", "cold", "load", "memory", "trace", "train")


def measure(directory, rows, rounds, against):
    """Yield a dict for every measured row: its name, unit, number of tokens, and each racer's result."""
    config, rng = open_checkpoint(directory).config, np.random.default_rng(0)
    ours, *theirs = [racers.Ours, *([racers.Transformers] if against else [])]

    def some_ids(n):
        return rng.integers(0, config.vocab_size, n).tolist()

    with contextlib.ExitStack() as stack:

        def lanes(*entrants):
            return [stack.enter_context(contextlib.closing(Lane(racer, directory))) for racer in entrants]

        runners = (
            lanes(ours, *theirs, products.Products) if {"prompt", "decode", "context", "trace"} & set(rows) else []
        )
        for T in (n for n in PROMPTS if "prompt" in rows and n <= config.n_positions):
            ids = some_ids(T)
            logits = [lane.prepare("prompt", ids) for lane in runners]
            _check_same(logits[:-1], "their logits")
            yield _row("prompt", "seconds", in_turn(runners, rounds), T)
        if "decode" in rows:
            as_loaded, (reading,) = runners[0].twin(AS_LOADED), lanes(products.Reading)
        contexts = [n for n in CONTEXTS if n + products.DECODED <= config.n_positions]
        for n in contexts if "decode" in rows else ():
            ids = some_ids(n)
            _check_same([lane.prepare("decode", ids) for lane in runners][:-1], "their logits")
            as_loaded.prepare("products", ids)
            reading.prepare("decode", ids)
            everyone = [*runners, as_loaded, reading]
            yield _row("decode", "seconds per token", in_turn(everyone, rounds), n, products.DECODED)
        if "context" in rows and len(contexts) > 1:
            yield _context_row(runners[:-1], *lanes(products.KeysAndValues), [some_ids(n) for n in contexts], rounds)
        if "trace" in rows:
            ids, traced = some_ids(min(TRACED, config.n_positions)), [runners[0], *lanes(ours, ours)]
            for lane, kind in zip(traced, racers.TRACES, strict=True):
                lane.name = kind
                lane.prepare("traced", ids, kind)
            yield _row("trace", "seconds", in_turn(traced, rounds), len(ids))
        if "load" in rows:
            runners = lanes(racers.Load, *[racers.TheirLoad for _ in theirs])
            for lane in runners:
                lane.prepare("run")
            yield _row("load", "seconds", in_turn(runners, rounds), None)
        if "train" in rows:
            runners = lanes(training.Training, *[training.TheirTraining for _ in theirs])
            _check_same([lane.prepare("run") for lane in runners], "their losses")
            yield _row("train", "seconds", in_turn(runners, rounds), training.BATCH * training.CONTEXT)
    names = [racer.name for racer in (ours, *theirs)]
    if "cold" in rows:
        seconds = {name: [] for name in names}
        for _ in range(max(4, rounds // 2)):
            for name in names:
                began = time.perf_counter()
                _process(scripts.COLD[name], directory)
                seconds[name].append(time.perf_counter() - began)
        yield _row("cold", "seconds", seconds, len(scripts.IDS))
    fits = len(scripts.IDS) + scripts.NEW_TOKENS <= config.n_positions
    if "memory" in rows and fits and sys.platform != "win32":
        results = {name: {"median": int(_process(scripts.MEMORY[name], directory))} for name in names}
        row = {"row": "memory", "unit": "bytes", "tokens": scripts.NEW_TOKENS, "results": results}
        yield row | {"float32 parameters": 4 * parameters.count(config)}


def _context_row(runners, reading, contexts, rounds):
    """Return how much each token in the cache slows down the next: the slope of a line through all contexts.

    All contexts are timed in every round, so that machine drift adds no slope.
    """
    lengths = [len(ids) for ids in contexts]
    twins = {lane.name: [lane.twin(f"{lane.name} after {n}") for n in lengths] for lane in runners}
    for lanes in twins.values():
        for lane, ids in zip(lanes, contexts, strict=True):
            lane.prepare("decode", ids)
    reading.prepare("read", lengths[-1])
    everyone = [lane for lanes in twins.values() for lane in lanes]
    seconds = in_turn([*everyone, reading], rounds)
    slopes = {}
    for name, lanes in twins.items():
        times = [seconds[lane.name] for lane in lanes]  # (contexts, rounds)
        slopes[name] = np.polyfit(lengths, times, 1)[0].tolist()
    results = {name: summary(times, products.DECODED) for name, times in slopes.items()}
    results[reading.name] = summary(seconds[reading.name], lengths[-1])
    return {"row": "context", "unit": "seconds per token of context", "tokens": None, "results": results}


def _process(script, directory=None):
    """Run a script in a fresh interpreter and return the last line that it printed."""
    head = f"DIRECTORY, TEXT = {str(directory)!r}, {scripts.TEXT!r}\n"
    done = subprocess.run([sys.executable, "-c", head + script], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"a measured process failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip().splitlines()[-1]


def _row(row, unit, seconds, tokens, per=1):
    results = {name: summary(times, per) for name, times in seconds.items()}
    return {"row": row, "unit": unit, "tokens": tokens, "results": results}


def _check_same(values, what):
    apart = float(np.max([np.abs(value - values[0]).max() for value in values]))  # NaN counts as the largest
    if not apart <= 1e-3:
        raise ValueError(f"the racers do not run the same model: {what} differ by {apart:.1e}")


def machine(against=None):
    """Return what the figures depend on: processor, cores, versions, threads (None where unknown or not asked for)."""
    name = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    library = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    for package in ("torch", "transformers"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    threads = blas.threads()
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "blas": f"{library['name']} {library['version']}",
        "blas threads": threads[0]() if threads else None,
        **versions,
        "torch threads": int(_process("import torch; print(torch.get_num_threads())")) if against else None,
    }
