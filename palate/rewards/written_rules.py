"""A part of a reward from written rules: what a completion loses where it may break one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from palate.config.settings import nearest
from palate.core import ConfigError
from palate.data.rule_file import WrittenRule
from palate.rewards.batch import PartScorer, PartScores, ScoringBatch, ScoringContext
from palate.rewards.part import PartSettings
from palate.rewards.rule_check import OpenRules, RuleCheck


@dataclass(frozen=True, kw_only=True)
class WrittenRules(PartSettings):
    """The mean probability that rules are broken, as a penalty: 0 for a completion that surely keeps all, -1 for one that breaks all.

    A completion of which nobody can say whether it breaks a rule has no score. The probability of each rule is recorded.

    Attributes:
        check: the rules, and who checks them.
        weights: what each rule counts in the mean, by its id; rules that are not named count 1.
        floors: the least probability that a rule is kept, by its id. A completion below a floor loses `floor_penalty` in addition.
        floor_penalty: what a completion loses that is below one or more floors.
    """

    kind: Literal["written_rules"] = "written_rules"
    check: RuleCheck
    weights: dict[str, float] = field(default_factory=dict)
    floors: dict[str, float] = field(default_factory=dict)
    floor_penalty: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise ConfigError(f"written_rules: the weight of {name} must be 0 or more and finite, got {weight}")
        for name, floor in self.floors.items():
            if not 0 < floor <= 1:
                raise ConfigError(f"written_rules: the floor of {name} is a probability above 0 and up to 1, got {floor}")
        if not 0 < self.floor_penalty < math.inf:
            raise ConfigError(f"written_rules: floor_penalty must be above 0 and finite, got {self.floor_penalty}")
        self.check_shaping()

    def open(self, context: ScoringContext) -> PartScorer:
        """Open those who check the rules.

        Raises:
            ConfigError: a weight or a floor names no rule that is checked, all weights are 0, or as `RuleCheck.open`.
        """
        at = f"rewards.{context.name}"
        opened = self.check.open(at, lambda path: context.members(path)[0].member.reward, context.run)
        try:
            return WrittenRulesScorer(self, opened, self._by_rule(at, opened.rules))
        except ConfigError:
            opened.close()
            raise

    def _by_rule(self, at: str, rules: tuple[WrittenRule, ...]) -> Tensor:
        """Return what each rule counts (r,), with sum 1."""
        known = [rule.id for rule in rules]
        for setting, named in (("weights", self.weights), ("floors", self.floors)):
            if unknown := [name for name in named if name not in known]:
                raise ConfigError(f"{at}.{setting}: {unknown[0]!r} is not among the rules that are checked. {nearest(unknown[0], known)}")
        weights = torch.tensor([self.weights.get(name, 1.0) for name in known])
        if not bool(weights.sum() > 0):
            raise ConfigError(f"{at}.weights: all rules have weight 0, so there is no mean. Leave the part out, or give it weight 0")
        return weights / weights.sum()


@dataclass(frozen=True)
class WrittenRulesScorer:
    """Rules that are checked, ready to score."""

    config: WrittenRules
    opened: OpenRules
    weights: Tensor

    def score(self, batch: ScoringBatch) -> PartScores:
        """Score all completions; one that could not be checked on every rule gets a reason."""
        found = self.opened.breaches(batch)
        scores = penalty(found.table, self.weights, self._floors(), self.config.floor_penalty)
        reasons: dict[int, str] = {}
        for (row, _), reason in found.reasons.items():
            reasons.setdefault(row, reason)
        details = {f"{rule.id}_broken": found.table[:, k] for k, rule in enumerate(self.opened.rules)}
        return PartScores({"": scores}, reasons, details)

    def _floors(self) -> Tensor:
        return torch.tensor([self.config.floors.get(rule.id, 0.0) for rule in self.opened.rules])

    def close(self) -> None:
        """End the programs' processes, and close the judge's ledger."""
        self.opened.close()


def penalty(broken: Tensor, weights: Tensor, floors: Tensor, floor_penalty: float) -> Tensor:
    """Return scores (b,) `-sum_i w_i p_i - floor_penalty [some i: 1 - p_i < floor_i]`; NaN where a p_i is.

    Source: Glaese et al. 2022 (Sparrow) add the mean of the rules' scores to the preference score. The floors are ours.

    Args:
        broken: (b, r) probabilities p that the rule is broken.
        weights: (r,) what each rule counts, with sum 1.
        floors: (r,) least probability that the rule is kept; 0 for none.
        floor_penalty: what a completion below a floor loses.
    """
    is_below = ((1 - broken) < floors).any(1)
    return -(broken @ weights) - floor_penalty * is_below.to(broken.dtype)
