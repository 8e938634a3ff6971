"""The page in a notebook: how a `Recorder` is shown.

A Recorder holds arrays. Their shapes give most sizes of the model, but never its number of positions, and a partial
pass may lack others too. A Recorder that is made with the model knows them all, and the weights.
"""

import html
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from ..interpret import recorder
from ..interpret.recording import Recording
from ..interpret.stats import lengths
from ..model.config import Config
from ..model.gpt2 import GPT2
from ..model.trace import Array
from ..names import points
from ..names.trace_point import Point
from ..weights.companions import tokenizer_of
from .document import build

# Characters of numbers: a notebook is saved with its output, and of the bundled model that stays below 1 MB. Where
# that would leave too little to see, a page takes more.
BUDGETS = (600_000, 1_500_000, 3_000_000)
HEIGHT = 760  # pixels


class NoPass(ValueError):
    """The Recorder holds no pass through the model."""


def frame(acts: recorder.Acts, model: GPT2 | None = None) -> str | None:
    """Return the page of a `Recorder` in a sandboxed frame; None if there is no pass in it.

    If the pass cannot be shown, it is a paragraph that says why.
    """
    try:
        recording, unknown = recording_of(acts, model)
        page = build([recording], model, budget=BUDGETS, unknown=unknown)
    except NoPass:
        return None  # the notebook shows it as a dict
    except ValueError as error:
        return f"<p>This Recorder has no page: {html.escape(str(error))}</p>"
    # sandbox: scripts run, in their own origin. In single quotes only these two characters need escaping, and a
    # page has far fewer of them than double quotes.
    text = page.replace("&", "&amp;").replace("'", "&#39;")
    return (
        f'<iframe sandbox="allow-scripts" title="The recorded pass, step by step" width="100%" height="{HEIGHT}" '
        f"frameborder=\"0\" srcdoc='{text}'></iframe>"
    )


def recording_of(acts: recorder.Acts, model: GPT2 | None = None) -> tuple[Recording, Collection[str]]:
    """Return (the `Recording` of what a Recorder holds, the unknown sizes).

    Takes the first prompt of a batch. Raises NoPass if there is none, ValueError if the arrays are not of one pass.
    """
    table = dict(_points(acts))
    batch = _batch(acts, table)
    arrays = {name: np.asarray(acts[name])[0] if batch else np.asarray(acts[name]) for name in table}
    sizes = _sizes(arrays, table)
    config = _config(arrays, sizes) if model is None else model.config
    unknown = {"n_positions"} | ({"V", "F"} - set(sizes)) | (set() if "H" in sizes else {"H", "D"})
    unknown |= set() if "ln_final.hook_scale" in arrays else {"n_layer"}
    T, S = lengths(arrays)  # S > T after a cache: its tokens were not recorded
    about: dict[str, Any] = {"prompt_ids": [int(i) for i in arrays.get("hook_tokens", []) if S == T], "batch": batch}
    if model is not None:
        about["model"] = {"parameters": sum(x.size for x in model.params.values())}
    recording = Recording(recorder.Recorder(model, arrays), config, about, tokenizer_of(model))
    return recording, unknown if model is None else ()


def _batch(acts: recorder.Acts, table: dict[str, Point]) -> int | None:
    """Return the batch size of the arrays, or None without a batch axis."""
    if not table or any(np.ndim(acts[name]) != len(point.axes.split()) + 1 for name, point in table.items()):
        return None
    return len(acts[next(iter(table))])


def _sizes(arrays: dict[str, Array], table: dict[str, Point]) -> dict[str, int]:
    """Return ``{letter: size}`` of the axes of all arrays."""
    sizes: dict[str, int] = {}
    wrong: list[str] = []
    for name, x in arrays.items():
        letters = table[name].axes.split()
        if len(letters) != x.ndim:
            wrong.append(f"{name} has shape {list(x.shape)}, expected the axes {letters}")
            continue
        for letter, size in zip(letters, x.shape, strict=True):
            if letter != "1" and sizes.setdefault(letter, size) != size:
                wrong.append(f"{name} has {size} where others have {sizes[letter]} ({letter})")
    if "C" not in sizes or "T" not in sizes:
        raise NoPass("the Recorder holds no pass through the model")
    if wrong:
        raise ValueError(wrong[0])
    return sizes


def _points(acts: recorder.Acts) -> Iterator[tuple[str, Point]]:
    for name in acts:
        if points.is_point(name):
            yield name, points.get(name)


def _config(arrays: dict[str, Array], sizes: dict[str, int]) -> Config:
    """Return a Config of the sizes that the arrays have; its other sizes are never shown."""
    blocks = [points.block_of(name) for name in arrays]
    C = sizes["C"]
    H = sizes.get("H", 1)
    return Config(
        vocab_size=sizes.get("V", max(50257, 1 + int(np.max(arrays.get("hook_tokens", 0), initial=0)))),
        n_positions=max(1024, *lengths(arrays)),
        n_embd=C,
        n_layer=1 + max((i for i in blocks if i is not None), default=0),
        n_head=H,
        n_inner=sizes.get("F"),
    )
