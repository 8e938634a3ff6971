"""What an assignment is: functions to write, checks that judge them, known mistakes, hints.

The pattern to follow is `assignments/a2_layernorm.py`; its docstring says how one is written. Read next: `seams.py`.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import resources

from . import seams


@dataclass(frozen=True)
class Check:
    """A claim about one function (or several), and how to try it."""

    name: str  # "a2.formula": what --json calls it
    claim: str  # a sentence that is true of a right answer
    functions: tuple[str, ...]  # the functions that are judged, as "model.layernorm:LayerNorm.__call__"
    cases: Callable  # rng -> dicts of arguments for `run`, from the smallest to the largest
    run: Callable  # arguments -> what is compared; it uses the package, in which the student's functions are installed
    apart: bool = False  # whoever fails it may have made a second mistake, which `naming` looks for without it

    @property
    def title(self):
        """The function as a student knows it: ``LayerNorm.__call__``."""
        return seams.short(self.functions[0]) if len(self.functions) == 1 else "all together"


@dataclass(frozen=True)
class Mistake:
    """A wrong version of a function, known by its name in words."""

    words: str  # continues "This is what comes out when ..."
    function: str
    version: Callable  # () -> the wrong function (or class)


@dataclass
class Assignment:
    """A file that a student fills in.

    stem : "a2_layernorm", the name of its module, of its stub and of the student's file.
    title : what it is about, in one line.
    functions : ``{"model.layernorm:LayerNorm.__call__": (hint, hint, hint)}``: the module of this package, then the
        name in it and in the student's file. A class can be listed as a whole (``"model.cache:KVCache"``).
    writes : the functions among them that may write into their arguments.
    may_import : what the student's file may import from this package besides `model.trace` and `model.config`, by full
        names such as "nanogpt_np.model.attention.softmax". Where all is graded together, the student's own version is
        used instead.
    spelled_out : right versions of functions, written the way students write them; see `spell_out`.
    """

    stem: str
    title: str
    functions: dict[str, tuple[str, ...]]
    writes: tuple[str, ...] = ()
    may_import: tuple[str, ...] = ()
    checks: list[Check] = field(default_factory=list)
    mistakes: list[Mistake] = field(default_factory=list)
    spelled_out: dict[str, Callable] = field(default_factory=dict)

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
        """Return the full name of a function: ``LayerNorm.__call__`` -> ``model.layernorm:LayerNorm.__call__``."""
        (found,) = [where for where in self.functions if function in (where, seams.short(where))]
        return found

    def check(self, function, claim, cases, *, apart=False):
        """Decorate ``run(**case)`` as a check that `claim` is true of `function` for the `cases` of a random state."""

        def decorate(run):
            self.checks.append(Check(run.__name__, claim, (self.where(function),), cases, run, apart))
            return run

        return decorate

    def spell_out(self, function, version):
        """Let `mistake` edit this right `version` of a function instead of the package's own, which may be too short.

        The package's attention calls a Linear, for example. A student may write the product and the sum out, and then
        can forget the bias.
        """
        self.spelled_out[self.where(function)] = version

    def mistake(self, function, words, *edits):
        """Add a wrong version of `function`: its source after `edits`, pairs of (old text, new text).

        `words` continue "This is what comes out when ...". The source is the package's, or the version that was given
        to `spell_out`. Each old text occurs in it exactly once.
        """
        where = self.where(function)
        source = functools.partial(seams.edited, where, edits, self.spelled_out.get(where))
        self.mistakes.append(Mistake(words, where, functools.cache(source)))  # compiled once, tried often

    def wrong_version(self, function, words):
        """Decorate a wrong version of `function` that is no small edit of a right one."""

        def decorate(version):
            self.mistakes.append(Mistake(words, self.where(function), lambda: version))
            return version

        return decorate


def takes_trace(run):
    """Return whether a check passes on a trace."""
    return "trace" in inspect.signature(run).parameters
