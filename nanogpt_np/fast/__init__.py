"""The same model, faster: each file holds one idea, and none changes the model's results.

`fast(model)` returns a model that is called the same way and shares its arrays. The layers in `model/` know nothing
about this folder: its classes replace some of them from outside.

- `tiles`: GELU and attention in tiles that stay in the processor's cache.
- `last_row`: generation needs the last row only, so the last block computes no other.
- `segments`: a long prompt is cut into segments, one for each core.
- `few_rows`: several texts, one token each: products in tiles that need no packing.
- `blas`: how many threads the library behind the matrix products uses.
- `own`: which blocks may be replaced so. `memory`: freed memory is kept for the next arrays.
- `gpt2`: the model built from these.

Not here: what a checkpoint looks like in memory (`weights/`), and the timings (`bench/`).
"""

from .gpt2 import FastGPT2, fast
from .memory import keep_freed_memory

__all__ = ["FastGPT2", "fast", "keep_freed_memory"]
