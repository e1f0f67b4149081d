"""The parts of `benchmarks.people`: the true peak of gold, where rules stop, copies of weights, and the tables."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.kept_weights import SeedStops, Stop, Truth, differences, people_stop, summary_table
from benchmarks.peak_halves import halves, table
from benchmarks.true_gold import WEIGHTS, TrueGold, copy_weights
from palate.data.jsonl import write_rows
from palate.evaluation.measured_curves import MeasuredCurve
from palate.evaluation.overoptimisation import local_quadratic
from palate.kitchen import Kitchen
from palate.models.load import Architecture, load_tokenizer, new_policy
from palate.training.learner import Learner
from palate.training.optimizer import AdamW

ITERATIONS = np.arange(0, 25, 2)


def true_gold(peak: float, prompts: int = 300, noise: float = 0.1) -> TrueGold:
    """Gao's form with its peak at an iteration, where the KL grows by half a nat per iteration; prompts differ more than weights do."""
    rng = np.random.default_rng(3)
    ratio = np.sqrt(np.maximum(ITERATIONS, 1e-9) / peak)
    gain = np.where(ITERATIONS > 0, 0.15 * ratio * (1 - np.log(ratio)), 0.0)
    gold = 0.55 + gain[:, None] + 0.3 * rng.normal(size=prompts) + noise * rng.normal(size=(ITERATIONS.size, prompts))
    return TrueGold(ITERATIONS, 0.5 * ITERATIONS[:, None] + 0.2 * rng.normal(size=(ITERATIONS.size, prompts)), gold)


def test_a_local_quadratic_gives_back_a_quadratic() -> None:
    x, at = np.array([0.0, 1, 2, 4, 6, 9]), np.array([0.0, 2.5, 8])
    assert local_quadratic(at, 2.0, np.linspace(1, 2, x.size), x) @ (3 - 2 * x + 0.5 * x**2) == pytest.approx(3 - 2 * at + 0.5 * at**2)


@pytest.mark.parametrize(("peak", "is_inside"), [(9.0, True), (60.0, False)])
def test_the_true_peak_has_an_interval(peak: float, is_inside: bool) -> None:
    truth = Truth.of(true_gold(peak), seed=0)
    assert (truth.peak.outcome == "peak") == is_inside
    if is_inside:
        assert truth.peak_kl == pytest.approx(0.5 * peak, rel=0.35)
        assert truth.peak.low**2 <= 0.5 * peak <= truth.peak.high**2
        assert truth.peak.place is not None
        assert ITERATIONS[truth.peak.place] == pytest.approx(peak, abs=3)


def test_a_stop_loses_what_the_peak_has_more() -> None:
    truth = Truth.of(true_gold(9.0, noise=0.001), seed=0)
    end, early = truth.stop("end", 24.0), truth.stop("early", 2.0, kl=7.0, labels=5)
    assert end.lost == pytest.approx(truth.gold.max() - truth.gold[-1])
    assert end.kl == pytest.approx(12.0, rel=0.05)
    assert early.lost > end.lost > 0
    assert (early.kl, early.labels) == (7.0, 5)


def check(iteration: int) -> dict[str, object]:
    """A check whose rates, exact ones of a curve with its peak at iteration 6, reach to its own iteration."""
    rates = []
    for number in range(2, iteration + 1, 2):
        ratio = math.sqrt(number / 6)
        value = 0.5 + 0.2 * ratio * (2 - ratio)
        rates.append({"iteration": number, "value": value, "se": 0.05, "low": value - 0.1, "high": value + 0.1, "n": 32})
    return {"iteration": iteration, "rates": rates}


def test_people_stop_as_the_run_would() -> None:
    checks = [check(iteration) for iteration in range(2, 41, 2)]
    kept, at = people_stop(checks, patience=2, lag=0)
    late_kept, late_at = people_stop(checks, patience=2, lag=1)
    assert kept == late_kept == 6
    assert late_at == at + 2
    assert people_stop(checks[:3], patience=2, lag=0) == (6, 6)  # it still rises: the last weights


def seed_stops(seed: int, peak: float, stops: dict[str, tuple[float, float, int]]) -> SeedStops:
    own = tuple(Stop(rule, 1.0, kl, 0.6, lost, labels) for rule, (kl, lost, labels) in stops.items())
    return SeedStops(seed, Stop("true peak", 8.0, peak, 0.7, 0.0), 0.9 * peak, 1.1 * peak, seed > 0, 0.55, 0.7, 0.6, own)


def test_tables_count_what_is_near_the_peak() -> None:
    seeds = [
        seed_stops(0, 4.0, {"people": (4.4, 0.01, 100), "reward": (8.0, 0.05, 0)}),
        seed_stops(1, 6.0, {"people": (4.0, 0.03, 200), "reward": (6.3, 0.02, 0)}),
    ]
    summary = summary_table(seeds).splitlines()
    assert summary[0] == "2 seeds; on 1 the peak's interval is inside the run."
    assert summary[4] == "| people | 1 of 2 | 1 of 2 | 0.88 (0.67 to 1.10) | 0.0200 +- 0.0100 | 150 |"
    assert summary[5] == "| reward | 1 of 2 | 0 of 2 | 1.52 (1.05 to 2.00) | 0.0350 +- 0.0150 |  |"
    assert differences(seeds, "people").splitlines()[2].startswith("| reward | -0.0150 [")
    assert differences(seeds, "people").endswith("| 1 of 2, 0 equal |")


def test_weights_are_copied_once_and_only_whole_ones(tmp_path: Path) -> None:
    folder = tmp_path / "ppo-abc" / "state" / "people"
    for name in ("2", "4.new"):
        (folder / name).mkdir(parents=True)
        (folder / name / "tensors.safetensors").write_text(name)
    copy_weights(tmp_path)
    (folder / "2" / "tensors.safetensors").write_text("later")
    copy_weights(tmp_path)
    kept = tmp_path / "weights" / "ppo-abc"
    assert [(file.name, file.read_text()) for file in kept.iterdir()] == [("2.safetensors", "2")]


def test_the_true_gold_is_that_of_the_copied_weights(tmp_path: Path) -> None:
    """A copy of the start answers as the start does, word for word; other weights have a KL above zero."""
    world = tmp_path / "world"
    Kitchen(texts=30, demonstrations=5, prompts=5, held_out=6, evals=2).write(world, 0, write_rows)
    tokenizer = load_tokenizer(world / "tokenizer")
    size = Architecture(hidden_size=16, layers=1, heads=2, kv_heads=1, intermediate_size=16)
    start, other = (new_policy(tokenizer, size, seed) for seed in (1, 2))
    start.save(tmp_path / "start")
    for iteration, policy in ((3, start), (12, other)):
        Learner({"policy": policy.module}, AdamW(), 1).save(tmp_path / "ppo-abc" / "state" / "people" / str(iteration), {})
    copy_weights(tmp_path)
    run = tmp_path / "ppo-abc"
    true = TrueGold.of(tmp_path, run, tmp_path / "start", world / "held_out.jsonl", 5, seed=0)
    assert true.iterations.tolist() == [0, 3, 12]
    assert true.kl.shape == true.gold.shape == (3, 5)
    assert np.abs(true.kl[:2]).max() < 1e-3
    assert true.gold[0].tolist() == true.gold[1].tolist()
    assert true.kl[2].mean() > 1
    (tmp_path / WEIGHTS / run.name / "12.safetensors").unlink()
    again = TrueGold.of(tmp_path, run, tmp_path / "start", world / "held_out.jsonl", 5, seed=0)
    assert again.gold.tolist() == true.gold.tolist()  # it is measured once


def test_halves_of_a_run_agree_where_it_has_a_form() -> None:
    d = 3 * np.sqrt(np.arange(28) / 27)
    gain = 0.2 * d / 1.5 * (1 - np.log(np.where(d > 0, d, 1) / 1.5))
    values = 0.5 + gain + 0.015 * np.random.default_rng(1).normal(size=28)
    curve = MeasuredCurve("run", "gold", "rl", "iteration", ("",) * 28, d**2, values, np.eye(28) * 0.015**2, None)
    even, odd = halves(curve)
    assert (even[0][0], odd[0][0], len(even[0]), len(odd[0])) == (0, 0, 14, 15)
    assert set(even[0]) & set(odd[0]) == {0}
    lines = table([curve, curve]).splitlines()
    assert lines[2].startswith("| run | 9.0 | 2.")
    assert lines[4].startswith("| halves within 15% | | 2 of 2 |")
