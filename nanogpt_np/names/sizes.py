"""The published sizes of GPT-2, by name. No weights are needed to know their shapes.

Source: Radford et al. 2019, table 2; Hugging Face's config.json files; Sanh et al. 2019 for DistilGPT2.
"""

from dataclasses import replace

from ..model.config import Config
from .wording import nearest

_GPT2 = Config()
PUBLISHED = {
    "gpt2": _GPT2,
    "gpt2-medium": replace(_GPT2, n_embd=1024, n_layer=24, n_head=16),
    "gpt2-large": replace(_GPT2, n_embd=1280, n_layer=36, n_head=20),
    "gpt2-xl": replace(_GPT2, n_embd=1600, n_layer=48, n_head=25),
    "distilgpt2": replace(_GPT2, n_layer=6),
}


def published(name: str) -> Config:
    """Return the Config of a published model, such as ``gpt2-medium``; ValueError lists the names."""
    if name not in PUBLISHED:
        raise ValueError(f"unknown model {name!r}{nearest(name, PUBLISHED)}; known: {', '.join(PUBLISHED)}")
    return PUBLISHED[name]
