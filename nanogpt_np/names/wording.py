"""Helpers for one-line messages: the nearest known name, short lists, text that is safe to print."""

import difflib
import shutil
import sys
from collections.abc import Iterable

WIDTH = 120  # columns of a line if stdout is not a terminal


def nearest(name: str, known: Iterable[str], n: int = 1) -> str:
    """Return ``" (did you mean ...?)"``, or "" if no known name is close."""
    close = difflib.get_close_matches(name, list(known), n=n, cutoff=0.6)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def few(names: Iterable[str], n: int = 3) -> str:
    """Return the first `n` names, and how many more there are: ``"a, b, c and 4 more"``."""
    names = list(names)
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(map(one_line, names[:n])) + more if names else "nothing"


def one_line(text: object) -> str:
    """Return `text` with its lines joined; control characters (a forged file may hold some) are escaped."""
    text = " ".join(str(text).split("\n")).strip()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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
