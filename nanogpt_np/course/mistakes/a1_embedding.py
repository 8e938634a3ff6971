"""Known mistakes in byte pair encoding and the embedding: what assignment a1 can call by its name."""

from ..assignments.a1_embedding import ASSIGNMENT

# --- what often goes wrong in encode_piece --------------------------------------------------------


def of_pieces(words, *edits):
    ASSIGNMENT.mistake("encode_piece", words, *edits)


of_pieces("pairs are joined from left to right, not the lowest id first", ("min(found)", "found[0]"))
of_pieces("pairs are joined from right to left, not the lowest id first", ("min(found)", "found[-1]"))
of_pieces("the highest id is joined first, not the lowest", ("min(found)", "max(found, key=lambda f: (f[0], -f[1]))"))
of_pieces(
    "ties go to the rightmost pair, not to the leftmost",
    ("min(found)", "min(found, key=lambda f: (f[0], -f[1]))"),
)
of_pieces(
    "the pair that is first in the alphabet is joined first, not the one of the lowest id",
    ("min(found)", "min(found, key=lambda f: (parts[f[1]] + parts[f[1] + 1], f[1]))"),
)
of_pieces(
    "the pair that occurs most often in the piece is joined first: so a table is learned, but not used",
    (
        "min(found)",
        "max(found, key=lambda f: ([f[0] for f in found].count(f[0]), -f[0], -f[1]))",
    ),
)
of_pieces("it stops after one pair is joined", ("while found", "if found"))
of_pieces(
    "only pairs of single bytes are joined, never joined ones again",
    ("if a + b in ranks", "if a + b in ranks and len(a + b) == 2"),
)
of_pieces(
    "the id 0 counts as missing: a token may have it, and `if ranks.get(pair)` treats 0 as false",
    ("a + b in ranks]", "ranks.get(a + b)]"),
)
of_pieces(
    "a piece that is a token is taken whole, even if joining in order of ids does not lead there",
    ("    parts = [bytes", "    if piece in ranks:\n        return [ranks[piece]]\n    parts = [bytes"),
)
of_pieces("the last pair is never looked at", ("pairwise(parts)", "pairwise(parts[:-1])"))
of_pieces(
    "parts are characters, not bytes: a letter above 127 is two bytes or more",
    ("bytes([byte]) for byte in piece", "letter.encode() for letter in piece.decode()"),
)
of_pieces("bytes above 127 are left out", ("for byte in piece", "for byte in piece if byte < 128"))
of_pieces(
    "a part of one byte gets that byte's number as its id, not its place in the table",
    ("[ranks[part] for part in parts]", "[part[0] if len(part) == 1 else ranks[part] for part in parts]"),
)
of_pieces(
    "the numbers of the bytes are returned: nothing is joined or looked up",
    ("return [ranks[part] for part in parts]", "return list(piece)"),
)
of_pieces("it returns the parts themselves, not their ids", ("[ranks[part] for part in parts]", "parts"))


@ASSIGNMENT.wrong_version("encode_piece", "all pairs that are tokens are joined in one go, then all again")
def in_rounds(ranks, piece):
    parts, before = [bytes([byte]) for byte in piece], None
    while parts != before:
        before, parts, left = parts, [], list(parts)
        while left:
            two = b"".join(left[:2])
            parts.append(two if two in ranks else left[0])
            left = left[2 if two in ranks and len(left) > 1 else 1 :]
    return [ranks[part] for part in parts]


@ASSIGNMENT.wrong_version("encode_piece", "the longest token at the front is cut off, again and again, with no merging")
def longest_first(ranks, piece):
    found = []
    while piece:
        end = next(end for end in range(len(piece), 0, -1) if piece[:end] in ranks)
        found.append(ranks[piece[:end]])
        piece = piece[end:]
    return found


# --- what often goes wrong in Embedding.__call__ --------------------------------------------------

RANGE = "np.arange(start, start + T)"
SUM = 'return tokens + trace("hook_pos_embed", self.wpe_weight[positions])'


def of_rows(words, *edits):
    ASSIGNMENT.mistake("Embedding.__call__", words, *edits)


of_rows("positions are counted from 1", (RANGE, "np.arange(start + 1, start + 1 + T)"))
of_rows("start is forgotten: every call begins at position 0", (RANGE, "np.arange(T)"))
of_rows(
    "positions end at T, not at start + T",
    (RANGE, "np.arange(start, T)"),
)
of_rows(
    "every token of a call gets the row of the first position",
    (RANGE, "np.full(T, start)"),
)
of_rows(
    "positions continue from prompt to prompt of a batch",
    (f"np.broadcast_to({RANGE}, ids.shape)", "start + np.arange(ids.size).reshape(ids.shape)"),
)
of_rows(
    "T is len(ids), which in a batch counts the prompts",
    ("ids.shape[-1]", "len(ids)"),
)
of_rows("positions run backwards, the last token at start", (RANGE, f"{RANGE}[::-1]"))
of_rows(
    "the position is left out: only the token's row counts",
    (SUM, 'trace("hook_pos_embed", self.wpe_weight[positions])\n    return tokens.copy()'),
)
of_rows(
    "the token is left out: only the position's row counts",
    (SUM, 'return trace("hook_pos_embed", self.wpe_weight[positions]).copy()'),
)
of_rows("the two rows are multiplied, not added", (SUM, SUM.replace("tokens +", "tokens *")))
of_rows("the position's row is subtracted, not added", (SUM, SUM.replace("tokens +", "tokens -")))
of_rows(
    "the two rows are put side by side, not added",
    (SUM, 'return np.concatenate([tokens, trace("hook_pos_embed", self.wpe_weight[positions])], -1)'),
)
of_rows(
    "the token's row is multiplied by the root of C, as in the first Transformer, but not in GPT-2",
    (SUM, SUM.replace("tokens +", "tokens * self.wte_weight.shape[-1] ** 0.5 +")),
)
of_rows("the table of positions is read at the tokens' ids", ("self.wpe_weight[positions]", "self.wpe_weight[ids]"))
of_rows(
    "the two tables are exchanged",
    ("self.wte_weight[ids]", "self.wpe_weight[ids]"),
    ("self.wpe_weight[positions])", "self.wte_weight[positions])"),
    ("len(self.wpe_weight) - 1}", "len(self.wte_weight) - 1}"),
    (">= len(self.wpe_weight)", ">= len(self.wte_weight)"),
)
of_rows(
    "positions beyond the table get a row of it anyway, not an error",
    (
        "    if lowest < 0 or highest >= len(self.wpe_weight):\n"
        '        raise ValueError(f"positions must be 0 to {len(self.wpe_weight) - 1}, not {lowest} to {highest}")\n',
        "",
    ),
    ("self.wpe_weight[positions]", "self.wpe_weight[np.minimum(positions, len(self.wpe_weight) - 1)]"),
)
of_rows(
    "the trace gets the sum as hook_embed, not the token's rows alone",
    ('tokens = trace("hook_embed", self.wte_weight[ids])', "tokens = self.wte_weight[ids]"),
    (
        SUM,
        'rows = trace("hook_pos_embed", self.wpe_weight[positions])\n    return trace("hook_embed", tokens + rows)',
    ),
)
of_rows(
    "positions are announced as (T,), not in the shape of ids",
    (f"np.broadcast_to({RANGE}, ids.shape)", RANGE),
)
of_rows(
    "what trace returns is not used: x = trace(name, x)",
    ('positions = trace("hook_positions", ', 'trace("hook_positions", positions := '),
    ('tokens = trace("hook_embed", self.wte_weight[ids])', 'trace("hook_embed", tokens := self.wte_weight[ids])'),
    (SUM, 'trace("hook_pos_embed", rows := self.wpe_weight[positions])\n    return tokens + rows'),
)
