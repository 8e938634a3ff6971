"""The page: a whole pass as one HTML file that opens from disk and can be walked through, step by step.

- `document`: `build`, `passes` and `write` put it together from `page.html`, `page.css` and the scripts in `js/`.
- `contents` (with `answer`, `captions`, `stored`, `packing` and `words`): the numbers and texts in it.
- `recorder` and `notebook`: the `Recorder` that a notebook shows as this page.

It computes no pass of its own and makes no network requests. ``python -m nanogpt_np trace PROMPT --html FILE`` is
the command.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `__getattr__` below imports on demand
    from .document import build, passes, write

__all__ = ["build", "passes", "write"]


def __getattr__(name: str) -> Any:
    """Import `document` when a page is first needed: a `Recorder` that is never shown needs none."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import document

    return getattr(document, name)
