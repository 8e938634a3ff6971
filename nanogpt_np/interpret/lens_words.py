"""The report on one token in words: lines of text made of the rows of `lens_report.py`."""

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

from ..names.wording import WIDTH, folded
from ..text.display import quoted

Row = dict[str, Any]  # of `lens_report.py`

Signed = Callable[[str, float], str]  # a text and the amount in it -> the text in a color

BAR, SHORTEST_BAR = 20, 8  # characters of the longest bar: where there is room, and at least


def answer_line(result: Row) -> str:
    """Say in one sentence how the token did."""
    place = "the likeliest" if result["rank"] == 1 else _ordinal(result["rank"])
    p = f"{100 * result['p']:.3g} %" if result["p"] >= 1e-4 else "less than 0.01 %"
    rivals = {row["id"]: row for row in (result["best_other"], result["splits"][0]["against"])}
    compared = ", ".join(_compared(result, rival) for rival in rivals.values())
    return f"{_short(result['token'])} is {place}: {p}, logit {result['logit']:.3g}, {compared}"


def deciding_line(result: Row, row: Row) -> str:
    """Say in one sentence which parts of a split decide."""
    names, winner, loser = row["decided_by"], _short(result["token"]), _short(row["against"]["token"])
    if row["difference"] < 0:
        winner, loser = loser, winner
    if not names:
        return f"Nothing decides: {winner} and {loser} are tied."
    *rest, last = names
    listed = f"{', '.join(rest)} and {last}" if rest else last
    return f"Decided by {listed}: the other parts alone would put {loser} ahead of {winner}."


def _plain(text: str, amount: float) -> str:
    return text


def lens_lines(result: Row, width: int = WIDTH) -> list[str]:
    """Return the logit lens as lines, one for each sublayer."""
    lines = [
        folded("If the model stopped early: final LayerNorm and LM head after every sublayer", width),
        f"{'after':10}  {'rank':>6}  {'logit':>9}  {'probability':>11}  likeliest there",
    ]
    for row in result["lens"]:
        best = _short(row["best_token"])
        lines.append(f"{row['after']:10}  {row['rank']:6}  {row['logit']:9.4f}  {row['p']:11.4%}  {best}")
    return lines


def split_lines(result: Row, row: Row, most: int, width: int = WIDTH, signed: Signed = _plain) -> list[str]:
    """Return the parts of a split as lines, at most `most` on each side and the rest in one.

    signed : colors an amount, and the bar that shows it.
    """
    token, rival = _short(result["token"]), _short(row["against"]["token"])
    text = [
        folded(f"{token} against {rival}: the difference of their logits, part by part", width),
        folded("(direct effects: effects through a later part count there; head 2.1 is head 1 of block 2)", width),
    ]
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
    looks = [_looks_at(line) for line in lines]
    room = min(BAR, max(SHORTEST_BAR, width - 9 - 2 - wide - 2 - 2 - max(map(len, looks))))
    for line, printed, look in zip(lines, _adding_up([line["amount"] for line in lines]), looks, strict=True):
        bar = ""
        if "kind" in line:  # a part, not a sum of many
            bar = ("+" if line["amount"] > 0 else "-") * round(room * abs(line["amount"]) / longest)
        space = " " * (room - len(bar) + 2) if look else ""
        start = f"{signed(f'{printed:+9.3f}', printed)}  {line['name']:{wide}}"
        text.append(f"{start}  {signed(bar, printed)}{space}{look}" if bar or look else start.rstrip())
    difference = row["difference"]
    times = math.exp(min(difference, 700))  # exp overflows at 710; no trained model comes near
    sentence = f"{token} is exp({difference:.3f}) = {times:.3g} times as likely as {rival}"
    first, *more = folded(f"{difference:+9.3f}  in all: {sentence}", width).split("\n")
    return [*text, signed(first[:9], difference) + first[9:], *more]


def _looks_at(line: Row) -> str:
    """Say which token a head attends to most; nothing for other parts."""
    if "looks_at" not in line:
        return ""
    seen = line["looks_at"]
    return f"looks at {_short(seen['token'])} {seen['weight']:.0%} (key {seen['key']})"


def by_kind_lines(result: Row, signed: Signed = _plain) -> list[str]:
    """Return the splits against all rivals side by side, in few lines; `signed` colors the amounts."""
    splits = result["splits"]
    heads = [_short(row["against"]["token"]) for row in splits]
    kinds = [*splits[0]["by_kind"], "remainder"]
    columns = [_adding_up([*row["by_kind"].values(), row["remainder"]]) for row in splits]
    lines = [(kind, amounts) for kind, *amounts in zip(kinds, *columns, strict=True)]
    lines.append(("in all", [row["difference"] for row in splits]))
    title = f"{_short(result['token'])} against"
    wide = max(20, len(title))
    text = [f"{title:{wide}}" + "".join(f"  {head:>10}" for head in heads)]
    for kind, amounts in lines:
        padded = ((f"  {amount:+{max(10, len(head))}.3f}", amount) for amount, head in zip(amounts, heads, strict=True))
        numbers = (signed(number, amount) for number, amount in padded)
        text.append(f"{kind:{wide}}{''.join(numbers)}")
    return text


def _short(text: str) -> str:
    """Return `text` quoted, and shortened if it would break a table."""
    text = quoted(text)
    return text if len(text) <= 16 else text[:12] + '..."'


def _ordinal(n: int) -> str:
    ending = "th" if n // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n:,}{ending}"


def _compared(row: Row, other: Row) -> str:
    difference, rival = row["logit"] - other["logit"], _short(other["token"])
    if not difference:
        return f"tied with {rival}"
    return f"{abs(difference):.3g} {'ahead of' if difference > 0 else 'behind'} {rival}"


def _adding_up(amounts: Iterable[float]) -> list[float]:
    """Round to 3 digits so that the printed numbers add up too: each is off by 0.001 at most."""
    sums = [round(whole, 3) for whole in itertools.accumulate(amounts, initial=0)]
    return [after - before for before, after in itertools.pairwise(sums)]
