"""Assignment a7: caches that keep keys and values in other ways pass, and what is wrong is told in full."""

import textwrap

import pytest
from course_helpers import graded, graded_version, statuses

from nanogpt_np.course import seams
from nanogpt_np.course.assignment import get

pytestmark = pytest.mark.catalogue

STUB = '''
"""A student's file."""

import numpy as np


class KVCache:
'''
OTHER_WAYS = {
    "joined arrays in a dict, a closure for each block": """
        def __init__(self, config):
            self.keys, self.values, self.length = {}, {}, 0

        def layer(self, i):
            def remember(k, v):
                for kept, new in ((self.keys, k), (self.values, v)):
                    kept[i] = np.concatenate([kept[i], new], axis=-2) if i in kept else new
                return self.keys[i], self.values[i]

            return remember

        def advance(self, T):
            self.length = self.length + T
    """,
    "a list of the passes of each block, joined when asked": """
        def __init__(self, config):
            self.passes = [[] for _ in range(config.n_layer)]
            self._tokens = [0]

        @property
        def length(self):
            return sum(self._tokens)

        def layer(self, i):
            return lambda k, v: (self.passes[i].append((k, v)), self.both(i))[1]

        def both(self, i):
            return [np.concatenate(parts, -2) for parts in zip(*self.passes[i])]

        def advance(self, T):
            self._tokens.append(T)
    """,
    "one array for keys and values of all blocks, made in the first pass": """
        def __init__(self, config):
            self.config, self.store, self.length = config, None, 0

        def layer(self, i):
            import functools
            return functools.partial(self.remember, i=i)

        def remember(self, k, v, i):
            if self.store is None:
                shape = (self.config.n_layer, 2, *k.shape[:-2], self.config.n_positions, k.shape[-1])
                self.store = np.full(shape, np.nan, k.dtype)
            end = self.length + k.shape[-2]
            self.store[i, 0, ..., self.length : end, :] = k
            self.store[i, 1, ..., self.length : end, :] = v
            return self.store[i, 0, ..., :end, :], self.store[i, 1, ..., :end, :]

        def advance(self, T):
            self.length += T
    """,
    "rows of Python lists, token by token, in float64 and cast back": """
        def __init__(self, config):
            self.length, self.rows = 0, {}

        def layer(self, i):
            class Layer:
                def __call__(_, k, v):
                    return tuple(self.add((i, which), new) for which, new in enumerate((k, v)))

            return Layer()

        def add(self, place, new):
            rows = self.rows.setdefault(place, [])
            for t in range(new.shape[-2]):
                rows.append(new[..., t, :].astype(np.float64).tolist())
            return np.moveaxis(np.array(rows), 0, -2).astype(new.dtype)

        def advance(self, T):
            self.length += T
    """,
    "room that doubles, tokens in front": """
        def __init__(self, config):
            self.length, self.room = 0, {}

        def layer(self, i):
            def remember(k, v):
                return tuple(self.put((i, name), a) for name, a in (("k", k), ("v", v)))

            return remember

        def put(self, place, new):
            new = np.moveaxis(new, -2, 0)
            end = self.length + len(new)
            if place not in self.room:
                self.room[place] = np.empty_like(new)
            while len(self.room[place]) < end:
                self.room[place] = np.concatenate([self.room[place], np.empty_like(self.room[place])])
            self.room[place][self.length : end] = new
            return np.moveaxis(self.room[place][:end], 0, -2)

        def advance(self, T):
            self.length += T
    """,
}


def written(body):
    return STUB.lstrip() + textwrap.indent(textwrap.dedent(body), "    ")


@pytest.mark.parametrize("way", OTHER_WAYS)
def test_another_right_way_passes(way, tmp_path):
    for seed in (0, 1):
        results = graded("a7", tmp_path, written(OTHER_WAYS[way]), seed=seed)
        assert statuses(results) == {"CORRECT"}, {name: r for name, r in results.items() if r.status != "CORRECT"}


def changed(old, new, way="joined arrays in a dict, a closure for each block"):
    assert OTHER_WAYS[way].count(old) == 1
    return written(OTHER_WAYS[way].replace(old, new))


def test_newest_first_is_shown_in_numbers_that_can_be_read(tmp_path):
    wrong = graded("a7", tmp_path, changed("[kept[i], new]", "[new, kept[i]]"))["remembered"]
    assert wrong.problem == "keys of block 0 in pass 2 is wrong"
    assert wrong.case == "k = [[1.]\n [2.]]; v = [[10.]\n [20.]]; passes = (1, 1) (float64)"
    assert [" ".join(text.split()) for text in (wrong.expected, wrong.got)] == ["[[[1.] [2.]]]", "[[[2.] [1.]]]"]


def test_positions_that_begin_again_are_traced_to_the_positions(tmp_path):
    results = graded("a7", tmp_path, changed("self.length = self.length + T", "pass"))
    assert {name for name, r in results.items() if r.status == "INCORRECT"} == {
        "length",
        "in_the_model",
        "in_generation",
    }
    assert results["length"].problem == "length after advance(1) in pass 1 is wrong"
    assert results["in_the_model"].trace.startswith("hook_positions is wrong: expected [1], got [0]")


def test_a_batch_is_what_fails_where_the_axis_is_that_of_a_single_prompt(tmp_path):
    results = graded("a7", tmp_path, changed("axis=-2", "axis=1"))
    assert {name for name, r in results.items() if r.status == "INCORRECT"} == {"of_a_batch", "in_the_model"}
    assert results["of_a_batch"].problem == "keys of block 0 in pass 2 has shape [2, 2, 1, 1], not [2, 1, 2, 1]"


def test_room_in_float64_is_told_as_a_dtype(tmp_path):
    way = "one array for keys and values of all blocks, made in the first pass"
    results = graded("a7", tmp_path, changed("np.nan, k.dtype", "np.nan", way))
    assert results["remembered"].problem == "keys of block 0 in pass 1 is float64, not float32"
    assert "dtype=x.dtype" in results["remembered"].notes


def test_writing_into_what_was_handed_over_is_found(tmp_path):
    source = changed("return self.keys[i], self.values[i]", "k *= 1.5; return self.keys[i], self.values[i]")
    assert "INCORRECT" in statuses({"left_alone": graded("a7", tmp_path, source)["left_alone"]})


def test_a_class_without_advance_is_told(tmp_path):
    results = graded("a7", tmp_path, changed("def advance", "def progress"))
    assert {r.problem for r in results.values()} == {"class KVCache has no method advance"}


WRONG = {
    "room for 16 tokens": ("k.shape[-2], self.config.n_positions", "k.shape[-2], 16"),
    "float16 where a head is wide": ("S, :] = k", "S, :] = k.astype(np.float16) if k.shape[-1] > 3 else k"),
    "of many prompts the first for all": ("S, :] = v", "S, :] = v[:1] if v.ndim > 3 and len(v) > 3 else v"),
    "eleven tokens at most": ("self.length += T", "self.length = min(self.length + T, 11)"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_more_of_everything_only_does_not_pass(what):
    where = "model.cache:KVCache"
    version = seams.edited(where, [WRONG[what]], get("a7").spelled_out[where])
    assert "INCORRECT" in statuses(graded_version(get("a7"), where, version, named=False)[0])
