"""A checkpoint of nanoGPT's train.py, as the GPT-2 that it is: tensors, and the sizes that lie beside them.

``ckpt.pt`` is a pickle. PyTorch reads it with ``weights_only=True``, which makes tensors and plain values and refuses
everything else. PyTorch is imported here only, and only when somebody converts.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..model.config import Config
from ..model.gpt2 import GPT2
from ..model.trace import Array
from ..names.parameters import each, parameter
from ..names.wording import LONGEST_NAME, few, one_line
from ..text.files import check_regular
from .assembly import assemble
from .checkpoint import check_shapes
from .layouts import missing_biases, plain_names, transposed

SIZES = {"n_layer": "n_layer", "n_head": "n_head", "n_embd": "n_embd", "block_size": "n_positions"}
SIZES |= {"vocab_size": "vocab_size"}  # name in model_args -> name in Config
NO_MATTER = {"bias", "dropout"}  # the tensors show the first; the second is for training
GELU = "nanoGPT since 2023 computes the exact GELU, this package GPT-2's tanh form: logits differ by a few thousandths"


def read_nanogpt(path: str | os.PathLike[str]) -> GPT2:
    """Return the `GPT2` in a ``ckpt.pt``, with float32 parameters; needs PyTorch.

    Raises ValueError for files that are not nanoGPT's and for models that are more than a GPT-2.
    """
    path = Path(path)
    check_regular(path)
    try:
        model_args, tensors = _parts(_loaded(path))
        config = _config(model_args)
        found = {name: tensors[full] for name, full in plain_names(tensors).items()}
        params = _gpt2(found, config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    head = params.pop("lm_head.weight", params["wte.weight"])
    tied = np.array_equal(head, params["wte.weight"])
    config = Config(**vars(config) | {"tie_word_embeddings": tied})
    return assemble(config, params if tied else params | {"lm_head.weight": head})


def _loaded(path: Path) -> Any:
    import torch  # type: ignore[import-not-found,unused-ignore]

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6):
        raise ValueError(f"PyTorch {torch.__version__} is not safe with strangers' files: pip install -U torch")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # of any kind, depending on what the file is
        raise ValueError(f"torch.load with weights_only=True refuses it: {one_line(error, 200)}") from None


def _parts(loaded: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return (model_args, the tensors by name) of what ``torch.save`` wrote."""
    keys = loaded if isinstance(loaded, dict) else {}
    model_args, state = keys.get("model_args"), keys.get("model")
    if not isinstance(model_args, dict) or not isinstance(state, Mapping):
        what = f"it holds {few(map(str, keys))}" if keys else f"it holds a {type(loaded).__name__}"
        raise ValueError(f"not a checkpoint of nanoGPT, which holds model and model_args: {what}")
    tensors = {}
    for name, tensor in state.items():
        try:
            if tensor.is_floating_point():
                tensors[str(name)] = tensor.detach().float().numpy()
        except (AttributeError, TypeError, RuntimeError):  # a number, or a sparse tensor
            raise ValueError(f"model holds {one_line(name, LONGEST_NAME)}, which is not a plain tensor") from None
    return model_args, tensors


def _config(model_args: dict[str, Any]) -> Config:
    missing = SIZES.keys() - model_args.keys()
    if missing:
        raise ValueError(f"model_args has no {min(missing)}")
    more = [str(name) for name, value in model_args.items() if name not in SIZES and name not in NO_MATTER and value]
    if more:
        raise ValueError(
            f"model_args sets {few(more)}, which nanoGPT's GPT-2 does not have: only a plain GPT-2 is read"
        )
    return Config(**{ours: model_args[theirs] for theirs, ours in SIZES.items()}, tie_word_embeddings=False)


def _gpt2(found: dict[str, Array], config: Config) -> dict[str, Array]:
    """Return the parameters under the names and in the layout of `names/parameters.py`."""
    head = "lm_head.weight"
    found = found if head in found else found | {head: found.get("wte.weight", np.zeros(0))}
    for name in transposed({name: array.shape for name, array in found.items()}, config):
        found[name] = found[name].T
    for name in missing_biases({name: array.shape for name, array in found.items()}, config):
        if entry := parameter(name, config):
            found[name] = np.zeros(entry.shape(config), np.float32)
    check_shapes({name: array.shape for name, array in found.items()}, config)
    return {name: np.ascontiguousarray(found[name]) for name, _ in each(config)}
