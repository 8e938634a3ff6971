"""Assignment a4: other right ways to write a linear layer and the MLP, and what is told of wrong ones."""

import pytest
from course_helpers import graded, graded_edit, statuses, with_body

pytestmark = pytest.mark.catalogue

LINEAR, CALL = "Linear.__call__", "MLP.__call__"
PRODUCTS = {
    "one line": "return x @ self.weight + self.bias",
    "einsum, float64 inside": """
        wide = np.einsum("...i,io->...o", x.astype(np.float64), self.weight)
        return (self.bias + wide).astype(x.dtype)
    """,
    "loops": """
        y = np.empty((*x.shape[:-1], len(self.bias)), x.dtype)
        for at in np.ndindex(y.shape):
            y[at] = sum(a * w for a, w in zip(x[at[:-1]], self.weight[:, at[-1]])) + self.bias[at[-1]]
        return y
    """,
    "the bias as a row of the matrix, for an input that is always 1": """
        rows = np.append(x.reshape(-1, x.shape[-1]), np.ones((x[..., 0].size, 1), x.dtype), axis=1)
        y = rows @ np.append(self.weight, self.bias[None], axis=0)
        return y.reshape(*x.shape[:-1], -1)
    """,
    "float32 whatever comes in": """
        return np.dot(x.astype(np.float32), self.weight.astype(np.float32)) + self.bias.astype(np.float32)
    """,
}
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
        pre = trace("hook_pre", self.c_fc(x))
        post = trace("hook_post", gelu(pre))
        return self.c_proj(post)
    """,
    "its traces too, and act": """
        post = self.act(trace("hook_pre", self.c_fc(x, trace=scoped(trace, "c_fc."))))
        return self.c_proj(trace("hook_post", post), scoped(trace, "c_proj."))
    """,
    "products and biases written out": """
        pre = trace("hook_pre", x @ self.c_fc.weight + self.c_fc.bias)
        post = trace("hook_post", gelu(pre))
        return post @ self.c_proj.weight + self.c_proj.bias
    """,
    "einsum, float64 inside": """
        pre = np.einsum("...c,cf->...f", x.astype(np.float64), self.c_fc.weight) + self.c_fc.bias
        post = trace("hook_post", gelu(trace("hook_pre", pre.astype(x.dtype)))).astype(np.float64)
        return (np.einsum("...f,fc->...c", post, self.c_proj.weight) + self.c_proj.bias).astype(x.dtype)
    """,
    "a loop over the tokens": """
        F = self.c_fc.bias.shape[0]
        pre, out = np.empty((*x.shape[:-1], F), x.dtype), np.empty_like(x)
        for row in np.ndindex(x.shape[:-1]):
            pre[row] = self.c_fc.weight.T @ x[row] + self.c_fc.bias
        post = trace("hook_post", gelu(trace("hook_pre", pre)))
        for row in np.ndindex(x.shape[:-1]):
            out[row] = sum(p * w for p, w in zip(post[row], self.c_proj.weight)) + self.c_proj.bias
        return out
    """,
    "one long table of rows, its own GELU": """
        rows = np.matmul(x.reshape(-1, x.shape[-1]), self.c_fc.weight)
        pre = trace("hook_pre", (rows + self.c_fc.bias).reshape(*x.shape[:-1], -1))
        u = math.sqrt(2 / math.pi) * (pre + 0.044715 * pre * pre * pre)
        post = trace("hook_post", 0.5 * pre * (1 + np.tanh(u)))
        return np.add(np.dot(post, self.c_proj.weight), self.c_proj.bias)
    """,
}
OTHER_WAYS = [
    (function, way, body)
    for function, ways in ((LINEAR, PRODUCTS), ("gelu", GELU), (CALL, MLP))
    for way, body in ways.items()
]


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
    body = MLP["products and biases written out"].replace(" + self.c_fc.bias", "")
    results = graded("a4", tmp_path, with_body("a4", CALL, body))
    wrong = results["output"]
    assert wrong.case.startswith("x = [[1.]]; c_fc.weight = [[ 1. -1.]]; c_fc.bias = [0.5 2. ]; ")
    assert wrong.trace == "hook_pre is wrong: expected [[1.5 1. ]], got [[ 1. -1.]]"
    assert results["alone"].status == "CORRECT"


def test_a_transposed_matrix_is_shown_in_numbers_for_the_head(tmp_path):
    results = graded("a4", tmp_path, with_body("a4", LINEAR, "return x @ self.weight.T + self.bias"))
    wrong = results["weighted_sums"]
    assert " ".join(wrong.case.split()) == "x = [[1. 2.]]; weight = [[1. 0.] [3. 1.]]; bias = [0. 0.] (float64)"
    assert (wrong.expected, wrong.got) == ("[[7. 2.]]", "[[1. 5.]]")
    assert results["output"].status == "CORRECT"  # the MLP's products are the package's, whoever writes Linear


def test_a_linear_layer_that_writes_into_its_input_or_its_bias_is_found(tmp_path):
    for body, words in (
        ("self.bias[:] += x.reshape(-1, x.shape[-1])[0] @ self.weight; return x @ self.weight", "self.bias"),
        ("y = x @ self.weight + self.bias; x *= 0; return y", "x"),
    ):
        wrong = graded("a4", tmp_path, with_body("a4", LINEAR, body))["weighted_sums"]
        assert f"Linear.__call__ writes into its argument {words}:" in wrong.problem


def test_a_gelu_that_writes_into_what_was_announced_is_found(tmp_path):
    body = """
        pre = trace("hook_pre", x @ self.c_fc.weight + self.c_fc.bias)
        pre[:] = gelu(pre)
        return trace("hook_post", pre) @ self.c_proj.weight + self.c_proj.bias
    """
    wrong = graded("a4", tmp_path, with_body("a4", CALL, body))["output"]
    assert "announced as hook_pre was written into" in wrong.problem


RARELY_WRONG = [
    (LINEAR, "y += self.bias", "y[..., :16] += self.bias[:16]"),
    (LINEAR, "x @ self.weight", "x[..., :6] @ self.weight[:6]"),
    (CALL, "self.c_fc(x", "self.c_fc(np.clip(x, -2, 2)"),
    (CALL, 'trace("hook_pre", self', '(lambda pre: (trace("hook_pre", pre) + pre) / 2)(self'),
    (CALL, 'trace("hook_post", self.act(pre))', '(trace("hook_post", self.act(pre)) + gelu(pre)) / 2'),
    ("gelu", "    return x / (1", "    x = np.clip(x, -1e4, 1e4)\n    return x / (1"),
]


@pytest.mark.parametrize(("function", "old", "new"), RARELY_WRONG, ids=[new for *_, new in RARELY_WRONG])
def test_what_is_wrong_only_sometimes_is_found(function, old, new, tmp_path):
    assert "INCORRECT" in statuses(graded_edit("a4", tmp_path, function, old, new))
