"""A checkpoint of random numbers: speed does not depend on the values of the weights."""

import json

import numpy as np

from ..names import parameters

DTYPES = {"F32": np.float32, "F16": np.float16}


def write_random(config, directory, dtype="F32"):
    """Write a checkpoint of random numbers, laid out like the published files.

    Names without prefix, causal masks included, and a header length that leaves no tensor aligned.
    """
    shapes = {name: p.shape(config) for name, p in parameters.table(config).items()}
    mask = (1, 1, config.n_positions, config.n_positions)
    shapes |= {f"h.{i}.attn.bias": mask for i in range(config.n_layer)}
    header, end, kind = {}, 0, DTYPES[dtype]
    for name, shape in shapes.items():
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * ((3 - len(text)) % 4)
    rng = np.random.default_rng(0)
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            if shape == mask:
                array = np.tri(config.n_positions)
            else:  # as GPT-2 was initialized: gains of 1, all else normal with std 0.02
                array = 0.02 * rng.standard_normal(shape, np.float32) + (".ln_" in f".{name}" and "weight" in name)
            file.write(array.astype(kind).tobytes())
    (directory / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
