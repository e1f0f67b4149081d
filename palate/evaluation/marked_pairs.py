"""Pairs that marks of single completions imply, as judgments: what is marked higher is the better one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from palate.core import DataError, Judgment
from palate.data.exchange import Candidate, Exchange, ExchangeItem, RaterInfo, Vote
from palate.data.judge_names import judge_name
from palate.data.marks import Mark
from palate.judges.judge_card import OVERALL
from palate.judges.verdicts import JudgeReading, better


def exchange_of_marks(marks: Iterable[Mark]) -> Exchange:
    """Return the pairs of completions of one prompt that a rater marked both, with what the marks say about them.

    Equal marks are a tie. A judge's marks give a probability too, as in `collect`: that of the higher mark, for marks drawn alone. Nobody
    saw an order. A rater's last mark of a completion counts.

    Raises:
        DataError: nobody marked two completions of one prompt.
    """
    last = {(mark.dimension or OVERALL, mark.rater, mark.key): mark for mark in marks}
    by_rater: dict[tuple[str, str, tuple[str, ...]], list[Mark]] = {}
    for (dimension, rater, key), mark in last.items():
        by_rater.setdefault((dimension, rater, key[0]), []).append(mark)
    items: dict[object, ExchangeItem] = {}
    votes: list[Vote] = []
    for (dimension, _, prompt), own in by_rater.items():
        for pair in combinations(sorted(own, key=lambda mark: mark.completion), 2):
            texts = tuple(mark.completion for mark in pair)
            candidates = tuple(map(Candidate, texts))
            item = items.setdefault((prompt, texts), ExchangeItem(f"marks-{len(items)}", pair[0].prompt, candidates))
            votes.append(Vote(_judgment(item.id, dimension, pair)))
    if not votes:
        raise DataError(f"there are {len(last)} marks, and no rater marked two completions of one prompt. Judges are measured on pairs")
    raters = dict.fromkeys(vote.judgment.rater for vote in votes)
    kinds = tuple(RaterInfo(rater, "model" if judge_name(rater) else "unknown") for rater in raters)
    return Exchange(tuple(items.values()), tuple(votes), kinds)


def _judgment(item: str, dimension: str, pair: Sequence[Mark]) -> Judgment:
    first, second = pair
    probability = None
    if first.shares and second.shares:
        probability = better(*(JudgeReading(mark.shares, mark.votes) for mark in (first, second)))
    says = first.value - second.value if probability is None else probability - 0.5
    ranking: tuple[tuple[int, ...], ...] = ((0, 1),) if abs(says) < 1e-12 else ((0,), (1,)) if says > 0 else ((1,), (0,))
    return Judgment(item, first.rater, ranking, dimension, strength=abs(first.value - second.value), probability=probability)
