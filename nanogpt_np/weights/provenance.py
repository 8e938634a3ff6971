"""Where weights come from, claiming no more than was checked.

A name proves nothing: a checkpoint is called published only if its digest is in `pins.py`.
"""

import hashlib
import json
import os
import re
from pathlib import Path

from . import places
from .pins import PINS
from .tensors import INDEX, SINGLE

KINDS = ("bundled", "published", "downloaded", "other", "local")  # of checkpoints, by what was checked
DIGEST = re.compile(r"[0-9a-f]{64}\b")
HASHED_AT_ONCE = 1 << 24  # bytes: up to this size a SHA-256 takes less than a twentieth of a second
HASHED_PART = 1 << 22  # bytes read at a time above that


def whose(name: str, directory: str | os.PathLike[str], digest: str | None) -> tuple[str, str]:
    """Return (one of `KINDS`, a sentence that says where the weights come from); `digest` may be None (unknown).

    The sentence holds names that anyone can choose; the kind does not.
    """
    path = Path(directory) / SINGLE
    shown = f"sha256 {digest[:12]}" if digest else "sha256 not checked"
    if name in places.bundled():
        return "bundled", f"{name} (bundled with nanogpt_np, not a published GPT-2; {shown})"
    if name not in PINS:
        return "local", f"{name} (local checkpoint; {shown})"
    pin = PINS[name]
    size = path.stat().st_size if path.is_file() else None
    if size is None or pin.nbytes not in (None, size) or digest not in (None, pin.sha256):
        return "other", f"NOT the published {name} (another checkpoint in {directory}; {shown})"
    if digest is None:
        return "downloaded", f"{name} (downloaded; {shown})"
    return "published", f"{name} (downloaded, the published weights; {shown})"


def known_digest(path: Path) -> str | None:
    """Return the SHA-256 of a file if that is cheap to get, else None.

    It is if the file is small, if weights.sh recorded it, and in Hugging Face's cache, where a
    large file's real name is its digest.
    """
    if not path.is_file():
        return None
    if path.stat().st_size <= HASHED_AT_ONCE:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    record = path.with_name(path.name + ".sha256")
    if record.is_file() and record.stat().st_mtime >= path.stat().st_mtime:
        found = DIGEST.match(record.read_text(encoding="utf-8", errors="replace"))
        return found and found[0]
    blob = path.resolve()
    return blob.name if blob.parent.name == "blobs" and DIGEST.fullmatch(blob.name) else None


def computed_digest(directory: str | os.PathLike[str]) -> tuple[str, str]:
    """Return (the SHA-256, the name) of the weights file in a directory, or of the first if there are several.

    Reads the whole file, which takes seconds for a large model.
    """
    path = Path(directory) / SINGLE
    if not path.is_file():
        index = json.loads((Path(directory) / INDEX).read_text(encoding="utf-8"))
        path = Path(directory) / min(index["weight_map"].values())
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(HASHED_PART):
            digest.update(part)
    return digest.hexdigest(), path.name
