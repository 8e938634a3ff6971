"""The ledger against sums written down on paper, and against the memory of a real pass."""

import numpy as np
import pytest
from helpers import random_model

from nanogpt_np import Recorder
from nanogpt_np.generate.loop import generate
from nanogpt_np.model.config import Config
from nanogpt_np.names import parameters, points
from nanogpt_np.names.ledger import COSTS, by_stage, ledger, totals
from nanogpt_np.names.sizes import PUBLISHED

SMALL = random_model().config
IDS = [3, 1, 41, 59, 26, 5, 53]  # T = 7
CONFIGS = {**PUBLISHED, "small": SMALL, "untied": Config(n_inner=100, n_layer=2, tie_word_embeddings=False)}
RUNS = [(5, None), (1, None), (1, 513), (3, 7), (1024, None)]
runs = pytest.mark.parametrize(("T", "S"), RUNS)
configs = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


# --- on paper ------------------------------------------------------------------------------------


@configs
@runs
def test_the_flops_are_those_of_the_matrix_products(config, T, S):
    C, F, V, L, S = config.n_embd, config.mlp_width, config.vocab_size, config.n_layer, S or T
    weights = 2 * T * L * (4 * C * C + 2 * C * F)  # c_attn 3 C C, c_proj C C, the two matrices of the MLP
    attention = 4 * T * S * C * L  # scores and mixtures: H heads of D columns are C columns
    assert ledger(config, T, S)[1]["flops"] == weights + attention + 2 * V * C


def test_the_flops_of_gpt2_for_five_tokens_are_this_number():
    # 2 x 5 x 12 x 12 x 768^2 + 4 x 5 x 5 x 768 x 12 + 2 x 50257 x 768
    assert ledger(Config(), 5)[1]["flops"] == 849_346_560 + 921_600 + 77_194_752


@configs
@runs
def test_all_weights_are_read_once_but_of_the_embeddings_only_the_rows_looked_up(config, T, S):
    C = config.n_embd
    looked_up, tables = 2 * T * C, config.n_positions * C
    if not config.tie_word_embeddings:
        tables += config.vocab_size * C  # else the LM head reads all of wte
    expected = 4 * (parameters.count(config) - tables + looked_up)
    assert ledger(config, T, S)[1]["weight_bytes"] == expected


@configs
@runs
def test_the_arrays_written_add_up_to_the_formula(config, T, S):
    C, H, F, V, S = config.n_embd, config.n_head, config.mlp_width, config.vocab_size, S or T
    embeddings = 2 * T * C + T * C  # two look-ups, and their sum
    norm = T + 2 * T * C
    attention = 3 * T * C + 2 * H * T * S + 2 * T * C  # qkv; scores and pattern; z and z merged
    block = 2 * norm + attention + 4 * T * C + 2 * T * F  # two outputs and two sums; before and after the GELU
    numbers = embeddings + config.n_layer * block + norm + 2 * V  # logits and probabilities
    whole_numbers = 2 * T + 1  # ids, positions, the next token
    assert ledger(config, T, S)[1]["written_bytes"] == 4 * numbers + 8 * whole_numbers


def test_half_the_bytes_for_numbers_of_half_the_size_but_not_for_ids():
    (single, s), (half, h) = ledger(SMALL, 7, itemsize=4), ledger(SMALL, 7, itemsize=2)
    assert s["flops"] == h["flops"]
    assert s["weight_bytes"] == 2 * h["weight_bytes"]
    ids = 8 * (7 + 7 + 1)
    assert s["written_bytes"] - ids == 2 * (h["written_bytes"] - ids)
    assert [row["name"] for row in single] == [row["name"] for row in half]


@configs
@runs
def test_the_rows_add_up_to_the_parts_and_the_parts_to_the_total(config, T, S):
    rows, total = ledger(config, T, S)
    parts = by_stage(rows)
    blocks = [f"block {i}" for i in range(config.n_layer)]
    assert list(parts) == ["embedding", *blocks, "output"]
    for cost in COSTS:
        assert sum(row[cost] for row in rows) == sum(part[cost] for part in parts.values()) == total[cost]
    assert totals(rows[4:25]) == parts["block 0"]  # 4 steps before the blocks, 21 in each
    assert parts["embedding"]["flops"] == 0
    # All blocks cost the same, but for the sum of the embeddings, which the first one makes.
    assert all(parts[block]["flops"] == parts["block 0"]["flops"] for block in blocks)
    assert all(parts[block]["weight_bytes"] == parts["block 0"]["weight_bytes"] for block in blocks)
    difference = parts["block 0"]["written_bytes"] - parts["block 1"]["written_bytes"]
    assert difference == 4 * T * config.n_embd


# --- a real pass ---------------------------------------------------------------------------------


def last_step(model, steps):
    """Return what a generation of some steps recorded in its last one; with a cache, of one token only."""
    acts = Recorder()
    list(generate(model, IDS, steps, stop=(), trace=acts))
    return acts


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("steps", "T", "S"), [(1, 7, 7), (4, 1, 10)], ids=["prompt", "cached"])
def test_bytes_written_are_those_of_the_recorded_arrays_that_are_no_views(dtype, steps, T, S):
    model = random_model(dtype=dtype)
    acts = last_step(model, steps)
    rows, _ = ledger(model.config, T, S, np.dtype(dtype).itemsize)
    assert [row["name"] for row in rows] == list(acts)
    for row in rows:
        expected = 0 if points.get(row["name"]).view else acts[row["name"]].nbytes
        assert row["written_bytes"] == expected, row["name"]


def test_a_view_shares_its_memory_with_what_it_reads_and_nothing_else_does():
    model = random_model()
    acts, held = last_step(model, 1), list(model.params.values())
    for name, point in points.table(model.config, points.NEXT_TOKEN).items():
        shared = [read for read in point.reads if np.shares_memory(acts[name], acts[read])]
        assert shared == (list(point.reads) if point.view else []), name
        assert not any(np.may_share_memory(acts[name], weight) for weight in held), name
    seen = {}  # every other array has memory of its own
    for name, x in acts.items():
        if not points.get(name).view:
            assert not any(np.may_share_memory(x, other) for other in seen.values()), name
            seen[name] = x


def test_the_rows_looked_up_are_all_that_the_embeddings_read():
    model = random_model()
    used = {name: np.zeros(array.shape[0], bool) for name, array in model.params.items() if name.startswith("w")}
    acts = last_step(model, 1)
    used["wte.weight"][acts["hook_tokens"]] = used["wpe.weight"][acts["hook_positions"]] = True
    for name, looked_up in (("wte.weight", "hook_embed"), ("wpe.weight", "hook_pos_embed")):
        row = next(row for row in ledger(model.config, 7)[0] if row["name"] == looked_up)
        assert row["weight_bytes"] == model.params[name][used[name]].nbytes
