"""Every trace point of GPT-2, in the order they happen: the contract between the model and its watchers.

This one table is where a name, a shape or an equation of the trace is defined; the command line,
the documents and the tests are made from it. The names are TransformerLens's (HookedTransformer,
versions 1 to 3); the points that it has no name for are marked `extra` and follow its style.
Three things to know: `hook_normalized` is before gain and bias; `hook_attn_scores` is after the scale
(1/sqrt(D), unless config.json changes it) and the causal mask; there is no batch axis unless the ids
have one, and then it comes first.
"""

from dataclasses import dataclass, replace

from .parameters import axis_size


@dataclass(frozen=True)
class Point:
    """One tensor that the model announces, or the same one of every block where the name holds ``{i}``."""

    name: str
    axes: str  # letters: T new tokens, S tokens so far, C, H, D, F, V; "" is a single number
    equation: str  # with the last parts of the names above it
    weights: tuple[str, ...] = ()  # checkpoint names of what it reads
    extra: bool = False  # True where TransformerLens has no such name

    def shape(self, config, T, S=None):
        """Its shape for `T` new tokens when there are `S` tokens in all (without a cache, S = T)."""
        sizes = {**config.sizes, "T": T, "S": T if S is None else S}
        return tuple(axis_size(axis, sizes) for axis in self.axes.split())


def _norm(prefix, weights, reads):
    weight, bias = weights + ".weight", weights + ".bias"
    return (
        Point(prefix + "hook_scale", "T 1", f"sqrt(variance({reads}) + eps)"),
        Point(prefix + "hook_normalized", "T C", f"({reads} - mean({reads})) / scale"),
        Point(prefix + "hook_output", "T C", "normalized * weight + bias", (weight, bias), extra=True),
    )


START = (
    Point("hook_tokens", "T", "the ids of the prompt", extra=True),
    Point("hook_embed", "T C", "rows of wte at tokens", ("wte.weight",)),
    Point("hook_pos_embed", "T C", "rows of wpe at positions", ("wpe.weight",)),
)
BLOCK = (
    Point("blocks.{i}.hook_resid_pre", "T C", "embed + pos_embed, or resid_post of the block before"),
    *_norm("blocks.{i}.ln1.", "h.{i}.ln_1", "resid_pre"),
    Point(
        "blocks.{i}.attn.hook_qkv",
        "T 3C",
        "ln1.output @ weight + bias",
        ("h.{i}.attn.c_attn.weight", "h.{i}.attn.c_attn.bias"),
        extra=True,
    ),
    Point("blocks.{i}.attn.hook_q", "T H D", "columns 0 to C of qkv, D for each of H heads"),
    Point("blocks.{i}.attn.hook_k", "T H D", "columns C to 2C of qkv"),
    Point("blocks.{i}.attn.hook_v", "T H D", "columns 2C to 3C of qkv"),
    Point(
        "blocks.{i}.attn.hook_attn_scores",
        "H T S",
        "q @ k.T * scale in each head; -inf for later tokens",
    ),
    Point("blocks.{i}.attn.hook_pattern", "H T S", "softmax of each row of attn_scores"),
    Point("blocks.{i}.attn.hook_z", "T H D", "pattern @ v in each head"),
    Point("blocks.{i}.attn.hook_merged", "T C", "z with its heads side by side", extra=True),
    Point(
        "blocks.{i}.hook_attn_out",
        "T C",
        "merged @ weight + bias",
        ("h.{i}.attn.c_proj.weight", "h.{i}.attn.c_proj.bias"),
    ),
    Point("blocks.{i}.hook_resid_mid", "T C", "resid_pre + attn_out"),
    *_norm("blocks.{i}.ln2.", "h.{i}.ln_2", "resid_mid"),
    Point(
        "blocks.{i}.mlp.hook_pre",
        "T F",
        "ln2.output @ weight + bias",
        ("h.{i}.mlp.c_fc.weight", "h.{i}.mlp.c_fc.bias"),
    ),
    Point("blocks.{i}.mlp.hook_post", "T F", "gelu(pre)"),
    Point(
        "blocks.{i}.hook_mlp_out",
        "T C",
        "post @ weight + bias",
        ("h.{i}.mlp.c_proj.weight", "h.{i}.mlp.c_proj.bias"),
    ),
    Point("blocks.{i}.hook_resid_post", "T C", "resid_mid + mlp_out"),
)
FINAL = _norm("ln_final.", "ln_f", "resid_post of the last block")
LOGITS = (Point("hook_logits", "T V", "ln_final.output @ weight.T", ("lm_head.weight",), extra=True),)
# Generation wants what follows the last token only, so it scores that one row.
NEXT_TOKEN = (
    Point("hook_last_row", "C", "last row of ln_final.output", extra=True),
    Point("hook_next_logits", "V", "weight @ last_row", ("lm_head.weight",), extra=True),
    Point("hook_probabilities", "V", "softmax(next_logits), to look at", extra=True),
    Point("hook_next_token", "", "the likeliest of next_logits, or one drawn by them", extra=True),
)


def table(config, end=LOGITS):
    """Return ``{name: Point}`` for a pass through a model, in the order of announcement.

    end : `LOGITS` for ``model(ids)``, `NEXT_TOKEN` for a step of generation.
    """
    rows = [*START, *(_in_block(p, i) for i in range(config.n_layer) for p in BLOCK), *FINAL, *end]
    if config.tie_word_embeddings:
        rows = [replace(p, weights=("wte.weight",)) if p.weights == ("lm_head.weight",) else p for p in rows]
    return {p.name: p for p in rows}


def _in_block(point, i):
    return replace(point, name=point.name.format(i=i), weights=tuple(w.format(i=i) for w in point.weights))
