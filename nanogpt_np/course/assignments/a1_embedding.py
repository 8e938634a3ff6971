"""Assignment a1: byte pair encoding of a piece of text, and the two tables that turn ids into vectors.

The package encodes with tiktoken, so the answer to the first half is the course's own, `../bpe.py`.
"""

from collections import Counter
from itertools import pairwise

import numpy as np

from ...model.cache import KVCache
from ...model.embedding import Embedding
from ...model.trace import Tape
from ..bpe import encode_piece, gpt2_ranks, tokenizer
from ..definitions import Assignment
from ..numbers import ids, plain, small_model

ASSIGNMENT = Assignment(
    "a1_embedding",
    "tokens and embedding: from text to ids to vectors",
    {
        "course.bpe:encode_piece": (
            'Work through {b"a": 0, b"b": 1, b"c": 2, b"bc": 3, b"ab": 4} and the piece b"abc" on paper. Which '
            "neighbors are a token together? Which pair is joined first, what are the neighbors then, and when do you "
            "stop?",
            "Keep a list of parts, at first each byte on its own: as bytes of length 1, since a number such as "
            "piece[0] is not in the table. In a loop: look at every two neighbors, join them with +, and "
            "if that is a token remember (its id, where it is). Join the lowest; stop when there is none. At the end "
            "the table gives the id of each part.",
            "bytes([65]) is b'A': the list begins with such a part for each byte of the piece. min() of a list of (id, "
            "place) pairs finds the lowest id, and among equal ids the lowest place. To join at place i, put one part "
            "into the list where two were: you may assign a list of length 1 to a slice of length 2.",
        ),
        "model.embedding:Embedding.__call__": (
            "Two tokens of a prompt are the same word. What do they share, and what tells them apart? If 4 tokens "
            "came before, which rows of the second table do the next 2 need?",
            "An array of integers as the index of an array, table[index], picks a row for each of them, whatever the "
            "shape of the index. So all you need is the array of positions: T of them, from start on, in the shape "
            "of ids.",
            "T is ids.shape[-1]. np.arange takes the start and the end; np.broadcast_to gives the result "
            "the shape of ids. Announce the positions, the rows of wte_weight at ids, the rows of wpe_weight at the "
            "positions, each with `x = trace(name, x)`, and return a new array: the sum of the two.",
        ),
    },
)


def table(*tokens):
    """Return {bytes: id} of tokens in their order."""
    return {token.encode(): i for i, token in enumerate(tokens)}


def by_hand(rng):
    """One merge, two in a row, one that another makes possible, pieces that tell wrong orders apart, and a long one."""
    yield {"ranks": table("a", "b", "ab"), "piece": b"ab"}
    yield {"ranks": table("b", "a"), "piece": b"ab"}
    yield {"ranks": table("ab", "a", "b"), "piece": b"ab"}  # an id of 0 is one like any other
    yield {"ranks": table("a", "b", "c", "bc", "ab"), "piece": b"abc"}
    yield {"ranks": table("a", "b", "c", "ab", "bc"), "piece": b"abc"}
    yield {"ranks": table("a", "b", "c", "ab", "abc"), "piece": b"abc"}
    yield {"ranks": table("a", "b", "c", "bc", "ab", "abc"), "piece": b"abcab"}
    yield {"ranks": table("a", "b", "c", "d", "cd", "bc", "ab"), "piece": b"abcd"}
    yield {"ranks": table("a", "b", "c", "d", "bc", "bcd", "abcd", "ab"), "piece": b"abcd"}
    yield {"ranks": table("a", "b", "c", "d", "bc", "cd", "ab", "abcd"), "piece": b"abcdab"}
    yield {"ranks": table("a", "b", "c", "d", "bc", "ab", "cd", "abcd"), "piece": b"abcd"}  # a token out of reach
    yield {"ranks": table("a", "b", "c", "d", "ab", "cd"), "piece": b"abcd" * 12 + b"cab"}


@ASSIGNMENT.check("encode_piece", "joins the neighbors with the lowest id first, until no two are a token", by_hand)
def lowest_first(ranks, piece):
    return encode_piece(ranks, piece)


def repeated(rng):
    """Pieces in which a pair overlaps with itself."""
    yield {"ranks": table("a", "aa"), "piece": b"aaa"}
    yield {"ranks": table("a", "aa"), "piece": b"aaaaa"}
    yield {"ranks": table("a", "aa", "aaaa"), "piece": b"aaaaaaa"}


@ASSIGNMENT.check("encode_piece", "ties go to the leftmost pair", repeated)
def leftmost_first(ranks, piece):
    return encode_piece(ranks, piece)


def learned(rng):
    """Tables learned from random words of three letters, and pieces of the same letters."""
    for merges in (3, 8, 12):
        words = [[bytes([b]) for b in rng.choice(list(b"abc"), rng.integers(2, 9))] for _ in range(20)]
        ranks = table("c", "a", "b")
        for _ in range(merges):
            pairs = Counter(pair for word in words for pair in pairwise(word) if b"".join(pair) not in ranks)
            if pairs:
                best = max(sorted(pairs), key=pairs.get)
                ranks[b"".join(best)] = len(ranks)
                words = [joined(word, best) for word in words]
        yield {"ranks": ranks, "piece": bytes(rng.choice(list(b"abc"), 4 + merges).tolist())}


def joined(parts, pair):
    """Return `parts` with every occurrence of a pair as one."""
    found = []
    for part in parts:
        if found and (found[-1], part) == pair:
            found[-1] += part
        else:
            found.append(part)
    return found


@ASSIGNMENT.check("encode_piece", "goes through the merges of a table in the order in which they were learned", learned)
def in_the_order_of_learning(ranks, piece):
    return encode_piece(ranks, piece)


def text(rng):
    """Pieces as GPT-2's text is cut into, of letters, digits and signs that are one byte each."""
    for piece in (b"!", b" is", b" Lichtenstein", b" unbelievably", b" strawberries", b"31415926535"):
        yield {"piece": piece}
    for _ in range(3):
        syllables = rng.choice(["an", "er", "gh", "ing", "lo", "qu", "st", "th", "un", "zz"], 5)
        yield {"piece": f" {''.join(syllables)}".encode()}


@ASSIGNMENT.check("encode_piece", "gives the ids that tiktoken gives, with GPT-2's own table of 50,256 tokens", text)
def gpt2s_ids(piece):
    return encode_piece(gpt2_ranks(), piece)


def foreign(rng):
    """Letters of two, three and four bytes, bytes that are no text at all, and nothing."""
    for word in ("é", " naïve", " Zürich", " 日本語", " 한국어", "🇫🇷", "👩‍🚀"):
        yield {"piece": word.encode()}
    yield {"piece": b"\xff\xfe\x80"}
    yield {"piece": rng.bytes(12)}
    yield {"piece": b""}


@ASSIGNMENT.check("encode_piece", "loses and changes no byte: those of its tokens, joined, are the piece", foreign)
def no_byte_is_lost(piece):
    return b"".join(tokenizer().token(i) for i in encode_piece(gpt2_ranks(), piece))


@ASSIGNMENT.check("encode_piece", "gives the ids that tiktoken gives, where a letter is several bytes", foreign)
def gpt2s_ids_of_bytes(piece):
    return encode_piece(gpt2_ranks(), piece)


def tables(rng):
    """Small to large: a token, two, the same one twice, after others, a batch."""
    wte = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    wpe = np.array([[0.1, 0.2], [0.3, 0.5], [0.7, 0.9], [1.3, 1.7]])
    yield {"ids": np.array([0]), "start": 0, "wte": wte, "wpe": wpe}
    yield {"ids": np.array([2]), "start": 0, "wte": wte, "wpe": wpe}
    yield {"ids": np.array([2, 0]), "start": 0, "wte": wte, "wpe": wpe}
    yield {"ids": np.array([1, 1]), "start": 0, "wte": wte, "wpe": wpe}
    yield {"ids": np.array([1]), "start": 2, "wte": wte, "wpe": wpe}
    yield {"ids": np.array([1, 0]), "start": 1, "wte": wte, "wpe": wpe}
    yield {"ids": np.array([[1, 0], [2, 2]]), "start": 0, "wte": wte, "wpe": wpe}
    yield {"ids": rng.integers(0, 7, (3, 4)), "start": 2, "wte": plain(rng, 7, 5), "wpe": plain(rng, 9, 5)}
    yield {"ids": rng.integers(0, 7, (2, 3, 4)), "start": 5, "wte": plain(rng, 7, 5), "wpe": plain(rng, 10, 5)}
    yield {"ids": rng.integers(0, 40, (5, 20)), "start": 70, "wte": plain(rng, 40, 9), "wpe": plain(rng, 90, 9)}


@ASSIGNMENT.check("Embedding.__call__", "gives each token's row of wte plus the row of wpe for its position", tables)
def rows(ids, start, wte, wpe, trace):
    return Embedding(wte, wpe)(ids, start, trace)


def alike(rng):
    """A token that is there twice."""
    for V, C in ((2, 2), (5, 3)):
        yield {"token": V - 1, "wte": plain(rng, V, C), "wpe": plain(rng, V + 1, C)}


@ASSIGNMENT.check(
    "Embedding.__call__", "two places of one token differ by the rows of the two positions, whatever the token", alike
)
def places_of_a_token(token, wte, wpe):
    first, second = Embedding(wte, wpe)(np.array([token, token]))
    return {"the second less the first, less the difference of the rows": (second - first) - (wpe[1] - wpe[0])}


def cuts(rng):
    """A prompt that is read in two parts."""
    for T, cut in ((2, 1), (5, 2), (6, 5)):
        yield {"ids": rng.integers(0, 4, T), "cut": cut, "wte": plain(rng, 4, 3), "wpe": plain(rng, 7, 3)}


@ASSIGNMENT.check(
    "Embedding.__call__", "reading a prompt in two parts, the second from `start` on, gives the same", cuts
)
def in_two_parts(ids, cut, wte, wpe):
    embedding = Embedding(wte, wpe)
    parts = np.concatenate([embedding(ids[:cut]), embedding(ids[cut:], cut)])
    return {"what the cut changes": parts - embedding(ids)}


def batches(rng):
    """Prompts of equal length: two, and two rows of three."""
    for shape in ((2, 1), (2, 3), (2, 3, 4)):
        yield {"ids": rng.integers(0, 4, shape), "wte": plain(rng, 4, 3), "wpe": plain(rng, 7, 3)}


@ASSIGNMENT.check("Embedding.__call__", "a prompt of a batch gets what it gets alone", batches)
def prompt_of_a_batch(ids, wte, wpe):
    embedding = Embedding(wte, wpe)
    alone = np.stack([embedding(prompt) for prompt in ids.reshape(-1, ids.shape[-1])])
    return {"what the others change": embedding(ids) - alone.reshape(*ids.shape, -1)}


def too_far(rng):
    """Positions that the table has, and the first that it has not."""
    for T, start in ((2, 1), (1, 3), (2, 2)):
        yield {"ids": np.zeros(T, np.int64), "start": start, "wte": plain(rng, 2, 2), "wpe": plain(rng, 3, 2)}


@ASSIGNMENT.check("Embedding.__call__", "a position beyond the table is an error, the last one in it is not", too_far)
def beyond_the_table(ids, start, wte, wpe):
    try:
        return f"an array of shape {list(Embedding(wte, wpe)(ids, start).shape)}"
    except (ValueError, IndexError):
        return "an error"


@ASSIGNMENT.check("Embedding.__call__", "announces positions (..., T), embed and pos_embed as they are", tables)
def announced(ids, start, wte, wpe):
    acts = Tape()
    Embedding(wte, wpe)(ids, start, acts)
    return dict(acts)


def changes(rng):
    """Each of the announced arrays, to be changed on its way."""
    for name in ("hook_positions", "hook_embed", "hook_pos_embed"):
        yield {"name": name, "wte": np.array([[1.0, 2.0]]), "wpe": np.array([[0.1, 0.2], [0.3, 0.5], [0.7, 0.9]])}


@ASSIGNMENT.check("Embedding.__call__", "continues with what trace returns: x = trace(name, x)", changes)
def patched(name, wte, wpe):
    embedding = Embedding(wte, wpe)
    turned = embedding(np.array([0, 0]), 0, lambda n, a: a[::-1] * 2 if n == name else a)
    return {f"what turning and doubling {name} changes": turned - embedding(np.array([0, 0]))}


def prompts(rng):
    """A small random model and ids for it: one token, a prompt, a batch."""
    for shape in ((1,), (4,), (2, 5)):
        yield {"model": small_model(rng), "ids": ids(rng, *shape)}


@ASSIGNMENT.check("Embedding.__call__", "in the whole model, in place of ours, it leads to the same logits", prompts)
def in_the_model(model, ids, trace):
    return model(ids, trace=trace)


@ASSIGNMENT.check(
    "Embedding.__call__", "in the whole model, token by token with a cache, it leads to the same logits again", prompts
)
def with_a_cache(model, ids, trace):
    cache = KVCache(model.config)
    return np.concatenate([model(ids[..., t : t + 1], cache=cache, trace=trace) for t in range(ids.shape[-1])], -2)
