"""Byte pair encoding of a piece of text: our answer to the first assignment, and no part of the model.

The package encodes with tiktoken (`../text/tokenizer.py`), which does the same faster; a test compares the two.
Sources: Sennrich et al. 2016, algorithm 1; Radford et al. 2019, section 2.2. Read next: `../model/embedding.py`.
"""

import functools
from itertools import pairwise
from types import MappingProxyType

from ..text.tokenizer import END_OF_TEXT_ID, Tokenizer


def encode_piece(ranks, piece):
    """Return the ids of the tokens that a piece of text becomes.

    ranks : ``{bytes of a token: its id}``, with every single byte; the lower the id, the earlier it was learned.
    piece : bytes of a word, mostly with the space before it.
    """
    parts = [bytes([byte]) for byte in piece]
    while found := [(ranks[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]:
        _, i = min(found)  # the lowest rank; ties go to the leftmost
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return [ranks[part] for part in parts]


tokenizer = functools.cache(Tokenizer)


@functools.cache
def gpt2_ranks():
    """Return GPT-2's own table of 50,256 tokens, read-only."""
    return MappingProxyType({tokenizer().token(i): i for i in range(END_OF_TEXT_ID)})
