"""``python -m nanogpt_np course``: write GPT-2 yourself, layer by layer, and have it graded."""

import os
import time
from pathlib import Path

from ..course import report
from ..course.answers import answer
from ..course.assignment import assignments, get
from ..course.runner import grade
from ..names.wording import folded
from .screen import columns
from .shell import Parser, command, print_json, say

README = """\
# GPT-2, written by you

Each file here is a part of GPT-2 with the function bodies left out: write those that raise NotImplementedError.
Do them in any order; each function is graded on its own, and then inside the whole model.

{files}

    python -m nanogpt_np course grade {folder}         grade everything
    python -m nanogpt_np course grade {folder} a2      grade one assignment
    python -m nanogpt_np course hint a2 1         1 asks, 2 guides, 3 nearly tells

Your files may import numpy, the standard library, `nanogpt_np.model.trace` and `nanogpt_np.model.config`, and what
their first lines already import.
"""


def _parser():
    parser = Parser("course", "Write GPT-2 yourself, a layer at a time; every function is graded by its behavior.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_sub)
    commands.add_parser("list", help="the assignments and what to write in each")
    add = commands.add_parser("new", help="write the files to fill in").add_argument
    add(
        "folder",
        metavar="DIR",
        help="created if missing, empty, or one that `new` wrote: files in it are left unchanged",
    )
    add = commands.add_parser("grade", help="grade your files").add_argument
    add("folder", metavar="DIR", help="the folder that `new` wrote")
    add("names", nargs="*", metavar="NAME", help="assignments, such as a2 (default: all, then the whole model)")
    add("--json", action="store_true", help="print the results as Gradescope's autograder reads them")
    add("--seed", type=int, default=0, metavar="N", help="seed of the inputs (default: 0)")
    add = commands.add_parser("hint", help="a hint: 1 asks, 2 guides, 3 nearly tells").add_argument
    add("name", metavar="NAME", help="the assignment, such as a2")
    add("rung", type=int, choices=(1, 2, 3), metavar="1|2|3")
    add("function", nargs="?", metavar="FUNCTION", help="of this function only")
    add = commands.add_parser("answer", help="print this package's own answer").add_argument
    add("name", metavar="NAME", help="the assignment, such as a2")
    add("--yes", action="store_true", help="needed to see the answer: a hint teaches more")
    return parser


def _sub(prog, **options):
    options.pop("formatter_class", None)
    return Parser(prog.partition("nanogpt_np ")[2], options.pop("description", None), **options)


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        names = [get(name.lower()).name for name in getattr(args, "names", [])]
        assignment = get(args.name.lower()) if "name" in args else None
    except ValueError as error:
        parser.error(str(error))
    if assignment and not assignment.functions:
        parser.error(f"{assignment.name} has no file of its own: it puts all the others together")
    if args.command == "list":
        return _list()
    if "folder" in args and not args.folder.strip():
        parser.error("the name of the folder is empty; the current one is .")
    if "folder" in args and Path(args.folder).is_file():
        parser.error(f"{args.folder} is a file; give the folder that it is in, and the assignment's name after it")
    if args.command == "new":
        if _holds_something_else(Path(args.folder)):
            parser.error(f"{args.folder} holds something else: give an empty folder, a new one, or one of the course")
        return _new(Path(args.folder))
    if args.command == "hint":
        return _hint(parser, assignment, args.rung, args.function)
    if args.command == "answer":
        return _answer(assignment, args.yes)
    if not Path(args.folder).is_dir():
        parser.error(f"there is no folder {args.folder}; `new {args.folder}` makes one")
    if args.seed < 0:
        parser.error(f"--seed must be 0 or more, not {args.seed}")
    return _grade(args.folder, names, args.seed, args.json)


def _list():
    for name, assignment in assignments().items():
        print(folded(f"{name:5}  {assignment.title}", columns()))
        for where in assignment.functions:
            print(f"       {where.partition(':')[2]}")
    return 0


def _files():
    """Return {name of a file to fill in: its assignment}."""
    return {a.file: a for a in assignments().values() if a.functions}


def _holds_something_else(folder):
    """Return whether a folder has files but none of the course; hidden ones, such as .git, do not count."""
    if not folder.is_dir():
        return False
    names = {name for name in os.listdir(folder) if not name.startswith(".")}
    return bool(names) and names.isdisjoint(_files())


def _new(folder):
    folder.mkdir(parents=True, exist_ok=True)
    written = _files()
    files = {name: a.stub.read_text(encoding="utf-8") for name, a in written.items()}
    table = "\n".join(f"- `{name}`: {a.title}" for name, a in written.items())
    files["README.md"] = README.format(files=table, folder=folder)
    for name, text in files.items():
        try:
            # README.md names the folder, which need not be Unicode.
            with open(folder / name, "x", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.write(text)
            print(f"wrote {folder / name}")
        except FileExistsError:
            print(f"left  {folder / name} as it is")
    return 0


def _grade(folder, names, seed, as_json):
    began, done = time.monotonic(), []
    for graded in grade(folder, names, seed=seed):
        done.append(graded)
        if not as_json:
            print("\n".join(report.lines(graded, columns())) + "\n", flush=True)
    if as_json:
        print_json(report.as_json(done, time.monotonic() - began))
    else:
        print(folded(report.summary(done), columns()))
    return 0 if report.passed(done) else 1


def _hint(parser, assignment, rung, function):
    hints = {where.partition(":")[2]: hints for where, hints in assignment.functions.items()}
    if function is not None and function not in hints:
        parser.error(f"{assignment.name} has no function {function!r}; there are: {', '.join(hints)}")
    for name, steps in hints.items():
        if function in (None, name):
            print(folded(f"{name}: {steps[rung - 1]}", columns()))
    return 0


def _answer(assignment, yes):
    if not yes:
        say(f"An answer that is read is soon forgotten: try `hint {assignment.name} 1`, 2 and 3 first, and grade what")
        say(f"you have: the message says what is wrong. If you still want it: answer {assignment.name} --yes")
        return 1
    print(answer(assignment), end="")
    return 0
