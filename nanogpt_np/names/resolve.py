"""Which trace point a word means in one place: ``acts["ln_f"]``, ``trace --only queries``, ``Patch({"ln_f": ...})``.

One rule for all of them. The name of a trace point means that point and no other. Any other word is looked up in the
glossary, and only the points that this place has count: those of a recording, of a model's steps, of an edit. If one
is left, that is the answer; if several are, the message lists them and says how to choose. Read first: `glossary.py`.
"""

import functools
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, TypeVar

from . import points
from .entries import Entry
from .glossary import PART, WHOLE, all_names, close_names, matches, words_of
from .wording import few, nearest, one_line

if TYPE_CHECKING:  # it would bring NumPy with it
    from ..model.config import Config

Value = TypeVar("Value")

SHOWN = 6  # candidates that a message lists
LONGEST = 80  # characters of a word in a message


class UnknownName(KeyError, ValueError):
    """A word that means no name here, or several: the KeyError of a mapping, with a sentence as its text."""

    def __str__(self) -> str:
        return str(self.args[0])


class Named(dict[str, Value]):
    """A dict by trace point that also understands other names when it is read, and says so when it does not."""

    def __missing__(self, word: str) -> Value:
        return self[resolve(word, self)]


def resolve(word: str, names: Collection[str], where: str = "here", config: "Config | None" = None) -> str:
    """Return the one of `names` that a word means.

    names : trace points in order, such as a recording's. where : the place that has them, for the message.
    config : the model's, if known: it says which of the hidden states is the last.

    Raises UnknownName, with the candidates or the nearest names, unless the word means exactly one.
    """
    found = candidates(word, names, config)
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownName(_several(word, found))
    if points.is_point(word):
        raise UnknownName(f"there is no {word} {where}")
    raise UnknownName(_unknown(word, f"which is not {where}", names, config))


def candidates(word: str, names: Collection[str], config: "Config | None" = None) -> list[str]:
    """Return those of `names` that a word means: the word itself if it is one of them."""
    if word in names:
        return [word]
    if points.is_point(word):
        return []
    meanings = set(_meanings(word, config))
    return [name for name in names if name in meanings or _of_any_block(name) in meanings]


def select(pattern: str, names: Iterable[str], config: "Config | None" = None) -> list[str]:
    """Return all `names` that match: a whole name, a glob with ``*``, ``?`` and ``[]``, part of a name, any other word.

    Raises UnknownName, with the nearest names, if none does.
    """
    names = list(names)
    found = [name for name in names if name == pattern] or [name for name in names if fnmatchcase(name, pattern)]
    found = found or [name for name in names if pattern and pattern in name] or candidates(pattern, names, config)
    if not found:
        raise UnknownName(_unknown(pattern, "which is not among these steps", names, config))
    return found


def resolve_in_any_model(word: str) -> str:
    """Return the trace point that a word means in a model of any number of blocks: it must say in which block.

    Raises UnknownName, with the candidates or the nearest names.
    """
    if points.is_point(word):
        return word
    found = _meanings(word)
    if len(found) == 1 and "{i}" not in found[0]:
        return found[0]
    if len(found) == 1:
        every = found[0].replace("{i}", "*")
        raise UnknownName(
            f"{_short(word)} is {found[0]} of every block: add the block, as in {_in_block(word, 0)}, "
            f"or give {every} for all of them"
        )
    if found:
        raise UnknownName(_choose(word, found))
    here = [name.replace("{i}", str(points.block_of(word) or 0)) for name in points.TEMPLATES]
    raise UnknownName(_unknown(word, "", here, None))


@functools.lru_cache(maxsize=1024)
def _meanings(word: str, config: "Config | None" = None) -> tuple[str, ...]:
    """Return the trace points that fit a word best: names with ``{i}``, or with the block that the word names."""
    if "*" in word or "?" in word:  # a glob, which selects by our own names
        return ()
    try:
        found = [(fit, entry) for fit, entry in matches(word, config) if entry.is_point and fit <= PART]
    except ValueError:  # no word, or a block that the model does not have
        return ()
    best = min((fit for fit, _ in found), default=PART)
    fitting = [entry for fit, entry in found if fit == best]
    exact = [entry for entry in fitting if best > WHOLE and _ends_in(entry, words_of(word))]
    names = [entry.name for entry in exact or fitting]
    return tuple(name for name in names if _of_any_block(name) == name or _of_any_block(name) not in names)


def _ends_in(entry: Entry, words: list[str]) -> bool:
    """Return whether the last part of one of the entry's names is these words: "pre" is mlp.hook_pre, not resid_pre."""
    parts = (words_of(name.rpartition(".")[2].removeprefix("hook_")) for name in all_names(entry))
    return any(part == words for part in parts)


def _of_any_block(name: str) -> str:
    return points.BLOCK_NUMBER.sub("blocks.{i}.", name, count=1)


def _several(word: str, found: list[str]) -> str:
    kinds = list(dict.fromkeys(map(_of_any_block, found)))
    blocks = list(dict.fromkeys(points.block_of(name) for name in found))
    if len(kinds) > 1:
        return _choose(word, kinds if len(blocks) > 1 else found)
    dots = " or " if len(found) == 2 else " ... "
    return f"{_short(word)} is {found[0]}{dots}{found[-1]}: add the block, as in {_in_block(word, blocks[0])}"


def _unknown(word: str, lacking: str, names: Collection[str], config: "Config | None") -> str:
    """Return the message for a word that means nothing in this place."""
    try:
        known = matches(word, config)
    except ValueError as error:
        return one_line(error)
    if means := _meanings(word, config):
        return f"{_short(word)} is {_listed(means)}, {lacking}"
    fitting = [entry for fit, entry in known if fit <= PART]
    stored = [entry.name for entry in fitting if not entry.is_point]
    if stored and len(stored) == len(fitting):
        return f"{_short(word)} is the parameter {_listed(stored[:1])}, not a trace point: model.params has parameters"
    ends = dict.fromkeys(name.rpartition(".")[2] for name in names if isinstance(name, str))
    close = nearest(word, [*(name for name in names if isinstance(name, str)), *ends], n=3)
    return f"no trace point {_short(word)!r}{close or close_names(word, config)}"


def _choose(word: str, names: Sequence[str]) -> str:
    number = ", with the number of a block for {i}" if any("{i}" in name for name in names) else ""
    return f"{_short(word)} is {_listed(names)}: give one of these names{number}"


def _in_block(word: str, block: int | None) -> str:
    return f"blocks.{block}.{_short(word)}"


def _listed(names: Sequence[str]) -> str:
    return few(names, SHOWN) if len(names) > SHOWN else " or ".join(names)


def _short(word: str) -> str:
    return one_line(word, LONGEST)
