"""Added tokens: texts that are one token each, cut out of a text before byte-pair encoding sees it.

``<|endoftext|>`` is GPT-2's only one. Special tokens are cut out only on request, all others always. Where several
match, and in which of two passes, follows Hugging Face's `tokenizers`.
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
    lstrip: bool = False  # includes the white space before it
    rstrip: bool = False  # includes the white space after it
    normalized: bool = False  # looked for in the second pass


class AddedTokens:
    """The added tokens of a tokenizer, by content; `split` finds them in a text."""

    def __init__(self, tokens: Iterable[Added] = ()):
        self.by_content = {token.content: token for token in tokens if token.content}
        self._passes = {special: self._compiled(special) for special in (False, True)}

    def _compiled(self, special: bool) -> list["re.Pattern[str]"]:
        wanted = [token for token in self.by_content.values() if special or not token.special]
        passes = ([t.content for t in wanted if not t.normalized], [t.content for t in wanted if t.normalized])
        # The leftmost match wins; among those that begin there, the longest.
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
            if start < begin:  # rstrip of the token before has taken this white space
                continue
            if token.lstrip:
                start -= AFTER.match(text[begin:start][::-1]).end()  # type: ignore[union-attr]
            yield from self._split(text[begin:start], passes[1:])
            yield token.id
            begin = found.end()
            if token.rstrip:
                begin = AFTER.match(text, begin).end()  # type: ignore[union-attr]
        yield from self._split(text[begin:], passes[1:])
