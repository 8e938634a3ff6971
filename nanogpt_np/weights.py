"""Loading and saving checkpoints: names and shapes checked, then assembled into a model.

`load` takes what Hugging Face writes: one file or shards, F32, F16 or BF16, with or without the
``transformer.`` prefix, tied or untied. `save` writes what Hugging Face reads.
"""

import contextlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from . import parameters
from .checkpoint import INDEX, SINGLE, read_tensors, stored_tensors
from .config import Config, nearest

# Causal masks that old checkpoints store beside the parameters (c_attn.bias is not one of them).
MASK = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
PREFIX = "transformer."


def load(name):
    """Return the model called `name` ("gpt2", "gpt2-xl" ...), or the one in the directory `name`.

    Where names are looked up: `home.find`. Parameters are float32 and read-only. Raises ValueError
    with what was expected and what was found when the checkpoint is not a sound GPT-2.
    """
    from .home import find

    return load_directory(find(name))


def load_directory(directory):
    """Return the model in a directory with config.json and safetensors."""
    config, stored = stored_parameters(directory)
    params = read_tensors(stored, {name for name, p in parameters.table(config).items() if p.by_column})
    if not config.tie_word_embeddings and np.array_equal(params["lm_head.weight"], params["wte.weight"]):
        config = replace(config, tie_word_embeddings=True)  # some tools write it twice: kept once
    return parameters.assemble(config, params)


def stored_parameters(directory):
    """Return (Config, ``{parameter name: Stored}``) of a directory, checked but not yet read.

    An LM head of its own in the file counts, whatever config.json says of tying.
    """
    directory = Path(directory)
    stored = stored_tensors(directory)
    path = directory / "config.json"
    if not path.is_file():
        raise ValueError(f"{directory} has tensors but no config.json, which says how many heads there are")
    config = Config.from_json(path)
    found = {}
    for full, tensor in stored.items():
        name = full.removeprefix(PREFIX)
        if MASK.fullmatch(name):
            continue
        if name in found:
            raise ValueError(f"{directory}: {name} is there twice, with and without {PREFIX!r}")
        found[name] = tensor
    config = replace(config, tie_word_embeddings=config.tie_word_embeddings and "lm_head.weight" not in found)
    try:
        _check(parameters.table(config), {name: s.shape for name, s in found.items()}, config)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from None
    return config, {name: found[name] for name in parameters.table(config)}


def _check(table, shapes, config):
    """Raise ValueError for the first tensor that is missing, too many, or of another shape."""
    problems = []
    extra = [name for name in shapes if name not in table]
    missing = [name for name in table if name not in shapes]
    problems += [f"tensor {name} is missing{nearest(name, extra)}" for name in missing]
    problems += [f"tensor {name} is not part of a GPT-2{nearest(name, missing or table)}" for name in extra]
    for name, parameter in table.items():
        expected = parameter.shape(config)
        if name in shapes and shapes[name] != expected:
            axes = ", ".join(parameter.axes.split())
            problems.append(
                f"tensor {name} has shape {list(shapes[name])}, but config.json makes it {list(expected)} ([{axes}])"
            )
    if problems:
        more = f" (and {len(problems) - 1} more like it)" if len(problems) > 1 else ""
        raise ValueError(problems[0] + more)


def save(model, directory, dtype=np.float32):
    """Write config.json and model.safetensors, which transformers' ``from_pretrained`` loads.

    dtype : numpy float32 or float16 (half the size; values are rounded).

    Both files are written beside their final names and renamed when whole. Raises ValueError where the
    directory holds a sharded checkpoint, whose index would no longer be true, or links to files that
    stand elsewhere, and for values that float16 cannot hold.
    """
    from safetensors.numpy import save_file

    if np.dtype(dtype) not in (np.float32, np.float16):
        raise ValueError(f"dtype must be float32 or float16, not {np.dtype(dtype)}")
    directory = Path(directory)
    if (directory / INDEX).exists():
        raise ValueError(f"{directory} holds a sharded checkpoint: save to another directory")
    if any((directory / name).is_symlink() for name in (SINGLE, "config.json")):
        # Hugging Face's cache is made of links to files that are named by their SHA-256.
        raise ValueError(f"{directory} holds links to files that others may share: save to another directory")
    directory.mkdir(parents=True, exist_ok=True)
    head, tensors = "lm_head.weight", {}  # the only name without the prefix
    for name, array in model.params.items():
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(array, dtype)
        if np.isinf(stored).any() and np.isfinite(array).all():
            raise ValueError(f"{name} holds {np.abs(array).max()}, too large for {stored.dtype}")
        tensors[name if name == head else PREFIX + name] = stored
    fields = replace(model.config, tie_word_embeddings=model.tied).to_dict() | {"dtype": np.dtype(dtype).name}
    with whole_file(directory / SINGLE) as weights, whole_file(directory / "config.json") as config:
        save_file(tensors, weights, metadata={"format": "pt"})
        config.write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        # config.json is put in place first: until the tensors follow, none of another model may stand beside it.
        old = directory / "config.json"
        if not (old.is_file() and old.read_bytes() == config.read_bytes()):
            (directory / SINGLE).unlink(missing_ok=True)


@contextlib.contextmanager
def whole_file(path):
    """Give a name to write to beside `path`, and put that file in place of `path` at one stroke when it is whole.

    Of a link it is the file that it leads to which is replaced. Raises ValueError where a device or a pipe stands.
    """
    from safetensors import SafetensorError

    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file, and only a regular file can be replaced")
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")  # two processes never share one
    try:
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # safetensors makes files that only their owner may read
        os.replace(partial, path)
    except SafetensorError as error:  # how safetensors tells a full disk
        raise OSError(f"cannot write {path}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
