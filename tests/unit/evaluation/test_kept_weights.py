"""The parts of `benchmarks.people`: the true peak of gold, where rules stop, copies of weights, and the tables."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.kept_weights import SeedStops, Stop, Truth, differences, local_quadratic, people_stop, summary_table
from benchmarks.true_gold import TrueGold, copy_weights

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
    assert local_quadratic(at, x, 2.0) @ (3 - 2 * x + 0.5 * x**2) == pytest.approx(3 - 2 * at + 0.5 * at**2)


@pytest.mark.parametrize(("peak", "is_inside"), [(9.0, True), (60.0, False)])
def test_the_true_peak_has_an_interval(peak: float, is_inside: bool) -> None:
    truth = Truth.of(true_gold(peak), seed=0)
    assert truth.is_inside == is_inside
    assert truth.low <= truth.peak_kl <= truth.high
    if is_inside:
        assert truth.peak_kl == pytest.approx(0.5 * peak, rel=0.3)
        assert truth.low <= 0.5 * peak <= truth.high


def test_a_stop_loses_what_the_peak_has_more() -> None:
    truth = Truth.of(true_gold(9.0, noise=0.001), seed=0)
    end, early = truth.stop("end", 24.0), truth.stop("early", 2.0, kl=7.0, labels=5)
    assert end.lost == pytest.approx(truth.gold.max() - truth.gold[-1])
    assert end.kl == pytest.approx(12.0, rel=0.05)
    assert early.lost > end.lost > 0
    assert (early.kl, early.labels) == (7.0, 5)
    assert truth.iteration_of(5.0) == pytest.approx(10.0, abs=0.75)
    assert truth.iteration_of(99.0) == 24.0


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
    return SeedStops(seed, Stop("true peak", 8.0, peak, 0.7, 0.0), 0.9 * peak, 1.1 * peak, seed > 0, 0.1, 0.55, own)


def test_tables_count_what_is_near_the_peak() -> None:
    seeds = [
        seed_stops(0, 4.0, {"people": (4.4, 0.01, 100), "reward": (8.0, 0.05, 0)}),
        seed_stops(1, 6.0, {"people": (4.0, 0.03, 200), "reward": (6.3, 0.02, 0)}),
    ]
    summary = summary_table(seeds).splitlines()
    assert summary[0] == "2 seeds; on 1 the peak's interval is inside the run."
    assert summary[4] == "| people | 1 of 2 | 1 | 0.88 (0.67 to 1.10) | 0.0200 +- 0.0100 | 150 |"
    assert summary[5] == "| reward | 1 of 2 | 1 | 1.52 (1.05 to 2.00) | 0.0350 +- 0.0150 |  |"
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
