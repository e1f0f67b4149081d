"""Win rates on the same prompts: intervals beside an independent bootstrap, length control beside statsmodels, and power by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from palate.agreement.estimates import expanded_percentiles, t95
from palate.agreement.paired_rates import CONSTANT, ONE_PROMPT, RESAMPLES, paired_rates
from palate.agreement.win_rates import PULL, PolicyVotes

NAMES = ("base", "sft", "dpo")


def votes(rows: list[tuple[int, int, float, int]]) -> PolicyVotes:
    """Rows of first policy, second policy, share won by the first, and prompt; each row is another pair."""
    columns = np.array(rows, dtype=float)
    first, second, prompt = (columns[:, k].astype(np.int64) for k in (0, 1, 3))
    return PolicyVotes(first, second, columns[:, 2], prompt, np.arange(len(rows)))


def drawn(rng: np.random.Generator, prompts: int, per_prompt: int, lean: float = 0.5) -> list[tuple[int, int, float, int]]:
    """Votes of sft against base: prompts differ in how easy they are, and 15 % are ties."""
    rows = []
    for prompt in range(prompts):
        chance = 1 / (1 + math.exp(-rng.normal(lean, 1)))
        won = (0.5 if rng.random() < 0.15 else float(rng.random() < chance) for _ in range(per_prompt))
        rows += [(1, 0, one, prompt) for one in won]
    return rows


def plain(rows: list[tuple[int, int, float, int]], seed: int = 0):
    data = votes(rows)
    return paired_rates(data, np.zeros((len(rows), 2)), NAMES, "overall", np.random.default_rng(seed))


def own_interval(rows: list[tuple[int, int, float, int]], seed: int) -> tuple[float, float]:
    """The interval written another way: loops over drawn prompts, and the points of normal and Student from scipy."""
    rng, prompts = np.random.default_rng(seed), sorted({row[3] for row in rows})
    means = []
    for _ in range(RESAMPLES):
        times = rng.multinomial(len(prompts), [1 / len(prompts)] * len(prompts))
        every = [row[2] for prompt, count in zip(prompts, times, strict=True) for row in rows if row[3] == prompt for _ in range(count)]
        means.append(sum(every) / len(every))
    n = len(prompts)
    tail = stats.norm.cdf(-math.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))
    return float(np.quantile(means, tail)), float(np.quantile(means, 1 - tail))


def test_the_interval_is_that_of_an_independent_bootstrap_over_prompts() -> None:
    rows = drawn(np.random.default_rng(3), 30, 3)
    (found,) = plain(rows, seed=5)
    assert (found.match.policy, found.match.other, found.prompts, found.match.votes) == ("sft", "base", 30, 90)
    assert found.match.rate.value == pytest.approx(sum(row[2] for row in rows) / 90)
    assert (found.match.rate.low, found.match.rate.high) == pytest.approx(own_interval(rows, 5), abs=2e-3)
    assert found.ties == pytest.approx(sum(row[2] == 0.5 for row in rows) / 90)
    assert found.note == ""


def test_votes_on_one_prompt_count_once() -> None:
    once = [(1, 0, float(k % 3 > 0), k) for k in range(30)]
    thrice = [row for row in once for _ in range(3)]
    (narrow,), (same,) = plain(once), plain(thrice)
    assert same.match.rate.high - same.match.rate.low == pytest.approx(narrow.match.rate.high - narrow.match.rate.low, abs=0.02)
    assert (same.needed, same.prompts) == (narrow.needed, 30)


@pytest.mark.slow
@pytest.mark.parametrize(("prompts", "per_prompt"), [(12, 1), (20, 3), (60, 1)])
def test_the_interval_holds_the_rate_of_other_prompts_as_often_as_it_says(prompts: int, per_prompt: int) -> None:
    rng = np.random.default_rng(1)
    easy = 1 / (1 + np.exp(-np.random.default_rng(2).normal(0.5, 1, 10**6)))
    truth = 0.15 * 0.5 + 0.85 * float(easy.mean())
    held = 0
    for _ in range(500):
        rows = np.array(drawn(rng, prompts, per_prompt))
        sums = np.bincount(rows[:, 3].astype(int), rows[:, 2])
        means = rng.multinomial(prompts, np.full(prompts, 1 / prompts), 800) @ sums / (prompts * per_prompt)
        one = expanded_percentiles(float(rows[:, 2].mean()), means, prompts)
        held += one.low <= truth <= one.high
    assert 0.925 < held / 500 < 0.975


@pytest.mark.parametrize("freedom", [4, 9, 29, 300])
def test_student_s_point_is_that_of_scipy(freedom: int) -> None:
    assert t95(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=0.02 if freedom < 9 else 0.002)


def test_one_prompt_and_a_constant_verdict_say_so_in_place_of_an_interval_without_width() -> None:
    (one,) = plain([(1, 0, 1.0, 0), (1, 0, 0.0, 0)])
    assert math.isnan(one.match.rate.low)
    assert (one.note, one.needed, one.visible) == (ONE_PROMPT, None, None)
    (always,) = plain([(1, 0, 1.0, k) for k in range(20)])
    assert (always.match.rate.value, always.note, always.needed) == (1.0, CONSTANT, None)
    assert (always.match.rate.low, always.match.rate.high) == pytest.approx((0.8389, 1.0), abs=1e-4)  # Wilson's for 20 of 20
    lengths = np.column_stack([np.arange(20.0), np.zeros(20)])
    (varied,) = paired_rates(votes([(1, 0, 1.0, k) for k in range(20)]), lengths, NAMES, "overall", np.random.default_rng(0))
    assert varied.controlled is None  # the pull alone would give a rate, and an interval that no vote supports
    (level,) = plain([(1, 0, 0.5, k) for k in range(20)])
    assert level.note == CONSTANT
    assert level.match.rate.high - level.match.rate.low > 0.3
    (both,) = plain([(1, 0, won, k) for k in range(20) for won in (1.0, 0.0)])  # every prompt is split alike
    assert (both.note, both.needed) == (CONSTANT, None)


def with_length(rng: np.random.Generator, prompts: int) -> tuple[list[tuple[int, int, float, int]], np.ndarray]:
    """Votes on two policies of one quality: dpo writes 40 characters more, and raters like that."""
    rows, lengths = [], []
    for prompt in range(prompts):
        long, short = 100 + 40 + 30 * rng.normal(), 100 + 30 * rng.normal()
        first_won = rng.random() < 1 / (1 + math.exp(-1.2 * math.tanh((long - short) / 42)))
        is_turned = rng.random() < 0.5
        rows.append((0, 2, float(not first_won), prompt) if is_turned else (2, 0, float(first_won), prompt))
        lengths.append((short, long) if is_turned else (long, short))
    return rows, np.array(lengths)


def test_at_equal_length_a_taste_for_length_is_taken_out_as_statsmodels_does() -> None:
    rows, lengths = with_length(np.random.default_rng(7), 1500)
    (found,) = paired_rates(votes(rows), lengths, NAMES, "overall", np.random.default_rng(0))
    assert found.match.policy == "dpo"
    assert found.match.rate.low > 0.6
    assert found.controlled is not None
    assert found.controlled.low < 0.5 < found.controlled.high
    won = np.array([row[2] if row[0] == 2 else 1 - row[2] for row in rows])
    more = np.where([row[0] == 2 for row in rows], lengths[:, 0] - lengths[:, 1], lengths[:, 1] - lengths[:, 0])
    design = np.column_stack([np.ones(len(rows)), np.tanh(more / more.std())])
    fitted = sm.GLM(
        np.append(won, [0.5, 0.5]), np.vstack([design, np.eye(2)]), family=sm.families.Binomial(),
        freq_weights=np.append(np.ones(len(rows)), [2 * PULL, 2 * PULL]),
    ).fit(tol=1e-12)  # fmt: skip
    assert found.controlled.value == pytest.approx(1 / (1 + math.exp(-fitted.params[0])), abs=1e-6)
    error = float(sm.GLM(won, design, family=sm.families.Binomial()).fit(cov_type="cluster", cov_kwds={"groups": np.arange(1500)}).bse[0])
    assert found.controlled.se == pytest.approx(error / 4, rel=0.15)  # the slope of the logistic at one half


def test_pairs_of_policies_share_one_slope() -> None:
    """base and sft differ in length at random; what that teaches about length corrects dpo, whose answers are always longer."""
    rng = np.random.default_rng(4)
    rows, lengths = with_length(rng, 400)
    for prompt in range(400, 2400):
        sides = 100 + 30 * rng.normal(size=2)
        won = rng.random() < 1 / (1 + math.exp(-1.2 * math.tanh((sides[0] - sides[1]) / 42)))
        rows.append((1, 0, float(won), prompt))
        lengths = np.vstack([lengths, sides])
    found = {one.match.policy: one for one in paired_rates(votes(rows), lengths, NAMES, "overall", np.random.default_rng(0))}
    (alone,) = paired_rates(votes(rows[:400]), lengths[:400], NAMES, "overall", np.random.default_rng(0))
    assert found["dpo"].controlled is not None
    assert alone.controlled is not None
    assert abs(found["dpo"].controlled.value - 0.5) < 0.05
    assert found["dpo"].controlled.se < alone.controlled.se


def test_without_a_difference_in_length_nothing_is_controlled() -> None:
    (found,) = plain(drawn(np.random.default_rng(0), 20, 1))
    assert found.controlled is None


def test_as_many_prompts_as_are_needed_show_the_difference_in_four_cases_of_five() -> None:
    rng = np.random.default_rng(0)
    pilot = drawn(rng, 3000, 1, lean=0.0)
    (found,) = paired_rates(votes(pilot), np.zeros((3000, 2)), NAMES, "overall", rng, difference=0.08)
    assert found.needed is not None
    lean = 0.457  # of these prompts a share of .58 is won
    shown = []
    for _ in range(300):
        won = np.array([row[2] for row in drawn(rng, found.needed, 1, lean)])
        shown.append(abs(won.mean() - 0.5) > 1.96 * won.std(ddof=1) / math.sqrt(won.size))
    truth = 0.15 * 0.5 + 0.85 * float((1 / (1 + np.exp(-np.random.default_rng(2).normal(lean, 1, 10**6)))).mean())
    assert truth - 0.5 == pytest.approx(0.08, abs=1e-3)
    assert 0.74 < np.mean(shown) < 0.87
    assert found.visible == pytest.approx(0.08 * math.sqrt(found.needed / 3000), rel=0.01)
