"""Rollouts: what is summed over completions, and batches cut and joined with every column in its place."""

from dataclasses import replace

import pytest
import torch

from palate.core import Completion, Message, Prompt, StopReason
from palate.objectives.advantages import RewardParts
from palate.stages.online import rollouts as roll
from palate.stages.online.score_metrics import written_metrics

PROMPT = Prompt("p", (Message("text", "x"),))


def sample(text: str, logps: tuple[float, ...], stop: StopReason = "eos") -> Completion:
    return Completion(text, tuple(range(10, 10 + len(logps))), logps, stop)


def rollouts(*groups: tuple[tuple[float, ...], ...]) -> roll.Rollouts:
    """One tree a group; of each completion the log-probabilities of its tokens."""
    texts = map("text {}".format, range(sum(map(len, groups))))
    trunks = tuple((k, 2) for k in range(len(groups)))
    completions = tuple(tuple(sample(next(texts), logps) for logps in group) for group in groups)
    return roll.Rollouts((PROMPT,) * len(groups), trunks, completions)


def scored(made: roll.Rollouts, reference: list[float], rewards: list[float], values: list[float] | None = None) -> roll.Scored:
    found = torch.tensor(rewards)
    return roll.Scored(made, torch.tensor(reference), found + 10, found, None if values is None else torch.tensor(values))


# Two completions of one prompt: two tokens and one.
TWO = rollouts(((-1.0, -2.0), (-1.0,)))


def test_rollouts_know_their_tokens() -> None:
    first = (sample("a", (-1.0, -2.0)), sample("b", (-3.0,), "length"))
    second = (sample("c", (-4.0,)), sample("d", (-5.0, -6.0, -7.0)))
    made = roll.Rollouts((PROMPT, PROMPT), ((1,), (1, 2)), (first, second))
    assert made.logps.tolist() == [-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0]
    assert made.completion.tolist() == [0, 0, 1, 2, 3, 3, 3]
    assert made.lengths.tolist() == [2, 1, 1, 3]
    assert made.ended.tolist() == [True, False, True, True]
    assert [[branch.ids for branch in tree.branches] for tree in made.trees] == [[(10, 11), (10,)], [(10,), (10, 11, 12)]]
    assert all(all(branch.learned) for tree in made.trees for branch in tree.branches)


def test_kl_is_summed_over_each_completion() -> None:
    found = scored(TWO, [-1.5, -1.0, -3.0], [2.0, -1.0])
    assert found.kl.tolist() == pytest.approx([0.5 - 1.0, 2.0])
    # k3: exp(-k1) - 1 + k1 of each token
    k3 = [2.718281828459045**-x - 1 + x for x in (0.5, -1.0, 2.0)]
    assert found.kl_k3.tolist() == pytest.approx([k3[0] + k3[1], k3[2]], rel=1e-6)


def test_prompts_whose_rewards_are_alike_are_flat() -> None:
    made = rollouts(*[((-1.0,), (-1.0,), (-1.0,))] * 4)
    nan = float("nan")
    rewards = [1.0, 1.0, 1.0, 1.0, 1.0, 2.0, nan, 3.0, 3.0, nan, 3.0, 4.0]
    assert scored(made, [0.0] * 12, rewards).flat.tolist() == [True, False, True, False]


def test_batches_are_cut_and_joined_with_every_column_in_its_place() -> None:
    groups = [tuple(tuple(-float(100 * t + 10 * c + n) for n in range(1 + (t + c) % 3)) for c in range(2)) for t in range(5)]
    made = rollouts(*groups)
    given = scored(made, (made.logps - 1).tolist(), [float(k) for k in range(10)], (made.logps - 2).tolist())
    parts = RewardParts(torch.arange(20.0).view(10, 2), torch.ones(10, 2))
    given = replace(given, parts=parts)
    cut = given.of([3, 0])
    assert cut.parts is not None
    assert cut.parts.added.tolist() == [[12, 13], [14, 15], [0, 1], [2, 3]]
    joined = roll.Scored.joined([cut, given.of([1])])
    assert joined.parts is not None
    assert joined.parts.added[:, 0].tolist() == [12, 14, 0, 2, 4, 6]
    assert given.of([]).parts is not None
    expected = [logp for t in (3, 0) for completion in groups[t] for logp in completion]
    assert cut.rollouts.logps.tolist() == expected
    assert cut.reference_logps.tolist() == [logp - 1 for logp in expected]
    assert cut.values is not None
    assert cut.values.tolist() == [logp - 2 for logp in expected]
    assert cut.rewards.tolist() == [6, 7, 0, 1]
    assert cut.scores.tolist() == [16, 17, 10, 11]
    assert [completion.text for completion in cut.rollouts.completions] == ["text 6", "text 7", "text 0", "text 1"]
    whole = roll.Scored.joined([given.of([0, 1]), given.of([2, 3, 4])])
    assert whole.rollouts.trees == made.trees
    assert whole.rollouts.groups == made.groups
    for name in ("reference_logps", "rewards", "scores", "values"):
        assert torch.equal(getattr(whole, name), getattr(given, name))
    assert torch.equal(whole.rollouts.completion, made.completion)
    assert whole.rollouts.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_refusals_are_counted_over_all_completions() -> None:
    first = (sample("sorry , i can not help with that", (-1.0,)), sample("the rice boils for 12 minutes", (-1.0,)))
    second = (sample("no", (-1.0,)), sample("i can not help with that", (-1.0,)))
    assert written_metrics(roll.Rollouts((PROMPT, PROMPT), ((1,), (2,)), (first, second)))["refusals/share"] == 0.5
