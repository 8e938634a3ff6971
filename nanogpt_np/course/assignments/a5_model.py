"""Assignment a5, the block and the model: layers put together along the residual stream."""

import numpy as np

from ...model.attention import no_cache
from ...model.cache import KVCache
from ...model.config import Config
from ...model.embedding import Embedding
from ...model.gpt2 import GPT2, Block
from ...model.lm_head import LMHead
from ...model.trace import Tape, no_trace
from ...names.activations import BLOCK_POINTS
from ...names.points import table
from ..definitions import Assignment
from ..numbers import ids, plain, small_model
from ..runs import announced, counted, in_two

ASSIGNMENT = Assignment(
    "a5_model",
    "block and model: the layers put together along the residual stream",
    {
        "model.gpt2:Block.__call__": (
            "If attention and the MLP both returned nothing but zeros, what should come out? What does come out of "
            "your code? Which x does the second norm read: the one that came in, or the one attention has added to?",
            "Four steps: a normalized copy for attention; x plus what attention makes of it; a normalized copy of this "
            "new x for the MLP; plus what the MLP makes of that. The copies go into the layers and nowhere else.",
            "Keep two names apart, x for the stream and another for the normalized copy. After attention write x = x "
            "plus trace('hook_attn_out', ...) of self.attn with the copy, `remember` and its scoped trace; then "
            "announce x as hook_resid_mid, and do the same with ln_2 and mlp.",
        ),
        "model.gpt2:GPT2.__call__": (
            "Which of the fields turns C columns into V scores? And what turns ids into C columns?",
            "One line is enough: ids go into self.hidden, with cache and trace passed by name; its result goes "
            "into the LM head. Every row gets its scores, not the last one only.",
            "Return trace('hook_logits', ...) of self.lm_head of what self.hidden returned for ids, cache and trace.",
        ),
        "model.gpt2:GPT2._run": (
            "Five tokens are in the cache and one more comes: what is its position? In what order do embedding, "
            "blocks and the last norm see x, and when may the cache count the new token?",
            "A loop over the blocks with their numbers, x = block(x, ...) in it; the embedding before it, ln_f after "
            "it. enumerate gives the number i, which cache.layer(i) and the name 'blocks.{i}.' both need.",
            "Begin with the embedding of ids, from cache.length on; in the loop over enumerate(self.h) give the block "
            "x, the layer i of the cache and a scoped trace; then ln_f with 'ln_final.'; then cache.advance with the "
            "length of the last axis of ids; return x.",
        ),
    },
)

# --- parts that can be computed in one's head -----------------------------------------------------------------


def times(factor):
    """Return a norm, or a whole block, that only multiplies."""
    return lambda x, *_, **__: x * factor


def plus(number):
    """Return an MLP, an attention layer or a block that only adds."""
    return lambda x, *_, **__: x + number


def simple_block(ln_1_times, attn_plus, ln_2_times, mlp_plus):
    return Block(ln_1=times(ln_1_times), attn=plus(attn_plus), ln_2=times(ln_2_times), mlp=plus(mlp_plus))


SIMPLE = {"ln_1_times": 10.0, "attn_plus": 1.0, "ln_2_times": 100.0, "mlp_plus": 2.0}


def simple_model(wte, wpe, h, ln_f_times, head):
    """Return a model with one column, real embeddings and head, and `h` as its blocks."""
    config = Config(vocab_size=len(wte), n_positions=len(wpe), n_embd=1, n_head=1, n_layer=len(h))
    return GPT2(config, Embedding(wte, wpe), h, times(ln_f_times), LMHead(head))


SIMPLE_MODEL = {
    "wte": np.array([[1.0], [2.0], [3.0]]),
    "wpe": np.array([[0.0], [0.1], [0.2], [0.3]]),
    "ln_f_times": 100.0,
    "head": np.array([[1.0], [0.0], [-1.0]]),
}
BLOCKS = (times(10.0), plus(1.0), times(2.0), plus(3.0))  # of the models by hand; no two neighbors may change places


# --- Block ----------------------------------------------------------------------------------------------------


def streams(rng):
    """One number; two tokens, with other layers."""
    yield {"x": np.array([[1.0]]), **SIMPLE}
    others = {"ln_1_times": 3.0, "attn_plus": -4.0, "ln_2_times": -2.0, "mlp_plus": 0.5}
    yield {"x": np.array([[1.0, 2.0], [-3.0, 0.5]]), **others}


@ASSIGNMENT.check(
    "Block.__call__",
    "with norms that only multiply and layers that only add: mid = x + attn(ln_1(x)), out = mid + mlp(ln_2(mid))",
    streams,
)
def block_by_hand(x, trace, **layers):
    return simple_block(**layers)(x, trace=trace)


def inputs(rng):
    """A block of a small random model, and a prompt or a batch for it."""
    for shape in ((1, 6), (3, 6), (2, 4, 6)):
        yield {"model": small_model(rng, layer_norm_epsilon=1e-3), "x": plain(rng, *shape)}


@ASSIGNMENT.check("Block.__call__", "with the real layers it gives what ours gives", inputs)
def real_block(model, x, trace):
    return model.h[0](x, trace=trace)


def idle(rng):
    """Streams on their way through a block that adds nothing."""
    yield {"x": np.array([[1.0, -2.0]])}
    yield {"x": plain(rng, 2, 3, 4)}


@ASSIGNMENT.check("Block.__call__", "where attention and MLP add nothing, the stream comes out as it went in", idle)
def nothing_added(x):
    return Block(ln_1=times(10.0), attn=times(0.0), ln_2=times(100.0), mlp=times(0.0))(x)


@ASSIGNMENT.check("Block.__call__", "passes the `remember` that came in to attention", streams)
def memory_handed_on(x, **layers):
    got = []

    def remember(k, v):
        return k, v

    def attn(x, remember=no_cache, trace=no_trace):
        got.append(remember)
        return x

    simple = simple_block(**layers)
    Block(simple.ln_1, attn, simple.ln_2, simple.mlp)(x, remember)
    return {"attention got it": [r is remember for r in got]}


@ASSIGNMENT.check(
    "Block.__call__", "announces its five tensors, and its parts theirs as ln1., attn., ln2. and mlp.", inputs
)
def block_announced(model, x):
    acts = Tape()
    model.h[0](x, trace=acts)
    return announced(acts, [point.name.removeprefix("blocks.{i}.") for point in BLOCK_POINTS])


def on_their_way(rng):
    """Each of the announced tensors, to be changed on its way."""
    for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post"):
        yield {"x": np.array([[1.0]]), "name": f"hook_{name}", **SIMPLE}


@ASSIGNMENT.check(
    "Block.__call__",
    "stream and layers continue with what trace returns: x = trace(name, x), and x from there on",
    on_their_way,
)
def block_patched(x, name, **layers):
    return counted(lambda trace: simple_block(**layers)(x, trace=trace), name)


def parts_on_their_way(rng):
    """A block of a small random model, and a tensor of each of its parts, to be changed on its way."""
    for name in ("ln1.hook_normalized", "attn.hook_z", "ln2.hook_normalized", "mlp.hook_post"):
        yield {"model": small_model(rng), "x": plain(rng, 2, 6), "name": name}


@ASSIGNMENT.check("Block.__call__", "its parts, too, continue with what trace returns", parts_on_their_way)
def parts_patched(model, x, name):
    return counted(lambda trace: model.h[0](x, trace=trace), name)


def prompts(rng):
    """A small random model and ids for it: a token, a prompt, a batch, a larger one; a head of its own, and tied."""
    for shape, tied in (((1,), True), ((4,), False), ((2, 5), True), ((5, 20), False)):
        model = small_model(rng, n_layer=3, n_positions=24, tie_word_embeddings=tied)
        yield {"model": model, "ids": ids(rng, *shape)}


@ASSIGNMENT.check("Block.__call__", "in the whole model, in place of ours, it leads to the same logits", prompts)
def block_in_the_model(model, ids, trace):
    return model(ids, trace=trace)


def cut_prompts(rng):
    """A small random model, ids for it, and where they are cut into two passes with a cache."""
    for shape, cut in (((2,), 1), ((2, 5), 3)):
        yield {"model": small_model(rng), "ids": ids(rng, *shape), "cut": cut}


@ASSIGNMENT.check("Block.__call__", "with a KV cache, a prompt in two parts gives the logits of the whole", cut_prompts)
def block_with_a_cache(model, ids, cut):
    return in_two(model, ids, cut)


# --- GPT2.__call__ --------------------------------------------------------------------------------------------


def words(rng):
    """One token, a prompt, a batch, for the model that can be computed in one's head."""
    for ids_ in ([2], [0, 2], [[0, 1, 1], [2, 0, 1]]):
        yield {"ids": np.array(ids_), **SIMPLE_MODEL}


@ASSIGNMENT.check("GPT2.__call__", "gives each row of hidden times the head's matrix: V scores for every token", words)
def logits_by_hand(ids, trace, **parts):
    return simple_model(h=BLOCKS, **parts)(ids, trace=trace)


@ASSIGNMENT.check(
    "GPT2.__call__", "with real layers it gives our logits, whether the head is tied to wte or not", prompts
)
def logits(model, ids, trace):
    return model(ids, trace=trace)


def prompts_to_shorten(rng):
    """A small random model, ids for it, and how many of them are kept."""
    for T, kept in ((2, 1), (5, 3)):
        yield {"model": small_model(rng), "ids": ids(rng, T), "kept": kept}


@ASSIGNMENT.check("GPT2.__call__", "a token's logits are the same whether tokens follow it or not", prompts_to_shorten)
def logits_before(model, ids, kept):
    change = np.abs(model(ids)[:kept] - model(ids[:kept])).max()
    return {"the most that tokens after it change": change.astype(model.lm_head.weight.dtype)}


@ASSIGNMENT.check("GPT2.__call__", "with a KV cache, a prompt in two parts gives the logits of the whole", cut_prompts)
def logits_with_a_cache(model, ids, cut):
    return in_two(model, ids, cut)


@ASSIGNMENT.check("GPT2.__call__", "announces hook_logits, and passes trace to hidden", prompts)
def logits_announced(model, ids):
    acts = Tape()
    model(ids, trace=acts)
    return announced(acts, ["hook_tokens", "ln_final.hook_output", "hook_logits"])


def words_on_their_way(rng):
    """A prompt for the model that can be computed in one's head, and a tensor, to be changed on its way."""
    for name in ("hook_logits", "hook_embed"):
        yield {"ids": np.array([0, 2]), "name": name, **SIMPLE_MODEL}


@ASSIGNMENT.check("GPT2.__call__", "continues with what trace returns, and so does hidden", words_on_their_way)
def logits_patched(ids, name, **parts):
    model = simple_model(h=BLOCKS, **parts)
    return counted(lambda trace: model(ids, trace=trace), name)


# --- GPT2._run ------------------------------------------------------------------------------------------------


def words_and_pasts(rng):
    """The prompts by hand, without a cache and after some tokens that it holds."""
    for ids_, past in (([2], 0), ([2], 1), ([0, 2], 0), ([0, 2], 2), ([[0, 1, 1], [2, 0, 1]], 1)):
        yield {"ids": np.array(ids_), "tokens_in_the_cache": past, **SIMPLE_MODEL}


@ASSIGNMENT.check(
    "GPT2._run",
    "with blocks times 10, plus 1, times 2, plus 3: ln_f(((wte + wpe) 10 + 1) 2 + 3), positions continuing from "
    "the cache's length",
    words_and_pasts,
)
def run_by_hand(ids, tokens_in_the_cache, trace, **parts):
    model = simple_model(h=BLOCKS, **parts)
    cache = KVCache(model.config)
    cache.advance(tokens_in_the_cache)
    return model.hidden(ids, cache=cache, trace=trace)


class Ledger:
    """A cache that keeps a record of what is asked of it, and nothing else."""

    def __init__(self, length):
        self.length, self.asked, self.lengths = length, [], []

    def layer(self, i):
        def remember(*block):
            self.asked.append((*block, i))
            self.lengths.append(self.length)

        return remember

    def advance(self, T):
        self.length += T


@ASSIGNMENT.check(
    "GPT2._run",
    "block i gets layer i of the cache, and the cache counts the T tokens once, when all blocks are done",
    words_and_pasts,
)
def layers_of_the_cache(ids, tokens_in_the_cache, **parts):
    def asking(i):
        def block(x, remember=no_cache, trace=no_trace):
            if remember is not no_cache:
                remember(i)
            return x

        return block

    cache = Ledger(tokens_in_the_cache)
    simple_model(h=tuple(asking(i) for i in range(6)), **parts).hidden(ids, cache=cache)
    return {
        "(block, its layer of the cache)": sorted(f"({block}, {layer})" for block, layer in cache.asked),
        "the cache's length while blocks run": sorted(set(cache.lengths)),
        "its length afterwards": cache.length,
    }


@ASSIGNMENT.check("GPT2._run", "with real layers it gives our logits", prompts)
def run_in_the_model(model, ids, trace):
    return model(ids, trace=trace)


@ASSIGNMENT.check("GPT2._run", "with a KV cache, a prompt in two parts gives the logits of the whole", cut_prompts)
def run_with_a_cache(model, ids, cut):
    return in_two(model, ids, cut)


@ASSIGNMENT.check("GPT2._run", "every part announces under its name: blocks.0. and so on, ln_final.", prompts)
def run_announced(model, ids):
    acts = Tape()
    model.hidden(ids, trace=acts)
    return announced(acts, table(model.config))


def run_on_its_way(rng):
    """A small random model, ids for it, and a tensor of each of its parts, to be changed on its way."""
    for name in ("hook_embed", "blocks.0.hook_resid_mid", "blocks.1.mlp.hook_post", "ln_final.hook_normalized"):
        yield {"model": small_model(rng), "ids": ids(rng, 3), "name": name}


@ASSIGNMENT.check("GPT2._run", "every part continues with what trace returns", run_on_its_way)
def run_patched(model, ids, name):
    return counted(lambda trace: model.hidden(ids, trace=trace), name)
