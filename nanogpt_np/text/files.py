"""Reading files that strangers wrote: only regular files are opened, and no more is read than is expected.

Otherwise opening a pipe could block, reading a device could go on forever, and a small JSON file could hold a number of
a million digits. Every JSON file of this package is read by `read_json`.
"""

import json
import os
import stat
from typing import Any, BinaryIO

# Bytes of JSON in a file or a header. Parsed, they can take 30 times as much memory. The header of gpt2-xl has 64 kB.
LARGEST_JSON = 1 << 22
KINDS = {  # of files that are not regular
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
MOST_DIGITS = 400  # of a whole number; the largest float64 has 309


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Say whether `path` is a regular file, or a link to one; OSError if that cannot be found out."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def check_regular(path: str | os.PathLike[str], largest: int | None = None) -> None:
    """Raise ValueError unless `path` is a regular file of at most `largest` bytes."""
    _check(path, os.stat(path), largest)


def _check(path: str | os.PathLike[str], found: os.stat_result, largest: int | None = None) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        raise ValueError(f"{path} is not a regular file but {kind}")
    if largest is not None and found.st_size > largest:
        raise ValueError(f"{path} has {found.st_size:,} bytes, more than the {largest:,} that are read")


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading bytes; errors as for `check_regular`, without waiting for a pipe."""
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT"):  # each on some systems only
        flags |= getattr(os, name, 0)  # O_NONBLOCK: opening a pipe without a writer does not block
    number = os.open(path, flags)
    try:
        _check(path, os.fstat(number))
        return os.fdopen(number, "rb")
    except BaseException:
        os.close(number)
        raise


def read_bytes(path: str | os.PathLike[str], largest: int) -> bytes:
    """Return the contents of a regular file; ValueError if it holds more than `largest` bytes."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > largest else file.read(largest + 1)  # some regular files of Linux claim to be empty
    if max(size, len(data)) > largest:
        raise ValueError(f"{path} has {max(size, len(data)):,} bytes, and a file of its kind has at most {largest:,}")
    return data


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the contents of a JSON file, as `parse_json` does; ValueError names the file."""
    data = read_bytes(path, LARGEST_JSON)
    try:
        return parse_json(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse_json(data: bytes) -> Any:
    """Return the value that UTF-8 JSON stands for; a byte order mark is dropped.

    Raises ValueError for bytes that are not JSON, a key that appears twice, a number of more than `MOST_DIGITS` digits,
    and nesting that is too deep. NaN and infinity are accepted, as in Python's `json`: callers check ranges.
    """
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_object, parse_int=_whole)
    except RecursionError:
        raise ValueError("its lists and objects are nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:60]!r} appears twice")
    return values


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"it holds a number of {len(digits):,} digits")
    return int(digits)
