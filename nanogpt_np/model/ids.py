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
    try:
        ids = np.asarray(ids)
    except (ValueError, TypeError, RuntimeError):  # NumPy's words for rows of unequal length; those of a PyTorch tensor
        raise ValueError("token ids must be whole numbers, in one row or in rows of equal length") from None
    V, longest = config.vocab_size, config.n_positions
    if ids.ndim == 0 or ids.size == 0:
        hint = "; encode text first: Tokenizer().encode(...)" if ids.dtype.kind == "U" else ""
        raise ValueError(f"no token ids: got an array of shape {ids.shape}, need (T,) or (B, T) with T >= 1{hint}")
    if ids.dtype.kind not in "iu":
        kind = "Python objects (None, or a number of more than 64 bits)" if ids.dtype == object else ids.dtype
        raise ValueError(f"token ids must be integers, not {kind}")
    if ids.min() < 0 or ids.max() >= V:
        bad = ids[(ids < 0) | (ids >= V)][0]
        raise ValueError(f"token id {bad} is out of range: this model knows ids 0 to {V - 1}")
    T = ids.shape[-1]
    if past + T > longest:
        before = f"{past} cached + " if past else ""
        raise ValueError(f"{before}{T} tokens are more than this model's context of {longest} tokens")
    return ids.astype(np.int64)
