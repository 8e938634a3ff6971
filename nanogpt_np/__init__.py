"""GPT-2 written from scratch in NumPy, with every number on the way in sight.

    model = nanogpt_np.load("gpt2")
    tokenizer = nanogpt_np.Tokenizer()
    logits = model(tokenizer.encode("The capital of France is"))  # (5, 50257)

Read the files in this order: config, trace, embedding, layernorm, attention, mlp, lm_head, model,
cache, sampling, generate; then activations, parameters, points, names and glossary (the tables),
checkpoint, weights, home; last_row, cores and memory (for speed). For looking inside: walk, steps, stepper,
ledger, recording, page, patch, explain, derivations, lens, diff, align. For training: loss, adamw,
vocabulary, corpus, trainer, train, facts.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what `__getattr__` below imports on demand
    from .cache import KVCache
    from .config import Config
    from .model import GPT2
    from .tokenizer import Tokenizer
    from .trace import Recorder, ShapeLog, no_trace
    from .weights import load, save

__version__ = "0.1.0"
__all__ = ["GPT2", "Config", "KVCache", "Recorder", "ShapeLog", "Tokenizer", "load", "no_trace", "save"]

_HOMES = {
    "Config": "config",
    "GPT2": "model",
    "KVCache": "cache",
    "Recorder": "trace",
    "ShapeLog": "trace",
    "Tokenizer": "tokenizer",
    "load": "weights",
    "no_trace": "trace",
    "save": "weights",
}


def __getattr__(name):
    """Import what is asked for when it is asked for: a command that needs no weights stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
