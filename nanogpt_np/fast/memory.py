"""Freed memory is kept for the next arrays, where the C library would return it to the system at once.

A pass makes and drops hundreds of arrays. glibc returns the larger ones as soon as they are freed, and the system
clears every page again before it hands it out: a tenth of the time of a long prompt, and two fifths when 512 tokens
of gpt2 are recorded, which keeps some 700 MB of activations. Threads have arenas of their own, of which whole pieces
are returned whatever the limit: commands let all threads share the first one's.
Source: mallopt(3).
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # the parameters' numbers in glibc's malloc.h
LARGEST = 32 << 20  # bytes of an array that is kept; the most that every glibc accepts
USUAL = 64 << 20  # bytes kept in all: what glibc comes to by itself once it has seen an array of `LARGEST`
MUCH = 1 << 30  # bytes: a recording of 512 tokens of gpt2, and some more
_kept = {"bytes": 0}  # what this process has asked for so far


def keep_freed_memory(nbytes: int = MUCH) -> None:
    """Have this process keep up to `nbytes` that it frees.

    `fast` does it with `USUAL`, every command that runs a model with `MUCH`; the larger of the two stays. Does nothing
    where glibc is not the C library, or where its own variables MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_THRESHOLD_
    are set. Above `USUAL`, threads that start later use the first thread's arena, unless MALLOC_ARENA_MAX is set.
    """
    if nbytes <= _kept["bytes"]:
        return
    _kept["bytes"] = nbytes
    set_by_user = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & set(os.environ)
    if sys.platform != "linux" or set_by_user:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, nbytes)
        if nbytes > USUAL and "MALLOC_ARENA_MAX" not in os.environ:
            mallopt(M_ARENA_MAX, 1)
