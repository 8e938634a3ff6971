"""A training step, ours and PyTorch's: the same small model and batches."""

import numpy as np

from ..fast import keep_freed_memory
from ..model.config import Config
from ..train.adamw import AdamW, clip_by_global_norm
from ..train.loss import loss_and_grads
from ..train.trainer import initial_params
from ..weights import assemble
from .racers import Ours, Transformers

TRAINED = Config(n_positions=256, n_embd=256, n_head=4, n_layer=4)  # the model whose training is timed
BATCH, CONTEXT = 4, 256


class Training:
    """A training step of a small model, whatever is in the directory: same model and batches for both."""

    name = Ours.name

    def __init__(self, directory):
        keep_freed_memory()
        self.step = our_step(TRAINED, initial_params(TRAINED, np.random.default_rng(0)))

    def run(self):
        rng = np.random.default_rng(0)
        return lambda: self.step(*rng.integers(0, TRAINED.vocab_size, (2, BATCH, CONTEXT)))


class TheirTraining(Training):
    """The same in PyTorch, eager."""

    name = Transformers.name

    def __init__(self, directory):
        self.step = torch_step(TRAINED, initial_params(TRAINED, np.random.default_rng(0)))


def our_step(config, params):
    """Return a function that takes one training step of this package on a batch and returns the loss."""
    params = {name: array.copy() for name, array in params.items()}
    model, optimizer = assemble(config, params), AdamW(params)

    def step(ids, targets):
        loss, grads = loss_and_grads(model, ids, targets)
        clip_by_global_norm(grads, 1.0)
        optimizer.step(grads, 1e-4)
        return loss

    return step


def torch_step(config, params):
    """Return the same for transformers' GPT2LMHeadModel in PyTorch, eager, on the CPU."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    fields = {name: value for name, value in config.to_dict().items() if name not in ("model_type", "architectures")}
    network = GPT2LMHeadModel(GPT2Config(**fields, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)).train()
    with torch.no_grad():
        for name, p in network.named_parameters():
            p.copy_(torch.from_numpy(params[name.removeprefix("transformer.")]))
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-4)

    def step(ids, targets):
        optimizer.zero_grad()
        logits = network(torch.from_numpy(ids)).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step
