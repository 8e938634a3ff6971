"""From logits to text: the loop that generates, and how the next token is chosen.

- `loop`: `generate` and `next_logits`.
- `sampling`: temperature, top-k, top-p.
- `ranking`: the top tokens, and the rank of any one.

``python -m nanogpt_np.generate`` runs the command, which is `commands/generate.py`.
"""

from .loop import generate, next_logits

__all__ = ["generate", "next_logits"]
