"""The policy's answers beside those of the policy as it started, with what the reward and a second model say about both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from palate.agreement.estimates import Floats
from palate.agreement.judged_sample import choose_pairs, inclusion_probabilities
from palate.core import Comparison, Completion, Prompt, Sampling, derive_seed
from palate.data.judge_names import figure_name
from palate.evaluation.policy_matchups import known_verdict
from palate.models.causal import CausalPolicy
from palate.raters.asked_pairs import AskedPair, AskedPairs, holdable
from palate.rewards.composition import Composition, RewardPart, Scores
from palate.rewards.learned import LearnedReward
from palate.samplers.local import LocalSampler
from palate.stages.online.measurements import held_out_scores
from palate.stages.online.roles import FrozenModels
from palate.stages.online.rollouts import Rollouts

START = "start"
"""What the start is called in a project; raters do not see it."""


@dataclass(frozen=True)
class StartPairs:
    """Makes the pairs of an iteration.

    Attributes:
        reference: the policy as it started.
        frozen: brings it to the device.
        rewards: the rewards of training.
        parts: the settings of these rewards, by name.
        second: a reward model that training does not use; without one the parts of the reward that have no weight take its place.
        sampling: how answers are drawn.
        seed: of the run.
    """

    reference: CausalPolicy
    frozen: FrozenModels
    rewards: Composition
    parts: Mapping[str, RewardPart]
    second: LearnedReward | None
    sampling: Sampling
    seed: int

    def of(self, rollouts: Rollouts, iteration: int, count: int) -> AskedPairs:
        """Return one pair per prompt, of which `count` are to be asked about, at most. All ranks call it together.

        Half of these are where the reward rose most and the second model disagrees, and the rest are drawn at random from the others.
        """
        with self.frozen.used(self.reference):
            seed = derive_seed(self.seed, "people/start", iteration)
            starts = LocalSampler(self.reference).generate(rollouts.prompts, 1, self.sampling, seed)
        groups = tuple((group[0], start[0]) for group, start in zip(rollouts.groups, starts, strict=True))
        both = Rollouts(rollouts.prompts, rollouts.trunks, groups)
        scores = self.rewards.score(both.prompts, both.groups, both.trees, update=False)
        gains = {"reward": _gains(scores.rewards)}
        second = self._second(scores, both)
        if second is not None:
            gains["second"] = _gains(second)
        sides = [_comparison(iteration, number, *each) for number, each in enumerate(zip(both.prompts, groups, strict=True))]
        known = [known_verdict(each) for each in sides]
        suspicion = _standardised(gains["reward"]) - (_standardised(gains["second"]) if second is not None else 0.0)
        rng = np.random.default_rng(derive_seed(self.seed, "people/choice", iteration))
        choice = choose_pairs(suspicion, np.array([verdict is not None for verdict in known]), count, rng)
        probabilities = inclusion_probabilities(choice)
        predicted = np.mean([_probability(gain) for gain in gains.values()], axis=0)
        known_gains = [{name: float(gain[k]) for name, gain in gains.items() if np.isfinite(gain[k])} for k in range(len(sides))]
        columns = zip(sides, choice.tolist(), probabilities.tolist(), predicted.tolist(), known_gains, known, strict=True)
        return AskedPairs(iteration, tuple(AskedPair(*each) for each in columns))

    def _second(self, scores: Scores, rollouts: Rollouts) -> Tensor | None:
        """Return what the second model says of all answers; None without one."""
        if self.second is not None:
            return held_out_scores(self.second, rollouts)
        names = [figure_name(name, is_calibrated=part.is_calibrated) for name, part in self.parts.items() if not part.counts]
        return torch.stack([scores.parts[name] for name in names]).sum(0) if names else None


def _gains(scores: Tensor) -> Floats:
    """Return by how much the policy's answers score above the start's, from both in turn; NaN where one has no score."""
    gains: Floats = (scores[0::2] - scores[1::2]).double().cpu().numpy()
    return gains


def _standardised(gains: Floats) -> Floats:
    """Return the gains less their mean, in standard deviations; 0 where one is not known, or where all are equal."""
    known = gains[np.isfinite(gains)]
    if known.size < 2 or np.ptp(known) == 0:
        return np.zeros(gains.size)
    return np.nan_to_num((gains - known.mean()) / known.std())


def _probability(gains: Floats) -> Floats:
    """Return how likely the policy's answer is the better one if scores are those of Bradley-Terry; 1/2 where nothing is known."""
    return 1 / (1 + np.exp(-np.clip(np.nan_to_num(gains), -30, 30)))


def _comparison(iteration: int, number: int, prompt: Prompt, sides: tuple[Completion, Completion]) -> Comparison:
    """Return the two answers as a question, in texts that a database can hold and without tokens."""
    turns = tuple(replace(turn, text=holdable(turn.text), tool_fields=holdable(turn.tool_fields)) for turn in prompt.conversation)
    answers = (
        Completion(holdable(one.text), stop=one.stop, policy=policy, tool_fields=holdable(one.tool_fields))
        for one, policy in zip(sides, (f"iteration {iteration}", START), strict=True)
    )
    return Comparison(str(number), replace(prompt, id=str(number), conversation=turns, fields={}), tuple(answers))
