"""Attention in the page, in a browser: what is drawn of a head, what a pointer shows, what a click or a key chooses."""

import re
from importlib import resources

import numpy as np
import pytest
import test_page_browser as walk
from helpers import random_model

from nanogpt_np import Recorder, page
from nanogpt_np.generate.loop import generate
from nanogpt_np.interpret.recording import Recording

pytestmark = pytest.mark.browser


NAME = "blocks.2.attn.hook_pattern"
PATTERN = walk.RECORDING.acts[NAME]
TOKENS = ["The", "·capital", "·of", "·France", "·is"]
ZERO, FULL = np.array([0xF3, 0xEF, 0xE6]), np.array([0x2F, 0x3F, 0x86])  # of page.css: attention of 0 and of 1


def random_recording(tokens, heads):
    model = random_model(n_layer=1, n_head=heads, n_embd=4 * heads, n_positions=tokens)
    acts, ids = Recorder(), [i % 97 for i in range(tokens)]
    list(generate(model, ids, 1, stop=(), trace=acts))
    return Recording(acts, model.config, {"prompt": "some tokens", "prompt_ids": ids})


LONG = random_recording(100, heads=12)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    recordings = {
        "one": [walk.RECORDING],
        "three": walk.PASSES,
        "100": [LONG],
        "600": [random_recording(600, heads=1)],
    }
    for name, passes in recordings.items():
        model = walk.MODEL if name == "one" else None
        (folder / f"{name}.html").write_text(page.build(passes, model), encoding="utf-8")
    return folder


# The middle of every cell of a canvas of so many rows and columns, as [red, green, blue, opacity].
CELLS = """async ([selector, rows, columns]) => {
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve))); // all is drawn then
    const canvas = document.querySelector(selector);
    const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
    copy.drawImage(canvas, 0, 0);
    const { width, height, data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    const first = (row, column) =>
        4 * (Math.floor(((row + 0.4) * height) / rows) * width + Math.floor(((column + 0.4) * width) / columns));
    return Array.from({ length: rows }, (_, row) => Array.from({ length: columns }, (_, column) =>
        [...data.slice(first(row, column), first(row, column) + 4)]));
}"""


def cells(tab, selector, rows=5, columns=5):
    return np.array(tab.evaluate(CELLS, [selector, rows, columns]))


def point(tab, query, key, act="hover", rows=5, columns=5):
    """Move the pointer over a cell of the enlarged head, or click it."""
    canvas = tab.locator(".matrix canvas")
    canvas.wait_for()
    box = canvas.bounding_box()
    where = {"x": (key + 0.5) * box["width"] / columns, "y": (query + 0.5) * box["height"] / rows}
    getattr(canvas, act)(position=where)


def test_every_head_is_drawn_with_its_own_weights_and_what_comes_later_is_hatched(opened):
    tab = opened("one.html", f"#{NAME}[3,4,3]")
    seen = np.tril(np.ones((5, 5), bool))
    for head, weights in enumerate(PATTERN):
        tab.locator(".mini").nth(head).click()
        expected = np.rint(ZERO + (FULL - ZERO) * weights[..., None] ** 0.55)
        for found in (cells(tab, ".matrix canvas"), cells(tab, f".mini:nth-child({head + 1}) canvas")):
            np.testing.assert_array_equal(found[..., 3], 255 * seen)  # what lies behind the others is hatched
            assert np.abs(found[..., :3] - expected)[seen].max() <= 1
        texts = tab.locator(".matrix .in-cell").all_text_contents()
        assert texts == [f"{x:.2f}" for x in weights[seen].tolist()]
    for canvas in (".matrix canvas", ".mini canvas"):
        behind = "getComputedStyle(document.querySelector(selector)).backgroundImage"
        assert "repeating-linear-gradient" in tab.evaluate(f"(selector) => {behind}", canvas)


def test_tokens_stand_on_both_axes_and_those_pointed_at_stand_out(opened):
    tab = opened("one.html", f"#{NAME}[3,4,3]")
    point(tab, 2, 1)
    assert tab.locator(".matrix .axis-label").all_text_contents() == TOKENS * 2
    assert tab.locator(".matrix .axis-label.lit").all_text_contents() == ["·capital", "·of"]
    assert tab.locator(".arc-token text:nth-child(2)").all_text_contents() == TOKENS
    assert tab.locator(".arc-token.lit text:nth-child(2)").all_text_contents() == ["·of"]
    tab = opened("100.html", "#blocks.0.attn.hook_pattern")
    tab.locator(".matrix .axis-label.lit").first.wait_for()
    labels = tab.locator(".matrix .axis-label").all_text_contents()
    assert len(labels) == 200  # of many tokens each has its position, of which those that have room are shown
    assert [int(text.split()[0]) for text in labels[:100]] == list(range(100))
    assert [int(text.split()[-1]) for text in labels[100:]] == list(range(100))
    assert 20 < tab.locator(".matrix .axis-label:visible").count() < 80
    assert " at 99 gives " in tab.inner_text(".readout")


def test_arcs_lead_from_a_token_to_those_it_looks_at_as_wide_as_it_looks_hard(opened):
    tab = opened("one.html", f"#{NAME}[3,4,3]")
    for head, query in ((3, 4), (0, 3)):
        tab.locator(".mini").nth(head).click()
        tab.locator(".arc-token").nth(query).click()
        weights = PATTERN[head, query]
        wide = tab.locator(".arc").evaluate_all("(arcs) => arcs.map((arc) => arc.getAttribute('stroke-width') - 1)")
        np.testing.assert_allclose(wide, 7 * weights[weights > 0.005], rtol=1e-4)
        shares = tab.locator(".arc-token .weight").all_text_contents()
        assert [float(text.replace(" %", "")) for text in shares[: query + 1]] == pytest.approx(
            (100 * weights[: query + 1]).tolist(), rel=0.05
        )
        assert shares[query + 1 :] == [""] * (4 - query)


def test_a_click_or_a_key_chooses_a_number_which_the_address_names_and_which_is_read_aloud(opened):
    tab = opened("one.html", f"#{NAME}[3,4,3]")

    def check(*index):
        assert walk.readout(tab) == (NAME, index, walk.rounded(PATTERN[index]))
        assert tab.evaluate("location.hash") == f"#{NAME}[{','.join(map(str, index))}]"
        assert f"[{', '.join(map(str, index))}] = " in tab.text_content("#said")

    tab.locator(".mini").nth(1).click()
    check(1, 4, 3)
    point(tab, 2, 1, "click")
    check(1, 2, 1)
    tab.focus(".matrix canvas")
    for key, index in {"ArrowLeft": (2, 0), "ArrowUp": (1, 0), "ArrowRight": (1, 1), "ArrowDown": (2, 1)}.items():
        tab.keyboard.press(key)
        check(1, *index)
    tab.locator(".arc-token").nth(3).click()
    check(1, 3, int(PATTERN[1, 3].argmax()))
    assert tab.get_attribute(".matrix canvas", "role") == "application"  # no picture: it takes the arrow keys
    assert tab.locator(".attention [role=img][tabindex]").count() == 0


def test_a_pointer_that_moves_shows_a_number_but_neither_changes_the_address_nor_is_read_aloud(opened):
    tab = opened("one.html", f"#{NAME}[3,4,3]")
    before = tab.evaluate("[location.hash, history.length]"), tab.text_content("#said")
    for move, index in (
        (lambda: point(tab, 2, 1), (3, 2, 1)),
        (lambda: tab.locator(".arc-token").nth(3).hover(), (3, 3, int(PATTERN[3, 3].argmax()))),
        (lambda: point(tab, 0, 4), (3, 0, 4)),
    ):
        move()
        assert walk.readout(tab) == (NAME, index, walk.rounded(PATTERN[index]))
    assert "The may not see  is" in tab.text_content(".readout")
    assert (tab.evaluate("[location.hash, history.length]"), tab.text_content("#said")) == before
    assert tab.locator(".attention [aria-live]").count() == 0


def test_with_a_cache_rows_and_keys_are_counted_from_the_first_token(opened):
    tab = opened("three.html", f"#pass3/{NAME}[1,0,3]")
    weights = walk.PASSES[2].acts[NAME]
    assert walk.readout(tab) == (NAME, (1, 0, 3), walk.rounded(weights[1, 0, 3]))
    point(tab, 0, 5, "click", rows=1, columns=7)
    assert walk.readout(tab) == (NAME, (1, 0, 5), walk.rounded(weights[1, 0, 5]))
    tab.locator(".arc-token").first.click()  # a token whose row an earlier pass computed: it has none here
    assert walk.readout(tab)[1] == (1, 0, 5)


# Counts the nodes that are put in or changed, and the pictures that are drawn, until it is asked.
WATCH = """() => {
    window.counted = { added: 0, changed: 0, drawn: 0 };
    const size = (node) => 1 + [...node.childNodes].reduce((sum, child) => sum + size(child), 0);
    new MutationObserver((records) => records.forEach((record) => {
        if (record.type === "childList") record.addedNodes.forEach((node) => (counted.added += size(node)));
        else counted.changed += 1;
    })).observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true });
    const prototype = CanvasRenderingContext2D.prototype;
    const drawImage = prototype.drawImage;
    prototype.drawImage = function (...given) { counted.drawn += 1; return drawImage.apply(this, given); };
}"""


def test_one_move_over_a_long_text_draws_little_anew(opened):
    name = "blocks.0.attn.hook_pattern"
    tab = opened("100.html", f"#{name}[5,99,98]", width=1600)
    point(tab, 40, 20, rows=100, columns=100)
    tab.evaluate(WATCH)
    for query, key in ((60, 30), (60, 31)):
        point(tab, query, key, rows=100, columns=100)
        assert walk.readout(tab) == (name, (5, query, key), walk.rounded(LONG.acts[name][5, query, key]))
    counted = tab.evaluate("counted")
    assert 0 < counted["added"] < 250 and 0 < counted["changed"] < 150 and counted["drawn"] == 0


def test_tokens_stay_under_a_pointer_that_goes_along_the_arcs_until_one_is_clicked(opened):
    tab = opened("100.html", "#blocks.0.attn.hook_pattern[5,99,98]")
    weights = LONG.acts["blocks.0.attn.hook_pattern"][5]

    def positions():
        tab.locator(".arc-token").first.wait_for()
        return [
            int(one) for one in tab.locator(".arc-token").evaluate_all("(all) => all.map((g) => g.dataset.position)")
        ]

    def strongest(query, count):
        return sorted([*np.argsort(-weights[query, :query], kind="stable")[:count].tolist(), query])

    before = positions()
    assert before == strongest(99, len(before) - 1)
    for i in (3, 1):
        tab.locator(".arc-token").nth(i).hover()
        assert positions() == before and walk.readout(tab)[1][:2] == (5, before[i])
    tab.locator(".arc-token").nth(1).click()
    after = positions()
    assert after == strongest(before[1], len(after) - 1) != before


def test_a_text_of_600_tokens_opens(opened):
    tab = opened("600.html")
    for name in ("hook_pattern", "hook_attn_scores"):
        tab.goto(tab.url.partition("#")[0] + f"#blocks.0.attn.{name}[0,599,300]")
        assert walk.readout(tab)[1] == (0, 599, 300)
        tab.locator(".matrix canvas").wait_for()
        assert tab.locator(".matrix canvas").bounding_box()["width"] == 1200
        assert tab.locator(".matrix .axis-label.lit").count() == 2
        frame, box = tab.locator(".matrix .at").bounding_box(), tab.locator(".large").bounding_box()
        assert box["x"] < frame["x"] < box["x"] + box["width"]  # what the address names is in sight


def test_the_ring_around_a_head_that_has_the_focus_is_whole(opened):
    for width in (360, 1280):
        tab = opened("one.html", f"#{NAME}", width=width)
        tab.locator(".mini").last.focus()
        tab.keyboard.press("Tab")
        ring = """() => {
            const [canvas, style] = [document.activeElement, getComputedStyle(document.activeElement)];
            const [inner, outer] = [canvas.getBoundingClientRect(), canvas.closest(".large").getBoundingClientRect()];
            return [parseFloat(style.outlineWidth), parseFloat(style.outlineOffset), inner.left - outer.left,
                outer.right - inner.right, inner.top - outer.top, outer.bottom - inner.bottom];
        }"""
        thick, away, *room = tab.evaluate(ring)
        assert thick >= 2 and min(room) >= thick + away


# A promise that is kept when the page, which was there first, has been told of the other colours.
SWITCHED = """() => {
    window.switched = new Promise((resolve) => {
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => resolve(), { once: true });
    });
}"""
# All that the scripts colour: the pixels of every canvas, and the grounds of cells and scales.
COLOURED = """async () => {
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
    const main = document.getElementById("step");
    return [...main.querySelectorAll("canvas")].map((canvas) => canvas.toDataURL()).concat(
        [...main.querySelectorAll("[style]")].map((node) => node.getAttribute("style")));
}"""


def test_switching_to_dark_draws_all_as_if_it_had_been_opened_dark(opened):
    switched, dark = opened("one.html"), opened("one.html", color_scheme="dark")
    for name in ("start", "blocks.1.attn.hook_q[2,1,3]", f"{NAME}[3,2,1]", "hook_next_token"):
        for tab in (switched, dark):
            tab.goto(tab.url.partition("#")[0] + f"#{name}")
        found = {}
        for scheme in ("dark", "light"):
            switched.evaluate(SWITCHED)
            switched.emulate_media(color_scheme=scheme)
            switched.evaluate("switched")
            found[scheme] = switched.evaluate(COLOURED)
        assert found["light"] != found["dark"] == dark.evaluate(COLOURED)


def test_an_element_takes_any_number_of_children(chromium):
    source = resources.files(page).joinpath("js/data.js").read_text(encoding="utf-8")
    el = re.search(r"function el\(.*?\n}\n", source, re.DOTALL)[0]
    tab = chromium.new_page()
    made = f'{el}\nel("p", Array.from({{ length: 400000 }}, () => "x"), null, "y").textContent.length'
    assert tab.evaluate(f"const SVG_TAGS = new Set();\n{made}") == 400001
    tab.close()
