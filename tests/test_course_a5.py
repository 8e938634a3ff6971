"""Assignment a5: other right ways to put the layers together, and what is told of wrong ones."""

import contextlib

import numpy as np
import pytest
from course_helpers import graded, graded_edit, statuses, with_body

from nanogpt_np import load
from nanogpt_np.course import seams, student
from nanogpt_np.course.assignment import get
from nanogpt_np.fast import fast
from nanogpt_np.model.trace import no_trace

pytestmark = pytest.mark.catalogue

BLOCK, MODEL, RUN = "Block.__call__", "GPT2.__call__", "GPT2._run"
BLOCKS = {
    "names for everything": """
        start = trace("hook_resid_pre", x)
        found = self.attn(self.ln_1(start, scoped(trace, "ln1.")), remember, scoped(trace, "attn."))
        middle = trace("hook_resid_mid", np.add(trace("hook_attn_out", found), start))
        made = self.mlp(self.ln_2(middle, scoped(trace, "ln2.")), scoped(trace, "mlp."))
        return trace("hook_resid_post", np.add(trace("hook_mlp_out", made), middle))
    """,
    "parts by keyword, traces of its own": """
        def of(part):
            return lambda name, array: trace(part + "." + name, array)

        x = trace("hook_resid_pre", x)
        out = self.attn(self.ln_1(x, trace=of("ln1")), remember=remember, trace=of("attn"))
        x = trace("hook_resid_mid", x + trace("hook_attn_out", out))
        out = self.mlp(self.ln_2(x, trace=of("ln2")), trace=of("mlp"))
        return trace("hook_resid_post", x + trace("hook_mlp_out", out))
    """,
    "a loop over both halves, sums in float64": """
        stream = trace("hook_resid_pre", x)
        halves = [("1", self.ln_1, "attn", self.attn, [remember], "mid"), ("2", self.ln_2, "mlp", self.mlp, [], "post")]
        for number, norm, name, layer, more, end in halves:
            added = layer(norm(stream, scoped(trace, f"ln{number}.")), *more, scoped(trace, f"{name}."))
            added = trace(f"hook_{name}_out", added)
            stream = trace(f"hook_resid_{end}", (stream.astype(np.float64) + added).astype(x.dtype))
        return stream
    """,
}
MODELS = {
    "two lines": """
        x = self.hidden(ids, trace=trace, cache=cache)
        return trace("hook_logits", self.lm_head(x))
    """,
    "row by row": """
        x = self.hidden(ids, cache=cache, trace=trace)
        rows = [self.lm_head(x[..., t, :]) for t in range(x.shape[-2])]
        return trace("hook_logits", np.stack(rows, axis=-2))
    """,
    "float64 inside": """
        x = self.hidden(ids, cache=cache, trace=trace)
        return trace("hook_logits", np.asarray(self.lm_head(x.astype(np.float64)), dtype=x.dtype))
    """,
}
RUNS = {
    "a count, parts by keyword": """
        x, i = self.embedding(ids, start=cache.length, trace=trace), 0
        while i < len(self.h):
            x = self.h[i](x, remember=cache.layer(i), trace=scoped(trace, "blocks." + str(i) + "."))
            i += 1
        cache.advance(ids.shape[-1])
        return self.ln_f(x, trace=scoped(trace, "ln_final."))
    """,
    "recursion": """
        def after(x, i):
            if i == self.config.n_layer:
                return self.ln_f(x, scoped(trace, "ln_final."))
            part = lambda name, array: trace(f"blocks.{i}.{name}", array)
            return after(self.h[i](x, cache.layer(i), part), i + 1)

        out = after(self.embedding(ids, cache.length, trace), 0)
        T = np.shape(ids)[-1]
        cache.advance(T)
        return out
    """,
    "functools.reduce, layers asked for beforehand": """
        from functools import reduce

        layers = [cache.layer(i) for i in range(len(self.h))]
        start = self.embedding(ids, cache.length, trace)
        step = lambda x, i: self.h[i](x, layers[i], scoped(trace, f"blocks.{i}."))
        x = self.ln_f(reduce(step, range(len(self.h)), start), scoped(trace, "ln_final."))
        cache.advance(x.shape[-2])
        return x
    """,
}
OTHER_WAYS = [
    (function, way, body)
    for function, ways in ((BLOCK, BLOCKS), (MODEL, MODELS), (RUN, RUNS))
    for way, body in ways.items()
]


def written(function, body):
    return with_body("a5", function, body).replace("from dataclasses", "import numpy as np\nfrom dataclasses", 1)


@pytest.mark.parametrize(("function", "way", "body"), OTHER_WAYS, ids=[f"{f}: {w}" for f, w, _ in OTHER_WAYS])
def test_another_right_way_passes(function, way, body, tmp_path):
    results = graded("a5", tmp_path, written(function, body))
    assert statuses(results) == {"CORRECT"}, {name: r for name, r in results.items() if r.status != "CORRECT"}


def test_a_prompt_that_the_package_runs_in_segments_goes_through_a_students_pass(tmp_path, monkeypatch):
    """Segments of a long prompt run side by side, each with a cache of its own: a right `_run` knows nothing of it."""
    model, ids, lengths = load("facts"), np.arange(60) % 50, []
    before = model(ids)
    (tmp_path / "a5_model.py").write_text(written(RUN, RUNS["recursion"]))
    (check,) = [c for c in get("a5").checks if c.name == "run_by_hand"]
    monkeypatch.setattr("nanogpt_np.fast.segments.SMALLEST", 20)
    monkeypatch.setattr("nanogpt_np.fast.blas.cores", lambda: 2)
    monkeypatch.setattr("nanogpt_np.fast.blas.products_on_one_core", contextlib.nullcontext)
    versions = student.versions(tmp_path, check)
    (written_run,) = versions.values()

    def counted(self, ids, cache, trace=no_trace):
        lengths.append(ids.shape[-1])
        return written_run(self, ids, cache, trace)

    with seams.installed(dict.fromkeys(versions, counted)):
        np.testing.assert_allclose(fast(model)(ids), before, rtol=2e-4, atol=2e-4)
    assert len(lengths) == 2 and sum(lengths) == 60


def test_post_norm_is_shown_in_numbers_for_the_head(tmp_path):
    body = """
        x = self.ln_1(x + self.attn(x, remember, trace), trace)
        return self.ln_2(x + self.mlp(x, trace), trace)
    """
    wrong = graded("a5", tmp_path, written(BLOCK, body))["block_by_hand"]
    shown = "x = [[1.]]; ln_1_times = 10.0; attn_plus = 1.0; ln_2_times = 100.0; mlp_plus = 2.0 (float64)"
    assert (wrong.case, wrong.expected, wrong.got) == (shown, "[[1214.]]", "[[6200.]]")


def test_a_lost_residual_is_found_where_layers_add_nothing(tmp_path):
    body = BLOCKS["names for everything"].replace(
        'np.add(trace("hook_attn_out", found), start)', 'trace("hook_attn_out", found)'
    )
    wrong = graded("a5", tmp_path, written(BLOCK, body))
    assert (wrong["nothing_added"].expected, wrong["nothing_added"].got) == ("[[ 1. -2.]]", "[[ 0. -0.]]")
    assert wrong["block_by_hand"].trace.startswith("hook_resid_mid is wrong: expected [[12.]], got [[11.]]")


def test_positions_that_restart_are_right_without_a_cache_and_shown_with_one_token_in_it(tmp_path):
    body = RUNS["recursion"].replace("cache.length", "0")
    results = graded("a5", tmp_path, written(RUN, body))
    wrong = {name for name, result in results.items() if result.status == "INCORRECT"}
    assert wrong == {"run_by_hand", "run_with_a_cache"}
    assert "ids = [2]; tokens_in_the_cache = 1;" in results["run_by_hand"].case
    assert results["run_by_hand"].trace.startswith("hook_positions is wrong: expected [1], got [0]")


def test_a_stream_that_is_written_into_is_found(tmp_path):
    body = """
        x += self.attn(self.ln_1(x, scoped(trace, "ln1.")), remember, scoped(trace, "attn."))
        x += self.mlp(self.ln_2(x, scoped(trace, "ln2.")), scoped(trace, "mlp."))
        return x
    """
    assert "writes into its argument x" in graded("a5", tmp_path, written(BLOCK, body))["block_by_hand"].problem


RARELY_WRONG = [
    (BLOCK, 'return trace("hook_resid_post", x)', 'return (trace("hook_resid_post", x) + x) / 2'),
    (BLOCK, 'scoped(trace, "mlp.")', 'lambda n, a: (trace("mlp." + n, a), a)[1]'),
    (MODEL, "trace=trace)", "trace=lambda n, a: (trace(n, a), a)[1])"),
    (RUN, "enumerate(self.h)", "enumerate(self.h[:4])"),
    (RUN, 'scoped(trace, "ln_final.")', 'lambda n, a: (trace("ln_final." + n, a), a)[1]'),
]


@pytest.mark.parametrize(("function", "old", "new"), RARELY_WRONG, ids=[new for *_, new in RARELY_WRONG])
def test_what_is_wrong_only_sometimes_is_found(function, old, new, tmp_path):
    assert "INCORRECT" in statuses(graded_edit("a5", tmp_path, function, old, new))
