"""What the figures of the page say, in a browser, beside what NumPy says: ``pytest -m browser``.

Numbers, tokens, lengths and colours are read; in which words they stand is left free.
"""

import html
import math
import re

import numpy as np
import pytest

import nanogpt_np
from nanogpt_np import Recorder, page
from nanogpt_np.generate.loop import generate
from nanogpt_np.interpret.lens import logit_lens
from nanogpt_np.interpret.recording import Recording
from nanogpt_np.model.attention import softmax
from nanogpt_np.names.ledger import ledger

pytestmark = pytest.mark.browser

MODEL = nanogpt_np.load("facts")
TOKENIZER = nanogpt_np.Tokenizer()
PROMPT = "The capital of France is"
IDS = TOKENIZER.encode(PROMPT)
WORDS = PROMPT.split()
UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def recorded(ids):
    acts = Recorder()
    list(generate(MODEL, ids, 1, stop=(), trace=acts))
    provenance = nanogpt_np.open_checkpoint("facts").provenance
    about = {"prompt": PROMPT, "prompt_ids": ids, "model": provenance | {"decoding": "greedy"}}
    return Recording(acts, MODEL.config, about)


RECORDING = recorded(IDS)
ACTS = RECORDING.acts
LOGITS = ACTS["hook_next_logits"]
ORDER = np.argsort(-LOGITS, kind="stable")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A folder with the pages that are opened."""
    folder = tmp_path_factory.mktemp("pages")
    page.write(folder / "one.html", RECORDING, MODEL)
    page.write(folder / "three.html", RECORDING, MODEL, n=3)
    page.write(folder / "bos.html", recorded([50256, *IDS]), MODEL)
    acts = Recorder()
    MODEL(IDS, trace=acts)
    shown = html.unescape(re.search(r"srcdoc='([^']*)'", acts._repr_html_())[1])
    (folder / "logits.html").write_text(shown, encoding="utf-8")
    return folder


def go(tab, name):
    """Go to a step or a parameter, and wait until all is drawn."""
    tab.evaluate(
        """async (hash) => {
            const arrived = new Promise((resolve) => addEventListener("hashchange", resolve, { once: true }));
            if (location.hash !== hash) { location.hash = hash; await arrived; }
            await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
        }""",
        "#" + name,
    )


def texts(tab, selector):
    return tab.locator(selector).all_text_contents()


def numbers(text):
    """All numbers in a text, in order."""
    return [
        float(found.replace(",", "")) for found in re.findall(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?", text)
    ]


def shares(text):
    """All percentages in a text, as shares; what is below a bound counts as 0."""
    return [0.0 if less else float(found) / 100 for less, found in re.findall(r"(< )?([\d.]+(?:e-\d+)?) %", text)]


def holds(text, number):
    """True if one of the numbers in a text is this one, to three digits."""
    return any(math.isclose(found, number, rel_tol=1e-3, abs_tol=1e-6) for found in numbers(text))


def close_shares(expected):
    return pytest.approx(expected, rel=0.01, abs=6e-5)


def pattern(block):
    return ACTS[f"blocks.{block}.attn.hook_pattern"]


# --- the first view ------------------------------------------------------------------------------


def test_each_head_that_counted_looks_at_the_token_that_is_named(opened):
    tab = opened()
    rows = tab.locator("#step .part-row[href*=hook_pattern]")
    assert rows.count() >= 1
    for i in range(rows.count()):
        block, *place = map(int, re.findall(r"\d+", rows.nth(i).get_attribute("href")))
        head, query, key = place
        assert query == 4 and key == pattern(block)[head, 4].argmax()
        assert rows.nth(i).locator(".token").inner_text().strip() == WORDS[key]


def test_bars_of_parts_are_as_long_as_their_numbers_are_large_and_on_their_side(opened):
    tab = opened(address="#hook_next_token")
    rows = tab.locator("#step .part-row")
    amounts = [numbers(text.replace("+", ""))[-1] for text in texts(tab, "#step .part-row .like-number")]
    bars = rows.locator(".signed").evaluate_all(
        "(bars) => bars.map((bar) => [parseFloat(bar.style.width), bar.classList.contains('less')])"
    )
    widest = max(map(abs, amounts))
    assert len(bars) == len(amounts) > 5
    for amount, (width, less) in zip(amounts, bars, strict=True):
        assert width == pytest.approx(50 * abs(amount) / widest, abs=0.1) and less == (amount < 0)


def test_the_picture_of_the_pass_has_a_line_for_what_any_head_does_and_the_ranks_of_the_answer(opened):
    tab = opened()
    most = [pattern(block).max(axis=0) for block in range(4)]
    expected = sum(int((np.tril(x, -1) >= 0.25).sum()) for x in most)
    assert tab.locator(".stream .arc").count() == expected > 0
    stops = [row for row in logit_lens(ACTS, MODEL, ORDER[0]) if re.search("resid_(pre|post)", row["point"])]
    found = [int(text.replace(",", "")) for text in texts(tab, ".stream text") if re.fullmatch(r"\d[\d,]*", text)]
    assert found == [row["rank"] for row in stops] and max(found) > 1


def test_whether_the_text_begins_with_the_end_of_text_token_is_said(opened):
    assert "no BOS" in opened().inner_text("#top")
    assert "begins with <|endoftext|>" in opened("bos.html").inner_text("#top")


# --- numbers of a step ---------------------------------------------------------------------------


def test_mean_rms_min_and_max_are_those_of_the_array(opened):
    tab = opened()
    for name in ("blocks.1.hook_mlp_out", "blocks.3.mlp.hook_post"):
        go(tab, name)
        x = ACTS[name].astype(np.float64)
        expected = {"mean": x.mean(), "rms": np.sqrt((x * x).mean()), "min": x.min(), "max": x.max()}
        found = dict(text.lower().split() for text in texts(tab, ".statistics .stat:has(.stat-number)"))
        assert {name: float(number) for name, number in found.items()} == pytest.approx(expected, rel=1e-4)


# Read from a copy: that a canvas is often read is worth a message to the browser.
COPY = """const copied = (canvas) => {
    const copy = document.createElement("canvas");
    [copy.width, copy.height] = [canvas.width, canvas.height];
    const context = copy.getContext("2d", { willReadFrequently: true });
    context.drawImage(canvas, 0, 0);
    return context;
};"""
COLOUR_AT = f"""([x, y]) => {{
    {COPY}
    const canvas = document.querySelector("canvas.heat");
    const [box, ratio] = [canvas.getBoundingClientRect(), canvas.width / canvas.getBoundingClientRect().width];
    return [...copied(canvas).getImageData((x - box.x) * ratio, (y - box.y) * ratio, 1, 1).data];
}}"""


def test_above_zero_is_red_and_below_it_blue_in_cells_and_in_the_table(opened):
    tab = opened(address="#blocks.1.hook_resid_post")
    tab.locator("canvas.heat").scroll_into_view_if_needed()
    box = tab.locator("canvas.heat").bounding_box()
    seen = set()
    for share in np.linspace(0.05, 0.95, 12):
        x, y = box["x"] + share * box["width"], box["y"] + box["height"] / 2
        tab.mouse.move(x, y)
        number = numbers(tab.inner_text(".readout strong"))[0]
        red, _, blue, _ = tab.evaluate(COLOUR_AT, [x, y])
        if abs(number) > 0.3:
            assert (red > blue) == (number > 0), number
            seen.add(number > 0)
    assert seen == {True, False}
    cells = tab.locator(".numbers td[style]").evaluate_all(
        "(cells) => cells.map((cell) => [cell.textContent, getComputedStyle(cell).backgroundColor])"
    )
    for text, colour in cells:
        red, _, blue = map(int, re.findall(r"\d+", colour)[:3])
        if abs(float(text)) > 0.3:
            assert (red > blue) == (float(text) > 0)


def test_other_colours_of_the_screen_draw_everything_again(opened):
    tab = opened(address="#blocks.1.hook_resid_post", color_scheme="light")
    look = """() => [
        [...document.querySelectorAll(".numbers td[style]")].map((cell) => cell.style.backgroundColor).join(),
        document.querySelector(".legend .scale").style.background, document.querySelector("canvas.heat").toDataURL(),
    ]"""
    before = tab.evaluate(look)
    # The browser reports a new scheme some frames later: wait until the canvas is drawn again.
    tab.emulate_media(color_scheme="dark")
    tab.wait_for_function(f"(before) => ({look})()[2] !== before[2]", arg=before)
    after = tab.evaluate(look)
    assert not [i for i, (one, other) in enumerate(zip(before, after, strict=True)) if one == other]
    tab.emulate_media(color_scheme="light")
    tab.wait_for_function(f"(before) => ({look})()[2] === before[2]", arg=before)
    assert tab.evaluate(look) == before


def test_rows_of_a_table_that_were_kept_stand_under_their_true_numbers(opened):
    tab = opened()
    wte = MODEL.params["wte.weight"]
    for i in (IDS[3], int(ORDER[2])):
        go(tab, f"wte.weight[{i},3]")
        name, row, column, number = re.fullmatch(
            r"(\S+)\[(\d+), (\d+)\] = (\S+)", tab.inner_text(".readout code")
        ).groups()
        assert (name, int(row), int(column)) == ("wte.weight", i, 3)
        assert float(number) == pytest.approx(float(wte[i, 3]), rel=1e-4)


def test_derivations_name_the_numbers_that_they_are_made_of(opened):
    tab = opened()
    go(tab, "blocks.1.ln1.hook_normalized[3,7]")
    x = ACTS["blocks.1.hook_resid_pre"][3]
    made = tab.inner_text(".derived")
    assert holds(made, x[7]) and holds(made, x.mean()) and holds(made, ACTS["blocks.1.ln1.hook_scale"][3, 0])
    go(tab, "blocks.1.attn.hook_pattern[2,4,3]")
    scores = ACTS["blocks.1.attn.hook_attn_scores"][2, 4]
    shifted = np.exp(scores - scores.max())
    made = tab.inner_text(".derived")
    assert all(holds(made, x) for x in (scores[3], scores.max(), shifted[3], shifted.sum()))
    go(tab, "hook_last_row[9]")
    assert tab.locator(".derived a").first.get_attribute("href") == "#ln_final.hook_output[4,9]"
    assert holds(tab.inner_text(".derived"), ACTS["hook_last_row"][9])


# --- attention -----------------------------------------------------------------------------------

DARKEST = f"""(canvases) => {{
    {COPY}
    return canvases.map((canvas) => {{
        const context = copied(canvas);
        const light = [0, 1, 2, 3, 4].map((k) => {{
            const [x, y] = [((k + 0.5) * canvas.width) / 5, (4.5 * canvas.height) / 5];
            const [red, green, blue] = context.getImageData(Math.floor(x), Math.floor(y), 1, 1).data;
            return red + green + blue;
        }});
        return light.indexOf(Math.min(...light));
    }});
}}"""


def test_every_head_is_drawn_as_it_looks(opened):
    tab = opened(color_scheme="light")
    found, expected = [], []
    for block in range(4):
        go(tab, f"blocks.{block}.attn.hook_pattern[1,4,2]")
        found.append(tab.locator(".mini canvas").evaluate_all(DARKEST))
        expected.append(pattern(block)[:, 4].argmax(axis=1).tolist())
        cells = sorted(float(text) for text in texts(tab, ".in-cell"))
        seen = pattern(block)[1][np.tril_indices(5)]
        assert cells == pytest.approx(sorted(seen.tolist()), abs=0.00501)
        sums = [numbers(text) for text in texts(tab, ".attention p.aside")]
        assert [1.0] in [[round(x, 4) for x in some] for some in sums]
    assert found == expected and len({tuple(row) for row in np.array(found).T}) > 1


# --- the answer ----------------------------------------------------------------------------------


def test_bars_of_the_likeliest_are_their_probabilities_and_the_rest_is_said(opened):
    tab = opened(address="#hook_probabilities")
    p = ACTS["hook_probabilities"][ORDER[:10]].astype(np.float64)
    widths = tab.locator("#step .like-row .bar").evaluate_all(
        "(bars) => bars.map((bar) => parseFloat(bar.style.width))"
    )
    assert widths == pytest.approx((100 * p).tolist(), abs=0.5) and len(widths) == 10
    assert [shares(text)[0] for text in texts(tab, "#step .like-row[data-id] .like-number:last-child")] == close_shares(
        p.tolist()
    )
    said = " ".join(texts(tab, "#step .figure > p.aside"))
    assert shares(said)[0] == pytest.approx(p.sum(), abs=6e-4)


def test_odds_are_those_of_the_logits_and_ranks_and_probabilities_those_of_the_lens(opened):
    tab = opened(address="#hook_next_token")
    tab.select_option("#rival", str(ORDER[2]))
    assert holds(tab.inner_text(".summed"), float(f"{math.exp(float(LOGITS[ORDER[0]] - LOGITS[ORDER[2]])):.3g}"))
    rows = logit_lens(ACTS, MODEL, ORDER[0])
    found = texts(tab, ".lens-figure text")
    p = [share for text in found for share in shares(text)]
    assert p == close_shares([row["p"] if row["p"] >= 1e-5 else 0 for row in rows])
    ranks = [str(row["rank"]) for row in rows]
    shown = [text.replace(",", "") for text in found if re.fullmatch(r"\d[\d,]*", text)]
    assert shown[-len(ranks) :] == ranks and len(set(ranks)) > 2


def test_each_row_of_logits_says_how_the_next_token_did(opened):
    tab = opened("logits.html", "#hook_logits")
    logits = MODEL(IDS)
    rows = tab.locator(".per-row tr:has(td)")
    assert rows.count() == 5
    for t, following in enumerate(IDS[1:]):
        p = softmax(logits[t])
        likeliest, came = rows.nth(t).locator("td").all_inner_texts()
        assert shares(likeliest) == close_shares(np.sort(p)[::-1][:5].tolist())
        assert TOKENIZER.decode([following]).strip() in came
        rank = 1 + int((logits[t] > logits[t][following]).sum())
        assert numbers(came.partition("rank")[2])[0] == rank and shares(came) == close_shares([float(p[following])])


def test_what_the_cache_spared_is_counted(opened):
    tab = opened("three.html")
    spent = [[ledger(MODEL.config, T, S)[1]["flops"] for T in (T, S)] for T, S in ((5, 5), (1, 6), (1, 7))]
    found = [
        [float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+) ?([kMGT]?)$", text, re.MULTILINE)]
        for text in texts(tab, ".caches td.like-number")
    ]
    assert [x for row in found for x in row] == pytest.approx([x for row in spent for x in row], rel=6e-3)
    this, whole = (sum(row[i] for row in spent) for i in (0, 1))
    head = sum(row["flops"] for row in ledger(MODEL.config, 1)[0] if row["name"] == "hook_next_logits")
    said = shares(tab.inner_text(".generation p.aside"))
    assert said == close_shares([1 - this / whole, (whole - this) / (whole - 3 * head)])
