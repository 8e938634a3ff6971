"""What ``benchmark --json`` printed, read back from files as the tables of docs/performance.md."""

from ..names.wording import LONGEST_NAME, one_line
from ..text.files import read_json
from .report import markdown, sizes

WRONG = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


def table_of(files):
    """Return the tables of one file, or the table with a line for each of several; ValueError names a wrong file."""
    table = markdown if len(files) == 1 else lambda *results: sizes(results)
    results = []
    for file in files:
        result = read_json(file)
        try:
            results.append(_in_lines(result))
            table(results[-1])
        except WRONG as error:
            what = one_line(f"{type(error).__name__}: {error}", LONGEST_NAME)
            raise ValueError(f"{file} is not what benchmark --json prints, or lacks rows: {what}") from None
    return table(*results)


def _in_lines(value):
    """Return JSON with every text in it fit for a line of a table."""
    if isinstance(value, dict):
        return {one_line(name, LONGEST_NAME): _in_lines(what) for name, what in value.items()}
    if isinstance(value, list):
        return [_in_lines(what) for what in value]
    return one_line(value, LONGEST_NAME) if isinstance(value, str) else value
