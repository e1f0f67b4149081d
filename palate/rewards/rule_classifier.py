"""A classifier that reads a conversation, a completion and a question about a rule, and says how likely the rule is broken."""

from __future__ import annotations

import math
from collections.abc import Sequence

from palate.config.answers import Score
from palate.core import Completion, ModelError, Prompt
from palate.rewards.learned import LearnedReward
from palate.text.pack import Tree
from palate.text.rule_tree import rule_tree
from palate.text.spans import NO_LIMIT
from palate.text.template import Unusable

FROM_CUT_OFF = 36.0
"""Log-odds beyond which a probability is 0 or 1 in double precision."""


class RuleClassifier:
    """A scalar model with the head `broken`. One model serves all rules, because the question is part of what it reads."""

    def __init__(self, reward: LearnedReward, path: str) -> None:
        """Take the model, and the path that messages call it by.

        Raises:
            ModelError: it is a reward model, which reads no rule.
        """
        if not reward.reads_rules:
            raise ModelError(
                f"{path} has the heads {', '.join(reward.model.heads)}, so it is a reward model and reads no rule. Name a classifier that "
                "stage `rules` trained"
            )
        self._reward = reward
        self.path = path

    def logits(self, items: Sequence[tuple[Prompt, Completion]], questions: Sequence[Sequence[str]]) -> list[list[Score]]:
        """Return the log-odds that the rule of each question is broken, in nats, or the reason why there are none.

        Args:
            items: completions with their prompts.
            questions: one or more questions about each of them.
        """
        trees: list[Tree] = []
        reasons: list[str | None] = []
        limit = self._reward.model.max_tokens or NO_LIMIT
        for (prompt, completion), asked in zip(items, questions, strict=True):
            try:
                trees.append(rule_tree(self._reward.model.tokenizer, prompt.conversation, completion, asked, limit))
                reasons.append(None)
            except Unusable as error:
                reasons.append(error.reason)
        scored = iter(self._reward.score_trees(trees)[:, 0].tolist() if trees else [])
        return [
            [reason if reason is not None else _finite(next(scored)) for _ in asked]
            for reason, asked in zip(reasons, questions, strict=True)
        ]


def probability(logit: Score) -> Score:
    """Return the probability of these log-odds; a reason stays as it is."""
    return logit if isinstance(logit, str) else 1 / (1 + math.exp(-max(min(logit, FROM_CUT_OFF), -FROM_CUT_OFF)))


def _finite(logit: float) -> Score:
    return logit if math.isfinite(logit) else "the classifier gave no finite number"
