"""Reward models from pairs: Bradley-Terry, each pair by itself or a mean inside each prompt first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from palate.core import ConfigError
from palate.objectives.reduce import Ratio, Sums, check_shapes, per_unit, weighted_ratio


@dataclass(frozen=True)
class PairScores:
    """Scores of pairs, all (p,).

    Attributes:
        chosen: score of the completion called chosen.
        rejected: score of the other one.
        probability: that chosen is the better one, 0 to 1; 1 is a plain judgment, 0.5 a tie.
        margin: by how much chosen should win, in score units; 0 for none.
        weight: >= 0, how much the pair counts.
    """

    chosen: Tensor
    rejected: Tensor
    probability: Tensor
    margin: Tensor
    weight: Tensor

    def __post_init__(self) -> None:
        """Checks the shapes."""
        check_shapes("PairScores", vars(self))


def preference_nll(difference: Tensor, probability: Tensor) -> Tensor:
    """Cross-entropy of each preference in nats, shape of `difference`, not averaged.

    `-p log sigma(d) - (1 - p) log sigma(-d)`, safe for any size of d. Gradient in d: `sigma(d) - p`.

    Source: Bradley and Terry 1952; Ouyang et al. 2022 eq. 1 for p = 1; Christiano et al. 2017 sec. 2.2.3 for soft labels.
    """
    return functional.binary_cross_entropy_with_logits(difference, probability, reduction="none")


def preference_accuracy(difference: Tensor, probability: Tensor, weight: Tensor) -> Ratio:
    """Weighted share of preferences whose sign is right.

    An exactly equal pair of scores counts one half; a preference with probability 0.5 has no right side and is not counted.
    """
    side = torch.sign(probability - 0.5)
    right = (1 + torch.sign(difference.detach()) * side) / 2
    return weighted_ratio(right, weight * side.abs())


def noisy_preference_nll(difference: Tensor, probability: Tensor, reliability: Tensor) -> Tensor:
    """Cross-entropy of each preference in nats when a judgment says what was seen only with a probability, shape of `difference`.

    `-p log P - (1 - p) log (1 - P)` with `P = e sigma(d) + (1 - e) sigma(-d)`, `e = sigma(reliability)`. At reliability 0 the
    judgment says nothing; below 0 it says the opposite of what was seen. Safe for any size of either.

    Args:
        difference: d, score of chosen minus score of rejected.
        probability: p, that chosen is the better one.
        reliability: log-odds of e, broadcast against `difference`.
    """
    wins, loses = functional.logsigmoid(difference), functional.logsigmoid(-difference)
    honest, turned = functional.logsigmoid(reliability), functional.logsigmoid(-reliability)
    chosen = torch.logaddexp(honest + wins, turned + loses)
    rejected = torch.logaddexp(honest + loses, turned + wins)
    return -(probability * chosen + (1 - probability) * rejected)


@dataclass(frozen=True, kw_only=True)
class BradleyTerry:
    """Soft-label Bradley-Terry loss on pairs, per `sum weight`.

    `w [BCE(c - r - margin, p) + centering (c + r)^2]`. Only differences of scores are identified; `centering` (0.01 in
    Eisenstein et al. 2023 eq. 2) holds the scores around 0. It is the square of the pair's sum, not a sum of squares.
    The margin is subtracted (Touvron et al. 2023 eq. 2). With `label_smoothing` e the label is `(1 - e) p + e (1 - p)`. With `random` e
    the prediction is `(1 - e) sigma(d) + e / 2` (Christiano et al. 2017 sec. 2.2.3, e = 0.1: half of what is random is wrong).

    Attributes:
        centering: weight of the squared sum of a pair's scores; 0 turns it off.
        label_smoothing: share of labels taken to be the wrong way round, below 0.5; changes the labels.
        random: share of judgments taken to be a coin's toss, below 1; changes the prediction, which so never becomes certain.

    Metrics: `nll` (without centering), `accuracy` (equal scores count one half, margins play no part), `margin` (c - r),
    `chosen_score`, `rejected_score`.
    """

    kind: Literal["bradley_terry"] = "bradley_terry"
    centering: float = 0.0
    label_smoothing: float = 0.0
    random: float = 0.0

    def __post_init__(self) -> None:
        """Checks the settings."""
        if not self.centering >= 0:
            raise ConfigError(f"bradley_terry: centering must be >= 0, got {self.centering}; 0 turns it off, 0.01 is usual")
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(
                f"bradley_terry: label_smoothing must lie in [0, 0.5), got {self.label_smoothing}; from 0.5 on nothing is said"
            )
        if not 0 <= self.random < 1:
            raise ConfigError(f"bradley_terry: random must lie in [0, 1), got {self.random}; 0.1 is Christiano's, 0 turns it off")

    def __call__(self, inputs: PairScores) -> Sums:
        """Sums over pairs; differentiable in both scores."""
        difference = inputs.chosen - inputs.rejected
        nll = self._nll(difference - inputs.margin, inputs.probability)
        each = nll + self.centering * (inputs.chosen + inputs.rejected).square()
        weight = inputs.weight.detach()
        return Sums(loss=(weight * each).sum(), count=weight.sum(), metrics=pair_metrics(inputs, nll, weight))

    def _nll(self, difference: Tensor, probability: Tensor) -> Tensor:
        smooth = probability + self.label_smoothing * (1 - 2 * probability)
        if self.random == 0:
            return preference_nll(difference, smooth)
        reliability = 1 - self.random / 2
        return noisy_preference_nll(difference, smooth, difference.new_tensor(reliability / (1 - reliability)).log())


def pair_metrics(inputs: PairScores, nll: Tensor, weight: Tensor) -> dict[str, Ratio]:
    """What every objective on pairs tells: `nll`, `accuracy`, `margin`, `chosen_score`, `rejected_score`; `weight` (p,)."""
    difference = inputs.chosen - inputs.rejected
    metrics = {
        "nll": weighted_ratio(nll, weight),
        "accuracy": preference_accuracy(difference, inputs.probability, weight),
        "margin": weighted_ratio(difference, weight),
        "chosen_score": weighted_ratio(inputs.chosen, weight),
        "rejected_score": weighted_ratio(inputs.rejected, weight),
    }
    return metrics  # noqa: RET504 - a test finds metrics by this name


@dataclass(frozen=True)
class PromptPairs:
    """Pairs and the prompts they belong to.

    Attributes:
        pairs: (p,) scores and labels.
        prompt: (p,) long, number of the prompt of each pair; any numbers, prompts may interleave.
    """

    pairs: PairScores
    prompt: Tensor

    def __post_init__(self) -> None:
        """Checks the shapes."""
        check_shapes("PromptPairs", {"prompt": self.prompt, "chosen": self.pairs.chosen})


@dataclass(frozen=True, kw_only=True)
class AllPairs:
    """Bradley-Terry on all pairs of each prompt: weighted mean over the pairs of a prompt first, then per prompt.

    Source: Ouyang et al. 2022 eq. 1. A flat mean over pairs is another loss: it lets prompts with many completions rule.
    Soft labels and margins as in `BradleyTerry`; a tie is a pair with probability 0.5 (the paper leaves ties out). A prompt whose
    weights are all 0 is not counted.

    Metrics: as `BradleyTerry`, mean inside each prompt first.
    """

    kind: Literal["all_pairs"] = "all_pairs"

    def __call__(self, inputs: PromptPairs) -> Sums:
        """Sums over prompts; differentiable in both scores."""
        pairs, weight = inputs.pairs, inputs.pairs.weight.detach()
        numbers, row = torch.unique(inputs.prompt, return_inverse=True)
        total = weight.new_zeros(len(numbers)).index_add(0, row, weight)
        share = per_unit(weight, total[row])
        nll = preference_nll(pairs.chosen - pairs.rejected - pairs.margin, pairs.probability)
        return Sums(loss=(share * nll).sum(), count=(total > 0).sum(), metrics=pair_metrics(pairs, nll, share))
