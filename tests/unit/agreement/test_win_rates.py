"""Which policy wins: win rates, strengths beside evalica's, and few people joined with many answers of a model."""

from __future__ import annotations

import evalica
import numpy as np
import pytest

from palate.agreement.prediction_powered import PoweredMean, powered_mean
from palate.agreement.win_rates import PolicyVotes, joined, policy_strengths, win_rates
from palate.core import DataError

NAMES = ("base", "sft", "dpo")


def votes(rows: list[tuple[int, int, float, int]]) -> PolicyVotes:
    """Rows of first policy, second policy, share won by the first, and prompt; each row is another pair."""
    columns = np.array(rows)
    first, second, prompt = (columns[:, k].astype(np.int64) for k in (0, 1, 3))
    return PolicyVotes(first, second, columns[:, 2], prompt, np.arange(len(rows)))


def met(rng: np.random.Generator, count: int, strengths: tuple[float, ...] = (-1.0, 0.0, 0.7)) -> PolicyVotes:
    rows = []
    for k in range(count):
        one, other = (int(n) for n in rng.permutation(3)[:2])
        chance = 1 / (1 + np.exp(strengths[other] - strengths[one]))
        rows.append((one, other, float(rng.choice([1.0, 0.5, 0.0], p=[0.8 * chance, 0.2, 0.8 * (1 - chance)])), k // 2))
    return votes(rows)


def test_a_rate_is_that_of_the_policy_that_wins_whichever_side_it_stood_on() -> None:
    one = votes([(0, 1, 0.0, 0), (1, 0, 1.0, 1), (1, 0, 0.5, 2), (0, 1, 1.0, 3), (2, 2, 1.0, 4)])
    (rate,) = win_rates(one, NAMES, "helpful")
    assert (rate.policy, rate.other, rate.dimension, rate.votes) == ("sft", "base", "helpful", 4)
    assert rate.rate.value == pytest.approx(2.5 / 4)
    assert rate.rate.n == 4


def test_what_is_said_about_one_prompt_counts_once_in_the_interval() -> None:
    apart = votes([(0, 1, float(k % 3 > 0), k) for k in range(60)])
    together = PolicyVotes(apart.first, apart.second, apart.won, np.repeat(np.arange(20), 3), apart.pair)
    same = PolicyVotes(apart.first, apart.second, np.repeat(np.arange(20) % 3 > 0, 3).astype(float), together.prompt, apart.pair)
    (wide,) = win_rates(same, NAMES, "overall")
    (narrow,) = win_rates(apart, NAMES, "overall")
    assert wide.rate.n == 20
    assert wide.rate.high - wide.rate.low > 1.5 * (narrow.rate.high - narrow.rate.low)


def test_strengths_are_those_of_evalica() -> None:
    data = met(np.random.default_rng(0), 3000)
    found = policy_strengths(data, NAMES, "overall", np.random.default_rng(1))
    assert [one.policy for one in found] == ["dpo", "sft", "base"]
    word = {1.0: evalica.Winner.X, 0.5: evalica.Winner.Draw, 0.0: evalica.Winner.Y}
    names = [[NAMES[k] for k in side] for side in (data.first, data.second)]
    scores = evalica.bradley_terry(*names, [word[float(won)] for won in data.won], tolerance=1e-12, limit=10_000).scores
    logs = np.log(scores)
    for one in found:
        assert one.strength.value == pytest.approx(float(logs[one.policy] - logs.mean()), abs=2e-3)
        assert one.strength.low < one.strength.value < one.strength.high
    assert sum(one.votes for one in found) == 2 * 3000


def test_the_strengths_interval_is_the_spread_over_data_of_other_prompts() -> None:
    rng = np.random.default_rng(3)
    repeats = [policy_strengths(met(rng, 300), NAMES, "overall", rng)[0] for _ in range(25)]
    spread = np.std([one.strength.value for one in repeats], ddof=1)
    assert np.median([one.strength.se for one in repeats]) == pytest.approx(spread, rel=0.35)


def test_a_policy_that_always_won_has_a_finite_strength() -> None:
    found = policy_strengths(votes([(1, 0, 1.0, k) for k in range(20)]), NAMES, "overall", np.random.default_rng(0))
    assert [one.policy for one in found] == ["sft", "base"]
    assert np.isfinite([one.strength.value for one in found]).all()


def test_without_two_policies_nothing_is_said() -> None:
    alone = votes([(1, 1, 1.0, 0), (1, 1, 0.0, 1)])
    assert policy_strengths(alone, NAMES, "overall", np.random.default_rng(0)) == ()
    assert win_rates(alone, NAMES, "overall") == ()


def questions(rng: np.random.Generator, count: int, sharp: float) -> tuple[np.ndarray, np.ndarray]:
    """What people and a model say about questions: the model knows people's leaning as well as it is `sharp`. People's mean is .6."""
    leaning = rng.normal(0, 1.5, count)
    people = (rng.random(count) < 0.6 + 0.35 * np.tanh(leaning)).astype(float)
    model = 1 / (1 + np.exp(-(sharp * leaning + rng.normal(0.8, 1, count))))  # and it flatters the first policy
    return people, model


def powered(rng: np.random.Generator, few: int, many: int, sharp: float) -> PoweredMean:
    people, model = questions(rng, few + many, sharp)
    found = powered_mean(people[:few], model[:few], np.arange(few), model[few:], np.arange(few, few + many))
    assert found is not None
    return found


def test_the_powered_mean_is_the_published_estimator() -> None:
    rng = np.random.default_rng(0)
    people, model = questions(rng, 3000, 2.0)
    n, m = 1000, 2000
    found = powered_mean(people[:n], model[:n], np.arange(n), model[n:], np.arange(n, n + m))
    assert found is not None
    # Angelopoulos, Duchi and Zrnic 2023, for means, with a plain variance of the model's answers.
    covariance = np.cov(people[:n], model[:n])
    weight = covariance[0, 1] / (covariance[1, 1] * n * (1 / n + 1 / m))
    mean = people[:n].mean() + weight * (model[n:].mean() - model[:n].mean())
    variance = np.var(people[:n] - weight * model[:n], ddof=1) / n + weight**2 * np.var(model[n:], ddof=1) / m
    assert found.weight == pytest.approx(weight, rel=0.02)
    assert found.estimate.value == pytest.approx(mean, abs=1e-3)
    assert found.estimate.se == pytest.approx(np.sqrt(variance), rel=0.01)
    assert found.saved == pytest.approx(n * (np.var(people[:n], ddof=1) / n / variance - 1), rel=0.05)


@pytest.mark.parametrize(("few", "sharp"), [(60, 2.0), (60, 0.0), (300, 2.0)])
def test_its_interval_holds_people_s_mean_as_often_as_it_says_however_bad_the_model_is(few: int, sharp: float) -> None:
    rng = np.random.default_rng(1)
    estimates = [powered(rng, few, 2000, sharp).estimate for _ in range(2000)]
    held = np.mean([one.low < 0.6 < one.high for one in estimates])
    assert 0.93 < held < 0.97
    assert abs(np.mean([one.value for one in estimates]) - 0.6) < 0.01


def test_a_good_model_saves_votes_and_a_blind_one_does_not() -> None:
    rng = np.random.default_rng(2)
    good = [powered(rng, 300, 3000, 2.0).saved for _ in range(20)]
    blind = [powered(rng, 300, 3000, 0.0).saved for _ in range(20)]
    assert np.median(good) > 60
    assert abs(np.median(blind)) < 15


def test_a_model_s_word_on_prompts_that_people_saw_too_is_no_new_word() -> None:
    """Pairs of one prompt on which the model says the same: as good as no further pairs of further prompts."""
    rng = np.random.default_rng(4)
    people, model = questions(rng, 400, 2.0)
    cluster = np.arange(400)
    again = powered_mean(people, model, cluster, model, cluster)
    assert again is not None
    assert again.weight == 0.0
    assert again.saved == pytest.approx(0.0, abs=2.0)


def test_too_few_people_are_not_joined() -> None:
    people, model = questions(np.random.default_rng(0), 300, 1.0)
    assert powered_mean(people[:49], model[:49], np.arange(49), model[49:], np.arange(49, 300)) is None
    assert powered_mean(people[:80], model[:80], np.arange(80) // 2, model[80:], np.arange(80, 300)) is None
    assert powered_mean(people, model, np.arange(300), model[:0], np.arange(0)) is None
    assert powered_mean(np.ones(60), model[:60], np.arange(60), model[60:], np.arange(60, 300)) is None


def test_an_answer_that_is_no_number_is_refused() -> None:
    numbers = np.arange(60)
    with pytest.raises(DataError, match="not a finite number"):
        powered_mean(np.full(60, np.nan), np.ones(60), numbers, np.ones(60), numbers)
    with pytest.raises(DataError, match="shapes differ"):
        powered_mean(np.ones(60), np.ones(59), numbers, np.ones(60), numbers)


def test_people_are_joined_with_the_judge_of_their_own_pairs() -> None:
    rng = np.random.default_rng(5)
    said, model = questions(rng, 400, 2.0)
    few = 150
    turned = rng.random(400) < 0.5
    first, second = np.where(turned, 1, 0), np.where(turned, 0, 1)
    numbers = np.arange(400)
    people = PolicyVotes(first[:few], second[:few], np.where(turned, 1 - said, said)[:few], numbers[:few], numbers[:few])
    twice = np.repeat(numbers, 2)  # the judge saw each pair in both orders, and was swayed by .1
    swayed = np.where(turned, 1 - model, model)[twice] + np.tile([0.1, -0.1], 400)
    judge = PolicyVotes(first[twice], second[twice], swayed, twice, twice)
    (rate,) = win_rates(people, NAMES, "overall")
    found = joined(rate, people, judge, NAMES)
    ours, theirs = (said, model) if rate.policy == "base" else (1 - said, 1 - model)
    wanted = powered_mean(ours[:few], theirs[:few], numbers[:few], theirs[few:], numbers[few:])
    assert found is not None
    assert wanted is not None
    assert found.estimate.value == pytest.approx(wanted.estimate.value)
    assert found.saved == pytest.approx(wanted.saved)
