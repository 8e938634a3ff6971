"""Changed files, command lines and training states: no traceback, no hang, no wrong number. What runs them: fuzz/.

The first tests hold the instrument to what it must find; the slow one is the fuzz test itself.
"""

import collections
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import random_model

import nanogpt_np

if not sys.platform.startswith("linux"):
    pytest.skip("the limits of a fuzz case are read from /proc", allow_module_level=True)

from fuzz import judging, limits, reference
from fuzz.run import CATEGORIES, summary

RUN = Path(__file__).parent / "fuzz" / "run.py"
SIZES = {"vocab_size": 53, "n_positions": 11, "n_embd": 8, "n_head": 2, "n_layer": 2, "n_inner": 20}
IDS = np.array([3, 1, 4, 1, 5])


def verdict(run, tmp_path, size=0, seconds=limits.SECONDS):
    for name in ("in", "io"):
        (tmp_path / name).mkdir()
    return limits.run_case(limits.Case("", size, run), tmp_path / "in", tmp_path / "io", seconds)


def wait(child):
    time.sleep(60)


def work(child):
    while True:
        pass


def allocate(child):
    np.empty(900 << 20, np.uint8)
    return "refused"


def allocate_too_much(child):
    np.empty(1 << 40, np.uint8)


def say(text):
    def run(child):
        print(text, file=sys.stderr)
        sys.stderr.flush()
        limits.check_stderr(child._new(2))
        return "refused"

    return run


@pytest.mark.parametrize(
    ("kind", "run"),
    [
        ("hang", wait),
        ("slow", work),
        ("crash", lambda child: os.kill(os.getpid(), 11)),
        ("crash", lambda child: os._exit(3)),
        ("memory", allocate),
        ("memory", allocate_too_much),
        ("traceback", lambda child: {}["x"]),
        ("traceback", lambda child: child.told(lambda: {}["x"])),
        ("traceback", say("Traceback (most recent call last):")),
        ("long line", say("error: " + "x" * 5000)),
        ("raw characters", say("error: \x1b[31mred")),
        ("raw characters", say("error: \u202etxt.exe")),
        ("refused", say("error: no model")),
        ("exit code", lambda child: exits(child, 7)),
        ("accepted", lambda child: exits(child, 0)),
    ],
)
@pytest.mark.slow
def test_each_kind_of_fault_is_seen(kind, run, tmp_path):
    assert verdict(run, tmp_path, seconds=1 if kind in ("hang", "slow") else limits.SECONDS).outcome == kind


def exits(child, code):
    import nanogpt_np.__main__ as package

    package.main = lambda argv: code
    child.command(["x"])
    return "accepted"


@pytest.mark.parametrize("sizes", [{}, {"scale_attn_by_inverse_layer_idx": True}, {"tie_word_embeddings": False}])
def test_the_reference_agrees_with_the_package_within_a_hundredth_of_a_real_bug(sizes, tmp_path):
    model = random_model(5, **SIZES, **sizes)
    nanogpt_np.save(model, tmp_path)
    expected = reference.expect(tmp_path, IDS)
    assert np.abs(model(IDS) - expected.logits).max() < expected.tolerance.max() < 4e-4
    np.testing.assert_array_less(np.abs(model(IDS) - expected.logits), expected.tolerance)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("layer_norm_epsilon", 1e-6),
        ("n_head", 4),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
    ],
)
def test_a_model_with_one_wrong_setting_is_found_out(name, wrong, tmp_path):
    nanogpt_np.save(random_model(5, **SIZES), tmp_path)
    logits = random_model(5, **SIZES | {name: wrong})(IDS)
    with pytest.raises(limits.Fault, match="is off by"):
        judging.compare(limits.Child(tmp_path), "plain", logits, reference.expect(tmp_path, IDS))


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "not finite"), (np.inf, "not finite"), (0.123, "wrong numbers")])
def test_one_wrong_logit_is_found_out(value, kind, tmp_path):
    model = random_model(5, **SIZES)
    nanogpt_np.save(model, tmp_path)
    logits = model(IDS)
    logits[2, 17] = value
    with pytest.raises(limits.Fault) as caught:
        judging.compare(limits.Child(tmp_path), "plain", logits, reference.expect(tmp_path, IDS))
    assert caught.value.kind == kind


def test_a_logit_that_hides_a_nan_of_the_weights_is_found_out(tmp_path):
    model = random_model(5, **SIZES)
    logits = model(IDS)
    model.params["wte.weight"][7, 2] = np.nan
    nanogpt_np.save(model, tmp_path)
    with pytest.raises(limits.Fault) as caught:
        judging.compare(limits.Child(tmp_path), "plain", logits, reference.expect(tmp_path, IDS))
    assert caught.value.kind == "hidden"


@pytest.mark.slow
def test_nothing_ends_in_a_traceback_a_hang_or_a_wrong_number():
    """Begins at a seed that changes every day; FUZZ_SEED sets another."""
    seed = int(os.environ.get("FUZZ_SEED") or time.time() // 86400 * 1000)
    print(f"the first seed is {seed}")
    argv = [
        sys.executable,
        str(RUN),
        "--seed",
        str(seed),
        "--cases",
        "6000",
        "--seconds",
        "100",
        "--jobs",
        "2",
        "--json",
    ]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=600)
    assert ran.stdout, ran.stderr[-3000:]
    rows = json.loads(ran.stdout)
    table = "\n".join(summary(rows))
    print(table)
    assert not any(row["fault"] for row in rows), table
    counts = collections.Counter(row["category"] for row in rows)
    assert set(counts) == set(CATEGORIES) and min(counts.values()) >= 20, counts
    assert {row["outcome"] for row in rows} == {"accepted", "refused"}
