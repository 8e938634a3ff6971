"""``python -m nanogpt_np lens PROMPT``: why the likeliest token, or why another one or why not."""

from ..interpret.lens_report import report
from ..interpret.lens_words import answer_line, by_kind_lines, deciding_line, lens_lines, split_lines
from ..names.wording import folded
from .opening import add_model, opening, provenance_line, watched_token
from .screen import GREEN, RED, columns, painted
from .shell import Parser, command, print_json, say
from .tables import print_top

MOST_RIVALS = 1000


def _parser():
    parser = Parser("lens", "Why this token, or why not: its rank after every sublayer, its logit part by part.")
    add = parser.add_argument
    add("prompt", help="the text to continue; - reads standard input (less one final newline)")
    add("--token", metavar="TOKEN", help='the token to explain, e.g. " Paris" (default: the likeliest; ties go to the '
        "lower id)")  # fmt: skip
    add("--against", metavar="TOKEN", help="explain the difference to this one (default: the best other token)")
    add_model(parser)
    add("--rivals", type=int, default=3, metavar="K", help="compare with the K likeliest other tokens (default: 3)")
    add("--parts", type=int, default=8, metavar="N", help="show the N largest parts on each side (default: 8)")
    add("--special", action="store_true", help="read <|endoftext|> as that token, not as text")
    add("--json", action="store_true", help="print one JSON object with every part against every rival")
    return parser


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    args = _parser().parse_args(argv)
    for flag, value in (("--rivals", args.rivals), ("--parts", args.parts)):
        if value < 1:
            raise ValueError(f"{flag} must be 1 or more, not {value}")
    if args.rivals > MOST_RIVALS:
        raise ValueError(f"--rivals must be {MOST_RIVALS} or less, not {args.rivals}")
    opened = opening(args)
    tokenizer, model = opened.tokenizer, opened.model
    token = watched_token(tokenizer, args.token, model.config, "--token", special=args.special)
    against = watched_token(tokenizer, args.against, model.config, "--against", special=args.special)
    if token is not None and token == against:
        raise ValueError("--against and --token must be different")
    result = report(model, tokenizer, opened.ids, token, against=against, rivals=args.rivals)
    say(provenance_line(opened.provenance, model.config))
    if args.json:
        print_json({**opened.about, **result})
        return 0
    width, row = columns(), result["splits"][0]
    print(folded(answer_line(result), width), end="\n\n")
    print_top(result["likeliest"])
    parts = split_lines(result, row, args.parts, width, _signed)
    for lines in (lens_lines(result, width), parts, by_kind_lines(result, _signed)):
        print("", *lines, sep="\n")
    print()
    print(folded(deciding_line(result, row), width))
    return 0


def _signed(text, amount):
    """Paint what is for the token and what is against it."""
    return painted(text, GREEN if amount > 0 else RED if amount < 0 else None)
