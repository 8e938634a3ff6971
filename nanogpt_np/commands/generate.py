"""``python -m nanogpt_np generate PROMPT``: continue a text; show the likeliest next tokens, or every shape."""

import sys
from dataclasses import replace

import numpy as np

from ..generate.batch import make_rows
from ..generate.completion import SIDE_BY_SIDE, write
from ..generate.ranking import standing, top_rows
from ..generate.sampling import Choice
from ..generate.stops import TextStream, check_stops
from ..model.trace import ShapeLog, no_trace
from ..names.wording import few
from ..text.display import quoted, text_of
from ..weights.configs import says_the_end
from .opening import (
    add_model,
    chosen_tokenizer,
    decoding,
    opening,
    provenance_line,
    read_prompt,
    valid_text,
    watched_token,
)
from .shell import Parser, command, print_json, say
from .tables import print_top, print_trace

SPACE_AT_THE_END = (
    "note: the prompt ends with a space; GPT-2's tokens begin with the space before a word, "
    "so it usually continues better without"
)


class StepLog:
    """A trace that keeps only what the tables show of each step of generation.

    shapes : name, shape and dtype of every tensor of the first step
    top : the first step's likeliest tokens
    watch : rank, logit and probability of the watched token at each step
    """

    def __init__(self, tokenizer, config, *, top=None, watched=None):
        self.tokenizer, self.config = tokenizer, config
        self.k, self.watched = top, watched
        self.shapes, self.top, self.watch, self.steps = ShapeLog(), [], [], 0

    def __call__(self, name, x):
        if not self.steps:
            self.shapes(name, x)
        if name == "hook_next_logits":
            self._logits = x
        elif name == "hook_probabilities":
            if self.k and not self.steps:
                self.top = top_rows(self._logits, x, self.k, self.tokenizer)
            self._probabilities = x
        elif name == "hook_next_token":
            self.steps += 1
            if self.steps == 1:
                self.first_token = int(x)
            if self.watched is not None:
                chosen = text_of(self.tokenizer, int(x))
                row = standing(self._logits, self._probabilities, self.watched)
                self.watch.append({"step": self.steps, "chosen": chosen, **row})
        return x


def _parser():
    parser = Parser("generate", "Continue a text with GPT-2, in NumPy.")
    add = parser.add_argument
    add("prompt", help="the text to continue; - reads standard input (less one final newline)")
    add_model(parser)
    add("-n", "--max-new-tokens", type=int, default=20, metavar="N", help="tokens to add at most (default: 20)")
    add("--temperature", type=float, default=0.0, metavar="X", help="0 takes the likeliest token (default); 1 samples")
    add("--top-k", type=int, metavar="K", help="sample from the K likeliest tokens")
    add("--top-p", type=float, metavar="P", help="sample from the fewest tokens with total probability P or more")
    add("--min-p", type=float, metavar="P", help="sample no token less likely than P times the likeliest")
    add("--repetition-penalty", type=float, default=1.0, metavar="X", help="above 1 makes tokens of the text so far "
        "less likely (default: 1)")  # fmt: skip
    add("--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be given several times")
    add("--seed", type=int, help="sample the same text again")
    add("--num-samples", type=int, default=1, metavar="N", help="how many texts, made side by side (default: 1)")
    add("--log-probs", action="store_true", help="show each new token with its log probability, by the model itself")
    add("--special", action="store_true", help="read <|endoftext|> in the prompt as that token, not as text")
    add("--top", type=int, metavar="K", help="first show the K likeliest next tokens; ties go to the lower id")
    add("--watch", metavar="TOKEN", help='follow one token through the steps, e.g. " Paris"')
    add("--trace", action="store_true", help="first show the shape of every tensor on the way to the first new token")
    add("--json", action="store_true", help="print one JSON object at the end")
    add("--no-cache", action="store_true", help="recompute every token at every step: the same text, slower")
    add("--dry-run", metavar="SIZE", help="show the trace of gpt2 ... gpt2-xl on zero-filled weights: no download")
    return parser


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    args = _parser().parse_args(argv)
    args.choice = Choice(args.temperature, args.top_k, args.top_p, args.min_p, args.repetition_penalty)
    args.stop = check_stops(valid_text(text, "--stop") for text in args.stop)
    for flag, value in (("-n", args.max_new_tokens), ("--num-samples", args.num_samples), ("--top", args.top)):
        if value is not None and value < 1:
            raise ValueError(f"{flag} must be 1 or more, not {value}")
    if args.seed is not None and args.seed < 0:
        raise ValueError(f"--seed must be 0 or more, not {args.seed}")
    if args.temperature == 0 and (args.top_k or args.top_p or args.min_p or args.num_samples > 1):
        raise ValueError(
            "--top-k, --top-p, --min-p and --num-samples need --temperature above 0: greedy has one answer"
        )
    return _run(args) if args.dry_run is None else _dry_run(args)


def _run(args):
    opened = opening(args)
    model, tokenizer = opened.model, opened.tokenizer
    watched = watched_token(tokenizer, args.watch, model.config)
    seed = np.random.SeedSequence().entropy % 2**32 if args.seed is None else args.seed
    opened = replace(opened, decoding=decoding(args.choice, seed))
    result = opened.about | {"samples": []}
    if opened.prompt.endswith(" "):
        say(SPACE_AT_THE_END)

    traced = args.trace or args.top or args.watch  # without a trace prompts are faster, and samples run side by side
    shown = Shown(args, result, opened)
    for start in range(0, args.num_samples, 1 if traced else SIDE_BY_SIDE):
        numbers = range(start, min(args.num_samples, start + (1 if traced else SIDE_BY_SIDE)))
        log = StepLog(tokenizer, model.config, top=args.top, watched=watched)
        rows = make_rows(model, [opened.ids], seed, numbers)
        streams = [TextStream(tokenizer, args.stop) for _ in rows]
        new = write(
            model,
            rows,
            streams,
            args.max_new_tokens,
            args.choice,
            log_probs=args.log_probs,
            stop=tokenizer.stop if args.tokenizer or not says_the_end(model.config) else model.config.eos_token_ids,
            use_cache=not args.no_cache,
            trace=log if traced else no_trace,
        )
        for i, text in new:
            shown.begin(numbers[0], log)  # a bad prompt or bad weights have raised by now
            if i == 0 and not args.json:  # the first is shown as it grows, the others when they are done
                sys.stdout.write(text)
                sys.stdout.flush()
        for number, row, stream in zip(numbers, rows, streams, strict=True):
            shown.end(number, row, stream, log, streamed=row is rows[0])
    if args.json:
        print_json(result)
    return 0


class Shown:
    """What is printed about the samples, and kept of them for ``--json``."""

    def __init__(self, args, result, opened):
        self.args, self.result, self.opened = args, result, opened
        self.begun = set()  # numbers of the samples that have a heading

    def begin(self, number, log):
        """Print what comes before a sample: once what is known of the first step, and its heading."""
        if number in self.begun:
            return
        config = self.opened.model.config
        if not self.begun:
            say(provenance_line(self.result["model"], config))
            ignored = self.opened.checkpoint.ignored
            if ignored:
                say(f"ignored settings of the checkpoint: {few(ignored, 8)}; the flags decide")
            if self.args.trace:
                from ..interpret.steps import outline  # only when needed: most runs do without

                shapes = {name: (shape, dtype) for name, shape, dtype in log.shapes}
                self.result["trace"] = outline(config, shapes)
            if self.args.top:
                self.result["top"] = log.top
            if not self.args.json:
                _print_introduction(self.result, log)
        self.begun.add(number)
        if not self.args.json and self.args.num_samples > 1:
            print(f"--- sample {number + 1} of {self.args.num_samples}")

    def end(self, number, row, stream, log, *, streamed):
        """Print the rest of a sample, and keep it."""
        args, config = self.args, self.opened.model.config
        self.begin(number, log)
        if not args.json:
            print("" if streamed else stream.text, flush=True)
        if row.ended == "context":
            say(f"stopped: the context of {config.n_positions} tokens is full")
        sample = {"ids": row.ids, "text": stream.text, "ended": row.ended}
        if args.log_probs:
            sample["log_probs"] = row.log_probs
            if not args.json:
                _print_log_probs(row, log.tokenizer)
        if args.watch is not None:
            sample["watch"] = log.watch
            if not args.json:
                _print_watch(log.watch, args.watch)
        self.result["samples"].append(sample)


def _dry_run(args):
    """Run the same code on zero-filled weights of a published size: every shape, no download."""
    from ..interpret.steps import dry_run, outline
    from ..names.sizes import published

    if args.model is not None or args.watch or args.top or args.temperature:
        raise ValueError("--dry-run has no weights: leave out --model, --watch, --top and --temperature")
    config, prompt = published(args.dry_run), read_prompt(args.prompt)
    ids = chosen_tokenizer(args.tokenizer).encode(prompt, special=args.special)
    shapes, note = dry_run(args.dry_run, ids)
    rows = outline(config, shapes)
    if args.json:
        print_json({"dry_run": note, "prompt": prompt, "prompt_ids": ids, "trace": rows})
    else:
        print(note)
        print_trace(rows)
        print("no next token: with zero-filled weights every logit is 0")
    return 0


def _print_introduction(result, log):
    """Print what was requested before the text: the trace, the likeliest next tokens."""
    if "trace" in result:
        print_trace(result["trace"])
        print(f"next token: {log.first_token} {quoted(text_of(log.tokenizer, log.first_token))}")
    if "top" in result:
        print_top(result["top"])


def _print_log_probs(row, tokenizer):
    """Print the tokens of a row, each with its log probability."""
    print(f"{'log probability':>15}  token")
    for i, value in zip(row.ids, row.log_probs, strict=True):
        print(f"{value:15.4f}  {quoted(text_of(tokenizer, i))}")


def _print_watch(rows, text):
    """Print how the watched token ranked at each step."""
    wide = max(6, *(len(quoted(row["chosen"])) for row in rows))
    print(f"watching {quoted(text)}")
    print(f"{'step':>4}  {'chosen':{wide}}  {'rank':>5}  {'logit':>9}  {'probability':>11}")
    for row in rows:
        print(
            f"{row['step']:4}  {quoted(row['chosen']):{wide}}  {row['rank']:5}  {row['logit']:9.4f}  {row['p']:11.4%}"
        )
