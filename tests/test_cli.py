"""The command lines as a person meets them."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import scripted_model

import nanogpt_np
from nanogpt_np import commands
from nanogpt_np.__main__ import COMMANDS, main
from nanogpt_np.generate.loop import generate
from nanogpt_np.model.config import Config
from nanogpt_np.names import points
from nanogpt_np.names.parameters import count, table
from nanogpt_np.names.sizes import published
from nanogpt_np.text import display
from nanogpt_np.weights import checkpoint, places, tensors
from nanogpt_np.weights.assembly import assemble

PROMPT = "The capital of France is"
IDS = [464, 3139, 286, 4881, 318]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A random checkpoint with GPT-2's vocabulary and a context of 300 tokens."""
    config = Config(n_positions=300, n_embd=12, n_head=3, n_layer=2)
    rng = np.random.default_rng(1)
    params = {name: rng.normal(0, 0.5, p.shape(config)).astype(np.float32) for name, p in table(config).items()}
    directory = tmp_path_factory.mktemp("random") / "checkpoint"
    nanogpt_np.save(assemble(config, params), directory)
    return directory


@pytest.fixture
def run(directory, capsys):
    """Run `generate` on the random checkpoint and return (stdout, stderr)."""

    def run(*arguments, code=0):
        assert main(["generate", *arguments, "--model", str(directory)]) == code
        return capsys.readouterr()

    return run


def expected_text(directory, n, **sampling):
    model = nanogpt_np.load(directory)
    return nanogpt_np.Tokenizer().decode(generate(model, IDS, n, **sampling))


def python(*arguments, **more):
    """Run a module in a fresh interpreter in which every warning is an error."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", *arguments], capture_output=True, timeout=60, check=False, **more
    )


def test_stdout_is_the_new_text_and_stderr_one_provenance_line(run, directory):
    out, err = run(PROMPT, "-n", "7")
    assert out == expected_text(directory, 7) + "\n"
    assert err.count("\n") == 1
    n = f"{count(nanogpt_np.load(directory).config):,} parameters"
    for words in (str(directory), "local checkpoint", "sha256", "F32", n, "greedy", "no BOS"):
        assert words in err


@pytest.mark.parametrize("way", [["nanogpt_np.generate"], ["nanogpt_np", "generate"]])
def test_both_ways_to_start_it_print_the_same_and_no_warning(way, directory):
    done = python(*way, PROMPT, "-n", "3", "--model", str(directory))
    assert done.returncode == 0
    assert done.stdout.decode() == expected_text(directory, 3) + "\n"
    assert done.stderr.count(b"\n") == 1 and b"Warning" not in done.stderr


def test_every_listed_command_has_help_and_is_a_file_of_that_name(capsys):
    assert main([]) == 0
    listing = capsys.readouterr().out
    for name in COMMANDS:
        assert name in listing
        done = python("nanogpt_np", name, "--help")
        assert done.returncode == 0 and done.stderr == b""
        assert f"usage: python -m nanogpt_np {name}" in done.stdout.decode()
    shared = {"__init__", "listing", "opening", "progress", "screen", "shell", "tables"}
    assert {path.stem for path in Path(commands.__file__).parent.glob("*.py")} == {*COMMANDS, *shared}


@pytest.mark.parametrize("room", ["generate", "train", "course"])
def test_a_room_that_is_a_command_runs_as_a_module_that_is_loaded_once(room):
    done = python(f"nanogpt_np.{room}", "--help")
    assert done.returncode == 0 and done.stderr == b""
    assert done.stdout == python("nanogpt_np", room, "--help").stdout


def test_no_module_is_loaded_twice(directory):
    """Not even under the name __main__: a trace from generate asks modules that once imported it."""
    script = """
import collections, runpy, sys
sys.argv = ["generate", "a b", "-n", "1", "--trace", "--model", sys.argv[1]]
try:
    runpy.run_module("nanogpt_np.generate", run_name="__main__", alter_sys=True)
except SystemExit as stop:
    assert stop.code == 0
files = [module.__file__ for name, module in sys.modules.items() if name.startswith("nanogpt_np")]
print([file for file, times in collections.Counter(files).items() if times > 1])
print(sum(file.endswith("loop.py") for file in files))
"""
    command = [sys.executable, "-W", "error", "-c", script, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-2:] == ["[]", "1"]


def test_what_a_checkpoint_says_of_itself_is_read_once(directory, monkeypatch, capsys):
    reads = []

    def counted(owner, name, what):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, **k: (reads.append(what), real(*a, **k))[1])

    counted(tensors, "read_header", "header")
    counted(Config, "from_dict", "config")
    counted(checkpoint, "known_digest", "digest")
    counted(checkpoint, "read_tensors", "arrays")
    for more in ([], ["--json"], ["--trace", "--top", "2"]):
        reads.clear()
        assert main(["generate", PROMPT, "-n", "1", "--model", str(directory), *more]) == 0
        assert sorted(reads) == ["arrays", "config", "digest", "header"]
    reads.clear()
    opened = nanogpt_np.open_checkpoint(directory)
    assert opened.config == opened.model.config and opened.model is opened.model
    assert opened.provenance == opened.provenance and list(opened.stored) == list(opened.model.params)
    assert sorted(reads) == ["arrays", "config", "digest", "header"]
    capsys.readouterr()


def test_the_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == nanogpt_np.__version__ + "\n"


def test_a_prompt_from_standard_input_loses_one_final_newline_only(directory):
    for stdin, prompt in ((PROMPT + "\n", PROMPT), (PROMPT + "\r\n", PROMPT), (PROMPT + "\n\n", PROMPT + "\n")):
        done = python("nanogpt_np.generate", "-", "-n", "4", "--json", "--model", str(directory), input=stdin.encode())
        assert json.loads(done.stdout)["prompt"] == prompt


def test_without_the_cache_the_text_is_the_same(run):
    assert run(PROMPT, "-n", "12").out == run(PROMPT, "-n", "12", "--no-cache").out


def test_the_same_seed_gives_the_same_samples_and_another_seed_others(run):
    flags = (PROMPT, "--temperature", "1.5", "--num-samples", "3", "-n", "6")
    first, again, other = (run(*flags, "--seed", seed).out for seed in ("5", "5", "6"))
    assert first == again != other
    assert first.count("--- sample ") == 3


def test_a_seed_that_was_not_given_is_said_and_repeats_the_text(run):
    out, err = run(PROMPT, "--temperature", "1", "--top-k", "50", "--top-p", "0.9", "-n", "6")
    assert "temperature 1.0, top-k 50, top-p 0.9, seed " in err
    seed = err.split("seed ")[1].split(";")[0]
    assert run(PROMPT, "--temperature", "1", "--top-k", "50", "--top-p", "0.9", "-n", "6", "--seed", seed).out == out


def test_top_shows_the_likeliest_tokens_as_the_model_scores_them(run, directory):
    logits = nanogpt_np.load(directory)(IDS)[-1].astype(float)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    rows = json.loads(run(PROMPT, "-n", "2", "--top", "4", "--json").out)["top"]
    assert [row["id"] for row in rows] == list(np.argsort(-logits)[:4])
    np.testing.assert_allclose([row["logit"] for row in rows], np.sort(logits)[::-1][:4], rtol=1e-5)
    np.testing.assert_allclose([row["p"] for row in rows], np.sort(p)[::-1][:4], rtol=1e-4)
    table_lines = run(PROMPT, "-n", "2", "--top", "4").out.splitlines()[:5]
    assert table_lines[0].split() == ["rank", "id", "token", "logit", "probability"]
    for line, row in zip(table_lines[1:], rows, strict=True):
        assert json.dumps(row["token"], ensure_ascii=False) in line
        assert f"{row['logit']:.4f}" in line and f"{row['p']:.4%}" in line


def test_watch_gives_rank_logit_and_probability_at_every_step(run, directory):
    model = nanogpt_np.load(directory)
    sample = json.loads(run(PROMPT, "-n", "3", "--watch", " Paris", "--json").out)["samples"][0]
    for t, row in enumerate(sample["watch"]):
        logits = model(IDS + sample["ids"][:t])[-1].astype(float)
        p = np.exp(logits - logits.max())
        assert row["rank"] == 1 + (logits > logits[6342]).sum()
        np.testing.assert_allclose([row["logit"], row["p"]], [logits[6342], p[6342] / p.sum()], rtol=1e-4)
    lines = run(PROMPT, "-n", "3", "--watch", " Paris").out.splitlines()
    assert lines[-4].split() == ["step", "chosen", "rank", "logit", "probability"]
    assert [line.split()[0] for line in lines[-3:]] == ["1", "2", "3"]


def test_watching_the_token_that_is_chosen_shows_rank_1(run, directory):
    first = expected_text(directory, 1)
    assert json.loads(run(PROMPT, "-n", "1", "--watch", first, "--json").out)["samples"][0]["watch"][0]["rank"] == 1


def test_trace_lists_every_point_in_order_and_ends_with_the_token(run, directory):
    config = nanogpt_np.load(directory).config
    lines = run(PROMPT, "-n", "2", "--trace").out.splitlines()
    expected = points.table(config, points.NEXT_TOKEN)
    for line, (name, point) in zip(lines, expected.items(), strict=False):
        assert line.split()[0] == name
        assert f"  {list(point.shape(config, 5))} " in line
        assert point.equation in line
    assert lines[len(expected)].startswith("next token: ")
    assert json.dumps(expected_text(directory, 1), ensure_ascii=False) in lines[len(expected)]


def test_a_dry_run_shows_every_shape_of_gpt2_and_claims_no_answer(capsys):
    assert main(["generate", "--dry-run", "gpt2", PROMPT]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert "DRY RUN" in lines[0] and "zero-filled" in lines[0] and (out + err).count("DRY RUN") == 1
    rows = [(line.split()[0], line[line.index("[") : line.index("]") + 1]) for line in lines[1:-1]]
    block = ["[5, 768]", "[5, 12, 64]", "[12, 5, 5]", "[5, 12, 64]", "[5, 3072]", "[5, 768]"]
    for i in range(12):
        names = ("hook_resid_pre", "attn.hook_q", "attn.hook_pattern", "attn.hook_z", "mlp.hook_pre", "hook_resid_post")
        where = [rows.index((f"blocks.{i}.{name}", shape)) for name, shape in zip(names, block, strict=True)]
        assert where == sorted(where)
    assert rows[0] == ("hook_tokens", "[5]") and rows[2] == ("hook_embed", "[5, 768]")
    assert ("hook_last_row", "[768]") in rows[-4:] and ("hook_next_logits", "[50257]") in rows[-4:]
    assert len(rows) == len(points.table(published("gpt2"), points.NEXT_TOKEN))
    assert "no next token" in lines[-1]


def test_json_of_a_dry_run_has_the_ids_and_the_trace(capsys):
    assert main(["generate", "--dry-run", "distilgpt2", PROMPT, "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["prompt_ids"] == IDS
    assert whole["trace"][2]["weights"] == {"wte.weight": [50257, 768]}


def test_generation_stops_at_the_end_of_the_context_and_says_so(run):
    sample_run = run("a" + " b" * 289, "-n", "50", "--json")
    assert "stopped: the context of 300 tokens is full" in sample_run.err
    sample = json.loads(sample_run.out)["samples"][0]
    assert sample["ended"] == "context" and len(sample["ids"]) == 11


def scripted(tmp_path, ids, **more):
    nanogpt_np.save(scripted_model(ids, **more), tmp_path)
    return str(tmp_path)


def test_end_of_text_ends_the_text_and_is_not_printed(tmp_path, capsys):
    model = scripted(tmp_path, [0, 6342, 13, 50256, 6342, 6342])
    assert main(["generate", "a b", "-n", "5", "--json", "--model", model]) == 0
    sample = json.loads(capsys.readouterr().out)["samples"][0]
    assert (sample["ids"], sample["text"], sample["ended"]) == ([6342, 13], " Paris.", "end of text")


def test_special_reads_the_end_of_text_token_and_else_it_is_text(tmp_path, capsys):
    model = scripted(tmp_path, [0] * 30)
    for flags, ids in (([], 7), (["--special"], 1)):
        assert main(["generate", "<|endoftext|>", "-n", "1", "--json", "--model", model, *flags]) == 0
        assert len(json.loads(capsys.readouterr().out)["prompt_ids"]) == ids


def test_an_emoji_of_several_tokens_is_printed_whole(tmp_path, capsysbinary):
    ids = nanogpt_np.Tokenizer().encode(" 🦄🇫🇷!")
    assert len(ids) > 6
    model = scripted(tmp_path, [*ids, 0])
    assert main(["generate", "a", "-n", str(len(ids)), "--model", model]) == 0
    assert capsysbinary.readouterr().out.decode("utf-8") == " 🦄🇫🇷!\n"


def test_what_is_shown_of_a_token_holds_its_bytes_each_code_with_one_backslash(tmp_path, capsys):
    tokenizer = nanogpt_np.Tokenizer()
    for i in range(50257):
        shown = display.quoted(display.text_of(tokenizer, i))
        surrogates = re.sub(r"\\x(..)", r"\\udc\1", shown)  # as Python keeps bytes that are no character in a str
        assert json.loads(surrogates).encode("utf-8", "surrogateescape") == tokenizer.token(i), shown
    model = scripted(tmp_path, [*tokenizer.encode("🦄")[:1], 0])
    assert main(["generate", "a", "-n", "1", "--top", "1", "--watch", "\\", "--model", model]) == 0
    top, watch = capsys.readouterr().out.split("watching ")
    assert r'   1   8582  "\xf0\x9f"  ' in top and watch.startswith('"\\\\"\n') and r'   1  "\xf0\x9f" ' in watch


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """A checkpoint that says " Paris" for some ten seconds: nothing in it, but deep."""
    config = Config(n_positions=1024, n_embd=2, n_head=1, n_layer=96, tie_word_embeddings=False)
    params = {name: np.zeros(p.shape(config), np.float32) for name, p in table(config).items()}
    params["wpe.weight"][:] = params["lm_head.weight"][6342] = [1, -1]
    params["ln_f.weight"][:] = 1
    directory = tmp_path_factory.mktemp("endless")
    nanogpt_np.save(assemble(config, params), directory)
    return directory


def start(directory):
    return subprocess.Popen(
        [sys.executable, "-m", "nanogpt_np.generate", "a", "-n", "1000", "--no-cache", "--model", str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )


def test_tokens_appear_as_they_are_made(endless):
    with start(endless) as process:
        assert process.stdout.read(12) == b" Paris Paris"
        assert process.poll() is None, "the process had ended before its first tokens could be read"
        process.kill()


def test_ctrl_c_ends_with_130_and_no_traceback(endless):
    with start(endless) as process:
        process.stdout.read(6)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in err and len(out) < 900 * 6


def test_a_closed_pipe_ends_quietly(endless):
    with start(endless) as process:
        process.stdout.read(6)
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=30)
    assert process.returncode == 0
    assert err.count(b"\n") == 1 and err.startswith(b"model: ")


def test_a_terminal_without_unicode_shows_codes_instead_of_failing(tmp_path):
    model = scripted(tmp_path, [*nanogpt_np.Tokenizer().encode(" Zürich"), 0])
    done = python(
        "nanogpt_np.generate", "a", "-n", "3", "--model", model, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0
    assert b"Z\\xfcrich" in done.stdout


def test_gpt2_is_the_default_where_it_is_and_else_the_bundled_model(directory, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    monkeypatch.setenv("NANOGPT_NP_HOME", str(tmp_path))
    monkeypatch.setattr(places, "bundled", lambda: {"tiny": directory})
    assert main(["generate", PROMPT, "-n", "1"]) == 0
    assert "tiny (bundled with nanogpt_np, not a published GPT-2" in capsys.readouterr().err
    (tmp_path / "gpt2").symlink_to(directory)
    assert main(["generate", PROMPT, "-n", "1"]) == 0
    assert "NOT the published gpt2" in capsys.readouterr().err


def test_a_vocabulary_that_is_not_gpt2s_is_said(tmp_path, capsys):
    config = Config(vocab_size=50300, n_positions=8, n_embd=4, n_head=1, n_layer=1)
    params = {name: np.ones(p.shape(config), np.float32) for name, p in table(config).items()}
    params["wte.weight"][50299] = 9  # the likeliest token is one that GPT-2's tokenizer does not have
    params["ln_f.weight"][:] = 0
    nanogpt_np.save(assemble(config, params), tmp_path)
    assert main(["generate", "a", "-n", "1", "--model", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "its vocabulary has 50300 entries" in err
    assert out == "<|50299|>\n"


@pytest.mark.parametrize(
    ("name", "tensors", "parameters"),
    [
        ("gpt2", 148, "124,439,808"),
        ("gpt2-medium", 292, "354,823,168"),
        ("gpt2-large", 436, "774,030,080"),
        ("gpt2-xl", 580, "1,557,611,200"),
        ("distilgpt2", 76, "81,912,576"),
    ],
)
def test_the_inventory_of_published_names_needs_no_weights(name, tensors, parameters, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("NANOGPT_NP_HOME", str(tmp_path))
    assert main(["inventory", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith(f"{tensors} tensors, {parameters} parameters, ")
    assert sum("  F32  " in line for line in lines) == tensors


def test_the_inventorys_sums_agree_with_one_another_and_with_its_formula(directory, capsys):
    assert main(["inventory", str(directory), "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    model = nanogpt_np.load(directory)
    assert {row["name"]: tuple(row["shape"]) for row in whole["tensors"]} == {
        n: a.shape for n, a in model.params.items()
    }
    for by in ("by_group", "by_layer"):
        assert sum(entry["parameters"] for entry in whole[by].values()) == whole["parameters"] == count(model.config)
        assert sum(entry["bytes"] for entry in whole[by].values()) == whole["bytes"] == 4 * whole["parameters"]
        assert sum(entry["tensors"] for entry in whole[by].values()) == len(whole["tensors"])
    from nanogpt_np.names.inventory import formula

    for config in (model.config, published("gpt2-xl"), Config(n_inner=11, tie_word_embeddings=False)):
        assert sum(size for term, _, size in formula(config) if not term.startswith("  ")) == count(config)


def test_the_inventory_shows_the_dtypes_of_the_file(directory, tmp_path, capsys):
    nanogpt_np.save(nanogpt_np.load(directory), tmp_path / "half", dtype=np.float16)
    assert main(["inventory", str(tmp_path / "half")]) == 0
    out = capsys.readouterr().out
    assert "  F16  " in out and "  F32  " not in out
    assert out.splitlines()[-1].endswith(f"{2 * count(nanogpt_np.load(directory).config):,} bytes")
