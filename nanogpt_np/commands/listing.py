"""The listing of a pass that `trace` prints: tokens, equations, costs. The rows come from `interpret/steps.py`."""

from itertools import groupby

from ..interpret.stats import stats_line
from ..names.ledger import COSTS
from ..names.wording import wrapped
from ..text.display import quoted
from .screen import columns

NOTES = (
    "FLOPs are those of matrix products, 2 for each multiply-add; elementwise work is not counted. "
    "Bytes read are those of weights; bytes written are those of the arrays listed here, none for a view."
)
ESTIMATE = (
    "The estimate multiplies by every parameter for every token; here the embeddings are looked up, the LM head "
    "scores the last token only, and attention multiplies activations too."
)
ROOM = 30  # columns below which an equation in words gets a line of its own


def print_tokens(rows):
    """Print the tokens of the prompt."""
    print(f"{'position':>8}  {'id':>5}  token")
    for row in rows:
        print(f"{row['position']:8}  {row['id']:5}  {quoted(row['token'])}")


def print_equations(rows, args):
    """Print each step: name, shape, equation in numbers and in words; under it what was asked for."""
    width = columns()
    wide, shape_wide, numbers_wide = _widths(rows, "name", "shape", "in_numbers")
    for _, of_stage in groupby(rows, key=lambda row: row["stage"]):
        print()
        for row in of_stage:
            name = f"{row['name']:{wide}}  {row['shape']!s:{shape_wide}}  = "
            lead = f"{name}{row['in_numbers']:{numbers_wide}}  "
            if len(lead) > width - ROOM:
                print(wrapped(name, row["in_numbers"], width))
                lead = " " * len(name)
            print(wrapped(lead, row["equation"], width))
            _print_more(row, args)


def print_ledger(result, args):
    """Print what each step costs, with sums by stage and in all."""
    wide, shape_wide = _widths(result["points"], "name", "shape")
    titles = ("FLOPs", "weight bytes read", "bytes written")

    def line(name, shape, costs, end=""):
        numbers = "".join(f"  {costs[cost]:17,}" for cost in COSTS)
        return f"{name:{wide}}  {shape:{shape_wide}}{numbers}{end}"

    print("\n" + " " * (wide + shape_wide + 2) + "".join(f"  {title:>17}" for title in titles))
    for stage, rows in groupby(result["points"], key=lambda row: row["stage"]):
        for row in rows:
            print(line(row["name"], str(row["shape"]), row, "  view" if row["view"] else ""))
            _print_more(row, args)
        print(line(f"= {stage}", "", result["ledger"]["by_stage"][stage]) + "\n")
    total, estimate = result["ledger"]["total"], result["ledger"].get("two_per_parameter_and_token")
    print(line(f"= {len(result['points'])} step{'s' * (len(result['points']) > 1)}", "", total) + "\n")
    print(wrapped("", NOTES, columns()))
    if estimate:
        share = f"{total['flops'] / estimate:.3f} of 2 x parameters x tokens = {estimate:,} FLOPs, the usual estimate."
        print(wrapped("", f"This pass takes {share} {ESTIMATE}", columns()))


def _print_more(row, args):
    if args.stats and "stats" in row:
        print(wrapped("    ", stats_line(row["stats"]), columns()))
    if args.values:
        shown = (f"{v:.6g}" if isinstance(v, float) else str(v) for v in row["values"]["numbers"])
        print(wrapped(f"    {row['values']['index']}  ", "  ".join(shown), columns()))
    if args.notice:
        print(wrapped("    ", row["notice"], columns()))


def _widths(rows, *keys):
    return [max(len(str(row[key])) for row in rows) for key in keys]
