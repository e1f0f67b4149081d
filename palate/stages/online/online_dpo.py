"""Online DPO and its relatives: learn from the best against the worst of fresh completions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

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
    """Prefer the best of each prompt's completions to the worst, and learn from the pair at once (Guo et al. 2024).

    Prompts whose best and worst completion have equal rewards are left out. The price of KL is the objective's `beta`.

    Attributes:
        objective: dpo, ipo or hinge.
        min_gap: rewards that differ by no more than this count as equal.
    """

    kind: Literal["online_dpo"] = "online_dpo"
    objective: DPO | IPO | Hinge = field(default_factory=DPO)
    min_gap: float = 0.0

    pays_kl: ClassVar[bool] = False
    compares_siblings: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the gap."""
        if self.min_gap < 0:
            raise ConfigError(f"online_dpo: min_gap must be 0 or more, got {self.min_gap}")

    def check(self, samples_per_prompt: int) -> None:
        """Raise ConfigError when there is nothing to compare."""
        if samples_per_prompt < 2:
            raise ConfigError("online_dpo compares completions of one prompt: set samples_per_prompt to 2 or more")

    def algorithm(self, context: AlgorithmContext) -> OnlineDPOAlgorithm:
        """Return the algorithm, which trains the policy alone."""
        return OnlineDPOAlgorithm(self, context)


class OnlineDPOAlgorithm(NullAlgorithm):
    """A policy that learns from pairs of its own completions."""

    def __init__(self, config: OnlineDPO, context: AlgorithmContext) -> None:
        self._config, self._context = config, context

    def batch(self, scored: Scored, kl_coef: float) -> PairTrainingBatch:  # noqa: ARG002 (one signature for all)
        """Return the best and the worst completion of each prompt."""
        return PairTrainingBatch(self._config, self._context, scored)


class PairTrainingBatch:
    """The best and the worst completion of each prompt, in units of pairs."""

    def __init__(self, config: OnlineDPO, context: AlgorithmContext, scored: Scored) -> None:
        self._policy = context.policy
        rollouts = scored.rollouts
        reference = torch.zeros(len(rollouts.completions)).index_add(0, rollouts.completion, scored.reference_logps)
        prompts, reference_of_pairs, start = [], [], 0
        for tree in rollouts.trees:
            pair = best_and_worst(scored.rewards[start : start + len(tree.branches)], config.min_gap)
            if pair is not None:
                best, worst = pair
                sides = (tree.branches[best], tree.branches[worst])
                gap = float(scored.rewards[start + best] - scored.rewards[start + worst])
                prompts.append(JudgedPrompt(Tree(tree.trunk, sides), (BranchPair(0, 1, 1.0, gap, 1.0, "overall"),), ()))
                reference_of_pairs.append(reference[[start + best, start + worst]])
            start += len(tree.branches)
        self.units = len(prompts)
        self.metrics = {"pairs/share": len(prompts) / len(rollouts.trees)}
        if prompts:
            known = KnownReference(torch.stack(reference_of_pairs))
            self._inputs = PairLossInputs(
                prompts, config.objective, "none", context.tokens_per_microbatch, known, temperature=context.temperature
            )

    def microbatches(self, units: Sequence[int]) -> list[PairMicroBatch]:
        """Return the micro-batches of some pairs."""
        return self._inputs.microbatches(self._policy, list(units))

    def count(self, microbatch: PairMicroBatch) -> float:
        """Return the number of pairs."""
        return float(microbatch.batch.weight.sum())

    def losses(self, microbatch: PairMicroBatch) -> Sequence[Callable[[], Sums]]:
        """Return the objective."""
        return [lambda: self._inputs.sums(microbatch, self._inputs.logps(self._policy, microbatch))]


@dataclass(frozen=True)
class KnownReference:
    """A reference whose log-probabilities of each pair (pairs, 2) are known."""

    table: Tensor
    modules: Mapping[str, nn.Module] = field(default_factory=dict)

    def values(self, source: ReferencedExamples[B]) -> Callable[[B], Tensor]:  # noqa: ARG002 (the signature of a reference)
        """Return a function that looks up rows of the table."""
        return lambda batch: self.table[list(batch.indices)]

    def before_step(self, policy: object, steps_done: int) -> None:
        """Leave the reference as it is."""


def best_and_worst(rewards: Tensor, min_gap: float) -> tuple[int, int] | None:
    """Return the numbers of the best and the worst of rewards (k,), without those that are NaN; None where the gap is too small."""
    known = (~rewards.isnan()).nonzero()[:, 0].tolist()
    if len(known) < 2:
        return None
    best, worst = max(known, key=lambda k: float(rewards[k])), min(known, key=lambda k: float(rewards[k]))
    return (best, worst) if float(rewards[best] - rewards[worst]) > min_gap else None
