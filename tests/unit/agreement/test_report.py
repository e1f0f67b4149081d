"""The whole analysis: figures that fit together, the same for the same seed, plain, and fast."""

import json
import time

import numpy as np
import pytest

from palate.agreement import Votes, VoteTable, analyse, krippendorff_alpha, pair_kappas, rater_noise_ceiling, raw_agreement
from palate.testing.synthetic_votes import made_up

SECONDS = 1.0


def test_the_report_fits_together_and_is_repeatable(crowd) -> None:
    one, again = (analyse(crowd, np.random.default_rng(3)) for _ in range(2))
    assert json.dumps(one.plain(), allow_nan=False) == json.dumps(again.plain(), allow_nan=False)
    assert (one.votes, one.items, one.doubles, one.raters, sum(one.answers)) == (60_000, 12_000, 12_000, 100, 60_000)
    assert one.ceiling == rater_noise_ceiling(one.agreement_without_ties.value)
    assert one.dimensions[0].alpha.value == one.alpha.value
    assert len(one.guessing) == 10
    assert set(one.plain()["guessing"]) == set(one.guessing)
    assert sum(rater.votes for rater in one.by_rater) == 60_000
    assert one.pace is not None
    assert one.side.logit.low > 0
    assert one.length.logit.low > 0
    # Fleiss' kappa and alpha differ by the correction for small samples alone.
    assert one.fleiss == pytest.approx(one.alpha.value, abs=1e-3)


def test_each_figure_of_the_report_is_the_one_it_is_called() -> None:
    rng = np.random.default_rng
    drawn = rng(1).choice(3, (60, 3), p=[0.5, 0.3, 0.2])
    votes = Votes.of((f"i{i}", f"r{r}", int(drawn[i, r])) for i in range(60) for r in range(3))
    half = np.arange(60) % 2
    report = analyse(VoteTable.of(votes).with_dimensions(half, ("even", "odd")), rng(0))
    counts = votes.counts()
    assert report.agreement_without_ties.value == pytest.approx(raw_agreement(counts[:, [0, 2]], rng(0)).value)
    levels = {"nominal": report.alpha, "ordinal": report.alpha_ordinal, "interval": report.alpha_interval}
    assert len({one.value for one in levels.values()}) == 3
    for level, found in levels.items():
        assert found.value == pytest.approx(krippendorff_alpha(counts, rng(0), level, mirror=votes.mirror).value)
    for number, one in enumerate(report.dimensions):
        alone = krippendorff_alpha(counts[half == number], rng(0), mirror=votes.mirror)
        assert (one.votes, one.alpha.value) == (90, pytest.approx(alone.value))
    assert report.cohen == pytest.approx(pair_kappas(votes, mirror=votes.mirror).mean())
    for pair in report.pairs:
        assert 0.2 < pair.agreement < 0.7
        assert abs(pair.kappa) < 0.35


def test_votes_without_any_second_opinion_are_reported_as_such() -> None:
    report = analyse(VoteTable.of(Votes.of([("a", "anna", 0), ("b", "ben", 2)])), np.random.default_rng(0))
    assert (report.doubles, report.ceiling, report.pairs, report.guessing) == (0, None, (), ())
    plain = report.plain()
    assert (plain["alpha"]["value"], plain["cohen"], plain["side"]["logit"]["value"]) == (None, None, None)
    json.dumps(plain, allow_nan=False)


def test_a_hundred_thousand_judgments_take_less_than_a_second() -> None:
    table = made_up(100_000, np.random.default_rng(0))
    analyse(table, np.random.default_rng(0))
    spent = []
    for _ in range(3):
        before = time.process_time()  # the clock would measure what else the machine does
        analyse(table, np.random.default_rng(0))
        spent.append(time.process_time() - before)
    assert min(spent) < SECONDS
