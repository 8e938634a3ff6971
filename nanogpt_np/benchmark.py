"""``python -m nanogpt_np.benchmark``: how fast this machine trains a GPT-2, beside PyTorch where that is installed.

Both train the same model on the same batches with the same optimiser, one step each in turn, so that a
machine whose speed drifts treats them alike. Medians are shown, with the middle half of all steps.
"""

import json
import statistics
import sys
import time

import numpy as np

from .adamw import AdamW, clip_by_global_norm
from .cli import Parser, command, say
from .config import Config
from .loss import loss_and_grads
from .parameters import assemble
from .trainer import initial_params

CONFIG = Config(n_positions=256, n_embd=256, n_head=4, n_layer=4)
BATCH, CONTEXT = 4, 256
BUSY = 0.2  # a spread (middle half over median) above this says that something else is running


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


def time_training(steps, against):
    """Return ``{name: seconds of each step}``; ValueError if the two do not compute the same losses."""
    rng = np.random.default_rng(0)
    params = initial_params(CONFIG, rng)
    runners = {"nanogpt_np": our_step(CONFIG, params)}
    if against:
        runners["transformers"] = torch_step(CONFIG, params)
    seconds = {name: [] for name in runners}
    for number in range(steps + 2):  # the first two warm up
        ids, targets = rng.integers(0, CONFIG.vocab_size, (2, BATCH, CONTEXT))
        losses = []
        for name, step in runners.items():
            began = time.perf_counter()
            losses.append(step(ids, targets))
            if number >= 2:
                seconds[name].append(time.perf_counter() - began)
        if max(losses) - min(losses) > 1e-3:
            raise ValueError(f"the two do not train the same model: losses {losses} in step {number + 1}")
        if sys.stderr.isatty():
            print(f"\rstep {number + 1}/{steps + 2}", end="", file=sys.stderr, flush=True)
    return seconds


@command
def main(argv=None):
    """Run the command line with `argv` and return the exit code."""
    parser = Parser(
        "benchmark", "Time a training step: 4 layers, width 256, context 256, vocabulary 50257, batch of 4."
    )
    parser.add_argument("--steps", type=int, default=15, metavar="N", help="steps that count, of each (default: 15)")
    parser.add_argument("--against", choices=["transformers"], help="time PyTorch eager beside it, in turn")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    if args.steps < 4:
        raise ValueError(f"--steps must be 4 or more, not {args.steps}")
    result = {}
    for name, seconds in time_training(args.steps, args.against).items():
        low, median, high = statistics.quantiles(seconds, n=4)
        rates = [BATCH * CONTEXT / s for s in (median, high, low)]
        result[name] = {"tokens_per_second": rates[0], "middle_half": rates[1:], "spread": (high - low) / median}
    if args.json:
        print(json.dumps(result, indent=1))
    else:
        for name, row in result.items():
            low, high = row["middle_half"]
            print(f"{name:13} {row['tokens_per_second']:6.0f} tokens/s   (middle half {low:.0f} to {high:.0f})")
        if args.against:
            rates = [row["tokens_per_second"] for row in result.values()]
            print(f"ratio         {rates[0] / rates[1]:.2f}")
    if max(row["spread"] for row in result.values()) > BUSY:
        say("the machine was busy: the times spread by more than 20 %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
