"""Why this token, or why not: its rank after every sublayer, and its logit split part by part.

The split is exact: the residual stream is a sum, and with its scale held the final LayerNorm is linear, so a logit
is a sum of one amount for each embedding, head, MLP and bias. A logit alone means little (a constant added to all
changes no probability, and a part pushes all tokens at once): compare two, ``split(..., against=rival)``. The
amounts are direct effects, not what ablation would do: what a part does through later ones counts there.
Sources: nostalgebraist 2020, "interpreting GPT: the logit lens"; Elhage et al. 2021, "A Mathematical Framework for
Transformer Circuits". Read next: `lens_words.py`.
"""

import math
import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..generate.ranking import standing
from ..model.attention import softmax
from ..model.config import Config
from ..model.gpt2 import GPT2
from ..model.trace import Array
from ..names.wording import screen
from .recorder import Acts
from .recording import recorded
from .stored import Stored

PartName = tuple[str, str, int | None, int | None]  # name, kind, block, head
FINAL = ("ln_f.weight", "ln_f.bias")
SHOWN = 10  # parts on each side that a split prints
LAST_KINDS = {"MLPs": 1, "biases": 2}  # where the summary shows them: under the embeddings and the heads


@dataclass(frozen=True)
class Part:
    """What one component adds to a logit, or to the difference of two."""

    name: str  # "token embedding", "head 3.7" (block 3, head 7), "mlp 2", "bias of attn 2"
    kind: str  # "embeddings", "heads of block 3", "MLPs" or "biases"
    amount: float
    block: int | None = None
    head: int | None = None


@dataclass(frozen=True, repr=False)
class Split:
    """A logit, or the difference of two, as the sum of its parts; it prints as a table of them."""

    token: int
    against: int | None  # None: the parts are those of the token's logit itself
    position: int  # of the token that was read last, counted from the start of the text
    recorded: float  # what the model said
    parts: tuple[Part, ...]

    @property
    def total(self) -> float:
        """The sum of all parts."""
        return math.fsum(part.amount for part in self.parts)

    @property
    def remainder(self) -> float:
        """What the parts leave of the recorded number: float32 rounding, or what a patch put in their place."""
        return self.recorded - self.total

    @property
    def by_kind(self) -> dict[str, float]:
        """The same sum in fewer parts: ``{"embeddings", "heads of block 0" ..., "MLPs", "biases": amount}``."""
        amounts: dict[str, list[float]] = {}
        for part in sorted(self.parts, key=lambda part: LAST_KINDS.get(part.kind, 0)):
            amounts.setdefault(part.kind, []).append(part.amount)
        return {kind: math.fsum(of_kind) for kind, of_kind in amounts.items()}

    def __repr__(self) -> str:
        of = f"the logit of token {self.token}" + (f" less that of {self.against}" if self.against is not None else "")
        ranked = sorted(self.parts, key=lambda part: -part.amount)
        lines = [f"{part.amount:+9.3f}  {part.name}" for part in ranked]
        if len(lines) > 2 * SHOWN:
            rest = math.fsum(part.amount for part in ranked[SHOWN:-SHOWN])
            lines[SHOWN:-SHOWN] = [f"{rest:+9.3f}  the {len(lines) - 2 * SHOWN} parts between"]
        lines.append(f"{self.remainder:+9.3f}  remainder")
        return "\n".join([f"{self.recorded:+9.3f}  {of}, at position {self.position}:", *lines])

    @property
    def deciding(self) -> list[Part]:
        """The fewest parts, largest first, without whose amounts the difference would not have its sign."""
        side = math.copysign(1, self.recorded)
        left, found = abs(self.recorded), []
        for part in sorted(self.parts, key=lambda part: -side * part.amount):
            if left <= 0 or side * part.amount <= 0:
                break
            found.append(part)
            left -= side * part.amount
        return found


class Lens(list[dict[str, Any]]):
    """The rows of `logit_lens`: a list that prints as a table."""

    def __repr__(self) -> str:
        lines = [f"{'after':10}  {'rank':>6}  {'logit':>9}  {'probability':>11}  likeliest there"]
        for row in self:
            lines.append(f"{row['after']:10}  {row['rank']:6}  {row['logit']:9.4f}  {row['p']:11.4%}  id {row['best']}")
        return "\n".join(screen(lines))


def logit_lens(acts: Acts, model: GPT2, token: int, position: int = -1) -> Lens:
    """Return what would be said of `token` if the model stopped early: a row for each sublayer, in order.

    acts : the `Recorder` that traced one prompt through `model`.
    token : its id.
    position : which row of that pass; negative counts from the end.

    Each residual vector goes through the final LayerNorm, which measures that vector anew (the scale of the
    last one would shrink all earlier ones), and the LM head. A row holds the trace point that was read
    ("point"), what comes before it ("after": "embeddings", "attn 0", "mlp 0" ...), "rank" (1 is the
    likeliest; of equal logits the lower id comes first), "logit" and "p" of the token, and the id of the
    likeliest one ("best"). The last row is the model's own answer. Raises ValueError for a token or position
    out of range, a batch, or a recording that lacks what is needed.
    """
    token = _token_id(model, token, "token")
    rows = Lens()
    for after, point, logits in early_logits(acts, model, position):
        row = standing(logits, softmax(logits), token)
        rows.append({"point": point, "after": after, **row, "best": int(logits.argmax())})
    return rows


def early_logits(acts: Acts, model: GPT2, position: int = -1) -> Iterator[tuple[str, str, Array]]:
    """Yield (what comes before, trace point, logits (V,)) for each sublayer: `logit_lens` for any token at once."""
    stops = [("embeddings", "blocks.0.hook_resid_pre")]
    for i in range(model.config.n_layer):
        stops += [(f"attn {i}", f"blocks.{i}.hook_resid_mid"), (f"mlp {i}", f"blocks.{i}.hook_resid_post")]
    for after, point in stops:
        yield after, point, model.lm_head(model.ln_f(_row(acts, model, point, position)))


def split(acts: Acts, model: GPT2, token: int, position: int = -1, against: int | None = None) -> Split:
    """Return the `Split` of a token's logit, or of how far it is ahead of the token `against`.

    Arguments and errors are those of `logit_lens`; of a recorded generation only the last position has logits.
    Computed in float64. With x the final residual vector, g and b the gain and bias of the final LayerNorm and w
    the token's row of the LM head (or the difference of two rows), the logit is w @ ((x - mean(x)) / scale * g + b).
    Since (x - mean(x)) @ u = x @ (u - mean(u)), that is x @ direction + w @ b, and x is a sum of parts.
    """
    return splits(acts, model, [token], position, against)[0]


def splits(
    acts: Acts, model: GPT2, tokens: Iterable[int], position: int = -1, against: int | None = None
) -> list[Split]:
    """Return the `Split` of each of some tokens: what the parts wrote into the stream is worked out once for all."""
    stored = Stored(model)
    head, gain, bias = (stored[name] for name in ("wte.weight" if model.tied else "lm_head.weight", *FINAL))
    scale = _row(acts, model, "ln_final.hook_scale", position)
    logits = _logits(acts, model, position)
    place = int(_row(acts, model, "hook_positions", position))
    written, names = _written(acts, model, position), part_names(model.config)
    found = []
    for token in tokens:
        token = _token_id(model, token, "token")
        recorded = float(logits[token])
        w = head[token].astype(np.float64)  # (C,); float64 from here on, since it spreads
        if against is not None:
            against = _token_id(model, against, "against")
            recorded -= float(logits[against])
            w = w - head[against]
        u = w * gain
        amounts = [*(written @ ((u - u.mean()) / scale)), bias @ w]
        parts = [Part(name, kind, float(x), *of) for (name, kind, *of), x in zip(names, amounts, strict=True)]
        found.append(Split(token, against, place, recorded, tuple(parts)))
    return found


def part_names(config: Config) -> list[PartName]:
    """Return (name, kind, block, head) of all parts of a `Split`, in their order."""
    found: list[PartName] = [
        ("token embedding", "embeddings", None, None),
        ("position embedding", "embeddings", None, None),
    ]
    for i in range(config.n_layer):
        found += [(f"head {i}.{head}", f"heads of block {i}", i, head) for head in range(config.n_head)]
        found += [(f"bias of attn {i}", "biases", i, None), (f"mlp {i}", "MLPs", i, None)]
        found += [(f"bias of mlp {i}", "biases", i, None)]
    return [*found, ("bias of ln_f", "biases", None, None)]


def _written(acts: Acts, model: GPT2, position: int) -> Array:
    """Return what each part but the last of `part_names` wrote into the final residual vector: (parts - 1, C)."""
    written = [_row(acts, model, "hook_embed", position), _row(acts, model, "hook_pos_embed", position)]
    stored = Stored(model)
    for i in range(model.config.n_layer):
        attn, mlp = f"h.{i}.attn.c_proj.", f"h.{i}.mlp.c_proj."
        z = _row(acts, model, f"blocks.{i}.attn.hook_z", position).astype(np.float64)  # (H, D)
        weight = stored[attn + "weight"].reshape(*z.shape, -1)  # (H, D, C): each head has D of the rows
        written += [*(z[:, None, :] @ weight)[:, 0], stored[attn + "bias"]]
        post = _row(acts, model, f"blocks.{i}.mlp.hook_post", position).astype(np.float64)  # (F,)
        written += [post @ stored[mlp + "weight"], stored[mlp + "bias"]]
    return np.stack(written, dtype=np.float64)


def _token_id(model: GPT2, token: Any, name: str) -> int:
    V = model.config.vocab_size
    try:
        token = operator.index(token)
    except TypeError:
        raise ValueError(f"{name} must be a token's id, not {token!r}: Tokenizer().encode(...) gives ids") from None
    if not 0 <= token < V:
        raise ValueError(f"{name} {token} is out of range: this model knows ids 0 to {V - 1}")
    return token


def _row(acts: Acts, model: GPT2, name: str, position: int) -> Array:
    """Return what was recorded under `name` for one row of the pass: (C,) of (T, C)."""
    x = recorded(acts, name, model.config)
    if not isinstance(position, int | np.integer) or not -len(x) <= position < len(x):
        raise ValueError(f"position {position} is out of range: this pass has rows {-len(x)} to {len(x) - 1}")
    return x[position]


def _logits(acts: Acts, model: GPT2, position: int) -> Array:
    """Return the recorded logits (V,) of one row of the pass, of ``model(ids)`` or of generation."""
    if "hook_logits" in acts or "hook_next_logits" not in acts:
        return _row(acts, model, "hook_logits", position)
    T = len(recorded(acts, "ln_final.hook_scale", model.config))
    if position not in (-1, T - 1):
        raise ValueError(f"position {position} has no logits: generation scores the last row only, {T - 1} or -1")
    return recorded(acts, "hook_next_logits", model.config)
