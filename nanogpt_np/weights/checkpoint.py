"""A checkpoint on disk: its header, config, digest and provenance are each read once, its arrays when needed.

It takes what Hugging Face writes, one file or shards, tied or untied, and other layouts that can be told for certain
(`layouts.py`). Names and shapes are checked against `names/parameters.py` before anything large is read.
Read next: `tensors.py` for the bytes, `assembly.py` for the model, `saving.py` for writing.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..model.config import Config
from ..model.gpt2 import GPT2
from ..model.trace import Array
from ..names.parameters import each, parameter, table, tensor_count
from ..names.wording import LONGEST_NAME, nearest, one_line
from ..text.tokenizer import Tokenizer
from .assembly import assemble
from .companions import remember
from .configs import read_config
from .layouts import missing_biases, plain_names, transposed
from .places import resolve
from .provenance import computed_digest, known_digest, whose
from .tensors import SINGLE, Stored, read_tensors, stored_tensors

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
    name, directory = resolve(name)
    return _opened(name, directory)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One open checkpoint: its metadata, checked; nothing large is read until `model` is first used."""

    name: str  # as requested
    directory: Path
    config: Config
    stored: dict[str, Stored]  # by parameter name, in the order of use; biases may be missing, all of them
    layout: tuple[str, ...] = ()  # how the files differ from those of Hugging Face, in words
    ignored: tuple[str, ...] = ()  # settings of generation that the files have and `generate` does not follow

    @cached_property
    def model(self) -> GPT2:
        """The `GPT2` with these weights; read on first use."""
        config, params = self.config, read_tensors(self.stored, {n for n in self.stored if n.endswith(BY_COLUMN)})
        if len(params) < tensor_count(config):
            params = {name: params[name] if name in params else _zeros(p.shape(config)) for name, p in each(config)}
        if not config.tie_word_embeddings and np.array_equal(params["lm_head.weight"], params["wte.weight"]):
            config = replace(config, tie_word_embeddings=True)  # some tools write it twice: kept once
        model = assemble(config, params)
        remember(model, self.directory)
        return model

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer whose files are beside the weights, else GPT-2's; read on first use."""
        return Tokenizer.found_in(self.directory) or Tokenizer()

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

    def checked_origin(self) -> str:
        """Say where the weights come from; reads a large file once if only its SHA-256 can tell."""
        kind, origin = whose(self.name, self.directory, self.digest)
        if kind == "downloaded":
            _, origin = whose(self.name, self.directory, computed_digest(self.directory)[0])
        return origin

    def _provenance(self, digest: str | None) -> dict[str, Any]:
        kind, origin = whose(self.name, self.directory, digest)
        return {
            "name": self.name,
            "kind": kind,
            "origin": ", ".join((origin, *self.layout)),
            "directory": str(self.directory),
            "sha256": digest,
            "dtype": "/".join(sorted({s.dtype for s in self.stored.values()})),
            "parameters": sum(array.size for array in self.model.params.values()),
        }


def stored_parameters(directory: str | os.PathLike[str]) -> tuple[Config, dict[str, Stored]]:
    """Return (Config, ``{parameter name: Stored}``) of a directory, checked but not yet read.

    A separate LM head in the file is used, whatever config.json says of tying. The work is proportional to what the
    files hold, not to the numbers in config.json.
    """
    checkpoint = _opened(os.fspath(directory), Path(directory))
    return checkpoint.config, checkpoint.stored


def _opened(name: str, directory: Path) -> Checkpoint:
    try:
        stored = stored_tensors(directory)
        config, ignored = read_config(directory)
    except OSError as error:
        raise ValueError(f"{error.filename or directory} cannot be read: {error.strerror or error}") from None
    layout = []
    try:
        found = {name: stored[full] for name, full in plain_names(stored).items()}
        config = replace(config, tie_word_embeddings=config.tie_word_embeddings and "lm_head.weight" not in found)
        if turned := transposed({name: s.shape for name, s in found.items()}, config):
            found |= {name: found[name].transposed() for name in turned}
            layout.append("matrices stored [out, in]")
        shapes = {name: s.shape for name, s in found.items()}
        if without := {name: parameter(name, config) for name in missing_biases(shapes, config)}:
            shapes |= {name: p.shape(config) for name, p in without.items() if p}
            layout.append("no biases stored: zeros")
        check_shapes(shapes, config)
    except ValueError as error:
        raise ValueError(f"{directory}: {error}") from None
    in_order = {name: found[name] for name in table(config) if name in found}
    return Checkpoint(name, directory, config, in_order, tuple(layout), ignored)


def _zeros(shape: tuple[int, ...]) -> Array:
    values = np.zeros(shape, np.float32)
    values.flags.writeable = False
    return values


def check_shapes(shapes: Mapping[str, tuple[int, ...]], config: Config) -> None:
    """Raise ValueError for the first tensor that is missing, extra, or of the wrong shape.

    Takes time by the number of `shapes`, however many layers `config` claims.
    """
    known = {name: parameter(name, config) for name in shapes}
    extra = [name for name, entry in known.items() if entry is None]
    missing = tensor_count(config) - (len(shapes) - len(extra))
    wrong = {name for name, entry in known.items() if entry and shapes[name] != entry.shape(config)}
    problems = missing + len(extra) + len(wrong)
    if not problems:
        return
    if missing:  # found within the first len(shapes) + 1 names
        name = next(name for name, _ in each(config) if name not in shapes)
        problem = f"tensor {name} is missing{nearest(name, extra)}"
    elif extra:
        name = extra[0]
        problem = f"tensor {one_line(name, LONGEST_NAME)} is not part of a GPT-2{nearest(name, table(config))}"
    else:
        name, entry = next((name, entry) for name, entry in each(config) if name in wrong)
        shape, axes = one_line(list(shapes[name]), LONGEST_NAME), ", ".join(entry.axes.split())
        problem = f"tensor {name} has shape {shape}, but config.json makes it {list(entry.shape(config))} ([{axes}])"
    raise ValueError(problem + (f" (and {problems - 1} more like it)" if problems > 1 else ""))
