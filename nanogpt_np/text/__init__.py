"""Text to token ids and back, and how tokens are shown. Nothing here needs a model.

- `tokenizer`: byte-level BPE, GPT-2's (`gpt2`; its table of ranks is `r50k_base.tiktoken`) or that of a folder.
- `tokenizer_files`: what the tokenizer files of others say; `pipeline`: the steps around BPE; `added`: added tokens.
- `merges`: from merges to ranks and back. `files`: only regular files, JSON of bounded size.
- `display`: the text of a token, readable whatever bytes are in it.
"""

from .tokenizer import END_OF_TEXT, END_OF_TEXT_ID, Tokenizer

__all__ = ["END_OF_TEXT", "END_OF_TEXT_ID", "Tokenizer"]
