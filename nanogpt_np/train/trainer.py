"""A training run: settings, initialization, steps, and how it is saved and resumed.

The gradients are `loss.py`'s, the optimizer's steps `adamw.py`'s. Each file of a run is replaced atomically, so a
run that is killed at any moment leaves its last whole checkpoint; ``training.safetensors`` holds everything that the
next step depends on, so a resumed run continues exactly as if it had not been interrupted. Read next: `loop.py`.
"""

import fnmatch
import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..fast import fast
from ..model.config import Config
from ..model.gpt2 import GPT2
from ..model.trace import Array, Grads
from ..names.parameters import table
from ..weights.assembly import assemble
from ..weights.atomic import atomic_write
from ..weights.saving import save
from .adamw import AdamW, clip_by_global_norm, learning_rate
from .loss import IGNORED, loss_and_grads, mean_loss
from .shared_rows import SharedRows

STATE, VERSION = "training.safetensors", 1


@dataclass
class Settings:
    """The settings of a run; written into its state and read back when it is resumed."""

    steps: int = 1000
    batch_size: int = 8  # windows in a batch
    context: int = 256  # tokens in a window
    accumulate: int = 1  # batches accumulated into one step
    lr: float = 6e-4
    final_lr: float = 6e-5
    warmup: int = 100  # steps
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0  # largest global norm of the gradients
    seed: int = 0
    freeze: tuple[str, ...] = ()  # patterns of names of parameters to freeze
    share_unseen: bool = False  # tokens that never occur share one row (shared_rows.py)
    eval_every: int = 100  # steps
    save_every: int = 500  # steps
    dtype: str = "float32"  # of model.safetensors
    source: dict[str, Any] = field(default_factory=dict)  # what the data was made from, to make it again

    def __post_init__(self) -> None:
        """Raise ValueError for invalid values."""
        for name in ("steps", "batch_size", "context", "accumulate", "eval_every", "save_every", "warmup", "seed"):
            value, least = getattr(self, name), 0 if name in ("warmup", "seed") else 1
            if value < least:
                raise ValueError(f"{name} must be {least} or more, not {value}")
        for name in ("lr", "final_lr", "weight_decay", "clip"):
            value, may_be_0 = getattr(self, name), name in ("final_lr", "weight_decay")
            if not math.isfinite(value) or value < 0 or (value == 0 and not may_be_0):
                raise ValueError(f"{name} must be a number {'>=' if may_be_0 else 'above'} 0, not {value}")
        if self.dtype not in ("float32", "float16"):
            raise ValueError(f"dtype must be float32 or float16, not {self.dtype}")


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
    """A source of batches: what `corpus.py` says that it has."""

    used: Array
    digest: str

    def batch(self, rng: "np.random.Generator") -> tuple[Array, Array]:
        """Return (ids, targets), each (B, T)."""

    def held_out(self) -> Iterable[tuple[Array, Array]]:
        """Yield (ids, targets) that are not learned from."""

    def evaluate(self, trainer: Any) -> list[str]:
        """Return lines that say what an evaluation found."""


class Trainer:
    """A model in training: parameters that change in place, the optimizer's state, the RNG state."""

    def __init__(self, config: Config, params: dict[str, Array], data: Data, settings: Settings):
        """Start from `params` (copied): those of `config`, or of its compact form where rows are shared."""
        self.settings, self.data, self.config = settings, data, config
        self.rng = np.random.default_rng(settings.seed)
        self.rows = SharedRows(data.used, config.vocab_size) if settings.share_unseen else None
        self.params = {name: np.array(array, np.float32, order="C") for name, array in params.items()}
        self.model = fast(assemble(self.rows.compact(config) if self.rows else config, self.params))
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
    def step_number(self) -> int:
        """Steps done."""
        return self.optimizer.steps

    @property
    def offset(self) -> Array | None:
        """What `loss_and_grads` adds to the logits, or None."""
        return self.rows.offset if self.rows else None

    def encode(self, ids: Array) -> Array:
        """Ids of GPT-2 -> ids of the model that is trained."""
        return self.rows.encode(ids) if self.rows else ids

    def step(self) -> tuple[float, int]:
        """Take one step; return (mean loss in nats per token, tokens that counted)."""
        s = self.settings
        batches = [self.data.batch(self.rng) for _ in range(s.accumulate)]
        counts = [int((targets != IGNORED).sum()) for _, targets in batches]
        total = 0.0
        grads: Grads = {}
        for (ids, targets), count in zip(batches, counts, strict=True):
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
            raise ValueError(
                f"step {self.step_number + 1} diverged (loss {total}, gradient {norm}): "
                "the last checkpoint is still good; try a smaller --lr"
            )
        lr = learning_rate(self.step_number, peak=s.lr, final=s.final_lr, warmup=s.warmup, steps=s.steps)
        self.optimizer.step(grads, lr)
        return total, sum(counts)

    def held_out_loss(self) -> float | None:
        """Return the mean loss on held-out text in nats per token, or None where there is none."""
        losses, tokens = [], []
        for ids, targets in self.data.held_out():
            losses.append(mean_loss(self.model, self.encode(ids), self.encode(targets), offset=self.offset))
            tokens.append(targets.size)
        return float(np.average(losses, weights=tokens)) if losses else None

    def whole_model(self) -> GPT2:
        """Return the model with GPT-2's vocabulary."""
        if not self.rows:
            return self.model
        return assemble(*self.rows.expand(self.model.config, self.params))

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write state and model into `directory`, each atomically."""
        from safetensors.numpy import save_file

        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Array] = {f"params/{name}": a for name, a in self.params.items()}
        tensors |= {f"mean/{name}": a for name, a in self.optimizer.mean.items()}
        tensors |= {f"square/{name}": a for name, a in self.optimizer.square.items()}
        about = {
            "version": VERSION,
            "steps": self.step_number,
            "settings": asdict(self.settings),
            "config": asdict(self.config),
            "rng": self.rng.bit_generator.state,
            "data": self.data.digest,
        }
        with atomic_write(directory / STATE) as path:
            save_file(tensors, path, metadata={"nanogpt_np": json.dumps(about)})
        save(self.whole_model(), directory, dtype=self.settings.dtype)

    @classmethod
    def resume(cls, directory: str | os.PathLike[str], make_data: Callable[[Settings], Data]) -> "Trainer":
        """Continue from the state in `directory`; ``make_data(settings)`` rebuilds its data.

        Raises ValueError if no state is valid, or if the data is not what the run began with.
        """
        tensors, about = read_state(directory)
        try:
            settings, config = Settings(**about["settings"]), Config(**about["config"])
            data = make_data(settings)
            if about["data"] != data.digest:
                raise ValueError("it was trained on other data, and must continue with the same")
            params = {n.removeprefix("params/"): a for n, a in tensors.items() if n.startswith("params/")}
            trainer = cls(config, params, data, settings)
            for prefix, averages in (("mean/", trainer.optimizer.mean), ("square/", trainer.optimizer.square)):
                for name in averages:
                    averages[name][...] = tensors[prefix + name]
            trainer.optimizer.steps = about["steps"]
            trainer.rng.bit_generator.state = about["rng"]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{directory} cannot be resumed: {error}") from None
        return trainer


def read_state(directory: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return (tensors, about) of a run's state; ValueError if there is none or it is not valid."""
    from safetensors import SafetensorError, safe_open

    path = Path(directory) / STATE
    if not path.is_file():
        raise ValueError(f"{directory} holds no training run: there is no {STATE}")
    try:
        with safe_open(path, framework="np") as file:
            about = json.loads((file.metadata() or {})["nanogpt_np"])
            if about["version"] != VERSION:
                raise ValueError(f"version {about['version']}, this package reads {VERSION}")
            return {name: file.get_tensor(name) for name in file.keys()}, about  # noqa: SIM118 (not a dict)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not the state of a training run: {error}") from None
