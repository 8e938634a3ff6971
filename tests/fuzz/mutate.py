"""Changed bytes and changed JSON. `rng` is a `random.Random`; nothing else decides."""

import json

DEEP = (50, 990, 1100, 20_000, 100_000)  # levels of nesting
WORDS = (0, 1, 7, 8, 255, 2**16, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1)


class Pairs(list):
    """A JSON object as pairs: one key may occur twice."""


class Raw(str):
    """JSON text to be written as it is."""


def parse(text):
    """Return JSON with its objects as `Pairs`."""
    return json.loads(text, object_pairs_hook=Pairs)


def plain(value):
    """Return JSON made for `parse` as `json` alone would read it."""
    if isinstance(value, Pairs):
        return {k: plain(v) for k, v in value}
    return [plain(v) for v in value] if isinstance(value, list) else value


def write(value):
    """Return JSON as text."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ", ".join(f"{write(k)}: {write(v)}" for k, v in value) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(write, value)) + "]"
    return json.dumps(value)


def odd_text(rng):
    """Return a string that somebody's tool, or somebody, might write."""
    return rng.choice(
        ("", " ", "gpt2", "GPT2", "1", "true", "None", "x" * 300, "../../etc/passwd", "/etc/passwd",
         "\x1b[31mred\x1b]0;t\a",
         "\u202egnp.exe", "\u2066\u2069", "a\nb\rc", "\0", "é" * 9, "😀👩‍👩‍👧", "\ud800", "%s%n{0}", "\u0660\u0661",
         "\x85\u2028", "\ufeff", "h.0.attn.c_attn.weight", "transformer.wte.weight", "x" * 70_000, "ab\u0301" * 50)
    )  # fmt: skip


def odd_value(rng):
    """Return a JSON value, or `Raw` text, of an odd kind or size."""
    n = rng.choice(DEEP)
    return rng.choice(
        (None, True, False, 0, 1, -1, 2, 3, 5, 64, 0.5, -0.0, 1e-300, 1e300, 1e38, 1e-5, 10**6, 10**9, 2**31, 2**63,
         2**64,
         -(2**63), 10**30, [], Pairs(), [1], [[]], [None] * 3, Pairs([("a", 1)]), odd_text(rng), odd_text(rng),
         Raw("1e400"), Raw("-1e400"), Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1" + "0" * 400),
         Raw("9" * 5000), Raw("1.0"), Raw("12.0"), Raw("-0"), Raw('"\\ud800"'), Raw("[" * n + "]" * n),
         Raw('{"a":' * n + "1" + "}" * n), Raw("[" * n), Raw("01"), Raw("1_000"), Raw("0x10"), Raw("'x'"),
         Raw("undefined"))
    )  # fmt: skip


def change_json(rng, tree):
    """Change one place of a parsed JSON tree; return the tree and words for what was done."""
    places = list(_places(tree))
    if not places or rng.random() < 0.03:
        return odd_value(rng), "whole value"
    inside, i = rng.choice(places)
    what = rng.choice(("value", "value", "value", "near", "delete", "twice", "key", "add", "kind", "swap"))
    is_object = isinstance(inside, Pairs)
    name = inside[i][0] if is_object else i
    value = inside[i][1] if is_object else inside[i]
    said = f"{what} {name!r:.60}"

    def put(new):
        inside[i] = (name, new) if is_object else new

    if what == "value":
        put(odd_value(rng))
        said += f" -> {write(inside[i][1] if is_object else inside[i])[:40]}"
    elif what == "near" and type(value) in (int, float):
        put(rng.choice((value + 1, value - 1, value * 2, -value, value // 2, float(value), str(value), value * 1000)))
        said += f" {value} -> {plain(inside[i][1] if is_object else inside[i])}"
    elif what == "delete":
        del inside[i]
    elif what == "twice":
        inside.insert(rng.randrange(len(inside) + 1), (name, odd_value(rng)) if is_object else value)
    elif what == "key" and is_object:
        inside[i] = (rng.choice((odd_text(rng), name + " ", name.upper(), "transformer." + name, name[:-1])), value)
    elif what == "add":
        for k in range(rng.choice((1, 1, 1, 3, 400))):
            new = odd_value(rng)
            inside.append((odd_text(rng) + str(k), new) if is_object else new)
    elif what == "kind":
        put(rng.choice(([value], Pairs([("value", value)]), str(value), None, [value] * 2)))
    elif what == "swap" and len(inside) > 1:
        j = rng.randrange(len(inside))
        if is_object:
            inside[i], inside[j] = (inside[i][0], inside[j][1]), (inside[j][0], inside[i][1])
        else:
            inside[i], inside[j] = inside[j], inside[i]
    return tree, said


def _places(tree):
    stack = [tree]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            for i, child in enumerate(value):
                yield value, i
                stack.append(child[1] if isinstance(value, Pairs) else child)


def change_text(rng, text):
    """Return JSON text as bytes, in another encoding or with something around it, and words for it."""
    what = rng.choice(
        ("BOM", "utf-16", "utf-32", "latin-1", "NUL", "after", "before", "cut", "empty", "comment", "space")
    )
    raw = text.encode("utf-8", "surrogatepass")
    if what == "BOM":
        raw = b"\xef\xbb\xbf" + raw
    elif what in ("utf-16", "utf-32"):
        raw = text.encode(what, "surrogatepass")
    elif what == "latin-1":
        raw = text.replace("{", '{"caf\xe9": 1, ', 1).encode("latin-1", "replace")
    elif what == "NUL":
        raw = raw.replace(b" ", b"\0", 1 + rng.randrange(3))
    elif what == "after":
        raw += rng.choice((b"}", b"{}", b"x", b"\0", b"\n" * 1000, raw))
    elif what == "before":
        raw = rng.choice((b"\n" * 99, b"x", b"\0", b")]}'\n")) + raw
    elif what == "cut":
        raw = raw[: rng.randrange(len(raw) + 1)]
    elif what == "empty":
        raw = rng.choice((b"", b" ", b"null", b"[]", b"{}", b'""', b"0"))
    elif what == "comment":
        raw = raw.replace(b"{", b"{ // a comment\n", 1)
    elif what == "space":
        raw = raw.replace(b" ", b" " * rng.choice((2, 100, 9999)), 3)
    return raw, what


def change_bytes(rng, raw):
    """Return changed bytes, and words for what was done."""
    if not raw:
        return rng.randbytes(rng.randrange(100)), "random bytes"
    data, n = bytearray(raw), len(raw)
    what = rng.choice(
        ("flip", "flip", "flip", "flips", "set", "cut", "cut", "extend", "delete", "insert", "word", "repeat")
    )
    # Half of the places are near the beginning, where headers are.
    at = rng.randrange(n) if rng.random() < 0.5 else rng.randrange(min(n, 600))
    if what == "flip":
        data[at] ^= 1 << rng.randrange(8)
    elif what == "flips":
        for _ in range(rng.choice((2, 5, 50))):
            data[rng.randrange(n)] ^= 1 << rng.randrange(8)
    elif what == "set":
        data[at] = rng.choice((0, 255, 10, 34, 44, 57, 91, 123, 125))
    elif what == "cut":
        del data[at:]
    elif what == "extend":
        data += rng.choice((b"\0", b"\0" * 64_000, rng.randbytes(rng.randrange(1, 3000)), bytes(data)))
    elif what == "delete":
        del data[at : at + rng.choice((1, 4, 8, 100))]
    elif what == "insert":
        data[at:at] = rng.choice((b"\0", rng.randbytes(rng.choice((1, 4, 8, 100))), b" " * 4))
    elif what == "word":
        size = rng.choice((2, 4, 8))
        data[at : at + size] = (rng.choice(WORDS) % (1 << 8 * size)).to_bytes(size, "little")
    elif what == "repeat":
        data[at:at] = data[at : at + 200]
    return bytes(data), f"{what} at {at} of {n}"
