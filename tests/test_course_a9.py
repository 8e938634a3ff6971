"""Assignment a9: other right ways to write AdamW and a training step pass, and what is wrong is told in full."""

import numpy as np
import pytest
from course_helpers import graded, graded_version, statuses, with_body

from nanogpt_np.course import seams
from nanogpt_np.course.answers import answer
from nanogpt_np.course.assignment import assignments, get
from nanogpt_np.course.assignments.training import learn
from nanogpt_np.course.runner import grade
from nanogpt_np.course.training import train_step
from nanogpt_np.model.config import Config
from nanogpt_np.train.adamw import AdamW, learning_rate
from nanogpt_np.train.loss import IGNORED, loss_and_grads
from nanogpt_np.train.trainer import Settings, Trainer, initial_params
from nanogpt_np.weights import assembly

pytestmark = pytest.mark.catalogue

OTHER_WAYS = {
    "AdamW.step": {
        "as in the docstring, whole arrays": """
            self.steps = self.steps + 1
            b1, b2 = self.betas
            for name, p in self.params.items():
                g = grads[name]
                self.mean[name] = b1 * self.mean[name] + (1 - b1) * g
                self.square[name] = b2 * self.square[name] + (1 - b2) * g**2
                m = self.mean[name] / (1 - b1**self.steps)
                v = self.square[name] / (1 - b2**self.steps)
                decay = self.weight_decay if self.decayed(name, p) else 0.0
                p -= lr * m / (v**0.5 + self.eps) + lr * decay * p
        """,
        "loops over numbers, in floats of Python": """
            self.steps += 1
            b1, b2 = self.betas
            for name, p in self.params.items():
                decay = lr * self.weight_decay * bool(self.decayed(name, p))
                for at in np.ndindex(p.shape):
                    g = float(grads[name][at])
                    m = self.mean[name][at] = b1 * float(self.mean[name][at]) + (1 - b1) * g
                    v = self.square[name][at] = b2 * float(self.square[name][at]) + (1 - b2) * g * g
                    m, v = m / (1 - b1**self.steps), v / (1 - b2**self.steps)
                    p[at] = (1 - decay) * float(p[at]) - lr * m / (math.sqrt(v) + self.eps)
        """,
        "float64 inside, out= everywhere": """
            self.steps += 1
            b1, b2 = self.betas
            for name, p in self.params.items():
                g, wide = grads[name].astype(np.float64), p.astype(np.float64)
                m = b1 * self.mean[name].astype(np.float64) + (1 - b1) * g
                v = b2 * self.square[name].astype(np.float64) + (1 - b2) * np.square(g)
                np.copyto(self.mean[name], m, casting="same_kind")
                np.copyto(self.square[name], v, casting="same_kind")
                if self.decayed(name, p):
                    wide *= 1 - lr * self.weight_decay
                wide -= lr * (m / (1 - b1**self.steps)) / (np.sqrt(v / (1 - b2**self.steps)) + self.eps)
                p[...] = wide
        """,
    },
    "clip_by_global_norm": {
        "one long vector": """
            norm = np.linalg.norm(np.concatenate([np.ravel(g) for g in grads.values()]))
            if norm > limit:
                for g in grads.values():
                    np.multiply(g, limit / norm, out=g, casting="same_kind")
            return norm
        """,
        "loops, as PyTorch does it": """
            squares = 0.0
            for g in grads.values():
                for number in g.reshape(-1):
                    squares += float(number) ** 2
            norm = squares**0.5
            share = min(1.0, limit / (norm + 1e-6))
            if share < 1:
                for g in grads.values():
                    g[...] = g * share
            return norm
        """,
        "einsum": """
            norm = float(sum(np.einsum("i,i", g.ravel(), g.ravel()) for g in grads.values())) ** 0.5
            for name in grads if norm > limit else ():
                grads[name] /= norm / limit
            return norm
        """,
    },
    "learning_rate": {
        "NumPy's interpolation and cosine": """
            if step < warmup:
                return np.interp(step + 1, [0, warmup], [0, peak])
            done = np.clip((step - warmup) / (steps - warmup), 0, 1)
            return final + (peak - final) * np.cos(np.pi / 2 * done) ** 2
        """,
        "one case after the other": """
            if warmup > 0 and step <= warmup - 1:
                return (1 + step) * (peak / warmup)
            if step >= steps:
                return final
            middle, half = (peak + final) / 2, (peak - final) / 2
            return middle + half * math.cos(math.pi * (step - warmup) / (steps - warmup))
        """,
        "float32 whatever comes in": """
            if step < warmup:
                return np.float32(peak) * np.float32(step + 1) / np.float32(warmup)
            done = np.float32(min(step - warmup, steps - warmup)) / np.float32(steps - warmup)
            return np.float32(final) + np.float32(peak - final) * (1 + np.cos(np.float32(math.pi) * done)) / 2
        """,
    },
    "train_step": {
        "sums first, divided at the end": """
            total, count, sums = 0.0, 0, {}
            for ids, targets in batches:
                n = np.count_nonzero(targets != IGNORED)
                loss, grads = loss_and_grads(ids, targets)
                total, count = total + n * loss, count + n
                for name in optimizer.params:
                    sums[name] = sums.get(name, 0) + n * grads[name]
            grads = {name: (d / count).astype(optimizer.params[name].dtype) for name, d in sums.items()}
            clip_by_global_norm(grads, limit)
            optimizer.step(grads, lr)
            return total / count
        """,
        "weights by NumPy, all gradients kept": """
            weights = np.array([sum(t != -100 for t in np.ravel(targets)) for _, targets in batches], float)
            weights /= weights.sum()
            done = [loss_and_grads(ids, targets) for ids, targets in batches]
            grads = {
                name: sum(float(w) * each[name] for w, (_, each) in zip(weights, done)) for name in optimizer.params
            }
            clip_by_global_norm(grads, limit)
            optimizer.step(grads, lr)
            return float(np.dot(weights, [loss for loss, _ in done]))
        """,
    },
}
WAYS = [(function, way) for function, ways in OTHER_WAYS.items() for way in ways]


def test_each_function_has_two_other_right_ways():
    short = {where.partition(":")[2] for where in get("a9").functions}
    assert OTHER_WAYS.keys() == short and all(len(ways) >= 2 for ways in OTHER_WAYS.values())


@pytest.mark.parametrize(("function", "way"), WAYS)
def test_another_right_way_passes(function, way, tmp_path):
    results = graded("a9", tmp_path, with_body("a9", function, OTHER_WAYS[function][way]), only=function)
    assert statuses(results) == {"CORRECT"}, {name: r for name, r in results.items() if r.status != "CORRECT"}


def test_the_training_step_of_the_course_is_the_trainers():
    """Three steps of three batches each, some targets of which do not count, one parameter frozen."""
    config = Config(vocab_size=11, n_positions=6, n_embd=6, n_layer=1, n_head=2)
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, 11, (2, 2, 5)) for _ in range(9)]
    for number, (_, targets) in enumerate(batches):
        targets[0, : number % 4] = IGNORED
    left = iter(batches)

    class Data:
        def batch(self, rng):
            return next(left)

    params = initial_params(config, rng)
    settings = Settings(steps=3, warmup=1, lr=0.05, accumulate=3, clip=0.4, freeze=("wpe.weight",))
    trainer = Trainer(config, params, Data(), settings)
    moving = {name: array.copy() for name, array in params.items()}
    model = assembly.assemble(config, moving)
    optimizer = AdamW({name: a for name, a in moving.items() if name != "wpe.weight"}, betas=settings.betas)
    for number in range(3):
        lr = learning_rate(number, peak=0.05, final=settings.final_lr, warmup=1, steps=3)
        loss = train_step(lambda *b: loss_and_grads(model, *b), optimizer, batches[3 * number :][:3], lr, limit=0.4)
        assert loss == pytest.approx(trainer.step()[0], rel=1e-6)
    for name, array in trainer.params.items():
        # The same sums in the same order: equal to the bit where it was measured.
        np.testing.assert_allclose(moving[name], array, rtol=0, atol=1e-7, err_msg=name)


def test_a_wrong_step_is_shown_in_numbers_that_can_be_read(tmp_path):
    body = """
        self.steps += 1
        b1, b2 = self.betas
        for name, p in self.params.items():
            self.mean[name] += (1 - b1) * (grads[name] - self.mean[name])
            self.square[name] += (1 - b2) * (grads[name] ** 2 - self.square[name])
            p -= lr * self.mean[name] / (np.sqrt(self.square[name]) + self.eps)
    """
    wrong = graded("a9", tmp_path, with_body("a9", "AdamW.step", body))["adamw_steady"]
    assert wrong.status == "INCORRECT"
    assert wrong.case == "gradient = [1.]; lr = 0.1 (float64)"
    assert wrong.expected == "[-1. -1. -1. -1.]" and wrong.got.startswith("[-1.     -1.3")
    assert "None" not in wrong.notes  # a step gives nothing back, and that is right


def test_writing_into_the_gradients_is_found_where_it_is_not_asked_for(tmp_path):
    body = "grads[next(iter(grads))] *= 2"
    wrong = graded("a9", tmp_path, with_body("a9", "AdamW.step", body))["adamw_moves"]
    assert "AdamW.step writes into its argument grads['w']" in wrong.problem


def test_a_training_run_with_all_of_ones_own_learns_a_sentence_by_heart(tmp_path):
    check = get("training").checks[0]
    (case,) = check.cases(None)
    assert learn(**case) == case["sentence"]
    for name in ("a8", "a9"):
        (tmp_path / get(name).file).write_text(answer(get(name)), "utf-8")
    (done,) = grade(tmp_path, ["training"])
    assert [result.status for _, result in done.results] == ["CORRECT"]


@pytest.mark.parametrize(
    ("name", "function", "body"),
    [
        ("a8", "loss_and_grads", "return 1.0, {name: 0 * array for name, array in model.params.items()}"),
        ("a9", "AdamW.step", "self.steps += 1"),
        ("a9", "learning_rate", "return 0.0"),
    ],
)
def test_a_training_run_in_which_nothing_moves_does_not_learn(name, function, body, tmp_path):
    for each in ("a8", "a9"):
        source = with_body(name, function, body) if each == name else answer(get(each))
        (tmp_path / get(each).file).write_text(source, "utf-8")
    (done,) = grade(tmp_path, ["training"])
    assert [result.status for _, result in done.results] == ["INCORRECT"]


def test_every_assignment_with_a_file_comes_before_those_that_put_all_together():
    names = list(assignments())
    assert names[-2:] == ["training", "whole"]


WRONG = {  # what is no likely mistake, but must not pass either
    "the decay ends after five steps": ("train.adamw:AdamW.step", "self.decayed(", "self.steps < 6 and self.decayed("),
    "steps are counted to six": ("train.adamw:AdamW.step", "self.steps += 1", "self.steps = min(6, self.steps + 1)"),
    "the mean is corrected to the sixth step": ("train.adamw:AdamW.step", "b1**self.steps", "b1**min(6, self.steps)"),
    "the square is corrected to the fifth step": (
        "train.adamw:AdamW.step",
        "math.sqrt(1 - b2**self.steps)",
        "(math.sqrt(1 - b2**self.steps) if self.steps < 6 else 1.0)",
    ),
    "a thousandth beyond the limit is let through": (
        "train.adamw:clip_by_global_norm",
        "limit < norm",
        "limit + 1e-3 < norm",
    ),
    "four batches weigh too little": (
        "course.training:train_step",
        "count / sum(counts)",
        "count / (sum(counts) if len(counts) < 4 else len(counts) * max(counts))",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_in_some_cases_only_does_not_pass(what):
    where, *edit = WRONG[what]
    results, _ = graded_version(get("a9"), where, seams.edited(where, [edit]), named=False)
    assert "INCORRECT" in statuses(results)
