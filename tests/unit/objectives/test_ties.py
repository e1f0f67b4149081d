"""Rao-Kupper and Davidson: the independent values, probabilities that add up, and recovery of planted widths of ties."""

from __future__ import annotations

import math

import pytest
import torch

from palate.core import ConfigError
from palate.objectives.bradley_terry import BradleyTerry
from palate.objectives.reward_objectives import LearnedNumbers
from palate.objectives.ties import Davidson, RaoKupper, TiePairs
from palate.training.learner import Learner
from palate.training.optimizer import AdamW
from tests.support.pairs import metric, pair_scores

BOTH = [RaoKupper(), Davidson()]


def probabilities(objective, difference, tie):
    """Return the probabilities of a win, a tie and a loss of the first."""
    actual = []
    for label in (1.0, 0.5, 0.0):
        pairs = pair_scores(torch.tensor([difference]), [0.0], probability=[label])
        actual.append(objective(TiePairs(pairs, torch.tensor([tie]))).loss.neg().exp().item())
    return actual


@pytest.mark.parametrize(("case", "objective", "name"), [("rao_kupper_ties", RaoKupper, "theta"), ("davidson_ties", Davidson, "nu")])
def test_oracle(case, objective, name, oracle, matches):
    case = oracle(case)
    given = case["inputs"][name]
    start = objective(start=math.log(given) if name == "theta" else given)
    actual = probabilities(start, case["inputs"]["d"], start.raw_start)

    matches(actual, [case["expected"][key] for key in ("p_win", "p_tie", "p_loss")])
    matches([-math.log(p) for p in actual], case["expected"]["nll_win_tie_loss"])


@pytest.mark.parametrize("objective", BOTH)
@pytest.mark.parametrize("difference", [-3.0, 0.0, 0.7, 40.0])
def test_the_three_add_up_to_one(objective, difference, matches):
    for tie in (-8.0, -1.0, 0.4, 3.0):
        matches(sum(probabilities(objective, difference, tie)), 1.0)


@pytest.mark.parametrize("objective", BOTH)
def test_the_start_is_what_it_says(objective, matches):
    for start in (0.01, 0.5, 3.0):
        started = type(objective)(start=start)
        matches(started.natural(torch.tensor([started.raw_start])), [start])


@pytest.mark.parametrize("objective", BOTH)
def test_without_ties_it_is_bradley_terry(objective):
    pairs = pair_scores([2.0, 0.5], [1.0, 1.0], probability=[1.0, 0.3])
    sums = objective(TiePairs(pairs, torch.tensor([-40.0])))

    torch.testing.assert_close(sums.loss, BradleyTerry()(pairs).loss, rtol=1e-8, atol=0)


@pytest.mark.parametrize("objective", BOTH)
def test_gradients_are_those_of_the_formula_and_finite_far_out(objective):
    def loss(chosen, tie):
        return objective(TiePairs(pair_scores(chosen, [0.0] * 4, probability=[1.0, 0.5, 0.0, 0.3]), tie)).loss

    scores, tie = torch.tensor([0.8, -0.4, 2.0, 0.1], requires_grad=True), torch.tensor([0.2], requires_grad=True)
    assert torch.autograd.gradcheck(loss, (scores, tie))
    far = torch.tensor([-1e4, 1e4, 1e4, -1e4], requires_grad=True)
    for actual in torch.autograd.grad(loss(far, tie), (far, tie)):
        assert bool(actual.isfinite().all())


@pytest.mark.parametrize("objective", BOTH)
def test_a_tie_pulls_scores_together_and_widens(objective):
    scores, tie = torch.tensor([1.0], requires_grad=True), torch.tensor([0.0], requires_grad=True)
    objective(TiePairs(pair_scores(scores, [0.0], probability=[0.5]), tie)).loss.backward()
    assert scores.grad.item() > 0
    assert tie.grad.item() < 0
    sums = objective(TiePairs(pair_scores([1.0, 0.0], [0.0, 0.0], probability=[0.5, 1.0], weight=[1.0, 3.0]), tie.detach()))
    assert float(metric(sums, "ties")) == 0.25


@pytest.mark.parametrize(("objective", "planted"), [(RaoKupper(start=0.1), 0.6), (Davidson(start=0.1), 0.9)])
def test_a_planted_width_is_found_by_the_learner(objective, planted):
    """2,000 judgments of differences of three features that are -1, 0 or 1; the width starts far away and has its own learning rate."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randint(-1, 2, (2000, 3), generator=generator).to(torch.float64)
    true = torch.tensor([1.0, -0.5, 0.25])
    started = type(objective)(start=planted)
    differences, which = (features @ true).unique(return_inverse=True)
    chances = torch.tensor([probabilities(started, d, started.raw_start) for d in differences.tolist()])[which]
    labels = torch.tensor([1.0, 0.5, 0.0])[torch.multinomial(chances, 1, generator=generator)[:, 0]]
    net, width = torch.nn.Linear(3, 1, bias=False), LearnedNumbers(objective.raw_start, 1, objective.lr / 0.02)
    torch.nn.init.zeros_(net.weight)
    learner = Learner({"net": net, "objective": width}, AdamW(lr=0.02), 150)

    def loss(rows):
        pairs = pair_scores(net(features[rows])[:, 0], torch.zeros(len(rows)), probability=labels[rows].tolist())
        return objective(TiePairs(pairs, width()))

    for _ in range(150):
        metrics = learner.step(torch.arange(2000).split(500), loss)
    actual = objective.natural(width().detach()).item()
    assert actual == pytest.approx(planted, abs=0.12)  # its standard error is some 0.03 to 0.05
    assert metrics["tie_probability/mean"] == pytest.approx(metrics["ties/mean"], abs=0.01)
    torch.testing.assert_close(net.weight[0].detach(), true, rtol=0, atol=0.15)


def test_one_number_of_ties_is_needed():
    with pytest.raises(ValueError, match="one parameter of ties"):
        TiePairs(pair_scores([1.0], [0.0]), torch.zeros(2))


@pytest.mark.parametrize("kind", [RaoKupper, Davidson])
@pytest.mark.parametrize("setting", [{"start": 0.0}, {"lr": 0.0}, {"start": math.nan}])
def test_settings_are_checked(kind, setting):
    with pytest.raises(ConfigError, match=f"{next(iter(setting))} must be > 0"):
        kind(**setting)
