"""Where models live on this machine: the bundled one, the ones that weights.sh fetched, Hugging Face's cache.

``./weights.sh gpt2`` puts them into `models_folder()`; models that Hugging Face's tools have already downloaded
are found in their cache. Nothing here touches the network.
"""

import errno
import os
import stat
import sys
from collections.abc import Callable
from importlib import resources
from pathlib import Path

from ..names.sizes import likeliest
from ..names.wording import LONGEST_NAME, one_line
from ..text.files import read_bytes
from .pins import PINS
from .tensors import INDEX, SINGLE


def models_folder() -> Path | None:
    """Return ``$NANOGPT_NP_HOME``, or ``nanogpt_np`` in the user's cache folder; None without a home folder."""
    if home := os.environ.get("NANOGPT_NP_HOME"):
        return Path(home)
    if sys.platform == "darwin":
        return _expanded("~/Library/Caches/nanogpt_np")
    if sys.platform == "win32":
        return _expanded(os.path.join(os.environ.get("LOCALAPPDATA") or "~/AppData/Local", "nanogpt_np"))
    cache = os.environ.get("XDG_CACHE_HOME")
    return Path(cache, "nanogpt_np") if cache else _expanded("~/.cache/nanogpt_np")


def hub_folder() -> Path | None:
    """Return the folder where Hugging Face's own tools keep what they downloaded; None as above."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return _expanded(cache)
    default = os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return _expanded(os.path.join(os.environ.get("HF_HOME") or default, "hub"))


def _expanded(path: str) -> Path | None:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no HOME, and no user of this number, as in some containers
        return None


def bundled() -> dict[str, Path]:
    """Return ``{name: directory}`` of the models that ship inside this package."""
    folder = Path(str(resources.files(__package__))) / "models"
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/config.json"))}


def find(name: str | os.PathLike[str]) -> Path:
    """Return the directory of the model called `name`, as `resolve` does."""
    return resolve(name)[1]


def resolve(name: str | os.PathLike[str]) -> tuple[str, Path]:
    """Return (what the model is called here, its directory) for a name or a directory.

    A published name means only those weights: it is looked up in `models_folder`, then in Hugging
    Face's cache; a local folder of that name is ``./name``. What is neither a name nor a folder may be a name in other
    letter case, or a published repository. Raises ValueError that says where it looked, which place could not be read,
    and what to do.
    """
    name = os.fspath(name)
    if not name.strip():
        raise ValueError("the name of the model is empty")
    if name in bundled():
        return name, bundled()[name]
    look = _Look()
    if name in PINS:
        pin = PINS[name]
        mine, hub = models_folder(), hub_folder()
        # Hugging Face's tools keep a model under the requested name: "gpt2" or its repository's.
        places = [] if mine is None else [mine / name]
        places += [snapshot for repo in (pin.repo, name) for snapshot in look.snapshots(repo, pin.revision)]
        for place in places:
            if look.holds_model(place):
                return name, place
        looked = " and ".join(str(place) for place in (mine and mine / name, hub) if place)
        where = f"looked in {looked}" if looked else "no home folder to look in: set NANOGPT_NP_HOME"
        here = f"; the folder here of that name is ./{name}" if look.status(name, stat.S_ISDIR) else ""
        raise ValueError(
            f"{name} is not on this machine ({where}{look.unread()}): "
            f"download it with ./weights.sh {name}, or see its shapes with --dry-run {name}{here}"
        )
    if look.status(name):
        return name, Path(name)
    repos = {pin.repo.lower(): known for known, pin in PINS.items()}
    known = [*bundled(), *PINS]
    if len(name) <= LONGEST_NAME:
        other = repos.get(name.lower(), name.lower())
        if other != name and other in known:
            return resolve(other)
    if name.count("/") == 1:
        for place in look.snapshots(name):
            if look.holds_model(place):
                return name, place
    raise ValueError(
        f"no model {one_line(repr(name), 2 * LONGEST_NAME)}{likeliest(name, known)}{look.unread()}: "
        f"give a directory, or one of {', '.join(known)}"
    )


def default_model() -> str:
    """Return ``"gpt2"`` if it is on this machine and can be read, else the name of the bundled model."""
    try:
        find("gpt2")
    except ValueError:
        return next(iter(bundled()), "gpt2")
    return "gpt2"


class _Look:
    """Looks into places that need not exist, and remembers the ones that could not be read."""

    def __init__(self) -> None:
        self.refused: list[tuple[str, str]] = []  # (path, reason)

    def unread(self) -> str:
        """Return a clause about the first place that could not be read, or ""."""
        return "; {} cannot be read: {}".format(*self.refused[0]) if self.refused else ""

    def status(self, path: str | os.PathLike[str], kind: Callable[[int], bool] = bool) -> bool:
        """Say whether there is something at `path`, and of this kind."""
        try:
            return kind(os.stat(path).st_mode)
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:  # ValueError: a null byte
            return self._refuse(path, error)

    def holds_model(self, directory: Path) -> bool:
        """Say whether a directory holds a config and weights that can be read."""
        config, *weights = (directory / name for name in ("config.json", SINGLE, INDEX))
        found = self.status(config, stat.S_ISREG) and [w for w in weights if self.status(w, stat.S_ISREG)]
        for path in (config, *found) if found else ():
            if not os.access(path, os.R_OK):
                return self._refuse(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
        return bool(found)

    def snapshots(self, repo: str, revision: str | None = None) -> list[Path]:
        """Return the folders in which Hugging Face's cache keeps a repository, the wanted one first."""
        hub = hub_folder()
        if hub is None:
            return []
        folder = hub / ("models--" + repo.replace("/", "--"))
        first = revision or _main_branch(folder)
        try:
            found = sorted(os.listdir(folder / "snapshots"))
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            self._refuse(folder / "snapshots", error)
            return []
        return [folder / "snapshots" / name for name in sorted(found, key=lambda name: name != first)]

    def _refuse(self, path: str | os.PathLike[str], error: Exception) -> bool:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self.refused.append((one_line(path, 3 * LONGEST_NAME), reason))
        return False


def _main_branch(folder: Path) -> str | None:
    """Return the revision that refs/main names; it only decides which snapshot is tried first."""
    try:
        return read_bytes(folder / "refs" / "main", 1000).decode("utf-8").strip()
    except (OSError, ValueError):
        return None
