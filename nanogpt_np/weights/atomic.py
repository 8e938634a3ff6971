"""Atomic writes: a file is complete or not there, whatever happens during the write."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# Seconds between attempts on Windows, where no file can be replaced that another program has open, as virus scanners
# and indexers have a new file for a moment.
PAUSES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to, and replace `path` with that file when the block ends.

    A symlink stays: the file it points to is replaced. Raises ValueError for a device or a pipe.
    """
    from safetensors import SafetensorError

    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a regular file, and only a regular file can be replaced")
    path = Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")  # two processes never share one
    try:
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # safetensors makes files that only their owner may read
        _replace(partial, path)
    except SafetensorError as error:  # how safetensors reports a full disk
        raise OSError(f"cannot write {path}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def _replace(source: Path, target: Path) -> None:
    for pause in PAUSES if sys.platform == "win32" else ():
        try:
            os.replace(source, target)
            return
        except PermissionError:
            time.sleep(pause)
    os.replace(source, target)
