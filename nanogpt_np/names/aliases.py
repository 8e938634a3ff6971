"""What others call a tensor of GPT-2: the row type of the tables, and the dialects.

Our own names are TransformerLens's for trace points and the checkpoint's for parameters. Another name
is here if it means the same numbers, whatever their layout: a batch axis, heads first, a matrix transposed.
The rows: `point_aliases.py` and `parameter_aliases.py`. Read next: `entries.py`, which joins them with our own tables.
"""

from dataclasses import dataclass

DIALECTS = {  # field of Aliases: (title, what the names name)
    "tl1": ("TransformerLens", "hook points and weights of HookedTransformer, versions 1 to 3, as papers use them"),
    "tl3": ("TransformerLens 3", "the same of TransformerBridge (3.9), which keeps the older names as aliases"),
    "hf": ("Hugging Face", "modules, named for their outputs; fields of a call's result; keys of the state dict"),
    "gguf": ("GGUF", "tensors of a GGUF file, matrices stored [out, in], and nodes of llama.cpp's graph"),
    "tf": ("OpenAI TF", "variables of the first checkpoint, matrices [1, in, out], and what its model.py returns"),
    "llm_c": ("llm.c", "train_gpt2.c, matrices stored [out, in]; idx, tok_emb and pos_emb are nanoGPT's"),
    "paper": ("papers", "symbols, as papers about transformers and their circuits write them"),
    "words": ("words", "plain English"),
}


@dataclass(frozen=True)
class Aliases:
    """The names of one tensor in each dialect: a name, or a tuple of several.

    With an `index` it is the part of a parameter that others store as a separate matrix.
    """

    name: str  # ours
    index: str = ""  # as NumPy writes it, in our letters: "[:, C:2*C]"
    axes: str = ""  # of the part
    purpose: str = ""  # of the part
    head: str = ""  # of a parameter: the index into all of it of head h's part (0, 1 ...)
    tl1: str | tuple[str, ...] = ()  # `entries.py` adds our own name here for a trace point that TransformerLens has
    tl3: str | tuple[str, ...] = ()
    hf: str | tuple[str, ...] = ()  # `entries.py` adds the checkpoint's name here for a parameter
    gguf: str | tuple[str, ...] = ()
    tf: str | tuple[str, ...] = ()
    llm_c: str | tuple[str, ...] = ()
    paper: str | tuple[str, ...] = ()
    words: str | tuple[str, ...] = ()

    def of(self, dialect: str) -> tuple[str, ...]:
        """Return the names in one dialect as a tuple."""
        names = getattr(self, dialect)
        return (names,) if isinstance(names, str) else names
