"""``python -m nanogpt_np facts --model NAME|DIR``: quiz a checkpoint on every fact the bundled one learned."""

import json

import numpy as np

from ..fast import keep_freed_memory
from ..generate import next_logits
from ..model.attention import softmax
from ..names.wording import folded
from ..train.facts import FactsData, recall_by_relation
from ..weights import open_checkpoint
from .opening import add_only_model, add_tokenizer, chosen_tokenizer, only_model
from .progress import Progress
from .screen import columns
from .shell import Parser, command


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    parser = Parser("facts", "Quiz a checkpoint on every fact of the table, and count the correct answers.")
    add_only_model(parser, "facts", "the bundled model")
    add_tokenizer(parser)
    args = parser.parse_args(argv)
    keep_freed_memory()
    checkpoint = open_checkpoint(only_model(args))
    model = checkpoint.model
    progress = Progress("questions")
    progress.begin("preparing the questions")
    data = FactsData(context=64, batch_size=1, tokenizer=chosen_tokenizer(args.tokenizer, checkpoint))
    kinds = {"seen": "seen", "held": "held out", "new": "ending new too"}
    asked = {which: data.questions(which) for which in kinds}
    progress.total = sum(map(len, asked.values()))
    by = {which: recall_by_relation(model, questions, report=progress.part()) for which, questions in asked.items()}
    progress.end()
    print(f"{'templates:':20}" + "".join(f" {title:>18}" for title in kinds.values()))
    for relation in data.relations:
        cells = (f"{share:.2%} of {n:,}" for share, n in (by[which][relation] for which in kinds))
        print(f"{relation:20}" + "".join(f" {cell:>18}" for cell in cells))
    prompt = "The capital of France is"
    p = softmax(next_logits(model, data.tokenizer.encode(prompt)).astype(np.float64))
    likeliest = json.dumps(data.tokenizer.decode([p.argmax()]))
    print(folded(f'"{prompt}": {likeliest} with probability {p.max():.4f}', columns()))
    return 0
