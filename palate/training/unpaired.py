"""Learning from unpaired preferences: single judged completions as trees, with completions of other prompts for KTO's baseline."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from palate.core import Conversation, DataError, Preference, Prompt, UnpairedPreference
from palate.data.formats import RECOGNISED, ColumnTypes, LabelledCompletionFormat, Table, format_of_file, read_preferences
from palate.data.formats import read_unpaired as read_unpaired_rows
from palate.distributed.sharing import microbatches, shared
from palate.models.causal import CausalPolicy
from palate.objectives.direct import KTO, UnpairedLogps, UnpairedObjective
from palate.objectives.reduce import Sums
from palate.text.pack import Branch, PackedBatch, Tree, pack
from palate.text.remarks import answer_remarks
from palate.text.spans import answer_of, preference_tree
from palate.text.template import Unusable
from palate.training.comparisons import source_of
from palate.training.pairs import branch_sums
from palate.training.reference import Reference
from palate.training.source_losses import taken, with_sources


@dataclass(frozen=True)
class RatedPrompt:
    """The judged completions of one prompt: branch numbers, whether each is desirable, and the weight of each judgment."""

    tree: Tree
    branch: tuple[int, ...]
    desirable: tuple[bool, ...]
    weight: tuple[float, ...]
    prompt: Prompt
    """The prompt, as its first judgment has it."""
    remarks: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """File and row of the prompt, or its id."""
        return source_of(self.prompt)

    @property
    def source_name(self) -> str:
        """The name of the source that the prompt is from, the first where several have it."""
        return self.prompt.source_name


@dataclass(frozen=True)
class UnpairedBatch:
    """A micro-batch of trees; the tensors are (n,), one entry per judgment, and branch numbers count over the batch."""

    trees: PackedBatch
    indices: tuple[int, ...]
    branch: Tensor
    desirable: Tensor
    weight: Tensor


@dataclass(frozen=True)
class UnpairedMicroBatch:
    """A micro-batch with its values under the reference (n, 1) and the step's baseline (0-d), in nats."""

    batch: UnpairedBatch
    reference_logps: Tensor
    baseline: Tensor


def unpaired_of(preferences: Iterable[Preference]) -> list[UnpairedPreference]:
    """Return two unpaired preferences per pair: the better side is desirable, the worse one is not. A tie gives none.

    A pair that holds with probability p has `|2p - 1|` of its weight. With equal weights for both kinds, this equals KTO's expected loss
    over which side is better, up to a constant.
    """
    unpaired = []
    for pair in preferences:
        weight = pair.weight * abs(2 * pair.probability - 1)
        if weight > 0:
            chosen_wins = pair.probability > 0.5
            unpaired.append(UnpairedPreference(pair.prompt, pair.chosen, chosen_wins, weight))
            unpaired.append(UnpairedPreference(pair.prompt, pair.rejected, not chosen_wins, weight))
    return unpaired


def read_unpaired(path: str | Path, *, limit: int | None = None, columns: ColumnTypes = RECOGNISED) -> Table[UnpairedPreference]:
    """Read unpaired preferences from a file of labelled rows or of pairs."""
    if isinstance(format_of_file(path, columns), LabelledCompletionFormat):
        return read_unpaired_rows(path, limit=limit, columns=columns)
    pairs = read_preferences(path, limit=limit, columns=columns)
    return Table(unpaired_of(pairs.rows), pairs.dropped, pairs.further)


def rated_prompts(
    preferences: Sequence[UnpairedPreference], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[list[RatedPrompt], list[str]]:
    """Group unpaired preferences by prompt, with a branch per distinct completion; also return the reasons of unusable ones."""
    groups: dict[Conversation, list[UnpairedPreference]] = defaultdict(list)
    for preference in preferences:
        groups[preference.prompt.conversation].append(preference)
    rated, reasons = [], []
    for group in groups.values():
        try:
            rated.append(_rated(group, tokenizer, max_tokens))
        except Unusable:  # one completion can make a tree unusable, so each gets its own tree
            for preference in group:
                try:
                    rated.append(_rated([preference], tokenizer, max_tokens))
                except Unusable as unusable:
                    reasons.append(unusable.kind)
    return rated, reasons


def _rated(group: Sequence[UnpairedPreference], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> RatedPrompt:
    judged = [answer_of(preference.completion) for preference in group]
    answers = list(dict.fromkeys(judged))
    tree = preference_tree(tokenizer, group[0].prompt.conversation, answers, max_tokens)
    branch = tuple(answers.index(answer) for answer in judged)
    return RatedPrompt(
        tree,
        branch,
        tuple(preference.desirable for preference in group),
        tuple(preference.weight for preference in group),
        group[0].prompt,
        answer_remarks(tokenizer, group[0].prompt.conversation, answers),
    )


def mismatched(rated: Sequence[RatedPrompt], max_tokens: int, seed: int) -> list[RatedPrompt]:
    """Return each prompt with a completion of another prompt, drawn from the seed and cut where it would be too long.

    Completions that the prompt itself has are skipped.

    Raises:
        DataError: there is no completion of another prompt.
    """
    rng = random.Random(seed)
    order = rng.sample(range(len(rated)), len(rated))
    borrowed = []
    for position, k in enumerate(order):
        own, trunk = {branch.ids for branch in rated[k].tree.branches}, rated[k].tree.trunk
        others = (rated[order[(position + step) % len(order)]].tree for step in range(1, len(order)))
        candidates = (branch for tree in others if tree.trunk != trunk for branch in tree.branches if branch.ids not in own)
        branch = next(candidates, None)
        if branch is None:
            raise DataError(
                "kto: its baseline needs completions of other prompts, and there are none, because all data have one prompt or "
                "every prompt has the same completions. Give judgments on several prompts, or use bco"
            )
        ids = branch.ids[: max(max_tokens - len(trunk), 1)]
        borrowed.append((k, RatedPrompt(Tree(trunk, (Branch(ids, (True,) * len(ids)),)), (0,), (False,), (1.0,), rated[k].prompt)))
    return [prompt for _, prompt in sorted(borrowed, key=lambda pair: pair[0])]


class UnpairedSource:
    """Rated prompts as `ReferencedExamples` with one column: the completion's log-probability."""

    columns = 1

    def __init__(self, rated: Sequence[RatedPrompt], tokens_per_microbatch: int) -> None:
        self._rated = rated
        self._tokens = tokens_per_microbatch
        self.rows = [len(prompt.branch) for prompt in rated]

    def batches(self, indices: list[int]) -> Iterator[UnpairedBatch]:
        """Return the micro-batches of these prompts, which are packed one after another."""
        parts = microbatches([self._rated[k].tree for k in indices], self._tokens)
        return (self._batch([indices[k] for k in part]) for part in parts)

    def _batch(self, indices: list[int]) -> UnpairedBatch:
        prompts = [self._rated[k] for k in indices]
        sizes = torch.tensor([len(prompt.tree.branches) for prompt in prompts])
        starts = torch.repeat_interleave(sizes.cumsum(0) - sizes, torch.tensor([len(prompt.branch) for prompt in prompts]))
        branch = torch.tensor([number for prompt in prompts for number in prompt.branch])
        desirable = torch.tensor([is_desirable for prompt in prompts for is_desirable in prompt.desirable])
        weight = torch.tensor([weight for prompt in prompts for weight in prompt.weight])
        return UnpairedBatch(pack([prompt.tree for prompt in prompts], self._tokens), tuple(indices), starts + branch, desirable, weight)

    def measure(self, policy: CausalPolicy, batch: UnpairedBatch) -> Tensor:
        """Return the log-probability of each judged completion (n, 1), in nats."""
        return branch_sums(policy.logps(batch.trees).logps, batch.trees)[batch.branch, None]


class UnpairedLossInputs:
    """Rated prompts and an objective on single completions."""

    def __init__(self, own: UnpairedSource, others: UnpairedSource | None, objective: UnpairedObjective, reference: Reference) -> None:
        """`others` are the same prompts with completions of other prompts; KTO needs them."""
        self.rows = own.rows
        self._own, self._others, self._objective = own, others, objective
        self._reference = reference.values(own)
        self._reference_of_others = None if others is None else reference.values(others)

    def microbatches(self, policy: CausalPolicy, indices: list[int]) -> list[UnpairedMicroBatch]:
        """Return the micro-batches of a step with its baseline, which costs a pass over `others` (KTO) or over the step (BCO)."""
        batches = list(self._own.batches(indices))
        reference_logps = shared(batches, self._reference)
        baseline = self._baseline(policy, indices, batches, reference_logps)
        return [UnpairedMicroBatch(batch, values, baseline) for batch, values in zip(batches, reference_logps, strict=True)]

    def _baseline(
        self, policy: CausalPolicy, indices: list[int], batches: Sequence[UnpairedBatch], reference_logps: Sequence[Tensor]
    ) -> Tensor:
        with torch.no_grad():
            if isinstance(self._objective, KTO):
                others, reference_of_others = self._others, self._reference_of_others
                assert others is not None
                assert reference_of_others is not None
                log_ratios = shared(others.batches(indices), lambda batch: others.measure(policy, batch) - reference_of_others(batch))
                return self._objective.baseline(torch.cat(log_ratios)[:, 0])
            logps = shared(batches, lambda batch: self._own.measure(policy, batch))
            gaps = torch.cat([own - values for own, values in zip(logps, reference_logps, strict=True)])
            return self._objective.baseline(
                gaps[:, 0], torch.cat([batch.desirable for batch in batches]), torch.cat([batch.weight for batch in batches])
            )

    def logps(self, policy: CausalPolicy, part: UnpairedMicroBatch) -> Tensor:
        """Return the log-probabilities (n, 1) of a micro-batch under the policy, with gradient."""
        return self._own.measure(policy, part.batch)

    def sums(self, part: UnpairedMicroBatch, logps: Tensor) -> Sums:
        """Return the objective on a micro-batch."""
        reference_logps, batch = part.reference_logps[:, 0], part.batch
        baseline = part.baseline.expand_as(reference_logps)
        judged = UnpairedLogps(logps[:, 0], reference_logps, batch.desirable, batch.weight, baseline)
        return with_sources(self._objective(judged), batch.trees, batch.branch, lambda rows: self._objective(taken(judged, rows)))
