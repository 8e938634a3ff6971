"""Text to token ids and back, and how tokens are shown. Nothing here needs a model.

- `tokenizer`: GPT-2's byte-level BPE; its table of ranks is `r50k_base.tiktoken`.
- `display`: the text of a token, readable whatever bytes are in it.
"""

from .tokenizer import END_OF_TEXT, END_OF_TEXT_ID, Tokenizer

__all__ = ["END_OF_TEXT", "END_OF_TEXT_ID", "Tokenizer"]
