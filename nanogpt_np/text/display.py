"""Tokens as people can read them: their text, with bytes and control characters made visible."""

import json
import re
import unicodedata
from typing import Any

from .tokenizer import Tokenizer

HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # categories: controls, format characters, half characters, separators


def text_of(tokenizer: Tokenizer, i: int) -> str:
    """Return the text of one token; bytes that are not a whole character show as their codes."""
    return tokenizer.token(i).decode("utf-8", "backslashreplace")


def visible(text: str, keep: str = "\n\t") -> str:
    """Return `text` with characters that cannot be seen, except those in `keep`, as their codes."""
    if text.isprintable():
        return text
    shown = (c.isprintable() or c in keep or unicodedata.category(c) not in HIDDEN for c in text)
    return "".join(c if seen else c.encode("unicode_escape").decode() for c, seen in zip(text, shown, strict=True))


def quoted(text: str) -> str:
    """Return a token's text as JSON writes it: what cannot be seen, and spaces other than " ", as codes."""
    shown = json.dumps(text, ensure_ascii=False)
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in shown)
    # `text_of` writes codes of bytes; no token of GPT-2 has a backslash before an x of its own.
    return re.sub(r"\\\\(x[0-9a-f]{2})", r"\\\1", shown)


def pieces(raw: bytes) -> list[list[Any]]:
    r"""Return the bytes of a token as [kind, text] pairs: 0 is text, 1 a space, 2 the code of what cannot be seen.

    What has no shape of its own (control characters, marks of direction, bytes that are not a whole character) becomes
    its code as Python writes it: from \x80 on that is a byte, from \u0080 on a character. A combining mark without its
    letter stands on a dotted circle.
    """
    found: list[tuple[int, list[str]]] = []  # the parts of a text are joined once: adding each to it is quadratic
    for c in raw.decode("utf-8", "surrogateescape"):
        category = unicodedata.category(c)
        if 0xDC80 <= ord(c) <= 0xDCFF:
            kind, text = 2, f"\\x{ord(c) - 0xDC00:02x}"
        elif c == " ":
            kind, text = 1, c
        elif category[0] in "CZ":
            kind, text = 2, f"\\u{ord(c):04x}" if 0x80 <= ord(c) < 0x100 else c.encode("unicode_escape").decode()
        elif category[0] == "M" and not (found and found[-1][0] == 0):
            kind, text = 0, "\u25cc" + c
        else:
            kind, text = 0, c
        if not (found and found[-1][0] == kind):
            found.append((kind, []))
        found[-1][1].append(text)
    return [[kind, "".join(texts)] for kind, texts in found]
