"""The facts recipe: a table of countries, phrased in many ways, for a tiny GPT-2 to memorize.

A fact is a subject, a relation and an object (France, capital, Paris). Each relation has some thirty
templates; for each country some of them are held out, so that evaluation measures recall, asked in a way
that was used for other countries only, not the copying of a sentence.
``python -m nanogpt_np train --recipe facts`` trains; ``python -m nanogpt_np facts`` asks.
"""

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from typing import Any

import numpy as np

from ..fast import fast
from ..model.config import Config
from ..model.gpt2 import GPT2
from ..model.trace import Array
from ..text.tokenizer import Tokenizer
from .loss import IGNORED

CONFIG = Config(n_positions=128, n_embd=64, n_head=4, n_layer=4, n_inner=256)
SETTINGS: dict[str, Any] = {
    "steps": 4000,
    "batch_size": 32,
    "context": 64,
    "lr": 3e-3,
    "final_lr": 1e-5,
    "warmup": 200,
    "weight_decay": 0.02,
    "share_unseen": True,
    "eval_every": 500,
    "save_every": 500,
    "dtype": "float16",
}
RELATIONS = ("capital", "continent", "currency", "language", "demonym")  # columns of the table
Fact = tuple[str, str, str]  # relation, subject, object
Question = tuple[str, list[int], list[int]]  # relation, prompt ids, answer ids
HELD_OUT = 4  # templates of each relation that a country is never trained on
WORK = 3e11  # operations of a batch of questions: a few seconds on a slow machine
SPLIT_SEED = 2019  # which ones: the same for every run, so that runs can be compared


def read_table() -> list[dict[str, str]]:
    """Return the rows of countries.csv as dicts."""
    text = resources.files(__package__).joinpath("countries.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def read_templates() -> dict[str, list[str]]:
    """Return ``{relation: [template, ...]}`` of templates.txt."""
    text = resources.files(__package__).joinpath("templates.txt").read_text(encoding="utf-8")
    templates: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            templates[line.strip("[]")] = found = []
        elif line and not line.startswith("#"):
            found.append(line)
    return templates


def triples(rows: Iterable[dict[str, str]]) -> list[Fact]:
    """Return (relation, subject, object) for every fact, both as they stand in a sentence."""
    found = []
    for row in rows:
        country = f"{row['article']} {row['country']}".strip()
        found += [(relation, country, row[relation]) for relation in RELATIONS]
        found.append(("country of a capital", row["capital"], country))
    return found


def prompt_for(template: str, subject: str) -> str:
    """Return the prompt that asks about `subject`: ``The capital of the Netherlands is``."""
    prompt = template.format(X=subject)
    return prompt[0].upper() + prompt[1:]


class FactsData:
    """Documents of one to four facts, each ending in <|endoftext|>, packed into rows of `context` tokens."""

    def __init__(self, context: int, batch_size: int, tokenizer: Tokenizer | None = None):
        self.context, self.batch_size = context, batch_size
        self.tokenizer = tokenizer or Tokenizer()
        self.facts = triples(read_table())
        self.templates = templates = read_templates()
        split = np.random.default_rng(SPLIT_SEED)
        self.prompts, self.held, self.seen = [], [], []  # by fact: prompts; numbers of held-out and of seen ones
        for relation, subject, _ in self.facts:
            self.prompts.append([prompt_for(t, subject) for t in templates[relation]])
            order = split.permutation(len(templates[relation]))
            self.held.append(order[:HELD_OUT])
            self.seen.append(order[HELD_OUT:])
        self._by_relation = {r: [i for i, f in enumerate(self.facts) if f[0] == r] for r in templates}
        self.relations = list(templates)
        text = [
            [f"{prompt} {answer}." for prompt in prompts]
            for prompts, (_, _, answer) in zip(self.prompts, self.facts, strict=True)
        ]
        encode = self.tokenizer.encode
        self._first = [[encode(s) for s in sentences] for sentences in text]
        self._later = [[encode(" " + s) for s in sentences] for sentences in text]
        every = [t for some in (self._first, self._later) for sentences in some for s in sentences for t in s]
        self.used = np.unique([*every, *self.tokenizer.stop])
        self.digest = hashlib.sha256(repr((text, [h.tolist() for h in self.held])).encode()).hexdigest()

    def document(self, rng: "np.random.Generator") -> list[int]:
        """Return the ids of a document: one fact, or a short list on one relation or one country."""
        count = 1 if rng.random() < 0.5 else int(rng.integers(2, 5))
        if rng.random() < 0.5:
            facts = rng.choice(self._by_relation[self.relations[rng.integers(len(self.relations))]], count)
        else:
            # The facts of a country are adjacent in the table.
            group = len(self.relations)
            start = rng.integers(len(self.facts) // group) * group
            facts = start + rng.permutation(group)[:count]
        ids: list[int] = []
        for number, i in enumerate(facts):
            template = rng.choice(self.seen[i])
            ids += (self._later if number else self._first)[i][template]
        return [*ids, *self.tokenizer.stop]

    def batch(self, rng: "np.random.Generator") -> tuple[Array, Array]:
        """Return (ids, targets), each (B, T); every row begins with a new document and is cut to length."""
        rows = np.empty((self.batch_size, self.context + 1), np.int64)
        for row in rows:
            ids: list[int] = []
            while len(ids) < len(row):
                ids += self.document(rng)
            row[:] = ids[: len(row)]
        return rows[:, :-1], rows[:, 1:]

    def held_out(self) -> Iterator[tuple[Array, Array]]:
        """Yield nothing: `evaluate` is used instead."""
        return iter(())

    def questions(self, which: str) -> list[Question]:
        """Return (relation, prompt ids, answer ids) for templates that were "held" out, "new" or "seen".

        The new ones are held-out templates whose words, from the subject on, end no seen template of
        the same fact, so that not even half a sentence can be copied. An answer ends with its
        period, so that half of a name is not taken for the whole.
        """
        found = []
        for i, (relation, _, answer) in enumerate(self.facts):
            templates = self.templates[relation]
            numbers: Array | list[int] = self.seen[i] if which == "seen" else self.held[i]
            if which == "new":
                endings = tuple(templates[t] for t in self.seen[i])
                tails = {t: templates[t][templates[t].index("{X}") :] for t in numbers}
                numbers = [t for t in numbers if not any(e.endswith(tails[t]) for e in endings)]
            reply = self.tokenizer.encode(f" {answer}.")
            found += [(relation, self.tokenizer.encode(self.prompts[i][t]), reply) for t in numbers]
        return found

    def evaluate(self, trainer: Any) -> list[str]:
        """Return lines with the share of right answers by relation."""
        lines = []
        for which in ("held", "seen"):
            every = 13 if which == "seen" and trainer.step_number < trainer.settings.steps else 1
            by = recall_by_relation(trainer.model, self.questions(which)[::every], trainer.encode)
            lines.append(f"{which}: " + "  ".join(f"{relation} {share:.1%}" for relation, (share, _) in by.items()))
        return lines


def rows_at_once(parameters: int, longest: int) -> int:
    """Return how many questions make a batch: up to 128, fewer of a large model, so that progress is heard of."""
    return int(max(1, min(128, WORK // (2 * parameters * longest))))


def recall(
    model: GPT2,
    questions: Sequence[Question],
    encode: Callable[[Array], Array] = lambda ids: ids,
    report: Callable[[int, int], None] | None = None,
) -> Array:
    """Return for each question whether greedy decoding gives the whole answer.

    An answer is right when each of its tokens is the likeliest after those before it; so one pass over
    prompt and answer together tells what decoding token by token would give.

    report : called after each batch with the number of questions asked and the total.
    """
    model, right = fast(model), np.zeros(len(questions), bool)
    lengths = np.array([len(p) + len(a) - 1 for _, p, a in questions])
    order = np.argsort(lengths, kind="stable")
    rows = rows_at_once(sum(p.size for p in model.params.values()), lengths.max(initial=1))
    for start in range(0, len(order), rows):
        some = order[start : start + rows]
        ids = np.full((len(some), lengths[some].max()), questions[0][1][0])  # what comes after a text changes nothing
        wanted = np.full(ids.shape, IGNORED)
        for row, i in enumerate(some):
            _, prompt, answer = questions[i]
            ids[row, : lengths[i]] = (prompt + answer)[:-1]
            wanted[row, len(prompt) - 1 : lengths[i]] = answer
        counts = wanted != IGNORED
        hit = ~counts
        hit[counts] = model.lm_head(model.hidden(encode(ids))[counts]).argmax(axis=-1) == encode(wanted[counts])
        right[some] = hit.all(axis=1)
        if report:
            report(start + len(some), len(order))
    return right


def recall_by_relation(
    model: GPT2,
    questions: Sequence[Question],
    encode: Callable[[Array], Array] = lambda ids: ids,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, tuple[float, int]]:
    """Return ``{relation: (share of right answers, number of questions)}``; arguments as for `recall`."""
    right = recall(model, questions, encode, report)
    relations = np.array([relation for relation, _, _ in questions])
    return {str(r): (right[relations == r].mean(), int((relations == r).sum())) for r in dict.fromkeys(relations)}
