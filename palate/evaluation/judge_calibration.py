"""Calibrate a judge: fit a temperature and a threshold to people's shares on some prompts, and test them on others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.agreement.estimates import Estimate, Flags, Floats, Ints, from_draws, from_normal
from palate.agreement.judge_agreement import clustered_mean
from palate.agreement.judge_answers import JudgeAnswers
from palate.agreement.paired_logistic import Matches, clustered_error, fit
from palate.core import DataError
from palate.evaluation.calibration import Bin, expected_calibration_error, reliability
from palate.judges.judge_card import Calibration, log_odds

BINS = 10
RESAMPLES = 1000

MIN_TESTED = 5
"""Prompts on either side of the split, at least."""


@dataclass(frozen=True, slots=True)
class Reliability:
    """How well probabilities fit people's shares, on held-out prompts.

    Attributes:
        log_loss: in nats; a coin has log 2 = 0.693, and people who disagree leave some to every judge.
        brier: mean squared distance from people's share.
        ece: expected calibration error over ten bins of equal width. It is never 0, also of a perfect judge.
        bins: the bins that hold answers.
    """

    log_loss: Estimate
    brier: Estimate
    ece: Estimate
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class FittedCalibration:
    """A fitted calibration, and what it changes on held-out prompts.

    Attributes:
        calibration: temperature and threshold.
        slope: what the judge's log-odds are multiplied by, 1 / temperature.
        offset: log-odds that are added for what is shown first; not known where the orders are not.
        fitted: pairs it was fitted on.
        tested: held-out pairs.
        before: reliability of the judge's own probabilities, held out.
        after: the same with the calibration.
    """

    calibration: Calibration
    slope: Estimate
    offset: Estimate | None
    fitted: int
    tested: int
    before: Reliability
    after: Reliability


def fitted_calibration(table: JudgeAnswers, rng: np.random.Generator) -> FittedCalibration | str:
    """Fit temperature and threshold on half of the prompts and test them on the others; or say why that is not possible.

    The model is Platt's: people's share of what was shown first is sigma(log-odds / temperature + offset). The offset, and with it the
    threshold, is kept only where its interval excludes 0 and every order is known. A judge without probabilities counts as certain.
    Source: Platt 1999; Guo et al. 2017 (temperature alone).
    """
    rows = JudgedRows.of(table)
    is_fitted = fitted_half(rows.prompt, rng)
    if isinstance(is_fitted, str):
        return is_fitted
    part, rest = rows.selected(is_fitted), rows.selected(~is_fitted)
    odds = log_odds(part.probability)
    alone = coefficients(part, odds)
    if alone is None or alone[0].low <= 0:
        return "its answers do not tell what people prefer, so no temperature fits"
    both = coefficients(part, odds, np.ones(odds.size)) if (rows.shown >= 0).all() else None
    slope, offset = alone[0], None if both is None else both[1]
    if both is not None and both[0].low > 0 and both[1].excludes_zero:
        slope = both[0]
        calibration = Calibration.of(slope.value, both[1].value)
    else:
        calibration = Calibration.of(slope.value, 0.0)
    after = np.array([calibration.of_probability(p) for p in rest.probability.tolist()])
    before, afterwards = (held_out_reliability(values, rest, rng) for values in (rest.probability, after))
    return FittedCalibration(calibration, slope, offset, part.pairs, rest.pairs, before, afterwards)


def fitted_half(prompt: Ints, rng: np.random.Generator) -> Flags | str:
    """Return which rows (n,) are of the half of the prompts that a calibration is fitted on; or say why there are too few to split."""
    prompts = np.unique(prompt)
    if prompts.size < 2 * MIN_TESTED:
        return f"what people judged has {prompts.size} prompts; a split needs {2 * MIN_TESTED}"
    return np.isin(prompt, rng.permutation(prompts)[: prompts.size // 2])


@dataclass(frozen=True, slots=True, eq=False)
class JudgedRows:
    """A judge's answers to pairs that people judged: its probability for what was shown first, and people's share of that. Each is (n,)."""

    probability: Floats
    share: Floats
    votes: Floats
    shown: Ints
    pair: Ints
    prompt: Ints
    cluster: Ints

    @classmethod
    def of(cls, table: JudgeAnswers) -> JudgedRows:
        """Return a row per answer of the judge."""
        people, judge = table.people, table.judge
        votes = np.bincount(people.pair, minlength=table.pairs).astype(np.float64)
        with np.errstate(invalid="ignore"):
            share = np.bincount(people.pair, 1 - people.answer / 2, table.pairs) / votes
        judge = judge.selected(votes[judge.pair] > 0)
        of_first = share[judge.pair]
        turned = np.where(judge.shown == 1, 1 - of_first, of_first)
        columns = (judge.shown, judge.pair, table.prompt[judge.pair], table.cluster[judge.pair])
        return cls(judge.shown_first, turned, votes[judge.pair], *columns)

    def selected(self, flags: Flags) -> JudgedRows:
        """Return the rows where `flags` (n,) is true."""
        shown, pair, prompt, cluster = (column[flags] for column in (self.shown, self.pair, self.prompt, self.cluster))
        return JudgedRows(self.probability[flags], self.share[flags], self.votes[flags], shown, pair, prompt, cluster)

    @property
    def pairs(self) -> int:
        """Number of different pairs."""
        return int(np.unique(self.pair).size)


def coefficients(rows: JudgedRows, *columns: Floats) -> list[Estimate] | None:
    """Return what columns (n,) add to people's log-odds for what was shown first; None where the answers do not determine it."""
    empty = np.zeros(rows.share.size, dtype=np.int64)
    matches = Matches(empty, empty, rows.share, rows.votes, np.stack(columns, axis=1), 0)
    try:
        theta = fit(matches)
    except DataError:
        return None
    errors = [clustered_error(matches, theta, k, rows.cluster) for k in range(theta.size)]
    return [from_normal(float(value), error, rows.pairs) for value, error in zip(theta, errors, strict=True)]


def log_losses(probability: Floats, rows: JudgedRows) -> Floats:
    """(n,) log-loss of people's shares, nats."""
    odds = log_odds(probability)
    return np.asarray(np.logaddexp(0, -odds) * rows.share + np.logaddexp(0, odds) * (1 - rows.share))


def held_out_reliability(probability: Floats, rows: JudgedRows, rng: np.random.Generator) -> Reliability:
    """Return how well probabilities (n,) fit people's shares."""
    losses = log_losses(probability, rows)
    loss, brier = (clustered_mean(values, rows.cluster, rng) for values in (losses, (probability - rows.share) ** 2))
    bins = reliability(probability, rows.share, bins=BINS)
    return Reliability(loss, brier, _calibration_error(probability, rows, expected_calibration_error(bins), rng), bins)


def _calibration_error(probability: Floats, rows: JudgedRows, value: float, rng: np.random.Generator) -> Estimate:
    """Return the calibration error with a percentile interval from clusters drawn again."""
    _, number = np.unique(rows.cluster, return_inverse=True)
    n, index = int(number.max()) + 1, np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = np.zeros((n, BINS))
    np.add.at(gaps, (number, index), probability - rows.share)
    sizes = np.bincount(number, minlength=n)
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return from_draws(value, np.abs(drawn @ gaps).sum(1) / (drawn @ sizes), n)
