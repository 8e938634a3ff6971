"""Where models live on this machine: the bundled one, the ones that weights.sh fetched, Hugging Face's cache.

``./weights.sh gpt2`` puts them into `models_folder()`; models that Hugging Face's tools have already downloaded
are found in their cache. Nothing here touches the network.
"""

import os
import sys
from importlib import resources
from pathlib import Path

from ..names.wording import nearest
from .pins import PINS
from .tensors import INDEX, SINGLE


def models_folder() -> Path:
    """Return ``$NANOGPT_NP_HOME``, or ``nanogpt_np`` in the user's cache folder."""
    if home := os.environ.get("NANOGPT_NP_HOME"):
        return Path(home)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "nanogpt_np"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "nanogpt_np"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nanogpt_np"


def hub_folder() -> Path:
    """Return the folder where Hugging Face's own tools keep what they downloaded."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HOME") or default).expanduser() / "hub"


def bundled() -> dict[str, Path]:
    """Return ``{name: directory}`` of the models that ship inside this package."""
    folder = Path(str(resources.files(__package__))) / "models"
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/config.json"))}


def find(name: str | os.PathLike[str]) -> Path:
    """Return the directory of the model called `name`, or `name` itself if it is a directory.

    A published name means only those weights: it is looked up in `models_folder`, then in Hugging
    Face's cache; a local folder of that name is ``./name``. Raises ValueError that says where it
    looked and what to do.
    """
    name = os.fspath(name)
    if not name.strip():
        raise ValueError("the name of the model is empty")
    if name in bundled():
        return bundled()[name]
    if name in PINS:
        pin = PINS[name]
        # Hugging Face's tools keep a model under the requested name: "gpt2" or its repository's.
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


def default_model() -> str:
    """Return ``"gpt2"`` if it is on this machine, else the name of the bundled model."""
    try:
        find("gpt2")
    except ValueError:
        return next(iter(bundled()), "gpt2")
    return "gpt2"


def _holds_model(directory: Path) -> bool:
    return (directory / "config.json").is_file() and any((directory / f).is_file() for f in (SINGLE, INDEX))


def _snapshots(repo: str, revision: str | None = None) -> list[Path]:
    """Return the folders in which Hugging Face's cache keeps a repository, the wanted one first."""
    folder = hub_folder() / ("models--" + repo.replace("/", "--"))
    main = folder / "refs" / "main"
    first = revision or (main.read_text(encoding="utf-8").strip() if main.is_file() else None)
    found = sorted((folder / "snapshots").glob("*"))
    return sorted(found, key=lambda snapshot: snapshot.name != first)
