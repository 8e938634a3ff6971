"""Reading tensors from safetensors files: mapped if file and layout allow it, otherwise read as float32.

The file is an 8-byte length, a JSON header (name -> dtype, shape, byte range), then the numbers. The
`safetensors` library checks the header; its NumPy reader copies every tensor and refuses BF16, so
the bytes are read here. Nothing but safetensors is ever opened: a pickle can run code.
"""

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..model.trace import Array

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DECODERS: dict[str, Callable[[Array], Array]] = {  # little-endian bytes -> float values, all exact in float32
    "F32": lambda raw: raw.view("<f4"),
    "F16": lambda raw: raw.view("<f2"),
    "BF16": lambda raw: (raw.view("<u2").astype("<u4") << 16).view("<f4"),  # float32's upper half
}
BYTES_AT_ONCE = 1 << 19  # read and decoded by a thread: small enough to stay in the processor's cache
CONVERT = (
    'convert it with transformers: python -c "from transformers import AutoModelForCausalLM as A; '
    "A.from_pretrained('DIR').save_pretrained('NEW_DIR')\""
)
FOREIGN = {  # other files in a model's folder, and what they are
    "pytorch_model.bin": "a pickle, which can run any code when opened",
    "*.bin": "a pickle, which can run any code when opened",
    "*.pt": "a pickle, which can run any code when opened",
    "*.pth": "a pickle, which can run any code when opened",
    "*.h5": "a TensorFlow file",
    "*.ckpt*": "a TensorFlow or Lightning checkpoint",
    "*.msgpack": "a Flax file",
    "*.gguf": "a GGUF file",
    "*.onnx": "an ONNX file",
}


@dataclass(frozen=True)
class Stored:
    """Where one tensor is: ``path[start : start + nbytes]``."""

    path: Path
    dtype: str  # as safetensors writes it: F32, F16, BF16 ...
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file
    nbytes: int


def stored_tensors(directory: str | os.PathLike[str]) -> dict[str, Stored]:
    """Return ``{name: Stored}`` for a directory with one safetensors file, or several and an index.

    Raises ValueError for a directory without a model, for other formats (with how to convert
    them), and for files whose header is truncated, forged or contradicts the index.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ValueError(_not_a_directory(directory))
    if (directory / SINGLE).is_file():
        return read_header(directory / SINGLE)
    if (directory / INDEX).is_file():
        return _read_shards(directory)
    for pattern, what in FOREIGN.items():
        for found in sorted(directory.glob(pattern)):
            raise ValueError(f"{found} is {what}: only safetensors is read here; {CONVERT}")
    raise ValueError(f"{directory} holds no model: there is no {SINGLE} and no {INDEX}")


def read_header(path: str | os.PathLike[str]) -> dict[str, Stored]:
    """Return ``{name: Stored}`` of one file; ValueError if it is not a valid safetensors file."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        with safe_open(path, framework="np"):  # checks lengths, offsets, overlaps, shapes
            pass
    except SafetensorError as error:
        raise ValueError(f"{path} is not a valid safetensors file: {error}") from None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(length, path.stat().st_size)))
    header.pop("__metadata__", None)
    return {
        name: Stored(
            path,
            e["dtype"],
            tuple(e["shape"]),
            8 + length + e["data_offsets"][0],
            e["data_offsets"][1] - e["data_offsets"][0],
        )
        for name, e in header.items()
    }


def read_tensors(stored: Mapping[str, Stored], by_column: Collection[str] = ()) -> dict[str, Array]:
    """Read ``{name: Stored}`` as ``{name: float32 array}``, read-only.

    An F32 tensor that begins at a multiple of 4 bytes is mapped, unless it is one of `by_column`: no copy,
    and the pages are read when first used. Everything else (F16, BF16, and the published gpt2 file, whose data
    begins at byte 14291) is read in chunks into new memory, so that the file is never in memory twice.
    Replace a mapped file by renaming, never by writing into it: truncating it crashes its readers.

    by_column : names of matrices to lay out by column (Fortran order), as no file does.
    """
    wrong = [f"{name} is {s.dtype}" for name, s in stored.items() if s.dtype not in DECODERS]
    if wrong:
        raise ValueError(f"{_first_of(wrong)}: parameters must be {', '.join(DECODERS)}")
    arrays, maps, to_read = {}, {}, []
    for name, s in sorted(stored.items(), key=lambda item: (item[1].path, item[1].start)):
        if s.dtype == "F32" and s.start % 4 == 0 and name not in by_column:
            if s.path not in maps:
                maps[s.path] = np.memmap(s.path, np.uint8, mode="r").view(np.ndarray)
            arrays[name] = maps[s.path][s.start : s.start + s.nbytes].view("<f4").reshape(s.shape)
        else:
            to_read.append(name)
    orders: list[Literal["F", "C"]] = ["F" if name in by_column else "C" for name in to_read]
    with ThreadPoolExecutor(os.cpu_count()) as threads:  # NumPy copies, and clears new memory, on one core at a time
        arrays |= zip(to_read, threads.map(_read, [stored[name] for name in to_read], orders), strict=True)
    for array in arrays.values():
        array.flags.writeable = False
    return {name: arrays[name] for name in stored}


def _read(s: Stored, order: Literal["F", "C"]) -> Array:
    values = np.empty(s.shape, np.float32, order)
    rows = np.atleast_1d(values) if values.size else values[:0]
    step = max(1, BYTES_AT_ONCE * len(rows) // max(1, s.nbytes))  # rows in a chunk
    with s.path.open("rb") as file:
        file.seek(s.start)
        for begin in range(0, len(rows), step):
            some = rows[begin : begin + step]
            nbytes = some.size * s.nbytes // values.size
            raw = np.frombuffer(file.read(nbytes), np.uint8)
            if raw.size != nbytes:
                raise ValueError(f"{s.path} ended before its tensors did: was it changed while being read?")
            some[...] = DECODERS[s.dtype](raw).reshape(some.shape)
    return values


def _read_shards(directory: Path) -> dict[str, Stored]:
    index = directory / INDEX
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(weight_map.values()))
        plain = all(Path(shard).name == shard and shard.endswith(".safetensors") for shard in shards)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is not a valid index: {type(error).__name__}: {error}") from None
    if not shards or not plain:
        raise ValueError(f"{index} must name safetensors files in its own folder, not {shards[:3]}")
    found: dict[str, Stored] = {}
    for shard in shards:
        if not (directory / shard).is_file():
            raise ValueError(f"{index} names {shard}, which is not there: was the download cut short?")
        tensors = read_header(directory / shard)
        claimed = {name for name, file in weight_map.items() if file == shard}
        wrong = sorted(claimed ^ tensors.keys())
        if wrong:
            raise ValueError(f"{index} and {shard} disagree about {_first_of(wrong)}")
        found.update(tensors)
    return found


def _not_a_directory(path: Path) -> str:
    if not path.exists():
        return f"{path} does not exist"
    for pattern, what in FOREIGN.items():
        if path.match(pattern):
            return f"{path} is {what}: only safetensors is read here; {CONVERT}"
    return f"{path} is a file: give the directory that holds config.json and {SINGLE}"


def _first_of(items: Sequence[str]) -> str:
    return items[0] + (f" (and {len(items) - 1} more)" if len(items) > 1 else "")
