"""A student's file: whether it may be read, and its functions.

It may not import the reference: `nanogpt_np` (except `model.trace` and `model.config`, which hold no answers, and what
an assignment gives), torch and the like. That is to catch a shortcut, not a cheat: the file is searched for imports
and for their names as text.
"""

import ast
import functools
import linecache
import os
import re
import sys
import tokenize
import traceback
import types
from pathlib import Path

import numpy as np

from ..text.files import check_regular
from . import seams
from .assignment import assignments
from .judge import error_words
from .seams import Finding

ALLOWED = ("nanogpt_np.model.trace", "nanogpt_np.model.config")
FORBIDDEN = ("nanogpt_np", "torch", "transformers", "tensorflow", "jax", "keras", "autograd", "tiktoken", "tokenizers")
NAMED = re.compile(rf"({'|'.join(FORBIDDEN)})(\.\w+)*")
LARGEST = 1_000_000  # bytes of a student's file; the largest of the package's own has 20,000


def versions(folder, check):
    """Return ``{where: version}`` of the functions that a check judges, from freshly loaded files in `folder`.

    The other functions of the same file are the package's, so that each is judged on its own; a check of
    several functions leaves all of them the student's, also where one file has imported what another is to hold.
    Raises Finding for what is wrong with a file.
    """
    found, namespaces = {}, []
    for assignment in assignments().values():
        wanted = [where for where in assignment.functions if where in check.functions]
        if not wanted:
            continue
        namespace = load(Path(folder) / assignment.file)
        for where in wanted:
            found |= seams.pick(namespace, where, assignment.file)
        for where in assignment.functions.keys() - set(wanted):
            replace(namespace, where)
        namespaces.append(namespace)
    ours = [(seams.own(where), version) for where, version in found.items() if "." not in seams.short(where)]
    for namespace in namespaces:
        for name, value in list(vars(namespace).items()):
            for own, version in ours:
                if value is own:
                    setattr(namespace, name, version)
    return found


def replace(namespace, where):
    """Put the package's own function into a student's module, if there is a place for it."""
    *outer, name = seams.short(where).split(".")
    for part in outer:
        namespace = getattr(namespace, part, None)
    if namespace is not None:
        setattr(namespace, name, seams.own(where))


def load(path):
    """Run a student's file and return it as a module. Raises Finding if that cannot be done."""
    path = Path(path)
    source = read(path)
    refuse_the_reference(path)
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    linecache.checkcache(str(path))
    before = sys.modules.get(path.stem)
    sys.modules[path.stem] = module  # where dataclasses looks for annotations that are text
    try:
        with np.errstate(), np.printoptions():  # what the file sets of them ends with it
            exec(compile(parsed(source, str(path))[0], str(path), "exec"), vars(module))
    except BaseException as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        place = f", line {lines[-1]}" if lines else ""
        raise Finding(f"{path.name} fails on import{place}: {error_words(error)}") from error
    finally:
        del sys.modules[path.stem]
        if before is not None:
            sys.modules[path.stem] = before
    return module


@functools.lru_cache(maxsize=16)
def parsed(source, name):
    """Return (syntax tree, imports) of a file's text; kept, since every check loads the file anew."""
    tree = ast.parse(source, name)
    return tree, tuple(imports(tree))


def read(path):
    """Return the text of a student's file: a regular file of at most `LARGEST` bytes."""
    try:
        check_regular(path, LARGEST)
        with tokenize.open(path) as file:
            source = file.read()
        parsed(source, str(path))
    except SyntaxError as error:
        place = f", line {error.lineno}" if error.lineno else "; save it as UTF-8"
        line = f": {error.text.strip():.100}" if error.text else ""
        raise Finding(f"{path.name} is not valid Python: {error.msg}{place}{line}") from None
    except (RecursionError, MemoryError):
        raise Finding(f"{path.name} cannot be parsed: its brackets are too deep") from None
    except (OSError, ValueError) as error:
        raise Finding(f"{path.name} cannot be read: {error}") from None
    return source


def refuse_the_reference(path):
    """Raise Finding if a file, or another file of its folder that it imports, imports the reference."""
    waiting, seen = [path], {path}
    while waiting:
        path = waiting.pop()
        given = next((a.may_import for a in assignments().values() if a.file == path.name), ())
        allowed = (*ALLOWED, *given)
        for name, line in parsed(read(path), str(path))[1]:
            if name.partition(".")[0] in FORBIDDEN and not any(name == a or name.startswith(f"{a}.") for a in allowed):
                raise Finding(
                    f"{path.name} uses {name} in line {line}: write this yourself, don't import it "
                    f"(allowed are {', '.join(allowed[:-1])} and {allowed[-1]})"
                )
            sibling = path.with_name(f"{name.partition('.')[0]}.py")
            if sibling not in seen and os.path.isfile(sibling):  # Path.is_file raises for a name that is too long
                seen.add(sibling)
                waiting.append(sibling)


def imports(tree):
    """Yield (full name, line) of what is imported, also by its name as a text, as importlib wants it."""
    inner = {node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Attribute) and node not in inner:
            name = dotted(node)
            if name.startswith("nanogpt_np."):  # import nanogpt_np.model.trace binds nanogpt_np, the whole of it
                yield name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and NAMED.fullmatch(node.value):
            yield node.value, node.lineno


def dotted(node):
    """Return what an attribute is called in full, ``nanogpt_np.model.trace``; "" if it is none of a plain name."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""
