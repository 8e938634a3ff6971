"""GPT-2's hyperparameters, under the names that config.json gives them.

The published sizes (`names/sizes.py`) differ in three numbers only. The rest of the architecture is the
same, so this one dataclass describes them all. Read next: `trace.py`, then the layers, `linear.py` first.
"""

import math
import reprlib
from dataclasses import asdict, dataclass, fields
from typing import Any

REQUIRED = ("vocab_size", "n_positions", "n_embd", "n_layer", "n_head")
LARGEST = 2**31 - 1  # of any size
MOST_LAYERS = 10_000
MOST_ENDS = 64  # ids that end a text
# The names that config.json has for one formula; they differ in rounding only.
TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate")
NOT_PLAIN = {  # fields of config.json that make another model of it
    "add_cross_attention": "a decoder that reads an encoder too",
    "quantization_config": "a quantized model",
}
OTHER_ACTIVATIONS = {  # what those are that others use most
    "gelu": "the exact GELU, with erf",
    "gelu_python": "the exact GELU, with erf",
    "relu": "ReLU",
    "relu2": "the square of ReLU",
    "silu": "SiLU",
    "swish": "SiLU",
    "tanh": "a plain tanh",
}


@dataclass(frozen=True)
class Config:
    """The numbers that fix every shape of a GPT-2, and the few that change its arithmetic.

    The letters name the same sizes in every file of this package.
    Defaults are those of gpt2 (124M).
    """

    vocab_size: int = 50257  # V: vocabulary size
    n_positions: int = 1024  # longest context, in tokens
    n_embd: int = 768  # C: width of the residual stream
    n_layer: int = 12  # blocks
    n_head: int = 12  # H: attention heads in a block
    n_inner: int | None = None  # F: width of the MLP; None means 4 C
    layer_norm_epsilon: float = 1e-5
    activation_function: str = "gelu_new"
    tie_word_embeddings: bool = True  # the LM head is the token embedding
    scale_attn_weights: bool = True  # divide attention scores by sqrt(D)
    scale_attn_by_inverse_layer_idx: bool = False  # and by (index of the block + 1)
    eos_token_ids: tuple[int, ...] = (50256,)  # end a text: <|endoftext|>; config.json calls them eos_token_id

    def __post_init__(self) -> None:
        """Raise ValueError for values that no GPT-2 can have."""
        for name in (*REQUIRED, "n_inner"):
            value = getattr(self, name)
            if name == "n_inner" and value is None:
                continue
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number above 0, not {_shown(value)}")
            most = MOST_LAYERS if name == "n_layer" else LARGEST
            if value > most:
                raise ValueError(f"{name} must be at most {most}, not {_shown(value)}")
        for field in fields(self):
            if field.type is bool and type(getattr(self, field.name)) is not bool:
                value = getattr(self, field.name)
                raise ValueError(f"{field.name} must be true or false, not {_shown(value)}")
        eps = self.layer_norm_epsilon
        if type(eps) not in (int, float) or not 0 < eps <= 1:  # never true of NaN; no int is too large to compare
            raise ValueError(f"layer_norm_epsilon must be a number above 0 and at most 1, not {_shown(eps)}")
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}: every head has n_embd / n_head columns"
            )
        if self.activation_function not in TANH_GELU:
            name = self.activation_function
            what = f" ({OTHER_ACTIVATIONS[name]})" if isinstance(name, str) and name in OTHER_ACTIVATIONS else ""
            raise ValueError(
                f"activation_function {_shown(name)}{what} is not supported: "
                "GPT-2 was trained with 'gelu_new' (the tanh form of GELU); use that"
            )
        if isinstance(self.eos_token_ids, list):  # as JSON brings them
            object.__setattr__(self, "eos_token_ids", tuple(self.eos_token_ids))
        ends = self.eos_token_ids
        if not isinstance(ends, tuple) or not all(type(i) is int and 0 <= i <= LARGEST for i in ends):
            raise ValueError(f"eos_token_id must be a token id, a list of them, or null, not {_shown(ends)}")
        if len(ends) > MOST_ENDS:
            raise ValueError(f"eos_token_id must list at most {MOST_ENDS} ids, not {len(ends):,}")

    @property
    def head_width(self) -> int:
        """D, the width of each head: 64 in every published size."""
        return self.n_embd // self.n_head

    @property
    def mlp_width(self) -> int:
        """F, the width between the two matrices of the MLP."""
        return 4 * self.n_embd if self.n_inner is None else self.n_inner

    @property
    def sizes(self) -> dict[str, int]:
        """The letters of this package: ``{"C": 768, "H": 12, "D": 64, "F": 3072, "V": 50257}``."""
        return {
            "C": self.n_embd,
            "H": self.n_head,
            "D": self.head_width,
            "F": self.mlp_width,
            "V": self.vocab_size,
            "n_positions": self.n_positions,
        }

    def attention_scale(self, layer: int) -> float:
        """Return the factor on the dot products of queries and keys in block `layer`."""
        scale = 1 / math.sqrt(self.head_width) if self.scale_attn_weights else 1.0
        return scale / (layer + 1) if self.scale_attn_by_inverse_layer_idx else scale

    @classmethod
    def from_dict(cls, values: Any) -> "Config":
        """Build a Config from the contents of a config.json; fields that change nothing are ignored.

        Raises ValueError if the file describes something other than a GPT-2.
        """
        if not isinstance(values, dict):
            raise ValueError("config.json must hold a JSON object")
        if values.get("model_type", "gpt2") != "gpt2":
            raise ValueError(f"model_type {_shown(values['model_type'])} is not 'gpt2', the only one read")
        for name, what in NOT_PLAIN.items():
            if values.get(name):
                raise ValueError(f"{name} is set, which makes it {what}: only plain GPT-2 checkpoints are supported")
        # The oldest files call it n_ctx; if both are there, transformers reads n_positions.
        if "n_positions" not in values and "n_ctx" in values:
            values = {**values, "n_positions": values["n_ctx"]}
        missing = [name for name in REQUIRED if name not in values]
        if missing:
            raise ValueError(f"config.json has no {missing[0]}")
        if "eos_token_id" in values:
            values = {**values, "eos_token_ids": token_ids(values["eos_token_id"])}
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of a config.json that transformers reads as the same model."""
        values = {
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "bos_token_id": 50256,
            "eos_token_id": None,
            **asdict(self),
        }
        ends = values.pop("eos_token_ids")
        return values | {"eos_token_id": ends[0] if len(ends) == 1 else [*ends] or None}


def token_ids(value: Any) -> Any:
    """Return the ids that an ``eos_token_id`` means: a list, one id or null; `Config` checks them."""
    return () if value is None else (value,) if type(value) is int else value


class _Shown(reprlib.Repr):
    """Bounded `repr`, for values in messages: a forged file may hold a megabyte, or nesting without end."""

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if abs(x) < 10**30 else f"a number of about {int(x.bit_length() * math.log10(2)) + 1} digits"


_repr = _Shown()
_repr.maxstring = _repr.maxother = 60
_shown = _repr.repr
