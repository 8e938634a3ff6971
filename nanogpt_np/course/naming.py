"""Naming: which of the known mistakes a student's function behaves like.

This is a help, never a condition: what cannot be named is graded all the same. `judge.py` says what is wrong.
"""

import contextlib

import numpy as np

from . import compare
from .judge import all_cases, run
from .seams import Finding


def name_mistake(check, assignment, load, seed, *, writes=()):
    """Return in words the known mistakes that behave like the student's function on every case of every check.

    If there are none, those that do so on the checks that are not `apart`.
    """
    try:
        student, runs = load(), []
        for other in assignment.checks:
            if other.functions != check.functions:
                continue
            for case, dtype in all_cases(other, seed):
                if dtype != np.float32:
                    got, right = (run(other, case, v, writes=writes) for v in (student, {}))
                    runs.append((alike(got, right), other, case, got, right))
        # Cases in which the student is wrong rule out most mistakes, which then need not run on the others.
        runs.sort(key=lambda one: one[0])
        known, usual = versions(assignment, check.functions), [one for one in runs if not one[1].apart]
        return agreeing(known, runs, writes) or (agreeing(known, usual, writes) if len(usual) < len(runs) else "")
    except Finding:
        return ""


def agreeing(known, runs, writes):
    """Return in words the `known` mistakes that agree with the student in all `runs`, and are wrong in one of them."""
    known, told_apart = dict(known), set()
    for _, check, case, got, right in runs:
        for words, mistake in list(known.items()):
            wrong = run(check, case, mistake, writes=writes)
            if not alike(got, wrong):
                del known[words]
            elif not alike(right, wrong):
                told_apart.add(words)
    return " or ".join(words for words in known if words in told_apart)


def versions(assignment, functions):
    """Return ``{words: {where: wrong version}}`` of the known mistakes in `functions`.

    Most are edits of source text. One whose old text is gone from the source is left out here; a test finds it.
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
    return compare.same(a.value, b.value) and compare.same(b.value, a.value)  # a dict may have keys that another lacks


def _words(error):
    with contextlib.suppress(Exception):  # an exception that cannot be shown has none
        return str(error)
