"""What is timed: this package, and transformers on the same weights.

Each racer runs a prompt (prefill: all its tokens at once, the logits of the next), decodes (one token at a time,
after a context in the KV cache) or loads. Read next: `products.py`, the baselines of both.
"""

from ..fast import fast, keep_freed_memory
from ..generate import next_logits
from ..interpret.recorder import Recorder
from ..model.cache import KVCache
from ..model.trace import ShapeLog, no_trace
from ..weights import open_checkpoint
from .products import DECODED, decoding_products

TRACES = {"no trace": lambda: no_trace, "shape log": ShapeLog, "recorder": Recorder}
CHOICE = 0  # the token that decoding continues with: speed does not depend on it


class Ours:
    """This package, as `generate` uses it."""

    name = "nanogpt_np"

    def __init__(self, directory):
        keep_freed_memory()  # as every command that runs a model does
        self.model = fast(open_checkpoint(directory).model)

    def prompt(self, ids):
        """Return a function that runs a prompt and returns the last logits (V,)."""
        return lambda: next_logits(self.model, ids, cache=KVCache(self.model.config))

    def traced(self, ids, kind):
        """Return a function that runs a prompt without the LM head, with one of `TRACES` attached."""

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
        return decoding_products(self.model, len(ids))


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


class Load:
    """Loading a checkpoint whose file has been read before, so that it is in the page cache."""

    name = Ours.name

    def __init__(self, directory):
        self.directory = directory

    def run(self):
        return lambda: open_checkpoint(self.directory).model and None


class TheirLoad(Load):
    """The same by from_pretrained."""

    name = Transformers.name

    def run(self):
        return lambda: Transformers(self.directory) and None
