"""Small checkpoints in every layout that is read, as ``{file name: bytes}``; and the same taken apart to be changed."""

import json
import math

import numpy as np
from helpers import random_model

import nanogpt_np

SINGLE, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
SIZES = (
    {"vocab_size": 53, "n_positions": 11, "n_embd": 8, "n_head": 2, "n_layer": 2, "n_inner": 20},
    {"vocab_size": 41, "n_positions": 7, "n_embd": 12, "n_head": 3, "n_layer": 1, "n_inner": None},
    {"vocab_size": 47, "n_positions": 9, "n_embd": 8, "n_head": 4, "n_layer": 1, "n_inner": 17,
     "layer_norm_epsilon": 1e-3},
    {"vocab_size": 43, "n_positions": 9, "n_embd": 8, "n_head": 2, "n_layer": 2, "tie_word_embeddings": False},
    {"vocab_size": 43, "n_positions": 8, "n_embd": 10, "n_head": 5, "n_layer": 2,
     "scale_attn_by_inverse_layer_idx": True},
)  # fmt: skip


def pack(tensors, metadata=None, align=8):
    """Return a safetensors file of ``{name: (dtype, shape, bytes)}``."""
    header, data = {} if metadata is None else {"__metadata__": metadata}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return join(json.dumps(header), data, align)


def join(header, data, align=8, length=None):
    """Return a safetensors file of a header's text and its data."""
    raw = header if isinstance(header, bytes) else header.encode("utf-8", "surrogatepass")
    raw += b" " * (-len(raw) % align)
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def split(raw):
    """Return (the header's text, the data) of a sound safetensors file."""
    start = 8 + int.from_bytes(raw[:8], "little")
    return raw[8:start].decode(), raw[start:]


def stored(array, dtype):
    """Return (dtype, shape, bytes) of an array."""
    if dtype == "BF16":
        raw = (np.ascontiguousarray(array, "<f4").view("<u4") >> 16).astype("<u2").tobytes()
    else:
        raw = array.astype({"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
    return dtype, array.shape, raw


def layouts(folder):
    """Return ``{layout: {file name: bytes}}``; two are written by the package itself, in `folder`."""
    found = {}
    for number, sizes in enumerate(SIZES):
        model = random_model(number, **sizes)
        for dtype in ("float32", "float16"):
            there = folder / f"{number}-{dtype}"
            nanogpt_np.save(model, there, dtype=np.dtype(dtype))
            found[there.name] = {file.name: file.read_bytes() for file in there.iterdir()}
        config = found[f"{number}-float32"][CONFIG]
        params, masked = model.params, {}
        masks = {f"h.{i}.attn.bias": np.tri(sizes["n_positions"])[None, None] for i in range(sizes["n_layer"])}
        for name, array in {**params, **masks}.items():
            masked[name] = stored(array, "F32")
        for i in range(sizes["n_layer"]):
            masked[f"h.{i}.attn.masked_bias"] = stored(np.float32(-1e4), "F32")
        found[f"{number}-masks"] = {CONFIG: config, SINGLE: pack(masked)}
        halves = {"transformer." + name: stored(array, "BF16") for name, array in params.items()}
        halves["transformer.ln_f.weight"] = stored(params["ln_f.weight"], "F32")
        found[f"{number}-bf16"] = {CONFIG: config, SINGLE: pack(halves, {"format": "pt"})}
        odd = {name: stored(array, "F32") for name, array in reversed(params.items())}
        odd["lm_head.weight"] = odd.get("lm_head.weight", odd["wte.weight"])  # tied, but written twice
        found[f"{number}-unaligned"] = {CONFIG: config, SINGLE: pack(odd, align=[1, 2, 3, 5, 7][number])}
    return found


def shards(folder):
    """Return the same for sharded checkpoints: files and an index."""
    found = {}
    for number, sizes in enumerate(SIZES):
        model = random_model(10 + number, **sizes)
        names, n = list(model.params), 2 + number % 3
        files, where = {}, {}
        for i in range(n):
            file = f"model-{i + 1:05}-of-{n:05}.safetensors"
            some = names[i::n] if number % 2 else names[len(names) * i // n : len(names) * (i + 1) // n]
            prefix = "transformer." if number > 1 else ""
            full = {name if name == "lm_head.weight" else prefix + name: model.params[name] for name in some}
            files[file] = pack({name: stored(a, ("F32", "BF16")[i % 2]) for name, a in full.items()}, {"format": "pt"})
            where |= dict.fromkeys(full, file)
        total = sum(math.prod(a.shape) * 4 for a in model.params.values())
        index = json.dumps({"metadata": {"total_size": total}, "weight_map": where}, indent=2)
        config = json.dumps(model.config.to_dict())
        found[f"shards-{number}"] = {CONFIG: config.encode(), INDEX: index.encode(), **files}
    return found
