"""Assignment a9, AdamW and a training step: how far to go where the gradient points.

Each function is judged alone, on numbers that can be checked by hand, then in a run of the package's own trainer.
How an assignment is written: `a2_layernorm.py`.
"""

import itertools

import numpy as np

from ...train.adamw import AdamW, clip_by_global_norm, learning_rate
from ...train.loss import IGNORED, loss_and_grads
from ...train.trainer import Settings, Trainer
from ..definitions import Assignment
from ..numbers import ids, plain, small_model
from ..training import train_step

ASSIGNMENT = Assignment(
    "a9_adamw",
    "AdamW and a training step: how far to go where the gradient points",
    {
        "train.adamw:AdamW.step": (
            "A gradient is 0.001 at every step. How large are the two averages after the first step, how large "
            "after very many, and how far should the parameter have moved each time?",
            "Raise self.steps first: the first step is number 1. For each name update mean and square, then the "
            "parameter; the two corrections are plain numbers, the same for all. self.decayed says whether "
            "to decay, for each name.",
            "In place is `array *= 1 - lr * self.weight_decay` (where it decays), then `array -= ` lr times the "
            "corrected mean, divided by (np.sqrt of the corrected square, plus self.eps).",
        ),
        "train.adamw:clip_by_global_norm": (
            "Two gradients are [3] and [4]. How long is the vector (3, 4)? What must both be multiplied by to "
            "make it 1 long, and would its direction stay if each were cut by itself?",
            "First one loop that sums the squares of all arrays, then the root; only then, and only if it is "
            "more than the limit, a second loop that multiplies.",
            "The factor is limit / norm. `g *= factor` changes an array that others hold; `g = g * factor` "
            "makes a new one that nobody sees. Return norm as it was before.",
        ),
        "train.adamw:learning_rate": (
            "Of a run of 10 steps, 4 of them to warm up, which are the numbers of the steps that rise? What is "
            "the rate at the first, and what would happen there if it were 0?",
            "Two cases: step < warmup, and the rest. In the rest, the share of the way that is done goes from 0 to 1, "
            "and may not go beyond 1.",
            "(1 + math.cos(math.pi * done)) / 2 falls from 1 to 0; it is the share of (peak - final) that is "
            "left above final. min(1.0, ...) holds done.",
        ),
        "course.training:train_step": (
            "One batch has 30 tokens that count, another 10. If you average the two mean losses, how much does "
            "a token of the second count, compared with one of the first?",
            "Count the targets that are not -100 in each batch first. Begin with zeros for each name of "
            "optimizer.params, and add to them for each batch; clip once, step once, after the loop.",
            "A batch's share is its count, divided by the sum of all counts; that share of its loss goes into the "
            "loss, and of each of its gradients into that of the name. Then clip all gradients together, let the "
            "optimizer step with what is left, and return the loss.",
        ),
    },
    writes=("train.adamw:clip_by_global_norm",),
)


class Letters:
    """Random batches for the trainer, some targets of which do not count."""

    def __init__(self, config):
        self.config = config

    def batch(self, rng):
        batch = rng.integers(0, self.config.vocab_size, (2, 2, 5))
        batch[1, 0, : rng.integers(1, 5)] = IGNORED
        return batch[0], batch[1]


def runs(rng):
    """Settings of short runs, and a model to begin with, in float32 as the trainer wants it."""
    for sizes, settings in (
        ({"n_layer": 1}, {"steps": 3, "warmup": 0, "lr": 0.1, "final_lr": 0.01, "clip": 0.5}),
        ({}, {"steps": 5, "warmup": 2, "lr": 0.02, "final_lr": 0.0, "clip": 3.0, "accumulate": 2, "weight_decay": 0.5}),
    ):
        model = small_model(rng, **sizes)
        params = {name: array.astype(np.float32) for name, array in model.params.items()}
        yield {"model": model.config, "params": params, "settings": settings}


def in_a_run(function):
    """Add the check of a function in a run of the package's trainer."""

    def run(model, params, settings):
        trainer = Trainer(model, params, Letters(model), Settings(**settings))
        return {"loss at each step": np.array([trainer.step()[0] for _ in range(settings["steps"])], np.float32)}

    run.__name__ = f"{function.lower().replace('.', '_')}_in_a_run"
    ASSIGNMENT.check(function, "in a run of the package's trainer it leads to the same losses", runs)(run)


# --- AdamW ---------------------------------------------------------------------------------------------


def first_steps(rng):
    """One step, with nothing else on; then epsilon, decay, two steps, all of it, a gradient of what stays, 30 steps."""
    one = {"params": {"w": np.array([[1.0, 2.0]])}, "grads": [{"w": np.array([[0.5, -3.0]])}], "lr": 0.1}
    off = {"betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0}
    yield {**one, **off}
    yield {**one, **off, "eps": 0.5}
    yield {**one, **off, "weight_decay": 0.5}
    yield {**one, **off, "params": {"b": np.array([1.0, 2.0])}, "grads": [{"b": np.ones(2)}], "weight_decay": 0.5}
    yield {**one, **off, "grads": [{"w": np.array([[0.5, -3.0]])}, {"w": np.array([[1.0, 4.0]])}]}
    shapes = {"w": (2, 3), "b": (3,), "e": (2, 2, 2)}
    params, *grads = ({name: plain(rng, *shape) for name, shape in shapes.items()} for _ in range(5))
    yield {"params": params, "grads": grads, "lr": 0.2, "betas": (0.6, 0.8), "eps": 0.1, "weight_decay": 0.3}
    yield {**one, **off, "grads": [{"w": np.array([[0.5, -3.0]]), "frozen": np.ones(2)}]}
    many = [{"w": plain(rng, 3, 2)} for _ in range(30)]
    yield {"params": {"w": plain(rng, 3, 2)}, "grads": many, **off, "lr": 0.1, "weight_decay": 0.3}


def stepped(params, grads, lr, **settings):
    """Return an optimizer that has taken a step for each of `grads`, at `lr` and at half of it by turns."""
    optimizer = AdamW(params, **settings)
    for number, each in enumerate(grads):
        optimizer.step(each, lr / (1 + number % 2))
    return optimizer


@ASSIGNMENT.check("AdamW.step", "moves by lr * m / (sqrt(v) + eps), and decays by lr * weight_decay", first_steps)
def adamw_moves(params, grads, lr, **settings):
    return stepped(params, grads, lr, **settings).params


@ASSIGNMENT.check("AdamW.step", "mean and square are the running averages, and steps is their number", first_steps)
def adamw_memory(params, grads, lr, **settings):
    optimizer = stepped(params, grads, lr, **settings)
    return {"mean": optimizer.mean, "square": optimizer.square, "steps": optimizer.steps}


def steady(rng):
    """A gradient that stays as it is: small, large, of either sign."""
    for size in (1.0, -0.01, 100.0):
        yield {"gradient": np.array([size]), "lr": 0.1}


@ASSIGNMENT.check("AdamW.step", "while the gradient stays the same, every step is lr long, the first too", steady)
def adamw_steady(gradient, lr):
    p = np.zeros_like(gradient)
    optimizer, moves = AdamW({"b": p}, betas=(0.9, 0.99)), []
    for _ in range(4):
        before = optimizer.params["b"].copy()
        optimizer.step({"b": gradient}, lr)
        moves.append((optimizer.params["b"] - before)[0] / lr)
    return {"each move, as a multiple of lr": np.array(moves)}


def decays(rng):
    """Parameters without any gradient, as matrix and as bias; and who decides otherwise."""
    params = {"w": np.array([[1.0, -2.0]]), "b": np.array([1.0, -2.0])}
    yield {"params": params, "lr": 0.1, "weight_decay": 0.5, "only": None}
    yield {"params": params, "lr": 0.2, "weight_decay": 0.5, "only": None}
    yield {"params": params, "lr": 0.1, "weight_decay": 0.5, "only": "b"}


@ASSIGNMENT.check("AdamW.step", "with a gradient of 0, what self.decayed names shrinks by lr * weight_decay", decays)
def adamw_decays(params, lr, weight_decay, only):
    before = {name: array.copy() for name, array in params.items()}
    decayed = None if only is None else lambda name, array: name == only
    optimizer = AdamW(params, weight_decay=weight_decay, decayed=decayed)
    optimizer.step({name: np.zeros_like(array) for name, array in params.items()}, lr)
    return {f"what is left of {name}": optimizer.params[name] / before[name] for name in params}


@ASSIGNMENT.check("AdamW.step", "changes the arrays themselves: whoever holds one sees it move", first_steps)
def adamw_in_place(params, grads, lr, **settings):
    held = dict(params)
    moved = stepped(params, grads, lr, **settings).params
    return {f"what is held as {name}, less what it is now": held[name] - moved[name] for name in held}


in_a_run("AdamW.step")


# --- clip_by_global_norm -------------------------------------------------------------------------------


def long(rng):
    """One gradient; two; many, of several shapes; one that is hardly longer than the limit."""
    yield {"grads": {"w": np.array([3.0, 4.0])}, "limit": 1.0}
    yield {"grads": {"w": np.array([[3.0]]), "b": np.array([4.0])}, "limit": 2.0}
    yield {"grads": {"w": 4 * plain(rng, 2, 3), "b": plain(rng, 3), "e": plain(rng, 2, 1, 4)}, "limit": 1.5}
    for limit in (4.99, 4.9999):
        yield {"grads": {"w": np.array([3.0, 4.0])}, "limit": limit}


@ASSIGNMENT.check("clip_by_global_norm", "longer gradients than the limit are multiplied by limit / norm", long)
def clip_long(grads, limit):
    clip_by_global_norm(grads, limit)
    return grads


def any_length(rng):
    yield from long(rng)
    yield {"grads": {"w": np.array([3.0, 4.0])}, "limit": 10.0}
    yield {"grads": {"w": np.zeros(2)}, "limit": 1.0}


@ASSIGNMENT.check("clip_by_global_norm", "returns the joint length that they had before", any_length)
def clip_norm(grads, limit):
    norm = clip_by_global_norm(grads, limit)
    return float(norm) if isinstance(norm, np.floating) else norm


def short(rng):
    """Gradients shorter than the limit, hardly shorter, just as long, and 0."""
    yield {"grads": {"w": np.array([0.3, 0.4])}, "limit": 1.0}
    yield {"grads": {"w": np.array([[3.0]]), "b": np.array([4.0])}, "limit": 5.01}
    yield {"grads": {"w": np.array([[3.0]]), "b": np.array([4.0])}, "limit": 5.0}
    yield {"grads": {"w": np.zeros(2), "b": np.zeros(1)}, "limit": 1.0}


@ASSIGNMENT.check("clip_by_global_norm", "gradients that are short enough stay as they are", short)
def clip_short(grads, limit):
    before = {name: g.copy() for name, g in grads.items()}
    clip_by_global_norm(grads, limit)
    return {f"change of {name}": grads[name] - before[name] for name in grads}


@ASSIGNMENT.check("clip_by_global_norm", "the direction stays: every number is multiplied by the same factor", long)
def clip_direction(grads, limit):
    before = np.concatenate([g.copy().reshape(-1) for g in grads.values()])
    clip_by_global_norm(grads, limit)
    after = np.concatenate([g.reshape(-1) for g in grads.values()])
    factors = after[before != 0] / before[before != 0]
    return {"largest factor less the smallest": np.asarray(factors.max() - factors.min())}


@ASSIGNMENT.check("clip_by_global_norm", "changes the arrays themselves: whoever holds one sees it", long)
def clip_in_place(grads, limit):
    held = dict(grads)
    clip_by_global_norm(grads, limit)
    return {f"what is held as {name}, less what it is now": held[name] - grads[name] for name in held}


in_a_run("clip_by_global_norm")


# --- learning_rate -------------------------------------------------------------------------------------

RUN = {"peak": 1.0, "final": 0.25, "warmup": 4, "steps": 12}


def every_step(rng):
    """Each step of a short run, then steps of others."""
    for step in (0, 3, 4, 8, 12, 20):
        yield {"step": step, **RUN}
    for step in (0, 1, 2, 5):
        yield {"step": step, "peak": 3.0, "final": 0.0, "warmup": 0, "steps": 5}
    for step in range(0, 30, 3):
        yield {"step": step, "peak": 2.0, "final": 0.5, "warmup": 7, "steps": 25}


@ASSIGNMENT.check("learning_rate", "is on the line while step < warmup, then on half a cosine to final", every_step)
def rate(step, **run):
    return learning_rate(step, **run)


def schedules(rng):
    yield dict(RUN)
    yield {"peak": 2.0, "final": 0.5, "warmup": 10, "steps": 110}


@ASSIGNMENT.check("learning_rate", "the rise begins at peak / warmup, and its last step is at peak", schedules)
def rate_rises(**run):
    rates = [learning_rate(step, **run) for step in range(run["warmup"])]
    return {"the first, of peak / warmup": rates[0] * run["warmup"] / run["peak"], "the last of the rise": rates[-1]}


@ASSIGNMENT.check("learning_rate", "halfway from the end of the rise to `steps` it is halfway down", schedules)
def rate_halfway(**run):
    middle = (run["warmup"] + run["steps"]) // 2
    left = (learning_rate(middle, **run) - run["final"]) / (run["peak"] - run["final"])
    return {"of peak - final is left": float(left)}


@ASSIGNMENT.check("learning_rate", "never rises after the warm-up, and stays at final after the last step", schedules)
def rate_falls(**run):
    rates = [learning_rate(step, **run) for step in range(run["warmup"], 2 * run["steps"])]
    rises = max(after - before for before, after in itertools.pairwise(rates))
    return {"the largest rise": float(max(0.0, rises)), "the last of all": float(rates[-1])}


def without_warmup(rng):
    yield {"peak": 1.0, "final": 0.25, "warmup": 0, "steps": 4}


@ASSIGNMENT.check("learning_rate", "with no warm-up the first step is at peak", without_warmup)
def rate_without_warmup(**run):
    return {"the first": float(learning_rate(0, **run))}


in_a_run("learning_rate")


# --- train_step ----------------------------------------------------------------------------------------


class Plain:
    """The plainest optimizer, p -= lr * g, so that a step can be checked by hand; it keeps what it is told."""

    def __init__(self, params):
        self.params, self.rates = params, []

    def step(self, grads, lr):
        self.rates.append(lr)
        for name, p in self.params.items():
            p -= lr * grads[name]


def guessing(params):
    """Return loss_and_grads of a tiny model: its guess for an id is w[id] + b[0], its loss (guess - target)^2 / 2."""

    def loss_and_grads(ids, targets):
        counts = targets != IGNORED
        ids, w, b = ids[counts], params["w"], params["b"]
        off = (w[ids] + b[0] - targets[counts]).astype(w.dtype)
        d_w = np.zeros_like(w)
        np.add.at(d_w, ids, off / len(off))
        return float((off * off).mean() / 2), {"w": d_w, "b": off.mean(keepdims=True)}

    return loss_and_grads


def guesses(rng):
    """One batch within the limit; one beyond it; two of which one counts more; many, with some that do not count."""
    params = {"w": np.array([1.0, 2.0]), "b": np.zeros(1)}
    yield {"params": params, "batches": [(np.array([0]), np.array([3]))], "lr": 0.1, "limit": 100.0}
    yield {"params": params, "batches": [(np.array([0]), np.array([3]))], "lr": 0.1, "limit": 1.0}
    two = [(np.array([0, 0, 0]), np.array([4, 4, 4])), (np.array([1]), np.array([-6]))]
    yield {"params": params, "batches": two, "lr": 0.1, "limit": 100.0}
    yield {"params": params, "batches": two, "lr": 0.1, "limit": 0.5}
    targets = [rng.integers(-9, 9, (2, 4)) for _ in range(5)]
    targets[0][0] = targets[2][1, 1:] = IGNORED
    many = [(rng.integers(0, 5, t.shape), t) for t in targets]
    yield {"params": {"w": plain(rng, 5), "b": plain(rng, 1)}, "batches": many, "lr": 0.5, "limit": 1.5}


@ASSIGNMENT.check("train_step", "the parameters move by -lr * (the mean gradient, clipped), with p -= lr * g", guesses)
def step_moves(params, batches, lr, limit):
    train_step(guessing(params), Plain(params), batches, lr, limit)
    return params


@ASSIGNMENT.check("train_step", "returns the mean loss over all tokens that count, before the step", guesses)
def step_loss(params, batches, lr, limit):
    loss = train_step(guessing(params), Plain(params), batches, lr, limit)
    return float(loss) if isinstance(loss, np.floating) else loss


@ASSIGNMENT.check("train_step", "several batches make the step that they would make as one", guesses)
def step_in_parts(params, batches, lr, limit):
    found = []
    for parts in (batches, [tuple(np.concatenate([np.ravel(part[i]) for part in batches]) for i in (0, 1))]):
        moved = {name: array.copy() for name, array in params.items()}
        train_step(guessing(moved), Plain(moved), parts, lr, limit)
        found.append(moved)
    return {f"difference in {name}": found[0][name] - found[1][name] for name in params}


@ASSIGNMENT.check("train_step", "no step is longer than lr * limit", guesses)
def step_length(params, batches, lr, limit):
    before = {name: array.copy() for name, array in params.items()}
    train_step(guessing(params), Plain(params), batches, lr, limit)
    length = np.sqrt(sum(float(((params[name] - before[name]) ** 2).sum()) for name in params)) / lr
    return {"the step's length over lr, beyond the limit": np.array(max(0.0, length - limit), params["w"].dtype)}


@ASSIGNMENT.check("train_step", "the optimizer takes one step, at the rate lr", guesses)
def step_once(params, batches, lr, limit):
    optimizer = Plain(params)
    train_step(guessing(params), optimizer, batches, lr, limit)
    return {"the optimizer's steps, by their lr": [float(rate) for rate in optimizer.rates]}


@ASSIGNMENT.check("train_step", "what is not in optimizer.params stays, and does not count in the clipping", guesses)
def step_frozen(params, batches, lr, limit):
    before, found = params["b"].copy(), []
    for names in (("w", "b"), ("w",)):  # whether there is a gradient of b or not
        moving = {**params, "w": params["w"].copy()}
        gradient = guessing(moving)

        def some(ids, targets, gradient=gradient, names=names):
            loss, grads = gradient(ids, targets)
            return loss, {name: grads[name] for name in names}

        train_step(some, Plain({"w": moving["w"]}), batches, lr, limit)
        found.append(moving["w"])
    return {"change of w that the gradient of b makes": found[0] - found[1], "change of b": params["b"] - before}


def training_runs(rng):
    """A small model and the batches of three steps."""
    for sizes, parts in (({"n_layer": 1}, 1), ({}, 2)):
        batches = [[(ids(rng, 2, 4), ids(rng, 2, 4)) for _ in range(parts)] for _ in range(3)]
        batches[0][0][1][0, 1:] = IGNORED
        yield {"model": small_model(rng, **sizes), "batches": batches, "lr": 0.05}


@ASSIGNMENT.check("train_step", "three steps of a small GPT-2 with AdamW give the same losses", training_runs)
def step_in_a_model(model, batches, lr):
    optimizer = AdamW(model.params, eps=1e-3)

    def gradient(ids, targets):
        return loss_and_grads(model, ids, targets)

    losses = [train_step(gradient, optimizer, each, lr) for each in batches]
    return {"loss at each step": np.array(losses, model.lm_head.weight.dtype)}
