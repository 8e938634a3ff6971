"""What a folder without safetensors of a GPT-2 holds instead, and a command that makes safetensors of it.

The files are told by their names. None is opened: a pickle can run any code. `nanogpt.py` reads one when asked to, as
plain tensors and numbers only.
"""

import os
import re
from pathlib import Path

from ..names.wording import LONGEST_NAME, one_line
from ..text.files import read_json

_TRANSFORMERS = (
    'convert it with transformers: python -c "from transformers import AutoModelForCausalLM as A; '
    "A.from_pretrained('DIR'{}).save_pretrained('NEW_DIR')\""
)
CONVERT = _TRANSFORMERS.format("")
# transformers 5 dropped TensorFlow and Flax; 4.51 to 4.57 open them and fail to save the numbers (tried: 4.51, 4.57).
_OLD = f'in a new environment, pip install "transformers<4.51" torch {{}}, which still reads it; {_TRANSFORMERS}'
FROM_TENSORFLOW = _OLD.format("tensorflow tf-keras", ", from_tf=True")
FROM_FLAX = _OLD.format("flax", ", from_flax=True")
MERGE = (
    'merge it into its model with peft: python -c "from peft import AutoPeftModelForCausalLM as A; '
    "A.from_pretrained('DIR').merge_and_unload().save_pretrained('NEW_DIR')\""
)
PICKLE = "a pickle, which can run any code when opened"
SAVE = "save it as safetensors with the program that wrote it"
FOREIGN = {  # other files in a model's folder: what they are, and what to do
    "pytorch_model*.bin": (PICKLE, CONVERT),
    "*.pt": (PICKLE, "convert nanoGPT's with python -m nanogpt_np convert {} NEW_DIR"),
    "*.pth": (PICKLE, "convert nanoGPT's with python -m nanogpt_np convert {} NEW_DIR"),
    "*.h5": ("a TensorFlow file", FROM_TENSORFLOW),
    "*.msgpack": ("a Flax file", FROM_FLAX),
    "*.gguf": ("a GGUF file, as llama.cpp reads", "give the safetensors that it was made from"),
    "*.ckpt": ("a Lightning checkpoint, which is a pickle", SAVE),
    "*.ckpt.*": ("a part of a TensorFlow 1 checkpoint", "OpenAI's are published as safetensors too: ./weights.sh gpt2"),
    "*.onnx": ("an ONNX file", "give the safetensors that it was made from"),
    "*.bin": (PICKLE, CONVERT),
}
ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
KINDS = {"LORA": "a LoRA", "IA3": "an IA3", "PREFIX_TUNING": "a prefix tuning", "PROMPT_TUNING": "a prompt tuning"}
PLAIN = re.compile(r"[\w./\\:-]{1,200}")  # a path that needs no quotes in any shell


def what_is(path: str | os.PathLike[str]) -> str | None:
    """Return what the file at `path` is and what to do with it, in one clause; None for a name that says nothing."""
    path = Path(path)
    if path.name in ADAPTER:
        return _adapter(path.parent)
    for pattern, (what, advice) in FOREIGN.items():
        if path.match(pattern):
            shown = str(path) if PLAIN.fullmatch(str(path)) else "ckpt.pt"
            return f"{what}: only safetensors is read here; {advice.replace('{}', shown)}"
    return None


def what_it_holds(directory: Path) -> str:
    """Say in one line what a directory without ``model.safetensors`` holds instead, and what to do."""
    if any((directory / name).exists() for name in ADAPTER):
        return f"{directory} holds {_adapter(directory)}"
    for pattern in FOREIGN:
        for found in sorted(directory.glob(pattern)):
            return f"{found} is {what_is(found)}"
    for found in sorted(directory.glob("*.safetensors")):
        name = one_line(found.name, LONGEST_NAME)
        return (
            f"{directory} holds {name}, but no model.safetensors and no model.safetensors.index.json: "
            "rename the file if it is the whole model, or fetch the index if it is a shard"
        )
    return f"{directory} holds no model: there is no model.safetensors and no model.safetensors.index.json"


def _adapter(directory: Path) -> str:
    """Say what kind of adapter a directory holds, as far as its adapter_config.json tells."""
    try:
        kind = read_json(directory / ADAPTER[0])["peft_type"]
        what = KINDS[kind]
    except (OSError, ValueError, KeyError, TypeError):
        what, kind = "an", None
    advice = MERGE if kind in ("LORA", "IA3") else "only peft runs it"
    return f"{what} adapter, a small change to a model, not a model: {advice}"
