"""Known mistakes in the block and the model: what assignment a5 can call by its name."""

from ...model.attention import no_cache
from ...model.trace import no_trace, scoped
from ..assignments.a5_model import ASSIGNMENT

wrong = ASSIGNMENT.mistake


def other_block(words):
    """Decorate a block written in another order: (block, x, attn(x), ln_1(x), ...) with their traces -> output"""

    def decorate(formula):
        def version(self, x, remember=no_cache, trace=no_trace):
            ln_1 = lambda x: self.ln_1(x, scoped(trace, "ln1."))  # noqa: E731
            attn = lambda x: trace("hook_attn_out", self.attn(x, remember, scoped(trace, "attn.")))  # noqa: E731
            ln_2 = lambda x: self.ln_2(x, scoped(trace, "ln2."))  # noqa: E731
            mlp = lambda x: trace("hook_mlp_out", self.mlp(x, scoped(trace, "mlp.")))  # noqa: E731
            mid = lambda x: trace("hook_resid_mid", x)  # noqa: E731
            return trace("hook_resid_post", formula(trace("hook_resid_pre", x), ln_1, attn, ln_2, mlp, mid))

        ASSIGNMENT.wrong_version("Block.__call__", words)(version)
        return formula

    return decorate


@other_block("the norms come after the sums (post-norm), as in the first Transformer: GPT-2 normalizes before a layer")
def post_norm(x, ln_1, attn, ln_2, mlp, mid):
    x = mid(ln_1(x + attn(x)))
    return ln_2(x + mlp(x))


@other_block("the norms come after the layers: what a layer adds is normalized, not what it reads")
def norms_of_what_is_added(x, ln_1, attn, ln_2, mlp, mid):
    x = mid(x + ln_1(attn(x)))
    return x + ln_2(mlp(x))


@other_block("the MLP comes first, then attention")
def mlp_first(x, ln_1, attn, ln_2, mlp, mid):
    x = mid(x + mlp(ln_2(x)))
    return x + attn(ln_1(x))


@other_block("ln_2 reads x as it was before attention: attention and MLP run side by side")
def side_by_side(x, ln_1, attn, ln_2, mlp, mid):
    return mid(x + attn(ln_1(x))) + mlp(ln_2(x))


@other_block("the MLP reads what attention read, ln_1(x)")
def one_copy_for_both(x, ln_1, attn, ln_2, mlp, mid):
    copy = ln_1(x)
    return mid(x + attn(copy)) + mlp(copy)


@other_block("the MLP reads what attention found, not the stream with it")
def what_attention_found(x, ln_1, attn, ln_2, mlp, mid):
    found = attn(ln_1(x))
    return mid(x + found) + mlp(ln_2(found))


@other_block("the second sum continues from the x that came in: what attention added is lost")
def attention_lost(x, ln_1, attn, ln_2, mlp, mid):
    return x + mlp(ln_2(mid(x + attn(ln_1(x)))))


@other_block("the x that came in is added a second time")
def added_twice(x, ln_1, attn, ln_2, mlp, mid):
    y = mid(x + attn(ln_1(x)))
    return x + y + mlp(ln_2(y))


BLOCK_CALL = "Block.__call__"
ATTN_SUM, MLP_SUM = 'x = x + trace("hook_attn_out"', 'x = x + trace("hook_mlp_out"'
NO_ATTN_SUM, NO_MLP_SUM = (ATTN_SUM, ATTN_SUM.replace("x + ", "")), (MLP_SUM, MLP_SUM.replace("x + ", ""))
wrong(BLOCK_CALL, "the residual is missing around attention: x + attn(ln_1(x))", NO_ATTN_SUM)
wrong(BLOCK_CALL, "the residual is missing around the MLP: mid + mlp(ln_2(mid))", NO_MLP_SUM)
wrong(BLOCK_CALL, "both residuals are missing", NO_ATTN_SUM, NO_MLP_SUM)
FROM_ATTN_IN, FROM_MLP_IN = (
    (ATTN_SUM, ATTN_SUM.replace("x + ", "attn_in + ")),
    (MLP_SUM, MLP_SUM.replace("x + ", "mlp_in + ")),
)
wrong(BLOCK_CALL, "attention adds to the normalized copy, not to the stream", FROM_ATTN_IN)
wrong(BLOCK_CALL, "the MLP adds to the normalized copy, not to the stream", FROM_MLP_IN)
wrong(BLOCK_CALL, "both layers add to the normalized copies, not to the stream", FROM_ATTN_IN, FROM_MLP_IN)
wrong(BLOCK_CALL, "ln_1 is used twice: the MLP has a norm of its own, ln_2", ("self.ln_2(", "self.ln_1("))
wrong(BLOCK_CALL, "ln_2 is used twice: attention has a norm of its own, ln_1", ("self.ln_1(", "self.ln_2("))
wrong(
    BLOCK_CALL,
    "ln_1 and ln_2 are exchanged",
    ('self.ln_1(x, scoped(trace, "ln1."', 'self.ln_2(x, scoped(trace, "1."'),
    ('self.ln_2(x, scoped(trace, "ln2."', 'self.ln_1(x, scoped(trace, "ln2."'),
    ('trace, "1."', 'trace, "ln1."'),
)
NO_LN_1, NO_LN_2 = ('self.ln_1(x, scoped(trace, "ln1."))', "x"), ('self.ln_2(x, scoped(trace, "ln2."))', "x")
wrong(BLOCK_CALL, "attention reads the stream as it is: ln_1 is left out", NO_LN_1)
wrong(BLOCK_CALL, "the MLP reads the stream as it is: ln_2 is left out", NO_LN_2)
wrong(BLOCK_CALL, "neither ln_1 nor ln_2 is used", NO_LN_1, NO_LN_2)
wrong(BLOCK_CALL, "attention is left out", (ATTN_SUM, "x = x + 0 * trace('hook_attn_out'"))
wrong(BLOCK_CALL, "the MLP is left out", (MLP_SUM, "x = x + 0 * trace('hook_mlp_out'"))
wrong(
    BLOCK_CALL,
    "`remember` is not passed to attention: with a cache it sees none of the tokens before",
    ("attn_in, remember,", "attn_in, no_cache,"),
)
wrong(
    BLOCK_CALL,
    'the parts\' names lack their prefix, or they get no trace: each needs its own, as scoped(trace, "ln1.")',
    *[(f'scoped(trace, "{part}.")', "trace") for part in ("ln1", "attn", "ln2", "mlp")],
)
wrong(
    BLOCK_CALL,
    "the norms announce as ln_1. and ln_2.: the trace points are called ln1. and ln2.",
    ('"ln1."', '"ln_1."'),
    ('"ln2."', '"ln_2."'),
)
wrong(
    BLOCK_CALL,
    "hook_attn_out and hook_mlp_out are announced with the stream in them",
    ('x + trace("hook_attn_out", ', 'trace("hook_attn_out", x + '),
    ('x + trace("hook_mlp_out", ', 'trace("hook_mlp_out", x + '),
)
wrong(
    BLOCK_CALL,
    "what trace returns is not used: x = trace(name, x)",
    (
        'x = trace("hook_resid_pre", x)',
        'given, trace = trace, lambda n, a: [given(n, a), a][1]\n    trace("hook_resid_pre", x)',
    ),
)
for point, norm in (("pre", "ln_1"), ("mid", "ln_2")):
    BACK, READ = f'x = trace("hook_resid_{point}", x)', f"self.{norm}(x,"
    wrong(
        BLOCK_CALL,
        f"what trace returns as hook_resid_{point} goes into {norm} only: the stream continues with the old x",
        (BACK, BACK.replace("x =", "given =")),
        (READ, READ.replace("x,", "given,")),
    )
    wrong(
        BLOCK_CALL,
        f"what trace returns as hook_resid_{point} continues along the stream only: {norm} reads the old x",
        (BACK, f"old = x\n    {BACK}"),
        (READ, READ.replace("x,", "old,")),
    )
wrong(
    BLOCK_CALL,
    "the parts announce, but do not get what trace returns: scoped(trace, ...) passes it on",
    *[
        (f'scoped(trace, "{part}.")', f'(lambda n, a: (trace("{part}." + n, a), a)[1])')
        for part in ("ln1", "attn", "ln2", "mlp")
    ],
)

MODEL_CALL = "GPT2.__call__"
HIDDEN = "self.hidden(ids, cache=cache, trace=trace)"
LOGITS = f'trace("hook_logits", self.lm_head({HIDDEN}))'
wrong(MODEL_CALL, "the LM head is left out: the result still has C columns", ("self.lm_head", ""))
wrong(
    MODEL_CALL,
    "the last token alone gets logits: every row scores what follows its token",
    (HIDDEN, f"{HIDDEN}[..., -1:, :]"),
)
wrong(
    MODEL_CALL,
    "probabilities are returned, not logits: softmax belongs to choosing a token",
    (f"return {LOGITS}", f"e = np.exp({LOGITS})\n    return e / e.sum(axis=-1, keepdims=True)"),
)
wrong(
    MODEL_CALL,
    "probabilities are announced as hook_logits and returned: softmax belongs to choosing a token",
    (
        f"return {LOGITS}",
        f'e = np.exp(self.lm_head({HIDDEN}))\n    return trace("hook_logits", e / e.sum(axis=-1, keepdims=True))',
    ),
)
wrong(
    MODEL_CALL,
    "the likeliest ids are returned, not logits",
    (f"return {LOGITS}", f"return {LOGITS}.argmax(axis=-1)"),
)
wrong(
    MODEL_CALL,
    "the scores are products with wte, not with the head: a model's head need not be tied to it",
    (f"self.lm_head({HIDDEN})", f"{HIDDEN} @ self.embedding.wte_weight.T"),
)
wrong(MODEL_CALL, "ln_f is applied again before the head: `hidden` ends with it", (HIDDEN, f"self.ln_f({HIDDEN})"))
wrong(MODEL_CALL, "the cache is not passed on: every pass is the first", ("cache=cache", "cache=None"))
wrong(MODEL_CALL, "trace is not passed to hidden", ("trace=trace)))", "trace=no_trace)))"))
wrong(MODEL_CALL, "hook_logits is not announced", (LOGITS, f"self.lm_head({HIDDEN})"))
wrong(
    MODEL_CALL,
    "what trace returns is not used: x = trace(name, x)",
    (f"return {LOGITS}", f'logits = self.lm_head({HIDDEN})\n    trace("hook_logits", logits)\n    return logits'),
)

RUN = "GPT2._run"
START = "x = self.embedding(ids, cache.length, trace)"
LOOP = "for i, block in enumerate(self.h):"
STEP = 'x = block(x, cache.layer(i), scoped(trace, f"blocks.{i}."))'
END = 'x = self.ln_f(x, scoped(trace, "ln_final."))'
ADVANCE = "cache.advance(ids.shape[-1])"
wrong(RUN, "positions begin at 0, whatever the cache holds", (START, START.replace("cache.length", "0")))
wrong(
    RUN,
    "positions begin one too late: the very first token is at position 0",
    (START, "x = self.embedding(ids, min(cache.length + 1, len(self.embedding.wpe_weight) - ids.shape[-1]), trace)"),
)
wrong(
    RUN,
    "the embeddings are multiplied by sqrt(C), as in the first Transformer",
    (START, f"{START} * self.config.n_embd**0.5"),
)
wrong(RUN, "the blocks run in reverse order", (LOOP, "for i, block in reversed(list(enumerate(self.h))):"))
wrong(RUN, "the last block is left out", (LOOP, "for i, block in enumerate(self.h[:-1]):"))
wrong(RUN, "the first block is left out", (LOOP, "for i, block in list(enumerate(self.h))[1:]:"))
wrong(RUN, "the first block is used for all", (STEP, STEP.replace("block(", "self.h[0](")))
wrong(RUN, "no block runs", (STEP, "pass"))
wrong(
    RUN,
    "each block reads the embeddings, not what the block before it made of them",
    (START, START.replace("x =", "start = x =")),
    (STEP, STEP.replace("block(x,", "block(start,")),
)
wrong(
    RUN,
    "the stream is added to what a block gives: a block does that itself",
    (STEP, STEP.replace("block(", "x + block(")),
)
wrong(RUN, "the last norm is missing: ln_f", (END, "pass"))
wrong(
    RUN,
    "ln_f comes before the last block, not after it",
    (END, "pass"),
    (STEP, f"if block is self.h[-1]:\n            {END}\n        {STEP}"),
)
wrong(RUN, "ln_f comes before the first block, not after the last", (END, "pass"), (START, f"{START}\n    {END}"))
wrong(
    RUN, "ln_f is applied after every block", (STEP, f"{STEP}\n        {END}"), (f"    {END}\n    cache", "    cache")
)
wrong(RUN, "ln_f is applied twice", (END, f"{END}\n    {END}"))
wrong(RUN, "every block gets layer 0 of the cache", ("cache.layer(i)", "cache.layer(0)"))
wrong(RUN, "the layers of the cache are counted from 1", ("cache.layer(i)", "cache.layer(i + 1)"))
wrong(RUN, "the blocks get no layer of the cache: nothing is remembered", ("cache.layer(i), scoped", "trace=scoped"))
wrong(RUN, "the cache does not count the new tokens: cache.advance(T)", (ADVANCE, "pass"))
wrong(RUN, "the cache counts one token, however many came", (ADVANCE, "cache.advance(1)"))
wrong(
    RUN,
    "the cache counts the tokens of the first axis, which is the batch's where there is one",
    (ADVANCE, "cache.advance(len(ids))"),
)
wrong(
    RUN,
    "the cache counts the tokens in every block, not once at the end",
    (ADVANCE, "pass"),
    (STEP, f"{STEP}\n        {ADVANCE}"),
)
wrong(
    RUN,
    "the cache counts the tokens before the blocks have stored them",
    (ADVANCE, "pass"),
    (START, f"{START}\n    {ADVANCE}"),
)
wrong(RUN, "the blocks' names are counted from 1: the first is blocks.0.", ('f"blocks.{i}."', 'f"blocks.{i + 1}."'))
wrong(
    RUN,
    'the blocks announce under other names: block i wants scoped(trace, f"blocks.{i}."), and i begins at 0',
    ('f"blocks.{i}."', 'f"h.{i}."'),
)
wrong(RUN, "the last norm announces as ln_f.: its trace points are called ln_final.", ('"ln_final."', '"ln_f."'))
wrong(RUN, "trace is not passed on", (START, f"trace = no_trace\n    {START}"))
