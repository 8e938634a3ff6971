"""The training loop: steps, evaluations, checkpoints. What a step does and how a run is saved: `trainer.py`."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..generate import generate
from ..model.ids import check_ids
from ..text.tokenizer import Tokenizer
from .corpus import TextData, read_texts
from .facts import FactsData
from .folder import only_run
from .settings import Settings, shown
from .state import STATE, claimed_checksum
from .trainer import Data, Trainer

LONGEST_PATH = 4096  # characters of the name of a text: Linux's limit


@dataclass(frozen=True)
class Progress:
    """How far a run is after a step."""

    step: int
    steps: int  # of the whole run
    loss: float  # of this step, in nats per token; NaN if no token of it counted
    tokens_per_second: float  # that counted, since the run began or was resumed; 0 until the clock has moved
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
    stop : is called before every step and evaluation; when it returns True, the run is saved and ends.

    Raises ValueError if another run is training in `out`, or if the state there is not one of this run.
    """
    s, asked_to_stop = trainer.settings, stop or (lambda: False)
    if sample:
        check_ids(_tokenizer(trainer).encode(sample), trainer.config)
    with only_run(out):
        found = claimed_checksum(Path(out) / STATE)
        if found is not None and found not in trainer.checksums:
            raise ValueError(f"{out} holds the state of another run: resume that, or give another folder")
        # A bad `out` fails now, not after hours; and a killed run may have left an older model beside its state.
        trainer.save(out)
        n = first = saved = trainer.step_number
        began, tokens = time.perf_counter(), 0
        while n < s.steps and not asked_to_stop():
            loss, counted = trainer.step()
            n, tokens, notes = trainer.step_number, tokens + counted, None
            if n % s.save_every == 0 or n == s.steps:
                trainer.save(out)
                saved = n
            if n == s.steps or (n % s.eval_every == 0 and not asked_to_stop()):
                notes = (*trainer.data.evaluate(trainer), *([_sample(trainer, sample)] if sample else ()))
            if report:
                spent = max(0.0, time.perf_counter() - began)
                speed = tokens / spent if spent else 0.0
                report(Progress(n, s.steps, loss, speed, (s.steps - n) * spent / (n - first), notes))
        if saved != n:
            trainer.save(out)
    return n >= s.steps


def _sample(trainer: Trainer, prompt: str) -> str:
    tokenizer, model = _tokenizer(trainer), trainer.whole_model()
    new = generate(model, tokenizer.encode(prompt), 20, stop=tokenizer.stop)
    return json.dumps(prompt + tokenizer.decode(new), ensure_ascii=False)


def _tokenizer(trainer: Trainer) -> Tokenizer:
    return trainer.tokenizer or Tokenizer()


def make_data(settings: Settings, tokenizer: Tokenizer | None = None) -> Data:
    """Return the source of batches that `settings.source` describes; ValueError if it describes none.

    tokenizer : of the model that is trained further; GPT-2's by default.
    """
    source = settings.source
    if source == {"recipe": "facts"}:
        return FactsData(settings.context, settings.batch_size)
    texts = source.get("texts")
    named = isinstance(texts, list) and all(isinstance(t, str) and 0 < len(t) <= LONGEST_PATH for t in texts)
    if not (texts and named and source.keys() == {"texts"}):
        raise ValueError(
            f"its source must be texts or a recipe, not {shown(source)}: "
            "a run of other data is resumed from Python, with Trainer.resume"
        )
    return TextData(read_texts(texts), tokenizer or Tokenizer(), settings.context, settings.batch_size)
