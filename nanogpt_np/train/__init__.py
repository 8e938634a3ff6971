"""Training: the loss and its gradients, the optimizer, runs that can be interrupted and resumed.

- `loss`: cross-entropy, `loss_and_grads`, `mean_loss`. The derivative of each layer is in `model/`, under its forward.
- `adamw`: the optimizer, gradient clipping, the learning rate.
- `corpus` and `facts`: where batches come from; `countries.csv` and `templates.txt` are the facts.
- `shared_rows`: unused tokens share one row.
- `trainer` and `loop`: a run, step by step, and how it is saved.

``python -m nanogpt_np.train`` runs the command, which is `commands/train.py`.
"""

from .adamw import AdamW
from .loss import cross_entropy, loss_and_grads, mean_loss
from .trainer import Settings, Trainer

__all__ = ["AdamW", "Settings", "Trainer", "cross_entropy", "loss_and_grads", "mean_loss"]
