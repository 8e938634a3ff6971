"""The merges of a byte-level BPE, and the ranks that tiktoken needs: each can be computed from the other.

A file of merges lists pairs in the order in which they were learned. A table of ranks lists only what each pair
became. tiktoken joins any two neighbors whose text is in its table; other libraries join the listed pairs only. Both
give the same ids if every token, cut into bytes and merged again, is last joined from its listed pair: then no other
pair of the same text is ever met. `joins_last` decides that for one pair, by undoing merges along the seam.
"""

from collections.abc import Iterable, Mapping

Pair = tuple[bytes, bytes]


def byte_characters() -> dict[int, str]:
    """Return ``{byte: character}`` of GPT-2's files: printable Latin-1 as it is, the other 68 from U+0100 on."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(0x100 + i) for i, b in enumerate(others)}


def joins_last(left: bytes, right: bytes, ranks: Mapping[bytes, int], halves: Mapping[bytes, Pair]) -> bool:
    """Return whether the bytes of ``left + right``, merged in the order of `ranks`, are last joined from this pair.

    ranks : {token: rank} of all tokens. halves : {token: its pair} for tokens of two bytes or more with a lower rank.
    """
    limit = ranks[left + right]
    while True:
        if ranks.get(left + right, limit) < limit:  # these two met earlier and were joined then
            return False
        if len(left) > 1 and (len(right) == 1 or ranks[left] > ranks[right]):
            limit = ranks[left]
            left = halves[left][1]
        elif len(right) > 1:
            limit = ranks[right] + 1  # of equal pairs the leftmost is joined first
            right = halves[right][0]
        else:
            return True


def merges_of(ranks: Mapping[bytes, int]) -> list[Pair]:
    """Return the merges that a table of ranks stands for, in order; ValueError for a token that no merge makes."""
    halves: dict[bytes, Pair] = {}
    for token in sorted(ranks, key=ranks.__getitem__):
        if len(token) > 1:
            halves[token] = _pair_of(token, ranks, halves)
    return list(halves.values())


def _pair_of(token: bytes, ranks: Mapping[bytes, int], halves: Mapping[bytes, Pair]) -> Pair:
    for cut in range(1, len(token)):
        left, right = token[:cut], token[cut:]
        known = (len(left) == 1 or left in halves) and (len(right) == 1 or right in halves)
        if known and joins_last(left, right, ranks, halves):
            return left, right
    raise ValueError(f"no merge makes the token {token[:40]!r}")


def ranks_of(merges: Iterable[Pair]) -> dict[bytes, int]:
    """Return ``{token: rank}``: the 256 bytes, then what each merge makes, in order.

    Where several pairs make one token, only one of them is ever joined: the others are left out. Raises ValueError for
    merges that other libraries would apply differently from tiktoken.
    """
    listed = list(merges)
    ranks = {bytes([b]): b for b in range(256)}
    for number, (left, right) in enumerate(listed, len(ranks)):
        ranks.setdefault(left + right, number)
    halves: dict[bytes, Pair] = {}
    for left, right in listed:
        token = left + right
        earlier = all(len(part) == 1 or part in halves for part in (left, right))
        if token not in halves and earlier and joins_last(left, right, ranks, halves):
            halves[token] = left, right
    for left, right in listed:
        if left + right not in halves:
            raise ValueError(f"the merge of {left[:40]!r} and {right[:40]!r} is not in an order that BPE can apply")
    return ranks
