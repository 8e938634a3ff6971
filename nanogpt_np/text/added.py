"""Added tokens: texts that are one token each, cut out of a text before byte-pair encoding sees it.

``<|endoftext|>`` is GPT-2's only one. A special one is cut out only on request; others always are. Which of several
is found, and the two passes, are as in Hugging Face's `tokenizers`.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

WHITE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # \s in SPLIT; Python's has four more
AFTER = re.compile(f"[{WHITE}]*")


@dataclass(frozen=True)
class Added:
    """One text that is a token."""

    content: str
    id: int
    special: bool = True
    lstrip: bool = False  # takes the white space before it too
    rstrip: bool = False  # and after it
    normalized: bool = False  # looked for in a second pass


class AddedTokens:
    """The added tokens of a tokenizer."""

    def __init__(self, tokens: Iterable[Added] = ()):
        self.by_content = {token.content: token for token in tokens if token.content}
        self._passes = {special: self._compiled(special) for special in (False, True)}

    def _compiled(self, special: bool) -> list["re.Pattern[str]"]:
        wanted = [token for token in self.by_content.values() if special or not token.special]
        passes = ([t.content for t in wanted if not t.normalized], [t.content for t in wanted if t.normalized])
        # The leftmost is found, and of those that begin there the longest.
        return [re.compile("|".join(map(re.escape, sorted(some, key=len, reverse=True)))) for some in passes if some]

    def split(self, text: str, special: bool) -> Iterator[str | int]:
        """Yield the parts of `text` in order: texts, and the ids of added tokens; special ones if `special`."""
        return self._split(text, self._passes[special])

    def _split(self, text: str, passes: list["re.Pattern[str]"]) -> Iterator[str | int]:
        if not passes:
            yield text
            return
        begin = 0
        for found in passes[0].finditer(text):
            token, start = self.by_content[found[0]], found.start()
            if start < begin:  # the token before took this white space
                continue
            if token.lstrip:
                start -= AFTER.match(text[begin:start][::-1]).end()  # type: ignore[union-attr]
            yield from self._split(text[begin:start], passes[1:])
            yield token.id
            begin = found.end()
            if token.rstrip:
                begin = AFTER.match(text, begin).end()  # type: ignore[union-attr]
        yield from self._split(text[begin:], passes[1:])
