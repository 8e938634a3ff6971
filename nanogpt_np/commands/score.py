"""``python -m nanogpt_np score FILE``: the log probability of every token of a text, its perplexity, bits per byte."""

import itertools
import sys
import threading
import time

from ..fast import keep_freed_memory
from ..generate.scoring import score
from ..text.display import quoted
from ..text.files import open_regular
from ..weights.checkpoint import open_checkpoint
from ..weights.places import default_model
from .opening import add_model, chosen_tokenizer, provenance_line
from .shell import Parser, command, print_json, say

LONGEST = 1 << 30  # bytes of a text: standard input may have no end
CHUNK = 1 << 20  # bytes that are read at a time
EVERY = 5  # seconds between two lines of progress
WIDEST = 30  # columns of a token; a longer one pushes the rest of its line to the right
LONGEST_BAR = 20  # a bar has one # for each nat


def _parser():
    parser = Parser("score", "Say how well a model predicts a text: the log probability of every token, mean loss,\n"
        "perplexity and bits per byte. A text longer than the context is scored in overlapping windows.")  # fmt: skip
    add = parser.add_argument
    add("file", metavar="FILE", help="a UTF-8 text; - reads standard input; a final newline counts too")
    add_model(parser)
    add("--stride", type=int, metavar="N", help="tokens from one window to the next, at most the context; fewer give "
        "more context and take longer (default: half the context, which is 512 for gpt2)")  # fmt: skip
    add("--bos", action="store_true", help="put <|endoftext|> before the text, so that its first token is scored too")
    add("--special", action="store_true", help="read <|endoftext|> in the text as that token, not as text")
    add("--tokens", type=int, default=20, metavar="N", help="show the first N tokens (default: 20; 0 shows none)")
    add("--least", type=int, metavar="K", help="show the K least expected tokens instead, the least expected first")
    add("--json", action="store_true", help="print one JSON object with every token")
    return parser


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    args = _parser().parse_args(argv)
    if args.tokens < 0:
        raise ValueError(f"--tokens must be 0 or more, not {args.tokens}")
    if args.least is not None and args.least < 1:
        raise ValueError(f"--least must be 1 or more, not {args.least}")
    keep_freed_memory()
    text = read_text(args.file)
    checkpoint = open_checkpoint(default_model() if args.model is None else args.model)
    model, tokenizer = checkpoint.model, chosen_tokenizer(args.tokenizer, checkpoint)
    with Progress() as progress:
        options = {"bos": args.bos, "special": args.special, "stride": args.stride, "report": progress}
        result = score(model, text, tokenizer=tokenizer, **options)
    window = model.config.n_positions
    provenance = checkpoint.provenance | {"decoding": f"windows of {window} tokens, stride {result.stride}"}
    say(provenance_line(provenance, model.config, "<|endoftext|> first" if args.bos else "no BOS"))
    if args.json:
        about = {"model": checkpoint.provenance, "file": args.file, "bos": args.bos, "special": args.special}
        print_json(about | as_dict(result, window) | {"per_token": result.rows(tokenizer)})
        return 0
    first = range(min(args.tokens, len(result.ids)))
    print_tokens(result.rows(tokenizer, first if args.least is None else result.least_expected(args.least)))
    if args.least is None and 0 < len(first) < len(result.ids):
        more = f"{len(result.ids) - len(first):,} more tokens"
        print(f"... {more} (--tokens N shows the first N, --least K the least expected)")
    print(result.summary)
    return 0


def read_text(file):
    """Return the text of a file, or of standard input where it is ``-``; a byte order mark is dropped."""
    if file == "-" and sys.stdin is None:
        raise ValueError("there is no standard input to read the text from")
    name = "standard input" if file == "-" else file
    if file == "-":
        raw = _read(sys.stdin.buffer)
    else:
        with open_regular(file) as opened:
            raw = _read(opened)
    if len(raw) > LONGEST:
        raise ValueError(f"{name} is longer than {LONGEST:,} bytes: score it in parts")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not UTF-8 text: {error}") from None
    if not text:
        raise ValueError(f"{name} is empty: there is nothing to score")
    return text


def _read(stream):
    """Return the bytes of a stream, or a little more than `LONGEST`; ``read(LONGEST)`` would allocate all at once."""
    return b"".join(itertools.islice(iter(lambda: stream.read(CHUNK), b""), LONGEST // CHUNK + 1))


def as_dict(result, window):
    """Return the numbers about the whole text, for JSON."""
    return {
        "window": window,
        "stride": result.stride,
        "tokens": len(result.ids),
        "scored_tokens": result.count,
        "scored_bytes": result.nbytes,
        "log_prob": result.total,
        "loss": result.loss,
        "perplexity": result.perplexity,
        "bits_per_byte": result.bits_per_byte,
    }


def print_tokens(rows):
    """Print a table of tokens, with a bar that is longer the less a token was expected."""
    if not rows:
        return
    wide = min(WIDEST, max(5, *(len(quoted(row["token"])) for row in rows)))
    print(f"{'position':>8}  {'id':>5}  {'token':{wide}}  {'log prob':>9}  {'rank':>6}")
    for row in rows:
        line = f"{row['position']:8}  {row['id']:5}  {quoted(row['token']):{wide}}  "
        if row["rank"] is None:
            print(f"{line}{'-':>9}  {'-':>6}")
        else:
            bar = "#" * min(LONGEST_BAR, round(-row["log_prob"]))
            print(f"{line}{row['log_prob']:9.4f}  {row['rank']:6}  {bar}".rstrip())


class Progress:
    """Print progress on stderr every `EVERY` seconds, also within a window: `score` reports only after each."""

    def __init__(self):
        self.done, self.total, self.began = 0, None, time.monotonic()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __call__(self, done, total):
        self.done, self.total = done, total

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def watch(self):
        """Print a line every `EVERY` seconds until the end."""
        while not self.over.wait(EVERY):
            say(self.line(time.monotonic() - self.began))

    def line(self, spent):
        """Return the line to print after `spent` seconds."""
        if self.total is None:
            return f"scoring the first window: {spent:.0f} s"
        speed = self.done / spent
        left = round((self.total - self.done) / speed)
        of = f"scored {self.done:,} of {self.total:,} tokens"
        return f"{of}  {speed:,.0f} tokens/s  {left // 60}:{left % 60:02} left"
