"""Training: ``python -m nanogpt_np.train TEXT ... --out DIR``, from scratch or from any checkpoint.

Here is the loop and its command line; what a step does, and how a run is kept, is in `trainer.py`.
"""

import contextlib
import json
import signal
import sys
import time
from dataclasses import fields
from pathlib import Path

from .cli import Parser, command, say
from .config import Config
from .corpus import TextData, read_texts
from .generate import generate
from .model import check_ids
from .tokenizer import Tokenizer
from .trainer import Settings, Trainer
from .weights import load

FROM_SCRATCH = {"n_layer": 4, "n_head": 4, "n_embd": 128}
SIZES = {"layers": "n_layer", "heads": "n_head", "width": "n_embd"}  # flag -> field of Config


def run(trainer, out, sample=None):
    """Train to the last step, saving into `out`; return the exit code.

    Ctrl-C ends the run after the step that is under way, and saves it; a second Ctrl-C ends at once.
    """
    s, stop = trainer.settings, []
    if sample:
        check_ids(Tokenizer().encode(sample), trainer.config)
    if not trainer.step_number:
        trainer.save(out)  # what is wrong with `out` shows now, not after hours
    previous = signal.signal(signal.SIGINT, lambda *_: _interrupt(stop))
    try:
        began, tokens = time.monotonic(), 0
        first = trainer.step_number
        while trainer.step_number < s.steps and not stop:
            loss, counted = trainer.step()
            tokens += counted
            n = trainer.step_number
            spent = time.monotonic() - began
            left = (s.steps - n) * spent / (n - first)
            line = (
                f"step {n}/{s.steps}  loss {loss:.4f} nats/token  {tokens / spent:,.0f} tokens/s  "
                f"{int(left) // 60}:{int(left) % 60:02} left"
            )
            whole = n % s.eval_every == 0 or n == s.steps
            if sys.stderr.isatty() or whole:
                with contextlib.suppress(BrokenPipeError):  # progress that nobody reads stops no run
                    print(f"\r{line}  " if sys.stderr.isatty() else line, end="", file=sys.stderr, flush=True)
            if whole:
                say("")
                for note in trainer.data.report(trainer):
                    say(f"  {note}")
                if sample:
                    say(f"  {_sample(trainer, sample)}")
            if n % s.save_every == 0 and n < s.steps:
                trainer.save(out)
    finally:
        signal.signal(signal.SIGINT, previous)
    trainer.save(out)
    if stop:
        say(f"\nstopped after step {trainer.step_number}: saved in {out}; go on with --resume {out}")
        return 130
    say(f"saved in {out}")
    return 0


def _interrupt(stop):
    if stop:
        raise KeyboardInterrupt
    stop.append(True)


def _sample(trainer, prompt):
    tokenizer, model = Tokenizer(), trainer.whole_model()
    ids = tokenizer.encode(prompt)
    return json.dumps(prompt + tokenizer.decode(generate(model, ids, 20)), ensure_ascii=False)


def make_data(settings):
    """Return the source of batches that `settings.source` describes."""
    source = settings.source
    if "recipe" in source:
        from .facts import FactsData

        return FactsData(settings.context, settings.batch_size)
    return TextData(read_texts(source["texts"]), Tokenizer(), settings.context, settings.batch_size)


def _parser():
    parser = Parser("train", "Train a GPT-2, from scratch or from a checkpoint, on text files.")
    add, d = parser.add_argument, Settings()
    add("texts", nargs="*", metavar="TEXT", help="text files (UTF-8), or directories of .txt and .md files")
    add("--out", metavar="DIR", help="where the checkpoint goes; it loads with --model DIR, and with transformers")
    add("--model", metavar="NAME|DIR", help="start from these weights (fine-tuning); default: from scratch")
    add("--resume", metavar="DIR", help="go on with the run that was saved there")
    add("--recipe", choices=["facts"], help="make the checkpoint that ships with the package")
    add("--layers", type=int, metavar="N", help="blocks, from scratch (default: 4)")
    add("--heads", type=int, metavar="N", help="attention heads, from scratch (default: 4)")
    add("--width", type=int, metavar="N", help="width of the residual stream, from scratch (default: 128)")
    add("--steps", type=int, metavar="N", help=f"steps of the optimiser (default: {d.steps})")
    add("--batch-size", type=int, metavar="N", help=f"windows in a batch (default: {d.batch_size})")
    add("--context", type=int, metavar="N", help=f"tokens in a window (default: {d.context})")
    add("--accumulate", type=int, metavar="N", help=f"batches that make one step (default: {d.accumulate})")
    add("--lr", type=float, metavar="X", help=f"peak learning rate (default: {d.lr})")
    add("--final-lr", type=float, metavar="X", help="learning rate at the end of the cosine (default: a tenth of --lr)")
    add("--warmup", type=int, metavar="N", help=f"steps of linear warm-up (default: {d.warmup})")
    add(
        "--weight-decay",
        type=float,
        metavar="X",
        help=f"of matrices; biases and norms have none (default: {d.weight_decay})",
    )
    add("--clip", type=float, metavar="X", help=f"largest length of the whole gradient (default: {d.clip})")
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
    add("--save-every", type=int, metavar="N", help=f"steps between checkpoints (default: {d.save_every})")
    add("--sample", metavar="PROMPT", help="continue this prompt at every evaluation")
    add("--dtype", choices=["float32", "float16"], help="of model.safetensors (default: float32)")
    return parser


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    args = _parser().parse_args(argv)
    given = {f.name: getattr(args, f.name) for f in fields(Settings) if getattr(args, f.name, None) is not None}
    sizes = {name: getattr(args, flag) for flag, name in SIZES.items() if getattr(args, flag) is not None}
    if args.resume:
        if args.texts or args.model or args.recipe or args.out or given or sizes:
            raise ValueError("--resume goes on as the run began: it takes no texts, no --out and no other settings")
        return run(Trainer.resume(args.resume, make_data), args.resume, args.sample)
    if not args.out:
        raise ValueError("--out DIR is needed: where should the checkpoint go?")
    if Path(args.out).exists() and any(Path(args.out).iterdir()):
        raise ValueError(f"{args.out} is not empty: give another --out, or go on with --resume {args.out}")
    if args.recipe:
        if args.texts or args.model or sizes:
            raise ValueError("--recipe brings its own text and sizes: it takes no texts, no --model and no --width")
        from .facts import CONFIG, SETTINGS

        settings = Settings(**SETTINGS | given, source={"recipe": args.recipe})
        return run(Trainer.from_scratch(CONFIG, make_data(settings), settings), args.out, args.sample)
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
        model = load(args.model)
        if settings.context > model.config.n_positions:
            raise ValueError(
                f"--context {settings.context} is more than the {model.config.n_positions} of {args.model}"
            )
        trainer = Trainer(model.config, model.params, make_data(settings), settings)
    else:
        config = Config(**FROM_SCRATCH | sizes, n_positions=settings.context)
        trainer = Trainer.from_scratch(config, make_data(settings), settings)
    return run(trainer, args.out, args.sample)


if __name__ == "__main__":
    sys.exit(main())
