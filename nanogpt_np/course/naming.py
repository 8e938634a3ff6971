"""Naming: which of the known mistakes a student's function behaves like.

A help, and never a condition: what cannot be named is graded all the same. `judge.py` says what is wrong.
"""

import contextlib

import numpy as np

from . import compare
from .judge import all_cases, run
from .seams import Finding


def name_mistake(check, assignment, load, seed, *, writes=()):
    """Return in words the known mistakes that behave like the student's function on every case of every check."""
    known = versions(assignment, check.functions)
    try:
        student, told_apart, runs = load(), set(), []
        for other in assignment.checks:
            if other.functions != check.functions:
                continue
            for case, dtype in all_cases(other, seed):
                if dtype == np.float32:
                    continue
                got, right = (run(other, case, v, writes=writes) for v in (student, {}))
                runs.append((alike(got, right), other, case, got, right))
        # Where the student is wrong most mistakes are another, and need not be run where all is right.
        for _, other, case, got, right in sorted(runs, key=lambda one: one[0]):
            for words, mistake in list(known.items()):
                wrong = run(other, case, mistake, writes=writes)
                if not alike(got, wrong):
                    del known[words]
                elif not alike(right, wrong):
                    told_apart.add(words)
        return " or ".join(words for words in known if words in told_apart)
    except Finding:
        return ""


def versions(assignment, functions):
    """Return ``{words: {where: wrong version}}`` of the known mistakes in `functions`.

    Most are edits of the package's source. One whose old text is gone from there is left out here; a test finds it.
    """
    found = {}
    for mistake in assignment.mistakes:
        if mistake.function in functions:
            with contextlib.suppress(Exception):
                found[mistake.words] = {mistake.function: mistake.version()}
    return found


def alike(a, b):
    """Return whether two outcomes are the same: the values, or the exceptions with their words."""
    if a.error or b.error:
        return type(a.error) is type(b.error) and _words(a.error) == _words(b.error)
    return compare.same(a.value, b.value) and compare.same(b.value, a.value)  # a dict may have what another lacks


def _words(error):
    with contextlib.suppress(Exception):  # of an exception that cannot be shown there are none
        return str(error)
