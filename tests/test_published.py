"""The published weights against published numbers: reference/gpt2_published.json, collected from independent projects.

    ./weights.sh gpt2 && pytest -m weights -ra

Nothing in that file was computed by this package. Each test that needs a model which is not on this
machine says so and is skipped. What the file knows and is not asked here: perplexities (they need
WikiText-2) and beam search (this package has none).
"""

import hashlib
import json
import math
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

import nanogpt_np
from nanogpt_np.generate.loop import generate
from nanogpt_np.generate.sampling import probabilities
from nanogpt_np.names import parameters, sizes
from nanogpt_np.train.adamw import AdamW
from nanogpt_np.train.loss import loss_and_grads
from nanogpt_np.weights import assembly, pins, places, tensors

pytestmark = pytest.mark.weights
PUBLISHED = json.loads((Path(__file__).parent / "reference" / "gpt2_published.json").read_text(encoding="utf-8"))
FRANCE, FEW_SHOT = PUBLISHED["capital_of_france"], PUBLISHED["few_shot"]
SIZES_WITH_BOS = PUBLISHED["capital_of_france_other_sizes_with_bos"]
LAYOUT = PUBLISHED["checkpoint_layout"]
LOGITS = 1e-3  # atol: real logits stand near -100, and independent programs differ by up to 6e-4
PROBABILITIES = 2e-5  # atol: logits that shift together cancel, so programs agree better on these
FOUR_DIGITS = 1e-4  # atol: of numbers published with 4 decimals, where the noise is far below
BOS = 50256


def folder(name):
    """Return the directory of a published model, or skip with how to get it."""
    try:
        return places.find(name)
    except ValueError:
        pytest.skip(f"{name} is not on this machine: ./weights.sh {name}")


@lru_cache(maxsize=1)
def load(name):
    return nanogpt_np.load(name)


@pytest.fixture
def model(request):
    """The published model that the test names as its parameter; gpt2 where it names none."""
    name = getattr(request, "param", "gpt2")
    folder(name)
    return load(name)


@pytest.fixture(scope="module")
def tokenizer():
    return nanogpt_np.Tokenizer()


def of_models(entries, *, name=lambda entry: entry["model"], title=lambda entry: entry["prompt"]):
    """Parametrise a test with (model, entry), one for each of `entries`."""
    return pytest.mark.parametrize(
        ("model", "entry"),
        [pytest.param(name(entry), entry, id=f"{name(entry)}: {title(entry)}") for entry in entries],
        indirect=["model"],
    )


def of_sizes(by_name):
    """Parametrise a test with (model, numbers) from ``{name: numbers}``."""
    return pytest.mark.parametrize(("model", "numbers"), by_name.items(), ids=by_name.keys(), indirect=["model"])


def by_id(numbers):
    """``{"262": -100.2}`` -> (ids, values)"""
    return np.array([int(i) for i in numbers]), np.array(list(numbers.values()))


def ranking(logits):
    return np.argsort(-logits, kind="stable")


def cross_entropy(logits, following):
    """Mean in nats per token, in float64: logits (..., V), ids that follow (...)"""
    logits = np.asarray(logits, np.float64)
    highest = logits.max(-1, keepdims=True)
    total = highest[..., 0] + np.log(np.exp(logits - highest).sum(-1))
    return float((total - np.take_along_axis(logits, following[..., None], -1)[..., 0]).mean())


def close(actual, published, atol):
    np.testing.assert_allclose(actual, published, rtol=0, atol=atol)


# ---- "The capital of France is", gpt2 ----


@pytest.fixture
def france(model):
    """(5, V) logits"""
    return model(FRANCE["ids"])


@pytest.mark.parametrize("entry", [FRANCE, FEW_SHOT, *PUBLISHED["greedy"]], ids=lambda entry: entry["prompt"])
def test_the_tokenizer_gives_the_published_ids(tokenizer, entry):
    assert tokenizer.encode(entry["prompt"]) == entry.get("ids", entry.get("prompt_ids"))


@pytest.mark.parametrize("which", ["last_row_logits", "last_row_logits_6th_to_8th", "last_row_logits_elsewhere"])
def test_last_row_has_the_published_logits(france, which):
    ids, logits = by_id(FRANCE[which]["value"])
    close(france[-1, ids], logits, LOGITS)


def test_first_row_has_the_published_logits(france):
    ids, logits = by_id(FRANCE["row0_logits"]["value"])
    close(france[0, ids], logits, LOGITS)


def test_last_row_has_the_published_least_and_largest_logit(france):
    close([france[-1].min(), france[-1].max()], FRANCE["last_row_min_max"]["value"], LOGITS)


def test_likeliest_tokens_are_the_published_ones_in_order(france):
    following = [int(i) for i in FRANCE["last_row_logits_6th_to_8th"]["value"]]
    assert ranking(france[-1])[:8].tolist() == FRANCE["last_row_top5_ids"]["value"] + following


def test_likeliest_tokens_have_the_published_probabilities(france):
    p = probabilities(france[-1])
    close(p[FRANCE["last_row_top5_ids"]["value"]], FRANCE["last_row_top5_probabilities"]["value"], PROBABILITIES)


def test_paris_has_the_published_rank_and_probability(france, tokenizer):
    paris = FRANCE["paris"]
    assert tokenizer.encode(" Paris") == [paris["id"]]
    assert ranking(france[-1]).tolist().index(paris["id"]) + 1 == paris["rank_counting_from_1"]
    close(probabilities(france[-1])[paris["id"]], paris["probability"], PROBABILITIES)


def test_every_row_has_the_published_argmax(france):
    assert france.argmax(-1).tolist() == FRANCE["argmax_of_every_row"]["value"]


@pytest.mark.parametrize("cache", [True, False])
def test_greedy_continuation_is_the_published_one(model, tokenizer, cache):
    published = FRANCE["greedy_ids"]["value"]
    new = list(generate(model, FRANCE["ids"], len(published), use_cache=cache))
    assert new == published
    assert tokenizer.decode(new) == FRANCE["greedy_text"]["value"]


def test_greedy_steps_have_the_published_probabilities(model):
    published = FRANCE["greedy_step_probabilities"]["value"]
    steps = []

    def keep(name, x):
        if name == "hook_probabilities":
            steps.append(x.max())
        return x

    new = list(generate(model, FRANCE["ids"], len(published), trace=keep))
    assert len(new) == len(steps) == len(published)
    close(steps, published, FOUR_DIGITS)


@pytest.mark.parametrize(
    ("key", "name"),
    {
        "embedding": "blocks.0.hook_resid_pre",
        "after_block_0": "blocks.0.hook_resid_post",
        "after_block_10": "blocks.10.hook_resid_post",
        "after_ln_f": "ln_final.hook_output",
    }.items(),
)
def test_residual_stream_has_the_published_size(model, key, name):
    acts = nanogpt_np.Recorder()
    model(FRANCE["ids"], trace=acts)
    rms = math.sqrt(np.square(acts[name], dtype=np.float64).mean())
    np.testing.assert_allclose(rms, FRANCE["residual_rms_over_all_entries"]["value"][key], rtol=1e-5, atol=FOUR_DIGITS)


def test_the_residual_sizes_asked_for_are_all_that_were_published():
    assert len(FRANCE["residual_rms_over_all_entries"]["value"]) == 4


def test_first_head_attends_as_published(model):
    acts = nanogpt_np.Recorder()
    model(FRANCE["ids"], trace=acts)
    row = acts["blocks.0.attn.hook_pattern"][0, -1]
    close(row, FRANCE["attention_block0_head0_last_row"]["value"], FOUR_DIGITS)


@pytest.mark.parametrize(("temperature", "nats"), FRANCE["sampling"]["entropy_nats"].items())
def test_entropy_at_a_temperature_is_the_published_one(france, temperature, nats):
    p = probabilities(france[-1], float(temperature))
    p = p[p > 0]
    close(-(p * np.log(p)).sum(), nats, 5e-4)


def check_kept(p, published):
    """Compare how many tokens are left; of thousands, one more or less is rounding."""
    assert abs(np.count_nonzero(p) - published) <= (0 if published < 1000 else 1)


@pytest.mark.parametrize(("top_p", "kept"), FRANCE["sampling"]["top_p_kept_T1"].items())
def test_top_p_keeps_the_published_number_of_tokens(france, top_p, kept):
    check_kept(probabilities(france[-1], 1.0, top_p=float(top_p)), kept)


@pytest.mark.parametrize(("temperature", "kept"), FRANCE["sampling"]["top_p_0.9_kept"].items())
def test_top_p_at_a_temperature_keeps_the_published_number_of_tokens(france, temperature, kept):
    check_kept(probabilities(france[-1], float(temperature), top_p=0.9), kept)


@pytest.mark.parametrize(("top_k", "mass"), FRANCE["sampling"]["top_k_mass_T1"].items())
def test_the_k_likeliest_tokens_have_the_published_probability_together(france, top_k, mass):
    left = probabilities(france[-1], top_k=int(top_k)) > 0
    assert np.count_nonzero(left) == int(top_k)
    close(probabilities(france[-1])[left].sum(), mass, FOUR_DIGITS)


# ---- One example before it ----


def test_with_one_example_before_it_the_answer_is_paris(model, tokenizer):
    published = FEW_SHOT["gpt2_without_bos"]
    p = probabilities(model(FEW_SHOT["ids"])[-1])
    top = ranking(p)[: len(published["top5"])]
    assert top[0] == published["argmax"]
    assert [tokenizer.decode([i]).strip() for i in top] == [word for word, _ in published["top5"]]
    close(p[top], [probability for _, probability in published["top5"]], 6e-4)  # 3 decimals


def test_with_one_example_before_it_the_greedy_continuation_is_the_published_one(model, tokenizer):
    published = FEW_SHOT["gpt2_without_bos"]["greedy_text"]
    n = len(tokenizer.encode(published))
    assert tokenizer.decode(generate(model, FEW_SHOT["ids"], n)) == published


@of_sizes(FEW_SHOT["with_bos"])
def test_with_one_example_and_endoftext_before_it_every_size_prefers_paris_to_rome_as_published(
    model, numbers, tokenizer
):
    (paris,), (rome,) = tokenizer.encode(" Paris"), tokenizer.encode(" Rome")
    last = model([BOS, *FEW_SHOT["ids"]])[-1]
    close(last[paris] - last[rome], numbers["logit_paris_minus_rome"], LOGITS)
    close(probabilities(last)[paris], numbers["p_paris"], 2e-4)


@of_sizes(SIZES_WITH_BOS)
def test_with_endoftext_before_it_every_size_ranks_paris_as_published(model, numbers):
    paris = FRANCE["paris"]["id"]
    last = model([BOS, *FRANCE["ids"]])[-1]
    assert ranking(last).tolist().index(paris) == numbers["paris_rank_counting_from_0"]
    close(math.log(probabilities(last)[paris]), numbers["paris_logprob"], 6e-3)  # 2 decimals


# ---- Other prompts ----


@of_models([PUBLISHED["eiffel_tower"]])
def test_the_argmax_of_every_row_is_the_published_word(model, entry, tokenizer):
    words = [tokenizer.decode([i]) for i in model(tokenizer.encode(entry["prompt"])).argmax(-1)]
    assert words == entry["argmax_of_every_row_text"]
    assert words[-1] == entry["argmax_of_last_row_text"]


@of_models(PUBLISHED["greedy"])
def test_greedy_continuations_are_the_published_ones(model, entry, tokenizer):
    new = list(generate(model, entry["prompt_ids"], len(entry["new_ids"])))
    assert new == entry["new_ids"]
    assert entry["text"] in (None, tokenizer.decode(new))


def test_alan_turing_has_the_published_logits(model):
    published = PUBLISHED["alan_turing_logits"]
    (prompt,) = (entry["prompt_ids"] for entry in PUBLISHED["greedy"] if entry["prompt"].startswith("Alan Turing"))
    logits = model(prompt)
    ids, values = by_id(published["last_row_logits"])
    close(logits[-1, ids], values, LOGITS)
    assert ranking(logits[-1])[:5].tolist() == published["last_row_top5"]
    assert logits.argmax(-1).tolist() == published["argmax_every_row"]


@of_models([PUBLISHED["hello_position_0"]], title=lambda entry: "Hello")
def test_one_token_alone_has_the_published_logits(model, entry):
    (logits,) = model(entry["ids"])
    close(logits[:8], entry["first8"], LOGITS)
    ids, values = by_id(entry["elsewhere"])
    close(logits[ids], values, LOGITS)
    assert logits.argmax() == entry["argmax"]


@of_models([PUBLISHED["llm_c_step_0_loss"]], title=lambda entry: "debug state of llm.c")
def test_the_loss_is_that_of_llm_c_before_its_first_step(model, entry):
    ids = np.array(entry["ids"])
    x, y = ids[0:256].reshape(4, 64), ids[1:257].reshape(4, 64)
    close(cross_entropy(model(x), y), entry["mean_cross_entropy_nats"], entry["atol"])


@of_models([PUBLISHED["llm_c_step_0_loss"]], title=lambda entry: "debug state of llm.c")
def test_ten_steps_of_adamw_give_the_losses_of_llm_c(model, entry):
    """Every parameter decays there. On random weights this package and PyTorch agree to 2e-6 over such steps."""
    ids = np.array(entry["ids"])
    x, y = ids[0:256].reshape(4, 64), ids[1:257].reshape(4, 64)
    params = {name: array.copy() for name, array in model.params.items()}
    trained = assembly.assemble(model.config, params)
    optimizer = AdamW(params, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, decayed=lambda name, array: True)
    for expected in entry["adamw_losses_of_10_steps"]:
        loss, grads = loss_and_grads(trained, x, y)
        close(loss, expected, 1e-3)
        optimizer.step(grads, lr=1e-4)


@of_models([PUBLISHED["transformerlens_hello_world_loss"]], title=lambda entry: "Hello world!")
def test_the_loss_is_that_of_transformer_lens(model, entry):
    ids = np.array(entry["ids"])
    close(cross_entropy(model(ids[:-1]), ids[1:]), entry["mean_cross_entropy_nats"], entry["atol"])


# ---- Files ----

FILES = [
    pytest.param(repo.split("/")[1], file, pin, id=f"{repo.split('/')[1]}/{file}")
    for repo, files in PUBLISHED["files"].items()
    for file, pin in files.items()
    if file != "revision"
]


def digest(path):
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            sha.update(block)
    return sha.hexdigest()


@pytest.mark.parametrize(("name", "file", "pin"), FILES)
def test_files_have_the_published_size_and_sha256(name, file, pin):
    path = folder(name) / file
    assert path.stat().st_size == (pin["bytes"] or path.stat().st_size)
    assert digest(path) == pin["sha256"]


def test_the_bundled_token_table_has_the_published_size_and_sha256():
    table = resources.files("nanogpt_np.text").joinpath("r50k_base.tiktoken").read_bytes()
    pin = PUBLISHED["tokenizer_files"]["r50k_base.tiktoken"]
    assert len(table) == pin["bytes"]
    assert hashlib.sha256(table).hexdigest() == pin["sha256"]


@pytest.mark.parametrize("repo", PUBLISHED["files"])
def test_the_pins_of_the_package_are_the_published_ones(repo):
    published = PUBLISHED["files"][repo]
    pin = pins.PINS[repo.split("/")[1]]
    assert (pin.repo, pin.revision) == (repo, published["revision"])
    assert pin.sha256 == published["model.safetensors"]["sha256"]
    assert pin.nbytes == published["model.safetensors"]["bytes"]


@pytest.mark.parametrize("name", [name for name, entry in LAYOUT.items() if "tensors" in entry])
def test_checkpoints_are_laid_out_as_published(name):
    published = LAYOUT[name]
    path = folder(name) / tensors.SINGLE
    stored = tensors.read_header(path)
    assert len(stored) == published["tensors"]
    assert {tensor.dtype for tensor in stored.values()} == {published.get("dtype", "F32")}
    assert all(tensor.startswith(published["name_prefix"]) for tensor in stored)
    assert f"{published['name_prefix']}wte.weight" in stored
    with path.open("rb") as file:
        assert int.from_bytes(file.read(8), "little") == published["header_bytes"]
    assert len(load(name).params) == published.get("of_which_parameters", len(load(name).params))


@of_sizes(LAYOUT["parameters_without_buffers"])
def test_models_have_the_published_number_of_parameters(model, numbers):
    assert sum(array.size for array in model.params.values()) == numbers


@pytest.mark.parametrize(("name", "number"), LAYOUT["parameters_without_buffers"].items())
def test_shapes_alone_make_the_published_number_of_parameters(name, number):
    assert parameters.count(sizes.published(name)) == number


def test_each_part_of_the_published_file_is_asked_about_or_named_as_left_out():
    asked = {key for key in PUBLISHED if f'PUBLISHED["{key}"]' in Path(__file__).read_text(encoding="utf-8")}
    assert PUBLISHED.keys() - asked == {"about", "beware", "perplexity"}
