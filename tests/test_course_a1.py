"""Assignment a1: its answer is tiktoken's, and other right ways to write it pass."""

import numpy as np
import pytest
from course_helpers import graded, graded_edit, statuses, with_body
from hypothesis import given, settings
from hypothesis import strategies as st

from nanogpt_np.course.assignments import a1_embedding
from nanogpt_np.course.bpe import encode_piece, gpt2_ranks
from nanogpt_np.text.tokenizer import Tokenizer

pytestmark = pytest.mark.catalogue

TOKENIZER = Tokenizer()
TO_PIECES = {
    "every occurrence of the lowest pair at once, as OpenAI's encoder.py": """
        parts = tuple(piece[i : i + 1] for i in range(len(piece)))
        while len(parts) > 1:
            lowest = min(set(zip(parts, parts[1:])), key=lambda pair: ranks.get(pair[0] + pair[1], float("inf")))
            if lowest[0] + lowest[1] not in ranks:
                break
            joined, i = [], 0
            while i < len(parts):
                two = parts[i : i + 2] == lowest
                joined.append(b"".join(lowest) if two else parts[i])
                i += 1 + two
            parts = tuple(joined)
        return [ranks[part] for part in parts]
    """,
    "by calling itself": """
        def join(parts):
            lowest, place = None, None
            for i in range(len(parts) - 1):
                rank = ranks.get(parts[i] + parts[i + 1])
                if rank is not None and (lowest is None or rank < lowest):
                    lowest, place = rank, i
            if lowest is None:
                return parts
            return join(parts[:place] + [parts[place] + parts[place + 1]] + parts[place + 2 :])

        return [ranks[part] for part in join([bytes((byte,)) for byte in piece])]
    """,
    "cuts between parts, and a NumPy minimum": """
        cuts = list(range(len(piece) + 1))
        while len(cuts) > 2:
            found = np.array([ranks.get(piece[a:b], 1 << 30) for a, b in zip(cuts, cuts[2:])])
            if found.min() == 1 << 30:
                break
            del cuts[found.argmin() + 1]
        return list(np.array([ranks[piece[a:b]] for a, b in zip(cuts, cuts[1:])], np.int64))
    """,
}
TO_ROWS = {
    "products with zeros and ones": """
        positions = trace("hook_positions", np.zeros(ids.shape, int) + np.arange(start, start + ids.shape[-1]))
        if positions.max() >= len(self.wpe_weight):
            raise IndexError(positions.max())
        one = lambda i, n: (i[..., None] == np.arange(n)).astype(self.wte_weight.dtype)
        embed = trace("hook_embed", np.einsum("...v,vc->...c", one(ids, len(self.wte_weight)), self.wte_weight))
        places = one(positions, len(self.wpe_weight)) @ self.wpe_weight
        return trace("hook_pos_embed", places) + embed
    """,
    "np.take": """
        steps = np.ones(ids.shape, np.int32).cumsum(axis=-1) - 1
        positions = trace("hook_positions", start + steps)
        embed = trace("hook_embed", np.take(self.wte_weight, ids, axis=0))
        return np.add(embed, trace("hook_pos_embed", self.wpe_weight.take(positions, axis=0)))
    """,
    "loops, float64 inside": """
        shape = (*ids.shape, self.wte_weight.shape[1])
        positions = np.empty(ids.shape, int)
        embed, places = np.empty(shape, self.wte_weight.dtype), np.empty(shape, self.wte_weight.dtype)
        for at in np.ndindex(ids.shape):
            positions[at] = start + at[-1]
        positions = trace("hook_positions", positions)
        for at in np.ndindex(ids.shape):
            embed[at] = self.wte_weight[ids[at]]
        embed = trace("hook_embed", embed)
        for at in np.ndindex(ids.shape):
            places[at] = self.wpe_weight[positions[at]]
        places = trace("hook_pos_embed", places)
        return (embed.astype(np.float64) + places).astype(embed.dtype)
    """,
    "float32 whatever comes in": """
        positions = np.tile(np.arange(start, start + ids.shape[-1]), ids.shape[:-1] + (1,)).reshape(ids.shape)
        positions = trace("hook_positions", positions)
        embed = trace("hook_embed", self.wte_weight.astype(np.float32)[ids])
        return embed + trace("hook_pos_embed", self.wpe_weight.astype(np.float32)[positions])
    """,
}
WAYS = [("encode_piece", way, body) for way, body in TO_PIECES.items()]
WAYS += [("Embedding.__call__", way, body) for way, body in TO_ROWS.items()]


@pytest.mark.parametrize(("function", "way", "body"), WAYS, ids=[way for _, way, _ in WAYS])
def test_another_right_way_passes(function, way, body, tmp_path):
    results = graded("a1", tmp_path, with_body("a1", function, body))
    assert statuses(results) == {"CORRECT"}, {name: r for name, r in results.items() if r.status != "CORRECT"}


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text(st.characters(categories=("L",)), min_size=1, max_size=20))
def test_the_ids_of_a_word_are_those_of_tiktoken(word):
    for piece in (word, f" {word}"):
        assert TOKENIZER.encode(piece) == encode_piece(gpt2_ranks(), piece.encode())


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.binary(min_size=1, max_size=20))
def test_the_ids_of_any_bytes_are_those_of_tiktoken(piece):
    assert TOKENIZER.encoding._encode_single_piece(piece) == encode_piece(gpt2_ranks(), piece)


def test_every_case_that_is_called_tiktokens_is_one_piece_for_it():
    """So that the claim "gives the ids that tiktoken gives" is true of what is compared."""
    rng = np.random.default_rng(0)
    for case in [*a1_embedding.text(rng), *a1_embedding.foreign(rng)]:
        piece = case["piece"]
        assert (TOKENIZER.encoding._encode_single_piece(piece) if piece else []) == a1_embedding.gpt2s_ids(piece)


def test_the_cases_leave_no_two_right_answers():
    """One pair at a time, as tiktoken, or all of its occurrences, as encoder.py: with any seed the ids are the same."""
    namespace = {}
    exec("def all_at_once(ranks, piece):\n" + TO_PIECES[next(iter(TO_PIECES))], namespace)
    for seed in range(100):
        for cases in (a1_embedding.learned, a1_embedding.text, a1_embedding.foreign):
            for case in cases(np.random.default_rng(seed)):
                case = {"ranks": gpt2_ranks(), **case}
                assert namespace["all_at_once"](**case) == encode_piece(**case)


def test_a_wrong_order_is_shown_in_a_case_that_can_be_done_by_hand(tmp_path):
    body = """
        parts = [bytes([byte]) for byte in piece]
        i = 0
        while i < len(parts) - 1:
            if parts[i] + parts[i + 1] in ranks:
                parts[i : i + 2] = [parts[i] + parts[i + 1]]
                i = 0
            else:
                i += 1
        return [ranks[part] for part in parts]
    """
    wrong = graded("a1", tmp_path, with_body("a1", "encode_piece", body))["lowest_first"]
    assert wrong.status == "INCORRECT"
    assert wrong.case == "ranks = {b'a': 0, b'b': 1, b'c': 2, b'bc': 3, b'ab': 4}; piece = b'abc'"
    assert (wrong.expected, wrong.got) == ("[0, 3]", "[4, 2]")


RARELY_WRONG = [
    ("encode_piece", "if a + b in ranks]", "if a + b in ranks and i < 20]"),
    ("Embedding.__call__", "np.arange(start, start + T)", "np.arange(start, start + T) % 16"),
]


@pytest.mark.parametrize(("function", "old", "new"), RARELY_WRONG, ids=[new for *_, new in RARELY_WRONG])
def test_what_is_wrong_only_sometimes_is_found(function, old, new, tmp_path):
    assert "INCORRECT" in statuses(graded_edit("a1", tmp_path, function, old, new))
