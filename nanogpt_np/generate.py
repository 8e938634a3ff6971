"""From a prompt to text: the library function `generate`, and ``python -m nanogpt_np.generate``.

Generation is a loop: run the model, score what could follow the last token, choose, append. With
the KV cache (`cache.py`) only the new token goes through the model. Choosing: `sampling.py`.
"""

import itertools
import json
import operator
import sys

import numpy as np

from .attention import softmax
from .cache import KVCache
from .cli import Parser, add_model, command, read_prompt, say
from .model import check_ids
from .sampling import check_sampling, draw, probabilities
from .tokenizer import END_OF_TEXT_ID, Tokenizer
from .trace import no_trace


def generate(
    model,
    ids,
    n_new,
    *,
    temperature=0.0,
    top_k=None,
    top_p=None,
    rng=None,
    stop=(END_OF_TEXT_ID,),
    use_cache=True,
    trace=no_trace,
):
    """Return an iterator over up to `n_new` ids that follow the prompt `ids` (T,), each when it is found.

    temperature : 0 takes the likeliest token each time; above 0 draws, with `rng`
        (a numpy Generator; a fresh one if None) from the tokens that `top_k` and `top_p` leave.
    stop : ids that end the text; they are not given out.
    use_cache : False runs all tokens through the model at every step: the same ids, slowly.
    trace : as for the model, at every step; `points.NEXT_TOKEN` comes after the model's own points.

    It also ends when the context is full: after n_positions - T + 1 tokens, since a token that is
    only read off needs no position. Raises ValueError for bad arguments at once, and for logits
    that are not finite when they occur.
    """
    check_sampling(temperature, top_k, top_p)
    ids = check_ids(ids, model.config)
    if ids.ndim != 1:
        raise ValueError(f"one prompt at a time: ids must have shape (T,), not {ids.shape}")
    n_new = operator.index(n_new)
    if n_new < 0:
        raise ValueError(f"the number of new tokens must be 0 or more, not {n_new}")
    room = model.config.n_positions - len(ids) + 1
    rng = np.random.default_rng() if rng is None else rng

    def choose(logits):
        if temperature == 0:
            return logits.argmax()
        return draw(probabilities(logits, temperature, top_k, top_p), rng)

    def steps(ids):
        cache = KVCache(model.config) if use_cache else None
        for _ in range(min(n_new, room)):
            logits = next_logits(model, ids, cache=cache, trace=trace)
            trace("hook_probabilities", softmax(logits))
            token = int(trace("hook_next_token", np.asarray(choose(logits))))
            if token in stop:
                return
            yield token
            ids = np.array([token]) if use_cache else np.append(ids, token)

    return steps(ids)


def next_logits(model, ids, *, cache=None, trace=no_trace):
    """ids (T,) -> (V,): the scores of what follows the last token; ValueError if any is NaN or infinite."""
    with np.errstate(all="ignore"):  # what overflows is found below, and told once
        last_row = trace("hook_last_row", model.last_row(ids, cache=cache, trace=trace))
        logits = model.lm_head(last_row)
    if not np.isfinite(logits).all():
        bad = [name for name, array in model.params.items() if not np.isfinite(array).all()]
        where = f"tensor {bad[0]} holds NaN or inf" if bad else "the weights are finite, an activation overflowed"
        raise ValueError(f"the logits hold NaN or inf, so there is no next token: {where}")
    logits = trace("hook_next_logits", logits)
    if not np.isfinite(logits.max()):  # a trace may rule tokens out with -inf, but not all of them
        raise ValueError("the trace gave back logits of which the largest is not finite: there is no next token")
    return logits


def _parser():
    parser = Parser("generate", "Continue a text with GPT-2, in NumPy.")
    add = parser.add_argument
    add("prompt", help="the text to continue; - reads standard input (less one final newline)")
    add_model(parser)
    add("-n", "--max-new-tokens", type=int, default=20, metavar="N", help="tokens to add at most (default: 20)")
    add("--temperature", type=float, default=0.0, metavar="X", help="0 takes the likeliest token (default); 1 samples")
    add("--top-k", type=int, metavar="K", help="sample from the K likeliest tokens")
    add("--top-p", type=float, metavar="P", help="sample from the likeliest tokens that reach probability P together")
    add("--seed", type=int, help="sample the same text again")
    add("--num-samples", type=int, default=1, metavar="N", help="how many texts (default: 1)")
    add("--special", action="store_true", help="read <|endoftext|> in the prompt as that token, not as text")
    add("--top", type=int, metavar="K", help="first show the K likeliest next tokens; of equal logits the lower id "
        "comes first")  # fmt: skip
    add("--watch", metavar="TOKEN", help='follow one token through the steps, e.g. " Paris"')
    add("--trace", action="store_true", help="first show the shape of every tensor on the way to the first new token")
    add("--json", action="store_true", help="print one JSON object at the end")
    add("--no-cache", action="store_true", help="compute every token again at every step: the same text, slowly")
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
    from . import show

    tokenizer = Tokenizer()
    prompt, ids, model, provenance = show.opening(args, tokenizer)
    n_positions = model.config.n_positions
    watched = show.watched_token(tokenizer, args.watch, model.config)
    seed = np.random.SeedSequence().entropy % 2**32 if args.seed is None else args.seed
    rng = np.random.default_rng(seed)
    provenance["decoding"] = show.decoding(args.temperature, args.top_k, args.top_p, seed)
    result = {"model": provenance, "prompt": prompt, "prompt_ids": ids, "samples": []}

    for number in range(1, args.num_samples + 1):
        log = show.StepLog(tokenizer, model.config, top=args.top, watched=watched)
        new = generate(
            model,
            ids,
            args.max_new_tokens,
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
            rng=rng,
            use_cache=not args.no_cache,
            trace=log if args.trace or args.top or args.watch else no_trace,  # unwatched, a long prompt takes less time
        )
        first = list(itertools.islice(new, 1))  # what is wrong with prompt or weights has shown by now
        new = itertools.chain(first, new)
        if number == 1:
            say(show.provenance_line(provenance, model.config))
            if args.trace:
                from .steps import outline  # here, since it imports this module

                shapes = {name: (shape, dtype) for name, shape, dtype in log.shapes}
                result["trace"] = outline(model.config, shapes)
            if args.top:
                result["top"] = log.top
            if not args.json:
                show.print_introduction(result, log)
        if not args.json and args.num_samples > 1:
            print(f"--- sample {number} of {args.num_samples}")
        new_ids = list(new) if args.json else show.stream(new, tokenizer)
        ended = _why_it_ended(len(new_ids), args.max_new_tokens, len(ids), n_positions)
        if ended == "context":
            say(f"stopped: the context of {n_positions} tokens is full")
        sample = {"ids": new_ids, "text": tokenizer.decode(new_ids), "ended": ended}
        if watched is not None:
            sample["watch"] = log.watch
            if not args.json:
                show.print_watch(sample["watch"], args.watch)
        result["samples"].append(sample)
    if args.json:
        print(json.dumps(result, indent=1))
    return 0


def _dry_run(args):
    """Run the same code on zero-filled weights of a published size: every shape, no download."""
    from . import show
    from .config import published
    from .steps import dry_run, outline

    if args.model is not None or args.watch or args.top or args.temperature:
        raise ValueError("--dry-run has no weights: it goes with none of --model, --watch, --top, --temperature")
    config, prompt = published(args.dry_run), read_prompt(args.prompt)
    ids = Tokenizer().encode(prompt, special=args.special)
    shapes, note = dry_run(args.dry_run, ids)
    rows = outline(config, shapes)
    say(note)
    if args.json:
        print(json.dumps({"dry_run": note, "prompt": prompt, "prompt_ids": ids, "trace": rows}, indent=1))
    else:
        print(note)
        show.print_trace(rows)
        print("no next token: with zero-filled weights every logit is 0")
    return 0


def _why_it_ended(n, wanted, T, n_positions):
    if n == wanted:
        return "length"
    return "context" if n == n_positions - T + 1 else "end of text"


if __name__ == "__main__":
    sys.exit(main())
