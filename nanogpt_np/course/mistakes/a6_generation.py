"""Known mistakes in sampling and generation: what assignment a6 can call by its name."""

from functools import partial

from ...model.trace import no_trace
from ..assignments.a6_generation import ASSIGNMENT

# --- known mistakes of the LM head ---------------------------------------------------------------


mistake = partial(ASSIGNMENT.mistake, "LMHead.__call__")
HEAD = "x @ self.weight.T"
mistake("the matrix is used as it is stored, x @ weight, not transposed", (HEAD, "x @ self.weight"))
mistake(
    "tokens and vocabulary are swapped in the result: weight @ x.T is (V, T)",
    (HEAD, "self.weight @ np.swapaxes(x, -1, -2) if x.ndim > 1 else self.weight @ x"),
)
mistake(
    "softmax is taken already: the result must be scores, not probabilities",
    (HEAD, "(e := np.exp((y := x @ self.weight.T) - y.max(-1, keepdims=True))) / e.sum(-1, keepdims=True)"),
)
mistake(
    "the largest score is subtracted: the same probabilities, but other scores",
    (HEAD, f"(y := {HEAD}) - y.max(-1, keepdims=True)"),
)
mistake("the scores are divided by sqrt(C), as those of attention by sqrt(D)", (HEAD, f"({HEAD}) / x.shape[-1] ** 0.5"))
mistake(
    "the rows are brought to length 1 first (cosine similarity)",
    (HEAD, "x @ (self.weight / np.sqrt((self.weight**2).sum(-1, keepdims=True))).T"),
)
mistake("only the last row of x gets scores", (HEAD, "(x[..., -1:, :] if x.ndim > 1 else x) @ self.weight.T"))
mistake(
    "the mean of each vector is subtracted once more: the last layer norm has done that",
    (HEAD, "(x - x.mean(-1, keepdims=True)) @ self.weight.T"),
)

# --- of probabilities ----------------------------------------------------------------------------

mistake = partial(ASSIGNMENT.mistake, "probabilities")
TEMPERED = "softmax((logits - logits.max()) / temperature)"
COLDEST = (
    "    if temperature == 0:\n        p = np.zeros(len(logits))\n        p[logits.argmax()] = 1\n        return p\n"
)
ORDER = 'np.argsort(-logits, kind="stable")'
TOP_K = "min(top_k, len(p))"
NUCLEUS = "keep = min(keep, 1 + int(np.searchsorted(so_far, top_p * so_far[-1])))"
SCALED = "    p /= p.sum()\n"
DROPPED = "p[order[keep:]] = 0"

mistake("the logits are multiplied by the temperature, not divided", (TEMPERED, "softmax(logits * temperature)"))
mistake(
    "the temperature has no effect: it is forgotten, or divides the probabilities, where scaling to sum 1 cancels it",
    (TEMPERED, "softmax(logits)"),
)
mistake(
    "the probabilities are divided by the temperature, after the softmax", (TEMPERED, "softmax(logits) / temperature")
)
mistake(
    "softmax is taken twice: again of the probabilities divided by the temperature",
    (TEMPERED, "softmax(softmax(logits) / temperature)"),
)
mistake("the logits are divided by temperature 0: that case comes first", ("if temperature == 0", "if temperature < 0"))
mistake("temperature 0 is taken for 1 (`temperature or 1`)", (COLDEST, "    temperature = temperature or 1.0\n"))
mistake(
    "temperature 0 shares the probability among all that are equally likely",
    ("p[logits.argmax()] = 1", "p[logits == logits.max()] = 1 / (logits == logits.max()).sum()"),
)
mistake("top_k keeps k + 1 tokens", (TOP_K, "min(top_k + 1, len(p))"))
mistake("top_k keeps k - 1 tokens", (TOP_K, "min(top_k, len(p)) - 1"))
mistake("top_k relies on there being that many tokens", (TOP_K, "1 + int(np.arange(len(p))[top_k - 1])"))
mistake("top_k is forgotten", (TOP_K, "len(p)"))
mistake(
    "a threshold decides: whatever is as likely as the last that stays, stays too",
    (DROPPED, "p[p < p[order[keep - 1]]] = 0"),
)
mistake(
    "ties go to the higher id: an ascending order read backwards",
    (ORDER, 'np.argsort(logits, kind="stable")[::-1]'),
)
mistake(
    "among many equal logits any are kept: np.argsort keeps their order only with kind='stable'",
    (ORDER, "np.argsort(-logits)"),
)
mistake("the unlikeliest are kept: the order is ascending", (ORDER, 'np.argsort(logits, kind="stable")'))
mistake("the first ids are kept, not the likeliest: nothing is sorted", (ORDER, "np.arange(len(p))"))
mistake(
    "the probabilities are returned in the order of likelihood: ids keep their places",
    (SCALED, "    p = p[order] / p.sum()\n"),
)
mistake("what stays is not scaled to sum 1 again", (SCALED, ""))
mistake(
    "the token that reaches top_p is dropped, unless it is the first",
    (NUCLEUS, NUCLEUS.replace("1 + int", "max(1, int") + ")"),
)
mistake(
    "the token that reaches top_p is dropped, even if it is the first, so that none is left",
    (NUCLEUS, NUCLEUS.replace("1 + int", "int")),
)
mistake("top_p keeps one token too many", (NUCLEUS, NUCLEUS.replace("1 + int", "2 + int")))
mistake(
    "top_p keeps one token too many where the sum before it is exactly top_p: that one has reached it",
    (NUCLEUS, NUCLEUS.replace("so_far[-1])", "so_far[-1], side='right')")),
)
mistake(
    "top_p is compared with each probability, not with their sum",
    (NUCLEUS, "keep = min(keep, max(1, int((p >= top_p).sum())))"),
)
mistake("top_p keeps tokens until 1 - top_p is reached", (NUCLEUS, NUCLEUS.replace("top_p *", "(1 - top_p) *")))
mistake("top_p is forgotten", (NUCLEUS, ""))
mistake(
    "top_p counts among all tokens, not among those that top_k has left",
    (NUCLEUS, NUCLEUS.replace("top_p * so_far[-1]", "top_p")),
)
mistake(
    "top_p looks at the probabilities before the temperature",
    ("so_far = np.cumsum(p[order[:keep]])", "so_far = np.cumsum(softmax(logits)[order[:keep]])"),
)
mistake("top_k is forgotten where top_p is given", (TOP_K, "min(top_k, len(p)) if top_p is None else len(p)"))
mistake("top_p is forgotten where top_k is given", ("if top_p is not None:", "if top_p is not None and top_k is None:"))
mistake(
    "exp overflows: the largest logit is not subtracted first",
    (TEMPERED, "np.exp(logits / temperature)\n        p = p / p.sum()"),
)
mistake("check_sampling is not called", ("    check_sampling(temperature, top_k, top_p)\n", ""))
mistake(
    "a dropped token has its logit set to 0, not to minus infinity",
    (DROPPED, "p = softmax(np.where(np.isin(np.arange(len(p)), order[:keep]), logits, 0) / temperature)"),
)

# --- of draw -------------------------------------------------------------------------------------

mistake = partial(ASSIGNMENT.mistake, "draw")
CHOICE = "int(rng.choice(len(p), p=p))"
mistake(
    "rng is not used: np.random, or a new generator, makes its own randomness",
    (CHOICE, "int(np.random.default_rng().choice(len(p), p=p))"),
)
mistake(
    "every draw has a new generator with the same seed", (CHOICE, "int(np.random.default_rng(0).choice(len(p), p=p))")
)
mistake("the likeliest is taken, not drawn", (CHOICE, "int(p.argmax())"))
mistake("all ids are drawn alike: p is not given to rng.choice", (CHOICE, "int(rng.integers(len(p)))"))
mistake("all ids that are possible are drawn alike", (CHOICE, "int(rng.choice(np.flatnonzero(p)))"))
mistake("the id after the right one is drawn", (CHOICE, "int(rng.choice(len(p), p=p)) + 1"))
mistake(
    "the random number is compared with the probabilities, not with their sums",
    (CHOICE, "int((p > rng.random()).argmax())"),
)
mistake(
    "a place in the order of likelihood is drawn, not the id at that place",
    (CHOICE, "int(rng.choice(len(p), p=np.sort(p)[::-1]))"),
)

# --- of next_logits ------------------------------------------------------------------------------

mistake = partial(ASSIGNMENT.mistake, "next_logits")
LAST = "model.last_row(ids, cache=cache, trace=trace)"
ROWS = "model.hidden(ids, cache=cache, trace=trace)"
SCORES = "model.lm_head(last_row)"
mistake("the logits are those of the first row", (LAST, ROWS + "[0]"))
mistake("the logits are those of all rows, (T, V)", (LAST, ROWS))
mistake("the rows are averaged", (LAST, ROWS + ".mean(axis=0)"))
mistake("the last column is taken, not the last row", (LAST, ROWS + "[:, -1]"))
mistake("the LM head is forgotten: these are the last row's C numbers", (SCORES, "last_row.copy()"))
mistake("softmax is taken already: the result must be scores", (SCORES, f"softmax({SCORES})"))
mistake("the cache is not passed to the model", (LAST, LAST.replace("cache=cache, ", "")))
mistake("trace is not passed to the model", (LAST, LAST.replace(", trace=trace", "")))
mistake(
    "what trace returns is not used: x = trace(name, x)",
    (f'last_row = trace("hook_last_row", {LAST})', f'trace("hook_last_row", last_row := {LAST})'),
    ('logits = trace("hook_next_logits", logits)', 'trace("hook_next_logits", logits)'),
)
mistake(
    "trace is called for the model's own points, but what it returns there is discarded",
    (LAST, LAST.replace("trace=trace", "trace=lambda name, x: (trace(name, x), x)[1]")),
)
mistake(
    "the last row and its scores are not announced",
    (f'trace("hook_last_row", {LAST})', LAST),
    ('    logits = trace("hook_next_logits", logits)\n', ""),
)


@ASSIGNMENT.wrong_version("next_logits", "all rows go through the LM head, and the last of the T x V scores is taken")
def through_the_whole_head(model, ids, *, cache=None, trace=no_trace):
    return trace("hook_next_logits", model(ids, cache=cache, trace=trace)[-1])


# --- of generate ---------------------------------------------------------------------------------

mistake = partial(ASSIGNMENT.mistake, "generate")
CACHE = "cache = KVCache(model.config) if use_cache else None"
ROUNDS = "range(min(n_new, room))"
STEP = "logits = next_logits(model, ids, cache=cache, trace=trace)"
STOP = "            if token in stop:\n                return\n            yield token\n"
NEXT = "ids = np.array([token]) if use_cache else np.append(ids, token)"
DRAW = "draw(probabilities(logits, temperature, top_k, top_p), rng)"

mistake("the prompt is yielded before the new ids", (CACHE, f"{CACHE}\n        yield from ids.tolist()"))
mistake("it gives one id too many", (ROUNDS, "range(min(n_new + 1, room))"))
mistake("it gives one id too few", (ROUNDS, "range(min(n_new, room) - 1)"))
mistake("it ends one id before the context is full: the last id needs no position", ("- len(ids) + 1", "- len(ids)"))
mistake("it continues when the context is full", (ROUNDS, "range(n_new)"))
mistake("n_positions alone is the limit, not what the prompt leaves of it", ("- len(ids) + 1", "+ 0"))
mistake(
    "the stop id is yielded before the text ends",
    (STOP, "            yield token\n            if token in stop:\n                return\n"),
)
mistake("the stop ids are ignored", (STOP, "            yield token\n"))
mistake(
    "a stop id is left out, but the text continues",
    (STOP, "            if token not in stop:\n                yield token\n"),
)
mistake(
    "only <|endoftext|> ends the text, whatever `stop` says",
    ("if token in stop", "if token in model.config.eos_token_ids"),
)
mistake(
    "<|endoftext|> ends the text even where `stop` does not name it",
    ("if token in stop", "if token in {*stop, *model.config.eos_token_ids}"),
)
mistake("only the first of the stop ids ends the text", ("if token in stop", "if token in stop[:1]"))
mistake(
    "the cache is not used: everything goes through the model again at every step",
    (CACHE, "cache = None"),
    (NEXT, "ids = np.append(ids, token)"),
)
mistake(
    "with the cache, too, the whole text goes through again: the positions keep counting",
    (NEXT, "ids = np.append(ids, token)"),
)
mistake(
    "without the cache only the new id goes through, and all before it is forgotten", (NEXT, "ids = np.array([token])")
)
mistake(
    "a new cache is made for every id, and all before it is forgotten",
    (CACHE, "pass"),
    (STEP, f"{CACHE}\n            {STEP}"),
)
mistake(
    "the new id is not appended: the prompt goes through again and again", (NEXT, "ids = ids"), (CACHE, "cache = None")
)
mistake(
    "the cache is always used, whatever use_cache says",
    ("KVCache(model.config) if use_cache else None", "KVCache(model.config)"),
    (NEXT, "ids = np.array([token])"),
)
mistake("the likeliest is taken, although temperature is above 0", ("if temperature == 0", "if True"))
mistake(
    "it draws, although temperature is 0",
    ("if temperature == 0", "if False"),
    (DRAW, DRAW.replace("temperature", "temperature or 1.0")),
)
mistake("the temperature is not passed to probabilities", (DRAW, DRAW.replace("temperature", "1.0")))
mistake("top_k is not passed to probabilities", (DRAW, DRAW.replace("top_k", "None")))
mistake("top_p is not passed to probabilities", (DRAW, DRAW.replace("top_p", "None")))
mistake(
    "top_p is not passed on where top_k is given",
    (DRAW, DRAW.replace("top_p", "None if top_k else top_p")),
)
mistake(
    "the temperature is not passed on where top_k or top_p is given",
    (DRAW, DRAW.replace("temperature", "1.0 if top_k or top_p else temperature")),
)
mistake(
    "the logits are divided by the temperature, which probabilities does once more",
    (DRAW, DRAW.replace("(logits", "(logits / temperature")),
)
mistake(
    "rng is not used: a new generator makes its own randomness", (DRAW, DRAW.replace("rng", "np.random.default_rng()"))
)
mistake("rng starts over at every step", (DRAW, DRAW.replace("rng", "np.random.default_rng(0)")))
mistake("it relies on being given an rng", ("rng = np.random.default_rng() if rng is None else rng", "rng.random"))
mistake("without an rng it always begins with the same seed", ("default_rng()", "default_rng(0)"))
mistake(
    "it always begins with the same seed, whatever rng is given",
    ("default_rng() if rng is None else rng", "default_rng(0)"),
)
mistake("all ids are computed before the first is yielded", ("return steps(ids)", "return iter(list(steps(ids)))"))
mistake(
    "without the cache only the last few of the ids so far go through, not all of them",
    (NEXT, NEXT.replace("append(ids", "append(ids[-8:]")),
)
mistake("the cache is not used by default", ("use_cache=True", "use_cache=False"))
mistake(
    "trace is called for everything, but what it returns is discarded",
    (STEP, STEP.replace("trace=trace", "trace=lambda name, x: (trace(name, x), x)[1]")),
)
mistake("trace is not passed to next_logits", (STEP, STEP.replace(", trace=trace", "")))
mistake(
    "the new ids are appended to the caller's own list",
    ("    ids = check_ids(ids, model.config)\n", "    given, ids = ids, check_ids(ids, model.config)\n"),
    ("yield token", "given.append(token) if isinstance(given, list) else None\n            yield token"),
)
