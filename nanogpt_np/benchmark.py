"""``python -m nanogpt_np.benchmark``: how fast this package is, beside transformers and its matrix products alone.

Every row times its racers one after another, round by round, so that a machine whose speed drifts
treats them alike; medians are shown, with the middle half of all rounds. Who is timed, and what
the products alone are: `racers.py`. Speed does not depend on the values of the weights, so without a checkpoint
a random one is written first, laid out as the published files are.
"""

import contextlib
import copy
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np

from . import cores, parameters, racers, weights
from .benchmark_report import AS_LOADED, busy, lines_of, markdown, sizes
from .cli import Parser, command, say
from .config import PUBLISHED, published

PROMPTS = (5, 128, 512, 1023)  # tokens
CONTEXTS = (5, 128, 512, 959)  # tokens in the cache before those that are decoded
TRACED = 512  # tokens of the prompt that is run with and without a trace
ROWS = ("prompt", "decode", "context", "cold", "load", "memory", "trace", "train")
SETTLE = 0.2  # seconds until the threads of the one timed before sleep: OpenBLAS's were seen to use a core for 0.11
DTYPES = {"F32": np.float32, "F16": np.float16}


class Lane:
    """A racer in a process of its own: in one, the waiting threads of one library slow the other down."""

    def __init__(self, racer, directory):
        context = multiprocessing.get_context("spawn")
        self.name, (self.pipe, end) = racer.name, context.Pipe()
        self.process = context.Process(target=_race, args=(racer, directory, end), daemon=True)
        self.process.start()
        end.close()
        self._answer()

    def twin(self, name):
        """Return a lane of that name in the same process: the same racer runs another race."""
        twin = copy.copy(self)
        twin.name = name
        return twin

    def prepare(self, method, *arguments):
        """Make the racer ready for what `time` will run, and run it once to warm up; return what that gave."""
        self.pipe.send((self.name, method, arguments))
        return self._answer()

    def time(self):
        """Return the seconds that one run takes."""
        self.pipe.send(self.name)
        return self._answer()

    def _answer(self):
        try:
            answer = self.pipe.recv()
        except EOFError:
            raise ValueError(f"the process of {self.name} ended before its time") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        """End the process."""
        self.pipe.close()
        self.process.join()


def _race(racer, directory, pipe):
    """What a lane's process does: make the racer, then prepare and run as it is asked, until nobody asks."""
    try:
        racer, runs = racer(directory), {}
        pipe.send("ready")
        while True:
            question = pipe.recv()
            if isinstance(question, str):
                run = runs[question]
                time.sleep(SETTLE)
                began = time.perf_counter()
                run()
                pipe.send(time.perf_counter() - began)
            else:
                name, method, arguments = question
                runs[name] = getattr(racer, method)(*arguments)
                pipe.send(runs[name]())
    except (EOFError, KeyboardInterrupt):
        return
    except Exception as error:
        pipe.send(error)


def in_turn(lanes, rounds):
    """Time every lane once in each round; return ``{name: [seconds]}``."""
    seconds = {lane.name: [] for lane in lanes}
    for _ in range(rounds):
        for lane in lanes:
            seconds[lane.name].append(lane.time())
    return seconds


def summary(seconds, per=1):
    """Return median, first and last quarter of some timings, each divided by `per`."""
    low, median, high = statistics.quantiles([s / per for s in seconds], n=4)
    return {"median": median, "low": low, "high": high}


def measure(directory, rows, rounds, against):
    """Yield a dict for every measured row: what, of how many tokens, in which unit, and each racer's result."""
    config, rng = weights.stored_parameters(directory)[0], np.random.default_rng(0)
    ours, *theirs = [racers.Ours, *([racers.Transformers] if against else [])]

    def some_ids(n):
        return rng.integers(0, config.vocab_size, n).tolist()

    with contextlib.ExitStack() as stack:

        def lanes(*entrants):
            return [stack.enter_context(contextlib.closing(Lane(racer, directory))) for racer in entrants]

        runners = lanes(ours, *theirs, racers.Products) if {"prompt", "decode", "context", "trace"} & set(rows) else []
        for T in (n for n in PROMPTS if "prompt" in rows and n <= config.n_positions):
            ids = some_ids(T)
            logits = [lane.prepare("prompt", ids) for lane in runners]
            _check_same(logits[:-1], "their logits")
            yield _row("prompt", "seconds", in_turn(runners, rounds), T)
        if "decode" in rows:
            as_loaded, (reading,) = runners[0].twin(AS_LOADED), lanes(racers.Reading)
        contexts = [n for n in CONTEXTS if n + racers.DECODED <= config.n_positions]
        for n in contexts if "decode" in rows else ():
            ids = some_ids(n)
            _check_same([lane.prepare("decode", ids) for lane in runners][:-1], "their logits")
            as_loaded.prepare("products", ids)
            reading.prepare("decode", ids)
            everyone = [*runners, as_loaded, reading]
            yield _row("decode", "seconds per token", in_turn(everyone, rounds), n, racers.DECODED)
        if "context" in rows and len(contexts) > 1:
            yield _context_row(runners[:-1], *lanes(racers.KeysAndValues), [some_ids(n) for n in contexts], rounds)
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
            runners = lanes(racers.Training, *[racers.TheirTraining for _ in theirs])
            _check_same([lane.prepare("run") for lane in runners], "their losses")
            yield _row("train", "seconds", in_turn(runners, rounds), racers.BATCH * racers.CONTEXT)
    names = [racer.name for racer in (ours, *theirs)]
    if "cold" in rows:
        seconds = {name: [] for name in names}
        for _ in range(max(4, rounds // 2)):
            for name in names:
                began = time.perf_counter()
                _process(racers.COLD[name], directory)
                seconds[name].append(time.perf_counter() - began)
        yield _row("cold", "seconds", seconds, len(racers.IDS))
    fits = len(racers.IDS) + racers.NEW_TOKENS <= config.n_positions
    if "memory" in rows and fits and sys.platform != "win32":
        results = {name: {"median": int(_process(racers.MEMORY[name], directory))} for name in names}
        row = {"row": "memory", "unit": "bytes", "tokens": racers.NEW_TOKENS, "results": results}
        yield row | {"float32 parameters": 4 * parameters.count(config)}


def _context_row(runners, reading, contexts, rounds):
    """Return by how much each token in the cache slows down the next: the slope of a line through all contexts.

    All contexts are timed in every round, so that a drift of the machine is no slope.
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
    results = {name: summary(times, racers.DECODED) for name, times in slopes.items()}
    results[reading.name] = summary(seconds[reading.name], lengths[-1])
    return {"row": "context", "unit": "seconds per token of context", "tokens": None, "results": results}


def _process(script, directory=None):
    """Run a script in a fresh interpreter and return the last line that it printed."""
    head = f"DIRECTORY, TEXT = {str(directory)!r}, {racers.TEXT!r}\n"
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


def write_random(config, directory, dtype="F32"):
    """Write a checkpoint of random numbers as the published files are laid out.

    Names without prefix, the causal masks stored too, and a header after which no tensor is aligned.
    """
    shapes = {name: p.shape(config) for name, p in parameters.table(config).items()}
    mask = (1, 1, config.n_positions, config.n_positions)
    shapes |= {f"h.{i}.attn.bias": mask for i in range(config.n_layer)}
    header, end, kind = {}, 0, DTYPES[dtype]
    for name, shape in shapes.items():
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * ((3 - len(text)) % 4)
    rng = np.random.default_rng(0)
    with open(directory / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            if shape == mask:
                array = np.tri(config.n_positions)
            else:  # as GPT-2 was initialised: gains of 1, all else normal with a deviation of 0.02
                array = 0.02 * rng.standard_normal(shape, np.float32) + (".ln_" in f".{name}" and "weight" in name)
            file.write(array.astype(kind).tobytes())
    (directory / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")


def machine(against=None):
    """Return what the figures depend on: processor, cores, versions, threads (None where unknown or not asked for)."""
    name = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    for package in ("torch", "transformers"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    threads = cores._threads()
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "blas": f"{blas['name']} {blas['version']}",
        "blas threads": threads[0]() if threads else None,
        **versions,
        "torch threads": int(_process("import torch; print(torch.get_num_threads())")) if against else None,
    }


def _parser():
    parser = Parser("benchmark", "Time this package, beside transformers and beside its matrix products alone.")
    add = parser.add_argument
    add("--model", default="gpt2", metavar="SIZE|NAME|DIR", help="a size (random weights where the model is not on "
        "this machine), a name, or a directory (default: gpt2)")  # fmt: skip
    add("--dtype", choices=DTYPES, default="F32", help="of the random weights in their file (default: F32)")
    add("--against", choices=["transformers"], help="race it too, in turn: needs the extra 'reference'")
    add("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=f"which: {', '.join(ROWS)}")
    add("--rounds", type=int, default=9, metavar="N", help="timings of each that count (default: 9)")
    add("--json", action="store_true", help="print one JSON object at the end")
    add("--table", nargs="+", metavar="FILE.json", help="measure nothing: print what --json printed before, as "
        "README.md shows it; of several models, a line each")  # fmt: skip
    return parser


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    args = _parser().parse_args(argv)
    if args.rounds < 4:
        raise ValueError(f"--rounds must be 4 or more, not {args.rounds}")
    if args.table:
        results = [json.loads(Path(file).read_text(encoding="utf-8")) for file in args.table]
        print(markdown(*results) if len(results) == 1 else sizes(results))
        return 0
    result = {"machine": machine(args.against), "model": Path(args.model).name, "rows": []}
    scratch = None
    try:
        directory, result["weights"] = _found(args.model)
        if directory is None:
            directory = scratch = Path(tempfile.mkdtemp())
            say(f"writing random weights of {args.model}'s size")
            write_random(published(args.model), directory, args.dtype)
            result["weights"] = f"random, {args.dtype}, laid out as published"
        say(f"{result['machine']['processor']}, {os.cpu_count()} cores; {args.model}: {result['weights']}")
        for row in measure(directory, args.rows, args.rounds, args.against):
            result["rows"].append(row)
            print("\n".join(lines_of(row)), file=sys.stderr if args.json else sys.stdout, flush=True)
    finally:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
    rows = [row for row in result["rows"] if row["row"] != "context"]  # a slope is a small difference of long times
    timed = [r for row in rows for r in row["results"].values() if "high" in r]
    result["widest spread"] = max(((r["high"] - r["low"]) / r["median"] for r in timed), default=0)
    if busy(result):
        say(busy(result))
    if args.json:
        print(json.dumps(result, indent=1))
    return 0


def _found(name):
    """Return (directory, its origin) of a model, or (None, None) for a size that is not on this machine."""
    from .home import find, origin

    try:
        directory = find(name)
    except ValueError:
        if name not in PUBLISHED:
            raise
        return None, None
    return directory, origin(name, directory)


if __name__ == "__main__":
    sys.exit(main())
