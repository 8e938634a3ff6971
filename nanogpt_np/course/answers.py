"""Answers: the student's file with the package's own source in place of the bodies to write.

Nothing is stored twice: the answer is read from the package on request, so it cannot go stale, and no stub holds one.
"""

import ast
import sys
import textwrap

from . import seams, sources


def answer(assignment):
    """Return the text of a whole file that is graded CORRECT: the stub with the functions as the package has them."""
    stub = assignment.stub.read_text(encoding="utf-8")
    lines, edits, helpers, modules = stub.splitlines(), [], {}, {}
    for where in assignment.functions:
        ours, node = seams.own(where), definition(ast.parse(stub), seams.short(where))
        source = sources.source(ours).rstrip()
        edits.append((first_line(node), node.end_lineno, textwrap.indent(source, " " * node.col_offset)))
        needed(ours, helpers, modules)
    for start, end, text in sorted(edits, reverse=True):
        lines[start - 1 : end] = text.splitlines()
    there = {name for node in ast.parse(stub).body for name in names_of(node)}
    extra = [source for name, source in helpers.items() if name not in there]
    if extra:  # after the imports, where definitions begin
        at = next(first_line(node) for node in ast.parse("\n".join(lines)).body if is_definition(node))
        constant = not extra[0].startswith(("def ", "class ", "@"))
        lines[at - 1 - constant : at - 1] = "\n\n\n".join([*extra, ""]).splitlines()  # a constant after one empty line
    imports = [line for name, line in modules.items() if name not in there]
    if imports:
        at = next(n.lineno for n in ast.parse(stub).body if isinstance(n, (ast.Import, ast.ImportFrom))) - 1
        if "numpy" in lines[at]:
            imports.append("")
        else:  # among those of the standard library
            end = lines.index("", at)
            imports = sorted([*imports, *lines[at:end]], key=lambda line: (line.startswith("from "), line))
            del lines[at:end]
        lines[at:at] = imports
    return "\n".join(lines) + "\n"


def definition(tree, name):
    """Return the node of a function or class: ``LayerNorm.__call__``."""
    for part in name.split("."):
        (tree,) = [node for node in tree.body if is_definition(node) and node.name == part]
    return tree


def is_definition(node):
    return isinstance(node, (ast.FunctionDef, ast.ClassDef))


def first_line(node):
    """Return the line where a definition begins, with its decorators."""
    return min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])


def names_of(node):
    """Return the names that a statement at the top of a module binds."""
    if is_definition(node):
        return [node.name]
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return [alias.asname or alias.name for alias in node.names]
    if isinstance(node, ast.Assign):
        return [leaf.id for target in node.targets for leaf in ast.walk(target) if isinstance(leaf, ast.Name)]
    return []


def needed(ours, helpers, modules):
    """Add to `helpers` {name: source} what a function uses of its own module and the student's file may lack.

    Add to `modules` {name: import} what it uses of the standard library. What it uses of other modules of this package
    is in the stub: imported, or given.
    """
    module = sys.modules[ours.__module__]
    text = sources.source(module)
    at_top = {name: node for node in ast.parse(text).body for name in names_of(node)}
    used = {n.id for n in ast.walk(ast.parse(sources.source(ours))) if isinstance(n, ast.Name)}
    for name, node in at_top.items():
        if name not in used or name in helpers or name == getattr(ours, "__name__", ""):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            if not getattr(node, "level", 0):
                modules[name] = ast.unparse(node)
            continue
        if is_definition(node):
            helpers[name] = ""  # its place, before what it uses itself
            needed(getattr(module, name), helpers, modules)
        source = "\n".join(text.splitlines()[first_line(node) - 1 : node.end_lineno])
        helpers.pop(name, None)
        if source not in helpers.values():
            helpers[name] = source
