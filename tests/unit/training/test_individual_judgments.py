"""What reward objectives learn from: single judgments with their raters, rankings with ties, and the batches made of them."""

import math

import pytest
import torch

from palate.core import Completion, ConfigError, DataError, Message, Preference, Prompt
from palate.data.splits import shuffled
from palate.evaluation.reward_model import normalisation_of
from palate.models.scalar import scalar_from
from palate.objectives.bradley_terry import AllPairs, BradleyTerry
from palate.objectives.crowd import CrowdBT
from palate.objectives.rankings import PickBest, PlackettLuce
from palate.objectives.reduce import Totals
from palate.objectives.reward_objectives import RewardObjective
from palate.objectives.ties import RaoKupper
from palate.testing import tiny_policy, word_tokenizer
from palate.text.pack import Branch, Tree
from palate.training.comparisons import BranchPair, JudgedPrompt, judged_prompts
from palate.training.individual_judgments import MAX_ORDERS, Ranking, rankings_of, raters_of, single_judgments
from palate.training.reward_batches import RankingBatch, RewardBatches


def preference(question: str, chosen: str, rejected: str, dimension: str = "overall", **votes: float) -> Preference:
    """A preference with the votes of raters by name."""
    prompt = Prompt(question, (Message("text", question),), {"votes": 17}, f"file:{question}")
    return Preference(prompt, Completion(chosen), Completion(rejected), 0.75, dimension=dimension, votes=tuple(votes.items()))


def judged(*given: Preference) -> list[JudgedPrompt]:
    found, reasons = judged_prompts(given, word_tokenizer(), 100)
    assert reasons == []
    return found


def compared(*pairs: tuple[int, int, float], branches: int = 4, weight: float = 1.0) -> JudgedPrompt:
    """A prompt with pairs (chosen, rejected, probability)."""
    tree = Tree((5,), tuple(Branch((k + 6,), (True,)) for k in range(branches)))
    return JudgedPrompt(tree, tuple(BranchPair(a, b, p, 0.0, weight, "overall") for a, b, p in pairs), ())


def everyone(*tiers: tuple[int, ...]) -> JudgedPrompt:
    """All pairs of a ranking, each written with the worse side first as often as not."""
    place = {branch: k for k, tier in enumerate(tiers) for branch in tier}
    pairs = [
        (a, b, 0.5 if place[a] == place[b] else float(place[a] < place[b]))
        for a in place
        for b in place
        if (a < b) == ((a + b) % 2 == 0) and a != b
    ]
    return compared(*pairs)


VOTED = {"ann": 1.0, "bob": 0.0, "cat": 0.5}


def test_a_preference_is_taken_apart_into_its_votes() -> None:
    (one,) = single_judgments(judged(preference("the cook", " has rice", " has beans", **VOTED)), {})
    assert [(pair.probability, pair.rater, pair.weight) for pair in one.pairs] == [(1.0, "ann", 1.0), (0.0, "bob", 1.0), (0.5, "cat", 1.0)]
    assert {(pair.chosen, pair.rejected) for pair in one.pairs} == {(0, 1)}
    assert len(one.preferences) == 3
    assert raters_of([one]) == {"ann": 1, "bob": 1, "cat": 1}


def test_raters_are_weighed_and_left_out() -> None:
    given = judged(preference("the cook", " has rice", " has beans", **VOTED), preference("two guests", " please", " no", bob=0.75))
    found = single_judgments(given, {"bob": 0.0, "cat": 2.5})
    assert [(pair.rater, pair.weight) for one in found for pair in one.pairs] == [("ann", 1.0), ("cat", 2.5)]


def test_rows_without_votes_are_one_judgment() -> None:
    (found,) = single_judgments(judged(preference("the guests", " make salt", " today")), {})
    assert [(pair.probability, pair.rater) for pair in found.pairs] == [(0.75, "")]


def test_shuffled_preferences_have_shuffled_votes() -> None:
    given = [preference("the cook", " has rice", " has beans", ann=1.0)] * 40
    sides = {(p.chosen.text, p.rejected.text) for p in shuffled(given, 0)}
    assert len(sides) == 2  # a vote stays with the side called chosen, whichever that is now


@pytest.mark.parametrize("tiers", [((2,), (0,), (3,), (1,)), ((1, 3), (0,), (2,)), ((0,), (1, 2, 3)), ((0, 1, 2, 3),), ((1, 2), (0, 3))])
def test_consistent_judgments_give_exactly_their_ranking(tiers: tuple[tuple[int, ...], ...]) -> None:
    assert rankings_of(everyone(*tiers)) == [Ranking(tiers, "overall", 1.0)]


def test_two_completions_are_ranked_by_their_pair() -> None:
    assert [one.tiers for one in rankings_of(compared((1, 0, 0.6)))] == [((1,), (0,))]
    assert [one.tiers for one in rankings_of(compared((1, 0, 0.4)))] == [((0,), (1,))]
    assert [one.tiers for one in rankings_of(compared((1, 0, 0.5)))] == [((0, 1),)]


def test_a_circle_is_a_tie_and_doubt_decides_it() -> None:
    assert [one.tiers for one in rankings_of(compared((0, 1, 0.8), (1, 2, 0.8), (2, 0, 0.8)))] == [((0, 1, 2),)]
    assert [one.tiers for one in rankings_of(compared((0, 1, 0.8), (1, 2, 0.8), (2, 0, 0.6)))] == [((0,), (1,), (2,))]


def test_several_judgments_of_a_pair_are_their_weighted_share() -> None:
    one = compared((0, 1, 1.0), (1, 0, 1.0), (1, 0, 1.0))
    assert rankings_of(one) == [Ranking(((1,), (0,)), "overall", 3.0)]


def test_a_ranking_is_not_made_up_from_some_of_the_pairs() -> None:
    assert rankings_of(compared((0, 1, 1.0), (1, 2, 1.0))) == []
    lessons = RewardBatches.of(PlackettLuce(), [compared((0, 1, 1.0), (1, 2, 1.0)), compared((0, 1, 1.0))], {})
    assert len(lessons.judged) == 1
    assert lessons.unused == ["not every two completions of the prompt were compared"]
    assert len(RewardBatches.of(AllPairs(), [compared((0, 1, 1.0), (1, 2, 1.0))], {}).judged) == 1


def test_each_dimension_has_its_ranking() -> None:
    (one,) = judged(
        preference("the cook", " has rice", " has beans", "helpful"), preference("the cook", " has beans", " has rice", "honest"),
        preference("the cook", " no", " has rice", "honest"),
    )  # fmt: skip
    assert [(ranking.tiers, ranking.dimension) for ranking in rankings_of(one)] == [(((0,), (1,)), "helpful")]


def test_orders_of_a_ranking_with_ties() -> None:
    assert Ranking(((2,), (0, 1)), "overall", 1.0).orders() == [(2, 0, 1), (2, 1, 0)]
    assert len(Ranking(((0, 1, 2, 3),), "overall", 1.0).orders()) == MAX_ORDERS
    many = Ranking(((0, 1, 2, 3, 4), (5, 6)), "overall", 1.0)
    assert len(many.orders()) == MAX_ORDERS
    assert many.orders() == many.orders()
    assert {order[5:] for order in many.orders()} == {(5, 6), (6, 5)}
    assert all(sorted(order) == list(range(7)) for order in many.orders())


GIVEN = [
    preference("the cook", " has rice", " has beans and salt", "honest", ann=1.0, bob=0.5),
    preference("the guests", " make salt", " today", cat=1.0),
    preference("the cook", " today", " has rice", ann=0.0),
    preference("the cook", " no", " has rice", bob=1.0),
    preference("the cook", " today", " no", bob=0.5),
    preference("two guests", " please", " no", ann=1.0, bob=1.0, cat=0.0),
]
OBJECTIVES: list[RewardObjective] = [
    BradleyTerry(),
    AllPairs(),
    PlackettLuce(),
    PickBest(),
    RaoKupper(),
    CrowdBT(held=0.0, regularisation=0.1),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.kind)
def test_any_micro_batches_give_the_same_sums(objective: RewardObjective) -> None:
    heads = ("overall", "honest")
    model = scalar_from(tiny_policy(), heads, seed=0)
    lessons = RewardBatches.of(objective, judged(*GIVEN), {})
    found = []
    for tokens in (1, 14, 1000):
        learned = lessons.learned(0.01)
        loss, totals, total = lessons.loss(model, learned, lambda: 1.0), Totals(), torch.zeros(())
        parts = list(lessons.batches(heads, tokens)([2, 0, 1]))
        for part in parts:
            sums = loss(part)
            totals.add(sums)
            total = total + sums.loss
        gradients = torch.autograd.grad(total, [model.module.score.weight] + ([] if learned is None else [learned.raw]))
        found.append((len(parts), totals.means(), gradients))
    assert found[0][0] == 3
    assert found[-1][0] == 1
    for _, means, gradients in found[:-1]:
        assert means == pytest.approx(found[-1][1], rel=1e-5)
        for one, other in zip(gradients, found[-1][2], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=5e-6)


def test_judgments_keep_their_raters_and_questions_in_any_batch() -> None:
    lessons = RewardBatches.of(CrowdBT(), judged(*GIVEN), {})
    assert lessons.raters == {"ann": 3, "bob": 4, "cat": 2}
    tokenizer, names, seen = word_tokenizer(), list(lessons.raters), []
    for batch in lessons.batches(("overall", "honest"), 14)([2, 1, 0]):
        assert not isinstance(batch, RankingBatch)
        branches = [branch for tree in batch.pairs.trees.trees for branch in tree.branches]
        rows = zip(
            batch.pairs.chosen.tolist(), batch.pairs.probability.tolist(), batch.rater.tolist(), batch.question.tolist(), strict=True
        )
        seen += [(tokenizer.decode(branches[k].ids, skip_special_tokens=True), label, names[rater], of) for k, label, rater, of in rows]
    wanted = [(0, 1), (1, 0), (0, 0), (0, 0), (0, 0), (2, 0)]  # prompt and head of each preference
    assert sorted(seen) == sorted(
        (one.chosen.text, vote, rater, 2 * prompt + head)
        for one, (prompt, head) in zip(GIVEN, wanted, strict=True)
        for rater, vote in one.votes
    )


def test_a_tied_ranking_is_the_mean_over_its_orders() -> None:
    model = scalar_from(tiny_policy(), ("overall",), seed=0)
    tied = [preference("the cook", " today", " no", a=0.5)]
    (one,) = single_judgments(judged(*tied), {})
    values = []
    for objective in (PlackettLuce(), PickBest(), BradleyTerry()):
        lessons = RewardBatches.of(objective, [one], {})
        (batch,) = lessons.batches(("overall",), 1000)([0])
        sums = lessons.loss(model, None, lambda: 0.0)(batch)
        assert float(sums.count) == 1.0  # however many orders it has
        values.append(sums.mean().item())
    assert values == pytest.approx([values[2]] * 3, rel=1e-5)
    assert values[0] > math.log(2)


def test_reliabilities_stand_still_while_they_are_held() -> None:
    model = scalar_from(tiny_policy(), ("overall", "honest"), seed=0)
    lessons = RewardBatches.of(CrowdBT(held=0.25), judged(*GIVEN), {})
    learned = lessons.learned(0.01)
    assert learned is not None
    (batch,) = lessons.batches(("overall", "honest"), 1000)([0, 1, 2])
    for done, moves in ((0.24, False), (0.25, True)):
        learned.raw.grad = None
        lessons.loss(model, learned, lambda done=done: done)(batch).loss.backward()  # type: ignore[misc]
        assert (learned.raw.grad is not None) == moves


def test_every_completion_is_pulled_once_a_dimension_and_every_rater_moves() -> None:
    model = scalar_from(tiny_policy(), ("overall", "honest"), seed=0)
    found = []
    for regularisation in (0.0, 1.0):
        lessons = RewardBatches.of(CrowdBT(held=0.0, regularisation=regularisation), judged(*GIVEN), {})
        learned = lessons.learned(0.01)
        assert learned is not None
        (batch,) = lessons.batches(("overall", "honest"), 1000)([0, 1, 2])
        assert not isinstance(batch, RankingBatch)
        loss = lessons.loss(model, learned, lambda: 1.0)(batch).loss
        found.append(loss.item())
        assert torch.autograd.grad(loss, learned.raw)[0].ne(0).all()
        scores = model.scores(batch.pairs.trees)
    # The first prompt's three overall and two honest ones; two of each other prompt.
    cells = {(k, head) for side in (batch.pairs.chosen, batch.pairs.rejected)
             for k, head in zip(side.tolist(), batch.pairs.dimension.tolist(), strict=True)}  # fmt: skip
    assert len(cells) == 5 + 2 + 2
    pull = torch.stack([scores[k, head] for k, head in cells])
    expected = (torch.nn.functional.softplus(pull) + torch.nn.functional.softplus(-pull)).sum().item()
    assert found[1] - found[0] == pytest.approx(expected, rel=1e-5)


def test_raters_that_are_not_there_are_errors() -> None:
    with pytest.raises(ConfigError, match="nobody called 'anne' judged anything. Did you mean 'ann'"):
        RewardBatches.of(BradleyTerry(), judged(*GIVEN), {"anne": 0.5})
    with pytest.raises(DataError, match="crowd_bt needs to know who judged, and 1 of 10 judgments name no rater"):
        RewardBatches.of(CrowdBT(), judged(*GIVEN, preference("the guests", " today", " no")), {})


def test_reward_normalisation_gain_bias() -> None:
    # Ziegler et al. 2019, independent values; the same for the sum of two heads.
    scores, gain, bias = [0.3, 1.1, -0.4, 2.0, 0.0], 1.1688114555, -0.7012868733
    raw = torch.tensor(scores, dtype=torch.float64)[:, None]
    found, spread = normalisation_of(raw)
    assert found.gain == pytest.approx((gain,), rel=1e-9)
    assert found.bias == pytest.approx((bias,), rel=1e-9)
    assert spread == pytest.approx(1 / gain, rel=1e-9)
    two, _ = normalisation_of(torch.cat([raw / 4, raw * 3 / 4], 1))
    assert two.gain == pytest.approx((gain, gain), rel=1e-9)
    assert sum(two.bias) == pytest.approx(bias, rel=1e-9)
    assert normalisation_of(torch.ones(3, 1))[0].gain == (1.0,)
