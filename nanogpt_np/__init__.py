"""GPT-2 written from scratch in NumPy, with every intermediate value visible.

    model = nanogpt_np.load("gpt2")
    tokenizer = nanogpt_np.Tokenizer()
    logits = model(tokenizer.encode("The capital of France is"))  # (5, 50257)

The folders, lowest first; imports go down or stay inside their folder:

    model      GPT-2 and nothing else: start here     text       tokens
    names      what every tensor is called            fast       the same model, faster
    weights    checkpoints in and out                 generate   from logits to text
    train      from text to weights                   interpret  looking inside a pass
    page       a pass as an HTML page                 bench      how fast it runs
    course     write GPT-2 yourself                   commands   the command line
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `__getattr__` below imports on demand
    from . import fast, train
    from .generate import complete, completions, score
    from .interpret import diff, explain, lens, patch
    from .model import GPT2, Config, KVCache, ShapeLog, no_trace
    from .page.recorder import Recorder
    from .text import Tokenizer
    from .weights import load, open_checkpoint, save

__version__ = "0.2.0"
__all__ = [
    "GPT2",
    "Config",
    "KVCache",
    "Recorder",
    "ShapeLog",
    "Tokenizer",
    "complete",
    "completions",
    "diff",
    "explain",
    "fast",
    "lens",
    "load",
    "no_trace",
    "open_checkpoint",
    "patch",
    "save",
    "score",
    "train",
]

_HOMES = {  # name: its module, or the module itself
    "Config": "model",
    "GPT2": "model",
    "KVCache": "model",
    "Recorder": "page.recorder",
    "ShapeLog": "model",
    "Tokenizer": "text",
    "complete": "generate",
    "completions": "generate",
    "diff": "interpret.diff",
    "explain": "interpret.explain",
    "fast": "fast",
    "lens": "interpret.lens",
    "load": "weights",
    "no_trace": "model",
    "open_checkpoint": "weights",
    "patch": "interpret.patch",
    "save": "weights",
    "score": "generate",
    "train": "train",
}


def __getattr__(name: str) -> Any:
    """Import a name on first use, so that a command without weights starts fast."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_hint(name)}")
    home = import_module(f".{_HOMES[name]}", __name__)
    value = home if _HOMES[name].endswith(name) else getattr(home, name)
    globals()[name] = value
    return value


def _hint(name: str) -> str:
    """Say where a module of this name is, if there is one, or which name is spelled nearly so."""
    if name.startswith("_") or not name.isidentifier():  # Python's own questions, and none that a person asks
        return ""
    from pathlib import Path

    from .names.wording import nearest

    package = Path(__file__).parent
    if (package / name / "__init__.py").is_file():
        return f": import {__name__}.{name} first"
    folders = [path.parent.name for path in sorted(package.glob(f"*/{name}.py")) if path.parent.name != "commands"]
    homes = " or ".join(f"{__name__}.{folder}.{name}" for folder in folders)
    return f" (did you mean {homes}?)" if homes else nearest(name, __all__)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
