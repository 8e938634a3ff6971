"""Atomic writes: a file is complete or not there, whatever happens during the write."""

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# Seconds between attempts on Windows, where a file that another program has open cannot be replaced. Virus scanners
# and indexers open new files for a moment.
PAUSES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to, and replace `path` with that file when the block ends.

    A symlink stays: the file it points to is replaced. Raises ValueError for a device or a pipe, and an OSError that
    names `path` where the file does not fit.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file, and only a regular file can be replaced")
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")  # two processes never share one
    try:
        partial.touch()
        yield partial
        _replace(partial, path)
    except OSError as error:
        if error.errno is None or (error.filename is not None and str(error.filename) != str(partial)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None  # `write` names no file
    finally:
        partial.unlink(missing_ok=True)


def leftovers(path: Path) -> list[Path]:
    """Return the temporary files of writes of `path`: those under way, and those of processes that were killed."""
    name = re.compile(rf"\.{re.escape(path.name)}\.\d+\.partial")
    return [other for other in path.parent.iterdir() if name.fullmatch(other.name)]


def _replace(source: Path, target: Path) -> None:
    for pause in PAUSES if sys.platform == "win32" else ():
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(source, target)
