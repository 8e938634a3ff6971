"""Freed memory is kept, up to a limit, unless the user has said otherwise."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is a function of glibc")

SCRIPT = """
import re
import numpy as np
from nanogpt_np.memory import keep_freed_memory
def resident():
    return int(re.search("VmRSS:[ \\t]*([0-9]+)", open("/proc/self/status").read()).group(1)) >> 10
keep_freed_memory(NBYTES)
before = resident()
arrays = [np.ones(8 << 20, np.uint8) for _ in range(25)]
full = resident()
del arrays
print(full - before, resident() - before)
"""


def megabytes(nbytes, **environment):
    """Return (held, still held when all is freed) of 25 arrays of 8 MB in a process of its own."""
    script = SCRIPT.replace("NBYTES", str(nbytes))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ | environment
    )
    return tuple(map(int, done.stdout.split()))


def test_what_is_freed_is_kept_up_to_the_limit():
    held, kept = megabytes(1 << 30)
    assert held > 190 and kept > 190
    held, kept = megabytes(64 << 20)
    assert held > 190 and kept < 70


def test_glibcs_own_variables_win():
    held, kept = megabytes(1 << 30, MALLOC_TRIM_THRESHOLD_="131072")
    assert held > 190 and kept < 10
