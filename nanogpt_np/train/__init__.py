"""Training: the loss and its gradients, the optimizer, runs that can be interrupted and resumed.

- `loss`: cross-entropy, `loss_and_grads`, `mean_loss`. The derivative of each layer is in `model/`, under its forward.
- `adamw`: the optimizer, gradient clipping, the learning rate.
- `corpus` and `facts`: where batches come from; `countries.csv` and `templates.txt` are the facts.
- `shared_rows`: unused tokens share one row.
- `settings`, `trainer` and `loop`: a run, step by step.
- `progress`, `log` and `curve`: how far it is, the loss of every step in a file, and the plot of that.
- `state` and `folder`: the file from which a run is resumed, and the folder where one run at a time writes.

``python -m nanogpt_np.train`` runs the command, which is `commands/train.py`.
"""

from . import curve, loop, progress
from .adamw import AdamW
from .loss import cross_entropy, loss_and_grads, mean_loss
from .settings import Settings
from .trainer import Trainer

__all__ = ["AdamW", "Settings", "Trainer", "cross_entropy", "curve", "loop", "loss_and_grads", "mean_loss", "progress"]
