"""Seams: where a student's functions replace the package's own.

A check is written against the package (``LayerNorm(weight, bias)(x)``) and runs three times: as the package is, with
the student's function `installed`, and, if that fails, with each known mistake. So a student's function is judged on
its own and inside the whole model by the same code. It changes the package for the process that it runs in, so the
grader has a process of its own (`worker.py`). A seam is written "module:name", with the module's path in the package:
``model.layernorm:LayerNorm.__call__``. The module must be loaded; assignments import what they grade.
"""

import contextlib
import functools
import inspect
import re
import sys
from dataclasses import fields, is_dataclass

import numpy as np

from . import sources

PACKAGE = __package__.rpartition(".")[0]
UNCHANGING = {int, float, bool, str, bytes, type(None)}


class Finding(Exception):
    """What is wrong with a student's function, in words."""


def short(where):
    """``model.layernorm:LayerNorm.__call__`` -> ``LayerNorm.__call__``"""
    return where.partition(":")[2]


def find(where):
    """Return (module or class that holds it, its name there, the package's own function or None)."""
    module, _, path = where.partition(":")
    owner = sys.modules[f"{PACKAGE}.{module}"]
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    return owner, name, vars(owner).get(name)


def own(where):
    """Return the package's own version."""
    return find(where)[2]


def pick(namespace, where, file):
    """Return ``{where: version}`` from a student's module: the function, and the helpers in its class.

    Raises Finding if it is missing or its parameters differ.
    """
    *outer, name = short(where).split(".")
    holder = namespace
    for part in outer:
        if not inspect.isclass(vars(holder).get(part)):
            raise Finding(f"{file} has no class {part}")
        holder = vars(holder)[part]
    version = vars(holder).get(name)
    if not callable(version):
        raise Finding(f"{file} has no {'class' if inspect.isclass(own(where)) else 'function'} {short(where)}")
    _same_parameters(version, where)
    versions = {where: version}
    if outer:
        cls, module = find(where)[0], where.partition(":")[0]
        helpers = [h for h in vars(holder).keys() - vars(cls).keys() - cls.__annotations__.keys() if h[:2] != "__"]
        versions |= {f"{module}:{'.'.join([*outer, h])}": vars(holder)[h] for h in helpers}
    return versions


def _same_parameters(version, where):
    """Raise Finding unless `version` can be called as the package's own is; further parameters need defaults."""
    pairs = [(version, own(where), short(where))]
    if inspect.isclass(own(where)):
        methods = [m for m, f in vars(own(where)).items() if inspect.isfunction(f) and not m.startswith("_")]
        missing = [m for m in methods if not callable(getattr(version, m, None))]
        if missing:
            raise Finding(f"class {short(where)} has no method {missing[0]}")
        pairs += [(getattr(version, m), getattr(own(where), m), f"{short(where)}.{m}") for m in methods]
    for given, ours, name in pairs:
        wanted = sources.signature(ours)
        try:
            have = sources.signature(given)
        except (TypeError, ValueError):  # a NumPy function, or another that is written in C
            raise Finding(f"{name} must be written with def, with the parameters {_shown(wanted)}") from None
        common = list(have.parameters.values())[: len(wanted.parameters)]
        rest = list(have.parameters.values())[len(wanted.parameters) :]
        same = [(p.name, p.kind) for p in common] == [(p.name, p.kind) for p in wanted.parameters.values()]
        if not same or any(p.default is p.empty for p in rest):
            raise Finding(f"the parameters of {name} must stay {_shown(wanted)}, not {_shown(have)}")


def _shown(signature):
    return re.sub(r"<function (\S+) at \w+>", r"\1", str(signature))


@functools.cache
def _places(where, loaded):
    """Return [(module or class, name there)] of all that hold a function; `loaded` is how many modules there are."""
    owner, name, ours = find(where)
    if inspect.isclass(owner):
        return [(owner, name)]
    # Also under the names that other modules imported it by.
    modules = [m for key, m in list(sys.modules.items()) if key.partition(".")[0] == PACKAGE]
    imported = [(m, key) for m in modules for key, value in list(vars(m).items()) if value is ours]
    return [(owner, name), *imported]


@contextlib.contextmanager
def installed(versions):
    """Run the block with `versions` {where: function or class} in place of the package's own."""
    undo = []
    try:
        for where, version in versions.items():
            ours = own(where)
            for holder, key in _places(where, len(sys.modules)):
                undo.append((holder, key, ours))
                setattr(holder, key, version)
        yield
    finally:
        for holder, key, ours in reversed(undo):
            delattr(holder, key) if ours is None else setattr(holder, key, ours)


def guarded(version, where, *, writes, notes):
    """Wrap a function to detect whether it returns None where it should not, or writes into its arguments.

    notes : a set to which the wrapper adds what may explain a wrong result.
    """
    name = short(where)
    if inspect.isclass(version):
        return version
    try:
        signature = inspect.signature(version)
    except (TypeError, ValueError):
        return version
    returns = _returns(where)

    @functools.wraps(version)
    def call(*args, **kwargs):
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:
            given = {}
        before = [] if writes else [(label, value, _content(value)) for label, value in _written_to(given)]
        result = version(*args, **kwargs)
        for label, value, old in before:
            if _content(value) != old:
                raise Finding(f"{name} writes into its argument {label}: others still need what was in it")
        if result is None and returns:
            notes.add(f"{name} returned None: does every path end in `return`?")
        for label, value in given.items():
            if result is value and isinstance(value, np.ndarray):
                notes.add(f"{name} returned its argument {label} itself")
        return result

    return call


@functools.cache
def _returns(where):
    """Return whether the package's own version returns anything: an optimiser's step does not."""
    return own(where) is None or "return" in inspect.getsource(own(where))


def _written_to(given):
    """Yield (label, value) of all that a call could write into: arrays, lists, dicts; `self` only if it is frozen."""
    for label, value in given.items():
        if label != "self" or (is_dataclass(value) and value.__dataclass_params__.frozen):
            yield from _parts(label, value)


def _parts(label, value):
    if isinstance(value, np.ndarray) or type(value) in (list, dict):  # a Tape is a dict that is there to change
        yield label, value
    if isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            if type(item) not in UNCHANGING:
                yield from _parts(f"{label}[{i}]", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if type(item) not in UNCHANGING:
                yield from _parts(f"{label}[{key!r}]", item)
    elif is_dataclass(value) and not isinstance(value, type):
        for part in fields(value):
            yield from _parts(f"{label}.{part.name}", getattr(value, part.name))


def _content(value):
    """Return what a later state is compared with: the bytes of an array, or which objects a list or dict holds."""
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return list(map(id, value)), list(map(id, value.values())) if isinstance(value, dict) else None


def edited(where, edits, version=None):
    """Return a function with `edits` (old, new) in its source; each old text occurs there exactly once.

    version : what is edited; default: the package's own.
    """
    version = own(where) if version is None else version
    source = sources.source(version)
    for old, new in edits:
        if source.count(old) != 1:
            raise ValueError(f"{where} holds {old!r} {source.count(old)} times, not once")
        source = source.replace(old, new)
    modules = (own(where).__module__, version.__module__)  # the second may lack what only an edit needs
    namespace = {name: value for module in modules for name, value in vars(sys.modules[module]).items()}
    exec(compile(source, f"<{where}, edited>", "exec"), namespace)
    return namespace[version.__name__]
