"""Every activation of GPT-2, in the order they happen: the contract between the model and its watchers.

This one table is where a name, a shape or an equation of the trace is defined; the command line,
the documents and the tests are made from it. The names are TransformerLens's (HookedTransformer,
versions 1 to 3); the points that it has no name for are marked `extra` and follow its style.
Three things to know: `hook_normalized` is before gain and bias; `hook_attn_scores` is after the scale
(1/sqrt(D), unless config.json changes it) and the causal mask; there is no batch axis unless the ids
have one, and then it comes first. Read next: `points.py`, the points of one model and each by its name.
"""

import re
from dataclasses import dataclass

from .parameters import axis_size

BLOCK_NUMBER = re.compile(r"blocks\.(0|[1-9]\d*)\.")
AXIS_NAMES = {  # what an index along the axis counts; T is "query" beside S
    "T": "position",
    "S": "key",
    "H": "head",
    "C": "column",
    "3C": "column",
    "D": "column",
    "F": "neuron",
    "V": "token",
    "1": "one",
}


@dataclass(frozen=True)
class Point:
    """One tensor that the model announces, or the same one of every block where the name holds ``{i}``."""

    name: str
    axes: str  # letters: T new tokens, S tokens so far, C, H, D, F, V; "" is a single number
    equation: str  # with the last parts of the names above it
    shapes: str  # the equation with the axes of what it reads in brackets: "[T C] @ [C 3C] + [3C]"
    notice: str  # what to look at, in one sentence
    where: str  # module and definition that announce it: "attention.Attention"
    reads: tuple[str, ...] = ()  # trace points that it is made of
    weights: tuple[str, ...] = ()  # checkpoint names of what it reads
    product: str = ""  # axes of its matrix product, an addition and a multiplication for each index; "" has none
    view: bool = False  # True where no number is new: the same memory as what it reads, cut or named otherwise
    extra: bool = False  # True where TransformerLens has no such name

    def shape(self, config, T, S=None):
        """Its shape for `T` new tokens when there are `S` tokens in all (without a cache, S = T)."""
        return _sizes(self.axes, config, T, S)

    def shapes_of(self, config, T, S=None, unknown=()):
        """Return `shapes` with the sizes of a run: ``[5, 768] @ [768, 2304] + [2304]``.

        unknown : letters of sizes that nobody knows; they stay letters, and scale and eps stay words.
        """
        i = block_of(self.name)
        scale = "" if i is None else f"{config.attention_scale(i):.6g}"
        scale, eps = ("scale", "eps") if unknown else (scale, f"{config.layer_norm_epsilon:g}")
        filled = self.shapes.replace("{scale}", scale).replace("{eps}", eps)
        return re.sub(r"\[([^\]]*)\]", lambda axes: f"[{', '.join(_shown(axes[1], config, T, S, unknown))}]", filled)

    def flops(self, config, T, S=None):
        """Additions and multiplications of its matrix product: 2 for each pair of numbers that meet."""
        count = 2 if self.product else 0
        for size in _sizes(self.product, config, T, S):
            count *= size
        return count

    @property
    def axis_names(self):
        """What an index counts, axis by axis: ``("head", "query", "key")`` for a pattern."""
        letters = self.axes.split()
        return tuple("query" if a == "T" and "S" in letters else AXIS_NAMES[a] for a in letters)


def block_of(name):
    """Return the number of the block in a name, or None where it belongs to none."""
    found = BLOCK_NUMBER.match(name)
    return int(found[1]) if found else None


def _sizes(axes, config, T, S):
    sizes = {**config.sizes, "T": T, "S": T if S is None else S}
    return tuple(axis_size(axis, sizes) for axis in axes.split())


def _shown(axes, config, T, S, unknown):
    sizes = zip(axes.split(), _sizes(axes, config, T, S), strict=True)
    return [axis if axis.lstrip("0123456789") in unknown else str(size) for axis, size in sizes]


def _norm(prefix, weights, reads, says):
    weight, bias = weights + ".weight", weights + ".bias"
    short = reads.rpartition(".")[2].removeprefix("hook_")
    of_last = " of the last block" if prefix == "ln_final." else ""
    return (
        Point(
            prefix + "hook_scale",
            "T 1",
            f"sqrt(variance({short}{of_last}) + eps)",
            "sqrt(variance([T C]) + {eps})",
            "One number per token: how far its vector strays from its own mean; eps stands inside the root.",
            "layernorm.LayerNorm",
            reads=(reads,),
        ),
        Point(
            prefix + "hook_normalized",
            "T C",
            f"({short} - mean({short})) / scale",
            "([T C] - [T 1]) / [T 1]",
            "Every row has mean 0 and variance 1 now (less where eps counts): size is gone, direction stays.",
            "layernorm.LayerNorm",
            reads=(reads, prefix + "hook_scale"),
        ),
        Point(
            prefix + "hook_output",
            "T C",
            "normalized * weight + bias",
            "[T C] * [C] + [C]",
            says,
            "layernorm.LayerNorm",
            reads=(prefix + "hook_normalized",),
            weights=(weight, bias),
            extra=True,
        ),
    )


START = (
    Point(
        "hook_tokens",
        "T",
        "the ids of the prompt",
        "[T]",
        "Names of pieces of text: the model never calculates with them, it looks their rows up.",
        "model.GPT2",
        extra=True,
    ),
    Point(
        "hook_positions",
        "T",
        "0, 1, 2 ...; after a cache, from its length on",
        "[T]",
        "Where each token stands, as a number; the causal mask is the other place where order counts.",
        "embedding.Embedding",
        extra=True,
    ),
    Point(
        "hook_embed",
        "T C",
        "rows of wte at tokens",
        "rows of [V C] at [T]",
        "Looked up, not computed: the same token has the same row in every prompt.",
        "embedding.Embedding",
        reads=("hook_tokens",),
        weights=("wte.weight",),
    ),
    Point(
        "hook_pos_embed",
        "T C",
        "rows of wpe at positions",
        "rows of [n_positions C] at [T]",
        "The same for every prompt: row t belongs to place t, whatever stands there.",
        "embedding.Embedding",
        reads=("hook_positions",),
        weights=("wpe.weight",),
    ),
)
BLOCK = (
    Point(
        "blocks.{i}.hook_resid_pre",
        "T C",
        "embed + pos_embed, or resid_post of the block before",
        "[T C]",
        "The residual stream as it comes in; the blocks only ever add to it.",
        "model.Block",
        reads=("blocks.{before}.hook_resid_post",),
        view=True,
    ),
    *_norm(
        "blocks.{i}.ln1.",
        "h.{i}.ln_1",
        "blocks.{i}.hook_resid_pre",
        "What attention reads; the stream itself goes on unchanged.",
    ),
    Point(
        "blocks.{i}.attn.hook_qkv",
        "T 3C",
        "ln1.output @ weight + bias",
        "[T C] @ [C 3C] + [3C]",
        "One product makes queries, keys and values of all heads at once, side by side.",
        "attention.Attention",
        reads=("blocks.{i}.ln1.hook_output",),
        weights=("h.{i}.attn.c_attn.weight", "h.{i}.attn.c_attn.bias"),
        product="T C 3C",
        extra=True,
    ),
    Point(
        "blocks.{i}.attn.hook_q",
        "T H D",
        "columns 0 to C of qkv, D for each of H heads",
        "[T 3C] -> [T C] -> [T H D]",
        "What each token asks for, in each head; cutting moves no number.",
        "attention.Attention",
        reads=("blocks.{i}.attn.hook_qkv",),
        view=True,
    ),
    Point(
        "blocks.{i}.attn.hook_k",
        "T H D",
        "columns C to 2C of qkv",
        "[T 3C] -> [T C] -> [T H D]",
        "What each token offers to be found by; a KV cache keeps it.",
        "attention.Attention",
        reads=("blocks.{i}.attn.hook_qkv",),
        view=True,
    ),
    Point(
        "blocks.{i}.attn.hook_v",
        "T H D",
        "columns 2C to 3C of qkv",
        "[T 3C] -> [T C] -> [T H D]",
        "What each token hands over when it is found; a KV cache keeps it.",
        "attention.Attention",
        reads=("blocks.{i}.attn.hook_qkv",),
        view=True,
    ),
    Point(
        "blocks.{i}.attn.hook_attn_scores",
        "H T S",
        "q @ k.T * scale in each head; -inf for later tokens",
        "[H T D] @ [H D S] * {scale}",
        "One table per head, a row for each token that asks; what comes later is -inf: nobody sees the future.",
        "attention.attend",
        reads=("blocks.{i}.attn.hook_q", "blocks.{i}.attn.hook_k"),
        product="H T D S",
    ),
    Point(
        "blocks.{i}.attn.hook_pattern",
        "H T S",
        "softmax of each row of attn_scores",
        "softmax([H T S])",
        "Each row sums to 1: how a token shares out its attention. Of a whole prompt the first row is 1, 0, 0 ...",
        "attention.attend",
        reads=("blocks.{i}.attn.hook_attn_scores",),
    ),
    Point(
        "blocks.{i}.attn.hook_z",
        "T H D",
        "pattern @ v in each head",
        "[H T S] @ [H S D] -> [T H D]",
        "In each head, the average of the values that the token looked at: here one token's content reaches another.",
        "attention.Attention",
        reads=("blocks.{i}.attn.hook_pattern", "blocks.{i}.attn.hook_v"),
        product="H T S D",
    ),
    Point(
        "blocks.{i}.attn.hook_merged",
        "T C",
        "z with its heads side by side",
        "[T H D] -> [T C]",
        "H times D columns are C columns again; no number changes.",
        "attention.Attention",
        reads=("blocks.{i}.attn.hook_z",),
        extra=True,
    ),
    Point(
        "blocks.{i}.hook_attn_out",
        "T C",
        "merged @ weight + bias",
        "[T C] @ [C C] + [C]",
        "What the heads found, turned into what the stream understands: a sum of one part per head, and the bias.",
        "model.Block",
        reads=("blocks.{i}.attn.hook_merged",),
        weights=("h.{i}.attn.c_proj.weight", "h.{i}.attn.c_proj.bias"),
        product="T C C",
    ),
    Point(
        "blocks.{i}.hook_resid_mid",
        "T C",
        "resid_pre + attn_out",
        "[T C] + [T C]",
        "Half of the block is done; the way back along the sum is how gradients reach the first layers.",
        "model.Block",
        reads=("blocks.{i}.hook_resid_pre", "blocks.{i}.hook_attn_out"),
    ),
    *_norm(
        "blocks.{i}.ln2.",
        "h.{i}.ln_2",
        "blocks.{i}.hook_resid_mid",
        "What the MLP reads: each token on its own from here to the end of the block.",
    ),
    Point(
        "blocks.{i}.mlp.hook_pre",
        "T F",
        "ln2.output @ weight + bias",
        "[T C] @ [C F] + [F]",
        "F neurons, each a question to the token's vector: its dot product with one column.",
        "mlp.MLP",
        reads=("blocks.{i}.ln2.hook_output",),
        weights=("h.{i}.mlp.c_fc.weight", "h.{i}.mlp.c_fc.bias"),
        product="T C F",
    ),
    Point(
        "blocks.{i}.mlp.hook_post",
        "T F",
        "gelu(pre)",
        "gelu([T F])",
        "What was positive passes, what was negative is held back: nothing is left below -0.1701.",
        "mlp.MLP",
        reads=("blocks.{i}.mlp.hook_pre",),
    ),
    Point(
        "blocks.{i}.hook_mlp_out",
        "T C",
        "post @ weight + bias",
        "[T F] @ [F C] + [C]",
        "Each neuron that answered writes its row of the weight into the stream, as strongly as it answered.",
        "model.Block",
        reads=("blocks.{i}.mlp.hook_post",),
        weights=("h.{i}.mlp.c_proj.weight", "h.{i}.mlp.c_proj.bias"),
        product="T F C",
    ),
    Point(
        "blocks.{i}.hook_resid_post",
        "T C",
        "resid_mid + mlp_out",
        "[T C] + [T C]",
        "What the next block gets: the sum of the embeddings and of all that was added so far.",
        "model.Block",
        reads=("blocks.{i}.hook_resid_mid", "blocks.{i}.hook_mlp_out"),
    ),
)
FINAL = _norm(
    "ln_final.",
    "ln_f",
    "blocks.{last}.hook_resid_post",
    "What the LM head compares with the row of every token.",
)
LOGITS = (
    Point(
        "hook_logits",
        "T V",
        "ln_final.output @ weight.T",
        "[T C] @ [C V]",
        "Row t scores what could follow token t; only differences between scores mean anything.",
        "model.GPT2",
        reads=("ln_final.hook_output",),
        weights=("lm_head.weight",),
        product="T C V",
        extra=True,
    ),
)
# Generation wants what follows the last token only, so it scores that one row.
NEXT_TOKEN = (
    Point(
        "hook_last_row",
        "C",
        "last row of ln_final.output",
        "[T C] -> [C]",
        "Of all tokens only the last is asked what comes next; the others have done their part as keys and values.",
        "generate.next_logits",
        reads=("ln_final.hook_output",),
        view=True,
        extra=True,
    ),
    Point(
        "hook_next_logits",
        "V",
        "weight @ last_row",
        "[V C] @ [C]",
        "One score for every token that exists: the dot product of its row with the last row.",
        "generate.next_logits",
        reads=("hook_last_row",),
        weights=("lm_head.weight",),
        product="V C",
        extra=True,
    ),
    Point(
        "hook_probabilities",
        "V",
        "softmax(next_logits), to look at",
        "softmax([V])",
        "All of them are above 0 and sum to 1; the choice itself is made from the logits.",
        "generate.generate",
        reads=("hook_next_logits",),
        extra=True,
    ),
    Point(
        "hook_next_token",
        "",
        "the likeliest of next_logits, or one drawn by them",
        "the likeliest of [V], or one drawn",
        "One whole number: it goes to the end of the prompt, and everything starts again for it.",
        "generate.generate",
        reads=("hook_next_logits",),
        extra=True,
    ),
)
