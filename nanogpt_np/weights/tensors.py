"""Reading tensors from safetensors files: mapped if file and layout allow it, otherwise read as float32.

The file is an 8-byte length, a JSON header (name -> dtype, shape, byte range), then the numbers. The
`safetensors` library checks the header; its NumPy reader copies every tensor and refuses BF16, so
the bytes are read here. Nothing but safetensors is ever opened: a pickle can run code.
"""

import math
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..model.trace import Array
from ..names.wording import LONGEST_NAME, few, one_line
from ..text.files import LARGEST_JSON, is_regular, open_regular, parse_json, read_json
from .foreign import what_is, what_it_holds

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DECODERS: dict[str, Callable[[Array], Array]] = {  # little-endian bytes -> float values: exact in float32, but F64's
    "F32": lambda raw: raw.view("<f4"),
    "F16": lambda raw: raw.view("<f2"),
    "BF16": lambda raw: (raw.view("<u2").astype("<u4") << 16).view("<f4"),  # float32's upper half
    "F64": lambda raw: _rounded(raw.view("<f8")),
    "F8_E4M3": lambda raw: E4M3[raw],
}
Order = Literal["F", "C"]
BYTES_AT_ONCE = 1 << 19  # read and decoded by a thread: small enough to stay in the processor's cache
SHARD = re.compile(r"[^/\\\0\r\n:]{1,200}\.safetensors")  # a file in the same folder
OTHER_DTYPES = {  # what safetensors can hold beside, by the beginning of the name
    "BOOL": "true or false",
    "I": "whole numbers, as quantized weights are",
    "U": "whole numbers, as quantized weights are",
    "F8_E5M2": "8-bit floats of another kind",
    "F8": "8-bit floats of another kind",
    "F": "packed small floats",
    "C": "complex numbers",
}


@dataclass(frozen=True)
class Stored:
    """Where one tensor is: ``path[start : start + nbytes]``."""

    path: Path
    dtype: str  # as safetensors writes it: F32, F16, BF16 ...
    shape: tuple[int, ...]
    start: int  # bytes from the beginning of the file
    nbytes: int
    stored_transposed: bool = False  # `shape` is that of the array; the file holds its transpose

    def transposed(self) -> "Stored":
        """Return the same tensor as the transpose of what the file holds."""
        return replace(self, shape=self.shape[::-1], stored_transposed=not self.stored_transposed)


def stored_tensors(directory: str | os.PathLike[str]) -> dict[str, Stored]:
    """Return ``{name: Stored}`` for a directory with one safetensors file, or several and an index.

    Raises ValueError for a directory without a model, for other formats (with how to convert
    them), and for files whose header is truncated, forged or contradicts the index.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise ValueError(_not_a_directory(directory))
    for name, read in ((SINGLE, read_header), (INDEX, _read_shards)):
        if is_regular(directory / name):
            return read(directory / name)
        if (directory / name).exists():
            raise ValueError(f"{directory / name} is not a regular file")
    raise ValueError(what_it_holds(directory))


def read_header(path: str | os.PathLike[str]) -> dict[str, Stored]:
    """Return ``{name: Stored}`` of one file; ValueError if it is not a valid safetensors file."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        with open_regular(path) as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LARGEST_JSON:
                raise ValueError(f"its header claims {length:,} bytes; a GPT-2 needs at most {LARGEST_JSON:,}")
            with safe_open(path, framework="np"):  # checks lengths, offsets, overlaps, shapes
                pass
            header = parse_json(file.read(length))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is not a valid safetensors file: {one_line(error, 2 * LONGEST_NAME)}") from None
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
    begins at byte 14291) is read in chunks into new memory, so that the file is never in memory twice. On Windows,
    where a mapped file cannot be replaced, everything is read.
    Replace a mapped file by renaming, never by writing into it: truncating it crashes its readers.

    by_column : names of matrices to lay out by column (Fortran order), as no file does.
    """
    wrong = [f"{name} is {s.dtype}{_meaning(s.dtype)}" for name, s in stored.items() if s.dtype not in DECODERS]
    if wrong:
        raise ValueError(f"{_first_of(wrong)}: parameters must be {', '.join(DECODERS)}")
    arrays, maps, to_read, mapping = {}, {}, [], sys.platform != "win32"
    for name, s in sorted(stored.items(), key=lambda item: (item[1].path, item[1].start)):
        in_order = name not in by_column or s.stored_transposed
        if mapping and s.dtype == "F32" and s.start % 4 == 0 and in_order:
            if s.path not in maps:
                maps[s.path] = np.memmap(s.path, np.uint8, mode="r").view(np.ndarray)
            values = maps[s.path][s.start : s.start + s.nbytes].view("<f4")
            arrays[name] = values.reshape(s.shape[::-1]).T if s.stored_transposed else values.reshape(s.shape)
        else:
            to_read.append(name)
    wanted = [(name, stored[name], _order(stored[name], name in by_column)) for name in to_read]
    arrays |= zip(to_read, _read_all(wanted), strict=True)
    for array in arrays.values():
        array.flags.writeable = False
    return {name: arrays[name] for name in stored}


def _order(s: Stored, by_column: bool) -> Order:
    """Return the order in memory of the array that the file holds: its transpose has the other one."""
    return "F" if by_column and not s.stored_transposed else "C"


def _read_all(wanted: list[tuple[str, Stored, Order]]) -> list[Array]:
    """Read on every core: NumPy copies, and clears new memory, on one at a time."""
    try:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            return list(threads.map(_read, *zip(*wanted, strict=True))) if wanted else []
    except RuntimeError:  # no thread can be started: a limit on processes, or a browser
        return [_read(*one) for one in wanted]


def _read(name: str, s: Stored, order: Order) -> Array:
    values = np.empty(s.shape[::-1] if s.stored_transposed else s.shape, np.float32, order)
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
            try:
                some[...] = DECODERS[s.dtype](raw).reshape(some.shape)
            except OverflowError as error:
                raise ValueError(f"{s.path}: {one_line(name, LONGEST_NAME)} is {s.dtype} and holds {error}") from None
    return values.T if s.stored_transposed else values


def _rounded(values: Array) -> Array:
    """Round float64 to float32; OverflowError for the first number that float32 cannot hold."""
    with np.errstate(all="ignore"):
        rounded = values.astype("<f4")
    lost = np.isinf(rounded) & np.isfinite(values)
    if lost.any():
        raise OverflowError(f"{values[lost.argmax()]:.6g}, too large for float32")
    return rounded


def _e4m3(byte: int) -> float:
    """Return the number that a byte of F8_E4M3 stands for: sign, 4 bits of exponent, 3 of mantissa, no infinity."""
    sign, exponent, mantissa = (-1.0 if byte >> 7 else 1.0), byte >> 3 & 15, byte & 7
    if (exponent, mantissa) == (15, 7):
        return math.nan
    return sign * (math.ldexp(8 + mantissa, exponent - 10) if exponent else math.ldexp(mantissa, -9))


E4M3: Array = np.array([_e4m3(byte) for byte in range(256)], np.float32)


def _meaning(dtype: str) -> str:
    return next((f" ({what})" for start, what in OTHER_DTYPES.items() if dtype.startswith(start)), "")


def _read_shards(index: Path) -> dict[str, Stored]:
    directory = index.parent
    claimed: dict[str, set[str]] = {}  # by shard
    try:
        for name, shard in read_json(index)["weight_map"].items():
            claimed.setdefault(shard, set()).add(name)
        shards = sorted(claimed)
        plain = all(SHARD.fullmatch(shard) for shard in shards)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is not a valid index: {type(error).__name__}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{index} is not a valid index: {error}") from None
    if not shards or not plain:
        raise ValueError(f"{index} must name safetensors files in its own folder, not {few(shards)}")
    found: dict[str, Stored] = {}
    for shard in shards:
        if not is_regular(directory / shard):
            raise ValueError(f"{index} names {shard}, which is not there: was the download cut short?")
        tensors = read_header(directory / shard)
        wrong = sorted(claimed[shard] ^ tensors.keys())
        if wrong:
            raise ValueError(f"{index} and {shard} disagree about {_first_of(wrong)}")
        found.update(tensors)
    return found


def _not_a_directory(path: Path) -> str:
    if not path.exists():
        return f"{path} does not exist"
    if what := what_is(path):
        return f"{path} is {what}"
    return f"{path} is a file: give the directory that holds config.json and {SINGLE}"


def _first_of(items: Sequence[str]) -> str:
    return one_line(items[0], LONGEST_NAME) + (f" (and {len(items) - 1} more)" if len(items) > 1 else "")
