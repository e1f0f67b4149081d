"""A classifier of rules where a reward model is expected: its dimensions are the rules, and a score is how likely a rule is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from palate.config.answers import Score
from palate.config.artifacts import model_at
from palate.core import Completion, Prompt
from palate.data.rule_file import RuleFile, WrittenRule
from palate.models.precision import DType
from palate.rewards.combination import GroupScores
from palate.rewards.learned import LearnedReward
from palate.rewards.rule_classifier import RuleClassifier, probability


class RuleScores:
    """Probabilities that rules are kept, from 0 to 1, by the rule's id. Higher is better, as for any score."""

    def __init__(self, classifier: RuleClassifier, rules: Sequence[WrittenRule]) -> None:
        """Take the classifier, and the rules that it reads."""
        self._classifier = classifier
        self._questions = [rule.question for rule in rules]
        self.heads = tuple(rule.id for rule in rules)
        """The ids of the rules."""

    @staticmethod
    def load(path: str, rules: Path, dtype: DType = "float32") -> RuleScores:
        """Load the classifier at a path, or of the run that trained it, and read the file of rules.

        Raises:
            DataError: the file cannot be used.
            ModelError: there is no classifier of rules at the path.
        """
        file = RuleFile.read(rules)
        return RuleScores(RuleClassifier(LearnedReward.load(model_at(path), dtype=dtype), path), file.rules)

    def score(self, prompts: Sequence[Prompt], groups: Sequence[Sequence[Completion]]) -> GroupScores:
        """Score all completions, groups in order."""
        each = [(prompt, completion) for prompt, group in zip(prompts, groups, strict=True) for completion in group]
        rows = self._classifier.logits(each, [self._questions] * len(each))
        reasons = {row: said[0] for row, said in enumerate(rows) if isinstance(said[0], str)}
        table = torch.tensor([[_kept(logit) for logit in said] for said in rows]).reshape(len(each), len(self.heads))
        return GroupScores(table[None], table, reasons)


def _kept(logit: Score) -> float:
    broken = probability(logit)
    return float("nan") if isinstance(broken, str) else 1 - broken
