"""The whole analysis: figures that fit together, the same for the same seed, plain, and fast."""

import json
import time

import numpy as np
import pytest

from palate.agreement import Survey, Votes, analyse, rater_noise_ceiling
from palate.testing.votes import made_up

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


def test_votes_without_any_second_opinion_are_reported_as_such() -> None:
    report = analyse(Survey.of(Votes.of([("a", "anna", 0), ("b", "ben", 2)])), np.random.default_rng(0))
    assert (report.doubles, report.ceiling, report.pairs, report.guessing) == (0, None, (), ())
    plain = report.plain()
    assert (plain["alpha"]["value"], plain["cohen"], plain["side"]["logit"]["value"]) == (None, None, None)
    json.dumps(plain, allow_nan=False)


def test_a_hundred_thousand_judgments_take_less_than_a_second() -> None:
    survey = made_up(100_000, np.random.default_rng(0))
    analyse(survey, np.random.default_rng(0))
    spent = []
    for _ in range(3):
        before = time.process_time()  # the clock would measure what else the machine does
        analyse(survey, np.random.default_rng(0))
        spent.append(time.process_time() - before)
    assert min(spent) < SECONDS
