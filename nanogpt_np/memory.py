"""Freed memory is kept for the next arrays, where the C library would hand it back to the system at once.

A pass makes and drops hundreds of arrays. glibc gives the larger ones back when they are freed, and the
system clears every page again before it hands it out: that is a tenth of the time of a long prompt, and
of one that is recorded, which keeps some 700 MB of activations at 512 tokens of gpt2, two fifths.
Threads have memory of their own, of which whole pieces go back whatever the limit: commands let all threads share
that of the first.
Source: mallopt(3). Read next: `model.py`.
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # the parameters' numbers in glibc's malloc.h
LARGEST = 32 << 20  # bytes of an array that is kept; the most that every glibc accepts
USUAL = 64 << 20  # bytes kept in all: what glibc comes to by itself once it has seen an array of `LARGEST`
MUCH = 1 << 30  # bytes: a recording of 512 tokens of gpt2, and some more


def keep_freed_memory(nbytes=MUCH):
    """Have this process keep up to `nbytes` that it frees.

    Importing the model does it with `USUAL`, every command of this package with `MUCH`. Does nothing where glibc is
    not the C library, or where its own variables MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_THRESHOLD_ say what to do.
    Above `USUAL`, threads that start later take their memory where the first does, unless MALLOC_ARENA_MAX is set.
    """
    told = {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & set(os.environ)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" and not told else None
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, LARGEST)
        mallopt(M_TRIM_THRESHOLD, nbytes)
        if nbytes > USUAL and "MALLOC_ARENA_MAX" not in os.environ:
            mallopt(M_ARENA_MAX, 1)
