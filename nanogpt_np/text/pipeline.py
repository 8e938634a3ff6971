"""The steps of a tokenizer.json before and after byte-pair encoding: they must be GPT-2's, or change nothing."""

import reprlib
from typing import Any

from .gpt2 import SPLIT

ADVICE = "only GPT-2's kind, a byte-level BPE, can be read here; --tokenizer NAME|DIR takes another"
ORIGINAL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # as OpenAI wrote SPLIT


def check_steps(values: dict[str, Any]) -> None:
    """Raise ValueError for steps before and after BPE that are not GPT-2's, unless they change nothing."""
    for step in _steps(values.get("normalizer"), "normalizers"):
        raise ValueError(f"its normalizer is {_kind(step)}, and GPT-2 has none: {ADVICE}")
    before = _steps(values.get("pre_tokenizer"), "pretokenizers")
    own_words = len(before) == 2 and _cuts_into_words(before[0]) and before[1].get("use_regex") is False
    level = before[-1] if len(before) == 1 or own_words else {}
    if level.get("type") != "ByteLevel":
        kinds = " and ".join(map(_kind, before[:4])) or "missing"
        raise ValueError(f"its pre_tokenizer is {kinds}, not ByteLevel with GPT-2's pattern: {ADVICE}")
    if level.get("add_prefix_space", True):
        raise ValueError(f"its pre_tokenizer has add_prefix_space, which adds a space to every text: {ADVICE}")
    if not (level.get("use_regex", True) or own_words):
        raise ValueError(f"its pre_tokenizer has use_regex off, so it does not cut texts into words: {ADVICE}")
    for step in _steps(values.get("post_processor"), "processors"):
        if step.get("type") != "ByteLevel" and not _adds_nothing(step):
            raise ValueError(f"its post_processor is {_kind(step)}, which adds tokens to every text: {ADVICE}")
    for step in _steps(values.get("decoder"), "decoders"):
        if step.get("type") != "ByteLevel":
            raise ValueError(f"its decoder is {_kind(step)}, not ByteLevel: {ADVICE}")


def _cuts_into_words(step: dict[str, Any]) -> bool:
    """Return whether a step cuts as GPT-2 does, by its pattern."""
    plain = step.get("behavior") == "Isolated" and not step.get("invert")
    return step.get("type") == "Split" and plain and step.get("pattern") in [{"Regex": SPLIT}, {"Regex": ORIGINAL}]


def _adds_nothing(step: dict[str, Any]) -> bool:
    """Return whether a step leaves a single text as it is."""
    single = step.get("single")
    if step.get("type") != "TemplateProcessing" or not isinstance(single, list) or len(single) != 1:
        return False
    return isinstance(single[0], dict) and "Sequence" in single[0]


def _steps(value: Any, inside: str) -> list[dict[str, Any]]:
    """Return the steps of a part of tokenizer.json: none, one, or a Sequence of some."""
    if value is None:
        return []
    step = checked(value, "a step", dict)
    if step.get("type") != "Sequence":
        return [step]
    return [checked(part, "a step", dict) for part in checked(step.get(inside), inside, list)]


def _kind(step: dict[str, Any]) -> str:
    return shown(step.get("type"))


def checked(value: Any, what: str, kind: type) -> Any:
    """Return `value` if it is a dict or list, as `kind` says; else raise ValueError."""
    if not isinstance(value, kind):
        expected = "an object" if kind is dict else "a list"
        raise ValueError(f"{what} must be {expected}, not {shown(value)}")
    return value


_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


def shown(value: Any) -> str:
    """Return a value as text of bounded length on one line."""
    return _short.repr(value)[:200]
