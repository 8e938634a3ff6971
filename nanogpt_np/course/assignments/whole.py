"""The whole model: every function of a1 to a7 is the student's, and it answers with the bundled weights.

It has no file of its own: it is graded when everything is, and INCOMPLETE until all that it needs is written.
"""

from ...generate import generate
from ...weights import load
from ..bpe import encode_piece, gpt2_ranks, tokenizer
from ..definitions import Assignment, Check
from . import a1_embedding, a2_layernorm, a3_attention, a4_mlp, a5_model, a6_generation, a7_cache

PARTS = (a1_embedding, a2_layernorm, a3_attention, a4_mlp, a5_model, a6_generation, a7_cache)
ASSIGNMENT = Assignment("whole", "the whole model, with every part of it yours", {})


def prompts(rng):
    """The prompt that this project always asks, cut into the pieces that are encoded."""
    yield {"pieces": [b"The", b" capital", b" of", b" France", b" is"]}


def answers(pieces):
    ids = [i for piece in pieces for i in encode_piece(gpt2_ranks(), piece)]
    return tokenizer().decode(generate(load("facts"), ids, 1))


ASSIGNMENT.checks.append(
    Check(
        "answers",
        'your whole model continues with " Paris", on the bundled weights',
        tuple(where for part in PARTS for where in part.ASSIGNMENT.functions),
        prompts,
        answers,
    )
)
