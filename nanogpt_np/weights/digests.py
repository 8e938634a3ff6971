"""SHA-256 of large files, computed once and remembered for as long as the file stays the same.

A digest belongs to an identity: real path, size, time of the last change of the contents, inode, and time of the last
change of the inode. A change to a file changes at least the last of them, which the system sets and no program can.
Digests are kept in two places:

- ``digests.json`` in `places.models_folder`: what `computed` found, at most `MOST` files;
- ``model.safetensors.sha256``, which weights.sh writes beside a file that it has checked::

      248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707  model.safetensors
      # size=548105171 mtime=1700000000.123456789 inode=1234567 ctime=1700000001.000000000

  The first line is what sha256sum prints. The second is what ``stat`` says of the file under its final name (times in
  seconds, with nine decimals). A record without it is ignored.

Both are a convenience: where they cannot be read or written, a digest is unknown or is computed again.
"""

import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from ..text.files import open_regular, read_bytes, read_json
from . import places
from .atomic import atomic_write

STORE = "digests.json"
MOST = 100  # files that are remembered
HASHED_PART = 1 << 22  # bytes read at a time
# A change right after the digest was computed may leave the same times, which advance in steps: of 4 ms on most
# systems, of up to 2 s on FAT. So no digest is remembered if the file changed within this time (ns) before.
TOO_NEW = 2_000_000_000
RECORD = re.compile(
    r"([0-9a-f]{64})  ([^\n]+)\n# size=(\d+) mtime=(\d+\.\d{9}) inode=(\d+) ctime=(\d+\.\d{9})\n?", re.ASCII
)


def remembered(path: Path) -> str | None:
    """Return the SHA-256 that was computed earlier, if the file has not changed since; else None."""
    try:
        now = _identity(path, os.stat(path))
    except OSError:
        return None
    return (_from_store(now) or _from_record(path, now)) if now else None


def computed(path: Path) -> str:
    """Compute the SHA-256 of a file, and remember it unless the file may have changed meanwhile."""
    began, digest = time.time_ns(), hashlib.sha256()
    with open_regular(path) as file:
        before = _identity(path, os.fstat(file.fileno()))
        while part := file.read(HASHED_PART):
            digest.update(part)
    try:
        unchanged = before == _identity(path, os.stat(path))
    except OSError:  # deleted meanwhile
        unchanged = False
    if before and unchanged and before["ctime_ns"] < began - TOO_NEW:
        _remember(before | {"sha256": digest.hexdigest()})
    return digest.hexdigest()


def _identity(path: Path, status: os.stat_result) -> dict[str, Any] | None:
    """Return what changes with any change to a file; None on Windows, where Python does not have the last of them."""
    if sys.platform == "win32":
        return None
    return {
        "path": os.path.realpath(path),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "inode": status.st_ino,
        "ctime_ns": status.st_ctime_ns,
    }


def _from_store(now: dict[str, Any]) -> str | None:
    for entry in _entries():
        if {name: entry.get(name) for name in now} == now:
            return _digest(entry.get("sha256"))
    return None


def _from_record(path: Path, now: dict[str, Any]) -> str | None:
    try:
        text = read_bytes(path.with_name(path.name + ".sha256"), 1000).decode("utf-8")
    except (OSError, ValueError):
        return None
    found = RECORD.fullmatch(text)
    if not found:
        return None
    digest, name, size, mtime, inode, ctime = found.groups()
    recorded = (name, int(size), int(mtime.replace(".", "")), int(inode), int(ctime.replace(".", "")))
    same = recorded == (path.name, now["size"], now["mtime_ns"], now["inode"], now["ctime_ns"])
    return digest if same else None


def _entries() -> list[dict[str, Any]]:
    """Return what the store holds; nothing if it cannot be read or was not written by this module."""
    folder = places.models_folder()
    try:
        entries = read_json(folder / STORE)["files"] if folder else []
        return [entry for entry in entries if isinstance(entry, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _remember(new: dict[str, Any]) -> None:
    folder = places.models_folder()
    if folder is None:
        return
    kept = [entry for entry in _entries() if entry.get("path") != new["path"]]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / STORE) as partial:
            partial.write_text(json.dumps({"files": [new, *kept][:MOST]}, indent=1) + "\n", encoding="utf-8")
    except (OSError, ValueError):
        return


def _digest(value: Any) -> str | None:
    return value if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else None
