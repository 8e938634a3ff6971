"""A training run: every function of a8 and a9 is the student's, and a model learns a sentence by heart.

It has no file of its own: it is graded when everything is, and INCOMPLETE until all that it needs is written.
"""

from functools import partial

import numpy as np

from ...generate import generate
from ...model.config import Config
from ...train.adamw import AdamW, learning_rate
from ...train.loss import loss_and_grads
from ...train.trainer import initial_params
from ...weights import assemble
from ..definitions import Assignment, Check
from ..training import train_step
from . import a8_backward, a9_adamw

ASSIGNMENT = Assignment("training", "a training run, with every gradient and every step of it yours", {})
STEPS = 25


def sentences(rng):
    """What is to be learned; its words are all the tokens there are."""
    yield {"sentence": "I have learned this sentence from your gradients"}


def learn(sentence):
    """Train a small model on the sentence, and return what it says after the first word."""
    words = sentence.split()
    ids = np.arange(len(words))
    config = Config(vocab_size=len(words), n_positions=len(words), n_embd=8, n_layer=2, n_head=2)
    params = initial_params(config, np.random.default_rng(0))
    model, optimizer = assemble(config, params), AdamW(params, betas=(0.9, 0.99))
    for step in range(STEPS):
        lr = learning_rate(step, peak=0.05, final=0.005, warmup=5, steps=STEPS)
        train_step(partial(loss_and_grads, model), optimizer, [(ids[:-1], ids[1:])], lr)
    said = [words[0], *(words[i] for i in generate(model, ids[:1], len(words) - 1))]
    return " ".join(said)


ASSIGNMENT.checks.append(
    Check(
        "learns",
        f"a model that your code trains for {STEPS} steps says a sentence by heart",
        (*a8_backward.ASSIGNMENT.functions, *a9_adamw.ASSIGNMENT.functions),
        sentences,
        learn,
    )
)
