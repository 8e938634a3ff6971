"""How far a command is: on a terminal a line that is written over, elsewhere a line every few seconds."""

import sys
import time

from .screen import columns
from .shell import say

EVERY = 5  # seconds between two lines where nothing can be written over
TERMINAL = 0.2  # seconds between two states of the line on a terminal


class Progress:
    """Count the steps of some work, on stderr.

    unit : what is counted, in words. total : how many there are, once that is known.
    """

    def __init__(self, unit, total=None):
        self.unit, self.total, self.done = unit, total, 0
        self.terminal = sys.stderr is not None and sys.stderr.isatty()
        self.began = self.shown = time.monotonic()
        self.written = 0  # characters of the line on the terminal

    def begin(self, what):
        """Say what is done before the counting."""
        self._show(what)

    def part(self):
        """Return a ``report(done, total)`` for the next part of the work, which continues the count."""
        before = self.done

        def report(done, total):
            self.done = before + done
            now = time.monotonic()
            if now - self.shown >= (TERMINAL if self.terminal else EVERY):
                self.shown = now
                self._show(self._state(now))

        return report

    def end(self):
        """Leave no unfinished line on a terminal."""
        if self.written:
            print("\r" + " " * self.written + "\r", end="", file=sys.stderr, flush=True)
            self.written = 0

    def _state(self, now):
        left = (now - self.began) / self.done * (self.total - self.done)
        return f"{self.done:,} of {self.total:,} {self.unit}, {int(left) // 60}:{int(left) % 60:02} left"

    def _show(self, text):
        if not self.terminal:
            say(text)
            return
        text = text[: columns() - 1]
        print(f"\r{text:{self.written}}", end="", file=sys.stderr, flush=True)
        self.written = len(text)
