"""How things are said in one line: the nearest known name, a few of many, text that is safe to print."""

import difflib
import shutil
import sys
from collections.abc import Iterable

WIDTH = 120  # columns of a line, where stdout is no terminal


def nearest(name: str, known: Iterable[str], n: int = 1) -> str:
    """Return ``" (did you mean ...?)"``, or nothing where no known name is near."""
    close = difflib.get_close_matches(name, list(known), n=n, cutoff=0.6)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def few(names: Iterable[str], n: int = 3) -> str:
    """Return the first of some names, and how many more there are: ``"a, b, c and 4 more"``."""
    names = list(names)
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(map(one_line, names[:n])) + more if names else "nothing"


def one_line(text: object) -> str:
    """Return `text` with its lines joined; control characters (a forged file may hold some) become their codes."""
    text = " ".join(str(text).split("\n")).strip()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def columns(usual: int) -> int:
    """Return how wide a line may be: the terminal's width, but at least 80; `usual` where stdout is no terminal."""
    if sys.stdout is None or not sys.stdout.isatty():
        return usual
    return max(80, shutil.get_terminal_size((usual, 24)).columns)


def wrapped(lead: str, text: str) -> str:
    """Return `lead` and the `text` that belongs to it, whose later lines stand under its first."""
    import textwrap  # here, since most commands do without

    return textwrap.fill(
        text,
        columns(WIDTH),
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_long_words=False,
        break_on_hyphens=False,
    )
