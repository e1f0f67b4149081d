"""Models among the raters of a project: a row for each in a table of its own, with how often it says what people say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from palate.agreement import Estimate
from palate.agreement.analysis import JudgeFigures
from palate.agreement.estimates import share
from palate.core import Judgment
from palate.data.exchange import Exchange
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
    return tuple(ModelRow(one, _first(exchange, one)) for one in judge_figures(exchange, None, rng, {}))


def _first(exchange: Exchange, one: JudgeFigures) -> Estimate | None:
    """Return how often the model's verdict is the side shown first."""
    own = [vote.judgment for vote in exchange.votes if vote.is_ranking and _is_of(vote.judgment, one)]
    decided = [judgment.ranking[0] == (0,) for judgment in own if judgment.order is not None and len(judgment.ranking) == 2]
    return share(sum(decided), len(decided)) if decided else None


def _is_of(judgment: Judgment, one: JudgeFigures) -> bool:
    return judge_of(judgment.rater) == one.judge and judgment.dimension == one.dimension
