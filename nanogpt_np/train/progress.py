"""How far a run is, and two ways to show it: whole lines for files and notebooks, one line for a terminal.

``run(trainer, out, report=progress.lines())`` prints on stderr. Any function of a `Progress` can take its place.
"""

import contextlib
import math
import shutil
import sys
from dataclasses import dataclass
from typing import TextIO

EVERY = 10.0  # seconds between lines
OPENING = 1.0  # seconds of training after which the speed that the first line expects is known


@dataclass(frozen=True)
class Plan:
    """What a run will do; it stays the same from step to step."""

    first: int  # steps that were done before
    steps: int  # of the whole run
    trained: int  # parameters that steps change
    frozen: int  # parameters that steps do not change
    text_tokens: int | None  # tokens of the text; None if the data has no such number


@dataclass(frozen=True)
class Progress:
    """How far a run is after a step."""

    step: int
    steps: int  # of the whole run
    loss: float  # of this step, in nats per token; NaN if no token of it counted
    lr: float  # the learning rate of this step
    tokens_per_second: float  # counted tokens, since the run began or was resumed; 0 until the clock has moved
    seconds: float  # since the run began or was resumed
    seconds_left: float
    held_out_loss: float | None  # in nats per token; None between evaluations, or if nothing is held out
    notes: tuple[str, ...] | None  # lines that say what an evaluation found; None between evaluations
    plan: Plan


def lines(file: TextIO | None = None, every: float = EVERY) -> "Printer":
    """Return a `report` that prints whole lines to `file` (stderr), one at least every `every` seconds.

    A step that takes longer gets a line when it is done.
    """
    return Printer(file, every)


def live(file: TextIO | None = None) -> "Printer":
    """Return a `report` for a terminal: it overwrites one line after every step, and leaves one per evaluation."""
    return Printer(file, math.inf, overwrite=True)


class Printer:
    """Print the opening line once the speed is known, then how far the run is."""

    def __init__(self, file: TextIO | None, every: float, *, overwrite: bool = False):
        self.file, self.every, self.overwrite = sys.stderr if file is None else file, every, overwrite
        self._opened = False
        self._printed = self._before = 0.0  # seconds at the last line, at the last step
        self._pending = 0  # characters of the line that the next one overwrites

    def __call__(self, progress: Progress) -> None:
        """Print what is due after a step."""
        now, evaluated = progress.seconds, progress.notes is not None
        if not self._opened and (now >= OPENING or evaluated):
            self._opened, self._printed = True, now
            self._line(opening(progress))
        step = now - self._before
        self._before = now
        if evaluated or (self._opened and now + step - self._printed > self.every):  # the next step would be too late
            self._printed = now
            self._line(line(progress))
        elif self.overwrite:
            self._write(self._over(line(progress)))
        for note in progress.notes or ():
            self._line(f"  {note}")

    def end(self) -> None:
        """Finish the line that would be overwritten."""
        if self._pending:
            self._pending = 0
            self._write("\n")

    def _line(self, text: str) -> None:
        cleared = f"\r{'':{self._pending}}\r" if self._pending else ""
        self._pending = 0
        self._write(f"{cleared}{text}\n")

    def _over(self, text: str) -> str:
        """Return `text`, cut to the terminal, so that it replaces what is in the line."""
        text = text[: shutil.get_terminal_size().columns - 1]
        padded = text.ljust(self._pending)
        self._pending = len(text)
        return f"\r{padded}"

    def _write(self, text: str) -> None:
        if self.file is None:  # as stderr is in a program without a console
            return
        encoding = getattr(self.file, "encoding", None) or "utf-8"
        with contextlib.suppress(BrokenPipeError):  # the reader is gone; the run continues
            self.file.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self.file.flush()


def opening(progress: Progress) -> str:
    """Return the line that says what the run will do, with the speed of its first steps."""
    plan = progress.plan
    parameters = f"{plan.trained:,} parameters"
    if plan.frozen:
        parameters = f"{plan.trained:,} of {plan.trained + plan.frozen:,} parameters"
    text = "" if plan.text_tokens is None else f", {plan.text_tokens:,} tokens of text"
    steps = f"steps {plan.first + 1:,} to {plan.steps:,}" if plan.first else f"{plan.steps:,} steps"
    speed = f"{progress.tokens_per_second:,.0f} tokens/s expected, {_clock(progress.seconds + progress.seconds_left)}"
    return f"{parameters}{text}, {steps}, {speed} in all"


def line(progress: Progress) -> str:
    """Return the line that says how far the run is."""
    loss = "no token counted" if math.isnan(progress.loss) else f"loss {progress.loss:.4f} nats/token"
    return (
        f"step {progress.step}/{progress.steps}  {loss}  "
        f"{progress.tokens_per_second:,.0f} tokens/s  {_clock(progress.seconds_left)} left"
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
