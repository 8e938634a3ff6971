"""What every command line of this package does alike: one-line errors, exit codes, prompts.

Exit codes: 0 fine, 1 an error told in one line on stderr, 2 wrong usage, 130 on Ctrl-C. A closed
pipe (``... | head``) ends quietly. Data goes to stdout, everything else to stderr.
"""

import argparse
import contextlib
import functools
import os
import shutil
import sys

from .memory import keep_freed_memory


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def __init__(self, command, description, **more):
        super().__init__(
            prog=f"python -m nanogpt_np.{command}",
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **more,
        )

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {one_line(message)} (see --help)\n")


def command(main):
    """Wrap ``main(argv)``, so that it returns its exit code and never shows a traceback for what users do."""

    @functools.wraps(main)
    def run(argv=None):
        keep_freed_memory()
        # Streams that the caller closed are None in Python: write into nothing instead.
        sys.stdout, sys.stderr = (s or open(os.devnull, "w") for s in (sys.stdout, sys.stderr))  # noqa: SIM115
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a terminal that cannot show a character gets its code
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
            # Nobody reads on; keep Python from complaining when it flushes at exit.
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
    """Print a line for people on stderr; that nobody reads there stops no work."""
    with contextlib.suppress(BrokenPipeError):
        print(message, file=sys.stderr, flush=True)


def columns(usual):
    """Return how wide a line may be: as wide as the terminal, but not below 80; `usual` where stdout is not one."""
    if sys.stdout is None or not sys.stdout.isatty():
        return usual
    return max(80, shutil.get_terminal_size((usual, 24)).columns)


def one_line(text):
    """Return `text` with its lines joined; control characters (a forged file may hold some) show as their codes."""
    text = " ".join(str(text).split("\n")).strip()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def add_model(parser):
    """Add ``--model``, of the commands that read a prompt with a model: `show.opening` loads it."""
    parser.add_argument("--model", metavar="NAME|DIR", help="a published name, or a directory with config.json and "
        "safetensors (default: gpt2 if it is on this machine, else the bundled model)")  # fmt: skip


def read_prompt(prompt):
    """Return the prompt, read from standard input (less one final newline) where it is ``-``."""
    if prompt == "-":
        if sys.stdin is None:
            raise ValueError("there is no standard input to read the prompt from")
        try:
            prompt = sys.stdin.buffer.read().decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise ValueError(f"the prompt on standard input is not UTF-8: {error}") from None
    if not prompt:
        raise ValueError("the prompt is empty: GPT-2 goes on from at least one token")
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"the prompt is not valid Unicode: {error}") from None
    return prompt
