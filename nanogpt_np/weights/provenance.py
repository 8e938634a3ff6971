"""Where weights come from, claiming no more than was checked.

A name, a size or a date proves nothing: a checkpoint is called published only if its digest is in `pins.py`, and
was computed from its bytes, now or before the file was last changed (`digests.py`).
"""

import hashlib
import os
from pathlib import Path

from ..text.files import is_regular, read_bytes, read_json
from . import places
from .digests import computed, remembered
from .pins import PINS
from .tensors import INDEX, SINGLE

KINDS = ("bundled", "published", "downloaded", "other", "local")  # of checkpoints, by what was checked
HASHED_AT_ONCE = 1 << 24  # bytes: up to this size a SHA-256 takes less than a twentieth of a second


def whose(name: str, directory: str | os.PathLike[str], digest: str | None) -> tuple[str, str]:
    """Return (one of `KINDS`, a sentence that says where the weights come from); `digest` may be None (unknown).

    The sentence holds names that anyone can choose; the kind does not.
    """
    path = Path(directory) / SINGLE
    shown = f"sha256 {digest[:12]}" if digest else "sha256 unchecked"
    if name in places.bundled():
        return "bundled", f"{name} (bundled with nanogpt_np, not a published GPT-2; {shown})"
    if name not in PINS:
        return "local", f"{name} (local checkpoint; {shown})"
    pin = PINS[name]
    size = _size(path)
    if size is None or pin.nbytes not in (None, size) or digest not in (None, pin.sha256):
        return "other", f"NOT the published {name} (another checkpoint in {directory}; {shown})"
    if digest is None:
        return "downloaded", f"{name} (downloaded; {shown})"
    return "published", f"{name} (downloaded, the published weights; {shown})"


def known_digest(path: Path) -> str | None:
    """Return the SHA-256 of a file if that is cheap to get, else None: if it is small, or remembered since computed.

    A file's name or a record's date is not evidence.
    """
    size = _size(path)
    if size is None or size > HASHED_AT_ONCE:
        return None if size is None else remembered(path)
    try:
        return hashlib.sha256(read_bytes(path, HASHED_AT_ONCE)).hexdigest()
    except (OSError, ValueError):  # it cannot be read, or has grown
        return None


def computed_digest(directory: str | os.PathLike[str]) -> tuple[str, str]:
    """Return (the SHA-256, the name) of the weights file in a directory, or of the first if there are several.

    Reads the whole file, which takes seconds for a large model, and remembers the digest for later runs.
    """
    path = Path(directory) / SINGLE
    if not is_regular(path):
        path = Path(directory) / min(read_json(Path(directory) / INDEX)["weight_map"].values())
    return computed(path), path.name


def _size(path: Path) -> int | None:
    """Return the size of a regular file in bytes; None where there is none, or it cannot be looked at."""
    try:
        return path.stat().st_size if is_regular(path) else None
    except OSError:
        return None
