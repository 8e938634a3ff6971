"""The library behind matrix products: how many threads it uses, and what a fork may not interrupt.

There is one number of threads for the whole process. `products_on_one_core` counts its callers: the first to enter sets
it to 1, and the last to leave restores it. A child that is forked in between starts with the number from before.
OpenBLAS, the library in NumPy's wheels, does not survive a fork in the middle of a product on several cores: that
product never ends, or later products of the child wait for a lock forever. So a fork waits for `products_on_all_cores`.
"""

import ctypes
import functools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

PATIENCE = 30.0  # seconds that a fork waits at most: a pass may itself wait for the thread that forks

_changing = threading.Condition()  # held while any of these is read or changed
_inside: set[object] = set()  # one for each `products_on_one_core` that has not ended
_usual = [1]  # the number of threads when the first of them began
_running: dict[int, int] = {}  # thread -> its `products_on_all_cores` that have not ended
_forking: set[int] = set()  # threads that wait to fork, or are about to


def cores() -> int:
    """Return the number of cores that matrix products usually use, or 1 if it cannot be changed."""
    if not threads():
        return 1
    with _changing:
        return _usual[0] if _inside else threads()[0]()


@contextmanager
def products_on_one_core() -> Iterator[None]:
    """Run every matrix product on its caller's core only; the setting holds for the whole process."""
    get, put = threads()
    this = object()
    try:
        with _changing:
            if not _inside:
                _usual[0] = get()
            _inside.add(this)
            put(1)
        yield
    finally:
        with _changing:
            if this in _inside:  # not in a child that was forked within
                _inside.remove(this)
                if not _inside:
                    put(_usual[0])


@contextmanager
def products_on_all_cores() -> Iterator[None]:
    """Run matrix products that a fork in another thread waits for; a fork that already waits goes first."""
    this = threading.get_ident()
    with _changing:
        while _forking and this not in _running and this not in _forking:
            _changing.wait()
        _running[this] = _running.get(this, 0) + 1
    try:
        yield
    finally:
        with _changing:
            _running[this] -= 1
            if not _running[this]:
                del _running[this]
                _changing.notify_all()


def _before_fork() -> None:
    _changing.acquire()
    this, until = threading.get_ident(), time.monotonic() + PATIENCE
    _forking.add(this)
    while _running.keys() - {this} and time.monotonic() < until:
        _changing.wait(until - time.monotonic())


def _after_fork() -> None:
    _forking.discard(threading.get_ident())
    _changing.notify_all()
    _changing.release()


def _after_fork_in_child() -> None:
    """Restore the number: a child has only the thread that forked."""
    if _inside:
        _inside.clear()
        threads()[1](_usual[0])
    this = threading.get_ident()
    for thread in _running.keys() - {this}:
        del _running[thread]
    _forking.clear()
    _changing.release()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


@functools.cache
def threads() -> Any:
    """Return the functions that read and set OpenBLAS's number of threads, or None if it is absent."""
    home = Path(np.__file__).parent
    for file in [*home.parent.glob("numpy.libs/*openblas*"), *home.glob(".dylibs/*openblas*")]:
        library = ctypes.CDLL(str(file))  # it is loaded already: this only looks it up
        names = ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_")
        if all(hasattr(library, name) for name in names):
            return [getattr(library, name) for name in names]
    return None
