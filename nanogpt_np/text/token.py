"""One token of a text: its id and its bytes. `Tokenizer.tokens` returns them."""

from typing import NamedTuple


class Token(NamedTuple):
    """One token of a text."""

    id: int
    raw: bytes

    @property
    def text(self) -> str:
        """Its text; bytes that are no whole character show as their codes."""
        return self.raw.decode("utf-8", "backslashreplace")
