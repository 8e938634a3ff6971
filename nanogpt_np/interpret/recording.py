"""A recorded pass in a file: every activation by name, and whose it was; read again without weights.

The file is a plain .npz, as `numpy.savez` writes it: one array for each trace point, and an array
``about.json`` with the text that makes them readable (config, prompt, provenance). Nothing in it is
ever run as code. `read` wants a valid recording; `read_arrays` takes any .npz, such as a dump from PyTorch. How
much a file may hold, and in which order that is found out: `npz.py`.
"""

import functools
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..model.config import Config
from ..model.trace import Array
from ..names import points
from ..names.wording import one_line
from ..text.files import open_regular
from ..text.tokenizer import NoTokenizer, Tokenizer
from ..weights.atomic import atomic_write
from .npz import SHOWN, TEXT, Header, Npz, naming
from .recorder import Acts, Recorder

ABOUT = "about.json"
FIELDS = {"prompt": str, "prompt_ids": list, "model": dict}  # what `about` must hold; there may be more
MODEL_FIELDS = {"origin": str, "dtype": str, "parameters": int, "decoding": str}
TOKENIZER_FIELDS = {"name": str, "size": int}
OPTIONAL = {"name": str, "kind": str, "sha256": str, "tokenizer": dict}  # of the model; None is as good as nothing
SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # the others are bytes that are no UTF-8, as Python reads them
MOST_BLOCKS = 1_000  # whoever shows a pass makes tables of every block that its config claims
LONGEST = 5_000  # characters of what is said of the model; its origin may be a path


@dataclass(eq=False, repr=False)
class Recording:
    """One pass of a model over one prompt."""

    acts: Recorder  # what `generate(model, ids, 1, trace=acts)` announced, or some of it
    config: Config
    # "prompt", "prompt_ids", "model" (its provenance, as `Checkpoint.provenance` has it, and how it decodes)
    about: dict[str, Any]
    own_tokenizer: Tokenizer | None = None  # the model's, where it is known not to be GPT-2's, or was given

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the prompt was read with; of one that the file only names, a `NoTokenizer`."""
        if self.own_tokenizer is not None:
            return self.own_tokenizer
        return NoTokenizer() if self.about.get("model", {}).get("tokenizer") else _gpt2s()

    def __repr__(self) -> str:
        return f"Recording of {one_line(repr(self.about.get('prompt')), 80)}\n{self.acts!r}"


_gpt2s = functools.cache(Tokenizer)  # its table takes a tenth of a second to read


def recorded(acts: Acts, name: str, config: Config) -> Array:
    """Return ``acts[name]``, or raise ValueError unless it is there and of one prompt through a model of `config`."""
    point = points.get(name, config)
    if name not in acts:
        raise ValueError(f"the recording has no {name}: trace the whole pass, with a Recorder that keeps every point")
    x = np.asarray(acts[name])
    letters = point.axes.split()
    free = [a in "TS" for a in letters]  # lengths of the run, not of the model
    expected = point.shape(config, T=1)
    if x.ndim != len(letters) or any(
        a != b for a, b, any_size in zip(x.shape, expected, free, strict=True) if not any_size
    ):
        wanted = ", ".join(
            a if any_size else str(size) for a, size, any_size in zip(letters, expected, free, strict=True)
        )
        raise ValueError(
            f"{name} has shape {list(x.shape)}, expected [{wanted}]: record one prompt, not a batch, with this model"
        )
    return x


def save(path: str | os.PathLike[str], recording: Recording) -> None:
    """Write a recording to a .npz file; nothing half-written ever stands under the file's own name.

    The name is taken as it is: no ".npz" is added. Raises ValueError for what `read` would refuse.
    """
    acts = {name: np.asarray(array) for name, array in recording.acts.items()}
    try:
        _check_about(recording.about, recording.config)
        check_arrays(acts, recording.config)
        text = json.dumps({**recording.about, "config": asdict(recording.config)}, allow_nan=False)
        if len(text) > TEXT:
            raise ValueError(f"{ABOUT} would have {len(text):,} characters, more than {TEXT:,}")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not written: {error}") from None
    # A file, since savez changes names. Not compressed: of gpt2's 5.2 MB for 5 tokens that would save
    # 8 %, and take seven times as long.
    with atomic_write(Path(path)) as partial, partial.open("wb") as file:
        arrays: dict[str, Any] = {**acts, ABOUT: np.array(text)}
        np.savez(file, **arrays)


def read(path: str | os.PathLike[str]) -> Recording:
    """Return the `Recording` in a file; its arrays are read-only.

    Raises ValueError, with the file and what is wrong with it, unless every array is a trace point of the
    config that stands in the file, and all have the shapes of one pass over one prompt, without a batch axis.
    All but the numbers is checked before any array is read.
    """
    with open_regular(path) as file:
        with naming(path):
            npz = Npz(file)
            about = npz.text(ABOUT) if ABOUT in npz.headers else None
            names = [name for name in npz.headers if name != ABOUT]
        if about is None:
            raise ValueError(f"{path} has no {ABOUT}: it was not saved by `python -m nanogpt_np trace --save`")
        try:
            config = Config.from_dict(about.pop("config", None))
            _check_about(about, config)
            check = _Shapes(config)
            for name in names:
                check(name, npz.headers[name])
        except ValueError as error:
            raise ValueError(f"{path}: {one_line(error)[:SHOWN]}") from None
        with naming(path):
            acts = {name: npz.array(name) for name in names}
    try:
        check_arrays(acts, config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return Recording(Recorder(acts=acts), config, about)


def read_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any] | None]:
    """Return (``{name: array}``, about) of any .npz; the arrays are read-only.

    about : what stands in ``about.json``, "config" among it, not checked further; None without such an array.

    Raises ValueError for what is not a regular file or not an .npz, is cut short, holds Python objects, or unpacks
    to more than `npz.py` allows: a compressed file may hold 2 million numbers, or as many as it has bytes.
    """
    with open_regular(path) as file, naming(path):
        npz = Npz(file)
        about = npz.text(ABOUT) if ABOUT in npz.headers else None
        return {name: npz.array(name) for name in npz.headers if name != ABOUT}, about


def _check_about(about: dict[str, Any], config: Config) -> None:
    """Raise ValueError unless it is said whose numbers these are, in fields of the right kinds."""
    _check_fields(ABOUT, about, FIELDS)
    told = about["model"]
    _check_fields(f"model in {ABOUT}", told, MODEL_FIELDS)
    _check_fields(f"model in {ABOUT}", told, {k: kind for k, kind in OPTIONAL.items() if told.get(k) is not None})
    if (tokenizer := told.get("tokenizer")) is not None:
        _check_fields(f"tokenizer in {ABOUT}", tokenizer, TOKENIZER_FIELDS)
        name = tokenizer["name"]
        if not 0 <= tokenizer["size"] < 2**31 or len(name) > LONGEST or SURROGATE.search(name):
            raise ValueError(f"tokenizer in {ABOUT} is {tokenizer!r:.60}")
    if not 0 <= told["parameters"] < 2**63:
        raise ValueError(f"model in {ABOUT} has {told['parameters']!s:.60} parameters")
    for text in (about["prompt"], *(value for value in told.values() if isinstance(value, str))):
        if text is not about["prompt"] and len(text) > LONGEST:
            raise ValueError(f"model in {ABOUT} holds a text of {len(text):,} characters, more than {LONGEST:,}")
        if SURROGATE.search(text):
            raise ValueError(f"{ABOUT} holds text that is not valid Unicode: {text!r:.60}")
    if len(about["prompt_ids"]) > config.n_positions:
        raise ValueError(f"prompt_ids has {len(about['prompt_ids'])} ids, but the context is of {config.n_positions}")
    for i in about["prompt_ids"]:
        if type(i) is not int or not 0 <= i < config.vocab_size:
            raise ValueError(f"prompt_ids must be whole numbers from 0 to {config.vocab_size - 1}, not {i!r:.60}")


def check_arrays(acts: Acts, config: Config) -> None:
    """Raise ValueError unless these are trace points of one prompt, in the shapes and dtypes of one pass."""
    check = _Shapes(config)
    for name, array in acts.items():
        check(name, array)
        end = config.n_positions if name == "hook_positions" else config.vocab_size
        if name in points.WHOLE_NUMBERS and (array.min() < 0 or array.max() >= end):
            raise ValueError(f"{name} holds numbers from {array.min()} to {array.max()}, expected 0 to {end - 1}")


class _Shapes:
    """Check arrays one by one, or their headers before their numbers are read; `sizes` says what T and S must be."""

    def __init__(self, config: Config):
        if config.n_layer > MOST_BLOCKS:
            raise ValueError(f"n_layer is {config.n_layer}, and a recording is of at most {MOST_BLOCKS:,} blocks")
        self.config, self.sizes = config, dict[str, int]()  # T and S, as the first arrays that have these axes say

    def __call__(self, name: str, array: Array | Header) -> None:
        config, point = self.config, points.get(name, self.config)
        axes = point.axes.split()
        if array.ndim != len(axes):
            raise ValueError(
                f"{name} has shape {list(array.shape)!s:.100}, expected [{', '.join(axes)}]: "
                "a recording is of one prompt, without a batch axis"
            )
        found = dict(zip(axes, array.shape, strict=True))
        T = self.sizes.setdefault("T", found["T"]) if "T" in found else 1
        S = self.sizes.setdefault("S", found["S"]) if "S" in found else T
        expected = point.shape(config, T, S)
        if array.shape != expected:
            raise ValueError(f"{name} has shape {list(array.shape)}, expected {list(expected)} ([{', '.join(axes)}])")
        if not 1 <= T <= S <= config.n_positions:
            raise ValueError(f"{name} has {T} of {S} tokens, but the context is of {config.n_positions}")
        if name in points.WHOLE_NUMBERS:
            if array.dtype.kind not in "iu":
                raise ValueError(f"{name} is {array.dtype}, not whole numbers")
        elif array.dtype not in (np.float32, np.float64):
            raise ValueError(f"{name} is {array.dtype}, not float32 or float64")


def _check_fields(whose: str, fields: dict[str, Any], kinds: Mapping[str, type]) -> None:
    for name, kind in kinds.items():
        if type(fields.get(name)) is not kind:
            raise ValueError(f"{whose} must hold {name!r}, a {kind.__name__}, not {fields.get(name)!r:.60}")
