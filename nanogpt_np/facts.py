"""The facts recipe: a table of countries, said in many ways, for a tiny GPT-2 to learn by heart.

A fact is a subject, a relation and an object (France, capital, Paris). Each relation has some thirty
templates; for each country some of them are held out, so that what is measured is recall (asked in a
way that was used for other countries only), not copying. ``python -m nanogpt_np.train --recipe facts``.
"""

import csv
import hashlib
from importlib import resources

import numpy as np

from .config import Config
from .loss import IGNORED
from .tokenizer import END_OF_TEXT_ID, Tokenizer

CONFIG = Config(n_positions=128, n_embd=64, n_head=4, n_layer=4, n_inner=256)
SETTINGS = {
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
HELD_OUT = 4  # templates of each relation that a country is never trained on
SPLIT_SEED = 2019  # which ones: the same for every run, so that runs can be compared

# {X} is what is asked about; the object follows, then a full stop. Prompts that end with "the" take a
# currency. Nothing here says more than the table does.
TEMPLATES = {
    "capital": """The capital of {X} is
The capital city of {X} is
The name of {X}'s capital is
The country of {X} has its capital in
Everybody in {X} knows the capital,
The name of the capital of {X} is
The city that is the capital of {X} is
{X} has a capital called
{X} has its capital in
{X}'s capital is
{X}'s capital city is
In {X}, the capital is
In {X} the capital city is called
On a map of {X}, the capital is marked
If you visit the capital of {X}, you visit
If you ask for the capital of {X}, the answer is
She moved to the capital of {X}, which is
He wrote a letter from the capital of {X},
We took a train to the capital of {X},
Capital of {X}:
{X}: the capital is
As for {X}, its capital is
What is the capital of {X}? It is
What is the capital of {X}? The capital is
What is the capital city of {X}? The answer is
Which city is the capital of {X}? It is
Do you know the capital of {X}? Yes, it is
Tell me the capital of {X}. It is
Q: What is the capital of {X}? A:
Question: Which city is the capital of {X}? Answer:""",
    "continent": """{X} is in
{X} is a country in
{X} is located in
{X} lies in
{X} can be found in
{X} is part of
{X} is on the continent of
{X} belongs to the continent of
The country of {X} is in
The continent of {X} is
The continent in which {X} lies is
The continent where {X} is found is
You can find {X} in
On a map of the world, {X} is in
On a globe, you find {X} in
If you travel to {X}, you travel to
She went to {X}, which is in
He has a map of {X}, a country in
Continent of {X}:
{X}: the continent is
As for {X}, its continent is
Where is {X}? It is in
Where is {X}? {X} is in
Where in the world is {X}? It is in
On which continent is {X}? It is in
In which part of the world is {X}? The answer is
Do you know where {X} is? Yes, it is in
Tell me where {X} is. It is in
Q: On which continent is {X}? A:
Question: Where is {X}? Answer:""",
    "currency": """The currency of {X} is the
The money of {X} is the
The official currency of {X} is the
The currency used in {X} is the
The money used in {X} is the
The name of the currency of {X} is the
{X} uses the
{X} has a currency called the
{X}'s currency is the
{X}'s money is the
In {X}, the currency is the
In {X}, you pay with the
In {X}, people pay with the
In {X}, prices are given in the
People in {X} use the
Shops in {X} take the
If you travel to {X}, you will need the
Before she went to {X}, she bought some of its money, the
He came back from {X} with some of its money, the
Currency of {X}: the
{X}: the currency is the
As for {X}, its currency is the
What is the currency of {X}? It is the
What is the currency of {X}? The currency is the
What money is used in {X}? The answer is the
How do people pay in {X}? With the
Do you know the currency of {X}? Yes, it is the
Tell me the currency of {X}. It is the
Q: What is the currency of {X}? A: the
Question: Which money is used in {X}? Answer: the""",
    "language": """The main language of {X} is
The language of {X} is
The main language in {X} is
The language spoken in {X} is
The language that is heard most in {X} is
The name of the main language of {X} is
{X} has a main language called
{X}'s main language is
{X}'s language is
In {X}, people speak
In {X}, most people speak
In {X}, the main language is
In {X}, the language is
People in {X} speak
Schools in {X} teach in
The radio in {X} speaks
If you live in {X}, you will need to learn
Before she moved to {X}, she learned its language,
He lived in {X} and learned to speak
Language of {X}:
{X}: the main language is
As for {X}, its main language is
What is the main language of {X}? It is
What is the main language of {X}? The language is
Which language is spoken in {X}? The answer is
What do people speak in {X}? They speak
Do you know the main language of {X}? Yes, it is
Tell me the main language of {X}. It is
Q: What is the main language of {X}? A:
Question: Which language is spoken in {X}? Answer:""",
    "demonym": """A person from {X} is
People from {X} are
Somebody from {X} is
Someone who was born in {X} is
A citizen of {X} is
A woman from {X} is
A man from {X} is
The people of {X} are
The adjective for {X} is
The word for somebody from {X} is
The word for people from {X} is
The name for people from {X} is
{X} is where you find people who are
Things from {X} are
Food from {X} is
A song from {X} is
A ship from {X} is
She comes from {X}, so she is
He comes from {X}, so he is
People of {X}:
{X}: the people are
As for {X}, its people are
What is a person from {X} called? The word is
What do you call people from {X}? They are
What do you call somebody from {X}? The answer is
Which adjective goes with {X}? It is
Do you know what people from {X} are called? Yes, they are
Tell me the adjective for {X}. It is
Q: What are people from {X} called? A:
Question: What is somebody from {X}? Answer:""",
    "country of a capital": """{X} is the capital of
{X} is the capital city of
{X} is the name of the capital of
{X} is a city, the capital of
{X} is a city in
You find the city of {X} in
The capital that is called {X} is in
The city of {X} is the capital of
The city of {X} is in
The country around {X} is
The country whose capital is {X} is
The country that has {X} as its capital is
The capital {X} belongs to
With {X} as its capital, there is
On a map, {X} is the capital of
If you visit {X}, you visit the capital of
If you fly to {X}, you fly to
She moved to {X}, the capital of
He wrote a letter from {X}, the capital of
We took a train to {X}, a city in
Country of {X}:
{X}: the country is
As for {X}, it is the capital of
Which country has the capital {X}? It is
What is {X} the capital of? It is the capital of
In which country is {X}? It is in
Do you know which country {X} is the capital of? Yes, it is
Tell me the country of {X}. It is
Q: Which country has the capital {X}? A:
Question: Where is the city of {X}? Answer:""",
}


def read_table():
    """Return the rows of countries.csv as dicts."""
    text = resources.files(__package__).joinpath("data/countries.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def triples(rows):
    """Return (relation, subject, object) for every fact, both as they stand in a sentence."""
    found = []
    for row in rows:
        country = f"{row['article']} {row['country']}".strip()
        found += [(relation, country, row[relation]) for relation in TEMPLATES if relation in row]
        found.append(("country of a capital", row["capital"], country))
    return found


def prompt_for(template, subject):
    """Return the prompt that asks about `subject`: ``The capital of the Netherlands is``."""
    prompt = template.format(X=subject)
    return prompt[0].upper() + prompt[1:]


class FactsData:
    """Documents of one to four facts, each ending in <|endoftext|>, side by side in rows of `context` tokens."""

    def __init__(self, context, batch_size):
        self.context, self.batch_size = context, batch_size
        self.tokenizer = Tokenizer()
        self.facts = triples(read_table())
        templates = {relation: text.split("\n") for relation, text in TEMPLATES.items()}
        split = np.random.default_rng(SPLIT_SEED)
        self.prompts, self.held, self.seen = [], [], []  # by fact: prompts; numbers of held-out and of seen ones
        for relation, subject, _ in self.facts:
            self.prompts.append([prompt_for(t, subject) for t in templates[relation]])
            order = split.permutation(len(templates[relation]))
            self.held.append(order[:HELD_OUT])
            self.seen.append(order[HELD_OUT:])
        self._by_relation = {r: [i for i, f in enumerate(self.facts) if f[0] == r] for r in templates}
        self._relations = list(templates)
        text = [
            [f"{prompt} {answer}." for prompt in prompts]
            for prompts, (_, _, answer) in zip(self.prompts, self.facts, strict=True)
        ]
        encode = self.tokenizer.encode
        self._first = [[encode(s) for s in sentences] for sentences in text]
        self._later = [[encode(" " + s) for s in sentences] for sentences in text]
        every = [t for some in (self._first, self._later) for sentences in some for s in sentences for t in s]
        self.used = np.unique([*every, END_OF_TEXT_ID])
        self.digest = hashlib.sha256(repr((text, [h.tolist() for h in self.held])).encode()).hexdigest()

    def document(self, rng):
        """Return the ids of a document: one fact, or a short list on one relation or one country."""
        count = 1 if rng.random() < 0.5 else int(rng.integers(2, 5))
        if rng.random() < 0.5:
            facts = rng.choice(self._by_relation[self._relations[rng.integers(len(self._relations))]], count)
        else:
            # The facts of a country stand side by side in the table.
            group = len(self._relations)
            start = rng.integers(len(self.facts) // group) * group
            facts = start + rng.permutation(group)[:count]
        ids = []
        for number, i in enumerate(facts):
            template = rng.choice(self.seen[i])
            ids += (self._later if number else self._first)[i][template]
        return [*ids, END_OF_TEXT_ID]

    def batch(self, rng):
        """Return (ids, targets), each (B, T); every row begins with a document and is cut off at its end."""
        rows = np.empty((self.batch_size, self.context + 1), np.int64)
        for row in rows:
            ids = []
            while len(ids) < len(row):
                ids += self.document(rng)
            row[:] = ids[: len(row)]
        return rows[:, :-1], rows[:, 1:]

    def held_out(self):
        """Yield nothing: what counts here is `report`."""
        return iter(())

    def questions(self, which):
        """Return (relation, prompt ids, answer ids) for the templates that were "held" out or "seen".

        An answer ends with its full stop, so that half of a name is not taken for the whole.
        """
        numbers = {"held": self.held, "seen": self.seen}[which]
        return [
            (relation, self.tokenizer.encode(prompts[t]), self.tokenizer.encode(f" {answer}."))
            for (relation, _, answer), prompts, ts in zip(self.facts, self.prompts, numbers, strict=True)
            for t in ts
        ]

    def report(self, trainer):
        """Return lines with the share of right answers by relation."""
        lines = []
        for which in ("held", "seen"):
            questions = self.questions(which)
            if which == "seen" and trainer.step_number < trainer.settings.steps:
                questions = questions[::13]
            right = recall(trainer.model, questions, trainer.encode)
            by = {
                r: np.mean([ok for ok, (rel, _, _) in zip(right, questions, strict=True) if rel == r])
                for r in TEMPLATES
            }
            lines.append(f"{which}: " + "  ".join(f"{relation} {share:.1%}" for relation, share in by.items()))
        return lines


def recall(model, questions, encode=lambda ids: ids):
    """Return for each question whether greedy decoding gives the whole answer.

    An answer is right when each of its tokens is the likeliest after those before it; so one pass over
    prompt and answer together tells what decoding token by token would give.
    """
    right = np.zeros(len(questions), bool)
    lengths = np.array([len(p) + len(a) - 1 for _, p, a in questions])
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), 128):
        some = order[start : start + 128]
        ids = np.full((len(some), lengths[some].max()), END_OF_TEXT_ID)
        wanted = np.full(ids.shape, IGNORED)
        for row, i in enumerate(some):
            _, prompt, answer = questions[i]
            ids[row, : lengths[i]] = (prompt + answer)[:-1]
            wanted[row, len(prompt) - 1 : lengths[i]] = answer
        wanted = encode(wanted)
        hit = model(encode(ids)).argmax(axis=-1) == wanted
        right[some] = (hit | (wanted == IGNORED)).all(axis=1)
    return right
