"""Walking through a recorded pass: by the functions, through a pipe, and in a terminal with its keys."""

import contextlib
import math
import os
import re
import select
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers import random_model

from nanogpt_np import Recorder
from nanogpt_np.generate.loop import generate
from nanogpt_np.interpret.explain import explain
from nanogpt_np.interpret.recording import Recording
from nanogpt_np.interpret.stats import lengths, stats
from nanogpt_np.interpret.stepper import WIDTH, step, values
from nanogpt_np.names import parameters, points
from nanogpt_np.names.glossary import as_text, find

MODEL = random_model()
CONFIG = MODEL.config
IDS = [3, 1, 41, 59, 26, 5, 53]  # T = 7
TABLE = points.table(CONFIG, points.NEXT_TOKEN)
NAMES = list(TABLE)


def recorded(steps=1):
    """Return the last of some steps of generation as a recording; after the first one, of one token and a cache."""
    acts = Recorder()
    list(generate(MODEL, IDS, steps, stop=(), trace=acts))
    return Recording(acts, CONFIG, {"prompt": "", "prompt_ids": IDS, "model": {}})


PASS = recorded()


def walk(*typed, recording=PASS, model=None):
    """Walk through a pass and return what is shown after each line that is typed; the input ends after the last."""
    shown, lines = [[]], iter(typed)

    def ask(prompt):
        assert prompt == "> "
        shown.append([])
        for line in lines:
            return line
        raise EOFError

    step(recording, ask, lambda text: shown[-1].append(text), model)
    return ["\n".join(texts) for texts in shown]


def number(name):
    return NAMES.index(name) + 1


def title(name):
    return f"{number(name)} of {len(NAMES)}  {name}  "


# --- from step to step ---------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "n", "  "])
def test_enter_goes_through_every_step_in_order_and_the_end_is_said(key):
    start, *pages, end, _ = walk(*[key] * len(NAMES))
    for name, page in zip(NAMES, [start.split("\n\n")[1], *pages], strict=True):
        assert page.startswith(title(name))
    assert "the end of the pass" in end
    assert f"the next token is {PASS.acts['hook_next_token']} " in end
    assert all(len(line) <= WIDTH for page in pages for line in page.splitlines())


def test_at_either_end_the_walk_stays_where_it_is():
    shown = walk("b", "", "b", "b", str(len(NAMES)), "", "", "b")
    assert shown[1] == shown[4] == "this is the first step"
    assert shown[2].startswith("2 of ") and shown[3].startswith("1 of ")
    assert "the end of the pass" in shown[6] and shown[6] == shown[7]
    assert shown[8].startswith(title(NAMES[-2]))


@pytest.mark.parametrize("recording", [PASS, recorded(4)], ids=["prompt", "cached"])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_all_that_the_tables_know_of_its_point(name, recording):
    T, S = (7, 7) if recording is PASS else (1, 10)
    point, x = TABLE[name], recording.acts[name]
    page = re.sub(r"\n {14}", " ", walk(str(number(name)), recording=recording)[1])  # without its line ends
    first, *rest = page.splitlines()
    assert first.startswith(f"{title(name)}{list(x.shape)}  (")
    assert all(axis in first for axis in point.axis_names)
    assert f"  equation    {point.equation}" in rest
    assert f"  in numbers  {point.shapes_of(CONFIG, T, S)}" in rest
    assert f"  notice      {point.notice}" in rest
    for read in point.reads:
        assert f"{read} {list(recording.acts[read].shape)}" in page
    for weight in point.weights:
        assert f"{weight} {list(parameters.table(CONFIG)[weight].shape(CONFIG))}" in page
    module, definition = point.where.split(":")
    assert f"  made in     nanogpt_np/{module.replace('.', '/')}.py, {definition}" in rest
    if name in points.WHOLE_NUMBERS:
        assert "RMS" not in page
    else:
        seen = x[np.isfinite(x)].astype(float)
        assert f"mean {seen.mean():.5g} " in page and f"RMS {math.sqrt((seen**2).mean()):.5g} " in page
        assert ("masked" in page) == (seen.size < x.size)


def test_a_number_or_a_name_jumps_there():
    name = "blocks.1.attn.hook_pattern"
    for typed in (str(number(name)), f"j {name}", "j blocks.1.attn.hook_pat", "j *.1.*_pattern"):
        shown = walk(typed, "")
        assert shown[1].startswith(title(name))
        assert shown[2].startswith(title("blocks.1.attn.hook_z"))


def test_a_part_of_several_names_lists_them_with_their_numbers_and_goes_nowhere():
    _, listed, following, *_ = walk("j hook_pattern", "")
    expected = [f"blocks.{i}.attn.hook_pattern" for i in range(3)]
    assert [line.split() for line in listed.splitlines()[1:]] == [[str(number(name)), name] for name in expected]
    assert following.startswith(title(NAMES[1]))
    many = walk("j blocks.")[1].splitlines()
    assert "63 names" in many[0] and len(many) == 22 and many[-1].strip() == "and 43 more"


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("0", f"no step 0: they are 1 to {len(NAMES)}"),
        (str(len(NAMES) + 1), "they are 1 to"),
        ("9" * 5000, "limit"),  # of Python for the digits of a number
        ("-1", "'-1' is not a command; see ?"),
        ("j", "j needs a name"),
        ("j blocks.1.attn.hook_patern", "did you mean blocks.1.attn.hook_pattern"),
        ("x", "'x' is not a command"),
        ("p 7 7", "hook_tokens has 1 axes, not 2: (position)"),
        ("p 7", "there is no position 7: they are 0 to 6"),
        ("p -8", "there is no position -8"),
        ("p one", "'one' is not a whole number"),
        ("t 0", "1 or more, not 0"),
        ("t many", "'many' is not a whole number"),
        ("e 0", "has no weights"),
    ],
)
def test_what_cannot_be_done_is_said_and_the_walk_goes_on(typed, expected):
    _, answer, following, *_ = walk(typed, "")
    assert expected in " ".join(answer.split())
    assert following.startswith(title(NAMES[1]))


def test_q_and_the_end_of_the_input_end_the_walk():
    assert len(walk("", "q", "", "")) == 3
    assert walk("")[-1] == ""  # an empty line, so that a shell goes on below the "> "


def test_ctrl_c_is_left_to_the_command_line():
    def ask(prompt):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        step(PASS, ask, lambda text: None)


def test_help_names_every_command():
    text = walk("?")[1]
    for command in ("Enter", "n", "b", "NUMBER", "j NAME", "p", "t", "e INDEX", "/WORD", "q", "Ctrl-D"):
        assert re.search(rf"(^|[ ,]){re.escape(command)}\b", text, re.MULTILINE), command


# --- what can be asked on a page -----------------------------------------------------------------


def printed(text):
    return [float(word) for word in re.findall(r"-?inf|-?\d+\.?\d*(?:e[-+]\d+)?", text.split("\n", 1)[1])]


@pytest.mark.parametrize(
    "name", ["hook_tokens", "ln_final.hook_scale", "blocks.2.attn.hook_attn_scores", "hook_next_token"]
)
def test_p_prints_small_arrays_whole(name):
    text = walk(str(number(name)), "p")[2]
    assert text.startswith(f"{name}  {list(PASS.acts[name].shape)}\n")
    np.testing.assert_allclose(printed(text), PASS.acts[name].reshape(-1), rtol=0, atol=6e-5)  # four digits are shown


def test_p_cuts_large_arrays_short_and_an_index_takes_a_part_of_them():
    name = "blocks.2.mlp.hook_post"  # (7, 52)
    assert 7 * 52 < 500 < 7 * 90
    assert "..." not in values(PASS, name)
    name = "blocks.2.attn.hook_qkv"  # (7, 90)
    text = values(PASS, name)
    assert "..." in text and len(text.splitlines()) < 10
    np.testing.assert_allclose(printed(values(PASS, name, ["4"])), PASS.acts[name][4], rtol=0, atol=6e-5)


@pytest.mark.parametrize(
    ("typed", "index"),
    [
        ("p 3", np.s_[3]),
        ("p -1", np.s_[-1]),
        ("p : 4", np.s_[:, 4]),
        ("p 3 6 0", np.s_[3, 6, 0]),
        ("p : : 2", np.s_[:, :, 2]),
    ],
)
def test_p_with_an_index_prints_what_numpy_has_there(typed, index):
    name = "blocks.1.attn.hook_pattern"  # (5, 7, 7)
    text = walk(f"j {name}", typed)[2]
    expected = PASS.acts[name][index]
    assert text.startswith(f"{name}[{', '.join(typed.split()[1:])}]  {list(expected.shape)}\n")
    np.testing.assert_allclose(printed(text), np.ravel(expected), rtol=0, atol=6e-5)


def test_t_lists_the_likeliest_next_tokens():
    p = PASS.acts["hook_probabilities"]
    for typed, count in (("t", 5), ("t 3", 3), ("t 1000", CONFIG.vocab_size)):
        lines = walk(typed)[1].splitlines()
        assert len(lines) == count
        assert [line.split()[1] for line in lines] == [f"{value:.4%}" for value in np.sort(p)[::-1][:count]]


def test_e_derives_a_number_and_says_what_is_wrong_with_an_index():
    name = "blocks.1.attn.hook_pattern"
    shown = walk(f"j {name}", "e 3 6 2", "e 3 6", "e 5 0 0", "e x", "", model=MODEL)
    assert shown[2] == str(explain(PASS.acts, MODEL, name, (3, 6, 2)))
    assert "(head, query, key)" in shown[3] and "from 0 to 4" in shown[4] and "not a whole number" in shown[5]
    assert shown[6].startswith(title("blocks.1.attn.hook_z"))


def test_a_slash_looks_a_word_up():
    _, one, many, none, _ = walk("/Kcur", "/hook_resid_post", "/no such word")
    assert one == as_text(find("Kcur", CONFIG)[0].row(CONFIG)) and one.startswith("blocks.{i}.attn.hook_k ")
    assert many.startswith("blocks.{i}.hook_resid_post ")
    assert "no tensor is called 'no such word'" in none
    found = find("bias", CONFIG)
    assert len(found) > 3
    listed = walk("/bias")[1]
    assert as_text(found[2].row(CONFIG)) in listed and as_text(found[3].row(CONFIG)) not in listed
    assert f"and {len(found) - 3} more: {found[3].name}, " in listed


def test_walking_changes_nothing_in_the_recording():
    before = {name: x.copy() for name, x in PASS.acts.items()}
    walk("j hook_pattern", "p", "40", "p 0", "e 0 0 0", "t", "", model=MODEL)
    assert list(PASS.acts) == list(before)
    for name, x in before.items():
        np.testing.assert_array_equal(PASS.acts[name], x)


# --- mean, RMS, min, max -------------------------------------------------------------------------


def test_stats_are_those_of_the_numbers_that_are_not_masked():
    x = np.array([[3, -math.inf], [-1, 4]], np.float32)
    assert stats(x) == {"mean": 2, "rms": math.sqrt(26 / 3), "min": -1, "max": 4, "masked": 1}


def test_stats_are_worked_out_in_float64():
    x = np.array([1e8, 1, -1e8, 1e30], np.float32)  # in float32 the 1 is lost, and the squares are infinite
    assert stats(x[:3])["mean"] == float(np.mean([1e8, 1, -1e8])) != 0
    assert math.isclose(stats(x)["rms"], 5e29, rel_tol=1e-6)


def test_stats_do_not_depend_on_how_an_array_lies_in_memory():
    x = np.random.default_rng(0).standard_normal((37, 5, 41))
    turned = np.ascontiguousarray(np.swapaxes(x, 0, 1))
    assert stats(np.swapaxes(turned, 0, 1)) == stats(x) == stats(np.asfortranarray(x))


def test_lengths_are_those_of_the_new_tokens_and_of_all():
    assert lengths(PASS.acts) == (7, 7)
    assert lengths(recorded(4).acts) == (1, 10)


# --- the command ---------------------------------------------------------------------------------

COMMAND = [sys.executable, "-W", "error", "-m", "nanogpt_np", "trace", "The capital of France is", "--model", "facts"]


def test_a_pipe_can_walk_and_its_lines_show_as_a_terminal_shows_them():
    typed = "\n9\np 0 0\nq\n"
    done = subprocess.run([*COMMAND, "--step"], input=typed, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("model: facts")
    lines = done.stdout.splitlines()
    assert lines[5] == '       4    318  " is"'
    assert [line for line in lines if line.startswith(">")] == ["> ", "> 9", "> p 0 0", "> q"]
    assert lines[-3].startswith("blocks.0.attn.hook_qkv[0, 0]  []")


class Terminal:
    """A command in a terminal of its own, which turns Ctrl-C and Ctrl-D into what they mean."""

    def __init__(self, *command):
        pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
        self.screen, inside = pty.openpty()
        # What is typed reaches the process as signals only if the terminal is the one that controls it.
        take = (
            "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", take, *command],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(inside)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.screen)

    def type(self, keys):
        """Type some keys and return what is shown until the next prompt stands there, or the command has ended."""
        os.write(self.screen, keys.encode())
        return self.read()

    def read(self):
        shown, end = b"", time.monotonic() + 60
        while not shown.endswith(b"\n> "):
            assert select.select([self.screen], [], [], max(0, end - time.monotonic()))[0], f"waited in vain: {shown}"
            try:
                part = os.read(self.screen, 65536)
            except OSError:  # Linux says so when the other side is closed
                part = b""
            if not part:
                break
            shown += part.replace(b"\r\n", b"\n")
        return shown.decode()


@pytest.fixture
def terminal():
    with Terminal(*COMMAND, "--step") as terminal:
        yield terminal


def test_in_a_terminal_the_keys_do_what_help_says(terminal):
    start = terminal.read()
    assert "model: facts" in start and '   4881  " France"' in start and "1 of 95  hook_tokens  [5]" in start
    assert "2 of 95  hook_positions" in terminal.type("\n")
    assert "3 of 95  hook_embed  [5, 64]" in terminal.type("n\n")
    assert "2 of 95  hook_positions" in terminal.type("b\n")
    assert "14  blocks.0.attn.hook_pattern\n   35  blocks.1.attn.hook_pattern" in terminal.type("j hook_pattern\n")
    page = terminal.type("35\n")
    assert "35 of 95  blocks.1.attn.hook_pattern  [4, 5, 5]  (head, query, key)" in page
    assert "  in numbers  softmax([4, 5, 5])" in page
    rows = terminal.type("p 2\n")
    assert "blocks.1.attn.hook_pattern[2]  [5, 5]\n[[1.     0.     0.     0.     0.    ]" in rows
    assert "they agree to" in terminal.type("e 2 4 1\n")
    assert re.search(r'1 +9\d\.\d{4}%  " Paris"', terminal.type("t\n"))
    assert "goes on" not in terminal.type("?\n")
    assert "no step 96" in terminal.type("96\n")
    assert "95 of 95  hook_next_token  []" in terminal.type("95\n")
    assert 'the end of the pass: the next token is 6342 " Paris"' in terminal.type("\n")
    terminal.type("q\n")
    assert terminal.process.wait(timeout=30) == 0


def test_in_a_terminal_lines_can_be_edited_and_called_back(terminal):
    pytest.importorskip("readline", reason="this Python was built without readline")
    terminal.read()
    assert "9 of 95 " in terminal.type("8\b9\n")
    terminal.type("b\n")
    assert "9 of 95 " in terminal.type("\x10\x10\n")  # Ctrl-P, the line before, twice


def test_ctrl_d_quits_with_0_and_leaves_the_line(terminal):
    terminal.read()
    assert terminal.type("\x04").endswith("\n")
    assert terminal.process.wait(timeout=30) == 0


def test_ctrl_c_quits_with_130_and_no_traceback(terminal):
    terminal.read()
    for _ in range(60):  # again: between showing its prompt and waiting for keys, Python's readline misses a signal
        os.write(terminal.screen, b"\x03")
        with contextlib.suppress(subprocess.TimeoutExpired):
            terminal.process.wait(timeout=1)
            break
    assert terminal.process.returncode == 130
    assert "Traceback" not in terminal.read()


def test_a_replayed_pass_can_be_walked_through_but_not_derived(tmp_path):
    file = str(tmp_path / "pass.npz")
    subprocess.run([*COMMAND, "--save", file], capture_output=True, timeout=60, check=True)
    with Terminal(*COMMAND[:6], "--load", file, "--step") as terminal:
        assert f"replayed from {file}; model: facts" in " ".join(terminal.read().split())
        assert "9 of 95  blocks.0.attn.hook_qkv" in terminal.type("9\n")
        assert "has no weights" in terminal.type("e 0 0\n")
        assert "10 of 95" in terminal.type("\n")
