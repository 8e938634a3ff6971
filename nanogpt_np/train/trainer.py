"""A training run: initialization, steps, and how it is saved and resumed.

The gradients are `loss.py`'s, the optimizer's steps `adamw.py`'s, the file of a run's state `state.py`'s. State and
model are written and read back before either is replaced, so a run that is killed at any moment leaves its last whole
checkpoint. The state holds everything that the next step depends on, so a resumed run continues exactly as if it had
not been interrupted. Read next: `loop.py`.
"""

import fnmatch
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..fast import fast
from ..model.config import Config
from ..model.gpt2 import GPT2
from ..model.trace import Array, Grads
from ..names.parameters import table
from ..text.tokenizer import Tokenizer
from ..weights.assembly import assemble
from ..weights.atomic import atomic_write
from ..weights.saving import staged
from .adamw import AdamW, clip_by_global_norm, learning_rate
from .loss import IGNORED, loss_and_grads, mean_loss
from .settings import Settings, shown
from .shared_rows import SharedRows
from .state import (
    STATE,
    VERSION,
    State,
    check_count,
    check_fields,
    check_rng,
    check_shapes,
    read_state,
    write_state,
)

DIVERGED = "the last checkpoint is still good; try a smaller --lr"


def initial_params(config: Config, rng: "np.random.Generator") -> dict[str, Array]:
    """Return GPT-2's initialization: normal, std 0.02; biases 0, gains 1.

    The projections that add to the residual stream, 2 n_layer in all, are divided by sqrt(2 n_layer),
    so that the stream does not grow with depth (Radford et al. 2019, section 2.3).
    """
    params: dict[str, Array] = {}
    for name, parameter in table(config).items():
        shape = parameter.shape(config)
        if name.endswith(".bias"):
            params[name] = np.zeros(shape, np.float32)
        elif "ln_" in name:
            params[name] = np.ones(shape, np.float32)
        else:
            size = 0.02 / math.sqrt(2 * config.n_layer) if name.endswith("c_proj.weight") else 0.02
            params[name] = size * rng.standard_normal(shape, dtype=np.float32)
    return params


class Data(Protocol):
    """A source of batches; `corpus.py` describes its attributes."""

    used: Array
    digest: str

    def batch(self, rng: "np.random.Generator") -> tuple[Array, Array]:
        """Return (ids, targets), each (B, T)."""

    def held_out(self) -> Iterable[tuple[Array, Array]]:
        """Yield (ids, targets) that are not learned from."""

    def evaluate(self, trainer: Any) -> list[str]:
        """Return lines that say what an evaluation found, beside the held-out loss."""


class Trainer:
    """A model in training: parameters that change in place, the optimizer's state and the random generator."""

    def __init__(self, config: Config, params: dict[str, Array], data: Data, settings: Settings):
        """Start from `params` (copied): those of `config`, or of its compact form where rows are shared."""
        self.settings, self.data, self.config = settings, data, config
        self.step_number = 0  # steps done, with those in which no token counted
        self.checksums: set[str] = set()  # of the states that this run has read or written
        self.rng = np.random.default_rng(settings.seed)
        _check_data(data, config)
        self.rows = SharedRows(data.used, config.vocab_size) if settings.share_unseen else None
        trained = self.rows.compact(config) if self.rows else config
        if trained.n_layer > len(params):  # before a table of that many rows is made
            raise ValueError(f"{len(params)} tensors are too few for n_layer {shown(trained.n_layer)}")
        shapes = {name: parameter.shape(trained) for name, parameter in table(trained).items()}
        check_shapes(params, shapes)
        self.params = {name: np.array(params[name], np.float32, order="C") for name in shapes}
        self.model = fast(assemble(trained, self.params))
        for pattern in settings.freeze:
            if not fnmatch.filter(self.params, pattern):
                raise ValueError(f"--freeze {pattern!r} matches no parameter, such as h.0.attn.c_attn.weight")
        moving = {n: a for n, a in self.params.items() if not any(fnmatch.fnmatch(n, p) for p in settings.freeze)}
        if not moving:
            raise ValueError("--freeze leaves no parameter to train")
        self.optimizer = AdamW(moving, betas=settings.betas, weight_decay=settings.weight_decay)

    @classmethod
    def from_scratch(cls, config: Config, data: Data, settings: Settings) -> "Trainer":
        """Start from GPT-2's initialization, drawn with the run's seed."""
        used = SharedRows(data.used, config.vocab_size).compact(config) if settings.share_unseen else config
        return cls(config, initial_params(used, np.random.default_rng(settings.seed)), data, settings)

    @property
    def offset(self) -> Array | None:
        """What `loss_and_grads` adds to the logits, or None."""
        return self.rows.offset if self.rows else None

    def encode(self, ids: Array) -> Array:
        """Ids of GPT-2 -> ids of the model that is trained."""
        return self.rows.encode(ids) if self.rows else ids

    def step(self) -> tuple[float, int]:
        """Take one step; return (mean loss in nats per token, tokens that counted).

        A step in which no token counts changes no parameter and returns (NaN, 0).
        """
        s = self.settings
        batches = [self.data.batch(self.rng) for _ in range(s.accumulate)]
        counts = [_counted(targets) for _, targets in batches]
        if not any(counts):
            self.step_number += 1
            return math.nan, 0
        total = 0.0
        grads: Grads = {}
        for (ids, targets), count in zip(batches, counts, strict=True):
            if not count:
                continue
            loss, new = loss_and_grads(self.model, self.encode(ids), self.encode(targets), offset=self.offset)
            share = count / sum(counts)
            total += share * loss
            if s.accumulate == 1:
                grads = new
            else:
                grads = {name: share * new[name] + (grads[name] if grads else 0) for name in self.optimizer.params}
        grads = {name: grads[name] for name in self.optimizer.params}
        norm = clip_by_global_norm(grads, s.clip)
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise ValueError(f"step {self.step_number + 1} diverged (loss {total}, gradient {norm}): {DIVERGED}")
        self.optimizer.step(grads, self.learning_rate(self.step_number))
        self.step_number += 1
        return total, sum(counts)

    def learning_rate(self, step: int) -> float:
        """Return the rate of the step after `step` steps; after the schedule it stays constant."""
        s = self.settings
        planned = s.steps if s.schedule_steps is None else s.schedule_steps
        if step >= planned and s.held_lr is not None:
            return s.held_lr
        return learning_rate(min(step, planned), peak=s.lr, final=s.final_lr, warmup=s.warmup, steps=planned)

    def extend(self, steps: int, lr: float | None = None) -> None:
        """Make `steps` the length of the whole run; what is done stays as it was.

        The learning rate keeps to the schedule of the run as it was planned, and to the schedule's last value after
        that. With `lr`, it is `lr` from the next step on. Raises ValueError unless `steps` is more than the steps done.
        """
        s, done = self.settings, self.step_number
        planned = s.steps if s.schedule_steps is None else s.schedule_steps
        longer = replace(s, steps=steps, schedule_steps=planned)
        if steps <= done:
            raise ValueError(f"{done} steps are done: the new number of steps must be more than that, not {steps}")
        if lr is not None and lr != s.held_lr:  # repeating a command after a kill changes nothing
            longer = replace(longer, schedule_steps=done, held_lr=lr)
        elif steps == planned and s.held_lr is None:
            longer = replace(longer, schedule_steps=None)
        self.settings = longer

    def held_out_loss(self) -> float | None:
        """Return the mean loss of held-out tokens that count, in nats, or None where there are none."""
        total, tokens = 0.0, 0
        for ids, targets in self.data.held_out():
            count = _counted(targets)
            if count:
                loss = mean_loss(self.model, self.encode(ids), self.encode(targets), offset=self.offset)
                total, tokens = total + count * loss, tokens + count
        return total / tokens if tokens else None

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer of the data, saved with the model; None for data that is not text."""
        return getattr(self.data, "tokenizer", None)

    def whole_model(self) -> GPT2:
        """Return the model with GPT-2's vocabulary."""
        if not self.rows:
            return self.model
        return assemble(*self.rows.expand(self.model.config, self.params))

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write state and model into `directory`; both are read back before the first of them is replaced.

        The state is replaced first. A run that is killed between the two leaves the model of the save before.
        Raises ValueError for arrays that are not finite, OSError that names a file that does not fit.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        tensors = self._tensors()
        for name, array in tensors.items():
            if not np.isfinite(array).all():
                raise ValueError(f"step {self.step_number} diverged ({name} is not finite): {DIVERGED}")
        about = {
            "version": VERSION,
            "steps": self.step_number,
            "updates": self.optimizer.steps,
            "settings": asdict(self.settings),
            "config": asdict(self.config),
            "rng": self.rng.bit_generator.state,
            "data": self.data.digest,
        }
        model, dtype = self.whole_model(), self.settings.dtype
        files = staged(model, directory, dtype, tokenizer=self.tokenizer)
        with files, atomic_write(directory / STATE) as path:
            self.checksums.add(write_state(path, tensors, about))

    def _tensors(self) -> dict[str, Array]:
        """Return the arrays that steps change, and the frozen parameters, under their names in the state."""
        averages = (("mean/", self.optimizer.mean), ("square/", self.optimizer.square))
        return {kind + n: a for kind, arrays in (("params/", self.params), *averages) for n, a in arrays.items()}

    @classmethod
    def resume(cls, directory: str | os.PathLike[str], make_data: Callable[[Settings], Data]) -> "Trainer":
        """Continue from the state in `directory`; ``make_data(settings)`` rebuilds its data.

        Raises ValueError if no state is valid, or if the data is not what the run began with.
        """
        state = read_state(directory)
        try:
            return cls._restored(state, make_data)
        except ValueError as error:
            raise ValueError(f"{directory} cannot be resumed: {error}") from None

    @classmethod
    def _restored(cls, state: State, make_data: Callable[[Settings], Data]) -> "Trainer":
        about, tensors = state.about, state.tensors
        check_fields("settings", about["settings"], {f.name for f in fields(Settings)})
        check_fields("config", about["config"], {f.name for f in fields(Config)})
        settings, config = Settings(**about["settings"]), Config(**about["config"])
        steps = check_count("steps", about["steps"], settings.steps)
        updates = check_count("updates", about["updates"], steps)
        rng = check_rng(about["rng"])
        data = make_data(settings)
        if about["data"] != data.digest:
            raise ValueError("it was trained on other data, and must continue with the same")
        params = {n.removeprefix("params/"): array for n, array in tensors.items() if n.startswith("params/")}
        trainer = cls(config, params, data, settings)
        own = trainer._tensors()
        check_shapes(tensors, {name: array.shape for name, array in own.items()})
        for name, array in own.items():
            array[...] = tensors[name]
        if any((array < 0).any() for array in trainer.optimizer.square.values()):
            raise ValueError("an average of squared gradients is below 0")
        trainer.step_number, trainer.optimizer.steps, trainer.checksums = steps, updates, {state.checksum}
        trainer.rng.bit_generator.state = rng
        return trainer


def _counted(targets: Array) -> int:
    return int(np.count_nonzero(np.asarray(targets) != IGNORED))


def _check_data(data: Data, config: Config) -> None:
    """Raise ValueError where batches would not fit the model; data of another kind may lack these attributes."""
    context, largest = getattr(data, "context", 1), np.max(getattr(data, "used", 0), initial=0)
    if context > config.n_positions:
        raise ValueError(f"context {context} is more than the model's {shown(config.n_positions)} positions")
    if largest >= config.vocab_size:
        raise ValueError(f"the text has token {largest}, but vocab_size is only {shown(config.vocab_size)}")
