"""What goes through the loop: prompts with sampled completions (`Rollouts`), then with what models give for them (`Scored`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from palate.core import Completion, Prompt
from palate.distributed.sharing import microbatches, shared
from palate.objectives.advantages import Episodes, RewardParts
from palate.objectives.kl import k1, k3
from palate.text.pack import Branch, PackedBatch, Tree, pack


@dataclass(frozen=True)
class Rollouts:
    """Prompts with sampled completions. There are b completions with n tokens in all, in the order of `groups`.

    Attributes:
        prompts: the prompts.
        trunks: the token ids of each prompt.
        groups: the completions of each prompt, with their token ids and the log-probabilities under the policy that sampled.
        age: iterations by which the sampling policy was behind the learner; above 0 only with asynchronous sampling.
    """

    prompts: tuple[Prompt, ...]
    trunks: tuple[tuple[int, ...], ...]
    groups: tuple[tuple[Completion, ...], ...]
    age: int = 0

    @cached_property
    def completions(self) -> tuple[Completion, ...]:
        """The completions of all prompts; b of them."""
        return tuple(completion for group in self.groups for completion in group)

    @cached_property
    def trees(self) -> tuple[Tree, ...]:
        """One tree per prompt, with its completions as branches that are learned whole."""
        return tuple(
            Tree(trunk, tuple(Branch(completion.ids, (True,) * len(completion.ids)) for completion in group))
            for trunk, group in zip(self.trunks, self.groups, strict=True)
        )

    @cached_property
    def logps(self) -> Tensor:
        """(n,) log-probabilities under the distribution that was sampled, nats."""
        return torch.tensor([logp for completion in self.completions for logp in completion.logps])

    @property
    def ended(self) -> Tensor:
        """(b,) True where the completion has its end token."""
        return torch.tensor([completion.stop == "eos" for completion in self.completions])

    @property
    def lengths(self) -> Tensor:
        """(b,) tokens of each completion."""
        return torch.tensor([len(completion.ids) for completion in self.completions])

    @property
    def completion(self) -> Tensor:
        """(n,) number of the completion that each token belongs to."""
        return torch.repeat_interleave(torch.arange(len(self.completions)), self.lengths)

    @property
    def group(self) -> Tensor:
        """(b,) number of the prompt that each completion belongs to."""
        return torch.repeat_interleave(torch.arange(len(self.groups)), torch.tensor([len(group) for group in self.groups]))


@dataclass(frozen=True)
class Scored:
    """Rollouts with what reward, reference and value model give for them.

    Attributes:
        rollouts: what was sampled.
        reference_logps: (n,) log-probabilities under the reference, nats.
        scores: (b,) all parts of the reward together; NaN where scoring failed.
        rewards: (b,) what is learned from: the scores after shaping; NaN where nothing is to be learned.
        values: (n,) expected reward before each token; None without a value model.
        learner_logps: (n,) log-probabilities under the learner, nats, where they replace the sampler's; else None.
        parts: what each part of the reward adds to the score of each completion.
    """

    rollouts: Rollouts
    reference_logps: Tensor
    scores: Tensor
    rewards: Tensor
    values: Tensor | None
    learner_logps: Tensor | None = None
    parts: RewardParts | None = None

    @property
    def kl(self) -> Tensor:
        """(b,) estimate of the KL to the reference: k1 summed over each completion, nats."""
        return self._summed(k1(self.rollouts.logps, self.reference_logps))

    @property
    def kl_k3(self) -> Tensor:
        """(b,) the same estimate by k3, which is never negative."""
        return self._summed(k3(self.rollouts.logps, self.reference_logps))

    def episodes(self, penalties: Tensor) -> Episodes:
        """Return the input of an advantage, with penalties (n,) of tokens in the reward."""
        return Episodes(self.rewards, penalties, self.rollouts.completion, self.rollouts.group, self.values, self.parts)

    @property
    def flat(self) -> Tensor:
        """(prompts,) True where the rewards of a prompt's completions are all equal, or missing: there is nothing to compare."""
        rewards_of_groups = self.rewards.split([len(group) for group in self.rollouts.groups])
        known = [rewards[~rewards.isnan()] for rewards in rewards_of_groups]
        return torch.tensor([bool((rewards == rewards[:1]).all()) for rewards in known], dtype=torch.bool)

    def without_flat(self) -> Scored:
        """Return the rollouts of the prompts whose completions can be compared."""
        return self.of((~self.flat).nonzero()[:, 0].tolist())

    def of(self, chosen: Sequence[int]) -> Scored:
        """Return the rollouts of some prompts, by number, in that order."""
        rollouts = self.rollouts
        tokens, completions = _token_counts(rollouts.trees), [len(group) for group in rollouts.groups]
        return Scored(
            Rollouts(
                prompts=tuple(rollouts.prompts[k] for k in chosen),
                trunks=tuple(rollouts.trunks[k] for k in chosen),
                groups=tuple(rollouts.groups[k] for k in chosen),
                age=rollouts.age,
            ),
            _pieces(self.reference_logps, tokens, chosen),
            _pieces(self.scores, completions, chosen),
            _pieces(self.rewards, completions, chosen),
            None if self.values is None else _pieces(self.values, tokens, chosen),
            None if self.learner_logps is None else _pieces(self.learner_logps, tokens, chosen),
            self._parts_of(completions, chosen),
        )

    def _parts_of(self, sizes: Sequence[int], chosen: Sequence[int]) -> RewardParts | None:
        if self.parts is None:
            return None
        pieces = self.parts.split(sizes)
        return RewardParts.joined([self.parts.split([0, len(self.scores)])[0], *(pieces[k] for k in chosen)])

    @staticmethod
    def joined(parts: Sequence[Scored]) -> Scored:
        """Return several batches as one; its age is that of the oldest."""
        batches = [part.rollouts for part in parts]
        return Scored(
            Rollouts(
                prompts=tuple(prompt for rollouts in batches for prompt in rollouts.prompts),
                trunks=tuple(trunk for rollouts in batches for trunk in rollouts.trunks),
                groups=tuple(group for rollouts in batches for group in rollouts.groups),
                age=max(rollouts.age for rollouts in batches),
            ),
            torch.cat([part.reference_logps for part in parts]),
            torch.cat([part.scores for part in parts]),
            torch.cat([part.rewards for part in parts]),
            _joined([part.values for part in parts]),
            _joined([part.learner_logps for part in parts]),
            RewardParts.joined(known) if (known := [part.parts for part in parts if part.parts is not None]) else None,
        )

    def _summed(self, tokens: Tensor) -> Tensor:
        return torch.zeros(len(self.rewards)).index_add(0, self.rollouts.completion, tokens)


def over_trees(trees: Sequence[Tree], tokens: int, measure: Callable[[PackedBatch], Tensor]) -> Tensor:
    """Return what `measure` gives for the tokens of all trees (n,), in their order, without gradient; `tokens` is the most per pass."""
    counts = _token_counts(trees)
    pieces: dict[int, Tensor] = {}
    parts = microbatches(trees, tokens)
    with torch.no_grad():
        for part, measured in zip(parts, shared(parts, lambda part: measure(pack([trees[k] for k in part], tokens))), strict=True):
            pieces |= dict(zip(part, measured.split([counts[k] for k in part]), strict=True))
    return torch.cat([pieces[k] for k in range(len(trees))])


def token_columns(trees: Sequence[Tree], columns: Mapping[str, Tensor], chosen: Sequence[int]) -> dict[str, Tensor]:
    """Return the columns (n,) of all trees, cut to the tokens of some trees, in the order of `chosen`."""
    counts = _token_counts(trees)
    return {name: _pieces(column, counts, chosen) for name, column in columns.items()}


def _token_counts(trees: Sequence[Tree]) -> list[int]:
    """Return the number of branch tokens of each tree."""
    return [sum(len(branch.ids) for branch in tree.branches) for tree in trees]


def _pieces(column: Tensor, sizes: list[int], chosen: Sequence[int]) -> Tensor:
    """Return the chosen pieces of a column that is cut into `sizes`, joined."""
    pieces = column.split(sizes)
    return torch.cat([column[:0], *(pieces[k] for k in chosen)])


def _joined(columns: Sequence[Tensor | None]) -> Tensor | None:
    """Return all columns as one; None where there are none."""
    known = [column for column in columns if column is not None]
    return torch.cat(known) if known else None
