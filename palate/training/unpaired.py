"""Learning from single judged completions: as trees, with completions of other prompts for KTO's baseline."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from palate.core import Conversation, DataError, Preference, UnpairedPreference
from palate.data.formats import LabelledCompletionFormat, format_of_file, read_preferences
from palate.data.formats import read_unpaired as read_unpaired_rows
from palate.models.causal import CausalPolicy
from palate.objectives.direct import KTO, UnpairedLogps, UnpairedObjective
from palate.objectives.reduce import Sums
from palate.text.pack import Branch, PackedBatch, Tree, microbatches, pack
from palate.text.spans import answer_of, preference_tree
from palate.text.template import Unusable
from palate.training.comparisons import source_of
from palate.training.pairs import branch_sums
from palate.training.reference import Reference


@dataclass(frozen=True)
class RatedPrompt:
    """The judged completions of one prompt: branch numbers, whether they are wanted, and how much each judgment counts."""

    tree: Tree
    branch: tuple[int, ...]
    desirable: tuple[bool, ...]
    weight: tuple[float, ...]
    source: str = ""
    """Where its prompt was found."""


@dataclass(frozen=True)
class UnpairedBatch:
    """A micro-batch of trees; the tensors are (n,), one entry a judgment, branch numbers count over the batch."""

    trees: PackedBatch
    indices: tuple[int, ...]
    branch: Tensor
    desirable: Tensor
    weight: Tensor


@dataclass(frozen=True)
class UnpairedMicroBatch:
    """A micro-batch with its reference values (n, 1) and the step's baseline (0-d), nats."""

    batch: UnpairedBatch
    then: Tensor
    baseline: Tensor


def unpaired_of(preferences: Iterable[Preference]) -> list[UnpairedPreference]:
    """Two judgments a pair: up for the better side, down for the worse one; none of a tie.

    A pair that is p likely to be so weighs `|2p - 1|` of its weight: with equal weights for both kinds KTO's expected loss over
    which side is better is that, up to a constant.
    """
    thumbs = []
    for pair in preferences:
        weight = pair.weight * abs(2 * pair.probability - 1)
        if weight > 0:
            chosen_wins = pair.probability > 0.5
            thumbs.append(UnpairedPreference(pair.prompt, pair.chosen, chosen_wins, weight))
            thumbs.append(UnpairedPreference(pair.prompt, pair.rejected, not chosen_wins, weight))
    return thumbs


def read_unpaired(path: str | Path, limit: int | None = None) -> tuple[list[UnpairedPreference], list[str]]:
    """The judgments of a file of labelled rows or of preferences, and the reasons of the rows that could not be read."""
    if isinstance(format_of_file(path), LabelledCompletionFormat):
        labelled = read_unpaired_rows(path, limit=limit)
        return list(labelled.rows), [row.kind for row in labelled.dropped]
    pairs = read_preferences(path, limit=limit)
    return unpaired_of(pairs.rows), [row.kind for row in pairs.dropped]


def rated_prompts(
    thumbs: Sequence[UnpairedPreference], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[list[RatedPrompt], list[str]]:
    """Judgments grouped by prompt, each distinct completion one branch; and the reasons of those that could not be used."""
    groups: dict[Conversation, list[UnpairedPreference]] = defaultdict(list)
    for thumb in thumbs:
        groups[thumb.prompt.conversation].append(thumb)
    rated, reasons = [], []
    for group in groups.values():
        try:
            rated.append(_rated(group, tokenizer, max_tokens))
        except Unusable:  # one completion is enough to spoil a tree: the others get trees of their own
            for thumb in group:
                try:
                    rated.append(_rated([thumb], tokenizer, max_tokens))
                except Unusable as unusable:
                    reasons.append(unusable.kind)
    return rated, reasons


def _rated(group: Sequence[UnpairedPreference], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> RatedPrompt:
    said = [answer_of(thumb.completion) for thumb in group]
    answers = list(dict.fromkeys(said))
    tree = preference_tree(tokenizer, group[0].prompt.conversation, answers, max_tokens)
    branch = tuple(answers.index(answer) for answer in said)
    return RatedPrompt(
        tree, branch, tuple(thumb.desirable for thumb in group), tuple(thumb.weight for thumb in group), source_of(group[0].prompt)
    )


def mismatched(rated: Sequence[RatedPrompt], max_tokens: int, seed: int) -> list[RatedPrompt]:
    """Each prompt with a completion of another prompt behind it, drawn from the seed, cut where it would be too long.

    Completions that are also the prompt's own are passed over.

    Raises:
        DataError: there is no completion of another prompt.
    """
    rng = random.Random(seed)
    order = rng.sample(range(len(rated)), len(rated))
    borrowed = []
    for place, k in enumerate(order):
        own, trunk = {branch.ids for branch in rated[k].tree.branches}, rated[k].tree.trunk
        others = (rated[order[(place + step) % len(order)]].tree for step in range(1, len(order)))
        found = (branch for tree in others if tree.trunk != trunk for branch in tree.branches if branch.ids not in own)
        branch = next(found, None)
        if branch is None:
            raise DataError(
                "kto: its baseline is measured on completions of other prompts, and there is none (all data have one prompt, or "
                "every prompt the same completions); give judgments on several prompts, or take bco"
            )
        ids = branch.ids[: max(max_tokens - len(trunk), 1)]
        borrowed.append((k, RatedPrompt(Tree(trunk, (Branch(ids, (True,) * len(ids)),)), (0,), (False,), (1.0,))))
    return [one for _, one in sorted(borrowed, key=lambda pair: pair[0])]


class UnpairedSource:
    """Rated prompts as a `Source` of one column: the completion's log-probability."""

    columns = 1

    def __init__(self, rated: Sequence[RatedPrompt], tokens_per_microbatch: int) -> None:
        self._rated = rated
        self._tokens = tokens_per_microbatch
        self.rows = [len(one.branch) for one in rated]

    def batches(self, indices: list[int]) -> Iterator[UnpairedBatch]:
        """Micro-batches of these prompts, packed one after another."""
        parts = microbatches([self._rated[k].tree for k in indices], self._tokens)
        return (self._batch([indices[k] for k in part]) for part in parts)

    def _batch(self, indices: list[int]) -> UnpairedBatch:
        own = [self._rated[k] for k in indices]
        sizes = torch.tensor([len(one.tree.branches) for one in own])
        starts = torch.repeat_interleave(sizes.cumsum(0) - sizes, torch.tensor([len(one.branch) for one in own]))
        branch = torch.tensor([number for one in own for number in one.branch])
        desirable = torch.tensor([up for one in own for up in one.desirable])
        weight = torch.tensor([weight for one in own for weight in one.weight])
        return UnpairedBatch(pack([one.tree for one in own]), tuple(indices), starts + branch, desirable, weight)

    def measure(self, policy: CausalPolicy, batch: UnpairedBatch) -> Tensor:
        """Log-probability of each judged completion (n, 1), nats."""
        return branch_sums(policy.logps(batch.trees).logps, batch.trees)[batch.branch, None]


class UnpairedLossInputs:
    """Rated prompts and an objective on single completions."""

    def __init__(self, own: UnpairedSource, others: UnpairedSource | None, objective: UnpairedObjective, anchor: Reference) -> None:
        """`others` are the same prompts with completions of other ones; KTO needs them."""
        self.rows = own.rows
        self._own, self._others, self._objective = own, others, objective
        self._reference = anchor.values(own)
        self._reference_of_others = None if others is None else anchor.values(others)

    def parts(self, policy: CausalPolicy, indices: list[int]) -> list[UnpairedMicroBatch]:
        """The micro-batches of a step, with its baseline: that costs a pass over the others' completions (KTO) or its own (BCO)."""
        batches = list(self._own.batches(indices))
        then = [self._reference(batch) for batch in batches]
        baseline = self._baseline(policy, indices, batches, then)
        return [UnpairedMicroBatch(batch, values, baseline) for batch, values in zip(batches, then, strict=True)]

    def _baseline(self, policy: CausalPolicy, indices: list[int], batches: Sequence[UnpairedBatch], then: Sequence[Tensor]) -> Tensor:
        with torch.no_grad():
            if isinstance(self._objective, KTO):
                assert self._others is not None
                assert self._reference_of_others is not None
                others = self._others.batches(indices)
                return self._objective.baseline(
                    torch.cat([self._others.measure(policy, batch) - self._reference_of_others(batch) for batch in others])[:, 0]
                )
            gaps = torch.cat([self._own.measure(policy, batch) - values for batch, values in zip(batches, then, strict=True)])
            return self._objective.baseline(
                gaps[:, 0], torch.cat([batch.desirable for batch in batches]), torch.cat([batch.weight for batch in batches])
            )

    def now(self, policy: CausalPolicy, part: UnpairedMicroBatch) -> Tensor:
        """Log-probabilities (n, 1) of the part, with gradient."""
        return self._own.measure(policy, part.batch)

    def sums(self, part: UnpairedMicroBatch, now: Tensor) -> Sums:
        """The objective on the part."""
        then, batch = part.then[:, 0], part.batch
        return self._objective(UnpairedLogps(now[:, 0], then, batch.desirable, batch.weight, part.baseline.expand_as(then)))
