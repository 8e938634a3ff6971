"""Assignment a2: other right ways to write a layer norm pass, and what is wrong is told in full."""

import pytest
from course_helpers import graded, graded_edit, statuses, with_body

pytestmark = pytest.mark.catalogue

CALL = "LayerNorm.__call__"
OTHER_WAYS = {
    "einsum": """
        C = x.shape[-1]
        mean = np.einsum("...c->...", x)[..., None] / C
        away = x - mean
        scale = trace("hook_scale", (np.einsum("...c,...c->...", away, away)[..., None] / C + self.eps) ** 0.5)
        normalized = trace("hook_normalized", away / scale)
        return trace("hook_output", np.einsum("...c,c->...c", normalized, self.weight) + self.bias)
    """,
    "np.var, float64 inside": """
        wide = x.astype(np.float64)
        scale = trace("hook_scale", np.sqrt(wide.var(-1, keepdims=True) + self.eps).astype(x.dtype))
        normalized = (wide - wide.mean(-1, keepdims=True)) / scale
        normalized = trace("hook_normalized", normalized.astype(x.dtype))
        return trace("hook_output", self.bias + self.weight * normalized)
    """,
    "loops": """
        scale, normalized = np.empty(x.shape[:-1] + (1,), x.dtype), np.empty_like(x)
        for row in np.ndindex(x.shape[:-1]):
            mean = sum(x[row]) / len(x[row])
            scale[row] = (sum((a - mean) ** 2 for a in x[row]) / len(x[row]) + self.eps) ** 0.5
        scale = trace("hook_scale", scale)
        for row in np.ndindex(x.shape[:-1]):
            normalized[row] = [(a - sum(x[row]) / len(x[row])) / scale[row][0] for a in x[row]]
        normalized = trace("hook_normalized", normalized)
        output = np.empty_like(x)
        for row in np.ndindex(x.shape[:-1]):
            output[row] = [n * w + b for n, w, b in zip(normalized[row], self.weight, self.bias)]
        return trace("hook_output", output)
    """,
    "float32 whatever comes in": """
        x = x.astype(np.float32)
        scale = trace("hook_scale", np.sqrt(np.var(x, axis=-1, keepdims=True) + np.float32(self.eps)))
        normalized = trace("hook_normalized", (x - np.mean(x, axis=-1, keepdims=True)) / scale)
        return trace("hook_output", (normalized * self.weight + self.bias).astype(np.float32))
    """,
    "two means, float32 inside": """
        y = x.astype(np.float32)
        y = y - y.mean(-1, keepdims=True)
        scale = trace("hook_scale", np.sqrt((y**2).mean(-1, keepdims=True) - y.mean(-1, keepdims=True) ** 2
                                            + np.float32(self.eps)))
        normalized = trace("hook_normalized", y / scale)
        return trace("hook_output", (normalized * self.weight + self.bias).astype(x.dtype))
    """,
}


@pytest.mark.parametrize("way", OTHER_WAYS)
def test_another_right_way_passes(way, tmp_path):
    results = graded("a2", tmp_path, with_body("a2", CALL, OTHER_WAYS[way]))
    assert statuses(results) == {"CORRECT"}, {name: r for name, r in results.items() if r.status != "CORRECT"}


def test_a_wrong_answer_is_shown_in_numbers_that_can_be_read(tmp_path):
    body = """
        centered = x - x.mean(axis=-1, keepdims=True)
        scale = trace("hook_scale", np.sqrt((centered * centered).mean(-1, keepdims=True)) + self.eps)
        return trace("hook_output", trace("hook_normalized", centered / scale) * self.weight + self.bias)
    """
    wrong = graded("a2", tmp_path, with_body("a2", CALL, body))["formula"]
    assert wrong.status == "INCORRECT"
    assert wrong.case == "x = [[1. 3.]]; weight = [1. 1.]; bias = [0. 0.]; eps = 1e-05 (float64)"
    assert (wrong.expected, wrong.got) == ("[[-0.999995  0.999995]]", "[[-0.99999  0.99999]]")
    assert wrong.trace == "hook_scale is wrong: expected [[1.000005]], got [[1.00001]]"


ROOT = "np.sqrt(variance + self.eps)"
RARELY_WRONG = [
    (CALL, ROOT, "np.sqrt(np.maximum(variance, 1e-6) + self.eps)"),
    (CALL, f'trace("hook_scale", {ROOT})', f'(trace("hook_scale", {ROOT}) + {ROOT}) / 2'),
]


@pytest.mark.parametrize(("function", "old", "new"), RARELY_WRONG, ids=[new for *_, new in RARELY_WRONG])
def test_what_is_wrong_only_sometimes_is_found(function, old, new, tmp_path):
    assert "INCORRECT" in statuses(graded_edit("a2", tmp_path, function, old, new))
