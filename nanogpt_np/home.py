"""Where models live on this machine, and which files are the published ones.

``./weights.sh gpt2`` puts them under `models_folder()`; models that Hugging Face's tools have
downloaded already are found in their cache. Nothing here touches the network.
"""

import hashlib
import json
import os
import re
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from .checkpoint import INDEX, SINGLE
from .config import nearest


@dataclass(frozen=True)
class Pin:
    """A published checkpoint: weights.sh holds the same table."""

    repo: str
    revision: str
    sha256: str  # of model.safetensors
    nbytes: int | None  # of model.safetensors; None where no one has published it


PINS = {
    "gpt2": Pin(
        "openai-community/gpt2",
        "607a30d783dfa663caf39e06633721c8d4cfcd7e",
        "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
        548105171,
    ),
    "gpt2-medium": Pin(
        "openai-community/gpt2-medium",
        "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
        "fc5a354a19255ad494f3d71549390baca1ccf61d1d822b9408971705c687c9cd",
        1519984962,
    ),
    "gpt2-large": Pin(
        "openai-community/gpt2-large",
        "32b71b12589c2f8d625668d2335a01cac3249519",
        "5f47f3e12f91cd33b662ce7e433b6150ad5512b5884a2cee961b50e9c3bbebce",
        None,
    ),
    "gpt2-xl": Pin(
        "openai-community/gpt2-xl",
        "15ea56dee5df4983c59b2538573817e1667135e2",
        "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
        None,
    ),
    "distilgpt2": Pin(
        "distilbert/distilgpt2",
        "2290a62682d06624634c1f46a6ad5be0f47f38aa",
        "e1ff18884359fe8beb795a5f414feb85a6ce3d929ad019c0d958c039d2b94a1b",
        352824413,
    ),
}
KINDS = ("bundled", "published", "downloaded", "other", "local")  # of checkpoints, by what was checked
DIGEST = re.compile(r"[0-9a-f]{64}\b")
HASHED_AT_ONCE = 1 << 24  # bytes: up to this size a SHA-256 takes less than a twentieth of a second
HASHED_PART = 1 << 22  # bytes read at a time of larger ones


def models_folder():
    """Return ``$NANOGPT_NP_HOME``, or ``nanogpt_np`` in the user's cache folder."""
    if home := os.environ.get("NANOGPT_NP_HOME"):
        return Path(home)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "nanogpt_np"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "nanogpt_np"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nanogpt_np"


def hub_folder():
    """Return the folder where Hugging Face's own tools keep what they downloaded."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HOME") or default).expanduser() / "hub"


def bundled():
    """Return ``{name: directory}`` of the models that ship inside this package."""
    folder = Path(str(resources.files(__package__))) / "models"
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/config.json"))}


def find(name):
    """Return the directory of the model called `name`, or `name` itself if it is a directory.

    A published name means those weights and nothing else: it is looked up in `models_folder`, then
    in Hugging Face's cache, and a folder of that name here is ``./name``. Raises ValueError with
    where it was looked for and what to do.
    """
    name = os.fspath(name)
    if not name.strip():
        raise ValueError("the name of the model is empty")
    if name in bundled():
        return bundled()[name]
    if name in PINS:
        pin = PINS[name]
        # Hugging Face's tools keep a model under the name it was asked by: "gpt2" as well as its repository's.
        hub = [snapshot for repo in (pin.repo, name) for snapshot in _snapshots(repo, pin.revision)]
        places = [models_folder() / name, *hub]
        for place in places:
            if _holds_model(place):
                return place
        here = f"; the folder here of that name is ./{name}" if Path(name).is_dir() else ""
        raise ValueError(
            f"{name} is not on this machine (looked in {places[0]} and {hub_folder()}): "
            f"download it with ./weights.sh {name}, or see its shapes with --dry-run {name}{here}"
        )
    if Path(name).exists():
        return Path(name)
    if name.count("/") == 1:
        for place in _snapshots(name):
            if _holds_model(place):
                return place
    known = [*bundled(), *PINS]
    raise ValueError(f"no model {name!r}{nearest(name, known)}: give a directory, or one of {', '.join(known)}")


def default_model():
    """Return ``"gpt2"`` if it is on this machine, else the name of the bundled model."""
    try:
        find("gpt2")
    except ValueError:
        return next(iter(bundled()), "gpt2")
    return "gpt2"


def origin(name, directory, digest=None):
    """Say in a few words whose weights these are, never claiming more than was checked.

    digest : the SHA-256 of model.safetensors, if somebody computed it; else it is told where it is cheap to know.
    """
    return whose(name, directory, digest)[1]


def whose(name, directory, digest=None):
    """Return (one of `KINDS`, `origin`): the sentence holds names that anybody may choose, the kind does not."""
    path = Path(directory) / SINGLE
    digest = digest or known_digest(path)
    shown = f"sha256 {digest[:12]}" if digest else "sha256 not checked"
    if name in bundled():
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


def known_digest(path):
    """Return the SHA-256 of a file where that is cheap to know, else None.

    It is when the file is small, when weights.sh left its record, and in Hugging Face's cache,
    where a big file's real name is its digest.
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


def computed_digest(directory):
    """Return (the SHA-256, the name) of the file of weights in a directory; of several files it is the first one's.

    It reads the whole file, which of a large model takes seconds.
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


def _holds_model(directory):
    return (directory / "config.json").is_file() and any((directory / f).is_file() for f in (SINGLE, INDEX))


def _snapshots(repo, revision=None):
    """Return the folders in which Hugging Face's cache keeps a repository, the wanted one first."""
    folder = hub_folder() / ("models--" + repo.replace("/", "--"))
    main = folder / "refs" / "main"
    first = revision or (main.read_text(encoding="utf-8").strip() if main.is_file() else None)
    found = sorted((folder / "snapshots").glob("*"))
    return sorted(found, key=lambda snapshot: snapshot.name != first)
