"""The files beside the weights: the tokenizer's, and generation_config.json. Which to write, and which are stale.

A model read from a folder with tokenizer files is saved with copies of them; any other of 50,257 tokens, with GPT-2's.
A model of another vocabulary size gets none, since GPT-2's would be wrong. Read next: `saving.py`.
"""

import hashlib
import weakref
from pathlib import Path

from ..model.config import Config
from ..model.gpt2 import GPT2
from ..text import gpt2
from ..text.files import read_bytes
from ..text.tokenizer import Tokenizer
from ..text.tokenizer_files import FILES, LARGEST_TABLE, TOKENIZER, read_files
from .configs import GENERATION, with_ends

# The folder that each model was read from, and that folder's tokenizer once something has asked for it.
_folders: weakref.WeakKeyDictionary[GPT2, Path] = weakref.WeakKeyDictionary()
_tokenizers: weakref.WeakKeyDictionary[GPT2, Tokenizer | None] = weakref.WeakKeyDictionary()


def remember(model: GPT2, folder: Path) -> None:
    """Note that `model` was read from `folder`."""
    _folders[model] = folder


def tokenizer_of(model: GPT2 | None) -> Tokenizer | None:
    """Return the tokenizer in the folder that a model was read from; None without a folder or a usable tokenizer."""
    if model is None or model not in _folders:
        return None
    if model not in _tokenizers:
        try:
            _tokenizers[model] = Tokenizer.found_in(_folders[model])
        except (ValueError, OSError):
            _tokenizers[model] = None
    return _tokenizers[model]


class Companions:
    """The files that belong beside a model in `folder`: those to write there, and those to remove.

    ends : the config that is written there, whose ids end a text.
    """

    def __init__(self, model: GPT2, folder: Path, tokenizer: Tokenizer | None, ends: Config):
        self.write: dict[str, bytes] = {}  # {name: contents} of files that are missing or differ
        files = _files(model, tokenizer)
        belong = {*files} or {*FILES}  # with none to write, those that are there stay
        if GENERATION in belong and (contents := files.get(GENERATION) or _here(folder / GENERATION)):
            files[GENERATION] = with_ends(contents, ends)
        replaces = None not in files.values()  # where there are no files, readers assume GPT-2's
        for name, contents in files.items():
            here = _here(folder / name)
            if contents is None:  # takes a fifth of a second to make
                if here is None or hashlib.sha256(here).hexdigest() != gpt2.PUBLISHED[name]:
                    self.write[name] = gpt2.tokenizer_json()
            elif here != contents:
                self.write[name] = contents
            replaces |= here is not None and name in self.write
        self.remove = [folder / name for name in FILES if name not in belong and (folder / name).is_file()]
        # Whether other weights in the folder would be read wrongly with them.
        self.replaces = bool(self.remove or (self.write and replaces))


def _files(model: GPT2, tokenizer: Tokenizer | None) -> dict[str, bytes | None]:
    """Return ``{name: contents}`` of what belongs beside a model; None stands for GPT-2's tokenizer.json."""
    V = model.config.vocab_size
    if tokenizer is not None:
        if tokenizer.files:
            return dict(tokenizer.files)
        gpt2s = tokenizer.is_gpt2 and tokenizer.size <= V
    else:
        if model in _folders:
            try:
                if files := read_files(_folders[model]):
                    return dict(files)
            except (ValueError, OSError):  # of another kind, or gone: the weights are saved all the same
                return {}
        gpt2s = V == gpt2.SIZE
    return {TOKENIZER: None, **gpt2.small_files(model.config.n_positions)} if gpt2s else {}


def _here(path: Path) -> bytes | None:
    try:
        return read_bytes(path, LARGEST_TABLE)
    except (ValueError, OSError):  # not there, or not a regular file, which `atomic_write` reports
        return None
