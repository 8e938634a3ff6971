"""Assignment a3: other right ways to write attention, and what is told of wrong ones."""

import pytest
from course_helpers import graded, graded_edit, named, statuses, with_body

pytestmark = pytest.mark.catalogue

CALL, ATTENDING = "Attention.__call__", "Attention.attend"
SOFTMAX = {
    "one expression": "e = np.exp(x - np.max(x, -1)[..., None]); return e / np.sum(e, -1)[..., None]",
    "float64 inside": """
        wide = x.astype(np.float64)
        e = np.exp(wide - wide.max(axis=-1, keepdims=True))
        return (e / e.sum(axis=-1, keepdims=True)).astype(x.dtype)
    """,
    "by logarithms": """
        with np.errstate(all="ignore"):
            log_sum = np.logaddexp.reduce(x.astype(np.float64), axis=-1, keepdims=True)
            return np.exp(x - log_sum).astype(x.dtype)
    """,
    "loops": """
        out = np.empty_like(x)
        for row in np.ndindex(x.shape[:-1]):
            top = max(x[row])
            e = [math.exp(a - top) for a in x[row]]
            out[row] = [a / sum(e) for a in e]
        return out
    """,
    "float32 whatever comes in": """
        x = x.astype(np.float32)
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
    """,
}
ATTEND = {
    "einsum and np.where": """
        T, S = q.shape[-2], keys.shape[-2]
        places = np.arange(S - T, S)[:, None]
        scores = np.einsum("...td,...sd->...ts", q, keys)
        scores = trace("hook_attn_scores", np.where(np.arange(S) <= places, scores, -math.inf).astype(q.dtype))
        pattern = trace("hook_pattern", softmax(scores))
        return np.einsum("...ts,...sd->...td", pattern, values)
    """,
    "np.triu, the lowest number in place of -inf": """
        T, S = q.shape[-2], keys.shape[-2]
        later = np.triu(np.ones((T, S), dtype=bool), k=S - T + 1)
        scores = np.where(later, np.finfo(q.dtype).min, q @ keys.swapaxes(-1, -2))
        scores = trace("hook_attn_scores", scores)
        return trace("hook_pattern", softmax(scores)) @ values
    """,
    "a mask that is added": """
        T, S = q.shape[-2], keys.shape[-2]
        mask = np.zeros((T, S), q.dtype)
        for t in range(T):
            mask[t, S - T + t + 1 :] = -math.inf
        scores = trace("hook_attn_scores", q @ np.moveaxis(keys, -1, -2) + mask)
        return trace("hook_pattern", softmax(scores)) @ values
    """,
    "float64 inside": """
        T, S = q.shape[-2], keys.shape[-2]
        scores = q.astype(np.float64) @ np.swapaxes(keys, -1, -2)
        scores[..., ~np.tri(T, S, S - T, dtype=bool)] = -np.inf
        scores = trace("hook_attn_scores", scores.astype(q.dtype))
        pattern = trace("hook_pattern", softmax(scores))
        return (pattern.astype(np.float64) @ values).astype(q.dtype)
    """,
    "loops, its own softmax": """
        T, S = q.shape[-2], keys.shape[-2]
        scores = np.full(q.shape[:-1] + (S,), -math.inf, q.dtype)
        out = np.zeros((*q.shape[:-1], values.shape[-1]), q.dtype)
        for head in np.ndindex(q.shape[:-2]):
            for t in range(T):
                for s in range(S - T + t + 1):
                    scores[head][t, s] = sum(q[head][t] * keys[head][s])
        scores = trace("hook_attn_scores", scores)
        e = np.exp(scores - scores.max(-1, keepdims=True))
        pattern = trace("hook_pattern", e / e.sum(-1, keepdims=True))
        for head in np.ndindex(q.shape[:-2]):
            for t in range(T):
                for s in range(S):
                    out[head][t] += pattern[head][t, s] * values[head][s]
        return out
    """,
}
ATTENTION = {
    "np.split and reshape": """
        H, width = self.n_head, self.n_head * self.head_width
        qkv = trace("hook_qkv", self.c_attn(x))
        q, k, v = (a.reshape(x.shape[:-1] + (H, -1)) for a in np.split(qkv, [width, 2 * width], axis=-1))
        q, k, v = trace("hook_q", q), trace("hook_k", k), trace("hook_v", v)
        keys, values = remember(np.moveaxis(k, -2, -3), np.moveaxis(v, -2, -3))
        z = self.attend(np.moveaxis(q, -2, -3) * self.scale, keys, values, trace=trace)
        z = trace("hook_z", np.moveaxis(z, -3, -2))
        return self.c_proj(trace("hook_merged", z.reshape(x.shape[:-1] + (-1,))))
    """,
    "einsum, all inside, float64": """
        H, D = self.n_head, self.head_width
        wide = np.einsum("...c,cd->...d", x.astype(np.float64), self.c_attn.weight) + self.c_attn.bias
        qkv = trace("hook_qkv", wide.astype(x.dtype))
        cut = lambda start, stop: qkv[..., start:stop].reshape(*x.shape[:-1], H, -1)
        q, k = trace("hook_q", cut(0, H * D)), trace("hook_k", cut(H * D, 2 * H * D))
        v = trace("hook_v", cut(2 * H * D, None))
        keys, values = remember(k.swapaxes(-2, -3), v.swapaxes(-2, -3))
        T, S = x.shape[-2], keys.shape[-2]
        scores = np.einsum("...thd,...hsd->...hts", q, keys) * self.scale
        scores = np.where(np.tri(T, S, S - T, dtype=bool), scores, -math.inf).astype(x.dtype)
        pattern = trace("hook_pattern", softmax(trace("hook_attn_scores", scores)))
        z = trace("hook_z", np.einsum("...hts,...hsd->...thd", pattern, values))
        merged = trace("hook_merged", np.concatenate([z[..., h, :] for h in range(H)], axis=-1))
        return (merged.astype(np.float64) @ self.c_proj.weight + self.c_proj.bias).astype(x.dtype)
    """,
    "a loop over the heads": """
        H, D = self.n_head, self.head_width
        qkv = trace("hook_qkv", x @ self.c_attn.weight + self.c_attn.bias)
        of_values = (qkv.shape[-1] - 2 * H * D) // H
        q, k, v = (
            trace(f"hook_{n}", np.stack([qkv[..., start + h * w : start + h * w + w] for h in range(H)], -2))
            for n, start, w in (("q", 0, D), ("k", H * D, D), ("v", 2 * H * D, of_values))
        )
        keys, values = remember(*(np.stack([a[..., h, :] for h in range(H)], -3) for a in (k, v)))
        tables = {"hook_attn_scores": [], "hook_pattern": []}
        z = np.empty_like(v)
        for name in tables:  # the whole tables are announced, so they are made first
            for h in range(H):
                keep = lambda n, a: [tables[n].append(a) if n == name else None, a][1]
                self.attend(q[..., h, :] * self.scale, keys[..., h, :, :], values[..., h, :, :], keep)
        trace("hook_attn_scores", np.stack(tables["hook_attn_scores"], -3))
        pattern = trace("hook_pattern", np.stack(tables["hook_pattern"], -3))
        for h in range(H):
            z[..., h, :] = pattern[..., h, :, :] @ values[..., h, :, :]
        z = trace("hook_z", z)
        merged = trace("hook_merged", np.concatenate([z[..., h, :] for h in range(H)], -1))
        return merged @ self.c_proj.weight + self.c_proj.bias
    """,
    "the scale on the keys' side, and each Linear with its trace": """
        width = self.n_head * self.head_width
        heads = trace("hook_qkv", self.c_attn(x, trace=scoped(trace, "c_attn.")))
        q, k, v = heads[..., :width], heads[..., width : width + width], heads[..., width + width :]
        q, k, v = (trace(f"hook_{n}", a.reshape(*x.shape[:-1], self.n_head, -1)) for n, a in zip("qkv", (q, k, v)))
        keys, values = remember(np.swapaxes(k, -3, -2), np.swapaxes(v, -3, -2))
        z = self.attend(np.swapaxes(q, -3, -2), self.scale * keys, values, trace)
        z = trace("hook_z", np.swapaxes(z, -3, -2))
        return self.c_proj(trace("hook_merged", z.reshape(*x.shape[:-1], -1)), scoped(trace, "c_proj."))
    """,
}
# Right for GPT-2, and written without a thought for heads that are wider or narrower than C / H.
CUT_BY_C = """
    H, D = self.n_head, x.shape[-1] // self.n_head
    qkv = trace("hook_qkv", x @ self.c_attn.weight + self.c_attn.bias)
    q, k, v = (a.reshape(x.shape[:-1] + (H, D)) for a in np.split(qkv, 3, axis=-1))
    q, k, v = trace("hook_q", q), trace("hook_k", k), trace("hook_v", v)
    keys, values = remember(np.moveaxis(k, -2, -3), np.moveaxis(v, -2, -3))
    z = self.attend(np.moveaxis(q, -2, -3) * self.scale, keys, values, trace=trace)
    z = trace("hook_z", np.moveaxis(z, -3, -2))
    return trace("hook_merged", z.reshape(x.shape)) @ self.c_proj.weight + self.c_proj.bias
"""
OTHER_WAYS = [
    (function, way, body)
    for function, ways in (("softmax", SOFTMAX), (ATTENDING, ATTEND), (CALL, ATTENTION))
    for way, body in ways.items()
]


@pytest.mark.parametrize(("function", "way", "body"), OTHER_WAYS, ids=[f"{f}: {w}" for f, w, _ in OTHER_WAYS])
def test_another_right_way_passes(function, way, body, tmp_path):
    results = graded("a3", tmp_path, with_body("a3", function, body))
    assert statuses(results) == {"CORRECT"}, {name: r for name, r in results.items() if r.status != "CORRECT"}


PLAIN_ATTEND = """
    T, S = q.shape[-2], keys.shape[-2]
    scores = np.einsum("...td,...sd->...ts", q, keys)
    later = np.triu(np.ones((T, S), dtype=bool), k=S - T + 1)
    scores = trace("hook_attn_scores", np.where(later, -np.inf, scores))
    pattern = trace("hook_pattern", softmax(scores))
    return np.einsum("...ts,...sd->...td", pattern, values)
"""
LATE_MASK = """
    T, S = q.shape[-2], keys.shape[-2]
    scores = trace("hook_attn_scores", np.einsum("...td,...sd->...ts", q, keys))
    later = np.triu(np.ones((T, S), dtype=bool), k=S - T + 1)
    pattern = trace("hook_pattern", np.where(later, 0, softmax(scores)))
    return pattern @ values
"""
SPLIT = ATTENTION["np.split and reshape"]
PLAINLY_WRONG = [
    (ATTENDING, PLAIN_ATTEND, ("k=S - T + 1", "k=1"), "the mask forgets the cache"),
    (ATTENDING, PLAIN_ATTEND, ("k=S - T + 1", "k=S - T"), "the mask is off by one: a token may not see itself"),
    (ATTENDING, PLAIN_ATTEND, ("k=S - T + 1", "k=S - T + 2"), "the mask is off by one: a token sees the one after"),
    (
        ATTENDING,
        PLAIN_ATTEND,
        ("triu(np.ones((T, S), dtype=bool), k=S - T + 1", "tril(np.ones((T, S), bool), S - T - 1"),
        "the mask is the wrong way round",
    ),
    (ATTENDING, PLAIN_ATTEND, ("np.where(later, -np.inf, scores)", "scores"), "there is no mask"),
    (ATTENDING, PLAIN_ATTEND, ("-np.inf", "-1e9"), "the mask is a low number"),
    (ATTENDING, PLAIN_ATTEND, ("-np.inf", "0"), "masked scores are set to 0"),
    (ATTENDING, LATE_MASK, (), "the mask comes after softmax"),
    (
        ATTENDING,
        LATE_MASK,
        ("np.where(later, 0, softmax(scores))", "softmax(np.where(later, -np.inf, scores))"),
        "the scores are announced before the mask",
    ),
    (ATTENDING, PLAIN_ATTEND, ('np.einsum("...td,...sd->...ts", q, keys)', "q @ keys.T"), "keys.T reverses all axes"),
    (
        ATTENDING,
        PLAIN_ATTEND,
        (
            'scores = trace("hook_attn_scores", np.where(later, -np.inf, scores))',
            'scores = np.where(later, -np.inf, scores); trace("hook_attn_scores", scores)',
        ),
        "what trace returns as hook_attn_scores is not used",
    ),
    (CALL, SPLIT, ("np.moveaxis(z, -3, -2)", "z.reshape(q.shape)"), "the heads are merged by a reshape alone"),
    (CALL, CUT_BY_C, ("np.moveaxis(z, -3, -2)", "z.reshape(q.shape)"), "the heads are merged by a reshape alone"),
    (CALL, CUT_BY_C, ("* self.scale", ""), "the scale is forgotten"),
    (CALL, CUT_BY_C, (" + self.c_attn.bias", ""), "the bias of q, k and v is forgotten"),
    (
        CALL,
        ATTENTION["the scale on the keys' side, and each Linear with its trace"].replace("self.scale * keys", "keys"),
        ("remember(np.swapaxes(k, -3, -2)", "remember(self.scale * np.swapaxes(k, -3, -2)"),
        "the keys are scaled, not the queries",
    ),
    (CALL, SPLIT, ("* self.scale", ""), "the scale is forgotten"),
    (CALL, SPLIT, ("q, k, v = (a.", "k, q, v = (a."), "keys and queries are exchanged"),
    (
        CALL,
        SPLIT,
        ("width = self.n_head, self.n_head * self.head_width", "width = self.n_head, x.shape[-1]"),
        "the columns",
    ),
    (
        "softmax",
        SOFTMAX["one expression"],
        ("x - np.max(x, -1)[..., None]", "np.clip(x - np.max(x, -1)[..., None], -700, 0)"),
        "numbers far below the largest are cut off",
    ),
]


@pytest.mark.parametrize(("function", "body", "change", "words"), PLAINLY_WRONG, ids=[w for *_, w in PLAINLY_WRONG])
def test_a_mistake_is_called_by_its_name_however_the_rest_is_written(function, body, change, words, tmp_path):
    wrong = body.replace(*change) if change else body
    assert named("a3", tmp_path, with_body("a3", function, wrong), function).startswith(words)


def test_softmax_over_the_columns_is_shown_in_two_numbers(tmp_path):
    body = "e = np.exp(x - x.max(axis=0)); return e / e.sum(axis=0)"
    wrong = graded("a3", tmp_path, with_body("a3", "softmax", body))["shares"]
    assert wrong.case == "x = [[0. 1.]] (float64)"
    assert (wrong.expected, wrong.got) == ("[[0.2689 0.7311]]", "[[1. 1.]]")


def test_a_missing_mask_is_shown_with_two_tokens_and_where_it_is_seen_first(tmp_path):
    body = """
        scores = trace("hook_attn_scores", q @ np.swapaxes(keys, -1, -2))
        return trace("hook_pattern", softmax(scores)) @ values
    """
    results = graded("a3", tmp_path, with_body("a3", ATTENDING, body))
    wrong = results["found"]
    assert wrong.case.replace("\n", "") == "q = [[1.] [1.]]; keys = [[0.] [1.]]; values = [[10.] [20.]] (float64)"
    assert wrong.expected.split() == ["[[10.", "]", "[17.3106]]"]
    assert wrong.trace.startswith("hook_attn_scores is wrong: expected [[  0. -inf]  [  0.   1.]]")
    assert results["no_future"].status == results["the_first"].status == "INCORRECT"
    assert results["an_average"].status == results["patched_tables"].status == "CORRECT"


def test_a_mask_that_forgets_the_cache_is_right_wherever_there_is_none(tmp_path):
    body = """
        scores = np.where(np.tri(q.shape[-2], keys.shape[-2], dtype=bool), q @ keys.swapaxes(-1, -2), -math.inf)
        return trace("hook_pattern", softmax(trace("hook_attn_scores", scores.astype(q.dtype)))) @ values
    """
    results = graded("a3", tmp_path, with_body("a3", ATTENDING, body))
    wrong = {name for name, result in results.items() if result.status == "INCORRECT"}
    assert wrong == {"found", "after_a_cache", "announced_tables", "attend_with_a_cache"}


def test_a_numpy_scalar_that_makes_float64_of_float32_is_told(tmp_path):
    source = with_body("a3", CALL, ATTENTION["np.split and reshape"].replace("self.scale", "np.float64(self.scale)"))
    assert "use math.sqrt" in graded("a3", tmp_path, source)["output"].notes


RARELY_WRONG = [
    ("softmax", "x - x.max(axis=-1, keepdims=True)", "np.maximum(x - x.max(axis=-1, keepdims=True), -20)"),
    (ATTENDING, "if T > 1:", "if T > 1 and S < 7:"),
    (ATTENDING, "if T > 1:", "if 1 < T < 7:"),
    (ATTENDING, "return pattern @ values", "return (pattern + softmax(scores)) / 2 @ values"),
    (ATTENDING, "return pattern @ values", "return pattern @ values[..., :3]"),
    (CALL, "q * self.scale", "q * self.scale if self.n_head < 4 else q"),
    (CALL, "self.n_head * self.head_width", "max(x.shape[-1], self.n_head * self.head_width)"),
    (CALL, 'trace("hook_z", z)', '((trace("hook_z", z) + z) / 2)'),
]


@pytest.mark.parametrize(("function", "old", "new"), RARELY_WRONG, ids=[new for *_, new in RARELY_WRONG])
def test_what_is_wrong_only_sometimes_is_found(function, old, new, tmp_path):
    assert "INCORRECT" in statuses(graded_edit("a3", tmp_path, function, old, new))


def test_heads_that_are_cut_by_C_are_right_for_gpt2_and_wrong_for_heads_of_another_width(tmp_path):
    results = graded("a3", tmp_path, with_body("a3", CALL, CUT_BY_C))
    assert {name for name, result in results.items() if result.status == "INCORRECT"} == {"of_any_width"}
    assert "head_width = 1" in results["of_any_width"].case
