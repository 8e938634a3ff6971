r"""The streams that commands print on: printed text cannot control the terminal, and a lost stream is noticed.

Names, texts and messages come from files and from other people. Characters in them that a terminal obeys or that
nobody sees (escape sequences, backspaces, marks of direction, zero-width ones) show as codes: ``\x1b``, ``\u202e``.
`shell.py` puts every command on such streams, so no ``print`` has to think of it.

`painted` gives a text a color where stdout shows colors, and `columns` says how wide a line may be.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import sys

from ..text.display import visible

OVER = re.compile(r"(?:\r *)*")  # back to the start of the line, which spaces may clear
JOINERS = "\u200c\u200d"  # in Persian and Indic words, and between the members of an emoji family
RED, GREEN = "31", "32"  # styles: the numbers of an SGR escape sequence
USUAL, NARROWEST = 80, 20  # columns of a line: without a terminal, and at least
# What `painted` writes in place of an escape sequence. No text from outside has it: it is drawn anew in every process.
MARK = f"\x1b[{secrets.token_hex(8)}:"
PAINT = re.compile(re.escape(MARK) + r"([\d;]+)m")


class Screen:
    """A stream that shows text as `visible` does, and keeps the error if the stream behind it fails.

    shows : whether to make text visible; if not, it passes unchanged, as data does.
    messages : whether it takes messages about the work rather than its result, as stderr does. The loss of such a
        stream stops nothing, and a text may begin with a carriage return, to write over the line before.
    colors : whether it shows the colors of `painted`, the only escape sequences that pass.
    """

    def __init__(self, stream, *, shows, messages, colors=False):
        self.stream, self.shows, self.messages, self.colors = stream, shows, messages, colors
        self.lost = None

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        """Write some text."""
        again = OVER.match(text)[0] if self.messages else ""
        keep = "\n\t" if self.messages else "\n\t" + JOINERS
        shown = again + self._visible(text.removeprefix(again), keep) if self.shows else text
        try:
            self.stream.write(shown)
        except OSError as error:
            self._lose(error)
        return len(text)

    def paint(self, text, style):
        """Write some text in a style, such as `RED` or ``"30;46"``, if this shows colors."""
        self.write(f"{MARK}{style}m{text}{MARK}0m" if self.colors else text)

    def writelines(self, lines):
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self):
        """Pass on what was written so far."""
        try:
            self.stream.flush()
        except OSError as error:
            self._lose(error)

    def _visible(self, text, keep):
        """Return a text with its own escape sequences as codes, and with those of `painted` as the terminal's."""
        if not self.colors or MARK not in text:
            return visible(text, keep)
        parts = PAINT.split(text)  # text, style, text, style ... text
        parts[::2] = [visible(part, keep) for part in parts[::2]]
        parts[1::2] = [f"\x1b[{style}m" for style in parts[1::2]]
        return "".join(parts)

    def _lose(self, error):
        self.lost = error
        if not self.messages:
            raise error

    def end(self):
        """Flush; return the error with which the stream failed, or None. A second call returns None."""
        with contextlib.suppress(OSError):
            self.flush()
        lost, self.lost = self.lost, None
        if lost is not None:  # what is left in its buffer goes to os.devnull; else Python complains at exit
            with contextlib.suppress(OSError, ValueError, AttributeError):
                number, nowhere = self.stream.fileno(), os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
        return lost


@contextlib.contextmanager
def screens():
    """Replace stdout and stderr with a `Screen` each while the block runs; yield the one for stdout.

    Text on stdout is made visible on a terminal only: elsewhere it is data. Messages on stderr always are.
    A nested block keeps the screens of the outer one.
    """
    if isinstance(sys.stdout, Screen):
        yield sys.stdout
        return
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # a stream that the caller closed is None
        streams = [stream or nowhere for stream in before]
        for stream in streams:
            if hasattr(stream, "reconfigure"):  # escape characters that the stream's encoding lacks
                stream.reconfigure(errors="backslashreplace")
        terminal = streams[0].isatty()
        out = Screen(streams[0], shows=terminal, messages=False, colors=terminal and _colors_are_wanted())
        err = Screen(streams[1], shows=True, messages=True)
        sys.stdout, sys.stderr = out, err
        try:
            yield out
        finally:
            err.end()
            sys.stdout, sys.stderr = before


def _colors_are_wanted():
    """Return whether a terminal shows colors: not a dumb one, nor an old one of Windows; see https://no-color.org."""
    known = os.environ.get("TERM") != "dumb" if os.name != "nt" else "WT_SESSION" in os.environ
    return known and not os.environ.get("NO_COLOR")


def painted(text, style):
    """Return a text that prints in a style if stdout shows colors; elsewhere, or without a style, the text itself.

    Pad and fold a text before: a painted one has more characters than are seen.
    """
    if not style or not getattr(sys.stdout, "colors", False):
        return text
    return f"{MARK}{style}m{text}{MARK}0m"


def columns():
    """Return how wide a line may be: COLUMNS if it is set, else the terminal's width, else 80, as argparse does."""
    return max(NARROWEST, shutil.get_terminal_size((USUAL, 24)).columns)


def reader_is_gone(error):
    """Return whether an error means that the reader of a pipe is gone."""
    return isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL)
