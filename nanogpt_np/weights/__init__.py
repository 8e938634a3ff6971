"""Checkpoints in and out: from a name or a folder to a model, and back.

- `places` and `pins`: where models live on this machine, and which files are the published ones.
- `tensors`: the bytes of a safetensors file, mapped or read. `foreign`: what other files are.
- `configs`, `layouts`: config.json, and the ways to name and lay out parameters.
- `nanogpt`: reads nanoGPT's ckpt.pt, to convert it.
- `checkpoint`: one checkpoint, opened; `provenance`: where they come from; `digests`: SHA-256, remembered.
- `assembly`: from arrays to a model. `saving`, `writing` and `atomic`: atomic writes, read back. `companions`: the
  tokenizer's files beside them.
- `models/`: the checkpoint that ships with the package.

Nothing here downloads; weights.sh does.
"""

from .assembly import assemble
from .checkpoint import Checkpoint, load, open_checkpoint
from .saving import save

__all__ = ["Checkpoint", "assemble", "load", "open_checkpoint", "save"]
