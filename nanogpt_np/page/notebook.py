"""The page in a notebook: what a `Recorder` shows of itself.

A Recorder knows numbers, not whose they are. Their shapes tell all sizes but two (how many tokens and positions exist,
where the logits were not recorded); the model, where it is told, tells these and the weights.
"""

import html

import numpy as np

from .. import points
from ..config import Config
from ..recording import Recording
from ..trace import Recorder
from . import build

BUDGET = 3_000_000  # characters of activations: a notebook is saved with what it shows
HEIGHT = 760  # pixels


def frame(acts, model=None):
    """Return the page of a `Recorder` in a frame, which nothing in it can leave; None if there is no pass in it."""
    try:
        recording, unknown = recording_of(acts, model)
        page = build([recording], model, budget=BUDGET, unknown=unknown)
    except ValueError:
        return None  # the notebook shows it as any dict then
    # sandbox: scripts run, in an origin of their own. In an attribute only & and quotes have a meaning.
    return (
        f'<iframe sandbox="allow-scripts" title="The recorded pass, step by step" width="100%" height="{HEIGHT}" '
        f'frameborder="0" srcdoc="{html.escape(page)}"></iframe>'
    )


def recording_of(acts, model=None):
    """Return (the `Recording` of what a Recorder holds, the sizes that nobody knows).

    Of a batch it is the first prompt. Raises ValueError if the arrays are not those of one pass.
    """
    table = dict(_points(acts))
    batched = table and all(np.ndim(acts[name]) == len(p.axes.split()) + 1 for name, p in table.items())
    arrays = {name: np.asarray(acts[name])[0] if batched else np.asarray(acts[name]) for name in table}
    sizes = {}
    for name, x in arrays.items():
        letters = table[name].axes.split()
        if len(letters) != x.ndim:
            raise ValueError(f"{name} has shape {list(x.shape)}, expected the axes {letters}")
        for letter, size in zip(letters, x.shape, strict=True):
            if letter != "1" and sizes.setdefault(letter, size) != size:
                raise ValueError(f"{name} has {size} where others have {sizes[letter]} ({letter})")
    if "C" not in sizes or "T" not in sizes:
        raise ValueError("the Recorder holds no pass through the model")
    unknown = {"n_positions"} | ({"V"} - set(sizes)) | (set() if "ln_final.hook_scale" in arrays else {"n_layer"})
    config = _config(arrays, sizes) if model is None else model.config
    first = sizes.get("S", sizes["T"]) == sizes["T"]  # not after a cache, whose tokens were not recorded here
    about = {"prompt_ids": [int(i) for i in arrays.get("hook_tokens", []) if first]}
    if model is not None:
        about["model"] = {"parameters": sum(x.size for x in model.params.values())}
    return Recording(Recorder(arrays), config, about), unknown if model is None else ()


def _points(acts):
    for name in acts:
        if isinstance(name, str) and points.BLOCK_NUMBER.sub("blocks.{i}.", name) in points.TEMPLATES:
            yield name, points.get(name)


def _config(arrays, sizes):
    """Return a Config of the sizes that the arrays have; what they do not tell is never shown."""
    blocks = [points.block_of(name) for name in arrays]
    C = sizes["C"]
    H = sizes.get("H", 1)
    return Config(
        vocab_size=max(50257, sizes["T"]) if "V" not in sizes else sizes["V"],
        n_positions=max(1024, sizes.get("S", 0), sizes["T"]),
        n_embd=C,
        n_layer=1 + max((i for i in blocks if i is not None), default=0),
        n_head=H,
        n_inner=sizes.get("F"),
    )
