"""Which weights of an over-optimised run each rule would have kept, beside the true peak of gold, as tables."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.true_gold import TrueGold
from palate.agreement.estimates import Estimate, Floats, t95
from palate.agreement.judged_sample import gain_curve
from palate.data.jsonl import read_rows
from palate.evaluation.overoptimisation import Peak, local_quadratic, smooth_peak
from palate.evaluation.peak_report import peak_report

WIDTH = 2.0
"""Width in iterations of the bell that smooths the true gold."""
WINDOW = 3
"""Iterations in the running mean of a run's own measures."""
LEVEL = 0.01
"""A loss of gold that is as good as none: the top of the curve is level, so many KLs are equally good."""
GRID = 0.25
"""Iterations between two points of the smooth curves."""
NEAR = 0.15
"""A rule is near the peak where its KL is within this share of the peak's."""
ESTIMATE = ("value", "se", "low", "high", "n")


@dataclass(frozen=True)
class Truth:
    """The true gold of a run: smooth curves over iterations, which follow no form, and where the gold is highest.

    Attributes:
        at: (g,) iterations, evenly spaced.
        kl: (g,) smooth KL to the start, nats.
        gold: (g,) smooth gold.
        peak: where it is highest, with an interval over other prompts.
    """

    at: Floats
    kl: Floats
    gold: Floats
    peak: Peak

    @staticmethod
    def of(true: TrueGold, seed: int) -> Truth:
        """Smooth what was measured. All iterations share their prompts, so their errors are those between prompts."""
        x = true.iterations.astype(np.float64)
        at = np.arange(0, x[-1] + GRID / 2, GRID)
        weights = local_quadratic(at, WIDTH, np.ones_like(x), x)
        kl, gold = true.kl.mean(1), true.gold.mean(1)
        peak = smooth_peak(np.sqrt(np.maximum(kl, 0)), gold, np.cov(true.gold) / true.gold.shape[1], seed)
        return Truth(at, weights @ kl, weights @ gold, peak)

    @property
    def peak_kl(self) -> float:
        """The KL at the peak, or at the end of the run where that comes first, nats."""
        return float(self.peak.stop**2)

    def stop(self, rule: str, iteration: float, kl: float | None = None, labels: int = 0) -> Stop:
        """Return a rule's stop at an iteration; `kl` is its own idea of the KL there, else the true one is taken."""
        place = int(np.argmin(np.abs(self.at - iteration)))
        value = float(self.kl[place]) if kl is None else kl
        return Stop(rule, iteration, value, float(self.gold[place]), float(self.gold.max() - self.gold[place]), labels)


@dataclass(frozen=True)
class Stop:
    """Where a rule stops: the iteration with whose first weights it ends, the KL and the true gold there, and how many labels it took."""

    rule: str
    iteration: float
    kl: float
    gold: float
    lost: float
    labels: int = 0


@dataclass(frozen=True)
class SeedStops:
    """The stops of one seed beside the true peak.

    Attributes:
        seed: the seed.
        peak: the true peak.
        low: lower end of the interval of its KL, nats.
        high: upper end.
        is_inside: whether the whole interval is inside the run.
        start: gold of the start.
        highest: the highest gold.
        end: gold of the end.
        stops: where each rule stops.
    """

    seed: int
    peak: Stop
    low: float
    high: float
    is_inside: bool
    start: float
    highest: float
    end: float
    stops: tuple[Stop, ...]


def running_mean(values: Floats) -> Floats:
    """Return the mean of each value with its neighbours."""
    half = WINDOW // 2
    return np.array([values[max(k - half, 0) : k + half + 1].mean() for k in range(values.size)])


def people_stop(checks: Sequence[Mapping[str, Any]], patience: int, lag: int) -> tuple[int, int]:
    """Return the iteration that people's rule keeps, and that at which it stops, where verdicts come `lag` checks late.

    Each check uses the rates as they were known at that moment.
    """
    for k, check in enumerate(checks):
        rates = check["rates"][: len(check["rates"]) - lag]
        curve = gain_curve([row["iteration"] for row in rates], [Estimate(*(row[name] for name in ESTIMATE)) for row in rates])
        if curve is not None and (curve.is_over(patience) or (k == len(checks) - 1 and curve.best < len(rates) - 1)):
            return int(rates[curve.best]["iteration"]), int(check["iteration"])
    return int(checks[-1]["iteration"]), int(checks[-1]["iteration"])


def stops_of(seed: int, run: Path, true: TrueGold, budgets: Sequence[float], patience: int) -> SeedStops:
    """Return where each rule stops an online run."""
    truth = Truth.of(true, seed)
    rows: list[Any] = [row for _, row in read_rows(run / "metrics.jsonl")]
    checks: list[Any] = [row for _, row in read_rows(run / "people" / "checks.jsonl")]
    last = truth.at[-1]
    rows = [row for row in rows if row["step"] <= last]
    kl, score, held_out = (np.array([row[f"online/{name}/mean"] for row in rows]) for name in ("kl", "score", "held_out_score"))
    stops = [
        truth.stop("the end of the run", last),
        truth.stop("reward: highest", float(np.argmax(running_mean(score)))),
        *(truth.stop(f"KL budget of {nats:g} nats", float(np.flatnonzero(kl <= nats).max())) for nats in budgets),
        truth.stop("held-out model: highest", float(np.argmax(running_mean(held_out)))),
    ]
    for lag, late in enumerate(("at once", "one check late")):
        best, at = people_stop(checks, patience, lag)
        labels = next(int(check["metrics"]["people/answered/count"]) for check in checks if check["iteration"] == at)
        stops.append(truth.stop(f"people inside the loop, verdicts {late}", best, labels=labels))
    for one in peak_report([run], seed).curves:
        if one.peak is not None and one.curve.measure != "proxy":
            budget = one.peak.stop**2
            labels = int(checks[-1]["metrics"]["people/answered/count"]) if one.curve.measure == "people" else 0
            stops.append(truth.stop(f"palate peak by {one.curve.measure}", float(one.curve.labels[one.place]), budget, labels))
    assert truth.peak.place is not None
    peak = truth.stop("true peak", float(true.iterations[truth.peak.place]), truth.peak_kl)
    low, high = truth.peak.low**2, truth.peak.high**2
    start, highest, end = float(truth.gold[0]), float(truth.gold.max()), float(truth.gold[-1])
    return SeedStops(seed, peak, low, high, truth.peak.outcome == "peak", start, highest, end, tuple(stops))


def seed_table(found: SeedStops) -> str:
    """Return a Markdown table of one seed: a row per rule."""
    peak = found.peak
    inside = "inside the run" if found.is_inside else "perhaps not inside the run"
    lines = [
        f"True gold of the start {found.start:.3f}, at most {found.highest:.3f}, at the end {found.end:.3f}. Its peak is {inside}: "
        f"{peak.kl:.2f} nats [{found.low:.2f}, {found.high:.2f}], iteration {peak.iteration:g}, where {peak.lost:.3f} is lost.",
        "",
        "| rule | iteration | KL, nats | against the peak's | gold lost | labels |",
        "|---" * 6 + "|",
    ]
    lines += [
        f"| {one.rule} | {one.iteration:g} | {one.kl:.2f} | {one.kl / peak.kl - 1:+.0%} | {one.lost:.3f} | {one.labels or ''} |"
        for one in found.stops
    ]
    return "\n".join(lines)


def summary_table(seeds: Sequence[SeedStops]) -> str:
    """Return a Markdown table over seeds: how near each rule comes to the true peak, and what it loses."""
    with_peak = sum(one.is_inside for one in seeds)
    lines = [
        f"{len(seeds)} seeds; on {with_peak} the peak's interval is inside the run.",
        "",
        f"| rule | within {NEAR:.0%} of the peak's KL | loses at most {LEVEL:g} | KL over the peak's, median (lowest to highest) "
        "| gold lost, mean +- se | labels, mean |",
        "|---" * 6 + "|",
    ]
    for rule in (one.rule for one in seeds[0].stops):
        own = [(seed, stop) for seed in seeds for stop in seed.stops if stop.rule == rule]
        ratios = [stop.kl / seed.peak.kl for seed, stop in own]
        near, level = sum(abs(ratio - 1) <= NEAR for ratio in ratios), sum(stop.lost <= LEVEL for _, stop in own)
        lost, labels = np.array([stop.lost for _, stop in own]), statistics.mean(stop.labels for _, stop in own)
        error = lost.std(ddof=1) / math.sqrt(lost.size) if lost.size > 1 else math.nan
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        cells = (
            f"{near} of {len(own)}",
            f"{level} of {len(own)}",
            spread,
            f"{lost.mean():.4f} +- {error:.4f}",
            f"{labels:.0f}" if labels else "",
        )
        lines.append(f"| {rule} | {' | '.join(cells)} |")
    return "\n".join(lines)


def differences(seeds: Sequence[SeedStops], rule: str) -> str:
    """Return a Markdown table: what a rule loses less than each other one, with 95 % intervals over seeds, and how often it is nearer."""
    lines = [f"| {rule}, against | gold lost, difference | nearer to the peak's KL |", "|---" * 3 + "|"]
    by_seed = [{stop.rule: stop for stop in seed.stops} for seed in seeds]
    for other in (one.rule for one in seeds[0].stops if one.rule != rule):
        gap = np.array([stops[rule].lost - stops[other].lost for stops in by_seed])
        half = t95(gap.size - 1) * gap.std(ddof=1) / math.sqrt(gap.size) if gap.size > 1 else math.nan
        far = [
            [abs(math.log(max(stops[each].kl, 1e-3) / seed.peak.kl)) for each in (rule, other)]
            for seed, stops in zip(seeds, by_seed, strict=True)
        ]
        nearer, equal = sum(own < its for own, its in far), sum(own == its for own, its in far)
        lines.append(
            f"| {other} | {gap.mean():+.4f} [{gap.mean() - half:+.4f}, {gap.mean() + half:+.4f}] | {nearer} of {gap.size}, {equal} equal |"
        )
    return "\n".join(lines)


def write_stops(file: Path, found: SeedStops) -> None:
    """Write a seed's stops as JSON."""
    file.write_text(json.dumps(asdict(found), indent=2), encoding="utf-8")
