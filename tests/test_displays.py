"""What a Python prompt and a notebook show of the objects that hold a pass: tables that fit on a screen."""

import json
import re

import numpy as np
import pytest
from helpers import random_model

import nanogpt_np
from nanogpt_np import Recorder
from nanogpt_np.generate.loop import generate
from nanogpt_np.interpret import lens
from nanogpt_np.interpret.diff import diff
from nanogpt_np.interpret.explain import explain
from nanogpt_np.interpret.recording import Recording
from nanogpt_np.model.config import Config
from nanogpt_np.names import points
from nanogpt_np.names.inventory import inventory
from nanogpt_np.names.wording import screen
from nanogpt_np.weights.assembly import zeros

LINES = 120  # the bar
DEEP = {"vocab_size": 31, "n_positions": 9, "n_embd": 6, "n_head": 2, "n_inner": 5}
IDS = [3, 1, 4, 1]


def record(model, ids=IDS):
    acts = Recorder(model)
    model(ids, trace=acts)
    return acts


def lines_of(x):
    text = repr(x)
    assert max(map(len, text.split("\n"))) <= LINES
    return text.split("\n")


@pytest.mark.parametrize("n_layer", [1, 2, 3, 12, 48])
def test_a_recorder_prints_every_point_once_and_blocks_that_are_alike_in_one_line(n_layer):
    acts = record(random_model(n_layer=n_layer, **DEEP))
    head, *lines = lines_of(acts)
    assert head == f"Recorder of {len(acts)} arrays" and len(lines) < LINES
    shown = [line.split()[0] for line in lines]
    for name, line in zip(shown, lines, strict=True):
        if name != "...":
            assert f" {list(acts[name].shape)} " in line and line.endswith(f"= {points.get(name).equation}")
    blocks = sorted({points.block_of(name) for name in shown} - {None})
    if n_layer <= 2:
        assert shown == list(acts)
    else:
        assert blocks == [0, n_layer - 1]
        middle = "block 1" if n_layer == 3 else f"blocks 1 to {n_layer - 2}"
        assert f"... {middle} likewise ..." in lines
        kept = [name for name in acts if points.block_of(name) in (None, 0, n_layer - 1)]
        assert [name for name in shown if name != "..."] == kept


def test_a_block_that_differs_from_its_neighbors_is_not_said_to_be_like_them():
    acts = record(random_model(n_layer=9, **DEEP))
    del acts["blocks.4.hook_mlp_out"]
    text = repr(acts)
    assert "... blocks 1 to 2 likewise ..." in text and "... blocks 6 to 7 likewise ..." in text
    assert "blocks.4.hook_attn_out" in text and "blocks.4.hook_mlp_out" not in text
    acts = record(random_model(n_layer=9, **DEEP))
    acts["blocks.4.attn.hook_z"] = np.zeros((4, 1, 3))
    assert "blocks.4.attn.hook_z" in repr(acts) and "[4, 1, 3]" in repr(acts)


@pytest.mark.parametrize(
    "acts",
    [
        {},
        {"mine": np.zeros((2, 3))},
        {"a" * 5000: np.zeros(2)},
        {"bad\x1b[31m\nname": np.zeros(2)},
        {i: np.zeros(1) for i in range(5000)},
        {f"blocks.{i}.hook_resid_pre": np.zeros(i + 1) for i in range(500)},
        {"x": 1, "y": None, ("t", 1): np.zeros(3)},
        {"hook_embed": np.zeros((1,) * 32)},
    ],
    ids=["empty", "one", "long", "codes", "numbers", "shapes", "odd", "axes"],
)
def test_whatever_a_recorder_holds_it_prints_at_most_a_screen(acts):
    lines = lines_of(Recorder(acts=acts))
    assert len(lines) <= LINES and lines[0] == f"Recorder of {len(acts)} arrays"
    assert all(c.isprintable() for line in lines for c in line)


def test_the_text_of_a_recorder_takes_no_longer_for_arrays_that_are_larger():
    small = Recorder(acts={"hook_embed": np.zeros((5, 3))})
    large = Recorder(acts={"hook_embed": np.broadcast_to(np.float32(0), (10**9, 768))})
    assert len(repr(large)) < len(repr(small)) + 20


def test_model_params_print_as_the_inventory_does():
    for config in (Config(n_layer=1, **DEEP), Config(n_layer=3, tie_word_embeddings=False, **DEEP), Config(n_layer=48)):
        if config.n_layer == 48:
            config = Config(n_layer=48, **DEEP)
        params, rows = zeros(config).params, inventory(config)
        *lines, total = lines_of(params)
        assert len(lines) < LINES and isinstance(params, dict) and list(params) == [row["name"] for row in rows]
        assert total == f"{len(rows)} arrays, {sum(row['parameters'] for row in rows):,} parameters"
        told = {line.split()[0]: line for line in lines}
        for row in rows if len(rows) <= 60 else (*rows[:26], *rows[-14:]):
            line = told.pop(row["name"])
            assert f" {row['shape']} " in line and line.endswith(f" {row['bytes']:,} bytes") and "float32" in line
        assert list(told) == ([] if len(rows) <= 60 else ["..."])
    assert repr(dict(params)) != repr(params) and str(params) == repr(params)


def test_lens_objects_print_as_tables():
    for n_layer in (1, 3, 70):
        model = random_model(n_layer=n_layer, **DEEP)
        acts = record(model)
        rows = lens.logit_lens(acts, model, 7)
        head, *lines = lines_of(rows)
        assert head.split()[0] == "after" and len(lines) < LINES
        assert lines[0].startswith("embeddings") and lines[-1].startswith(f"mlp {n_layer - 1} ")
        assert rows == list(rows) and json.loads(json.dumps(rows)) == rows and rows[1:][0] == rows[1]
        for against in (None, 2):
            split = lens.split(acts, model, 7, against=against)
            head, *lines = lines_of(split)
            assert head.startswith(f"{split.recorded:+9.3f}  the logit of token 7") and len(lines) <= 22
            assert ("less that of 2" in head) == (against == 2)
            amounts = [float(line.split()[0]) for line in lines]
            assert sum(amounts) == pytest.approx(split.recorded, abs=0.0006 * len(lines))  # each rounded to 3 digits
            assert amounts[:-1] == sorted(amounts[:-1], reverse=True) or len(split.parts) > 20
            assert lines[0].split("  ")[-1] == max(split.parts, key=lambda part: part.amount).name


def test_a_diff_shows_its_table_and_prints_its_report():
    for n_layer in (1, 4, 30):
        model = random_model(n_layer=n_layer, **DEEP)
        for other in (IDS, [3, 1, 5, 1]):
            found = diff(record(model), record(model, other))
            lines = lines_of_any(found)
            assert len(lines) <= LINES and "relative" in lines[0] and lines[1].startswith("hook_tokens")
            report = str(found).split("\n")
            assert lines[-len(report) :] == report and "relative" not in report[0]
            assert report[0].startswith("The runs part" if found.first else "The runs are equal")


def lines_of_any(x):
    return repr(x).split("\n")


def test_an_explanation_and_a_recording_show_what_they_print():
    model = random_model(**DEEP)
    acts = record(model)
    found = explain(acts, model, "blocks.1.pattern", (1, 3, 2))
    assert repr(found) == str(found) and lines_of_any(found)[0].startswith("blocks.1.attn.hook_pattern[1, 3, 2] = ")
    recording = Recording(acts, model.config, {"prompt": "x" * 9999, "prompt_ids": IDS})
    lines = lines_of(recording)
    assert lines[0].startswith("Recording of 'xxx") and lines[1:] == repr(acts).split("\n") and len(lines) <= LINES


@pytest.mark.parametrize("n", [0, 1, 99, 100, 101, 5000])
def test_a_screen_holds_the_first_and_the_last_lines_and_counts_the_others(n):
    lines = [str(i) for i in range(n)]
    shown = screen(lines)
    assert len(shown) == min(n, 100) and shown[:1] == lines[:1] and shown[-1:] == lines[-1:]
    hidden = [int(re.search(r"\d+", line)[0]) for line in shown if "more lines" in line]
    assert len(shown) - len(hidden) + sum(hidden) == n


# --- in a notebook ---------------------------------------------------------------------------------

PROMPTS = ["Hi", "The capital of France is", "The capital of France is Paris. The capital of Japan is Tokyo."]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_notebook_that_shows_a_recorder_of_the_bundled_model_is_below_1_mb(prompt):
    """A cell's output is text/plain and text/html, as JSON in the file; measured for five tokens: 0.73 MB."""
    model = nanogpt_np.load("facts")
    for known in (model, None):
        acts = Recorder(known)
        list(generate(model, nanogpt_np.Tokenizer().encode(prompt), 1, stop=(), trace=acts))
        assert not hasattr(acts, "_repr_mimebundle_")
        bundle = {"text/plain": repr(acts).splitlines(True), "text/html": acts._repr_html_().splitlines(True)}
        assert len(bundle["text/plain"]) <= LINES
        assert 100_000 < len(json.dumps({"outputs": [{"data": bundle}]}, indent=1)) < 1_000_000


def test_a_page_in_a_notebook_takes_more_room_where_it_would_show_too_little():
    """What is cut is a part of each head's columns; a quarter stay, or else there is more room."""
    wide = random_model(vocab_size=31, n_positions=9, n_embd=512, n_head=8, n_layer=8, n_inner=2048)
    for model, limit in ((wide, 2_500_000), (random_model(), 1_000_000)):
        text = record(model)._repr_html_()
        kept = json.loads(re.search(r'"kept":(\{[^}]*\})', text)[1])
        assert 4 * kept["D"] >= model.config.head_width and len(text) < limit
