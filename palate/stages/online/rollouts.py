"""What goes through the loop: completions as they were sampled, then with what models said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from palate.core import Prompt
from palate.objectives.advantages import Episodes
from palate.objectives.kl import k1, k3
from palate.samplers.local import SampledTokens
from palate.text.pack import Branch, PackedBatch, Tree, microbatches, pack

T = TypeVar("T")


@dataclass(frozen=True)
class Rollouts:
    """What was sampled: a tree a prompt. n tokens of all completions in order, b completions.

    Attributes:
        prompts: one a tree.
        texts: one a completion.
        trees: prompts with their completions as branches.
        logps: (n,) nats under the policy that sampled, of the distribution truly sampled.
        ended: (b,) True where the completion ended by itself.
        age: optimizer rounds that the policy was behind the learner when it sampled; 0 but for asynchronous sampling.
    """

    prompts: tuple[Prompt, ...]
    texts: tuple[str, ...]
    trees: tuple[Tree, ...]
    logps: Tensor
    ended: Tensor
    age: int = 0

    @property
    def lengths(self) -> Tensor:
        """(b,) tokens of each completion."""
        return torch.tensor([len(branch.ids) for tree in self.trees for branch in tree.branches])

    @property
    def completion(self) -> Tensor:
        """(n,) number of the completion that each token belongs to."""
        return torch.repeat_interleave(torch.arange(len(self.ended)), self.lengths)

    @property
    def group(self) -> Tensor:
        """(b,) number of the tree that each completion belongs to."""
        return torch.repeat_interleave(torch.arange(len(self.trees)), torch.tensor([len(tree.branches) for tree in self.trees]))


@dataclass(frozen=True)
class Scored:
    """Rollouts with what models said of them.

    Attributes:
        rollouts: what was sampled.
        reference_logps: (n,) nats under the reference.
        scores: (b,) all parts of the reward together; NaN where scoring failed.
        rewards: (b,) what is learned from: the scores after shaping; NaN where nothing is to be learned.
        values: (n,) expected reward before each token; None without a value model.
        learner_logps: (n,) nats under the learner, where they are to take the place of the sampler's; else None.
    """

    rollouts: Rollouts
    reference_logps: Tensor
    scores: Tensor
    rewards: Tensor
    values: Tensor | None
    learner_logps: Tensor | None = None

    @property
    def kl(self) -> Tensor:
        """(b,) estimate of the KL to the reference: k1 summed over each completion, nats."""
        return self._summed(k1(self.rollouts.logps, self.reference_logps))

    @property
    def kl_k3(self) -> Tensor:
        """(b,) the same by k3, which is never negative."""
        return self._summed(k3(self.rollouts.logps, self.reference_logps))

    def episodes(self, penalties: Tensor) -> Episodes:
        """What rules of advantage take, with penalties (n,) of tokens in the reward."""
        return Episodes(self.rewards, penalties, self.rollouts.completion, self.rollouts.group, self.values)

    @property
    def flat(self) -> Tensor:
        """(trees,) True where the rewards of a prompt's completions are all the same, or missing: nothing can be told apart."""
        each = self.rewards.split([len(tree.branches) for tree in self.rollouts.trees])
        known = [rewards[~rewards.isnan()] for rewards in each]
        return torch.tensor([bool((rewards == rewards[:1]).all()) for rewards in known], dtype=torch.bool)

    def of(self, chosen: Sequence[int]) -> Scored:
        """The same of some trees, by number, in that order."""
        rollouts = self.rollouts
        tokens, completions = _Cut.tokens(rollouts.trees), _Cut.completions(rollouts.trees)
        cut = Rollouts(
            prompts=tuple(rollouts.prompts[k] for k in chosen),
            texts=tuple(text for k in chosen for text in completions.listed(rollouts.texts, k)),
            trees=tuple(rollouts.trees[k] for k in chosen),
            logps=tokens(rollouts.logps, chosen),
            ended=completions(rollouts.ended, chosen),
            age=rollouts.age,
        )
        return Scored(
            cut,
            tokens(self.reference_logps, chosen),
            completions(self.scores, chosen),
            completions(self.rewards, chosen),
            *(None if column is None else tokens(column, chosen) for column in (self.values, self.learner_logps)),
        )

    @staticmethod
    def joined(parts: Sequence[Scored]) -> Scored:
        """Several batches as one; the oldest gives its age."""
        every = [part.rollouts for part in parts]
        rollouts = Rollouts(
            prompts=tuple(prompt for one in every for prompt in one.prompts),
            texts=tuple(text for one in every for text in one.texts),
            trees=tuple(tree for one in every for tree in one.trees),
            logps=torch.cat([one.logps for one in every]),
            ended=torch.cat([one.ended for one in every]),
            age=max(one.age for one in every),
        )
        return Scored(
            rollouts,
            torch.cat([part.reference_logps for part in parts]),
            torch.cat([part.scores for part in parts]),
            torch.cat([part.rewards for part in parts]),
            *(_joined([getattr(part, name) for part in parts]) for name in ("values", "learner_logps")),
        )

    def _summed(self, tokens: Tensor) -> Tensor:
        return torch.zeros(len(self.rewards)).index_add(0, self.rollouts.completion, tokens)


def _joined(columns: Sequence[Tensor | None]) -> Tensor | None:
    """All columns as one; None where there are none."""
    known = [column for column in columns if column is not None]
    return torch.cat(known) if known else None


@dataclass(frozen=True)
class _Cut:
    """Columns of a batch cut at its trees."""

    sizes: tuple[int, ...]

    @staticmethod
    def tokens(trees: Sequence[Tree]) -> _Cut:
        return _Cut(tuple(sum(len(branch.ids) for branch in tree.branches) for tree in trees))

    @staticmethod
    def completions(trees: Sequence[Tree]) -> _Cut:
        return _Cut(tuple(len(tree.branches) for tree in trees))

    def __call__(self, column: Tensor, chosen: Sequence[int]) -> Tensor:
        pieces = column.split(list(self.sizes))
        return torch.cat([column[:0], *(pieces[k] for k in chosen)])

    def listed(self, items: Sequence[T], k: int) -> Sequence[T]:
        start = sum(self.sizes[:k])
        return items[start : start + self.sizes[k]]


def gather(
    prompts: Sequence[Prompt],
    trunks: Sequence[tuple[int, ...]],
    groups: Sequence[Sequence[SampledTokens]],
    texts: Sequence[str],
    age: int = 0,
) -> Rollouts:
    """Rollouts of the sampler's output."""
    trees = tuple(
        Tree(trunk, tuple(Branch(sample.ids, (True,) * len(sample.ids)) for sample in group))
        for trunk, group in zip(trunks, groups, strict=True)
    )
    samples = [sample for group in groups for sample in group]
    return Rollouts(
        prompts=tuple(prompts),
        texts=tuple(texts),
        trees=trees,
        logps=torch.tensor([logp for sample in samples for logp in sample.logps]),
        ended=torch.tensor([sample.stop == "eos" for sample in samples]),
        age=age,
    )


def over_trees(trees: Sequence[Tree], tokens: int, measure: Callable[[PackedBatch], Tensor]) -> Tensor:
    """(n,) what `measure` says of the tokens of all trees, in their order, without gradient; at most `tokens` tokens at once."""
    found: dict[int, Tensor] = {}
    cut = _Cut.tokens(trees)
    with torch.no_grad():
        for part in microbatches(trees, tokens):
            pieces = measure(pack([trees[k] for k in part])).split([cut.sizes[k] for k in part])
            found |= dict(zip(part, pieces, strict=True))
    return torch.cat([found[k] for k in range(len(trees))])


def token_columns(trees: Sequence[Tree], columns: Mapping[str, Tensor], chosen: Sequence[int]) -> dict[str, Tensor]:
    """Columns (n,) of all trees, cut to the tokens of some of them, in their order."""
    cut = _Cut.tokens(trees)
    return {name: cut(column, chosen) for name, column in columns.items()}
