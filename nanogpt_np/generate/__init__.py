"""From logits to text: the loop that generates, and how the next token is chosen.

- `loop`: `generate` and `next_logits`.
- `sampling`: temperature, top-k, top-p, min-p, the repetition penalty.
- `batch`: several texts in one pass.
- `stops`: where a text ends. `completion`: text in, text out.
- `ranking`: the top tokens, and the rank of any one.

``python -m nanogpt_np.generate`` runs the command, which is `commands/generate.py`.
"""

from .completion import Completion, complete, completions
from .loop import generate, next_logits

__all__ = ["Completion", "complete", "completions", "generate", "next_logits"]
