"""What is said of weights: no name, size or date is taken for a check, and a digest goes with unchanged bytes only."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import random_model

import nanogpt_np
from nanogpt_np.__main__ import main
from nanogpt_np.weights import digests, pins, places, provenance

PIN = pins.PINS["gpt2"]
THE_PUBLISHED = "gpt2 (downloaded, the published weights; sha256 248dfc391186)"
UNCHECKED = "gpt2 (downloaded; sha256 unchecked)"
WEIGHTS = b"weights"
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """A models' folder of this test's own, which is not there yet."""
    folder = tmp_path / "models"
    monkeypatch.setenv("NANOGPT_NP_HOME", str(folder))
    return folder


@pytest.fixture
def large(monkeypatch):
    """Make every file too large to be hashed each time, and old enough to be remembered."""
    if sys.platform == "win32":
        pytest.skip("Windows tells no time of change, so nothing is remembered there")
    monkeypatch.setattr(provenance, "HASHED_AT_ONCE", -1)
    monkeypatch.setattr(digests, "TOO_NEW", -1)


def origin(name, directory):
    """Say whose weights these are by a digest that is cheap to know."""
    return provenance.whose(name, directory, provenance.known_digest(directory / "model.safetensors"))[1]


def a_file(folder, content=WEIGHTS):
    """Write a file of weights; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(content)
    time.sleep(0.02)  # the clock of the file system advances in steps
    return folder / "model.safetensors"


def sparse(folder, nbytes=PIN.nbytes):
    """Make a file of zeros of any size that takes no room."""
    os.truncate(a_file(folder, b""), nbytes)
    return folder


def leave_record(path, digest, text=None, **changes):
    """Write the record that weights.sh leaves beside a file that it has checked."""
    status = os.stat(path)
    found = {"size": status.st_size, "mtime": seconds(status.st_mtime_ns), "inode": status.st_ino}
    found |= {"ctime": seconds(status.st_ctime_ns)} | changes
    line = "# " + " ".join(f"{name}={value}" for name, value in found.items())
    record = path.with_name("model.safetensors.sha256")
    record.write_text(f"{digest}  model.safetensors\n{line}\n" if text is None else text)


def seconds(ns):
    return f"{ns // 10**9}.{ns % 10**9:09}"


# --- no name, size or date is a check ------------------------------------------------------------


def under_a_blobs_name(folder):
    snapshot, blobs = sparse(folder / "snapshots" / "r"), folder / "blobs"
    blobs.mkdir()
    os.replace(snapshot / "model.safetensors", blobs / PIN.sha256)
    (snapshot / "model.safetensors").symlink_to(Path("..", "..", "blobs", PIN.sha256))
    return snapshot


def beside_an_old_record(folder):
    leave_record(sparse(folder) / "model.safetensors", "", f"{PIN.sha256}  model.safetensors\n")
    return folder


def beside_a_record_of_another_file(folder):
    leave_record(a_file(folder), PIN.sha256)
    (folder / "model.safetensors").unlink()
    return sparse(folder)


def of_an_older_date_than_its_record(folder):
    beside_an_old_record(folder)
    os.utime(folder / "model.safetensors", (0, 0))
    return folder


def of_the_right_size_only(folder):
    return sparse(folder)


@pytest.mark.parametrize(
    "zeros",
    [
        under_a_blobs_name,
        beside_an_old_record,
        beside_a_record_of_another_file,
        of_an_older_date_than_its_record,
        of_the_right_size_only,
    ],
)
def test_a_file_of_zeros_is_never_called_the_published_weights(tmp_path, zeros):
    folder = zeros(tmp_path / "gpt2")
    assert (folder / "model.safetensors").stat().st_size == PIN.nbytes
    assert provenance.known_digest(folder / "model.safetensors") is None
    assert origin("gpt2", folder) == UNCHECKED


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_file_of_another_size_is_not_the_published_one_whatever_a_record_says(tmp_path, difference):
    sparse(tmp_path, PIN.nbytes + difference)
    assert "NOT the published gpt2" in origin("gpt2", tmp_path)
    leave_record(tmp_path / "model.safetensors", PIN.sha256)
    assert "NOT the published gpt2" in origin("gpt2", tmp_path)


def test_a_small_file_is_hashed_on_the_spot_and_no_record_is_believed(tmp_path):
    leave_record(a_file(tmp_path), PIN.sha256)
    assert provenance.known_digest(tmp_path / "model.safetensors") == DIGEST
    assert (
        origin("gpt2", tmp_path) == f"NOT the published gpt2 (another checkpoint in {tmp_path}; sha256 {DIGEST[:12]})"
    )
    assert origin("mine", tmp_path) == f"mine (local checkpoint; sha256 {DIGEST[:12]})"


def test_a_sharded_checkpoint_under_a_published_name_is_not_the_published_file(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_bytes(b"")
    assert provenance.known_digest(tmp_path / "model.safetensors") is None
    assert "NOT the published gpt2" in origin("gpt2", tmp_path)


# --- a digest is remembered with what no changed file shares -------------------------------------


def rewritten(path):
    """Other contents of the same size, under the same dates as far as a program can set them."""
    status = path.stat()
    path.write_bytes(b"WEIGHTS")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return path


def replaced(path):
    status = path.stat()
    other = a_file(path.parent / "other", b"WEIGHTS")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(other, path)
    return path


def longer(path):
    with path.open("ab") as file:
        file.write(b"!")
    return path


def linked_to_another(path):
    other = a_file(path.parent / "other", b"WEIGHTS")
    path.unlink()
    path.symlink_to(other)
    return path


def copied(path):
    (path.parent / "copy").mkdir()
    shutil.copytree(path.parent, path.parent / "copy", dirs_exist_ok=True, ignore=lambda *_: ["copy", "models"])
    return path.parent / "copy" / path.name


CHANGES = [rewritten, replaced, longer, linked_to_another, copied]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_does_not_inherit_a_computed_digest(tmp_path, large, change):
    path = a_file(tmp_path)
    assert provenance.known_digest(path) is None
    assert provenance.computed_digest(tmp_path) == (DIGEST, "model.safetensors")
    assert provenance.known_digest(path) == DIGEST
    assert provenance.known_digest(change(path)) is None


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_does_not_inherit_the_record_of_weights_sh(tmp_path, large, change):
    path = a_file(tmp_path)
    leave_record(path, DIGEST)
    assert provenance.known_digest(path) == DIGEST
    assert provenance.known_digest(change(path)) is None


def test_a_remembered_digest_is_found_without_reading_the_file(tmp_path, large, monkeypatch):
    path = a_file(tmp_path)
    provenance.computed_digest(tmp_path)
    monkeypatch.setattr(digests, "open_regular", lambda path: pytest.fail(f"{path} was read"))
    assert provenance.known_digest(path) == DIGEST


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "HASHED_AT_ONCE", -1)
    path = a_file(tmp_path)
    assert provenance.computed_digest(tmp_path)[0] == DIGEST
    assert provenance.known_digest(path) is None


@pytest.mark.parametrize("change", [rewritten, replaced, longer, Path.unlink])
def test_a_file_that_changes_while_it_is_hashed_is_not_remembered(tmp_path, large, monkeypatch, models, change):
    path = a_file(tmp_path)
    identity, changed = digests._identity, []

    def identity_then_change(path, status):
        found = identity(path, status)
        if not changed:
            changed.append(change(path))
        return found

    monkeypatch.setattr(digests, "_identity", identity_then_change)
    digests.computed(path)
    assert changed and not (models / "digests.json").exists()


def test_windows_tells_no_time_of_change_so_nothing_is_remembered_there(tmp_path, large, monkeypatch):
    path = a_file(tmp_path)
    leave_record(path, DIGEST)
    monkeypatch.setattr(sys, "platform", "win32")
    assert provenance.computed_digest(tmp_path)[0] == DIGEST
    assert provenance.known_digest(path) is None


# --- the record of weights.sh --------------------------------------------------------------------


STAT = {  # what weights.sh runs
    "linux": ["-c", "# size=%s mtime=%.9Y inode=%i ctime=%.9Z"],
    "darwin": ["-f", "# size=%z mtime=%Fm inode=%i ctime=%Fc"],
}


@pytest.mark.skipif(sys.platform not in STAT, reason="flags of stat that are not known here")
def test_a_record_written_with_stat_is_believed(tmp_path, large):
    path = a_file(tmp_path)
    command = ["stat", "-L", *STAT[sys.platform], str(path)]
    line = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"LC_ALL": "C"}).stdout
    leave_record(path, "", f"{DIGEST}  model.safetensors\n{line}")
    assert provenance.known_digest(path) == DIGEST


@pytest.mark.parametrize("field", ["size", "mtime", "inode", "ctime"])
def test_a_record_with_one_field_of_another_file_says_nothing(tmp_path, large, field):
    path = a_file(tmp_path)
    leave_record(path, DIGEST, **{field: "1" if field in ("size", "inode") else "1.000000000"})
    assert provenance.known_digest(path) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: "",
        lambda text: text.splitlines()[0] + "\n",
        lambda text: text.replace("  model", "  other"),
        lambda text: text[1:],
        lambda text: text.replace(".", ",").replace(",safetensors", ".safetensors"),
        lambda text: text.replace(" inode", "0 inode"),
        lambda text: text + "more\n",
        lambda text: "\xe9" * 3,
        lambda text: text * 100,
    ],
)
def test_a_record_of_another_form_says_nothing(tmp_path, large, spoil):
    path = a_file(tmp_path)
    leave_record(path, DIGEST)
    record = path.with_name("model.safetensors.sha256")
    record.write_bytes(spoil(record.read_text()).encode("latin-1"))
    assert provenance.known_digest(path) is None


def test_a_record_that_is_no_file_says_nothing(tmp_path, large):
    path = a_file(tmp_path)
    path.with_name("model.safetensors.sha256").mkdir()
    assert provenance.known_digest(path) is None


# --- what is remembered lives in a small file that may be anything -------------------------------


def entry(path, **changes):
    status = os.stat(path)
    found = {"path": os.path.realpath(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    return found | {"inode": status.st_ino, "ctime_ns": status.st_ctime_ns, "sha256": DIGEST} | changes


STORES = {
    "empty": lambda path: b"",
    "not JSON": lambda path: b"{",
    "not UTF-8": lambda path: b"\xff\xfe",
    "a list": lambda path: b"[]",
    "a number": lambda path: b"3",
    "entries of other kinds": lambda path: b'{"files": [3, null, [], "x", {}, {"path": 1}]}',
    "no list of files": lambda path: b'{"files": 3}',
    "bottomless": lambda path: b"[" * 100_000,
    "a path only": lambda path: json.dumps({"files": [{"path": str(path), "sha256": DIGEST}]}).encode(),
    "a digest that is none": lambda path: json.dumps({"files": [entry(path, sha256="the pinned one")]}).encode(),
    "a digest of another kind": lambda path: json.dumps({"files": [entry(path, sha256=3)]}).encode(),
    "another inode": lambda path: json.dumps({"files": [entry(path, inode=1)]}).encode(),
}


@pytest.mark.parametrize("name", STORES)
def test_a_store_that_was_not_written_here_says_nothing_and_is_replaced(tmp_path, large, models, name):
    path = a_file(tmp_path)
    models.mkdir()
    (models / "digests.json").write_bytes(STORES[name](path))
    assert provenance.known_digest(path) is None
    assert provenance.computed_digest(tmp_path)[0] == DIGEST
    assert provenance.known_digest(path) == DIGEST


def test_the_entry_that_the_other_stores_spoil_is_believed(tmp_path, large, models):
    path = a_file(tmp_path)
    models.mkdir()
    (models / "digests.json").write_text(json.dumps({"files": [entry(path)]}))
    assert provenance.known_digest(path) == DIGEST


@pytest.mark.parametrize("kind", ["a folder", "a folder that is a file", "no home"])
def test_a_digest_is_computed_where_none_can_be_remembered(tmp_path, large, models, monkeypatch, kind):
    path = a_file(tmp_path)
    if kind == "a folder":
        (models / "digests.json").mkdir(parents=True)
    elif kind == "a folder that is a file":
        models.write_bytes(b"")
    else:
        monkeypatch.setattr(places, "models_folder", lambda: None)
    assert provenance.known_digest(path) is None
    assert provenance.computed_digest(tmp_path)[0] == DIGEST
    assert provenance.known_digest(path) is None


def test_the_store_is_bounded_and_keeps_the_newest(tmp_path, large, models, monkeypatch):
    monkeypatch.setattr(digests, "MOST", 3)
    paths = [a_file(tmp_path / str(i)) for i in range(5)]
    for path in (*paths, paths[-1]):
        digests.computed(path)
    assert len(json.loads((models / "digests.json").read_text())["files"]) == 3
    assert [provenance.known_digest(path) is not None for path in paths] == [False, False, True, True, True]
    assert [path.name for path in models.iterdir()] == ["digests.json"]


# --- which commands compute it -------------------------------------------------------------------


def test_a_checkpoint_is_unchecked_until_inventory_has_computed_its_digest(models, large, monkeypatch, capsys):
    nanogpt_np.save(random_model(), models / "gpt2")
    path = models / "gpt2" / "model.safetensors"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(pins.PINS, "gpt2", pins.Pin("r", "v", digest, path.stat().st_size))
    monkeypatch.setenv("COLUMNS", "1000")
    time.sleep(0.02)
    assert nanogpt_np.open_checkpoint("gpt2").provenance["kind"] == "downloaded"
    assert not (models / "digests.json").exists()
    assert main(["inventory", "gpt2"]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said == (
        f"gpt2: as found in {models / 'gpt2'}; gpt2 (downloaded, the published weights; sha256 {digest[:12]})"
    )
    assert nanogpt_np.open_checkpoint("gpt2").provenance["kind"] == "published"
    rewritten_byte(path)
    assert nanogpt_np.open_checkpoint("gpt2").provenance["kind"] == "downloaded"
    assert main(["inventory", "gpt2"]) == 0
    assert "NOT the published gpt2" in capsys.readouterr().out.splitlines()[0]


def rewritten_byte(path):
    """Flip a bit of the last weight, and set the old dates again."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        last = file.read(1)
        file.seek(-2, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
