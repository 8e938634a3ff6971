"""Helpers for one-line messages: the nearest known name, short lists, text that is safe to print."""

import difflib
import shutil
import sys
from collections.abc import Iterable, Sequence
from itertools import islice

WIDTH = 120  # columns of a line if stdout is not a terminal
LONGEST = 600  # characters of a message: names in it may come from a forged file
LONGEST_NAME = 80  # characters of a name in a message
SCREEN = 100  # lines of a table that an object prints as
CANDIDATES = 2000  # names that one name is compared with; gpt2-xl has fewer trace points and parameters


def nearest(name: str, known: Iterable[str], n: int = 1) -> str:
    """Return ``" (did you mean ...?)"``, or "" if no known name is close.

    The work is bounded: long names are not compared, nor more than `CANDIDATES`.
    """
    if len(name) > LONGEST_NAME:
        return ""
    candidates = list(islice((other for other in known if len(other) <= LONGEST_NAME), CANDIDATES))
    close = difflib.get_close_matches(name, candidates, n=n, cutoff=0.6)
    return f" (did you mean {' or '.join(map(one_line, close))}?)" if close else ""


def few(names: Iterable[str], n: int = 3) -> str:
    """Return the first `n` names, and how many more there are: ``"a, b, c and 4 more"``."""
    names = list(names)
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(one_line(name, LONGEST_NAME) for name in names[:n]) + more if names else "nothing"


def one_line(text: object, longest: int = LONGEST) -> str:
    """Return `text` with its lines joined, its control characters escaped and its middle left out if it is long.

    A forged file may hold anything. The end of a message stays, since it says what to do.
    """
    text = " ".join(_clipped(str(text), 4 * longest).split("\n")).strip()
    return _clipped("".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text), longest)


def _clipped(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    end = longest // 3
    return f"{text[: longest - end - 5]} ... {text[-end:]}"


def columns(usual: int) -> int:
    """Return the maximum line width: the terminal's, but at least 80; `usual` if stdout is not a terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return usual
    return max(80, shutil.get_terminal_size((usual, 24)).columns)


def wrapped(lead: str, text: str) -> str:
    """Return `lead` followed by `text`, wrapped so that later lines align with its first."""
    import textwrap  # here, since most commands do without

    return textwrap.fill(
        text,
        columns(WIDTH),
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    )


def screen(lines: Sequence[str], most: int = SCREEN) -> list[str]:
    """Return the lines, or the first and the last of them with a line between that counts the others."""
    if len(lines) <= most:
        return list(lines)
    end = most // 3
    start = most - 1 - end
    return [*lines[:start], f"... {len(lines) - start - end} more lines ...", *lines[-end:]]
