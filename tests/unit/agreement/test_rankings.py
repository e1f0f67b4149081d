"""The pairs of a ranking hang together: one ranking is one observation, in every interval, error and count. Tests of raters are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from palate.agreement import VoteTable, analyse, krippendorff_alpha, rater_reports, raw_agreement
from palate.core import Judgment
from palate.data.jsonl import write_rows
from palate.evaluation.rater_report import report_on

K = 6


def rankings(rng: np.random.Generator, items: int, raters: int = 2, spread: float = 1.5) -> list[Judgment]:
    """Rankings of six by raters of like quality, on items of which some are easy for all: what is easy is so in all its pairs."""
    found = []
    for item in range(items):
        quality = rng.normal(0, 1, K) * np.exp(spread * rng.normal())
        for rater in range(raters):
            order = np.argsort(-(quality + rng.normal(0, 1, K)))
            found.append(Judgment(f"i{item}", f"r{rater}", tuple((int(k),) for k in order), order=tuple(range(K))))
    return found


def test_intervals_of_rankings_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng
    truth = analyse(VoteTable.of_judgments(rankings(rng(1), 6000)), rng(0))
    assert truth.agreement.se < 0.005
    named = {"agreement": [], "alpha": [], "rater": [], "alone": []}
    for seed in range(200):
        table = VoteTable.of_judgments(rankings(rng(100 + seed), 40))
        counts, cluster = table.votes.counts(), table.comparison
        named["agreement"].append(raw_agreement(counts, rng(seed), 400, cluster))
        named["alpha"].append(krippendorff_alpha(counts, rng(seed), resamples=400, cluster=cluster))
        named["rater"].append(rater_reports(table)[0].agreement)
        named["alone"].append(raw_agreement(counts, rng(seed), 400))
    value = {"alpha": truth.alpha.value}
    held = {
        name: np.mean([one.low <= value.get(name, truth.agreement.value) <= one.high for one in found]) for name, found in named.items()
    }
    assert {one.n for name in ("agreement", "alpha", "rater") for one in named[name]} == {40}
    assert held["agreement"] > 0.9
    assert held["alpha"] > 0.9
    assert 0.9 < held["rater"] <= 0.99
    assert held["alone"] < 0.75  # what was done before: pairs taken for independent
    spread = np.std([one.value for one in named["agreement"]])
    assert np.mean([one.se for one in named["agreement"]]) == pytest.approx(spread, rel=0.15)


def test_a_ranking_is_one_observation_and_brands_nobody() -> None:
    first, second = tuple((k,) for k in range(5)), tuple((k,) for k in reversed(range(5)))
    one = [Judgment("a", who, tiers, order=tuple(range(5))) for who, tiers in (("ann", first), ("ben", first), ("cy", second))]
    many = [Judgment(f"p{k}", who, ((0,), (1,)), order=(0, 1)) for k in range(40) for who in ("ann", "ben")]
    report = analyse(VoteTable.of_judgments([*one, *many]), np.random.default_rng(0))
    assert (report.doubles, report.items, report.agreement.n, report.side.logit.n) == (41, 50, 41, 41)
    assert report.guessing == ()
    cy = next(rater for rater in report.by_rater if rater.rater == "cy")
    assert (cy.agreement.value, cy.agreement.n, cy.first_shown.n) == (0.0, 1, 1)


def test_pairs_by_themselves_count_as_before() -> None:
    rng = np.random.default_rng
    counts = rng(0).multinomial(3, [0.5, 0.2, 0.3], 80).astype(float)
    alone = np.arange(80) * 7
    assert raw_agreement(counts, rng(1), cluster=alone) == raw_agreement(counts, rng(1))
    assert krippendorff_alpha(counts, rng(1), cluster=alone) == krippendorff_alpha(counts, rng(1))
    twice, of = np.repeat(counts, 2, axis=0), np.repeat(np.arange(80), 2)
    doubled, single = raw_agreement(twice, rng(1), cluster=of), raw_agreement(counts, rng(1))
    assert (doubled.value, doubled.n) == (pytest.approx(single.value), 80)
    assert doubled.se == pytest.approx(single.se, rel=0.1)  # as if nothing had been copied


def test_hidden_tests_say_how_right_raters_are_and_nothing_else() -> None:
    gold = {f"g{k}": ((0,), (1,)) for k in range(10)}
    said = [Judgment(name, who, ((0,), (1,)), dimension) for name in gold for who in ("ann", "ben") for dimension in ("overall", "kind")]
    said = [one if one.dimension == "overall" else Judgment(one.comparison, one.rater, ((1,), (0,)), "kind") for one in said]
    only = [Judgment(f"i{k}", "ann", ((0,), (1,)), dimension) for k in range(4) for dimension in ("overall", "kind")]
    report = analyse(VoteTable.of_judgments([*said, *only], gold=gold, tested="overall"), np.random.default_rng(0))
    assert (report.votes, report.doubles, report.ceiling, report.agreement.n) == (8, 0, None, 0)
    by_name = {rater.rater: rater.gold for rater in report.by_rater}
    assert [(by_name[who].value, by_name[who].n) for who in ("ann", "ben")] == [(1.0, 10)] * 2
    empty = analyse(VoteTable.of_judgments(said, gold=gold, tested="overall"), np.random.default_rng(0))
    assert (empty.votes, len(empty.by_rater)) == (0, 2)


def test_decisions_are_no_votes() -> None:
    votes = [Judgment("a", who, ((0,), (1,))) for who in ("ann", "ben")]
    decision = Judgment("a", "olga", ((1,), (0,)), is_decision=True)
    report = analyse(VoteTable.of_judgments([*votes, decision]), np.random.default_rng(0))
    assert (report.votes, report.agreement.value, len(report.by_rater)) == (2, 1.0, 2)


def test_preferences_made_of_one_ranking_are_one_observation(tmp_path: Path) -> None:
    pair = {"rejected": "b", "votes": [1.0, 0.0], "raters": ["ann", "ben"]}
    rows = [pair | {"chosen": f"a{k}", "prompt": f"q{k // 6}", "id": f"i{k // 6}/{k % 6}"} for k in range(60)]
    write_rows(tmp_path / "p.jsonl", rows)
    report = report_on(tmp_path / "p.jsonl")
    assert (report.items, report.doubles, report.agreement.n) == (60, 10, 10)
