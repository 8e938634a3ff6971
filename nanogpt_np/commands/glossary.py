"""``python -m nanogpt_np glossary WORD``: what a tensor is called, here and elsewhere."""

from ..names.entries import entries
from ..names.glossary import as_text, find
from ..names.points_page import page
from ..names.sizes import PUBLISHED
from ..weights.checkpoint import open_checkpoint
from .screen import columns
from .shell import Parser, command, print_json


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    parser = Parser("glossary", "Look up a tensor of GPT-2 by any of its names; without one, list them all.")
    parser.add_argument("word", nargs="*", help="keys, W_K, c_attn, blocks.3.attn.hook_k, blk.3.attn_qkv ...")
    parser.add_argument("--model", metavar="NAME|DIR", help="show the sizes of this model, such as gpt2")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--markdown", action="store_true", help="print docs/points.md, the page of everything")
    args = parser.parse_args(argv)
    query = " ".join(args.word)
    if args.markdown:
        if query or args.model:
            raise ValueError("--markdown prints the whole page: it takes no word and no --model")
        print(page(), end="")
        return 0
    config = None if args.model is None else _config(args.model)
    rows = [entry.row(config) for entry in (find(query, config) if args.word else entries(config=config))]
    if args.json:
        print_json({"query": query, "model": args.model, "tensors": rows})
    elif args.word:
        print("\n\n".join(as_text(row, columns()) for row in rows))
    else:
        for row in rows:
            axes = str(row["shape"]).replace("'", "") if config else f"[{row['axes']}]"
            others = row["names"].get("Hugging Face") or row["names"]["words"]
            print(f"{row['name']:37}  {axes:15}  {others[0]}")
    return 0


def _config(name):
    """Return the Config of a published size, which needs no weights, or of a checkpoint."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    return open_checkpoint(name).config
