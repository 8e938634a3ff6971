"""A recorded pass in a file: every activation by name, and whose it was; read again without weights.

The file is a plain .npz, as `numpy.savez` writes it: one array for each trace point, and an array
``about.json`` with the text that makes them readable (config, prompt, provenance). Nothing in it is
ever run as code. `read` wants a valid recording; `read_arrays` takes any .npz, such as a dump from PyTorch.
"""

import json
import math
import os
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..model.config import Config
from ..model.trace import Array
from ..names import points
from ..weights.atomic import atomic_write
from .recorder import Acts, Recorder

ABOUT = "about.json"
FIELDS = {"prompt": str, "prompt_ids": list, "model": dict}  # what `about` must hold; there may be more
MODEL_FIELDS = {"origin": str, "dtype": str, "parameters": int, "decoding": str}
OPTIONAL = {"name": str, "kind": str, "sha256": str}  # of the model; None is as good as nothing
SURROGATE = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # the others are bytes that are no UTF-8, as Python reads them
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(eq=False)
class Recording:
    """One pass of a model over one prompt."""

    acts: Recorder  # what `generate(model, ids, 1, trace=acts)` announced, or some of it
    config: Config
    # "prompt", "prompt_ids", "model" (its provenance, as `Checkpoint.provenance` has it, and how it decodes)
    about: dict[str, Any]


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
    """
    acts, about = read_arrays(path)
    if about is None:
        raise ValueError(f"{path} has no {ABOUT}: it was not saved by `python -m nanogpt_np trace --save`")
    try:
        config = Config.from_dict(about.pop("config", None))
        _check_about(about, config)
        check_arrays(acts, config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return Recording(Recorder(acts=acts), config, about)


def read_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any] | None]:
    """Return (``{name: array}``, about) of any .npz; the arrays are read-only.

    about : what stands in ``about.json``, "config" among it, not checked further; None without such an array.

    Raises ValueError for a file that is no .npz, is cut short, or holds Python objects.
    """
    with open(path, "rb") as file:
        try:
            return _parse(zipfile.ZipFile(file))
        except MemoryError:
            raise
        except Exception as error:  # a forged file makes zipfile, zlib, NumPy and json raise a dozen kinds
            raise ValueError(f"{path} is not a valid .npz file: {str(error) or type(error).__name__}") from None


def _parse(archive: zipfile.ZipFile) -> tuple[dict[str, Array], dict[str, Any] | None]:
    members = archive.infolist()
    arrays = {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    if len(arrays) < len(members):
        raise ValueError("a name appears twice")
    about = arrays.pop(ABOUT, None)
    return arrays, None if about is None else _about(about)


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    """Return one array of an .npz. `numpy.load` would make room for whatever shape a header claims."""
    name = member.filename
    if not name.endswith(".npy"):
        raise ValueError(f"{name!r} in it is not an array")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name!r} in it is compressed in a way that numpy.savez never uses")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in HEADERS:
            raise ValueError(f"{name!r} in it is of version {version}, not (1, 0) or (2, 0)")
        shape, fortran, dtype = HEADERS[version](file)
        if dtype.hasobject:
            raise ValueError(f"{name!r} in it holds Python objects, which can run any code when opened")
        numbers = file.read()  # as many bytes as there are, whatever is claimed
    if len(numbers) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name!r} in it should be {dtype} of shape {shape}, but has {len(numbers):,} bytes")
    array = np.ndarray(shape, dtype, buffer=numbers, order="F" if fortran else "C")
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def _about(array: Array) -> dict[str, Any]:
    """Return the JSON object in the array ``about.json``."""
    if array.dtype.kind != "U" or array.ndim:
        raise ValueError(f"{ABOUT} in it is not a text but {array.dtype} of shape {array.shape}")
    about = json.loads(str(array))
    if not isinstance(about, dict):
        raise ValueError(f"{ABOUT} in it holds no JSON object")
    return about


def _check_about(about: dict[str, Any], config: Config) -> None:
    """Raise ValueError unless it is said whose numbers these are, in fields of the right kinds."""
    _check_fields(ABOUT, about, FIELDS)
    told = about["model"]
    _check_fields(f"model in {ABOUT}", told, MODEL_FIELDS)
    _check_fields(f"model in {ABOUT}", told, {k: kind for k, kind in OPTIONAL.items() if told.get(k) is not None})
    for text in (about["prompt"], *(value for value in told.values() if isinstance(value, str))):
        if SURROGATE.search(text):
            raise ValueError(f"{ABOUT} holds text that is not valid Unicode: {text!r:.60}")
    for i in about["prompt_ids"]:
        if type(i) is not int or not 0 <= i < config.vocab_size:
            raise ValueError(f"prompt_ids must be whole numbers from 0 to {config.vocab_size - 1}, not {i!r:.60}")


def check_arrays(acts: Acts, config: Config) -> None:
    """Raise ValueError unless these are trace points of one prompt, in the shapes and dtypes of one pass."""
    sizes: dict[str, int] = {}  # T and S, as the first arrays that have these axes say
    for name, array in acts.items():
        point = points.get(name, config)
        axes = point.axes.split()
        if array.ndim != len(axes):
            raise ValueError(
                f"{name} has shape {list(array.shape)}, expected [{', '.join(axes)}]: "
                "a recording is of one prompt, without a batch axis"
            )
        found = dict(zip(axes, array.shape, strict=True))
        T = sizes.setdefault("T", found["T"]) if "T" in found else 1
        S = sizes.setdefault("S", found["S"]) if "S" in found else T
        expected = point.shape(config, T, S)
        if array.shape != expected:
            raise ValueError(f"{name} has shape {list(array.shape)}, expected {list(expected)} ([{', '.join(axes)}])")
        if not 1 <= T <= S <= config.n_positions:
            raise ValueError(f"{name} has {T} of {S} tokens, but the context is of {config.n_positions}")
        _check_numbers(name, array, config)


def _check_fields(whose: str, fields: dict[str, Any], kinds: Mapping[str, type]) -> None:
    for name, kind in kinds.items():
        if type(fields.get(name)) is not kind:
            raise ValueError(f"{whose} must hold {name!r}, a {kind.__name__}, not {fields.get(name)!r:.60}")


def _check_numbers(name: str, array: Array, config: Config) -> None:
    if name not in points.WHOLE_NUMBERS:
        if array.dtype not in (np.float32, np.float64):
            raise ValueError(f"{name} is {array.dtype}, not float32 or float64")
        return
    if array.dtype.kind not in "iu":
        raise ValueError(f"{name} is {array.dtype}, not whole numbers")
    end = config.n_positions if name == "hook_positions" else config.vocab_size
    if array.min() < 0 or array.max() >= end:
        raise ValueError(f"{name} holds numbers from {array.min()} to {array.max()}, expected 0 to {end - 1}")
