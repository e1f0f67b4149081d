"""Accuracy of a reward model beside its floors and its ceiling, and by dimension, rater, source, score gap and kind of prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from palate.agreement.estimates import Estimate, clustered_share
from palate.agreement.kappa import rater_noise_ceiling
from palate.config.settings import nearest
from palate.core import DataError, Preference
from palate.evaluation.calibration import vote_agreement
from palate.evaluation.length_floor import gain_over_length, rule_agreement
from palate.evaluation.reward_check.prompt_clusters import cluster_prompts
from palate.evaluation.reward_check.score_book import Ints, ScoredPairs

SOURCES = ("subset", "source", "dataset")
"""Columns that say where a pair comes from; the first that the rows have is used."""
WRITERS = ("chosen_model", "rejected_model")
"""Columns that say who wrote the sides, as RewardBench has them."""
GAPS = 4
"""Groups of pairs by score gap."""


@dataclass(frozen=True)
class AccuracyFigures:
    """Accuracy against single votes, on the same pairs as what it is compared with. A tie counts one half everywhere.

    Attributes:
        accuracy: of the model; its interval counts prompts, not pairs.
        longer: of the rule that the longer side wins, in tokens.
        shorter: of the rule that the shorter side wins.
        writer: of the rule that the writer wins who wins more often; None where the writers are not known.
        over_length: accuracy less that of the better length rule, paired.
        majority: what a model could reach that knew each pair's majority; 1 where nobody disagrees.
        ceiling: best accuracy against one rater, from how often two raters of a pair agree; None without two votes on a pair.
    """

    accuracy: Estimate
    longer: Estimate
    shorter: Estimate
    writer: Estimate | None
    over_length: Estimate
    majority: float
    ceiling: float | None

    @property
    def floor(self) -> Estimate:
        """The better length rule."""
        return max(self.longer, self.shorter, key=lambda rule: rule.value)


@dataclass(frozen=True)
class GroupAccuracy:
    """Accuracy on some of the pairs, beside that of the better length rule there."""

    name: str
    pairs: int
    accuracy: Estimate
    length_rule: float


def figures_of(pairs: ScoredPairs) -> AccuracyFigures:
    """Return the accuracy on all pairs, its floors and its ceiling."""
    observed, prompt = pairs.observed, pairs.prompt
    longer = vote_agreement(pairs.tokens[:, 0] - pairs.tokens[:, 1], observed)
    return AccuracyFigures(
        accuracy=clustered_share(pairs.right, prompt),
        longer=clustered_share(longer, prompt),
        shorter=clustered_share(1 - longer, prompt),
        writer=_writer_rule(pairs),
        over_length=gain_over_length(pairs.right, pairs.tokens, observed, prompt),
        majority=float(np.maximum(observed, 1 - observed).mean()),
        ceiling=_ceiling(pairs.preferences),
    )


def by_dimension(pairs: ScoredPairs) -> tuple[GroupAccuracy, ...]:
    """Return the accuracy on the pairs of each dimension."""
    return _by(pairs, [one.dimension for one in pairs.preferences])


def by_source(pairs: ScoredPairs, column: str | None = None) -> tuple[GroupAccuracy, ...]:
    """Return the accuracy by the values of a column of the rows; by default the first of `SOURCES` that they have.

    Raises:
        DataError: no row has the column that is named.
    """
    fields = [one.prompt.fields for one in pairs.preferences]
    known = list(dict.fromkeys(name for each in fields for name in each))
    if column is not None and column not in known:
        raise DataError(
            f"--by: no pair has the column {column!r}. {nearest(column, known) if known else 'The rows have no further columns.'}"
        )
    wanted = column or next((name for name in SOURCES if any(name in each for each in fields)), None)
    return () if wanted is None else _by(pairs, [str(each.get(wanted, "not given")) for each in fields])


def by_gap(pairs: ScoredPairs) -> tuple[GroupAccuracy, ...]:
    """Return the accuracy by the size of the score difference, in quarters: a sound model is right more often where it is more sure."""
    gap = np.abs(pairs.difference)
    if np.unique(gap).size < GAPS:
        return ()
    bounds = np.quantile(gap, np.linspace(0, 1, GAPS + 1))
    number = np.clip(np.searchsorted(bounds, gap, side="right") - 1, 0, GAPS - 1)
    names = [f"{bounds[k]:.2f} to {bounds[k + 1]:.2f}" for k in range(GAPS)]
    return tuple(_group(names[k], pairs.where(number == k)) for k in range(GAPS) if (number == k).any())


def by_cluster(pairs: ScoredPairs) -> tuple[GroupAccuracy, ...]:
    """Return the accuracy by kind of prompt (`cluster_prompts`); () where there are too few prompts."""
    clusters = cluster_prompts([one.prompt.text for one in pairs.preferences])
    return () if clusters is None else _by(pairs, [clusters.names[k] for k in clusters.number])


def by_rater(pairs: ScoredPairs) -> tuple[GroupAccuracy, ...]:
    """Return how often the model agrees with each named rater, over that rater's own votes."""
    votes: dict[str, list[tuple[int, float]]] = {}
    for number, one in enumerate(pairs.preferences):
        for rater, vote in one.votes:
            if rater:
                votes.setdefault(rater, []).append((number, vote))
    result = []
    for rater, given in sorted(votes.items(), key=lambda item: (-len(item[1]), item[0])):
        numbers = np.array([number for number, _ in given])
        observed = np.array([vote for _, vote in given])
        right = vote_agreement(pairs.difference[numbers], observed)
        rule, _ = rule_agreement(pairs.tokens[numbers], observed)
        result.append(GroupAccuracy(rater, len(given), clustered_share(right, pairs.prompt[numbers]), float(rule.mean())))
    return tuple(result)


def _by(pairs: ScoredPairs, names: Sequence[str]) -> tuple[GroupAccuracy, ...]:
    found = np.array(names)
    return tuple(_group(name, pairs.where(found == name)) for name in sorted(set(names)))


def _group(name: str, pairs: ScoredPairs) -> GroupAccuracy:
    rule, _ = rule_agreement(pairs.tokens, pairs.observed)
    return GroupAccuracy(name, len(pairs), clustered_share(pairs.right, pairs.prompt), float(rule.mean()))


def _ceiling(preferences: Sequence[Preference]) -> float | None:
    """Return the best accuracy against one rater, from the mean over pairs of how often two of its decided votes agree.

    A tie counts one half here too, whatever the model says.
    """
    agreed, decided, votes = [], 0, 0
    for one in preferences:
        counts = Counter(vote for _, vote in one.votes if vote in (0, 1))
        total = sum(counts.values())
        decided, votes = decided + total, votes + len(one.votes)
        if total > 1:
            agreed.append(sum(count * (count - 1) for count in counts.values()) / (total * (total - 1)))
    if not agreed:
        return None
    share = decided / votes
    return share * rater_noise_ceiling(sum(agreed) / len(agreed)).accuracy + (1 - share) / 2


def _writer_rule(pairs: ScoredPairs) -> Estimate | None:
    """Return the accuracy of the rule by writers, on the pairs whose sides have two known ones."""
    writers = [_writers(one) for one in pairs.preferences]
    known = np.array([bool(first and second and first != second) for first, second in writers])
    if not known.any():
        return None
    observed = pairs.observed[known]
    named = [both for both, is_known in zip(writers, known, strict=True) if is_known]
    won, times = Counter[str](), Counter[str]()
    for (first, second), share in zip(named, observed, strict=True):
        won.update({first: float(share), second: 1 - float(share)})  # type: ignore[dict-item]
        times.update((first, second))
    lead = np.array([won[first] / times[first] - won[second] / times[second] for first, second in named])
    return clustered_share(vote_agreement(lead, observed), _numbers(pairs.prompt[known]))


def _writers(preference: Preference) -> tuple[str, str]:
    fields = preference.prompt.fields
    sides = (preference.chosen.policy, preference.rejected.policy)
    first, second = (side or str(fields.get(name, "")) for side, name in zip(sides, WRITERS, strict=True))
    return first, second


def _numbers(prompt: Ints) -> Ints:
    return np.asarray(np.unique(prompt, return_inverse=True)[1], dtype=np.int64)
