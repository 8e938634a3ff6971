"""The results of a grading, as lines for people and as the JSON that Gradescope's autograder reads.

Source of the JSON's shape: https://gradescope-autograders.readthedocs.io/en/latest/specs/
"""

from ..names.wording import wrapped
from .judge import CORRECT, INCOMPLETE, INCORRECT

WIDTH = 110  # columns of a line, in the JSON too
INDENT = " " * 14  # of what is wrong
LABELS = {
    "problem": "",
    "where": "your code",
    "case": "smallest case",
    "expected": "expected",
    "got": "got",
    "trace": "first to differ",
    "notes": "note",
}


def lines(graded, width=WIDTH):
    """Yield the lines of an assignment: for each function, the first check that fails is shown in full.

    A later one shows only what is wrong, if that has not been said yet.
    """
    results = graded.results
    done = sum(result.status == CORRECT for _, result in results)
    yield from _wrapped(f"{graded.assignment.name}  ", f"{graded.assignment.title}: {done} of {len(results)}", width)
    told = set()
    for check, result in results:
        yield from _wrapped(f"  {result.status:10}  ", f"{check.title}: {check.claim}", width)
        why = result.problem, result.where
        first = check.functions not in told and (result.case or why not in told)  # what is wrong with a file: once
        if result.status != CORRECT:
            room = width - len(INDENT)
            again = _wrapped("", result.problem, room) if result.problem and why not in told else []
            for line in details(result, room) if first else [*again, *printed(result, room)]:
                yield f"{INDENT}{line}"
            told.add(why)
        if result.status == INCORRECT:
            told.add(check.functions)
        if result.status == CORRECT and result.notes and (check.functions, "note") not in told:
            yield from _wrapped(f"{INDENT}note  ", result.notes, width)
            told.add((check.functions, "note"))


def details(result, width=WIDTH):
    """Return the lines that say what is wrong."""
    found = []
    for name, label in LABELS.items():
        if value := getattr(result, name):
            found += _wrapped(f"{label:15}  " if label else "", value, width)
    if result.mistake:
        found += _wrapped("", f"This is what comes out when {result.mistake}.", width)
    return found + printed(result, width)


def printed(result, width):
    """Return the lines that say what the student's code printed."""
    return _wrapped(f"{'printed':15}  ", result.printed.rstrip(), width) if result.printed else []


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


def _wrapped(lead, text, width):
    """Return `text` as lines, later ones under the first; line ends stay, other control characters show their codes."""
    text = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
    first, *more = text.split("\n")
    parts = [wrapped(lead, first, width), *(wrapped(" " * len(lead), part, width) for part in more)]
    return "\n".join(parts).split("\n")
