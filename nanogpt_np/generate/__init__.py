"""From logits to text: the loop that generates, how the next token is chosen, and how well a text is predicted.

- `loop`: `generate` and `next_logits`.
- `sampling`: temperature, top-k, top-p.
- `ranking`: the top tokens, and the rank of any one.
- `scoring`: `score`, the log probability of every token of a text.

``python -m nanogpt_np.generate`` runs the command, which is `commands/generate.py`.
"""

from .loop import generate, next_logits
from .scoring import Score, score

__all__ = ["Score", "generate", "next_logits", "score"]
