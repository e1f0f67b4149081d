"""The six verbs of online training: prompt, sample, score, credit, learn, record. Each step of a batch is a new type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from palate.core import Prompt
from palate.engines.local import Sample
from palate.objectives.advantages import GAE, Episodes, LeaveOneOut
from palate.objectives.kl import KLPenalty, k1, k3
from palate.text.pack import Branch, Tree


@dataclass(frozen=True)
class Rollouts:
    """What was sampled: a tree a prompt. n tokens of all completions in order, b completions.

    Attributes:
        prompts: one a tree.
        texts: one a completion.
        trees: prompts with their completions as branches.
        logps: (n,) nats under the policy that sampled, of the distribution truly sampled.
        completion: (n,) number of the completion that each token belongs to.
        ended: (b,) True where the completion ended by itself.
    """

    prompts: tuple[Prompt, ...]
    texts: tuple[str, ...]
    trees: tuple[Tree, ...]
    logps: Tensor
    completion: Tensor
    ended: Tensor

    @property
    def lengths(self) -> Tensor:
        """(b,) tokens of each completion."""
        return torch.bincount(self.completion, minlength=len(self.ended))

    @property
    def group(self) -> Tensor:
        """(b,) number of each completion's tree."""
        return torch.repeat_interleave(torch.arange(len(self.trees)), torch.tensor([len(tree.branches) for tree in self.trees]))


@dataclass(frozen=True)
class Scored:
    """Rollouts with what models said of them.

    Attributes:
        rollouts: what was sampled.
        reference_logps: (n,) nats under the reference.
        scores: (b, h) normalised, by head; their sum is the score.
        rewards: (b,) the score, less what a missing end costs.
        values: (n,) expected reward before each token; zeros without a value model.
    """

    rollouts: Rollouts
    reference_logps: Tensor
    scores: Tensor
    rewards: Tensor
    values: Tensor

    @property
    def kl(self) -> Tensor:
        """(b,) estimate of the KL to the reference: k1 summed over each completion, nats."""
        return self._summed(k1(self.rollouts.logps, self.reference_logps))

    @property
    def kl_k3(self) -> Tensor:
        """(b,) the same by k3, which is never negative."""
        return self._summed(k3(self.rollouts.logps, self.reference_logps))

    def episodes(self, kl_coef: float) -> Episodes:
        """What the rules of advantage take: with `kl_coef` reward units a nat of KL (k1) in the reward."""
        penalties = KLPenalty().in_reward(self.rollouts.logps, self.reference_logps, kl_coef)
        return Episodes(self.rewards, penalties, self.rollouts.completion, self.rollouts.group, self.values)

    def _summed(self, tokens: Tensor) -> Tensor:
        return torch.zeros(len(self.rewards)).index_add(0, self.rollouts.completion, tokens)


@dataclass(frozen=True)
class Credited:
    """Scored rollouts with what each token is credited with: advantages (whitened where the rule says so) and returns, (n,)."""

    scored: Scored
    advantages: Tensor
    returns: Tensor


@dataclass(frozen=True)
class Minibatch:
    """Trees to learn from at once with their tokens' tensors, all (n,)."""

    trees: tuple[Tree, ...]
    logps: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor

    @property
    def completion(self) -> Tensor:
        """(n,) number of each token's completion in this minibatch."""
        lengths = torch.tensor([len(branch.ids) for tree in self.trees for branch in tree.branches])
        return torch.repeat_interleave(torch.arange(len(lengths)), lengths)


def gather(
    prompts: Sequence[Prompt], trunks: Sequence[tuple[int, ...]], groups: Sequence[Sequence[Sample]], texts: Sequence[str]
) -> Rollouts:
    """Rollouts of the sampler's output."""
    trees = tuple(
        Tree(trunk, tuple(Branch(sample.ids, (True,) * len(sample.ids)) for sample in group))
        for trunk, group in zip(trunks, groups, strict=True)
    )
    samples = [sample for group in groups for sample in group]
    lengths = torch.tensor([len(sample.ids) for sample in samples])
    return Rollouts(
        prompts=tuple(prompts),
        texts=tuple(texts),
        trees=trees,
        logps=torch.tensor([logp for sample in samples for logp in sample.logps]),
        completion=torch.repeat_interleave(torch.arange(len(samples)), lengths),
        ended=torch.tensor([sample.stop == "end" for sample in samples]),
    )


def credit_by_values(scored: Scored, kl_coef: float, gamma: float, lam: float) -> Credited:
    """PPO's credit: KL in the reward of every token, generalised advantages against the values, whitened over the batch."""
    credit = GAE(gamma=gamma, lam=lam)(scored.episodes(kl_coef))
    assert credit.returns is not None
    return Credited(scored, credit.advantages, credit.returns)


def credit_by_siblings(scored: Scored, kl_coef: float) -> Credited:
    """RLOO's credit: a completion's reward less its KL, minus the mean of the prompt's other completions; the same for all its tokens."""
    credit = LeaveOneOut()(scored.episodes(kl_coef))
    return Credited(scored, credit.advantages, torch.zeros_like(credit.advantages))


def minibatches(credited: Credited, order: Sequence[int], count: int) -> list[Minibatch]:
    """The batch's trees in `order`, cut into `count` parts."""
    rollouts = credited.scored.rollouts
    columns = (rollouts.logps, credited.scored.values, credited.advantages, credited.returns)
    return _parts(rollouts.trees, columns, [order[k::count] for k in range(count)])


def micro(batch: Minibatch, parts: Sequence[Sequence[int]]) -> list[Minibatch]:
    """The minibatch cut into micro-batches of trees."""
    return _parts(batch.trees, (batch.logps, batch.values, batch.advantages, batch.returns), parts)


def _parts(trees: Sequence[Tree], columns: Sequence[Tensor], parts: Sequence[Sequence[int]]) -> list[Minibatch]:
    """A minibatch for each part (numbers of trees), its columns cut from those of all trees."""
    sizes = [sum(len(branch.ids) for branch in tree.branches) for tree in trees]
    pieces = [column.split(sizes) for column in columns]
    return [Minibatch(tuple(trees[k] for k in part), *(torch.cat([piece[k] for k in part]) for piece in pieces)) for part in parts if part]
