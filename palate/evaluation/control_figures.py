"""Standing controls of a report: answers without content beside its models, by the same reward model and gold on the same prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from palate.evaluation.evaluated_model import EvaluatedModel, Row, is_known, matched
from palate.evaluation.intervals import Estimate, mean
from palate.evaluation.report.lever_records import ControlRow
from palate.evaluation.standing_controls import advantage, read_controls
from palate.runs.record import read_record


def control_rows(models: Sequence[EvaluatedModel], reference: EvaluatedModel) -> tuple[ControlRow, ...]:
    """Return the controls that the reference's evaluate run scored, and then the models; () where it scored none.

    A model whose run has another reward model has no score here, and one without gold no gold.
    """
    controls = read_controls(Path(reference.directory))
    if not controls:
        return ()
    first = next(iter(controls.values()))
    asked = [other for _, other in matched(first, reference.rows)]
    rows = [_row(name, "", own, asked) for name, own in controls.items()]
    reward = _reward_of(reference)
    for model in models:
        own = [mine for mine, _ in matched(model.rows, asked)]
        figures = ("score", "gold") if _reward_of(model) == reward else ("gold",)
        if own:
            rows.append(_row(model.key, model.key, own, () if model is reference else asked, figures))
    return tuple(rows)


def _row(name: str, variant: str, own: Sequence[Row], reference: Sequence[Row], figures: Sequence[str] = ("score", "gold")) -> ControlRow:
    """Return the figures of some rows, and how far they are above the reference's; without its rows there is no gap."""
    values: Mapping[str, Estimate] = {
        figure: mean(known) for figure in figures if (known := [float(row[figure]) for row in own if is_known(row, figure)])
    }
    gaps = {figure: advantage(own, reference, figure) for figure in values}
    return ControlRow(name, variant, values.get("score"), gaps.get("score"), values.get("gold"), gaps.get("gold"))


def _reward_of(model: EvaluatedModel) -> str | None:
    record = read_record(Path(model.directory))
    return None if record is None else next((parent.key for parent in record.parents if parent.field == "reward"), None)
