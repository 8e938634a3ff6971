"""The benchmark times what it says, on a checkpoint small enough for a test."""

import contextlib
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest

import nanogpt_np
from nanogpt_np.__main__ import main
from nanogpt_np.bench import lanes, measure, products, racers, random_checkpoint
from nanogpt_np.bench.report import lines_of, markdown, sizes
from nanogpt_np.model.config import Config
from nanogpt_np.names.parameters import table
from nanogpt_np.weights.tensors import read_header

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module", params=["F32", "F16"])
def directory(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("random")
    random_checkpoint.write_random(Config(n_positions=40, n_embd=24, n_head=3, n_layer=2), directory, request.param)
    return directory


def test_the_random_checkpoint_is_laid_out_as_the_published_ones_and_loads(directory):
    stored = read_header(directory / "model.safetensors")
    config = Config(n_positions=40, n_embd=24, n_head=3, n_layer=2)
    assert set(stored) == {*table(config), "h.0.attn.bias", "h.1.attn.bias"}
    assert all(tensor.start % 4 for tensor in stored.values())  # unaligned
    model = nanogpt_np.load(directory)
    assert model.config == config
    params = model.params
    assert 0.9 < params["h.1.ln_2.weight"].mean() < 1.1 and abs(params["h.1.ln_2.bias"].mean()) < 0.02
    assert 0.018 < params["wte.weight"].std() < 0.022
    assert np.isfinite(model([1, 2, 3])).all()


def test_every_row_is_measured_and_shown(directory, capsys, monkeypatch):
    monkeypatch.setattr(measure, "PROMPTS", (5, 33, 1023))  # the last is more than this model holds
    monkeypatch.setattr(measure, "CONTEXTS", (5, 20, 959))
    rows = ["prompt", "decode", "context", "trace", "load"]
    assert main(["benchmark", "--model", str(directory), "--rounds", "4", "--json", "--rows", *rows]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert [(row["row"], row["tokens"]) for row in result["rows"]] == [
        ("prompt", 5), ("prompt", 33), ("decode", 5), ("decode", 20), ("context", None), ("trace", 40), ("load", None),
    ]  # fmt: skip
    racing = {row["row"]: list(row["results"]) for row in result["rows"]}
    assert racing["decode"] == ["nanogpt_np", "products alone", "products as loaded", "plain reading"]
    assert racing["context"] == ["nanogpt_np", "keys and values"]
    assert racing["trace"] == ["no trace", "shape log", "recorder"]
    for row in result["rows"]:
        for name, times in row["results"].items():
            assert times["low"] <= times["median"] <= times["high"]
            assert times["low"] > 0 or row["row"] == "context"  # a slope of noise may be negative
            shown = f"{1e6 * times['median']:.1f} us" if row["row"] == "context" else f"{1e3 * times['median']:.1f} ms"
            assert shown in err, name
    assert result["machine"]["numpy"] == np.__version__
    assert result["machine"]["torch threads"] is None  # torch was not asked for
    assert multiprocessing.active_children() == []


def test_a_racer_that_fails_says_why(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        lanes.Lane(racers.Ours, tmp_path / "nowhere")


class Sleeper:
    """A racer whose runs take known times."""

    name = "sleeper"

    def __init__(self, directory):
        pass

    def sleep(self, seconds):
        return lambda: time.sleep(seconds)


def test_twins_in_one_process_run_each_their_own_race(tmp_path):
    with contextlib.closing(lanes.Lane(Sleeper, tmp_path)) as lane:
        twin = lane.twin("long sleeper")
        lane.prepare("sleep", 0)
        twin.prepare("sleep", 0.5)
        seconds = lanes.in_turn([lane, twin], 2)
    assert list(seconds) == ["sleeper", "long sleeper"]
    assert max(seconds["sleeper"]) < 0.5 <= min(seconds["long sleeper"])


class Line:
    """A lane whose runs take 8 * (0.02 + 5e-6 n) seconds after n tokens, and in each round 0.1 more."""

    def __init__(self, name):
        self.name, self.rounds = name, 0

    def twin(self, name):
        return Line(name)

    def prepare(self, method, what):
        self.n = len(what) if method == "decode" else what

    def time(self):
        self.rounds += 1
        return 8 * (0.02 + 5e-6 * self.n) + 0.1 * self.rounds


def test_what_a_token_of_context_costs_is_the_slope_of_a_line_and_no_drift():
    row = measure._context_row([Line("nanogpt_np")], Line("keys and values"), [[0] * n for n in (5, 128, 959)], 4)
    assert row["results"]["nanogpt_np"]["median"] == pytest.approx(5e-6)
    assert row["results"]["keys and values"]["median"] == pytest.approx((8 * (0.02 + 5e-6 * 959) + 0.25) / 959)
    assert "takes 0.01 times this" in lines_of(row)[1]


def test_the_products_alone_are_those_of_a_files_layout_and_the_others_of_the_models(directory):
    stored, loaded = products.Products(directory).model.params, racers.Ours(directory).model.params
    assert all(array.flags.c_contiguous for array in stored.values())
    assert [name for name, array in loaded.items() if not array.flags.c_contiguous] == [
        "h.0.mlp.c_proj.weight",
        "h.1.mlp.c_proj.weight",
    ]


def test_racers_that_run_different_models_are_found():
    measure._check_same([np.ones(3), np.ones(3) + 1e-4], "their logits")
    for other in (np.ones(3) + 2e-3, np.full(3, np.nan)):
        with pytest.raises(ValueError, match="their logits differ"):
            measure._check_same([np.ones(3), other], "their logits")


def test_racers_that_decode_different_models_are_found(directory, monkeypatch):
    class Lane:
        def __init__(self, racer, directory):
            self.name = racer.name

        def twin(self, name):
            return self

        def prepare(self, method, *arguments):
            return np.ones(3) + (self.name == "transformers" and method == "decode")

        def time(self):
            return 1.0

        def close(self):
            pass

    monkeypatch.setattr(measure, "Lane", Lane)
    monkeypatch.setattr(measure, "PROMPTS", (5,))
    monkeypatch.setattr(measure, "CONTEXTS", (5,))
    rows = measure.measure(directory, ["prompt", "decode"], 4, "transformers")
    assert next(rows)["row"] == "prompt"
    with pytest.raises(ValueError, match="their logits differ"):
        next(rows)


def test_the_summary_is_median_and_quarters():
    assert lanes.summary([1.0, 2.0, 3.0, 4.0, 10.0], per=2) == {"median": 1.5, "low": 0.75, "high": 3.5}


ROWS = [
    {"row": "prompt", "unit": "seconds", "tokens": 1023, "results": {
        "nanogpt_np": {"median": 2.0, "low": 1.9, "high": 2.1},
        "transformers": {"median": 3.0, "low": 2.9, "high": 3.1},
        "products alone": {"median": 1.5, "low": 1.4, "high": 1.6}}},
    {"row": "decode", "unit": "seconds per token", "tokens": 5, "results": {
        "nanogpt_np": {"median": 0.04, "low": 0.036, "high": 0.045},
        "products alone": {"median": 0.042, "low": 0.04, "high": 0.05},
        "products as loaded": {"median": 0.036, "low": 0.034, "high": 0.04},
        "plain reading": {"median": 0.03, "low": 0.03, "high": 0.03}}},
    {"row": "context", "unit": "seconds per token of context", "tokens": None, "results": {
        "nanogpt_np": {"median": 6e-6, "low": 5.5e-6, "high": 7e-6},
        "transformers": {"median": 9e-6, "low": 8e-6, "high": 1e-5},
        "keys and values": {"median": 4e-6, "low": 3.5e-6, "high": 4.5e-6}}},
    {"row": "memory", "unit": "bytes", "tokens": 200, "float32 parameters": 500_000_000, "results": {
        "nanogpt_np": {"median": 600_000_000}, "transformers": {"median": 1_200_000_000}}},
    {"row": "trace", "unit": "seconds", "tokens": 512, "results": {
        "no trace": {"median": 1.0, "low": 0.9, "high": 1.1},
        "shape log": {"median": 1.02, "low": 0.9, "high": 1.1},
        "recorder": {"median": 1.3, "low": 0.9, "high": 1.5}}},
]  # fmt: skip


def test_lines_and_tables_say_how_many_times_faster_and_how_much_of_the_products_speed():
    prompt, decode, context, memory, trace = map(lines_of, ROWS)
    assert "+2.0% time" in trace[1] and "+30.0% time" in trace[2]
    assert "2000.0 ms" in prompt[0] and "511.5 tokens/s" in prompt[0]
    assert "1.50 times as much" in prompt[1] and "0.75 of this speed reached" in prompt[2]
    assert "25.0 tokens/s" in decode[0] and "0.75 times as much" in decode[3]
    assert "1.05 of this speed reached" in decode[1] and "0.90 of this speed reached" in decode[2]
    assert "6.0 us (5.5 to 7)" in context[0] and "1.50 times as much" in context[1]
    assert "takes 1.50 times this" in context[2]
    assert "600 MB" in memory[0] and "2.00 times as much" in memory[1] and "1.20 times this" in memory[2]
    result = {
        "machine": {"processor": "P", "cores": 2, "blas threads": 2, "numpy": "2", "torch threads": None},
        "model": "gpt2",
        "weights": "random",
        "rows": ROWS,
        "widest spread": 0.2,
    }
    page = markdown(result)
    assert page.startswith("P, 2 cores; blas threads 2, numpy 2. Weights: gpt2, random. Medians, ")
    prompt = "2 s (1.9 to 2.1) | 3 s (2.9 to 3.1) | 1.50 | 1.5 s (1.4 to 1.6), 75% reached"
    assert f"| prompt of 1023 tokens | {prompt} |" in page
    products = "23.8 tokens/s (20 to 25), 105% (90% as loaded) reached"
    assert f"| a token more, after 5 | 25 tokens/s (22.2 to 27.8) |  |  | {products} |" in page
    reading = "to read its keys and values once, on two threads: 4 us (3.5 to 4.5), 1.50 times this"
    cells = f"6 us (5.5 to 7) | 9 us (8 to 10) | 1.50 | {reading}"
    assert f"| what each token of context adds to the next | {cells} |" in page
    assert "| peak memory, load to 200 new tokens | 600 MB | 1200 MB | 2.00 |  |" in page
    assert "| prompt of 512 tokens, shape log | 1.02 s (0.9 to 1.1), +2.0% | | | |" in page
    assert "| prompt of 512 tokens, recorder | no figure (spread 46%) | | | |" in page


def test_a_time_that_spread_by_more_than_30_percent_is_not_published_and_nothing_is_compared_with_it():
    wide, steady = {"median": 1.0, "low": 0.8, "high": 1.11}, {"median": 2000 / 1999, "low": 0.9, "high": 1.1}
    row = {"row": "train", "unit": "seconds", "tokens": 2000}
    about = {"machine": {"processor": "P", "cores": 2}, "model": "M", "weights": "W"}
    rows = [
        row | {"results": {"nanogpt_np": wide, "transformers": steady}},
        row | {"results": {"nanogpt_np": steady, "transformers": wide}},
        row | {"results": {"nanogpt_np": steady, "transformers": steady}},
    ]
    lines = markdown(about | {"rows": rows}).splitlines()[-3:]
    title, nothing = "| a training step of 2000 tokens", "no figure (spread 31%)"
    speed = "1,999 tokens/s (1,818 to 2,222)"
    assert lines == [
        f"{title} | {nothing} | {speed} |  |  |",
        f"{title} | {speed} | {nothing} |  |  |",
        f"{title} | {speed} | {speed} | 1.00 |  |",
    ]


def test_several_models_make_a_table_of_a_line_each():
    result = {"machine": {"processor": "P", "cores": 2}, "weights": "random", "rows": ROWS}
    table = sizes([result | {"model": "gpt2"}, result | {"model": "gpt2-xl"}]).splitlines()
    assert table[0] == "|  | tokens/s after 5 | of the products alone | peak memory | of the float32 parameters |"
    assert table[2:] == [
        "| gpt2, random | 25 tokens/s (22.2 to 27.8) | 105% (90% as loaded) | 600 MB | 1.20 |",
        "| gpt2-xl, random | 25 tokens/s (22.2 to 27.8) | 105% (90% as loaded) | 600 MB | 1.20 |",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounds", "3"], "4 or more"),
        (["--model", "gpt3"], "no model 'gpt3'"),
        (["--table", "nowhere.json"], "nowhere"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments, words, capsys):
    assert main(["benchmark", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == "" and words in err and err.count("\n") == 1


@pytest.mark.reference
def test_transformers_is_raced_on_the_same_weights(directory, capsys, monkeypatch):
    monkeypatch.setattr(measure, "PROMPTS", (5,))
    monkeypatch.setattr(measure, "CONTEXTS", (5,))
    rows = ["prompt", "decode", "load", "cold"]
    arguments = ["--against", "transformers", "--model", str(directory), "--rounds", "4", "--json", "--rows", *rows]
    assert main(["benchmark", *arguments]) == 0
    result = json.loads(capsys.readouterr().out)
    measured = result["rows"]
    assert result["machine"]["torch threads"] >= 1
    assert [row["row"] for row in measured] == rows
    for row in measured:
        assert list(row["results"])[:2] == ["nanogpt_np", "transformers"]
