"""``python -m nanogpt_np lens PROMPT --token TOKEN``: why this token, or why not.

The report on one token after one prompt: how it did against its rivals, what the model would have said
after every half-block, and which parts made the difference. The numbers come from `lens.py`.
"""

import itertools
import json
import math
import sys
import textwrap
from dataclasses import asdict

import numpy as np

from . import points, show
from .attention import softmax
from .cli import Parser, add_model, columns, command, say
from .generate import next_logits
from .lens import logit_lens, split
from .sampling import standing
from .tokenizer import Tokenizer
from .trace import Recorder

BAR = 20  # characters of the longest bar


class _LastRow(Recorder):
    """Keep what belongs to the last position only: a long prompt's patterns are gigabytes."""

    def __call__(self, name, x):
        axes = points.get(name).axes.split()
        self[name] = np.take(x, [-1], axis=axes.index("T")) if "T" in axes else x
        return x


def report(model, tokenizer, ids, token, *, against=None, rivals=3):
    """Return all that the command shows of `token` after the prompt `ids`, as plain rows.

    It is compared with the token `against`, if there is one, and with the `rivals` likeliest other tokens.
    """
    acts = _LastRow()
    logits = next_logits(model, ids, trace=acts)
    p = softmax(logits)
    others = [int(i) for i in np.argsort(-logits, kind="stable")[: rivals + 1] if i != token][:rivals]
    if not others:
        raise ValueError("there is no other token to compare with")
    compared = list(dict.fromkeys(others if against is None else [against, *others]))

    def row(i):
        return {"id": i, "token": show.text_of(tokenizer, i), **standing(logits, p, i)}

    def part_row(part):
        if part.head is None:
            return asdict(part)
        pattern = acts[f"blocks.{part.block}.attn.hook_pattern"][part.head, 0]  # (S,)
        key = int(pattern.argmax())
        most = {"key": key, "token": show.text_of(tokenizer, ids[key]), "weight": float(pattern[key])}
        return {**asdict(part), "looks_at": most}

    def split_row(rival):
        found = split(acts, model, token, against=rival)
        return {
            "against": row(rival),
            "difference": found.recorded,
            "parts": [part_row(part) for part in found.parts],
            "by_kind": found.by_kind,
            "total": found.total,
            "remainder": found.remainder,
            "decided_by": [part.name for part in found.deciding],
        }

    lens = logit_lens(acts, model, token)
    return {
        **row(token),
        "likeliest": sorted(map(row, [token, *compared]), key=lambda row: row["rank"]),
        "best_other": row(others[0]),
        "lens": [{**stop, "best_token": show.text_of(tokenizer, stop["best"])} for stop in lens],
        "splits": [split_row(rival) for rival in compared],
    }


def answer_line(result):
    """Say in one sentence how the token did."""
    place = "the likeliest" if result["rank"] == 1 else _ordinal(result["rank"])
    p = f"{100 * result['p']:.3g} %" if result["p"] >= 1e-4 else "less than 0.01 %"
    rivals = {row["id"]: row for row in (result["best_other"], result["splits"][0]["against"])}
    compared = ", ".join(_compared(result, rival) for rival in rivals.values())
    return f"{_short(result['token'])} is {place}: {p}, logit {result['logit']:.3g}, {compared}"


def deciding_line(result, row):
    """Say in one sentence which parts of a split decide."""
    names, winner, loser = row["decided_by"], _short(result["token"]), _short(row["against"]["token"])
    if row["difference"] < 0:
        winner, loser = loser, winner
    if not names:
        return f"Nothing decides: {winner} and {loser} are level."
    *rest, last = names
    listed = f"{', '.join(rest)} and {last}" if rest else last
    return f"Decided by {listed}: the other parts alone would put {loser} ahead of {winner}."


def print_lens(result):
    """Print the logit lens, a line for each half-block."""
    print("If the model stopped early: the final LayerNorm and the LM head after every half-block")
    print(f"{'after':10}  {'rank':>6}  {'logit':>9}  {'probability':>11}  likeliest there")
    for row in result["lens"]:
        best = _short(row["best_token"])
        print(f"{row['after']:10}  {row['rank']:6}  {row['logit']:9.4f}  {row['p']:11.4%}  {best}")


def print_split(result, row, most):
    """Print the parts of a split, at most `most` on each side and the rest in one line."""
    token, rival = _short(result["token"]), _short(row["against"]["token"])
    print(f"{token} against {rival}: the difference of their logits, part by part")
    print("(direct effects: what a part does through later ones counts there; head 2.1 is head 1 of block 2)")
    ranked = sorted(row["parts"], key=lambda part: -part["amount"])
    top = [part for part in ranked if part["amount"] > 0][:most]
    bottom = [part for part in ranked if part["amount"] < 0][-most:]
    between = ranked[len(top) : len(ranked) - len(bottom)]
    lines = [*top, *bottom, {"name": f"remainder ({row['remainder']:.1e})", "amount": row["remainder"]}]
    if between:
        rest = math.fsum(part["amount"] for part in between)
        lines.insert(len(top), {"name": f"the {len(between)} parts between", "amount": rest})
    wide = max(len(line["name"]) for line in lines)
    longest = max(abs(part["amount"]) for part in ranked) or 1
    for line, printed in zip(lines, _adding_up([line["amount"] for line in lines]), strict=True):
        bar = looks = ""
        if "kind" in line:  # a part, not a sum of many
            bar = ("+" if line["amount"] > 0 else "-") * round(BAR * abs(line["amount"]) / longest)
        if "looks_at" in line:
            seen = line["looks_at"]
            looks = f"looks at {_short(seen['token'])} {seen['weight']:.0%} (key {seen['key']})"
        print(f"{printed:+9.3f}  {line['name']:{wide}}  {bar:{BAR}}  {looks}".rstrip())
    difference = row["difference"]
    times = math.exp(min(difference, 700))  # exp overflows at 710; no trained model comes near
    print(f"{difference:+9.3f}  in all: {token} is exp({difference:.3f}) = {times:.3g} times as likely as {rival}")


def print_by_kind(result):
    """Print the splits against all rivals side by side, in few lines."""
    splits = result["splits"]
    heads = [_short(row["against"]["token"]) for row in splits]
    kinds = [*splits[0]["by_kind"], "remainder"]
    columns = [_adding_up([*row["by_kind"].values(), row["remainder"]]) for row in splits]
    lines = [(kind, amounts) for kind, *amounts in zip(kinds, *columns, strict=True)]
    lines.append(("in all", [row["difference"] for row in splits]))
    title = f"{_short(result['token'])} against"
    wide = max(20, len(title))
    print(f"{title:{wide}}" + "".join(f"  {head:>10}" for head in heads))
    for kind, amounts in lines:
        numbers = (f"  {amount:+{max(10, len(head))}.3f}" for amount, head in zip(amounts, heads, strict=True))
        print(f"{kind:{wide}}{''.join(numbers)}")


def _short(text):
    """Return `text` quoted, and cut where it is so long that it would break a table."""
    text = show.quoted(text)
    return text if len(text) <= 16 else text[:12] + '..."'


def _ordinal(n):
    ending = "th" if n // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n:,}{ending}"


def _compared(row, other):
    difference, rival = row["logit"] - other["logit"], _short(other["token"])
    if not difference:
        return f"level with {rival}"
    return f"{abs(difference):.3g} {'ahead of' if difference > 0 else 'behind'} {rival}"


def _adding_up(amounts):
    """Round to 3 digits so that the printed numbers add up too: each is off by 0.001 at most."""
    sums = [round(whole, 3) for whole in itertools.accumulate(amounts, initial=0)]
    return [after - before for before, after in itertools.pairwise(sums)]


def _parser():
    parser = Parser("lens", "Why this token, or why not: its rank after every half-block, its logit part by part.")
    add = parser.add_argument
    add("prompt", help="the text to continue; - reads standard input (less one final newline)")
    add("--token", required=True, metavar="TOKEN", help='the token to explain, e.g. " Paris"; in ranks, of equal '
        "logits the lower id comes first")  # fmt: skip
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
    tokenizer = Tokenizer()
    prompt, ids, model, provenance = show.opening(args, tokenizer)
    token = show.watched_token(tokenizer, args.token, model.config, "--token", special=args.special)
    against = show.watched_token(tokenizer, args.against, model.config, "--against", special=args.special)
    if token == against:
        raise ValueError("--against must be another token than --token")
    result = report(model, tokenizer, ids, token, against=against, rivals=args.rivals)
    say(show.provenance_line(provenance, model.config))
    if args.json:
        print(json.dumps({"model": provenance, "prompt": prompt, "prompt_ids": ids, **result}, indent=1))
        return 0
    print(answer_line(result))
    print()
    show.print_top(result["likeliest"])
    print()
    print_lens(result)
    print()
    print_split(result, result["splits"][0], args.parts)
    print()
    print_by_kind(result)
    print()
    print(textwrap.fill(deciding_line(result, result["splits"][0]), columns(100), break_on_hyphens=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
