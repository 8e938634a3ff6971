"""Helpers for messages: the nearest known name, short lists, text that is safe to print, lines folded to a width."""

import difflib
import re
from collections.abc import Iterable, Sequence
from itertools import islice

WIDTH = 80  # columns of a line; commands ask the terminal
ROOM = 20  # columns that the text after a lead needs, or it goes below
WHOLE = re.compile(r'"[^"\n]{1,18}"|\[[^][\n]{1,30}\]')  # a token in quotes, a shape: not folded
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


def wrapped(lead: str, text: str, width: int = WIDTH) -> str:
    """Return `lead` followed by `text`, folded at spaces so that later lines align with its first.

    Quoted tokens and shapes stay whole. Where a lead leaves little room, the text is below it.
    """
    import textwrap  # here, since most commands do without

    space = next(c for c in map(chr, range(0xE000, 0xF900)) if c not in text)  # stands for one that stays
    text = WHOLE.sub(lambda found: found[0].replace(" ", space), text)
    room = width - len(lead)
    below = room < ROOM or (bool(lead.strip()) and any(len(word) > room for word in text.split()))
    indent = "    " if below else lead
    lines = textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
        expand_tabs=False,
        replace_whitespace=False,
    )
    above = [folded(lead.rstrip(), width)] if below and lead.strip() else []
    return "\n".join([*above, *lines]).replace(space, " ") or lead.rstrip()


def folded(text: str, width: int = WIDTH) -> str:
    """Return `text` with lines of more than `width` columns folded at spaces, each at its own indent.

    What follows a first column, one that ends in two spaces or more, stays beside it.
    """
    lines = text.split("\n")
    return "\n".join(line if len(line) <= width else _folded(line, width) for line in lines)


def _folded(line: str, width: int) -> str:
    column = re.match(r" *\S+(?: \S+)* {2,}(?=\S)", line)
    if column and len(column[0]) <= width - ROOM:
        return wrapped(column[0], line[column.end() :], width)
    text = line.lstrip(" ")
    indent = line[: len(line) - len(text)]
    return wrapped(indent if len(indent) <= width - ROOM else "", text, width)


def screen(lines: Sequence[str], most: int = SCREEN) -> list[str]:
    """Return the lines, or the first and the last of them with a line between that counts the others."""
    if len(lines) <= most:
        return list(lines)
    end = most // 3
    start = most - 1 - end
    return [*lines[:start], f"... {len(lines) - start - end} more lines ...", *lines[-end:]]
