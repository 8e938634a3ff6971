"""``python -m nanogpt_np trace PROMPT``: the whole pass to the next token, step by step.

Each step is one trace point: its shape, and its equation with the sizes of this run; on request its values,
what to look at, and what it costs. A pass can be saved and replayed without weights, walked through in the terminal,
or written as a page. The rows come from `interpret/steps.py`.
"""

import contextlib
import os
import sys
from pathlib import Path

from .. import page
from ..generate import generate
from ..generate.ranking import top_rows
from ..interpret.recorder import Recorder
from ..interpret.recording import Recording, read, save
from ..interpret.stats import lengths, stats
from ..interpret.stepper import step
from ..interpret.steps import dry_run, first_values, select, step_rows, sums, tokens
from ..names import points
from ..names.sizes import published
from ..names.wording import folded, one_line
from .listing import print_equations, print_ledger, print_tokens
from .opening import add_model, chosen_tokenizer, opening, provenance_line, read_prompt, watched_token
from .screen import columns
from .shell import Parser, command, print_json, say
from .tables import print_top

CLASHES = {  # flag: (flags that it does not go with, why)
    "load": (("prompt", "model", "special", "save", "dry_run", "max_new_tokens"), "it replays what was saved"),
    "dry_run": (("model", "save", "step", "stats", "values", "top"), "it has no weights and no values"),
    "step": (
        ("json", "stats", "values", "notice", "bytes", "block", "head", "only", "top"),
        "it walks through all steps and shows everything",
    ),
    "head": (("bytes",), "the ledger counts whole steps"),
    "html": (
        ("dry_run", "step", "json", "stats", "values", "notice", "bytes", "block", "head", "only", "top"),
        "the page holds all steps and shows everything",
    ),
}


def _parser():
    parser = Parser(
        "trace",
        "Show the whole pass from a prompt to the next token, step by step: shapes, equations, values, cost.",
        epilog='example: python -m nanogpt_np trace "The capital of France is" --block 0 --stats --values 6',
    )
    add = parser.add_argument
    add("prompt", nargs="?", help="the text; - reads standard input (less one final newline)")
    add_model(parser)
    add("--special", action="store_true", help="read <|endoftext|> in the prompt as that token, not as text")
    add("--block", type=int, action="append", metavar="I", help="only the steps of block I (may be repeated)")
    add("--head", type=int, metavar="I", help="only the steps that have heads, cut to head I")
    add("--only", action="append", metavar="PATTERN", help="only the steps whose name is PATTERN, contains it, "
        "or matches it as a glob, or that the glossary knows by it: queries (may be repeated)")  # fmt: skip
    add("--stats", action="store_true", help="mean, RMS, min and max; masked scores are left out and counted")
    add("--values", type=int, metavar="N", help="the first N numbers of the last token's row")
    add("--notice", action="store_true", help="what to look at")
    add("--bytes", action="store_true", help="show each step's cost instead of equations: FLOPs, bytes read, written")
    add("--top", type=int, metavar="K", help="end with the K likeliest next tokens (default: 5); ties go to the "
        "lower id")  # fmt: skip
    add("--json", action="store_true", help="print one JSON object")
    add("--save", metavar="FILE.npz", help="save the pass to a file")
    add("--load", metavar="FILE.npz", help="replay a pass from a file, in place of a prompt; needs no weights")
    add("--step", action="store_true", help="walk through the pass, one step at a time")
    add("--html", metavar="FILE", help="write everything as a page to walk through in a browser, in one file")
    add("-n", "--max-new-tokens", type=int, metavar="N", help="with --html: generate up to N tokens (default: 1)")
    add("--watch", metavar="TOKEN", help='with --html: explain this token too, e.g. " Paris"')
    add("--dry-run", metavar="SIZE", help="the steps of gpt2 ... gpt2-xl on zero-filled weights: no values")
    return parser


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.prompt is None and args.load is None:
        parser.error("a PROMPT is required, or --load FILE.npz")
    _check(args)
    if args.dry_run is not None:
        result = _dry_run(args, chosen_tokenizer(args.tokenizer))
    else:
        recording, model = _run(args) if args.load is None else _replay(args)
        names = select(recording.config, args.only, args.block, args.head)
        if args.save is not None:
            save(args.save, recording)
        if args.html is not None:
            return _write_page(args, recording, model)
        if args.step:
            return _walk(recording, model)
        result = _report(args, recording, names)

    if args.json:
        print_json(result)
        return 0
    if args.dry_run is not None:
        print(folded(result["dry_run"], columns()))
    print_tokens(result["tokens"])
    if args.values:
        head = "head 0 where there are heads" if args.head is None else f"head {args.head}"
        print(
            folded(
                f"\nvalues: up to {args.values} numbers from the start of the last token's row, in {head}", columns()
            )
        )
    if args.bytes:
        print_ledger(result, args)
    else:
        print_equations(result["points"], args)
    print()
    if args.dry_run is not None:
        print(folded("no next token: with zero-filled weights every logit is 0", columns()))
    else:
        print_top(result["top"])
    return 0


def _check(args):
    """Raise ValueError for flags that exclude each other or have a bad value."""
    given = {flag: value for flag, value in vars(args).items() if value is not None and value is not False}
    for flag, (others, why) in CLASHES.items():
        clashing = [_shown(other) for other in others if other in given]
        if flag in given and clashing:
            raise ValueError(f"{_shown(flag)} does not go with {' or '.join(clashing)}: {why}")
    for flag in ("values", "top"):
        if given.get(flag, 1) < 1:
            raise ValueError(f"--{flag} must be 1 or more, not {given[flag]}")
    _check_files(given)
    for flag in ("max_new_tokens", "watch"):
        if flag in given and args.html is None:
            raise ValueError(f"{_shown(flag)} needs --html: the listing shows one pass")
    if args.step and (args.prompt == "-" or sys.stdin is None):
        why = "there is none" if sys.stdin is None else "the prompt cannot come from there"
        raise ValueError(f"--step reads what you type from standard input: {why}")


def _check_files(given):
    """Raise ValueError for files that cannot be written, or that would overwrite each other."""
    taken = {os.path.realpath(given[flag]): flag for flag in ("load",) if flag in given}
    for flag in ("save", "html"):
        if flag not in given:
            continue
        path = Path(given[flag])
        if given[flag] == "-":
            raise ValueError(f"--{flag} takes the name of a file; it cannot be standard output")
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise ValueError(f"--{flag} {path}: is a folder, or in a missing folder")
        if path.exists() and not path.is_file():
            raise ValueError(f"--{flag} {path}: not a regular file, and only a regular file can be replaced")
        other = taken.setdefault(os.path.realpath(path), flag)
        if other != flag:
            raise ValueError(f"--{flag} {path}: this would overwrite the file of --{other}")


def _shown(flag):
    return "a PROMPT" if flag == "prompt" else "--" + flag.replace("_", "-")


def _run(args):
    """Return (the recorded pass of the prompt, the model)."""
    opened = opening(args)
    model = opened.model
    select(model.config, args.only, args.block, args.head)  # report bad values before doing the work
    acts = Recorder(model)
    list(generate(model, opened.ids, 1, stop=(), trace=acts))
    provenance = opened.provenance
    if args.html is not None:  # a shared page says where its weights come from; this reads them once more
        provenance |= opened.checkpoint.full_provenance()
    say(provenance_line(provenance, model.config))
    del provenance["directory"]  # a shared file must say nothing about this machine
    about = {"prompt": opened.prompt, "prompt_ids": opened.ids, "model": provenance}
    return Recording(acts, model.config, about, opened.tokenizer), model


def _replay(args):
    """Return (the recorded pass in a file, None in place of a model)."""
    recording = read(args.load)
    if args.tokenizer is not None:
        recording.own_tokenizer = chosen_tokenizer(args.tokenizer)
    last = f"blocks.{recording.config.n_layer - 1}.hook_resid_post"  # first: a forged config can claim any number
    expected = points.table(recording.config, points.NEXT_TOKEN) if last in recording.acts else [last]
    missing = [name for name in expected if name not in recording.acts]
    if missing:
        raise ValueError(f"{args.load} is not a whole pass to the next token, as --save writes: no {missing[0]}")
    say(f"replayed from {args.load}; {one_line(provenance_line(recording.about['model'], recording.config))}")
    return recording, None


def _write_page(args, recording, model):
    """Write a recorded pass as a page."""
    watched = watched_token(recording.tokenizer, args.watch, recording.config, special=args.special)
    n = 1 if args.max_new_tokens is None else args.max_new_tokens
    size = page.write(args.html, recording, model, n=n, watch=watched)
    say(f"{args.html}: {size / 1e6:.2f} MB, all in one file; open it in a browser")
    return 0


def _walk(recording, model):
    """Walk through a pass with commands from standard input."""
    if hasattr(sys.stdin, "reconfigure"):  # a byte that is no character is a mistyped command, not the end
        sys.stdin.reconfigure(errors="backslashreplace")
    if sys.stdin.isatty():  # a pipe needs no editing
        with contextlib.suppress(ImportError):  # Windows has none, and edits lines itself
            import readline  # noqa: F401  with it, input() has arrow keys and history
    print_tokens(tokens(recording.acts, recording.tokenizer))
    print()
    step(recording, _ask, print, model, columns())
    return 0


def _ask(prompt):
    line = input(prompt)
    if not sys.stdin.isatty():
        print(line)  # echo it, as a terminal does
    return line


def _report(args, recording, names):
    """Return all that is shown of a recorded pass: what --json prints."""
    acts, config, about = recording.acts, recording.config, recording.about
    rows = step_rows(config, {name: (x.shape, x.dtype) for name, x in acts.items()}, names, args.head)
    for name, row in zip(names, rows, strict=True):
        point, x = points.get(name, config), acts[name]
        if args.values is not None:
            row["values"] = first_values(x, point, args.values, args.head)
        if name not in points.WHOLE_NUMBERS and (args.stats or args.json):
            row["stats"] = stats(x if args.head is None else x.take(args.head, axis=point.axes.split().index("H")))
    return {
        **{key: about[key] for key in ("model", "prompt", "prompt_ids")},
        "tokens": tokens(acts, recording.tokenizer),
        "points": rows,
        "ledger": sums(rows, config, lengths(acts)[0]),
        "top": top_rows(acts["hook_next_logits"], acts["hook_probabilities"], args.top or 5, recording.tokenizer),
    }


def _dry_run(args, tokenizer):
    """Return the same for zero-filled weights of a published size: all shapes and costs, no values."""
    config = published(args.dry_run)
    names = select(config, args.only, args.block, args.head)
    prompt = read_prompt(args.prompt)
    ids = tokenizer.encode(prompt, special=args.special)
    shapes, note = dry_run(args.dry_run, ids)
    rows = step_rows(config, shapes, names, args.head)
    seen = tokens({"hook_tokens": ids, "hook_positions": range(len(ids))}, tokenizer)
    about = {"dry_run": note, "prompt": prompt, "prompt_ids": ids}
    return about | {"tokens": seen, "points": rows, "ledger": sums(rows, config, len(ids))}
