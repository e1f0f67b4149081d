"""Learning by imitation of one's own best completions: rejection-sampling fine-tuning (RAFT, expert iteration)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

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
    """The best of each prompt's completions are learned like demonstrations (RAFT, Dong et al. 2023; expert iteration).

    Nothing holds the policy to the reference but the number of rounds: watch KL, or give a budget of it.

    Attributes:
        top_k: how many of each prompt's completions are kept.
        min_reward: completions below it are not kept; none keeps the best whatever they are worth.
    """

    kind: Literal["raft"] = "raft"
    top_k: Count = 1
    min_reward: float | None = None

    def check(self, samples_per_prompt: int) -> None:
        """Raises ConfigError when everything would be kept."""
        if self.top_k >= samples_per_prompt and self.min_reward is None:
            raise ConfigError(
                f"raft keeps {self.top_k} of {samples_per_prompt} completions a prompt, so nothing is chosen: raise "
                "samples_per_prompt, or set min_reward"
            )

    def student(self, seat: AlgorithmContext) -> RAFTAlgorithm:
        """The policy alone."""
        return RAFTAlgorithm(self, seat)


class RAFTAlgorithm(NullAlgorithm):
    """A policy that imitates its own best completions."""

    def __init__(self, config: RAFT, seat: AlgorithmContext) -> None:
        self.config, self.seat = config, seat

    def lesson(self, scored: Scored, kl_coef: float) -> ImitationTrainingBatch:  # noqa: ARG002 (one signature for all)
        """The best completions of the round."""
        return ImitationTrainingBatch(self, scored)


class ImitationTrainingBatch:
    """The best completions of each prompt, in units of prompts."""

    def __init__(self, student: RAFTAlgorithm, scored: Scored) -> None:
        seat, config = student.seat, student.config
        self._imitation = Imitation(seat.policy, CrossEntropy(), seat.tokens_per_microbatch)
        trees, start = [], 0
        for tree in scored.rollouts.trees:
            rewards = scored.rewards[start : start + len(tree.branches)]
            kept = top_k(rewards, config.top_k, config.min_reward)
            if kept:
                trees.append(Tree(tree.trunk, tuple(tree.branches[k] for k in kept)))
            start += len(tree.branches)
        self._batches = packed(trees, seat.tokens_per_microbatch)
        self.units = len(trees)
        self.metrics = {"kept/share": sum(len(tree.branches) for tree in trees) / len(scored.rewards)}

    def parts(self, chosen: Sequence[int]) -> list[PackedBatch]:
        """Micro-batches of some prompts' best completions."""
        return list(self._batches(list(chosen)))

    def count(self, part: PackedBatch) -> float:
        """Tokens."""
        return float(part.learned.sum())

    def losses(self, part: PackedBatch) -> Sequence[Callable[[], Sums]]:
        """Cross-entropy."""
        return [partial(self._imitation.loss, part)]


def top_k(rewards: Tensor, count: int, least: float | None) -> list[int]:
    """Numbers of the `count` highest of rewards (k,), best first; neither NaN nor below `least`; the earlier of equals."""
    known = [k for k in range(len(rewards)) if not bool(rewards[k].isnan()) and (least is None or float(rewards[k]) >= least)]
    return sorted(known, key=lambda k: -float(rewards[k]))[:count]
