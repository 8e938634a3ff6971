"""The package's source as a student writes it: without the type annotations of functions.

Answers, known mistakes and the parameters that a message shows are made from it; the fields of a class keep theirs.
"""

import ast
import functools
import inspect
import re
import textwrap


@functools.cache  # reading a file takes milliseconds, and there are dozens of mistakes
def source(version):
    """Return the source of a function or class, dedented and without the annotations of its functions."""
    return without_annotations(textwrap.dedent(inspect.getsource(version)))


def signature(function):
    """Return the signature of a function without annotations."""
    found = inspect.signature(function)
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in found.parameters.values()]
    return found.replace(parameters=plain, return_annotation=inspect.Signature.empty)


def without_annotations(text):
    """Return Python source without the annotations of arguments, results and variables in its functions."""
    lines = text.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def place(line, column):
        return starts[line - 1] + column

    def end(node):
        return place(node.end_lineno, node.end_col_offset)

    cuts = []  # (from, to, what comes there instead)
    for function in ast.walk(ast.parse(text)):
        if not isinstance(function, ast.FunctionDef):
            continue
        arguments = function.args
        given = [*arguments.posonlyargs, *arguments.args]
        defaults = dict(zip(reversed(given), reversed(arguments.defaults), strict=False))
        defaults |= {a: value for a, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value}
        for arg in [*given, *arguments.kwonlyargs, *filter(None, [arguments.vararg, arguments.kwarg])]:
            if arg.annotation:
                after_name = place(arg.lineno, arg.col_offset) + len(arg.arg.encode())
                value = defaults.get(arg)
                until = place(value.lineno, value.col_offset) if value else end(arg.annotation)
                cuts.append((after_name, until, b"=" if value else b""))
        if function.returns:
            arrow = text.encode().rindex(b"->", 0, place(function.returns.lineno, function.returns.col_offset))
            cuts.append((arrow - 1, end(function.returns), b""))
        for node in ast.walk(function):
            if isinstance(node, ast.AnnAssign) and node.value:
                cuts.append((end(node.target), end(node.annotation), b""))
    raw = text.encode()
    for start, stop, instead in sorted(set(cuts), reverse=True):
        raw = raw[:start] + instead + raw[stop:]
    # A list of parameters that took lines of its own for its annotations only fits on the line of its def again.
    return re.sub(r"(def \w+)\(\n +([^\n]*[^\n,])\n +\):", r"\1(\2):", raw.decode())
