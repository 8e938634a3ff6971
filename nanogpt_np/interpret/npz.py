"""Any .npz file, read without trust: first its sizes, from the zip's directory and the .npy headers, then its numbers.

`numpy.load` allocates what a header claims, and a zip of 1 MB can unpack to gigabytes. Here a file that is refused
costs a few megabytes at any size. The bounds: `ARRAYS` arrays; as many numbers as the file has bytes,
or `NUMBERS` if that is more; `TEXT` characters of JSON. A file that `numpy.savez` wrote has more bytes than numbers,
since it is not compressed, so only the first bound can refuse it. Read next: `recording.py`.
"""

import contextlib
import io
import json
import math
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ..model.trace import Array
from ..names.wording import one_line

ARRAYS = 10_000  # the deepest GPT-2 has 1,200 trace points
NUMBERS = 2_000_000  # in all arrays of a small file; what has 8 bytes or less is one number
TEXT = 4_000_000  # characters of JSON
NESTED = 50  # lists and objects in one another in JSON
NAME = 1_000  # characters of an array's name
DIRECTORY = 2_000_000  # bytes of a zip's directory: zipfile makes objects of all of it at once
HEADER = 16_384  # bytes of a member in which its header ends; NumPy reads headers of up to 10,000
CHUNK = 1_000_000  # bytes unpacked at a time
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
PLAIN = "biufcmMSUV"  # kinds of dtype whose bytes are the data; not O and T, which hold Python objects
SHOWN = 300  # characters of an error from zipfile, NumPy or json


@dataclass(frozen=True)
class Header:
    """The name, shape and type of an array, before any of its numbers are read."""

    name: str
    member: zipfile.ZipInfo
    begins: int  # the byte of the member at which its numbers begin
    shape: tuple[int, ...]
    stored: "np.dtype[Any]"
    fortran: bool

    @property
    def dtype(self) -> "np.dtype[Any]":
        """Its type as `Npz.array` returns it: in the byte order of this machine."""
        return self.stored.newbyteorder("=")

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def bytes(self) -> int:
        """How many bytes its numbers have."""
        return math.prod(self.shape) * self.stored.itemsize

    @property
    def numbers(self) -> int:
        """How many numbers it counts as; an axis of no length, or a type of no bytes, must not hide the others."""
        count = math.prod(size or 1 for size in self.shape)
        return max(count, count * self.stored.itemsize // 8)


class Npz:
    """The arrays of an open .npz file: `headers` by name, then `array` for each, or `text` for one of JSON.

    For a file that is not valid or too large it raises ValueError, or what zipfile, zlib and NumPy raise: use it inside
    `naming`. So do `array` and `text`, for numbers that do not match their header.
    """

    def __init__(self, file: BinaryIO):
        size = file.seek(0, os.SEEK_END)
        parts: Any = _InParts(file, size)
        self._archive = zipfile.ZipFile(parts)
        members = self._archive.infolist()
        if len(members) > ARRAYS:
            raise ValueError(f"it holds {len(members):,} arrays, more than {ARRAYS:,}")
        self.headers: dict[str, Header] = {}
        for member in members:
            header = self._header(member)
            if header.name in self.headers:
                raise ValueError(f"a name appears twice: {header.name!r:.100}")
            self.headers[header.name] = header
        count = sum(header.numbers for header in self.headers.values())
        if count > max(NUMBERS, size):
            raise ValueError(
                f"its {size:,} bytes unpack to more than {max(NUMBERS, size):,} numbers; if you trust it, "
                "read it with numpy.load and write it with numpy.savez, which does not compress"
            )

    def array(self, name: str) -> Array:
        """Return an array, read-only."""
        header = self.headers[name]
        raw = np.empty(header.bytes, np.uint8)
        into = raw.data
        with self._archive.open(header.member) as file:
            file.read(header.begins)
            while len(into):
                part = file.read(min(CHUNK, len(into)))  # in parts: zlib may unpack to more than the header says
                if not part:
                    raise _wrong_size(header, header.bytes - len(into))
                into[: len(part)] = part
                into = into[len(part) :]
        x: Array = np.ndarray(header.shape, header.stored, buffer=raw, order="F" if header.fortran else "C")
        if not header.stored.isnative:
            x = x.astype(header.dtype)
        x.flags.writeable = False
        return x

    def text(self, name: str) -> dict[str, Any]:
        """Return the JSON object that an array of one text holds; ValueError if it is not one, too long or too deep."""
        header = self.headers[name]
        if header.dtype.kind != "U" or header.ndim:
            raise ValueError(f"{name} in it is not a text but {header.dtype} of shape {header.shape}")
        if header.bytes > 4 * TEXT:
            raise ValueError(f"{name} in it has {header.bytes // 4:,} characters, more than {TEXT:,}")
        try:
            found = json.loads(str(self.array(name)), parse_constant=_no_number)
        except RecursionError:
            raise _too_deep(name) from None
        if not isinstance(found, dict):
            raise ValueError(f"{name} in it holds no JSON object")
        level: list[Any] = [found]
        for _ in range(NESTED):
            inner = (x.values() if isinstance(x, dict) else x for x in level if isinstance(x, dict | list))
            level = [x for values in inner for x in values]
        if level:
            raise _too_deep(name)
        return found

    def _header(self, member: zipfile.ZipInfo) -> Header:
        name = member.filename
        if not name.endswith(".npy"):
            raise ValueError(f"{name!r:.100} in it is not an array")
        if len(name) > NAME:
            raise ValueError(f"{name!r:.100}... in it has a name of {len(name):,} characters, more than {NAME:,}")
        if member.flag_bits & 1:
            raise ValueError(f"{name!r:.100} in it is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name!r:.100} in it is compressed in a way that numpy.savez never uses")
        with self._archive.open(member) as file:
            start = io.BytesIO(file.read(HEADER))
        version = np.lib.format.read_magic(start)
        if version not in HEADERS:
            raise ValueError(f"{name!r:.100} in it is of version {version}, not (1, 0) or (2, 0)")
        try:
            shape, fortran, dtype = HEADERS[version](start)
        except (MemoryError, RecursionError):  # brackets or signs that are nested too deeply for Python's parser
            raise ValueError(f"{name!r:.100} in it has a header that cannot be parsed") from None
        if dtype.hasobject or dtype.kind not in PLAIN:
            raise ValueError(f"{name!r:.100} in it holds Python objects, which can run any code when opened")
        if any(size < 0 for size in shape):
            raise ValueError(f"{name!r:.100} in it has a shape with numbers below 0")
        header = Header(name.removesuffix(".npy"), member, start.tell(), shape, dtype, fortran)
        if member.file_size - header.begins != header.bytes:
            raise _wrong_size(header, member.file_size - header.begins)
        return header


class _InParts:
    """A file of which no single read returns more than a zip's directory may have."""

    def __init__(self, file: BinaryIO, size: int):
        self._file, self._size = file, size
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """Read as a file does."""
        left = max(0, self._size - self.tell())
        if min(left, left if size < 0 else size) > DIRECTORY:
            raise ValueError(f"its directory has more than {DIRECTORY:,} bytes")
        return self._file.read(left if size < 0 else min(size, left))


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what is raised for a file that is not valid into one ValueError, of one line, with the file's name."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # a forged file makes zipfile, zlib, NumPy and json raise a dozen kinds
        words = one_line(error)[:SHOWN] or type(error).__name__
        raise ValueError(f"{path} is not a valid .npz file: {words}") from None


def _wrong_size(header: Header, found: int) -> ValueError:
    kind = f"{header.dtype!s:.100} of shape {header.shape!s:.100}"
    return ValueError(f"{header.member.filename!r:.100} in it should be {kind}, but has {found:,} bytes")


def _too_deep(name: str) -> ValueError:
    return ValueError(f"{name} in it is nested more than {NESTED} deep")


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is not JSON")
