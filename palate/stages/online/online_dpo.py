"""Learning from the best against the worst of fresh samples: online DPO and its kin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from palate.core import ConfigError
from palate.objectives.direct import DPO, IPO, Hinge
from palate.objectives.reduce import Sums
from palate.stages.online.algorithm import AlgorithmContext, NullAlgorithm
from palate.stages.online.rollouts import Scored
from palate.text.pack import Tree
from palate.training.comparisons import BranchPair, JudgedPrompt
from palate.training.pairs import PairLossInputs, PairMicroBatch
from palate.training.reference import B, ReferencedExamples


@dataclass(frozen=True, kw_only=True)
class OnlineDPO:
    """Of each prompt's completions the best is preferred to the worst, and the pair is learned from at once (Guo et al. 2024).

    Prompts whose best and worst are alike teach nothing and are left out. The price of KL is the objective's `beta`.

    Attributes:
        objective: dpo, ipo or hinge.
        min_gap: rewards no further apart than this count as alike.
    """

    kind: Literal["online_dpo"] = "online_dpo"
    objective: DPO | IPO | Hinge = field(default_factory=DPO)
    min_gap: float = 0.0

    def __post_init__(self) -> None:
        """Checks the gap."""
        if self.min_gap < 0:
            raise ConfigError(f"online_dpo: min_gap must be 0 or more, got {self.min_gap}")

    def check(self, samples_per_prompt: int) -> None:
        """Raises ConfigError when there is nothing to compare."""
        if samples_per_prompt < 2:
            raise ConfigError("online_dpo compares completions of one prompt: set samples_per_prompt to 2 or more")

    def student(self, seat: AlgorithmContext) -> OnlineDPOAlgorithm:
        """The policy alone."""
        return OnlineDPOAlgorithm(self, seat)


class OnlineDPOAlgorithm(NullAlgorithm):
    """A policy that learns from pairs of its own completions."""

    def __init__(self, config: OnlineDPO, seat: AlgorithmContext) -> None:
        self.config, self.seat = config, seat

    def lesson(self, scored: Scored, kl_coef: float) -> PairTrainingBatch:  # noqa: ARG002 (one signature for all)
        """The round's pairs."""
        return PairTrainingBatch(self, scored)


@dataclass(frozen=True)
class KnownReference:
    """An anchor whose values are known: the reference's log-probabilities of each pair (pairs, 2)."""

    table: Tensor
    modules: Mapping[str, nn.Module] = field(default_factory=dict)

    def values(self, source: ReferencedExamples[B]) -> Callable[[B], Tensor]:  # noqa: ARG002 (an anchor's signature)
        """Rows of the table."""
        return lambda batch: self.table[list(batch.indices)]

    def before_step(self, policy: object, steps_done: int) -> None:
        """Nothing moves."""


class PairTrainingBatch:
    """Best and worst of each prompt, in units of pairs."""

    def __init__(self, student: OnlineDPOAlgorithm, scored: Scored) -> None:
        self._seat = student.seat
        rollouts = scored.rollouts
        totals = torch.zeros(len(rollouts.ended)).index_add(0, rollouts.completion, scored.reference_logps)
        judged, table, start = [], [], 0
        for tree in rollouts.trees:
            found = extremes(scored.rewards[start : start + len(tree.branches)], student.config.min_gap)
            if found is not None:
                best, worst = found
                sides = (tree.branches[best], tree.branches[worst])
                gap = float(scored.rewards[start + best] - scored.rewards[start + worst])
                judged.append(JudgedPrompt(Tree(tree.trunk, sides), (BranchPair(0, 1, 1.0, gap, 1.0, "overall"),), ()))
                table.append(totals[[start + best, start + worst]])
            start += len(tree.branches)
        self.units = len(judged)
        self.metrics = {"pairs/share": len(judged) / len(rollouts.trees)}
        if judged:
            anchor = KnownReference(torch.stack(table))
            self._course = PairLossInputs(
                judged, student.config.objective, "none", self._seat.tokens_per_microbatch, anchor, temperature=self._seat.temperature
            )

    def parts(self, chosen: Sequence[int]) -> list[PairMicroBatch]:
        """Micro-batches of some pairs."""
        return self._course.parts(self._seat.policy, list(chosen))

    def count(self, part: PairMicroBatch) -> float:
        """Pairs."""
        return float(part.batch.weight.sum())

    def losses(self, part: PairMicroBatch) -> Sequence[Callable[[], Sums]]:
        """The objective."""
        return [lambda: self._course.sums(part, self._course.now(self._seat.policy, part))]


def extremes(rewards: Tensor, min_gap: float) -> tuple[int, int] | None:
    """Numbers of the best and the worst of rewards (k,), those that are NaN left out; None where they are alike."""
    known = (~rewards.isnan()).nonzero()[:, 0].tolist()
    if len(known) < 2:
        return None
    best, worst = max(known, key=lambda k: float(rewards[k])), min(known, key=lambda k: float(rewards[k]))
    return (best, worst) if float(rewards[best] - rewards[worst]) > min_gap else None
