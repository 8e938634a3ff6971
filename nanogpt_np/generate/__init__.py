"""From logits to text: the loop that generates, how the next token is chosen, and how well a text is predicted.

- `loop`: `generate` and `next_logits`.
- `sampling`: temperature, top-k, top-p, min-p, the repetition penalty.
- `batch`: several texts in one pass.
- `stops`: where a text ends. `completion`: text in, text out.
- `ranking`: the top tokens, and the rank of any one.
- `scoring`: `score`, the log probability of every token of a text.

``python -m nanogpt_np.generate`` runs the command, which is `commands/generate.py`.
"""

from .completion import Completion, complete, completions
from .loop import generate, next_logits
from .scoring import Score, score

__all__ = ["Completion", "Score", "complete", "completions", "generate", "next_logits", "score"]
