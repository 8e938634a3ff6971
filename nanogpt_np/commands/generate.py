"""``python -m nanogpt_np generate PROMPT``: continue a text; show the likeliest next tokens, or every shape."""

import itertools
import sys
from dataclasses import replace

import numpy as np

from ..generate import generate
from ..generate.ranking import standing, top_rows
from ..generate.sampling import check_sampling
from ..model.trace import ShapeLog, no_trace
from ..names.wording import few
from ..text.display import quoted, text_of
from ..weights.configs import says_the_end
from .opening import add_model, chosen_tokenizer, decoding, opening, provenance_line, read_prompt, watched_token
from .shell import Parser, command, print_json, say
from .tables import print_top, print_trace


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
    add("--seed", type=int, help="sample the same text again")
    add("--num-samples", type=int, default=1, metavar="N", help="how many texts (default: 1)")
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
    check_sampling(args.temperature, args.top_k, args.top_p)
    for flag, value in (("-n", args.max_new_tokens), ("--num-samples", args.num_samples), ("--top", args.top)):
        if value is not None and value < 1:
            raise ValueError(f"{flag} must be 1 or more, not {value}")
    if args.seed is not None and args.seed < 0:
        raise ValueError(f"--seed must be 0 or more, not {args.seed}")
    if args.temperature == 0 and (args.top_k or args.top_p or args.num_samples > 1):
        raise ValueError("--top-k, --top-p and --num-samples need --temperature above 0: greedy has one answer")
    return _run(args) if args.dry_run is None else _dry_run(args)


def _run(args):
    opened = opening(args)
    ids, model, tokenizer = opened.ids, opened.model, opened.tokenizer
    watched = watched_token(tokenizer, args.watch, model.config)
    seed = np.random.SeedSequence().entropy % 2**32 if args.seed is None else args.seed
    rng = np.random.default_rng(seed)
    opened = replace(opened, decoding=decoding(args.temperature, args.top_k, args.top_p, seed))
    result = opened.about | {"samples": []}

    for number in range(1, args.num_samples + 1):
        log = StepLog(tokenizer, model.config, top=args.top, watched=watched)
        new = generate(
            model,
            ids,
            args.max_new_tokens,
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            rng=rng,
            stop=tokenizer.stop if args.tokenizer or not says_the_end(model.config) else model.config.eos_token_ids,
            use_cache=not args.no_cache,
            trace=log if args.trace or args.top or args.watch else no_trace,  # without a trace prompts are faster
        )
        first = list(itertools.islice(new, 1))  # a bad prompt or bad weights have raised by now
        new = itertools.chain(first, new)
        if number == 1:
            say(provenance_line(result["model"], model.config))
            if opened.checkpoint.ignored:
                say(f"ignored settings of the checkpoint: {few(opened.checkpoint.ignored, 8)}; the flags decide")
            if args.trace:
                from ..interpret.steps import outline  # only when needed: most runs do without

                shapes = {name: (shape, dtype) for name, shape, dtype in log.shapes}
                result["trace"] = outline(model.config, shapes)
            if args.top:
                result["top"] = log.top
            if not args.json:
                _print_introduction(result, log)
        if not args.json and args.num_samples > 1:
            print(f"--- sample {number} of {args.num_samples}")
        new_ids = list(new) if args.json else _stream(new, tokenizer)
        ended = _why_it_ended(len(new_ids), args.max_new_tokens, len(ids), model.config.n_positions)
        if ended == "context":
            say(f"stopped: the context of {model.config.n_positions} tokens is full")
        sample = {"ids": new_ids, "text": tokenizer.decode(new_ids), "ended": ended}
        if watched is not None:
            sample["watch"] = log.watch
            if not args.json:
                _print_watch(sample["watch"], args.watch)
        result["samples"].append(sample)
    if args.json:
        print_json(result)
    return 0


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
    say(note)
    if args.json:
        print_json({"dry_run": note, "prompt": prompt, "prompt_ids": ids, "trace": rows})
    else:
        print(note)
        print_trace(rows)
        print("no next token: with zero-filled weights every logit is 0")
    return 0


def _why_it_ended(n, wanted, T, n_positions):
    if n == wanted:
        return "length"
    return "context" if n == n_positions - T + 1 else "end of text"


def _stream(new, tokenizer):
    """Print the text of the ids in `new` as they arrive; return them as a list."""
    seen = []

    def noted():
        for i in new:
            seen.append(i)
            yield i

    for text in tokenizer.decode_stream(noted()):
        sys.stdout.write(text)
        sys.stdout.flush()
    print(flush=True)
    return seen


def _print_introduction(result, log):
    """Print what was requested before the text: the trace, the likeliest next tokens."""
    if "trace" in result:
        print_trace(result["trace"])
        print(f"next token: {log.first_token} {quoted(text_of(log.tokenizer, log.first_token))}")
    if "top" in result:
        print_top(result["top"])


def _print_watch(rows, text):
    """Print how the watched token ranked at each step."""
    wide = max(6, *(len(quoted(row["chosen"])) for row in rows))
    print(f"watching {quoted(text)}")
    print(f"{'step':>4}  {'chosen':{wide}}  {'rank':>5}  {'logit':>9}  {'probability':>11}")
    for row in rows:
        print(
            f"{row['step']:4}  {quoted(row['chosen']):{wide}}  {row['rank']:5}  {row['logit']:9.4f}  {row['p']:11.4%}"
        )
