"""The whole model: every function of a1 to a7 is the student's, and it answers with the bundled weights.

No file belongs to it: it is graded when all is, and INCOMPLETE until all that it needs is written.
"""

import pkgutil
from importlib import import_module

from ...generate import generate
from ...weights import load
from ..assignment import Assignment, Check
from ..bpe import encode_piece, gpt2_ranks, tokenizer

PARTS = ("a1", "a2", "a3", "a4", "a5", "a6", "a7")
ASSIGNMENT = Assignment("the whole model, and every part of it yours", {})


def functions():
    """Return the full names of all functions that the student's model is made of."""
    package = import_module(__package__)
    stems = sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name.startswith(PARTS))
    modules = [import_module(f"{__package__}.{stem}") for stem in stems]
    return tuple(where for module in modules for where in module.ASSIGNMENT.functions)


def prompts(rng):
    """The one that everything here asks, as it is cut before it is encoded."""
    yield {"pieces": [b"The", b" capital", b" of", b" France", b" is"]}


def answers(pieces):
    ids = [i for piece in pieces for i in encode_piece(gpt2_ranks(), piece)]
    return tokenizer().decode(generate(load("facts"), ids, 1))


ASSIGNMENT.checks.append(
    Check("answers", 'your whole model goes on with " Paris", on the bundled weights', functions(), prompts, answers)
)
