"""A checkpoint on disk: its header, config, digest and provenance are each read once, its arrays when needed.

It takes what Hugging Face writes: one file or shards, F32, F16 or BF16, with or without the ``transformer.``
prefix, tied or untied. Names and shapes are checked against `names/parameters.py` before anything large is
read. Read next: `tensors.py` for the bytes, `assembly.py` for the model, `saving.py` for writing.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..model.config import Config
from ..model.gpt2 import GPT2
from ..names.parameters import Parameter, table
from ..names.wording import nearest
from .assembly import assemble
from .places import find
from .provenance import computed_digest, known_digest, whose
from .tensors import SINGLE, Stored, read_tensors, stored_tensors

# Causal masks that old checkpoints store beside the parameters (c_attn.bias is not one of them).
MASK = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
PREFIX = "transformer."
# Laid out in memory column by column; files go row by row. Each column makes one output, and in this tall matrix a
# core prefetches more from contiguous columns than from its short rows: all products of a decoded token of gpt2
# take nine tenths of the time. The other matrices would gain almost nothing.
BY_COLUMN = ".mlp.c_proj.weight"


def load(name: str | os.PathLike[str]) -> GPT2:
    """Return the model called `name` ("gpt2", "gpt2-xl" ...), or the one in the directory `name`.

    Where names are looked up: `places.find`. Parameters are float32 and read-only. Raises ValueError
    with what was expected and what was found if the checkpoint is not a valid GPT-2.
    """
    return open_checkpoint(name).model


def open_checkpoint(name: str | os.PathLike[str]) -> "Checkpoint":
    """Return the `Checkpoint` called `name`, or the one in the directory `name`; errors as for `load`."""
    directory = find(name)
    return Checkpoint(str(name), directory, *stored_parameters(directory))


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One open checkpoint: its metadata, checked; nothing large is read until `model` is first used."""

    name: str  # as requested
    directory: Path
    config: Config
    stored: dict[str, Stored]  # by parameter name, in the order of use

    @cached_property
    def model(self) -> GPT2:
        """The `GPT2` with these weights; read on first use."""
        config, params = self.config, read_tensors(self.stored, {n for n in self.stored if n.endswith(BY_COLUMN)})
        if not config.tie_word_embeddings and np.array_equal(params["lm_head.weight"], params["wte.weight"]):
            config = replace(config, tie_word_embeddings=True)  # some tools write it twice: kept once
        return assemble(config, params)

    @cached_property
    def digest(self) -> str | None:
        """The SHA-256 of model.safetensors if it is cheap to get, else None."""
        return known_digest(self.directory / SINGLE)

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the weights come from, as a plain dict for recordings and pages."""
        return self._provenance(self.digest)

    def full_provenance(self) -> dict[str, Any]:
        """Return the provenance with the SHA-256 of the weights; this reads a large file once more."""
        if self.digest:
            return self.provenance
        digest, file = computed_digest(self.directory)
        # The digest of one shard of several says nothing about the whole.
        return self._provenance(digest) if file == SINGLE else self.provenance | {"sha256": digest, "sha256_of": file}

    def _provenance(self, digest: str | None) -> dict[str, Any]:
        kind, origin = whose(self.name, self.directory, digest)
        return {
            "name": self.name,
            "kind": kind,
            "origin": origin,
            "directory": str(self.directory),
            "sha256": digest,
            "dtype": "/".join(sorted({s.dtype for s in self.stored.values()})),
            "parameters": sum(array.size for array in self.model.params.values()),
        }


def stored_parameters(directory: str | os.PathLike[str]) -> tuple[Config, dict[str, Stored]]:
    """Return (Config, ``{parameter name: Stored}``) of a directory, checked but not yet read.

    A separate LM head in the file is used, whatever config.json says of tying.
    """
    directory = Path(directory)
    stored = stored_tensors(directory)
    path = directory / "config.json"
    if not path.is_file():
        raise ValueError(f"{directory} has tensors but no config.json, which says how many heads there are")
    config = Config.from_json(path)
    found: dict[str, Stored] = {}
    for full, tensor in stored.items():
        name = full.removeprefix(PREFIX)
        if MASK.fullmatch(name):
            continue
        if name in found:
            raise ValueError(f"{directory}: {name} appears twice, with and without {PREFIX!r}")
        found[name] = tensor
    config = replace(config, tie_word_embeddings=config.tie_word_embeddings and "lm_head.weight" not in found)
    try:
        check_shapes(table(config), {name: s.shape for name, s in found.items()}, config)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from None
    return config, {name: found[name] for name in table(config)}


def check_shapes(table: Mapping[str, Parameter], shapes: Mapping[str, tuple[int, ...]], config: Config) -> None:
    """Raise ValueError for the first tensor that is missing, extra, or of the wrong shape."""
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
