"""Stop texts: where the text of a row ends, found in what its tokens say and not in the tokens themselves.

One text can be cut into tokens in several ways, and may begin or end inside one, so stop texts are looked for in the
decoded text. What may yet become one is held back until it is known.
"""

import codecs
from collections.abc import Iterable

from ..text.tokenizer import Tokenizer, check_text


def check_stops(stops: str | Iterable[str]) -> tuple[str, ...]:
    """Return stop texts as a tuple, also a single one; ValueError for what cannot be one."""
    found = (stops,) if isinstance(stops, str) else tuple(stops)
    for stop in found:
        check_text(stop)
        if not stop:
            raise ValueError("a stop text is empty: it would end every text at once")
    return found


class TextStream:
    """The text of one row, token by token, up to the first stop text.

    Where several are complete, the one that ends first counts, and of those the longest. It is not part of the text.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Iterable[str] = ()):
        self.tokenizer, self.stops = tokenizer, tuple(stops)
        self.parts: list[str] = []  # of the text so far
        self.stopped = False
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""

    @property
    def text(self) -> str:
        """The text so far, without what is held back."""
        return "".join(self.parts)

    def push(self, token: int) -> str:
        """Return what a token adds to the text for certain."""
        return self._add(self._decoder.decode(self.tokenizer.token(token)))

    def end(self) -> str:
        """Return what was held back, once it is known that no token follows."""
        return self._add(self._decoder.decode(b"", final=True), final=True)

    def _add(self, new: str, final: bool = False) -> str:
        if self.stopped:
            return ""
        text = self._held + new
        # (end, start): `text` holds no whole stop text before `new`.
        found = [(at + len(stop), at) for stop in self.stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, kept = True, min(found)[1]
        else:
            kept = len(text) if final else len(text) - self._unfinished(text)
        self._held = text[kept:]
        self.parts.append(text[:kept])
        return text[:kept]

    def _unfinished(self, text: str) -> int:
        """Return how many of the last characters of `text` may begin a stop text."""
        longest = max(map(len, self.stops), default=0)
        for n in range(min(len(text), longest - 1), 0, -1):
            if any(stop.startswith(text[-n:]) for stop in self.stops):
                return n
        return 0
