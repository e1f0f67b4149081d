"""Credit of online training against values worked out by hand, and minibatches that keep tokens with their trees."""

import pytest
import torch

from palate.core import Message, Prompt
from palate.engines.local import Sample
from palate.recipes import rollouts as roll

PROMPT = Prompt("p", (Message("text", "x"),))


def sample(logps: tuple[float, ...], stop: str = "end") -> Sample:
    return Sample(tuple(range(10, 10 + len(logps))), logps, stop)  # type: ignore[arg-type]


def rollouts(*groups: tuple[tuple[float, ...], ...]) -> roll.Rollouts:
    """One tree a group; of each completion the log-probabilities of its tokens."""
    texts = [f"text {k}" for k in range(sum(map(len, groups)))]
    trunks = [(k, 2) for k in range(len(groups))]
    return roll.gather([PROMPT] * len(groups), trunks, [[sample(logps) for logps in group] for group in groups], texts)


def scored(made: roll.Rollouts, reference: list[float], rewards: list[float], values: list[float] | None = None) -> roll.Scored:
    told = torch.zeros(len(reference)) if values is None else torch.tensor(values)
    found = torch.tensor(rewards)
    return roll.Scored(made, torch.tensor(reference), found[:, None], found, told)


# Two completions of one prompt: two tokens and one.
TWO = rollouts(((-1.0, -2.0), (-1.0,)))


def test_gathered_rollouts_know_their_tokens() -> None:
    groups = [[sample((-1.0, -2.0)), sample((-3.0,), "length")], [sample((-4.0,)), sample((-5.0, -6.0, -7.0))]]
    made = roll.gather([PROMPT, PROMPT], [(1,), (1, 2)], groups, ["a", "b", "c", "d"])
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


def test_credit_by_values_places_the_kl_on_tokens_and_the_score_at_the_end() -> None:
    # Rewards of tokens: -0.5 * (0.5, -1) with the score 2 on the last, and -0.5 * 2 - 1. With gamma = lam = 1 a token's
    # return is all that comes from it on, whatever the values; advantages (1.25, 0.5, -1) have mean 0.25, variance 0.875.
    credited = roll.credit_by_values(scored(TWO, [-1.5, -1.0, -3.0], [2.0, -1.0], [1.0, 2.0, -1.0]), kl_coef=0.5, gamma=1.0, lam=1.0)
    assert credited.returns.tolist() == pytest.approx([2.25, 2.5, -2.0])
    deviation = 0.875**0.5
    assert credited.advantages.tolist() == pytest.approx([1 / deviation, 0.25 / deviation, -1.25 / deviation], rel=1e-5)


def test_credit_by_values_with_decay() -> None:
    # Without KL: rewards (0, 2) and (-1); values (1, 2), (-1): deltas 0 + 0.9 * 2 - 1 = 0.8 and 2 - 2 = 0; -1 + 1 = 0.
    credited = roll.credit_by_values(scored(TWO, [-1.5, -1.0, -3.0], [2.0, -1.0], [1.0, 2.0, -1.0]), kl_coef=0.0, gamma=0.9, lam=0.5)
    assert credited.returns.tolist() == pytest.approx([1.8, 2.0, -1.0])
    # Another score at the end moves its own completion alone, and every token of it.
    other = roll.credit_by_values(scored(TWO, [-1.5, -1.0, -3.0], [4.0, -1.0], [1.0, 2.0, -1.0]), kl_coef=0.0, gamma=0.9, lam=0.5)
    assert other.returns.tolist() == pytest.approx([1.8 + 0.9 * 0.5 * 2, 4.0, -1.0])


def test_credit_by_siblings_leaves_one_out() -> None:
    made = rollouts(((-1.0, -1.0), (-2.0,), (-1.0,)), ((-1.0,), (-1.0,), (-3.0, -1.0)))
    reference = [-1.0, -2.0, -2.0, -1.0, -1.0, -1.0, -3.0, -1.0]
    credited = roll.credit_by_siblings(scored(made, reference, [3.0, 1.0, 2.0, 5.0, 5.0, 5.0]), kl_coef=0.5)
    # Rewards less 0.5 KL: 3 - 0.5 = 2.5, 1, 2; and 5, 5, 5. Each less the mean of the other two, the same on all its tokens.
    assert credited.advantages.tolist() == pytest.approx([1.0, 1.0, 1.0 - 2.25, 2.0 - 1.75, 0.0, 0.0, 0.0, 0.0])
    assert credited.returns.tolist() == [0.0] * 8


def test_no_gradient_enters_the_credit() -> None:
    reference = torch.tensor([-1.5, -1.0, -3.0], requires_grad=True)
    rewards = torch.tensor([2.0, -1.0], requires_grad=True)
    given = roll.Scored(TWO, reference, rewards[:, None], rewards, torch.zeros(3, requires_grad=True))
    credited = roll.credit_by_values(given, 0.5, 1.0, 0.95)
    assert not credited.advantages.requires_grad
    assert not credited.returns.requires_grad


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_minibatches_keep_tokens_with_their_trees(count: int) -> None:
    groups = [tuple(tuple(-float(100 * t + 10 * c + n) for n in range(1 + (t + c) % 3)) for c in range(2)) for t in range(5)]
    made = rollouts(*groups)
    given = scored(made, (made.logps - 1).tolist(), [0.0] * 10, (made.logps - 2).tolist())
    credited = roll.Credited(given, made.logps - 3, made.logps - 4)
    trees = []
    for batch in roll.minibatches(credited, [3, 0, 4, 1, 2], count):
        for part in (batch, *roll.micro(batch, [[k] for k in reversed(range(len(batch.trees)))])):
            numbers = [made.trees.index(tree) for tree in part.trees]
            expected = [logp for number in numbers for completion in groups[number] for logp in completion]
            assert part.logps.tolist() == expected
            for column, distance in ((part.values, 2), (part.advantages, 3), (part.returns, 4)):
                assert column.tolist() == [logp - distance for logp in expected]
        trees += list(batch.trees)
    assert sorted(map(made.trees.index, trees)) == [0, 1, 2, 3, 4]
