"""What the README shows is what happens."""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nanogpt_np
from nanogpt_np.commands import train
from nanogpt_np.generate.loop import generate
from nanogpt_np.model.config import Config
from nanogpt_np.names.parameters import table
from nanogpt_np.weights.assembly import assemble

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def transcripts():
    """Yield (command, lines shown under it) for every ``$`` line of the console blocks."""
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *lines = part.rstrip("\n").split("\n")
            yield command, lines


def shown(prefix):
    (found,) = [(command, lines) for command, lines in transcripts() if command.startswith(prefix)]
    return found


def test_the_dry_run_prints_what_the_readme_shows():
    command, lines = shown("python -m nanogpt_np.generate --dry-run")
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]], capture_output=True, text=True, timeout=60, check=True
    )
    cut = lines.index("...")
    printed = done.stdout.splitlines()
    assert printed[:cut] == lines[:cut]
    assert printed[cut - len(lines) + 1 :] == lines[cut + 1 :]
    assert len(printed) > len(lines)


def test_the_first_command_prints_what_the_readme_shows(tmp_path):
    command, lines = shown('python -m nanogpt_np.generate "The capital of France is"')
    without_gpt2 = {**os.environ, "NANOGPT_NP_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, *shlex.split(command)[1:]],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env=without_gpt2,
        cwd=tmp_path,
    )
    assert (done.stderr + done.stdout).splitlines() == lines


def test_the_training_commands_have_flags_that_exist():
    commands = [command for command, _ in transcripts() if " nanogpt_np.train " in command]
    assert len(commands) == 3
    for command in commands:
        train._parser().parse_args(shlex.split(command)[3:])


@pytest.mark.weights
def test_gpt2_says_what_the_readme_shows():
    try:
        model = nanogpt_np.load("gpt2")
    except ValueError as error:
        pytest.skip(str(error))
    _, (text,) = shown("python -m nanogpt_np.generate --model gpt2")
    tok = nanogpt_np.Tokenizer()
    assert tok.decode(generate(model, tok.encode("The capital of France is"), 20)) == text


def test_the_commands_that_look_inside_print_what_the_readme_shows(tmp_path):
    """Lines are compared as words and numbers; ``...`` stands for any lines."""
    commands = [
        (c, lines)
        for c, lines in transcripts()
        if re.match("python -m nanogpt_np (trace|explain|lens|gloss)", c) and "--html" not in c
    ]
    assert len(commands) == 4
    without_gpt2 = {**os.environ, "NANOGPT_NP_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}
    for command, lines in commands:
        arguments = [sys.executable, *shlex.split(command)[1:]]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True, env=without_gpt2)
        printed = [line.rstrip() for line in done.stdout.splitlines()]
        at, skipping = 0, False
        for line in lines:
            if line == "...":
                skipping = True
                continue
            while skipping and at < len(printed) and not alike(line, printed[at]):
                at += 1
            assert at < len(printed) and alike(line, printed[at]), (command, line, printed[at : at + 1])
            at, skipping = at + 1, False
        assert skipping or at == len(printed), command


def test_the_page_is_written_by_the_command_that_the_readme_shows(tmp_path):
    command, lines = shown('python -m nanogpt_np trace "The capital of France is" --html')
    without_gpt2 = {**os.environ, "NANOGPT_NP_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path)}
    arguments = [sys.executable, *shlex.split(command)[1:]]
    done = subprocess.run(
        arguments, capture_output=True, text=True, timeout=60, check=True, env=without_gpt2, cwd=tmp_path
    )
    assert lines == [] and done.stdout == ""
    assert (tmp_path / "france.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def alike(shown, printed):
    """Compare two lines: words exactly, numbers up to the rounding of another processor."""
    if "they agree to" in shown:
        shown, printed = (re.sub(r"they agree to [\d.]+ digits", "", line) for line in (shown, printed))
    number = r"-?\d+\.\d+(?:e-?\d+)?"
    if re.sub(number, "#", shown).split() != re.sub(number, "#", printed).split():
        return False
    pairs = zip(re.findall(number, shown), re.findall(number, printed), strict=True)
    return all(abs(float(a) - float(b)) <= 1e-4 * abs(float(a)) + 2e-4 for a, b in pairs)


def test_the_python_examples_run_and_their_shapes_are_true(tmp_path, monkeypatch):
    # Stands in for gpt2: its vocabulary, context and 12 heads, other widths. The widths in the comments
    # (768, 2304) are held to the table of parameters below.
    config = Config(n_embd=24, n_layer=2)
    rng = np.random.default_rng(0)
    params = {name: rng.normal(0, 0.1, p.shape(config)).astype(np.float32) for name, p in table(config).items()}
    nanogpt_np.save(assemble(config, params), tmp_path / "gpt2")
    monkeypatch.setenv("NANOGPT_NP_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    using, changing = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(using, names)
    assert printed.getvalue()
    assert names["ids"] == [464, 3139, 286, 4881, 318]
    assert names["logits"].shape == (5, 50257) and names["logits"].dtype == np.float32
    assert names["acts"]["blocks.0.attn.hook_pattern"].shape == (12, 5, 5)
    assert table(Config())["h.0.attn.c_attn.weight"].shape(Config()) == (768, 2304)
    again = nanogpt_np.load(tmp_path / "copy-of-gpt2")
    np.testing.assert_array_equal(again(names["ids"]), names["logits"])
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(changing, names)
    assert "The runs part at blocks.2.hook_resid_pre" in printed.getvalue()
    best = names["patched"]["hook_logits"][-1].argmax()
    (said,) = re.findall(r"argmax\(\)\]\)  # \"(.*)\"", changing)
    assert names["tok"].decode([best]) == said == " Tokyo"


def test_every_room_of_the_package_is_in_the_map_in_the_order_of_its_docstring():
    rooms = re.findall(r"^\| \[(\w+)/\]\(nanogpt_np/(\w+)\) \| .+ \|$", README, re.MULTILINE)
    assert all(shown == linked for shown, linked in rooms)
    names = [name for name, _ in rooms]
    assert sorted(names) == sorted(path.parent.name for path in (ROOT / "nanogpt_np").glob("*/__init__.py"))
    in_docstring = re.findall(r"(?:^ {4}|\S {2,})([a-z]+) {2,}(?=\S)", nanogpt_np.__doc__, re.MULTILINE)
    assert names == in_docstring


def test_every_file_of_the_model_is_in_the_reading_order():
    linked = re.findall(r"\[(\w+)\]\(nanogpt_np/model/(\w+)\.py\)", README)
    assert all(shown == file for shown, file in linked)
    files = [file for _, file in linked]
    assert sorted(files) == sorted(
        path.stem for path in (ROOT / "nanogpt_np/model").glob("*.py") if path.stem[0] != "_"
    )
    assert files == re.findall(r"`([a-z0-9_]+)`", nanogpt_np.model.__doc__)


def test_every_link_of_the_readme_leads_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    for link in links:
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_every_flag_that_the_readme_names_exists():
    from nanogpt_np.commands import generate, trace
    from nanogpt_np.commands.explain import _parser as explain_parser

    parsers = (generate._parser, train._parser, trace._parser, explain_parser)
    known = "".join(parser().format_help() for parser in parsers)
    for flag in re.findall(r"`(--[a-z-]+)", README):
        assert flag in known, flag
