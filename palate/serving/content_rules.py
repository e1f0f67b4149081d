"""Rules that questions and answers must keep: who checks them, the least probability of keeping them, and what was decided."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from palate.config.artifacts import model_at
from palate.core import Completion, ConfigError, Prompt
from palate.rewards.batch import ScoringBatch
from palate.rewards.learned import LearnedReward
from palate.rewards.rule_check import OpenRules, RuleCheck

FLOOR = 0.5
"""The least probability that a rule is kept, where nobody sets another."""

Side = Literal["input", "output"]


@dataclass(frozen=True)
class RuleFinding:
    """What was found about one rule.

    Attributes:
        rule: its id.
        kept: the probability that the text keeps it; None where nobody could say.
        floor: the least that is needed.
        reason: why nobody could say.
    """

    rule: str
    kept: float | None
    floor: float
    reason: str = ""

    @property
    def is_broken(self) -> bool:
        """Whether the text is not let through. A rule that could not be checked counts as broken."""
        return self.kept is None or self.kept < self.floor

    @property
    def row(self) -> dict[str, object]:
        """The finding for the audit log."""
        return {"rule": self.rule, "kept": self.kept, "floor": self.floor, **({"reason": self.reason} if self.reason else {})}


class ContentRules:
    """Rules with those who check them. They work in a thread of their own, one batch after the other."""

    def __init__(self, rules: OpenRules, floors: Mapping[str, float], side: Side) -> None:
        """Take the rules, and the least probability of keeping each of them, by its id.

        Raises:
            ConfigError: a floor is not a probability above 0.
        """
        for name, floor in floors.items():
            if not 0 < floor <= 1:
                raise ConfigError(f"floors: the floor of {name} is a probability above 0 and up to 1, got {floor}")
        self.side = side
        self._rules, self._floors = rules, [floors.get(rule.id, FLOOR) for rule in rules.rules]
        self._thread = ThreadPoolExecutor(1, "palate rules")

    @staticmethod
    def open(path: Path, side: Side, model: str | None = None, floors: Mapping[str, float] | None = None) -> ContentRules:
        """Start the programs of the rules in a file, and load the classifier that decides about the others.

        Raises:
            ConfigError: nobody can check one of the rules, or a program or a floor cannot be used.
            DataError: the file cannot be used.
            ModelError: the model is not a classifier of rules.
        """
        check = RuleCheck(file=str(path), model=model)
        rules = check.open(f"{side} rules", lambda place: LearnedReward.load(model_at(place)), None)
        return ContentRules(rules, floors or {}, side)

    async def findings(self, prompt: Prompt, texts: Sequence[Completion]) -> list[list[RuleFinding]]:
        """Return what was found about each text, rule by rule."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._findings, prompt, texts)

    def close(self) -> None:
        """End the thread and the programs."""
        self._thread.shutdown(cancel_futures=True)
        self._rules.close()

    def _findings(self, prompt: Prompt, texts: Sequence[Completion]) -> list[list[RuleFinding]]:
        with torch.inference_mode():
            found = self._rules.breaches(ScoringBatch((prompt,), (tuple(texts),)))
        rows = []
        for row, broken in enumerate(found.table.tolist()):
            named = zip(self._rules.rules, broken, self._floors, strict=True)
            rows.append(
                [
                    RuleFinding(rule.id, None if math.isnan(value) else 1 - value, floor, found.reasons.get((row, k), ""))
                    for k, (rule, value, floor) in enumerate(named)
                ]
            )
        return rows
