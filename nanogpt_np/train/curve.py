"""The loss of a run as a curve: in characters, or as a PNG if matplotlib is installed.

Both take what `log.read_log` returns.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..model.trace import Array
from ..weights.atomic import atomic_write

HEIGHT = 10  # rows
WIDTH = 80  # columns at most
NARROWEST = 42  # columns
SIGNS = "•○│┤└─"  # training, held out; axis, axis with a label, corner, axis of steps
ASCII = "*o||+-"


def points(records: Sequence[dict[str, Any]], name: str = "loss") -> tuple[Array, Array]:
    """Return (steps, losses) of the records that have the finite loss `name`."""
    found = [(r["step"], r[name]) for r in records if r.get(name) is not None and math.isfinite(r[name])]
    return np.array([step for step, _ in found], float), np.array([loss for _, loss in found], float)


def signs_for(encoding: str | None) -> str:
    """Return the signs of `text_plot` that an encoding has."""
    try:
        SIGNS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return SIGNS


def text_plot(records: Sequence[dict[str, Any]], width: int = WIDTH, signs: str = SIGNS) -> list[str]:
    """Return the lines of a plot of loss over steps, of at most `width` columns; none if there is no loss.

    A column shows the mean of its steps. Held-out losses are drawn over it.
    """
    training, held_out, bar, tick, corner, dash = tuple(signs)
    steps, losses = points(records)
    if not len(steps):
        return []
    first, last = steps[0], steps[-1]
    width = max(NARROWEST, min(width, WIDTH))
    held = points(records, "held_out_loss")
    both = np.concatenate([losses, held[1]])
    form = ".2f" if 0.1 <= both.max() < 9_999 else ".1e"
    wide = max(len(format(loss, form)) for loss in (both.min(), both.max()))
    columns = width - wide - 2
    curves = [_by_column(*curve, first, last, columns) for curve in ((steps, losses), held)]
    every = np.concatenate([heights for _, heights in curves])
    low, high = float(every.min()), float(every.max())
    rows = HEIGHT if high > low else 1
    grid = [[" "] * columns for _ in range(rows)]
    for (places, heights), sign in zip(curves, (training, held_out), strict=True):
        for column, height in zip(places, heights, strict=True):
            grid[round((high - height) / (high - low) * (rows - 1)) if rows > 1 else 0][column] = sign
    labels = {0: high, rows // 2: high - (high - low) * (rows // 2) / max(1, rows - 1), rows - 1: low}
    lines = [f"loss in nats/token: {training} training" + (f", {held_out} held out" if len(held[0]) else "")]
    for row, cells in enumerate(grid):
        label = format(labels[row], form) if row in labels else ""
        lines.append(f"{label:>{wide}} {tick if label else bar}{''.join(cells)}".rstrip())
    lines.append(f"{'':{wide}} {corner}{dash * columns}")
    left, right = f"{first:.0f}", f"step {last:.0f}"
    lines.append(f"{'':{wide}}  {left}{right:>{columns - len(left)}}" if last > first else f"{'':{wide}}  {right}")
    return lines


def _by_column(steps: Array, losses: Array, first: float, last: float, columns: int) -> tuple[Array, Array]:
    """Return (columns, means of the losses there) of the columns that have any."""
    at = np.rint((steps - first) / max(1, last - first) * (columns - 1)).astype(int).clip(0, columns - 1)
    places, inverse = np.unique(at, return_inverse=True)
    return places, np.bincount(inverse, losses, len(places)) / np.bincount(inverse, minlength=len(places))


def check_png(path: str | os.PathLike[str], *made: str | os.PathLike[str]) -> None:
    """Raise ValueError if `save_png` could not write to `path`: before a run, not after it.

    made : folders that will be there by then.
    """
    path = Path(path)
    try:
        import matplotlib  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
    except ImportError:
        raise ValueError("a plot as PNG needs matplotlib: pip install 'nanogpt-np[notebooks]'") from None
    if path.suffix.lower() != ".png":
        raise ValueError(f"the name of the plot must end in .png, and {path} does not")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file for the plot")
    if not path.parent.is_dir() and path.parent.resolve() not in [Path(folder).resolve() for folder in made]:
        raise ValueError(f"there is no folder {path.parent} for the plot")


def save_png(records: Sequence[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Write the curve as a PNG file, with matplotlib."""
    from matplotlib.figure import Figure  # type: ignore[import-not-found, unused-ignore]

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*points(records), linewidth=1, label="training")
    held = points(records, "held_out_loss")
    if len(held[0]):
        axes.plot(*held, marker="o", label="held out")
        axes.legend()
    axes.set_xlabel("step")
    axes.set_ylabel("loss in nats per token")
    with atomic_write(Path(path)) as partial:
        figure.savefig(partial, format="png", dpi=120)
