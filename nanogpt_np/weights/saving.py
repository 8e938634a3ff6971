"""Saving a checkpoint: what Hugging Face's ``from_pretrained`` reads, the tokenizer's files included."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..model.config import Config
from ..model.gpt2 import GPT2
from ..text.tokenizer import Tokenizer
from ..text.tokenizer_files import FILES
from .atomic import atomic_write
from .checkpoint import check_shapes
from .companions import Companions
from .layouts import PREFIX
from .tensors import INDEX, SINGLE
from .writing import encoded, write_checked

if TYPE_CHECKING:  # a module that NumPy imports on demand
    from numpy.typing import DTypeLike


def save(
    model: GPT2,
    directory: str | os.PathLike[str],
    dtype: "DTypeLike" = np.float32,
    *,
    tokenizer: Tokenizer | None = None,
) -> None:
    """Write config.json and model.safetensors, which transformers' ``from_pretrained`` loads, and the tokenizer.

    dtype : numpy float32 or float16 (half the size; values are rounded).
    tokenizer : its files are written. If None: those of the folder that the model was read from, else GPT-2's if the
        vocabulary has 50,257 tokens, else no tokenizer files.

    All files are written beside their final names, read back, and renamed when whole. Raises ValueError where the
    directory holds a sharded checkpoint, whose index would no longer be true, or links to files elsewhere, for a model
    whose arrays are not those of a GPT-2 checkpoint, and for values that float16 cannot hold.
    """
    with staged(model, directory, dtype, tokenizer=tokenizer):
        pass


@contextlib.contextmanager
def staged(
    model: GPT2,
    directory: str | os.PathLike[str],
    dtype: "DTypeLike" = np.float32,
    *,
    tokenizer: Tokenizer | None = None,
) -> Iterator[None]:
    """Write the files of `save` beside their final names and read them back; replace those when the block ends."""
    if np.dtype(dtype) not in (np.float32, np.float16):
        raise ValueError(f"dtype must be float32 or float16, not {np.dtype(dtype)}")
    directory = Path(directory)
    if (directory / INDEX).exists():
        raise ValueError(f"{directory} holds a sharded checkpoint: save to another directory")
    if any((directory / name).is_symlink() for name in (SINGLE, "config.json", *FILES)):
        # Hugging Face's cache is made of links to files that are named by their SHA-256.
        raise ValueError(f"{directory} holds links to files that others may share: save to another directory")
    config = replace(model.config, tie_word_embeddings=model.tied)
    if tokenizer is not None and not tokenizer.is_gpt2 and config.eos_token_ids == Config().eos_token_ids:
        config = replace(config, eos_token_ids=tokenizer.stop)  # GPT-2's id is some other token of this vocabulary
    try:
        check_shapes({name: array.shape for name, array in model.params.items()}, config)
    except ValueError as error:
        raise ValueError(f"this model is not stored as a GPT-2 checkpoint: {error}") from None
    directory.mkdir(parents=True, exist_ok=True)
    head, tensors = "lm_head.weight", {}  # the only name without the prefix
    for name, array in model.params.items():
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(array, dtype)
        if np.isinf(stored).any() and np.isfinite(array).all():
            raise ValueError(f"{name} holds {np.abs(array).max()}, too large for {stored.dtype}")
        tensors[name if name == head else PREFIX + name] = stored
    beside = Companions(model, directory, tokenizer, ends=config)
    fields = config.to_dict() | {"dtype": np.dtype(dtype).name}
    small = {"config.json": (json.dumps(fields, indent=2) + "\n").encode(), **beside.write}
    with atomic_write(directory / SINGLE) as weights:
        write_checked(weights, encoded(tensors, {"format": "pt"}))
        with contextlib.ExitStack() as written:  # inside: an error names the file that was written
            for name, contents in small.items():
                partial = written.enter_context(atomic_write(directory / name))
                write_checked(partial, [np.frombuffer(contents, np.uint8)])
            yield
            # The small files are replaced first; another model's tensors must not be beside them meanwhile.
            old = directory / "config.json"
            if beside.replaces or not (old.is_file() and old.read_bytes() == small["config.json"]):
                (directory / SINGLE).unlink(missing_ok=True)
                for path in beside.remove:
                    path.unlink(missing_ok=True)
