"""Check token ids before the model reads them; one line says what is wrong with bad ones.

Read next: `embedding.py`, which looks them up.
"""

from typing import Any

import numpy as np

from .config import Config
from .trace import Array


def check_ids(ids: Any, config: Config, past: int = 0) -> Array:
    """Return a copy of `ids` as integers, or raise ValueError if they cannot be read after `past` tokens."""
    if ids is None:
        raise ValueError("no token ids: None (a trace must return the array that it is given, or another)")
    ids = integers(ids, "token ids")
    V, longest = config.vocab_size, config.n_positions
    if ids.ndim == 0 or ids.size == 0:
        raise ValueError(f"no token ids: got an array of shape {ids.shape}, need (T,) or (B, T) with T >= 1")
    if ids.min() < 0 or ids.max() >= V:
        bad = ids[(ids < 0) | (ids >= V)][0]
        raise ValueError(f"token id {bad} is out of range: this model knows ids 0 to {V - 1}")
    T = ids.shape[-1]
    if past + T > longest:
        before = f"{past} cached + " if past else ""
        raise ValueError(f"{before}{T} tokens are more than this model's context of {longest} tokens")
    return ids.astype(np.int64)


def integers(values: Any, name: str) -> Array:
    """Return `values` as an array of integers, or raise ValueError in which `name` says what they are."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError):  # NumPy's words for rows of different lengths; a PyTorch tensor's
        raise ValueError(f"{name} must be one list, or rows of one length: these cannot be an array") from None
    if array.dtype.kind in "iu" or not array.size:
        return array
    if array.dtype.kind in "US":
        found = "text: Tokenizer().encode(...) turns text into ids"
    elif array.dtype.kind != "O":
        found = str(array.dtype)
    elif array.ndim == 0:
        found = f"a {type(values).__name__}: make it a list"
    else:
        kinds = {type(x) for x in array.flat} - {int}
        found = f"a {min(kind.__name__ for kind in kinds)[:40]}" if kinds else "one of more than 64 bits"
    raise ValueError(f"{name} must be integers, not {found}")
