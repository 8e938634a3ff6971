"""The folder of a run: one run writes there at a time, and it removes what a killed run left behind.

The lock is the operating system's, held on an open file, so a process that is killed releases it. Only then are
temporary files known to be leftovers. A file system that has no locks is used without one.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ..text.tokenizer_files import FILES as COMPANIONS
from ..weights.atomic import leftovers
from ..weights.tensors import SINGLE
from .state import STATE

FILES = (STATE, SINGLE, "config.json", *COMPANIONS)
LOCK = ".training.lock"  # holds the number of the process
FAR = 1 << 20  # the byte that is locked on Windows, where a locked byte cannot be read


def is_free(directory: str | os.PathLike[str]) -> bool:
    """Return whether a new run may begin in `directory`: it does not exist yet, or is an empty folder.

    Leftovers of a run that was killed before its first save do not count.
    """
    directory = Path(directory)
    if not os.path.lexists(directory):
        return True
    return directory.is_dir() and not {*directory.iterdir()} - {directory / LOCK, *_leftovers(directory)}


@contextlib.contextmanager
def only_run(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Make `directory` if needed, and be the only run in it until the block ends; ValueError if another run is."""
    directory = Path(directory)
    if os.path.lexists(directory) and not directory.is_dir():
        raise ValueError(f"{directory} is not a folder, and a run needs one for its files")
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / LOCK
    file = _open_locked(path)
    try:
        for left in _leftovers(directory):
            with contextlib.suppress(OSError):
                left.unlink()
        yield
    finally:
        if sys.platform == "win32":  # it never removes an open file, such as one that another run has just opened
            os.close(file)
            with contextlib.suppress(OSError):
                path.unlink()
        else:
            with contextlib.suppress(OSError):
                path.unlink()  # while it is locked: afterwards it might be another run's
            os.close(file)


def _leftovers(directory: Path) -> list[Path]:
    return [path for name in FILES for path in leftovers(directory / name)]


def _open_locked(path: Path) -> int:
    """Return the descriptor of the lock file, locked."""
    while True:
        file = os.open(str(path), os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        if not _lock(file):
            holder = os.read(file, 20).decode("ascii", "replace")
            os.close(file)
            process = f" (process {holder})" if holder.isdecimal() else ""
            raise ValueError(f"another run{process} is training in {path.parent}: wait for it, or stop it first")
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file), path.stat()):
                break
        os.close(file)  # the run that held it has just removed it: lock the new one
    with contextlib.suppress(OSError):  # only the message above needs the number
        os.ftruncate(file, 0)
        os.write(file, str(os.getpid()).encode())
    return file


def _lock(file: int) -> bool:
    """Lock an open file until it is closed; return False if another holds it."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(file, 0, os.SEEK_SET)
        return True
    try:
        import fcntl
    except ImportError:  # no locks here: in a browser, for one
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks
        return True
    return True
