"""``python -m nanogpt_np benchmark``: how fast it runs, against transformers and against its matrix products.

If the checkpoint is not on this machine, a random one is written first, laid out as published.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

from ..bench.measure import ROWS, machine, measure
from ..bench.random_checkpoint import DTYPES, write_random
from ..bench.report import busy, lines_of
from ..bench.stored import table_of
from ..names.sizes import PUBLISHED, published
from ..weights.places import find
from ..weights.provenance import known_digest, whose
from ..weights.tensors import SINGLE
from .shell import Parser, command, print_json, say

MOST_ROUNDS = 1000


def _parser():
    parser = Parser("benchmark", "Time this package against transformers and its own matrix products alone.")
    add = parser.add_argument
    add("--model", default="gpt2", metavar="SIZE|NAME|DIR", help="a size (random weights where the model is not on "
        "this machine), a name, or a directory (default: gpt2)")  # fmt: skip
    add("--dtype", choices=DTYPES, default="F32", help="of the random weights in their file (default: F32)")
    add("--against", choices=["transformers"], help="time it too, in turn; needs the extra 'reference'")
    add("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=f"which: {', '.join(ROWS)}")
    add("--rounds", type=int, default=9, metavar="N", help="timings of each that count (default: 9)")
    add("--json", action="store_true", help="print one JSON object at the end")
    add("--table", nargs="+", metavar="FILE.json", help="measure nothing: print what --json printed before, as "
        "docs/performance.md shows it; of several models, a line each")  # fmt: skip
    return parser


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    args = _parser().parse_args(argv)
    if not 4 <= args.rounds <= MOST_ROUNDS:
        raise ValueError(f"--rounds must be 4 or more, up to {MOST_ROUNDS}, not {args.rounds}")
    if args.table:
        print(table_of(args.table))
        return 0
    for name in ("torch", "transformers") if args.against else ():
        if importlib.util.find_spec(name) is None:  # now, and not when half of it is measured
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
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
        print_json(result)
    return 0


def _found(name):
    """Return (directory, its origin) of a model, or (None, None) for a size that is not on this machine."""
    try:
        directory = find(name)
    except ValueError:
        if name not in PUBLISHED:
            raise
        return None, None
    return directory, whose(name, directory, known_digest(directory / SINGLE))[1]
