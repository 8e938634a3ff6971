"""The table of trace points against what the model does: equations, reads, weights, places in the code.

The equations in numbers are worked out by a small arithmetic of shapes, so that a wrong one cannot stand.
"""

import ast
import dataclasses
import functools
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import announced, random_model

import nanogpt_np
from nanogpt_np import Recorder
from nanogpt_np.generate.loop import generate, next_logits
from nanogpt_np.model.cache import KVCache
from nanogpt_np.model.config import Config
from nanogpt_np.model.trace import ShapeLog
from nanogpt_np.names import parameters, points
from nanogpt_np.names.resolve import select
from nanogpt_np.names.sizes import PUBLISHED

PACKAGE = Path(nanogpt_np.__file__).parent
MODEL = random_model()
CONFIG = MODEL.config
TABLE = points.table(CONFIG, points.NEXT_TOKEN)
IDS = [3, 1, 41, 59, 26, 5, 53]  # T = 7

# --- the equations in numbers --------------------------------------------------------------------


class Shape(tuple):
    """A shape that is added, multiplied and divided as an array of it would be."""

    def __add__(self, other):
        return Shape(np.broadcast_shapes(self, () if isinstance(other, float) else other))

    __sub__ = __mul__ = __truediv__ = __add__

    def __matmul__(self, other):
        if len(other) == 1:
            return Shape((self @ Shape((*other, 1)))[:-1])
        if self[-1] != other[-2]:
            raise ValueError(f"{self} @ {other}: each row has {self[-1]} numbers, each column {other[-2]}")
        return Shape((*np.broadcast_shapes(self[:-2], other[:-2]), self[-2], other[-1]))


def variance(x):
    return Shape((*x[:-1], 1))


def shape_of(equation):
    """Return the shape that an equation in numbers gives; ValueError or TypeError where its parts do not fit."""
    made, arrow, cut = equation.partition(" -> ")
    if arrow:
        whole, part = shape_of(made), shape_of(cut)
        if math.prod(whole) % math.prod(part) or ("@" in made and math.prod(whole) != math.prod(part)):
            raise ValueError(f"{equation}: neither the same numbers nor a cut")
        return part
    if rows := re.fullmatch(r"rows of (\[.*\]) at (\[.*\])", equation):
        table, places = shape_of(rows[1]), shape_of(rows[2])
        return Shape((*places, *table[1:]))
    if chosen := re.fullmatch(r"the likeliest of (\[.*\]), or one drawn", equation):
        return Shape(shape_of(chosen[1])[1:])
    names = {"Shape": Shape, "variance": variance} | dict.fromkeys(["sqrt", "gelu", "softmax"], lambda x: x)
    return eval(re.sub(r"(\[[\d, ]*\])", r"Shape(\1)", equation), {"__builtins__": {}}, names)


@pytest.mark.parametrize(
    ("equation", "shape"),
    [
        ("[5, 8] @ [8, 9] + [9]", (5, 9)),
        ("[3, 5, 4] @ [3, 4, 7] * 0.5", (3, 5, 7)),
        ("[9, 8] @ [8]", (9,)),
        ("([5, 8] - [5, 1]) / [5, 1]", (5, 8)),
        ("sqrt(variance([5, 8]) + 1e-05)", (5, 1)),
        ("rows of [9, 8] at [5]", (5, 8)),
        ("[5, 24] -> [5, 2, 4]", (5, 2, 4)),
        ("the likeliest of [9], or one drawn", ()),
    ],
)
def test_the_arithmetic_of_shapes_is_that_of_arrays(equation, shape):
    assert shape_of(equation) == shape


@pytest.mark.parametrize(
    "wrong",
    [
        "[5, 8] @ [9, 8] + [9]",
        "[5, 8] @ [8, 9] + [8]",
        "[2, 5, 4] @ [3, 4, 7]",
        "[9, 8] @ [9]",
        "[5, 8] - [5, 2]",
        "[5, 8] * [5]",
        "[5, 8] -> [5, 3]",
        "[3, 5, 7] @ [3, 7, 4] -> [5, 4]",
        "gelu [5]",
    ],
)
def test_the_arithmetic_of_shapes_refuses_what_does_not_fit(wrong):
    with pytest.raises((ValueError, TypeError, SyntaxError)):
        shape_of(wrong)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_equations_of_every_published_size_give_the_announced_shapes(name):
    config, shapes = PUBLISHED[name], announced(PUBLISHED[name], T=3)
    table = points.table(config, (*points.LOGITS, *points.NEXT_TOKEN))
    assert shapes.keys() == table.keys()
    for point in table.values():
        equation = point.shapes_of(config, T=3)
        assert shape_of(equation) == shapes[point.name] == point.shape(config, T=3), f"{point.name}: {equation}"


@pytest.mark.parametrize(("T", "S"), [(7, 7), (1, 5), (3, 7)])
@pytest.mark.parametrize("name", points.TEMPLATES)
def test_the_flops_are_two_for_each_pair_of_numbers_that_the_equation_multiplies_and_adds(name, T, S):
    point = points.get(name.replace("{i}", "1"), CONFIG)
    product = re.match(r"(\[.*\]) @ (\[[\d, ]*\])", point.shapes_of(CONFIG, T, S))
    pairs = math.prod(shape_of(product[0])) * shape_of(product[1])[-1] if product else 0
    assert point.flops(CONFIG, T, S) == 2 * pairs


def test_the_equations_after_a_cache_give_the_announced_shapes():
    cache, log = KVCache(CONFIG), ShapeLog()
    next_logits(MODEL, np.array(IDS[:4]), cache=cache)
    next_logits(MODEL, np.array(IDS[4:]), cache=cache, trace=log)
    assert len(log) == len(TABLE) - 2
    for name, shape, _ in log:
        equation = TABLE[name].shapes_of(CONFIG, T=3, S=7)
        assert shape_of(equation) == shape, f"{name}: {equation}"


def test_scale_and_epsilon_in_the_equations_are_those_of_the_config():
    scores, norm = "blocks.2.attn.hook_attn_scores", "ln_final.hook_scale"
    config = dataclasses.replace(CONFIG, layer_norm_epsilon=1e-6, scale_attn_by_inverse_layer_idx=True)
    assert points.get(scores, config).shapes_of(config, T=7).endswith(f" * {1 / math.sqrt(6) / 3:.6g}")
    assert points.get(norm, config).shapes_of(config, T=7).endswith(" + 1e-06)")
    config = dataclasses.replace(CONFIG, scale_attn_weights=False)
    assert points.get(scores, config).shapes_of(config, T=7).endswith(" * 1")


# Axes that stand otherwise in an equation than in what it reads: heads first, as the products of attention
# want them; all S tokens in place of the T new ones, as a cache gives them; the LM head with its rows as columns.
TURNED = {
    "blocks.{i}.attn.hook_attn_scores": {"H T D": "T H D", "H D S": "T H D"},
    "blocks.{i}.attn.hook_z": {"H S D": "T H D"},
    "hook_logits": {"C V": "V C"},
}


@pytest.mark.parametrize("name", points.TEMPLATES)
def test_the_brackets_of_an_equation_are_what_the_point_reads_each_once(name):
    point = points.get(name.replace("{i}", "1"), CONFIG)
    table, stored = points.table(CONFIG, (*points.LOGITS, *points.NEXT_TOKEN)), parameters.table(CONFIG)
    read = [table[r].axes for r in point.reads] + [stored[w].axes for w in point.weights]
    if name.endswith("hook_normalized"):
        read.append("T 1")  # the mean, which has no name
    if name in ("hook_tokens", "hook_positions"):
        read.append("T")  # made of nothing: themselves
    made, arrow, cut = point.shapes.partition(" -> ")
    brackets = [TURNED.get(name, {}).get(axes, axes) for axes in re.findall(r"\[(.*?)\]", made)]
    assert sorted(brackets) == sorted(read)
    assert not arrow or cut.rpartition(" -> ")[2] == f"[{point.axes}]"


# --- what a point reads, and where it happens ----------------------------------------------------


@pytest.mark.parametrize("config", [CONFIG, Config(n_layer=1), PUBLISHED["gpt2-xl"]], ids=["small", "one block", "xl"])
@pytest.mark.parametrize("end", [points.LOGITS, points.NEXT_TOKEN], ids=["logits", "next token"])
def test_a_point_reads_only_points_that_come_before_it(config, end):
    before = set()
    for name, point in points.table(config, end).items():
        assert before.issuperset(point.reads), name
        assert point.reads or name in ("hook_tokens", "hook_positions"), name
        before.add(name)


@pytest.mark.parametrize("end", [points.LOGITS, points.NEXT_TOKEN], ids=["logits", "next token"])
def test_every_point_but_the_last_is_read_by_another(end):
    table = points.table(CONFIG, end)
    read = {name for point in table.values() for name in point.reads}
    looked_at_only = {"hook_logits", "hook_next_token", "hook_probabilities"}
    assert table.keys() - read == table.keys() & looked_at_only


def run(trace):
    """Take one step of generation and hand every tensor to `trace`."""
    list(generate(MODEL, IDS, 1, stop=(), trace=trace))


@functools.cache
def clean():
    acts = Recorder()
    run(acts)
    return acts


def bent(name, x):
    """Change every number, the order of the logits too."""
    if name == "hook_tokens":
        return (x + 1) % CONFIG.vocab_size
    if name == "hook_positions":
        return x[::-1]
    return np.where(np.isfinite(x), -x * (1.5 + abs(x)), x)  # masked scores stay -inf


@pytest.mark.parametrize("source", TABLE)
def test_a_point_reads_what_changes_it_and_nothing_else(source):
    """Bend one tensor and put all others back as they were: who reads it has changed, and nobody else."""
    changed = []

    def trace(name, x):
        if not np.array_equal(x, clean()[name]):
            changed.append(name)
        return bent(name, x) if name == source else clean()[name]

    run(trace)
    assert changed == [name for name, point in TABLE.items() if source in point.reads]


def definition(where):
    """Return (file, syntax tree) of ``module:Name`` or ``module:Class.method``."""
    module, _, name = where.partition(":")
    path = PACKAGE / f"{module.replace('.', '/')}.py"
    node = ast.parse(path.read_text(encoding="utf-8"))
    for part in name.split("."):
        (node,) = [n for n in node.body if getattr(n, "name", None) == part]
    return path, node


@pytest.mark.parametrize("name", points.TEMPLATES)
def test_where_names_a_definition_that_announces_the_point(name):
    path, node = definition(points.TEMPLATES[name].where)
    source = ast.get_source_segment(path.read_text(encoding="utf-8"), node)
    assert f'"{name.rpartition(".")[2]}"' in source


def test_where_is_where_each_point_is_announced():
    """Ask the call stack of every announcement, past the functions of trace.py that hand it on."""
    found = {}

    def trace(name, x):
        frame = sys._getframe(1)
        while Path(frame.f_code.co_filename).name == "trace.py":
            frame = frame.f_back
        found[name] = Path(frame.f_code.co_filename), frame.f_lineno
        return x

    run(trace)
    MODEL(IDS, trace=trace)
    for name, point in points.table(CONFIG, (*points.LOGITS, *points.NEXT_TOKEN)).items():
        path, node = definition(point.where)
        announced_in, line = found[name]
        assert announced_in == path and node.lineno <= line <= node.end_lineno, f"{name}: {announced_in.name} {line}"


# --- look-ups ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLE)
def test_get_gives_the_entry_of_the_table(name):
    assert points.get(name, CONFIG) == TABLE[name]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("blocks.1.attn.hook_patern", "did you mean blocks.1.attn.hook_pattern"),
        ("blocks.0.resid_pre", "did you mean blocks.0.hook_resid_pre"),
        ("hook_logit", "did you mean hook_logits"),
        ("blocks.3.hook_resid_pre", "this model has blocks 0 to 2"),
        ("blocks.01.hook_resid_pre", "no trace point 'blocks.01.hook_resid_pre'"),
        ("x.blocks.1.hook_resid_pre", "no trace point"),
        ("", "no trace point ''"),
    ],
)
def test_get_refuses_a_name_that_this_model_has_not_and_says_which_is_near(name, expected):
    with pytest.raises(ValueError, match=re.escape(expected)):
        points.get(name, CONFIG)


def test_get_without_a_config_knows_every_block_there_could_be():
    assert points.get("blocks.99.hook_mlp_out").reads == ("blocks.99.mlp.hook_post",)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("hook_embed", ["hook_embed"]),
        ("hook_embed*", ["hook_embed"]),
        ("embed", ["hook_embed", "hook_pos_embed"]),
        ("hook_q", [f"blocks.{i}.attn.{name}" for i in range(3) for name in ("hook_qkv", "hook_q")]),
        ("*.hook_q", [f"blocks.{i}.attn.hook_q" for i in range(3)]),
        ("blocks.[02].hook_resid_pos?", ["blocks.0.hook_resid_post", "blocks.2.hook_resid_post"]),
    ],
)
def test_select_takes_a_name_or_a_pattern_or_a_part(pattern, found):
    assert select(pattern, TABLE) == found


@pytest.mark.parametrize("pattern", ["blocks.1.attn.hook_patern", "blocks.1.attn.hook_pattern?"])
def test_select_refuses_what_means_nothing_and_says_what_is_near(pattern):
    with pytest.raises(ValueError, match=r"no trace point .* \(did you mean blocks\.1\.attn\.hook_pattern or "):
        select(pattern, TABLE)
