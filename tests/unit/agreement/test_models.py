"""Models of raters: Dawid-Skene beside crowd-kit's, Bradley-Terry beside evalica's, Crowd-BT beside the oracle; what they find."""

from dataclasses import replace

import evalica
import numpy as np
import pandas as pd
import pytest
from crowdkit.aggregation.classification.dawid_skene import DawidSkene as Reference
from crowdkit.aggregation.classification.dawid_skene import OneCoinDawidSkene as OneCoinReference

from palate.agreement import CrowdVotes, Votes, bradley_terry, crowd_bradley_terry, dawid_skene
from palate.agreement.paired_logistic import DENSE, Matches, fit
from palate.agreement.refits import fit_each
from palate.agreement.strengths import crowd_honest, crowd_log_likelihood, crowd_probability
from palate.core import DataError

CONFUSIONS = np.array([[[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.05, 0.05, 0.9]], [[0.6, 0.3, 0.1]] * 3])


def votes_of(seed: int, items: int = 400, raters: int = 20, opinions: int = 6) -> tuple[Votes, np.ndarray]:
    """Votes of good raters and, every fourth, one who answers at random; and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, items, p=[0.5, 0.2, 0.3])
    rows = []
    for i in range(items):
        chosen = rng.choice(raters, opinions, replace=False)
        rows += [(f"i{i}", f"r{r}", int(rng.choice(3, p=CONFUSIONS[int(r % 4 == 0), truth[i]]))) for r in chosen]
    votes = Votes.of(rows)
    return votes, truth[[int(name[1:]) for name in votes.items]]


def frame(votes: Votes) -> pd.DataFrame:
    return pd.DataFrame(
        {"task": [votes.items[k] for k in votes.item], "worker": [votes.raters[k] for k in votes.rater], "label": votes.answer}
    )


NEVER = -1e9
"""A tolerance that stops no EM: crowd-kit's own stops early, its bound falls by a rounding."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_dawid_skene_equals_crowd_kits_step_for_step(steps) -> None:
    votes, _ = votes_of(0)
    ours = dawid_skene(votes, pseudo=0.0, steps=steps, tolerance=NEVER)
    theirs = Reference(n_iter=steps, tol=NEVER).fit(frame(votes))
    assert ours.posterior == pytest.approx(theirs.probas_.loc[list(votes.items), [0, 1, 2]].to_numpy(), abs=1e-8)
    # They estimate the matrices once more after the last posterior.
    once_more = dawid_skene(votes, pseudo=0.0, steps=steps + 1, tolerance=NEVER).confusion
    for k, rater in enumerate(votes.raters):
        expected = theirs.errors_.loc[rater].reindex(index=[0, 1, 2], columns=[0, 1, 2]).fillna(0).to_numpy().T  # theirs: answer by class
        assert once_more[k] == pytest.approx(expected, abs=1e-8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("steps", [1, 20])
def test_one_coin_equals_crowd_kits_step_for_step(steps) -> None:
    votes, _ = votes_of(1)
    ours = dawid_skene(votes, "one_coin", pseudo=0.0, steps=steps, tolerance=NEVER)
    theirs = OneCoinReference(n_iter=steps, tol=NEVER).fit(frame(votes))
    assert ours.posterior == pytest.approx(theirs.probas_.loc[list(votes.items), [0, 1, 2]].to_numpy(), abs=1e-8)
    once_more = dawid_skene(votes, "one_coin", pseudo=0.0, steps=steps + 1, tolerance=NEVER).accuracy()
    assert once_more == pytest.approx(theirs.skills_.loc[list(votes.raters)].to_numpy(), abs=1e-8)


@pytest.mark.parametrize("model", ["full", "one_coin"])
@pytest.mark.parametrize("pseudo", [0.0, 0.5, 3.0])
def test_no_step_lowers_the_objective(model, pseudo) -> None:
    votes, _ = votes_of(2, items=80)
    found = dawid_skene(votes, model, pseudo, steps=60, tolerance=-1.0)
    assert len(found.objective) == 60
    assert np.diff(found.objective).min() > -1e-9


def test_dawid_skene_finds_the_truth_and_who_tosses_coins() -> None:
    votes, truth = votes_of(3)
    found = dawid_skene(votes)
    assert (found.posterior.argmax(1) == truth).mean() > (votes.counts().argmax(1) == truth).mean() + 0.01
    worst = {votes.raters[k] for k in np.argsort(found.accuracy())[:5]}
    assert worst == {"r0", "r4", "r8", "r12", "r16"}
    assert found.next_votes().sum(1) == pytest.approx(np.ones(len(truth)))
    assert found.next_votes().max() < found.posterior.max()


def test_an_item_without_votes_changes_nothing_and_has_the_prior() -> None:
    votes, _ = votes_of(5, items=60)
    more = Votes(votes.item, votes.rater, votes.answer, (*votes.items, *(f"new{k}" for k in range(40))), votes.raters)
    for model in ("full", "one_coin"):
        before, after = dawid_skene(votes, model, steps=20), dawid_skene(more, model, steps=20)
        assert after.posterior[:60] == pytest.approx(before.posterior)
        assert after.posterior[60:] == pytest.approx(np.tile(before.prior, (40, 1)))
        assert after.objective == pytest.approx(before.objective)


def test_accuracy_and_the_mean_confusion_are_what_they_are_said_to_be() -> None:
    votes, _ = votes_of(6, items=80)
    rows = [(votes.items[i], votes.raters[r], int(a)) for i, r, a in zip(votes.item, votes.rater, votes.answer, strict=True)]
    rows = [row for row in rows if row[1] != "r1" or row[0] == rows[0][0]]  # r1 has few votes, or one: the mean is by votes
    votes = Votes.of([*rows, (rows[0][0], "r1", 1)])
    found = dawid_skene(votes)
    tables = np.zeros((3, 3))
    for item, answer in zip(votes.item, votes.answer, strict=True):
        tables[:, answer] += found.posterior[item]
    assert found.pooled == pytest.approx(tables / tables.sum(1, keepdims=True))
    expected = [sum(found.prior[c] * table[c, c] for c in range(3)) for table in found.confusion]
    assert found.accuracy() == pytest.approx(expected)


def test_raters_with_few_votes_stay_near_the_crowd() -> None:
    votes, _ = votes_of(4)
    rows = zip(votes.item, votes.rater, votes.answer, strict=True)
    extra = Votes.of([*((votes.items[i], votes.raters[r], int(a)) for i, r, a in rows), (votes.items[0], "new", 1)])
    accuracy = dict(zip(extra.raters, dawid_skene(extra).accuracy(), strict=True))
    assert 0.5 < accuracy["new"] < 0.9


def test_bradley_terry_of_the_oracle_and_of_evalica(oracle) -> None:
    case = oracle("bradley_terry_mle")
    strengths = bradley_terry(np.array(case["inputs"]["wins_row_beats_col"], dtype=float))
    assert strengths == pytest.approx(case["expected"]["log_strength"], rel=1e-6)
    rng = np.random.default_rng(0)
    true = rng.normal(0, 1, 8)
    xs, ys = (rng.integers(0, 8, 900) for _ in range(2))
    keep = xs != ys
    xs, ys = xs[keep], ys[keep]
    won = rng.random(xs.size) < 1 / (1 + np.exp(true[ys] - true[xs]))
    wins = np.zeros((8, 8))
    np.add.at(wins, (np.where(won, xs, ys), np.where(won, ys, xs)), 1)
    names, others = ([str(player) for player in side] for side in (xs, ys))
    winners = [evalica.Winner.X if one else evalica.Winner.Y for one in won]
    scores = evalica.bradley_terry(names, others, winners, tolerance=1e-12, limit=10_000).scores.sort_index()
    theirs = np.log(scores.to_numpy())
    assert bradley_terry(wins) == pytest.approx(theirs - theirs.mean(), abs=1e-5)


def test_strengths_that_do_not_exist_are_refused_and_a_pull_makes_them() -> None:
    always = np.array([[0.0, 3.0], [0.0, 0.0]])
    with pytest.raises(DataError, match="player 1 never beat player 0"):
        bradley_terry(always)
    assert bradley_terry(always, pull=0.5) == pytest.approx(-bradley_terry(always.T, pull=0.5))
    apart = np.zeros((4, 4))
    apart[0, 1] = apart[1, 0] = apart[2, 3] = apart[3, 2] = 1
    with pytest.raises(DataError, match="player 0 never beat player 2"):
        bradley_terry(apart)


def test_many_players_are_solved_without_a_matrix_and_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    first, second = rng.integers(0, 50, 600), rng.integers(50, 90, 600)
    won, ones = rng.random(600), np.ones((600, 1))
    matches = Matches(first, second, won, rng.random(600), ones, 90, pull=0.1)
    dense = fit(matches)
    assert DENSE > 91
    monkeypatch.setattr("palate.agreement.paired_logistic.DENSE", 0)
    assert fit(matches) == pytest.approx(dense, abs=1e-6)
    assert np.abs(matches.gradient(dense)).max() < 1e-4


@pytest.mark.parametrize("dense", [DENSE, 0])
def test_samples_that_are_fitted_together_are_as_if_each_were_fitted_alone(dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palate.agreement.refits.DENSE", dense)
    rng = np.random.default_rng(6)
    first = rng.integers(0, 4, 60)
    covariates = np.stack([np.ones(60), rng.normal(size=60)], axis=1)
    matches = Matches(first, (first + 1) % 5, first, first, covariates, 5, pull=0.1, offset=0.2)
    won, weight = rng.random((7, 60)), rng.integers(0, 3, (7, 60)).astype(float)
    alone = [fit(replace(matches, won=one, weight=votes)) for one, votes in zip(won, weight, strict=True)]
    assert fit_each(matches, won, weight) == pytest.approx(np.array(alone), abs=1e-6)
    monkeypatch.setattr("palate.agreement.refits._ROOM", 200)  # two at a time
    far = np.linspace(-3, 3, 7)  # whole steps from there are too long
    assert fit_each(matches, won, weight, far) == pytest.approx(np.array(alone), abs=1e-6)


def test_a_sample_without_a_maximum_leaves_the_others_theirs() -> None:
    matches = Matches(np.array([0, 1]), np.array([1, 0]), np.ones(2), np.ones(2), np.empty((2, 0)), 2, pull=1e-3)
    found = fit_each(matches, np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[1e60, 0.0], [2.0, 1.0]]))
    assert np.isnan(found[0]).all()
    assert found[1, 0] - found[1, 1] == pytest.approx(np.log(2), rel=1e-3)


def crowd_of(case: dict) -> tuple[CrowdVotes, np.ndarray, np.ndarray]:
    inputs = case["inputs"]
    players, raters = list(inputs["scores"]), list(inputs["eta"])
    rows = [(players.index(c["winner"]), players.index(c["loser"]), raters.index(c["worker"])) for c in inputs["comparisons"]]
    first, second, rater = np.array(rows).T
    votes = CrowdVotes(first, second, np.ones(len(rows)), rater, len(players), len(raters))
    return votes, np.array(list(inputs["scores"].values())), np.array(list(inputs["eta"].values()))


def test_crowd_bt_of_the_oracle(oracle) -> None:
    case = oracle("crowd_bt")
    votes, strength, reliability = crowd_of(case)
    expected = case["expected"]
    assert crowd_probability(votes, strength, reliability) == pytest.approx(expected["p"], rel=1e-6)
    assert crowd_log_likelihood(votes, strength, reliability) == pytest.approx(expected["log_likelihood"], rel=1e-6)
    assert crowd_honest(votes, strength, reliability)[0] == pytest.approx(expected["posterior_honest"], rel=1e-6)
    pull = Matches(votes.first[:0], votes.second[:0], strength[:0], strength[:0], np.empty((0, 0)), 3, case["inputs"]["lam"])
    total = crowd_log_likelihood(votes, strength, reliability) + pull.objective(strength)
    assert total == pytest.approx(expected["objective_max"], rel=1e-6)


def test_crowd_bt_climbs_and_turns_round_who_says_the_opposite() -> None:
    rng = np.random.default_rng(1)
    true, honest = np.linspace(-2, 2, 10), np.array([0.95] * 6 + [0.5] * 2 + [0.1] * 2)
    first, rater = rng.integers(0, 10, 3000), rng.integers(0, 10, 3000)
    second = (first + rng.integers(1, 10, 3000)) % 10
    said = rng.random(3000) < 1 / (1 + np.exp(true[second] - true[first]))
    won = np.where(rng.random(3000) < honest[rater], said, ~said).astype(float)
    found = crowd_bradley_terry(CrowdVotes(first, second, won, rater, 10, 10))
    assert np.diff(found.objective).min() > -1e-6
    assert found.reliability == pytest.approx(honest, abs=0.07)
    wins = np.zeros((10, 10))
    np.add.at(wins, (first, second), won)
    np.add.at(wins, (second, first), 1 - won)
    plain = bradley_terry(wins)
    assert np.abs(found.strength - true).mean() < 0.5 * np.abs(plain - true).mean()


def test_crowd_bt_stands_where_the_gradient_is_zero() -> None:
    rng = np.random.default_rng(2)
    first, second, rater = rng.integers(0, 5, 400), rng.integers(5, 9, 400), rng.integers(0, 4, 400)
    votes = CrowdVotes(first, second, (rng.random(400) < 0.7).astype(float), rater, 9, 4)
    found = crowd_bradley_terry(votes, pseudo=0.0, steps=3000, tolerance=1e-13)
    step = 1e-5
    for k in range(4):
        moved = found.reliability + step * (np.arange(4) == k), found.reliability - step * (np.arange(4) == k)
        up, down = (crowd_log_likelihood(votes, found.strength, np.clip(e, 1e-9, 1 - 1e-9)) for e in moved)
        if 0.01 < found.reliability[k] < 0.99:
            assert abs(up - down) / (2 * step) < 0.05
    with pytest.raises(DataError, match="start must lie in"):
        crowd_bradley_terry(votes, start=0.5)
