"""How many threads the library behind the matrix products uses: OpenBLAS, as NumPy's wheels carry it."""

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
    """Keep every matrix product to the core that asks for it; the setting belongs to the whole process."""
    get, put = threads()
    before = get()
    put(1)
    try:
        yield
    finally:
        put(before)


@functools.cache
def threads() -> Any:
    """Return the functions that read and set the number of threads of OpenBLAS, or None without it."""
    home = Path(np.__file__).parent
    for file in [*home.parent.glob("numpy.libs/*openblas*"), *home.glob(".dylibs/*openblas*")]:
        library = ctypes.CDLL(str(file))  # it is loaded already: this only looks it up
        names = ("scipy_openblas_get_num_threads64_", "scipy_openblas_set_num_threads64_")
        if all(hasattr(library, name) for name in names):
            return [getattr(library, name) for name in names]
    return None
