"""Grading in this process, for the tests of the course: an answer in, its results out."""

import textwrap

from nanogpt_np.course import seams, student
from nanogpt_np.course.answers import answer
from nanogpt_np.course.assignment import get
from nanogpt_np.course.judge import INCORRECT, judge
from nanogpt_np.course.naming import name_mistake


def graded(name, folder, source=None, *, seed=0, only=None):
    """Judge a student's file (default: the stub) in every check of an assignment -> {check name: Result}

    only : the name of a function; checks of others are left out.
    """
    assignment = get(name)
    path = folder / assignment.file
    path.write_text(assignment.stub.read_text("utf-8") if source is None else source, "utf-8")
    results = {}
    for check in assignment.checks:
        if only and only not in map(seams.short, check.functions):
            continue
        files = (str(path),)
        load = lambda check=check: student.versions(folder, check)  # noqa: E731
        results[check.name] = judge(check, load, seed, writes=assignment.writes, files=files)
    return results


def graded_edit(name, folder, function, old, new):
    """Judge an answer with `new` in the place of `old`, which stands there once, in all checks of one function."""
    source = answer(get(name))
    assert source.count(old) == 1
    return graded(name, folder, source.replace(old, new), only=function)


def graded_version(assignment, where, version, *, seed=0, named=True, whole=True):
    """Judge one function in every check of it -> ({check name: Result}, the known mistake that it is called)

    whole : if not, the first check that it fails is the last.
    """
    checks = [check for check in assignment.checks if where in check.functions]
    load, writes, results = lambda: {where: version}, assignment.writes, {}
    for check in checks:
        results[check.name] = judge(check, load, seed, writes=writes)
        if results[check.name].status == INCORRECT and not whole:
            break
    return results, name_mistake(checks[0], assignment, load, seed, writes=writes) if named else ""


def with_body(name, function, body):
    """Return the answer of an assignment with another body of one function: a solution written in another way."""
    lines = answer(get(name)).splitlines()
    node = student_node("\n".join(lines), function)
    indent = " " * (node.col_offset + 4)
    lines[node.body[0].lineno - 1 : node.end_lineno] = textwrap.indent(
        textwrap.dedent(body).strip(), indent
    ).splitlines()
    return "\n".join(lines) + "\n"


def student_node(source, function):
    """Return the syntax tree of a function in a source: ``LayerNorm.__call__``."""
    import ast

    from nanogpt_np.course.answers import definition

    return definition(ast.parse(source), seams.short(function) if ":" in function else function)


def statuses(results):
    """Return the set of all statuses."""
    return {result.status for result in results.values()}


def named(name, folder, source, function):
    """Return the known mistake that a student's file is called by where one of its functions is judged."""
    assignment = get(name)
    (folder / assignment.file).write_text(source, "utf-8")
    check = next(c for c in assignment.checks if function in map(seams.short, c.functions))
    return name_mistake(check, assignment, lambda: student.versions(folder, check), 0, writes=assignment.writes)
