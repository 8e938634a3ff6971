"""``python -m nanogpt_np trace``: every flag, against the tables and against the recorded arrays."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nanogpt_np
from nanogpt_np import Recorder
from nanogpt_np.__main__ import main
from nanogpt_np.generate.loop import generate
from nanogpt_np.interpret import recording, steps
from nanogpt_np.model.config import Config
from nanogpt_np.names import parameters, points
from nanogpt_np.names.ledger import ledger
from nanogpt_np.weights import assembly

PROMPT = "The capital of France is"
IDS = [464, 3139, 286, 4881, 318]
CONFIG = Config(n_positions=40, n_embd=15, n_head=3, n_layer=2, n_inner=22)  # T = 5 = D: heads and tokens differ
TABLE = points.table(CONFIG, points.NEXT_TOKEN)
ABOUT = {
    "prompt": PROMPT,
    "prompt_ids": IDS,
    "model": {"origin": "x", "dtype": "F32", "parameters": 1, "decoding": "greedy"},
}


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Have lines of up to 120 characters: how they fold is another matter (test_width.py)."""
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(4)
    params = {
        name: rng.normal(0, 0.6, p.shape(CONFIG)).astype(np.float32) for name, p in parameters.table(CONFIG).items()
    }
    return assembly.assemble(CONFIG, params)


@pytest.fixture(scope="module")
def directory(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("walk") / "checkpoint"
    nanogpt_np.save(model, directory)
    return str(directory)


@pytest.fixture(scope="module")
def acts(model):
    acts = Recorder()
    list(generate(model, IDS, 1, stop=(), trace=acts))
    return acts


@pytest.fixture
def run(directory, capsys):
    """Run the command on the random checkpoint and return (stdout, stderr)."""

    def run(*arguments, prompt=PROMPT, code=0):
        assert main(["trace", prompt, *arguments, "--model", directory]) == code
        return capsys.readouterr()

    return run


@pytest.fixture
def whole(run):
    """Return what --json says."""
    return lambda *arguments: json.loads(run(*arguments, "--json").out)


def lines_of(out):
    """Return {name: the line that begins with it} of every trace point that is shown."""
    return {line.split()[0]: line for line in out.splitlines() if "hook_" in line.partition(" ")[0]}


def joined(out):
    """Return the text without the line ends inside an equation or a sentence."""
    return re.sub(r"\n {5,}", " ", out)


# --- the listing ---------------------------------------------------------------------------------


def test_it_begins_with_the_tokens_and_ends_with_the_likeliest_next_ones(run, acts):
    lines = run().out.splitlines()
    assert lines[0].split() == ["position", "id", "token"]
    for position, (i, text) in enumerate(zip(IDS, ["The", " capital", " of", " France", " is"], strict=True)):
        assert lines[1 + position] == f"{position:8}  {i:5}  {json.dumps(text)}"
    logits = acts["hook_next_logits"]
    assert [line.split()[1] for line in lines[-5:]] == [str(i) for i in np.argsort(-logits, kind="stable")[:5]]
    assert lines[-6].split() == ["rank", "id", "token", "logit", "probability"]


def test_there_is_a_line_for_every_trace_point_in_order_with_its_shape_and_equation_in_numbers(run, acts):
    out = run().out
    lines = lines_of(out)
    assert list(lines) == list(TABLE)
    for name, line in lines.items():
        shape, equation = re.fullmatch(rf"{re.escape(name)} +(\[.*?\]) += (.*)", line).groups()
        assert shape == str(list(acts[name].shape))
        assert equation.startswith(TABLE[name].shapes_of(CONFIG, T=5))
        assert re.split(" {2,}", equation)[0] == TABLE[name].shapes_of(CONFIG, T=5)
    for point in TABLE.values():
        assert f"  {point.equation}" in joined(out)
    assert "[5, 15] @ [15, 45] + [45]" in lines["blocks.0.attn.hook_qkv"]


def test_parts_of_the_pass_stand_apart(run):
    parts = run().out.split("\n\n")
    firsts = [part.split()[0] for part in parts]
    blocks = [f"blocks.{i}.hook_resid_pre" for i in range(2)]
    assert firsts == ["position", "hook_tokens", *blocks, "ln_final.hook_scale", "rank"]


@pytest.mark.parametrize("prompt", [PROMPT, "word " * 30 + "word"])
@pytest.mark.parametrize(
    "flags", [[], ["--stats", "--values", "12", "--notice"], ["--bytes", "--notice"], ["--head", "2"]]
)
def test_no_line_is_longer_than_120_columns(run, flags, prompt):
    assert max(map(len, run(*flags, prompt=prompt).out.splitlines())) <= 120


@pytest.mark.parametrize("flags", [["--notice"], ["--bytes"]])
def test_nor_is_one_of_gpt2_xl_at_the_end_of_its_context(flags, monkeypatch, capsys):
    def announce(model, ids, n_new, stop, trace):
        for name, point in points.table(model.config, points.NEXT_TOKEN).items():
            yield trace(name, np.broadcast_to(np.float32(0), point.shape(model.config, len(ids))))

    monkeypatch.setattr(steps, "generate", announce)  # its shapes without half a minute of products
    assert main(["trace", "word" + " word" * 1023, "--dry-run", "gpt2-xl", *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("[25, 1024, 1024]" in line for line in lines) >= 2 * 48
    assert max(map(len, lines)) <= 120


def test_the_text_is_as_wide_as_columns_says_in_a_pipe_too_and_80_where_it_is_not_set(run, monkeypatch):
    flags = ("--notice", "--block", "0")
    monkeypatch.delenv("COLUMNS")
    usual = run(*flags).out
    widest = {}
    for columns in ("30", "80", "100", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        out = run(*flags).out
        assert (out == usual) == (columns == "80")
        assert out.split() == usual.split()
        widest[columns] = max(map(len, out.splitlines()))
        notices = [point.notice for name, point in TABLE.items() if name.startswith("blocks.0.")]
        assert (columns == "300") == all(f"    {notice}\n" in out for notice in notices)
    assert widest["30"] <= widest["80"] <= 80 < widest["100"] <= 100 < widest["300"] <= 300


def test_provenance_is_one_line_on_stderr(run, directory):
    err = run().err
    assert err.count("\n") == 1
    for words in (directory, "local checkpoint", "sha256", "F32", f"{parameters.count(CONFIG):,} parameters", "no BOS"):
        assert words in err


def test_the_bundled_model_ends_with_paris(capsys):
    assert main(["trace", PROMPT, "--model", "facts"]) == 0
    assert re.search(r'\n   1   6342  " Paris" .*\n   2 ', capsys.readouterr().out)


# --- which steps ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--block", "1"], lambda n: n.startswith("blocks.1.")),
        (["--block", "1", "--block", "0"], lambda n: n.startswith("blocks.")),
        (["--only", "hook_pattern"], lambda n: n.endswith("hook_pattern")),
        (["--only", "*.hook_q", "--only", "hook_embed"], lambda n: n.endswith(".hook_q") or n == "hook_embed"),
        (["--only", "hook_embed"], lambda n: n == "hook_embed"),
        (["--only", "attn", "--block", "0"], lambda n: n.startswith("blocks.0.") and "attn" in n),
        (["--head", "2"], lambda n: n.rpartition("hook_")[2] in ("q", "k", "v", "attn_scores", "pattern", "z")),
        (["--head", "2", "--block", "1", "--only", "z"], lambda n: n == "blocks.1.attn.hook_z"),
    ],
)
def test_block_head_and_only_choose_steps_and_keep_their_order(run, whole, flags, wanted):
    names = [name for name in TABLE if wanted(name)]
    shown = [f"{name}[head" if "--head" in flags else name for name in names]
    assert list(lines_of(run(*flags).out)) == shown
    assert [row["name"].partition("[")[0] for row in whole(*flags)["points"]] == names


@pytest.mark.parametrize("head", [0, 2])
def test_a_step_cut_to_a_head_has_its_name_shape_equation_and_numbers(run, whole, acts, head):
    cut = {}
    for name, point in TABLE.items():
        if "H" in point.axes.split():
            cut[f"{name}[head {head}]"] = np.take(acts[name], head, axis=point.axes.split().index("H"))
    rows = {row["name"]: row for row in whole("--head", str(head), "--values", "9")["points"]}
    assert list(rows) == list(cut)
    for name, row in rows.items():
        assert row["shape"] == list(cut[name].shape)
        assert row["values"]["numbers"] == cut[name][-1, :9].tolist()
        assert_stats(row["stats"], cut[name])
    scores, z = f"blocks.1.attn.hook_attn_scores[head {head}]", f"blocks.1.attn.hook_z[head {head}]"
    assert rows[scores]["in_numbers"] == f"[5, 5] @ [5, 5] * {1 / math.sqrt(5):.6g}"
    assert rows[z]["in_numbers"] == "[5, 5] @ [5, 5] -> [5, 5]"
    assert f"{scores}  [5, 5]  = [5, 5] @ [5, 5] * " in run("--head", str(head)).out


# --- what is said of them ------------------------------------------------------------------------


def assert_stats(row, x):
    seen = x[np.isfinite(x)].astype(np.float64)
    assert row["masked"] == x.size - seen.size
    expected = [seen.mean(), np.sqrt((seen**2).mean()), seen.min(), seen.max()]
    np.testing.assert_allclose([row[key] for key in ("mean", "rms", "min", "max")], expected, rtol=1e-12, atol=1e-15)


def test_the_stats_are_those_of_the_recorded_arrays(whole, acts):
    rows = whole()["points"]
    for row in rows:
        if row["name"] in points.WHOLE_NUMBERS:
            assert "stats" not in row  # the mean of ids means nothing
        else:
            assert_stats(row["stats"], acts[row["name"]])
    assert sum(row["stats"]["masked"] for row in rows if "stats" in row) == 2 * 3 * 10  # blocks, heads, 4 + 3 + 2 + 1


def test_the_printed_stats_are_those_of_json(run, whole):
    shown, name = {}, None
    for line in run("--stats").out.splitlines():
        name = line.split()[0] if "hook_" in line.partition(" ")[0] else name
        if "RMS" in line:
            numbers = re.fullmatch(r"    mean (\S+) +RMS (\S+) +min (\S+) +max (\S+)(?: +(\d+) masked)?", line)
            assert name not in shown
            shown[name] = [*numbers.groups()[:4], int(numbers[5] or 0)]
    keys = ("mean", "rms", "min", "max")
    rows = {row["name"]: row["stats"] for row in whole()["points"] if "stats" in row}
    assert shown == {name: [*(f"{stats[key]:.5g}" for key in keys), stats["masked"]] for name, stats in rows.items()}


def test_the_values_of_a_head_say_which(run):
    for head in ("0", "2"):
        assert f" of the last token's row, in head {head}\n" in run("--values", "2", "--head", head).out


@pytest.mark.parametrize("n", [1, 4, 1000])
def test_the_values_are_the_first_of_the_last_tokens_row_and_say_where_they_are(run, whole, acts, n):
    out = joined(run("--values", str(n)).out)
    assert f"values: up to {n} numbers from the start of the last token's row, in head 0 where there are heads" in out
    for row in whole("--values", str(n))["points"]:
        name, at = row["name"], row["values"]["index"]
        there = eval(f"x{at}", {"x": acts[name]}) if at != "[]" else acts[name][()]
        assert row["values"]["numbers"] == np.ravel(there).tolist()
        assert len(row["values"]["numbers"]) == min(n, (acts[name].shape or (1,))[-1])
        shown = [f"{v:.6g}" if isinstance(v, float) else str(v) for v in row["values"]["numbers"]]
        if n < 1000:
            assert f"    {at}  {'  '.join(shown)}\n" in out[out.index(f"\n{name} ") :]


def test_the_index_of_the_values_is_that_of_the_last_token_and_the_first_head(whole):
    rows = {row["name"]: row["values"]["index"] for row in whole("--values", "3")["points"]}
    assert rows["hook_embed"] == "[4, :3]" and rows["hook_tokens"] == "[:3]" and rows["hook_next_token"] == "[]"
    assert rows["blocks.1.attn.hook_pattern"] == "[0, 4, :3]" and rows["blocks.1.attn.hook_q"] == "[4, 0, :3]"
    assert rows["ln_final.hook_scale"] == "[4, :1]" and rows["hook_last_row"] == "[:3]"


def test_notice_says_what_to_look_at_under_every_step(run):
    out = run("--notice").out
    for name, point in TABLE.items():
        below = out[out.index(f"\n{name} ") :]
        assert point.notice in re.sub(r"\n +", " ", below[: below.index("\n\n")]), name


def test_top_says_how_many_tokens_to_end_with(run, whole, acts):
    assert len(run("--top", "2").out.split("\n\n")[-1].splitlines()) == 3
    rows = whole("--top", "7")["top"]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["logit"] for row in rows] == [float(v) for v in np.sort(acts["hook_next_logits"])[::-1][:7]]


def test_json_holds_everything_and_is_valid_without_nan(whole, run, directory):
    def refuse(constant):
        raise AssertionError(constant)

    result = json.loads(run("--json", "--values", "6").out, parse_constant=refuse)
    assert result["prompt"] == PROMPT and result["prompt_ids"] == IDS
    assert result["model"]["name"] == directory and result["model"]["decoding"] == "greedy"
    assert result["tokens"][3] == {"position": 3, "id": 4881, "token": " France"}
    stored = parameters.table(CONFIG)
    for row, (name, point) in zip(result["points"], TABLE.items(), strict=True):
        assert row["name"] == name
        assert row["equation"] == point.equation and row["in_numbers"] == point.shapes_of(CONFIG, T=5)
        assert row["reads"] == list(point.reads) and row["where"] == point.where and row["notice"] == point.notice
        assert row["weights"] == {w: list(stored[w].shape(CONFIG)) for w in point.weights}
        assert row["dtype"] == ("int64" if name in points.WHOLE_NUMBERS else "float32")


def test_special_reads_the_end_of_text_token_and_else_it_is_text(run):
    for flags, count in (([], 7), (["--special"], 1)):
        assert len(json.loads(run("--json", *flags, prompt="<|endoftext|>").out)["tokens"]) == count


# --- the ledger ----------------------------------------------------------------------------------


def costs(line):
    """Return the numbers of a line that stand in columns of their own."""
    columns = re.split(" {2,}", line)
    return [int(column.replace(",", "")) for column in columns if re.fullmatch(r"\d[\d,]*", column)]


def test_the_printed_ledger_is_the_ledger_and_adds_up(run):
    out = run("--bytes").out
    rows, total = ledger(CONFIG, 5)
    shown = {name: costs(line) for name, line in lines_of(out).items()}
    assert shown == {row["name"]: [row["flops"], row["weight_bytes"], row["written_bytes"]] for row in rows}
    sums = {line.split("  ")[0]: costs(line) for line in out.splitlines() if line.startswith("= ")}
    assert list(sums) == ["= embedding", "= block 0", "= block 1", "= output", f"= {len(TABLE)} steps"]
    *parts, printed_total = sums.values()
    assert printed_total == list(total.values())
    assert [sum(column) for column in zip(*parts, strict=True)] == printed_total
    assert [sum(column) for column in zip(*shown.values(), strict=True)] == printed_total
    assert all(line.endswith("view") == TABLE[name].view for name, line in lines_of(out).items())
    assert "@" not in "".join(lines_of(out).values())


def test_the_ledger_is_compared_with_two_flops_per_parameter_and_token(run, whole):
    estimate = 2 * parameters.count(CONFIG) * 5
    total = ledger(CONFIG, 5)[1]["flops"]
    text = re.sub(r"\n", " ", run("--bytes").out)
    assert f"This pass takes {total / estimate:.3f} of 2 x parameters x tokens = {estimate:,} FLOPs" in text
    assert whole()["ledger"]["two_per_parameter_and_token"] == estimate
    assert "2 x parameters" not in run("--bytes", "--block", "0").out
    assert "two_per_parameter_and_token" not in whole("--block", "0")["ledger"]


def test_the_ledger_of_some_steps_adds_up_those(run, whole):
    rows = [row for row in ledger(CONFIG, 5)[0] if row["stage"] == "block 1"]
    sums = [sum(row[cost] for row in rows) for cost in ("flops", "weight_bytes", "written_bytes")]
    out = run("--bytes", "--block", "1").out
    assert [costs(line) for line in out.splitlines() if line.startswith("= ")] == [sums, sums]
    assert "\n= 21 steps " in out
    assert list(whole("--block", "1")["ledger"]["total"].values()) == sums
    assert whole("--head", "1")["ledger"] is None  # its costs are those of whole steps


# --- saved and replayed --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--stats", "--values", "7", "--notice", "--top", "9"],
        ["--bytes"],
        ["--json", "--values", "3"],
        ["--head", "1", "--stats", "--block", "1"],
    ],
    ids=" ".join,
)
def test_a_replayed_pass_shows_bit_for_bit_what_the_saved_one_did(run, directory, flags, tmp_path, capsys):
    file = str(tmp_path / "pass.npz")
    saved = run(*flags, "--save", file)
    assert main(["trace", "--load", file, *flags]) == 0
    replayed = capsys.readouterr()
    assert replayed.out == saved.out
    assert replayed.err == f"replayed from {file}; {saved.err}"


def test_what_is_saved_is_the_whole_pass_whatever_is_shown(run, acts, tmp_path):
    run("--save", str(tmp_path / "pass.npz"), "--only", "hook_embed")
    saved = recording.read(tmp_path / "pass.npz")
    assert list(saved.acts) == list(acts)
    for name, x in acts.items():
        np.testing.assert_array_equal(saved.acts[name], x)
    assert saved.config == CONFIG and saved.about["prompt"] == PROMPT


def test_a_step_after_a_cache_replays_with_its_own_position(model, tmp_path, capsys):
    acts = Recorder()
    ids = IDS + list(generate(model, IDS, 3, stop=(), trace=acts))
    recording.save(tmp_path / "step.npz", recording.Recording(acts, CONFIG, ABOUT))
    assert main(["trace", "--load", str(tmp_path / "step.npz")]) == 0
    out = capsys.readouterr().out
    assert [line.split()[:2] for line in out.split("\n\n")[0].splitlines()[1:]] == [["6", str(ids[6])]]
    assert "[3, 1, 5] @ [3, 5, 7]" in lines_of(out)["blocks.1.attn.hook_attn_scores"]


# --- dry run -------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], ["--bytes"], ["--notice", "--block", "11"], ["--head", "11"]], ids=" ".join)
def test_a_dry_run_says_so_and_shows_no_answer(flags, capsys):
    assert main(["trace", PROMPT, "--dry-run", "gpt2", *flags]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert "DRY RUN" in lines[0] and "zero-filled" in lines[0] and err == ""
    assert lines[1].split() == ["position", "id", "token"]
    assert lines[-1] == "no next token: with zero-filled weights every logit is 0"
    assert "probability" not in out


def test_a_dry_run_of_gpt2_has_its_shapes_and_its_ledger(capsys):
    assert main(["trace", PROMPT, "--dry-run", "gpt2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert "DRY RUN" in result["dry_run"] and "top" not in result
    rows = {row["name"]: row for row in result["points"]}
    assert list(rows) == list(points.table(Config(), points.NEXT_TOKEN))
    assert rows["blocks.11.attn.hook_qkv"]["in_numbers"] == "[5, 768] @ [768, 2304] + [2304]"
    assert rows["blocks.11.attn.hook_pattern"]["shape"] == [12, 5, 5]
    assert result["ledger"]["total"] == ledger(Config(), 5)[1]
    assert not any("stats" in row or "values" in row for row in rows.values())


# --- starting, ending, bad input -----------------------------------------------------------------


def python(*arguments, **more):
    """Run a module in a fresh interpreter in which every warning is an error."""
    return subprocess.run([sys.executable, "-W", "error", "-m", *arguments], capture_output=True, timeout=60, **more)


def test_a_fresh_interpreter_prints_the_same_and_no_warning(run, directory):
    done = python("nanogpt_np", "trace", PROMPT, "--stats", "--model", directory, check=True)
    assert done.stdout.decode() == run("--stats").out
    assert done.stderr.count(b"\n") == 1 and b"Warning" not in done.stderr


def test_a_prompt_from_standard_input_is_read(directory):
    done = python("nanogpt_np", "trace", "-", "--model", directory, "--json", input=PROMPT.encode() + b"\n", check=True)
    assert json.loads(done.stdout)["prompt_ids"] == IDS


def test_a_closed_pipe_ends_quietly(directory):
    command = [sys.executable, "-m", "nanogpt_np", "trace", PROMPT, "--model", directory]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        err = process.stderr.read()
        process.wait(timeout=60)
    assert process.returncode == 0
    assert err.count(b"\n") == 1 and err.startswith(b"model: ")


BAD = {
    "no prompt": ([], "a PROMPT is required, or --load FILE.npz", 2),
    "block a word": ([PROMPT, "--block", "first"], "invalid int value: 'first'", 2),
    "unknown flag": ([PROMPT, "--blocks", "1"], "unrecognized arguments: --blocks", 2),
    "empty prompt": ([""], "the prompt is empty", 1),
    "prompt longer than the context": (["a" + " b" * 40], "41 tokens are more than this model's context of 40", 1),
    "unknown model": ([PROMPT, "--model", "gtp2"], "no model 'gtp2' (did you mean gpt2?)", 1),
    "unknown size": ([PROMPT, "--dry-run", "gpt2-xxl"], "did you mean gpt2-xl", 1),
    "block out of range": ([PROMPT, "--block", "2"], "block 2 is out of range: this model has blocks 0 to 1", 1),
    "block below 0": ([PROMPT, "--block", "-1"], "block -1 is out of range", 1),
    "block of a dry run": ([PROMPT, "--dry-run", "gpt2", "--block", "12"], "blocks 0 to 11", 1),
    "head out of range": ([PROMPT, "--head", "3"], "head 3 is out of range: this model has heads 0 to 2", 1),
    "head below 0": ([PROMPT, "--head", "-1"], "head -1 is out of range", 1),
    "unknown name": ([PROMPT, "--only", "blocks.1.attn.hook_patern"], "did you mean blocks.1.attn.hook_pattern", 1),
    "one name known, one not": ([PROMPT, "--only", "hook_q", "--only", "xyzzy"], "no trace point 'xyzzy'", 1),
    "name in another block": ([PROMPT, "--only", "hook_embed", "--block", "0"], "no step is left", 1),
    "name without heads": ([PROMPT, "--only", "hook_embed", "--head", "0"], "no step is left", 1),
    "no values": ([PROMPT, "--values", "0"], "--values must be 1 or more, not 0", 1),
    "values below 0": ([PROMPT, "--values", "-2"], "--values must be 1 or more, not -2", 1),
    "top 0": ([PROMPT, "--top", "0"], "--top must be 1 or more, not 0", 1),
    "bytes of a head": ([PROMPT, "--bytes", "--head", "0"], "--head does not go with --bytes", 1),
    "load and a prompt": ([PROMPT, "--load", "x.npz"], "--load does not go with a PROMPT: it replays what was", 1),
    "load and a model": (["--load", "x.npz", "--model", "facts"], "--load does not go with --model", 1),
    "load and save": (["--load", "x.npz", "--save", "y.npz"], "--load does not go with --save", 1),
    "load and special": (["--load", "x.npz", "--special"], "--load does not go with --special", 1),
    "load and dry run": (["--load", "x.npz", "--dry-run", "gpt2"], "--load does not go with --dry-run", 1),
    "load of nothing": (["--load", "no-such-file.npz"], "no-such-file.npz", 1),
    "dry run and a model": ([PROMPT, "--dry-run", "gpt2", "--model", "facts"], "--dry-run does not go with --model", 1),
    "dry run and stats": ([PROMPT, "--dry-run", "gpt2", "--stats"], "--dry-run does not go with --stats", 1),
    "dry run and values": ([PROMPT, "--dry-run", "gpt2", "--values", "0"], "--dry-run does not go with --values", 1),
    "dry run and top": ([PROMPT, "--dry-run", "gpt2", "--top", "3"], "--dry-run does not go with --top", 1),
    "dry run and save": ([PROMPT, "--dry-run", "gpt2", "--save", "x.npz"], "--dry-run does not go with --save", 1),
    "dry run and step": ([PROMPT, "--dry-run", "gpt2", "--step"], "--dry-run does not go with --step", 1),
    "step and others": ([PROMPT, "--step", "--json", "--block", "0"], "--step does not go with --json or --block", 1),
    "step and standard input": (["-", "--step"], "--step reads what you type from standard input", 1),
    "save nowhere": ([PROMPT, "--save", str(Path("no", "such", "folder", "x.npz"))], "such", 1),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line(name, directory, capsys, tmp_path, monkeypatch):
    arguments, expected, code = BAD[name]
    monkeypatch.chdir(tmp_path)
    if not {"--model", "--load", "--dry-run"} & set(arguments):
        arguments = [*arguments, "--model", directory]
    assert main(["trace", *arguments]) == code
    out, err = capsys.readouterr()
    *before, last = err.splitlines()
    assert expected in last and "error: " in last and "Traceback" not in err
    assert all(line.startswith("model: ") for line in before)
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_walk_without_standard_input_is_refused(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert "standard input: there is none" in run("--step", code=1).err


def test_a_recording_that_is_no_whole_pass_is_refused(acts, tmp_path, capsys):
    part = Recorder(acts={name: x for name, x in acts.items() if name != "blocks.1.hook_mlp_out"})
    recording.save(tmp_path / "part.npz", recording.Recording(part, CONFIG, ABOUT))
    assert main(["trace", "--load", str(tmp_path / "part.npz")]) == 1
    assert "no blocks.1.hook_mlp_out" in capsys.readouterr().err


def test_a_forged_recording_cannot_write_control_characters_on_the_terminal(acts, tmp_path, capsys):
    about = ABOUT | {"prompt": "\x1b[2J", "model": {**ABOUT["model"], "origin": "\x1b[2J", "dtype": "\r"}}
    recording.save(tmp_path / "forged.npz", recording.Recording(acts, CONFIG, about))
    assert main(["trace", "--load", str(tmp_path / "forged.npz")]) == 0
    out, err = capsys.readouterr()
    assert err.endswith("model: \\x1b[2J, \\r, 1 parameters; greedy; no BOS\n")
    assert "\x1b" not in out
