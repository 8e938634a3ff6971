"""``python -m nanogpt_np train TEXT ... --out DIR``: training, from scratch or from any checkpoint."""

import contextlib
import shutil
import signal
import sys
import threading
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

from ..fast import keep_freed_memory
from ..model.config import Config
from ..text.tokenizer import Tokenizer
from ..train import curve, progress
from ..train.facts import CONFIG, SETTINGS
from ..train.folder import is_free
from ..train.log import read_log
from ..train.loop import make_data, run
from ..train.settings import Settings
from ..train.trainer import Trainer
from ..weights import open_checkpoint
from .opening import add_tokenizer, chosen_tokenizer
from .shell import Parser, command, say

FROM_SCRATCH = {"n_layer": 4, "n_head": 4, "n_embd": 128}
SIZES = {"layers": "n_layer", "heads": "n_head", "width": "n_embd"}  # flag -> field of Config


def _parser():
    parser = Parser("train", "Train a GPT-2, from scratch or from a checkpoint, on text files.")
    add, d = parser.add_argument, Settings()
    add("texts", nargs="*", metavar="TEXT", help="text files (UTF-8), or directories of .txt and .md files")
    add("--out", metavar="DIR", help="where the checkpoint goes; it loads with --model DIR, and with transformers")
    add("--model", metavar="NAME|DIR", help="start from these weights (fine-tuning); default: from scratch")
    add_tokenizer(parser)
    add("--resume", metavar="DIR", help="continue the run that was saved there; with --steps N, up to N steps in all")
    add("--recipe", choices=["facts"], help="make the checkpoint that ships with the package")
    add("--layers", type=int, metavar="N", help="blocks, from scratch (default: 4)")
    add("--heads", type=int, metavar="N", help="attention heads, from scratch (default: 4)")
    add("--width", type=int, metavar="N", help="width of the residual stream, from scratch (default: 128)")
    add("--steps", type=int, metavar="N", help=f"steps of the optimizer (default: {d.steps})")
    add("--batch-size", type=int, metavar="N", help=f"windows in a batch (default: {d.batch_size})")
    add("--context", type=int, metavar="N", help=f"tokens in a window (default: {d.context}, or the model's)")
    add("--accumulate", type=int, metavar="N", help=f"batches that make one step (default: {d.accumulate})")
    add(
        "--lr",
        type=float,
        metavar="X",
        help=f"peak learning rate (default: {d.lr}); with --resume --steps, the rate from now on",
    )
    add("--final-lr", type=float, metavar="X", help="learning rate at the end of the cosine (default: a tenth of --lr)")
    add("--warmup", type=int, metavar="N", help=f"steps of linear warm-up (default: {d.warmup})")
    add(
        "--weight-decay",
        type=float,
        metavar="X",
        help=f"of matrices; biases and norms have none (default: {d.weight_decay})",
    )
    add("--clip", type=float, metavar="X", help=f"largest norm of the whole gradient (default: {d.clip})")
    add("--seed", type=int, metavar="N", help=f"same seed, same run (default: {d.seed})")
    add(
        "--freeze",
        action="append",
        metavar="PATTERN",
        help="parameters that stay as they are, e.g. 'h.[0-5].*' or wte.weight",
    )
    add(
        "--share-unseen",
        action="store_true",
        default=None,
        help="tokens that never occur share one row: faster, from scratch only",
    )
    add("--eval-every", type=int, metavar="N", help=f"steps between held-out losses (default: {d.eval_every})")
    add("--save-minutes", type=float, metavar="M", help=f"minutes between checkpoints (default: {d.save_minutes:g})")
    add("--save-every", type=int, metavar="N", help="save after every N steps too")
    add(
        "--special",
        action="store_true",
        default=None,
        help="read <|endoftext|> in the texts as that token, which separates them, not as text",
    )
    add("--sample", metavar="PROMPT", help="continue this prompt at every evaluation")
    add("--plot", metavar="FILE.png", help="draw the loss at the end; needs matplotlib")
    add("--dtype", choices=["float32", "float16"], help="of model.safetensors (default: float32)")
    return parser


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    args = _parser().parse_args(argv)
    given = {f.name: getattr(args, f.name) for f in fields(Settings) if getattr(args, f.name, None) is not None}
    sizes = {name: getattr(args, flag) for flag, name in SIZES.items() if getattr(args, flag) is not None}
    if args.plot:
        curve.check_png(args.plot, *filter(None, [args.resume, args.out]))
    data = partial(make_data, report=say)
    if args.resume:
        kept = [args.texts, args.model, args.tokenizer, args.recipe, args.out, given.keys() - {"steps", "lr"}, sizes]
        if any(kept):
            raise ValueError(
                "--resume keeps the run's settings: it takes no texts, no --out, and of settings only --steps and --lr"
            )
        if "lr" in given and "steps" not in given:
            raise ValueError("--resume takes --lr with --steps N only, the number of steps of the longer run")
        tokenizer = Tokenizer.found_in(args.resume)
        trainer = Trainer.resume(args.resume, partial(data, tokenizer=tokenizer))
        if "steps" in given:
            trainer.extend(**given)
        return _run(trainer, args.resume, args)
    if not args.out:
        raise ValueError("--out DIR is needed: where should the checkpoint go?")
    if not is_free(args.out):
        if not Path(args.out).is_dir():
            raise ValueError(f"{args.out} is not a folder: give another --out")
        raise ValueError(f"{args.out} is not empty: give another --out, or continue with --resume {args.out}")
    if args.recipe:
        if args.texts or args.model or args.tokenizer or sizes or args.special:
            raise ValueError(
                "--recipe brings its own text and sizes: it takes no texts, no --model, no --width and no --special"
            )
        settings = Settings(**SETTINGS | given, source={"recipe": args.recipe})
        return _run(Trainer.from_scratch(CONFIG, data(settings), settings), args.out, args)
    if not args.texts:
        raise ValueError("give text files to learn from, or --recipe facts")
    if not all(args.texts):
        raise ValueError("the name of a text is empty")
    if "lr" in given and "final_lr" not in given:
        given["final_lr"] = given["lr"] / 10
    settings = Settings(**given, source={"texts": [str(Path(text).resolve()) for text in args.texts]})
    if args.model:
        if sizes:
            raise ValueError("--model brings its own sizes: it takes no --layers, --heads or --width")
        if settings.share_unseen:
            raise ValueError("--share-unseen is for training from scratch: a checkpoint's rows differ already")
        checkpoint = open_checkpoint(args.model)
        longest = checkpoint.config.n_positions
        if "context" not in given:
            settings = replace(settings, context=min(settings.context, longest))
        if settings.context > longest:
            raise ValueError(f"--context {settings.context} is more than the {longest} of {args.model}")
        tokenizer = chosen_tokenizer(args.tokenizer, checkpoint)
        trainer = Trainer(checkpoint.config, checkpoint.model.params, data(settings, tokenizer), settings)
    else:
        tokenizer = chosen_tokenizer(args.tokenizer)
        config = Config(**FROM_SCRATCH | sizes, n_positions=settings.context, vocab_size=tokenizer.size)
        trainer = Trainer.from_scratch(config, data(settings, tokenizer), settings)
    return _run(trainer, args.out, args)


def _run(trainer, out, args):
    """Train, showing the progress and the curve; return the exit code."""
    keep_freed_memory()
    report = progress.live() if sys.stderr.isatty() else progress.lines()
    before = trainer.step_number
    try:
        with _interruptible() as signals:
            finished = run(trainer, out, sample=args.sample, report=report, stop=lambda: bool(signals))
    finally:
        report.end()
    n = trainer.step_number
    if n > before:
        columns = shutil.get_terminal_size().columns
        for line in curve.text_plot(read_log(out), columns, curve.signs_for(sys.stderr.encoding)):
            say(line)
    if finished:
        done = "" if n > before else f": all {n} steps were done; for more, give --resume {out} --steps N"
        say(f"saved in {out}{done}")
    else:
        say(f"stopped after step {n}: saved in {out}; continue with --resume {out}")
    if args.plot:
        curve.save_png(read_log(out), args.plot)
        say(f"loss drawn in {args.plot}")
    return 0 if finished else 128 + signals[0]


@contextlib.contextmanager
def _interruptible():
    """Yield a list to which Ctrl-C and SIGTERM append their signal's number; a second one ends the program at once.

    Only a program's main thread gets signals: in another thread, this does nothing.
    """
    signals = []

    def note(number, _):
        if signals:
            raise SystemExit(128 + number)
        signals.append(number)

    handled = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    previous = {number: signal.signal(number, note) for number in handled}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler or signal.SIG_DFL)
