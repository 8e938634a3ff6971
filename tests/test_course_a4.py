"""Assignment a4: other right ways to write the MLP, and what is told of wrong ones."""

import pytest
from course_helpers import graded, graded_edit, statuses, with_body

pytestmark = pytest.mark.catalogue

CALL = "MLP.__call__"
GELU = {
    "tanh": "return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))",
    "np.power, the half last": """
        u = math.sqrt(2.0 / math.pi) * (x + 0.044715 * np.power(x, 3))
        return (x + x * np.tanh(u)) / 2
    """,
    "a sigmoid, float64 inside": """
        wide = x.astype(np.float64)
        u = np.sqrt(2 / np.pi) * wide * (1 + 0.044715 * np.square(wide))
        share = np.where(u < 0, np.exp(2 * np.minimum(u, 0)), 1) / (1 + np.exp(-2 * np.abs(u)))
        return (wide * share).astype(x.dtype)
    """,
    "loops": """
        out = np.empty_like(x)
        for i in np.ndindex(x.shape):
            a = float(x[i])
            out[i] = 0.5 * a * (1 + math.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))
        return out
    """,
    "in place on a copy": """
        u = x * x
        u *= 0.044715
        u += 1
        u *= x
        u *= math.sqrt(2 / math.pi)
        np.tanh(u, out=u)
        u += 1
        u *= x
        u *= 0.5
        return u
    """,
    "float32 whatever comes in": """
        x = x.astype(np.float32)
        return np.float32(0.5) * x * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)))
    """,
}
MLP = {
    "three lines": """
        pre = trace("hook_pre", x @ self.c_fc_weight + self.c_fc_bias)
        post = trace("hook_post", gelu(pre))
        return post @ self.c_proj_weight + self.c_proj_bias
    """,
    "einsum, float64 inside": """
        pre = np.einsum("...c,cf->...f", x.astype(np.float64), self.c_fc_weight) + self.c_fc_bias
        post = trace("hook_post", gelu(trace("hook_pre", pre.astype(x.dtype)))).astype(np.float64)
        return (np.einsum("...f,fc->...c", post, self.c_proj_weight) + self.c_proj_bias).astype(x.dtype)
    """,
    "a loop over the tokens": """
        F = self.c_fc_bias.shape[0]
        pre, out = np.empty((*x.shape[:-1], F), x.dtype), np.empty_like(x)
        for row in np.ndindex(x.shape[:-1]):
            pre[row] = self.c_fc_weight.T @ x[row] + self.c_fc_bias
        post = trace("hook_post", gelu(trace("hook_pre", pre)))
        for row in np.ndindex(x.shape[:-1]):
            out[row] = sum(p * w for p, w in zip(post[row], self.c_proj_weight)) + self.c_proj_bias
        return out
    """,
    "one long table of rows, its own GELU": """
        rows = np.matmul(x.reshape(-1, x.shape[-1]), self.c_fc_weight)
        pre = trace("hook_pre", (rows + self.c_fc_bias).reshape(*x.shape[:-1], -1))
        u = math.sqrt(2 / math.pi) * (pre + 0.044715 * pre * pre * pre)
        post = trace("hook_post", 0.5 * pre * (1 + np.tanh(u)))
        return np.add(np.dot(post, self.c_proj_weight), self.c_proj_bias)
    """,
}
OTHER_WAYS = [(function, way, body) for function, ways in (("gelu", GELU), (CALL, MLP)) for way, body in ways.items()]


@pytest.mark.parametrize(("function", "way", "body"), OTHER_WAYS, ids=[f"{f}: {w}" for f, w, _ in OTHER_WAYS])
def test_another_right_way_passes(function, way, body, tmp_path):
    results = graded("a4", tmp_path, with_body("a4", function, body))
    assert statuses(results) == {"CORRECT"}, {name: r for name, r in results.items() if r.status != "CORRECT"}


def test_the_other_gelu_is_shown_at_1_with_enough_digits_to_see_it(tmp_path):
    body = """
        share = [0.5 * (1 + math.erf(a / math.sqrt(2))) for a in x.reshape(-1)]
        return x * np.array(share, x.dtype).reshape(x.shape)
    """
    results = graded("a4", tmp_path, with_body("a4", "gelu", body))
    wrong = results["bent"]
    assert wrong.case == "x = [1.] (float64)"
    assert (wrong.expected, wrong.got) == ("[0.8412]", "[0.8413]")
    assert "0.16997" in results["lowest"].got and "0.17004" in results["lowest"].expected


def test_a_gelu_that_is_float64_for_float32_is_told(tmp_path):
    body = "return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))"
    wrong = graded("a4", tmp_path, with_body("a4", "gelu", body))["bent"]
    assert wrong.problem == "the result is float64, not float32" and "use math.sqrt" in wrong.notes


def test_a_forgotten_bias_is_first_seen_in_the_trace(tmp_path):
    body = MLP["three lines"].replace(" + self.c_fc_bias", "")
    results = graded("a4", tmp_path, with_body("a4", CALL, body))
    wrong = results["output"]
    assert wrong.case.startswith("x = [[1.]]; c_fc_weight = [[ 1. -1.]]; c_fc_bias = [0.5 2. ]; ")
    assert wrong.trace == "hook_pre is another: expected [[1.5 1. ]], got [[ 1. -1.]]"
    assert results["alone"].status == "CORRECT"


def test_a_gelu_that_writes_into_what_was_announced_is_found(tmp_path):
    body = """
        pre = trace("hook_pre", x @ self.c_fc_weight + self.c_fc_bias)
        pre[:] = gelu(pre)
        return trace("hook_post", pre) @ self.c_proj_weight + self.c_proj_bias
    """
    wrong = graded("a4", tmp_path, with_body("a4", CALL, body))["output"]
    assert "announced as hook_pre was written into" in wrong.problem


RARELY_WRONG = [
    (CALL, "pre += self.c_fc_bias", "pre[..., :16] += self.c_fc_bias[:16]"),
    (CALL, 'trace("hook_pre", pre)', '(trace("hook_pre", pre) + pre) / 2'),
    ("gelu", "    return x / (1", "    x = np.clip(x, -1e4, 1e4)\n    return x / (1"),
]


@pytest.mark.parametrize(("function", "old", "new"), RARELY_WRONG, ids=[new for *_, new in RARELY_WRONG])
def test_what_is_wrong_only_sometimes_is_found(function, old, new, tmp_path):
    assert "INCORRECT" in statuses(graded_edit("a4", tmp_path, function, old, new))
