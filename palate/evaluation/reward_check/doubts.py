"""Where a reward model should not be trusted: where an ensemble disagrees, and where texts are unlike those that it knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from palate.agreement.estimates import Estimate, clustered_share
from palate.core import Completion
from palate.data.formats import CompletionGroup
from palate.evaluation.reward_check.score_book import Floats, ScoreBook, ScoredPairs
from palate.text.chat_text import encode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNUSUAL = 0.95
"""A text is unfamiliar if more of it is new than in this share of the reference texts."""

EXPECTED = 1 - UNUSUAL
"""Share of unfamiliar texts among those that are like the reference."""

FEWEST = 20
"""Reference texts that are needed for a comparison."""


@dataclass(frozen=True)
class EnsembleDisagreement:
    """The error of the ensemble on the pairs about which its members disagree least and most (a third each).

    Attributes:
        spread: mean standard deviation among the members' probabilities that the chosen side wins.
        agreed: share of wrong answers in the third with the least disagreement.
        disputed: the same in the third with the most.
        correlation: rank correlation (Spearman) of disagreement with error over all pairs; NaN where one of them is constant.
    """

    spread: float
    agreed: Estimate
    disputed: Estimate
    correlation: float

    @property
    def warns(self) -> bool:
        """Whether disagreement points at errors: more of them in the disputed third, beyond both intervals."""
        return self.disputed.low > self.agreed.high


@dataclass(frozen=True)
class Familiarity:
    """How many completions are unlike the reference texts.

    A pair of neighbouring tokens is new if the reference does not have it. A completion is unfamiliar if a larger share of it is new than
    in 95 % of the second half of the reference, measured by the first half.

    Attributes:
        new: mean share of new pairs of tokens in the completions.
        usual: the same in the second half of the reference.
        unfamiliar: share of completions that are unfamiliar; 5 % is expected.
        references: reference texts.
    """

    new: float
    usual: float
    unfamiliar: Estimate
    references: int

    @property
    def is_warning(self) -> bool:
        """Whether more than twice the expected share is unfamiliar, by its interval."""
        return self.unfamiliar.low > 2 * EXPECTED


@dataclass(frozen=True)
class Novelty:
    """How much more the members of an ensemble disagree about new completions than about the held-out ones.

    Attributes:
        new: mean standard deviation among the members' scores of new completions, in units of the score.
        usual: the same on the completions of the held-out pairs.
        beyond: share of new completions with a larger deviation than 95 % of the held-out ones; 5 % is expected of completions like these.
        completions: new completions with scores.
    """

    new: float
    usual: float
    beyond: Estimate
    completions: int

    @property
    def is_warning(self) -> bool:
        """Whether more than twice the expected share is beyond, by its interval."""
        return self.beyond.low > 2 * EXPECTED


def ensemble_disagreement(pairs: ScoredPairs) -> EnsembleDisagreement | None:
    """Return how disagreement goes with errors; None for one model, or fewer than 30 pairs."""
    if len(pairs.logits) < 2 or len(pairs) < 30:
        return None
    spread = (0.5 * (1 + np.tanh(pairs.logits / 2))).std(0)
    order = np.argsort(spread, kind="stable")
    third = len(order) // 3
    agreed, disputed = (clustered_share(1 - pairs.right[part], pairs.prompt[part]) for part in (order[:third], order[-third:]))
    return EnsembleDisagreement(float(spread.mean()), agreed, disputed, rank_correlation(spread, 1 - pairs.right))


def rank_correlation(first: Floats, second: Floats) -> float:
    """Return Spearman's correlation of two columns (n,), equal values at their mean rank; NaN where one of them is constant."""
    one, other = _mean_ranks(first), _mean_ranks(second)
    return float("nan") if np.ptp(one) == 0 or np.ptp(other) == 0 else float(np.corrcoef(one, other)[0, 1])


def _mean_ranks(values: Floats) -> Floats:
    _, numbers, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[numbers])


def novelty(book: ScoreBook, pairs: ScoredPairs, new: Sequence[CompletionGroup]) -> Novelty | None:
    """Return how much more the members disagree about new completions than about those of the pairs.

    None for one model, without new completions, or with fewer than `FEWEST` completions of the pairs.
    """
    if len(pairs.logits) < 2 or not new:
        return None
    sides = {(one.prompt.conversation, side): one.prompt for one in pairs.preferences for side in (one.chosen, one.rejected)}
    usual = np.array([book.of(prompt, side).spread for (_, side), prompt in sides.items()])
    book.add(((group.prompt, completion) for group in new for completion in group.completions), "new completions")
    found = [
        (number, entry.spread)
        for number, group in enumerate(new)
        for entry in (book.of(group.prompt, completion) for completion in group.completions)
        if not entry.reason
    ]
    if len(usual) < FEWEST or not found:
        return None
    prompt, spread = np.array([number for number, _ in found]), np.array([spread for _, spread in found])
    beyond = clustered_share((spread > np.quantile(usual, UNUSUAL)).astype(np.float64), prompt)
    return Novelty(float(spread.mean()), float(usual.mean()), beyond, len(found))


def familiarity(tokenizer: PreTrainedTokenizerBase, pairs: ScoredPairs, references: Sequence[Completion]) -> Familiarity | None:
    """Return how unlike the reference texts the completions of the pairs are; None with fewer than `FEWEST` reference texts."""
    texts = list(dict.fromkeys(one.text for one in references if one.text.strip()))
    if len(texts) < FEWEST:
        return None
    grams = [_grams(tokenizer, text) for text in texts]
    known = _union(grams[::2])
    usual = [_new(each, known) for each in grams[1::2]]
    bound = float(np.quantile(usual, UNUSUAL))
    sides = [(one.chosen.text, one.rejected.text) for one in pairs.preferences]
    new = np.array([[_new(_grams(tokenizer, text), known) for text in both] for both in sides])
    unfamiliar = clustered_share((new > bound).astype(np.float64).mean(1), pairs.prompt)
    return Familiarity(float(new.mean()), float(np.mean(usual)), unfamiliar, len(texts))


Grams = tuple[tuple[int, int], ...]


def _grams(tokenizer: PreTrainedTokenizerBase, text: str) -> Grams:
    ids = encode(tokenizer, text)
    return tuple(pairwise(ids))


def _union(several: Iterable[Grams]) -> frozenset[tuple[int, int]]:
    return frozenset(gram for grams in several for gram in grams)


def _new(grams: Grams, known: frozenset[tuple[int, int]]) -> float:
    return sum(gram not in known for gram in grams) / len(grams) if grams else 0.0
