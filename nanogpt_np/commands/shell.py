"""What all commands have in common: one-line errors and exit codes. It imports little, so that help is quick.

Exit codes: 0 fine, 1 an error in one line on stderr, 2 wrong usage, 130 on Ctrl-C. A closed
pipe (``... | head``) ends quietly. Data goes to stdout, everything else to stderr.
"""

import argparse
import contextlib
import functools
import os
import sys

from ..names.wording import one_line


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def __init__(self, command, description, **more):
        super().__init__(
            prog=f"python -m nanogpt_np {command}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **more,
        )

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {one_line(message)} (see --help)\n")


def command(main):
    """Wrap ``main(argv)``, so that it returns its exit code and never shows a traceback for a user error."""

    @functools.wraps(main)
    def run(argv=None):
        # Streams that the caller closed are None in Python: write into nothing instead.
        sys.stdout, sys.stderr = (s or open(os.devnull, "w") for s in (sys.stdout, sys.stderr))  # noqa: SIM115
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # escape characters that a terminal cannot show
                stream.reconfigure(errors="backslashreplace")
        try:
            code = main(argv)
            sys.stdout.flush()
            return code or 0
        except SystemExit as stop:  # argparse: --help or wrong usage
            return stop.code or 0
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:
            # The reader is gone: keep Python from complaining when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except ModuleNotFoundError as error:
            if error.name.partition(".")[0] == "nanogpt_np":
                raise
            say(f"error: {error.name} is not installed: pip install 'nanogpt-np[reference]'")
            return 1
        except (ValueError, OSError, MemoryError) as error:
            say(f"error: {one_line(error) or type(error).__name__}")
            return 1

    return run


def say(message):
    """Print a message on stderr; a closed stderr is ignored."""
    with contextlib.suppress(BrokenPipeError):
        print(message, file=sys.stderr, flush=True)
