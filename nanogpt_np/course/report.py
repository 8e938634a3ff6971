"""The results of a grading, as lines for people and as the JSON that Gradescope's autograder reads.

Source of the JSON's shape: https://gradescope-autograders.readthedocs.io/en/latest/specs/
"""

import textwrap

from .judge import CORRECT, INCOMPLETE, INCORRECT

WIDTH = 110  # columns of a line
LABELS = {
    "problem": "",
    "where": "your code",
    "case": "smallest case",
    "expected": "expected",
    "got": "got",
    "trace": "first to differ",
    "notes": "note",
}


def lines(graded):
    """Yield the lines of an assignment: for each function, the first check that fails is shown in full.

    A later one shows only what is wrong, if that has not been said yet.
    """
    results = graded.results
    done = sum(result.status == CORRECT for _, result in results)
    yield f"{graded.assignment.name}  {graded.assignment.title}: {done} of {len(results)}"
    told = set()
    for check, result in results:
        yield from _wrapped(f"  {result.status:10}  ", f"{check.title}: {check.claim}")
        why = result.problem, result.where
        first = check.functions not in told and (result.case or why not in told)  # what is wrong with a file: once
        if result.status != CORRECT:
            again = _wrapped("", result.problem) if result.problem and why not in told else []
            for line in details(result) if first else [*again, *printed(result)]:
                yield f"              {line}"
            told.add(why)
        if result.status == INCORRECT:
            told.add(check.functions)
        if result.status == CORRECT and result.notes and (check.functions, "note") not in told:
            yield from _wrapped(f"{'':14}note  ", result.notes)
            told.add((check.functions, "note"))


def details(result):
    """Return the lines that say what is wrong."""
    found = []
    for name, label in LABELS.items():
        if value := getattr(result, name):
            found += _wrapped(f"{label:15}  " if label else "", value)
    if result.mistake:
        found += _wrapped("", f"This is what comes out when {result.mistake}.")
    return found + printed(result)


def printed(result):
    """Return the lines that say what the student's code printed."""
    return _wrapped(f"{'printed':15}  ", result.printed.rstrip()) if result.printed else []


def summary(all_graded):
    """Return the last line."""
    statuses = [result.status for graded in all_graded for _, result in graded.results]
    counts = ", ".join(f"{statuses.count(s)} {s}" for s in (CORRECT, INCORRECT, INCOMPLETE))
    return f"{len(statuses)} {'check' if len(statuses) == 1 else 'checks'}: {counts}"


def as_json(all_graded, seconds):
    """Return a dict for results.json: a point for each check."""
    tests = []
    for graded in all_graded:
        for check, result in graded.results:
            right = result.status == CORRECT
            tests.append(
                {
                    "name": f"{graded.assignment.name} {check.title}: {check.claim}",
                    "score": 1.0 if right else 0.0,
                    "max_score": 1.0,
                    "status": "passed" if right else "failed",
                    "output": "\n".join([result.status, *details(result)]),
                    "tags": [graded.assignment.name, result.status],
                    "extra_data": {"check": check.name, **result.as_dict()},
                }
            )
    return {
        "score": sum(test["score"] for test in tests),
        "output": summary(all_graded),
        "execution_time": round(seconds, 3),
        "tests": tests,
    }


def passed(all_graded):
    """Return whether every check is CORRECT."""
    return all(result.status == CORRECT for graded in all_graded for _, result in graded.results)


def _wrapped(lead, text):
    """Return `text` as lines, later ones under the first; line ends stay, other control characters show their codes."""
    text = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    found = []
    for part in text.split("\n"):
        found += textwrap.wrap(part, WIDTH - len(lead), break_long_words=False, break_on_hyphens=False) or [""]
    return [(lead if i == 0 else " " * len(lead)) + line for i, line in enumerate(found)]
