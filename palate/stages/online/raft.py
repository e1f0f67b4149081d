"""RAFT, or rejection-sampling fine-tuning: imitate the best of fresh completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from torch import Tensor

from palate.config.types import Count
from palate.core import ConfigError
from palate.objectives.reduce import Sums
from palate.objectives.supervised import CrossEntropy
from palate.stages.online.algorithm import AlgorithmContext, NullAlgorithm
from palate.stages.online.rollouts import Scored
from palate.text.pack import PackedBatch, Tree
from palate.training.imitation import Imitation, packed


@dataclass(frozen=True, kw_only=True)
class RAFT:
    """Learn the best of each prompt's completions like demonstrations (RAFT, Dong et al. 2023; expert iteration).

    Only the number of iterations limits how far the policy moves from the reference: watch KL, or set a KL budget.

    Attributes:
        top_k: how many of each prompt's completions are learned.
        min_reward: completions with a lower reward are not learned; none sets no limit.
    """

    kind: Literal["raft"] = "raft"
    top_k: Count = 1
    min_reward: float | None = None

    pays_kl: ClassVar[bool] = False
    compares_siblings: ClassVar[bool] = True

    def check(self, samples_per_prompt: int) -> None:
        """Raise ConfigError when every completion would be learned."""
        if self.top_k >= samples_per_prompt and self.min_reward is None:
            raise ConfigError(
                f"raft learns {self.top_k} of {samples_per_prompt} completions per prompt, so nothing is chosen: raise "
                "samples_per_prompt, or set min_reward"
            )

    def algorithm(self, context: AlgorithmContext) -> RAFTAlgorithm:
        """Return the algorithm, which trains the policy alone."""
        return RAFTAlgorithm(self, context)


class RAFTAlgorithm(NullAlgorithm):
    """A policy that imitates its own best completions."""

    def __init__(self, config: RAFT, context: AlgorithmContext) -> None:
        self._config, self._context = config, context

    def batch(self, scored: Scored, kl_coef: float) -> ImitationTrainingBatch:  # noqa: ARG002 (one signature for all)
        """Return the best completions of each prompt."""
        return ImitationTrainingBatch(self._config, self._context, scored)


class ImitationTrainingBatch:
    """The best completions of each prompt, in units of prompts."""

    def __init__(self, config: RAFT, context: AlgorithmContext, scored: Scored) -> None:
        self._imitation = Imitation(context.policy, CrossEntropy(), context.tokens_per_microbatch)
        trees, start = [], 0
        for tree in scored.rollouts.trees:
            best = top_k(scored.rewards[start : start + len(tree.branches)], config.top_k, config.min_reward)
            if best:
                trees.append(Tree(tree.trunk, tuple(tree.branches[k] for k in best)))
            start += len(tree.branches)
        self._batches = packed(trees, context.tokens_per_microbatch)
        self.units = len(trees)
        self.metrics = {"kept/share": sum(len(tree.branches) for tree in trees) / len(scored.rewards)}

    def microbatches(self, units: Sequence[int]) -> list[PackedBatch]:
        """Return the micro-batches of some prompts' best completions."""
        return list(self._batches(list(units)))

    def count(self, microbatch: PackedBatch) -> float:
        """Return the number of learned tokens."""
        return float(microbatch.learned.sum())

    def losses(self, microbatch: PackedBatch) -> Sequence[Callable[[], Sums]]:
        """Return the cross-entropy."""
        return [partial(self._imitation.loss, microbatch)]


def top_k(rewards: Tensor, count: int, min_reward: float | None) -> list[int]:
    """Return the numbers of the `count` highest of rewards (k,), best first, and the earlier of equals first.

    Rewards that are NaN or below `min_reward` are left out.
    """
    known = [k for k in range(len(rewards)) if not bool(rewards[k].isnan()) and (min_reward is None or float(rewards[k]) >= min_reward)]
    return sorted(known, key=lambda k: -float(rewards[k]))[:count]
