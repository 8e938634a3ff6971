"""The tables that several commands print: steps of a pass, the likeliest tokens. The library makes them."""

from ..text.display import quoted


def print_trace(rows):
    """Print the rows of `steps.outline`, a line per tensor."""
    wide = max(len(row["name"]) for row in rows)
    shape_wide = max(len(str(row["shape"])) for row in rows)
    for row in rows:
        weights = ", ".join(f"{name} {shape}" for name, shape in row["weights"].items())
        reads = f"   <- {weights}" if weights else ""
        print(f"{row['name']:{wide}}  {row['shape']!s:{shape_wide}}  = {row['equation']}{reads}")


def print_top(rows):
    """Print the table of the likeliest next tokens."""
    wide = max(len(quoted(row["token"])) for row in rows)
    print(f"{'rank':>4}  {'id':>5}  {'token':{wide}}  {'logit':>9}  {'probability':>11}")
    for row in rows:
        print(f"{row['rank']:4}  {row['id']:5}  {quoted(row['token']):{wide}}  {row['logit']:9.4f}  {row['p']:11.4%}")
