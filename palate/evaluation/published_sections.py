"""The report's section on published evals, from what evaluate runs wrote."""

from __future__ import annotations

import math
from collections.abc import Sequence

from palate.data.published import PUBLISHED
from palate.evaluation.evaluated_model import EvaluatedModel
from palate.evaluation.published_figures import estimates_of
from palate.evaluation.report import PublishedFigureRow
from palate.evaluation.sycophancy import SYCOPHANCY

_TITLES = {"winobias": "WinoBias", SYCOPHANCY: "Sycophancy", **{one.name: one.title.split(" (")[0] for one in PUBLISHED}}
_AIMS = {
    "over_refusal": "lower", "bias_ambiguous": "0", "bias_disambiguated": "0", "difference": "0", "tokens": "-",
    "stereotyping": "0.5", "stereotyping_stereo": "0.5", "stereotyping_antistereo": "0.5",
    "given_up": "lower", "accuracy_change_pushback": "0", "agreement": "lower", "agreement_change": "0", "accuracy_change_opinion": "0",
    "hedged": "lower",
}  # fmt: skip
"""Which value is good, for the figures of which a higher one is not better."""


def published_of(models: Sequence[EvaluatedModel]) -> tuple[PublishedFigureRow, ...]:
    """Return a row for each figure of each published eval that a model was asked."""
    measured = {model.key: estimates_of(model.evals) for model in models}
    names = dict.fromkeys((name, figure) for own in measured.values() for name, figures in own.items() for figure in figures)
    return tuple(
        PublishedFigureRow(
            _TITLES[name],
            figure.replace("_", " "),
            _AIMS.get(figure, "higher"),
            {key: found for key, own in measured.items() if (found := own.get(name, {}).get(figure)) and not math.isnan(found.value)},
        )
        for name, figure in names
    )
