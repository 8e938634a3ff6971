"""``python -m nanogpt_np diff A.npz B.npz``: where two saved passes differ, and how much."""

import functools
import json

from ..interpret.diff import TOLERANCE, diff
from ..interpret.diff_words import as_dict, table
from ..interpret.recording import read_arrays
from ..names.wording import folded, one_line
from .screen import columns
from .shell import Parser, command, print_json

SHOWN = 1_000  # characters of a prompt, and of where a model is from


@functools.partial(command, failure=2)  # 1 means that they differ
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    parser = Parser(
        "diff",
        "Say where two saved passes differ, and by how much: files written by python -m nanogpt_np trace PROMPT\n"
        "--save FILE.npz, or by numpy.savez with arrays of the same names, such as a dump from PyTorch.",
        epilog="Exit code: 0 if they agree within the tolerance, 1 if they differ, 2 for an error, as in diff(1).",
    )
    add = parser.add_argument
    add("a", metavar="A.npz", help="the reference pass")
    add("b", metavar="B.npz", help="the other pass")
    add("--tolerance", type=float, default=TOLERANCE, metavar="X", help="allowed difference, relative to the largest "
        f"number in A's row of a token (default: {TOLERANCE:g})")  # fmt: skip
    add("--all", action="store_true", help="print a line for each point that was compared")
    add("--json", action="store_true", help="print one JSON object, with all points")
    args = parser.parse_args(argv)

    (acts_a, about_a), (acts_b, about_b) = read_arrays(args.a), read_arrays(args.b)
    result = diff(acts_a, acts_b, tolerance=args.tolerance)
    if args.json:
        files = {"a": {"file": args.a, "about": about_a}, "b": {"file": args.b, "about": about_b}}
        print_json(files | as_dict(result))
    else:
        print(folded(one_line(f"a: {args.a}{_whose(about_a)}"), columns()))
        print(folded(one_line(f"b: {args.b}{_whose(about_b)}"), columns()))
        for line in table(result) if args.all else []:
            print(line)
        print(folded(str(result), columns()))
    return 0 if result.first is None else 1


def _whose(about):
    """Say what a recording claims about itself; nothing is checked, and little of it is shown."""
    model = about.get("model") if about else None
    origin = f", {model['origin']!s:.{SHOWN}}" if isinstance(model, dict) and "origin" in model else ""
    return f"   {_cut(json.dumps(about['prompt']))}{origin}" if about and "prompt" in about else origin


def _cut(text):
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
