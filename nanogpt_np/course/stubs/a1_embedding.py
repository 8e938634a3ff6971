"""a1: tokens and embedding. Write `encode_piece` and `Embedding.__call__`.

A model reads numbers. Text becomes numbers in two steps: its bytes are joined into tokens, each of which has an id;
then each id becomes a vector, a row of one table, plus a row of another for its position.
Grade it with: python -m nanogpt_np course grade DIR a1. Hints: python -m nanogpt_np course hint a1 1
"""

from dataclasses import dataclass
from itertools import pairwise  # pairwise("abc") yields ("a", "b"), ("b", "c")

import numpy as np

from nanogpt_np.model.trace import no_trace


def encode_piece(ranks, piece):
    """Return the ids of the tokens that a piece of text becomes, as a list.

    ranks : a dict {bytes: id} of all tokens. Every single byte is among them, so that no text is
        unknown; the longer ones were learned from text, the frequent ones first. The id of a token is its rank:
        the lower, the earlier it was learned. (GPT-2's b"!" has the id 0, though its byte is 33.)
    piece : bytes, mostly of a word with the space before it, such as b" Paris" or "naïve".encode(), in which ï is two
        bytes. Text is cut into such pieces first, and no token spans two of them. An empty piece, b"", gives no
        tokens: [].

    Byte pair encoding begins with single bytes and repeats:

        among all pairs of neighbors whose bytes, joined, are a token, take the one with the lowest id
        (ties go to the leftmost) and make it one part, until no such pair is left.

    By hand, with {b"a": 0, b"b": 1, b"c": 2, b"bc": 3, b"ab": 4} and b"abc": the pairs are "ab", id 4, and "bc",
    id 3. The lower is "bc", and leaves "a", "bc". "abc" is not a token, so that is all: [0, 3].
    """
    raise NotImplementedError


@dataclass(frozen=True, eq=False, repr=False)
class Embedding:
    """Look up each token and each position in a table, and add the two rows."""

    wte_weight: np.ndarray  # (V, C) a row per token
    wpe_weight: np.ndarray  # (n_positions, C) a row per position

    def __call__(self, ids, start=0, trace=no_trace):
        """ids (..., T), the first at position `start` -> (..., T, C)

        ids : integers, the tokens of a prompt; a batch of prompts of equal length has one more axis in front.
        start : how many tokens came before these; generation reads a prompt once, then its new tokens one by one.

            positions = start, start + 1, ..., start + T - 1, the same for each prompt
            embed     = the rows of wte_weight at the ids
            pos_embed = the rows of wpe_weight at the positions
            output    = embed + pos_embed

        Attention alone ignores word order, since it treats all tokens alike: the second table adds it.
        A position that the table does not have must be an error (NumPy raises one by itself), not another row.

        Announce three of them: ``positions = trace("hook_positions", positions)``, of the shape of ids (for a batch
        np.broadcast_to repeats them), "hook_embed" and "hook_pos_embed", both (..., T, C). Continue with the array
        that `trace` returns. Do not write into an argument or into an array that was announced.
        """
        raise NotImplementedError
