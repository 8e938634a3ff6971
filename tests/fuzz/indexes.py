"""Indexes: a changed model.safetensors.index.json, and shards that do not fit it."""

import json

from . import checkpoints, judging, mutate
from .layouts import INDEX, shards
from .limits import Fault

OUTSIDE = (
    "../outside.safetensors", "./{0}", "{1}/{0}", "../{2}/{0}", "sub/{0}", "{0}/", "{0}\0", "/dev/zero", "/dev/stdin",
    "..", ".", "", "{0} ", "C:{0}", "..\\{0}", "config.json", "con.safetensors", "x" * 300 + ".safetensors"
)  # fmt: skip


def prepare(folder):
    """Return the sharded checkpoints to be changed."""
    return shards(folder)


def make(rng, base, folder):
    """Write one sharded checkpoint with a changed index."""
    layout = rng.choice(sorted(base))
    files, said = dict(base[layout]), [layout]
    names = [name for name in files if name.endswith(".safetensors")]
    (folder.parent / "outside.safetensors").write_bytes(files[names[0]])  # what a path that leads out would find
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        words = _change(rng, files, names, folder)
        said.append(words)
    case = judging.place(rng, folder, files, "; ".join(said))
    judge = case.run

    def run(child):
        outcome = judge(child)
        if outcome == "accepted":
            where = json.loads((folder / INDEX).read_bytes())["weight_map"]
            led_out = [file for file in where.values() if file not in names]
            if led_out:
                raise Fault("contradiction", f"the index led to {led_out[0]!r:.100}", "outside")
        return outcome

    case.run = run
    return case


def _change(rng, files, names, folder):
    way = rng.choice(
        ("json", "json", "json", "text", "bytes", "lead out", "lead out", "exchange", "shard", "lose", "claim")
    )
    if way in ("text", "bytes", "shard", "lose"):
        name = rng.choice(names) if way in ("shard", "lose") else INDEX
        if name not in files:
            return "nothing"
        if way == "lose":
            del files[name]
            return f"lose {name}"
        if way == "shard":
            files[name], words = checkpoints.change(rng, files[name])
        elif way == "text":
            files[name], words = mutate.change_text(rng, files[name].decode("utf-8", "replace"))
        else:
            files[name], words = mutate.change_bytes(rng, files[name])
        return f"{name}: {words}"
    try:
        tree = mutate.parse(files[INDEX].decode())
        if way == "json":
            tree, words = mutate.change_json(rng, tree)
        else:
            where = next(value for key, value in tree if key == "weight_map")
            i = rng.randrange(len(where))
            name, file = where[i]
            if way == "lead out":
                new = rng.choice((*OUTSIDE, str(folder.parent / "outside.safetensors")))
                new = new.format(file, folder, folder.name)
                some = range(len(where)) if rng.random() < 0.5 else [i]
                for k in some:
                    if where[k][1] == file:
                        where[k] = (where[k][0], new)
                words = f"{file} -> {new!r:.60}"
            elif way == "exchange":
                where[i] = (name, rng.choice(names))
                words = f"{name} -> {where[i][1]}"
            else:
                more = rng.choice((1, 1, 2000))
                where += [(mutate.odd_text(rng)[:100] + str(k), file) for k in range(more)]
                words = f"{more} more claims"
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        StopIteration,
        RecursionError,
    ):  # changed before
        files[INDEX], words = mutate.change_bytes(rng, files[INDEX])
    else:
        files[INDEX] = mutate.write(tree).encode("utf-8", "surrogatepass")
    return f"index: {words}"
