"""The number of threads that matrix products use: read and set in the OpenBLAS of NumPy's wheels."""

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def cores() -> int:
    """Return the number of cores that matrix products use, or 1 if it cannot be changed."""
    return threads()[0]() if threads() else 1


@contextmanager
def products_on_one_core() -> Iterator[None]:
    """Run every matrix product on its caller's core only; the setting holds for the whole process."""
    get, put = threads()
    before = get()
    put(1)
    try:
        yield
    finally:
        put(before)


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
