"""Checkpoints: changed bytes, headers, claims and numbers of a model.safetensors."""

import struct

from . import judging, mutate
from .layouts import CONFIG, join, layouts, split

NUMBERS = (1e4, 3e4, 65504.0, 7e4, 1e5, 1e7, 1e10, 1e13, 1e15, 1e18, 1.8e19, 2e19, 1e25, 1e30, 1e35, 3e38,
           float("inf"), float("nan"), 1e-10, 1e-20, 1e-38, 1e-44, 0.0)  # fmt: skip
DTYPES = ("F32", "F16", "BF16", "F64", "I32", "U32", "I8", "U8", "BOOL", "I64", "F8_E4M3", "f32", "float32", "F32 ", "")


def prepare(folder):
    """Return the checkpoints to be changed."""
    return layouts(folder)


def make(rng, base, folder):
    """Write one changed checkpoint."""
    layout = rng.choice(sorted(base))
    files = dict(base[layout])
    said = [layout]
    for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 3))):
        name = rng.choice([name for name in files if name.endswith(".safetensors")])
        if rng.random() < 0.04:
            name = CONFIG
            files[name], words = mutate.change_bytes(rng, files[name])
        else:
            files[name], words = change(rng, files[name])
        said.append(words)
    return judging.place(rng, folder, files, "; ".join(said))


def change(rng, raw):
    """Return a changed safetensors file, and words for what was done."""
    way = rng.choice(("bytes", "header", "header", "claim", "claim", "numbers", "numbers", "numbers", "length"))
    if way == "bytes":
        return mutate.change_bytes(rng, raw)
    try:
        return change_parts(rng, raw, way)
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):  # changed before: its parts are not sound
        return mutate.change_bytes(rng, raw)


def change_parts(rng, raw, way):
    """Change a sound file in one way."""
    text, data = split(raw)
    tree = mutate.parse(text)
    if way == "header":
        tree, said = mutate.change_json(rng, tree)
        return join(mutate.write(tree), data, rng.choice((1, 8))), f"header: {said}"
    if way == "length":
        true = len(text)
        lie = rng.choice((0, 1, 7, true - 1, true + 1, true - 8, true + 8, len(data), len(raw), *mutate.WORDS))
        return join(text, data, 1, lie % (1 << 64)), f"header length {lie}"
    entries = [(i, name, dict(e)) for i, (name, e) in enumerate(tree) if name != "__metadata__"]
    if way == "claim":
        tree, data, said = claim(rng, tree, entries, data)
        return join(mutate.write(tree), data), f"claim: {said}"
    return number(rng, raw, entries, data)


def claim(rng, tree, entries, data):
    """Return a header with one false claim, the data and words for it."""
    i, name, entry = rng.choice(entries)
    what = rng.choice(
        ("dtype", "shape", "offsets", "exchange", "exchange", "name", "twice", "drop", "many", "long", "dims")
    )
    shape = entry["shape"]
    if what == "dtype":
        entry["dtype"] = rng.choice(DTYPES)
    elif what == "shape":
        entry["shape"] = rng.choice((shape[::-1], [1, *shape], [*shape, 1], [n * 2 for n in shape], [2**33, 2**33],
                                     [-1], [2**64], [0], [0, 10**18], [], [float(n) for n in shape],
                                     [str(n) for n in shape]))  # fmt: skip
    elif what == "offsets":
        begin, end = entry["data_offsets"]
        by = rng.choice((1, 4, -4, 10**6, 2**63, -begin - 1))
        entry["data_offsets"] = rng.choice(
            ([begin + by, end + by], [begin, end + by], [end, begin], [0, len(data)], [begin])
        )
    elif what == "exchange":
        j, _, other = rng.choice(entries)
        same = [e for e in entries if e[2]["shape"] == shape] if rng.random() < 0.7 else []
        j, _, other = rng.choice(same) if same else (j, name, other)
        tree[j] = (name, tree[j][1])
        tree[i] = (entries[[e[0] for e in entries].index(j)][1], tree[i][1])
        return tree, data, f"exchange {name} and {tree[i][0]}"
    elif what == "name":
        name = rng.choice((name.removeprefix("transformer."), "transformer." + name, name.replace("weight", "bias"),
                           name.replace("h.0", "h.00"), name.replace("h.0", "h.-0"), name.upper(),
                           name.replace("h.0", "h.9")))  # fmt: skip
    elif what == "twice":
        other = "transformer." + name if not name.startswith("transformer.") else name.removeprefix("transformer.")
        begin = len(data)
        data += data[slice(*entry["data_offsets"])]
        tree.append((rng.choice((other, name)), mutate.Pairs(dict(entry, data_offsets=[begin, len(data)]).items())))
        return tree, data, f"twice {name}"
    elif what == "drop":
        del tree[i]
        return tree, data, f"drop {name}"
    elif what == "many":
        n, odd = rng.choice((30, 500, 3000)), mutate.odd_text(rng)[:50]
        empty = mutate.Pairs([("dtype", "F32"), ("shape", [0]), ("data_offsets", [len(data)] * 2)])
        tree += [(f"{odd}{k}.weight", empty) for k in range(n)]
        return tree, data, f"{n} more tensors {odd[:20]!r}"
    elif what == "long":
        name = name + rng.choice(("x", "\x1b[2J", "\u202e", ".")) * rng.choice((200, 100_000))
    elif what == "dims":
        entry["shape"] = [1] * rng.choice((33, 65, 5000)) + shape
    tree[i] = (name, mutate.Pairs(entry.items()))
    return tree, data, f"{what} of {name[:60]}"


def number(rng, raw, entries, data):
    """Return the file with other numbers in one tensor, and words for them."""
    _, name, entry = rng.choice(entries)
    begin, end = entry["data_offsets"]
    width = {"F32": 4, "F16": 2, "BF16": 2}.get(entry["dtype"])
    if not width or not begin < end <= len(data):
        return mutate.change_bytes(rng, raw)
    start = len(raw) - len(data)
    changed, n = bytearray(raw), (end - begin) // width
    value = rng.choice(NUMBERS) * rng.choice((1, -1, 0.7))
    places = range(n) if rng.random() < 0.3 else [rng.randrange(n) for _ in range(rng.choice((1, 1, 3)))]
    way = rng.choice(("set", "exponent", "times"))
    bit = rng.randrange(23, 31) if width == 4 else rng.randrange(7 if entry["dtype"] == "BF16" else 10, 15)
    for k in places:
        at = start + begin + k * width
        bits = int.from_bytes(changed[at : at + width], "little")
        if way == "exponent":
            bits ^= 1 << bit
        else:
            now = 1.0 if way == "set" else as_number(bits, entry["dtype"])
            bits = as_bits(now * value, entry["dtype"])
        changed[at : at + width] = bits.to_bytes(width, "little")
    said = f"bit {bit}" if way == "exponent" else f"{value:g}"
    return bytes(changed), f"numbers: {way} {said}, {len(places)} of {n} in {name}"


def as_number(bits, dtype):
    """Return the value of a stored number."""
    if dtype == "F16":
        return struct.unpack("<e", bits.to_bytes(2, "little"))[0]
    return struct.unpack("<f", (bits << (16 if dtype == "BF16" else 0)).to_bytes(4, "little"))[0]


def as_bits(value, dtype):
    """Return the bits of a value, infinite where it does not fit."""
    try:
        raw = struct.pack("<e" if dtype == "F16" else "<f", value)
    except OverflowError:
        raw = struct.pack("<e" if dtype == "F16" else "<f", float("inf") if value > 0 else float("-inf"))
    bits = int.from_bytes(raw, "little")
    return bits >> 16 if dtype == "BF16" else bits
