"""The tokens that the page names, with their bytes made visible (`text/display.py`). Read next: `contents.py`."""

from typing import Any

from ..text.display import pieces
from ..text.tokenizer import Tokenizer


class Words:
    """The tokens that the page names, each with the pieces of its text."""

    shown: dict[int, list[Any]]

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.shown = tokenizer, {}

    def __call__(self, i: Any) -> int:
        """Return the id, as a plain whole number, and remember its text."""
        i = int(i)
        self.shown.setdefault(i, pieces(self.tokenizer.token(i)))
        return i
