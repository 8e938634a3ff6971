"""The log of a run: log.jsonl, a line of JSON for each step, written as soon as the step is done.

It is written before the state is saved, so it holds at least the steps of the state. A resumed run cuts it back to
those, so no step appears twice. Read next: `curve.py`, which draws it.
"""

import contextlib
import json
import math
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from .progress import Progress
from .settings import LARGEST

LOG = "log.jsonl"
LONGEST_LINE = 1000  # bytes; a line of ours has about 150
LARGEST_LOSS = 1e100  # far above float32, and still low enough to draw


class Log:
    """The log in `directory`, cut back to the first `steps` steps, to which `add` appends.

    A last line that a killed run did not finish is removed. The file is made when the first line is added. Raises
    ValueError for a file that is not the log of a run, and leaves it as it is.
    """

    def __init__(self, directory: str | os.PathLike[str], steps: int):
        self.path = Path(directory) / LOG
        self._file: FileIO | None = None
        if os.path.lexists(self.path):
            if not self.path.is_file():
                raise ValueError(f"{self.path} is not a regular file: move it away, since the run writes its log there")
            with self.path.open("r+b") as file:
                _cut_back(file, steps, self.path)

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file:
            self._file.close()

    def add(self, progress: Progress) -> None:
        """Append the line of a step; OSError names the file if it does not fit."""
        loss, held_out = progress.loss, progress.held_out_loss
        line = {
            "step": progress.step,
            "loss": None if math.isnan(loss) else loss,  # JSON has no NaN
            "lr": progress.lr,
            "tokens_per_second": round(progress.tokens_per_second, 1),
        }
        if held_out is not None and math.isfinite(held_out):
            line["held_out_loss"] = held_out
        left = json.dumps(line, allow_nan=False).encode() + b"\n"
        with self._named():
            self._file = self._file or self.path.open("ab", buffering=0)
            while left:
                left = left[self._file.write(left) :]

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        if self._file:
            with self._named():
                os.fsync(self._file.fileno())

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # a write to an open file names no file
            raise OSError(error.errno, error.strerror, str(self.path)) from None


def read_log(directory: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of the log in `directory` as dicts, up to the first invalid line; [] if there is no log."""
    path, found = Path(directory) / LOG, []
    if path.is_file():
        with path.open("rb") as file:
            while line := file.readline(LONGEST_LINE):
                record = _record(line)
                if record is None:
                    break
                found.append(record)
    return found


def _cut_back(file: BinaryIO, steps: int, path: Path) -> None:
    """Remove the lines of later steps than `steps`, and a last line that is not whole."""
    end, number, last = 0, 0, 0
    while line := file.readline(LONGEST_LINE):
        number += 1  # every line is checked before any is removed
        record, whole = _record(line), line.endswith(b"\n")
        if record is None or record["step"] <= last:
            if whole or file.read(1):
                raise ValueError(
                    f"{path} is not the log of a run: line {number} is not a step after step {last}; "
                    "move the file away to start a new log"
                )
            break
        last = record["step"]
        if last <= steps:
            end += len(line)
            if not whole:
                file.write(b"\n")
                end += 1
    file.truncate(end)


def _record(line: bytes) -> dict[str, Any] | None:
    """Return the dict of a line, or None if it does not describe a step."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or "loss" not in record:
        return None
    step, losses = record.get("step"), (record["loss"], record.get("held_out_loss"))
    numbers = all(loss is None or (type(loss) in (int, float) and abs(loss) < LARGEST_LOSS) for loss in losses)
    return record if type(step) is int and 0 < step <= LARGEST and numbers else None
