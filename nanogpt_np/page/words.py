"""The tokens that the page names, with their bytes made visible. Read next: `contents.py`."""

import functools
import unicodedata

from ..tokenizer import Tokenizer


class Words:
    """The tokens that the page names, each with the pieces of its text."""

    def __init__(self):
        self.tokenizer, self.shown = _tokenizer(), {}

    def __call__(self, i):
        """Return the id, as a plain whole number, and remember its text."""
        i = int(i)
        self.shown.setdefault(i, pieces(self.tokenizer.token(i)))
        return i


@functools.cache
def _tokenizer():
    return Tokenizer()  # its table takes a tenth of a second to read


def pieces(raw):
    r"""Return the bytes of a token as [kind, text] pairs: 0 is text, 1 a space, 2 the code of what cannot be seen.

    What has no shape of its own (control characters, marks of direction, bytes that are no whole character) becomes
    its code as Python writes it: from \x80 on that is a byte, from \u0080 on a character. A combining mark without its
    letter stands on a dotted circle.
    """
    found = []
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
        if found and found[-1][0] == kind:
            found[-1][1] += text
        else:
            found.append([kind, text])
    return found
