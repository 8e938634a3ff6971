"""Recordings: changed .npz files, and the commands that read one."""

import io
import struct
import zlib
from dataclasses import dataclass, field, replace

import numpy as np
from helpers import random_model

from nanogpt_np.generate import generate
from nanogpt_np.interpret import recording
from nanogpt_np.interpret.recorder import Recorder
from nanogpt_np.text import Tokenizer

from . import mutate
from .judging import check_json, special
from .limits import Case, Fault

BOMBS = (64 << 20, 300 << 20, 900 << 20)  # bytes of zeros
LIES = (0, 1, 2**31, 2**32 - 1, 2**32 - 2, 10**6)
WALK = (
    b"", b"\n\n\n", b"n\nb\n?\np\nt 3\np 0\nq\n", b"p 99 99 99 99\ne 0 0\n/keys\nt -1\n/\n5000\n-1\n", b"\xff\xfe\n",
    b"x" * 9999
)  # fmt: skip
FLAGS = (["--json"], ["--stats"], ["--values", "3"], ["--bytes"], ["--top", "3"], ["--notice"], ["--block", "0"],
         ["--head", "1"], ["--only", "*pattern"], ["--json", "--stats"], ["--html", "page.html"], ["--step"],
         [], [])  # fmt: skip


@dataclass
class Member:
    """One member of a zip file; `local` and `central` replace fields of its two headers."""

    name: bytes
    body: bytes  # as it stands in the file
    size: int  # when unpacked
    crc: int
    method: int = 0
    local: dict = field(default_factory=dict)
    central: dict = field(default_factory=dict)


def member(name, raw, method=0):
    """Return raw bytes as a member, stored or deflated."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    body = packer.compress(raw) + packer.flush() if method else raw
    return Member(name.encode("utf-8", "surrogatepass"), body, len(raw), zlib.crc32(raw), method)


def zipped(members, comment=b""):
    """Return a zip file."""
    out, directory = bytearray(), bytearray()
    for m in members:
        common = {"version": 20, "flags": 0, "method": m.method, "crc": m.crc, "packed": len(m.body), "size": m.size}
        at = len(out)
        v = common | m.local
        out += b"PK\3\4" + struct.pack("<5H3L2H", v["version"], v["flags"], v["method"], 0, 33, v["crc"], v["packed"],
                                       v["size"], len(m.name), 0) + m.name + m.body  # fmt: skip
        v = common | {"at": at} | m.central
        directory += b"PK\1\2" + struct.pack("<6H3L5H2L", 20, v["version"], v["flags"], v["method"], 0, 33, v["crc"],
                                             v["packed"], v["size"], len(m.name), 0, 0,
                                             0, 0, 0, v["at"]) + m.name  # fmt: skip
    n = min(len(members), 65535)
    end = struct.pack("<4H2LH", 0, 0, n, n, len(directory), len(out), len(comment))
    return bytes(out) + bytes(directory) + b"PK\5\6" + end + comment


def prepare(folder):
    """Return recordings to be changed: ``{kind: {name: array}}``, and bombs."""
    tokenizer, found = Tokenizer(), {}
    for number, (prompt, sizes) in enumerate(
        (
            ("A B!", {"vocab_size": 300, "n_positions": 9, "n_embd": 6, "n_head": 2, "n_layer": 1, "n_inner": 7}),
            ("#", {"vocab_size": 70, "n_positions": 5, "n_embd": 8, "n_head": 2, "n_layer": 2}),
            ("C", {"vocab_size": 50257, "n_positions": 5, "n_embd": 4, "n_head": 1, "n_layer": 1}),
        )
    ):
        model = random_model(20 + number, **sizes)
        acts, ids = Recorder(model), tokenizer.encode(prompt)
        ids = [i for i in ids if i < sizes["vocab_size"]]
        list(generate(model, ids, 1, stop=(), trace=acts))
        told = {"name": "small", "kind": "local", "origin": "small (local checkpoint)", "sha256": "0" * 64}
        told |= {"dtype": "F32", "parameters": sum(a.size for a in model.params.values()), "decoding": "greedy"}
        about = {"prompt": tokenizer.decode(ids), "prompt_ids": ids, "model": told}
        path = folder / f"{number}.npz"
        recording.save(path, recording.Recording(acts, model.config, about))
        with np.load(path) as file:
            found[f"saved-{number}"] = dict(file)
    foreign = dict(found["saved-0"])
    del foreign["about.json"]
    bombs = {}
    for size in BOMBS:
        packer, crc = zlib.compressobj(1, zlib.DEFLATED, -15), 0
        head = npy_header({"descr": "<f4", "fortran_order": False, "shape": (1, size // 4)})
        body = packer.compress(head)
        crc, zeros = zlib.crc32(head), bytes(1 << 20)
        for _ in range(size >> 20):
            body += packer.compress(zeros)
            crc = zlib.crc32(zeros, crc)
        bombs[size] = Member(b"", body + packer.flush(), len(head) + size, crc, 8)
    return {**found, "foreign": foreign}, bombs


def npy_header(about, version=1, pad=True):
    """Return the beginning of a .npy file."""
    text = about if isinstance(about, str) else repr(about)
    raw = text.encode("utf-8", "surrogatepass") + b"\n"
    raw = b" " * (-(len(raw) + 10) % 64 if pad else 0) + raw
    return b"\x93NUMPY" + bytes((version, 0)) + struct.pack("<H" if version == 1 else "<L", len(raw) % 65536) + raw


def npy(array):
    """Return an array as a .npy file."""
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), allow_pickle=False)
    return out.getvalue()


def make(rng, base, folder):
    """Write a sound and a changed recording."""
    saved, bombs = base
    kind = rng.choice(sorted(saved))
    arrays, said = dict(saved[kind]), [kind]
    ways = rng.choices(("arrays", "about", "members", "bytes"), k=rng.choice((1, 1, 1, 2, 3)))
    for _ in range(ways.count("arrays")):
        said.append(change_arrays(rng, arrays))
    if "about" in ways and "about.json" in arrays:
        said.append(change_about(rng, arrays))
    method = rng.choice((0, 0, 8))
    members = [member(name + ".npy", npy(array), method) for name, array in arrays.items()]
    for _ in range(ways.count("members")):
        said.append(change_members(rng, members, bombs, arrays))
    raw = zipped(members, rng.choice((b"", b"", b"", b"x" * 65535, b"PK\5\6" + b"\0" * 18)))
    if "bytes" in ways:
        raw, words = mutate.change_bytes(rng, raw)
        said.append(words)
    (folder / "a.npz").write_bytes(raw)
    good = zipped([member(name + ".npy", npy(array)) for name, array in saved[kind].items()])
    (folder / "good.npz").write_bytes(good)
    if rng.random() < 0.01:
        said.append(special(rng, folder / "a.npz"))
    argv, stdin = consumer(rng)
    return Case(f"{'; '.join(said)}; {argv}", len(raw) + len(good), lambda child: judge(child, argv, stdin))


def consumer(rng):
    """Return (arguments, standard input) of a command that reads the file."""
    if rng.random() < 0.35:
        pair = rng.choice((["a.npz", "good.npz"], ["good.npz", "a.npz"], ["a.npz", "a.npz"]))
        return ["diff", *pair, *rng.choice(([], ["--json"], ["--all"], ["--tolerance", "1e-3"]))], b""
    return ["trace", "--load", "a.npz", *rng.choice(FLAGS)], rng.choice(WALK)


def judge(child, argv, stdin):
    """Read the file with the library and with a command."""
    found, refusal = child.told(lambda: recording.read("a.npz"))
    code, out = child.command(argv, stdin)
    if argv[0] == "trace" and code == 0 and refusal is not None:
        raise Fault("contradiction", f"read() refuses ({refusal[:200]}), and {argv} exits 0", "trace")
    if "--json" in argv and code in (0, 1) and out.strip():
        check_json(out, argv)
    return "accepted" if found is not None and code == 0 else "refused"


def change_about(rng, arrays):
    """Change the text that goes with the arrays; return words for it."""
    tree = mutate.parse(str(arrays["about.json"]))
    tree, said = mutate.change_json(rng, tree)
    text = mutate.write(tree)
    if rng.random() < 0.1:
        raw, words = mutate.change_text(rng, text)
        text, said = raw.decode("utf-8", "surrogateescape"), f"{said}; {words}"
    arrays["about.json"] = np.array(text[: 1 << 19])  # four bytes a character
    return f"about: {said}"


def change_arrays(rng, arrays):
    """Change one array; return words for it."""
    name = rng.choice(sorted(arrays))
    if name == "about.json":
        return "nothing"
    array = arrays[name]
    what = rng.choice(("dtype", "shape", "value", "value", "whole", "drop", "rename", "other", "order", "batch"))
    with np.errstate(all="ignore"):
        if what == "dtype":
            arrays[name] = array.astype(
                rng.choice((">f4", "f8", "f2", "i4", "i8", "u1", "?", "c8", "U3", "S2", "M8[s]", "g"))
            )
        elif what == "shape":
            ways = (array[None], array.ravel(), array[..., :0] if array.ndim else array, array.T,
                    np.concatenate([np.atleast_1d(array)] * 3))  # fmt: skip
            arrays[name] = rng.choice(ways)
        elif what in ("value", "whole") and array.size:
            array = np.array(array)
            value = rng.choice((np.nan, np.inf, -np.inf, 1e38, -1e38, 1e-45, 0, -1, 10**6, 2**63 - 1))
            value = value if array.dtype.kind == "f" else rng.choice((-1, 0, 10**6, 2**63 - 1, 69, 299, 50256))
            array.reshape(-1)[slice(None) if what == "whole" else rng.randrange(array.size)] = value
            arrays[name] = array
        elif what == "drop":
            del arrays[name]
        elif what == "rename":
            new = rng.choice((name.replace("blocks.0", "blocks.7"), name.replace("blocks.0", f"blocks.{'9' * 30}"),
                              name.upper(), "hook_logits", name.replace("hook_", ""),
                              name.replace("blocks.0", "blocks.00")))  # fmt: skip
            arrays[new] = arrays.pop(name)
        elif what == "other":
            arrays[name] = arrays[rng.choice(sorted(arrays))]
        elif what == "order" and array.ndim > 1:
            arrays[name] = np.asfortranarray(array)
        elif what == "batch":
            for key in arrays:
                arrays[key] = arrays[key][None] if key != "about.json" else arrays[key]
    return f"{what} of {name}"


def change_members(rng, members, bombs, arrays):
    """Change the members of the zip file; return words for it."""
    if not members:
        members.append(member("hook_tokens.npy", b""))
    i = rng.randrange(len(members))
    m = members[i]
    what = rng.choice(
        ("lie", "lie", "header", "header", "header", "bomb", "twice", "name", "more", "cut", "many", "about")
    )
    if what == "lie":
        where = rng.choice(("local", "central", "both"))
        key = rng.choice(("size", "packed", "crc", "method", "flags", "version", "at"))
        value = rng.choice(
            LIES if key in ("size", "packed", "crc", "at") else (0, 1, 8, 9, 12, 14, 93, 99, 2048, 65535)
        )
        lie = {key: value}
        members[i] = replace(
            m,
            local=m.local | lie if where != "central" else m.local,
            central=m.central | lie if where != "local" else m.central,
        )
        return f"{m.name.decode(errors='replace')[:40]}: {key} {value} in {where}"
    if what == "bomb":
        size = rng.choice(sorted(bombs))
        name = rng.choice((m.name, b"hook_embed.npy", b"hook_next_logits.npy", b"about.json.npy", b"x.npy"))
        put = replace(bombs[size], name=name)
        if rng.random() < 0.3:
            put.central = {"size": rng.choice((100, 2**32 - 1, 4096))}
        members[i] = put
        return f"bomb of {size >> 20} MB as {name!r:.40}"
    if what == "header":
        shape = rng.choice(("(1000000000000,)", "(-1,)", "()", "(0,)", "(1,)*40", "(2, 3", "[2, 3]", "(True,)",
                            "(1.0,)", "(3,)" * 9,
                            "(" * 300 + ")" * 300, "(99999999999999999999999,)", "(0, 99999999999999999999999)", "None",
                            repr((1,) * 65), "(2**62, 4)", "(1,)" + "+(1,)" * 400, "9" * 5000))  # fmt: skip
        kind = rng.choice(("<f4", "|O", "<U9", "|V8", "<f4,<i4", "(1000000,)<f4", "<f4" * 5, "", "V2147483647",
                           "<U999999999", "|S0", "<m8[s]", "<f16", "O", "<c8", "bool", "int", "\x1b[31m"))  # fmt: skip
        about = {"descr": kind, "fortran_order": rng.choice((True, False, 0, None)), "shape": "SHAPE"}
        if rng.random() < 0.6:
            about["descr"] = rng.choice(("<f4", "<i8"))
        if rng.random() < 0.1:
            about["more"] = 1
        raw = npy_header(repr(about).replace("'SHAPE'", shape), rng.choice((1, 1, 1, 2, 3, 0, 9)), rng.random() < 0.8)
        members[i] = member(
            m.name.decode("utf-8", "surrogateescape"), raw + rng.randbytes(rng.choice((0, 4, 400))), m.method
        )
        return f"{m.name.decode(errors='replace')[:40]}: {repr(about).replace('SHAPE', shape)[:90]}"
    if what == "twice":
        members.insert(rng.randrange(len(members)), rng.choice(members))
    elif what == "name":
        name = rng.choice(("../x.npy", "/etc/x.npy", "x", "", ".npy", "x.npy/", "\x1b[31m.npy", "\u202e.npy",
                          "é.npy", "a" * 60_000,
                           "about.json", "about.json.npy.npy", "hook_tokens.NPY", "\0.npy", "a\nb.npy"))  # fmt: skip
        members[i] = replace(m, name=name.encode())
        return f"name {name!r:.40}"
    elif what == "more":
        members.append(member(rng.choice(("x.npy", "notes.txt", "d/")), rng.choice((b"", b"x", npy(np.zeros(3))))))
    elif what == "cut":
        raw = m.body[: rng.randrange(len(m.body) + 1)] if not m.method else m.body
        members[i] = (
            replace(member("", raw), name=m.name) if not m.method else replace(m, body=m.body[: len(m.body) // 2])
        )
    elif what == "many":
        empty = member("", npy(np.zeros(0, np.float32)))
        name = rng.choice(
            ("x{}.npy", "blocks.{}.hook_resid_pre.npy", "hook_{}.npy", "blocks.0.attn.hook_pattern{}.npy")
        )
        members += [replace(empty, name=name.format(k).encode()) for k in range(rng.choice((100, 3000)))]
    elif what == "about":
        text = rng.choice(("[]", "null", "1", "", "{", "[" * 5000, '{"a":' * 50_000))
        arrays = rng.choice((np.array(text), np.array([text]), np.array(text.encode()), np.array(3.0)))
        members[i] = member("about.json.npy", npy(arrays))
    return what
