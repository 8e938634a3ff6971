"""Where models are looked up, and that no place need exist, be readable, or be what it should be."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import random_model

import nanogpt_np
from nanogpt_np.__main__ import main
from nanogpt_np.weights import pins, places

REPOS = {name: "models--" + pin.repo.replace("/", "--") for name, pin in pins.PINS.items()}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """An empty home folder, an empty current folder, and none of the variables that say otherwise."""
    for name in ("NANOGPT_NP_HOME", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "platform", "linux")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def a_model(folder, single=True):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / ("model.safetensors" if single else "model.safetensors.index.json")).write_bytes(b"")
    return folder


def in_hub(hub, name="gpt2", revision=None, main=None):
    folder = hub / (REPOS.get(name) or "models--" + name.replace("/", "--"))
    if main:
        (folder / "refs").mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text(main)
    return a_model(folder / "snapshots" / (revision or pins.PINS[name].revision))


def test_models_are_in_the_folder_that_a_variable_names_or_in_the_cache_folder(machine, monkeypatch):
    assert places.models_folder() == machine / "home" / ".cache" / "nanogpt_np"
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine / "xdg"))
    assert places.models_folder() == machine / "xdg" / "nanogpt_np"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert places.models_folder() == machine / "home" / "Library" / "Caches" / "nanogpt_np"
    monkeypatch.setenv("NANOGPT_NP_HOME", str(machine / "mine"))
    assert places.models_folder() == machine / "mine"


def test_hugging_faces_cache_is_where_its_variables_say_the_nearest_first(machine, monkeypatch):
    assert places.hub_folder() == machine / "home" / ".cache" / "huggingface" / "hub"
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine / "xdg"))
    assert places.hub_folder() == machine / "xdg" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", str(machine / "hf"))
    assert places.hub_folder() == machine / "hf" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(machine / "cache"))
    assert places.hub_folder() == machine / "cache"
    monkeypatch.setenv("HF_HUB_CACHE", "~/cache")
    assert places.hub_folder() == machine / "home" / "cache"


@pytest.mark.parametrize("name", pins.PINS)
def test_a_published_name_is_looked_up_in_the_models_folder_then_in_hugging_faces_cache(machine, monkeypatch, name):
    monkeypatch.setenv("NANOGPT_NP_HOME", str(machine / "mine"))
    with pytest.raises(ValueError, match=rf"{name} is not on this machine .*weights.sh {name}"):
        places.find(name)
    snapshot = in_hub(places.hub_folder(), name)
    assert places.find(name) == snapshot
    mine = a_model(machine / "mine" / name)
    assert places.find(name) == mine
    (mine / "config.json").unlink()  # a download that was cut short
    assert places.find(name) == snapshot
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="not on this machine"):
        places.find(name)


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"])
def test_a_snapshot_is_found_wherever_hugging_face_keeps_it(machine, monkeypatch, variable):
    folder = machine / "elsewhere"
    monkeypatch.setenv(variable, str(folder))
    hub = {"HF_HUB_CACHE": folder, "HF_HOME": folder / "hub", "XDG_CACHE_HOME": folder / "huggingface" / "hub"}
    snapshot = in_hub(hub[variable])
    assert places.find("gpt2") == snapshot
    monkeypatch.delenv(variable)
    with pytest.raises(ValueError, match="not on this machine"):
        places.find("gpt2")


def test_the_pinned_revision_goes_before_all_others(machine):
    hub = places.hub_folder()
    in_hub(hub, revision="0" * 40, main="0" * 40)
    in_hub(hub, revision="f" * 40)
    pinned = in_hub(hub)
    assert places.find("gpt2") == pinned


def test_another_repository_is_found_at_the_revision_of_its_main_branch(machine):
    hub = places.hub_folder()
    in_hub(hub, "someone/story-gpt", "a" * 40)
    newest = in_hub(hub, "someone/story-gpt", "b" * 40, main="b" * 40 + "\n")
    in_hub(hub, "someone/story-gpt", "c" * 40)
    assert places.find("someone/story-gpt") == newest
    sharded = a_model(hub / "models--someone--big" / "snapshots" / "main", single=False)
    assert places.find("someone/big") == sharded
    with pytest.raises(ValueError, match="no model 'someone/else'"):
        places.find("someone/else")


@pytest.mark.parametrize("name", pins.PINS)
def test_a_model_that_was_downloaded_under_its_short_name_is_found(machine, name):
    snapshot = a_model(places.hub_folder() / f"models--{name}" / "snapshots" / pins.PINS[name].revision)
    assert places.find(name) == snapshot


@pytest.mark.parametrize("name", ["gpt2", "distilgpt2"])
def test_a_folder_here_with_a_published_name_is_never_taken_for_those_weights(machine, name):
    a_model(Path(name))
    with pytest.raises(ValueError, match=rf"{name} is not on this machine .* folder here of that name is \./{name}"):
        places.find(name)
    assert places.find(f"./{name}") == Path(f"./{name}")
    assert places.find(Path(name).resolve()) == machine / "here" / name
    downloaded = a_model(places.models_folder() / name)
    assert places.find(name) == downloaded


def test_any_other_folder_is_taken_as_it_is(machine):
    folder = a_model(machine / "my model")
    assert places.find(str(folder)) == folder
    assert places.find(folder) == folder
    a_model(Path("mine"))
    assert places.find("mine") == Path("mine")
    with pytest.raises(ValueError, match=r"no model 'gpt2-medum' \(did you mean gpt2-medium"):
        places.find("gpt2-medum")


def test_loading_by_name_takes_the_model_that_was_found(machine, monkeypatch):
    monkeypatch.setenv("NANOGPT_NP_HOME", str(machine))
    nanogpt_np.save(random_model(4), machine / "gpt2")
    assert np.array_equal(nanogpt_np.load("gpt2").ln_f.weight, random_model(4).ln_f.weight)


def test_the_default_model_is_gpt2_where_it_is_there(machine):
    assert places.default_model() == next(iter(places.bundled()), "gpt2")
    a_model(places.models_folder() / "gpt2")
    assert places.default_model() == "gpt2"


# --- places that need not exist ------------------------------------------------------------------

BUNDLED = next(iter(places.bundled()))


def loop(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path)


def file_at(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\xff")


def mine():
    return places.models_folder()


def hub():
    return places.hub_folder() / REPOS["gpt2"]


FAULTS = {  # what to break, and what is said of it
    "the models' folder is a file": (lambda: file_at(mine()), "Not a directory"),
    "the models' folder is a loop of links": (lambda: loop(mine()), "Too many levels of symbolic links"),
    "the model's folder is a file": (lambda: file_at(mine() / "gpt2"), "Not a directory"),
    "the config is a loop of links": (lambda: loop(mine() / "gpt2" / "config.json"), "Too many levels"),
    "Hugging Face's cache is a file": (lambda: file_at(places.hub_folder()), "Not a directory"),
    "Hugging Face's cache is a loop of links": (lambda: loop(places.hub_folder()), "Too many levels"),
    "the repository is a file": (lambda: file_at(hub()), "Not a directory"),
    "the snapshots are a file": (lambda: file_at(hub() / "snapshots"), "Not a directory"),
    "the snapshots are a loop of links": (lambda: loop(hub() / "snapshots"), "Too many levels"),
    "a snapshot is a file": (lambda: file_at(hub() / "snapshots" / "a"), "Not a directory"),
    "main is a folder": (lambda: (hub() / "refs" / "main").mkdir(parents=True), None),
    "main is not text": (lambda: file_at(hub() / "refs" / "main"), None),
    "main is a loop of links": (lambda: loop(hub() / "refs" / "main"), None),
    "the weights are a folder": (lambda: (a_model(mine() / "gpt2", False), half_a_model(mine() / "gpt2")), None),
}


def half_a_model(folder):
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model.safetensors").mkdir()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("name", FAULTS)
def test_a_place_that_is_not_what_it_should_be_leaves_the_bundled_model(machine, capsys, name):
    spoil, said = FAULTS[name]
    spoil()
    assert places.default_model() == BUNDLED
    with pytest.raises(ValueError, match="gpt2 is not on this machine") as error:
        places.find("gpt2")
    assert said is None or re.search(rf"; {re.escape(str(machine))}\S* cannot be read: {said}", str(error.value))
    assert main(["generate", "The capital of France is", "-n", "1"]) == 0
    assert "bundled" in capsys.readouterr().err
    assert main(["generate", "x", "--model", "gpt2"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("name", [name for name in FAULTS if "main" in name])
def test_a_snapshot_is_found_beside_a_broken_name_of_the_main_branch(machine, name):
    FAULTS[name][0]()
    snapshot = in_hub(places.hub_folder())
    assert places.find("gpt2") == snapshot


@pytest.mark.parametrize("value", ["nowhere", "/nowhere/at/all", "/dev/null", "x" * 300, "y/" * 3000, "\u202e"])
def test_a_variable_that_names_no_folder_leaves_the_bundled_model(machine, monkeypatch, value):
    for variable in ("NANOGPT_NP_HOME", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            assert places.default_model() == BUNDLED


def no_home(monkeypatch):
    """Be a user of a number that has no name, as in a container."""
    pwd = pytest.importorskip("pwd")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])


def test_without_a_home_folder_the_bundled_model_answers(machine, monkeypatch, capsys):
    no_home(monkeypatch)
    assert (places.models_folder(), places.hub_folder(), places.default_model()) == (None, None, BUNDLED)
    assert main(["generate", "The capital of France is", "-n", "1"]) == 0
    assert "bundled" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"\(no home folder to look in: set NANOGPT_NP_HOME\): download it with"):
        places.find("gpt2")
    with pytest.raises(ValueError, match="no model 'someone/story-gpt'"):
        places.find("someone/story-gpt")


def test_without_a_home_folder_the_other_places_are_still_looked_into(machine, monkeypatch):
    no_home(monkeypatch)
    monkeypatch.setenv("HF_HUB_CACHE", str(machine / "hub"))
    snapshot = in_hub(machine / "hub")
    assert places.find("gpt2") == snapshot
    monkeypatch.setenv("NANOGPT_NP_HOME", str(machine / "mine"))
    assert places.find("gpt2") == snapshot
    assert places.find("gpt2") != a_model(machine / "mine" / "gpt2") == places.find("gpt2")


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"])
@pytest.mark.parametrize("value", ["~/cache", "~nobody-of-this-name/cache"])
def test_a_home_folder_that_nobody_knows_is_no_place(machine, monkeypatch, variable, value):
    no_home(monkeypatch)
    monkeypatch.setenv(variable, value)
    assert places.default_model() == BUNDLED


@pytest.mark.parametrize("call", ["stat", "listdir", "access"])
def test_a_place_that_may_not_be_read_is_named(machine, monkeypatch, capsys, call):
    a_model(places.models_folder() / "gpt2")
    in_hub(places.hub_folder())
    assert places.default_model() == "gpt2"
    denied = str(machine / "home")
    real = getattr(os, call)

    def guarded(path, *more, **options):
        if not str(path).startswith(denied):
            return real(path, *more, **options)
        if call == "access":
            return False
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    if call == "listdir":  # seen only where the first place holds nothing
        shutil.rmtree(places.models_folder())
    monkeypatch.setattr(os, call, guarded)
    assert places.default_model() == BUNDLED
    assert main(["generate", "x", "--model", "gpt2"]) == 1
    err = capsys.readouterr().err
    assert re.search(rf"; {re.escape(denied)}\S* cannot be read: Permission denied\)", err) and err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
@pytest.mark.parametrize("kind", ["loop", "long", "null", "below a file", "config", "weights"])
def test_a_folder_that_cannot_be_read_gets_one_clear_line(machine, capsys, kind):
    folder = machine / "model"
    if kind in ("config", "weights"):
        nanogpt_np.save(random_model(), folder)
        name = {"config": "config.json", "weights": "model.safetensors"}[kind]
        (folder / name).unlink()
        loop(folder / name)
    else:
        loop(folder)
        file_at(machine / "file")
    names = {"long": "x" * 5000, "null": "a\0b", "below a file": machine / "file" / "model"}
    assert main(["generate", "x", "--model", str(names.get(kind, folder))]) == 1
    err = capsys.readouterr().err
    assert "cannot be read: " in err and err.count("\n") == 1 and len(err) < 600


AS_NOBODY = """
import contextlib, io, json, os, sys
from nanogpt_np.__main__ import main
from nanogpt_np.weights.places import bundled, default_model
prompt = "The capital of France is"
commands = (["generate", prompt, "-n", "1"], ["trace", prompt], ["lens", prompt, "--token", " Paris"],
            ["explain", prompt, "hook_next_logits[0]"], ["glossary", "keys"], ["inventory", "facts"],
            ["inventory", "gpt2"], ["generate", prompt, "--model", "gpt2"])

def answers():
    found = []
    for arguments in commands:
        with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(io.StringIO()):
            found.append((main(arguments), err.getvalue()))
    return found

for name in ("NANOGPT_NP_HOME", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"):
    os.environ.pop(name, None)
os.environ["HOME"] = "/nowhere"
answers()  # as root, who may read the modules that are imported on demand
del os.environ["HOME"]
os.environ.update(json.loads(sys.argv[1]))
os.setgroups([]), os.setgid(12345), os.setuid(12345)
if not all(os.access(folder / "model.safetensors", os.R_OK) for folder in bundled().values()):
    sys.exit("this package's files are in a folder that others may not read")
print(json.dumps([default_model(), answers()]))
"""


@pytest.mark.parametrize("where", ["no home", "a home that may not be read", "folders that may not be read"])
def test_a_user_without_a_name_or_rights_is_answered_by_every_command(tmp_path, where):
    if not (hasattr(os, "getuid") and os.getuid() == 0):
        pytest.skip("only root can become a user without a name")
    locked = tmp_path / "locked"
    nanogpt_np.save(random_model(), locked / ".cache" / "nanogpt_np" / "gpt2")
    locked.chmod(0o700)
    variables = {
        "no home": {},
        "a home that may not be read": {"HOME": str(locked)},
        "folders that may not be read": {"NANOGPT_NP_HOME": str(locked), "HF_HOME": str(locked)},
    }
    command = [sys.executable, "-c", AS_NOBODY, json.dumps(variables[where])]
    path = str(Path(nanogpt_np.__file__).parent.parent)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONPATH": path})
    if "may not read" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    default, (*answered, (code, said)) = json.loads(done.stdout)
    assert default == BUNDLED and [code for code, _ in answered] == [0] * 7, answered
    assert code == 1 and said.count("\n") == 1
    assert ("Permission denied" in said) == (where != "no home"), said
