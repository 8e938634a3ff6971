"""Assignment a6: other right ways pass, also those that use chance in another way; wrong ones are told in full."""

import textwrap

import pytest
from course_helpers import graded, graded_version, statuses, student_node, with_body

from nanogpt_np.course import seams, sources, student
from nanogpt_np.course.answers import answer
from nanogpt_np.course.assignment import assignments
from nanogpt_np.course.definitions import Check
from nanogpt_np.course.runner import grade
from nanogpt_np.generate import sampling
from nanogpt_np.model.cache import KVCache

pytestmark = pytest.mark.catalogue

OTHER_WAYS = {
    ("LMHead.__call__", "einsum"): """
        return np.einsum("...c,vc->...v", x, self.weight)
    """,
    ("LMHead.__call__", "the other way round, in float64"): """
        wide = self.weight.astype(np.float64) @ np.swapaxes(np.atleast_2d(x).astype(np.float64), -1, -2)
        return np.swapaxes(wide, -1, -2).reshape(*x.shape[:-1], -1).astype(x.dtype)
    """,
    ("LMHead.__call__", "loops"): """
        logits = np.zeros((*x.shape[:-1], len(self.weight)), x.dtype)
        for row in np.ndindex(x.shape[:-1]):
            for v, token in enumerate(self.weight):
                logits[row][v] = sum(a * b for a, b in zip(x[row], token))
        return logits
    """,
    ("probabilities", "masks of minus infinity, sorted descending"): """
        check_sampling(temperature, top_k, top_p)
        if temperature == 0:
            return np.eye(len(logits))[np.argmax(logits)]
        logits = np.array(logits, np.float64) / temperature
        order = np.lexsort((np.arange(len(logits)), -logits))
        if top_k is not None:
            logits[order[top_k:]] = -np.inf
        if top_p is not None:
            so_far = np.cumsum(softmax(logits)[order])
            logits[order[1:][so_far[:-1] >= top_p]] = -np.inf
        return softmax(logits)
    """,
    ("probabilities", "loops over Python floats"): """
        check_sampling(temperature, top_k, top_p)
        scores = [float(x) for x in logits]
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
        if temperature == 0:
            return np.array([float(i == order[0]) for i in range(len(scores))])
        weights = [math.exp((x - max(scores)) / temperature) for x in scores]
        kept = order[:top_k]
        if top_p is not None:
            total, reached, nucleus = sum(weights[i] for i in kept), 0.0, []
            while reached < top_p * total and len(nucleus) < len(kept):
                nucleus.append(kept[len(nucleus)])
                reached += weights[nucleus[-1]]
            kept = nucleus
        total = sum(weights[i] for i in kept)
        return np.array([weights[i] / total if i in kept else 0.0 for i in range(len(scores))])
    """,
    ("probabilities", "powers of probabilities, float32 inside"): """
        check_sampling(temperature, top_k, top_p)
        p = np.zeros(len(logits), np.float32)
        if temperature == 0:
            p[np.argmax(logits)] = 1
            return p
        if temperature < 0.01:
            p = softmax(logits.astype(np.float32) / np.float32(temperature))
        else:
            p = softmax(logits.astype(np.float32)) ** np.float32(1 / temperature)
            p = p / p.sum()
        likeliest = np.argsort(-np.asarray(logits), kind="stable")
        if top_k is not None:
            p[likeliest[top_k:]] = 0
            p = p / p.sum()
        if top_p is not None and top_p < 1:
            before = np.cumsum(p[likeliest]) - p[likeliest]
            p[likeliest[before >= top_p]] = 0
            p = p / p.sum()
        return p
    """,
    ("draw", "a random number among the sums"): """
        return int(np.searchsorted(np.cumsum(p), rng.random(), side="right"))
    """,
    ("draw", "a loop"): """
        u = rng.uniform()
        for i, share in enumerate(p):
            if u < share:
                break
            u -= share
        return i
    """,
    ("draw", "multinomial"): """
        return rng.multinomial(1, p).argmax()
    """,
    ("draw", "Gumbel noise"): """
        possible = np.flatnonzero(p)
        return int(possible[(np.log(p[possible]) + rng.gumbel(size=len(possible))).argmax()])
    """,
    ("draw", "rejection"): """
        while True:
            i = int(rng.integers(0, len(p)))
            if rng.random() < p[i]:
                return i
    """,
    ("next_logits", "a row by its number, float64 inside"): """
        x = model.hidden(ids, cache=cache, trace=trace)
        row = trace("hook_last_row", x[len(x) - 1])
        logits = (model.lm_head.weight.astype(np.float64) @ row).astype(row.dtype)
        return trace("hook_next_logits", logits)
    """,
    ("next_logits", "as a batch of one"): """
        hidden = model.hidden(np.asarray(ids)[None], cache=cache, trace=trace)
        row = trace("hook_last_row", np.take(hidden, -1, axis=1)[0])
        return trace("hook_next_logits", model.lm_head(row[None])[0])
    """,
    ("generate", "a generator function, with the whole logits and a draw of its own"): """
        stop = model.config.eos_token_ids if stop is None else stop
        text = [int(i) for i in ids]
        prompt, fed = len(text), 0
        rng = rng or np.random.default_rng()
        cache = KVCache(model.config) if use_cache else None
        while len(text) < min(prompt + n_new, model.config.n_positions + 1):
            logits = model(np.array(text[fed:]), cache=cache, trace=trace)[-1]
            fed = len(text) if use_cache else 0
            if temperature == 0:
                token = int(np.argmax(logits))
            else:
                sums = np.cumsum(probabilities(logits, temperature, top_k, top_p))
                token = int((sums <= rng.random() * sums[-1]).sum())
            if token in set(stop):
                break
            yield token
            text.append(token)
    """,
    ("generate", "an iterator class, probabilities for greedy too"): """
        stop = model.config.eos_token_ids if stop is None else stop
        outer_ids, random = np.array(ids), np.random.default_rng() if rng is None else rng

        class Tokens:
            def __init__(self):
                self.left = min(n_new, model.config.n_positions - len(outer_ids) + 1)
                self.text, self.next = outer_ids, outer_ids
                self.cache = KVCache(model.config) if use_cache else None

            def __iter__(self):
                return self

            def __next__(self):
                if not self.left:
                    raise StopIteration
                logits = next_logits(model, self.next, cache=self.cache, trace=trace)
                token = draw(probabilities(logits, temperature, top_k, top_p), random)
                self.left = 0 if token in stop else self.left - 1
                if token in stop:
                    raise StopIteration
                self.text = np.concatenate([self.text, [token]])
                self.next = self.text[-1:] if use_cache else self.text
                return token

        return Tokens()
    """,
    ("generate", "recursion"): """
        stop = model.config.eos_token_ids if stop is None else stop
        if cache_of_steps is None:
            ids = check_ids(ids, model.config)
            cache_of_steps = KVCache(model.config) if use_cache else "none"
            n_new = min(n_new, model.config.n_positions - len(ids) + 1)
            rng = np.random.default_rng() if rng is None else rng
        if n_new == 0:
            return
        cache = None if cache_of_steps == "none" else cache_of_steps
        new = ids[0 if cache is None else cache.length :]
        p = probabilities(next_logits(model, new, cache=cache, trace=trace), temperature, top_k, top_p)
        token = np.int64(p.argmax() if temperature == 0 else rng.choice(np.arange(len(p)), p=p))
        if token not in stop:
            yield token
            options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "rng": rng, "stop": stop}
            options |= {"use_cache": use_cache, "trace": trace, "cache_of_steps": cache_of_steps}
            yield from generate(model, np.append(ids, token), n_new - 1, **options)
    """,
}


def written(way):
    source = with_body("a6", way[0], OTHER_WAYS[way])
    if "cache_of_steps" in source:
        source = source.replace("    trace=no_trace,\n):", "    trace=no_trace,\n    cache_of_steps=None,\n):")
    return source


@pytest.mark.parametrize("way", OTHER_WAYS, ids=": ".join)
def test_another_right_way_passes(way, tmp_path):
    results = graded("a6", tmp_path, written(way), only=way[0])
    assert results
    assert statuses(results) == {"CORRECT"}, {name: r for name, r in results.items() if r.status != "CORRECT"}


def right(*edits):
    """Return the answer with some of its text changed."""
    source = answer(assignments()["a6"])
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize("way", [way for way in OTHER_WAYS if way[0] == "draw"], ids=": ".join)
def test_chance_fails_no_right_way_to_draw_whatever_the_seed(way, tmp_path):
    for seed in range(1, 5):
        assert statuses(graded("a6", tmp_path, written(way), seed=seed, only="draw")) == {"CORRECT"}, seed


def drawn_with(p):
    return with_body("a6", "draw", f"p = {p}\np /= p.sum()\nreturn int(rng.choice(len(p), p=p))")


@pytest.mark.parametrize(
    "p", ["p + 1", "p**2", "p**0.5", "p**0.7", "p**1.3", "np.roll(p, 1)", "1 - p", "p[::-1].copy()"]
)
def test_frequencies_tell_other_distributions_apart(p, tmp_path):
    for seed in range(3):
        results = graded("a6", tmp_path, drawn_with(p), seed=seed, only="draw")
        assert results["frequencies"].status == "INCORRECT", seed


def test_random_numbers_that_end_at_nine_tenths_are_told_apart(tmp_path):
    source = with_body("a6", "draw", "return int(np.searchsorted(np.cumsum(p), 0.9 * rng.random()))")
    for seed in range(3):
        assert graded("a6", tmp_path, source, seed=seed, only="draw")["frequencies"].status == "INCORRECT", seed


WRONG = {  # what is no likely mistake, but must not pass either
    "only a few of the settings that mean nothing are refused": (
        "generate.sampling:probabilities",
        "check_sampling(temperature, top_k, top_p)\n",
        "if temperature == -1 or top_k == 0 or top_p in (0, 1.5):\n        raise ValueError\n",
    ),
    "no temperature is lower than 0.001": (
        "generate.sampling:probabilities",
        "/ temperature",
        "/ max(temperature, 1e-3)",
    ),
    "top_p is too large": (
        "generate.loop:generate",
        "top_k, top_p), rng",
        "top_k, top_p and min(1, 1.2 * top_p)), rng",
    ),
    "at most eight rows": (
        "generate.loop:next_logits",
        "model.last_row(ids, cache=cache, trace=trace)",
        "model.hidden(ids, cache=cache, trace=trace)[min(len(ids), 8) - 1]",
    ),
    "<|endoftext|> is never said": (
        "generate.loop:generate",
        "token = int(",
        "logits[50256:50257] = -1\n            token = int(",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_in_some_cases_only_does_not_pass(what):
    where, *edit = WRONG[what]
    results, _ = graded_version(assignments()["a6"], where, seams.edited(where, [edit]), named=False)
    assert "INCORRECT" in statuses(results)


def test_the_smallest_case_of_a_wrong_top_p_can_be_calculated_by_hand(tmp_path):
    source = right(
        ("keep = min(keep, 1 + int(", "keep = min(keep, max(1, int("), ("* so_far[-1])))", "* so_far[-1]))))")
    )
    wrong = graded("a6", tmp_path, source, only="probabilities")["by_top_p"]
    assert wrong.status == "INCORRECT"
    assert wrong.case == "chances = [0.4 0.6]; top_p = 0.7 (float64)"
    assert (wrong.expected, wrong.got) == ("[0.4 0.6]", "[0. 1.]")


def test_a_wrong_draw_is_told_as_shares(tmp_path):
    wrong = graded("a6", tmp_path, with_body("a6", "draw", "return int(p.argmax())"), only="draw")["frequencies"]
    assert wrong.problem == "how often each id comes in 800 draws, to the nearest 0.25 is wrong"
    assert (wrong.expected, wrong.got) == ("[0.25 0.75]", "[0. 1.]")


def test_a_generator_that_is_not_used_is_told(tmp_path):
    results = graded("a6", tmp_path, with_body("a6", "draw", "return int(np.random.choice(len(p), p=p))"), only="draw")
    assert {name for name, r in results.items() if r.status == "INCORRECT"} == {"repeatable"}
    assert (results["repeatable"].expected, results["repeatable"].got) == ("'the same ids'", "'other ids'")


def test_the_text_of_a_cache_that_is_not_used_is_right_and_its_passes_are_counted(tmp_path):
    body = """
        stop = model.config.eos_token_ids if stop is None else stop
        ids = list(ids)
        for _ in range(min(n_new, model.config.n_positions - len(ids) + 1)):
            token = int(next_logits(model, ids, trace=trace).argmax())
            if token in stop:
                return
            yield token
            ids.append(token)
    """
    results = graded("a6", tmp_path, with_body("a6", "generate", body), only="generate")
    assert results["both_ways"].status == "CORRECT"
    wrong = results["passes"]
    assert wrong.case == "prompt = [7 7]; n_new = 3; use_cache = True"
    assert (wrong.expected, wrong.got) == ("[2, 1, 1]", "[2, 3, 4]")


def test_a_list_of_all_ids_is_told_to_come_too_late(tmp_path):
    source = right(("return steps(ids)", "return list(steps(ids))"))
    results = graded("a6", tmp_path, source, only="generate")
    assert {name for name, r in results.items() if r.status == "INCORRECT"} == {"as_found"}
    assert (results["as_found"].expected, results["as_found"].got) == ("1", "4")


def test_a_generate_without_yield_or_return_is_told_that_it_gave_none(tmp_path):
    results = graded("a6", tmp_path, with_body("a6", "generate", "ids = list(ids)"), only="generate")
    assert "generate returned None" in results["likeliest"].notes


def test_what_the_stub_gives_is_as_the_packages(tmp_path):
    path = tmp_path / "a6_generation.py"
    path.write_text(assignments()["a6"].stub.read_text("utf-8"), "utf-8")
    stub = student.load(path)
    assert sources.source(stub.check_sampling) == sources.source(sampling.check_sampling)


def test_each_of_its_functions_is_judged_with_the_packages_others(tmp_path):
    """All but one of them are still to be written."""
    stub = assignments()["a6"].stub.read_text("utf-8")
    for function, body in (
        ("generate", OTHER_WAYS["generate", "an iterator class, probabilities for greedy too"]),
        ("next_logits", OTHER_WAYS["next_logits", "as a batch of one"]),
    ):
        node = student_node(stub, function)
        lines = stub.splitlines()
        lines[node.body[1].lineno - 1 :] = (
            textwrap.indent(textwrap.dedent(body), "    ").splitlines() + (lines[node.end_lineno :])
        )
        assert statuses(graded("a6", tmp_path, "\n".join(lines), only=function)) == {"CORRECT"}


# --- what is given is imported -------------------------------------------------------------------------


def folder_of_answers(tmp_path, **edits):
    for name in ("a6", "a7"):
        source = answer(assignments()[name])
        for old, new in edits.get(name, ()):
            assert source.count(old) == 1, old
            source = source.replace(old, new)
        (tmp_path / assignments()[name].file).write_text(source, "utf-8")
    return tmp_path


def test_where_all_is_graded_together_the_loop_uses_the_students_own_cache(tmp_path):
    folder = folder_of_answers(tmp_path)
    both = (*assignments()["a6"].functions, *assignments()["a7"].functions)
    together = student.versions(folder, Check("together", "", both, None, None))
    alone = student.versions(folder, Check("alone", "", ("generate.loop:generate",), None, None))
    cache = together["model.cache:KVCache"]
    assert cache is not KVCache
    assert together["generate.loop:generate"].__globals__["KVCache"] is cache
    assert alone["generate.loop:generate"].__globals__["KVCache"] is KVCache


def test_what_an_assignment_gives_may_be_imported_there_and_nowhere_else(tmp_path):
    folder = folder_of_answers(
        tmp_path, a7=[("import numpy as np", "import numpy as np\nfrom nanogpt_np.model.cache import NoCache")]
    )
    a6, a7 = grade(folder, ["a6", "a7"])
    assert {result.status for _, result in a6.results} == {"CORRECT"}
    (problem,) = {result.problem for _, result in a7.results}
    assert problem.startswith("a7_cache.py uses nanogpt_np.model.cache.NoCache in line ")
    assert problem.endswith("(allowed are nanogpt_np.model.trace and nanogpt_np.model.config)")


@pytest.mark.parametrize("line", ["from nanogpt_np.model.cache import NoCache", "import nanogpt_np.model.cache"])
def test_of_a_module_that_gives_something_nothing_else_may_be_imported(line, tmp_path):
    results = graded("a6", tmp_path, f"{line}\n{answer(assignments()['a6'])}", only="draw")
    assert {result.status for result in results.values()} == {"INCORRECT"}
    assert " in line 1: write this yourself, don't import it" in results["possible"].problem
