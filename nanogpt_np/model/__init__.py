"""GPT-2 and nothing else: the forward pass and, under each forward, its backward.

Read `config`, `trace`, `linear`, `embedding`, `layernorm`, `attention`, `mlp`, `lm_head`, `gpt2` and `cache`, in this
order (`ids` checks what comes in). They import only NumPy, the standard library and each other. Speedups
are in `fast/`, reading and writing weights is in `weights/`, and the names of the trace points are in `names/`.
"""

from .cache import KVCache
from .config import Config
from .gpt2 import GPT2
from .trace import ShapeLog, Tape, no_trace

__all__ = ["GPT2", "Config", "KVCache", "ShapeLog", "Tape", "no_trace"]
