"""Reward models from pairs: Bradley-Terry on single pairs, or with a mean within each prompt first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from palate.core import ConfigError
from palate.objectives.reduce import Ratio, Sums, check_shapes, per_unit, weighted_ratio


@dataclass(frozen=True)
class PairScores:
    """Scores of pairs, all (p,).

    Attributes:
        chosen: score of the chosen completion.
        rejected: score of the rejected completion.
        probability: probability that chosen is better, 0 to 1; 1 for a certain judgment, 0.5 for a tie.
        margin: how far the score of chosen should lie above that of rejected; 0 for no margin.
        weight: >= 0, the weight of the pair.
    """

    chosen: Tensor
    rejected: Tensor
    probability: Tensor
    margin: Tensor
    weight: Tensor

    def __post_init__(self) -> None:
        """Check the shapes."""
        check_shapes("PairScores", vars(self))


@dataclass(frozen=True)
class JudgedScores:
    """A micro-batch of pairs with all that an objective on pairs can use; each objective takes its part in `of_judged`.

    Attributes:
        pairs: (p,) scores and labels.
        prompt: (p,) long, number of the prompt of each pair.
        rater: (p,) long, number of the rater of each pair.
        items: (n,) scores of all completions judged here, each once.
        numbers: what is learned beside the model: (0,), (1,), or one per rater.
        progress: share of the steps that are done.
    """

    pairs: PairScores
    prompt: Tensor
    rater: Tensor
    items: Tensor
    numbers: Tensor
    progress: float


def preference_nll(difference: Tensor, probability: Tensor) -> Tensor:
    """Return the cross-entropy of each preference in nats, shape of `difference`, not averaged.

    `-p log sigma(d) - (1 - p) log sigma(-d)`, stable for any d. The gradient in d is `sigma(d) - p`.

    Source: Bradley and Terry 1952; Ouyang et al. 2022 eq. 1 for p = 1; Christiano et al. 2017 sec. 2.2.3 for soft labels.
    """
    return functional.binary_cross_entropy_with_logits(difference, probability, reduction="none")


def preference_accuracy(difference: Tensor, probability: Tensor, weight: Tensor) -> Ratio:
    """Return the weighted share of preferences whose scores are in the right order.

    Equal scores count one half. A preference with probability 0.5 has no right order and is not counted.
    """
    side = torch.sign(probability - 0.5)
    right = (1 + torch.sign(difference.detach()) * side) / 2
    return weighted_ratio(right, weight * side.abs())


def noisy_preference_nll(difference: Tensor, probability: Tensor, reliability: Tensor) -> Tensor:
    """Return the cross-entropy of each preference in nats when judgments are right only with a probability, shape of `difference`.

    `-p log P - (1 - p) log (1 - P)` with `P = e sigma(d) + (1 - e) sigma(-d)`, `e = sigma(reliability)`. At reliability 0 a
    judgment has no information; below 0 it says the opposite of what the rater saw. Stable for any value of either argument.

    Args:
        difference: d, score of chosen minus score of rejected.
        probability: p, that chosen is better.
        reliability: log-odds of e, broadcast against `difference`.
    """
    wins, loses = functional.logsigmoid(difference), functional.logsigmoid(-difference)
    right, flipped = functional.logsigmoid(reliability), functional.logsigmoid(-reliability)
    chosen = torch.logaddexp(right + wins, flipped + loses)
    rejected = torch.logaddexp(right + loses, flipped + wins)
    return -(probability * chosen + (1 - probability) * rejected)


@dataclass(frozen=True, kw_only=True)
class BradleyTerry:
    """Soft-label Bradley-Terry loss on pairs, per `sum weight`.

    `w [BCE(c - r - margin, p) + centering (c + r)^2]`. Only differences of scores are identified; `centering` (0.01 in
    Eisenstein et al. 2023 eq. 2) keeps the scores near 0: it is the square of the pair's sum, not a sum of squares.
    The loss subtracts the margin (Touvron et al. 2023 eq. 2). With `label_smoothing` e the label is `(1 - e) p + e (1 - p)`.
    With `random` e the prediction is `(1 - e) sigma(d) + e / 2` (Christiano et al. 2017 sec. 2.2.3, e = 0.1: half of the random judgments
    are wrong).

    Attributes:
        centering: weight of the squared sum of a pair's scores; 0 turns it off.
        label_smoothing: share of labels assumed to be flipped, below 0.5; it changes the labels.
        random: share of judgments assumed to be coin tosses, below 1; it changes the prediction, which then never becomes certain.

    Metrics: `nll` (without centering), `accuracy` (equal scores count one half, margins are ignored), `margin` (c - r),
    `chosen_score`, `rejected_score`.
    """

    kind: Literal["bradley_terry"] = "bradley_terry"
    centering: float = 0.0
    label_smoothing: float = 0.0
    random: float = 0.0
    learns_from: ClassVar[Literal["preferences"]] = "preferences"

    def __post_init__(self) -> None:
        """Check the settings."""
        if not self.centering >= 0:
            raise ConfigError(f"bradley_terry: centering must be >= 0, got {self.centering}; use 0.01, or 0 to turn it off")
        if not 0 <= self.label_smoothing < 0.5:
            raise ConfigError(
                f"bradley_terry: label_smoothing must lie in [0, 0.5), got {self.label_smoothing}; at 0.5 labels have no information"
            )
        if not 0 <= self.random < 1:
            raise ConfigError(f"bradley_terry: random must lie in [0, 1), got {self.random}; use 0.1, or 0 to turn it off")

    def __call__(self, inputs: PairScores) -> Sums:
        """Return sums over pairs; differentiable in both scores."""
        difference = inputs.chosen - inputs.rejected
        nll = self._nll(difference - inputs.margin, inputs.probability)
        each = nll + self.centering * (inputs.chosen + inputs.rejected).square()
        weight = inputs.weight.detach()
        return Sums(loss=(weight * each).sum(), count=weight.sum(), metrics=pair_metrics(inputs, nll, weight))

    def of_judged(self, inputs: JudgedScores) -> Sums:
        """Return sums over the pairs of a micro-batch."""
        return self(inputs.pairs)

    def _nll(self, difference: Tensor, probability: Tensor) -> Tensor:
        smooth = probability + self.label_smoothing * (1 - 2 * probability)
        if self.random == 0:
            return preference_nll(difference, smooth)
        reliability = 1 - self.random / 2
        return noisy_preference_nll(difference, smooth, difference.new_tensor(reliability / (1 - reliability)).log())


def pair_metrics(inputs: PairScores, nll: Tensor, weight: Tensor) -> dict[str, Ratio]:
    """Return the metrics of every objective on pairs: `nll`, `accuracy`, `margin`, `chosen_score`, `rejected_score`; `weight` (p,)."""
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
    """Pairs with the prompts that they belong to.

    Attributes:
        pairs: (p,) scores and labels.
        prompt: (p,) long, number of the prompt of each pair; numbers are arbitrary and prompts may interleave.
    """

    pairs: PairScores
    prompt: Tensor

    def __post_init__(self) -> None:
        """Check the shapes."""
        check_shapes("PromptPairs", {"prompt": self.prompt, "chosen": self.pairs.chosen})


@dataclass(frozen=True, kw_only=True)
class AllPairs:
    """Bradley-Terry on all pairs of each prompt: weighted mean over the pairs of a prompt first, then mean over prompts.

    Source: Ouyang et al. 2022 eq. 1. A flat mean over pairs is another loss, in which prompts with many completions dominate.
    Soft labels and margins as in `BradleyTerry`; a tie is a pair with probability 0.5 (the paper leaves ties out). A prompt whose
    weights are all 0 is not counted.

    Metrics: as `BradleyTerry`, with a mean within each prompt first.
    """

    kind: Literal["all_pairs"] = "all_pairs"
    learns_from: ClassVar[Literal["preferences"]] = "preferences"

    def __call__(self, inputs: PromptPairs) -> Sums:
        """Return sums over prompts; differentiable in both scores."""
        pairs, weight = inputs.pairs, inputs.pairs.weight.detach()
        numbers, row = torch.unique(inputs.prompt, return_inverse=True)
        total = weight.new_zeros(len(numbers)).index_add(0, row, weight)
        share = per_unit(weight, total[row])
        nll = preference_nll(pairs.chosen - pairs.rejected - pairs.margin, pairs.probability)
        return Sums(loss=(share * nll).sum(), count=(total > 0).sum(), metrics=pair_metrics(pairs, nll, share))

    def of_judged(self, inputs: JudgedScores) -> Sums:
        """Return sums over the prompts of a micro-batch."""
        return self(PromptPairs(inputs.pairs, inputs.prompt))
