"""Lines fold at spaces to the width: of COLUMNS, of the terminal, or 80. Tables and names do not fold."""

import random
import re
import sys

import pytest
from helpers import scripted_model

import nanogpt_np
from nanogpt_np.__main__ import COMMANDS, main
from nanogpt_np.interpret.lens_words import by_kind_lines, split_lines
from nanogpt_np.names.wording import WHOLE, folded, wrapped

PROMPT = "The capital of France is"
MODEL = ["--model", "facts"]
every_width = pytest.mark.parametrize("width", [40, 80, 200])
# Lines that do not fold: a table's (numbers in columns), an array's, a line of one word, an example to copy.
TABLE = re.compile(r".*\S {2,}\S.*\S {2,}\S| *\[|.{8} [+-]|.*\bhook_\w+(\[[\d, ]+\])? +( |= )| +[+-][\d.]+  ")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Save two passes, and write a folder of the course."""
    folder = tmp_path_factory.mktemp("width")
    for name, prompt in (("a.npz", PROMPT), ("b.npz", "The capital of Japan is")):
        assert main(["trace", prompt, *MODEL, "--save", str(folder / name), "--only", "hook_next_token"]) == 0
    assert main(["course", "new", str(folder / "mine")]) == 0
    return folder


def too_long(text, width):
    """Return the lines that could have been folded: they hold a space and are neither in a table nor an example."""
    long = [line for line in text.splitlines() if len(line) > width and " " in WHOLE.sub("", line).strip()]
    return [line for line in long if not TABLE.match(line) and not line.startswith("example: ")]


@every_width
@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_fits(name, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([] if name is None else [name, "--help"]) == 0
    assert too_long(capsys.readouterr().out, width) == []


OUTPUTS = {
    "trace": ["trace", PROMPT, *MODEL],
    "notice": ["trace", PROMPT, *MODEL, "--notice", "--stats", "--values", "9", "--block", "2"],
    "bytes": ["trace", PROMPT, *MODEL, "--bytes", "--only", "mlp"],
    "dry run": ["trace", PROMPT, "--dry-run", "gpt2-xl", "--block", "3"],
    "explain": ["explain", PROMPT, "blocks.2.attn.hook_pattern[3, 4, 3]", *MODEL],
    "trail": ["explain", PROMPT, "hook_next_logits[ Paris]", "--trail", *MODEL],
    "lens": ["lens", PROMPT, *MODEL],
    "against": ["lens", PROMPT, *MODEL, "--token", " apple", "--against", " guitar"],
    "glossary": ["glossary", "keys"],
    "all": ["glossary", "logits", "--model", "gpt2-xl"],
    "diff": ["diff", "{folder}/a.npz", "{folder}/b.npz"],
    "equal": ["diff", "{folder}/a.npz", "{folder}/a.npz"],
    "inventory": ["inventory", "--model", "gpt2-xl"],
    "list": ["course", "list"],
    "hint": ["course", "hint", "a3", "3"],
    "grade": ["course", "grade", "{folder}/mine", "a4"],
}


@every_width
@pytest.mark.parametrize("which", OUTPUTS)
def test_output_fits(which, width, saved, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([word.format(folder=saved) for word in OUTPUTS[which]]) in (0, 1)
    assert too_long(capsys.readouterr().out, width) == []


@pytest.mark.parametrize("which", ["trace", "lens", "glossary", "diff", "hint", "notice"])
def test_a_wider_line_changes_no_word_of_the_output(which, saved, monkeypatch, capsys):
    words = []
    for width in ("40", "80", "200"):
        monkeypatch.setenv("COLUMNS", width)
        main([word.format(folder=saved) for word in OUTPUTS[which]])
        words.append([word for word in capsys.readouterr().out.split() if set(word) - set("+-")])  # bars differ
    assert words[0] == words[1] == words[2]


@every_width
def test_a_walk_fits(width, monkeypatch, capsys):
    typed = iter(["?", "56", "p 3", "t", "e 3 4 3", "/keys", "j blocks", "j nothing of the kind", "x", "3000", "q"])
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("builtins.input", lambda prompt: next(typed))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    assert main(["trace", PROMPT, *MODEL, "--step"]) == 0
    out = capsys.readouterr().out
    assert too_long(out, width) == [] and "softmax of each row" in " ".join(out.split())


def test_the_same_text_goes_through_a_pipe_and_to_a_terminal_of_80_columns(monkeypatch, capsys):
    shown = []
    for columns in (None, "80"):
        monkeypatch.setenv("COLUMNS", columns) if columns else monkeypatch.delenv("COLUMNS", raising=False)
        assert main(["glossary", "keys"]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]


@pytest.mark.parametrize("seed", range(20))
def test_folding_keeps_every_word_in_order_and_lines_short(seed):
    rng = random.Random(seed)
    words = ["x" * rng.randint(1, 60) for _ in range(rng.randint(1, 80))]
    text = rng.choice(["", "  ", "a column    "]) + " ".join(words)
    width = rng.randint(20, 100)
    for shown in (folded(text, width), wrapped("  lead  ", text, width).replace("lead", "", 1)):
        assert shown.split() == text.split()
        assert all(len(line) <= width or len(line.split()) == 1 for line in shown.split("\n"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('it is " Paris" here', 'it is\n" Paris"\nhere'),
        ("shapes [5, 4, 16] and", "shapes\n[5, 4, 16]\nand"),
        ("aa bb\n    cc dd ee ff", "aa bb\n    cc dd\n    ee ff"),
        ("short", "short"),
        ("", ""),
        ("x" * 30, "x" * 30),
    ],
)
def test_a_quoted_token_and_a_shape_stay_whole_and_an_indent_stays(text, expected):
    lines = folded(text, 11)
    assert lines == expected or [line.strip() for line in lines.split("\n")] == expected.split("\n")


def test_what_follows_a_first_column_stays_beside_it():
    assert folded("p      print the values; p 4 prints those at 4", 40) == (
        "p      print the values; p 4 prints\n       those at 4"
    )


def test_a_long_message_folds_on_a_terminal_and_is_one_line_elsewhere(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal)
        assert main(["generate", "a", "--temperature", "-1", "--top-k", "4"]) == 1
        err = capsys.readouterr().err
        assert (max(map(len, err.splitlines())) <= 40) is terminal and (err.count("\n") == 1) is not terminal


# --- colors in lens --------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [" Paris", " Rome", " apple"])
def test_on_a_terminal_what_is_for_a_token_is_green_and_what_is_against_it_red(token, monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("WT_SESSION", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    command = ["lens", PROMPT, "--token", token, *MODEL]
    assert main(command) == 0
    out = capsys.readouterr().out
    painted = re.findall(r"\x1b\[(3\d)m([^\x1b]*)\x1b\[0m", out)
    assert {style for style, _ in painted} == {"31", "32"}
    for style, text in painted:
        assert text == "" or [sign for sign in "+-" if sign in text] == ["-" if style == "31" else "+"]
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(command) == 0
    plain = capsys.readouterr().out
    assert plain == re.sub(r"\x1b\[\d+m", "", out) and "\x1b" not in plain


def test_the_library_paints_nothing_by_itself():
    ids = nanogpt_np.text.Tokenizer().encode(PROMPT)
    from nanogpt_np.interpret.lens_report import report

    result = report(nanogpt_np.load("facts"), nanogpt_np.text.Tokenizer(), ids)
    lines = [*split_lines(result, result["splits"][0], 8), *by_kind_lines(result)]
    assert all("\x1b" not in line for line in lines)


# --- one way to name a model; progress; a folder of the course ------------------------------------


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Write a small model."""
    folder = tmp_path_factory.mktemp("small") / "model"
    nanogpt_np.save(scripted_model([5, 6, 0]), folder)
    return str(folder)


@pytest.mark.parametrize("form", [["--model", "{}"], ["--model={}"], ["{}"]])
def test_inventory_takes_its_model_as_every_command_does(form, small, capsys):
    for name in (small, "gpt2", "facts"):
        assert main(["inventory", *(word.format(name) for word in form)]) == 0
        assert " ".join(capsys.readouterr().out.split()).startswith(f"{name}: as ")


@pytest.mark.parametrize("command", ["inventory", "facts"])
def test_a_model_that_is_given_twice_or_unknown_is_told_in_one_line(command, capsys):
    assert main([command, "facts", "--model", "gpt2"]) == 1
    assert capsys.readouterr().err == "error: the model is given twice: leave out --model or the argument\n"
    for form in (["gpt-2"], ["--model", "gpt-2"]):
        assert main([command, *form]) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and "gpt-2" in err


@pytest.mark.parametrize("flags", [[], ["--bytes"], ["--json"], ["--block", "0", "--notice"]])
def test_a_dry_run_of_trace_says_once_that_it_is_one(flags, capsys):
    assert main(["trace", "a b", "--dry-run", "gpt2", *flags]) == 0
    out, err = capsys.readouterr()
    assert (out + err).count("DRY RUN") == 1 and out.count("DRY RUN") == 1
