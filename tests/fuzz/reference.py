"""GPT-2 in float64, written again from Radford et al. 2019: it shares no line with the package.

It reads a folder's files by itself. `expect` also says how far a float32 pass may be from it: the same pass runs
several more times, each result of an operation off by a random rounding error of float32, and the spread of the
logits, times `MARGIN`, is the tolerance. So it is tight for an ordinary model,
and wide only where float32 cannot know
better (such as a softmax over scores of 1e9).
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

UNIT = 2.0**-24  # a float32 rounding error, relative
TINY = 2.0**-125  # below about this size, rounding errors stop shrinking
LARGEST = 1e38  # float32 ends at 3.4e38
RUNS, MARGIN = 8, 64
MASKS = (".attn.bias", ".attn.masked_bias")
VIEWS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8", "F8_E4M3": "<u1"}
PREFIXES = ("transformer.", "module.", "_orig_mod.", "base_model.model.")


@dataclass
class Expected:
    """What the logits (T, V) must be."""

    logits: np.ndarray  # float64
    tolerance: np.ndarray
    peak: float  # the largest number on the way, sums of magnitudes included; inf if a weight is not finite


def read_file(path):
    """Return ``{name: float64 array}`` of a safetensors file; masks, and tensors that are no floats, are left out."""
    raw = Path(path).read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    found = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name == "__metadata__" or name.endswith(MASKS) or entry["dtype"] not in VIEWS:
            continue
        begin, end = entry["data_offsets"]
        values = np.frombuffer(raw[start + begin : start + end], VIEWS[entry["dtype"]])
        if entry["dtype"] == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        if entry["dtype"] == "F8_E4M3":
            values = from_8_bits(values.astype(np.int64))
        found[name] = values.astype(np.float64).reshape(entry["shape"])
    return found


def from_8_bits(codes):
    """Return what bytes of F8_E4M3 stand for: a sign, 4 bits of exponent, 3 of mantissa; no infinity."""
    exponent, mantissa = codes >> 3 & 15, codes & 7
    size = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7))
    return np.where(codes & 127 == 127, np.nan, np.where(codes & 128, -size, size))


def plain(name):
    """Return a tensor's name without the prefixes of whatever wrapped the model."""
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return plain(name[len(prefix) :])
    return name


def read_folder(folder):
    """Return (config.json as a dict, ``{name without prefix: float64 array}``)."""
    folder = Path(folder)
    config = json.loads((folder / "config.json").read_bytes().decode("utf-8-sig"))
    if (folder / "model.safetensors").is_file():
        tensors = read_file(folder / "model.safetensors")
    else:
        where = json.loads((folder / "model.safetensors.index.json").read_bytes())["weight_map"]
        files = {file: read_file(folder / file) for file in set(where.values())}
        tensors = {name: files[file][name] for name, file in where.items() if name in files[file]}
    return config, {plain(name): array for name, array in tensors.items()}


def expect(folder, ids):
    """Return what the model in a folder must answer to `ids` (T,)."""
    config, params = read_folder(folder)
    with np.errstate(all="ignore"):
        passes = [Pass(config, params)]
        passes += [Pass(config, params, np.random.default_rng(seed)) for seed in range(RUNS)]
        logits, *runs = [a_pass(ids) for a_pass in passes]
        spread = np.max([np.abs(run - logits) for run in runs], axis=0)
    # With rounding errors too: where all of a row is -1e35, what its mean leaves is nothing but these.
    return Expected(logits, MARGIN * spread, max(a_pass.peak for a_pass in passes))


class Pass:
    """One forward pass; with `rng`, every result is off by a rounding error of float32."""

    def __init__(self, config, params, rng=None):
        self.config, self.params, self.rng = config, params, rng
        self.peak = 0.0 if all(np.isfinite(array).all() for array in params.values()) else np.inf

    def __call__(self, ids):
        config, p = self.config, self.params
        T, heads = len(ids), config["n_head"]
        x = self.rounded(p["wte.weight"][ids] + p["wpe.weight"][:T])
        for i in range(config["n_layer"]):
            scale = 1.0
            if config.get("scale_attn_weights", True):
                scale /= np.sqrt(x.shape[1] // heads)
            if config.get("scale_attn_by_inverse_layer_idx", False):
                scale /= i + 1
            normed = self.norm(x, f"h.{i}.ln_1")
            qkv = self.affine(normed, f"h.{i}.attn.c_attn")
            q, k, v = (part.reshape(T, heads, -1).transpose(1, 0, 2) for part in np.split(qkv, 3, axis=1))
            q = self.rounded(q * scale)
            z = np.stack([self.attend(q[:, t], k[:, : t + 1], v[:, : t + 1]) for t in range(T)]).reshape(T, -1)
            x = self.rounded(x + self.affine(z, f"h.{i}.attn.c_proj"))
            pre = self.affine(self.norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
            u = self.rounded(2 * np.sqrt(2 / np.pi) * (pre + 0.044715 * pre**3), watched=False)
            post = self.rounded(np.where(np.isneginf(pre), 0.0, pre / (1 + np.exp(-u))))
            x = self.rounded(x + self.affine(post, f"h.{i}.mlp.c_proj"))
        x = self.norm(x, "ln_f")
        return self.product(x, p["lm_head.weight" if "lm_head.weight" in p else "wte.weight"].T)

    def attend(self, q, k, v):
        """One token's query (H, D) and the keys and values (H, S, D) up to it; later ones are not read."""
        scores = self.product(q[:, None], k.transpose(0, 2, 1))
        weights = np.exp(self.rounded(scores - scores.max(axis=-1, keepdims=True)))
        weights = self.rounded(weights / weights.sum(axis=-1, keepdims=True))
        return self.product(weights, v)[:, 0]

    def norm(self, x, name):
        mean = self.rounded(x.mean(axis=-1, keepdims=True), np.abs(x).mean(axis=-1, keepdims=True))
        centered = self.rounded(x - mean)
        self.seen((centered * centered).sum(axis=-1))
        variance = self.rounded((centered * centered).mean(axis=-1, keepdims=True))
        scale = self.rounded(np.sqrt(self.rounded(variance + self.config.get("layer_norm_epsilon", 1e-5))))
        scaled = self.rounded(self.rounded(centered / scale) * self.params[name + ".weight"])
        return self.rounded(scaled + self.params[name + ".bias"])

    def affine(self, x, name):
        return self.rounded(self.product(x, self.params[name + ".weight"]) + self.params[name + ".bias"])

    def product(self, a, b):
        return self.rounded(a @ b, np.abs(a) @ np.abs(b))

    def rounded(self, x, size=None, watched=True):
        """Return `x` off by a rounding error of `size`, or of its own; without `rng` as it is."""
        size = np.abs(x) if size is None else size
        if watched:
            self.seen(size)
        if self.rng is None:
            return x
        return x + UNIT * self.rng.standard_normal(x.shape) * (np.where(np.isfinite(size), size, 0) + TINY)

    def seen(self, size):
        finite = size[np.isfinite(size)]
        self.peak = max(self.peak, finite.max() if finite.size else 0.0)
