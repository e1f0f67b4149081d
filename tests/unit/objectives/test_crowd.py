"""Crowd-BT: the independent values, and a pool of simulated raters whose reliabilities it learns: honest, careless and contrary ones."""

from __future__ import annotations

import math
import random

import pytest
import torch

from palate.core import Comparison, Completion, ConfigError, Message, Prompt
from palate.objectives.bradley_terry import BradleyTerry
from palate.objectives.crowd import CrowdBT, CrowdPairs, honesty
from palate.objectives.reward_objectives import LearnedNumbers
from palate.raters.simulated import RaterPool, SimulatedRater
from palate.training.learner import Learner
from palate.training.optimizer import AdamW
from tests.support.pairs import metric, pair_scores

FEATURES = 6
SHARPNESS = 2.0
STEPS = 100


def test_crowd_bt(oracle, matches):
    case = oracle("crowd_bt")
    given, expected = case["inputs"], case["expected"]
    names, workers = list(given["scores"]), list(given["eta"])
    scores = torch.tensor(list(given["scores"].values()), requires_grad=True)
    eta = torch.tensor(list(given["eta"].values()), requires_grad=True)
    sides = torch.tensor([[names.index(row[side]) for side in ("winner", "loser")] for row in given["comparisons"]])
    reliability = (eta / (1 - eta)).log()[[workers.index(row["worker"]) for row in given["comparisons"]]]
    winners, losers = scores[sides].T

    likelihood = CrowdBT(regularisation=0.0)(CrowdPairs(pair_scores(winners, losers), reliability, scores))
    each = [
        CrowdBT(regularisation=0.0)(CrowdPairs(pair_scores(winners[k : k + 1], losers[k : k + 1]), reliability[k : k + 1], scores)).loss
        for k in range(6)
    ]
    matches([math.exp(-loss.item()) for loss in each], expected["p"])
    matches(-likelihood.loss.detach(), expected["log_likelihood"])
    whole = CrowdBT(regularisation=given["lam"])(CrowdPairs(pair_scores(winners, losers), reliability, scores))
    matches(-whole.loss.detach(), expected["objective_max"])
    matches(((likelihood.loss - whole.loss) / given["lam"]).detach(), expected["reg"])
    matches(honesty((winners - losers).detach(), torch.ones(6), reliability.detach()), expected["posterior_honest"])
    matches(metric(whole, "honest"), sum(expected["posterior_honest"]) / 6)
    (actual,) = torch.autograd.grad(-likelihood.loss, eta, retain_graph=True)
    matches(actual, list(expected["grad_eta"].values()))
    (actual,) = torch.autograd.grad(-whole.loss, scores)
    matches(actual, list(expected["grad_s"].values()))


def crowd(difference, reliability, probability=1.0):
    pairs = pair_scores(torch.tensor([difference]), [0.0], probability=[probability])
    return CrowdBT(regularisation=0.0)(CrowdPairs(pairs, torch.tensor([reliability]), torch.zeros(0))).loss


@pytest.mark.parametrize("probability", [1.0, 0.0, 0.5])
def test_reliability_one_is_bradley_terry_one_half_is_deaf_and_below_turns_round(probability, matches):
    plain = BradleyTerry()(pair_scores([0.7], [0.0], probability=[probability])).loss.item()
    matches(crowd(0.7, 60.0, probability), plain)
    matches(crowd(0.7, 0.0, probability), math.log(2))
    matches(crowd(0.7, -2.0, probability), crowd(-0.7, 2.0, probability).item())
    matches(crowd(1e4, 2.0), -math.log(torch.tensor(2.0).sigmoid().item()))  # no judgment costs more than its rater's word


def test_christiano_is_one_reliability_for_all(matches):
    matches(crowd(0.7, math.log(0.95 / 0.05)), BradleyTerry(random=0.1)(pair_scores([0.7], [0.0])).loss.item())


def test_gradients_are_those_of_the_formula_and_finite_far_out():
    def loss(chosen, reliability):
        pairs = pair_scores(chosen, [0.0] * 4, probability=[1.0, 0.0, 0.5, 1.0])
        return CrowdBT(regularisation=0.3)(CrowdPairs(pairs, reliability, chosen)).loss

    reliability = torch.tensor([2.0, -1.0, 0.0, 50.0], requires_grad=True)
    assert torch.autograd.gradcheck(loss, (torch.tensor([0.8, -0.4, 2.0, 0.1], requires_grad=True), reliability))
    far = torch.tensor([-1e4, 1e4, 1e4, -1e4], requires_grad=True)
    for actual in torch.autograd.grad(loss(far, reliability), (far, reliability)):
        assert bool(actual.isfinite().all())


def rater_pool(bad: str | None) -> list[SimulatedRater]:
    """Return twelve raters who read the worth in a text; every third is careless (tosses a coin) or contrary."""
    settings = {"side_bias": 0.0, "length_bias": 0.0, "indifference": 0.0, "spread": 0.0}
    members = {
        None: RaterPool(reliability=0.9, sharpness=SHARPNESS, **settings),
        "careless": RaterPool(reliability=0.0, sharpness=SHARPNESS, **settings),
        "contrary": RaterPool(reliability=0.9, sharpness=-SHARPNESS, **settings),
    }
    return [SimulatedRater(f"r{k}", members[bad if k % 3 == 0 else None], lambda _, text: {"worth": float(text)}, 0) for k in range(12)]


def planted(rater: SimulatedRater) -> float:
    """Return how often this rater is right: of what they do not look at, half is right by chance."""
    says = (1 + rater._trait("reliability", rater.pool.reliability)) / 2
    return says if rater.pool.sharpness > 0 else 1 - says


def judgments(raters, count, seed):
    """Return features (n, f), who judged which two of them, and the answers; worth is a fixed direction of the features."""
    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    true = torch.randn(FEATURES, generator=generator)
    features = torch.randn(2 * count, FEATURES, generator=generator)
    prompt, worth = Prompt("p", (Message("user", "?"),)), (features @ true).tolist()
    who, labels = [], []
    for k in range(count):
        number, order = rng.randrange(len(raters)), rng.choice(((0, 1), (1, 0)))
        comparison = Comparison(f"{seed}/{k}", prompt, (Completion(repr(worth[2 * k])), Completion(repr(worth[2 * k + 1]))))
        answer = raters[number].judge(comparison, "worth", order, seed)
        who.append(number)
        labels.append(float(answer.order[answer.ranking[0][0]] == 0))
    return features, torch.tensor(who), labels, true


def learned(objective, features, who, labels, raters):
    """Return the learned direction and the reliabilities."""
    torch.manual_seed(0)
    net, numbers = torch.nn.Linear(FEATURES, 1, bias=False), LearnedNumbers(CrowdBT().raw_start, raters, 5.0)
    learner = Learner({"net": net, "objective": numbers}, AdamW(lr=0.03), STEPS)
    given = torch.tensor(labels)

    def loss(rows):
        scores = net(features)[:, 0].view(-1, 2)[rows]
        pairs = pair_scores(scores[:, 0], scores[:, 1], probability=given[rows].tolist())
        if isinstance(objective, BradleyTerry):
            return objective(pairs)
        reliability = numbers().detach() if learner.steps_done < objective.held * STEPS else numbers()
        return objective(CrowdPairs(pairs, reliability[who[rows]], scores.flatten()))

    for _ in range(STEPS):
        learner.step(torch.arange(len(labels)).split(len(labels) // 2), loss)
    return net.weight[0].detach(), CrowdBT().natural(numbers().detach())


@pytest.mark.parametrize("bad", ["careless", "contrary"])
def test_reliabilities_of_a_simulated_crew_are_found(bad):
    raters = rater_pool(bad)
    features, who, labels, true = judgments(raters, 3600, seed=1)
    actual, reliability = learned(CrowdBT(), features, who, labels, len(raters))
    gaps = [abs(value - planted(rater)) for value, rater in zip(reliability.tolist(), raters, strict=True)]
    assert max(gaps) < 0.15  # some 300 judgments each: standard errors of 0.02 to 0.05
    assert sum(gaps) / len(gaps) < 0.05
    torch.testing.assert_close(actual, SHARPNESS * true, rtol=0, atol=0.4)  # in the raters' own logits


@pytest.mark.parametrize(("bad", "gain"), [("careless", 0.01), ("contrary", 0.05)])
def test_where_a_third_is_careless_or_contrary_it_beats_bradley_terry(bad, gain):
    """Share of unseen pairs that the learned direction puts in their true order, over four worlds with 300 judgments each.

    In the fourth, reliabilities that move from the first step turn everything round.
    """
    raters, gains = rater_pool(bad), []
    for seed in range(4):
        features, who, labels, true = judgments(raters, 300, seed)
        unseen = torch.randn(2000, FEATURES, generator=torch.Generator().manual_seed(100 + seed))
        right = [
            float(((unseen @ learned(objective, features, who, labels, len(raters))[0]).sign() == (unseen @ true).sign()).double().mean())
            for objective in (CrowdBT(), BradleyTerry())
        ]
        gains.append(right[0] - right[1])
    assert sum(gains) / len(gains) > gain


@pytest.mark.parametrize("setting", [{"start": 0.5}, {"start": 1.0}, {"lr": 0.0}, {"held": 1.0}, {"regularisation": -1.0}])
def test_settings_are_checked(setting):
    with pytest.raises(ConfigError, match=f"{next(iter(setting))} must"):
        CrowdBT(**setting)
