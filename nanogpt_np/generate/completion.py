"""Text in, text out: `complete` continues a prompt; `completions` several, or one several times, in detail.

They open the model, encode, generate all texts side by side (`batch.py`), and cut each at its stop text
(`stops.py`). `generate` of `loop.py` is for ids.
"""

import functools
import os
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..model.gpt2 import GPT2
from ..model.trace import Trace, no_trace
from ..text.tokenizer import Tokenizer, check_text
from .batch import Row, generate_rows, make_rows
from .sampling import Choice
from .stops import TextStream, check_stops

if TYPE_CHECKING:
    from ..weights import Checkpoint

SIDE_BY_SIDE = 16  # rows in one batch: more would gain little, and each has a cache of its own
Model: TypeAlias = "str | os.PathLike[str] | GPT2 | Checkpoint | None"


@dataclass(frozen=True)
class Completion:
    """What follows a prompt, in detail.

    text : without the prompt, and up to the stop text if there is one.
    ids : all ids that were generated, those of a stop text included; a token that ends a text is not among them.
    log_probs : the natural logarithm of each id's probability by the model itself, before penalty, temperature and
        all that drops tokens.
    ended : "length", "context" (it is full), "end of text" (the model ended it) or "stop text".
    """

    text: str
    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    ended: str

    def tokens(self, tokenizer: Tokenizer | None = None) -> list[bytes]:
        """Return the bytes of each id; bytes, since one character may take several tokens."""
        return [(tokenizer or _own_tokenizer()).token(i) for i in self.ids]


def complete(
    prompt: str,
    model: Model = None,
    *,
    max_new_tokens: int = 20,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    stop: str | Iterable[str] = (),
    special: bool = False,
    tokenizer: Tokenizer | None = None,
) -> str:
    """Return the text that follows `prompt`, without the prompt; the arguments are those of `completions`."""
    check_text(prompt)
    (only,) = completions(
        prompt,
        model,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=stop,
        special=special,
        tokenizer=tokenizer,
    )
    return only.text


def completions(
    prompts: str | Iterable[str],
    model: Model = None,
    *,
    max_new_tokens: int = 20,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    num_samples: int = 1,
    stop: str | Iterable[str] = (),
    special: bool = False,
    tokenizer: Tokenizer | None = None,
) -> list[Completion]:
    """Return a `Completion` for each prompt, or `num_samples` for each, prompt by prompt; they run side by side.

    prompts : a text, or several of any lengths.
    model : a name as for `load`, a directory, a `Checkpoint` or a `GPT2`; None is gpt2 if it is on this machine,
        else the bundled model. A name is loaded anew at every call.
    temperature : 0 takes the likeliest token each time; above 0 draws from the tokens that `top_k`, `top_p` and
        `min_p` leave. All settings: `sampling.Choice`.
    seed : sample i of each prompt is drawn with ``np.random.default_rng([seed, i])``, however many there are.
    stop : texts that end a text and are not part of it.
    special : read ``<|endoftext|>`` in a prompt as that token, not as text.
    tokenizer : by default the checkpoint's own, or that of GPT-2.

    Raises ValueError for bad arguments.
    """
    choice, stops = Choice(temperature, top_k, top_p, min_p, repetition_penalty), check_stops(stop)
    if not (isinstance(num_samples, int | np.integer) and num_samples >= 1):
        raise ValueError(f"num_samples must be 1 or more, not {repr(num_samples)[:60]}")
    if num_samples > 1 and temperature == 0:
        raise ValueError("num_samples needs a temperature above 0: greedy has one answer")
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    for text in prompts:
        check_text(text)
        if not text:
            raise ValueError("the prompt is empty: GPT-2 continues from at least one token")
    gpt2, tokenizer = _opened(model, tokenizer)
    seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
    rows = make_rows(gpt2, [tokenizer.encode(text, special=special) for text in prompts], seed, range(num_samples))
    streams = [TextStream(tokenizer, stops) for _ in rows]
    for start in range(0, len(rows), SIDE_BY_SIDE):
        group = slice(start, start + SIDE_BY_SIDE)
        for _ in write(gpt2, rows[group], streams[group], max_new_tokens, choice, log_probs=True):
            pass
    return [
        Completion(stream.text, tuple(row.ids), tuple(row.log_probs), row.ended or "")
        for row, stream in zip(rows, streams, strict=True)
    ]


def write(
    model: GPT2,
    rows: Sequence[Row],
    streams: Sequence[TextStream],
    n_new: int,
    choice: Choice,
    *,
    log_probs: bool = False,
    stop: Container[int] | None = None,
    use_cache: bool = True,
    trace: Trace = no_trace,
) -> Iterator[tuple[int, str]]:
    """Generate `rows` side by side, each into its stream; yield (number of the row, new text) as it becomes certain.

    A row whose stream has found a stop text ends.
    """
    if not (isinstance(n_new, int | np.integer) and n_new >= 0):
        raise ValueError(f"the number of new tokens must be 0 or more, not {repr(n_new)[:60]}")
    number = {row: i for i, row in enumerate(rows)}
    steps = generate_rows(model, rows, n_new, choice, log_probs=log_probs, stop=stop, use_cache=use_cache, trace=trace)
    for row, token in steps:
        stream = streams[number[row]]
        yield number[row], stream.push(token)
        if stream.stopped:
            row.ended = "stop text"
    for row, i in number.items():
        yield i, streams[i].end()
        if streams[i].stopped:  # the last bytes, which were no whole character
            row.ended = "stop text"


def _opened(model: Model, tokenizer: Tokenizer | None) -> tuple[GPT2, Tokenizer]:
    """Return the model of any of the ways to name it, and the tokenizer that it goes with."""
    if isinstance(model, GPT2):
        return model, tokenizer or _own_tokenizer()
    from ..weights.checkpoint import Checkpoint, open_checkpoint  # only when needed: ids and a model need no files
    from ..weights.places import default_model

    name = default_model() if model is None else model
    checkpoint = name if isinstance(name, Checkpoint) else open_checkpoint(name)
    return checkpoint.model, tokenizer or getattr(checkpoint, "tokenizer", None) or _own_tokenizer()


@functools.cache
def _own_tokenizer() -> Tokenizer:
    return Tokenizer()
