"""``python -m nanogpt_np`` lists the commands; ``python -m nanogpt_np COMMAND ...`` runs one."""

import sys
from importlib import import_module

from .commands.screen import columns
from .commands.shell import command, say
from .names.wording import nearest, wrapped

COMMANDS = {  # each is a file of that name in commands/
    "generate": "continue a text; show the likeliest next tokens, or every shape on the way",
    "trace": "the whole pass step by step: shapes, equations, values, cost; save it, walk through it",
    "explain": "derive any one number of the pass from those before it",
    "lens": "why this token, or why not: its rank after every sublayer, its logit part by part",
    "diff": "where two saved passes differ, and how much",
    "glossary": "what every tensor is called, here and elsewhere",
    "score": "how well a text is predicted: every token's log probability, perplexity, bits per byte",
    "train": "learn from text files, from scratch or from a checkpoint",
    "facts": "quiz a checkpoint on every fact the bundled one learned",
    "course": "write GPT-2 yourself, a layer at a time, and have it graded",
    "convert": "make a folder that loads here, and in transformers, from a ckpt.pt of nanoGPT",
    "benchmark": "how fast it runs, beside transformers and beside its matrix products alone",
    "tokens": "how a text is cut into tokens, with their ids",
    "inventory": "every tensor of a checkpoint: name, shape, bytes, purpose, totals",
}


@command
def main(argv=None):
    """Run a command and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(wrapped("", "GPT-2 in NumPy. Usage: python -m nanogpt_np COMMAND ...", columns()) + "\n")
        for name, purpose in COMMANDS.items():
            print(wrapped(f"  {name:10} ", purpose, columns()))
        print("\nEach command has --help.")
        return 0
    name, *rest = argv
    if name == "--version":
        from . import __version__

        print(__version__)
        return 0
    if name not in COMMANDS:
        say(f"error: no command {name!r}{nearest(name, COMMANDS)}; there are: {', '.join(COMMANDS)}")
        return 2
    return import_module(f".commands.{name}", __package__).main(rest)


if __name__ == "__main__":
    sys.exit(main())
