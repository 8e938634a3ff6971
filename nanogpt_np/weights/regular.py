"""Files of others: whether reading one ends, and is worth beginning.

A pipe waits for its writer, ``/dev/zero`` has no end, and a file may be larger than anything it could be meant as.
"""

import errno
import os
import stat
from typing import BinaryIO

KINDS = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"), (stat.S_ISSOCK, "a socket"))


def check_regular(path: str | os.PathLike[str], largest: int | None = None) -> None:
    """Raise ValueError unless `path` is a regular file of at most `largest` bytes; a folder is an OSError."""
    found = os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for fits, name in KINDS if fits(found.st_mode)), "something else")
        raise ValueError(f"{path} is not a regular file but {kind}: save its contents to a file first")
    if largest is not None and found.st_size > largest:
        raise ValueError(f"{path} has {found.st_size:,} bytes, more than the {largest:,} that are read")


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading in binary; what is none is refused before it is opened."""
    check_regular(path)
    return open(path, "rb")
