"""``python -m nanogpt_np facts [MODEL]``: quiz a checkpoint on every fact the bundled one learned."""

import json

import numpy as np

from ..fast import keep_freed_memory
from ..generate import next_logits
from ..model.attention import softmax
from ..train.facts import FactsData, recall_by_relation
from ..weights import open_checkpoint
from .opening import add_tokenizer, chosen_tokenizer
from .shell import Parser, command


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    parser = Parser("facts", "Quiz a checkpoint on every fact of the table, and count the correct answers.")
    parser.add_argument("model", nargs="?", default="facts", help="a name or a directory (default: the bundled model)")
    keep_freed_memory()
    add_tokenizer(parser)
    args = parser.parse_args(argv)
    checkpoint = open_checkpoint(args.model)
    model = checkpoint.model
    data = FactsData(context=64, batch_size=1, tokenizer=chosen_tokenizer(args.tokenizer, checkpoint))
    kinds = {"seen": "seen", "held": "held out", "new": "ending new too"}
    by = {which: recall_by_relation(model, data.questions(which)) for which in kinds}
    print(f"{'templates:':20}" + "".join(f" {title:>18}" for title in kinds.values()))
    for relation in data.relations:
        cells = (f"{share:.2%} of {n:,}" for share, n in (by[which][relation] for which in kinds))
        print(f"{relation:20}" + "".join(f" {cell:>18}" for cell in cells))
    prompt = "The capital of France is"
    p = softmax(next_logits(model, data.tokenizer.encode(prompt)).astype(np.float64))
    print(f'"{prompt}": {json.dumps(data.tokenizer.decode([p.argmax()]))} with probability {p.max():.4f}')
    return 0
