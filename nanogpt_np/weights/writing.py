"""Writing a safetensors file: a length, a JSON header, then the numbers; read back before it is believed.

The bytes are those that the `safetensors` library writes. The library itself writes to a temporary file with a random
name, which a killed process would leave behind. Read next: `atomic.py`, which replaces the old file with the new.
"""

import errno
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..model.trace import Array

DTYPES = {"float32": "F32", "float16": "F16"}
READ_AT_ONCE = 1 << 22  # bytes


def encoded(tensors: Mapping[str, Array], metadata: Mapping[str, str]) -> list[Array]:
    """Return the bytes of a safetensors file: its header, then a view of each array, by name; none is copied."""
    arrays = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    entries, end = {}, 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        entries[name] = {"dtype": DTYPES[array.dtype.name], "shape": list(array.shape), "data_offsets": [begin, end]}
    header = json.dumps({"__metadata__": dict(metadata), **entries}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # so that the arrays are aligned
    start = np.frombuffer(len(header).to_bytes(8, "little") + header, np.uint8)
    little = (array.astype(array.dtype.newbyteorder("<"), copy=False) for array in arrays.values())
    return [start, *(array.reshape(-1).view(np.uint8) for array in little)]


def write_checked(path: Path, chunks: Sequence[Array]) -> None:
    """Write `chunks`, arrays of bytes, to `path`, and read them back; OSError if the disk returns other bytes.

    The contents are on the disk when this returns, so a power failure cannot leave half of them under a final name.
    """
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk.data)
        file.flush()
        os.fsync(file.fileno())
    with path.open("rb") as file:
        for chunk in chunks:
            for begin in range(0, chunk.size, READ_AT_ONCE):
                wanted = chunk[begin : begin + READ_AT_ONCE]
                if not np.array_equal(np.frombuffer(file.read(wanted.size), np.uint8), wanted):
                    raise OSError(errno.EIO, "what was read back differs from what was written")
