"""The settings of a run, checked when they are made: on the command line, in Python, and when a state is read.

Read next: `trainer.py`, which follows them.
"""

import json
import sys
from dataclasses import dataclass, field
from reprlib import Repr
from typing import Any

import numpy as np

LARGEST = 2**31 - 1  # of whole numbers other than the seed
LARGEST_SEED = 2**128 - 1
LARGEST_STEP = 1 << 27  # tokens in a step: 64 times what GPT-3 was trained with; their ids alone take 2 GB
LONGEST_PATTERN = 200  # characters
_bounded = Repr()
_bounded.maxstring = _bounded.maxother = 160


def shown(value: object) -> str:
    """Return ``repr(value)``, bounded in length and depth: the value may come from a forged file."""
    return _bounded.repr(value)


@dataclass
class Settings:
    """The settings of a run; written into its state and read back when it is resumed."""

    steps: int = 1000
    batch_size: int = 8  # windows in a batch
    context: int = 256  # tokens in a window
    accumulate: int = 1  # batches accumulated into one step
    lr: float = 6e-4
    final_lr: float = 6e-5
    warmup: int = 100  # steps
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0  # largest global norm of the gradients
    seed: int = 0
    freeze: tuple[str, ...] = ()  # patterns of names of parameters to freeze
    share_unseen: bool = False  # tokens that never occur share one row (shared_rows.py)
    eval_every: int = 100  # steps
    save_every: int | None = None  # steps
    save_minutes: float = 5.0  # a save is due when either interval is over
    dtype: str = "float32"  # of model.safetensors
    special: bool = False  # <|endoftext|> in the texts is the token that separates them, not text
    source: dict[str, Any] = field(default_factory=dict)  # what the data is made from, so that a resumed run can
    schedule_steps: int | None = None  # the steps that the learning rate was planned for; None: `steps`
    held_lr: float | None = None  # the learning rate after those; None: the one that they end with

    def __post_init__(self) -> None:
        """Raise ValueError for invalid values."""
        for name, value in vars(self).items():
            if isinstance(value, np.generic):  # a NumPy scalar, which JSON cannot hold
                setattr(self, name, value.item())
        for name in ("steps", "batch_size", "context", "accumulate", "eval_every"):
            _check_whole(name, getattr(self, name), 1, LARGEST)
        if self.save_every is not None:
            _check_whole("save_every", self.save_every, 1, LARGEST)
        if self.schedule_steps is not None:
            _check_whole("schedule_steps", self.schedule_steps, 0, LARGEST)
        elif self.held_lr is not None:
            raise ValueError("held_lr is for the steps after schedule_steps, and those are not given")
        _check_whole("warmup", self.warmup, 0, LARGEST)
        _check_whole("seed", self.seed, 0, LARGEST_SEED)
        if self.batch_size * self.context * self.accumulate > LARGEST_STEP:
            raise ValueError(
                f"batch_size {self.batch_size} x context {self.context} x accumulate {self.accumulate} is more than "
                f"{LARGEST_STEP:,} tokens in a step: give smaller ones"
            )
        numbers = ["lr", "final_lr", "weight_decay", "clip", "save_minutes"]
        for name in numbers if self.held_lr is None else [*numbers, "held_lr"]:
            value, may_be_0 = getattr(self, name), name in ("final_lr", "weight_decay")
            if not _is_number(value) or value < 0 or (value == 0 and not may_be_0):
                raise ValueError(f"{name} must be a number {'>=' if may_be_0 else 'above'} 0, not {shown(value)}")
        betas = self.betas
        pair = isinstance(betas, tuple | list) and len(betas) == 2
        if not (pair and all(_is_number(b) and 0 <= b < 1 for b in betas)):
            raise ValueError(f"betas must be two numbers from 0 to below 1, not {shown(betas)}")
        freeze = self.freeze
        if not (isinstance(freeze, tuple | list) and all(isinstance(p, str) for p in freeze)):
            raise ValueError(f"freeze must be patterns such as ('h.0.*', 'wte.weight'), not {shown(freeze)}")
        if any(len(pattern) > LONGEST_PATTERN for pattern in freeze):
            raise ValueError(f"a pattern of freeze has more than {LONGEST_PATTERN} characters")
        self.betas, self.freeze = (betas[0], betas[1]), tuple(freeze)  # JSON makes lists of them
        for name in ("share_unseen", "special"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} must be true or false, not {shown(getattr(self, name))}")
        if self.dtype not in ("float32", "float16"):
            raise ValueError(f"dtype must be float32 or float16, not {shown(self.dtype)}")
        _check_source(self.source)


def _is_number(value: Any) -> bool:
    """Return whether `value` is a finite number; a whole one may be too large for a float."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # NaN compares as False


def _check_whole(name: str, value: Any, least: int, most: int) -> None:
    if type(value) is not int:
        raise ValueError(f"{name} must be a whole number, not {shown(value)}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, not {shown(value)}")
    if value > most:
        raise ValueError(f"{name} must be at most {most}, not {shown(value)}")


def _check_source(source: Any) -> None:
    """Raise ValueError for what JSON cannot hold; the code that makes the data again checks the contents."""
    if not (isinstance(source, dict) and all(isinstance(key, str) for key in source)):
        raise ValueError(f"source must be a dict such as {{'texts': ['/path/of/a.txt']}}, not {shown(source)}")
    try:
        json.dumps(source, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"source must be valid JSON values: {shown(str(error))}") from None
