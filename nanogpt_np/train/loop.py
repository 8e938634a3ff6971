"""The training loop: steps, evaluations, checkpoints. What a step does and how a run is saved: `trainer.py`."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

from ..generate import generate
from ..model.ids import check_ids
from ..text.tokenizer import END_OF_TEXT, Tokenizer
from .corpus import TextData, read_texts
from .facts import FactsData
from .folder import only_run
from .log import LOG, Log
from .progress import Plan, Progress
from .settings import Settings, shown
from .state import STATE, claimed_checksum
from .trainer import Data, Trainer

LONGEST_PATH = 4096  # characters of the name of a text: Linux's limit


def run(
    trainer: Trainer,
    out: str | os.PathLike[str],
    *,
    sample: str | None = None,
    report: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> bool:
    """Train to the last step, saving and keeping a log in the directory `out`; return False if stopped early.

    sample : a prompt that is continued at every evaluation.
    report : is called with the `Progress` after every step; `progress.lines()` prints it.
    stop : is called before every step and evaluation; when it returns True, the run is saved and ends.

    Raises ValueError if another run is training in `out`, or if the state or the log there is not one of this run.
    """
    s, asked_to_stop = trainer.settings, stop or (lambda: False)
    if sample:
        check_ids(_tokenizer(trainer).encode(sample, special=s.special), trainer.config)
    with only_run(out):
        found = claimed_checksum(Path(out) / STATE)
        if found is not None and found not in trainer.checksums:
            raise ValueError(f"{out} holds the state of another run: resume that, or give another folder")
        if found is None and os.path.lexists(Path(out) / LOG):
            raise ValueError(f"{out} holds {LOG} but no run that wrote it: give another folder")
        n = saved = trainer.step_number
        with Log(out, n) as log:
            # A bad `out` fails now, not after hours; and a killed run may have left an older model beside its state.
            trainer.save(out)
            plan, tokens = _plan(trainer), 0
            began = saved_at = time.perf_counter()
            while n < s.steps and not asked_to_stop():
                loss, counted = trainer.step()
                n, tokens, held_out, notes = trainer.step_number, tokens + counted, None, None
                if n == s.steps or (n % s.eval_every == 0 and not asked_to_stop()):
                    held_out = trainer.held_out_loss()
                    notes = _notes(trainer, held_out, sample)
                now = time.perf_counter()
                spent = max(0.0, now - began)
                speed = tokens / spent if spent else 0.0
                left, lr = (s.steps - n) * spent / (n - plan.first), trainer.learning_rate(n - 1)
                progress = Progress(n, s.steps, loss, lr, speed, spent, left, held_out, notes, plan)
                log.add(progress)  # before the state: it never lacks a step of a state that was saved
                if n == s.steps or (s.save_every and n % s.save_every == 0) or now - saved_at >= 60 * s.save_minutes:
                    log.sync()
                    trainer.save(out)
                    saved, saved_at = n, time.perf_counter()
                if report:
                    report(progress)
            if saved != n:
                log.sync()
                trainer.save(out)
    return n >= s.steps


def _plan(trainer: Trainer) -> Plan:
    trained = sum(array.size for array in trainer.optimizer.params.values())
    frozen = sum(array.size for array in trainer.params.values()) - trained
    return Plan(trainer.step_number, trainer.settings.steps, trained, frozen, getattr(trainer.data, "tokens", None))


def _notes(trainer: Trainer, held_out: float | None, sample: str | None) -> tuple[str, ...]:
    """Return the lines that say what an evaluation found."""
    loss = [] if held_out is None else [f"held-out loss {held_out:.4f} nats/token"]
    return (*loss, *trainer.data.evaluate(trainer), *([_sample(trainer, sample)] if sample else ()))


def _sample(trainer: Trainer, prompt: str) -> str:
    tokenizer, model = _tokenizer(trainer), trainer.whole_model()
    ids = tokenizer.encode(prompt, special=trainer.settings.special)
    new = generate(model, ids, 20, stop=tokenizer.stop)
    return json.dumps(prompt + tokenizer.decode(new), ensure_ascii=False)


def _tokenizer(trainer: Trainer) -> Tokenizer:
    return trainer.tokenizer or Tokenizer()


def make_data(
    settings: Settings, tokenizer: Tokenizer | None = None, *, report: Callable[[str], None] | None = None
) -> Data:
    """Return the source of batches that `settings.source` describes; ValueError if it describes none.

    tokenizer : of the model that is trained further; GPT-2's by default.
    report : is called with a line for anything unusual in the texts.
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
    found = read_texts(texts, report)
    ends = sum(text.count(END_OF_TEXT) for text in found)
    if report and ends and not settings.special:
        report(
            f"the text contains {END_OF_TEXT} {'once' if ends == 1 else f'{ends:,} times'}, read as ordinary text; "
            "with --special it separates texts"
        )
    tokenizer = tokenizer or Tokenizer()
    return TextData(found, tokenizer, settings.context, settings.batch_size, special=settings.special)
