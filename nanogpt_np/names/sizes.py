"""The published sizes of GPT-2, by name. No weights are needed to know their shapes.

Source: Radford et al. 2019, table 2; Hugging Face's config.json files; Sanh et al. 2019 for DistilGPT2.
"""

from collections.abc import Iterable
from dataclasses import replace

from ..model.config import Config
from .wording import LONGEST_NAME, nearest, one_line

_GPT2 = Config()
PUBLISHED = {
    "gpt2": _GPT2,
    "gpt2-medium": replace(_GPT2, n_embd=1024, n_layer=24, n_head=16),
    "gpt2-large": replace(_GPT2, n_embd=1280, n_layer=36, n_head=20),
    "gpt2-xl": replace(_GPT2, n_embd=1600, n_layer=48, n_head=25),
    "distilgpt2": replace(_GPT2, n_layer=6),
}


SIZES = {  # what people and OpenAI call them
    "gpt2": ("small", "base", "117m", "124m"),
    "gpt2-medium": ("345m", "355m"),
    "gpt2-large": ("762m", "774m"),
    "gpt2-xl": ("1542m", "1558m", "15b"),
    "distilgpt2": ("82m", "88m"),
}


def published(name: str) -> Config:
    """Return the Config of a published model, such as ``gpt2-medium``, in any letter case; ValueError lists all."""
    if name.lower() in PUBLISHED:
        return PUBLISHED[name.lower()]
    raise ValueError(
        f"unknown model {one_line(repr(name), LONGEST_NAME)}{likeliest(name, PUBLISHED)}; known: {', '.join(PUBLISHED)}"
    )


def likeliest(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean ...?)"`` for a name that is not `known`, or "" if none is close.

    The owner of a repository, letter case and punctuation count for nothing: ``GPT-2`` means gpt2. Nor does how people
    call a size: ``gpt2-small`` is gpt2 too.
    """
    known = list(known)
    if len(name) > LONGEST_NAME:
        return ""
    plain = _plain(name)
    for other in known:
        if plain in {_plain(other), *(start + size for size in SIZES.get(other, ()) for start in ("", "gpt2"))}:
            return f" (did you mean {other}?)"
    return nearest(name, known) or nearest(name.rpartition("/")[2].lower(), known)


def _plain(name: str) -> str:
    return "".join(c for c in name.rpartition("/")[2].lower() if c.isalnum())
