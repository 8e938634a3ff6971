"""The training loop: steps, evaluations, checkpoints. What a step does and how a run is saved: `trainer.py`."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..generate import generate
from ..model.ids import check_ids
from ..text.tokenizer import Tokenizer
from .corpus import TextData, read_texts
from .facts import FactsData
from .trainer import Data, Settings, Trainer


@dataclass(frozen=True)
class Progress:
    """How far a run is after a step."""

    step: int
    steps: int  # of the whole run
    loss: float  # of this step, in nats per token
    tokens_per_second: float  # since the run began or was resumed
    seconds_left: float
    notes: tuple[str, ...] | None  # lines that say what an evaluation found; None between evaluations


def run(
    trainer: Trainer,
    out: str | os.PathLike[str],
    *,
    sample: str | None = None,
    report: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> bool:
    """Train to the last step, saving into the directory `out`; return False if stopped early.

    sample : a prompt that is continued at every evaluation.
    report : is called with the `Progress` after every step.
    stop : is called after every step; when it returns True, the run is saved and ends.
    """
    s = trainer.settings
    if sample:
        check_ids(Tokenizer().encode(sample), trainer.config)
    if not trainer.step_number:
        trainer.save(out)  # so that a bad `out` fails now, not after hours
    began, tokens, first = time.monotonic(), 0, trainer.step_number
    stopped = False
    while trainer.step_number < s.steps and not stopped:
        loss, counted = trainer.step()
        tokens += counted
        n, spent, notes = trainer.step_number, time.monotonic() - began, None
        if n % s.eval_every == 0 or n == s.steps:
            notes = (*trainer.data.evaluate(trainer), *([_sample(trainer, sample)] if sample else ()))
        if report:
            report(Progress(n, s.steps, loss, tokens / spent, (s.steps - n) * spent / (n - first), notes))
        stopped = bool(stop and stop())
        if n % s.save_every == 0 and n < s.steps and not stopped:
            trainer.save(out)
    trainer.save(out)
    return trainer.step_number >= s.steps


def _sample(trainer: Trainer, prompt: str) -> str:
    tokenizer, model = Tokenizer(), trainer.whole_model()
    ids = tokenizer.encode(prompt)
    return json.dumps(prompt + tokenizer.decode(generate(model, ids, 20)), ensure_ascii=False)


def make_data(settings: Settings) -> Data:
    """Return the source of batches that `settings.source` describes."""
    source = settings.source
    if "recipe" in source:
        return FactsData(settings.context, settings.batch_size)
    return TextData(read_texts(source["texts"]), Tokenizer(), settings.context, settings.batch_size)
