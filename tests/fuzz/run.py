"""Run fuzz cases and say what became of them: ``python tests/fuzz/run.py --category recordings --seed 17``.

Each case follows from its category and its seed alone. Without ``--cases`` and ``--seconds``, one case of each chosen
category runs, and its files are kept. ``--cases 20000 --jobs 2`` is a long run; it prints a table by category.
"""

import argparse
import collections
import gc
import importlib
import json
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import asdict
from pathlib import Path

CATEGORIES = {"checkpoints": 4, "configs": 3, "indexes": 2, "recordings": 4, "lines": 4, "states": 2}  # name: share
# One thread, one arena: what is mapped is then what is allocated. A home that is empty.
SETTINGS = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "COLUMNS": "120"}
UNSET = (
    "NANOGPT_NP_HOME",
    "HF_HOME",
    "HF_HUB_CACHE",
    "XDG_CACHE_HOME",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_THRESHOLD_",
)


def main():
    """Run the cases; return 1 if there is a fault, else 0."""
    args = _arguments()
    scratch = Path(tempfile.mkdtemp(prefix="fuzz-"))
    try:
        (scratch / "home").mkdir()
        os.environ["HOME"] = str(scratch / "home")
        if args.cases is None and args.seconds is None:
            found = [one(name, args.seed, scratch) for name in args.category]
            for row in found:
                print(json.dumps(row, indent=1, ensure_ascii=True))
            return int(any(row["fault"] for row in found))
        rows = several(args, scratch)
    finally:
        if not args.keep:
            shutil.rmtree(scratch, ignore_errors=True)
    if args.json:
        print(json.dumps(rows))
    else:
        print("\n".join(summary(rows)))
    return int(any(row["fault"] for row in rows))


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    add = parser.add_argument
    add("--category", action="append", choices=CATEGORIES, help="may be repeated (default: all)")
    add("--seed", type=int, default=0, help="the first seed of each category (default: 0)")
    add("--cases", type=int, metavar="N", help="cases in all, shared among the categories")
    add("--seconds", type=float, metavar="X", help="begin no case after this time")
    add("--jobs", type=int, default=1, metavar="N", help="cases at a time (default: 1)")
    add("--json", action="store_true", help="print a JSON list of all cases")
    add("--log", metavar="FILE", help="append a line of JSON for each fault as it is found")
    add("--keep", action="store_true", help="keep the temporary folder; its name is in the result of a single case")
    args = parser.parse_args()
    args.category = args.category or list(CATEGORIES)
    return args


def warm():
    """Import what cases need, and make the tokenizer that all share: making one takes longer than most cases."""
    import safetensors.numpy  # noqa: F401

    import nanogpt_np.page  # noqa: F401
    from nanogpt_np.__main__ import COMMANDS
    from nanogpt_np.text import Tokenizer

    for name in COMMANDS:
        importlib.import_module(f"nanogpt_np.commands.{name}")
    made = vars(Tokenizer()).copy()
    Tokenizer.__init__ = lambda self: vars(self).update(made)


def several(args, scratch):
    """Return a row for each case; `jobs` processes take them in turn."""
    order = [name for name in args.category for _ in range(CATEGORIES[name])]
    random.Random(0).shuffle(order)
    workers = []
    for job in range(args.jobs):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                _work(args, scratch / f"job-{job}", order, job)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush(), sys.stderr.flush()
                os._exit(code)
        workers.append(pid)
    if any(os.waitpid(pid, 0)[1] for pid in workers):
        raise SystemExit("a worker broke: see above")
    files = [scratch / f"job-{job}" / "rows" for job in range(args.jobs)]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def _work(args, scratch, order, job):
    """Run every `jobs`-th case, and write their rows to a file."""
    began, said = time.monotonic(), time.monotonic()
    scratch.mkdir()
    modules = prepared(args.category, scratch)
    seeds, n = collections.Counter(), 0
    with (scratch / "rows").open("w") as file:
        while args.cases is None or n < args.cases:
            name = order[n % len(order)]
            if n % args.jobs == job:
                if args.seconds and time.monotonic() - began > args.seconds:
                    break
                row = case(name, args.seed + seeds[name], modules[name], scratch)
                file.write(json.dumps(row) + "\n")
                if row["fault"] and args.log:
                    with open(args.log, "a") as log:
                        log.write(json.dumps(row) + "\n")
                if time.monotonic() - said > 30:
                    said = time.monotonic()
                    print(f"{n} cases, {said - began:.0f} s", file=sys.stderr, flush=True)
            seeds[name] += 1
            n += 1


def prepared(categories, scratch):
    """Return ``{category: (its module, what its cases start from)}``."""
    warm()
    found = {}
    for name in categories:
        module, base = importlib.import_module(f"fuzz.{name}"), scratch / f"base-{name}"
        base.mkdir()
        found[name] = module, module.prepare(base)
    gc.collect(), gc.freeze()
    return found


def one(name, seed, scratch):
    """Run one case; its files are kept."""
    there = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-{seed}-"))
    modules = prepared([name], scratch)
    row = case(name, seed, modules[name], there, keep=True)
    return row | {"files": str(there / "case" / "in"), "streams": str(there / "case" / "io")}


def case(name, seed, prepared, scratch, keep=False):
    """Make and run one case; return what became of it, as a dict."""
    from fuzz.limits import run_case

    module, base = prepared
    here = scratch / "case"
    files, io = here / "in", here / "io"
    files.mkdir(parents=True), io.mkdir()
    try:
        made = module.make(random.Random(f"{name} {seed}"), base, files)
    except Exception as error:
        raise RuntimeError(f"cannot make case {seed} of {name}") from error
    verdict = run_case(made, files, io)
    if not keep:
        shutil.rmtree(here)
    return {"category": name, "seed": seed, "changed": made.changed, "fault": verdict.is_fault, **asdict(verdict)}


def summary(rows):
    """Return the table by category, and the faults by what seems one cause."""
    lines = [f"{'category':12} {'cases':>7} {'accepted':>9} {'refused':>8} {'faults':>7}  slowest  most memory  notes"]
    for name in [*dict.fromkeys(row["category"] for row in rows), "all"]:
        some = [row for row in rows if name in (row["category"], "all")]
        n = collections.Counter(row["outcome"] for row in some)
        notes = collections.Counter(row["note"] for row in some if row["note"])
        lines.append(
            f"{name:12} {len(some):7,} {n['accepted']:9,} {n['refused']:8,} {sum(row['fault'] for row in some):7,}"
            f"  {max(row['seconds'] for row in some):5.1f} s  {max(row['memory'] for row in some) >> 20:8,} MB"
            f"  {', '.join(f'{count} {note}' for note, count in notes.items())}"
        )
    return [*lines, "", *faults(rows)] if any(row["fault"] for row in rows) else lines


def faults(rows):
    """Return lines for the faults, by what seems one cause, the most frequent first."""
    causes = collections.defaultdict(list)
    for row in rows:
        if row["fault"]:
            causes[row["category"], row["outcome"], row["where"]].append(row)
    lines = []
    for (name, outcome, where), some in sorted(causes.items(), key=lambda item: -len(item[1])):
        detail = some[0]["detail"].strip().split("\n")[-1] if outcome == "traceback" else some[0]["detail"]
        lines.append(f"{name}: {outcome} ({len(some)}x) {where}".rstrip()[:200])
        lines.append(f"    {detail.encode('ascii', 'backslashreplace').decode()[:300]!s}")
        for row in some[:3]:
            changed = row["changed"].encode("ascii", "backslashreplace").decode()[:260]
            lines.append(f"    python tests/fuzz/run.py --category {name} --seed {row['seed']}    {changed}")
    return lines


if __name__ == "__main__":
    if not sys.platform.startswith("linux"):
        sys.exit("the limits are read from /proc: run this on Linux")
    if any(os.environ.get(key) != value for key, value in SETTINGS.items()) or any(key in os.environ for key in UNSET):
        environment = {k: v for k, v in os.environ.items() if k not in UNSET} | SETTINGS
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    tests = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(tests.parent), str(tests)]
    sys.path.remove(str(Path(__file__).resolve().parent))
    warnings.simplefilter("default")
    sys.exit(main())
