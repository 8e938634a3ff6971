"""What an assignment is: functions to write, checks that judge them, known mistakes, hints.

The pattern to follow is `assignments/a2_layernorm.py`; its docstring says how one is written. Read next: `seams.py`.
"""

import functools
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module, resources

from ..config import nearest
from . import seams


@dataclass(frozen=True)
class Check:
    """A claim about one function (or several), and how to try it."""

    name: str  # "a2.formula": what --json calls it
    claim: str  # a sentence that is true of a right answer
    functions: tuple[str, ...]  # the functions that are judged, as "layernorm:LayerNorm.__call__"
    cases: Callable  # rng -> dicts of arguments for `run`, from the smallest to the largest
    run: Callable  # arguments -> what is compared; it uses the package, in which the student's functions stand

    @property
    def title(self):
        """The function as a student knows it: ``LayerNorm.__call__``."""
        return seams.short(self.functions[0]) if len(self.functions) == 1 else "all together"


@dataclass(frozen=True)
class Mistake:
    """A wrong version of a function, known by its name in words."""

    words: str  # goes on from "This is what comes out when ..."
    function: str
    version: Callable  # () -> the wrong function (or class)


@dataclass
class Assignment:
    """A file that a student fills in.

    title : what it is about, in one line.
    functions : ``{"layernorm:LayerNorm.__call__": (hint, hint, hint)}``: module of this package, then the name in it
        and in the student's file. A class may stand there as a whole (``"cache:KVCache"``).
    writes : of those, the ones that may write into their arguments.
    may_import : what of this package the student's file may import, beside `trace` and `config`, by full names such as
        "nanogpt_np.attention.softmax". Where all is graded together, the student's own stands in for it.
    """

    title: str
    functions: dict[str, tuple[str, ...]]
    writes: tuple[str, ...] = ()
    may_import: tuple[str, ...] = ()
    stem: str = ""  # "a2_layernorm": the name of its module, of its stub and of the student's file
    checks: list[Check] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)

    @property
    def name(self):
        """``a2``"""
        return self.stem.partition("_")[0]

    @property
    def file(self):
        """The name of the student's file."""
        return f"{self.stem}.py"

    @property
    def stub(self):
        """The file that a student starts from."""
        return resources.files(__package__).joinpath("stubs", self.file)

    def where(self, function):
        """Return the full name of one of its functions: ``LayerNorm.__call__`` -> ``layernorm:LayerNorm.__call__``."""
        (found,) = [where for where in self.functions if function in (where, seams.short(where))]
        return found

    def check(self, function, claim, cases):
        """Decorate ``run(**case)`` as a check that `claim` is true of `function` for the `cases` of a random state."""

        def decorate(run):
            self.checks.append(Check(run.__name__, claim, (self.where(function),), cases, run))
            return run

        return decorate

    def mistake(self, function, words, *edits):
        """Add a wrong version of `function`: the package's source after `edits`, pairs of (old text, new text).

        `words` go on from "This is what comes out when ...". Each old text stands in the source exactly once.
        """
        where = self.where(function)
        version = functools.cache(functools.partial(seams.edited, where, edits))  # compiled once, tried often
        self.mistakes.append(Mistake(words, where, version))

    def wrong_version(self, function, words):
        """Decorate a wrong version of `function` that is no small edit of the package's source."""

        def decorate(version):
            self.mistakes.append(Mistake(words, self.where(function), lambda: version))
            return version

        return decorate


@functools.cache
def assignments():
    """Return ``{"a1": Assignment, ...}`` in order, found by the files in `assignments/`; "whole" is the last."""
    package, mistakes = (import_module(f".{name}", __package__) for name in ("assignments", "mistakes"))
    catalogued = {module.name for module in pkgutil.iter_modules(mistakes.__path__)}
    found = {}
    for stem in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        assignment = import_module(f".assignments.{stem}", __package__).ASSIGNMENT
        assignment.stem = stem
        if stem in catalogued:
            import_module(f".mistakes.{stem}", __package__)  # adds them to the assignment
        found[assignment.name] = assignment
    return found


def get(name):
    """Return the assignment of that name; ValueError with the nearest ones if there is none."""
    found = {alias: a for a in assignments().values() for alias in (a.name, a.stem, a.file)}
    if name not in found:
        there = ", ".join(assignments())
        raise ValueError(f"no assignment {name!r}{nearest(name, found)}; there are: {there}")
    return found[name]


def takes_trace(run):
    """Return whether a check hands a trace through."""
    return "trace" in inspect.signature(run).parameters
