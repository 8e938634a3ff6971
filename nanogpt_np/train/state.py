"""The state of a run on disk: training.safetensors, a safetensors file that holds its own SHA-256.

The digest is the first field of the header and covers every byte of the file, with zeros in its own place. `read_state`
rejects a file with another digest. `settings.py` and `trainer.py` check the values of the fields; the random state is
checked here.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..model.trace import Array
from ..weights.writing import encoded, write_checked
from .settings import shown

STATE, VERSION = "training.safetensors", 2
FIELDS = {"version", "steps", "updates", "settings", "config", "rng", "data"}
START = b'{"__metadata__":{"sha256":"'  # of the header, after its length
LENGTH = 8  # bytes that say how long the header is
NO_DIGEST, DIGEST = b"0" * 64, re.compile(rb"[0-9a-f]{64}")
READ_AT_ONCE = 1 << 22  # bytes


def write_state(path: Path, tensors: dict[str, Array], about: dict[str, Any]) -> str:
    """Write a state of float32 `tensors` to `path` and return its checksum; OSError if it reads back differently."""
    metadata = {"sha256": NO_DIGEST.decode(), "nanogpt_np": json.dumps(about, allow_nan=False)}
    start, *rest = encoded(tensors, metadata)
    digest = hashlib.sha256(start.data)
    for chunk in rest:
        digest.update(chunk.data)
    place = slice(LENGTH + len(START), LENGTH + len(START) + len(NO_DIGEST))
    start = start.copy()
    start[place] = np.frombuffer(digest.hexdigest().encode(), np.uint8)
    write_checked(path, [start, *rest])
    return digest.hexdigest()


@dataclass(frozen=True)
class Checksum:
    """The SHA-256 that a state holds, and the one of its bytes."""

    claimed: str
    actual: str


def checksum(path: Path) -> Checksum | None:
    """Return the checksums of the state at `path`, or None if the file does not begin with one."""
    with path.open("rb") as file:
        start = file.read(LENGTH + len(START) + len(NO_DIGEST))
        claimed = _claimed(start)
        if not claimed:
            return None
        digest = hashlib.sha256(start[: -len(NO_DIGEST)] + NO_DIGEST)
        while part := file.read(READ_AT_ONCE):
            digest.update(part)
    return Checksum(claimed, digest.hexdigest())


def claimed_checksum(path: Path) -> str | None:
    """Return the checksum that the state at `path` claims, or "" if it has none, or None if there is no file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return _claimed(file.read(LENGTH + len(START) + len(NO_DIGEST)))


def _claimed(start: bytes) -> str:
    digest = start[LENGTH + len(START) :]
    return digest.decode() if start[LENGTH:].startswith(START) and DIGEST.fullmatch(digest) else ""


class State(NamedTuple):
    """What `read_state` found."""

    tensors: dict[str, Array]  # finite float32
    about: dict[str, Any]  # exactly `FIELDS`
    checksum: str


def read_state(directory: str | os.PathLike[str]) -> State:
    """Return the state of a run; ValueError if there is none or it is not valid."""
    path = Path(directory) / STATE
    if not path.is_file():
        raise ValueError(f"{directory} holds no training run: there is no {STATE}")
    try:
        found = checksum(path)
        if found is None:
            raise ValueError(
                f"it does not begin with a checksum, as states do since version {VERSION}; "
                f"start a run from its weights with --model {directory}"
            )
        if found.claimed != found.actual:
            raise ValueError("its checksum is not that of its contents: it was damaged or changed")
        return State(*_contents(path), found.actual)
    except ValueError as error:
        raise ValueError(f"{path} is not the state of a training run: {error}") from None


def _contents(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            about = _about((file.metadata() or {}).get("nanogpt_np", ""))
            tensors = {}
            for name in file.keys():  # noqa: SIM118 (not a dict)
                dtype = file.get_slice(name).get_dtype()
                if dtype != "F32":
                    raise ValueError(f"tensor {shown(name)} is {dtype}, not F32")
                tensors[name] = file.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(shown(str(error))) from None
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise ValueError(f"tensor {shown(name)} is not finite")
    return tensors, about


def _about(text: str) -> dict[str, Any]:
    """Return the JSON object that describes the run; its version and the names of its fields are checked."""
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its description is not valid JSON: {shown(str(error))}") from None
    if not isinstance(about, dict):
        raise ValueError("its description is not a JSON object")
    version = about.get("version")
    if type(version) is not int or version != VERSION:
        raise ValueError(f"version {shown(version)}, this package reads {VERSION}")
    check_fields("the state", about, FIELDS)
    return about


def check_fields(what: str, found: Any, expected: set[str]) -> None:
    """Raise ValueError unless `found` is a dict with exactly the `expected` keys."""
    if not isinstance(found, dict):
        raise ValueError(f"{what} is not a JSON object")
    for name in sorted(expected - found.keys()):
        raise ValueError(f"{what} has no {name}")
    for name in found.keys() - expected:
        raise ValueError(f"{what} has an unknown field {shown(name)}")


def check_count(name: str, value: Any, most: int) -> int:
    """Return `value` if it is a whole number from 0 to `most`; else raise ValueError."""
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{name} must be a whole number from 0 to {most}, not {shown(value)}")
    return value


def check_rng(state: Any) -> dict[str, Any]:
    """Return `state` if it is one that NumPy's PCG64 can have; else raise ValueError."""
    check_fields("the random state", state, {"bit_generator", "state", "has_uint32", "uinteger"})
    if state["bit_generator"] != "PCG64":
        raise ValueError(f"the random state is of {shown(state['bit_generator'])}, not of PCG64")
    check_fields("the random state", state["state"], {"state", "inc"})
    check_count("state", state["state"]["state"], 2**128 - 1)
    if check_count("inc", state["state"]["inc"], 2**128 - 1) % 2 == 0:
        raise ValueError("inc of the random state must be odd")
    check_count("has_uint32", state["has_uint32"], 1)
    check_count("uinteger", state["uinteger"], 2**32 - 1)
    return state


def check_shapes(found: dict[str, Array], expected: dict[str, tuple[int, ...]]) -> None:
    """Raise ValueError for the first tensor that is missing, extra, or of the wrong shape."""
    for name, shape in expected.items():
        if name not in found:
            raise ValueError(f"tensor {name} is missing")
        if found[name].shape != shape:
            raise ValueError(f"tensor {name} has shape {shown(found[name].shape)}, expected {shown(shape)}")
    for name in found.keys() - expected.keys():
        raise ValueError(f"tensor {shown(name)} is not part of this run")
