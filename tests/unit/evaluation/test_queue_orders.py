"""The benchmark of queue orders: labels saved are read off planted curves, the interval holds the truth, and batches stay part random."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import queue_orders
from benchmarks.queue_orders import AskablePairs, AskingRound, figures, resampled, saved_labels
from benchmarks.repeated_fits import Fits
from palate.data.jsonl import write_rows
from palate.testing import word_tokenizer

SIZES = (100, 200, 400)


def test_labels_saved_are_those_that_a_line_needs_less() -> None:
    logs = np.log(np.array(SIZES))
    random = 0.5 + 0.02 * logs
    curves = {"random": random, "twice as good": random + 0.02 * math.log(2), "half as good": random - 0.02 * math.log(2), "flat": 0 * logs}
    curves["nearly flat"] = 0.5 + 1e-9 * logs
    saved = saved_labels(curves, SIZES)
    assert saved["random"] == pytest.approx(0)
    assert saved["twice as good"] == pytest.approx(0.5)
    assert saved["half as good"] == pytest.approx(-1)
    assert saved["flat"] == saved["nearly flat"] == -math.inf


def fits_at(rng: np.random.Generator, accuracy: float, fits: int = 3, prompts: int = 1000) -> Fits:
    """Fits with this accuracy, on eight pairs of each prompt."""
    prompt = np.repeat(np.arange(prompts), 8)
    right = (rng.random((fits, len(prompt))) < accuracy).astype(np.float64)
    return Fits(right, 2 * right - 1, np.full(len(prompt), "a"), prompt)


def test_the_interval_holds_what_was_planted() -> None:
    rng = np.random.default_rng(0)
    at = {size: 0.4 + 0.04 * math.log(size) for size in SIZES}
    better = {size: at[size] + 0.04 * math.log(1 / 0.6) for size in SIZES}
    kitchens = [
        {way: [fits_at(rng, curve[size]) for size in SIZES] for way, curve in {"random": at, "other": better}.items()} for _ in range(3)
    ]
    found = figures(kitchens, SIZES)
    curve, gap, saved = found["other"]
    assert curve == pytest.approx([better[size] for size in SIZES], abs=0.02)
    assert gap.low < better[400] - at[400] < gap.high
    assert gap.value == pytest.approx(curve[-1] - found["random"][0][-1])
    assert saved.low < 0.4 < saved.high
    assert saved.low > 0.1
    assert found["random"][2].value == pytest.approx(0)


def test_resampling_draws_whole_prompts_and_whole_fits() -> None:
    prompt = np.repeat(np.arange(50), 4)
    right = np.zeros((2, 200))
    right[0] = prompt % 2
    one = Fits(right, right, np.full(200, "a"), prompt)
    assert resampled({"random": [one]}, None)["random"].tolist() == pytest.approx([0.25])
    draws = np.array([resampled({"random": [one]}, np.random.default_rng(k))["random"][0] for k in range(400)])
    assert (draws == 0).mean() == pytest.approx(0.5, abs=0.08), "one fit of two is drawn, and one is never right"
    assert draws[draws > 0].std() == pytest.approx((0.25 / 50) ** 0.5, abs=0.015), "the other varies as whole prompts do"


@pytest.fixture
def pool(tmp_path: Path) -> AskablePairs:
    """Forty pairs of ten prompts, two judgments of each."""
    rows = [
        {"id": f"p{k}/{j}/{name}", "prompt": f"the {k}", "chosen": f"rice {j}", "rejected": "salt", "dimension": name, "probability": 0.8}
        for k in range(10)
        for j in range(4)
        for name in ("kind", "taste")
    ]
    write_rows(tmp_path / "preferences.jsonl", rows)
    return AskablePairs.read(tmp_path)


def test_the_answers_on_a_pair_stay_together(pool: AskablePairs) -> None:
    assert len(pool.rows) == len(pool.prompt) == 40
    assert [len(rows) for rows in pool.rows] == [2] * 40
    assert pool.texts == [f"the {k}" for k in range(10)]
    assert pool.prompt.tolist() == [k // 4 for k in range(40)]
    trees, first, second = pool.trees(word_tokenizer([*map(str, range(10)), "the", "rice", "salt"]))
    assert len(trees) == 10
    assert sum(len(tree.branches) for tree in trees) == 50
    assert (first != second).all()
    assert first.tolist() == [5 * k + (0, 2, 3, 4)[j] for k in range(10) for j in range(4)]


def test_a_batch_goes_by_the_order_and_leaves_a_third_to_chance(pool: AskablePairs, monkeypatch: pytest.MonkeyPatch) -> None:
    asking: Any = SimpleNamespace(pool=pool)
    by_number = lambda _asking, _asked, left, _run: np.argsort(left)  # noqa: E731
    monkeypatch.setitem(queue_orders.WAYS, "uncertain", by_number)  # type: ignore[arg-type]
    asked = np.arange(5)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        chosen = AskingRound._next(asking, "uncertain", asked, 10, Path(), rng)
        assert chosen[:7].tolist() == list(range(5, 12))
        assert len(set(chosen.tolist())) == 10
        assert (chosen[7:] >= 12).all()
    at_random = AskingRound._next(asking, "random", asked, 10, Path(), np.random.default_rng(0))
    assert len(set(at_random.tolist())) == 10
    assert (at_random >= 5).all()


def test_coverage_asks_about_prompts_that_were_not_judged(pool: AskablePairs) -> None:
    asking: Any = SimpleNamespace(pool=pool, seed=0)
    asked = np.arange(20)  # the pairs of five prompts
    left = np.arange(20, 40)
    order = AskingRound.coverage(asking, asked, np.concatenate([np.arange(2), left]), Path())
    assert sorted(order.tolist()) == list(range(22))
    first = pool.prompt[np.concatenate([np.arange(2), left])[order[:5]]]
    assert len(set(first.tolist())) == 5
    assert first.min() >= 5
