r"""The streams that commands print on: printed text cannot control the terminal, and a lost stream is noticed.

Names, texts and messages come from files and from other people. Characters in them that a terminal obeys or that
nobody sees (escape sequences, backspaces, marks of direction, zero-width ones) show as codes: ``\x1b``, ``\u202e``.
`shell.py` puts every command on such streams, so no ``print`` has to think of it.
"""

import contextlib
import errno
import os
import re
import sys

from ..text.display import visible

OVER = re.compile(r"(?:\r *)*")  # back to the start of the line, which spaces may clear
JOINERS = "\u200c\u200d"  # in Persian and Indic words, and between the members of an emoji family


class Screen:
    """A stream that shows text as `visible` does, and keeps the error if the stream behind it fails.

    shows : whether to make text visible; if not, it passes unchanged, as data does.
    messages : whether it takes messages about the work rather than its result, as stderr does. The loss of such a
        stream stops nothing, and a text may begin with a carriage return, to write over the line before.
    """

    def __init__(self, stream, *, shows, messages):
        self.stream, self.shows, self.messages = stream, shows, messages
        self.lost = None

    @property
    def colors(self):
        """Whether colors are wanted: on a terminal that has them, unless NO_COLOR is set (no-color.org)."""
        wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return self.shows and self.stream.isatty() and wanted

    def paint(self, text, style):
        """Write some text in a style, the numbers of an SGR sequence, where colors are wanted."""
        if not self.colors:
            self.write(text)
            return
        try:
            self.stream.write(f"\x1b[{style}m{visible(text)}\x1b[0m")
        except OSError as error:
            self._lose(error)

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        """Write some text."""
        again = OVER.match(text)[0] if self.messages else ""
        keep = "\n\t" if self.messages else "\n\t" + JOINERS
        shown = again + visible(text.removeprefix(again), keep) if self.shows else text
        try:
            self.stream.write(shown)
        except OSError as error:
            self._lose(error)
        return len(text)

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
        out = Screen(streams[0], shows=streams[0].isatty(), messages=False)
        err = Screen(streams[1], shows=True, messages=True)
        sys.stdout, sys.stderr = out, err
        try:
            yield out
        finally:
            err.end()
            sys.stdout, sys.stderr = before


def reader_is_gone(error):
    """Return whether an error says that nobody reads the other end of a pipe."""
    return isinstance(error, BrokenPipeError) or (os.name == "nt" and error.errno == errno.EINVAL)
