"""Keep freed memory for the next arrays, where the C library would return it to the system at once.

A pass allocates and frees hundreds of arrays. glibc returns the larger ones as soon as they are freed, and the
system zeroes every page before reuse: a tenth of the time of a long prompt, and two fifths when 512 tokens of gpt2
are recorded, which keeps some 700 MB of activations. Each thread has its own arena, parts of which are returned
whatever the limit, so commands make all threads share the first one.
Source: mallopt(3).
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # the parameters' numbers in glibc's malloc.h
LARGEST = 32 << 20  # largest array kept, in bytes: the most that every glibc accepts
USUAL = 64 << 20  # bytes kept in total: glibc's own limit once it has freed an array of `LARGEST` bytes
MUCH = 1 << 30  # bytes: enough for a recording of 512 tokens of gpt2
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
