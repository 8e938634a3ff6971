"""``python -m nanogpt_np inventory --model NAME|DIR``: every tensor of a checkpoint, and how the parameters add up."""

from ..names.inventory import BYTES, formula, inventory, totals
from ..names.sizes import PUBLISHED
from ..names.wording import folded
from ..weights.checkpoint import open_checkpoint
from ..weights.pins import PINS
from ..weights.places import find
from .opening import add_only_model, only_model
from .screen import columns
from .shell import Parser, command, print_json


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    parser = Parser("inventory", "List every tensor of a GPT-2 checkpoint, and add up its parameters.")
    add_only_model(parser, "gpt2", "gpt2; the sizes of a published model need no weights")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)

    name = only_model(args)
    config, dtypes, source = _look_up(name)
    rows = inventory(config, dtypes)
    by_group, by_layer = totals(rows, "group"), totals(rows, "layer")
    count = sum(row["parameters"] for row in rows)
    if args.json:
        whole = {"model": name, "source": source, "tensors": rows, "by_group": by_group, "by_layer": by_layer}
        print_json(whole | {"parameters": count, "bytes": sum(row["bytes"] for row in rows)})
        return 0

    print(folded(f"{name}: {source}", columns()) + "\n")
    wide = max(len(row["name"]) for row in rows)
    for row in rows:
        print(
            f"{row['name']:{wide}}  {row['shape']!s:13}  {row['dtype']:4}  {row['bytes']:13,} bytes  "
            f"{row['group']}: {row['purpose']}"
        )
    for title, sums in (("group", by_group), ("layer", by_layer)):
        print(f"\nby {title}")
        for part, entry in sums.items():
            share = entry["parameters"] / count
            print(
                f"  {part:18}  {entry['tensors']:4} tensors  {entry['parameters']:13,} parameters  "
                f"{share:7.2%}  {entry['bytes']:13,} bytes"
            )
    print("\nthe formula")
    lines = formula(config)
    term_wide, numbers_wide = (max(len(line[i]) for line in lines) for i in (0, 1))
    for term, numbers, size in lines:
        print(f"  {term:{term_wide}}  {numbers:{numbers_wide}}  = {size:13,}")
    if config.tie_word_embeddings:
        print(folded("  LM head: tied to the token embedding, stored once", columns()))
    size = sum(row["bytes"] for row in rows)
    print(folded(f"\n{len(rows)} tensors, {count:,} parameters, {size:,} bytes", columns()))
    return 0


def _look_up(name):
    """Return (Config, stored dtypes, one line about the source)."""
    try:
        find(name)
    except ValueError:
        if name.lower() not in PUBLISHED:
            raise
        return (
            PUBLISHED[name.lower()],
            {},
            "as published (the weights are not on this machine; none are needed for this)",
        )
    checkpoint = open_checkpoint(name)
    for key, s in checkpoint.stored.items():
        if s.dtype not in BYTES:
            raise ValueError(f"{checkpoint.directory}: {key} is {s.dtype}: parameters must be {', '.join(BYTES)}")
    dtypes = {key: s.dtype for key, s in checkpoint.stored.items()}
    source = ", ".join((f"as found in {checkpoint.directory}", *checkpoint.layout))
    return checkpoint.config, dtypes, f"{source}; {checkpoint.checked_origin()}" if checkpoint.name in PINS else source
