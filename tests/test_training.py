"""The optimiser against its definition, and runs that are cut, resumed, frozen or fed bad text."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from helpers import random_model

import nanogpt_np
from nanogpt_np.__main__ import main
from nanogpt_np.model.config import Config
from nanogpt_np.train import loop, progress
from nanogpt_np.train.adamw import ELEMENTS, AdamW, clip_by_global_norm, learning_rate
from nanogpt_np.train.corpus import TextData, read_texts
from nanogpt_np.train.loop import run
from nanogpt_np.train.loss import IGNORED, mean_loss
from nanogpt_np.train.settings import Settings
from nanogpt_np.train.state import STATE, read_state
from nanogpt_np.train.trainer import Trainer, initial_params
from nanogpt_np.weights.assembly import assemble

TEXT = "".join(f"The number after {n} is {n + 1}. " for n in range(400))
TINY = ["--layers", "2", "--heads", "2", "--width", "12", "--context", "16", "--batch-size", "3", "--share-unseen"]

EVERY_STEP = ["--eval-every", "1", "--save-every", "1"]


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "numbers.txt"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def plain_adamw(p, grads, lr, b1, b2, eps, decay):
    """Loshchilov and Hutter's algorithm 2, in float64, a number at a time."""
    p, m, v = np.array(p, np.float64), 0.0, 0.0
    for t, g in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        p = p - lr * decay * p
        p = p - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return p


def test_adamw_takes_the_steps_of_its_definition_and_decays_matrices_only():
    rng = np.random.default_rng(0)
    shapes = {"matrix": (3, ELEMENTS // 2), "bias": (5,), "frozen": (4, 2)}
    start = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    params = {name: a.copy() for name, a in start.items()}
    grads = {name: rng.normal(size=(4, *shape)) for name, shape in shapes.items()}
    optimizer = AdamW({n: params[n] for n in ("matrix", "bias")}, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.3)
    for t in range(4):
        optimizer.step({name: g[t] for name, g in grads.items()}, lr=0.05)
    for name, decay in (("matrix", 0.3), ("bias", 0.0)):
        expected = plain_adamw(start[name], grads[name], 0.05, 0.8, 0.95, 1e-6, decay)
        np.testing.assert_allclose(params[name], expected, rtol=1e-12)
    np.testing.assert_array_equal(params["frozen"], start["frozen"])


def test_clipping_shortens_long_gradients_only_and_keeps_their_direction():
    grads = {"a": np.array([[3.0, 0.0]]), "b": np.array([4.0])}
    assert clip_by_global_norm(grads, 10) == 5
    np.testing.assert_array_equal(grads["b"], [4.0])
    assert clip_by_global_norm(grads, 0.5) == 5
    np.testing.assert_allclose([*grads["a"][0], *grads["b"]], [0.3, 0, 0.4])


def test_the_learning_rate_rises_in_a_line_and_falls_along_a_cosine():
    rates = [learning_rate(step, peak=1.0, final=0.1, warmup=4, steps=24) for step in range(30)]
    np.testing.assert_allclose(rates[:5], [0.25, 0.5, 0.75, 1, 1])
    np.testing.assert_allclose(rates[14], (1 + 0.1) / 2)
    np.testing.assert_allclose(rates[24:], 0.1)
    assert all(a > b for a, b in itertools.pairwise(rates[4:25]))


def test_a_new_model_is_initialised_as_gpt2_was_and_knows_nothing():
    config = Config(vocab_size=501, n_positions=64, n_embd=96, n_head=4, n_layer=8)
    params = initial_params(config, np.random.default_rng(0))
    assert np.std(params["h.3.mlp.c_fc.weight"]) == pytest.approx(0.02, rel=0.02)
    for name in ("h.3.mlp.c_proj.weight", "h.3.attn.c_proj.weight"):
        assert np.std(params[name]) == pytest.approx(0.02 / math.sqrt(2 * 8), rel=0.02)
    assert not params["h.1.attn.c_attn.bias"].any() and (params["ln_f.weight"] == 1).all()
    model = assemble(config, params)
    ids = np.random.default_rng(1).integers(0, 501, (4, 33))
    assert mean_loss(model, ids[:, :-1], ids[:, 1:]) == pytest.approx(math.log(501), rel=0.01)


def trainer(text=TEXT, **settings):
    s = Settings(**{"steps": 12, "batch_size": 3, "context": 16, "warmup": 2, "share_unseen": True, **settings})
    data = TextData([text], nanogpt_np.Tokenizer(), s.context, s.batch_size)
    return Trainer.from_scratch(Config(n_positions=16, n_embd=12, n_head=2, n_layer=2), data, s)


def test_the_same_seed_trains_the_same_model_and_another_seed_another():
    runs = [trainer(seed=seed) for seed in (3, 3, 4)]
    losses = [[run.step()[0] for _ in range(3)] for run in runs]
    assert losses[0] == losses[1] != losses[2]


def test_a_run_reports_every_step_prints_nothing_and_can_be_stopped_from_another_thread(tmp_path, capsys):
    told, finished = [], []

    def work():
        run_ = trainer(steps=6, eval_every=2, save_every=100)
        stop = lambda: len(told) == 5  # noqa: E731
        finished.append(run(run_, tmp_path / "run", sample="The", report=told.append, stop=stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert finished == [False] and read_state(tmp_path / "run").about["steps"] == 5
    assert [(p.step, p.steps, p.notes is not None) for p in told] == [(n, 6, n % 2 == 0) for n in range(1, 6)]
    assert all(p.loss > 0 and p.tokens_per_second > 0 and p.seconds_left >= 0 for p in told)
    assert told[1].notes[0].startswith("held-out loss") and '"The' in told[1].notes[1]
    assert capsys.readouterr() == ("", "")
    resumed = Trainer.resume(tmp_path / "run", lambda s: trainer().data)
    assert run(resumed, tmp_path / "run") is True and resumed.step_number == 6


def test_training_learns_what_repeats_and_applies_it_to_held_out_text():
    run = trainer("One, two, three, four. " * 200, steps=150, lr=1e-2)
    before = run.held_out_loss()
    for _ in range(150):
        run.step()
    assert before > 10
    # Measured: 0.23, most of it the one <|endoftext|> at the end of the tail, which training never saw.
    assert run.held_out_loss() < 0.5


def test_accumulating_two_batches_is_one_batch_of_both():
    apart, together = trainer(accumulate=2), trainer(batch_size=6)
    loss, counted = apart.step()
    batches = []

    class Same:
        def __init__(self, data):
            self.data = data

        def batch(self, rng):
            parts = [self.data.batch(rng) for _ in range(2)]
            batches.extend(parts)
            return tuple(np.concatenate(side) for side in zip(*parts, strict=True))

    together.data = Same(trainer(accumulate=2).data)
    assert together.step() == (pytest.approx(loss, rel=1e-6), counted)
    for name, array in apart.params.items():
        np.testing.assert_allclose(array, together.params[name], rtol=1e-4, atol=1e-6)


def test_a_run_that_is_saved_and_resumed_equals_the_run_that_was_not(tmp_path):
    whole, cut = trainer(), trainer()
    for _ in range(12):
        whole.step()
    for _ in range(5):
        cut.step()
    cut.save(tmp_path)
    resumed = Trainer.resume(tmp_path, lambda settings: cut.data)
    assert resumed.step_number == 5
    for _ in range(7):
        resumed.step()
    for name, array in whole.params.items():
        np.testing.assert_array_equal(array, resumed.params[name])


def test_a_saved_run_loads_as_a_whole_gpt2_with_one_row_for_all_unseen_tokens(tmp_path):
    run = trainer()
    run.step()
    run.save(tmp_path)
    model = nanogpt_np.load(tmp_path)
    assert model.config.vocab_size == 50257
    unseen = np.setdiff1d(np.arange(50257), run.data.used)
    rows = model.params["wte.weight"]
    assert (rows[unseen] == rows[unseen[0]]).all() and (rows[run.data.used] != rows[unseen[0]]).any(axis=1).all()
    ids, targets = run.data.batch(np.random.default_rng(0))
    compact = mean_loss(run.model, run.encode(ids), run.encode(targets), offset=run.offset)
    assert mean_loss(model, ids, targets) == pytest.approx(compact, rel=1e-5)


def test_resuming_with_other_text_is_refused(tmp_path):
    run = trainer()
    run.step()
    run.save(tmp_path)
    other = TextData([TEXT + "More."], nanogpt_np.Tokenizer(), 16, 3)
    with pytest.raises(ValueError, match="other data"):
        Trainer.resume(tmp_path, lambda settings: other)


def test_held_out_text_is_never_trained_on():
    data = TextData([TEXT], nanogpt_np.Tokenizer(), 16, 3)
    assert len(data.train) + len(data.tail) == len(nanogpt_np.Tokenizer().encode(TEXT)) + 1
    starts = [ids[0, 0] for ids, _ in data.held_out()]
    assert starts[0] == data.tail[0]
    rng = np.random.default_rng(0)
    ends = max(int(np.flatnonzero(_windows(data.train, ids)).max()) for ids, _ in (data.batch(rng) for _ in range(50)))
    assert ends + 16 < len(data.train)


def _windows(tokens, ids):
    view = np.lib.stride_tricks.sliding_window_view(tokens, ids.shape[1])
    return (view[:, None] == ids).all(-1).any(-1)


# Tokens that do not count


class Given(TextData):
    """The data of `trainer`, with these targets counted in each batch: of training, then of what is held out."""

    def __init__(self, counts, held=()):
        super().__init__([TEXT], nanogpt_np.Tokenizer(), 16, 3)
        self.counts, self.held = iter(counts), held

    def batch(self, rng):
        ids, targets = super().batch(rng)
        return ids, some_of(targets, next(self.counts))

    def held_out(self, batches=8):
        rng = np.random.default_rng(1)
        for count in self.held:
            ids, targets = super().batch(rng)
            yield ids, some_of(targets, count)


def some_of(targets, count):
    """Return `targets` with the first `count` of them only."""
    some = np.full(targets.size, IGNORED)
    some[:count] = targets.reshape(-1)[:count]
    return some.reshape(targets.shape)


def with_data(data, **settings):
    s = Settings(**{"steps": 12, "batch_size": 3, "context": 16, "warmup": 2, "share_unseen": True, **settings})
    return Trainer.from_scratch(Config(n_positions=16, n_embd=12, n_head=2, n_layer=2), data, s)


@pytest.mark.parametrize("held", [(1, 14, 5), (48, 1), (0, 3, 0, 40, 0), (7,), (2, 0, 31, 48, 1)])
def test_the_held_out_loss_is_the_mean_over_the_tokens_that_count(held):
    run_ = with_data(Given(iter(lambda: 48, None), held), lr=0.01)
    for _ in range(5):
        run_.step()  # so that the losses of tokens differ
    one_by_one = []
    for ids, targets in run_.data.held_out():
        for column in np.argwhere(targets != IGNORED):
            only = np.full_like(targets, IGNORED)
            only[tuple(column)] = targets[tuple(column)]
            one_by_one.append(mean_loss(run_.model, run_.encode(ids), run_.encode(only), offset=run_.offset))
    assert len(one_by_one) == sum(held) and (len(one_by_one) < 2 or np.std(one_by_one) > 0.01)
    assert run_.held_out_loss() == pytest.approx(np.mean(one_by_one), rel=1e-6)


@pytest.mark.parametrize("held", [(), (0,), (0, 0, 0)])
def test_held_out_text_of_which_nothing_counts_has_no_loss(held):
    run_ = with_data(Given([], held))
    assert run_.held_out_loss() is None and run_.data.evaluate(run_) == []


@pytest.mark.parametrize("counts", [(5, 0), (0, 5), (0, 5, 0, 48), (1, 14, 5), (0, 0, 0, 2)])
def test_a_step_is_the_mean_over_the_tokens_that_count_in_all_its_batches(counts):
    """The gradient of a step of several batches is that of one batch that holds the same targets."""
    apart = with_data(Given(counts), accumulate=len(counts))
    together = with_data(Given([]), batch_size=3 * len(counts))
    source, rng = Given(counts), np.random.default_rng(apart.settings.seed)
    batches = [source.batch(rng) for _ in counts]
    together.data.batch = lambda rng: tuple(np.concatenate(side) for side in zip(*batches, strict=True))
    loss, counted = apart.step()
    assert counted == sum(counts)
    assert together.step() == (pytest.approx(loss, rel=1e-6), counted)
    for name, array in apart.params.items():
        np.testing.assert_allclose(array, together.params[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_a_step_in_which_nothing_counts_changes_no_parameter_and_is_a_step_of_the_schedule(accumulate, tmp_path):
    counts = [48] * accumulate + [0] * 2 * accumulate + [48] * accumulate
    run_ = with_data(Given(counts), accumulate=accumulate, steps=4)
    run_.step()
    before = {name: array.copy() for name, array in run_.params.items()}
    for number in (2, 3):
        loss, counted = run_.step()
        assert math.isnan(loss) and counted == 0
        assert (run_.step_number, run_.optimizer.steps) == (number, 1)
    for name, array in run_.params.items():
        np.testing.assert_array_equal(array, before[name])
    run_.save(tmp_path)
    resumed = Trainer.resume(tmp_path, lambda settings: Given([48] * accumulate))
    assert (resumed.step_number, resumed.optimizer.steps) == (3, 1)
    assert resumed.step() == run_.step()
    for name, array in run_.params.items():
        np.testing.assert_array_equal(array, resumed.params[name])
        assert not np.array_equal(array, before[name])


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (0, 9, 0, 9), (9, 0, 0, 0)])
def test_a_run_reports_the_steps_in_which_nothing_counted_and_goes_on(counts, tmp_path, capsys):
    told = []
    data = Given(counts, held=(0, 4))
    assert run(with_data(data, steps=4, eval_every=1), tmp_path / "run", report=told.append) is True
    assert [math.isnan(p.loss) for p in told] == [count == 0 for count in counts]
    assert all(p.tokens_per_second >= 0 and p.notes[0].startswith("held-out loss") for p in told)
    show = progress.lines()
    for one in told:
        show(one)
    assert capsys.readouterr().err.count("no token counted") == counts.count(0)


# The command line


def test_the_command_trains_saves_and_resumes(text_file, tmp_path, capsys):
    out = str(tmp_path / "run")
    flags = [
        text_file,
        "--out",
        out,
        *TINY,
        "--steps",
        "6",
        "--eval-every",
        "3",
        "--save-every",
        "4",
        "--sample",
        "The",
    ]
    assert main(["train", *flags]) == 0
    err = capsys.readouterr().err
    assert "step 6/6  loss " in err and "tokens/s" in err and "held-out loss" in err and '"The' in err
    assert main(["generate", "The number", "-n", "3", "--model", out]) == 0
    assert capsys.readouterr().out
    assert main(["train", "--resume", out]) == 0  # nothing left to do: saved again as it was
    assert "saved in" in capsys.readouterr().err


def test_fine_tuning_with_frozen_layers_moves_the_others_only(text_file, tmp_path):
    start = random_model(6, vocab_size=50257, n_positions=24, n_embd=12, n_head=2, n_layer=2)
    nanogpt_np.save(start, tmp_path / "start")
    out = str(tmp_path / "tuned")
    flags = ["--steps", "3", "--context", "16", "--batch-size", "2", "--freeze", "w?e.*", "--freeze", "h.0.*"]
    assert main(["train", text_file, "--out", out, "--model", str(tmp_path / "start"), *flags]) == 0
    tuned = nanogpt_np.load(out)
    for name, array in start.params.items():
        frozen = name.startswith(("wte", "wpe", "h.0."))
        assert np.array_equal(tuned.params[name], array) == frozen, name


def _start(text_file, out, steps="5000"):
    return subprocess.Popen(
        [sys.executable, "-m", "nanogpt_np.train", text_file, "--out", out, "--steps", steps, *TINY, *EVERY_STEP],
        stderr=subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        text=True,
    )


def test_ctrl_c_saves_the_step_and_says_how_to_go_on(text_file, tmp_path):
    out = str(tmp_path / "run")
    with _start(text_file, out) as process:
        for line in process.stderr:
            if line.startswith("step 3/"):
                break
        process.send_signal(signal.SIGINT)
        err = process.stderr.read()
    assert process.returncode == 130
    assert f"continue with --resume {out}" in err and "Traceback" not in err
    steps = int(err.split("stopped after step ")[1].split(":")[0])
    assert read_state(out).about["steps"] == steps >= 3


@pytest.mark.slow
def test_a_killed_run_always_leaves_the_last_whole_checkpoint_or_none(text_file, tmp_path):
    """Fifty runs that save at every step, killed at a random moment."""
    rng = np.random.default_rng(0)
    uncut = trainer(steps=5000, warmup=100, eval_every=1, save_every=1)
    by_step = [uncut.params["wpe.weight"].copy()]  # of the run that is not killed
    loaded, none = 0, 0
    for number in range(50):
        out = str(tmp_path / f"run{number}")
        with _start(text_file, out) as process:
            if number % 5:
                process.stderr.readline()  # the first step is done, a save under way
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=float(rng.uniform(0, 0.6)))
            process.kill()
        try:
            model = nanogpt_np.load(out)
        except ValueError as error:
            assert "does not exist" in str(error) or "holds no model" in str(error) or "no model" in str(error), error
            none, model = none + 1, None
        try:
            about = read_state(out).about
        except ValueError as error:
            assert "holds no training run" in str(error)
            assert model is None
            continue
        resumed = Trainer.resume(out, loop.make_data)
        step = resumed.step_number
        while len(by_step) <= step:
            uncut.step()
            by_step.append(uncut.params["wpe.weight"].copy())
        np.testing.assert_allclose(resumed.params["wpe.weight"], by_step[step], atol=1e-6)
        assert about["steps"] == step
        if model is not None:
            loaded += 1
            # The state is written first: the model beside it is of the same step, or of the save before.
            far = [np.abs(model.params["wpe.weight"] - w).max() for w in by_step[max(0, step - 1) : step + 1]]
            assert min(far) < 1e-6
    print(f"{loaded} loaded, {none} held no model yet")
    assert loaded > 10 and none > 0


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.txt", b"", "is empty"),
        ("latin.txt", "café".encode("latin-1") * 99, "is not UTF-8 text"),
        ("short.txt", b"too short", "are too few"),
    ],
)
def test_a_text_that_cannot_be_learned_from_is_refused(name, content, words, tmp_path, capsys):
    (tmp_path / name).write_bytes(content)
    assert main(["train", str(tmp_path / name), "--out", str(tmp_path / "out"), *TINY]) == 1
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_bad_flags_of_train_get_one_line(text_file, tmp_path, capsys):
    full = tmp_path / "full"
    full.mkdir()
    (full / "something").write_text("precious")
    out = str(tmp_path / "out")
    for flags, words in (
        ([text_file], "--out DIR is needed"),
        (["--out", out], "give text files"),
        ([text_file, "--out", str(full)], "is not empty"),
        ([text_file, "--out", out, "--steps", "0"], "steps must be 1 or more"),
        ([text_file, "--out", out, "--lr", "nan"], "lr must be a number above 0"),
        ([text_file, "--out", out, "--batch-size", "-1"], "batch_size must be 1 or more"),
        ([text_file, "--out", out, "--seed", "-1"], "seed must be 0 or more"),
        ([text_file, "--out", out, "--heads", "5"], "not divisible by n_head 5"),
        ([text_file, "--out", out, "--freeze", "h.9.*", *TINY], "matches no parameter"),
        ([text_file, "--out", out, "--freeze", "*", *TINY], "leaves no parameter to train"),
        ([str(tmp_path / "missing.txt"), "--out", out], "No such file"),
        ([str(full), "--out", out], "holds no .txt and no .md file"),
        (["--resume", str(full)], "holds no training run"),
        (["--resume", str(full), "--steps", "5"], "holds no training run"),
        (["--resume", str(full), "--lr", "5"], "--lr with --steps N only"),
        (["--resume", str(full), "--steps", "5", "--special"], "keeps the run's settings"),
        (["--resume", str(full), "--steps", "5", "--save-minutes", "2"], "keeps the run's settings"),
        ([text_file, "--out", out, "--save-minutes", "0"], "save_minutes must be a number above 0"),
        (["--recipe", "facts", "--out", out, "--special"], "no --special"),
        (["--resume", str(full), "--width", "64"], "keeps the run's settings"),
        (["--recipe", "facts", "--out", out, "--width", "64"], "brings its own text and sizes"),
        (["--recipe", "facts", "--out", out, "--lr", "nan"], "lr must be a number above 0"),
        ([text_file, "--out", out, "--warmup", "-1"], "warmup must be 0 or more"),
        ([text_file, "--out", out, "--model", "NOWHERE", "--layers", "2"], "brings its own sizes"),
        ([text_file, "--out", out, *TINY, "--sample", "too many words " * 9], "more than this model's context"),
        ([text_file, "--out", f"{text_file}/x", *TINY], "Not a directory"),
        (["--recipe", "facts", "--model", "gpt2", "--out", out], "brings its own text and sizes"),
        ([text_file, "--out", out, "--context", "2000", "--model", "NOWHERE"], "no model 'NOWHERE'"),
    ):
        assert main(["train", *flags]) == 1, flags
        err = capsys.readouterr().err
        assert words in err and err.count("\n") == 1, err


def test_a_run_that_diverges_stops_and_keeps_what_it_saved(text_file, tmp_path, capsys):
    out = str(tmp_path / "run")
    flags = ["--out", out, *TINY, "--steps", "30", "--lr", "1e30", "--warmup", "0", "--save-every", "1"]
    with np.errstate(all="ignore"):
        assert main(["train", text_file, *flags]) == 1
    assert "diverged" in capsys.readouterr().err
    assert np.isfinite(nanogpt_np.load(out).params["wte.weight"]).all()


def test_a_parameter_that_steps_could_not_change_is_refused():
    for array in (np.ones((3, 4)).T, np.broadcast_to(np.ones(3), (2, 3))):
        with pytest.raises(ValueError, match="must be writeable and in C order"):
            AdamW({"w": array})


def test_what_was_loaded_can_be_trained_once_it_is_copied_as_the_message_says(tmp_path):
    nanogpt_np.save(random_model(), tmp_path)
    params = nanogpt_np.load(tmp_path).params
    for copied in (params, {name: np.array(a) for name, a in params.items()}):  # np.array keeps the order in memory
        with pytest.raises(ValueError, match=r"take array\.copy\(\)"):
            AdamW(copied)
    AdamW({name: a.copy() for name, a in params.items()})


def test_a_forged_state_is_refused(tmp_path, capsys):
    (tmp_path / STATE).write_bytes(b"\x00" * 20)
    assert main(["train", "--resume", str(tmp_path)]) == 1
    assert "is not the state of a training run" in capsys.readouterr().err


def test_a_directory_of_texts_is_read_in_order_with_ends_between(tmp_path):
    for name, text in (("b.txt", "second"), ("a.md", "first"), ("c.py", "not text")):
        (tmp_path / name).write_text(text)
    assert read_texts([tmp_path]) == ["first", "second"]
    data = TextData(["first", "second"], nanogpt_np.Tokenizer(), 2, 1)
    assert nanogpt_np.Tokenizer().decode(data.train) == "first<|endoftext|>second<|endoftext|>"


def test_the_state_says_what_the_run_was_made_of(tmp_path):
    run = trainer(seed=9)
    run.step()
    run.save(tmp_path)
    about = read_state(tmp_path).about
    assert about["settings"]["seed"] == 9 and about["steps"] == 1
    assert json.loads((tmp_path / "config.json").read_text())["vocab_size"] == 50257
