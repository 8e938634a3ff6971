"""The page: a whole pass as one HTML file that opens from disk and can be walked through, step by step.

`build` puts it together from `page.html`, `page.css`, the scripts of `js/` in the order of `SCRIPTS`, and the numbers
(`contents.py`, `packing.py`). It asks the network for nothing, and its Content-Security-Policy enforces that: only the
one script and the one style whose hashes it names are run, and text stays text.
`python -m nanogpt_np trace PROMPT --html FILE` is the command; a `Recorder` in a notebook shows the same page.
"""

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Collection, Sequence
from importlib import resources
from pathlib import Path

from ..generate import generate
from ..interpret.recorder import Recorder
from ..interpret.recording import Recording
from ..model.gpt2 import GPT2
from ..model.trace import Array
from ..names import points
from ..text.display import pieces
from ..weights.atomic import atomic_write
from .contents import BUDGET, collect

SCRIPTS = (
    *("data", "tables", "colours", "heat", "arithmetic", "journey", "step", "weights", "attention", "matrix", "arcs"),
    *("answer", "grid", "why", "generation", "map", "stream", "start", "address", "top", "help", "search"),
    *("searchbox", "main"),
)
POLICY = (
    "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; img-src data:; "
    "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)


def build(
    recordings: Sequence[Recording],
    model: GPT2 | None = None,
    *,
    watch: int | None = None,
    budget: int | Sequence[int] = BUDGET,
    unknown: Collection[str] = (),
) -> str:
    """Return the page of one or several passes as text.

    recordings : a list of `recording.Recording`, as `passes` gives it, or of the one that `recording.read` returns.
    model : the model that was recorded, for its weights and for the split of a logit into its parts.
    watch : the id of a token to explain beside the likeliest ones.
    budget : how many characters of numbers it may hold; what is more is rounded, then cut, and marked so.
        Of several, the first that leaves a quarter of the columns is taken, or else the last.
    unknown : sizes that nobody knows, which are then shown as letters: "V", "n_positions", "n_layer".

    Raises ValueError for passes that do not fit however they are cut.
    """
    held = collect(recordings, model, watch=watch, budget=budget, unknown=unknown)
    # Nothing in a <script> ends it but "</script", and <!-- changes how it is read: no < is left in the text.
    data = json.dumps(held, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    style, script = _file("page.css"), '"use strict";\n(() => {\n' + "\n".join(map(_script, SCRIPTS)) + "})();\n"
    prompt = recordings[0].about.get("prompt") or "a recorded pass"
    parts = {
        "policy": POLICY.format(script=_digest(script), style=_digest(style)),
        "title": html.escape("".join(text for _, text in pieces(prompt.encode("utf-8", "surrogateescape")))),
        "style": style,
        "data": data,
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda name: parts[name[1]], _file("page.html"))  # once: texts may hold braces


def passes(recording: Recording, model: GPT2 | None, n: int) -> list[Recording]:
    """Return the recorded pass of a prompt and those after it, until `n` tokens are found or the context is full.

    Greedy and with the KV cache, as the command does. Raises ValueError for n below 1, and without the model.
    """
    if n < 1:
        raise ValueError(f"a page is of 1 token or more, not {n}")
    if model is None:
        raise ValueError(f"a page of {n} tokens needs the model: the recording is of one pass")
    found: list[Recording] = []

    def trace(name: str, x: Array) -> Array:
        if name == points.BEGINS:
            found.append(Recording(Recorder(model), recording.config, recording.about, recording.tokenizer))
        return found[-1].acts(name, x)

    ids = list(recording.about["prompt_ids"])
    for i in generate(model, ids, n, trace=trace):
        ids.append(i)
    for one in found:  # what was read before this pass's tokens, for their names
        one.about = {**recording.about, "prompt_ids": ids[: int(one.acts["hook_positions"][-1]) + 1]}
    return found


def write(
    path: str | os.PathLike[str], recording: Recording, model: GPT2 | None = None, n: int = 1, watch: int | None = None
) -> int:
    """Write the page of a recorded pass, and of the n - 1 after it, to a file; return how many bytes it has.

    Raises ValueError for n below 1, and for more than 1 without the model.
    """
    recordings = [recording] if n == 1 else passes(recording, model, n)
    text = build(recordings, model, watch=watch)
    with atomic_write(Path(path)) as partial:
        return partial.write_bytes(text.encode("utf-8"))


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _script(name: str) -> str:
    return f"// ---- {name}.js ----\n{_file(f'js/{name}.js')}"


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
