"""The rows of the report's section on published evals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from palate.evaluation.intervals import Estimate


@dataclass(frozen=True, slots=True)
class PublishedFigureRow:
    """One figure of a published eval, such as a bias score.

    Attributes:
        eval: the published eval.
        figure: what is measured.
        aim: which value is good.
        values: the figure by variant; without variants that were not asked.
    """

    eval: str
    figure: str
    aim: str
    values: Mapping[str, Estimate]
