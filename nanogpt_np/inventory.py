"""``python -m nanogpt_np.inventory [MODEL]``: every tensor of a checkpoint, and how the parameters add up.

For the published names no weights are needed: names and shapes follow from the sizes.
"""

import json
import math
import sys

from . import parameters
from .cli import Parser, command
from .config import PUBLISHED

BYTES = {"F32": 4, "F16": 2, "BF16": 2}


def inventory(config, dtypes=None):
    """Return a dict per tensor, in the order of use.

    dtypes : ``{name: "F16"}`` as stored; F32 where it says nothing.
    """
    rows = []
    for name, parameter in parameters.table(config).items():
        shape = parameter.shape(config)
        dtype = (dtypes or {}).get(name, "F32")
        size = math.prod(shape)
        rows.append(
            {
                "name": name,
                "shape": list(shape),
                "dtype": dtype,
                "parameters": size,
                "bytes": size * BYTES[dtype],
                "part": parameter.part,
                "purpose": parameter.purpose,
                "layer": ".".join(name.split(".")[:2]) if name.startswith("h.") else name.split(".")[0],
            }
        )
    return rows


def totals(rows, key):
    """Return ``{value of key: {"tensors", "parameters", "bytes"}}`` in the order of first appearance."""
    sums = {}
    for row in rows:
        entry = sums.setdefault(row[key], {"tensors": 0, "parameters": 0, "bytes": 0})
        entry["tensors"] += 1
        entry["parameters"] += row["parameters"]
        entry["bytes"] += row["bytes"]
    return sums


def formula(config):
    """Return (term, its numbers, parameters) for each line of the sum that gives the parameter count."""
    V, C, F, P, L = config.vocab_size, config.n_embd, config.mlp_width, config.n_positions, config.n_layer
    norms, qkv, out, mlp = 4 * C, 3 * C * C + 3 * C, C * C + C, 2 * C * F + F + C
    block = norms + qkv + out + mlp
    lines = [
        ("token embedding V C", f"{V} x {C}", V * C),
        ("position embedding n_positions C", f"{P} x {C}", P * C),
        ("blocks n_layer x (the four parts below)", f"{L} x {block:,}", L * block),
        ("  two layer norms 2 x 2 C", f"2 x 2 x {C}", norms),
        ("  attention QKV C 3C + 3C", f"{C} x {3 * C} + {3 * C}", qkv),
        ("  attention output C C + C", f"{C} x {C} + {C}", out),
        ("  MLP C F + F + F C + C", f"{C} x {F} + {F} + {F} x {C} + {C}", mlp),
        ("final layer norm 2 C", f"2 x {C}", 2 * C),
    ]
    if not config.tie_word_embeddings:
        lines.append(("LM head V C", f"{V} x {C}", V * C))
    return lines


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    parser = Parser("inventory", "List every tensor of a GPT-2 checkpoint, and add up its parameters.")
    parser.add_argument("model", nargs="?", default="gpt2", help="a published name, or a directory (default: gpt2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)

    config, dtypes, source = _look_up(args.model)
    rows = inventory(config, dtypes)
    by_part, by_layer = totals(rows, "part"), totals(rows, "layer")
    count = sum(row["parameters"] for row in rows)
    if args.json:
        whole = {"model": args.model, "source": source, "tensors": rows, "by_part": by_part, "by_layer": by_layer}
        print(json.dumps(whole | {"parameters": count, "bytes": sum(row["bytes"] for row in rows)}, indent=1))
        return 0

    print(f"{args.model}: {source}\n")
    wide = max(len(row["name"]) for row in rows)
    for row in rows:
        print(
            f"{row['name']:{wide}}  {row['shape']!s:13}  {row['dtype']:4}  {row['bytes']:13,} bytes  "
            f"{row['part']}: {row['purpose']}"
        )
    for title, sums in (("part", by_part), ("layer", by_layer)):
        print(f"\nby {title}")
        for name, entry in sums.items():
            share = entry["parameters"] / count
            print(
                f"  {name:18}  {entry['tensors']:4} tensors  {entry['parameters']:13,} parameters  "
                f"{share:7.2%}  {entry['bytes']:13,} bytes"
            )
    print("\nthe formula")
    lines = formula(config)
    term_wide, numbers_wide = (max(len(line[i]) for line in lines) for i in (0, 1))
    for term, numbers, size in lines:
        print(f"  {term:{term_wide}}  {numbers:{numbers_wide}}  = {size:13,}")
    if config.tie_word_embeddings:
        print("  LM head: tied to the token embedding, stored once")
    print(f"\n{len(rows)} tensors, {count:,} parameters, {sum(row['bytes'] for row in rows):,} bytes")
    return 0


def _look_up(name):
    """Return (Config, stored dtypes, one line about the source)."""
    from .home import find
    from .weights import stored_parameters

    try:
        directory = find(name)
    except ValueError:
        if name not in PUBLISHED:
            raise
        return PUBLISHED[name], {}, "as published (the weights are not on this machine; none are needed for this)"
    config, stored = stored_parameters(directory)
    for key, s in stored.items():
        if s.dtype not in BYTES:
            raise ValueError(f"{directory}: {key} is {s.dtype}: parameters must be {', '.join(BYTES)}")
    return config, {key: s.dtype for key, s in stored.items()}, f"as found in {directory}"


if __name__ == "__main__":
    sys.exit(main())
