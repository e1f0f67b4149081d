"""Preferences as token trees: the completions of a prompt are the branches of a tree, and pairs refer to branches."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from palate.core import Conversation, DataError, Preference, Prompt
from palate.distributed.sharing import microbatches
from palate.text.pack import PackedBatch, Tree, pack
from palate.text.remarks import answer_remarks
from palate.text.spans import answer_of, preference_tree
from palate.text.template import Unusable


@dataclass(frozen=True)
class BranchPair:
    """A preference inside a tree: branch numbers of both sides, and the conclusion; `rater` is set for a single judgment."""

    chosen: int
    rejected: int
    probability: float
    margin: float
    weight: float
    dimension: str
    rater: str = ""


@dataclass(frozen=True)
class JudgedPrompt:
    """The preferences about the completions of one prompt, as a tree with pairs."""

    tree: Tree
    pairs: tuple[BranchPair, ...]
    preferences: tuple[Preference, ...]
    remarks: tuple[str, ...] = ()

    @property
    def prompt(self) -> Prompt:
        """The prompt, as the first preference has it."""
        return self.preferences[0].prompt

    @property
    def source(self) -> str:
        """File and row of the prompt, or its id."""
        return source_of(self.prompt)

    @property
    def source_name(self) -> str:
        """The name of the source that the prompt is from, the first where several have it."""
        return self.prompt.source_name


@dataclass(frozen=True)
class PairBatch:
    """A micro-batch of trees with their pairs as tensors (p,); branch numbers count over the batch."""

    trees: PackedBatch
    indices: tuple[int, ...]
    chosen: Tensor
    rejected: Tensor
    probability: Tensor
    margin: Tensor
    weight: Tensor
    dimension: Tensor


def source_of(prompt: Prompt) -> str:
    """Return file and row of a prompt, or its id where they are unknown."""
    return prompt.source or prompt.id


def judged_prompts(
    preferences: Sequence[Preference], tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[list[JudgedPrompt], list[str]]:
    """Group preferences by prompt, with a branch per distinct completion; also return the reasons of unusable ones.

    Raises:
        DataError: no preference can be used.
    """
    groups: dict[Conversation, list[Preference]] = defaultdict(list)
    for preference in preferences:
        groups[preference.prompt.conversation].append(preference)
    judged, reasons, first = [], [], ""
    for conversation, group in groups.items():
        try:
            judged.append(_judged(conversation, group, tokenizer, max_tokens))
        except Unusable:  # one completion can make a tree unusable, so each pair gets its own tree
            for preference in group:
                try:
                    judged.append(_judged(conversation, [preference], tokenizer, max_tokens))
                except Unusable as unusable:
                    reasons.append(unusable.kind)
                    first = first or f"; the first of them, {preference.prompt.source}, says: {unusable.reason}"
    usable = [prompt for prompt in judged if prompt.pairs]
    reasons += ["both sides are the same tokens"] * (len(preferences) - len(reasons) - sum(len(prompt.pairs) for prompt in usable))
    if preferences and not usable:
        counts = "; ".join(f"{count} x {reason}" for reason, count in Counter(reasons).most_common())
        raise DataError(
            f"none of the {len(preferences)} preferences can be used: {counts}{first}. For pairs that are too long raise max_tokens (up to "
            "the model's limit) or shorten them; docs/data.md explains the other reasons"
        )
    return usable, reasons


def _judged(conversation: Conversation, group: list[Preference], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> JudgedPrompt:
    sides = [(answer_of(preference.chosen), answer_of(preference.rejected)) for preference in group]
    answers = list(dict.fromkeys(side for both in sides for side in both))
    number = {answer: k for k, answer in enumerate(answers)}
    tree = preference_tree(tokenizer, conversation, answers, max_tokens)
    ids = [branch.ids for branch in tree.branches]
    numbered = ((p, number[chosen], number[rejected]) for p, (chosen, rejected) in zip(group, sides, strict=True))
    different = [(p, chosen, rejected) for p, chosen, rejected in numbered if ids[chosen] != ids[rejected]]
    pairs = (BranchPair(chosen, rejected, p.probability, p.margin, p.weight, p.dimension) for p, chosen, rejected in different)
    remarks = answer_remarks(tokenizer, conversation, answers)
    return JudgedPrompt(tree, tuple(pairs), tuple(p for p, _, _ in different), remarks)


def pair_batches(
    judged: Sequence[JudgedPrompt], dimensions: tuple[str, ...], tokens_per_microbatch: int
) -> Callable[[list[int]], Iterator[PairBatch]]:
    """Return a function from prompt numbers to their micro-batches, packed one after another; `dimensions` orders the heads."""

    def batches(indices: list[int]) -> Iterator[PairBatch]:
        parts = microbatches([judged[k].tree for k in indices], tokens_per_microbatch)
        return (_pair_batch([indices[k] for k in part], judged, dimensions, tokens_per_microbatch) for part in parts)

    return batches


def _pair_batch(indices: list[int], judged: Sequence[JudgedPrompt], dimensions: tuple[str, ...], limit: int) -> PairBatch:
    chosen, rejected, numbers, heads, start = [], [], [], [], 0
    for k in indices:
        for pair in judged[k].pairs:
            chosen.append(start + pair.chosen)
            rejected.append(start + pair.rejected)
            numbers.append((pair.probability, pair.margin, pair.weight))
            heads.append(dimensions.index(pair.dimension))
        start += len(judged[k].tree.branches)
    probability, margin, weight = torch.tensor(numbers).T
    sides = torch.tensor(chosen), torch.tensor(rejected)
    trees = pack([judged[k].tree for k in indices], limit)
    return PairBatch(trees, tuple(indices), *sides, probability, margin, weight, torch.tensor(heads))


def overall(judged: Sequence[JudgedPrompt]) -> list[JudgedPrompt]:
    """Return the prompts with one conclusion per pair: answers on several dimensions add up in logits, like independent evidence.

    A pair whose evidence cancels out is left out, and so is a prompt without any other pair.
    """
    result = []
    for prompt in judged:
        evidence: dict[tuple[int, int], float] = defaultdict(float)
        weight: dict[tuple[int, int], float] = {}
        for pair in prompt.pairs:
            low, high = sorted((pair.chosen, pair.rejected))
            logit = math.log(max(pair.probability, 1e-6) / max(1 - pair.probability, 1e-6))
            evidence[low, high] += pair.weight * (logit if pair.chosen == low else -logit)
            weight[low, high] = max(pair.weight, weight.get((low, high), 0.0))
        pairs = tuple(
            BranchPair(*(key if logit > 0 else key[::-1]), 1 / (1 + math.exp(-abs(logit))), 0.0, weight[key], "overall")
            for key, logit in evidence.items()
            if abs(logit) > 1e-9
        )
        if pairs:
            result.append(replace(prompt, pairs=pairs))
    return result
