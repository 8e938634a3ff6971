"""Training on the tokens that occur: all others share one row of the embedding.

A small text uses a few thousand of GPT-2's 50,257 tokens. If the n rows that never occur are the
same vector, their n logits are equal, and the softmax over all 50,257 is the softmax over the rows
that occur plus one with log(n) added to its logit: the same probabilities, many times faster. The n
rows are trained as one parameter; its gradient is the sum of theirs. The result is a whole GPT-2
checkpoint with that row written n times.
"""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..model.config import Config
from ..model.trace import Array
from .settings import shown

LARGEST = 1 << 20  # tokens of a vocabulary whose map is made: twenty times GPT-2's


class SharedRows:
    """The map between a vocabulary of `full` tokens and one of the `used` tokens and a shared row."""

    def __init__(self, used: Array, full: int):
        if full > LARGEST:
            raise ValueError(f"vocab_size must be at most {LARGEST:,} where rows are shared, not {shown(full)}")
        self.used = np.unique(used)  # sorted
        self.full = full
        self.unseen = full - len(self.used)
        if not self.unseen:
            raise ValueError("every token occurs: there is no row to share")
        self.size = len(self.used) + 1  # the shared row comes last
        self.offset = np.zeros(self.size, np.float32)
        self.offset[-1] = math.log(self.unseen)
        self._compact = np.full(full, self.size - 1)
        self._compact[self.used] = np.arange(len(self.used))

    def encode(self, ids: Any) -> Array:
        """Full ids -> compact ids, in any shape; negative targets stay as they are."""
        ids = np.asarray(ids)
        return np.where(ids < 0, ids, self._compact[np.maximum(ids, 0)])

    def compact(self, config: Config) -> Config:
        """Return the Config of the model that is trained."""
        return replace(config, vocab_size=self.size)

    def expand(self, config: Config, params: dict[str, Array]) -> tuple[Config, dict[str, Array]]:
        """Return (Config, params) of the whole checkpoint."""
        rows = {name: a[self._compact] if name in ("wte.weight", "lm_head.weight") else a for name, a in params.items()}
        return replace(config, vocab_size=self.full), rows
