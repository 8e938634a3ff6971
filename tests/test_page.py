"""The page without a browser: what stands in it is what was recorded, and no text in it is ever more than text."""

import base64
import hashlib
import html
import itertools
import json
import math
import os
import re
import subprocess
import sys
import time
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from helpers import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

import nanogpt_np
from nanogpt_np import Recorder, page
from nanogpt_np.__main__ import main
from nanogpt_np.generate.loop import generate
from nanogpt_np.interpret import recording
from nanogpt_np.interpret.lens import logit_lens, split
from nanogpt_np.interpret.recording import Recording
from nanogpt_np.interpret.stats import stats
from nanogpt_np.model.cache import KVCache
from nanogpt_np.names import points
from nanogpt_np.names.ledger import ledger
from nanogpt_np.page import captions, contents, document, notebook, packing, stored
from nanogpt_np.text import Tokenizer, display
from nanogpt_np.weights import assembly, checkpoint, pins, provenance
from nanogpt_np.weights.checkpoint import Checkpoint

# Smaller than the vocabulary of the tokenizer, which shows ids that it does not know by number.
MODEL = random_model(n_layer=2, vocab_size=401)
CONFIG = MODEL.config
IDS = [3, 1, 41, 59, 26, 1, 53]
TABLE = points.table(CONFIG, points.NEXT_TOKEN)
SOME = {"name": "some", "kind": "local", "origin": "some (local checkpoint; sha256 0)"}
ABOUT = {"prompt": "a b", "prompt_ids": IDS, "model": SOME}
HOSTILE = (
    "</script><img src=x onerror=alert(1)>\n\t\x00\x1b[31m\u202eevil\u2066 \U0001f600\u0301<!--<script>{{data}} \"'&a;"
)
TOO_LARGE = 1e30  # what a number that three digits cannot say reads as here
checked = settings(derandomize=True, deadline=None, max_examples=60)


def recorded(model=MODEL, ids=IDS, about=ABOUT):
    acts = Recorder()
    list(generate(model, ids, 1, stop=(), trace=acts))
    return Recording(acts, model.config, about | {"prompt_ids": list(ids)})


RECORDING = recorded()


class Reader(HTMLParser):
    """What stands in a page: every tag with its attributes, and the text of scripts, styles and title."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.open = [], {}, []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.open.append((tag, dict(attributes).get("type")))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]] = self.texts.get(self.open[-1], "") + data


def data_of(text):
    return json.loads(Reader(text).texts["script", "application/json"])


def unpacked(text, format):
    """The numbers as the page's scripts decode them."""
    raw = base64.b64decode(text)
    if format != "d3":
        return np.frombuffer(raw, {"f4": "<f4", "f8": "<f8"}[format])
    codes = np.frombuffer(raw, "<u2")
    special = {
        packing.INFINITY: math.inf,
        packing.NOT_A_NUMBER: math.nan,
        packing.NEARLY_ZERO: 0.0,
        packing.TOO_LARGE: TOO_LARGE,
    }
    values = [special.get(c & 1023, float(f"{c & 1023}e{(int(c) >> 10 & 31) - 22}")) for c in codes]
    return np.where(codes >> 15, -1, 1) * np.array(values)


def shown(held, number, name):
    """The numbers that a page holds of a trace point, in one dimension."""
    names = [step["name"] for step in held["steps"]]
    step = held["passes"][number]["steps"][names.index(name)]
    if "values" in step:
        return unpacked(step["values"], held["format"])
    source, row, column = step["view"]
    rows, columns = sizes_of(held, step["shape"], held["points"][captions.key_of(name)]["axes"])
    _, wide = sizes_of(held, held["passes"][number]["steps"][names.index(source)]["shape"], axes_of(held, source))
    return shown(held, number, source).reshape(-1, wide)[row : row + rows, column : column + columns].reshape(-1)


def axes_of(held, name):
    return held["points"][captions.key_of(name)]["axes"]


def sizes_of(held, shape, axes):
    kept, D = held["kept"], held["sizes"]["D"]
    last = axes.split()[-1]
    size = shape[-1]
    if last in ("C", "3C", "D"):
        size = size // D * kept["D"]
    elif last == "F":
        size = min(size, kept["F"])
    columns = math.prod([*shape[1:-1], size]) if len(shape) > 1 else size
    return (shape[0] if len(shape) > 1 else 1), columns


# --- the numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_number_of_a_small_page_is_the_recorded_one_bit_for_bit(dtype):
    one = recorded(random_model(n_layer=2, vocab_size=401, dtype=dtype))
    held = data_of(page.build([one]))
    assert held["format"] == {np.float32: "f4", np.float64: "f8"}[dtype]
    assert [step["name"] for step in held["steps"]] == list(TABLE)
    for step, row in zip(held["steps"], held["passes"][0]["steps"], strict=True):
        x, point = one.acts[step["name"]], TABLE[step["name"]]
        assert row["shape"] == list(x.shape)
        assert row["numbers"] == point.shapes_of(CONFIG, 7)
        if "whole" in row:
            assert row["whole"] == x.reshape(-1).tolist()
            continue
        assert row["stats"] == {name: value if math.isfinite(value) else str(value) for name, value in stats(x).items()}
        if "V" not in point.axes:
            np.testing.assert_array_equal(shown(held, 0, step["name"]), x.reshape(-1))


def test_a_view_is_held_once_and_what_a_patch_changed_is_no_view():
    held = data_of(page.build([RECORDING]))
    names = [step["name"] for step in held["steps"]]
    views = {name for name, row in zip(names, held["passes"][0]["steps"], strict=True) if "view" in row}
    assert views == {name for name, point in TABLE.items() if point.view}
    changed = recorded()
    changed.acts["blocks.1.attn.hook_k"] = changed.acts["blocks.1.attn.hook_k"] + 1
    held = data_of(page.build([changed]))
    assert "view" not in held["passes"][0]["steps"][names.index("blocks.1.attn.hook_k")]
    found = shown(held, 0, "blocks.1.attn.hook_k")
    np.testing.assert_array_equal(found, changed.acts["blocks.1.attn.hook_k"].reshape(-1))


@settings(checked, max_examples=300)
@given(x=st.floats(-1e5, 1e5, width=32) | st.floats(width=32))
def test_three_digits_are_those_that_python_prints(x):
    (found,) = unpacked(packing.pack(np.float32([x]), "d3"), "d3")
    if math.isnan(x):
        assert math.isnan(found)
    elif math.isinf(x) or abs(x) > 9.995e11:
        assert found == math.copysign(math.inf if math.isinf(x) else TOO_LARGE, x)
    elif abs(x) < 1e-20:
        assert found == 0
    else:
        assert found == float(f"{x:.2e}")


@pytest.mark.parametrize("x", [9.995, 99.95, 0.9995, 999.5, 1e-20, 9.99e11, 1.125, 1.135, 2.5e-8, 1e22 / 3e11])
def test_three_digits_at_the_edges(x):
    assert unpacked(packing.pack(np.array([x, -x]), "d3"), "d3").tolist() == [float(f"{x:.2e}"), -float(f"{x:.2e}")]


@pytest.mark.parametrize("kept", [3, 2, 1])
def test_a_page_with_little_room_keeps_the_first_columns_of_every_head_rounded_to_three_digits(kept):
    D, F = CONFIG.head_width, CONFIG.mlp_width
    arrays = [
        (point.axes, RECORDING.acts[name].shape, np.float32)
        for name, point in TABLE.items()
        if "V" not in point.axes and not point.view
    ]
    budget = sum(packing.Plan("d3", D, F, kept, math.ceil(F * kept / D)).characters(*a[:2]) for a in arrays)
    held = data_of(page.build([RECORDING], budget=budget))
    assert (held["format"], held["digits"], held["kept"]["D"]) == ("d3", 3, kept)
    columns = [c for c in range(CONFIG.n_embd) if c % D < kept]
    for name in ("blocks.1.hook_mlp_out", "blocks.0.hook_resid_pre"):
        expected = [float(f"{x:.2e}") for x in RECORDING.acts[name][:, columns].reshape(-1)]
        assert shown(held, 0, name).tolist() == expected
    for name in ("blocks.1.attn.hook_q", "blocks.1.attn.hook_v", "blocks.0.attn.hook_z"):
        expected = [float(f"{x:.2e}") for x in RECORDING.acts[name][..., :kept].reshape(-1)]
        assert shown(held, 0, name).tolist() == expected
    post = RECORDING.acts["blocks.1.mlp.hook_post"][:, : held["kept"]["F"]]
    assert shown(held, 0, "blocks.1.mlp.hook_post").tolist() == [float(f"{x:.2e}") for x in post.reshape(-1)]
    row = held["passes"][0]["steps"][list(TABLE).index("blocks.1.mlp.hook_post")]
    assert row["shape"] == [7, F] and row["stats"] == stats(RECORDING.acts["blocks.1.mlp.hook_post"])


def test_what_does_not_fit_however_it_is_cut_is_refused():
    with pytest.raises(ValueError, match="shorten the text"):
        page.build([RECORDING], budget=1000)


def test_weights_are_the_models_own_and_large_ones_say_what_is_left(monkeypatch):
    held = data_of(page.build([RECORDING], MODEL))["weights"]
    assert list(held) == list(MODEL.params)
    for name, x in MODEL.params.items():
        rows = held[name]["rows"]
        expected = x if rows is None else x[rows]
        assert held[name]["shape"] == list(x.shape)
        np.testing.assert_array_equal(unpacked(held[name]["values"], "f4"), expected.reshape(-1))
        assert held[name]["stats"] == pytest.approx(stats(x), rel=1e-6, abs=1e-9)
    assert set(IDS) <= set(held["wte.weight"]["rows"]) and held["wpe.weight"]["rows"] == list(range(7))
    monkeypatch.setattr(stored, "WEIGHTS_WHOLE", 0)
    monkeypatch.setattr(stored, "WEIGHT_ROWS", 4)
    monkeypatch.setattr(stored, "WEIGHT_COLUMNS", 5)
    held = data_of(page.build([RECORDING], MODEL))["weights"]["h.1.attn.c_attn.weight"]
    assert (held["rows"], held["columns"], held["shape"]) == ([0, 1, 2, 3], 5, [30, 90])
    corner = MODEL.params["h.1.attn.c_attn.weight"][:4, :5]
    np.testing.assert_array_equal(unpacked(held["values"], "f4"), corner.reshape(-1))


def test_the_answer_its_rank_through_the_blocks_and_its_split_are_those_of_the_lens():
    held = data_of(page.build([RECORDING], MODEL, watch=77))
    answer = held["passes"][0]["answer"]
    logits = RECORDING.acts["hook_next_logits"]
    order = np.argsort(-logits, kind="stable")
    assert answer["chosen"] == order[0]
    assert answer["ids"][:100] == order[:100].tolist()
    np.testing.assert_array_equal(unpacked(answer["logits"], "f4"), logits[answer["ids"]])
    np.testing.assert_array_equal(unpacked(answer["p"], "f4"), RECORDING.acts["hook_probabilities"][answer["ids"]])
    assert [1 + int(np.flatnonzero(order == i)[0]) for i in answer["ids"]] == answer["ranks"]
    assert answer["explained"] == [*order[:6].tolist(), 77]
    for i in answer["explained"]:
        rows = logit_lens(RECORDING.acts, MODEL, i)
        assert [stop["of"][str(i)]["rank"] for stop in answer["lens"]] == [row["rank"] for row in rows]
        assert [stop["best"] for stop in answer["lens"]] == [row["best"] for row in rows]
        parts = split(RECORDING.acts, MODEL, i).parts
        assert [name for name, _, _ in held["parts"]] == [part.name for part in parts]
        assert [(block, head) for _, block, head in held["parts"] if head is not None] == [
            (part.block, part.head) for part in parts if part.head is not None
        ]
        assert answer["split"][str(i)]["amounts"] == [part.amount for part in parts]
    assert sum(answer["histogram"]["counts"]) == CONFIG.vocab_size


# --- what it knows of each step ------------------------------------------------------------------


def test_every_array_that_a_step_reads_is_drawn_once_in_its_equation():
    held = data_of(page.build([RECORDING]))
    for step in held["steps"]:
        picture = held["points"][captions.key_of(step["name"])]["picture"]
        drawn = [part["of"] for part in picture if isinstance(part, dict)]
        found = sorted(of for of in drawn if of is not None)
        assert found == list(range(len(step["reads"]) + len(step["weights"]))), step["name"]
        for name in step["reads"]:
            assert name in RECORDING.acts


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("blocks.1.attn.hook_qkv", [("T C", 0), ("C 3C", 1), ("3C", 2)]),
        ("blocks.1.ln1.hook_normalized", [("T C", 0), ("T 1", None), ("T 1", 1)]),  # the first [T 1] is the mean
        ("blocks.1.ln1.hook_output", [("T C", 0), ("C", 1), ("C", 2)]),
        ("blocks.1.attn.hook_attn_scores", [("H T D", 0), ("H D S", 1)]),
        ("blocks.1.attn.hook_z", [("H T S", 0), ("H S D", 1), ("T H D", None)]),
        ("blocks.0.hook_resid_pre", [("T C", 0), ("T C", 1)]),
        ("hook_next_logits", [("V C", 1), ("C", 0)]),
    ],
)
def test_the_arrays_of_an_equation_stand_where_they_belong(name, expected):
    picture = captions.picture(TABLE[name])
    assert [(part["axes"], part["of"]) for part in picture if isinstance(part, dict)] == expected


def test_of_the_two_kinds_of_logits_the_one_that_is_there_stands_for_the_other():
    last, every = Recorder(), Recorder()
    list(generate(MODEL, IDS, 1, stop=(), trace=last))
    MODEL(np.array(IDS), trace=every)
    held = [contents.collect([Recording(acts, CONFIG, ABOUT)])["stand_ins"] for acts in (last, every)]
    assert [{name: row["to"] for name, row in some.items()} for some in held] == [
        {"hook_logits": "hook_next_logits"},
        {"hook_next_logits": "hook_logits"},
    ]
    assert "lm_head" in held[0]["hook_logits"]["names"]["Hugging Face"]


def test_every_trace_point_has_a_title_and_all_its_names():
    assert set(captions.TITLES) == set(points.TEMPLATES)
    held = data_of(page.build([RECORDING]))
    assert "Q" in held["points"]["blocks.{i}.attn.hook_q"]["names"]["papers"]
    assert "sum of the embeddings" in held["points"]["blocks.0.hook_resid_pre"]["names"]["words"]
    (part,) = [p for p in held["parameters"]["h.{i}.attn.c_attn.weight"]["parts"] if p["index"] == "[:, C:2*C]"]
    assert part["names"]["papers"] == ["W_K"]


# --- passes --------------------------------------------------------------------------------------


def test_a_page_of_several_tokens_holds_a_pass_for_each_and_what_the_cache_spared():
    every = page.passes(RECORDING, MODEL, 4)
    held = data_of(page.build(every, MODEL))
    ids = list(IDS)
    whole = Recorder()
    for number, one in enumerate(held["passes"]):
        assert one["keys"] == ids and one["ids"] == (ids if number == 0 else ids[-1:])
        assert (one["T"], one["S"]) == (7 if number == 0 else 1, 7 + number)
        pattern = every[number].acts["blocks.1.attn.hook_pattern"]
        np.testing.assert_array_equal(shown(held, number, "blocks.1.attn.hook_pattern"), pattern.reshape(-1))
        assert one["flops"]["this"] == ledger(CONFIG, one["T"], one["S"])[1]["flops"]
        assert one["flops"]["whole"] == ledger(CONFIG, one["S"])[1]["flops"]
        (chosen,) = generate(MODEL, ids, 1, stop=(), trace=whole)
        assert one["answer"]["chosen"] == chosen
        # What the cache kept is what one pass over all tokens computes, up to rounding.
        found = shown(held, number, "blocks.1.attn.hook_k").reshape(one["T"], -1)
        np.testing.assert_allclose(found, whole["blocks.1.attn.hook_k"][-one["T"] :].reshape(one["T"], -1), atol=2e-5)
        ids.append(chosen)
    assert len(held["passes"]) == 4
    with pytest.raises(ValueError, match="1 token or more, not 0"):
        page.passes(RECORDING, MODEL, 0)


def test_a_pass_that_was_saved_makes_the_same_page_without_weights(tmp_path):
    about = ABOUT | {"model": {"name": "m", "origin": "m", "dtype": "F32", "parameters": 9, "decoding": "greedy"}}
    recording.save(tmp_path / "pass.npz", Recording(RECORDING.acts, CONFIG, about))
    again = page.build([recording.read(tmp_path / "pass.npz")])
    assert again == page.build([Recording(RECORDING.acts, CONFIG, about)])
    held = data_of(again)
    assert held["weights"] == {} and "split" not in held["passes"][0]["answer"] and held["about"]["replayed"]


def test_a_pass_after_a_cache_names_the_tokens_that_it_knows():
    cache, acts = KVCache(CONFIG), Recorder()
    MODEL(IDS[:4], cache=cache)
    MODEL(IDS[4:], cache=cache, trace=acts)
    held = data_of(page.build([Recording(acts, CONFIG, ABOUT | {"prompt_ids": IDS[:2]})]))
    assert held["passes"][0]["keys"] == [3, 1, None, None, 26, 1, 53]
    assert held["passes"][0]["positions"] == [4, 5, 6]
    rows = held["passes"][0]["answer"]["per_row"]
    assert [[one["id"] for one in row if one["next"]] for row in rows] == [[1], [53], []]


# --- any text is text ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile():
    model = nanogpt_np.load("facts")
    ids = nanogpt_np.Tokenizer().encode(HOSTILE)
    about = {"prompt": HOSTILE, "prompt_ids": ids, "model": {"name": HOSTILE, "origin": HOSTILE, "decoding": HOSTILE}}
    return page.build([recorded(model, ids, about)], model)


def test_a_page_of_hostile_text_has_no_tag_and_no_attribute_more_than_any_other(hostile):
    def skeleton(text):
        return [(tag, sorted(attributes)) for tag, attributes in Reader(text).tags]

    assert skeleton(hostile) == skeleton(page.build([RECORDING]))
    tags = [tag for tag, _ in skeleton(hostile)]
    assert tags.count("script") == 2 and "img" not in tags and "iframe" not in tags
    assert not [name for _, attributes in skeleton(hostile) for name in attributes if name.startswith("on")]
    title = Reader(hostile).texts["title", None]
    assert title.startswith("</script><img src=x onerror=alert(1)>\\n\\t\\x00") and "\\u202eevil" in title
    about = data_of(hostile)["about"]
    assert "".join(text for _, text in about["text"]) == title.strip()
    assert "\\u202eevil" in about["name"] and about["name"].isprintable() and about["decoding"].isprintable()


def test_the_text_of_hostile_tokens_is_all_there(hostile):
    held = data_of(hostile)
    parts = [held["tokens"][str(i)] for i in held["passes"][0]["ids"]]
    tokenizer = nanogpt_np.Tokenizer()
    raw = b"".join(tokenizer.token(i) for i in held["passes"][0]["ids"])
    assert raw == HOSTILE.encode()
    found = "".join(text for pieces in parts for _, text in pieces)
    assert found.startswith("</script><img src=x onerror=alert(1)>\\n\\t\\x00\\x1b[31m")
    assert "{{data}}" in found and "<!--<script>" in found


@checked
@given(raw=st.binary(max_size=9) | st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_the_pieces_of_a_token_hide_nothing_and_hold_nothing_that_acts(raw):
    pieces = display.pieces(raw)
    assert all(a[0] != b[0] for a, b in itertools.pairwise(pieces))
    back = b""
    for kind, text in pieces:
        assert text and (kind == 1) == (set(text) == {" "})
        assert not [c for c in text if unicodedata.category(c)[0] in "CZ" and c != " "]
        if kind == 2:
            codes = re.findall(r"\\(?:([ntr])|x(..)|u(....)|U(.{8}))", text)
            for letter, byte, short, long in codes:
                character = {"n": "\n", "t": "\t", "r": "\r"}.get(letter) or chr(int(short or long or "0", 16))
                back += bytes([int(byte, 16)]) if byte else character.encode()
        else:
            back += text.replace("\u25cc", "").encode()
    assert back == raw.replace("\u25cc".encode(), b"")


@pytest.mark.parametrize("unit", ["a", " ", "\x00", "\u0301", "a ", "\xff", "語"])
def test_the_pieces_of_a_text_of_four_times_the_length_take_less_than_eight_times_the_time(unit):
    def seconds(n):
        raw = unit.encode("latin-1" if unit == "\xff" else "utf-8") * n
        start = time.perf_counter()
        assert sum(len(text) for _, text in display.pieces(raw)) >= n
        return time.perf_counter() - start

    short, long = (min(seconds(n) for _ in range(3)) for n in (100_000, 400_000))
    assert long < 8 * short  # linear is 4


def test_the_policy_forbids_every_request_and_names_the_script_and_the_style_that_stand_in_the_page(hostile):
    read = Reader(hostile)
    (policy,) = [a["content"] for tag, a in read.tags if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["base-uri"] == "'none'" and rules["form-action"] == "'none'"
    for tag in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(read.texts[tag, None].encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"unsafe|https?:|\*", policy)
    # Before anything that it governs.
    tags = [tag for tag, _ in read.tags]
    assert tags.index("meta") < tags.index("style") < tags.index("script")


def test_nothing_in_the_page_points_outside(hostile):
    for text in (hostile, page.build([RECORDING], MODEL)):
        assert set(re.findall(r"\b(?:https?|wss?|ftp):[^\"' ]*", text)) == {"http://www.w3.org/2000/svg"}
        links = [value for _, a in Reader(text).tags for name, value in a.items() if name in ("src", "href")]
        assert sorted(links) == ["#step", "data:,"]
    scripts = "".join(document._script(name) for name in document.SCRIPTS)
    assert not re.search(r"fetch\(|XMLHttpRequest|WebSocket|sendBeacon|import\(|localStorage|Worker", scripts)


def test_the_scripts_never_read_text_as_html_or_as_code():
    scripts = "".join(document._script(name) for name in document.SCRIPTS)
    acting = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|eval\(|Function\(|srcdoc|javascript:"
    assert not re.search(acting, scripts)
    assert "</script" not in scripts.lower() and "<!--" not in scripts
    assert "</style" not in document._file("page.css").lower()


# --- readable ------------------------------------------------------------------------------------


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_texts_can_be_read_in_light_and_in_dark():
    """WCAG AA: 4.5 for text, 3 for what is not text but must be told apart."""
    light, dark = re.findall(r":root \{(.*?)\}", document._file("page.css"), re.DOTALL)[:2]
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in (light, dark))
    assert len(dark) > 10
    for style in (light, light | dark):
        for ground in ("paper", "panel"):
            for text in ("ink", "soft", "link"):
                assert contrast(style[text], style[ground]) >= 4.5, (text, ground)
        assert contrast(style["ink"], style["stored-ground"]) >= 4.5
        assert contrast(style["paper"], style["stored"]) >= 4.5  # the word "stored" on its tag
        # On a cell of any colour the better of the two inks, told apart where both have the same contrast.
        assert math.sqrt(contrast(style["dark-ink"], style["light-ink"])) >= 4.5
        crossing = (luminance(style["dark-ink"]) + 0.05) * math.sqrt(contrast(style["dark-ink"], style["light-ink"]))
        assert f"> {crossing - 0.05:.3f} ?" in document._file("js/colours.js")
        for mark in ("query", "key", "value", "stored", "heat-attention", "heat-positive", "heat-negative"):
            assert contrast(style[mark], style["paper"]) >= 3, mark


# --- sizes ---------------------------------------------------------------------------------------


def test_the_bundled_model_and_five_tokens_are_under_three_megabytes(tmp_path):
    model = nanogpt_np.load("facts")
    ids = nanogpt_np.Tokenizer().encode("The capital of France is")
    nbytes = page.write(tmp_path / "page.html", recorded(model, ids), model, n=3)
    assert nbytes == (tmp_path / "page.html").stat().st_size < 3e6
    assert len(data_of((tmp_path / "page.html").read_text(encoding="utf-8"))["passes"]) == 3


def test_gpt2_is_exact_for_five_tokens_and_fits_for_sixty_four():
    from nanogpt_np.names.sizes import PUBLISHED

    config = PUBLISHED["gpt2"]
    for T, format in ((5, "f4"), (64, "d3")):
        arrays = [
            (point.axes, point.shape(config, T), np.dtype(np.float32))
            for point in points.table(config, points.NEXT_TOKEN).values()
            if "V" not in point.axes and not point.view
        ]
        found = packing.plan(arrays, 64, 3072, contents.BUDGET)
        assert found.format == format and found.kept_D >= 16


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("secret-folder") / "checkpoint"
    nanogpt_np.save(random_model(n_layer=2, vocab_size=50257, n_positions=40), directory)
    return str(directory)


def test_the_command_writes_the_page_and_nothing_on_stdout(directory, tmp_path, capsys):
    file = tmp_path / "page.html"
    arguments = ["trace", "The capital of France is", "--html", str(file), "--model", directory, "-n", "2"]
    assert main([*arguments, "--watch", " Paris"]) == 0
    out, err = capsys.readouterr()
    assert out == "" and err.splitlines()[-1].startswith(f"{file}: ")
    text = file.read_text(encoding="utf-8")
    held = data_of(text)
    assert held["passes"][0]["ids"] == [464, 3139, 286, 4881, 318]
    assert held["passes"][1]["answer"]["watch"] == 6342 in held["passes"][1]["answer"]["explained"]
    about = held["about"]
    assert (about["name"], about["kind"], about["bos"]) == ("checkpoint", "local", False)
    assert held["about"]["sha256"] == hashlib.sha256((Path(directory) / "model.safetensors").read_bytes()).hexdigest()
    assert "secret-folder" not in text  # a file that is passed on tells nothing of the machine
    assert list(tmp_path.iterdir()) == [file]


def test_a_digest_that_is_dear_is_computed_for_the_page_and_for_nothing_else(directory, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(provenance, "HASHED_AT_ONCE", 0)
    read = []
    monkeypatch.setattr(
        checkpoint, "computed_digest", lambda folder: read.append(folder) or provenance.computed_digest(folder)
    )
    assert main(["trace", "One two", "--model", directory]) == 0
    assert read == [] and "sha256 unchecked" in capsys.readouterr().err
    file = tmp_path / "page.html"
    assert main(["trace", "One two", "--model", directory, "--html", str(file)]) == 0
    digest = hashlib.sha256((Path(directory) / "model.safetensors").read_bytes()).hexdigest()
    about = data_of(file.read_text(encoding="utf-8"))["about"]
    assert (about["sha256"], about["sha256_of"], about["kind"]) == (digest, None, "local")
    assert f"sha256 {digest[:12]}" in capsys.readouterr().err


def test_of_several_files_of_weights_the_first_one_is_told_by_name(tmp_path):
    names = {"b": "model-00002-of-00002.safetensors", "a": "model-00001-of-00002.safetensors"}
    for name in names.values():
        (tmp_path / name).write_bytes(name.encode() * 500_000)  # more than is read at a time
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    opened = Checkpoint("n", tmp_path, CONFIG, {})
    vars(opened)["model"] = MODEL
    found = opened.full_provenance()
    assert found["origin"] == "n (local checkpoint; sha256 unchecked)"
    assert found["sha256"] == hashlib.sha256(names["a"].encode() * 500_000).hexdigest()
    assert contents._about({"model": found}, None, CONFIG)["sha256_of"] == names["a"]


def test_a_computed_digest_tells_the_published_weights_from_others(tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(provenance, "HASHED_AT_ONCE", 0)
    digest = hashlib.sha256(b"weights").hexdigest()
    opened = Checkpoint("gpt2", tmp_path, CONFIG, {})
    vars(opened)["model"] = MODEL
    assert opened.provenance["sha256"] is None
    for pinned, kind in ((digest, "published"), ("0" * 64, "other")):
        monkeypatch.setitem(pins.PINS, "gpt2", pins.Pin("r", "v", pinned, 7))
        assert contents._about({"model": opened.full_provenance()}, None, CONFIG)["kind"] == kind


def test_a_replayed_pass_becomes_a_page_too(directory, tmp_path, capsys):
    saved, file = str(tmp_path / "pass.npz"), tmp_path / "page.html"
    assert main(["trace", "One two", "--model", directory, "--save", saved]) == 0
    assert main(["trace", "--load", saved, "--html", str(file)]) == 0
    held = data_of(file.read_text(encoding="utf-8"))
    assert held["about"]["prompt"] == "One two" and held["weights"] == {}
    assert "secret-folder" not in json.dumps(held)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--html", "page.html", "--json"], "--html does not go with --json"),
        (["--html", "page.html", "--dry-run", "gpt2"], "--html does not go with --dry-run"),
        (["--html", "no/such/folder/page.html"], "is a folder, or in a missing folder"),
        (["--html", "page.html", "-n", "0"], "1 token or more, not 0"),
        (["--html", "-"], "--html takes the name of a file"),
        (["--html", "page.html", "--save", "./page.html"], "this would overwrite the file of --save"),
        (["-n", "3"], "--max-new-tokens needs --html"),
        (["--watch", " Paris"], "--watch needs --html"),
        (["--html", "page.html", "--watch", "two words"], "--watch takes one token"),
    ],
)
def test_bad_input_gets_one_line_and_no_file(arguments, expected, directory, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = [] if "--dry-run" in arguments else ["--model", directory]
    assert main(["trace", "One two", *arguments, *model]) == 1
    out, err = capsys.readouterr()
    assert expected in err.splitlines()[-1] and "Traceback" not in err and out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--html", "--save"])
def test_a_device_is_never_replaced_and_of_a_link_it_is_the_file_behind_it(flag, directory, tmp_path, capsys):
    pipe, link, file = tmp_path / "pipe", tmp_path / "link", tmp_path / "mine.txt"
    os.mkfifo(pipe)
    arguments = ["trace", "One two", "--model", directory, flag]
    assert main([*arguments, str(pipe)]) == 1
    assert f"{flag} {pipe}: not a regular file" in capsys.readouterr().err and pipe.is_fifo()
    file.write_text("mine")
    link.symlink_to(file.name)
    assert main([*arguments, str(link)]) == 0
    assert link.is_symlink() and file.stat().st_size > 10_000 and not file.is_symlink()
    assert sorted(tmp_path.iterdir()) == [link, file, pipe]


def test_a_page_never_takes_the_place_of_the_recording_that_it_shows(directory, tmp_path, capsys):
    saved = tmp_path / "pass.npz"
    assert main(["trace", "One two", "--model", directory, "--save", str(saved)]) == 0
    before = saved.read_bytes()
    assert main(["trace", "--load", str(saved), "--html", str(saved)]) == 1
    assert "this would overwrite the file of --load" in capsys.readouterr().err
    assert saved.read_bytes() == before


@pytest.mark.parametrize("kind", [*provenance.KINDS, "real", None])
def test_the_page_says_whose_weights_spoke_and_claims_no_more(kind):
    """What a name, or a folder, makes the sentence say counts for nothing."""
    origin = "gpt2 (downloaded, the published weights; sha256 248dfc391186)"
    about = {"prompt_ids": [50256, 1], "model": {"name": "n", "kind": kind, "origin": origin}}
    found = contents._about(about, None, CONFIG)
    assert (
        found["kind"] == (kind if kind in provenance.KINDS else "not told")
        and found["replayed"]
        and contents._reading(about, CONFIG, Tokenizer())["bos"] is True
    )
    assert found["sha256"] is None


def test_a_folder_with_the_name_of_published_weights_stays_a_folder(tmp_path, capsys):
    folder = tmp_path / "gpt2 (downloaded, the published weights)"
    nanogpt_np.save(random_model(n_layer=2, vocab_size=50257, n_positions=40), folder)
    assert main(["trace", "One", "--model", str(folder), "--html", str(tmp_path / "page.html")]) == 0
    about = data_of((tmp_path / "page.html").read_text(encoding="utf-8"))["about"]
    assert about["kind"] == "local" and about["name"] == folder.name


def test_a_model_that_was_never_trained_is_called_random():
    params = {name: x * 0 + name.endswith("weight") if "ln_" in name else x for name, x in MODEL.params.items()}
    params |= {name: x * 0 for name, x in params.items() if name.endswith("bias")}
    untrained = assembly.assemble(CONFIG, params)
    assert contents._about(ABOUT, untrained, CONFIG)["kind"] == "random"
    assert contents._about(ABOUT, MODEL, CONFIG)["kind"] == "local"


# --- in a notebook -------------------------------------------------------------------------------


def framed(acts):
    """The page in the frame that a notebook shows."""
    ((tag, attributes),) = Reader(acts._repr_html_()).tags
    assert tag == "iframe" and attributes["sandbox"] == "allow-scripts"
    return data_of(attributes["srcdoc"])


def test_a_recorder_shows_itself_as_the_page_in_a_frame_of_its_own():
    acts = Recorder()
    MODEL(IDS, trace=acts)
    held = framed(acts)
    assert [step["name"] for step in held["steps"]] == list(acts)
    assert held["sizes"]["V"] == 401 and held["sizes"]["n_positions"] == "n_positions"
    rows = {step["name"]: row for step, row in zip(held["steps"], held["passes"][0]["steps"], strict=True)}
    assert rows["hook_pos_embed"]["numbers"] == "rows of [n_positions, 30] at [7]"
    assert rows["blocks.1.attn.hook_attn_scores"]["numbers"] == "[5, 7, 6] @ [5, 6, 7] * scale"
    assert held["about"]["kind"] == "not told"
    assert held["passes"][0]["answer"]["chosen"] == acts["hook_logits"][-1].argmax()
    held = framed(Recorder(MODEL, acts))
    assert held["about"]["kind"] == "in memory" and held["sizes"]["n_positions"] == 23
    assert "split" in held["passes"][0]["answer"]


def test_of_a_batch_it_shows_the_first_prompt_and_of_a_part_what_is_there():
    acts = Recorder()
    MODEL(np.array([IDS, IDS[::-1]]), trace=acts)
    assert framed(acts)["passes"][0]["ids"] == IDS
    hidden = Recorder()
    MODEL.hidden(IDS, trace=hidden)
    held = framed(hidden)
    assert held["sizes"]["V"] == "V" and held["passes"][0]["answer"] is None
    one = framed(Recorder(acts={name: x for name, x in hidden.items() if name.startswith("blocks.1.")}))
    assert not one["layers_known"] and one["passes"][0]["ids"] == [] and one["passes"][0]["keys"] == [None] * 7


@pytest.mark.parametrize("held", [{}, {"x": 1}, {"hook_tokens": np.arange(3)}, {"hook_embed": np.zeros((2, 3, 4, 5))}])
def test_what_holds_no_pass_shows_as_any_dict(held):
    assert Recorder(acts=held)._repr_html_() is None


def test_a_frame_holds_the_text_unchanged():
    acts = Recorder()
    MODEL(IDS, trace=acts)
    recorded, unknown = notebook.recording_of(acts)
    inside = re.search(r"srcdoc='([^']*)'", acts._repr_html_())[1]
    assert html.unescape(inside) == page.build([recorded], budget=notebook.BUDGETS, unknown=unknown)


LOADED = """
import importlib, pkgutil, sys, nanogpt_np, nanogpt_np.interpret, nanogpt_np.model
def page():
    return [name for name in sys.modules if name.startswith("nanogpt_np.page")]
for room in (nanogpt_np.model, nanogpt_np.interpret):
    for module in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
        importlib.import_module(module.name)
print(page())
acts = nanogpt_np.Recorder()
nanogpt_np.load("facts")([1, 2], trace=acts)
print(page())
acts._repr_html_()
print("nanogpt_np.page.document" in page())
"""


def test_neither_the_layers_nor_a_recorder_load_the_page_before_it_is_asked_for():
    found = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout
    assert found.splitlines() == ["[]", "['nanogpt_np.page', 'nanogpt_np.page.recorder']", "True"]
