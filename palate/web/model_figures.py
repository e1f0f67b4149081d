"""Models among the raters of a project: a row for each in a table of its own, with how often it says what people say."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

import numpy as np

from palate.agreement import Estimate
from palate.agreement.analysis import JudgeFigures
from palate.agreement.estimates import share
from palate.agreement.judge_agreement import clustered_mean
from palate.core import Judgment
from palate.data.exchange import Exchange, Vote
from palate.data.judge_names import judge_of
from palate.evaluation.judge_table import judge_figures
from palate.evaluation.judged_pairs import is_judge
from palate.ratings import Account


@dataclass(frozen=True)
class ModelRow:
    """What one model did in a project, on one dimension.

    Attributes:
        figures: its agreement with people beside that of another person, and its flips.
        first: how often it chose what was shown first, without ties; None where that is not known.
    """

    figures: JudgeFigures
    first: Estimate | None


def is_model(account: Account) -> bool:
    """Return whether an account is a model's, by the rule of `palate agreement`."""
    return is_judge(account.pseudonym, {account.pseudonym: account.kind})


def model_rows(exchange: Exchange, rng: np.random.Generator) -> tuple[ModelRow, ...]:
    """Return a row for each model and dimension.

    Args:
        exchange: everything that was asked and answered in the project.
        rng: draws the intervals.
    """
    has_rankings = any(vote.is_ranking for vote in exchange.votes)
    found = judge_figures(exchange, None, rng, {}) if has_rankings else tuple(_of_words(exchange, rng))
    return tuple(ModelRow(one, _first(exchange, one)) for one in found)


def _first(exchange: Exchange, one: JudgeFigures) -> Estimate | None:
    """Return how often the model's verdict is the side shown first."""
    own = [vote.judgment for vote in exchange.votes if vote.is_ranking and _is_of(vote.judgment, one)]
    decided = [judgment.ranking[0] == (0,) for judgment in own if judgment.order is not None and len(judgment.ranking) == 2]
    return share(sum(decided), len(decided)) if decided else None


def _is_of(judgment: Judgment, one: JudgeFigures) -> bool:
    return judge_of(judgment.rater) == one.judge and judgment.dimension == one.dimension


def _of_words(exchange: Exchange, rng: np.random.Generator) -> Iterator[JudgeFigures]:
    """Yield the agreement of each model on questions that have one word as an answer: whether a rule is broken, a criterion is met."""
    kinds, tested = exchange.kinds(), {item.id for item in exchange.items if item.gold is not None or item.is_qualification}
    words: dict[Hashable, dict[str, object]] = defaultdict(dict)
    for vote in exchange.votes:
        if vote.is_counted and vote.judgment.comparison not in tested:
            for question, word in _words(vote):
                words[question][vote.judgment.rater] = word
    people = {rater for rater, kind in kinds.items() if kind != "rule" and not is_judge(rater, kinds)}
    for judge in dict.fromkeys(judge_of(rater) for rater in kinds if is_judge(rater, kinds)):
        mine = {rater for rater in kinds if judge_of(rater) == judge}
        agrees: list[tuple[float, int]] = []
        others: list[tuple[float, int]] = []
        for number, given in enumerate(words.values()):
            said = [word for rater, word in given.items() if rater in mine]
            heard = [word for rater, word in given.items() if rater in people]
            agrees += [(float(np.mean([one == word for one in said])), number) for word in heard if said]
            others += [((heard.count(word) - 1) / (len(heard) - 1), number) for word in heard if said and len(heard) > 1]
        judge_share, people_share = (_mean(values, rng) for values in (agrees, others))
        votes = sum(vote.is_counted and vote.judgment.rater in mine for vote in exchange.votes)
        questions = len({number for _, number in agrees})
        yield JudgeFigures(judge, "overall", votes, questions, judge_share, judge_share, people_share, None)


def _words(vote: Vote) -> Iterator[tuple[Hashable, object]]:
    """Yield (question, answer) of a vote; criteria of which its rater is unsure are left out."""
    if vote.is_broken is not None:
        yield (vote.judgment.comparison, vote.rule), vote.is_broken
    yield from (((vote.judgment.comparison, criterion), word) for criterion, word in vote.grades.items() if word != "unsure")


def _mean(values: list[tuple[float, int]], rng: np.random.Generator) -> Estimate:
    column = np.array([value for value, _ in values]), np.array([number for _, number in values], dtype=np.int64)
    return clustered_mean(*column, rng)
