"""Known mistakes in attention: what assignment a3 can call by its name."""

from ...model.attention import no_cache
from ...model.trace import no_trace
from ..assignments.a3_attention import ASSIGNMENT

wrong = ASSIGNMENT.mistake

LARGEST, SUM, EXP = "x.max(axis=-1, keepdims=True)", "e.sum(axis=-1, keepdims=True)", "np.exp(e, out=e)"
wrong(
    "softmax",
    "softmax runs over the wrong axis: the columns sum to 1, not the rows (axis=-1 is the row)",
    (LARGEST, "x.max(axis=0, keepdims=True)"),
    (SUM, "e.sum(axis=0, keepdims=True)"),
)
wrong(
    "softmax",
    "softmax runs over the last axis but one: the columns sum to 1, not the rows",
    (LARGEST, "x.max(axis=-min(2, x.ndim), keepdims=True)"),
    (SUM, "e.sum(axis=-min(2, x.ndim), keepdims=True)"),
)
wrong(
    "softmax",
    "exp is taken of the numbers as they are: exp(1000) overflows, and infinity / infinity is nan",
    (LARGEST, "0"),
)
wrong(
    "softmax",
    "the largest number of all rows is subtracted, not each row's own: a row far below it becomes 0 / 0",
    (LARGEST, "x.max()"),
)
wrong("softmax", "the row's mean is subtracted, not its largest number", (LARGEST, "x.mean(axis=-1, keepdims=True)"))
wrong("softmax", "the smallest number is subtracted, not the largest", (LARGEST, "x.min(axis=-1, keepdims=True)"))
wrong("softmax", "the sum is over all numbers, not over each row", (SUM, "e.sum()"))
wrong("softmax", "exp is taken, but not divided by its sum", (f"e /= {SUM}", "pass"))
wrong("softmax", "the numbers are divided by their sum without exp", (EXP, "e += x.max(axis=-1, keepdims=True)"))
wrong("softmax", "the powers are of 2, not of e", (EXP, "np.exp2(e, out=e)"))
wrong("softmax", "the logarithm of the weights is returned (log-softmax)", ("return e", "return np.log(e)"))
wrong(
    "softmax",
    "each number is bent on its own (a sigmoid): a row does not sum to 1",
    (f"e = x - {LARGEST}", "e = -x"),
    (f"e /= {SUM}", "e = 1 / (1 + e)"),
)

wrong(
    "softmax",
    "numbers far below the largest are cut off, at -50 or -700: the weight of -inf is exactly 0",
    (f"x - {LARGEST}", f"np.maximum(x - {LARGEST}, -50)"),
)

ATTEND, CALL = "Attention.attend", "Attention.__call__"
SCORES = "q @ keys.swapaxes(-1, -2)"
MASK = "np.copyto(scores[..., S - T :], -math.inf, where=later)"
MASKING = f"""    if T > 1:  # a single token comes after all others
        later = ~np.tri(T, dtype=bool)
        {MASK}
"""
TABLES = 'softmax(trace("hook_attn_scores", scores))'
PATTERN = f'trace("hook_pattern", {TABLES})'
SEEN = "np.tri(T, S, S - T, dtype=bool)"


def masked(words, seen=SEEN, hidden="-math.inf"):
    """Add an `attend` that masks as students do, a single token as any other: ours spares it the work."""
    wrong(ATTEND, words, (MASKING, f"    scores = np.where({seen}, scores, {hidden})\n"))


masked("the mask is off by one: a token may not see itself", seen="np.tri(T, S, S - T - 1, dtype=bool)")
masked("the mask is off by one: a token sees the one after it", seen="np.tri(T, S, S - T + 1, dtype=bool)")
masked(
    "the mask is the wrong way round: a token sees itself and what comes later",
    seen="~np.tri(T, S, S - T - 1, dtype=bool)",
)
masked("masked scores are set to 0, not to -inf: exp(0) is 1", hidden="0")
masked("the mask is a low number, such as -1e4 or -1e9, where a score can be lower still", hidden="-1e9")
masked(
    "the mask forgets the cache: query t sees keys 0 to t, though S - T tokens came before it (np.tri(T, S))",
    seen="np.tri(T, S, dtype=bool)",
)
masked(
    "the mask is a square, T by T: with a cache there are more keys than queries",
    seen="np.tri(T, dtype=bool)",
)
masked(
    "the mask is a square, S by S: with a cache there are fewer queries than keys",
    seen="np.tri(S, dtype=bool)",
)
wrong(ATTEND, "there is no mask: every token sees the tokens after it", (MASKING, ""))
wrong(ATTEND, "the mask covers the first T keys, not the last T", ("S - T :", ":T"))
wrong(
    ATTEND,
    "there is no mask as soon as a cache holds something (S is not T)",
    ("where=later", "where=later & (S == T)"),
)
wrong(
    ATTEND,
    "the mask comes after softmax: later tokens get 0, but took their share of each row's sum",
    (MASKING, ""),
    (TABLES, f"{TABLES} * {SEEN}"),
)
wrong(
    ATTEND,
    "the scores are divided by sqrt(D) here too: q comes in scaled",
    (SCORES, SCORES + " / math.sqrt(q.shape[-1])"),
)
wrong(
    ATTEND,
    "the queries are multiplied by self.scale here too: q comes in scaled",
    (SCORES, "(q * self.scale) @ keys.swapaxes(-1, -2)"),
)
wrong(
    ATTEND,
    "queries ask queries: keys are not used",
    ("scores = " + SCORES, f"scores = 0 * ({SCORES}) + (q * q).sum(-1, keepdims=True)"),
)
wrong(ATTEND, "keys.T reverses all axes, where only the last two change places", (SCORES, "q @ keys.T"))
wrong(ATTEND, "the pattern is applied to the keys, not to the values", ("pattern @ values", "pattern @ keys"))
wrong(
    ATTEND,
    "the pattern is transposed before it meets the values",
    ("pattern @ values", "np.swapaxes(pattern, -1, -2) @ values"),
)
wrong(
    ATTEND,
    "softmax runs over the queries, not over the keys: the columns of the pattern sum to 1",
    (PATTERN, PATTERN.replace("softmax(", "(lambda s: np.swapaxes(softmax(np.swapaxes(s, -1, -2)), -1, -2))(")),
)
wrong(
    ATTEND,
    "there is no softmax: the scores themselves weigh the values",
    ("-math.inf", "0"),
    ("softmax", ""),
)
wrong(
    ATTEND,
    "the scores are announced before the mask",
    (MASKING, f'    scores = np.where({SEEN}, trace("hook_attn_scores", scores), -math.inf)\n'),
    (TABLES, "softmax(scores)"),
)
wrong(ATTEND, "nothing is announced", (PATTERN, "softmax(scores)"))
wrong(
    ATTEND,
    "what trace returns is not used: x = trace(name, x)",
    (PATTERN, 'softmax(scores)\n    trace("hook_attn_scores", scores)\n    trace("hook_pattern", pattern)'),
)
wrong(
    ATTEND,
    "what trace returns as hook_attn_scores is not used: softmax gets the old scores",
    (
        f"    pattern = {PATTERN}",
        '    trace("hook_attn_scores", scores)\n    pattern = trace("hook_pattern", softmax(scores))',
    ),
)
wrong(
    ATTEND,
    "what trace returns as hook_pattern is not used: the values meet the old pattern",
    (PATTERN, f'{TABLES}\n    trace("hook_pattern", pattern)'),
)

wrong(
    ATTEND,
    "the result is as wide as the queries: values may have another width",
    ("return pattern @ values", "found = np.empty_like(q)\n    found[:] = pattern @ values\n    return found"),
)


def forward(self, x, remember=no_cache, trace=no_trace):
    """Attention with its products and sums written out, for the mistakes that are made in them."""
    H, width = self.n_head, self.n_head * self.head_width

    def cut(a):
        return a.reshape(*x.shape[:-1], H, -1)

    qkv = x @ self.c_attn.weight
    qkv += self.c_attn.bias
    qkv = trace("hook_qkv", qkv)
    q = trace("hook_q", cut(qkv[..., :width]))
    k = trace("hook_k", cut(qkv[..., width : 2 * width]))
    v = trace("hook_v", cut(qkv[..., 2 * width :]))

    q, k, v = q.swapaxes(-2, -3), k.swapaxes(-2, -3), v.swapaxes(-2, -3)
    keys, values = remember(k, v)
    z = self.attend(q * self.scale, keys, values, trace).swapaxes(-2, -3)
    merged = trace("hook_merged", trace("hook_z", z).reshape(*x.shape[:-1], -1))
    out = merged @ self.c_proj.weight
    out += self.c_proj.bias
    return out


ASSIGNMENT.spell_out(CALL, forward)

CUT, SWAP = "a.reshape(*x.shape[:-1], H, -1)", "q.swapaxes(-2, -3), k.swapaxes(-2, -3), v.swapaxes(-2, -3)"
REMEMBER = "keys, values = remember(k, v)"
FOUND = "self.attend(q * self.scale, keys, values, trace)"
BACK = f"{FOUND}.swapaxes(-2, -3)"
QKV = 'qkv = trace("hook_qkv", qkv)'
COLUMNS = {"q": ":width", "k": "width : 2 * width", "v": "2 * width :"}
NAMED = {name: f'trace("hook_{name}", cut(qkv[..., {columns}]))' for name, columns in COLUMNS.items()}
SCALED = "q * self.scale"
SIDE_BY_SIDE = "qkv.reshape(*x.shape[:-1], H, 3, -1)"


def order(first, second, third):
    """Return the edits that take q, k and v from qkv in another order."""
    columns = dict(zip((first, second, third), COLUMNS.values(), strict=True))
    return [(text, f'trace("hook_{name}", cut(qkv[..., {columns[name]}]))') for name, text in NAMED.items()]


wrong(CALL, "the scale is forgotten: q times self.scale", (SCALED, "q"))
wrong(CALL, "the scale is applied twice", (SCALED, "q * self.scale * self.scale"))
wrong(CALL, "q is divided by the scale, not multiplied: self.scale is 1/sqrt(D) already", (SCALED, "q / self.scale"))
wrong(CALL, "the scale is 1/sqrt(C), the whole width, not that of a head", (SCALED, "q / math.sqrt(x.shape[-1])"))
wrong(CALL, "the scale is 1/sqrt(D), whatever self.scale says", (SCALED, "q / math.sqrt(q.shape[-1])"))
wrong(CALL, "the scale is 1/D, without the root", (SCALED, "q / q.shape[-1]"))
wrong(CALL, "keys and queries are exchanged: the columns are q, k, v in this order", *order("k", "q", "v"))
wrong(CALL, "keys and values are exchanged: the columns are q, k, v in this order", *order("q", "v", "k"))
wrong(CALL, "queries and values are exchanged: the columns are q, k, v in this order", *order("v", "k", "q"))
wrong(CALL, "the columns are taken as k, v, q: they are q, k, v in this order", *order("k", "v", "q"))
wrong(CALL, "the columns are taken as v, q, k: they are q, k, v in this order", *order("v", "q", "k"))
wrong(
    CALL,
    "H and D are exchanged in the reshape: (..., D, H), not (..., H, D)",
    (CUT, CUT.replace("H, -1", "-1, H")),
)
wrong(
    CALL,
    "a head gets every H-th column, not D that stand side by side",
    (CUT, CUT.replace("H, -1", "-1, H") + ".swapaxes(-1, -2)"),
)
wrong(
    CALL,
    "each head's q, k and v are expected side by side: the reshape is (..., 3, H, D), not (..., H, 3, D)",
    *[(text, f'trace("hook_{name}", {SIDE_BY_SIDE}[..., {i}, :])') for i, (name, text) in enumerate(NAMED.items())],
)
wrong(
    CALL,
    "the reshape goes straight to (H, T, D): it mixes tokens, since only a swap of axes brings H before T",
    (SWAP, "(a.reshape(*a.shape[:-3], a.shape[-2], a.shape[-3], -1) for a in (q, k, v))"),
)
wrong(
    CALL,
    "the heads are merged without swapping T and H back",
    (BACK, FOUND),
)
wrong(
    CALL,
    "the heads are merged without swapping T and H back, after the right hook_z",
    ("z).reshape(", "z).swapaxes(-2, -3).reshape("),
)
wrong(
    CALL,
    "the heads are merged by a reshape alone: it mixes tokens, since only a swap of axes brings T before H",
    (BACK, f"{FOUND}.reshape(*x.shape[:-1], H, -1)"),
)
wrong(
    CALL,
    "the heads are merged in the wrong order: column d of every head, then the next",
    ("z).reshape(", "z).swapaxes(-1, -2).reshape("),
)
wrong(
    CALL,
    "T and H never change places: in each token, the heads attend to one another",
    (SWAP, "(q, k, v)"),
    (BACK, FOUND),
)
wrong(
    CALL,
    "there is one head of all C columns: n_head is not used",
    (CUT, CUT.replace("H, -1", "1, -1")),
)
wrong(
    CALL,
    "the output projection is forgotten: merged @ c_proj.weight + c_proj.bias",
    ("merged @ self.c_proj.weight", "merged.copy()"),
    ("    out += self.c_proj.bias\n", ""),
)
wrong(CALL, "the output projection's matrix is forgotten", ("merged @ self.c_proj.weight", "merged.copy()"))
wrong(
    CALL,
    "the output projection's matrix is transposed",
    ("merged @ self.c_proj.weight", "merged @ self.c_proj.weight.T"),
)
wrong(CALL, "the bias of q, k and v is forgotten", ("    qkv += self.c_attn.bias\n", ""))
wrong(CALL, "the bias of the output projection is forgotten", ("    out += self.c_proj.bias\n", ""))
wrong(
    CALL,
    "both biases are forgotten",
    ("    qkv += self.c_attn.bias\n", ""),
    ("    out += self.c_proj.bias\n", ""),
)
wrong(CALL, "`remember` is never called", (REMEMBER, "keys, values = k, v"))
wrong(
    CALL,
    "`remember` is called, but what it returns is not used: the tokens before are not seen",
    (REMEMBER, "remember(k, v)\n    keys, values = k, v"),
)
wrong(CALL, "`remember` is called twice", (REMEMBER, "keys, values = remember(k, v)[0], remember(k, v)[1]"))
wrong(CALL, "`remember` gets values and keys exchanged: remember(k, v)", (REMEMBER, "values, keys = remember(v, k)"))
wrong(
    CALL,
    "`remember` gets k and v before T and H change places",
    (f"q, k, v = {SWAP}", "q = q.swapaxes(-2, -3)"),
    (REMEMBER, "keys, values = (np.swapaxes(a, -2, -3) for a in remember(k, v))"),
)
wrong(
    CALL,
    "the keys are scaled, not the queries, and so they are remembered: `remember` gets k as it is",
    (SCALED, "q"),
    (REMEMBER, "keys, values = remember(k * self.scale, v)"),
)
wrong(CALL, "the residual is added here: x + ... is the block's", ("return out", "return x + out"))
wrong(
    CALL,
    "hook_q is announced after the scale",
    (NAMED["q"], 'trace("hook_q", cut(qkv[..., :width]) * self.scale)'),
    (SCALED, "q"),
)
wrong(
    CALL,
    "q, k and v are announced as (..., H, T, D), after the swap",
    *[(text, f"cut(qkv[..., {COLUMNS[name]}])") for name, text in NAMED.items()],
    (
        f"q, k, v = {SWAP}",
        'q, k, v = (trace(f"hook_{n}", np.swapaxes(a, -2, -3)) for n, a in (("q", q), ("k", k), ("v", v)))',
    ),
)
wrong(
    CALL,
    "what trace returns as hook_qkv is used for q only: k and v are cut from the old array",
    (QKV, f"old, {QKV.replace('= ', '= qkv, ', 1)}"),
    *[(NAMED[name], NAMED[name].replace("qkv", "old")) for name in "kv"],
)
wrong(CALL, "trace is not passed to `attend`", ("keys, values, trace)", "keys, values)"))
wrong(
    CALL,
    "what trace returns is not used: x = trace(name, x)",
    (QKV, f"given, trace = trace, lambda name, a: [given(name, a), a][1]\n    {QKV}"),
    ("keys, values, trace)", "keys, values, given)"),
)
wrong(
    CALL,
    "the columns are cut at C and 2 C: q and k have H D columns each, which need not be C",
    ("width = self.n_head, self.n_head * self.head_width", "width = self.n_head, x.shape[-1]"),
)
wrong(
    CALL,
    "q, k and v get a third of the columns each: values may have another width than keys",
    (QKV, f"{QKV}\n    width = qkv.shape[-1] // 3"),
)
wrong(
    CALL, "values get H D columns: all the columns that are left are theirs", ("2 * width :]", "2 * width : 3 * width]")
)
wrong(
    CALL,
    "the merged heads are cut to x's shape: H D need not be C",
    ("reshape(*x.shape[:-1], -1))", "reshape(x.shape))"),
)
