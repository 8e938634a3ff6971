"""``python -m nanogpt_np tokens TEXT``: how a text is cut into tokens, with the id and the bytes of each."""

import sys

from ..text.display import pieces, quoted
from ..weights.checkpoint import open_checkpoint
from .opening import add_tokenizer, chosen_tokenizer, read_prompt
from .shell import Parser, command, print_json, say

BACKGROUNDS = ("30;46", "30;43")  # in turn, so that neighbors differ: black on cyan, black on yellow
CODE = "1;31"  # bold red: the code of a byte or character that cannot be shown


def _parser():
    parser = Parser(
        "tokens",
        "Show how a text is cut into tokens: the id and the text of each; bytes of incomplete characters as codes.",
    )
    add = parser.add_argument
    add("text", help="the text; - reads standard input (less one final newline)")
    add("--model", metavar="NAME|DIR", help="cut as this model's tokenizer does (default: gpt2's)")
    add_tokenizer(parser)
    add("--special", action="store_true", help="read <|endoftext|> in the text as that token, not as text")
    add("--json", action="store_true", help="print one JSON object")
    return parser


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    args = _parser().parse_args(argv)
    text = read_prompt(args.text)
    named = args.model is not None and args.tokenizer is None
    tokenizer = chosen_tokenizer(args.tokenizer, open_checkpoint(args.model) if named else None)
    tokens = tokenizer.tokens(text, special=args.special)
    counts = {"tokens": len(tokens), "characters": len(text), "bytes": len(text.encode())}
    if args.json:
        rows = [{"id": token.id, "text": token.text, "bytes": token.raw.hex()} for token in tokens]
        print_json({"tokenizer": tokenizer.source, "text": text, "counts": counts, "tokens": rows})
        return 0
    whose = "gpt2" if tokenizer.is_gpt2 else tokenizer.source
    words = ", ".join(f"{n:,} {what if n > 1 else what.removesuffix('s')}" for what, n in counts.items())
    say(f"tokenizer: {whose}, {tokenizer.size:,} tokens; the text: {words}")
    if sys.stdout.colors:
        _paint(tokens)
    print(f"{'position':>8}  {'id':>5}  token")
    for position, token in enumerate(tokens):
        print(f"{position:8}  {token.id:5}  {quoted(token.text)}")
    return 0


def _paint(tokens):
    """Print the text with a background for each token."""
    for number, token in enumerate(tokens):
        style = BACKGROUNDS[number % len(BACKGROUNDS)]
        for kind, text in pieces(token.raw):
            sys.stdout.paint(text, f"{style};{CODE}" if kind == 2 else style)
        if token.raw.endswith(b"\n"):
            print()
    print("\n")
