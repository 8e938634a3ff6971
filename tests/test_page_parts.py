"""Passes of which a Recorder kept a part, or that hold NaN: a page of what is there, or why there is none."""

import html
import json
import random
import re

import numpy as np
import pytest
from helpers import random_model

from nanogpt_np import Recorder, page
from nanogpt_np.generate.loop import generate
from nanogpt_np.interpret.recording import Recording
from nanogpt_np.interpret.stats import lengths, stats
from nanogpt_np.model.cache import KVCache
from nanogpt_np.page import contents, notebook, stored
from nanogpt_np.page.answer import likeliest

MODEL = random_model(n_layer=2, vocab_size=401)
IDS = [3, 1, 41, 59, 26, 1, 53]
BLOCK_1 = "blocks.1."


def recorded(*patches):
    """A whole pass, after which each (name, place, number) was written over."""
    acts = Recorder()
    with np.errstate(all="ignore"):
        list(generate(MODEL, IDS, 1, stop=(), trace=acts))
    for name, place, number in patches:
        acts[name] = acts[name].copy()
        acts[name][place] = number
    return acts


WHOLE = recorded()


def part(keep, model=None):
    return Recorder(model, {name: x for name, x in WHOLE.items() if keep(name)})


def page_of(acts):
    """The page that a notebook shows in its frame."""
    return html.unescape(re.search(r"srcdoc='([^']*)'", acts._repr_html_())[1])


def data_of(acts):
    return json.loads(re.search(r'type="application/json">(.*?)</script>', page_of(acts), re.DOTALL)[1])


PARTS = {
    "no patterns": lambda name: "hook_pattern" not in name,
    "patterns of block 0 only": lambda name: not name.startswith("blocks.1.attn."),
    "patterns and embeddings": lambda name: name.endswith(("hook_pattern", "hook_embed")),
    "block 1 only": lambda name: name.startswith(BLOCK_1),
    "the stream only": lambda name: "resid_post" in name,
    "probabilities only": lambda name: name in ("hook_embed", "hook_probabilities", "hook_next_token"),
    "no embeddings": lambda name: name != "hook_embed",
    "no scores, no values": lambda name: not name.endswith(("attn_scores", "hook_v")),
    "no z": lambda name: "hook_z" not in name,
    "no MLP": lambda name: "mlp" not in name,
    "no stream": lambda name: "resid" not in name,
    "no final norm": lambda name: "ln_final" not in name,
    "embeddings only": lambda name: name in ("hook_tokens", "hook_embed"),
    "nothing of attention": lambda name: "attn" not in name,
}
RNG = random.Random(5)
DICE = [{name for name in WHOLE if RNG.random() < share} | {"hook_embed"} for share in (0.1, 0.3, 0.5, 0.7, 0.9)]
PARTS |= {f"by dice {i}": kept.__contains__ for i, kept in enumerate(DICE)}


@pytest.mark.parametrize("model", [None, MODEL], ids=["alone", "with the model"])
@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_pass_is_a_page_of_that_part(name, model):
    acts = part(PARTS[name], model)
    held = data_of(acts)
    assert [step["name"] for step in held["steps"]] == list(acts)
    assert (held["passes"][0]["T"], held["passes"][0]["S"]) == (7, 7)
    answer = held["passes"][0]["answer"]
    if answer is not None:
        missing = [name for name in ("lens", "split") if name not in answer]
        assert sorted(answer["untold"]) == missing
        for reason in answer["untold"].values():
            assert reason.startswith("no weights" if model is None else "the recording has no ")


def test_what_is_missing_is_named_and_is_not_the_weights():
    answer = data_of(part(PARTS["no embeddings"], MODEL))["passes"][0]["answer"]
    assert list(answer["untold"]) == ["split"] and "no hook_embed" in answer["untold"]["split"]
    assert len(answer["lens"]) == 5


def test_sizes_that_a_part_does_not_tell_are_letters():
    held = data_of(part(PARTS["no MLP"]))
    assert held["sizes"]["F"] == "F" and held["sizes"]["H"] == 5
    held = data_of(part(PARTS["nothing of attention"]))
    assert (held["sizes"]["H"], held["sizes"]["D"], held["layout"]) == ("H", "D", {"H": 1, "D": 30})


def test_all_that_can_be_seen_is_told_by_positions_where_no_array_has_keys():
    cache, acts = KVCache(MODEL.config), Recorder()
    MODEL(IDS[:4], cache=cache)
    MODEL(IDS[4:], cache=cache, trace=acts)
    some = Recorder(acts={name: x for name, x in acts.items() if not re.search("attn_scores|pattern", name)})
    assert lengths(some) == lengths(acts) == (3, 7)
    assert data_of(some)["passes"][0]["keys"] == [None] * 4 + IDS[4:]
    with pytest.raises(ValueError, match="no array with a row for each token"):
        lengths({"hook_next_logits": WHOLE["hook_next_logits"]})


def test_of_a_batch_the_page_says_that_it_shows_one_prompt():
    acts = Recorder()
    MODEL(np.array([IDS, IDS[::-1], IDS]), trace=acts)
    assert data_of(acts)["about"]["batch"] == 3 and data_of(WHOLE)["about"]["batch"] is None


# --- why there is no page ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "changes", "expected"),
    [
        (random_model(n_layer=2, vocab_size=50), {}, "expected 0 to 49"),
        (random_model(n_layer=1, vocab_size=401), {}, "this model has blocks 0 to 0"),
        (None, {"hook_embed": np.zeros((6, 30), np.float32)}, "hook_embed has 6 where others have 7 (T)"),
        (None, {"hook_embed": np.zeros((2, 7, 30), np.float32)}, "hook_embed has shape [2, 7, 30], expected the axes"),
        (None, {"hook_embed": np.zeros((7, 30), np.float16)}, "hook_embed is float16"),
    ],
)
def test_what_cannot_be_shown_says_why(model, changes, expected):
    acts = Recorder(model, WHOLE | changes)
    text = acts._repr_html_()
    assert text.startswith("<p>") and expected in text and text.count("<") == 2


def test_the_reason_is_text_whatever_is_in_it(monkeypatch):
    def refuse(*_):
        raise ValueError("no model 'facts<b>'")

    monkeypatch.setattr(notebook, "recording_of", refuse)
    assert "no model &#x27;facts&lt;b&gt;&#x27;" in WHOLE._repr_html_()


def test_a_recorder_takes_the_model_itself_and_not_its_name():
    with pytest.raises(ValueError, match="takes the model that load returns, not 'facts'"):
        Recorder("facts")
    with pytest.raises(ValueError, match="see `acts`"):
        Recorder(WHOLE)


def test_a_pass_that_is_too_long_says_so(monkeypatch):
    monkeypatch.setattr(notebook, "BUDGETS", (1000, 2000))
    assert "shorten the text" in WHOLE._repr_html_()


def test_a_model_of_other_sizes_than_the_recording_is_refused():
    one = Recording(WHOLE, MODEL.config, {"prompt_ids": IDS})
    with pytest.raises(ValueError, match="other sizes"):
        page.build([one], random_model(n_layer=2, vocab_size=50))


@pytest.mark.parametrize("budget", [1_000_000, 90_000, 50_000])
def test_weights_and_activations_together_keep_to_the_budget(budget):
    held = contents.collect([Recording(WHOLE, MODEL.config, {"prompt_ids": IDS})], MODEL, budget=budget)
    rows = [*held["weights"].values(), *held["passes"][0]["steps"]]
    assert sum(len(row.get("values", "")) for row in rows) <= budget
    whole = held["weights"]["h.0.mlp.c_fc.weight"]["rows"] is None and held["format"] == "f4"
    assert whole == (budget == 1_000_000)


def test_what_is_known_of_weights_that_cannot_change_is_worked_out_once(monkeypatch):
    model = random_model(n_layer=1)
    one = {"ids": IDS, "answer": None, "positions": [0]}
    measured = []
    monkeypatch.setattr(stored, "stats", lambda x: measured.append(x) or {})
    for fixed, expected in ((False, 2), (True, 1)):
        for x in model.params.values():
            x.setflags(write=not fixed)
        for _ in range(2):
            stored.weights_of(model, [one], 1e6)
        assert len(measured) == expected * len(model.params)
        measured.clear()


@pytest.mark.parametrize(("n", "expected"), [(5, "needs the model"), (0, "1 token or more, not 0"), (-1, "not -1")])
def test_more_tokens_than_were_recorded_need_the_model(n, expected, tmp_path):
    one = Recording(WHOLE, MODEL.config, {"prompt_ids": IDS})
    with pytest.raises(ValueError, match=expected):
        page.write(tmp_path / "page.html", one, n=n)
    assert list(tmp_path.iterdir()) == []


# --- numbers that are none -----------------------------------------------------------------------


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 3e37])
@pytest.mark.parametrize("model", [None, MODEL], ids=["alone", "with the model"])
def test_whatever_flows_to_the_logits_is_shown(number, model):
    acts = Recorder(model)

    def trace(name, x):
        if name == "blocks.1.hook_mlp_out":
            x = x.copy()
            x[-1, 3] = number
        return acts(name, x)

    with np.errstate(all="ignore"):
        MODEL(IDS, trace=trace)
    held = data_of(acts)
    largest = held["passes"][0]["steps"][list(acts).index("blocks.1.hook_mlp_out")]["stats"]["max"]
    if number == -np.inf:  # is left out, as in masked scores
        assert largest == acts["blocks.1.hook_mlp_out"].max()
    else:
        assert largest == {"nan": "NaN", "inf": "Infinity"}.get(str(number), np.float32(number))
    assert held["passes"][0]["answer"]["size"] == 401


def test_logits_at_the_end_of_float32_have_a_histogram():
    acts = Recorder(acts=WHOLE)
    logits = WHOLE["hook_next_logits"] / np.abs(WHOLE["hook_next_logits"]).max()
    acts["hook_next_logits"] = logits * np.float32(3e38)
    assert sum(data_of(acts)["passes"][0]["answer"]["histogram"]["counts"]) == 401


def test_stats_of_nothing_but_masked_numbers_are_no_numbers():
    found = stats(np.full((2, 3), -np.inf, np.float32))
    assert found.pop("masked") == 6 and all(map(np.isnan, found.values()))
    assert np.isnan(stats(np.array([1, np.nan, 2]))["max"]) and np.isnan(stats(np.array([1, np.nan, 2]))["min"])


@pytest.mark.parametrize("count", [1, 3, 8, 400])
def test_the_likeliest_are_those_of_a_whole_sort(count):
    rng = np.random.default_rng(count)
    for logits in (rng.standard_normal(300), rng.integers(0, 4, 300).astype(float), np.full(300, np.nan)):
        logits[rng.integers(300, size=5)] = np.nan
        np.testing.assert_array_equal(likeliest(logits, count), np.argsort(-logits, kind="stable")[:count])


# --- in the browser ------------------------------------------------------------------------------

WALK = """() => {
    const [links, wrong] = [new Set(), []];
    const next = document.getElementById("next");
    for (;;) {
        if (/undefined|Infinity/.test(document.getElementById("step").textContent)) wrong.push(location.hash);
        for (const link of document.querySelectorAll("a[href^='#']")) links.add(link.getAttribute("href"));
        const before = location.hash;
        if (next.disabled) return [wrong, [...links]];
        next.click();
        if (location.hash === before) return [[`stuck at ${before}`], []];
    }
}"""
OPENED = [name for name in PARTS if not name.startswith("no ")] + ["no patterns", "no embeddings", "no stream"]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A folder with a page of every part."""
    folder = tmp_path_factory.mktemp("pages")
    for name in OPENED:
        (folder / f"{name}.html").write_text(page_of(part(PARTS[name], MODEL)), encoding="utf-8")
    return folder


@pytest.mark.browser
@pytest.mark.parametrize("name", OPENED)
def test_a_part_of_a_pass_can_be_walked_through_and_no_link_is_dead(opened, name):
    tab = opened(f"{name}.html")
    wrong, links = tab.evaluate(WALK)
    assert wrong == []
    known = {*part(PARTS[name]), *MODEL.params, "start", "step"}
    assert {re.sub(r"^#|\[.*", "", link) for link in links} <= known


@pytest.mark.browser
def test_of_a_part_the_page_says_what_is_there_and_no_more(opened):
    tab = opened("block 1 only.html")
    assert "embedded" not in tab.inner_text("#step")
    tab.fill("#search", "hook_pattern")
    assert tab.locator("#found code:first-child").all_inner_texts() == ["blocks.1.attn.hook_pattern"]
    tab.keyboard.press("Enter")
    assert tab.inner_text(".step-head .name") == "blocks.1.attn.hook_pattern"
    tab = opened("no embeddings.html", "#hook_next_token")
    assert "no hook_embed" in tab.inner_text("#step") and "o weights" not in tab.inner_text("#step")
