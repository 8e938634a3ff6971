"""Assignment a6, from vectors to text: the LM head, the choice of a token, and the loop.

How randomness is used is up to the student (``Generator.choice``, a cumulative sum and ``Generator.random``, ...), so
no check compares what two ways draw from one seed. A check of randomness returns what every right way shares: how often
an id comes, to the nearest quarter or twentieth; which ids come at all; whether the same seed gives the same. With
800 draws a share is off by an eighth or more with a probability below 2 exp(-2 * 800 / 64) = 3e-11 (Hoeffding's bound);
with 8,000 draws a share of 0.1 is off by a fortieth with 6e-12 (Chernoff's); an id of probability 0.46 is missing from
40 draws with 0.54^40 = 2e-11; and 12 ids of 100 come twice in one order with 1e-24. So a right answer practically never
fails, and grading again with the same seed gives the same result, unless the answer makes its own randomness.
"""

import math
from dataclasses import replace
from itertools import islice

import numpy as np

from ...generate import generate, next_logits
from ...generate.sampling import draw, probabilities
from ...model.cache import KVCache
from ...model.config import Config
from ...model.lm_head import LMHead
from ...model.trace import Tape
from ...names import parameters
from ...weights import assemble
from ..definitions import Assignment
from ..numbers import ids, plain, small_model

ASSIGNMENT = Assignment(
    "a6_generation",
    "the LM head, sampling and generation: from vectors to text",
    {
        "model.lm_head:LMHead.__call__": (
            "For one vector x of C numbers and one token there is one score. How many scores are there for T vectors "
            "and V tokens, and which two rows of numbers does each come from?",
            "A dot product for every pair of a row of x and a row of weight: that is one matrix product. Its inner "
            "axes must both be C, and weight has C last.",
            "`@` sums over the last axis on its left and the last but one on its right. On the left is x, (..., C); "
            "on the right you need (C, V), which is weight with its two axes swapped: .T does that.",
        ),
        "generate.sampling:probabilities": (
            "Take logits [2, 1, 0] and top_k=2. What are the probabilities before anything is dropped, what are they "
            "after, and what makes them sum to 1 again? And what would logits / 0 be?",
            "Deal with temperature 0 first, and return. Then softmax of logits / temperature; an order of the ids, "
            "likeliest first; and how many of that order stay: top_k and top_p each give a number, and the smaller "
            "counts. Set the others to 0, in their places, and divide by the sum.",
            "np.argsort of the logits times -1 puts the likeliest first; with kind='stable', ties go to the lower id. "
            "Take p in that order, as far as top_k leaves it: np.cumsum divided by its own last number says what has "
            "been reached after each token. Those that are still below top_p stay, and one more.",
        ),
        "generate.sampling:draw": (
            "With p = [0.25, 0.75] and a number u that lies anywhere between 0 and 1 with equal chance: for which u "
            "would you return 0, for which 1? Where does u come from?",
            "rng.random() gives u. Lay the probabilities end to end: np.cumsum(p) says where each piece ends, and you "
            "want the first that ends beyond u. Or let the Generator do all of it: it has a method to choose.",
            "rng.choice takes how many ids there are, and the probabilities as p=...; without them all are equally "
            "likely. Return the result as an int. np.random.choice is something else: it does not use rng.",
        ),
        "generate.loop:next_logits": (
            "model.hidden returns T rows, one for each token. Which of these tokens has seen all the others, and so "
            "which row can say what comes next?",
            "Three steps: hidden, with cache and trace passed on; its last row; the LM head. The row is announced "
            "before the LM head reads it, the scores after.",
            "Index -1 of what hidden returns is the last row, (C,). What trace returns for it goes into "
            "model.lm_head; the scores go through trace as hook_next_logits, and that is the result.",
        ),
        "generate.loop:generate": (
            "Write down by hand what goes through the model for the prompt [5, 3] and three new ids, with a cache and "
            "without. How many passes is that, and which of the new ids never goes through?",
            "A loop of at most min(n_new, n_positions - T + 1) rounds, with the cache made once before it: logits, an "
            "id, return if it ends the text, else yield it. The round ends with what goes through next: the one new "
            "id with a cache, everything so far without.",
            "Ask whether `token in stop` before `yield token`. Greedy is logits.argmax(); otherwise probabilities gets "
            "all three settings, and draw gets its result and rng. Next goes np.array([token]) with the cache, and "
            "np.append(ids, token) without: both are new arrays, so the caller's stays unchanged.",
        ),
    },
    may_import=(
        "nanogpt_np.model.attention.softmax",
        "nanogpt_np.model.cache.KVCache",
        "nanogpt_np.model.ids.check_ids",
        "nanogpt_np.fast.fast",
    ),
)


SAYS = (3, 5, 2, 6, 4)
LONG = tuple(5 * t % 24 for t in range(24))  # at each position another


def scripted(likeliest_after_position=SAYS, vocab_size=8):
    """Return a GPT-2 whose likeliest next token is ``likeliest_after_position[t]`` at position t, whatever it reads."""
    says, P = likeliest_after_position, len(likeliest_after_position)
    vocab_size = max(vocab_size, *(token + 1 for token in says))
    config = Config(vocab_size, P, n_embd=P, n_layer=1, n_head=1, n_inner=1, tie_word_embeddings=False)
    params = {name: np.zeros(p.shape(config)) for name, p in parameters.table(config).items()}
    params["wpe.weight"][:] = np.eye(P)
    params["ln_f.weight"][:] = 1
    params["lm_head.weight"][says, np.arange(P)] = 1
    return without_blocks(config, params)


def constant(logits, n_positions):
    """Return a GPT-2 whose next token has these logits, whatever it reads."""
    config = Config(len(logits), n_positions, n_embd=1, n_layer=1, n_head=1, n_inner=1)
    params = {name: np.zeros(p.shape(config)) for name, p in parameters.table(config).items()}
    params["ln_f.bias"][:] = 1
    params["wte.weight"][:, 0] = logits
    return without_blocks(config, params)


def without_blocks(config, params):
    """Return a model that takes a fifth of the time, for texts that its blocks have no part in."""
    return replace(assemble(config, params), h=())


# --- the LM head ---------------------------------------------------------------------------------


def vectors(rng):
    """One token, several, a batch; as many tokens as columns, so that a swap does not show by its shape."""
    yield {"x": np.array([[1.0, 2.0]]), "weight": np.array([[1.0, 0.0], [3.0, 1.0], [0.5, -1.0]])}
    yield {"x": np.array([[1.0, 2.0]]), "weight": np.array([[1.0, 3.0], [0.0, 1.0]])}
    yield {"x": np.array([1.0, 2.0]), "weight": np.array([[1.0, 0.0], [3.0, 1.0], [0.5, -1.0]])}
    yield {"x": plain(rng, 3, 4), "weight": plain(rng, 7, 4)}
    yield {"x": plain(rng, 2, 3, 4), "weight": plain(rng, 7, 4)}


@ASSIGNMENT.check("LMHead.__call__", "the score of a token is the dot product of x with the token's row", vectors)
def scores(x, weight):
    return LMHead(weight)(x)


@ASSIGNMENT.check("LMHead.__call__", "twice the vector has twice the scores", vectors)
def doubled(x, weight):
    head = LMHead(weight)
    return {"scores of 2 x less twice those of x": head(2 * x) - 2 * head(x)}


def beside(rng):
    """A vector, and others that may stand before and behind it."""
    yield {"x": np.array([1.0, 2.0]), "others": np.array([[10.0, -20.0]]), "weight": np.array([[1.0, 0.0], [3.0, 1.0]])}
    yield {"x": plain(rng, 4), "others": plain(rng, 2, 4), "weight": plain(rng, 7, 4)}


@ASSIGNMENT.check("LMHead.__call__", "each row has the scores that it would have alone", beside)
def each_alone(x, others, weight):
    head = LMHead(weight)
    together = head(np.concatenate([others, x[None], others]))
    return {"what the others change in the scores of x": together[len(others)] - head(x)}


def prompts(rng):
    """A small random model and ids for it: one token, a prompt, a batch."""
    for shape in ((1,), (4,), (2, 5)):
        yield {"model": small_model(rng), "ids": ids(rng, *shape)}


@ASSIGNMENT.check("LMHead.__call__", "in the whole model, in place of ours, it leads to the same logits", prompts)
def logits_of_the_model(model, ids, trace):
    return model(ids, trace=trace)


# --- probabilities -------------------------------------------------------------------------------


def tempered(rng):
    """At temperature 1, below it, above it."""
    for temperature in (1.0, 0.5, 2.0):
        yield {"logits": np.array([0.0, 1.0]), "temperature": temperature}
    yield {"logits": plain(rng, 5) * 2, "temperature": 0.7}


@ASSIGNMENT.check("probabilities", "gives softmax(logits / temperature)", tempered)
def softmax_with_temperature(logits, temperature):
    return probabilities(logits, temperature)


@ASSIGNMENT.check("probabilities", "has temperature 1 and keeps all tokens by default", tempered)
def defaults(logits, temperature):
    return probabilities(logits * temperature)


def coldest(rng):
    """The largest logit anywhere; and twice."""
    yield {"logits": np.array([1.0, 3.0])}
    yield {"logits": np.array([3.0, 1.0, 3.0])}
    yield {"logits": plain(rng, 6)}


@ASSIGNMENT.check("probabilities", "temperature 0 gives 1 to the likeliest token and 0 to all others", coldest)
def greedy(logits):
    return probabilities(logits, 0.0)


def some_of_them(rng):
    """The likeliest in the middle; all of them; more than there are."""
    for top_k in (1, 2, 4, 9):
        yield {"chances": np.array([0.1, 0.5, 0.1, 0.3]), "top_k": top_k}
    yield {"chances": rng.permutation(np.arange(1.0, 8)) / 28, "top_k": 3}


@ASSIGNMENT.check("probabilities", "top_k leaves the k likeliest, scaled to sum 1", some_of_them)
def by_top_k(chances, top_k):
    return probabilities(np.log(chances), 1.0, top_k=top_k)


def enough_of_them(rng):
    """Far from where the sums are, so that rounding decides nothing."""
    for top_p in (0.5, 0.7):
        yield {"chances": np.array([0.4, 0.6]), "top_p": top_p}
    for top_p in (0.05, 0.45, 0.6, 0.85, 1.0):
        yield {"chances": np.array([0.1, 0.5, 0.15, 0.25]), "top_p": top_p}
    yield {"chances": rng.permutation(np.arange(1.0, 8)) / 28, "top_p": 0.8}  # sums of whole 28ths, 0.8 is 22.4


@ASSIGNMENT.check(
    "probabilities", "top_p leaves the likeliest up to the one with which their sum reaches top_p", enough_of_them
)
def by_top_p(chances, top_p):
    return probabilities(np.log(chances), 1.0, top_p=top_p)


def several_settings(rng):
    """Two or three settings at once; the order of the steps decides."""
    yield {"chances": np.array([0.4, 0.3, 0.2, 0.1]), "temperature": 1.0, "top_k": 2, "top_p": 0.55}
    yield {"chances": np.array([0.4, 0.3, 0.2, 0.1]), "temperature": 1.0, "top_k": 2, "top_p": 0.9}
    yield {"chances": np.array([0.4, 0.3, 0.2, 0.1]), "temperature": 1.0, "top_k": 3, "top_p": 0.6}
    yield {"chances": np.array([0.4, 0.6]), "temperature": 0.5, "top_k": None, "top_p": 0.65}
    yield {"chances": np.array([0.4, 0.6]), "temperature": 2.0, "top_k": None, "top_p": 0.58}
    yield {"chances": np.array([0.2, 0.3, 0.4, 0.1]), "temperature": 0.5, "top_k": 2, "top_p": None}
    yield {"chances": np.array([0.2, 0.3, 0.4, 0.1]), "temperature": 0.0, "top_k": 2, "top_p": 0.9}


@ASSIGNMENT.check(
    "probabilities", "temperature comes first, then top_k, then top_p among what is left", several_settings
)
def in_this_order(chances, temperature, top_k, top_p):
    return probabilities(np.log(chances), temperature, top_k, top_p)


def equals(rng):
    """Tokens of one logit, of which some are to go."""
    for top_k, top_p in ((1, None), (2, None), (None, 0.3), (None, 0.6)):
        yield {"logits": np.array([0.0, 2.0, 2.0, 2.0]), "top_k": top_k, "top_p": top_p}
    for top_k, top_p in ((7, None), (None, 0.5)):  # of a few numbers, every way to sort leaves equals in their order
        yield {"logits": np.repeat([0.0, 2.0, 1.0], 20), "top_k": top_k, "top_p": top_p}
    for n, top_k in ((2, None), (4, None), (3, 2)):  # halves and quarters: a sum that is top_p, to the last digit
        yield {"logits": np.zeros(n), "top_k": top_k, "top_p": 0.5}


@ASSIGNMENT.check("probabilities", "ties go to the lower id: no more stay than asked for", equals)
def ties(logits, top_k, top_p):
    return probabilities(logits, 1.0, top_k, top_p)


def extremes(rng):
    """Numbers whose exp is more than any float holds, or less."""
    yield {"logits": np.array([1000.0, 999.0]), "temperature": 1.0}
    yield {"logits": np.array([-1000.0, -999.0]), "temperature": 1.0}
    yield {"logits": np.array([2.0, 3.0, 1.0]), "temperature": 0.001}
    yield {"logits": np.array([0.0, 2.0**-13]), "temperature": 2.0**-13}


@ASSIGNMENT.check("probabilities", "large logits and small temperatures do not overflow", extremes)
def stable(logits, temperature):
    return probabilities(logits, temperature, top_p=0.9)


def whatever_is_dropped(rng):
    """Many tokens, under all settings."""
    for settings in ((1.0, None, None), (0.7, 10, None), (1.5, None, 0.8), (0.9, 20, 0.9)):
        yield {"logits": 3 * rng.standard_normal(50), "settings": settings}


@ASSIGNMENT.check("probabilities", "the result sums to 1, whatever is dropped", whatever_is_dropped)
def sum_to_one(logits, settings):
    return {"their sum": float(probabilities(logits, *settings).sum())}


def nonsense(rng):
    """Each setting out of its range."""
    for name, values in (
        ("top_k", (0, -1)),
        ("top_p", (0.0, 1.5, -0.5, math.nan)),
        ("temperature", (-1.0, -0.25, math.inf, math.nan)),
    ):
        for value in values:
            yield {"settings": {name: value}}


@ASSIGNMENT.check("probabilities", "settings that mean nothing raise ValueError", nonsense)
def refused(settings):
    try:
        return f"no error, but {probabilities(np.array([1.0, 2.0, 3.0]), **settings)}"
    except ValueError:
        return "ValueError"


def models_and_settings(rng):
    """A small random model, a prompt, and all settings."""
    yield {"model": small_model(rng), "ids": ids(rng, 4), "temperature": 0.8, "top_k": 6, "top_p": 0.9}


@ASSIGNMENT.check("probabilities", "for the logits of a model it gives the same as ours", models_and_settings)
def of_a_model(model, ids, temperature, top_k, top_p):
    return probabilities(next_logits(model, ids), temperature, top_k, top_p)


# --- draw ----------------------------------------------------------------------------------------


def chances(rng):
    """All multiples of `step`, so that the nearest is the right one; no arrays, which would run twice.

    The last are so uneven, and drawn so often, that powers of them show, and numbers near 1 that are never drawn.
    """
    for p, draws, step in (
        ((0.25, 0.75), 800, 0.25),
        ((0.5, 0.0, 0.25, 0.25), 800, 0.25),
        ((0.9, 0.1), 8_000, 0.05),
    ):
        yield {"p": p, "draws": draws, "step": step, "seed": int(rng.integers(1000))}


@ASSIGNMENT.check("draw", "an id comes as often as its probability says", chances)
def frequencies(p, draws, step, seed):
    p, rng = np.array(p), np.random.default_rng(seed)
    drawn = [draw(p, rng) for _ in range(draws)]
    counts = np.array([sum(i == id for i in drawn) for id in range(len(p))])
    return {f"how often each id comes in {draws} draws, to the nearest {step}": np.round(counts / draws / step) * step}


def certain_ones(rng):
    """One id only; one at the front, or none."""
    for p in ((0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 0.5, 0.0, 0.5, 0.0)):
        yield {"p": p, "seed": int(rng.integers(1000))}


@ASSIGNMENT.check("draw", "an id of probability 0 never comes, nor a number that is no id", certain_ones)
def possible(p, seed):
    rng = np.random.default_rng(seed)
    drawn = {draw(np.array(p), rng) for _ in range(50)}
    wrong = sorted(int(i) for i in drawn if not (0 <= i < len(p) and p[i] > 0))
    return "ids that came and could not: " + (", ".join(map(str, wrong)) or "none")


def seeds(rng):
    """Two seeds."""
    yield {"p": (0.125,) * 8, "seed": 1, "another": 2}


@ASSIGNMENT.check(
    "draw", "all randomness comes from rng: the same seed draws the same ids, another seed other ids", seeds
)
def repeatable(p, seed, another):
    def drawn(seed):
        rng = np.random.default_rng(seed)
        return [int(draw(np.array(p), rng)) for _ in range(40)]

    first = drawn(seed)
    return {
        "40 draws with the same seed again": "the same ids" if drawn(seed) == first else "other ids",
        "40 draws with another seed": "the same ids" if drawn(another) == first else "other ids",
    }


# --- next_logits ---------------------------------------------------------------------------------


def two_positions(rng):
    """After position 0 comes token 2, after position 1 token 0: at position t its score is 1, the other's -1."""
    for T in (1, 2):
        yield {"likeliest_after_position": (2, 0), "ids": np.full(T, 1)}


@ASSIGNMENT.check("next_logits", "gives one score for each token, those after the last of ids", two_positions)
def after_the_last(likeliest_after_position, ids):
    return next_logits(scripted(likeliest_after_position, vocab_size=3), ids)


def single_prompts(rng):
    """A small random model, with prompts of one token, of several, of many."""
    for T in (1, 4):
        yield {"model": small_model(rng), "ids": ids(rng, T)}
    yield {"model": small_model(rng, n_positions=24), "ids": ids(rng, 20)}


@ASSIGNMENT.check("next_logits", "gives the last row of what the whole model gives", single_prompts)
def last_row(model, ids, trace):
    return next_logits(model, ids, trace=trace)


def cut_prompts(rng):
    """A small random model, a prompt, and where it is cut in two."""
    for cut in (1, 3):
        yield {"model": small_model(rng), "ids": ids(rng, 4), "cut": cut}


@ASSIGNMENT.check("next_logits", "continues from what the cache holds, and adds to it", cut_prompts)
def with_a_cache(model, ids, cut, trace):
    cache = KVCache(model.config)
    next_logits(model, ids[:cut], cache=cache)
    length = cache.length
    logits = next_logits(model, ids[cut:], cache=cache, trace=trace)
    return {"tokens in the cache after the first part": length, "scores after the second part": logits}


@ASSIGNMENT.check("next_logits", "passes trace on, and announces last_row (C,) and next_logits (V,)", single_prompts)
def announced(model, ids):
    acts = Tape()
    next_logits(model, ids, trace=acts)
    own = {name: acts.pop(name) for name in ("hook_last_row", "hook_next_logits") if name in acts}
    return {"tensors that the model announced": len(acts), **own}


def changes(rng):
    """Each of the two announced tensors, and one of the model's, to be changed on its way."""
    for name in ("hook_last_row", "hook_next_logits", "ln_final.hook_output"):
        yield {"logits": (1.0, 2.0, 4.0), "name": name}


@ASSIGNMENT.check("next_logits", "continues with what trace returns: x = trace(name, x)", changes)
def patched(logits, name):
    model, prompt = constant(logits, 4), np.array([0, 1])
    doubled = next_logits(model, prompt, trace=lambda n, x: 2 * x if n == name else x)
    return {f"the scores with twice the {name}": doubled}


# --- generate ------------------------------------------------------------------------------------


def scripts(rng):
    """What is likeliest after each position; some of it is asked for."""
    yield {"likeliest_after_position": (3, 5, 2), "prompt": np.array([7]), "n_new": 1}
    yield {"likeliest_after_position": SAYS, "prompt": np.array([7]), "n_new": 3}
    yield {"likeliest_after_position": SAYS, "prompt": np.array([7, 7]), "n_new": 2}
    yield {"likeliest_after_position": SAYS, "prompt": [1, 0, 1], "n_new": 0}
    yield {"likeliest_after_position": LONG, "prompt": np.array([7, 7, 7]), "n_new": 20}


@ASSIGNMENT.check("generate", "gives n_new ids, each the likeliest after all before it", scripts)
def likeliest(likeliest_after_position, prompt, n_new):
    rng = np.random.default_rng(0)
    return list(generate(scripted(likeliest_after_position), prompt, n_new, rng=rng))


def texts(rng):
    """A small random model, in which every id depends on all before it."""
    for T in (1, 4):
        yield {"model": small_model(rng), "prompt": ids(rng, T), "n_new": 5}
    yield {"model": small_model(rng, n_positions=24), "prompt": ids(rng, 15), "n_new": 10}


@ASSIGNMENT.check("generate", "gives the same ids with the cache and without it", texts)
def both_ways(model, prompt, n_new):
    def new(use_cache):
        return list(generate(model, prompt, n_new, stop=(), rng=np.random.default_rng(0), use_cache=use_cache))

    return {"ids with the cache": new(True), "ids without it": new(False)}


def ends(rng):
    """The text ends at any of the stop ids, and at <|endoftext|> if nothing else is said, but only then."""
    for stop in ((5,), (3,), (6, 2), ()):
        yield {"likeliest_after_position": SAYS, "prompt": np.array([7]), "settings": {"stop": stop}}
    for settings in ({}, {"stop": (6,)}, {"stop": ()}):
        yield {"likeliest_after_position": (3, 50256, 5, 6), "prompt": np.array([7]), "settings": settings}


@ASSIGNMENT.check("generate", "ends at the first stop id, and does not yield it", ends)
def stops(likeliest_after_position, prompt, settings):
    return list(generate(scripted(likeliest_after_position), prompt, 4, rng=np.random.default_rng(0), **settings))


def full(rng):
    """Prompts that leave room for some ids, and for the last one only; with the cache and without."""
    for n_positions, prompts in ((3, (3, 1)), (24, (20,))):
        for use_cache in (True, False):
            for T in prompts:
                yield {"n_positions": n_positions, "prompt": np.full(T, 7), "n_new": 9, "use_cache": use_cache}


@ASSIGNMENT.check("generate", "ends after n_positions - T + 1 ids, when the context is full", full)
def context(n_positions, prompt, n_new, use_cache):
    model = scripted(SAYS[:n_positions] if n_positions < len(SAYS) else LONG[:n_positions])
    return list(generate(model, prompt, n_new, rng=np.random.default_rng(0), use_cache=use_cache))


def short_texts(rng):
    """With the cache, without it, and as it is if nothing is said."""
    for use_cache in (True, False, None):
        yield {"prompt": np.array([7, 7]), "n_new": 3, "use_cache": use_cache}


@ASSIGNMENT.check(
    "generate", "with the cache only the new id goes through the model, without it all so far", short_texts
)
def passes(prompt, n_new, use_cache):
    lengths = []

    def watch(name, x):
        if name == "hook_tokens":
            lengths.append(x.shape[-1])
        return x

    said = {} if use_cache is None else {"use_cache": use_cache}
    list(generate(scripted(), prompt, n_new, rng=np.random.default_rng(0), trace=watch, **said))
    return {"tokens in each pass that trace saw": lengths}


def turned(rng):
    """What the model says, if trace turns the vector that the LM head reads: what it says at the position after."""
    for n_new in (1, 4):
        yield {"likeliest_after_position": SAYS, "prompt": np.array([7]), "n_new": n_new}


@ASSIGNMENT.check("generate", "continues with what trace returns: passes it on as it is", turned)
def patched_text(likeliest_after_position, prompt, n_new):
    def turn(name, x):
        return np.roll(x, 1, axis=-1) if name == "ln_final.hook_output" else x

    new = generate(scripted(likeliest_after_position), prompt, n_new, rng=np.random.default_rng(0), trace=turn)
    return {"the ids where trace turns each vector by one place": list(new)}


def endless(rng):
    """More ids than will be asked for."""
    yield {"prompt": np.array([7]), "n_new": 4}


@ASSIGNMENT.check("generate", "yields each id as soon as it is known, after one pass", endless)
def as_found(prompt, n_new):
    told = []
    new = iter(generate(scripted(), prompt, n_new, trace=lambda name, x: told.append(name) or x))
    found = {}
    for which in ("first", "second"):
        list(islice(new, 1))
        found[f"passes through the model when the {which} id comes"] = told.count("hook_tokens")
    return found


def kinds(rng):
    """The caller's own list, and array."""
    yield {"prompt": [7, 6]}
    yield {"prompt": np.array([7, 6])}


@ASSIGNMENT.check("generate", "leaves the caller's prompt as it was", kinds)
def prompt_afterwards(prompt):
    list(generate(scripted(), prompt, 2, use_cache=False))
    return {"the caller's prompt afterwards": prompt}


def settings(rng):
    """Which ids can come differs with each setting: with 1e-13 or less they cannot, with 0.46 they will.

    Of the last two, the probabilities at temperature 3 are 0.35, 0.3, 0.2, 0.15; the first three, scaled to sum 1,
    are 0.41, 0.35, 0.24. At temperature 1 they are 0.55, 0.35, 0.1, at 9 they are 0.36, 0.34, 0.3.
    """
    nothing = {"temperature": 1.0, "top_k": None, "top_p": None}
    yield {"logits_at_every_step": (0.0, 30.0), **nothing, "temperature": 300.0, "seed": 2}
    yield {"logits_at_every_step": (1.0, 1.0, 1.0), **nothing, "top_k": 2, "seed": 3}
    yield {"logits_at_every_step": (1.0, 1.0, 1.0), **nothing, "top_p": 0.5, "seed": 4}
    yield {"logits_at_every_step": (0.0, 30.0), **nothing, "temperature": 300.0, "top_k": 2, "seed": 5}
    yield {"logits_at_every_step": (0.0, 30.0), **nothing, "temperature": 300.0, "top_p": 0.9, "seed": 6}
    uneven = tuple(3 * math.log(chance) for chance in (0.35, 0.3, 0.2, 0.15))
    for top_p in (0.5, 0.72):
        yield {"logits_at_every_step": uneven, "temperature": 3.0, "top_k": 3, "top_p": top_p, "seed": 7}


@ASSIGNMENT.check("generate", "above temperature 0 it draws, by temperature, top_k and top_p", settings)
def sampled(logits_at_every_step, temperature, top_k, top_p, seed):
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "rng": np.random.default_rng(seed)}
    new = generate(constant(logits_at_every_step, 40), np.array([0]), 40, **options)
    return "the ids that come among 40: " + ", ".join(map(str, sorted({int(i) for i in new})))


def two_seeds(rng):
    """Two seeds."""
    yield {"seed": 1, "another": 2}


@ASSIGNMENT.check("generate", "the same seed gives the same text; another seed, or no rng, another", two_seeds)
def seeded(seed, another):
    """All of 100 tokens are equally likely."""

    def text(rng):
        return [int(i) for i in generate(constant((0.0,) * 100, 12), np.array([0]), 12, temperature=1.0, rng=rng)]

    first = text(np.random.default_rng(seed))
    pairs = {
        "the same seed twice": (first, text(np.random.default_rng(seed))),
        "another seed": (first, text(np.random.default_rng(another))),
        "no rng": (first, text(None)),
        "no rng twice": (text(None), text(None)),
    }
    return {f"12 ids with {words}": "the same" if a == b else "others" for words, (a, b) in pairs.items()}
