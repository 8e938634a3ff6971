"""Who is timed by `benchmark.py`: this package, transformers on the same weights, and the matrix products alone.

Each racer runs a prompt (all its tokens at once, the scores of what follows the last) and decodes
(one token after another, after a context in the KV cache). The products are those of the same pass,
one after another, each on all cores, and nothing else: no norms, no softmax, no GELU, no sums, and
nothing is stored. That is a measure, not a bound: who runs products side by side may be faster, and so may who lays
matrices out in memory another way than a checkpoint does, as `parameters.py` says of one. So decoding is set beside
both: the products of matrices as a checkpoint has them, and those of the very arrays that the model multiplies.
"""

import itertools

import numpy as np

from . import weights
from .adamw import AdamW, clip_by_global_norm
from .attention import LONG, QUERIES
from .cache import KVCache
from .config import Config
from .generate import next_logits
from .loss import loss_and_grads
from .memory import keep_freed_memory
from .parameters import assemble
from .trace import Recorder, ShapeLog, no_trace
from .trainer import initial_params

DECODED = 8  # tokens that one timing of decoding covers
TEXT, IDS = "The capital of France is", [464, 3139, 286, 4881, 318]
NEW_TOKENS = 200  # generated while the peak of the memory is watched
TRACES = {"no trace": lambda: no_trace, "shape log": ShapeLog, "recorder": Recorder}
CHOICE = 0  # what decoding goes on with: whatever token, speed does not depend on it


class Ours:
    """This package, as `generate` uses it."""

    name = "nanogpt_np"

    def __init__(self, directory):
        keep_freed_memory()  # as every command does
        self.model = weights.load_directory(directory)

    def prompt(self, ids):
        """Return a function that runs a prompt and returns the last logits (V,)."""
        return lambda: next_logits(self.model, ids, cache=KVCache(self.model.config))

    def traced(self, ids, kind):
        """Return a function that runs a prompt but for the LM head, watched by one of `TRACES`."""

        def run():
            self.model.hidden(ids, trace=TRACES[kind]())

        return run

    def decode(self, ids):
        """Return a function that decodes `DECODED` tokens after `ids`."""
        cache = KVCache(self.model.config)
        next_logits(self.model, ids, cache=cache)

        def run():
            cache.length = len(ids)  # forget what the last timing added
            for _ in range(DECODED):
                logits = next_logits(self.model, [CHOICE], cache=cache)
            return logits

        return run

    def products(self, ids):
        """Return a function that runs the products of that decoding alone, with the model's own arrays."""
        return _decoding_products(self.model, len(ids))


class Transformers:
    """GPT2LMHeadModel of transformers in PyTorch, eager, on the CPU, with its default attention and its cache."""

    name = "transformers"

    def __init__(self, directory):
        import torch
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.torch = torch
        self.model = transformers.GPT2LMHeadModel.from_pretrained(directory, dtype=torch.float32).eval()

    def _run(self, ids, past=None):
        with self.torch.inference_mode():
            return self.model(self.torch.tensor([ids]), past_key_values=past, use_cache=True, logits_to_keep=1)

    def prompt(self, ids):
        return lambda: self._run(ids).logits[0, -1].numpy()

    def decode(self, ids):
        past = self._run(ids).past_key_values

        def run():
            added = past.get_seq_length() - len(ids)
            if added:  # crop takes minus the number of tokens to forget; crop(0) once meant: forget all
                past.crop(-added)
            for _ in range(DECODED):
                out = self._run([CHOICE], past)
            return out.logits[0, -1].numpy()

        return run


class Products:
    """The matrix products of the pass alone, with every matrix laid out as a checkpoint has it: by row, [in, out]."""

    name = "products alone"

    def __init__(self, directory):
        model = weights.load_directory(directory)
        self.model = assemble(model.config, {name: np.ascontiguousarray(a) for name, a in model.params.items()})

    def prompt(self, ids):
        return _products(self.model, len(ids), [len(ids)])

    def decode(self, ids):
        return _decoding_products(self.model, len(ids))


def _products(model, T, contexts):
    """Return a function that runs the products of T tokens that see S, on noise, for each S of `contexts` in turn."""
    c, longest = model.config, max(contexts)
    rows = {n: _noise(T, n) for n in {c.n_embd, c.mlp_width}}
    q, scores, last = _noise(c.n_head, T, c.head_width), _noise(c.n_head, T, longest), _noise(c.n_embd)
    # Of each block its own, read from memory: one pair for all would stay in the processor's cache.
    keys_and_values = [[_noise(c.n_head, longest, c.head_width) for _ in range(2)] for _ in model.h]

    def block_products(i, n, S):
        attn, mlp, (keys, values) = model.h[i].attn, model.h[i].mlp, keys_and_values[i]
        for weight in (attn.c_attn_weight, attn.c_proj_weight, mlp.c_fc_weight, mlp.c_proj_weight):
            rows[len(weight)][:n] @ weight
        pieces = n * S > LONG * LONG  # as in `Attention`
        step, heads = (QUERIES, range(c.n_head)) if pieces else (n, [slice(None)])
        for head, start in itertools.product(heads, range(0, n, step)):
            stop = min(start + step, n)
            seen = S - n + stop
            q[head, ..., start:stop, :] @ keys[head, ..., :seen, :].swapaxes(-1, -2)
            scores[head, ..., start:stop, :seen] @ values[head, ..., :seen, :]

    def run():
        final = len(model.h) - 1
        for S in contexts:
            for i in range(final):
                block_products(i, T, S)
            if T > LONG:  # as in `LastRow`
                rows[c.n_embd][1:] @ model.h[final].attn.c_attn_weight[:, c.n_embd :]
            block_products(final, 1 if T > LONG else T, S)
            logits = model.lm_head(last)
        return logits

    return run


def _decoding_products(model, n):
    """Return a function that runs the products of `DECODED` tokens, one at a time, after n."""
    return _products(model, 1, range(n + 1, n + 1 + DECODED))


class Reading:
    """Reading the weights, the keys and the values once for each token, half on each of two threads, and nothing else.

    No bound either: products read several rows at a time and so get more out of the same memory than a plain read does.
    """

    name = "plain reading"

    def __init__(self, directory):
        from concurrent.futures import ThreadPoolExecutor

        model = weights.load_directory(directory)
        self.config, self.pool = model.config, ThreadPoolExecutor(2)
        self.flat = [a.ravel("K") for name, a in model.params.items() if name != "wpe.weight"]  # no copies

    def decode(self, ids):
        c = self.config
        keys_and_values = np.ones(2 * c.n_layer * c.n_embd * len(ids), np.float32)
        halves = zip(*[np.array_split(a, 2) for a in [*self.flat, keys_and_values]], strict=True)
        halves = [list(half) for half in halves]

        def run():
            for _ in range(DECODED):
                list(self.pool.map(lambda half: [np.maximum.reduce(a) for a in half], halves))

        return run


class KeysAndValues:
    """Reading keys and values once, half on each of two threads, and nothing else."""

    name = "keys and values"

    def __init__(self, directory):
        from concurrent.futures import ThreadPoolExecutor

        self.config, self.pool = weights.stored_parameters(directory)[0], ThreadPoolExecutor(2)

    def read(self, n):
        """Return a function that reads those of n tokens, in all blocks."""
        c = self.config
        halves = np.array_split(np.ones(2 * c.n_layer * c.n_embd * n, np.float32), 2)
        return lambda: list(self.pool.map(np.maximum.reduce, halves))


class Load:
    """Loading a checkpoint whose file has been read before, so that it stands in memory already."""

    name = Ours.name

    def __init__(self, directory):
        self.directory = directory

    def run(self):
        return lambda: weights.load_directory(self.directory) and None


class TheirLoad(Load):
    """The same by from_pretrained."""

    name = Transformers.name

    def run(self):
        return lambda: Transformers(self.directory) and None


def _noise(*shape):
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


# What a fresh interpreter runs, from its start to its end.
COLD = {
    "nanogpt_np": "from nanogpt_np.generate import main; main([TEXT, '-n', '1', '--model', DIRECTORY])",
    "transformers": """
import torch
from transformers import GPT2LMHeadModel
from nanogpt_np.tokenizer import Tokenizer  # transformers' own would need files that the checkpoint lacks
model = GPT2LMHeadModel.from_pretrained(DIRECTORY, dtype=torch.float32)
ids = torch.tensor([Tokenizer().encode(TEXT)])
print(model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, do_sample=False)[0, -1])
""",
}
PEAK = """
import pathlib, resource, sys
status = pathlib.Path("/proc/self/status")
if status.is_file():  # on Linux ru_maxrss is not below that of the process which started this one
    print(1024 * int(status.read_text().split("VmHWM:")[1].split()[0]))
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""
MEMORY = {
    "nanogpt_np": f"""
import nanogpt_np
from nanogpt_np.generate import generate
for token in generate(nanogpt_np.load(DIRECTORY), {IDS}, {NEW_TOKENS}, stop=()):
    pass
{PEAK}
""",
    "transformers": f"""
import torch
from transformers import GPT2LMHeadModel
model = GPT2LMHeadModel.from_pretrained(DIRECTORY, dtype=torch.float32)
ids = torch.tensor([{IDS}])
mask = torch.ones_like(ids)
model.generate(ids, attention_mask=mask, max_new_tokens={NEW_TOKENS}, min_new_tokens={NEW_TOKENS}, do_sample=False)
{PEAK}
""",
}

TRAINED = Config(n_positions=256, n_embd=256, n_head=4, n_layer=4)  # the model whose training is timed
BATCH, CONTEXT = 4, 256


class Training:
    """A training step of a small model, whatever is in the directory: the same for both, batches and all."""

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
