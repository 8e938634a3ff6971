"""The ways in which files name and lay out the parameters of a GPT-2, brought to the one of `names/parameters.py`.

What wraps a model puts a prefix before its names. What computes y = x W^T + b, as PyTorch's nn.Linear and so nanoGPT
do, stores each matrix [out, in], the transpose of Hugging Face's. What has no biases computes as with biases of 0.
All of it is told from names and shapes, before any number is read.
"""

import re
from collections.abc import Iterable, Mapping

from ..model.config import Config
from ..names.parameters import parameter
from ..names.wording import LONGEST_NAME, one_line

Shapes = Mapping[str, tuple[int, ...]]
PREFIX = "transformer."
# In any order: torch.compile adds _orig_mod, DataParallel adds module, peft adds base_model.model.
PREFIXES = re.compile(r"(?:(?:_orig_mod|module|base_model\.model|transformer)\.){0,12}")
# Causal masks that old checkpoints store beside the parameters (c_attn.bias is not one of them).
MASK = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
MATRIX = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")
OTHER_PARTS = (  # of models that are more than a GPT-2: (names, what they are)
    (r"\.(lora_|ia3_l\b)", "belongs to an adapter that is not merged: merge it with peft's merge_and_unload()"),
    (r"\bcrossattention\.|\bln_cross_attn\.", "is cross-attention: the model reads an encoder too"),
    (r"^multiple_choice_head\.", "is the second head of a GPT2DoubleHeadsModel"),
    (r"^score\.", "is the head of a classifier (GPT2ForSequenceClassification)"),
    (r"^classifier\.", "is the head of a classifier of tokens (GPT2ForTokenClassification)"),
    (r"^qa_outputs\.", "is the head of a model that marks answers (GPT2ForQuestionAnswering)"),
    (r"^v_head\.", "is the value head of reinforcement learning"),
    (r"\.(qweight|qzeros|g_idx|weight_scale|absmax|SCB)$|\.quant_state\b", "belongs to quantized weights"),
)


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Return ``{name of names/parameters.py: name in the file}``, without the prefixes and the masks.

    Raises ValueError for two tensors of one name, and for parts of other models, by what they are.
    """
    found: dict[str, str] = {}
    for full in names:
        name = full[PREFIXES.match(full).end() :]  # type: ignore[union-attr]  # it matches any text
        if MASK.fullmatch(name):
            continue
        if name in found:
            both = " and ".join(one_line(one, LONGEST_NAME) for one in sorted((found[name], full)))
            raise ValueError(f"{one_line(name, LONGEST_NAME)} appears twice, as {both}: which one is meant?")
        found[name] = full
    for pattern, what in OTHER_PARTS:
        for name in found:
            if re.search(pattern, name):
                raise ValueError(f"tensor {one_line(name, LONGEST_NAME)} {what}; only a plain GPT-2 is read")
    return found


def transposed(shapes: Shapes, config: Config) -> set[str]:
    """Return the names of the matrices that are stored [out, in]: all of them or none.

    c_attn.weight is never square, so its shape tells, and so do those of the MLP where F is not C. The others are as
    these are. Raises ValueError where they disagree.
    """
    matrices = {name: shape for name, shape in shapes.items() if MATRIX.fullmatch(name)}
    ways: dict[bool, str] = {}  # transposed or not -> the first matrix that is
    for name, shape in matrices.items():
        entry = parameter(name, config)
        usual = entry.shape(config) if entry else ()
        if entry and usual != usual[::-1] and shape in (usual, usual[::-1]):
            ways.setdefault(shape != usual, name)
    if len(ways) == 2:
        raise ValueError(
            f"tensor {ways[True]} is stored [out, in], but {ways[False]} is [in, out]: "
            "the matrices of a file must all be stored one way, since square ones do not show theirs"
        )
    return set(matrices) if True in ways else set()


def missing_biases(shapes: Shapes, config: Config) -> list[str]:
    """Return the names of all biases if the file has none at all, as nanoGPT's with bias=False, else nothing.

    Takes time by the number of `shapes`, however many layers `config` claims.
    """
    if any(name.endswith(".bias") for name in shapes):
        return []
    names = (name.removesuffix("weight") + "bias" for name in shapes if name.endswith(".weight"))
    return [name for name in names if parameter(name, config)]
